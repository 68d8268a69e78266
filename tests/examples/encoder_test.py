"""The program hopfield_encoder as its users meet it: encoder_test.py HOPFIELD_ENCODER.

The tests of the model all-MiniLM-L6-v2 run where the environment variable HOPFIELD_MINILM names the folder of its
model.safetensors and tokenizer.json, and where the package tokenizers is installed.
"""

import importlib.util
import json
import math
import os
import pathlib
import struct
import sys
import unittest

import encoder_model as small
import programs

GOLDEN = pathlib.Path(__file__).parent / "encoder_golden.json"
MINILM = os.environ.get("HOPFIELD_MINILM")
HAS_MINILM = MINILM is not None and importlib.util.find_spec("tokenizers") is not None

# In place of Python with the package tokenizers: a token for each letter, between the tokens 2 and 3.
FAKE_PYTHON = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import encoder_model, pathlib
value = lambda name: sys.argv[sys.argv.index(name) + 1]
lines = open(value("--text")).read().splitlines()
if "fail" in lines:
    sys.exit("the package is not there")
tokens = [[2, *(4 + ord(letter) % 46 for letter in line[:20]), 3] for line in lines]
encoder_model.write(pathlib.Path(value("--out")), encoder_model.tokens_of(tokens))
"""


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


class EncoderTest(programs.ProgramTest):
    program = os.path.abspath(sys.argv[1])

    def setUp(self):
        super().setUp()
        (self.path / "model").mkdir()
        small.write(self.path / "model" / "model.safetensors", small.tensors())
        (self.path / "model" / "config.json").write_text(json.dumps({"num_attention_heads": small.HEADS, "hidden_act": "gelu"}))
        (self.path / "model" / "tokenizer.json").write_text("{}")
        small.write(self.path / "tokens", small.tokens_of(small.SENTENCES))
        (self.path / "python").write_text(FAKE_PYTHON)
        (self.path / "python").chmod(0o755)
        (self.path / "text").write_text("cats and dogs\ndogs and cats\nplanets\n")
        self.model = ["--model", "model/model.safetensors"]

    def encoded(self, *arguments):
        self.printed("encode", *self.model, *arguments, "--out", "e")
        return small.read(self.path / "e", "embeddings")

    def test_embeddings_are_those_of_the_reference(self):
        golden = json.loads(GOLDEN.read_text())
        for batch in (1, 3, 32):
            found = self.encoded("--tokens", "tokens", "--batch", batch)
            self.assertEqual((len(found), len(found[0])), (4, small.WIDTH))
            for ours, theirs in zip(found, golden):
                self.assertLess(max(abs(x - y) for x, y in zip(ours, theirs)), 1e-5)
                self.assertAlmostEqual(cosine(ours, ours), 1, 5)

    def test_more_updates_and_another_temperature_change_them(self):
        plain = self.encoded("--tokens", "tokens")
        self.assertEqual(self.encoded("--tokens", "tokens", "--update-steps", 0, "--beta-scale", 1), plain)
        for change in (["--update-steps", 2], ["--beta-scale", 3], ["--heads", 4]):
            changed = self.encoded("--tokens", "tokens", *change)
            self.assertGreater(max(abs(x - y) for x, y in zip(changed[2], plain[2])), 1e-3)
        lines = self.printed("compare", *self.model, "--python", "./python", "--most-update-steps", 1, "--json", "c.json")
        results = json.loads((self.path / "c.json").read_text())["results"]
        self.assertEqual([(r["update_steps"], r["beta_scale"]) for r in results],
                         [(t, b) for t in (0, 1) for b in (0.5, 1, 2, 4)])
        self.assertAlmostEqual(results[1]["cosine"], 1, 6)
        self.assertLess(results[7]["cosine"], 1)
        self.assertEqual(len(lines), 11)

    def test_texts_go_through_the_tokenizer(self):
        found = self.encoded("--text", "text", "--python", "./python", "--json", "j.json")
        self.assertEqual(len(found), 3)
        self.assertGreater(cosine(found[0], found[1]), cosine(found[0], found[2]))
        self.assertEqual(json.loads((self.path / "j.json").read_text())["sentences"], 3)

    def test_finds_sentences_and_says_if_nothing_matches(self):
        search = ["search", *self.model, "--text", "text", "--python", "./python"]
        lines = self.printed(*search, "--query", "cats and dogs", "--top", 2, "--quiet", "--json", "s.json")
        self.assertRegex(lines[0], r"^cats and dogs \(energy -?\d")
        self.assertRegex(lines[1], r"^  1\.000  1: cats and dogs$")
        query, = json.loads((self.path / "s.json").read_text())["queries"]
        self.assertEqual([match["line"] for match in query["matches"]][0], 1)
        self.assertEqual(len(query["matches"]), 2)
        (self.path / "queries").write_text("planets\nxyz\n")
        lines = self.printed(*search, "--queries", "queries", "--least", 0.9999, "--quiet")
        self.assertIn("3: planets", lines[1])
        self.assertIn("nothing matches: the closest sentence has the cosine", lines[-1])

    def test_classifies_heads(self):
        lines = self.printed("heads", *self.model, "--tokens", "tokens", "--length", 24, "--chart", "h.png", "--json", "h.json")
        results = json.loads((self.path / "h.json").read_text())
        self.assertEqual((results["sequences"], results["length"]), (1, 24))
        self.assertEqual([len(layer) for layer in results["layers"]], [2, 2])
        self.assertRegex(lines[-1], r"^heads of class I \d, II \d, III \d, IV 0$")
        width, height = programs.png_size(self.path / "h.png")
        self.assertGreater(width, 80)
        self.assertGreater(height, 80)

    def changed(self, **changes):
        """A model's file with other tensors; None: without this one. '__' stands for a point."""
        tensors = small.tensors()
        for name, value in changes.items():
            name = name.replace("__", ".")
            if value is None:
                del tensors[name]
            else:
                tensors[name] = value
        small.write(self.path / "model" / "changed", tensors)
        return ["encode", "--model", "model/changed", "--tokens", "tokens", "--out", "e"]

    def test_models_that_do_not_fit_are_refused_with_all_names(self):
        first = "encoder__layer__0__"
        result = self.run_program(*self.changed(**{first + "output__dense__bias": None, first + "attention__self__key__weight": None,
                                                   "classifier__weight": ([1], [1.0]),
                                                   "embeddings__LayerNorm__bias": ([3], [1.0, 2.0, 3.0])}))
        self.assert_refused(result, "--model", "without 'encoder.layer.0.attention.self.key.weight', 'encoder.layer.0.output.dense.bias'",
                            "with 'classifier.weight'", "'embeddings.LayerNorm.bias [3] instead of [32]'")
        self.assert_refused(self.run_program(*self.changed(embeddings__word_embeddings__weight=None)), "word_embeddings")
        self.assertEqual(self.run_program(*self.changed(pooler__dense__bias=([2], [1.0, 2.0]))).returncode, 0)
        for text, part in (("{", "JSON object"), ('{"hidden_act": "relu"}', "hidden_act to be gelu"),
                           ('{"num_attention_heads": "two"}', "num_attention_heads"), ('{"num_attention_heads": 5}', "--heads")):
            (self.path / "model" / "config.json").write_text(text)
            self.assert_refused(self.run_program("encode", *self.model, "--tokens", "tokens", "--out", "e"), part)

    def test_tokens_that_do_not_fit_are_refused(self):
        wrong = {"vocabulary": [[2, 50]], "negative": [[-1, 3]], "long": [list(range(25))], "empty": [[2, 3], []], "none": []}
        for name, sentences in wrong.items():
            small.write(self.path / name, small.tokens_of(sentences))
        small.write(self.path / "offsets", {"ids": ([2], [2, 3]), "offsets": ([2], [0, 5])})
        small.write(self.path / "floats", {"ids": ([2], [2.0, 3.0]), "offsets": ([2], [0, 2])})
        encode = ["encode", *self.model, "--out", "e", "--tokens"]
        self.assert_all_refused([
            ([*encode, "vocabulary"], ["--tokens", "0 to 49", "50"]),
            ([*encode, "negative"], ["--tokens", "0 to 49", "-1"]),
            ([*encode, "long"], ["--tokens", "at most 24 tokens", "sentence 1 with 25"]),
            ([*encode, "empty"], ["--tokens", "sentence 2 without any"]),
            ([*encode, "none"], ["--tokens", "at least one sentence"]),
            ([*encode, "offsets"], ["--tokens", "offsets"]),
            ([*encode, "floats"], ["--tokens", "integers ids"]),
            ([*encode, "text"], ["--tokens", "text"]),
            ([*encode, "gone"], ["--tokens", "gone"]),
        ])

    def test_mistaken_calls_exit_with_2_and_leave_nothing(self):
        (self.path / "fails").write_text("fail\n")
        (self.path / "bare").mkdir()
        small.write(self.path / "bare" / "model", small.tensors())
        encode = ["encode", *self.model, "--out", "e"]
        search = ["search", *self.model, "--text", "text", "--python", "./python"]
        self.assert_all_refused([
            ([], ["a command (encode, search, heads or compare)"]),
            (encode, ["--text", "either --text or --tokens", "neither"]),
            ([*encode, "--text", "text", "--tokens", "tokens"], ["either --text or --tokens", "both"]),
            ([*encode, "--text", "fails", "--python", "./python"], ["--text", "the package is not there"]),
            ([*encode, "--text", "text", "--python", "./gone"], ["--python", "'./gone'"]),
            (["encode", "--model", "bare/model", "--out", "e", "--text", "text"], ["--text", "tokenizer.json", "--tokens"]),
            ([*encode, "--tokens", "tokens", "--heads", 3], ["--heads", "divisor of the width 32", "3"]),
            ([*encode, "--tokens", "tokens", "--beta-scale", 0], ["--beta-scale", "above 0"]),
            ([*encode, "--tokens", "tokens", "--update-steps", -1], ["--update-steps", "from 0"]),
            ([*encode, "--tokens", "tokens", "--json", "tokens"], ["--json", "the input of --tokens"]),
            (["encode", "--model", "gone", "--tokens", "tokens", "--out", "e"], ["--model", "'gone'"]),
            (["encode", "--model", "text", "--tokens", "tokens", "--out", "e"], ["--model", "text"]),
            (search, ["--query", "either --query or --queries", "neither"]),
            ([*search, "--query", "a", "--least", 2], ["--least", "from -1 to 1"]),
            ([*search, "--queries", "gone"], ["--queries", "'gone'"]),
            (["heads", *self.model, "--tokens", "tokens", "--length", 25], ["--length", "at most 24", "25"]),
            (["heads", *self.model, "--tokens", "tokens", "--chart", "h.svg"], ["--chart", ".png"]),
            (["encod", *self.model], ["'encod'", "did you mean encode?"]),
        ])

    def test_help_and_version_are_no_errors(self):
        self.assertIn("Exit codes: 0", "\n".join(self.printed("--help")))
        self.assertRegex(self.printed("--version")[0], r"^hopfield_encoder \d+\.\d+\.\d+ \(LibTorch 2\..*\)$")

    @unittest.skipUnless(HAS_MINILM, "HOPFIELD_MINILM names no folder, or the package tokenizers is not installed")
    def test_minilm_has_its_known_cosines(self):
        sentences = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
        (self.path / "three").write_text("\n".join(sentences) + "\n")
        self.model = ["--model", f"{MINILM}/model.safetensors"]
        a, b, c = self.encoded("--text", "three", "--python", sys.executable)
        for found, known in ((cosine(a, b), 0.6660), (cosine(a, c), 0.1046), (cosine(b, c), 0.1411)):
            self.assertLess(abs(found - known), 1e-4)
        (self.path / "long").write_text("word " * 600 + "\n")
        result = self.run_program("encode", *self.model, "--text", "long", "--python", sys.executable, "--out", "e")
        self.assertEqual(result.returncode, 0)
        self.assertIn("warning: line 1 has 602 tokens, of which the model takes 512", result.stderr)
        (self.path / "gap").write_text("one\n\ntwo\n")
        result = self.run_program("encode", *self.model, "--text", "gap", "--python", sys.executable, "--out", "e")
        self.assert_refused(result, "--text", "empty line 2")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
