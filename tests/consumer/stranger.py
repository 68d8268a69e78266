"""A stranger's projects and machine: folders outside this tree, an environment with nothing in it but what a case puts there.

    python3 CASES_test.py --cmake PATH --ninja PATH --cxx PATH --source TREE --build BUILD --torch LIBTORCH [CASE ...]
"""

import argparse
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

PROGRAM = pathlib.Path(__file__).parent / "program.cpp"
given = None  # the command line's arguments


def main():
    global given
    parser = argparse.ArgumentParser()
    for name in ("cmake", "ninja", "cxx", "source", "build", "torch"):
        parser.add_argument("--" + name, required=True, type=pathlib.Path)
    given, rest = parser.parse_known_args()
    unittest.main(module="__main__", argv=sys.argv[:1] + rest, verbosity=2)


def readme(pattern):
    """The one place of README.md that the pattern finds; its group."""
    found = re.findall(pattern, (given.source / "README.md").read_text(), re.DOTALL)
    assert len(found) == 1, f"README.md has {len(found)} places like {pattern}"
    return found[0]


def install(prefix):
    """As README.md says; this build may have another folder."""
    line = readme(r"`(cmake --install build/cpu --prefix PREFIX)`")
    line = line.replace("build/cpu", f"'{given.build}'").replace("PREFIX", f"'{prefix}'")
    subprocess.run(["sh", "-c", line.replace("cmake", f"'{given.cmake}'", 1)], check=True, capture_output=True)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def program(name, up="", libraries=""):
    """CMake lines of a program that uses Hopfield; `up` leads from their folder to the project's."""
    return (f"add_executable({name} {up}program.cpp)\n"
            f"target_link_libraries({name} PRIVATE Hopfield::Hopfield {libraries})\n")


class Case(unittest.TestCase):
    """Has a folder of its own, `self.root`, and LibTorch, `self.torch` of `self.version`, that no Python knows of."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="hopfield consumer ")  # with spaces, as a stranger's may have
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.torch = given.torch
        header = (self.torch / "include/torch/headeronly/version.h").read_text()
        self.version = re.search(r'"([0-9.]+)"', header)[1]
        self.tools = self.root / "tools"
        self.python("python3", None)

    def python(self, name, torch):
        """An interpreter in the PATH, for all that the build asks one: where its torch is."""
        return self.interpreter(self.tools / name, torch)

    def interpreter(self, path, torch):
        write(path, f"#!/bin/sh\necho '{torch or ''}'\n").chmod(0o755)

    def active_environment(self, torch, variable="VIRTUAL_ENV"):
        """The variables of an active environment whose Python has that torch."""
        self.interpreter(self.root / "environment/bin/python", torch)
        return {variable: str(self.root / "environment")}

    def other_torch(self, name):
        """A LibTorch of the right version in another place."""
        folder = self.root / name
        for part in ("include", "lib"):
            folder.mkdir(exist_ok=True)
            (folder / part).symlink_to(self.torch / part)
        write(folder / "share/cmake/Torch/TorchConfig.cmake",
              "add_library(torch SHARED IMPORTED)\n"
              f'set_target_properties(torch PROPERTIES IMPORTED_LOCATION "{folder}/lib/libtorch.so"\n'
              f'  INTERFACE_INCLUDE_DIRECTORIES "{folder}/include")\n')
        return folder

    def torch_of_version(self, version):
        folder = self.root / f"torch {version}"
        write(folder / "include/torch/headeronly/version.h", f'#define TORCH_VERSION \\\n  "{version}"\n')
        write(folder / "share/cmake/Torch/TorchConfig.cmake", 'message(FATAL_ERROR "not to be loaded")\n')
        return folder

    def project(self, lists, languages="CXX", name="project"):
        """Writes a project: the text of its CMakeLists.txt, or {folder: text} with "" for the top."""
        if isinstance(lists, str):
            lists = {"": lists}
        folder = self.root / name
        for sub, text in lists.items():
            if sub == "":
                text = f"cmake_minimum_required(VERSION 3.25)\nproject(Stranger LANGUAGES {languages})\n{text}"
            write(folder / sub / "CMakeLists.txt", text)
        shutil.copy(PROGRAM, folder / "program.cpp")
        return folder

    def environment(self, variables):
        path = f"{self.tools}:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.root), "LC_ALL": "C", "CXX": str(given.cxx), **variables}

    def run_command(self, command, variables, cwd):
        return subprocess.run(command, env=self.environment(variables), cwd=cwd, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def configure(self, folder, *arguments, variables={}, fails=False, generator="Ninja"):
        """What CMake says in a line, as messages are wrapped."""
        shutil.rmtree(folder / "build", ignore_errors=True)
        result = self.run_command([given.cmake, "-G", generator, "-S", folder, "-B", folder / "build",
                                   f"-DCMAKE_MAKE_PROGRAM={given.ninja}", *arguments], variables, folder)
        self.assertEqual(result.returncode != 0, fails, result.stdout)
        return " ".join(result.stdout.split())

    def build(self, folder, variables={}):
        result = self.run_command([given.cmake, "--build", folder / "build"], variables, folder)
        self.assertEqual(result.returncode, 0, result.stdout)

    def run_program(self, program, torch):
        """The program runs, with the headers and libraries of that LibTorch."""
        result = self.run_command([program], {}, self.root)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertRegex(result.stdout, r"^hopfield [0-9]")
        self.assertIn(f"libraries {torch}/lib/libtorch_cpu.so", result.stdout)

    def flags(self, folder, source):
        """The words of the commands that compile a source file, one list for each configuration."""
        commands = json.loads((folder / "build/compile_commands.json").read_text())
        found = [shlex.split(entry["command"]) for entry in commands if entry["file"].endswith(source)]
        self.assertTrue(found, f"{source} is not compiled")
        return found
