"""Runs the tests of GoogleTest programs in many processes at once.

After an illegal access all later calls of its process fail. So each suite has a process of its own, large suites several,
and what fails behind the first failure of a process is run once more alone and judged by that.
"""

import collections
import dataclasses
import math
import re
import time

import running

MOST_SECONDS = 100  # of a process
MOST_SECONDS_ALONE = 60
MOST_ALONE = 64     # tests that are run once more
EVENT = re.compile(r"^\[ *(RUN|OK|FAILED|SKIPPED) *\] ([^\s,]+)(?:, where .*?)?(?: \((\d+) ms\))?$")


@dataclasses.dataclass
class Group:
    """Tests of a program that make a part of the check: those with one of `only` in their name and without
    `leave_out`."""
    name: str
    program: str
    only: tuple = ("",)
    leave_out: str | None = None
    environment: dict = dataclasses.field(default_factory=dict)

    def has(self, test):
        return any(word in test for word in self.only) and not (self.leave_out and self.leave_out in test)


@dataclasses.dataclass
class Outcome:
    result: str = "not run"  # OK, FAILED, SKIPPED, crashed, not run
    seconds: float = 0
    text: str = ""           # what it printed
    is_first: bool = False   # the first of its process that did not pass
    passes_alone: bool = False


def tests_in(listing):
    """The names in the output of --gtest_list_tests."""
    names, suite = [], ""
    for line in listing.splitlines():
        word = line.split("#")[0].rstrip()
        if word.startswith("  ") and suite:
            names.append(suite + word.strip())
        elif re.fullmatch(r"[\w/]+\.", word):
            suite = word
    return [name for name in names if ".DISABLED_" not in name and not name.startswith("DISABLED_")]


def outcomes_in(output, tests, ended_well):
    """What became of the tests of a process, by its output."""
    outcomes = {test: Outcome() for test in tests}
    current, lines, first = None, [], True
    for line in output.splitlines():
        event = EVENT.match(line)
        if event and event[1] == "RUN":
            current, lines = event[2], []
        elif event and event[2] == current and event[3]:
            if current in outcomes:
                failed = event[1] == "FAILED"
                outcomes[current] = Outcome(event[1], int(event[3]) / 1e3, "\n".join(lines), failed and first)
                first = first and not failed
            current = None
        elif current:
            lines.append(line)
    if current in outcomes and not ended_well:
        outcomes[current] = Outcome("crashed", 0, "\n".join(lines), first)
    return outcomes


def shards(tests, processes, apart):
    """Divides tests into lists for a process each: suites stay apart, and none has many more than its share."""
    share = 1 if apart else max(2, math.ceil(len(tests) / (2 * processes)))
    suites = collections.defaultdict(list)
    for test in tests:
        suites[test.split(".")[0]].append(test)
    lists = [suite[i:i + share] for suite in suites.values() for i in range(0, len(suite), share)]
    # Tests of large tensors take longest, and are begun first.
    return sorted(lists, key=lambda one: ("Large" not in one[0], -len(one)))


def job_for(programs, group, tests, seconds):
    command = [programs.path(group.program), f"--gtest_filter={':'.join(tests)}"]
    environment = {**programs.environment, "OMP_NUM_THREADS": "1", "GTEST_COLOR": "no", **group.environment}
    return running.Job(f"{group.name}: {tests[0]}{' ..' if len(tests) > 1 else ''}", command, seconds, environment)


def run(check, programs, groups, apart=False, seconds=MOST_SECONDS):
    """Runs groups of tests, a part of the check each. With `apart` each test has a process of its own. No process takes
    longer than so many seconds."""
    begin, workers = time.monotonic(), running.workers()
    tests, lists = {}, []
    for group in groups:
        why = check.why_not() or programs.why_not(group.program)
        listed = "" if why else check.run(running.Job(group.name, [programs.path(group.program), "--gtest_list_tests"], 60,
                                                      programs.environment))
        if why or listed.reason():
            check.not_run(group.name, why or f"its tests could not be listed: {listed.reason()}")
            continue
        tests[group.name] = [test for test in tests_in(listed.output) if group.has(test)]
        lists += [(group, one) for one in shards(tests[group.name], workers, apart)]
    lists.sort(key=lambda one: "Large" not in one[1][0])
    outcomes = {name: {} for name in tests}
    ended_badly = collections.defaultdict(list)
    busy = collections.Counter()
    ends = check.run_all([job_for(programs, group, one, seconds) for group, one in lists], workers)
    for (group, one), ended in zip(lists, ends):
        found = outcomes_in(ended.output, one, ended.code == 0)
        for outcome in found.values():
            if outcome.result == "crashed":
                outcome.text = f"{ended.reason()}\n{outcome.text}"
        if ended.code is not None and ended.reason() and not any(outcome.is_first for outcome in found.values()):
            ended_badly[group.name].append(f"{one[0]} and {len(one) - 1} more: {ended.reason()}, in none of the tests")
        outcomes[group.name].update(found)
        busy[group.name] += ended.seconds
    run_alone(check, programs, [group for group in groups if group.name in tests], outcomes, workers)
    for group in groups:
        if group.name in tests:
            conclude(check, group, outcomes[group.name], ended_badly[group.name], time.monotonic() - begin, busy[group.name])


def run_alone(check, programs, groups, outcomes, workers):
    """Runs tests once more, each alone: those that may have failed only because of another, and the others to see whether
    they fail alone, too."""
    again, large = [], []
    for group in groups:
        for test, outcome in outcomes[group.name].items():
            if outcome.result == "SKIPPED" and "of GPU memory" in outcome.text:
                large.append((group, test))  # others had taken it
            elif outcome.result in ("FAILED", "crashed", "not run"):
                again.append((group, test))
    again = again[:MOST_ALONE]
    for these, at_once in ((again, workers), (large, 1)):
        ends = check.run_all([job_for(programs, group, [test], MOST_SECONDS_ALONE) for group, test in these], at_once)
        for (group, test), ended in zip(these, ends):
            found = outcomes_in(ended.output, [test], ended.code == 0)[test]
            before = outcomes[group.name][test]
            if found.result == "not run":
                continue
            if before.is_first:
                before.passes_alone = found.result == "OK"
                continue
            if found.result == "crashed":
                found.text = f"{ended.reason()}\n{found.text}"
            outcomes[group.name][test] = found


def conclude(check, group, outcomes, ended_badly, seconds, busy):
    """Records what became of a group of tests."""
    count = collections.Counter(outcome.result for outcome in outcomes.values())
    bad = {test: outcome for test, outcome in outcomes.items() if outcome.result in ("FAILED", "crashed")}
    left = [test for test, outcome in outcomes.items() if outcome.result == "not run"]
    skipped = {test: last_line(outcome.text) for test, outcome in outcomes.items() if outcome.result == "SKIPPED"}
    words = [f"{count['OK']} tests passed"]
    words += [f"{len(bad)} failed"] if bad else []
    words += [f"{len(skipped)} skipped"] if skipped else []
    words += [f"no time for {len(left)}"] if left else []
    words.append(f"{busy:.0f} s of processes")
    result = "passed"
    if bad or ended_badly:
        result = "FAILED"
        names = [f"{test} (passes alone)" if outcome.passes_alone else test for test, outcome in bad.items()]
        words += ["failed: " + ", ".join(names)] if names else []
        words += ended_badly
    elif not outcomes:
        result, words = "FAILED", ["no test was run"]
    elif any("there is no CUDA device" in text for text in skipped.values()):
        result = "FAILED"
        words.append("it found no CUDA device")
    elif left:
        result = running.INTERRUPTED if check.interrupted else running.NO_TIME
        result = "not run" if result == running.INTERRUPTED else result
    check.note(group.name, result, seconds, ", ".join(words),
               failed={test: outcome.text[-4000:] for test, outcome in bad.items()}, skipped=skipped, no_time_for=left,
               slowest={test: outcome.seconds for test, outcome in
                        sorted(outcomes.items(), key=lambda one: -one[1].seconds)[:5]})
    for test, outcome in list(bad.items())[:10]:
        print(f"{test} {outcome.result}:\n" + "\n".join(outcome.text.splitlines()[-15:]), flush=True)


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
