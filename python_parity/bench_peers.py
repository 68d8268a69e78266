"""Times this library's ops from Python against LibTorch's attention and the Python package hflayers.

    python python_parity/bench_peers.py
    python python_parity/bench_peers.py pooling/1/100000/256/8/32/1/3/train --repetitions 9 --peers sdpa

Needs the complete PyTorch (scripts/bootstrap.sh --full) and the built library. hflayers is timed if it can be imported.
Cases have the same names as in hopfield_bench:

    pooling/N/S/d_in/H/d/L/T        N bags of S instances, pooled by L queries
    ragged/N/S_max/d_in/H/d/L/T     the same for bags of 5 to S_max instances; padded for the peers
    layer/N/L/d_in/S/H/d/T          queries retrieve from S stored patterns that belong to the layer
    self/N/L/d_in/H/d/T             self-association

each with /fwd or /train at its end, or with neither for both. All contenders compute the same layer with the same weights:
LayerNorms, projections, T updates, the read-out and the output projection. sdpa makes T + 1 calls of
scaled_dot_product_attention on patterns that are never expanded. The program prints one table: median times in
milliseconds of repetitions that the contenders make in turn, ratios, and the peak of memory beyond weights and data. The
peak is measured in a process of its own after a small call.
"""

import argparse
import ctypes
import gc
import math
import pathlib
import random
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn import functional

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = {
    "pooling": ("batch", "keys", "width", "heads", "depth", "queries", "steps"),
    "ragged": ("batch", "keys", "width", "heads", "depth", "queries", "steps"),
    "layer": ("batch", "queries", "width", "keys", "heads", "depth", "steps"),
    "self": ("batch", "queries", "width", "heads", "depth", "steps"),
}
DEFAULT_CASES = ("pooling/1/100000/256/8/32/1/3", "layer/64/64/512/1024/8/64/3", "self/8/512/512/8/64/3",
                 "ragged/128/200/256/8/32/1/3", "self/256/16/256/8/32/3")
NORM_EPS = 1e-5


@dataclass(frozen=True)
class Case:
    text: str  # without fwd or train
    kind: str
    train: bool
    batch: int
    queries: int
    keys: int
    width: int
    heads: int
    depth: int
    steps: int

    @property
    def name(self):
        return f"{self.text}/{'train' if self.train else 'fwd'}"

    @property
    def pools(self):
        return self.kind in ("pooling", "ragged")

    def small(self):
        """The same layer on little data."""
        return replace(self, batch=min(self.batch, 2), queries=min(self.queries, 8), keys=min(self.keys, 16))


def parse_case(text):
    """The cases that `text` stands for: forward and training if it names neither."""
    kind, *numbers = text.split("/")
    trains = (False, True)
    if numbers and numbers[-1] in ("fwd", "train"):
        trains = (numbers.pop() == "train",)
    names = SIZES.get(kind, ())
    sound = len(numbers) == len(names) and all(re.fullmatch("[0-9]{1,9}", n) for n in numbers)
    sizes = dict(zip(names, map(int, numbers))) if sound else {}
    if not sizes or any(size == 0 for name, size in sizes.items() if name != "steps"):
        raise ValueError(f"expected a case like self/8/512/512/8/64/3/train, got '{text}'; see --help")
    if kind == "self":
        sizes["keys"] = sizes["queries"]
    if kind == "ragged" and sizes["keys"] < 5:
        raise ValueError(f"expected bags of at least 5 instances, got '{text}'")
    return [Case("/".join([kind, *numbers]), kind, train, **sizes) for train in trains]


class Setup:
    """Weights and data of a case. The weights have the parameter names that this library and hflayers share."""

    def __init__(self, case, perturbed=False):
        self.case = case
        torch.manual_seed(1)
        c, inner = case, case.heads * case.depth
        noise = (lambda *shape: 0.1 * torch.randn(*shape)) if perturbed else torch.zeros
        weights = {"association_core.in_proj_weight": 0.02 * torch.randn(3 * inner, c.width),
                   "association_core.in_proj_bias": noise(3 * inner),
                   "association_core.out_proj.weight": 0.02 * torch.randn(c.width, inner),
                   "association_core.out_proj.bias": noise(c.width)}
        for norm in ("norm_state_pattern", "norm_stored_pattern", "norm_pattern_projection"):
            weights[f"{norm}.weight"] = 1 + noise(c.width)
            weights[f"{norm}.bias"] = noise(c.width)
        if c.kind != "self":
            weights = {f"hopfield.{name}": value for name, value in weights.items()}
        if c.pools:
            weights["pooling_weights"] = 0.02 * torch.randn(1, c.queries, c.width)
        if c.kind == "layer":
            weights["lookup_weights"] = 0.02 * torch.randn(1, c.keys, c.width)
        self.weights = {name: value.requires_grad_(c.train) for name, value in weights.items()}
        self.padding = self.offsets = None
        if c.kind == "ragged":
            draw = random.Random(7)
            lengths = [draw.randint(5, c.keys) for _ in range(c.batch)]
            self.offsets = torch.tensor([0, *lengths]).cumsum(0)
            self.values = torch.randn(int(self.offsets[-1]), c.width)
            bags = self.values.split(lengths)
            self.input = torch.nn.utils.rnn.pad_sequence(bags, batch_first=True).requires_grad_(c.train)
            self.padding = torch.arange(self.input.size(1)) >= torch.tensor(lengths).unsqueeze(1)
            self.values.requires_grad_(c.train)
        else:
            self.input = torch.randn(c.batch, c.keys if c.pools else c.queries, c.width, requires_grad=c.train)
            self.values = self.input
        shape = (c.batch, c.queries * c.width) if c.pools else (c.batch, c.queries, c.width)
        self.gradient = torch.randn(shape) if c.train else None  # of the output

    def weight(self, name):
        return self.weights[name if self.case.kind == "self" else f"hopfield.{name}"]

    def norm(self, which):
        return self.weight(f"norm_{which}.weight"), self.weight(f"norm_{which}.bias")

    def projections(self):
        """Weight and bias of queries, keys and values."""
        return tuple(zip(self.weight("association_core.in_proj_weight").chunk(3),
                         self.weight("association_core.in_proj_bias").chunk(3)))

    def project(self, x, which, projection):
        """Normalises and projects [N, rows, d_in] to [N, H, rows, d]."""
        y = functional.linear(functional.layer_norm(x, (self.case.width,), *self.norm(which), NORM_EPS), *projection)
        return y.unflatten(-1, (self.case.heads, -1)).transpose(1, 2)

    def output(self, z):
        """Merges the heads of [N, H, L, d] and applies the output projection."""
        merged = z.transpose(1, 2).flatten(2)
        out = functional.linear(merged, self.weight("association_core.out_proj.weight"),
                                self.weight("association_core.out_proj.bias"))
        return out.flatten(1) if self.case.pools else out

    def run(self, forward):
        if not self.case.train:
            with torch.no_grad():
                return forward()
        for leaf in (*self.weights.values(), self.input, self.values):
            leaf.grad = None
        output = forward()
        output.backward(self.gradient)
        return output.detach()


def absorb_norm(projection, norm):
    """Weight and bias of the one linear map y -> W (y gamma + delta) + b, where y is the normalised instance."""
    (weight, bias), (gamma, delta) = projection, norm
    return weight * gamma, bias + weight @ delta


def hopfield_pool(s):
    c = s.case
    query, key, value = s.projections()
    weight, bias = absorb_norm(key, s.norm("stored_pattern"))
    state = s.project(s.weights["pooling_weights"], "state_pattern", query)
    results = torch.ops.hopfield.pool(
        s.values, state, weight.view(c.heads, c.depth, c.width), bias.view(c.heads, c.depth), offsets=s.offsets,
        normalize_eps=NORM_EPS, update_steps_max=c.steps, update_steps_eps=0.0)
    mean, mass = results[0], results[6]  # [N, H, L, d_in], [N, H, L]
    weight, bias = absorb_norm(value, s.norm("pattern_projection"))
    z = torch.einsum("nhli,hdi->nhld", mean, weight.view(c.heads, c.depth, c.width))
    return s.output(z + mass.unsqueeze(-1) * bias.view(c.heads, 1, c.depth))


def hopfield_layer(s):
    stored = s.weights["lookup_weights"] if s.case.kind == "layer" else s.input
    query, key, value = s.projections()
    results = torch.ops.hopfield.retrieve(
        s.project(s.input, "state_pattern", query), s.project(stored, "stored_pattern", key),
        s.project(stored, "pattern_projection", value), update_steps_max=s.case.steps, update_steps_eps=0.0)
    return s.output(results[0])


def sdpa_layer(s):
    c = s.case
    query, key, value = s.projections()
    state = s.project(s.weights["pooling_weights"] if c.pools else s.input, "state_pattern", query)
    stored = s.weights["lookup_weights"] if c.kind == "layer" else s.input
    keys = s.project(stored, "stored_pattern", key)
    values = s.project(stored, "pattern_projection", value)
    mask = None if s.padding is None else ~s.padding[:, None, None]
    if c.pools:
        state = state.expand(c.batch, -1, -1, -1)
    if c.kind == "layer":  # the samples become further queries of one sample, so that nothing is expanded
        state = state.transpose(0, 1).flatten(1, 2).unsqueeze(0)
    attend = lambda v: functional.scaled_dot_product_attention(state, keys, v, mask, scale=1 / math.sqrt(c.depth))
    for _ in range(c.steps):
        state = attend(keys)
    z = attend(values)
    if c.kind == "layer":
        z = z.squeeze(0).unflatten(1, (c.batch, c.queries)).transpose(0, 1)
    return s.output(z)


def original_layer(s):
    """The forward pass of the module of hflayers with the weights of `s`."""
    import hflayers
    c = s.case
    # The threshold makes exactly T updates; hflayers refuses 0.
    options = dict(input_size=c.width, hidden_size=c.depth, num_heads=c.heads, update_steps_max=c.steps,
                   update_steps_eps=1e-30)
    if c.pools:
        module = hflayers.HopfieldPooling(quantity=c.queries, **options)
    elif c.kind == "layer":
        module = hflayers.HopfieldLayer(quantity=c.keys, **options)
    else:
        module = hflayers.Hopfield(**options)
    module.load_state_dict({name: value.detach() for name, value in s.weights.items()})
    module.requires_grad_(c.train)
    masks = {} if s.padding is None else {"stored_pattern_padding_mask": s.padding}

    def forward():
        module.zero_grad(set_to_none=True)
        return module(s.input, **masks)
    return forward


# Functions that prepare a setup and return the forward pass, which is called again and again.
CONTENDERS = {
    "hopfield": lambda s: partial(hopfield_pool if s.case.pools else hopfield_layer, s),
    "sdpa": lambda s: partial(sdpa_layer, s),
    "original": original_layer,
}


def check_agreement(case, names):
    """Checks on little data that all contenders compute the same. The weights are perturbed so that each one matters."""
    setup = Setup(replace(case.small(), train=False), perturbed=True)
    expected = setup.run(CONTENDERS["hopfield"](setup))
    for name in names[1:]:
        found = setup.run(CONTENDERS[name](setup))
        error = ((found - expected).abs().max() / expected.abs().max()).item()
        if not error < 1e-3:
            raise RuntimeError(f"{case.name}: expected {name} to compute what hopfield does, got a relative difference of {error:.1e}")


def medians(case, names, repetitions):
    """Median times of the contenders in milliseconds. They are called in turn."""
    setup = Setup(case)
    forwards = {name: CONTENDERS[name](setup) for name in names}
    times = {name: [] for name in names}
    for repetition in range(repetitions + 1):
        for name in names:
            begin = time.perf_counter()
            setup.run(forwards[name])
            if repetition > 0:  # the first one warms up
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(all_times) for name, all_times in times.items()}


def resident(field):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field + ":"))


def extra_memory(case, name):
    """The peak of memory during one call, in bytes beyond what was there before it."""
    small = Setup(case.small())
    small.run(CONTENDERS[name](small))
    setup = Setup(case)
    forward = CONTENDERS[name](setup)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # otherwise the call could reuse freed memory, which would not be counted
    before = resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    setup.run(forward)
    return resident("VmHWM") - before


def extra_memory_elsewhere(case, name, arguments):
    command = [sys.executable, __file__, case.name, "--measure-memory-of", name, "--library", arguments.library,
               "--threads", str(arguments.threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{case.name}: measuring the memory of {name} failed: {done.stderr.strip()}")
    return int(done.stdout)


def has_original():
    try:
        import hflayers  # noqa: F401
    except ImportError:
        return False
    return True


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def count(least):
    def parse(text):
        if not re.fullmatch("[0-9]{1,6}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got '{text}'")
        return int(text)
    return parse


def peers(text):
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in ("sdpa", "original"):
            raise argparse.ArgumentTypeError(f"expected sdpa, original or both with a comma, got '{name}'")
    if "original" in names and not has_original():
        raise argparse.ArgumentTypeError("the package hflayers cannot be imported: install it, or leave original out")
    return names


def parse_arguments():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="default: five cases, both directions")
    parser.add_argument("--repetitions", type=count(1), default=5, help="medians are of so many (5)")
    parser.add_argument("--threads", type=count(0), default=0, help="0: as PyTorch chooses (0)")
    parser.add_argument("--library", default=str(ROOT / "build/cpu/lib/libhopfield.so"), help="libhopfield.so (that of build/cpu)")
    parser.add_argument("--peers", type=peers, help="sdpa, original or sdpa,original (those there are)")
    parser.add_argument("--measure-memory-of", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not pathlib.Path(arguments.library).is_file():
        parser.error(f"argument --library: expected the built library, but there is no file {arguments.library}")
    if arguments.peers is None:
        arguments.peers = ["sdpa", "original"] if has_original() else ["sdpa"]
    try:  # after the options, so that the error message for a mistyped option names the option and not its value
        arguments.cases = [case for text in arguments.cases or DEFAULT_CASES for case in parse_case(text)]
    except ValueError as error:
        parser.error(str(error))
    return arguments


def print_table(rows, names):
    """Prints a row for each case: milliseconds, the ratio of a peer's to ours, memory in MB and in multiples of the input."""
    columns = [f"{name}, ms" for name in names] + [f"{name}/ours" for name in names[1:]]
    columns += [f"{name}, MB (inputs)" for name in names]
    cells = [[f"{times[name]:.2f}" for name in names]
             + [f"{times[name] / times['hopfield']:.2f}" for name in names[1:]]
             + [f"{memory[name] / 1e6:.1f} ({memory[name] / case_bytes:.2f})" for name in names]
             for _, case_bytes, times, memory in rows]
    widths = [2 + max(map(len, column)) for column in zip(columns, *cells)]
    first = max(len(case.name) for case, *_ in rows)
    for label, row in [("", columns), *((case.name, row) for (case, *_), row in zip(rows, cells))]:
        print(f"{label:<{first}}" + "".join(f"{cell:>{width}}" for cell, width in zip(row, widths)))


def main():
    arguments = parse_arguments()
    torch.ops.load_library(arguments.library)
    if arguments.threads > 0:
        torch.set_num_threads(arguments.threads)
    if arguments.measure_memory_of:
        print(extra_memory(arguments.cases[0], arguments.measure_memory_of))
        return 0
    names = ["hopfield", *arguments.peers]
    rows = []
    for case in arguments.cases:
        check_agreement(case, names)
        times = medians(case, names, arguments.repetitions)
        memory = {name: extra_memory_elsewhere(case, name, arguments) for name in names}
        values = Setup(replace(case, train=False)).values
        rows.append((case, values.nbytes, times, memory))
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, medians of {arguments.repetitions}, float32")
    print_table(rows, names)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, OSError) as error:
        sys.exit(f"bench_peers.py: {error}")
