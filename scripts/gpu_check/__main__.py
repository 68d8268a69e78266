"""Checks and times the kernels on a machine with a GPU, in two stages of eight minutes.

  scripts/gpu_check.sh --build-here      on a machine without a GPU: builds the programs for it into build/gpu_carry
  scripts/gpu_check.sh [FOLDER]          stage one: tests, decisive cases, hardware counters
  scripts/gpu_check.sh --second [FOLDER] stage two: compute-sanitizer, a thousand repeats, all cases of the benchmark

Bring build/gpu_carry along with the tree. Where it is missing, was made from other sources or does not run, the check
builds the programs itself and tests the kernels while the rest compiles, for which it needs nvcc, cmake, ninja and the
Debian packages that build/gpu_carry has, too. It always needs the complete PyTorch (in the python3 of the path, or
named by CMAKE_ARGS=-DTorch_DIR=..) and never a network.

A stage ends within --seconds N (480) and names the parts for which no time was left. FOLDER (build/gpu_check) gets
first.json and first.md, or second.json and second.md, and log.txt. The exit code is 0 if all parts passed, 1 if one
failed or was not run, and 2 if the check could not begin.
"""

import argparse
import pathlib
import sys

import benchmark
import build
import carry
import counters
import google_tests
import machine
import running
import sanitizers
from machine import Problem

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

# Retrieval goes by the warpgroup kernel where that serves the call.
SWITCHED_ON = {"HOPFIELD_CUDA_WARPGROUP": "1"}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Problem(f"{message}; expected --build-here, --second, --seconds N or a folder, see --help")


def arguments_of(words):
    parser = Parser(prog="gpu_check.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("--build-here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--second", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=480, help=argparse.SUPPRESS)
    parser.add_argument("folder", nargs="?", type=pathlib.Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if not 10 <= given.seconds <= 100_000:
        raise Problem(f"--seconds: expected a number from 10 to 100000, got {given.seconds}")
    if given.build_here and (given.second or given.folder):
        raise Problem("--build-here: expected no other argument; the programs go to build/gpu_carry")
    return given


def first_stage(check, programs):
    """The most telling parts first: what is wrong, then how fast it is, then why."""
    hopper = check.device.capability == "9.0"
    groups = [google_tests.Group("cuda_test", "cuda_test", leave_out="Warpgroup")]
    if hopper:  # apart, since this kernel is not used unless the switch is on
        groups += [google_tests.Group("warpgroup kernel", "cuda_test", only=("Warpgroup",), environment=SWITCHED_ON)]
    google_tests.run(check, programs, groups)
    groups = [google_tests.Group("ops_test", "ops_test")]
    if hopper:
        groups += [google_tests.Group("ops_test, switched on", "ops_test", only=("RetrieveCuda", "OnDevice"),
                                      environment=SWITCHED_ON)]
    programs.wait_for("ops_test")
    google_tests.run(check, programs, groups)
    programs.wait_for("hopfield_bench")
    benchmark.run(check, programs, "decisive cases", benchmark.DECISIVE, share=0.55, backends=("flash", "cudnn"))
    if hopper:
        benchmark.run(check, programs, "warpgroup cases", benchmark.OF_WARPGROUPS, share=0.4, backends=("flash", "cudnn"),
                      environment=SWITCHED_ON)
    counters.run(check, programs, SWITCHED_ON)


def second_stage(check, programs):
    programs.wait_for("device_faults")
    programs.wait_for("hopfield_bench")
    sanitizers.run(check, programs)
    google_tests.run(check, programs, [
        google_tests.Group("a thousand repeats", "cuda_test", only=("SameBitsEveryTime",),
                           environment={"HOPFIELD_REPEATS": "1000"})], apart=True, seconds=120)
    benchmark.run(check, programs, "all cases", (), share=1.0)


def check_device(given):
    device = machine.device()
    torch = machine.torch_of(ROOT)
    out = (given.folder or ROOT / "build/gpu_check").resolve()
    check = running.Check("second" if given.second else "first", device, out, given.seconds)
    reason = carry.reason_against(ROOT, device, torch)
    if reason is None:
        programs = carry.Carried(ROOT, torch)
        check.commit = programs.commit
        print(f"-- the programs of {carry.FOLDER} are used, made from {check.commit or 'these sources'}", flush=True)
    else:
        print(f"-- the programs are built here: {reason}", flush=True)
        programs = build.Built(ROOT, check, torch)
    try:
        (second_stage if given.second else first_stage)(check, programs)
    finally:
        programs.stop()
    return check.finish()


def main():
    try:
        given = arguments_of(sys.argv[1:])
        if given.build_here:
            return carry.build_here(ROOT)
        return check_device(given)
    except Problem as problem:
        for line in str(problem).splitlines():
            print(f"gpu_check.sh: {line}", file=sys.stderr)
        return 2


sys.exit(main())
