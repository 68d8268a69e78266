#!/usr/bin/env bash
# On a machine with a GPU: builds for it, runs the GPU's tests, repeats them for their bits, runs them under
# compute-sanitizer and measures.
#
#   scripts/gpu_check.sh [--seconds N] [FOLDER]
#   scripts/gpu_check.sh --pack    beforehand, on a Debian machine with a network: for one that has neither
#
# FOLDER (build/gpu_check by default) gets gpu_check.json, gpu_check.md (a table for people) and the parts' output. All of
# it ends within N seconds (540): a part that finds no time left says so. Each tool of compute-sanitizer has to catch a
# planted fault first; one that does not proves nothing, and its part counts as not run.
#
# Needs nvcc, the complete PyTorch (the python3 in the path has it, or pass CMAKE_ARGS=-DTorch_DIR=..) and the Debian
# packages that scripts/bootstrap.sh installs, for the benchmark libbenchmark-dev too; or build/gpu_packages, where --pack
# has put these (8 MB), copied along. No network. Ends with 0 if all parts passed, with 1 if one failed or was not run, with
# 2 if it could not begin.
set -uo pipefail

readonly build=build/gpu
budget=540
out=

complain() {
  echo "gpu_check.sh: $1" >&2
  exit 2
}

readonly packages=build/gpu_packages
# Debian packages, unpacked.
pack() {
  local names=(libgtest-dev libgmock-dev libhwy-dev libhwy1 nlohmann-json3-dev
    libcli11-dev libbenchmark-dev libbenchmark1debian)
  { rm -rf "$packages" && mkdir -p "$packages/archives"; } || complain "expected a folder that can be written, got '$packages'"
  (cd "$packages/archives" && apt-get download "${names[@]}") || complain "expected a network and Debian's packages"
  for archive in "$packages"/archives/*.deb; do dpkg -x "$archive" "$packages" || exit 2; done
  rm -rf "$packages"/archives "$packages"/usr/share/{doc,man}
  echo "$packages: $(du -sh "$packages" | cut -f 1)"
  exit 0
}

while (($# > 0)); do
  case $1 in
    --pack)
      cd "$(dirname "$(realpath "$0")")/.." || exit 2
      pack
      ;;
    -h | --help)
      sed -n '2,17s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    --seconds)
      [[ ${2:-} =~ ^[1-9][0-9]{0,5}$ ]] || complain "--seconds: expected a number of seconds, got '${2:-}'"
      budget=$2
      shift
      ;;
    -*) complain "unknown option '$1'; expected --seconds N, --pack or --help" ;;
    *)
      [[ -z $out && -n $1 ]] || complain "expected one folder, got '$1' too"
      out=$(realpath -m -- "$1")
      ;;
  esac
  shift
done
cd "$(dirname "$(realpath "$0")")/.." || exit 2
out=${out:-$PWD/build/gpu_check}
{ mkdir -p "$out" && : >"$out/parts.tsv"; } 2>/dev/null || complain "expected a folder that can be written, got '$out'"
if ! device=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null | head -n 1) ||
  [[ -z $device ]]; then
  complain "expected a GPU that nvidia-smi finds, found none"
fi
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin:/usr/local/cuda/bin
command -v nvcc >/dev/null || complain "expected nvcc in the path or in /usr/local/cuda/bin, found none"
rm -f "$out"/*.log "$out"/bench.json "$out"/gpu_check.json "$out"/gpu_check.md
readonly budget out device
echo "-- $device"

passed=() failed=() not_run=()
limit=0 status=0 taken=0
proof= # what a part's passing rests on

# Everything known so far in gpu_check.json and gpu_check.md, so that a check that is cut short leaves what it found.
report() {
  DEVICE=$device COMMIT=$(git describe --always --dirty 2>/dev/null) python3 - "$out" <<'PYTHON'
import datetime, json, os, pathlib, sys

out = pathlib.Path(sys.argv[1])
name, driver, capability = [*os.environ["DEVICE"].split(", "), "", ""][:3]
keys = ("name", "result", "seconds", "remark")
parts = [dict(zip(keys, line.split("\t"))) for line in (out / "parts.tsv").read_text().splitlines()]
for part in parts:
    part["seconds"] = int(part["seconds"])
try:
    benchmark = json.loads((out / "bench.json").read_text())
except (OSError, ValueError):
    benchmark = None  # not measured
date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
commit = os.environ["COMMIT"] or None
(out / "gpu_check.json").write_text(json.dumps({
    "device": name, "driver": driver, "compute_capability": capability, "date": date, "commit": commit,
    "parts": parts, "benchmark": benchmark}, indent=2) + "\n")

lines = [f"{name}, driver {driver}, {date[:10]}" + (f", commit {commit}" if commit else ""), "",
         "| part | result | seconds |", "|---|---|---|"]
for part in parts:
    remark = part["remark"].replace("|", "/")
    lines.append(f"| {part['name']} | {part['result']}{': ' if remark else ''}{remark} | {part['seconds']} |")
log = out / "hopfield_bench.log"
measured = log.read_text(errors="replace").splitlines() if log.exists() else []
table = [line for line in measured if line.startswith(("hopfield ", "|"))]
remarks = [line for line in measured if " refused: " in line or " differ by " in line]
for block in (table[:1], table[1:], [f"* {line}" for line in remarks]):
    lines += ["", *block] if block else []
(out / "gpu_check.md").write_text("\n".join(lines) + "\n")
PYTHON
}

# note NAME RESULT SECONDS [REMARK]: remembers and says how a part ended; RESULT is passed, failed or not run.
note() {
  local remark=${4:-}
  remark=${remark//[$'\t\n\r']/ }
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$remark" >>"$out/parts.tsv"
  echo "-- $1: $2 ($3 s)${remark:+: $remark}"
  case $2 in
    passed) passed+=("$1") ;;
    failed) failed+=("$1") ;;
    *) not_run+=("$1 (${remark:-no reason given})") ;;
  esac
  report || echo "gpu_check.sh: the report could not be written to $out" >&2
}

# limited LOG SECONDS COMMAND..: runs a command for so long, or as long as there is time; sets status and taken. False
# where there is no time left.
limited() {
  local log=$1 begin=$SECONDS
  limit=$((budget - SECONDS - 5)) # for stopping it and for the report
  limit=$(($2 < limit ? $2 : limit))
  shift 2
  if ((limit < 5)); then return 1; fi
  timeout --kill-after=3 "$limit" "$@" >"$out/$log.log" 2>&1 </dev/null
  status=$? taken=$((SECONDS - begin))
}

# Why a command that ended with `status` has not passed; nothing if it has.
objection() {
  local log=$out/$1.log
  case $status in
    0)
      # GoogleTest calls both a success.
      if grep -q 'there is no CUDA device' "$log"; then echo "it found no CUDA device"; fi
      if grep -q '^\[  PASSED  \] 0 tests' "$log"; then echo "no test was run"; fi
      ;;
    9) echo "the tool found errors" ;;
    124 | 137) echo "stopped after $limit s" ;;
    *) echo "it ended with $status" ;;
  esac
}

# part NAME SECONDS COMMAND..: true if it passed.
part() {
  local name=$1 why
  shift
  if ! limited "$name" "$@"; then
    note "$name" "not run" 0 "no time left"
    return 1
  fi
  why=$(objection "$name")
  if [[ -z $why ]]; then
    note "$name" passed "$taken" "$proof"
    return 0
  fi
  note "$name" failed "$taken" "${why//$'\n'/, }; see $name.log"
  tail -n 15 "$out/$name.log"
  return 1
}

# program NAME SECONDS PROGRAM COMMAND..: a part that needs a program of the build.
program() {
  local name=$1 seconds=$2 needed=$3
  shift 3
  if [[ -x $build/bin/$needed ]]; then
    part "$name" "$seconds" "$@"
  else
    note "$name" "not run" 0 "$needed was not built"
  fi
}

# The planted faults that a tool is tried on: why it proves nothing here, or nothing.
objection_to_tool() {
  local tool=$1 fault=$2 words
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer was not found" && return; }
  [[ -x $build/bin/device_faults ]] || { echo "device_faults was not built" && return; }
  local run=(compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bin/device_faults")
  limited "$tool-no-fault" 40 "${run[@]}" none || { echo "no time left" && return; }
  if ((status != 0)); then
    words=$(grep -m 1 -iE 'error|not supported|fail' "$out/$tool-no-fault.log" | sed 's/^=* *//')
    echo "the tool does not run a correct program here: ${words:-it ended with $status}"
    return
  fi
  limited "$tool-fault" 40 "${run[@]}" "$fault" || { echo "no time left" && return; }
  if ((status != 9)); then echo "the tool does not catch the planted fault $fault; see $tool-fault.log"; fi
}

# sanitizer TOOL FAULT
sanitizer() {
  local tool=$1 begin=$SECONDS why
  # Small cases: the sanitizers take a hundred times as long.
  local small='*RaggedBagsOfUglySizes*:*ExcludedInstances*:*GradientsWithDropout*:*MoreRows*:*ClustersOf*:*CudaRetrieve.Masks*'
  why=$(objection_to_tool "$tool" "$2")
  if [[ -n $why ]]; then
    note "$tool" "not run" $((SECONDS - begin)) "$why"
    return
  fi
  proof="catches the planted fault $2"
  program "$tool" 80 cuda_test \
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bin/cuda_test" --gtest_filter="$small"
  proof=
}

configure=(cmake --preset cuda -B "$build" -DHOPFIELD_EXAMPLES=OFF)
case $device in # no others than the GPU at hand: half the time
  *", 9.0") configure+=(-DCMAKE_CUDA_ARCHITECTURES=90a-real) ;;
  *", 8."*) configure+=(-DCMAKE_CUDA_ARCHITECTURES=80-real) ;;
esac
[[ ! -d $packages ]] || configure+=("-DCMAKE_PREFIX_PATH=$PWD/$packages/usr")
read -ra more <<<"${CMAKE_ARGS:-}"
configure+=("${more[@]}")
readonly programs=(cuda_test device_faults ops_test hopfield_bench)

# Those of an earlier check would pass for today's.
for name in "${programs[@]}"; do rm -f "$build/bin/$name"; done
if ! part configure 60 "${configure[@]}" -DHOPFIELD_BENCH=ON; then
  part configure_without_benchmark 60 "${configure[@]}" -DHOPFIELD_BENCH=OFF
fi
targets=("${programs[@]}")
[[ " ${passed[*]} " == *" configure "* ]] || targets=(cuda_test device_faults ops_test)
if ((${#passed[@]} > 0)); then
  part build 330 cmake --build "$build" --target "${targets[@]}" -- -k 0
else
  note build "not run" 0 "nothing was configured"
fi

# The most telling first.
program cuda_test 90 cuda_test "$build/bin/cuda_test"
program ops_test 90 ops_test "$build/bin/ops_test" --gtest_filter='*Pool*:*Capture*:*OnDevice*'
program determinism 75 cuda_test env HOPFIELD_REPEATS=1000 "$build/bin/cuda_test" --gtest_filter='*SameBits*'
program hopfield_bench 150 hopfield_bench \
  "$build/bin/hopfield_bench" --device cuda --peer sdpa --json "$out/bench.json"
sanitizer memcheck out_of_bounds
sanitizer racecheck missing_barrier
sanitizer initcheck uninitialized
sanitizer synccheck divergent_barrier

echo
cat "$out/gpu_check.md"
echo
echo "in $out: gpu_check.json, gpu_check.md; $SECONDS s"
if ((${#failed[@]} + ${#not_run[@]} == 0)); then
  echo "all passed"
  exit 0
fi
if ((${#failed[@]} > 0)); then echo "failed: ${failed[*]}"; fi
for one in "${not_run[@]}"; do echo "not run: $one"; done
exit 1
