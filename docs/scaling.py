"""Draws docs/pooling_scaling.svg, which shows that the time for pooling one bag grows linearly with its size.

    python docs/scaling.py --bench build/bench/bin/hopfield_bench

Needs matplotlib, and 6 GB of memory for the largest bag, which has 10^6 instances.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

DOCS = pathlib.Path(__file__).resolve().parent
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def measure(bench):
    """Median times in milliseconds: {contender: [one for each size]}."""
    names = [f"pooling/1/{size}/256/8/32/1/3/fwd/float32" for size in SIZES]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "medians.json"
        subprocess.run([bench, *names, "--peer", "sdpa", "--repetitions", "3", "--json", path], check=True)
        found = json.loads(path.read_text())
    print(f"{found['threads']} threads")
    return {contender: [found["milliseconds"][name][contender] for name in names] for contender in ("hopfield", "sdpa")}


def draw(times, path):
    # fonttype: text is written as text; hashsalt: the same numbers give the same file.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "hopfield", "font.family": "sans-serif", "font.size": 10})
    figure, axes = plt.subplots(figsize=(6, 3.8), layout="constrained")
    styles = {"sdpa": ("#888888", "s", "attention, four calls"), "hopfield": ("#1f5fa8", "o", "HopfieldPooling")}
    for contender, (color, marker, label) in styles.items():
        milliseconds = times[contender]
        axes.loglog(SIZES, milliseconds, color=color, marker=marker, markersize=5, linewidth=1.5, label=label)
        last = milliseconds[-1]
        axes.annotate(f"{last:,.0f} ms", (SIZES[-1], last), xytext=(7, 0), textcoords="offset points", va="center", color=color)
    anchor = times["hopfield"][-1] / SIZES[-1]
    axes.loglog(SIZES, [anchor * size for size in SIZES], color="#1f5fa8", linewidth=0.8, linestyle=":", label="proportional to S")
    axes.set(xlabel="instances S in the bag, 256 features each", ylabel="forward, ms", xlim=(SIZES[0] / 1.4, SIZES[-1] * 4))
    axes.set_title("Pooling one bag: 8 heads of 32, 3 updates", fontsize=10)
    axes.grid(True, which="major", linewidth=0.4, color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", default=str(DOCS.parent / "build/bench/bin/hopfield_bench"), help="the program that measures")
    arguments = parser.parse_args()
    if not pathlib.Path(arguments.bench).is_file():
        parser.error(f"argument --bench: expected the built hopfield_bench, but there is no file {arguments.bench}")
    times = measure(arguments.bench)
    draw(times, DOCS / "pooling_scaling.svg")
    for contender, milliseconds in times.items():
        print(contender, *(f"{value:.2f}" for value in milliseconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
