"""What the machine has: its GPU, its PyTorch, the tools of CUDA."""

import dataclasses
import os
import pathlib
import re
import shlex
import shutil
import subprocess


class Problem(Exception):
    """Why the check cannot begin: for each thing that is missing a sentence that says how to provide it."""


@dataclasses.dataclass(frozen=True)
class Device:
    name: str
    driver: str
    capability: str  # such as 9.0


@dataclasses.dataclass(frozen=True)
class Torch:
    folder: pathlib.Path  # of the package: include, lib, share
    version: str

    def libraries(self):
        """Folders of the shared libraries of PyTorch and of the packages that it loads CUDA from."""
        site = self.folder.parent
        return [self.folder / "lib", *sorted(site.glob("nvidia/*/lib"))]


def output_of(*command):
    """The standard output of a command that takes a moment; None if it fails or is not there."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def device():
    """The first GPU, which the tests use."""
    lines = (output_of("nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader") or "").splitlines()
    fields = [field.strip() for field in lines[0].split(",")] if lines else []
    if len(fields) != 3:
        raise Problem("expected a GPU that nvidia-smi finds, found none; run this on a machine with one, or make the "
                      "programs for it here with --build-here")
    return Device(*fields)


def cmake_arguments():
    """What the environment adds to the arguments of CMake."""
    return shlex.split(os.environ.get("CMAKE_ARGS", ""))


def torch_of(root):
    """The PyTorch that the build takes: the one of CMAKE_ARGS, or of the Python that cmake/HopfieldTorch.cmake asks."""
    named = [word.partition("=")[2] for word in cmake_arguments() if word.startswith("-DTorch_DIR=")]
    places = [pathlib.Path(folder).resolve().parent.parent.parent for folder in named]
    if not named:
        script = "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
        environments = [pathlib.Path(os.environ.get("VIRTUAL_ENV", root / ".venv")), root / ".venv"]
        for python in [*(place / "bin/python" for place in environments), "python3"]:
            found = (output_of(str(python), "-c", script) or "").strip()
            if found:
                places.append(pathlib.Path(found))
    for place in places:
        version = re.search(r"__version__ = '([^']+)'", text_of(place / "version.py"))
        if (place / "lib").is_dir() and version:
            return Torch(place, version[1])
    raise Problem("expected python3 to have torch, it has not; install it, or pass "
                  "CMAKE_ARGS=-DTorch_DIR=<folder of TorchConfig.cmake>")


def text_of(file):
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def cuda_folder():
    return pathlib.Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda")


def path():
    """Where tools are found: in the path, or those of CUDA in its folder."""
    return os.pathsep.join([os.environ.get("PATH", ""), str(cuda_folder() / "bin")])


def tool(name):
    """The path of a tool; None if there is none."""
    return shutil.which(name, path=path())


def lacks_compiler():
    """A list of no or one sentence."""
    if tool("nvcc"):
        return []
    return [f"expected nvcc in the path or in {cuda_folder()}/bin, found none; install the CUDA Toolkit, or name its folder "
            "by CUDA_HOME"]


def library_path(torch, *before):
    """The variable by which programs find their shared libraries."""
    folders = [*before, *torch.libraries(), cuda_folder() / "lib64"]
    given = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": os.pathsep.join([*(str(folder) for folder in folders), *([given] if given else [])])}
