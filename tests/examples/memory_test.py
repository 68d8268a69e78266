"""The program hopfield_memory as its users meet it: memory_test.py HOPFIELD_MEMORY DATA_DIR."""

import json
import math
import os
import pathlib
import struct
import sys
import unittest

import memory_mistakes
import programs

DIGITS = pathlib.Path(os.path.abspath(sys.argv[2])) / "digits.csv"
GREEN, RED, HIDDEN = (0, 158, 115), (214, 94, 0), (184, 209, 235)
skip_without_digits = unittest.skipUnless(DIGITS.exists(), "no digits.csv: run scripts/bootstrap.sh --tests")


def shape(number, width, height, coloured=True):
    """Stripes of a direction that is the number's own."""
    direction = math.pi * number / 6

    def pixel(x, y):
        u, v = x / width, y / height
        stripe = math.sin(9 * (u * math.cos(direction) + v * math.sin(direction)) + number) > 0
        return (0.8 * stripe + 0.1, 0.6 * stripe + 0.2 * u, 0.5 * stripe + 0.4 * v) if coloured else 0.7 * stripe + 0.2 * u

    return [[pixel(x, y) for x in range(width)] for y in range(height)]


def edited(content, edit):
    """A safetensors file with the description of its images changed."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:end])
    header["__metadata__"] = edit(header["__metadata__"])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[end:]


def with_images(metadata, **changes):
    return {**metadata, "user.images": json.dumps({**json.loads(metadata["user.images"]), **changes})}


class MemoryTest(programs.ProgramTest):
    program = os.path.abspath(sys.argv[1])

    def make_shapes(self, folder="shapes", width=16, height=12, count=6, coloured=True):
        (self.path / folder).mkdir()
        for number in range(count):
            programs.png(self.path / folder / f"shape {number}.png", shape(number, width, height, coloured))

    def results(self, *arguments):
        lines = self.printed(*arguments, "--json", "results.json")
        return json.loads((self.path / "results.json").read_text()), lines

    def colors(self, name):
        """The colours in the first row of images, below the captions."""
        return {pixel for row in programs.png_pixels(self.path / name, most_rows=100) for pixel in row}

    def test_every_memory_gives_back_what_it_stored(self):
        self.make_shapes()
        kinds = ("binary", "graded", "polynomial", "exponential", "continuous", "kernel")
        stored = self.run_all(["store", "--memory", kind, "--images", "shapes", "--count", 2, "--out", kind] for kind in kinds)
        recalled = self.run_all(["recall", "--in", kind, "--corrupt", "flip", "--amount", 0.03, "--grid", f"{kind}.png", "--json",
                                 f"{kind}.json"] for kind in kinds)
        for kind, first, second in zip(kinds, stored, recalled):
            with self.subTest(kind):
                self.assertEqual((first.returncode, second.returncode), (0, 0), first.stderr + second.stderr)
                look = "colour" if kind in ("continuous", "kernel") else "black and white"
                self.assertIn(f"2 images of 16x12 {look} from shapes", first.stdout.splitlines()[-1])
                results = json.loads((self.path / f"{kind}.json").read_text())
                self.assertEqual(results["right"]["count"], 2)
                self.assertEqual([cue["match"] for cue in results["each"]], ["shape 0.png", "shape 1.png"])
                self.assertIn("right 100.0 %, wrong 0.0 %, no match 0.0 % of 2 cues", second.stdout.splitlines()[-1])
                self.assertTrue(GREEN in self.colors(f"{kind}.png"))
                self.assertFalse(RED in self.colors(f"{kind}.png"))

    @skip_without_digits
    def test_the_continuous_memory_completes_half_hidden_digits(self):
        self.assertIn("1797 images of 8x8 grey from digits", self.printed("store", "--out", "memory")[-1])
        results, _ = self.results("recall", "--in", "memory", "--grid", "grid.png", "--show", 3)
        self.assertEqual((results["memory"]["similarity"], results["memory"]["beta"]), ("euclidean", 256))
        self.assertEqual(results["right"]["share"], 1)
        self.assertEqual(results["nearest_neighbour_right"]["share"], 1)
        self.assertTrue({GREEN, HIDDEN} <= self.colors("grid.png"))
        results, _ = self.results("recall", "--in", "memory", "--corrupt", "half,noise", "--amount", "0.5,0.1")
        self.assertGreater(results["right"]["share"], results["nearest_neighbour_right"]["share"] - 0.01)

        self.printed("store", "--similarity", "dot", "--out", "dot")
        results, _ = self.results("recall", "--in", "dot", "--grid", "grid.png")
        self.assertLess(results["right"]["share"], 0.06)
        self.assertTrue(RED in self.colors("grid.png"))

    @skip_without_digits
    def test_compare_shows_where_the_classical_network_fails(self):
        results, lines = self.results("--compare", "compare.png")
        right = {(trial["memory"], trial["stored"]): trial["right"] for trial in results["trials"]}
        for count in (1, 3, 6, 24):
            self.assertEqual(right["continuous", count], count)
            self.assertGreaterEqual(right["exponential", count], right["binary", count])
        self.assertEqual([right[kind, 1] for kind in ("binary", "graded", "polynomial", "exponential")], [1] * 4)
        self.assertEqual((right["binary", 3], right["binary", 24]), (0, 0))
        self.assertEqual(lines[-7].split()[-8:], "of 1 of 3 of 6 of 24".split())
        self.assertEqual(lines[-2].split(), "continuous 1 3 6 24".split())
        self.assertTrue({GREEN, RED, HIDDEN} <= self.colors("compare.png"))

    def test_own_cues_and_names(self):
        self.make_shapes()
        self.printed("store", "--images", "shapes", "--out", "memory")
        (self.path / "cues").mkdir()
        programs.png(self.path / "cues" / "shape 2.png", shape(2, 32, 24))  # of another size, with the name of a stored one
        programs.png(self.path / "cues" / "unknown.png", shape(4, 16, 12), bits=16)
        programs.png(self.path / "cues" / "grey.png", [[0.3] * 4] * 4)
        results, lines = self.results("recall", "--in", "memory", "--cues", "cues", "--grid", "grid.png")
        self.assertEqual([(cue["cue"], cue["outcome"], cue["match"]) for cue in results["each"]],
                         [("grey.png", "no match", None), ("shape 2.png", "right", "shape 2.png"), ("unknown.png", "unknown", "shape 4.png")])
        self.assertIn("right 33.3 %, wrong 0.0 %, came back 33.3 %, no match 33.3 % of 3 cues", lines[-1])
        results, lines = self.results("recall", "--in", "memory", "--cues", "cues/unknown.png", "--corrupt", "half", "--quiet")
        self.assertEqual(len(lines), 1)
        self.assertIn("came back 100.0 %, no match 0.0 % of 1 cue;", lines[0])

    def test_show_tells_what_is_in_a_memory(self):
        self.make_shapes("grey", coloured=False)
        self.printed("store", "--images", "grey", "--memory", "polynomial", "--order", 5, "--threshold", 0.5, "--out", "memory")
        results, lines = self.results("show", "--in", "memory", "--grid", "grid.png")
        self.assertEqual(lines[-1], "polynomial (order 5): 6 images of 16x12 black and white from grey")
        self.assertTrue(any("shape 3.png" in line for line in lines))
        self.assertEqual((results["memory"]["order"], results["memory"]["class"], results["memory"]["threshold"]), (5, "PolynomialMemory", 0.5))
        self.assertEqual(len(results["names"]), 6)
        # A row of six cells of 112 x 84 pixels, with gaps and a caption.
        width, height = programs.png_size(self.path / "grid.png")
        self.assertTrue(6 * 112 < width < 6 * 140 + 100 and 84 < height < 120, (width, height))

    def test_sizes_are_fitted(self):
        self.make_shapes("large", 96, 48, count=2)
        lines = self.printed("store", "--images", "large", "--memory", "binary", "--rule", "pseudo-inverse", "--out", "memory")
        self.assertIn("the images were shrunk from 96x48 to 64x32, because a network has a weight for every two pixels", lines)
        self.assertIn("binary (rule pseudo-inverse): 2 images of 64x32 black and white", lines[-1])
        lines = self.printed("store", "--images", "large", "--size", "80x128", "--memory", "graded", "--out", "memory")
        self.assertIn("the images were shrunk from 80x128 to 40x64, because a network has a weight for every two pixels", lines)
        self.make_shapes("small", 8, 8, count=1)
        lines = self.printed("store", "--images", "large", "--images", "small/shape 0.png", "--size", "10x20", "--out", "memory")
        self.assertIn("3 images of 10x20 colour from large, small/shape 0.png", lines[-1])

    def test_the_same_seed_gives_the_same_cues(self):
        self.make_shapes()
        self.printed("store", "--images", "shapes", "--memory", "exponential", "--out", "memory")
        calls = [["recall", "--in", "memory", "--corrupt", "salt-and-pepper", "--seed", seed, "--grid", f"{name}.png"]
                 for name, seed in (("first", 1), ("again", 1), ("other", 2))]
        self.assertEqual([result.returncode for result in self.run_all(calls)], [0, 0, 0])
        first, again, other = ((self.path / f"{name}.png").read_bytes() for name in ("first", "again", "other"))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)

    def test_mistaken_calls_exit_with_2_and_leave_nothing(self):
        self.make_shapes()
        for folder in ("mixed", "empty", "damaged"):
            (self.path / folder).mkdir()
        programs.png(self.path / "mixed" / "grey.png", [[0.5] * 6] * 4)
        programs.png(self.path / "mixed" / "wide.png", shape(1, 8, 8))
        picture = (self.path / "mixed" / "wide.png").read_bytes()
        (self.path / "cut.png").write_bytes(picture[:-20])
        (self.path / "damaged" / "cut.png").write_bytes(picture[:-20])
        (self.path / "text.png").write_text("not a picture, but long enough to have a header")
        self.printed("store", "--images", "shapes", "--out", "memory")
        memory = (self.path / "memory").read_bytes()
        changes = {
            "stranger": lambda metadata: {key: value for key, value in metadata.items() if not key.startswith("user.")},
            "tensors": lambda metadata: {},
            "edited": lambda metadata: with_images(metadata, names=["one name too few"] * 5),
            "broken": lambda metadata: {**metadata, "user.images": metadata["user.images"][:-9]},
            "newer": lambda metadata: with_images(metadata, version=2),
        }
        for name, change in changes.items():
            (self.path / name).write_bytes(edited(memory, change))
        self.assert_all_refused(memory_mistakes.all_calls())

    def test_no_digits_and_full_disks(self):
        result = self.run_program("store", "--out", "memory", env={**os.environ, "HOPFIELD_DATA": str(self.path)})
        self.assert_refused(result, "--images", "digits.csv", "scripts/bootstrap.sh --tests")
        self.make_shapes(count=1)
        with open("/dev/full", "w") as full:
            result = programs.subprocess.run([self.program, "store", "--images", "shapes", "--out", "memory"], cwd=self.path,
                                             stdout=full, stderr=programs.subprocess.PIPE, text=True)
        self.assert_refused(result, "standard output", "No space left", code=1)

    def test_help_and_version_are_no_errors(self):
        self.assertIn("Exit codes: 0", "\n".join(self.printed("--help")))
        self.assertIn("Usage: hopfield_memory recall", "\n".join(self.printed("recall", "--help")))
        self.assertRegex(self.printed("--version")[0], r"^hopfield_memory \d+\.\d+\.\d+ \(LibTorch 2\..*\)$")


if __name__ == "__main__":
    os.environ["HOPFIELD_DATA"] = str(DIGITS.parent)
    unittest.main(argv=sys.argv[:1])
