"""Checks that includes point down only: check_layers.py SOURCE_DIR. Prints every include that does not."""

import pathlib
import re
import sys

# What each layer may include besides itself.
ALLOWED = {
    "kernels": set(),
    "core": {"kernels"},
    "data": {"core"},
    "io": set(),
    "ops": {"core", "kernels"},
    "nn": {"core", "ops"},
    "memory": {"core", "ops"},
    "theory": {"core", "ops", "nn", "memory"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]')


def layer_of_file(path: pathlib.PurePath) -> str | None:
    parts = path.parts
    if parts[:2] == ("kernels", "bench"):
        return None  # a program on top of everything
    if parts[0] == "kernels":
        return "kernels"
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[:2] == ("include", "hopfield") and len(parts) > 3:
        return parts[2]
    return None  # the master header, build files


def layer_of_include(name: str) -> str | None:
    parts = name.removeprefix("hopfield/").split("/")
    return parts[0] if len(parts) > 1 and parts[0] in ALLOWED else None


def main(root: pathlib.Path) -> int:
    wrong = files = 0
    for path in sorted(root.glob("**/*")):
        relative = path.relative_to(root)
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"} or relative.parts[0] not in {"include", "src", "kernels"}:
            continue
        layer = layer_of_file(relative)
        if layer is None:
            continue
        files += 1
        if layer not in ALLOWED:
            print(f"{relative}: layer '{layer}' is not known to this check")
            wrong += 1
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            target = layer_of_include(match[1])
            torch = match[1].startswith(("torch/", "ATen/", "c10/"))
            if (target and target != layer and target not in ALLOWED[layer]) or (torch and layer == "kernels"):
                print(f"{relative}:{number}: {layer} must not include {match[1]}")
                wrong += 1
    print(f"{files} files, {wrong} wrong includes")
    return 0 if files > 0 and wrong == 0 else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
