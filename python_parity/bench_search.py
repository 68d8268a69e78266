"""Times best_matches() of the memories against the exact search of FAISS (IndexFlatIP) on the same sets.

    pip install faiss-cpu
    python python_parity/bench_search.py build/cpu/bin/hopfield_memory_bench
    python python_parity/bench_search.py build/cpu/bin/hopfield_memory_bench --patterns 100000 --width 128

Both use all cores, or as many as OMP_NUM_THREADS says. The two run in turn, each in processes of its own, and the medians
of all rounds are compared.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import load_file, save_file


def search(path, repetitions):
    import faiss

    sets = load_file(path)
    index = faiss.IndexFlatIP(sets["patterns"].shape[1])
    index.add(sets["patterns"])
    times = []
    for k in (1, 10):
        seconds = []
        for _ in range(repetitions + 1):
            begin = time.perf_counter()
            index.search(sets["queries"], k)
            seconds.append(time.perf_counter() - begin)
        times.append(statistics.median(seconds[1:]))
    print(json.dumps(times))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="hopfield_memory_bench, or the file of sets with --search")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--patterns", type=int, default=1000000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.search:
        return search(options.program, options.repetitions)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        sets, results = str(pathlib.Path(folder, "sets.safetensors")), pathlib.Path(folder, "results.json")
        random = np.random.default_rng(0)
        save_file({name: random.standard_normal((count, options.width), dtype=np.float32)
                   for name, count in (("patterns", options.patterns), ("queries", options.queries))}, sets)
        for _ in range(options.rounds):
            subprocess.run([options.program, "--sets", sets, "--json", str(results), "--repetitions",
                            str(options.repetitions)], check=True, stdout=subprocess.DEVNULL)
            ours.append([row["seconds"] for row in json.loads(results.read_text())[-2:]])
            theirs.append(json.loads(subprocess.run([sys.executable, __file__, sets, "--search", "--repetitions",
                                                     str(options.repetitions)], check=True, capture_output=True).stdout))
    for place, k in enumerate((1, 10)):
        a, b = (statistics.median(times[place] for times in side) for side in (ours, theirs))
        print(f"k = {k}: best_matches {a:.3f} s, IndexFlatIP {b:.3f} s, {b / a:.2f} times its speed")


if __name__ == "__main__":
    main()
