"""The program hopfield_latch as its users meet it: latch_test.py HOPFIELD_LATCH."""

import json
import os
import shutil
import sys
import unittest

import programs

HAS_GNUPLOT = shutil.which("gnuplot") is not None


class LatchTest(programs.ProgramTest):
    program = os.path.abspath(sys.argv[1])

    def trained(self, *arguments):
        lines = self.printed(*arguments, "--json", "r.json")
        return json.loads((self.path / "r.json").read_text())["runs"], lines

    def test_both_layers_remember_the_first_character(self):
        runs, lines = self.trained("--task", "latch", "--samples", 1024, "--epochs", 6, "--length", 12)
        self.assertEqual([(run["task"], run["layer"]) for run in runs], [("latch", "hopfield"), ("latch", "pooling")])
        for run, line in zip(runs, lines[-2:]):
            self.assertEqual(len(run["epochs"]), 6)
            self.assertEqual(run["epochs"][-1]["evaluation_accuracy"], 1)
            self.assertGreaterEqual(run["solved_after"], 1)
            self.assertIn(f"solved after {run['solved_after']} epochs; 100.0 %", line)
        self.assertIn("latch hopfield epoch   6: loss", "\n".join(lines))

    def test_finds_signals_among_bit_patterns(self):
        # Few signals of few bits, so that seconds are enough.
        small = ["--task", "bits", "--layer", "pooling", "--bits", 6, "--signals", 2, "--length", 6, "--samples", 512, "--epochs",
                 40, "--lr", "5e-3"]
        (run,), _ = self.trained(*small)
        self.assertGreaterEqual(run["epochs"][-1]["evaluation_accuracy"], 0.95)
        (again,), _ = self.trained(*small)
        self.assertEqual(again["epochs"], run["epochs"])
        (other,), _ = self.trained(*small, "--seed", 1)
        self.assertNotEqual(other["epochs"], run["epochs"])
        (plain,), _ = self.trained(*small, "--bias-pattern", "no", "--epochs", 2)
        self.assertIsNone(plain["solved_after"])

    @unittest.skipUnless(HAS_GNUPLOT, "no gnuplot")
    def test_draws_a_panel_for_each_task(self):
        lines = self.printed("--samples", 64, "--epochs", 2, "--chart", "l.png", "--quiet")
        self.assertEqual(len(lines), 4)
        self.assertEqual(programs.png_size(self.path / "l.png"), (2 * 540, 430))

    def test_mistaken_calls_exit_with_2_and_leave_nothing(self):
        self.assert_all_refused([
            (["--task", "lach"], ["--task", "did you mean latch?"]),
            (["--layer", "lookup"], ["--layer", "hopfield, pooling, all"]),
            (["--epochs", 0], ["--epochs", "from 1"]),
            (["--samples", 3], ["--samples", "from 16"]),
            (["--length", 1], ["--length", "from 2"]),
            (["--characters", 2], ["--characters", "from 3"]),
            (["--bits", 3, "--signals", 7], ["--signals", "2^bits - 1 = 7", "got 7"]),
            (["--beta", -1], ["--beta", "above 0"]),
            (["--lr", 0], ["--lr", "above 0"]),
            (["--dropout", 2], ["--dropout", "from 0 to 1", "'2'"]),
            (["--batch", "many"], ["--batch", "'many'"]),
            (["--chart", "l.gif"], ["--chart", ".png or .svg"]),
            (["--json", "none/r.json"], ["--json", "existing folder"]),
            (["--epoch", 3], ["--epoch: unknown option", "did you mean --epochs?"]),
        ])

    def test_help_and_version_are_no_errors(self):
        self.assertIn("Exit codes: 0", "\n".join(self.printed("--help")))
        self.assertRegex(self.printed("--version")[0], r"^hopfield_latch \d+\.\d+\.\d+ \(LibTorch 2\..*\)$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
