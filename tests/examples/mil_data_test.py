"""CSV files as users of hopfield_mil bring them: mil_data_test.py HOPFIELD_MIL."""

import concurrent.futures
import csv
import gzip
import io
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

PROGRAM = sys.argv[1]
SHORT = ["--folds", "2", "--epochs", "2", "--embedding", "4", "--heads", "1", "--hidden", "4", "--threads", "1"]
CPP_NAMES = re.compile(r"\w::\w|c10|\.(cpp|h):\d|CsvOptions|Exception|std::")


def run(*arguments):
    return subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, errors="replace")


def run_all(calls):
    """Several calls at a time: loading LibTorch is most of each."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda call: run(*call), calls))


def rows(labels=("0", "1"), separator=",", point=".", change=lambda cells: cells, count=12, header=None):
    """A CSV text of `count` bags of two instances; the second feature tells the labels apart."""
    lines = [] if header is None else [separator.join(header)]
    for bag in range(count):
        for instance in range(2):
            cells = [labels[bag % 2], f"b{bag}", f"0{point}{bag}{instance}", f"{5 * (bag % 2)}{point}5", "1"]
            lines.append(separator.join(change(cells)))
    return "\n".join(lines) + "\n"


def without_label(cells):
    return cells[1:]


def with_first(row, text=None):
    return row + "\n" + (text or rows())


class MilDataTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.path = pathlib.Path(folder.name)
        cls.model = cls.path / "model.safetensors"
        (cls.path / "bags.csv").write_text(rows())
        result = run("--data", cls.path / "bags.csv", *SHORT, "--epochs", 30, "--lr", 0.02, "--save-model", cls.model)
        assert result.returncode == 0, result.stderr

    def write(self, name, content):
        path = self.path / f"{re.sub(r'[^a-z0-9]', '_', name.lower())}.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def check_all(self, cases, arguments, check):
        calls = []
        for name, (content, options, *_) in cases.items():
            calls.append([*arguments, "--data", self.write(name, content), *options])
        for (name, (_, _, *expected)), result in zip(cases.items(), run_all(calls)):
            with self.subTest(name):
                check(result, *expected)

    def check_refused(self, result, *parts):
        self.assertEqual(result.returncode, 2, result.stdout + result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)
        self.assertIsNone(CPP_NAMES.search(result.stderr), result.stderr)

    def check_done(self, result, *parts):
        self.assertEqual(result.returncode, 0, result.stderr)
        for part in parts:
            self.assertIn(part, result.stdout)

    def test_mistaken_files_are_answered_by_a_sentence(self):
        good = rows()
        utf16 = good.encode("utf-16")
        refused = {
            "empty": ("", [], "an empty file"),
            "header only": ("label,bag,x,y,z\n", [], "at least one row below the header"),
            "one column": ("1\n0\n", [], "at least 3 columns", "--delimiter"),
            "blanks between": (rows(separator=" "), [], "at least 3 columns", "--delimiter"),
            "first row of marks": (with_first("?,bag0,?,?,?"), [], "line 1, column 1", "'?'"),
            "header denied": (with_first("label,bag,x,y,z"), ["--header", "no"], "line 1, column 1", "'label'"),
            "text labels": (rows(("no", "yes")), [], "line 2, column 1", "'no'", "--positive"),
            "unknown positive": (rows(("no", "yes")), ["--positive", "si"], "--positive", "'si'", "'no', 'yes'"),
            "no positive": (good, ["--positive", ""], "--positive"),
            "three classes": (good + "7,b99,1,2,3\n", [], "2 classes", "got 3", "'0', '1', '7'", "--positive"),
            "question marks": (good.replace("5.5", "?", 1), [], "line 3, column 4", "'?'", "--missing"),
            "empty cells": (good.replace("5.5", "", 1), [], "line 3, column 4", "an empty cell", "--missing"),
            "nan": (good.replace("5.5", "NaN", 1), [], "line 3, column 4", "'NaN'", "--missing"),
            "missing label": (good.replace("1,b1", "?,b1", 1), ["--missing", "?"], "line 3, column 1", "label"),
            "too large": (good.replace("5.5", "-1e400", 1), [], "'-1e400'", "finite"),
            "decimal commas": (rows(separator=";", point=","), [], "line 1, column 3", "'0,00'", "decimal point"),
            "decimal comma in the label": (rows(("0,0", "1,0"), ";"), [], "line 1, column 1", "decimal point"),
            "trailing delimiters": (rows(change=lambda cells: [*cells, ""]), [], "line 1, column 6", "empty"),
            "one trailing delimiter": (good.replace("1\n1,b3", "1,\n1,b3", 1), [], "line 6", "ends with a delimiter"),
            "ragged": (good + "1,b99,1\n", [], "line 25", "5 columns", "got 3"),
            "empty line": (good.replace("\n", "\n\n", 1), [], "line 2", "empty lines"),
            "open quote": (good.replace("b3", '"b3', 1), [], "line 7, column 2", "closing quote"),
            "two labels in a bag": (good + "1,b0,1,2,3\n", [], "line 25", "'b0'", "'0'"),
            "carriage returns": (good.replace("\n", "\r"), [], "LF or CRLF"),
            "UTF-16": (utf16, [], "UTF-16"),
            "gzip": (gzip.compress(good.encode()), [], "gzip"),
            "wrong delimiter": (good, ["--delimiter", ";"], "at least 3 columns", "--delimiter"),
            "letter for a delimiter": (good, ["--delimiter", "x"], "--delimiter", "'x'"),
            "word for a delimiter": (good, ["--delimiter", "dots"], "--delimiter", "dots"),
        }
        self.check_all(refused, SHORT, self.check_refused)

    def test_unusual_files_are_read(self):
        good = rows()
        read = {
            "numbers for names": (with_first("label,bag,0,1,2"), [], "12 bags (6 positive), 24 instances, 3 features"),
            "text labels and a header": (with_first("l,b,0,1,2", rows(("no", "yes"))), ["--positive", "yes"], "6 positive", "24 inst"),
            "text labels without a header": (rows(("no", "yes")), ["--positive", "no"], "24 instances"),
            "classes of numbers": (good + "7,b99,1,2,3\n7,b98,1,2,3\n", ["--positive", "7"], "14 bags (2 positive)"),
            "header told": (with_first("9,9,9,9,9"), ["--header", "yes"], "24 instances"),
            "tabs": (rows(separator="\t", header=["label", "bag", "a, b, c", "d, e, f", "g"]), [], "24 instances"),
            "blanks told": (rows(separator=" "), ["--delimiter", "space"], "24 instances"),
            "tiny": (good.replace("0.00", "1e-400", 1).replace("0.01", "-1e-400", 1), [], "24 instances"),
            "quotes": (good.replace("b3", '"b ""3"", 4"'), [], "12 bags"),
            "missing": (good.replace("5.5", "NA", 2).replace("0.00", "?", 1), ["--missing", "NA,?"], "3 values missing"),
            "missing given twice": (good.replace("5.5", "NA", 2).replace("0.00", "?", 1), ["--missing", "NA", "--missing", "?"], "3 values"),
            "empty for missing": (good.replace("5.5", "", 2), ["--missing", ""], "2 values missing"),
            "numbers for missing": (good.replace("5.5", "-999.0", 2), ["--missing", "-999"], "2 values missing"),
            "constant or missing": (rows(change=lambda c: [*c[:4], "1" if c[0] == "1" else "?"]), ["--missing", "?"], "12 values"),
            "missing everywhere": (rows(change=lambda c: [*c[:4], "?"]), ["--missing", "?"], "24 values missing (1 feature"),
            "there in one bag only": (rows(change=lambda c: [*c[:4], "1e30" if c[1] == "b3" else ""]), ["--missing", ""], "22 values"),
            "mark and CRLF": (("\ufeff" + good).replace("\n", "\r\n") + "\r\n\r\n", [], "24 instances"),
            "numbers for bags": (good.replace("b", "0"), [], "12 bags"),
        }
        self.check_all(read, SHORT, self.check_done)

    def test_predict_reads_files_with_and_without_labels(self):
        good, unlabelled = rows(), rows(change=without_label)
        auc = "ROC AUC against the file's labels 1.0000"
        read = {
            "0 and 1": (good, [], auc),
            "-1 and 1": (rows(("-1", "1")), [], auc),
            "1 and 2": (rows(("1", "2")), [], auc),
            "text": (rows(("no", "yes")), ["--positive", "yes"], auc),
            "one label": (rows(("1", "1")), [], "no ROC AUC", "1 class"),
            "some labels": (good + "?,b99,1,2,3\n", [], "ROC AUC against the file's labels of 12 bags 1.0000"),
            "labels of marks": (rows(("?", "?")), [], "no ROC AUC", "12 bags without labels"),
            "no labels": (unlabelled, [], "12 bags without labels", "b11: "),
            "no labels, names": (with_first("bag,x,y,z", unlabelled), [], "12 bags without labels"),
            "no labels, numbers for names": (with_first("bag,0,1,2", unlabelled), [], "12 bags without labels"),
            "missing values": (good.replace("0.00", "?"), ["--missing", "?"], auc, "1 value missing"),
            "column missing": (rows(change=lambda c: [*c[:4], ""]), ["--missing", ""], auc, "24 values missing"),
        }
        predict = ["predict", "--model", self.model]
        self.check_all(read, predict, self.check_done)
        refused = {
            "more features": (rows(change=lambda c: [*c, "1"]), [], "3 features", "got 6"),
            "a feature less": (rows(change=lambda c: c[:4]), [], "'b0'", "3 features without labels"),
            "less features": (rows(change=lambda c: c[:3]), [], "3 features", "got 3"),
            "labels of text": (rows(("no", "yes")), [], "'no'", "--positive"),
            "missing without marks": (good.replace("0.00", "?"), [], "--missing"),
        }
        self.check_all(refused, predict, self.check_refused)

    def test_missing_values_are_replaced_by_the_training_mean(self):
        """A bag without any value gets the score of a bag of means."""
        means = [sum(float(line.split(",")[column]) for line in rows().splitlines()) / 24 for column in (2, 3, 4)]
        path = self.write("means", f"mean,{means[0]!r},{means[1]!r},{means[2]!r}\nmissing,NA,NA,NA\n")
        result = run("predict", "--model", self.model, "--data", path, "--missing", "NA", "--quiet")
        self.check_done(result)
        scores = [line.split()[1] for line in result.stdout.splitlines()]
        self.assertEqual(scores[0], scores[1], result.stdout)

    def test_results_speak_the_users_language(self):
        files = {name: self.path / name for name in ("r.json", "s.csv", "m.safetensors")}
        content = io.StringIO()
        for label, *cells in csv.reader(rows().splitlines()):
            csv.writer(content).writerow([('no, never', 'say "yes"')[int(label)], *cells])
        path = self.write("own words", content.getvalue())
        arguments = ["--data", path, *SHORT, "--repeats", 2, "--positive", 'say "yes"', "--json", files["r.json"],
                     "--scores", files["s.csv"], "--save-model", files["m.safetensors"]]
        result = run(*arguments)
        self.check_done(result)
        for file in files.values():
            self.assertIn(str(file), "\n".join(result.stdout.splitlines()[-2:]))
        scores = list(csv.DictReader(files["s.csv"].read_text().splitlines()))
        self.assertEqual({row["label"] for row in scores}, {"no, never", 'say "yes"'})
        self.assertEqual({row["fold"] for row in scores}, {"1", "2"})
        self.assertEqual({row["repeat"] for row in scores}, {"1", "2"})
        results = json.loads(files["r.json"].read_text())
        self.assertRegex(results["version"], r"^\d+\.\d+\.\d+$")
        self.assertIn("'say \"yes\"'", results["command"])
        self.assertEqual(results["options"]["epochs"], 2)
        self.assertEqual(results["options"]["positive"], 'say "yes"')
        self.assertEqual(results["threads"], 1)
        self.assertGreater(results["seconds"], 0)
        self.assertIn("n - 1", results["std_definition"])
        self.assertEqual(len(results["auc"]["folds"]), 4)
        predicted = run("predict", "--model", files["m.safetensors"], "--data", path, "--positive", 'say "yes"',
                        "--scores", self.path / "p.csv")
        self.check_done(predicted, "ROC AUC against the file's labels", str(self.path / "p.csv"))

    def test_labels_of_numbers_are_kept_as_written(self):
        run("--data", self.write("signs", rows(("-1", "+1.0"))), *SHORT, "--scores", self.path / "signs.scores")
        scores = list(csv.DictReader((self.path / "signs.scores").read_text().splitlines()))
        self.assertEqual({row["label"] for row in scores}, {"-1", "+1.0"})


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
