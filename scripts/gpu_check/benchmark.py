"""Times cases of the benchmark against the kernels of LibTorch's attention."""

import json

import running

# Pooling of one large bag and of many bags, self-association of short and of long sequences.
DECISIVE = (
    "pooling/1/1000000/256/8/32/1/0/fwd/bfloat16",
    "pooling/1/1000000/256/8/32/1/3/fwd/bfloat16",
    "pooling/128/2000/256/8/32/1/0/fwd/bfloat16",
    "pooling/128/2000/256/8/32/1/3/fwd/bfloat16",
    "retrieve/32/8/512/512/64/3/fwd/bfloat16",
    "retrieve/32/8/512/512/64/3/train/bfloat16",
    "retrieve/4/16/4096/4096/128/3/fwd/bfloat16",
    "retrieve/4/16/4096/4096/128/3/train/bfloat16",
)
OF_WARPGROUPS = tuple(case for case in DECISIVE if case.startswith("retrieve/"))


def run(check, programs, name, cases, share, backends=(), environment=None):
    """Runs cases, or all that the program knows, in a share of the time that is left. Without `backends` against all
    kernels of LibTorch's attention. The program measures what is most important first and leaves out what it has no time
    for."""
    why = check.why_not() or programs.why_not("hopfield_bench")
    if why:
        check.not_run(name, why)
        return
    seconds = max(running.LEAST_SECONDS, share * check.left() - 10)
    results, table = check.out / "bench.json", check.out / "bench.md"
    for file in (results, table):
        file.unlink(missing_ok=True)
    command = [programs.path("hopfield_bench"), "--device", "cuda", "--seconds", f"{seconds:.0f}", "--json", str(results),
               "--table", str(table), *(word for backend in backends for word in ("--backend", backend)), *cases]
    ended = check.run(running.Job(name, command, seconds + 30, {**programs.environment, **(environment or {})}))
    found = {}
    try:
        found = json.loads(results.read_text())
        check.benchmarks[name] = {"results": found, "table": table.read_text(errors="replace").rstrip()}
    except (OSError, ValueError):
        pass  # it was not run, or it was stopped while it wrote the file
    for file in (results, table):
        file.unlink(missing_ok=True)
    by_status = {}
    for case in found.get("cases", []):
        by_status.setdefault(case["status"], []).append(case["name"])
    left = by_status.get("no time left", [])
    bad = [case for status, some in by_status.items() if status not in ("measured", "no time left") for case in some]
    words = [f"{len(by_status.get('measured', []))} of {sum(map(len, by_status.values()))} cases measured"]
    words += ["not measured: " + ", ".join(bad)] if bad else []
    words += ["no time for " + ", ".join(left)] if left else []
    if ended.code is None:
        check.not_run(name, ended.why)
    elif ended.reason() or bad or not found:
        last = [line for line in ended.output.splitlines() if line.startswith("hopfield_bench: ")][-1:]
        check.note(name, "FAILED", ended.seconds, ", ".join([word for word in [ended.reason(), *last] if word] + words),
                   no_time_for=left)
    else:
        check.note(name, running.NO_TIME if left else "passed", ended.seconds, ", ".join(words), no_time_for=left)
