"""Tests of the ops from Python: pytest python_parity. Needs the complete PyTorch (scripts/bootstrap.sh --full)."""

import pytest
from library import pool, retrieve, torch
from torch._subclasses.fake_tensor import FakeTensorMode


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


# All with updates: without them the residual is NaN, which opcheck takes for unequal.
@pytest.mark.parametrize("options", [{"update_steps_max": 2}, {"update_steps_max": 2, "update_steps_eps": 0.0},
                                     {"stop_rule": "per_head", "update_steps_max": 2},
                                     {"separation": "softmax1", "update_steps_max": 2},
                                     {"separation": "entmax", "separation_alpha": 1.7, "update_steps_max": 2}])
def test_registration(patterns, options):
    torch.library.opcheck(retrieve, patterns, options)


def test_autocast(patterns):
    state, stored = (p.detach().float() for p in patterns)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert retrieve(state, stored)[0].dtype == torch.bfloat16


def test_errors_are_sentences(patterns):
    with pytest.raises(RuntimeError, match="expected update_steps_max to have one value, or one for each of 2 heads"):
        retrieve(*patterns, update_steps_max=[1, 2, 3])


@pytest.fixture
def bags():
    """Instances [total, d_in], state [1, H, L, d], weight [H, d, d_in], bias [H, d], and offsets of three bags."""
    torch.manual_seed(0)
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    return (make(9, 5), make(1, 2, 3, 4), make(2, 4, 5), make(2, 4)), torch.tensor([0, 4, 5, 9])


def pooled_plainly(instances, state, weight, bias, offsets, eps, beta, steps):
    """The output by the formula, one bag after the other."""
    outputs = []
    for begin, end in zip(offsets[:-1], offsets[1:]):
        y = instances[begin:end]
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        keys = torch.einsum("si,hki->hsk", y, weight) + bias.unsqueeze(1)
        xi = state[0]
        for _ in range(steps):
            xi = torch.softmax(beta * xi @ keys.transpose(-1, -2), -1) @ keys
        outputs.append(torch.softmax(beta * xi @ keys.transpose(-1, -2), -1) @ y)
    return torch.stack(outputs)


@pytest.mark.parametrize("steps", [0, 3])
def test_pool_equals_the_formula(bags, steps):
    tensors, offsets = bags
    expected = pooled_plainly(*tensors, offsets, 1e-3, 0.7, steps)
    beta = torch.tensor(0.7, dtype=torch.float64)
    options = dict(normalize_eps=1e-3, beta=beta, update_steps_max=steps, update_steps_eps=0.0)
    output, _, _, _, _, _, mass, scores = pool(*tensors, offsets=offsets, with_scores=True, **options)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(mass, torch.ones_like(mass))
    assert scores.shape == (9, 2, 3)
    first = pool(tensors[0][:4].unsqueeze(0), *tensors[1:], **options)[0]
    torch.testing.assert_close(first, expected[:1])
    single = pool(*(t.float() for t in tensors), offsets=offsets, backend="fused", **options)[0]
    torch.testing.assert_close(single, expected.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ragged", [True, False])
def test_pool_gradcheck_first_and_second_order(bags, ragged):
    tensors, offsets = bags
    beta = torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True)

    def outputs(instances, state, weight, bias, beta):
        where = dict(offsets=offsets) if ragged else {}
        instances = instances if ragged else instances.unsqueeze(0)
        r = pool(instances, state, weight, bias, normalize_eps=1e-3, beta=beta, update_steps_max=2,
                 update_steps_eps=0.0, **where)
        return tuple(r[i] for i in (0, 1, 2, 6))

    assert torch.autograd.gradcheck(outputs, (*tensors, beta))
    assert torch.autograd.gradgradcheck(outputs, (*tensors, beta))


def test_pool_trains_in_float32_as_in_float64(bags):
    tensors, offsets = bags

    def gradients(leaves, backend):
        output = pool(*leaves, offsets=offsets, normalize_eps=1e-3, update_steps_max=2, update_steps_eps=0.0, backend=backend)[0]
        return torch.autograd.grad(output.pow(2).sum(), leaves)

    expected = gradients(tensors, "composite")
    found = gradients([t.detach().float().requires_grad_() for t in tensors], "fused")
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{"update_steps_max": 2}, {"update_steps_max": 2, "normalize_eps": 1e-5},
                                     {"update_steps_max": 2, "padding_mask": torch.arange(9).unsqueeze(0) > 6}])
def test_pool_registration(bags, options):
    (instances, *others), _ = bags
    dense = instances.detach().unsqueeze(0).requires_grad_()
    torch.library.opcheck(pool, (dense, *others), options)


def test_pool_knows_its_shapes_without_data(bags):
    (instances, *others), _ = bags
    bag = instances.detach().unsqueeze(0)
    shapes = lambda r: [None if t is None else (t.shape, t.dtype) for t in r]
    expected = shapes(pool(bag, *others, update_steps_max=2))
    meta = [t.detach().to("meta") for t in (bag, *others)]
    assert shapes(pool(*meta, update_steps_max=2)) == expected
    mode = FakeTensorMode()
    fakes = [mode.from_tensor(t.detach()) for t in (bag, *others)]
    with mode:
        assert shapes(pool(*fakes, update_steps_max=2)) == expected


def test_pool_autocast(bags):
    tensors, offsets = bags
    low = [t.detach().bfloat16() for t in tensors]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        r = pool(*(t.detach().float() for t in tensors), offsets=offsets, update_steps_max=2)
    assert torch.equal(r[0], pool(*low, offsets=offsets, update_steps_max=2)[0])
    assert r[0].dtype == torch.bfloat16 and r[2].dtype == torch.float32


def test_pool_errors_are_sentences(bags):
    (instances, state, weight, bias), offsets = bags
    with pytest.raises(RuntimeError, match=r"hopfield::pool: expected instances of shape \[N, S, d_in\]"):
        pool(instances, state, weight, bias)
    with pytest.raises(RuntimeError, match="hopfield::pool: expected stop_rule to be per_query or per_head, got never"):
        pool(instances, state, weight, bias, offsets=offsets, stop_rule="never")
