"""Calls of both ops with dense and with ragged patterns, which together use every input of the ops."""

from library import pool, retrieve, torch


class Case:
    """An op, its tensors by name, and its options."""

    def __init__(self, name, op, tensors, **options):
        self.name, self.op, self.tensors, self.options = name, op, tensors, options

    def __repr__(self):
        return self.name

    def floats(self):
        return [name for name, tensor in self.tensors.items() if tensor.is_floating_point()]

    def to(self, dtype):
        tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in self.tensors.items()}
        return Case(self.name, self.op, tensors, **self.options)

    def call(self, options, **changed):
        return self.op(**{**self.tensors, **self.options, **options, **changed})

    def function_of(self, name, options):
        """The op as a function of one input; it returns all results that have a gradient, joined to one vector."""

        def function(value):
            results = self.call(options, **{name: value})
            return torch.cat([results[i].double().reshape(-1) for i in (0, 1, 2)])

        return function


def all_cases():
    """All cases, in float64."""
    torch.manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64)
    beta = torch.tensor([0.3, 0.5], dtype=torch.float64)
    offsets = torch.tensor([0, 4, 5, 9])
    bag_tensors = dict(state=draw(1, 2, 3, 4), weight=draw(2, 4, 6) / 2, bias=draw(2, 4), beta=beta)
    return [
        Case("retrieve", retrieve,
             dict(state=draw(2, 2, 3, 4), stored=draw(2, 2, 5, 4), projection=draw(2, 2, 5, 3), beta=beta,
                  association_mask=draw(2, 2, 3, 5), key_bias=draw(2, 5))),
        Case("retrieve_ragged", retrieve,
             dict(state=draw(3, 2, 3, 4), stored=draw(9, 2, 4), projection=draw(9, 2, 3), beta=beta, key_bias=draw(9),
                  offsets=offsets)),
        Case("pool", pool,
             dict(instances=draw(2, 5, 6), association_mask=draw(2, 2, 3, 5), key_bias=draw(2, 5), **bag_tensors),
             normalize_eps=1e-2),
        Case("pool_ragged", pool, dict(instances=draw(9, 6), key_bias=draw(9), offsets=offsets, **bag_tensors),
             normalize_eps=1e-2),
    ]
