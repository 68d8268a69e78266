#!/usr/bin/env python3
"""Turns text into token ids: tokenize_text.py --tokenizer tokenizer.json --text FILE --out FILE.safetensors [--most 512]

Each line of the text is one sentence. The file gets the tensors `ids` [total] and `offsets` [sentences + 1], both int64:
sentence n has the ids offsets[n] .. offsets[n + 1]. Longer sentences than `--most` tokens are cut, with a warning. Needs the
package tokenizers (pip install --no-deps tokenizers).
"""

import argparse
import json
import struct
import sys


def fail(message):
    print(message, file=sys.stderr)
    sys.exit(2)


def sentences_of(path):
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"expected a text file in UTF-8, got '{path}': {error}")
    if not lines:
        fail(f"expected at least one line of text, got none in '{path}'")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            fail(f"expected a sentence in every line, got an empty line {number} in '{path}'")
    return lines


def write(path, tensors):
    """Writes int64 tensors as a safetensors file."""
    header, data = {}, b""
    for name, values in tensors.items():
        content = struct.pack(f"<{len(values)}q", *values)
        header[name] = {"dtype": "I64", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json of the model")
    parser.add_argument("--text", required=True, help="text file, one sentence in each line")
    parser.add_argument("--out", required=True, help="safetensors file for the ids")
    parser.add_argument("--most", type=int, default=512, help="most tokens of a sentence")
    arguments = parser.parse_args()
    try:
        import tokenizers
    except ImportError:
        fail("expected the Python package tokenizers, got none; install it with pip install --no-deps tokenizers")
    try:
        tokenizer = tokenizers.Tokenizer.from_file(arguments.tokenizer)
    except Exception as error:  # the package raises nothing more specific
        fail(f"expected a tokenizer in '{arguments.tokenizer}': {error}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids, offsets = [], [0]
    for number, sentence in enumerate(sentences_of(arguments.text), 1):
        found = tokenizer.encode(sentence).ids
        if len(found) > arguments.most:
            print(f"warning: line {number} has {len(found)} tokens, of which the model takes {arguments.most}; the rest is left "
                  "out", file=sys.stderr)
            found = found[: arguments.most - 1] + found[-1:]  # with the token that ends a sentence
        ids += found
        offsets.append(len(ids))
    write(arguments.out, {"ids": ids, "offsets": offsets})


if __name__ == "__main__":
    main()
