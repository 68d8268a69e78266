"""Reads hardware counters of six kernels with Nsight Compute (ncu), one launch each."""

import csv
import io
import time

import machine
import running

SECTIONS = ("SpeedOfLight", "WarpStateStats", "MemoryWorkloadAnalysis")
# The kernel's name, and a case of the benchmark that launches it.
KERNELS = (
    ("pool_pass", "pooling/1/1000000/256/8/32/1/3/fwd/bfloat16"),
    ("pool_bags_on_chip", "pooling/128/2000/256/8/32/1/3/fwd/bfloat16"),
    ("retrieve_all_steps", "retrieve/32/8/512/512/64/3/fwd/bfloat16"),
    ("retrieve_by_warpgroups", "retrieve/4/16/4096/4096/128/3/fwd/bfloat16"),
    ("retrieve_steps_back", "retrieve/4/16/4096/4096/128/3/train/bfloat16"),
    ("retrieve_patterns_back", "retrieve/4/16/4096/4096/128/3/train/bfloat16"),
)
NAME = "counters"


def metrics_in(output):
    """The metrics in the CSV output of ncu, by section and name."""
    lines = output.splitlines()
    begins = [i for i, line in enumerate(lines) if line.startswith('"ID"')]
    if not begins:
        return {}
    metrics = {}
    for row in csv.DictReader(io.StringIO("\n".join(lines[begins[-1]:]))):
        name, value = row.get("Metric Name"), row.get("Metric Value")
        if name and value:
            metrics.setdefault(row.get("Section Name") or "", {})[name] = f"{value} {row.get('Metric Unit') or ''}".strip()
    return metrics


def run(check, programs, switched_on):
    begin, ncu = time.monotonic(), machine.tool("ncu")
    why = check.why_not() or programs.why_not("hopfield_bench") or ("" if ncu else "ncu was not found")
    if why:
        check.not_run(NAME, why)
        return
    found, reasons, left = {}, {}, []
    for kernel, case in KERNELS:
        warpgroups = kernel == "retrieve_by_warpgroups"
        if warpgroups and check.device.capability != "9.0":
            continue
        command = [ncu, "--csv", "--page", "details", "--clock-control", "none", "--launch-count", "1",
                   "--kernel-name", kernel, *(word for section in SECTIONS for word in ("--section", section)),
                   programs.path("hopfield_bench"), "--device", "cuda", "--once", case]
        ended = check.run(running.Job(f"{NAME}: {kernel}", command, 60,
                                      {**programs.environment, **(switched_on if warpgroups else {})}))
        metrics = metrics_in(ended.output)
        if metrics:
            found[kernel] = metrics
        elif ended.code is None:
            left.append(kernel)
        else:
            reasons[kernel] = why_without(ended)
            if not found and len(reasons) == 2:  # it will be no different with the others
                break
    seconds = time.monotonic() - begin
    words = [f"{len(found)} kernels"]
    words += [f"none of {kernel}: {reason}" for kernel, reason in reasons.items()]
    words += ["no time for " + ", ".join(left)] if left else []
    if reasons:
        result = "not run"
    elif left:
        result = "not run" if check.interrupted else running.NO_TIME
    else:
        result = "passed"
    check.note(NAME, result, seconds, ", ".join(words), counters=found, no_time_for=left)


def why_without(ended):
    """A sentence that says why ncu gave no metrics."""
    for line in ended.output.splitlines():
        if "ERR_NVGPUCTRPERM" in line:
            return "ncu may not read the counters here (ERR_NVGPUCTRPERM): they are reserved for the administrator"
        if line.startswith("==ERROR==") or "No kernels were profiled" in line:
            return f"ncu cannot read the counters here: {line.removeprefix('==ERROR==').removeprefix('==WARNING==').strip()}"
    return f"ncu gave no metrics: {ended.reason() or 'it ended well'}"
