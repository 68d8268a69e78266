"""Rehearses scripts/gpu_check.sh without a GPU: gpu_check_test.py SOURCE_DIR KERNEL_TESTS [CASE ...]

The GPU's tools and the programs are stand-ins (gpu_stand_ins.py). KERNEL_TESTS is the program with the tests of the kernels,
built for any device, and the variable HOPFIELD_BENCHMARK may name hopfield_bench: they know the names that the check uses.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import gpu_stand_ins

SOURCE, KERNEL_TESTS = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
sys.path.insert(0, str(SOURCE / "scripts/gpu_check"))

FIRST_PARTS = ["cuda_test", "warpgroup kernel", "ops_test", "ops_test, switched on", "decisive cases", "warpgroup cases",
               "counters"]


class Rehearsal(unittest.TestCase):
    """A tree of its own with the script, and a path where the stand-ins come first."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="gpu check ")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.tree = self.folder / "tree"
        shutil.copytree(SOURCE / "scripts/gpu_check", self.tree / "scripts/gpu_check",
                        ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(SOURCE / "scripts/gpu_check.sh", self.tree / "scripts")
        for name in ("kernels/a.cu", "src/b.cpp", "tests/c.cpp", "CMakeLists.txt"):
            (self.tree / name).parent.mkdir(exist_ok=True)
            (self.tree / name).write_text(name)
        self.tools = self.folder / "tools"
        gpu_stand_ins.install(self.tools, gpu_stand_ins.TOOLS)
        torch = self.folder / "torch"
        (torch / "lib").mkdir(parents=True)
        (torch / "share/cmake/Torch").mkdir(parents=True)
        (torch / "version.py").write_text("__version__ = '2.11.0+cu130'\n")
        self.environment = {"PATH": f"{self.tools}:/usr/bin:/bin:{pathlib.Path(sys.executable).parent}", "CXX": "c++",
                            "CUDA_HOME": str(self.folder / "cuda"), "PYTHONDONTWRITEBYTECODE": "1",
                            "CMAKE_ARGS": f"'-DTorch_DIR={torch}/share/cmake/Torch'"}

    def command(self, *arguments):
        return [str(self.tree / "scripts/gpu_check.sh"), *arguments]

    def check(self, *arguments, expect=0, **settings):
        """Runs the script and returns all that it said."""
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=120, cwd=self.folder,
                              env={**self.environment, "STAND_IN": json.dumps(settings)})
        self.said = done.stdout + done.stderr
        self.assertEqual(done.returncode, expect, self.said)
        return self.said

    def build_here(self):
        self.check("--build-here")

    def results(self, stage="first"):
        self.report = json.loads((self.tree / f"build/gpu_check/{stage}.json").read_text())
        return {part["name"]: part for part in self.report["parts"]}

    def result_of(self, part, stage="first"):
        return self.results(stage)[part]["result"]


class BuildHere(Rehearsal):
    def test_programs_and_libraries_are_brought_along(self):
        said = self.check("--build-here")
        carried = self.tree / "build/gpu_carry"
        self.assertEqual(sorted(file.name for file in (carried / "bin").iterdir()), sorted(gpu_stand_ins.PROGRAMS))
        self.assertEqual([file.name for file in (carried / "lib").iterdir()], ["libhopfield.so.0.1"])
        self.assertEqual([file.name for file in (carried / "packages").iterdir()], ["libgtest-dev.deb"])
        self.assertIn("80-real;90a-real", (self.tree / "build/gpu/configured").read_text())
        self.assertIn("Bring this folder along", said)

    def test_without_a_network_the_packages_are_missing_alone(self):
        self.assertIn("could not be downloaded", self.check("--build-here", **{"no network": True}))

    def test_a_failed_build_is_said(self):
        self.assertIn("build: expected cmake to succeed, it ended with 1", self.check(
            "--build-here", expect=2, **{"not built": ["ops_test"]}))
        self.assertFalse((self.tree / "build/gpu_carry").exists())

    def test_changed_sources_are_noticed(self):
        self.assertIn("some were changed", self.check("--build-here", expect=2, **{"changes the sources": True}))

    def test_too_large_programs_are_refused(self):
        self.assertIn("at most 60 MiB", self.check("--build-here", expect=2, **{"bytes of the library": 61 << 20}))

    def test_the_toolkit_is_needed(self):
        (self.tools / "nvcc").unlink()
        self.assertIn("expected nvcc in the path", self.check("--build-here", expect=2))


class Begin(Rehearsal):
    def test_without_a_gpu(self):
        self.assertIn("expected a GPU", self.check(expect=2, **{"exit of nvidia-smi": 9}))
        (self.tools / "nvidia-smi").unlink()
        self.assertIn("--build-here", self.check(expect=2))

    def test_without_torch(self):
        self.environment["CMAKE_ARGS"] = "-DTorch_DIR=/nowhere/share/cmake/Torch"
        self.assertIn("expected python3 to have torch", self.check(expect=2))

    def test_wrong_arguments(self):
        for arguments, words in ((["--third"], "--third"), (["--seconds", "3"], "got 3"), (["--seconds", "x"], "'x'"),
                                 (["a", "b"], "expected"), (["--build-here", "--second"], "no other argument")):
            self.assertIn(words, self.check(*arguments, expect=2))
            self.assertNotIn("Traceback", self.said)

    def test_a_folder_that_cannot_be_written(self):
        self.build_here()
        self.assertIn("can be written", self.check("/proc/nothing", expect=2))

    def test_all_that_a_build_lacks_is_said_at_once(self):
        (self.tools / "nvcc").unlink()
        said = self.check(expect=2, **{"no packages": True})
        self.assertIn("expected nvcc", said)
        self.assertIn("expected the Debian packages", said)


class FirstStage(Rehearsal):
    def test_all_parts_pass_with_carried_programs(self):
        self.build_here()
        said = self.check()
        parts = self.results()
        self.assertEqual(list(parts), FIRST_PARTS, said)
        self.assertEqual({part["result"] for part in parts.values()}, {"passed"})
        self.assertIn("all passed", said)
        self.assertEqual(self.report["commit"], "v0.1-3-gabc")
        # Disabled tests and those of other parts are left out.
        self.assertIn("8 tests passed", parts["cuda_test"]["remark"])
        self.assertIn("1 tests passed", parts["warpgroup kernel"]["remark"])

    def test_the_table_has_everything(self):
        self.build_here()
        self.check()
        table = (self.tree / "build/gpu_check/first.md").read_text()
        for words in ("NVIDIA H200, driver 580.159.04", "commit v0.1-3-gabc", "| cuda_test | passed |", "Decisive cases:",
                      "| retrieve/4/16/4096/4096/128/3/train/bfloat16 | measured |",
                      "| pool_pass | 1,234.5 us |  |  | 81.2 % |  | 3.4 % | 7.5 cycle |"):
            self.assertIn(words, table)

    def test_the_benchmark_is_called_as_it_should_be(self):
        self.build_here()
        self.check()
        self.results()
        decisive, switched = self.report["benchmarks"]["decisive cases"], self.report["benchmarks"]["warpgroup cases"]
        self.assertEqual((len(decisive["cases"]), len(switched["cases"])), (8, 4))
        self.assertEqual((decisive["switch"], switched["switch"]), ("", "1"))
        words = " ".join(decisive["arguments"])
        self.assertIn("--backend flash --backend cudnn", words)
        self.assertTrue(decisive["libraries"].startswith(f"{self.tree}/build/gpu_carry/lib:{self.folder}/torch/lib"))

    def test_one_illegal_access_fails_one_test(self):
        self.build_here()
        self.check(expect=1, tests={"Typed/0.Plain": "illegal access"})
        part = self.results()["cuda_test"]
        self.assertEqual(part["result"], "FAILED")
        self.assertEqual(list(part["failed"]), ["Typed/0.Plain"])
        self.assertIn("illegal memory access", part["failed"]["Typed/0.Plain"])
        self.assertIn("7 tests passed, 1 failed", part["remark"])
        self.assertEqual(self.result_of("ops_test"), "passed")

    def test_tests_that_fail_among_others_alone_are_told_apart(self):
        self.build_here()
        self.check(expect=1, tests={"Typed/0.Plain": "fail among others"})
        self.assertIn("failed: Typed/0.Plain (passes alone)", self.results()["cuda_test"]["remark"])

    def test_a_crash_fails_one_test(self):
        for fault, words in (("crash", "SIGSEGV"), ("exit", "it ended with 3")):
            self.build_here()
            self.check(expect=1, tests={"Typed/0.Plain": fault})
            part = self.results()["cuda_test"]
            self.assertEqual(list(part["failed"]), ["Typed/0.Plain"])
            self.assertIn(words, part["failed"]["Typed/0.Plain"])
            self.assertIn("7 tests passed, 1 failed", part["remark"])

    def test_a_program_that_ends_badly_after_its_tests_fails(self):
        self.build_here()
        self.check(expect=1, **{"exit of tests": 1})
        self.assertEqual(self.result_of("cuda_test"), "FAILED")

    def test_the_switch_is_tested_apart(self):
        self.build_here()
        self.check(expect=1, **{"tests switched on": {"Forward/RetrieveCuda.Streams/0": "fail"}})
        self.assertEqual(self.result_of("ops_test"), "passed")
        self.assertEqual(self.result_of("ops_test, switched on"), "FAILED")

    def test_skipped_tests_are_named(self):
        self.build_here()
        self.check(tests={"Typed/0.Masked": "skip needs compute capability 10"})
        self.assertEqual(self.results()["cuda_test"]["skipped"],
                         {"Typed/0.Masked": "needs compute capability 10"})

    def test_tests_that_find_no_device_fail(self):
        self.build_here()
        self.check(expect=1, tests={"Typed/0.Masked": "skip there is no CUDA device"})
        self.assertIn("it found no CUDA device", self.results()["cuda_test"]["remark"])

    def test_tests_that_cannot_be_listed_are_not_run(self):
        self.build_here()
        gpu_stand_ins.install(self.tree / "build/gpu_carry/bin", [])
        (self.tree / "build/gpu_carry/bin/ops_test").write_text(
            "#!/bin/sh\ntest -e listed && exit 5\n>listed\nexit 0\n")
        self.check(expect=1)
        self.assertEqual(self.result_of("ops_test"), "not run")
        self.assertEqual(self.result_of("decisive cases"), "passed")

    def test_other_gpus(self):
        self.build_here()
        self.check(device="NVIDIA A100-SXM4-80GB, 580.1, 8.0")
        self.assertEqual(list(self.results()), ["cuda_test", "ops_test", "decisive cases", "counters"])
        self.assertNotIn("retrieve_by_warpgroups", self.results()["counters"]["counters"])

    def test_cases_that_fail_and_cases_without_time(self):
        self.build_here()
        train = "retrieve/4/16/4096/4096/128/3/train/bfloat16"
        self.check(expect=1, cases={train: "failed"})
        self.assertIn(f"not measured: {train}", self.results()["decisive cases"]["remark"])
        self.check(expect=1, cases={train: "no time left"})
        self.assertEqual(self.result_of("decisive cases"), "no time left")
        table = (self.tree / "build/gpu_check/first.md").read_text()
        self.assertIn(f"* decisive cases: {train}", table)

    def test_a_benchmark_that_ends_in_the_middle(self):
        self.build_here()
        self.check(expect=1, **{"exit of benchmark": 1, "length of results": 20})
        part = self.results()["decisive cases"]
        self.assertEqual(part["result"], "FAILED")
        self.assertIn("it ended with 1, hopfield_bench: an illegal memory access", part["remark"])
        self.assertEqual(self.result_of("counters"), "passed")

    def test_counters_that_cannot_be_read(self):
        self.build_here()
        for fault, words in (("forbidden", "reserved for the administrator"), ("broken", "LibraryNotLoaded"),
                             (["pool_pass"], "5 kernels, none of pool_pass: ncu cannot read the counters here: No kernels")):
            self.check(expect=1, ncu=fault)
            self.assertEqual(self.result_of("counters"), "not run")
            self.assertIn(words, self.results()["counters"]["remark"])
        (self.tools / "ncu").unlink()
        self.check(expect=1)
        self.assertIn("ncu was not found", self.results()["counters"]["remark"])

    def test_what_there_is_no_time_for_is_named(self):
        self.build_here()
        self.check("--seconds", "13", expect=1, **{"seconds of a test": 3})
        parts = self.results()
        self.assertEqual(parts["cuda_test"]["result"], "no time left")
        self.assertTrue(parts["cuda_test"]["no_time_for"])
        self.assertEqual(parts["counters"]["result"], "no time left")
        self.assertIn("There was no time for:", (self.tree / "build/gpu_check/first.md").read_text())

    def test_a_test_that_hangs_is_stopped(self):
        self.build_here()
        begin = time.monotonic()
        self.check("--seconds", "12", expect=1, tests={"Typed/0.Plain": "hang"})
        self.assertLess(time.monotonic() - begin, 14)
        self.assertIn("stopped after", self.results()["cuda_test"]["failed"]["Typed/0.Plain"])

    def test_an_interrupted_check_leaves_its_report(self):
        self.build_here()
        process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   env={**self.environment, "STAND_IN": json.dumps({"tests": {"Typed/0.Plain": "hang"}})})
        time.sleep(3)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 130, said)
        parts = self.results()
        self.assertEqual(parts["counters"]["result"], "not run")
        self.assertEqual(parts["counters"]["remark"], "interrupted")
        running = [file.read_bytes() for file in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
        self.assertFalse([words for words in running if str(self.tree).encode() in words])


class Built(Rehearsal):
    """Where no programs were brought along that can be used."""

    def test_the_kernels_are_tested_while_the_rest_is_built(self):
        self.check(**{"seconds of a build": 1})
        self.assertEqual(list(self.results()), ["configure", "build cuda_test", *FIRST_PARTS[:2], "build the rest",
                                                *FIRST_PARTS[2:]])
        self.assertIn("-DCMAKE_CUDA_ARCHITECTURES=90a-real", (self.tree / "build/gpu/configured").read_text())

    def test_programs_of_other_sources_are_not_used(self):
        self.build_here()
        (self.tree / "kernels/a.cu").write_text("changed")
        self.assertIn("were made from other sources", self.check())
        (self.tree / "kernels/a.cu").write_text("kernels/a.cu")
        (self.tree / "kernels/README.md").write_text("no source")
        self.assertNotIn("other sources", self.check())

    def test_programs_that_do_not_run_here_are_not_used(self):
        self.build_here()
        (self.tree / "build/gpu_carry/bin/ops_test").write_text("#!/bin/sh\necho libc.so.6: version GLIBC_9 not found >&2\nexit 1\n")
        self.assertIn("ops_test of build/gpu_carry does not run here: libc.so.6: version GLIBC_9 not found", self.check())

    def test_programs_for_another_torch_or_gpu_are_not_used(self):
        self.build_here()
        self.assertIn("no machine code for compute capability 12.0", self.check(device="NVIDIA B, 600.1, 12.0"))
        self.assertNotIn("ARCHITECTURES", (self.tree / "build/gpu/configured").read_text())
        (self.folder / "torch/version.py").write_text("__version__ = '2.12.0'\n")
        self.assertIn("made for PyTorch 2.11.0+cu130, this one is 2.12.0", self.check())

    def test_packages_that_were_brought_along_are_unpacked(self):
        self.build_here()
        (self.tree / "kernels/a.cu").write_text("changed")
        self.check(**{"no packages": True})
        self.assertIn("expected packages that can be unpacked", self.check(
            expect=2, **{"no packages": True, "broken packages": True}))

    def test_a_build_that_fails(self):
        self.check(expect=1, **{"not built": ["hopfield_bench"]})
        parts = self.results()
        self.assertEqual(parts["build the rest"]["result"], "FAILED")
        self.assertEqual(parts["ops_test"]["result"], "passed")
        self.assertEqual(parts["decisive cases"]["remark"], "build/gpu/bin/hopfield_bench was not built")
        self.check(expect=1, **{"exit of configure": 1})
        self.assertEqual(self.result_of("configure"), "FAILED")
        self.assertEqual(self.result_of("cuda_test"), "not run")

    def test_a_build_that_takes_too_long_leaves_time_for_the_rest(self):
        self.check("--seconds", "15", expect=1, **{"seconds of a build": 1000})
        self.assertIn("stopped after", self.results()["build cuda_test"]["remark"])


class SecondStage(Rehearsal):
    def second(self, **arguments):
        self.build_here()
        self.check("--second", **arguments)
        return self.results("second")

    def test_all_parts_pass(self):
        parts = self.second()
        self.assertEqual(list(parts), ["memcheck", "racecheck", "synccheck", "initcheck", "a thousand repeats", "all cases"])
        self.assertEqual({part["result"] for part in parts.values()}, {"passed"})
        self.assertEqual(parts["memcheck"]["remark"], "finds the planted fault out_of_bounds, 3 tests passed")
        self.assertIn("2 tests passed", parts["a thousand repeats"]["remark"])
        self.assertNotIn("--backend", self.report["benchmarks"]["all cases"]["arguments"])

    def test_a_tool_that_does_not_find_the_planted_fault_is_no_judge(self):
        parts = self.second(expect=1, tools={"racecheck": "blind", "synccheck": "refuses"})
        self.assertEqual(parts["racecheck"]["result"], "not run")
        self.assertIn("does not find the planted fault missing_barrier", parts["racecheck"]["remark"])
        self.assertIn("does not run a correct program here: Error: Device not supported", parts["synccheck"]["remark"])
        self.assertEqual(parts["memcheck"]["result"], "passed")

    def test_what_a_tool_finds_fails(self):
        parts = self.second(expect=1, tools={"memcheck": "finds", "initcheck": "silent"})
        self.assertEqual((parts["memcheck"]["result"], parts["initcheck"]["result"]), ("FAILED", "FAILED"))
        self.assertIn("Invalid __shared__ read", parts["memcheck"]["failed"]["Types/CudaPool.RaggedBagsOfUglySizes/1"])

    def test_without_the_sanitizer(self):
        (self.tools / "compute-sanitizer").unlink()
        parts = self.second(expect=1)
        self.assertEqual(parts["memcheck"]["remark"], "compute-sanitizer was not found")
        self.assertEqual(parts["all cases"]["result"], "passed")

    def test_tests_without_time_are_named(self):
        self.build_here()
        self.check("--second", "--seconds", "25", expect=1, **{"seconds of a test": 4})
        part = self.results("second")["initcheck"]
        self.assertEqual(part["result"], "no time left")
        self.assertTrue(part["no_time_for"])

    def test_with_programs_that_are_built_there(self):
        self.check("--second")
        self.assertEqual(list(self.results("second"))[:3], ["configure", "build cuda_test", "build the rest"])


class Names(unittest.TestCase):
    """The check's names are those of the tree."""

    def test_of_kernels(self):
        import counters
        kernels = "".join(file.read_text() for file in (SOURCE / "kernels/cuda").glob("*.cu"))
        for name, _ in counters.KERNELS:
            self.assertRegex(kernels, rf"HOPFIELD_KERNEL void[^{{;]*\b{name}\(")

    def test_of_tests(self):
        import fnmatch
        import google_tests
        import sanitizers
        listing = subprocess.run([KERNEL_TESTS, "--gtest_list_tests"], capture_output=True, text=True, check=True).stdout
        tests = google_tests.tests_in(listing)
        for pattern in sanitizers.TESTS:
            self.assertTrue(fnmatch.filter(tests, pattern), pattern)
        self.assertTrue([test for test in tests if "Warpgroup" in test])
        native = "".join(file.read_text() for file in (SOURCE / "tests/kernels/cuda/native").glob("*.cu"))
        self.assertEqual(len(re.findall(r"TEST_F\(Cuda, \w*SameBitsEveryTime\)", native)), 4)

    def test_of_planted_faults(self):
        import sanitizers
        faults = (SOURCE / "tests/kernels/cuda/device_faults.cu").read_text()
        for tool in sanitizers.TOOLS:
            self.assertIn(f'{{"{tool.fault}", Fault::', faults)

    def test_of_cases(self):
        import benchmark
        import counters
        program = os.environ.get("HOPFIELD_BENCHMARK")
        if not program:
            self.skipTest("hopfield_bench was not built")
        cases = [*benchmark.DECISIVE, *(case for _, case in counters.KERNELS)]
        listed = subprocess.run([program, "--list", *cases], capture_output=True, text=True, check=True).stdout.split()
        self.assertEqual(listed, cases)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
