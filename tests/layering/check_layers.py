"""Checks that includes point down only: check_layers.py SOURCE_DIR. Prints every include that does not.

Before it reads the tree, the check is tried on a small tree with wrong includes, all of which it has to find.
"""

import os.path
import pathlib
import re
import sys
import tempfile

LIBTORCH = "LibTorch"
KERNELS = {"kernels", "kernels/cpu", "kernels/cuda"}

# What each layer may include besides itself, the standard library and other libraries. The kernels know no LibTorch, and
# those of one device do not know those of the other.
ALLOWED = {
    "kernels": set(),
    "kernels/cpu": {"kernels"},
    "kernels/cuda": {"kernels"},
    "core": {LIBTORCH, *KERNELS},
    "data": {LIBTORCH, "core"},
    "io": {LIBTORCH},
    "ops": {LIBTORCH, *KERNELS, "core"},
    "nn": {LIBTORCH, "core", "ops"},
    "memory": {LIBTORCH, *KERNELS, "core", "io", "ops"},
    "theory": {LIBTORCH, *KERNELS, "core", "io", "ops", "nn", "memory"},
}
# Folders on top of every layer, and the folders of tests/ and examples/ that their includes begin with.
PROGRAMS = {"tests", "support", "examples", "common", "landscape", "mil", "python_parity", "bench", "cuda_on_host"}
# Kernels include headers of the standard library, of the system and of CUDA, and Google Highway.
OUTSIDE_OF_KERNELS = re.compile(r"\w+|(sys/)?\w+\.h|cuda/.+|hwy/.+")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')


def layer_of_file(path: pathlib.PurePath) -> str | None:
    parts = path.parts
    if parts[:2] == ("kernels", "bench"):
        return None  # a program on top of everything
    if parts[0] == "kernels":
        return "/".join(parts[:-1][:2])
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[:2] == ("include", "hopfield") and len(parts) > 3:
        return parts[2]
    return None  # the master header, build files


def layer_of_include(name: str, file: pathlib.PurePath, root: pathlib.Path) -> str | None:
    """The layer of an included file, or None for the standard library and others."""
    if name.startswith(".") or (root / file.parent / name).exists():
        name = os.path.normpath(file.parent / name)
        for folder in ("include/", "src/", "tests/support/", "tests/"):
            name = name.removeprefix(folder)
    parts = name.split("/")
    if parts[0] in {"torch", "ATen", "c10", "caffe2"}:
        return LIBTORCH
    if parts[0] == "kernels" and len(parts) > 1:
        return "bench" if parts[1] == "bench" else "/".join(parts[:-1][:2])
    if parts[0] == "hopfield" and len(parts) == 2 and parts[1] != "version.h":
        return "the header of everything"
    if parts[0] == "hopfield":
        parts = parts[1:]
    return parts[0] if len(parts) > 1 and parts[0] in ALLOWED.keys() | PROGRAMS else None


def is_allowed(layer: str, include: str, file: pathlib.PurePath, root: pathlib.Path) -> bool:
    target = layer_of_include(include, file, root)
    if target is None:
        return layer not in KERNELS or OUTSIDE_OF_KERNELS.fullmatch(include) is not None
    return target == layer or target in ALLOWED[layer]


def check(root: pathlib.Path) -> tuple[int, list[str]]:
    """How many files there are, and what is wrong in them."""
    files, wrong = 0, []
    for path in sorted(path for folder in ("include", "src", "kernels") for path in (root / folder).rglob("*")):
        file = path.relative_to(root)
        layer = layer_of_file(file)
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"} or layer is None:
            continue
        files += 1
        if layer not in ALLOWED:
            wrong.append(f"{file}: layer '{layer}' is not known to this check")
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match and not is_allowed(layer, match[1], file, root):
                wrong.append(f"{file}:{number}: {layer} must not include {match[1]}")
    return files, wrong


# Includes of each file that are wrong, and includes that are not.
TRIAL = {
    "kernels/params.h": (["<kernels/cpu/retrieve.h>", '"cuda/warp.cu"', "<fmt/format.h>"], ["<cstdint>", "<hwy/base.h>"]),
    "kernels/cpu/tile.cpp": (
        ["<kernels/cuda/warp.h>", "<ATen/ATen.h>", '"ops/capture.h"', "<hopfield/core/bags.h>", '"../cuda/warp.h"',
         "<cuda_on_host/warp.h>", '"../../tests/support/naive.h"', '"support/naive.h"', "<nlohmann/json.hpp>"],
        ["<vector>", "<sys/mman.h>", '"kernels/cpu/tile.h"', "<kernels/params.h>", '"tile.h"', "<hwy/highway.h>"]),
    "kernels/cuda/warp.cu": (
        ["<kernels/cpu/tile.h>", '"tests/kernels/cuda/harness.h"', "<kernels/bench/case.h>", "<c10/cuda/CUDAStream.h>",
         "<cuda_on_host/warp.h>"],
        ["<cuda_runtime.h>", "<cuda/atomic>", "<kernels/cuda/warp.h>", "<kernels/philox.h>"]),
    "src/core/bags.cpp": (['"ops/retrieve.h"', '"io/file.h"'], ["<hopfield/core/bags.h>", "<ATen/ATen.h>"]),
    "src/ops/retrieve.cpp": (
        ["<hopfield/nn/hopfield.h>", '"nn/activation.h"', "  # include <hopfield/hopfield.h>", '"../nn/activation.h"'],
        ["<kernels/cpu/retrieve.h>", '"core/masks_checks.h"', "<hopfield/version.h>", '"../core/masks_checks.h"']),
    "include/hopfield/nn/hopfield.h": (
        ["<hopfield/memory/binary.h>", "<hopfield/theory/bounds.h>", "<kernels/params.h>"], ["<hopfield/ops/pool.h>"]),
    "src/memory/binary.cpp": (
        ["<hopfield/nn/hopfield.h>", '"theory/bounds.h"', "<hopfield/data/csv.h>"],
        ["<hopfield/ops/retrieve.h>", "<hopfield/io/file.h>", "<kernels/cpu/retrieve.h>"]),
    "src/theory/bounds.cpp": (["<hopfield/data/csv.h>"], ["<hopfield/nn/hopfield.h>", '"memory/binary.h"']),
    "src/new/file.cpp": ([], []),
}


def try_the_check() -> list[str]:
    """Where the check and the trial differ."""
    expected = ["src/new/file.cpp: layer 'new' is not known to this check"]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, (wrong, right) in TRIAL.items():
            lines = [line if "include" in line else f"#include {line}" for line in wrong + right]
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("\n".join(lines))
            layer = layer_of_file(pathlib.PurePath(name))
            for number, line in enumerate(lines[: len(wrong)], 1):
                expected.append(f"{name}:{number}: {layer} must not include {INCLUDE.match(line)[1]}")
        files, found = check(root)
    differences = [f"not found: {line}" for line in expected if line not in found]
    differences += [f"found for nothing: {line}" for line in found if line not in expected]
    return differences if files == len(TRIAL) else [*differences, f"{files} files in the trial, not {len(TRIAL)}"]


def main(root: pathlib.Path) -> int:
    differences = try_the_check()
    for line in differences:
        print("trial of this check:", line)
    files, wrong = check(root)
    for line in wrong:
        print(line)
    print(f"{files} files, {len(wrong)} wrong includes")
    return 0 if files > 0 and not wrong and not differences else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
