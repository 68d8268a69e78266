"""Runs the lines for Python in README.md."""

import re
import shlex
import subprocess
import sys

from library import LIBRARY, ROOT, torch

README = (ROOT / "README.md").read_text()


def test_the_snippet_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    built = "build/cpu/lib/libhopfield.so"
    assert built in snippet
    here = {}
    exec(snippet.replace(built, LIBRARY), here)
    assert here["output"].shape == (8, 4, 64, 32) and here["state"].grad.abs().sum() > 0


def test_the_conversion_runs(tmp_path):
    (line,) = re.findall(r"^    \S*python (python_parity/convert_checkpoint.py .*)$", README, re.MULTILINE)
    script, source, target = shlex.split(line)
    weights = {"hopfield.association_core.in_proj_weight": torch.randn(3, 4), "pooling_weights": torch.randn(1, 2, 4)}
    torch.save(weights, tmp_path / source)
    subprocess.run([sys.executable, ROOT / script, source, target], cwd=tmp_path, check=True)
    from safetensors.torch import load_file

    loaded = load_file(tmp_path / target)
    assert loaded.keys() == weights.keys() and all(torch.equal(loaded[name], weights[name]) for name in weights)
