"""Tests of the separations against the Python package entmax, which is independent of this library: values and gradients in
float64."""

import entmax
import pytest
from library import pool, retrieve, torch

# The bisection is made with so many steps that it reaches the last bit.
PEERS = {
    "sparsemax": (dict(separation="sparsemax"), lambda t: entmax.sparsemax(t, -1)),
    "entmax_2": (dict(separation="entmax", separation_alpha=2.0), lambda t: entmax.sparsemax(t, -1)),
    "entmax_1.5": (dict(separation="entmax", separation_alpha=1.5), lambda t: entmax.entmax15(t, -1)),
    "entmax_default": (dict(separation="entmax"), lambda t: entmax.entmax15(t, -1)),
    "entmax_1.2": (dict(separation="entmax", separation_alpha=1.2), lambda t: entmax.entmax_bisect(t, 1.2, -1, n_iter=100)),
    "entmax_1.7": (dict(separation="entmax", separation_alpha=1.7), lambda t: entmax.entmax_bisect(t, 1.7, -1, n_iter=100)),
    "softmax1": (dict(separation="softmax1"), lambda t: torch.softmax(torch.nn.functional.pad(t, (0, 1)), -1)[..., :-1]),
}


def plainly(state, stored, projection, beta, separate, steps):
    associate = lambda xi: separate(beta.reshape(-1, 1, 1) * xi @ stored.transpose(-1, -2))
    for _ in range(steps):
        state = associate(state) @ stored
    return associate(state) @ projection


@pytest.mark.parametrize("keys, scale", [(1, 1.0), (7, 0.3), (60, 1.0), (700, 2.0)])
@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("peer", PEERS)
def test_values_and_gradients(peer, steps, keys, scale):
    options, separate = PEERS[peer]
    torch.manual_seed(keys)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    tensors = [(scale * draw(2, 2, 3, 6)), draw(2, 2, keys, 6), draw(2, 2, keys, 4), torch.tensor([0.4, 1.3]).double()]
    state, stored, projection, beta = (tensor.requires_grad_() for tensor in tensors)
    found = retrieve(state, stored, projection, beta=beta, update_steps_max=steps, update_steps_eps=0.0, **options)[0]
    expected = plainly(state, stored, projection, beta, separate, steps)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(found)
    gradients = lambda output: torch.autograd.grad((output * weight).sum(), (state, stored, projection, beta))
    for a, b in zip(gradients(found), gradients(expected)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("peer", PEERS)
def test_of_pool(peer):
    options, separate = PEERS[peer]
    torch.manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)
    instances, state, weight = draw(2, 9, 6), draw(1, 2, 3, 4), draw(2, 4, 6)
    beta = torch.tensor([0.4, 1.3]).double().requires_grad_()
    found = pool(instances, state, weight, beta=beta, update_steps_max=1, update_steps_eps=0.0, **options)[0]
    keys = torch.einsum("nsi,hki->nhsk", instances, weight)
    expected = plainly(state, keys, instances.unsqueeze(1), beta, separate, 1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    leaves = (instances, state, weight, beta)
    for a, b in zip(*(torch.autograd.grad(output.pow(2).sum(), leaves) for output in (found, expected))):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.5, float("nan")])
def test_other_alphas_are_refused(alpha):
    x = torch.randn(2, 3)
    with pytest.raises(RuntimeError, match="hopfield::retrieve: expected the alpha of separation entmax.alpha. to be above 1"):
        retrieve(x, x, separation="entmax", separation_alpha=alpha)
    with pytest.raises(RuntimeError, match="expected separation to be softmax, softmax1, sparsemax or entmax, got hardmax"):
        retrieve(x, x, separation="hardmax")


def test_fused_kernels_say_why_they_do_not_serve():
    x = torch.randn(2, 3)
    with pytest.raises(RuntimeError, match=r"since backend is fused, but .*float32 and bfloat16, not Double"):
        retrieve(x.double(), x.double(), separation="entmax", backend="fused")
    with pytest.raises(RuntimeError, match=r"since backend is fused, but the rule per_head .* which entmax\(1.5\) goes"):
        retrieve(x, x, separation="entmax", stop_rule="per_head", update_steps_max=1, backend="fused")
