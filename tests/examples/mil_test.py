"""The program hopfield_mil as its users meet it: mil_test.py HOPFIELD_MIL DATA_DIR."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
MUSK1 = DATA / "mil" / "musk1.csv"
SHORT = ["--folds", "4", "--epochs", "3", "--embedding", "16", "--heads", "2", "--hidden", "8"]


def run(*arguments, **options):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def table(bags, features=3, separator=","):
    """A CSV text: bags of label -> (id, rows)."""
    lines = []
    for number, (label, rows) in enumerate(bags):
        for row in rows:
            lines.append(separator.join([str(label), f"b{number}", *[str(x) for x in row]]))
    return "\n".join(lines) + "\n"


def separable(bags=24):
    return table([(i % 2, [[i * 0.01, 1.0, 5.0 * (i % 2)], [0.5, 1.0, -0.01 * i]]) for i in range(bags)])


class MilTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        (self.path / "bags.csv").write_text(separable())

    def assert_refused(self, result, *parts, code=2):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)

    def test_trains_reports_and_keeps_results(self):
        files = {name: self.path / name for name in ("r.json", "s.csv", "m.safetensors")}
        result = run("--data", self.path / "bags.csv", *SHORT, "--epochs", 30, "--json", files["r.json"], "--scores",
                     files["s.csv"], "--save-model", files["m.safetensors"], "--threads", 2, "--seed", 3)
        self.assertEqual(result.returncode, 0, result.stderr)
        first, *_, last = result.stdout.splitlines()
        for part in ("hopfield 0.", "LibTorch 2.", "device cpu", "threads 2", "seed 3"):
            self.assertIn(part, first)
        self.assertIn("ROC AUC", last)
        self.assertNotIn("\r", result.stderr, "no bar where there is no terminal")
        results = json.loads(files["r.json"].read_text())
        self.assertEqual(len(results["auc"]["folds"]), 4)
        self.assertAlmostEqual(results["auc"]["mean"], sum(results["auc"]["folds"]) / 4)
        self.assertGreater(results["auc"]["mean"], 0.9)
        self.assertIn("std", results["accuracy"])
        scores = files["s.csv"].read_text().splitlines()
        self.assertEqual(scores[0], "repeat,fold,bag,label,score")
        self.assertEqual(len({line.split(",")[2] for line in scores[1:]}), 24)

        predicted = run("predict", "--model", files["m.safetensors"], "--data", self.path / "bags.csv", "--scores",
                        self.path / "p.csv", "--top", 1)
        self.assertEqual(predicted.returncode, 0, predicted.stderr)
        # The first instance of every positive bag is what makes it positive.
        line = next(line for line in predicted.stdout.splitlines() if line.startswith("b1:"))
        self.assertIn("decided by instances 0 ", line)
        self.assertGreater(float(line.split()[1]), 0.5)
        rows = (self.path / "p.csv").read_text().splitlines()
        self.assertEqual(len(rows), 1 + 48)

        other = run("--data", self.path / "bags.csv", *SHORT, "--epochs", 30, "--json", self.path / "o.json", "--threads",
                    1, "--seed", 3, "--quiet")
        self.assertEqual(len(other.stdout.splitlines()), 1)
        self.assertEqual((self.path / "o.json").read_bytes(), files["r.json"].read_bytes())

    def test_repeats_use_other_folds(self):
        run("--data", self.path / "bags.csv", *SHORT, "--repeats", 2, "--json", self.path / "r.json", "--scores", self.path / "s.csv")
        self.assertEqual(len(json.loads((self.path / "r.json").read_text())["auc"]["folds"]), 8)
        rows = [line.split(",") for line in (self.path / "s.csv").read_text().splitlines()[1:]]
        fold_of = [{row[2]: row[1] for row in rows if row[0] == repeat} for repeat in "01"]
        self.assertNotEqual(fold_of[0], fold_of[1])

    def interrupt(self, signal_number, wait_for_checkpoint):
        """Ends a run in its middle; returns the arguments it had."""
        arguments = ["--data", MUSK1, "--folds", 4, "--epochs", 60, "--checkpoint", self.path / "run.safetensors", "--threads", 2]
        process = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        began = time.monotonic()
        while time.monotonic() - began < (60 if wait_for_checkpoint else 1.5) and process.poll() is None:
            if wait_for_checkpoint and (self.path / "run.safetensors").exists():
                break
            time.sleep(0.02)
        self.assertIsNone(process.poll(), "the run ended before it could be interrupted")
        process.send_signal(signal_number)
        _, errors = process.communicate(timeout=120)
        return arguments, process.returncode, errors

    def check_resumed_run_equals_uninterrupted(self, arguments):
        checkpoint = self.path / "run.safetensors"
        self.assertTrue(checkpoint.exists())
        resumed = run(*arguments, "--resume", "--json", self.path / "resumed.json", "--scores", self.path / "resumed.csv")
        self.assertEqual(resumed.returncode, 0, resumed.stderr)
        whole = run("--data", MUSK1, "--folds", 4, "--epochs", 60, "--json", self.path / "whole.json", "--scores", self.path / "whole.csv")
        self.assertEqual(whole.returncode, 0, whole.stderr)
        for ending in ("json", "csv"):
            self.assertEqual((self.path / f"resumed.{ending}").read_bytes(), (self.path / f"whole.{ending}").read_bytes())

    @unittest.skipUnless(MUSK1.exists(), "no musk1.csv: run scripts/bootstrap.sh")
    def test_ctrl_c_saves_and_resume_goes_on_bitwise(self):
        arguments, code, errors = self.interrupt(signal.SIGINT, wait_for_checkpoint=False)
        self.assertEqual(code, 1, errors)
        self.assertIn("--resume", errors)
        self.check_resumed_run_equals_uninterrupted(arguments)

    @unittest.skipUnless(MUSK1.exists(), "no musk1.csv: run scripts/bootstrap.sh")
    def test_a_killed_run_goes_on_bitwise(self):
        arguments, code, _ = self.interrupt(signal.SIGKILL, wait_for_checkpoint=True)
        self.assertEqual(code, -signal.SIGKILL)
        self.check_resumed_run_equals_uninterrupted(arguments)

    def test_checkpoints_of_something_else_are_refused(self):
        checkpoint = self.path / "run.safetensors"
        base = ["--data", self.path / "bags.csv", *SHORT, "--checkpoint", checkpoint]
        self.assertEqual(run(*base).returncode, 0)
        kept = checkpoint.read_bytes()
        self.assert_refused(run(*base, "--resume", "--epochs", 5), "epochs is 3 there and 5 here")
        self.assert_refused(run(*base, "--resume", "--seed", 5), "seed is 0 there and 5 here")
        self.assertEqual(checkpoint.read_bytes(), kept)
        checkpoint.write_bytes(kept[: len(kept) // 2])
        self.assert_refused(run(*base, "--resume"), "run.safetensors")
        checkpoint.write_bytes(b"nonsense")
        self.assert_refused(run(*base, "--resume"), "run.safetensors")
        checkpoint.unlink()
        self.assert_refused(run(*base, "--resume"), "run.safetensors", "No such file")
        self.assert_refused(run("--data", self.path / "bags.csv", "--resume"), "--checkpoint")

    def test_wrong_calls_exit_with_2(self):
        data = ["--data", self.path / "bags.csv"]
        wrong = {
            (): "--data",
            ("--data", "nothing_like_it"): "musk1",
            (*data, "--foldz", "3"): "--foldz",
            (*data, "--folds", "1"): "--folds",
            (*data, "--folds", "13"): "at most 12 folds",
            (*data, "--epochs", "0"): "--epochs",
            (*data, "--epochs", "many"): "--epochs",
            (*data, "--lr", "-1"): "--lr",
            (*data, "--lr", "nan"): "--lr",
            (*data, "--lr-decay", "2"): "--lr-decay",
            (*data, "--dropout", "1.5"): "--dropout",
            (*data, "--bag-dropout", "-0.5"): "--bag-dropout",
            (*data, "--heads", "0"): "--heads",
            (*data, "--hidden", "-3"): "--hidden",
            (*data, "--batch", "0"): "--batch",
            (*data, "--beta", "nan"): "--beta",
            (*data, "--update-steps", "-2"): "--update-steps",
            (*data, "--threads", "-1"): "--threads",
            (*data, "--seed", "-1"): "--seed",
            (*data, "--device", "gpu"): "--device",
            (*data, "--device", "cuda:99"): "--device",
            (*data, "--json", "/no/such/folder/r.json"): "--json",
            (*data, "--json", str(self.path)): "--json",
            ("predict", "--data", self.path / "bags.csv"): "--model",
            ("predict", "--model", "none", "--data", self.path / "bags.csv"): "none",
            ("predict", "--model", self.path / "bags.csv", "--data", self.path / "bags.csv"): "safetensors",
        }
        for arguments, part in wrong.items():
            with self.subTest(arguments):
                self.assert_refused(run(*arguments), part)

    def test_broken_files_exit_with_2_and_leave_nothing(self):
        good = separable()
        broken = {
            "empty": ("", "expected"),
            "header only": ("label,bag,x,y,z\n", "expected"),
            "too few columns": ("1,b0\n0,b1\n", "columns"),
            "ragged": (good + "1,b99,1.0\n", "line 49"),
            "not a number": (good.replace("5.0", "five", 1), "five"),
            "NaN": (good.replace("5.0", "nan", 1), "nan"),
            "too large": (good.replace("5.0", "1e400", 1), "1e400"),
            "one class": (good.replace("\n0,", "\n1,").replace("0,b0", "1,b0", 2), "class"),
            "three classes": (good + "7,b99,1,2,3\n", "class"),
            "two labels in a bag": (good + "1,b0,1,2,3\n", "b0"),
            "a NUL byte": (good.replace("5.0", "5\0", 1), "line"),
        }
        for name, (text, part) in broken.items():
            with self.subTest(name):
                (self.path / "broken.csv").write_text(text)
                self.assert_refused(run("--data", self.path / "broken.csv", *SHORT, "--json", self.path / "none.json"), part)
                self.assertFalse((self.path / "none.json").exists())
        for name, text in {"BOM": "\ufeff" + good, "CRLF": good.replace("\n", "\r\n")}.items():
            with self.subTest(name):
                (self.path / "odd.csv").write_text(text, newline="")
                self.assertEqual(run("--data", self.path / "odd.csv", *SHORT, "--epochs", 1).returncode, 0)
        self.assert_refused(run("--data", self.path), "folder")

    def test_predict_refuses_other_features_and_models(self):
        model = self.path / "m.safetensors"
        self.assertEqual(run("--data", self.path / "bags.csv", *SHORT, "--save-model", model).returncode, 0)
        (self.path / "wide.csv").write_text(table([(1, [[1, 2, 3, 4]]), (0, [[1, 2, 3, 4]])]))
        self.assert_refused(run("predict", "--model", model, "--data", self.path / "wide.csv"), "3 features", "4")
        bytes_of_model = model.read_bytes()
        model.write_bytes(bytes_of_model.replace(b"\\\"heads\\\":2", b"\\\"heads\\\":9"))
        self.assertNotEqual(model.read_bytes(), bytes_of_model)
        self.assert_refused(run("predict", "--model", model, "--data", self.path / "bags.csv"), "expected tensors")
        (self.path / "one.csv").write_text("0,only,1,2,3\n")
        model.write_bytes(bytes_of_model)
        result = run("predict", "--model", model, "--data", self.path / "one.csv", "--quiet")
        self.assertEqual((result.returncode, len(result.stdout.splitlines())), (0, 1))

    def test_help_is_no_error(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("--update-steps", result.stdout)
        self.assertIn("predict", result.stdout)


if __name__ == "__main__":
    os.environ.pop("HOPFIELD_DATA", None)
    unittest.main(argv=sys.argv[:1])
