"""A small random BERT encoder for tests, in pure Python: the same numbers everywhere."""

import json
import random
import struct

VOCABULARY, WIDTH, HEADS, INNER, LAYERS, POSITIONS = 50, 32, 2, 64, 2, 24
SENTENCES = [[2, 7, 31, 4, 3], [2, 3], [2, *range(10, 32), 3], [2, 49, 0, 3]]


def tensors():
    """Name to (shape, numbers)."""
    generator = random.Random(1)
    shapes = {"embeddings.word_embeddings.weight": [VOCABULARY, WIDTH], "embeddings.position_embeddings.weight": [POSITIONS, WIDTH],
              "embeddings.token_type_embeddings.weight": [2, WIDTH], "embeddings.LayerNorm.weight": [WIDTH],
              "embeddings.LayerNorm.bias": [WIDTH]}
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}."
        for name, rows, columns in (("attention.self.query", WIDTH, WIDTH), ("attention.self.key", WIDTH, WIDTH),
                                    ("attention.self.value", WIDTH, WIDTH), ("attention.output.dense", WIDTH, WIDTH),
                                    ("intermediate.dense", INNER, WIDTH), ("output.dense", WIDTH, INNER)):
            shapes[f"{layer}{name}.weight"], shapes[f"{layer}{name}.bias"] = [rows, columns], [rows]
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}{name}.weight"] = shapes[f"{layer}{name}.bias"] = [WIDTH]
    result = {}
    for name, shape in shapes.items():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        middle = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        result[name] = (shape, [middle + generator.gauss(0, 0.3) for _ in range(size)])
    return result


def write(path, content):
    """Writes float32 or, for lists of whole numbers, int64 tensors as a safetensors file."""
    header, data = {}, b""
    for name, (shape, values) in content.items():
        is_whole = all(isinstance(value, int) for value in values)
        part = struct.pack(f"<{len(values)}{'q' if is_whole else 'f'}", *values)
        header[name] = {"dtype": "I64" if is_whole else "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read(path, name):
    """A float32 tensor of a safetensors file, as rows."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    entry = json.loads(content[8 : 8 + size])[name]
    begin, end = entry["data_offsets"]
    values = struct.unpack(f"<{(end - begin) // 4}f", content[8 + size + begin : 8 + size + end])
    columns = entry["shape"][1]
    return [values[i : i + columns] for i in range(0, len(values), columns)]


def tokens_of(sentences):
    offsets = [0]
    for sentence in sentences:
        offsets.append(offsets[-1] + len(sentence))
    return {"ids": ([offsets[-1]], [i for sentence in sentences for i in sentence]), "offsets": ([len(offsets)], offsets)}
