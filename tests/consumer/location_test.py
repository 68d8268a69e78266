"""Which LibTorch the installed package takes, what it says of it, and what it says without one. See stranger.py.

The projects have no language and build nothing: a case costs a tenth of a second.
"""

import pathlib
import shutil
import tempfile

import stranger

FIND = """
find_package(Hopfield 0.1 CONFIG ${MODE})
message(STATUS "found '${Hopfield_FOUND}' reason '${Hopfield_NOT_FOUND_MESSAGE}'")
if(Hopfield_FOUND)
  get_target_property(where Hopfield::torch_cpu IMPORTED_LOCATION)
  message(STATUS "takes '${where}' version '${HOPFIELD_TORCH_VERSION}'")
endif()
"""
CONFIG = "share/cmake/Torch"


class Location(stranger.Case):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.prefix = pathlib.Path(folder.name)
        stranger.install(cls.prefix)

    def setUp(self):
        super().setUp()
        self.named, self.other = self.other_torch("named"), self.other_torch("other")
        self.folder = self.project(FIND, languages="NONE")

    def find(self, *arguments, prefixes=(), variables={}, mode="", fails=False):
        """The configure output, with prefixes beside Hopfield's own in CMAKE_PREFIX_PATH."""
        path = ";".join(str(prefix) for prefix in (self.prefix, *prefixes))
        return self.configure(self.folder, f"-DCMAKE_PREFIX_PATH={path}", f"-DMODE={mode}", *arguments,
                              variables=variables, fails=fails)

    def takes(self, torch, why, *arguments, **others):
        output = self.find(*arguments, **others)
        self.assertIn(f"takes '{torch}/lib/libtorch_cpu.so' version '{self.version}'", output)
        self.assertIn(f"-- Hopfield: LibTorch {self.version} at {torch}, {why} --", output)

    def refuses(self, reason, *arguments, **others):
        """In all three modes: plain warns, REQUIRED is fatal, QUIET says nothing by itself."""
        for mode in ("", "REQUIRED", "QUIET"):
            output = self.find(*arguments, mode=mode, fails=mode == "REQUIRED", **others)
            self.assertRegex(output, reason)
            self.assertNotIn("bootstrap", output)
            self.assertEqual("CMake Warning" in output, mode == "", output)
            self.assertEqual("CMake Error" in output, mode == "REQUIRED", output)
            if mode != "REQUIRED":
                self.assertRegex(output, "found '0' reason '" + reason)
        self.assertEqual(output[:output.index("-- found")].strip(), "")

    def test_every_form_of_a_name(self):
        self.python("python3", self.other)
        forms = self.named, self.named / "share/cmake", self.named / CONFIG
        site_packages = self.root / "site-packages"
        site_packages.mkdir()
        (site_packages / "torch").symlink_to(self.named)
        for form in forms:
            with self.subTest(form=form):
                self.takes(self.named, "named by CMAKE_PREFIX_PATH", prefixes=[form])
                self.takes(self.named, "named by Torch_ROOT", f"-DTorch_ROOT={form}")
                for name in ("Torch_ROOT", "Torch_DIR", "CMAKE_PREFIX_PATH"):
                    self.takes(self.named, f"named by the environment variable {name}", variables={name: str(form)})
        self.takes(site_packages / "torch", "named by CMAKE_PREFIX_PATH", prefixes=[site_packages])
        self.takes(self.named, "named by the environment variable CMAKE_PREFIX_PATH",
                   variables={"CMAKE_PREFIX_PATH": f"/nowhere:{self.named}"})
        self.takes(self.named, "named by Hopfield_ROOT", f"-DHopfield_ROOT={self.named}")
        self.takes(self.named, "named by Torch_DIR", f"-DTorch_DIR={self.named / CONFIG}")
        self.takes(self.named, "named by Torch_DIR", f"-DTorch_DIR={self.named / CONFIG}/")

    def test_order_of_names(self):
        """That of find_package. Each row names one more place, before those of the rows above."""
        self.python("python3", self.other_torch("of python3"))
        variables = self.active_environment(self.other_torch("of the environment"))
        self.takes(self.root / "of the environment", "found in the active environment (VIRTUAL_ENV)", variables=variables)
        rows = ("environment CMAKE_PREFIX_PATH", "environment Torch_DIR", "CMAKE_PREFIX_PATH", "environment Torch_ROOT",
                "Torch_ROOT", "Torch_DIR")
        prefixes, arguments = [], []
        for row in rows:
            torch = self.other_torch("of " + row)
            name = row.split()[-1]
            if row.startswith("environment"):
                variables[name] = str(torch)
                why = f"named by the environment variable {name}"
            elif row == "CMAKE_PREFIX_PATH":
                prefixes, why = [torch], f"named by {name}"
            else:
                arguments, why = [*arguments, f"-D{name}={torch / CONFIG}"], f"named by {name}"
            with self.subTest(row=row):
                self.takes(torch, why, *arguments, prefixes=prefixes, variables=variables)

    def test_found_without_a_name(self):
        self.python("python3", self.other)
        self.takes(self.other, "found by python3")
        self.takes(self.other, "found by python3", variables={"VIRTUAL_ENV": "/nowhere"})
        self.takes(self.other, "found by python3", "-DTorch_DIR=Torch_DIR-NOTFOUND")  # left by a find_package(Torch)
        for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            self.takes(self.named, f"found in the active environment ({variable})",
                       variables=self.active_environment(self.named, variable))
        self.takes(self.named, "found in the active environment (CONDA_PREFIX)",  # libtorch without a Python package
                   variables={"CONDA_PREFIX": str(self.named)})
        self.python("python3", None)
        self.takes(self.named, "found in CMake's default folders", f"-DCMAKE_SYSTEM_PREFIX_PATH={self.named}")

    def test_environment_of_the_project_is_not_looked_into(self):
        self.interpreter(self.folder / ".venv/bin/python", self.other)
        self.refuses("LibTorch 2.11 was not found")

    def test_folder_named_torch_does_not_hide_the_package(self):
        """Python looks first where it is started; here that is the project, where a stranger may keep a folder torch."""
        (self.folder / "torch").mkdir()
        stranger.write(self.tools / "python3", f"#!/bin/sh\n[ -d torch ] || echo '{self.other}'\n")
        self.takes(self.other, "found by python3")

    def test_without_libtorch(self):
        advice = (r"LibTorch 2.11 was not found. Install it, for example with `pip install \"torch==2.11.\*\"`, "
                  "and name it: -DTorch_DIR=")
        self.refuses(advice)
        self.refuses(advice, variables=self.active_environment(None))
        self.refuses(advice, variables={"VIRTUAL_ENV": str(self.root / "gone")})

    def test_wrong_torch_dir_is_named(self):
        self.python("python3", self.other)
        nothing = self.root / "nothing"
        nothing.mkdir()
        for wrong in ("/nowhere", str(nothing)):
            self.refuses(f"Torch_DIR is {wrong}, where there is no TorchConfig.cmake", f"-DTorch_DIR={wrong}",
                         prefixes=[self.named], variables=self.active_environment(self.other))
            self.refuses(f"Torch_ROOT is {wrong}, where", f"-DTorch_ROOT={wrong}", prefixes=[self.named])
            for name in ("Torch_DIR", "Torch_ROOT"):
                self.refuses(f"the environment variable {name} is {wrong}, where", variables={name: wrong})
        for near in (self.named, self.named / "share/cmake", self.named / CONFIG / "TorchConfig.cmake"):
            self.refuses(f"Torch_DIR is {near}, which is not the folder of TorchConfig.cmake: "
                         f"pass -DTorch_DIR={self.named / CONFIG} ", f"-DTorch_DIR={near}")

    def test_wrong_version_is_named(self):
        for version in ("2.9.1", "2.12.0", "2.110.0"):
            wrong = self.torch_of_version(version)
            refusal = f"was built with LibTorch {self.version} and cannot be used with LibTorch {version} at {wrong}, "
            self.refuses(f"Hopfield [0-9.]+ {refusal}named by CMAKE_PREFIX_PATH", prefixes=[wrong])
            self.refuses(f"Hopfield [0-9.]+ {refusal}named by Torch_DIR", f"-DTorch_DIR={wrong / CONFIG}")
        self.refuses(f"Hopfield [0-9.]+ {refusal}found in the active environment", variables=self.active_environment(wrong))
        self.takes(self.named, "named by CMAKE_PREFIX_PATH", prefixes=[self.named],
                   variables=self.active_environment(wrong))

    def test_too_old_one_is_passed_over_where_nobody_named_it(self):
        old = self.torch_of_version("2.9.1")
        active = self.active_environment(old)
        where = f"LibTorch 2.9.1 at {old}, found in the active environment .VIRTUAL_ENV., is too old"
        self.refuses(rf"LibTorch 2.11 was not found .{where}.. Install it", variables=active)
        self.python("python3", self.other)
        self.takes(self.other, "found by python3", variables=active)

    def test_too_old_libtorch_is_named(self):
        old = self.torch_of_version("1.13.1")
        shutil.rmtree(old / "include")
        self.refuses(f"The LibTorch at {old}, named by CMAKE_PREFIX_PATH, is too old or not complete", prefixes=[old])

    def test_second_call_with_the_right_name(self):
        wrong = self.torch_of_version("2.9.1")
        folder = self.project(f'set(Torch_DIR "{wrong / CONFIG}")\nfind_package(Hopfield CONFIG QUIET)\n'
                              f'set(Torch_DIR "{self.named / CONFIG}")\n' + FIND, languages="NONE", name="second")
        output = self.configure(folder, f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DMODE=REQUIRED")
        self.assertIn(f"takes '{self.named}/lib", output)

    def test_quiet_and_found_says_nothing(self):
        output = self.find(mode="QUIET", prefixes=[self.named])
        self.assertRegex(output, "^-- found '1'")

    def test_project_that_asks_for_an_old_cmake(self):
        text = (self.folder / "CMakeLists.txt").read_text()
        (self.folder / "CMakeLists.txt").write_text(text.replace("VERSION 3.25", "VERSION 3.5...3.10", 1))
        self.takes(self.named, "named by CMAKE_PREFIX_PATH", prefixes=[self.named])


if __name__ == "__main__":
    stranger.main()
