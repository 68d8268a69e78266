"""This tree in somebody else's project, by add_subdirectory: configured only, flags read in compile_commands.json.
See stranger.py."""

import shutil
import subprocess
import unittest

import stranger
from stranger import program

KERNELS = ("backward_tile", "forward_tile", "retrieve_backward", "retrieve_forward", "retrieve_tiles", "tile_ops")
TORCH = "find_package(Torch REQUIRED)\ntarget_link_libraries(program PRIVATE torch)\n"
PROGRAM = program("program")
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")


class Tree(stranger.Case):
    def setUp(self):
        super().setUp()
        self.tree = self.root / "tree"  # without the environment that this tree may have
        self.tree.mkdir()
        for entry in stranger.given.source.iterdir():
            if entry.name not in (".venv", ".git", "build"):
                (self.tree / entry.name).symlink_to(entry)
        self.add = f'add_subdirectory("{self.tree}" hopfield)\n'

    def configure(self, folder, *arguments, torch=None, **others):
        if torch:
            arguments = (f"-DCMAKE_PREFIX_PATH={torch}", *arguments)
        return super().configure(folder, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *arguments, **others)


class Subdirectory(Tree):
    def configure(self, folder, *arguments, **others):
        return super().configure(folder, "-DHOPFIELD_CUDA=OFF", *arguments, **others)

    def optimisation(self, folder):
        """Of each configuration, the -O flags of a kernel: a set with one tuple where all kernels have the same."""
        found = {}
        for kernel in KERNELS:
            for words in self.flags(folder, f"kernels/cpu/{kernel}.cpp"):
                output = words[words.index("-o") + 1].split("/")
                config = output[output.index("hopfield_kernels_cpu.dir") + 1]
                found.setdefault(config, set()).add(tuple(word for word in words if word.startswith("-O")))
        return found

    def test_kernels_are_optimised(self):
        folder = self.project(self.add + PROGRAM)
        for build_type, expected in ((None, {("-O3",)}), ("Debug", {("-O3",)}), ("Release", {("-O3",)})):
            with self.subTest(build_type=build_type):
                self.configure(folder, *([f"-DCMAKE_BUILD_TYPE={build_type}"] if build_type else []), torch=self.torch)
                self.assertEqual(self.optimisation(folder), {"cpu": expected})

    def test_kernels_are_optimised_in_each_of_several_configurations(self):
        folder = self.project(self.add + PROGRAM)
        self.configure(folder, "-DCMAKE_CONFIGURATION_TYPES=Debug;Release;RelWithDebInfo;MinSizeRel;Mine",
                       "-DCMAKE_CXX_FLAGS_MINE=-g", torch=self.torch, generator="Ninja Multi-Config")
        self.assertEqual(self.optimisation(folder),
                         {"Debug": {("-O3",)}, "Release": {("-O3",)}, "RelWithDebInfo": {("-O2",)},
                          "MinSizeRel": {("-Os",)}, "Mine": {("-O3",)}})

    def test_kernels_are_not_optimised_on_request(self):
        folder = self.project(self.add + PROGRAM)
        for request in ("-DHOPFIELD_OPTIMIZE_KERNELS=OFF", "-DHOPFIELD_SANITIZE=address"):
            self.configure(folder, request, torch=self.torch)
            self.assertEqual(self.optimisation(folder), {"cpu": {()}})

    def sees(self, folder, torch):
        """The project's program and the library's code, the headers of that LibTorch alone."""
        for source in ("program.cpp", "ops/retrieve.cpp"):
            words = self.flags(folder, source)[0]
            found = {after for word, after in zip(words, words[1:]) if word == "-isystem" and "cuda" not in after}
            self.assertEqual(found, {f"{torch}/include", f"{torch}/include/torch/csrc/api/include"})

    def test_named_wins_over_the_active_environment_and_python3(self):
        other = self.other_torch("other")
        self.python("python3", other)
        folder = self.project(self.add + PROGRAM)
        for variables in ({}, self.active_environment(other)):
            output = self.configure(folder, torch=self.torch / "share/cmake", variables=variables)
            self.assertIn(f"-- Hopfield: LibTorch {self.version} at {self.torch}, named by CMAKE_PREFIX_PATH --", output)
            self.sees(folder, self.torch)

    def test_environment_beside_the_tree(self):
        self.interpreter(self.tree / ".venv/bin/python", self.torch)
        other = self.other_torch("other")
        self.python("python3", other)
        folder = self.project(self.add + PROGRAM)
        output = self.configure(folder)
        self.assertIn(f"LibTorch {self.version} at {self.torch}, found in {self.tree}/.venv", output)
        output = self.configure(folder, variables=self.active_environment(other))
        self.assertIn(f"LibTorch {self.version} at {other}, found in the active environment (VIRTUAL_ENV)", output)

    def test_package_of_torch_called_before_and_after(self):
        other = self.other_torch("other")
        for text in (TORCH.replace("\n", f"\n{self.add}{PROGRAM}", 1), self.add + PROGRAM + TORCH):
            folder = self.project(text)
            self.configure(folder, torch=other)
            self.sees(folder, other)

    def test_added_by_a_sibling_and_not_built_unless_needed(self):
        add = self.add.replace("hopfield)", "hopfield EXCLUDE_FROM_ALL)")
        folder = self.project({"": "add_subdirectory(third_party)\nadd_subdirectory(mine)\n", "third_party": add,
                               "mine": program("mine", "../")})
        self.configure(folder, torch=self.torch)
        self.sees(folder, self.torch)

    def test_fetch_content(self):
        folder = self.project(f'include(FetchContent)\nFetchContent_Declare(hopfield SOURCE_DIR "{self.tree}")\n'
                              f"FetchContent_MakeAvailable(hopfield)\n{PROGRAM}")
        self.configure(folder, "-DCMAKE_BUILD_TYPE=Debug", torch=self.torch)
        self.assertFalse((folder / "build/pch.cpp").exists(), "a file of Hopfield's in the project's own build folder")

    def test_project_that_hides_its_symbols(self):
        folder = self.project("set(CMAKE_CXX_VISIBILITY_PRESET hidden)\nset(CMAKE_VISIBILITY_INLINES_HIDDEN ON)\n" +
                              self.add + PROGRAM)
        self.configure(folder, torch=self.torch)
        for source, hidden in (("program.cpp", True), ("ops/retrieve.cpp", False), ("src/version.cpp", False)):
            words = self.flags(folder, source)[0]
            self.assertEqual("-fvisibility=hidden" in words, hidden)
            self.assertEqual("-fvisibility-inlines-hidden" in words, hidden)

    def test_advice_without_libtorch(self):
        """scripts/bootstrap.sh is for those who build this tree itself."""
        folder = self.project(self.add + PROGRAM)
        output = self.configure(folder, fails=True)
        self.assertIn("Hopfield: LibTorch 2.11 was not found. Install it", output)
        self.assertNotIn("bootstrap", output)
        output = self.configure(self.tree, "-B", self.root / "build of the tree", fails=True)
        self.assertIn("Hopfield: LibTorch 2.11 was not found. Install it", output)
        self.assertIn("scripts/bootstrap.sh", output)

    def test_wrong_names_and_too_old_ones(self):
        self.python("python3", self.other_torch("other"))
        folder = self.project(self.add + PROGRAM)
        output = self.configure(folder, "-DTorch_DIR=/nowhere", fails=True)
        self.assertIn("Hopfield: Torch_DIR is /nowhere, where there is no TorchConfig.cmake", output)
        old = self.torch_of_version("2.9.1")
        output = self.configure(folder, torch=old, fails=True)
        self.assertIn(f"Hopfield: LibTorch 2.9.1 at {old}, named by CMAKE_PREFIX_PATH, is too old: 2.11 is needed", output)
        output = self.configure(folder, variables=self.active_environment(old))
        self.assertIn(f"{self.root}/other, found by python3", output)


class Cuda(Tree):
    """With nvcc in the PATH."""

    def needs_cuda(self):
        libraries = subprocess.run(["ldd", self.torch / "lib/libtorch_cuda.so"], text=True, capture_output=True)
        if not NVCC or libraries.returncode or "not found" in libraries.stdout:
            self.skipTest("needs nvcc and the complete LibTorch")

    def environment(self, variables):
        environment = super().environment(variables)
        if NVCC:
            environment["PATH"] += ":" + NVCC[:-len("/nvcc")]
        return environment

    def compiles_kernels_for(self, folder, *architectures):
        words = self.flags(folder, "cuda/pool_forward.cu")[0]
        self.assertEqual([word for word in words if "arch=" in word],
                         [f"--generate-code=arch={each}" for each in architectures])
        self.flags(folder, "ops/kernels_cuda.cpp")

    def test_kernels_by_default_and_package_of_torch_called_after(self):
        self.needs_cuda()
        folder = self.project({"": "add_subdirectory(third_party)\nadd_subdirectory(mine)\n" + PROGRAM + TORCH,
                               "third_party": self.add, "mine": program("mine", "../")})
        for variables in ({}, self.active_environment(self.other_torch("other"))):
            output = self.configure(folder, "-DTORCH_CUDA_ARCH_LIST=9.0", torch=self.torch, variables=variables)
            self.assertIn("-- Hopfield: CUDA kernels: TRUE", output)
            self.compiles_kernels_for(folder, "compute_80,code=[sm_80]", "compute_90a,code=[sm_90a]",
                                      "compute_90,code=[compute_90]")

    def test_kernels_on_request_in_a_project_with_cuda_that_called_torch_before(self):
        self.needs_cuda()
        folder = self.project(TORCH.replace("\n", f"\n{self.add}{PROGRAM}", 1), languages="CXX CUDA")
        self.configure(folder, "-DHOPFIELD_CUDA=ON", "-DTORCH_CUDA_ARCH_LIST=8.0", "-DCMAKE_CUDA_ARCHITECTURES=90",
                       "-DCMAKE_BUILD_TYPE=Debug", torch=self.torch)
        self.compiles_kernels_for(folder, "compute_90,code=[compute_90,sm_90]")

    def test_libtorch_for_the_cpu(self):
        stranger.write(self.tools / "nvcc", "#!/bin/sh\nexit 1\n").chmod(0o755)
        cpu = self.other_torch("cpu")
        (cpu / "lib").unlink()
        for library in ("libtorch_cpu.so", "libc10.so"):
            (cpu / "lib").mkdir(exist_ok=True)
            (cpu / "lib" / library).symlink_to(self.torch / "lib" / library)
        folder = self.project(self.add + PROGRAM)
        output = self.configure(folder, torch=cpu)
        self.assertIn("-- Hopfield: CUDA kernels: FALSE", output)
        output = self.configure(folder, "-DHOPFIELD_CUDA=ON", torch=cpu, fails=True)
        self.assertRegex(output, "HOPFIELD_CUDA=ON needs nvcc .*Install the CUDA Toolkit and the complete LibTorch, or pass")


if __name__ == "__main__":
    stranger.main()
