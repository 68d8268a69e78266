#!/usr/bin/env python3
"""Compares hopfield_encoder with the same model in PyTorch: encoder_bench.py --model DIR [--program PROGRAM] [--threads 2]

DIR has model.safetensors of all-MiniLM-L6-v2. The peer is plain PyTorch with scaled_dot_product_attention on padded batches.
Sentences are random token ids: 512 of 10 to 40 tokens, in the given order and sorted by length, and 64 of 256. Prints the
medians of several runs of each side, taken in turn, and their ratios. Needs the packages torch and safetensors.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file

BATCH = 32


class Peer:
    """The encoder in plain PyTorch."""

    def __init__(self, path):
        self.t = load_file(path)
        self.layers = 1 + max(int(name.split(".")[2]) for name in self.t if name.startswith("encoder.layer."))
        self.width = self.t["embeddings.LayerNorm.weight"].numel()
        self.heads = self.width // 32

    def linear(self, x, name):
        return torch.nn.functional.linear(x, self.t[name + ".weight"], self.t[name + ".bias"])

    def norm(self, x, name):
        return torch.nn.functional.layer_norm(x, (self.width,), self.t[name + ".weight"], self.t[name + ".bias"], 1e-12)

    def __call__(self, ids, mask):
        e = "embeddings."
        x = self.t[e + "word_embeddings.weight"][ids] + self.t[e + "position_embeddings.weight"][: ids.shape[1]]
        x = self.norm(x + self.t[e + "token_type_embeddings.weight"][0], e + "LayerNorm")
        attended = mask[:, None, None, :] if not mask.all() else None
        for i in range(self.layers):
            p = f"encoder.layer.{i}."
            q, k, v = (self.linear(x, p + f"attention.self.{n}").unflatten(2, (self.heads, -1)).transpose(1, 2)
                       for n in ("query", "key", "value"))
            a = torch.nn.functional.scaled_dot_product_attention(q, k, v, attended).transpose(1, 2).flatten(2)
            x = self.norm(x + self.linear(a, p + "attention.output.dense"), p + "attention.output.LayerNorm")
            inner = torch.nn.functional.gelu(self.linear(x, p + "intermediate.dense"))
            x = self.norm(x + self.linear(inner, p + "output.dense"), p + "output.LayerNorm")
        mean = (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=1)


def encode(peer, sentences, by_length):
    order = sorted(range(len(sentences)), key=lambda i: len(sentences[i])) if by_length else list(range(len(sentences)))
    found = [None] * len(sentences)
    for first in range(0, len(order), BATCH):
        chosen = order[first : first + BATCH]
        longest = max(len(sentences[i]) for i in chosen)
        ids = torch.tensor([sentences[i] + [0] * (longest - len(sentences[i])) for i in chosen])
        mask = torch.tensor([[True] * len(sentences[i]) + [False] * (longest - len(sentences[i])) for i in chosen])
        for i, embedding in zip(chosen, peer(ids, mask)):
            found[i] = embedding
    return torch.stack(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--program", default="build/cpu/bin/hopfield_encoder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_grad_enabled(False)
    model = arguments.model / "model.safetensors"
    peer = Peer(model)
    generator = random.Random(0)
    draw = lambda count, least, most: [[generator.randrange(1000, 30000) for _ in range(generator.randint(least, most))]
                                       for _ in range(count)]
    for name, sentences in (("512 sentences of 10 to 40 tokens", draw(512, 10, 40)), ("64 sequences of 256 tokens", draw(64, 256, 256))):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            offsets = [0]
            for sentence in sentences:
                offsets.append(offsets[-1] + len(sentence))
            save_file({"ids": torch.tensor(sum(sentences, [])), "offsets": torch.tensor(offsets)}, folder / "tokens")
            times = {"hopfield": [], "torch, given order": [], "torch, by length": []}
            for _ in range(arguments.runs):
                subprocess.run([arguments.program, "encode", "--model", model, "--tokens", folder / "tokens", "--out", folder / "e",
                                "--json", folder / "j", "--batch", str(BATCH), "--threads", str(arguments.threads), "--quiet"],
                               check=True, stdout=subprocess.DEVNULL)
                times["hopfield"].append(json.loads((folder / "j").read_text())["seconds"])
                for by_length, key in ((False, "torch, given order"), (True, "torch, by length")):
                    begin = time.perf_counter()
                    embeddings = encode(peer, sentences, by_length)
                    times[key].append(time.perf_counter() - begin)
            difference = (load_file(folder / "e")["embeddings"] - embeddings).abs().max()
        medians = {key: statistics.median(values) for key, values in times.items()}
        print(f"{name}: largest difference of the embeddings {difference:.1e}")
        for key, value in medians.items():
            print(f"  {key:<20} {1e3 * value:8.1f} ms   {value / medians['hopfield']:.2f} times the time of hopfield")


if __name__ == "__main__":
    main()
