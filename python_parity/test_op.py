"""The op from Python: pytest python_parity/test_op.py (needs the complete PyTorch: scripts/bootstrap.sh --full).

The library is taken from HOPFIELD_LIBRARY, or from build/cpu/lib or build/cuda/lib.
"""

import os
import pathlib
import warnings

import pytest

torch = pytest.importorskip("torch")

ROOT = pathlib.Path(__file__).resolve().parent.parent
CANDIDATES = [os.environ.get("HOPFIELD_LIBRARY", ""), *(str(ROOT / "build" / p / "lib/libhopfield.so") for p in ("cpu", "cuda"))]
LIBRARY = next((path for path in CANDIDATES if path and os.path.exists(path)), None)
if LIBRARY is None:
    pytest.skip("libhopfield.so is not built", allow_module_level=True)
torch.ops.load_library(LIBRARY)
retrieve = torch.ops.hopfield.retrieve


@pytest.fixture
def patterns():
    torch.manual_seed(0)
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    return make(2, 2, 3, 4), make(2, 2, 5, 4)


def test_equals_attention_without_updates(patterns):
    state, stored = patterns
    expected = torch.softmax(state @ stored.transpose(-1, -2) / 2, -1) @ stored
    torch.testing.assert_close(retrieve(state, stored)[0], expected)


@pytest.mark.parametrize("steps", [0, 2])
def test_gradcheck_first_and_second_order(patterns, steps):
    beta = torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True)

    def outputs(state, stored, beta):
        r = retrieve(state, stored, beta=beta, update_steps_max=steps, update_steps_eps=0.0, with_energy=True)
        return tuple(r[i] for i in (0, 1, 2, 6))

    assert torch.autograd.gradcheck(outputs, (*patterns, beta))
    assert torch.autograd.gradgradcheck(outputs, (*patterns, beta))


# Without updates the residual is NaN, which opcheck takes for unequal.
@pytest.mark.parametrize("options", [{"update_steps_max": 2}, {"update_steps_max": 2, "update_steps_eps": 0.0},
                                     {"stop_rule": "per_head", "update_steps_max": 2}])
def test_registration(patterns, options):
    torch.library.opcheck(retrieve, patterns, options)


def test_compiles_with_fixed_steps_and_refuses_until_converged(patterns):
    compiled = torch.compile(lambda q, k: retrieve(q, k, update_steps_max=2)[0], backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*patterns), retrieve(*patterns, update_steps_max=2)[0])
    endless = torch.compile(lambda q, k: retrieve(q, k, update_steps_max=-1)[0], backend="aot_eager", fullgraph=True)
    with pytest.raises(Exception, match="until_converged"):
        endless(*patterns)


def test_transforms(patterns):
    state, stored = (p.detach() for p in patterns)
    one = lambda q, k: retrieve(q, k, update_steps_max=2, update_steps_eps=0.0)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(torch.vmap(one)(state, stored), one(state, stored))
    _, tangent = torch.func.jvp(lambda q: one(q, stored), (state,), (torch.ones_like(state),))
    step = 1e-6
    torch.testing.assert_close(tangent, (one(state + step, stored) - one(state - step, stored)) / (2 * step), rtol=1e-6, atol=1e-8)


def test_autocast(patterns):
    state, stored = (p.detach().float() for p in patterns)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert retrieve(state, stored)[0].dtype == torch.bfloat16


def test_errors_are_sentences(patterns):
    with pytest.raises(RuntimeError, match="expected update_steps_max to have one value, or one for each of 2 heads"):
        retrieve(*patterns, update_steps_max=[1, 2, 3])
