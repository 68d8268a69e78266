"""Plays the part of a GPU's tools and of the programs that are built for one, so that gpu_check can be rehearsed without.

One file for all of them: its first argument is the name that it was called by. What goes wrong is said by the variable
STAND_IN, a JSON object.
"""

import json
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__)
TOOLS = ("nvidia-smi", "nvcc", "cmake", "ninja", "compute-sanitizer", "ncu", "strip", "ldd", "c++", "apt-get", "git", "dpkg-deb")
PROGRAMS = ("cuda_test", "device_faults", "ops_test", "hopfield_bench")
TESTS = {
    "cuda_test": """Types/CudaPool.
  RaggedBagsOfUglySizes/0  # GetParam() = 1-byte object <00>
  RaggedBagsOfUglySizes/1  # GetParam() = 1-byte object <01>
  RaggedBagsOfUglySizes/2  # GetParam() = 1-byte object <02>
Typed/0.  # TypeParam = float
  Plain
  Masked
  Bare
CudaRetrieveWarpgroup.
  OneAssociation
Cuda.
  PoolGivesTheSameBitsEveryTime
  RetrieveGivesTheSameBitsEveryTime
  DISABLED_Never
""",
    "ops_test": """Running main() from gmock_main.cc
PoolLarge.
  Many
Forward/RetrieveCuda.
  Streams/0
Options.
  AreKept
""",
}


def setting(name, default=None):
    return json.loads(os.environ.get("STAND_IN", "{}")).get(name, default)


def install(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        file = folder / name
        file.write_text(f"#!/bin/sh\nexec '{sys.executable}' -I -S '{HERE}' {name} \"$@\"\n")
        file.chmod(0o755)


def google_test(name, arguments):
    if setting("does not start"):
        print("error while loading shared libraries: libc10.so", file=sys.stderr)
        return 127
    if "--gtest_list_tests" in arguments:
        print(TESTS[name], end="")
        return setting("exit of listing", 0)
    chosen = arguments[0].removeprefix("--gtest_filter=").split(":")
    faults, poisoned, failed = setting("tests", {}), False, []
    if os.environ.get("HOPFIELD_CUDA_WARPGROUP") == "1":
        faults = {**faults, **setting("tests switched on", {})}
    print(f"Note: Google Test filter = {chosen}\n[==========] Running {len(chosen)} tests from 1 test suite.")
    for test in chosen:
        shown = test + (", where TypeParam = float" if test.startswith("Typed") else "")
        fault = faults.get(test, "")
        print(f"[ RUN      ] {test}", flush=True)
        if fault == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "hang":
            time.sleep(1000)
        if fault.startswith("exit"):
            os._exit(3)
        if fault.startswith("skip"):
            print(f"x.cu:3: Skipped\n{fault.removeprefix('skip ')}\n\n[  SKIPPED ] {test} (0 ms)", flush=True)
            continue
        if fault == "fail among others" and len(chosen) > 1:
            fault = "fail"
        poisoned = poisoned or fault == "illegal access"
        if poisoned or fault == "fail":
            print(f"x.cu:7: Failure\nan illegal memory access was encountered\n[  FAILED  ] {shown} (12 ms)", flush=True)
            failed.append(test)
        else:
            time.sleep(setting("seconds of a test", 0))
            print(f"[       OK ] {test} (5 ms)", flush=True)
    passed = len(chosen) - len(failed)
    print(f"[==========] {len(chosen)} tests ran. (17 ms total)\n[  PASSED  ] {passed} test{'s' * (passed != 1)}.")
    for test in failed:
        print(f"[  FAILED  ] {test}")
    return 1 if failed else setting("exit of tests", 0)


def device_faults(arguments):
    return 0


def hopfield_bench(arguments):
    if "--list" in arguments or "--once" in arguments:
        return 0
    value = {arguments[i]: arguments[i + 1] for i in range(len(arguments) - 1) if arguments[i].startswith("--")}
    names = [word for word in arguments if word.count("/") > 4 and not word.startswith("/")] or ["all/1/2/3/4/5/fwd/bfloat16"]
    statuses = setting("cases", {})
    cases = [{"name": name, "status": statuses.get(name, "measured")} for name in names]
    text = json.dumps({"device": "stand-in", "cases": cases, "arguments": arguments,
                       "switch": os.environ.get("HOPFIELD_CUDA_WARPGROUP", ""),
                       "libraries": os.environ.get("LD_LIBRARY_PATH", "")})
    pathlib.Path(value["--json"]).write_text(text[:setting("length of results")])
    pathlib.Path(value["--table"]).write_text("".join(f"| {case['name']} | {case['status']} |\n" for case in cases))
    if setting("exit of benchmark"):
        print("hopfield_bench: an illegal memory access was encountered", file=sys.stderr)
    return setting("exit of benchmark", 0)


def compute_sanitizer(arguments):
    tool, program, rest = arguments[1], pathlib.Path(arguments[4]).name, arguments[5:]
    fault = setting("tools", {}).get(tool)
    print("========= COMPUTE-SANITIZER")
    if program == "device_faults" and rest == ["none"]:
        if fault == "refuses":
            print("========= Error: Device not supported. Please refer to the documentation.")
            return 1
    elif program == "device_faults":
        if fault != "blind":
            print({"memcheck": "========= Invalid __global__ write of size 4 bytes",
                   "racecheck": "========= Error: Race reported between Write access and Read access",
                   "synccheck": "========= Barrier error detected. Divergent thread(s) in warp.",
                   "initcheck": "========= Uninitialized __global__ memory read of size 4 bytes"}[tool])
            return 9
    else:
        code = google_test(program, rest)
        if fault == "finds":
            print("========= Invalid __shared__ read of size 4 bytes\n========= ERROR SUMMARY: 1 error")
            return 9
        if fault == "silent":
            return code
    print("========= ERROR SUMMARY: 0 errors")
    return 0


def ncu(arguments):
    kernel = arguments[arguments.index("--kernel-name") + 1]
    print("==PROF== Connected to process 17")
    if setting("ncu") == "forbidden":
        print("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters")
        return 1
    if setting("ncu") == "broken":
        print("==ERROR== Failed to initialize the profiler: LibraryNotLoaded")
        return 1
    if kernel in setting("ncu", []):
        print("==WARNING== No kernels were profiled.")
        return 0
    print('"ID","Process ID","Process Name","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value"')
    rows = (("GPU Speed Of Light Throughput", "Duration", "us", "1,234.5"),
            ("GPU Speed Of Light Throughput", "DRAM Throughput", "%", "81.2"),
            ("Memory Workload Analysis", "L2 Hit Rate", "%", "3.4"),
            ("Warp State Statistics", "Warp Cycles Per Issued Instruction", "cycle", "7.5"))
    for section, metric, unit, value in rows:
        print(f'"0","17","hopfield_bench","void {kernel}<bf16, 64>(Call)","{section}","{metric}","{unit}","{value}"')
    return 0


def cmake(arguments):
    if "--build" not in arguments:
        pathlib.Path("build/gpu").mkdir(parents=True, exist_ok=True)
        pathlib.Path("build/gpu/configured").write_text(" ".join(arguments))
        return setting("exit of configure", 0)
    targets = arguments[arguments.index("--target") + 1:arguments.index("--")]
    if setting("changes the sources"):
        pathlib.Path("kernels/a.cu").write_text("something else")
    time.sleep(setting("seconds of a build", 0))
    built = [target for target in targets if target not in setting("not built", [])]
    install(pathlib.Path("build/gpu/bin"), built)
    return 0 if built == targets else 1


def ldd(arguments):
    library = pathlib.Path(arguments[0]).parent / "libhopfield.so.0.1"
    library.write_text("x" * setting("bytes of the library", 100))
    print(f"\tlibhopfield.so.0.1 => {library} (0x00007f)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f)\n\tlibgone.so => not found")
    return 0


def main(name, arguments):
    if name == "nvidia-smi":
        print(setting("device", "NVIDIA H200, 580.159.04, 9.0"))
        return setting("exit of nvidia-smi", 0)
    if name == "apt-get":
        if setting("no network"):
            return 100
        pathlib.Path("libgtest-dev.deb").write_text("package")
        return 0
    if name == "c++":
        return 1 if setting("no packages") else 0
    if name == "dpkg-deb":
        return 1 if setting("broken packages") else 0
    if name == "git":
        print("v0.1-3-gabc")
        return 0
    if name in TESTS:
        return google_test(name, arguments)
    known = {"device_faults": device_faults, "hopfield_bench": hopfield_bench, "compute-sanitizer": compute_sanitizer,
             "ncu": ncu, "cmake": cmake, "ldd": ldd}
    return known[name](arguments) if name in known else 0  # nvcc, ninja and strip succeed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
