"""Compares hopfield::io's safetensors reader and writer with the Python package safetensors.

    python safetensors_peer_test.py build/cpu/bin/safetensors_echo

Both read the same files, valid and damaged. They must accept the same ones, except for the classes in STRICTER, and
find the same tensors and metadata in them. What hopfield::io writes from files that Python wrote must be the same bytes.
"""
import collections
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile

import numpy
import safetensors
import safetensors.numpy

FILES = 10_000
TYPES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
         "U32": 4, "F32": 4, "C64": 8, "F64": 8, "I64": 8, "U64": 8}

# What Python accepts and hopfield::io refuses, by a part of the error message.
STRICTER = {
    "a name twice (Python keeps the last)": r"every name once|every key of __metadata__ once",
    "space before the header": r"begin with '\{'",
    "a tensor as an array": r"to be an object with dtype, shape and data_offsets, got an array",
    "unknown fields of a tensor": r"to have the fields dtype, shape and data_offsets, got '",
    "__metadata__ null": r"'__metadata__' to be an object of strings, got null",
    'dtype as {"F32": null}': r"to be a string, got an object",
    "types that LibTorch or a byte cannot hold": r"to be one of BOOL .* got 'F[46]",
    "sizes over 63 bits beside a size of 0": r"fit 63 bits|integers between 0 and 2\^63 - 1, got \d{19,20}$",
    "more than 64 dimensions": r"more than 64 numbers",
    "BOOL bytes other than 0 and 1": r"to hold the bytes 0 and 1",
}

TOKENS = ["0", "1", "2", "4", "8", "-0", "-1", "1.5", "1e1", "9223372036854775807", "9223372036854775808",
          "18446744073709551615", "18446744073709551616", "null", "true", '"F32"', '"U8"', '"BOOL"', '"F4"', '"dtype"',
          '"shape"', '"data_offsets"', '"__metadata__"', '"t0"', '"\\ud800"', '"\\u0074\\u0030"', '"\u00fc"', "[", "]",
          "{", "}", ",", ":", " ", "\n", "\0", "[]", "{}", "[0,8]", "[0,0]"]

# Put in front of a header's entries.
ENTRIES = ['"__metadata__":null,', '"__metadata__":{"k":"v","k":"w"},', '"t9":["U8",[0],[0,0]],',
           '"t0":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},',
           '"t9":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":[{"y":2}]},',
           '"t9":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]},',
           '"t9":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]},',
           '"t9":{"dtype":{"F32":null},"shape":[0],"data_offsets":[0,0]},',
           '"t9":{"dtype":"F32","shape":[0,9223372036854775807,9],"data_offsets":[0,0]},',
           '"t9":{"dtype":"F32","shape":[0,9223372036854775808],"data_offsets":[0,0]},',
           '"t9":{"dtype":"F32","shape":[9223372036854775807,9,0],"data_offsets":[0,0]},',
           '"t9":{"dtype":"F4","shape":[0],"data_offsets":[0,0]},',
           '"t9":{"dtype":"U8","shape":[' + "1," * 70 + '0],"data_offsets":[0,0]},',
           '"t9":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},']


def valid_parts(rng):
    """A header and the data of up to four tensors, in any order."""
    entries, offset, data = [], 0, b""
    for i in range(rng.randrange(5)):
        dtype = rng.choice(sorted(TYPES))
        shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
        size = TYPES[dtype]
        for n in shape:
            size *= n
        entries.append((f"t{i}", {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}))
        data += bytes(rng.randrange(2 if dtype == "BOOL" else 256) for _ in range(size))
        offset += size
    if rng.random() < 0.5:
        entries.append(("__metadata__", {"key": "value", "\u00fc": "\U0001f9e0"}))
    rng.shuffle(entries)
    separators = rng.choice([(",", ":"), (", ", ": ")])
    header = json.dumps(dict(entries), separators=separators, ensure_ascii=rng.random() < 0.5)
    return header + " " * rng.randrange(8), data


def file_bytes(header, data):
    header = header.encode()
    return struct.pack("<Q", len(header)) + header + data


def changed_token(rng, text):
    tokens = re.findall(r"[\w.-]+|.", text, re.S)
    at = rng.randrange(len(tokens))
    other = rng.choice(TOKENS)
    tokens[at] = rng.choice(["", tokens[at] * 2, other, other + tokens[at], tokens[at] + other])
    return "".join(tokens)


def random_file(rng):
    header, data = valid_parts(rng)
    kind = rng.randrange(5)
    if kind == 0:
        return file_bytes(header, data)
    if kind == 4:
        start = rng.choice(["{" + entry for entry in ENTRIES] + [" {", "\n{"])
        return file_bytes(start + header[1:], data)
    if kind == 1:
        changed = bytearray(file_bytes(header, data))
        for _ in range(rng.randrange(1, 3)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        return bytes(changed)
    if kind == 2 and rng.random() < 0.3:
        whole = file_bytes(header, data)
        return whole[:rng.randrange(len(whole))] if rng.random() < 0.7 else whole + b"\0" * rng.randrange(1, 9)
    for _ in range(rng.randrange(1, 3)):
        header = changed_token(rng, header)
    return file_bytes(header, data)


def read_python(content):
    """Tensors and metadata as the Python package sees them; None if it refuses."""
    try:
        tensors = {name: (t["dtype"], t["shape"], bytes(t["data"])) for name, t in safetensors.deserialize(content)}
    except safetensors.SafetensorError:
        return None
    length = struct.unpack("<Q", content[:8])[0]
    return tensors, json.loads(content[8:8 + length]).get("__metadata__") or {}


def echo(program, folder, contents):
    """Reads and writes files with hopfield::io: for each, what it wrote or its error message."""
    lines = []
    for i, content in enumerate(contents):
        with open(f"{folder}/{i}.in", "wb") as file:
            file.write(content)
        lines.append(f"{folder}/{i}.in\t{folder}/{i}.out\n")
    done = subprocess.run([program], input="".join(lines).encode(), stdout=subprocess.PIPE, check=True)
    answers = done.stdout.decode(errors="replace").splitlines()
    assert len(answers) == len(contents), "one answer for each file"
    results = []
    for i, answer in enumerate(answers):
        if answer == "ok":
            with open(f"{folder}/{i}.out", "rb") as file:
                results.append(file.read())
            os.remove(f"{folder}/{i}.out")
        else:
            results.append(answer)
        os.remove(f"{folder}/{i}.in")
    return results


def compare(content, result, counts):
    """What two readers disagree on; None if nothing."""
    expected = read_python(content)
    accepted = isinstance(result, bytes)
    if expected is None:
        counts["refused by both"] += 1
        return "only hopfield::io accepts" if accepted else None
    if accepted:
        counts["read alike"] += 1
        return None if read_python(result) == expected else "tensors or metadata differ"
    for name, pattern in STRICTER.items():
        if re.search(pattern, result):
            counts[f"stricter: {name}"] += 1
            return None
    return f"only Python accepts: {result}"


def check_damaged(program, folder):
    rng = random.Random(20210112)
    contents = [random_file(rng) for _ in range(FILES)]
    counts = collections.Counter()
    disagreements = []
    for content, result in zip(contents, echo(program, folder, contents)):
        difference = compare(content, result, counts)
        if difference:
            disagreements.append((difference, content))
    for name, count in sorted(counts.items()):
        print(f"{count:6d}  {name}")
    for difference, content in disagreements[:10]:
        print(f"DISAGREEMENT {difference}\n    {content!r}")
    assert not disagreements, f"{len(disagreements)} disagreements"
    assert counts["read alike"] > FILES // 5 and counts["refused by both"] > FILES // 5, "both sides must be tried"
    untried = [name for name in STRICTER if counts[f"stricter: {name}"] == 0]
    assert not untried, f"classes that no file tried: {untried}"


def check_same_bytes(program, folder):
    rng = numpy.random.default_rng(1)
    types = ["bool", "uint8", "int8", "int16", "uint16", "float16", "int32", "uint32", "float32", "complex64",
             "float64", "int64", "uint64"]
    tensors = {f"{dtype}.{shape}": rng.integers(0, 2, shape).astype(dtype)
               for dtype in types for shape in [(), (0,), (3,), (2, 3), (4, 0, 1)]}
    tensors['quote " and \u00fc \U0001f9e0 \n'] = numpy.ones(3, "float32")
    contents = [safetensors.numpy.save(tensors), safetensors.numpy.save(tensors, {"format": "np \u00fc\n"}),
                safetensors.numpy.save({}), safetensors.numpy.save({}, {"k": "v"})]
    for content, result in zip(contents, echo(program, folder, contents)):
        assert result == content, "hopfield::io writes other bytes than Python"


if __name__ == "__main__":
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as temporary:
        check_same_bytes(sys.argv[1], temporary)
        check_damaged(sys.argv[1], temporary)
