"""Tests hopfield_capacity: capacity_test.py PROGRAM."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv.pop(1)


def call(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300)


class Capacity(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def test_figures_are_where_the_literature_has_them(self):
        result, chart = self.path / "result.json", self.path / "chart.png"
        ended = call("--memory", "polynomial", "--quick", "--seed", 3, "--json", result, "--chart", chart)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertRegex(ended.stdout.splitlines()[-1], r"^[0-3] of 3 figures are where the literature has them$")
        content = json.loads(result.read_text())
        self.assertEqual(len(content["figures"]), 3)
        for figure in content["figures"]:  # few errors are counted here, so that the program's own bounds are too tight
            self.assertAlmostEqual(figure["measured"], figure["literature"], delta=0.2 * figure["literature"], msg=figure)
        self.assertEqual(len(content["panels"][0]["curves"]), 4)
        self.assertTrue(chart.exists() or chart.with_suffix(".gnuplot").exists())
        again = call("--memory", "polynomial", "--quick", "--seed", 3, "--quiet", "--json", result)
        self.assertEqual(len(again.stdout.splitlines()), 1)
        self.assertEqual(json.loads(result.read_text())["figures"], content["figures"])

    def test_wrong_calls(self):
        for arguments, parts in ((("--memory", "binry"), ("--memory", "'binry'", "binary")),
                                 (("--chart", "x.gif"), ("--chart", ".png")),
                                 (("--json", self.path / "no/x.json"), ("--json",)),
                                 (("--quik",), ("--quick",)),
                                 (("--seed", "-1"), ("--seed",))):
            ended = call(*arguments)
            self.assertEqual(ended.returncode, 2, arguments)
            self.assertEqual(len(ended.stderr.splitlines()), 1, ended.stderr)
            for part in parts:
                self.assertIn(part, ended.stderr)


if __name__ == "__main__":
    unittest.main()
