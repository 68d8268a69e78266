"""The program hopfield_theory as its users meet it: theory_test.py HOPFIELD_THEORY DATA_DIR."""

import json
import math
import os
import pathlib
import shutil
import struct
import sys
import unittest

import programs

HAS_GNUPLOT = shutil.which("gnuplot") is not None
DIGITS = pathlib.Path(os.path.abspath(sys.argv[2])) / "digits.csv"
# Two patterns that are close to each other, and two that are not.
ROWS = [(3.0, 0.0, 0.0), (2.9, 0.5, 0.0), (0.0, 3.0, 0.0), (0.0, 0.0, 3.0)]


def safetensors(path, tensors):
    """Writes float64 tensors: name to (shape, numbers)."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        header[name] = {"dtype": "F64", "shape": shape, "data_offsets": [len(data), len(data) + 8 * len(values)]}
        data += struct.pack(f"<{len(values)}d", *values)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class TheoryTest(programs.ProgramTest):
    program = os.path.abspath(sys.argv[1])

    def setUp(self):
        super().setUp()
        (self.path / "rows.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in ROWS))

    def analysed(self, *arguments):
        lines = self.printed(*arguments, "--json", "t.json")
        return json.loads((self.path / "t.json").read_text()), lines

    def test_guarantees_and_observations_of_four_patterns(self):
        beta, most = 3.0, 3.0
        results, lines = self.analysed("--patterns", "rows.csv", "--beta", beta)
        required = 2 / (beta * 4) + math.log(2 * 3 * 4 * beta * most**2) / beta
        self.assertAlmostEqual(results["separation"]["required"], required, 12)
        dot = lambda a, b: sum(x * y for x, y in zip(a, b))
        for i, (row, entry) in enumerate(zip(ROWS, results["each_pattern"])):
            delta = min(dot(row, row) - dot(row, other) for j, other in enumerate(ROWS) if j != i)
            self.assertAlmostEqual(entry["delta"], delta, 6)  # a CSV file is read as float32
            self.assertEqual(entry["well_separated"], delta >= required)
            self.assertEqual(entry["from_beta"] is None, delta <= 0)
        self.assertEqual(results["separation"]["well_separated"], 2)
        self.assertIn("  no guarantee: Delta_1 = ", "\n".join(lines))
        self.assertIn("  guaranteed: Delta_", "\n".join(lines))
        theorems = results["theorems"]
        self.assertLess(theorems["1"]["largest_rise"], 1e-12)
        self.assertLess(theorems["2"]["largest_gradient"], 1e-10)
        self.assertEqual((theorems["qualifying"], theorems["held"]), (2, 2))
        for promise in (theorems["4"]["update_distance"], theorems["5"]["retrieval_error"], theorems["5"]["fixed_point_error"]):
            self.assertLessEqual(promise["observed"], promise["guaranteed"] + 1e-14)
        for entry in results["each_query"]:
            self.assertLessEqual(entry["final_energy"], entry["energy"] + 1e-12)
        self.assertEqual(lines[-1], "2 of 4 patterns are well separated at beta 3, never all of them; theorems 4 and 5 speak about "
                                    "2 of 4 queries and hold for 2 of them")
        # k90 falls from all patterns to one.
        self.assertEqual((results["k90"]["median"][0], results["k90"]["median"][-1]), (4, 1))
        self.assertEqual(self.printed("--patterns", "rows.csv", "--beta", beta, "--quiet"), lines[-1:])

    def test_every_kind_of_file_gives_the_same(self):
        (self.path / "labelled.csv").write_text("x,y,z,label\n" + "".join(f"{a},{b},{c},cat\n" for a, b, c in ROWS))
        flat = [value for row in ROWS for value in row]
        safetensors(self.path / "one.safetensors", {"keys": ([4, 3], flat)})
        safetensors(self.path / "two.safetensors", {"bias": ([3], flat[:3]), "keys": ([4, 1, 3], flat)})
        (self.path / "half.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in ROWS[2:]))
        (self.path / "other.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in ROWS[:2]))
        calls = [["rows.csv"], ["labelled.csv", "--labelled"], ["one.safetensors"], ["two.safetensors", "--tensor", "keys"],
                 ["other.csv", "--patterns", "half.csv"]]
        lines = [result.stdout for result in self.run_all(["--quiet", "--beta", 3, "--patterns", *call] for call in calls)]
        self.assertEqual(lines, lines[:1] * len(calls))
        self.assertIn("2 of 4 patterns", lines[0])

    def test_images_are_patterns_too(self):
        (self.path / "images").mkdir()
        for number in range(3):
            programs.png(self.path / "images" / f"{number}.png", [[float(x == number) for x in range(4)] for _ in range(5)])
        results, _ = self.analysed("--patterns", "images", "--beta", 4, "--queries", "images/1.png")
        self.assertEqual((results["patterns"]["count"], results["patterns"]["features"]), (3, 20))
        self.assertEqual([entry["name"] for entry in results["each_pattern"]], ["0.png", "1.png", "2.png"])
        self.assertEqual([(entry["name"], entry["pattern"]) for entry in results["each_query"]], [("1.png", 1)])
        small, _ = self.analysed("--patterns", "images", "--size", "2x2")
        self.assertEqual(small["patterns"]["features"], 4)

    def test_normalization_noise_and_the_choice_of_beta(self):
        unit, _ = self.analysed("--patterns", "rows.csv", "--normalize", "unit")
        self.assertAlmostEqual(unit["patterns"]["largest_norm"], 1, 6)
        self.assertAlmostEqual(unit["beta"], 1 / math.sqrt(3), 12)
        layer, _ = self.analysed("--patterns", "rows.csv", "--normalize", "layer")
        self.assertAlmostEqual(layer["patterns"]["largest_norm"], math.sqrt(3), 4)
        chosen, _ = self.analysed("--patterns", "rows.csv", "--k90", 2)
        self.assertEqual(self.analysed("--patterns", "rows.csv", "--k90", 2)[0]["beta"], chosen["beta"])
        noisy, again, other = (self.analysed("--patterns", "rows.csv", "--noise", 0.1, "--seed", seed)[0]["each_query"]
                               for seed in (1, 1, 2))
        self.assertEqual(noisy, again)
        self.assertNotEqual(noisy, other)
        self.assertTrue(all(0 < entry["distance"] < 1 for entry in noisy))

    @unittest.skipUnless(DIGITS.exists(), "no digits.csv: run scripts/bootstrap.sh --tests")
    def test_the_digits_have_guaranteed_and_other_patterns(self):
        results, lines = self.analysed()
        self.assertEqual(results["separation"]["well_separated"], 69)
        self.assertEqual(results["theorems"]["held"], results["theorems"]["qualifying"])
        self.assertGreater(results["theorems"]["held"], 0)
        self.assertIn("1797 patterns of 64 features, beta 0.125", lines[1])
        page = "\n".join(lines)
        for part in ("  guaranteed: Delta_", "  no guarantee: Delta_", *(f"Theorem {n}, " for n in (1, 2, 3)), "T4: ", "T5: "):
            self.assertIn(part, page)

    @unittest.skipUnless(HAS_GNUPLOT, "no gnuplot")
    def test_draws_three_panels(self):
        lines = self.printed("--patterns", "rows.csv", "--beta", 1, "--chart", "t.png", "--noise", 0.1)
        self.assertIn("wrote t.png", lines)
        self.assertEqual(programs.png_size(self.path / "t.png"), (3 * 540, 430))
        self.printed("--patterns", "rows.csv", "--chart", "t.svg", "--beta", 3, "--noise", 0.1)
        picture = (self.path / "t.svg").read_text()
        for part in ("separation of the patterns", "energy along updates", "patterns that a pattern retrieves", "beta 3<"):
            self.assertIn(part, picture)
        # Equal patterns: no beta separates them, and no query moves.
        (self.path / "equal.csv").write_text("1,2\n1,2\n")
        self.assertIn("never all of them", self.printed("--patterns", "equal.csv", "--chart", "e.svg")[-1])

    def test_leaves_a_script_where_gnuplot_is_missing(self):
        result = self.run_program("--patterns", "rows.csv", "--chart", "t.png", env={**os.environ, "PATH": "/nonexistent"})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("gnuplot is not installed", result.stderr)
        self.assertNotIn("wrote t.png", result.stdout)
        self.assertTrue((self.path / "t.gnuplot").exists() and (self.path / "t.dat").exists())

    def test_mistaken_calls_exit_with_2_and_leave_nothing(self):
        for name, text in {"one.csv": "1,2,3\n", "text.csv": "1,2,3\n4,5,six\n7,8,9\n", "zeros.csv": "0,0,0\n0,0,0\n",
                           "narrow.csv": "1,2\n3,4\n", "empty.csv": ""}.items():
            (self.path / name).write_text(text)
        safetensors(self.path / "two.safetensors", {"bias": ([3], [1, 2, 3]), "keys": ([2, 2], [1, 2, 3, 4])})
        safetensors(self.path / "nan.safetensors", {"keys": ([2, 2], [1, 2, math.nan, 4])})
        programs.png(self.path / "a.png", [[0.5, 1.0]])
        programs.png(self.path / "b.png", [[0.5, 1.0, 0.0]])
        (self.path / "none").mkdir()
        rows = ["--patterns", "rows.csv"]
        self.assert_all_refused([
            (["--patterns", "gone.csv"], ["--patterns", "'gone.csv'"]),
            (["--patterns", "one.csv"], ["--patterns", "at least 2 patterns"]),
            (["--patterns", "text.csv"], ["--patterns", "line 2", "'six'", "--labelled"]),
            (["--patterns", "empty.csv"], ["--patterns", "empty"]),
            (["--patterns", "zeros.csv"], ["--patterns", "positive"]),
            (["--patterns", "zeros.csv", "--normalize", "unit"], ["--normalize unit", "row 1 of zeros.csv"]),
            (["--patterns", "two.safetensors"], ["--tensor", "'bias', 'keys'"]),
            (["--patterns", "two.safetensors", "--tensor", "kyes"], ["--tensor", "'kyes'", "'bias', 'keys'"]),
            (["--patterns", "two.safetensors", "--tensor", "bias"], ["--patterns", "two dimensions", "[3]"]),
            (["--patterns", "nan.safetensors"], ["--patterns", "finite", "got 1"]),
            (["--patterns", "none"], ["--patterns", "none"]),
            (["--patterns", "a.png", "--patterns", "b.png"], ["--patterns", "same size", "--size"]),
            (["--patterns", "a.png", "--patterns", "rows.csv"], ["--patterns", "either images or tables", "'rows.csv'"]),
            (["--patterns", "rows.csv", "--patterns", "narrow.csv"], ["--patterns", "same number of features", "3", "2"]),
            ([*rows, "--queries", "narrow.csv"], ["--queries", "3 features", "got 2"]),
            ([*rows, "--count", 5], ["--count", "at most 4", "got 5"]),
            ([*rows, "--beta", 0], ["--beta", "above 0"]),
            ([*rows, "--beta", 1, "--k90", 1], ["--k90", "either --beta or --k90"]),
            ([*rows, "--k90", 4], ["--k90", "0.9 N = 3.6", "got 4"]),
            ([*rows, "--noise", -1], ["--noise", "from 0", "'-1'"]),
            ([*rows, "--normalize", "max"], ["--normalize", "none, unit, layer"]),
            ([*rows, "--chart", "t.gif"], ["--chart", ".png or .svg"]),
            ([*rows, "--json", "rows.csv"], ["--json", "the input of --patterns"]),
            ([*rows, "--bta", 1], ["--bta: unknown option", "did you mean --beta?"]),
        ])

    def test_help_and_version_are_no_errors(self):
        self.assertIn("Exit codes: 0", "\n".join(self.printed("--help")))
        self.assertRegex(self.printed("--version")[0], r"^hopfield_theory \d+\.\d+\.\d+ \(LibTorch 2\..*\)$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
