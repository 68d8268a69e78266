"""The program and the CMake lines of README.md, taken from there and followed to the letter. See stranger.py."""

import shlex
import subprocess
import sys

import stranger

PROGRAM = r"```cpp\n([^`]*int main\(\)[^`]*)```"
OUTPUT = r"It prints\n\n```\n(.*?)```"
CMAKE = r"```cmake\n(.*?)```"
COMMAND = r"`(cmake -DCMAKE_PREFIX_PATH=[^`]*)`"


class Readme(stranger.Case):
    def python_with_torch(self):
        """The Python that LibTorch is a package of. Where that one cannot import it, for lack of packages that C++ does
        without, a stand-in that knows the same folder."""
        python = self.torch / "../../../../bin/python"
        variables = {}
        if not python.exists() or subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
            python = sys.executable
            package = self.root / "stand-in"
            stranger.write(package / "torch/__init__.py", "from . import utils\n")
            stranger.write(package / "torch/utils.py", f"cmake_prefix_path = {str(self.torch / 'share/cmake')!r}\n")
            variables = {"PYTHONPATH": str(package)}
        stranger.write(self.tools / "python", f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n').chmod(0o755)
        return variables

    def test_package(self):
        """Where the default python3 has another torch, so that the line itself has to lead to the right one."""
        variables = self.python_with_torch()
        self.python("python3", self.other_torch("other"))
        (self.tools / "cmake").symlink_to(stranger.given.cmake)
        prefix = self.root / "prefix"
        stranger.install(prefix)
        folder = self.project("add_executable(my_program main.cpp)\n" + stranger.readme(CMAKE))
        stranger.write(folder / "main.cpp", stranger.readme(PROGRAM))
        (folder / "build").mkdir()
        # The command with the folders that a reader adds.
        line = stranger.readme(COMMAND).replace("PREFIX;", f"{prefix};")
        line += f" -DCMAKE_MAKE_PROGRAM='{stranger.given.ninja}' -G Ninja .."
        result = self.run_command(["sh", "-ec", line], variables, folder / "build")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn(f"LibTorch {self.version} at {self.torch}, named by CMAKE_PREFIX_PATH\n", result.stdout)
        self.build(folder)
        result = self.run_command([folder / "build/my_program"], {}, folder)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(result.stdout, stranger.readme(OUTPUT))

    def test_the_compiler_says_what_to_write(self):
        program = self.root / "main.cpp"
        stranger.write(program, "#include <hopfield/ops/retrieve.h>\nauto options = hopfield::RetrieveOptions(8.0);\n")
        include = self.torch / "include"
        folders = [stranger.given.source / "include", include, include / "torch/csrc/api/include"]
        flags = [f"-I{folder}" for folder in folders]
        result = self.run_command([stranger.given.cxx, "-std=c++17", "-fsyntax-only", *flags, program], {}, self.root)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("write RetrieveOptions().beta(8.0) or RetrieveOptions().fixed_steps(3)", result.stdout)


if __name__ == "__main__":
    stranger.main()
