"""What the tests of the example programs have in common."""

import concurrent.futures
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest
import zlib


def png(path, rows, bits=8):
    """Writes a PNG file. rows: lists of pixels, each a number from 0 to 1 (grey) or three of them (red, green, blue)."""
    most = 2**bits - 1
    is_coloured = isinstance(rows[0][0], (tuple, list))
    content = b""
    for row in rows:
        values = [round(most * value) for pixel in row for value in (pixel if is_coloured else [pixel])]
        content += b"\0" + struct.pack(f">{len(values)}{'B' if bits == 8 else 'H'}", *values)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, 2 if is_coloured else 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b""))


def png_size(path):
    """Width and height of a PNG file."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" and content[-8:-4] == b"IEND", path
    return struct.unpack(">II", content[16:24])


def png_pixels(path, most_rows):
    """The first rows of a PNG file as this project writes it for grids: 8 bits, three channels."""
    content, position, data = path.read_bytes(), 8, b""
    width, height = png_size(path)
    while position < len(content):
        length, name = struct.unpack(">I4s", content[position : position + 8])
        data += content[position + 8 : position + 8 + length] if name == b"IDAT" else b""
        position += length + 12
    data, rows, above = zlib.decompress(data), [], bytes(3 * width)
    for y in range(min(height, most_rows)):
        line = bytearray(data[y * (3 * width + 1) + 1 : (y + 1) * (3 * width + 1)])
        unfilter(data[y * (3 * width + 1)], line, above)
        rows.append([tuple(line[3 * x : 3 * x + 3]) for x in range(width)])
        above = line
    return rows


def unfilter(kind, line, above):
    """Takes back a filter of the PNG format, for three bytes a pixel."""
    for i in range(len(line)):
        left, up, corner = (line[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
        if kind == 4:
            guess = left + up - corner
            line[i] = (line[i] + min((left, up, corner), key=lambda value: abs(guess - value))) % 256
        else:
            line[i] = (line[i] + (0, left, up, (left + up) // 2)[kind]) % 256


class ProgramTest(unittest.TestCase):
    """Tests of a program, each with a folder of its own."""

    program = ""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)

    def run_program(self, *arguments, **options):
        return subprocess.run([self.program, *map(str, arguments)], cwd=self.path, capture_output=True, text=True,
                              timeout=300, **options)

    def run_all(self, calls):
        """On all cores, because most of a short run is the loading of LibTorch."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda call: self.run_program(*call), calls))

    def printed(self, *arguments, **options):
        """The lines of a call that must succeed."""
        result = self.run_program(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.splitlines()

    def assert_refused(self, result, *parts, code=2):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        for part in parts:
            self.assertIn(part, result.stderr)
        self.assertNotRegex(result.stderr, r"\w::\w|c10|json\.exception|\.(cpp|h):\d|std::")

    def assert_all_refused(self, calls):
        """Calls with what their one sentence must hold. None may print or leave anything."""
        before = sorted(path.name for path in self.path.rglob("*"))
        for (arguments, parts), result in zip(calls, self.run_all(arguments for arguments, _ in calls)):
            with self.subTest(arguments):
                self.assert_refused(result, *parts)
                self.assertEqual(result.stdout, "")
        self.assertEqual(sorted(path.name for path in self.path.rglob("*")), before)
