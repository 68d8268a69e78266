"""Programs that are built on one machine for another that has a GPU: they save most of the check's time there."""

import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import time

import build
import machine
from machine import Problem

FOLDER = build.FOLDER.parent / "gpu_carry"
# For the GPUs of compute capability 8 and 9.0.
ARCHITECTURES = "80-real;90a-real"
MOST_BYTES = 60 << 20
# Shared libraries that the other machine may lack. It has those of LibTorch, of CUDA and of the compiler.
BROUGHT_ALONG = re.compile(r"lib(hopfield|hwy|benchmark|gtest|gmock)\b")
# For a build on the other machine, where the programs do not run there.
PACKAGES = ("libgtest-dev", "libgmock-dev", "libhwy-dev", "libhwy1", "nlohmann-json3-dev", "libcli11-dev", "libbenchmark-dev",
            "libbenchmark1debian")
SOURCES = ("CMakeLists.txt", "CMakePresets.json", "cmake", "include", "kernels", "src", "tests")


def digest_of(root):
    """A digest of all files that the programs are made from."""
    digest = hashlib.sha256()
    files = []
    for name in SOURCES:
        place = root / name
        files += [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    for file in sorted(files):
        if file.suffix in (".md", ".py", ".pyc"):
            continue
        content = file.read_bytes()
        digest.update(f"{file.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def capabilities():
    return {architecture[0] for architecture in ARCHITECTURES.split(";")}


class Carried:
    """The programs in build/gpu_carry."""

    def __init__(self, root, torch):
        self._folder = root / FOLDER
        self.environment = machine.library_path(torch, self._folder / "lib")
        self.commit = read_manifest(root).get("commit", "")

    def wait_for(self, program):
        pass

    def stop(self):
        pass

    def path(self, program):
        return str(self._folder / "bin" / program)

    def why_not(self, program):
        return "" if os.access(self.path(program), os.X_OK) else f"{FOLDER / 'bin' / program} was not found"


def read_manifest(root):
    try:
        manifest = json.loads((root / FOLDER / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def reason_against(root, device, torch):
    """Why the programs in build/gpu_carry are not used; None if they are."""
    manifest = read_manifest(root)
    if not manifest:
        return f"{FOLDER}/manifest.json was not found or cannot be read"
    digest = digest_of(root)
    if manifest.get("sources") != digest:
        return f"the programs of {FOLDER} were made from other sources ({manifest.get('sources')}, the tree has {digest})"
    if manifest.get("torch") != torch.version:
        return f"the programs of {FOLDER} were made for PyTorch {manifest.get('torch')}, this one is {torch.version}"
    if device.capability.split(".")[0] not in capabilities():
        return f"the programs of {FOLDER} have no machine code for compute capability {device.capability}"
    programs = Carried(root, torch)
    for name in build.PROGRAMS:
        if programs.why_not(name):
            return programs.why_not(name)
    for command in (["cuda_test", "--gtest_list_tests"], ["ops_test", "--gtest_list_tests"], ["hopfield_bench", "--list"]):
        why = trial(programs, command)
        if why:
            return f"{command[0]} of {FOLDER} does not run here: {why}"
    return None


def trial(programs, command):
    try:
        done = subprocess.run([programs.path(command[0]), *command[1:]], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=60, env={**os.environ, **programs.environment})
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return words[0] if words else f"it ended with {done.returncode}"


def run_loudly(what, command, root):
    print(f"-- {what}", flush=True)
    try:
        code = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL,
                              env={**os.environ, "PATH": machine.path()}).returncode
    except OSError as error:
        raise Problem(f"{what}: expected {command[0]} in the path, {error.strerror}; install it")
    if code != 0:
        raise Problem(f"{what}: expected {command[0]} to succeed, it ended with {code}; its output is above")


def build_here(root):
    begin = time.monotonic()
    torch = machine.torch_of(root)
    if machine.lacks_compiler():
        raise Problem(machine.lacks_compiler()[0])
    sources = digest_of(root)
    run_loudly("configure", build.configure_command(root, ARCHITECTURES), root)
    run_loudly("build", build.build_command(build.PROGRAMS), root)
    if digest_of(root) != sources:
        raise Problem("expected sources that stay as they are during the build, some were changed; run --build-here again")
    folder = root / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    for program in build.PROGRAMS:
        shutil.copy2(root / build.FOLDER / "bin" / program, folder / "bin" / program)
    for name, library in libraries_of(root).items():
        shutil.copy2(library, folder / "lib" / name)
    for file in [*(folder / "bin").iterdir(), *(folder / "lib").iterdir()]:
        run_loudly(f"strip {file.name}", ["strip", "--strip-unneeded", str(file)], root)
    download_packages(folder / "packages")
    commit = (machine.output_of("git", "-C", str(root), "describe", "--always", "--dirty") or "").strip()
    (folder / "manifest.json").write_text(json.dumps({
        "sources": sources, "commit": commit, "torch": torch.version, "architectures": ARCHITECTURES,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}, indent=2) + "\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise Problem(f"expected programs of at most {MOST_BYTES >> 20} MiB in {FOLDER}, they have {size / 2**20:.1f} MiB; "
                      "leave out types or widths of kernels, or compress their machine code")
    print(f"-- {size / 2**20:.1f} MiB in {FOLDER} after {time.monotonic() - begin:.0f} s, made from the sources {sources}. "
          f"Bring this folder along with the tree and run scripts/gpu_check.sh there; it is used as long as the sources "
          "stay the same.")
    return 0


def libraries_of(root):
    """The shared libraries to bring along: the name by which programs ask for them, and the file."""
    found = {}
    for program in build.PROGRAMS:
        listing = machine.output_of("ldd", str(root / build.FOLDER / "bin" / program)) or ""
        for name, path in re.findall(r"^\s*(\S+) => (.+) \(0x", listing, re.MULTILINE):
            if BROUGHT_ALONG.match(name) and os.path.exists(path):
                found[name] = path
    return found


def download_packages(folder):
    folder.mkdir()
    done = machine.tool("apt-get") and subprocess.run(
        ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *PACKAGES], cwd=folder, stdin=subprocess.DEVNULL)
    if not done or done.returncode != 0:
        print("-- the Debian packages for a build on the other machine could not be downloaded; it must have them, should the "
              "programs not run there", flush=True)
