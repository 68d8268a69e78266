#!/usr/bin/env bash
# Builds hopfield_mil in a fresh clone and cross-validates HopfieldPooling on a multiple-instance benchmark. Arguments are
# passed on to hopfield_mil: scripts/demo.sh --data musk1 --folds 5
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/bootstrap.sh
cmake --preset cpu
cmake --build --preset cpu --target hopfield_mil
build/cpu/bin/hopfield_mil --data elephant --folds 10 --seed 0 "$@"
