"""The program hopfield_mil as its users meet it: mil_test.py HOPFIELD_MIL DATA_DIR."""

import concurrent.futures
import fcntl
import json
import os
import pathlib
import pty
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

import mil_mistakes

PROGRAM, DATA = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
MUSK1 = DATA / "mil" / "musk1.csv"
SHORT = ["--folds", "4", "--epochs", "3", "--embedding", "16", "--heads", "2", "--hidden", "8"]


def run(*arguments, **options):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def run_all(calls):
    """On all cores, because most of a short run is the loading of LibTorch."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda call: run(*call), calls))


def small_files():
    """For preexec_fn: a file of more than 20 kB cannot be written, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))


def options_of(path):
    content = json.loads(path.read_text())
    return content.get("options", content)


def results_of(path):
    content = json.loads(path.read_text())
    return content["auc"], content["accuracy"]


def edit_metadata(path, edit):
    """Changes the metadata of a safetensors file."""
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    edit(header["__metadata__"])
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[end:])


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

    def start(self, *arguments, **options):
        process = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def assert_refused(self, result, *parts, code=2):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)
        self.assertNotRegex(result.stderr, r"\w::\w|c10|json\.exception|\.(cpp|h):\d|std::")

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
        self.assertEqual(results_of(self.path / "o.json"), results_of(files["r.json"]))

    def test_repeats_use_other_folds(self):
        run("--data", self.path / "bags.csv", *SHORT, "--repeats", 2, "--json", self.path / "r.json", "--scores", self.path / "s.csv")
        self.assertEqual(len(json.loads((self.path / "r.json").read_text())["auc"]["folds"]), 8)
        rows = [line.split(",") for line in (self.path / "s.csv").read_text().splitlines()[1:]]
        fold_of = [{row[2]: row[1] for row in rows if row[0] == repeat} for repeat in sorted({row[0] for row in rows})]
        self.assertEqual(len(fold_of), 2)
        self.assertNotEqual(fold_of[0], fold_of[1])

    @unittest.skipUnless(MUSK1.exists(), "no musk1.csv: run scripts/bootstrap.sh")
    def test_a_run_that_is_killed_and_interrupted_goes_on_bitwise(self):
        """Killed after its first checkpoint, resumed, ended by a terminal that closes, and resumed again."""
        checkpoint = self.path / "run.safetensors"

        def arguments(name):
            files = [f"--json={self.path / name}.json", f"--scores={self.path / name}.csv", f"--save-model={self.path / name}.model"]
            return ["--data", MUSK1, "--folds", 4, "--epochs", 40, "--threads", 2, *files]

        parts = [*arguments("parts"), "--checkpoint", checkpoint]
        process = self.start(*parts)
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        self.assertEqual(process.returncode, -signal.SIGKILL, "the run ended before it could be killed")
        process = self.start(*parts, "--resume")
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn("go on with --resume", errors)
        for call in ([*parts, "--resume"], arguments("whole")):
            result = run(*call)
            self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(results_of(self.path / "parts.json"), results_of(self.path / "whole.json"))
        for name in ("csv", "model"):
            self.assertEqual((self.path / f"parts.{name}").read_bytes(), (self.path / f"whole.{name}").read_bytes())

    def test_signals_end_the_run_unless_they_were_ignored(self):
        arguments = ["--data", self.path / "bags.csv", *SHORT, "--epochs", 1000000, "--repeats", 10000]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                process = self.start(*arguments, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
                process.stdout.readline()
                process.send_signal(number)
                _, errors = process.communicate(timeout=20)
                self.assertEqual(process.returncode, 1, errors)
                self.assertIn("nothing was kept", errors)
        process = self.start(*arguments, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        with self.assertRaises(subprocess.TimeoutExpired):
            process.communicate(timeout=0.5)

    def checkpointed(self, *more):
        return ["--data", self.path / "bags.csv", *SHORT, "--checkpoint", self.path / "run.safetensors", *more]

    def test_checkpoints_of_something_else_are_refused(self):
        checkpoint, base = self.path / "run.safetensors", self.checkpointed()
        self.assertEqual(run(*base).returncode, 0)
        self.assertFalse((self.path / "run.safetensors.lock").exists())
        kept = checkpoint.read_bytes()
        changes = {
            (): ["run.safetensors", "--resume", "--overwrite"],
            ("--resume", "--epochs", 5): ["epochs is 3 there and 5 here"],
            ("--resume", "--seed", 5): ["seed is 0 there and 5 here"],
        }
        for change, parts in changes.items():  # one after the other: they all want the checkpoint's lock
            with self.subTest(change):
                self.assert_refused(run(*base, *change), *parts)
        self.assertEqual(checkpoint.read_bytes(), kept)

        def edited(change):
            copy = self.path / "copy"
            copy.write_bytes(kept)
            edit_metadata(copy, change)
            return copy.read_bytes()

        damaged = {
            "half": (kept[: len(kept) // 2], "truncated"),
            "empty": (b"", "got 0"),
            "nonsense": (b"nonsense", "not a safetensors file"),
            "newer": (edited(lambda metadata: metadata.update({"run.version": "9"})), "format '9'"),
            "elsewhere": (edited(lambda metadata: metadata.update({"run.program": "another"})), "the program 'another'"),
            "digest": (edited(lambda metadata: metadata.update({"run.digest": "0" * 16})), "damaged"),
            "other": (edited(lambda metadata: metadata.clear()), "did not write"),
        }
        for position in (9, len(kept) // 3, len(kept) // 2, len(kept) - 1):
            damaged[f"byte{position}"] = (kept[:position] + bytes([kept[position] ^ 4]) + kept[position + 1 :], "--resume")
        for name, (content, _) in damaged.items():
            (self.path / name).write_bytes(content)
        results = run_all([*base, "--resume", "--checkpoint", self.path / name] for name in damaged)
        for (name, (content, part)), result in zip(damaged.items(), results):
            with self.subTest(name):
                self.assert_refused(result, name, part)
                self.assertEqual((self.path / name).read_bytes(), content)

        bags = (self.path / "bags.csv").read_text()
        for name, text in {"a cell": bags.replace("5.0", "5.0000000001", 1), "the file": bags + "\n"}.items():
            with self.subTest(name):
                (self.path / "bags.csv").write_text(text)
                self.assert_refused(run(*base, "--resume"), "digest of the data")
        (self.path / "bags.csv").write_text(bags)
        self.assertEqual(run(*base, "--resume", "--threads", 1).returncode, 0)
        self.assertEqual(run(*base, "--overwrite", "--epochs", 4).returncode, 0)
        checkpoint.unlink()
        self.assert_refused(run(*base, "--resume"), "run.safetensors", "No such file")

    def test_the_first_fold_is_kept_and_others_keep_off(self):
        arguments = self.checkpointed("--epochs", 100, "--repeats", 200, "--threads", 1)
        process = self.start(*arguments)
        while "fold  1/4" not in (line := process.stdout.readline()):
            self.assertNotEqual(line, "")
        self.assertTrue((self.path / "run.safetensors").exists())
        (self.path / "other_name").symlink_to(self.path / "run.safetensors")
        for more in (["--resume"], ["--overwrite"], ["--resume", "--checkpoint", self.path / "other_name"]):
            self.assert_refused(run(*arguments, *more), "--checkpoint", "no other process")
        process.kill()
        process.communicate()
        self.assertEqual(run(*self.checkpointed("--overwrite")).returncode, 0)

    def test_results_that_cannot_be_written_do_not_keep_the_others(self):
        names = ("r.json", "s.csv", "m.safetensors", "run.safetensors")
        files = {name: self.path / name for name in names}
        result = run(*self.checkpointed("--embedding", 64), "--save-model", files["m.safetensors"], "--json", files["r.json"],
                     "--scores", files["s.csv"], preexec_fn=small_files)
        self.assertEqual(result.returncode, 1)
        self.assertIn("ROC AUC", result.stdout.splitlines()[-1])
        self.assertIn("--save-model: cannot write", result.stderr)
        self.assertIn("--checkpoint: cannot write", result.stderr)
        self.assertNotIn("::", result.stderr)
        self.assertEqual(sorted(path.name for path in self.path.iterdir()), ["bags.csv", "r.json", "s.csv"])

    def test_output_that_cannot_be_printed_is_a_failure(self):
        for arguments in (["--help"], ["--version"], ["--data", self.path / "bags.csv", *SHORT, "--json", self.path / "r.json"]):
            with self.subTest(arguments), open("/dev/full", "w") as full:
                result = subprocess.run([PROGRAM, *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, text=True)
                self.assert_refused(result, "standard output", "No space left", code=1)
        self.assertEqual(len(results_of(self.path / "r.json")[0]["folds"]), 4)
        closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", PROGRAM, "--version"], stderr=subprocess.PIPE, text=True)
        self.assert_refused(closed, "standard output", code=1)

    def test_numbers_are_read_as_they_are_written(self):
        def options_after(*arguments):
            result = run("--data", self.path / "bags.csv", *SHORT, "--overwrite", "--checkpoint", self.path / "c", "--json",
                         self.path / "r.json", *arguments)
            self.assertEqual(result.returncode, 0, result.stderr)
            return options_of(self.path / "r.json")

        self.assertEqual(options_after("--epochs", "010")["epochs"], 10)
        options = options_after("--seed", "08", "--lr=+1e-2", "--folds", "4", "--folds=3")
        self.assertEqual((options["seed"], options["lr"], options["folds"]), (8, 0.01, 3))
        self.assertEqual(options_after("--seed", "18446744073709551615")["seed"], 2**64 - 1)

    def test_paths_in_any_spelling(self):
        for name in ("näher 東京.csv", "{}.csv", "-dash.csv", os.fsdecode(b"\xff.csv")):
            with self.subTest(name):
                (self.path / name).write_text(separable())
                result = subprocess.run([PROGRAM, "--data", name, *SHORT, "--json", name + ".json", "--checkpoint", name + ".c", "--quiet"],
                                        cwd=self.path, capture_output=True)
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertTrue((self.path / (name + ".json")).exists())

    def test_divergence_names_place_and_remedy(self):
        for arguments in (["--lr", "1e30"], ["--lr", "1e10"], ["--beta", "1e300"]):
            with self.subTest(arguments):
                result = run("--data", self.path / "bags.csv", *SHORT, *arguments, "--batch", 24)
                self.assert_refused(result, "repeat 1 fold ", "epoch ", "diverged", "--lr", code=1)

    def test_the_bar_fits_any_terminal(self):
        for columns in (30, 12, 3):
            with self.subTest(columns):
                ours, theirs = pty.openpty()
                fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
                result = subprocess.run([PROGRAM, "--data", str(self.path / "bags.csv"), *SHORT], stdout=subprocess.PIPE,
                                        stderr=theirs, env={**os.environ, "TERM": "xterm"})
                os.close(theirs)
                drawn = os.read(ours, 1 << 16).decode().replace("\033[K", "").split("\r")
                os.close(ours)
                self.assertEqual(result.returncode, 0)
                self.assertGreater(len(drawn), 2)
                self.assertLess(max(map(len, drawn)), columns, drawn)

    def test_mistaken_calls_exit_with_2_and_leave_nothing(self):
        mil_mistakes.prepare(self.path)
        (self.path / "model.safetensors").write_bytes(b"")
        before = sorted(path.name for path in self.path.iterdir())
        calls = mil_mistakes.all_calls(self.path)
        for (arguments, parts), result in zip(calls, run_all(arguments for arguments, _ in calls)):
            with self.subTest(arguments):
                self.assert_refused(result, *parts)
                self.assertEqual(result.stdout, "")
        self.assertEqual(sorted(path.name for path in self.path.iterdir()), before)

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
        for name, (text, _) in broken.items():
            (self.path / f"{name}.csv").write_text(text)
        results = run_all(["--data", self.path / f"{name}.csv", *SHORT, "--json", self.path / "none.json"] for name in broken)
        for (name, (_, part)), result in zip(broken.items(), results):
            with self.subTest(name):
                self.assert_refused(result, part)
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

    def test_help_and_version_are_no_errors(self):
        result = run("--help")
        self.assertEqual(result.returncode, 0)
        benchmarks = [path.stem for path in (DATA / "mil").glob("*.csv")]
        for part in ("--update-steps", "predict", "Exit codes: 0", "--overwrite", *benchmarks):
            self.assertIn(part, result.stdout)
        for arguments in (["predict", "--help"], ["predict", "--model", "-h"]):
            self.assertRegex(run(*arguments).stdout, r"(?s)Usage: hopfield_mil predict.*--top.*Exit codes: 0")
        self.assertEqual(run("--epochs", 0, "--help").returncode, 0)
        self.assertRegex(run("--version").stdout, r"^hopfield_mil \d+\.\d+\.\d+ \(LibTorch 2\..*\)\n$")


if __name__ == "__main__":
    os.environ.pop("HOPFIELD_DATA", None)
    unittest.main(argv=sys.argv[:1])
