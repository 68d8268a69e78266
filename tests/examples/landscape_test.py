"""The program hopfield_landscape as its users meet it: landscape_test.py HOPFIELD_LANDSCAPE."""

import json
import math
import os
import shutil
import sys
import unittest

import programs

HAS_GNUPLOT = shutil.which("gnuplot") is not None


class LandscapeTest(programs.ProgramTest):
    program = os.path.abspath(sys.argv[1])

    def explored(self, *arguments):
        """The landscapes of a report, and the printed lines. The picture is as small as it can be."""
        lines = self.printed("--out", "l.svg", "--resolution", 2, "--json", "l.json", *arguments)
        return json.loads((self.path / "l.json").read_text())["landscapes"], lines

    def test_beta_decides_between_average_metastable_states_and_patterns(self):
        landscapes, lines = self.explored()
        self.assertEqual(lines[-3:], ["beta 0.7: 1 fixed point (1 global average)",
                                      "beta 6: 4 fixed points (2 single patterns, 2 metastable states)",
                                      "beta 40: 6 fixed points (6 single patterns)"])
        self.assertIn("6 patterns, 36 starts, seed 0", lines[0])
        patterns = json.loads((self.path / "l.json").read_text())["patterns"]
        average, metastable, single = ([(p["x"], p["y"], p["kind"], p["patterns"]) for p in l["fixed_points"]] for l in landscapes)
        self.assertEqual([l["beta"] for l in landscapes], [0.7, 6, 40])
        self.assertLess(math.dist(average[0][:2], [sum(p[i] for p in patterns) / 6 for i in (0, 1)]), 0.05)
        self.assertEqual(average[0][2:], ("global average", 6))
        self.assertEqual(sorted(p[3] for p in metastable), [1, 1, 2, 2])
        for point in single:
            self.assertLess(min(math.dist(point[:2], pattern) for pattern in patterns), 1e-3)
        for landscape in landscapes:
            self.assertEqual(sum(p["starts"] for p in landscape["fixed_points"]), 36)
            self.assertEqual((landscape["resting"], landscape["unsettled"]), (0, 0))
        # On the circle, the euclidean similarity, which is the default, is the dot product up to a constant.
        same, _ = self.explored("--similarity", "dot")
        for a, b in zip((p for l in landscapes for p in l["fixed_points"]), (p for l in same for p in l["fixed_points"])):
            self.assertLess(math.dist((a["x"], a["y"]), (b["x"], b["y"])), 1e-4)
            self.assertAlmostEqual(a["energy"], b["energy"], 6)

    def test_the_kernel_memory_has_emergent_memories_and_space_between(self):
        # Two patterns at the distance r: one minimum up to beta r^2 = 2, the midpoint, too, up to 8, then none there.
        (self.path / "two.csv").write_text("x,y\n-1,0\n1,0\n")
        (first, second, third), lines = self.explored("--memory", "kernel", "--patterns", "two.csv", "--beta", "0.45,1,2.5",
                                                      "--starts", 20)
        self.assertEqual([(round(p["x"], 9), round(p["y"], 9)) for p in first["fixed_points"]], [(0, 0)])
        self.assertEqual([round(p["x"], 9) for p in second["fixed_points"]], [-1, 0, 1])
        self.assertEqual([round(p["x"], 9) for p in third["fixed_points"]], [-1, 1])
        self.assertEqual(third["single pattern"], 2)
        self.assertGreater(third["resting"], 0)
        self.assertIn(f"{third['resting']} starts where no pattern acts", lines[-1])

    @unittest.skipUnless(HAS_GNUPLOT, "no gnuplot")
    def test_draws_png_and_svg(self):
        lines = self.printed("--out", "l.png", "--resolution", 20)
        self.assertTrue(any(line.startswith("wrote l.png in ") for line in lines), lines)
        self.assertEqual(programs.png_size(self.path / "l.png"), (3 * 540, 430))
        self.assertEqual(len(self.printed("--out", "l.SVG", "--beta", "3", "--resolution", 20, "--quiet")), 1)
        picture = (self.path / "l.SVG").read_text()
        for part in ("<svg", ">beta 3: 2 metastable states<", "metastable state<", "updates<"):
            self.assertTrue(part in picture, part)

    def test_leaves_a_script_where_gnuplot_is_missing(self):
        result = self.run_program("--out", "l.png", "--resolution", 2, env={**os.environ, "PATH": "/nonexistent"})
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("gnuplot is not installed", result.stderr)
        self.assertNotIn("wrote l.png", result.stdout)
        self.assertEqual(sorted(path.name for path in self.path.iterdir()), ["l.dat", "l.gnuplot"])

    def test_patterns_of_any_size_have_all_three_panels(self):
        for name, scale in {"large": 1e6, "small": 1e-6}.items():
            with self.subTest(name):
                rows = [(0, 0), (1, 0.1), (0.9, 0.6), (-0.3, 1.2), (-0.2, 0.7)]
                (self.path / f"{name}.csv").write_text("".join(f"{scale * x};{scale * y}\n" for x, y in rows))
                landscapes, _ = self.explored("--patterns", f"{name}.csv")
                self.assertEqual(landscapes[0]["global average"], 1)
                self.assertEqual(len(landscapes[0]["fixed_points"]), 1)
                self.assertGreater(landscapes[1]["metastable state"], 0)
                self.assertEqual(landscapes[2]["single pattern"], len(landscapes[2]["fixed_points"]))
        (self.path / "one.csv").write_text("3,4\n")
        self.assertEqual([l["single pattern"] for l in self.explored("--patterns", "one.csv")[0]], [1, 1, 1])

    def test_mistaken_calls_exit_with_2_and_leave_nothing(self):
        for name, text in {"three.csv": "1,2,3\n", "one.csv": "1\n2\n", "text.csv": "1,2\n3,four\n", "empty.csv": "",
                           "huge.csv": "1e300,2\n3,4\n"}.items():
            (self.path / name).write_text(text)
        out = ["--out", "l.svg"]
        self.assert_all_refused([
            (["--out", "l.jpg"], ["--out", ".png or .svg", "'l.jpg'"]),
            (["--out", "none/l.svg"], ["--out", "existing folder"]),
            ([*out, "--beta", "0"], ["--beta", "above 0", "'0'"]),
            ([*out, "--beta", "1;2"], ["--beta", "with commas", "'1;2'"]),
            ([*out, "--beta", "1,2,3,4,5,6,7,8,9,10"], ["--beta", "at most 9", "10"]),
            ([*out, "--betta", "1"], ["--betta: unknown option", "did you mean --beta?"]),
            ([*out, "--similarity", "cosine"], ["--similarity", "dot, euclidean", "'cosine'"]),
            ([*out, "--similarity", "dot", "--memory", "kernel"], ["--similarity", "--memory continuous only"]),
            ([*out, "--patterns", "gone.csv"], ["--patterns", "'gone.csv'"]),
            ([*out, "--patterns", "three.csv"], ["--patterns", "two numbers", "got 3"]),
            ([*out, "--patterns", "one.csv"], ["--patterns", "one.csv, line 1", "x and y, got 1"]),
            ([*out, "--patterns", "text.csv"], ["--patterns", "line 2", "four"]),
            ([*out, "--patterns", "empty.csv"], ["--patterns", "empty"]),
            ([*out, "--patterns", "huge.csv"], ["--patterns", "huge.csv, line 1", "1e+300"]),
        ])

    def test_help_and_version_are_no_errors(self):
        self.assertIn("Exit codes: 0", "\n".join(self.printed("--help")))
        self.assertRegex(self.printed("--version")[0], r"^hopfield_landscape \d+\.\d+\.\d+ \(LibTorch 2\..*\)$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
