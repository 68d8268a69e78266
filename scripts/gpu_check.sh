#!/usr/bin/env bash
# Checks and times the kernels on a machine with a GPU, in two stages of eight minutes. See scripts/gpu_check.sh --help.
set -euo pipefail
command -v python3 >/dev/null || { echo "gpu_check.sh: expected python3 in the path, found none; install it" >&2; exit 2; }
exec python3 "$(dirname "$(realpath "$0")")/gpu_check" "$@"
