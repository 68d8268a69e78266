"""Prints what plain PyTorch computes for the small encoder of encoder_model.py, for tests/examples/encoder_golden.json:

    python tests/examples/encoder_reference.py > tests/examples/encoder_golden.json
"""

import json

import encoder_model as small
import torch


def embed(t, ids):
    """The embedding of one sentence in float64."""
    linear = lambda x, name: x @ t[name + ".weight"].T + t[name + ".bias"]
    norm = lambda x, name: torch.nn.functional.layer_norm(x, (small.WIDTH,), t[name + ".weight"], t[name + ".bias"], 1e-12)
    heads = lambda x: x.unflatten(1, (small.HEADS, -1)).transpose(0, 1)
    e = "embeddings."
    x = t[e + "word_embeddings.weight"][ids] + t[e + "position_embeddings.weight"][: len(ids)]
    x = norm(x + t[e + "token_type_embeddings.weight"][0], e + "LayerNorm")
    for i in range(small.LAYERS):
        p = f"encoder.layer.{i}."
        q, k, v = (heads(linear(x, p + "attention.self." + name)) for name in ("query", "key", "value"))
        weights = torch.softmax(q @ k.transpose(1, 2) / (small.WIDTH / small.HEADS) ** 0.5, dim=2)
        attended = (weights @ v).transpose(0, 1).flatten(1)
        x = norm(x + linear(attended, p + "attention.output.dense"), p + "attention.output.LayerNorm")
        inner = torch.nn.functional.gelu(linear(x, p + "intermediate.dense"))
        x = norm(x + linear(inner, p + "output.dense"), p + "output.LayerNorm")
    mean = x.mean(0)
    return (mean / mean.norm()).tolist()


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    # The file of the model has float32 numbers.
    weights = {name: torch.tensor(values, dtype=torch.float32).double().view(shape) for name, (shape, values) in small.tensors().items()}
    print(json.dumps([[round(value, 9) for value in embed(weights, torch.tensor(ids))] for ids in small.SENTENCES]))
