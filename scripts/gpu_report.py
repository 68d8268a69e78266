#!/usr/bin/env python3
"""Writes the results of gpu_check.sh so far to gpu_check.json and gpu_check.md: gpu_report.py PARTS DEVICE COMMIT FOLDER

PARTS is a file with a line for each part: name, result, seconds and a remark, separated by tabs. DEVICE is the GPU's name,
driver and compute capability, separated by commas. If FOLDER has the benchmark's bench.json and bench.md, they are included.
"""
import datetime
import json
import pathlib
import sys


def read_benchmark(file):
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None  # the benchmark was not run, or it was stopped while it wrote the file


def main():
    parts_file, device, commit, folder = sys.argv[1:]
    out = pathlib.Path(folder)
    name, driver, capability = [*device.split(", "), "", ""][:3]
    keys = ("name", "result", "seconds", "remark")
    parts = [dict(zip(keys, line.split("\t"))) for line in pathlib.Path(parts_file).read_text(errors="replace").splitlines()]
    for part in parts:
        part["seconds"] = int(part["seconds"])
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    (out / "gpu_check.json").write_text(json.dumps({
        "device": name, "driver": driver, "compute_capability": capability, "date": date, "commit": commit or None,
        "parts": parts, "benchmark": read_benchmark(out / "bench.json")}, indent=2) + "\n")

    lines = [f"{name}, driver {driver}, {date[:10]}" + (f", commit {commit}" if commit else ""), "",
             "| part | result | seconds | |", "|---|---|---|---|"]
    for part in parts:
        remark = part["remark"].replace("|", "/")
        lines.append(f"| {part['name']} | {part['result']} | {part['seconds']} | {remark} |")
    table = out / "bench.md"
    if table.exists():
        lines += ["", table.read_text(errors="replace").rstrip()]
    (out / "gpu_check.md").write_text("\n".join(lines) + "\n")


main()
