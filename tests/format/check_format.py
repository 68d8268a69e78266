"""Checks the format of all C++ and CUDA files against .clang-format: check_format.py SOURCE_DIR. Other versions of
clang-format than 14 break lines elsewhere, so the check is skipped, with exit code 77, where there is no version 14.
"""

import pathlib
import re
import shutil
import subprocess
import sys

FOLDERS = ("include", "src", "kernels", "tests", "python_parity", "examples")


def clang_format(root: pathlib.Path) -> str | None:
    """scripts/bootstrap.sh --tests installs it into .venv; a system has it under either name."""
    for name in (root / ".venv/bin/clang-format", "clang-format-14", "clang-format"):
        program = shutil.which(name)
        if program is None:
            continue
        said = subprocess.run([program, "--version"], text=True, capture_output=True)
        if re.search(r"version 14\.", said.stdout):
            return program
    return None


def main(root: pathlib.Path) -> int:
    program = clang_format(root)
    if program is None:
        print("skipped: clang-format 14 was not found; scripts/bootstrap.sh --tests installs it")
        return 77
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.suffix in {".h", ".cpp", ".cu"}]
    print(f"{program}: {len(files)} files", flush=True)
    return subprocess.run([program, "--dry-run", "-Werror", *files]).returncode if files else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
