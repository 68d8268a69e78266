"""Runs the parts of a check within its time, and keeps their results."""

import concurrent.futures
import contextlib
import dataclasses
import math
import os
import shlex
import signal
import subprocess
import threading
import time

import report
from machine import Problem

# For stopping what still runs and for the report.
RESERVED_SECONDS = 4
LEAST_SECONDS = 5
NO_TIME = "no time left"
INTERRUPTED = "interrupted"


@dataclasses.dataclass
class Job:
    """A command that takes no more than `seconds`, and runs no longer than `until`, by time.monotonic()."""
    name: str
    command: list
    seconds: float
    environment: dict = dataclasses.field(default_factory=dict)
    until: float = math.inf


@dataclasses.dataclass
class Ended:
    """How a job ended. `code` is None for one that was not begun, and `why` says why it did not end by itself."""
    output: str = ""
    code: int | None = None
    seconds: float = 0
    why: str = ""

    def reason(self):
        """Why it failed; empty if it has not."""
        if self.why:
            return self.why
        if self.code is not None and self.code < 0:
            return f"it was ended by {signal.Signals(-self.code).name}"
        return f"it ended with {self.code}" if self.code else ""


class Check:
    """A stage of the check: the time that is left, the running commands, the results."""

    def __init__(self, stage, device, out, seconds):
        self.stage, self.device, self.out, self.seconds = stage, device, out, seconds
        self.begin = time.monotonic()
        self.commit = ""
        self.parts, self.benchmarks, self.interrupted = [], {}, False
        self._children, self._lock = set(), threading.Lock()
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "log.txt").write_text("")
            # An earlier check's files must not be taken for this one's.
            for file in (out / f"{stage}.json", out / f"{stage}.md"):
                file.unlink(missing_ok=True)
        except OSError:
            raise Problem(f"expected a folder that can be written, got '{out}'")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        print(f"-- {device.name}, driver {device.driver}, compute capability {device.capability}", flush=True)

    def _interrupt(self, *_):
        self.interrupted = True
        for child in list(self._children):  # without the lock, which the interrupted code may hold
            end_group(child)

    def passed_seconds(self):
        return time.monotonic() - self.begin

    def left(self):
        return 0 if self.interrupted else self.seconds - self.passed_seconds() - RESERVED_SECONDS

    def why_not(self):
        """Why nothing more can be begun; empty if it can."""
        if self.interrupted:
            return INTERRUPTED
        return NO_TIME if self.left() < LEAST_SECONDS else ""

    def run(self, job):
        """Runs a job to its end, but no longer than it may take and than time is left."""
        begin = time.monotonic()
        why = self.why_not() or (NO_TIME if job.until - begin < LEAST_SECONDS else "")
        if why:
            return Ended(why=why)
        limit = min(job.seconds, job.until - begin, self.left())
        try:
            child = subprocess.Popen(job.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     env={**os.environ, **job.environment}, start_new_session=True)
        except OSError as error:
            return Ended(why=f"it could not be started: {error.strerror}")
        with self._lock:
            self._children.add(child)
        if self.interrupted:
            end_group(child)
        why = ""
        try:
            output, _ = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            why = f"stopped after {limit:.0f} s"
            end_group(child)
            output, _ = child.communicate()
        with self._lock:
            self._children.discard(child)
        ended = Ended(output.decode(errors="replace"), child.returncode, time.monotonic() - begin,
                      INTERRUPTED if self.interrupted else why)
        self.log(job, ended)
        return ended

    def run_all(self, jobs, workers):
        """Runs jobs, so many at once, and begins them in their order. Returns how they ended, in the same order."""
        with concurrent.futures.ThreadPoolExecutor(max(1, workers)) as pool:
            return list(pool.map(self.run, jobs))

    def log(self, job, ended):
        most = 100_000
        settings = [f"{name}={value}" for name, value in job.environment.items() if name.startswith("HOPFIELD")]
        words = shlex.join([*settings, *(str(word) for word in job.command)])
        if len(words) > 1000:
            words = words[:1000] + " .."
        output = ended.output if len(ended.output) <= most else f"..\n{ended.output[-most:]}"
        with self._lock, (self.out / "log.txt").open("a") as log:
            log.write(f"=== {job.name}, {ended.seconds:.1f} s, {ended.reason() or 'ended well'}: {words}\n{output}\n")

    def note(self, name, result, seconds, remark="", **more):
        """Records how a part ended: passed, FAILED, no time left, not run. Writes the report anew, so that a check that
        is cut short leaves the results it has."""
        remark = " ".join(remark.split())
        self.parts.append({"name": name, "result": result, "seconds": round(seconds), "remark": remark, **more})
        print(f"-- {name}: {result} ({seconds:.0f} s){': ' if remark else ''}{remark}", flush=True)
        self.write()

    def not_run(self, name, why, seconds=0):
        self.note(name, NO_TIME if why == NO_TIME else "not run", seconds, "" if why == NO_TIME else why)

    def write(self):
        with contextlib.suppress(OSError):
            report.write(self)

    def finish(self):
        """Prints the report. Returns the exit code."""
        try:
            report.write(self)
        except OSError as error:
            raise Problem(f"the report could not be written to {self.out}: {error.strerror}")
        print(f"\n{report.table(self)}\nin {self.out}: {self.stage}.json, {self.stage}.md, log.txt; "
              f"{self.passed_seconds():.0f} s", flush=True)
        if self.interrupted:
            return 130
        if any(part["result"] != "passed" for part in self.parts):
            return 1
        print("all passed")
        return 0


def end_group(child):
    """Ends a command and all that it has started, which is a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def workers():
    """Commands that can run at once, with a core left for what they have in common."""
    return max(2, len(os.sched_getaffinity(0)) - 1)
