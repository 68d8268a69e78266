"""Loads libhopfield.so for the tests: the file that HOPFIELD_LIBRARY names, or the one in build/cpu/lib or build/cuda/lib."""

import os
import pathlib

import pytest

torch = pytest.importorskip("torch", exc_type=ImportError)

ROOT = pathlib.Path(__file__).resolve().parent.parent
CANDIDATES = [os.environ.get("HOPFIELD_LIBRARY", ""), *(str(ROOT / "build" / p / "lib/libhopfield.so") for p in ("cpu", "cuda"))]
LIBRARY = next((path for path in CANDIDATES if path and os.path.exists(path)), None)
if LIBRARY is None:
    pytest.skip("libhopfield.so is not built", allow_module_level=True)
torch.ops.load_library(LIBRARY)
retrieve = torch.ops.hopfield.retrieve
pool = torch.ops.hopfield.pool
