"""The installed package in somebody else's project: configured, built and run. See stranger.py."""

import pathlib
import shutil
import tempfile

import stranger
from stranger import program

PACKAGE = "find_package(Hopfield 0.1 CONFIG REQUIRED)\n"


class Package(stranger.Case):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="hopfield prefix ")
        cls.addClassCleanup(folder.cleanup)
        cls.prefix = pathlib.Path(folder.name)
        stranger.install(cls.prefix)

    def prefix_path(self, *others):
        return "-DCMAKE_PREFIX_PATH=" + ";".join(str(path) for path in (self.prefix, *others))

    def use(self, torch, *arguments, variables={}):
        """Builds and runs a program with one find_package; the configure output."""
        folder = self.project(PACKAGE + program("program"))
        output = self.configure(folder, *arguments, variables=variables)
        self.build(folder, variables)
        self.run_program(folder / "build/program", torch)
        return output

    def test_path_of_torch_utils_where_python3_has_no_torch(self):
        output = self.use(self.torch, self.prefix_path(self.torch / "share/cmake"))
        self.assertIn(f"LibTorch {self.version} at {self.torch}, named by CMAKE_PREFIX_PATH", output)

    def test_named_wins_over_the_torch_of_python3(self):
        self.python("python3", self.other_torch("other"))
        self.use(self.torch, self.prefix_path(self.torch / "share/cmake"))

    def test_named_wins_over_the_active_environment(self):
        active = self.active_environment(self.other_torch("other"))
        self.python("python3", self.other_torch("third"))
        output = self.use(self.torch, self.prefix_path(self.torch / "share/cmake"), variables=active)
        self.assertIn("named by CMAKE_PREFIX_PATH", output)

    def test_active_environment_wins_over_python3(self):
        self.python("python3", self.other_torch("other"))
        output = self.use(self.torch, self.prefix_path(), variables=self.active_environment(self.torch))
        self.assertIn("found in the active environment (VIRTUAL_ENV)", output)

    def test_siblings_a_parent_and_twice_in_one_directory(self):
        children = {dir: PACKAGE + program(dir, "../") + f'message(STATUS "{dir} has ${{HOPFIELD_TORCH_VERSION}}")\n'
                    for dir in ("first", "second")}
        for parent in ("", PACKAGE * 2 + program("parent")):
            with self.subTest(parent=parent):
                folder = self.project({"": parent + "add_subdirectory(first)\nadd_subdirectory(second)\n", **children})
                output = self.configure(folder, self.prefix_path(self.torch))
                self.assertIn(f"first has {self.version}", output)
                self.assertIn(f"second has {self.version}", output)
                self.build(folder)
                for built in ("first/first", "second/second") + (("parent",) if parent else ()):
                    self.run_program(folder / "build" / built, self.torch)

    def test_package_of_torch_called_before_after_and_in_a_sibling(self):
        other = self.other_torch("other")
        torch = "find_package(Torch REQUIRED)\n"
        folder = self.project({
            "": "add_subdirectory(before)\nadd_subdirectory(after)\nadd_subdirectory(without)\n",
            "before": torch + PACKAGE + program("before", "../", "torch"),
            "after": PACKAGE + torch + program("after", "../", "torch"),
            "without": PACKAGE + program("without", "../")})
        output = self.configure(folder, self.prefix_path(other))
        self.assertIn(f"LibTorch {self.version} at {other}, the target torch of this project", output)
        self.build(folder)
        for dir in ("before", "after", "without"):
            self.run_program(folder / "build" / dir / dir, other)

    def test_moved_prefix(self):
        self.prefix = shutil.copytree(self.prefix, self.root / "moved prefix", symlinks=True)
        self.use(self.torch, self.prefix_path(), f"-DTorch_DIR={self.torch}/share/cmake/Torch")

    def test_another_minor_version_of_hopfield_is_refused(self):
        folder = self.project(PACKAGE.replace("0.1", "0.2"), languages="NONE")
        output = self.configure(folder, self.prefix_path(self.torch), fails=True)
        self.assertRegex(output, 'compatible with requested version "0.2"')


if __name__ == "__main__":
    stranger.main()
