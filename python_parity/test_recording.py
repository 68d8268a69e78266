"""Tests of recorded calls: torch.compile, torch.export, make_fx, dispatch modes. A call is one node, whatever its options."""

import io

import pytest
from library import pool, retrieve, torch
from op_cases import all_cases
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

OPTIONS = {
    "none": dict(update_steps_max=0),
    "fixed": dict(update_steps_max=2, update_steps_eps=0.0),
    "threshold": dict(update_steps_max=3, update_steps_eps=1e-2),
    "until_converged": dict(update_steps_max=-1),
    "dropout": dict(update_steps_max=1, dropout=0.5),
    "last": dict(update_steps_max=3, gradient="last", gradient_steps=1),
    "implicit": dict(update_steps_max=-1, gradient="implicit"),
    "per_head": dict(update_steps_max=2, stop_rule="per_head"),
    "scores": dict(update_steps_max=1, with_scores=True),
    "entmax": dict(update_steps_max=1, update_steps_eps=0.0, separation="entmax", separation_alpha=1.3),
}
CASES = {case.name: case for case in all_cases()}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


def leaves_of(case):
    return {n: t.clone().requires_grad_(t.is_floating_point()) for n, t in case.tensors.items()}


def value_and_gradients(function, tensors):
    results = function(tensors)
    leaves = [tensor for tensor in tensors.values() if tensor.requires_grad]
    reached = [r for r in results if r is not None and r.requires_grad]
    gradients = torch.autograd.grad(sum(r.pow(2).sum() for r in reached), leaves, allow_unused=True)
    return list(results) + [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("case", CASES)
def test_compiled_as_eager(case, options, dtype):
    case, options = CASES[case].to(dtype), OPTIONS[options]
    run = lambda tensors: case.op(**tensors, **case.options, **options)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.manual_seed(5)
    expected = value_and_gradients(run, leaves_of(case))
    torch.manual_seed(5)
    found = value_and_gradients(compiled, leaves_of(case))
    for a, b in zip(found, expected):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_the_default_compiler_takes_them():
    case = CASES["pool_ragged"].to(torch.float32)
    run = lambda tensors: case.op(**tensors, **case.options, update_steps_max=2)
    expected, found = (value_and_gradients(f, leaves_of(case)) for f in (run, torch.compile(run, fullgraph=True)))
    for a, b in zip(found, expected):
        assert a is None or torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_compiled_calls_draw_new_masks_each_time():
    state, stored = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 50, 4)
    compiled = torch.compile(lambda q, k: retrieve(q, k, dropout=0.5)[0], backend="aot_eager", fullgraph=True)
    first, second = compiled(state, stored), compiled(state, stored)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    first = compiled(state, stored)
    torch.manual_seed(1)
    assert torch.equal(first, retrieve(state, stored, dropout=0.5)[0])


def dense(n):
    return torch.randn(2, 3, n, 4), torch.randn(2, 3, n + 3, 4)


def masked(n):
    return *dense(n), torch.zeros(2, n + 3, dtype=torch.bool), torch.randn(n, n + 3), torch.randn(2, n + 3)


def ragged(n, bags=3):
    sizes = torch.arange(bags) + n
    return torch.randn(int(sizes.sum()), 6), torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])


QUERIES, WEIGHT, BIAS = torch.randn(1, 2, 3, 4), torch.randn(2, 4, 6) / 2, torch.randn(2, 4)
pool_ragged = lambda y, offsets: pool(y, QUERIES, WEIGHT, BIAS, offsets=offsets, normalize_eps=1e-3, update_steps_max=2)[0]
DYNAMIC = {
    "retrieve": (lambda q, k: retrieve(q, k, update_steps_max=2)[0], dense),
    "retrieve_masked": (lambda q, k, p, a, b: retrieve(q, k, padding_mask=p, association_mask=a, key_bias=b)[0], masked),
    "pool_ragged": (pool_ragged, ragged),
    "retrieve_ragged": (lambda x, o: retrieve(x.view(-1, 2, 3), x.view(-1, 2, 3), offsets=o, state_offsets=o,
                                              update_steps_max=2)[0], ragged),
    "pool_more_bags": (pool_ragged, lambda n: ragged(2, bags=n)),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_twelve_lengths_are_one_compilation(name):
    function, arguments = DYNAMIC[name]
    counter = CompileCounter()
    compiled = torch.compile(function, backend=counter, fullgraph=True, dynamic=True)
    for n in range(7, 19):
        given = arguments(n)
        torch.testing.assert_close(compiled(*given), function(*given))
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["retrieve", "pool_ragged", "retrieve_ragged"])
def test_training_on_twelve_lengths_is_one_compilation(name):
    function, arguments = DYNAMIC[name]
    graphs = []
    backend = aot_autograd(fw_compiler=lambda g, _: graphs.append(g) or g, bw_compiler=lambda g, _: graphs.append(g) or g)
    compiled = torch.compile(function, backend=backend, fullgraph=True, dynamic=True)
    for n in range(7, 19):
        compiled(*(x.requires_grad_(x.is_floating_point()) for x in arguments(n))).sum().backward()
    assert len(graphs) == 2  # forward and backward
    targets = [str(node.target) for graph in graphs for node in graph.graph.nodes]
    op = "hopfield." + name.split("_")[0]
    assert [t for t in targets if t.startswith("hopfield")] == [op + ".default", op + "_backward.default"]


class Pooling(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.queries, self.weight, self.bias = (torch.nn.Parameter(t.clone()) for t in (QUERIES, WEIGHT, BIAS))

    def forward(self, y, offsets):
        return pool(y, self.queries, self.weight, self.bias, offsets=offsets, normalize_eps=1e-3, update_steps_max=2)[0]


class Retrieving(torch.nn.Module):
    def forward(self, q, k):
        return retrieve(q, k, update_steps_max=-1, with_energy=True)


def test_exported_for_any_length():
    Dim = torch.export.Dim
    for module, arguments, shapes in (
        # Sizes that are one less than another, as bags and offsets are, begin at two in torch.export.
        (Pooling(), ragged, {"y": {0: Dim("total")}, "offsets": {0: Dim("bags_and_one", min=3)}}),
        (Retrieving(), dense, {"q": {2: Dim("queries")}, "k": {2: Dim("keys")}}),
    ):
        exported = torch.export.export(module, arguments(5), dynamic_shapes=shapes)
        file = io.BytesIO()
        torch.export.save(exported, file)
        file.seek(0)
        loaded = torch.export.load(file).module()
        for n in (2, 9):
            given = arguments(n)
            torch.testing.assert_close(loaded(*given), module(*given))


def test_recorded_from_tensors_with_numbers():
    function, arguments = DYNAMIC["pool_ragged"]
    graph = make_fx(function)(*arguments(4))
    assert [str(n.target) for n in graph.graph.nodes if "hopfield" in str(n.target)] == ["hopfield.pool.default"]
    given = ragged(4)
    torch.testing.assert_close(graph(*given), function(*given))


def test_modes_see_calls_and_their_gradients_stay():
    q, k = (x.requires_grad_() for x in dense(5))
    expected = torch.autograd.grad(retrieve(q, k, update_steps_max=2)[0].sum(), (q, k))
    with FlopCounterMode(display=False):
        found = torch.autograd.grad(retrieve(q, k, update_steps_max=2)[0].sum(), (q, k))
    torch.testing.assert_close(found, expected)
    seen = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    with Names():
        torch.autograd.grad(retrieve(q, k, update_steps_max=2)[0].sum(), (q, k))
    assert "hopfield.retrieve.default" in seen and "hopfield.retrieve_backward.default" in seen


def test_recorded_for_a_gpu_with_offsets_and_beta_on_the_cpu():
    offsets, beta = torch.tensor([0, 4, 9]), torch.tensor([0.5, 1.0], requires_grad=True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        gpu = lambda *shape: torch.empty(*shape, device="cuda", requires_grad=True)
        q, k = gpu(2, 2, 3, 4), gpu(9, 2, 4)
        trained = mode.from_tensor(beta)
        output = retrieve(q, k, offsets=mode.from_tensor(offsets), beta=trained, update_steps_max=1)[0]
        assert output.device.type == "cuda"
        pooled = pool(gpu(9, 6), gpu(1, 2, 3, 4), gpu(2, 4, 6), offsets=mode.from_tensor(offsets), beta=trained)[0]
        assert pooled.shape == (2, 2, 3, 6) and pooled.device.type == "cuda"


@pytest.mark.parametrize("dynamic", [False, True])
def test_transforms_inside_of_compile(dynamic):
    q, k = dense(5)
    for function in (lambda q, k: torch.func.grad(lambda x: retrieve(x, k, update_steps_max=2)[0].sum())(q),
                     lambda q, k: torch.func.jvp(lambda x: retrieve(x, k, update_steps_max=2)[0], (q,), (q,))[1]):
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=dynamic)
        torch.testing.assert_close(compiled(q, k), function(q, k))
    function = lambda q, k: torch.vmap(lambda a, b: retrieve(a, b, update_steps_max=2)[0])(q, k)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    if dynamic:  # nor does torch.matmul, in PyTorch 2.11
        with pytest.raises(Exception, match="compile with dynamic=False"):
            compiled(q, k)
    else:
        torch.testing.assert_close(compiled(q, k), function(q, k))


def compile_and_call(function, *arguments):
    return torch.compile(function, backend="aot_eager", fullgraph=True)(*arguments)


@pytest.mark.parametrize("call, sentence", [
    (lambda: compile_and_call(lambda y, o: torch.func.grad(lambda x: pool_ragged(x, o).sum())(y), *ragged(4)),
     "pad the bags with a padding_mask"),
    (lambda: compile_and_call(lambda q, k: torch.func.grad(lambda x: retrieve(x, k, dropout=0.5)[0].sum())(q), *dense(4)),
     "set dropout to 0"),
    (lambda: compile_and_call(lambda q, k: retrieve(q, k[..., :2])[0], *dense(4)), "expected stored to have 4 features like state"),
    (lambda: compile_and_call(lambda q, k: retrieve(q, k, update_steps_max=-1, update_steps_eps=0.0)[0], *dense(4)),
     "expected a positive update_steps_eps for updating until converged"),
], ids=["ragged_grad", "dropout_grad", "sizes", "threshold"])
def test_what_cannot_be_recorded_says_so(call, sentence):
    with pytest.raises(Exception, match=sentence):
        call()


@pytest.mark.parametrize("case", CASES)
def test_opcheck(case):
    case = CASES[case].to(torch.float32)
    seed = torch.tensor(3)
    for options in ({"update_steps_max": 2}, {"update_steps_max": -1, "with_scores": True}, {"update_steps_max": 1, "dropout": 0.5, "seed": seed}):
        tensors = leaves_of(case)
        positional = [a.name for a in case.op.default._schema.arguments if not a.kwarg_only and a.name in tensors]
        arguments = tuple(tensors.pop(name) for name in positional)
        torch.library.opcheck(case.op, arguments, {**tensors, **case.options, **options})


def test_autocast_inside_of_compile():
    q, k = (x.requires_grad_() for x in dense(5))

    def function(q, k):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return retrieve(q, k, update_steps_max=2)[0]

    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    assert compiled(q, k).dtype == torch.bfloat16
    found, expected = (torch.autograd.grad(f(q, k).float().sum(), (q, k)) for f in (compiled, function))
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
