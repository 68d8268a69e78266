"""Runs tests of this folder with pytest, for CTest: run_tests.py test_op.py. The exit code is 77 if PyTorch cannot be imported."""

import pathlib
import sys

try:
    import pytest
    import torch  # noqa: F401
except ImportError as error:
    print(f"skipped: {error}; scripts/bootstrap.sh --full installs the complete PyTorch")
    sys.exit(77)

folder = pathlib.Path(__file__).resolve().parent
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--show-capture=no", *(str(folder / name) for name in sys.argv[1:])]))
