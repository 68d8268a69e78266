"""Runs small tests of the kernels under the tools of compute-sanitizer. Each tool has to accept a correct program and to
find a fault that was planted for it first (tests/kernels/cuda/device_faults.cu); otherwise its part counts as not run."""

import dataclasses
import fnmatch
import re
import time

import google_tests
import machine
import running


@dataclasses.dataclass(frozen=True)
class Tool:
    name: str
    fault: str
    words: str  # by which it reports the fault


TOOLS = (
    Tool("memcheck", "out_of_bounds", r"Invalid __global__ write"),
    Tool("racecheck", "missing_barrier", r"Race reported|Potential .* hazard"),
    Tool("synccheck", "divergent_barrier", r"Barrier error|Divergent thread"),
    Tool("initcheck", "uninitialized", r"Uninitialized __global__ memory read"),
)
# Small cases of each kernel in float32 and bfloat16. Under a tool they take a hundred times longer.
TESTS = ("*CudaPool.RaggedBagsOfUglySizes/[01]", "*CudaPool.ClustersOf*/[01]", "*CudaPoolBackward.GradientsWithDropout/[01]",
         "*CudaRetrieve.KeepsPatternsBesideMasks/[02]", "*CudaRetrieveBackward.OutputAloneHasAGradient/[02]",
         "CudaRetrieveWarpgroup.OneAssociation", "*CudaRetrievePerHead.HeadsStopOneByOne/[02]",
         "*CudaPool.ExcludedInstances*/[01]", "*CudaPool.MoreRows*/[01]")
MOST_SECONDS = 150  # of a process
SHARE = 0.5         # of the time that is left


def small_tests(tests):
    """Those that TESTS names, in its order."""
    return [test for pattern in TESTS for test in tests if fnmatch.fnmatchcase(test, pattern)]


def run(check, programs):
    sanitizer = machine.tool("compute-sanitizer")
    why = check.why_not() or programs.why_not("device_faults") or programs.why_not("cuda_test")
    if not why and sanitizer is None:
        why = "compute-sanitizer was not found"
    tests = []
    if not why:
        listing = check.run(running.Job("list", [programs.path("cuda_test"), "--gtest_list_tests"], 60, programs.environment))
        tests = small_tests(google_tests.tests_in(listing.output))
        why = "" if tests else "no test has one of the names " + ", ".join(TESTS)
    if why:
        for tool in TOOLS:
            check.not_run(tool.name, why)
        return
    begin, workers = time.monotonic(), running.workers()
    end = begin + SHARE * check.left()

    def under(tool, program, argument):
        command = [sanitizer, "--tool", tool.name, "--error-exitcode", "9", programs.path(program), argument]
        return running.Job(f"{tool.name}: {argument}", command, MOST_SECONDS, programs.environment, end)

    trials = [under(tool, "device_faults", fault) for tool in TOOLS for fault in ("none", tool.fault)]
    ends = check.run_all(trials, workers)
    jobs, seconds_of_trials = [], time.monotonic() - begin
    for i, tool in enumerate(TOOLS):
        why = why_not(tool, *ends[2 * i:2 * i + 2])
        if why:
            check.not_run(tool.name, why, seconds_of_trials)
        else:
            jobs += [(tool, under(tool, "cuda_test", f"--gtest_filter={test}")) for test in tests]
    # Each test under all tools before the next, so that every tool has something to say when time runs out.
    jobs.sort(key=lambda one: tests.index(test_of(one[1])))
    ends = check.run_all([job for _, job in jobs], workers)
    for tool in TOOLS:
        own = [(job, ended) for (of, job), ended in zip(jobs, ends) if of is tool]
        if own:
            conclude(check, tool, own, time.monotonic() - begin)


def test_of(job):
    return job.command[-1].removeprefix("--gtest_filter=")


def why_not(tool, correct, faulty):
    """Why a tool is no judge here; empty if it is one."""
    for ended in (correct, faulty):
        if ended.code is None or ended.why:
            return ended.why
    if correct.code != 0:
        said = re.search(r"^.*(error|not supported|unable|fail).*$", correct.output, re.IGNORECASE | re.MULTILINE)
        return f"the tool does not run a correct program here: {said[0].strip('= ') if said else correct.reason()}"
    # The exit code is not always 9: it depends on whether the program itself noticed the fault.
    if faulty.code == 0 or not re.search(tool.words, faulty.output):
        return f"the tool does not find the planted fault {tool.fault}"
    return ""


def conclude(check, tool, ended_jobs, seconds):
    passed, failed, left = 0, {}, []
    for job, ended in ended_jobs:
        test, reason = test_of(job), ended.reason()
        if not reason and "SUMMARY: " not in ended.output:
            reason = "the tool gave no summary"
        if not reason and "[  PASSED  ] 1 test" not in ended.output:
            reason = "the test was not run"
        if ended.code is None:
            left.append(test)
        elif reason:
            failed[test] = f"{reason}\n{ended.output[-4000:]}"
        else:
            passed += 1
    words = [f"finds the planted fault {tool.fault}", f"{passed} tests passed"]
    words += ["failed: " + ", ".join(failed)] if failed else []
    words += [f"no time for {', '.join(left)}"] if left else []
    result = "FAILED" if failed else "not run" if left and check.interrupted else running.NO_TIME if left else "passed"
    check.note(tool.name, result, seconds, ", ".join(words), failed=failed, no_time_for=left)
    for test, text in list(failed.items())[:3]:
        print(f"{tool.name}, {test}:\n" + "\n".join(text.splitlines()[-15:]), flush=True)
