#!/usr/bin/env bash
# On a machine with a GPU: builds the preset cuda, runs the GPU's tests, and again under compute-sanitizer.
#
#   scripts/gpu_check.sh [FOLDER]    results go to FOLDER, build/gpu_check by default
#
# Needs nvcc, the complete PyTorch (the python3 in the path has it, or pass CMAKE_ARGS=-DTorch_DIR=..) and the Debian
# packages that scripts/bootstrap.sh installs. No network. Every part runs, whatever the others say; the last line sums up.
set -uo pipefail
cd "$(dirname "$0")/.."

readonly out=${1:-build/gpu_check}
mkdir -p "$out"
failed=()

# part NAME COMMAND..: runs a command, keeps its output, notes whether it failed.
part() {
  local name=$1 begin=$SECONDS
  shift
  if "$@" >"$out/$name.log" 2>&1; then
    echo "-- $name: passed ($((SECONDS - begin)) s)"
  else
    echo "-- $name: FAILED ($((SECONDS - begin)) s), see $out/$name.log:"
    tail -n 15 "$out/$name.log"
    failed+=("$name")
  fi
}

if ! command -v nvidia-smi >/dev/null || ! nvidia-smi -L >"$out/device.log" 2>&1; then
  echo "gpu_check.sh: expected a GPU that nvidia-smi finds, found none" >&2
  exit 2
fi
cat "$out/device.log"

# shellcheck disable=SC2086  # several arguments
part configure cmake --preset cuda ${CMAKE_ARGS:-}
part build cmake --build --preset cuda --target cuda_test ops_test
readonly tests=build/cuda/bin/cuda_test
if [[ ! -x $tests ]]; then
  echo "gpu_check.sh: nothing was built" >&2
  exit 1
fi
part cuda_test "$tests"
part determinism "$tests" --gtest_filter='*SameBits*' --gtest_repeat=100
# Small cases: the sanitizers take a hundred times as long.
readonly small='*RaggedBagsOfUglySizes*:*ExcludedInstances*:*GradientsWithDropout*:*MoreRows*'
for tool in memcheck racecheck synccheck initcheck; do
  part "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$tests" --gtest_filter="$small"
done
part ops_test build/cuda/bin/ops_test --gtest_filter='*Pool*'

if ((${#failed[@]} > 0)); then
  echo "failed: ${failed[*]}"
  exit 1
fi
echo "all passed"
