"""The program hopfield_lm as its users meet it: lm_test.py HOPFIELD_LM."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

import programs

HAS_GNUPLOT = shutil.which("gnuplot") is not None
TEXT = "".join(f"{a} times {b} is {a * b}.\n" for a in range(10) for b in range(10))
SMALL = ["--text", "text.txt", "--layers", 2, "--heads", 2, "--width", 16, "--context", 48, "--batch", 4, "--evaluations", 2]


class LanguageModelTest(programs.ProgramTest):
    program = os.path.abspath(sys.argv[1])

    def setUp(self):
        super().setUp()
        (self.path / "text.txt").write_text(TEXT)

    def trained(self, *arguments):
        lines = self.printed(*SMALL, *arguments, "--json", "r.json")
        return json.loads((self.path / "r.json").read_text()), lines

    def test_without_updates_it_is_torchs_transformer(self):
        results, lines = self.trained("--attention", "both", "--type", "float64", "--steps", 100)
        self.assertEqual(len(results["torch"]["losses"]), 100)
        self.assertLess(results["largest_difference"], 1e-9)
        for a, b in zip(results["hopfield"]["losses"], results["torch"]["losses"]):
            self.assertLess(abs(a - b), 1e-9)
        self.assertLess(results["hopfield"]["losses"][-1], results["hopfield"]["losses"][0] - 0.5)
        self.assertIn("losses differ by at most", lines[-1])
        self.assertGreater(results["speed_ratio"], 0)

    def test_learns_with_updates_and_a_learned_beta(self):
        results, lines = self.trained("--update-steps", 2, "--beta", "learned", "--steps", 30, "--sample", 50)
        hopfield = results["hopfield"]
        self.assertLess(hopfield["losses"][-1], hopfield["losses"][0] - 0.3)
        self.assertEqual(len(hopfield["betas"]), 4)
        self.assertEqual(len(set(hopfield["betas"])), 4)  # each head has learned its own
        self.assertEqual([sum(e["heads"].values()) for e in hopfield["evaluations"]], [4, 4])
        self.assertEqual(len(results["sample"]), 51)
        self.assertIn("the model writes:", lines)
        again, _ = self.trained("--update-steps", 2, "--beta", "learned", "--steps", 30)
        self.assertEqual(again["hopfield"]["losses"], hopfield["losses"])
        other, _ = self.trained("--update-steps", 2, "--beta", 3, "--steps", 5)
        self.assertEqual(set(other["hopfield"]["betas"]), {3.0})

    def test_goes_on_from_a_checkpoint_with_the_same_bits(self):
        whole, _ = self.trained("--attention", "both", "--steps", 60, "--threads", 1)
        started = subprocess.Popen([self.program, *map(str, SMALL), "--attention", "both", "--steps", "60", "--threads", "1",
                                    "--checkpoint", "run", "--text", "text.txt"], cwd=self.path, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        started.stdout.readline()  # from here on, the program ends in order
        time.sleep(0.3)
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=120)
        if started.returncode != 0:
            self.assertEqual(started.returncode, 1)
            self.assertIn("interrupted; go on with --resume --checkpoint run", errors)
        resumed, _ = self.trained("--attention", "both", "--steps", 60, "--threads", 1, "--checkpoint", "run", "--resume")
        for name in ("hopfield", "torch"):
            self.assertEqual(resumed[name]["losses"], whole[name]["losses"])
            self.assertEqual(resumed[name]["evaluations"], whole[name]["evaluations"])
        self.assert_refused(self.run_program(*SMALL, "--attention", "both", "--steps", 61, "--checkpoint", "run", "--resume"),
                            "--resume", "steps is 60 there and 61 here")
        self.assert_refused(self.run_program(*SMALL, "--checkpoint", "run"), "--checkpoint", "--overwrite")

    def test_a_saved_model_writes(self):
        self.printed(*SMALL, "--steps", 20, "--save-model", "model", "--quiet", "--type", "float64")
        text = "\n".join(self.printed("sample", "--model", "model", "--prompt", "3 times", "--length", 40))
        self.assertTrue(text.startswith("3 times"))
        self.assertEqual(text, "\n".join(self.printed("sample", "--model", "model", "--prompt", "3 times", "--length", 40)))
        other = self.printed("sample", "--model", "model", "--prompt", "3 times", "--length", 40, "--seed", 1)
        self.assertNotEqual(text, "\n".join(other))
        (self.path / "cut").write_bytes((self.path / "model").read_bytes()[:-9])
        content = (self.path / "model").read_bytes()
        (self.path / "edited").write_bytes(content.replace(b'\\"width\\":16', b'\\"width\\":18'))
        self.assert_all_refused([
            (["sample", "--model", "gone"], ["--model", "'gone'"]),
            (["sample", "--model", "text.txt"], ["--model", "text.txt"]),
            (["sample", "--model", "cut"], ["--model", "cut"]),
            (["sample", "--model", "edited"], ["--model", "does not fit its weights"]),
            (["sample", "--model", "model", "--prompt", "x"], ["--prompt", "'x'"]),
            (["sample", "--model", "model", "--temperature", 0], ["--temperature", "above 0"]),
            (["sample", "--prompt", "3"], ["--model"]),
        ])

    @unittest.skipUnless(HAS_GNUPLOT, "no gnuplot")
    def test_draws_losses_and_head_classes(self):
        self.printed(*SMALL, "--steps", 6, "--attention", "both", "--chart", "lm.png")
        self.assertEqual(programs.png_size(self.path / "lm.png"), (2 * 540, 430))
        self.printed(*SMALL, "--steps", 6, "--attention", "torch", "--chart", "lm.svg")
        self.assertIn("torch, rest of the text", (self.path / "lm.svg").read_text())

    def test_mistaken_calls_exit_with_2_and_leave_nothing(self):
        (self.path / "short.txt").write_text("too short")
        self.assert_all_refused([
            (["--text", "gone.txt"], ["--text", "'gone.txt'"]),
            (["--text", "short.txt"], ["--text", "at least", "got 9"]),
            ([*SMALL, "--width", 15], ["--width", "multiple of the 2 heads", "15"]),
            ([*SMALL, "--beta", "0"], ["--beta", "above 0", "'0'"]),
            ([*SMALL, "--beta", "lerned"], ["--beta", "'learned'", "'lerned'"]),
            ([*SMALL, "--attention", "torch", "--update-steps", 1], ["--update-steps", "hopfield or both"]),
            ([*SMALL, "--attention", "torch", "--beta", "learned"], ["--beta", "hopfield or both"]),
            ([*SMALL, "--attention", "tourch"], ["--attention", "did you mean torch?"]),
            ([*SMALL, "--type", "float16"], ["--type", "float32, float64"]),
            ([*SMALL, "--steps", 0], ["--steps", "from 1"]),
            ([*SMALL, "--lr", -1], ["--lr", "above 0"]),
            ([*SMALL, "--chart", "lm.gif"], ["--chart", ".png or .svg"]),
            ([*SMALL, "--json", "text.txt"], ["--json", "the input of --text"]),
            ([*SMALL, "--resume"], ["--resume", "--checkpoint"]),
            ([*SMALL, "--stps", 3], ["--stps: unknown option", "did you mean --steps?"]),
        ])

    def test_help_and_version_are_no_errors(self):
        self.assertIn("Exit codes: 0", "\n".join(self.printed("--help")))
        self.assertRegex(self.printed("--version")[0], r"^hopfield_lm \d+\.\d+\.\d+ \(LibTorch 2\..*\)$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
