"""Tests of torch.func and forward-mode differentiation of the ops with respect to every input: the result is right, or the
call is refused with an error message."""

import functools

import pytest
from library import pool, retrieve, torch
from op_cases import all_cases
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap

MODES = {
    "none": dict(update_steps_max=0),
    "unrolled": dict(update_steps_max=2, update_steps_eps=0.0),
    "last": dict(update_steps_max=3, update_steps_eps=0.0, gradient="last", gradient_steps=1),
    "per_head": dict(update_steps_max=2, update_steps_eps=0.0, stop_rule="per_head"),
    "until_converged": dict(update_steps_max=-1, update_steps_eps=1e-9, update_steps_cap=6),
}
SEPARATIONS = {
    "softmax1": dict(separation="softmax1"),
    "sparsemax": dict(separation="sparsemax"),
    "entmax": dict(separation="entmax", separation_alpha=1.5),
    "entmax_1.3": dict(separation="entmax", separation_alpha=1.3),
}
MODES.update({name: dict(update_steps_max=1, update_steps_eps=0.0, **options) for name, options in SEPARATIONS.items()})
CASES = {case.name: case for case in all_cases()}


@functools.cache
def jacobian_of(case, name, mode):
    """The Jacobian [results, input] of the composite in float64, by reverse mode."""
    case = CASES[case]
    function = case.function_of(name, dict(MODES[mode], backend="composite"))
    value = case.tensors[name].clone().requires_grad_()
    outputs = function(value)
    rows = [torch.autograd.grad(output, value, retain_graph=True)[0].reshape(-1) for output in outputs]
    return torch.stack(rows)


def assert_near(found, expected, dtype):
    tolerance = 1e-9 if dtype == torch.float64 else 2e-3
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance * max(1.0, expected.abs().max().item()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in SEPARATIONS])
@pytest.mark.parametrize("case", CASES)
def test_tangents_and_gradients_of_every_input(case, mode, dtype):
    tested, options = CASES[case].to(dtype), MODES[mode]
    for name in tested.floats():
        jacobian = jacobian_of(case, name, mode)
        function, value = tested.function_of(name, options), tested.tensors[name]
        tangent = torch.randn_like(value)
        expected = jacobian @ tangent.double().reshape(-1)
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(function(forward_ad.make_dual(value, tangent)))
            assert dual.tangent is not None, f"{name}: the tangent was dropped"
            assert_near(dual.tangent, expected, dtype)
        assert_near(jvp(function, (value,), (tangent,))[1], expected, dtype)
        weights = torch.randn(jacobian.shape[0], dtype=torch.float64)
        assert_near(grad(lambda x: (function(x) * weights).sum())(value).reshape(-1), weights @ jacobian, dtype)


@pytest.mark.parametrize("mode", ["unrolled", "last"])
@pytest.mark.parametrize("case", CASES)
def test_jacobians_of_every_input(case, mode):
    tested = CASES[case]
    for name in tested.floats():
        expected = jacobian_of(case, name, mode)
        for transform in (jacfwd, jacrev):
            found = transform(tested.function_of(name, MODES[mode]))(tested.tensors[name])
            assert_near(found.reshape(expected.shape), expected, torch.float64)


@pytest.mark.parametrize("mode", ["none", "unrolled", "last", "per_head"])
@pytest.mark.parametrize("case", CASES)
def test_vmap_over_every_input(case, mode):
    case, options = CASES[case], MODES[mode]
    for name in case.floats():
        function = case.function_of(name, options)
        values = torch.stack([case.tensors[name] * factor for factor in (1.0, 0.8, 1.1)])
        assert_near(vmap(function)(values), torch.stack([function(value) for value in values]), torch.float64)
        last = values.movedim(0, -1).contiguous()
        assert_near(vmap(function, in_dims=-1)(last), torch.stack([function(value) for value in values]), torch.float64)
        loss = lambda x: function(x).pow(2).sum()
        found, expected = vmap(grad(loss))(values), torch.stack([grad(loss)(value) for value in values])
        assert_near(found, expected, torch.float64)


@pytest.mark.parametrize("mode", SEPARATIONS)
def test_separations(mode):
    case = CASES["retrieve"]
    for name in ("state", "key_bias", "beta"):
        function, value, jacobian = case.function_of(name, MODES[mode]), case.tensors[name], jacobian_of("retrieve", name, mode)
        for transform in (jacfwd, jacrev):  # vmap of jvp, and of vjp
            assert_near(transform(function)(value).reshape(jacobian.shape), jacobian, torch.float64)
        tangent = torch.randn_like(value)
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(function(forward_ad.make_dual(value, tangent)))
            assert_near(dual.tangent, jacobian @ tangent.reshape(-1), torch.float64)
        values = torch.stack([value * factor for factor in (1.0, 0.8, 1.1)])
        assert_near(vmap(function)(values), torch.stack([function(value) for value in values]), torch.float64)
        loss = lambda x: function(x).pow(2).sum()
        found, expected = vmap(grad(loss))(values), torch.stack([grad(loss)(value) for value in values])
        assert_near(found, expected, torch.float64)
    loss = lambda x: case.function_of("key_bias", MODES[mode])(x).pow(2).sum()
    found, value = jacfwd(grad(loss))(case.tensors["key_bias"]), case.tensors["key_bias"].clone().requires_grad_()
    assert_near(found, torch.autograd.functional.hessian(loss, value), torch.float64)


def test_vmap_over_masks_that_are_true_or_false():
    torch.manual_seed(0)
    state, stored = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 5, 4)
    masks = torch.rand(3, 2, 2, 3, 5) > 0.5
    function = lambda mask: retrieve(state, stored, association_mask=mask, update_steps_max=2)[0]
    torch.testing.assert_close(vmap(function)(masks), torch.stack([function(mask) for mask in masks]), rtol=1e-4, atol=1e-5)
    paddings = torch.rand(3, 2, 5) > 0.5
    function = lambda padding: retrieve(state, stored, padding_mask=padding, update_steps_max=2)[0]
    torch.testing.assert_close(vmap(function)(paddings), torch.stack([function(p) for p in paddings]), rtol=1e-4, atol=1e-5)


class Associate(torch.nn.Module):
    """A user's module around the op, with a trained beta."""

    def __init__(self):
        super().__init__()
        self.queries, self.keys = torch.nn.Linear(6, 8), torch.nn.Linear(6, 8)
        self.beta = torch.nn.Parameter(torch.tensor([0.4, 0.6]))

    def forward(self, x):
        heads = lambda y: y.unflatten(-1, (2, 4)).transpose(1, 2)
        return retrieve(heads(self.queries(x)), heads(self.keys(x)), beta=self.beta, update_steps_max=2)[0].transpose(1, 2).flatten(2)


def test_gradients_of_each_sample_of_a_module_with_a_trained_beta():
    torch.manual_seed(0)
    module, samples = Associate(), torch.randn(4, 5, 6)
    loss = lambda parameters, sample: functional_call(module, parameters, (sample.unsqueeze(0),)).pow(2).sum()
    parameters = {name: parameter.detach() for name, parameter in module.named_parameters()}
    found = vmap(grad(loss), in_dims=(None, 0))(parameters, samples)
    for i, sample in enumerate(samples):
        expected = torch.autograd.grad(module(sample.unsqueeze(0)).pow(2).sum(), list(module.parameters()))
        for (name, _), gradient in zip(module.named_parameters(), expected):
            torch.testing.assert_close(found[name][i], gradient, rtol=1e-3, atol=1e-4, msg=f"{name} of sample {i}")


def test_gradient_of_beta():
    state, stored = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    loss = lambda beta: retrieve(state, stored, beta=beta, update_steps_max=1)[0].pow(2).sum()
    beta = torch.tensor(0.7, requires_grad=True)
    torch.testing.assert_close(grad(loss)(beta.detach()), torch.autograd.grad(loss(beta), beta)[0], rtol=1e-4, atol=1e-5)


def test_dropout_has_one_mask_for_value_and_gradient():
    state, stored = torch.randn(2, 2, 3, 4), torch.randn(2, 2, 5, 4)
    generator = lambda: torch.Generator().manual_seed(3)
    loss = lambda x: retrieve(x, stored, dropout=0.5, generator=generator(), update_steps_max=1)[0].sum()
    leaf = state.clone().requires_grad_()
    torch.testing.assert_close(grad(loss)(state), torch.autograd.grad(loss(leaf), leaf)[0], rtol=1e-4, atol=1e-5)


STATE, STORED, BAGS = torch.randn(3, 2, 3, 4), torch.randn(9, 2, 4), torch.tensor([[0, 4, 5, 9], [0, 1, 2, 9]])


@pytest.mark.parametrize("call, sentence", [
    (lambda: vmap(lambda x: retrieve(x, x, update_steps_max=-1)[0])(STATE), "expected a fixed number of update steps under vmap.*got until_converged"),
    (lambda: vmap(lambda x: retrieve(x, x, dropout=0.5)[0], randomness="same")(STATE), "expected no dropout under vmap"),
    (lambda: vmap(lambda o: retrieve(STATE, STORED, offsets=o)[0])(BAGS), "expected the same offsets for all of vmap's batch"),
    (lambda: jvp(lambda x: retrieve(x, x, update_steps_max=-1, gradient="implicit")[0], (STATE,), (STATE,)), "expected no implicit gradient"),
    (lambda: grad(lambda x: retrieve(x, x, update_steps_max=-1, gradient="implicit")[0].sum())(STATE), "expected no implicit gradient"),
], ids=["until_converged", "dropout", "offsets", "implicit_jvp", "implicit_grad"])
def test_what_is_refused_says_so(call, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        call()


def test_fused_kernels_do_not_take_what_is_transformed():
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="since backend is fused, but .*forward-mode"):
        retrieve(STATE, STATE, key_bias=forward_ad.make_dual(torch.zeros(3, 3), torch.ones(3, 3)), backend="fused")
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="since backend is fused, but .*forward-mode"):
        weight = torch.randn(2, 4, 6)
        pool(torch.randn(2, 5, 6), torch.randn(1, 2, 3, 4), forward_ad.make_dual(weight, weight), backend="fused")


STORED_OF_ONE, WEIGHT_OF_ONE = torch.randn(2, 5, 4), torch.randn(2, 4, 4)


@pytest.mark.parametrize("op", [lambda x: retrieve(x, STORED_OF_ONE, update_steps_max=1)[0],
                                lambda x: pool(x, torch.ones(1, 2, 3, 4), WEIGHT_OF_ONE, update_steps_max=1)[0]],
                         ids=["retrieve", "pool"])
def test_gradients_that_come_in_may_be_transformed(op):
    x = torch.randn(2, 3, 4, requires_grad=True)
    weight, tangent = torch.randn(op(x).shape), torch.randn(op(x).shape)
    gradient = lambda w: torch.autograd.grad((op(x) * w).sum(), x)[0]  # linear in w
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(gradient(forward_ad.make_dual(weight, tangent)))
        torch.testing.assert_close(found.primal, gradient(weight), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.tangent, gradient(tangent), rtol=1e-4, atol=1e-5)
    output = op(x)
    batch = torch.randn(5, *output.shape)
    found = torch.autograd.grad(output, x, batch, is_grads_batched=True)[0]
    torch.testing.assert_close(found, torch.stack([gradient(w) for w in batch]), rtol=1e-4, atol=1e-5)
