#!/usr/bin/env bash
# Builds everything and runs every test, from a bare clone: scripts/test.sh [PRESET], where PRESET is cpu (default), asan,
# tsan or cuda.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-cpu}
case "$preset" in
  cpu | asan | tsan) scripts/bootstrap.sh --tests ;;
  cuda) scripts/bootstrap.sh --full ;;
  *) echo "test.sh: unknown preset '$preset'; expected cpu, asan, tsan or cuda" >&2; exit 2 ;;
esac
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --preset "$preset"
