"""Writes a stage's results to a JSON file and to a Markdown table."""

import datetime
import json

# What the table has of the counters: heading, section, metric.
COUNTERS = (
    ("duration", "GPU Speed Of Light Throughput", "Duration"),
    ("compute", "GPU Speed Of Light Throughput", "Compute (SM) Throughput"),
    ("memory", "GPU Speed Of Light Throughput", "Memory Throughput"),
    ("DRAM", "GPU Speed Of Light Throughput", "DRAM Throughput"),
    ("L1 hits", "Memory Workload Analysis", "L1/TEX Hit Rate"),
    ("L2 hits", "Memory Workload Analysis", "L2 Hit Rate"),
    ("cycles per issue", "Warp State Statistics", "Warp Cycles Per Issued Instruction"),
)


def write(check):
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    content = {"stage": check.stage, "device": check.device.name, "driver": check.device.driver,
               "compute_capability": check.device.capability, "date": date, "commit": check.commit or None,
               "seconds": round(check.passed_seconds()), "parts": check.parts,
               "benchmarks": {name: one["results"] for name, one in check.benchmarks.items()}}
    (check.out / f"{check.stage}.json").write_text(json.dumps(content, indent=2) + "\n")
    (check.out / f"{check.stage}.md").write_text(table(check) + "\n")


def table(check):
    """The table that kernels/README.md takes over."""
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    lines = [f"{check.device.name}, driver {check.device.driver}, {date}" + (f", commit {check.commit}" if check.commit else "")
             + f", stage {check.stage} of the check", "", "| part | result | seconds | |", "|---|---|---|---|"]
    for part in check.parts:
        lines.append(f"| {part['name']} | {part['result']} | {part['seconds']} | {part['remark'].replace('|', '/')} |")
    left = [f"{part['name']}: {', '.join(part.get('no_time_for') or ['all of it'])}" for part in check.parts
            if part.get("no_time_for") or part["result"] == "no time left"]
    if left:
        lines += ["", "There was no time for:", "", *(f"* {one}" for one in left)]
    for name, one in check.benchmarks.items():
        lines += ["", f"{name[0].upper()}{name[1:]}:", "", one["table"]]
    for part in check.parts:
        if part.get("counters"):
            lines += ["", "| kernel | " + " | ".join(heading for heading, _, _ in COUNTERS) + " |",
                      "|---" * (1 + len(COUNTERS)) + "|"]
            for kernel, sections in part["counters"].items():
                cells = (sections.get(section, {}).get(metric, "") for _, section, metric in COUNTERS)
                lines.append(f"| {kernel} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
