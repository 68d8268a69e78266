#!/usr/bin/env bash
# Checks the library on a machine with a GPU: builds for the GPU, runs its tests and the benchmark, repeats calls and
# compares their bits, and runs some of the tests under compute-sanitizer.
#
#   scripts/gpu_check.sh [--seconds N] [FOLDER]   results go to FOLDER, build/gpu_check by default
#   scripts/gpu_check.sh --pack                   run before, with a network: fetches the packages that the check needs
#
# FOLDER gets gpu_check.json, gpu_check.md (a readable table), the benchmark's bench.json and bench.md, and log.txt. The
# check ends within N seconds (540); parts for which no time is left are reported. Each tool of compute-sanitizer must first
# find a fault that was planted for it; if it does not, its part counts as not run.
#
# Needs nvcc, the complete PyTorch (in the python3 of the path, or named by CMAKE_ARGS=-DTorch_DIR=..), and the Debian
# packages that scripts/bootstrap.sh installs and libbenchmark-dev, or build/gpu_packages, which --pack fills. Needs no network.
# The exit code is 0 if all parts passed, 1 if one failed or was not run, and 2 if the check could not begin.
set -uo pipefail

readonly build=build/gpu work=build/gpu_check_work packages=build/gpu_packages
readonly programs=(cuda_test device_faults ops_test hopfield_bench)
budget=540 out='' mode=check

say() { echo "gpu_check.sh: $1" >&2; }
complain() {
  say "$1"
  exit 2
}

while (($# > 0)); do
  case $1 in
    -h | --help)
      sed -n '2,15s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    --pack) mode=pack ;;
    --seconds)
      [[ ${2:-} =~ ^[1-9][0-9]{0,5}$ ]] || complain "--seconds: expected a number of seconds, got '${2:-}'"
      budget=$2
      shift
      ;;
    -*) complain "unknown option '$1'; expected --pack, --seconds N or --help" ;;
    *)
      [[ -z $out && -n $1 ]] || complain "expected one folder, got '$1' too"
      out=$(realpath -m -- "$1")
      ;;
  esac
  shift
done
cd "$(dirname "$(realpath "$0")")/.." || exit 2
readonly out=${out:-$PWD/build/gpu_check} budget

# Downloads the development packages that the build needs, and the shared libraries of two of them.
pack() {
  { rm -rf "$packages" && mkdir -p "$packages"; } 2>/dev/null || complain "expected a folder that can be written, got '$packages'"
  (cd "$packages" && apt-get download -qq -o APT::Sandbox::User=root libgtest-dev libgmock-dev libhwy-dev libhwy1 \
    nlohmann-json3-dev libcli11-dev libbenchmark-dev libbenchmark1debian) ||
    complain "expected apt-get to download packages, it did not; try apt-get update, or another network"
  echo "-- $packages: $(du -sh "$packages" | cut -f 1); bring it along with the tree"
}

system_has_packages() {
  printf '#include <%s>\n' gtest/gtest.h gmock/gmock.h hwy/highway.h nlohmann/json.hpp CLI/CLI.hpp benchmark/benchmark.h |
    "${CXX:-c++}" -E -x c++ - >/dev/null 2>&1
}

# Unpacks the packages without installing them, into a folder where CMake looks first.
unpack() {
  local package parts prefix=$PWD/$work/packages
  mkdir -p "$prefix"
  for package in "$packages"/*.deb; do
    if command -v dpkg-deb >/dev/null; then
      dpkg-deb -x "$package" "$prefix" || return 1
    else
      parts=$(mktemp -d -p "$work") || return 1
      (cd "$parts" && ar x "$OLDPWD/$package" && tar -xf data.tar.* -C "$prefix") || return 1
    fi
  done
  export CMAKE_PREFIX_PATH=$prefix/usr:$prefix/usr/lib/x86_64-linux-gnu/cmake${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}
  export CMAKE_LIBRARY_PATH=$prefix/usr/lib/x86_64-linux-gnu
}

has_torch() {
  [[ ${CMAKE_ARGS:-} == *Torch_DIR* ]] && return
  local python
  for python in "${VIRTUAL_ENV:-.venv}/bin/python" .venv/bin/python python3; do # as cmake/HopfieldTorch.cmake does
    "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is None)' 2>/dev/null && return
  done
  return 1
}

# Checks that everything needed is there. Prints a sentence for each thing that is missing, and then exits.
begin() {
  local program complete=yes
  lack() { say "$1" && complete=no; }
  device=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null) || device=
  device=${device%%$'\n'*} # the tests use the first GPU
  if [[ -z $device ]]; then
    lack "expected a GPU that nvidia-smi finds, found none; run this on a machine with one"
  fi
  command -v nvcc >/dev/null ||
    lack "expected nvcc in the path or in /usr/local/cuda/bin, found none; install the CUDA Toolkit"
  for program in cmake ninja python3; do
    command -v "$program" >/dev/null || lack "expected $program in the path, found none; install it"
  done
  has_torch ||
    lack "expected python3 to have torch, it has not; install it, or pass CMAKE_ARGS=-DTorch_DIR=<TorchConfig.cmake's folder>"
  rm -rf "$work"
  mkdir -p "$work"
  if ! system_has_packages; then
    if ! compgen -G "$packages/*.deb" >/dev/null; then
      lack "expected the packages named in --help, found neither them nor $packages; run --pack where there is a network"
    elif ! unpack; then
      lack "expected packages that can be unpacked in $packages; run scripts/gpu_check.sh --pack again"
    fi
  fi
  { mkdir -p "$out" && : >"$out/log.txt"; } 2>/dev/null || lack "expected a folder that can be written, got '$out'"
  if [[ $complete == no ]]; then exit 2; fi
  command -v compute-sanitizer >/dev/null ||
    say "expected compute-sanitizer in the path or in /usr/local/cuda/bin, found none; its parts will not be run"
  : >"$work/parts.tsv"
  # Files of an earlier check must not be taken for results of this one.
  rm -f "$out"/gpu_check.{json,md} "$out"/bench.{json,md} "${programs[@]/#/$build/bin/}"
  echo "-- $device"
}

if [[ $mode == pack ]]; then
  pack
  exit
fi
PATH=$PATH:${CUDA_HOME:-/usr/local/cuda}/bin:/usr/local/cuda/bin
device=
begin
readonly device
commit=$(git describe --always --dirty 2>/dev/null)

child='' interrupted='' all_passed=yes
# On a signal, stops the running command. The parts that follow are not run, but the report is still written.
trap 'interrupted=yes; if [[ -n $child ]]; then kill "$child" 2>/dev/null; fi' INT TERM HUP

# note NAME RESULT SECONDS [REMARK]: records how a part ended (passed, FAILED, no time left, not run) and writes the report
# anew, so that a check that is cut short leaves the results it has.
note() {
  local remark=${4:-}
  remark=${remark//[$'\t\n\r']/ }
  remark=${remark%; }
  printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$remark" >>"$work/parts.tsv"
  echo "-- $1: $2 ($3 s)${remark:+: $remark}"
  if [[ $2 != passed ]]; then all_passed=no; fi
  python3 scripts/gpu_report.py "$work/parts.tsv" "$device" "$commit" "$out" </dev/null ||
    { say "the report could not be written to $out" && all_passed=no; }
}

limit=0 status=0 taken=0 why=''
# limited LOG SECONDS COMMAND..: runs a command for at most that long, or for the time that is left; sets limit, status and
# taken. If there is no time left, returns false and sets `why`.
limited() {
  local log=$work/$1.log name=$1 begin=$SECONDS
  limit=$((budget - SECONDS - 5)) # 5 seconds for stopping the command and for the report
  limit=$(($2 < limit ? $2 : limit))
  shift 2
  why='' taken=0
  if [[ -n $interrupted ]]; then why=interrupted; elif ((limit < 5)); then why='no time left'; fi
  if [[ -n $why ]]; then return 1; fi
  timeout --kill-after=3 "$limit" "$@" >"$log" 2>&1 </dev/null &
  child=$!
  wait "$child"
  status=$?
  # The trap ends `wait` early. Wait again until the command has stopped.
  if [[ -n $interrupted ]]; then wait "$child"; fi
  child='' taken=$((SECONDS - begin))
  { echo "=== $name: $*" && tail -c 500000 "$log" && echo; } >>"$out/log.txt"
}

# judge LOG: sets `why` to the reason why a command that was run has not passed; empty if it has.
judge() {
  local log=$work/$1.log
  if [[ -n $interrupted ]]; then why=interrupted; elif ((status == 124 || status == 137)); then
    why="stopped after $limit s"
  elif ((status != 0)); then
    why="it ended with $status"
  # GoogleTest counts the following two as success.
  elif grep -q 'there is no CUDA device' "$log"; then
    why='it found no CUDA device'
  elif grep -q '^\[  PASSED  \] 0 tests' "$log"; then
    why='no test was run'
  fi
}

# Prints the summary lines of a part's log: the numbers of tests and errors.
words_of() {
  sed -nE -e 's/^\[  (PASSED|FAILED)  \] ([0-9]+ tests?)[.,].*/\2 \L\1/p' -e 's/^\[  SKIPPED \] ([0-9]+ tests?),.*/\1 skipped/p' \
    -e 's/^=* *([A-Z]+ SUMMARY: )/\1/p' "$work/$1.log" | paste -sd , | sed 's/,/, /g'
}

# unrun NAME SECONDS: records a part that was not run, for the reason in `why`.
unrun() {
  if [[ -n $interrupted ]]; then why=interrupted; fi
  if [[ $why == 'no time left' ]]; then note "$1" "$why" "$2"; else note "$1" "not run" "$2" "$why"; fi
}

# part NAME SECONDS COMMAND..: runs a command as a part of the check and records the result.
part() {
  local name=$1
  shift
  if ! limited "$name" "$@"; then
    unrun "$name" 0
    return 1
  fi
  judge "$name"
  if [[ -z $why ]]; then
    note "$name" passed "$taken" "$(words_of "$name")"
    return
  fi
  note "$name" FAILED "$taken" "$why; $(words_of "$name")"
  tail -n 15 "$work/$name.log"
  return 1
}

# program NAME SECONDS PROGRAM ARGUMENT..: runs a program of the build as a part of the check.
program() {
  local name=$1 seconds=$2 program=$build/bin/$3
  shift 3
  if [[ -x $program ]]; then
    part "$name" "$seconds" "$program" "$@"
  else
    why="$program was not built"
    unrun "$name" 0
  fi
}

# try_tool TOOL FAULT WORDS: runs a tool of compute-sanitizer on a correct program and on one with a planted fault. The tool
# must accept the first and report the second in these words; otherwise sets `why`.
try_tool() {
  local tool=$1 fault=$2 words=$3 program said
  why=''
  for program in device_faults cuda_test; do
    if [[ ! -x $build/bin/$program ]]; then why="$program was not built"; fi
  done
  if ! command -v compute-sanitizer >/dev/null; then why='compute-sanitizer was not found'; fi
  if [[ -n $why ]]; then return; fi
  local run=(compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bin/device_faults")
  limited "$tool-none" 40 "${run[@]}" none || return
  judge "$tool-none"
  if [[ -n $why ]]; then
    said=$(grep -m 1 -iE 'error|not supported|unable|fail' "$work/$tool-none.log" | sed 's/^=* *//')
    why="the tool does not run a correct program here: ${said:-$why}"
    return
  fi
  limited "$tool-$fault" 40 "${run[@]}" "$fault" || return
  # The exit code is not always 9: it depends on whether the program itself noticed the fault.
  if ((status == 0)) || ! grep -qE "$words" "$work/$tool-$fault.log"; then
    why="the tool does not catch the planted fault $fault"
  fi
}

# sanitizer TOOL FAULT WORDS: tries a tool, then runs some tests under it, as one part of the check.
sanitizer() {
  local tool=$1 begin=$SECONDS
  # Small cases only, because the sanitizers make the tests a hundred times slower.
  local small='*RaggedBagsOfUglySizes*:*ExcludedInstances*:*GradientsWithDropout*:*MoreRows*:*ClustersOf*:*CudaRetrieve.KeepsPatternsBesideMasks*'
  try_tool "$@"
  if [[ -n $why ]]; then
    unrun "$tool" $((SECONDS - begin))
    return
  fi
  local run=(compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/bin/cuda_test" --gtest_filter="$small")
  if ! limited "$tool" 80 "${run[@]}"; then
    unrun "$tool" $((SECONDS - begin))
    return
  fi
  judge "$tool"
  if [[ -z $why ]] && ! grep -q 'SUMMARY: ' "$work/$tool.log"; then why='the tool gave no summary'; fi
  if [[ -z $why ]]; then
    note "$tool" passed $((SECONDS - begin)) "catches the planted fault $2; $(words_of "$tool")"
  else
    note "$tool" FAILED $((SECONDS - begin)) "$why; $(words_of "$tool")"
    tail -n 15 "$work/$tool.log"
  fi
}

# Warnings are not errors here: another compiler may have more of them.
configure=(cmake --preset cuda -B "$build" -DHOPFIELD_EXAMPLES=OFF -DHOPFIELD_WERROR=OFF)
case $device in # builds for this GPU only, which halves the time
  *", 9.0") configure+=(-DCMAKE_CUDA_ARCHITECTURES=90a-real) ;;
  *", 8."*) configure+=(-DCMAKE_CUDA_ARCHITECTURES=80-real) ;;
esac
read -ra more <<<"${CMAKE_ARGS:-}"
configure+=("${more[@]}")

if part configure 60 "${configure[@]}" -DHOPFIELD_BENCH=ON; then
  part build 330 cmake --build "$build" --target "${programs[@]}" -- -k 0
elif part configure_without_benchmark 60 "${configure[@]}" -DHOPFIELD_BENCH=OFF; then
  part build 330 cmake --build "$build" --target cuda_test device_faults ops_test -- -k 0
else
  why='nothing was configured'
  unrun build 0
fi

# The most informative parts come first.
program cuda_test 90 cuda_test --gtest_filter='-*Warpgroup*'
# In a process of its own: a kernel that has never passed may make the device's context unusable for later tests.
if [[ $device == *", 9.0" ]]; then program retrieve_warpgroup 60 cuda_test --gtest_filter='*Warpgroup*'; fi
program ops_test 120 ops_test --gtest_filter='*Pool*:*Capture*:*OnDevice*:*RetrieveCuda*:*RetrieveLayouts*:*RetrieveAttention*:*Generated.*/0:*Generated.*/1'
# The benchmark gets half of the remaining time, so that some is left for the sanitizers.
seconds=$(((budget - SECONDS) / 2))
seconds=$((seconds < 150 ? seconds : 150))
program hopfield_bench $((seconds + 20)) hopfield_bench --device cuda --json "$out/bench.json" --table "$out/bench.md" \
  --seconds "$seconds"
HOPFIELD_REPEATS=1000 program determinism 75 cuda_test --gtest_filter='*SameBits*-*Warpgroup*'
sanitizer memcheck out_of_bounds 'Invalid __global__ write'
sanitizer racecheck missing_barrier 'Race reported|Potential .* hazard'
sanitizer synccheck divergent_barrier 'Barrier error|Divergent thread'
sanitizer initcheck uninitialized 'Uninitialized __global__ memory read'

echo
cat "$out/gpu_check.md"
echo
echo "in $out: gpu_check.json, gpu_check.md, log.txt; $SECONDS s"
if [[ -n $interrupted ]]; then exit 130; fi
if [[ $all_passed == no ]]; then exit 1; fi
echo "all passed"
