"""Builds the programs of the check: here for another machine, or on the machine that the check runs on."""

import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

import machine
import running
from machine import Problem

FOLDER = pathlib.Path("build/gpu")
PROGRAMS = ("cuda_test", "device_faults", "ops_test", "hopfield_bench")
HEADERS = ("gtest/gtest.h", "gmock/gmock.h", "hwy/highway.h", "nlohmann/json.hpp", "CLI/CLI.hpp", "benchmark/benchmark.h")


def configure_command(root, architectures):
    # Warnings are not errors here: another compiler may have more of them.
    command = ["cmake", "--preset", "cuda", "-B", str(FOLDER), "-DHOPFIELD_EXAMPLES=OFF", "-DHOPFIELD_WERROR=OFF",
               "-DHOPFIELD_BENCH=ON"]
    if architectures:
        command.append(f"-DCMAKE_CUDA_ARCHITECTURES={architectures}")
    return [*command, *machine.cmake_arguments()]


def build_command(programs):
    return ["cmake", "--build", str(FOLDER), "--target", *programs, "--", "-k", "0"]


def architecture_of(device):
    """Machine code for this GPU only, which halves the time of the build. PTX for one that is later than all we know."""
    return {"8": "80-real", "9": "90a-real"}.get(device.capability.split(".")[0], "")


def lacks_packages():
    includes = "".join(f"#include <{header}>\n" for header in HEADERS)
    command = [os.environ.get("CXX", "c++"), "-E", "-x", "c++", "-"]
    try:
        return subprocess.run(command, input=includes.encode(), capture_output=True, timeout=60).returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        return True


def unpack(packages, prefix):
    """Unpacks Debian packages without installing them. False if one cannot be unpacked."""
    for package in packages:
        if shutil.which("dpkg-deb"):
            commands, folder = [["dpkg-deb", "-x", str(package), str(prefix)]], None
        else:
            folder = tempfile.mkdtemp(dir=prefix)
            commands = [["ar", "x", str(package)], ["sh", "-c", f"tar -xf data.tar.* -C {shlex.quote(str(prefix))}"]]
        for command in commands:
            if machine.output_of("env", "-C", str(folder or prefix), *command) is None:
                return False
        if folder:
            shutil.rmtree(folder)
    return True


class Built:
    """Programs that are built on this machine, the tests of the kernels first; the others while these run."""

    def __init__(self, root, check, torch):
        self.root, self.check = root, check
        self.environment = machine.library_path(torch)
        self._reasons, self._child = {}, None
        packages = self._packages()
        self._variables = {"PATH": machine.path()}
        if packages:
            triple = packages / "usr/lib/x86_64-linux-gnu"
            self._variables["CMAKE_PREFIX_PATH"] = os.pathsep.join([str(packages / "usr"), str(triple / "cmake")])
            self._variables["CMAKE_LIBRARY_PATH"] = str(triple)
            self.environment = machine.library_path(torch, triple)
        check.commit = (machine.output_of("git", "-C", str(root), "describe", "--always", "--dirty") or "").strip()
        for program in PROGRAMS:  # those of an earlier build must not be taken for this one's
            (root / FOLDER / "bin" / program).unlink(missing_ok=True)
        if self._step("configure", configure_command(root, architecture_of(check.device)), 60):
            self._step("build cuda_test", build_command(["cuda_test"]), 330)
            self._begin_rest()

    def _packages(self):
        """The folder of unpacked packages; None if the system has them all. Says all that is missing."""
        missing = machine.lacks_compiler()
        missing += [f"expected {name} in the path, found none; install it" for name in ("cmake", "ninja")
                    if machine.tool(name) is None]
        prefix = None
        if lacks_packages():
            prefix = self.root / "build/gpu_packages"
            found = sorted((self.root / "build/gpu_carry/packages").glob("*.deb"))
            shutil.rmtree(prefix, ignore_errors=True)
            prefix.mkdir(parents=True)
            if not found:
                missing.append("expected the Debian packages that scripts/bootstrap.sh --tests installs, or those in "
                               "build/gpu_carry/packages, found neither; run --build-here where there is a network")
            elif not unpack(found, prefix):
                missing.append("expected packages that can be unpacked in build/gpu_carry/packages; run --build-here again")
        if missing:
            raise Problem("\n".join(missing))
        return prefix

    def _step(self, name, command, seconds):
        job = running.Job(name, ["env", "-C", str(self.root), *command], seconds, self._variables)
        ended = self.check.run(job)
        if ended.code is None:
            self.check.not_run(name, ended.why)
        elif ended.reason():
            self.check.note(name, "FAILED", ended.seconds, ended.reason())
            print("\n".join(ended.output.splitlines()[-15:]), flush=True)
        else:
            self.check.note(name, "passed", ended.seconds)
        return ended.code == 0

    def _begin_rest(self):
        self._log = tempfile.TemporaryFile()
        self._began = time.monotonic()
        self._child = subprocess.Popen(["env", "-C", str(self.root), *build_command(PROGRAMS[1:])], stdin=subprocess.DEVNULL,
                                       stdout=self._log, stderr=subprocess.STDOUT, env={**os.environ, **self._variables},
                                       start_new_session=True)

    def wait_for(self, program):
        """Waits for the end of the build, but leaves time for what can be done without it."""
        if self._child is None:
            return
        try:
            code = self._child.wait(max(0.0, self.check.left() - 60))
            why = f"it ended with {code}" if code else ""
        except subprocess.TimeoutExpired:
            why = f"stopped after {time.monotonic() - self._began:.0f} s"
        self.stop()
        self._log.seek(0)
        output = self._log.read().decode(errors="replace")
        seconds = time.monotonic() - self._began
        self.check.log(running.Job("build the rest", build_command(PROGRAMS[1:]), 0), running.Ended(output, 0, seconds, why))
        self.check.note("build the rest", "FAILED" if why else "passed", seconds, why)
        if why:
            print("\n".join(output.splitlines()[-15:]), flush=True)

    def stop(self):
        if self._child is not None:
            running.end_group(self._child)
            self._child.wait()
            self._child = None

    def path(self, program):
        return str(self.root / FOLDER / "bin" / program)

    def why_not(self, program):
        return "" if os.access(self.path(program), os.X_OK) else f"{FOLDER / 'bin' / program} was not built"
