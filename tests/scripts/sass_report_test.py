"""Tests of scripts/sass_report.py on machine code written by hand. Needs neither a GPU nor CUDA: sass_report_test.py"""

import contextlib
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

SCRIPTS = pathlib.Path(__file__).resolve().parent.parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import sass_loops
import sass_report
import sass_trips

# A loop over tiles with an inner loop over features, a copy, scores that are skipped for a tile without keys (P3) or biased
# (P4), an exponential, and weighted sums.
ASSOCIATION = """
          MOV R1, c[0x0][0x28]
          STL.64 [R1+0x8], R6
          CS2R R28, SRZ
          CS2R R30, SRZ
    tile: @P2 BRA resident
          LDGSTS.E.BYPASS.128 [R2], desc[UR4][R4.64]
resident: LDGDEPBAR
          BAR.SYNC.DEFER_BLOCKING 0x0
          CS2R R8, SRZ
          CS2R R10, SRZ
          BRA.DIV UR6, apart
features: LDSM.16.M88.4 R12, [R3]
          HMMA.16816.F32.BF16 R8, R12, R16, R8
     @P6  HMMA.16816.F32.BF16 R8, R32, R16, R8
          VIADD R3, R3, 0x20
          ISETP.GE.AND P0, PT, R3, R5, PT
     @!P0 BRA features
          BSSY B0, joined
     @P3  BRA weigh
          FMUL R24, R8, R6
     @!P4 BRA weigh
          LDG.E R25, desc[UR4][R22.64]
          FADD R24, R24, R25
   weigh: BSYNC B0
  joined: @P3 BRA found
          MUFU.EX2 R24, R24
   found: F2FP.BF16.F32.PACK_AB R26, R24, R24
          HMMA.16816.F32.BF16 R28, R26, R18, R28
          HMMA.16816.F32.BF16 R28, R26, R19, R28
          LDL R7, [R1+0x8]
          UIADD3 UR7, UR7, 0x1, URZ
          SHFL.BFLY PT, R27, R24, 0x1, 0x1f
     @P5  BRA tile
          STG.E desc[UR4][R22.64], R28
          EXIT
   apart: WARPSYNC.COLLECTIVE R30, after
          SHFL.BFLY P1, R31, R24, R25, R26
   after: ENDCOLLECTIVE
          BRA features
     end: BRA end
"""
IN_THE_LOOP = {"MMA": 4, "MUFU": 1, "shared": 1, "copy": 1, "global": 1, "local": 1, "integer": 3, "float": 3, "control": 11,
               "other": 3}
# Two tiles of 16 features: 16 queries x 8 keys. The biased path is not met, and the skipped score is not forgotten.
WORK = sass_trips.Work(rows=16, keys=8, product=2 * 16 * 8 * 16, products=2, copies=1)
IN_A_TRIP = {"MMA": 6, "MUFU": 1, "shared": 2, "copy": 1, "global": 0, "local": 1, "integer": 5, "float": 2, "control": 12,
             "other": 3}

# A loop that is left by a call that nothing returns from, as far jumps are, and that calls a function.
CALLS = """
    top: MOV R4, back
         CALL.REL.NOINC divide
   back: IADD3 R5, R5, 0x1, RZ
    @P0  CALL.REL.NOINC leave
         BRA top
  leave: ISETP.GE.AND P1, PT, R5, R6, PT
    @P1  BRA leave
         EXIT
 divide: MUFU.RCP R7, R8
         RET.REL.NODEC R4 0x0
"""


def listing(name, code, architecture="sm_90a", resources=True):
    """The text that cuobjdump writes of lines with labels."""
    lines, places = [], {}
    for line in code.strip().splitlines():
        label, colon, rest = line.partition(": ")
        if colon:
            places[label.strip()] = 16 * len(lines)
        lines.append((rest if colon else line).strip())
    text = [f"Fatbin elf code:\n================\narch = {architecture}\n"]
    if resources:
        text.append(f" Function {name}:\n  REG:40 STACK:16 SHARED:1024 LOCAL:0 CONSTANT[0]:800 TEXTURE:0 SURFACE:0\n")
    text.append(f"\tcode for {architecture}\n\t\tFunction : {name}\n\t.headerflags\t@\"EF_CUDA_SM90\"")
    for number, line in enumerate(lines):
        line = re.sub(r"\b[a-z]+$", lambda match: hex(places[match[0]]) if match[0] in places else match[0], line)
        line = re.sub(r"^(@!?P\d) +", r"\1 ", line)
        text.append(f"        /*{16 * number:04x}*/    {line} ;    /* 0x00000a00ff017624 */\n    /* 0x000fc800078e00ff */")
    return "\n".join(text) + "\n\t\t..........\n"


def loops_of(code):
    (function,) = sass_loops.read_functions(listing("kernel", code).splitlines())
    graph = sass_loops.graph_of(function.instructions)
    return graph, sass_loops.loops_of(graph.successors)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.text = self.write("both.sass", listing("association", ASSOCIATION) + listing("calls", CALLS, "sm_80"))

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def report(self, *arguments):
        output = io.StringIO()
        with mock.patch("sys.argv", ["sass_report.py", *arguments]), contextlib.redirect_stdout(output):
            sass_report.main()
        return output.getvalue()

    def refusal(self, *arguments):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as exit_of:
            self.report(*arguments)
        self.assertEqual(exit_of.exception.code, 2)
        self.assertRegex(said.getvalue(), r"\Asass_report\.py: [^\n]+\n\Z")  # one sentence
        return said.getvalue()

    def results(self, *arguments):
        out = self.folder / "out.json"
        self.report(*arguments, "--json", str(out))
        return json.loads(out.read_text())


class Loops(Case):
    def test_nested_loops(self):
        graph, loops = loops_of(ASSOCIATION)
        self.assertEqual([graph.blocks[loop.header][0].address for loop in loops], [0xB0, 0x40])
        self.assertLess(loops[0].blocks, loops[1].blocks)

    def test_calls_that_are_jumps(self):
        graph, loops = loops_of(CALLS)
        self.assertEqual(sorted(graph.blocks[loop.header][0].address for loop in loops), [0, 0x50])
        self.assertFalse(loops[0].blocks & loops[1].blocks)
        self.assertEqual(sum(len(graph.blocks[number]) for number in loops[1].blocks), 5)

    def test_indirect_branches(self):
        jump = "BRX R4 -0x50 (*\"BRANCH_TARGETS 0x10, 0x30\"*)"
        graph, loops = loops_of(f"top: {jump}\nMOV R1, R2\nBRA top\nEXIT")
        self.assertEqual((len(loops), graph.unknown, graph.successors[0]), (1, 0, [1, 2]))
        graph, _ = loops_of("BRX R4 -0x50\nEXIT")
        self.assertEqual((graph.unknown, graph.successors[0]), (1, []))

    def test_classes(self):
        kinds = {"HGMMA.64x128x16.F32.BF16": "MMA", "UIADD3": "integer", "IMAD.MOV.U32": "integer", "LDSM.16.M88.4": "shared",
                 "LDGSTS.E.128": "copy", "UTMALDG.4D": "copy", "STL.64": "local", "RED.E.ADD": "global", "FFMA": "float",
                 "F2FP.BF16.F32.PACK_AB": "float", "SYNCS.PHASECHK.TRANS64.TRYWAIT": "control", "BRA.DIV": "control",
                 "LDC.64": "other", "SHFL.BFLY": "other", "UMOV": "other"}
        for name, kind in kinds.items():
            self.assertEqual(sass_loops.kind_of(sass_loops.Instruction(0, "", name, "")), kind, name)


class Report(Case):
    def test_counts(self):
        (result,) = self.results(self.text, "--arch", "sm_90a")
        self.assertEqual((result["registers"], result["stack"], result["shared"]), (40, 16, 1024))
        self.assertEqual(result["spilled"], {"stored": 8, "loaded": 4})
        (loop,) = result["loops"]
        self.assertEqual((loop["address"], loop["instructions"]), ("0x40", IN_THE_LOOP))
        (inner,) = loop["inner_loops"]
        counts = inner["instructions"]
        self.assertEqual((inner["address"], sum(counts.values()), counts["MMA"]), ("0xb0", 6, 2))
        self.assertEqual(loop["trips"], [])
        self.assertIn("does not have this kernel's tile", loop["remarks"][0])
        self.assertIn("trip count the code does not tell: 1", loop["remarks"][1])

    def trip(self, work, **settings):
        graph, loops = loops_of(ASSOCIATION)
        return sass_trips.shortest_trip(loops[1], graph, loops, work, **settings)

    def test_trip(self):
        trip = self.trip(WORK)
        self.assertEqual({kind: trip.counts[kind] for kind in IN_A_TRIP}, IN_A_TRIP)
        self.assertEqual([(each.address, each.trips, each.instructions) for each in trip.passed], [(0xB0, 2, 12)])
        self.assertEqual(trip.multiplications, 2 * WORK.product)  # without those of the predicated product
        resident = self.trip(WORK, copies=False)
        self.assertEqual(trip.counts - resident.counts, {"copy": 1})

    def test_known_tile(self):
        with mock.patch.dict(sass_report.TILES, {"association": lambda compiled, width: {"": WORK._replace(product=64 * (width or compiled))}}), \
                mock.patch.object(sass_report, "readable_names", lambda names: {name: "association<64>" for name in names}):
            (result,) = self.results(self.text, "--arch", "sm_90a")
            table = self.report(self.text, "--arch", "sm_90a", "--markdown")
        (trip,) = result["loops"][0]["trips"]
        self.assertEqual((trip["instructions"], trip["total"], trip["per_score"]), (IN_A_TRIP, 33, 6.5))  # 26 / 4 of a lane
        row = next(line for line in table.splitlines() if line.startswith("| association<64> "))
        self.assertIn("| 40 | 16 | 8 / 4 | 1024 | 0x40 | 29 | 33 | 6 | 1 |", row)

    def test_wrong_tile(self):
        trip = self.trip(WORK._replace(products=4))
        self.assertLess(trip.multiplications, 4 * WORK.product)
        with mock.patch.object(sass_report, "works_of", lambda kernel, width: [("", WORK._replace(products=4), False)]):
            (result,) = self.results(self.text, "--arch", "sm_90a")
        self.assertEqual(result["loops"][0]["trips"], [])
        self.assertIn("multiplications that its tile takes was found", " ".join(result["loops"][0]["remarks"]))

    def test_tiles(self):
        """Numbers of the README of the kernels: 32 x 64 scores of retrieval, 16 x 64 of a pool by four warps."""
        def tiles(kernel):
            works = sass_report.works_of(kernel)
            return [(name, work.rows, work.keys, work.copies, plain) for name, work, plain in works]

        ring, resident = ("ring", 32, 64, 4, False), ("resident", 32, 64, 0, False)
        self.assertEqual(tiles("retrieve_all_steps<bfloat16, 64>"), [ring, resident])
        self.assertEqual(tiles("pool_pass<float, 8>"), [("tf32", 16, 8, 16, False), ("plain", 16, 8, 16, True)])
        self.assertEqual([work.product for _, work, _ in sass_report.works_of("pool_backward_pass<bfloat16, 32>", 256)], [16384])
        self.assertEqual(sass_report.works_of("retrieve_all_steps<bfloat16>"), [])
        self.assertEqual(sass_report.works_of("write_head_residuals"), [])

    def test_text(self):
        text = self.report(self.text)
        self.assertIn("association, sm_90a: 40 registers, stack 16, spilled 8 / 4, shared 1024", text)
        self.assertIn("calls, sm_80", text)
        self.assertIn("no loop has matrix products", text)

    def test_text_without_resources(self):
        file = self.write("code.sass", listing("association", ASSOCIATION, resources=False))
        self.assertIn("association, sm_90a: - registers, stack -, spilled 8 / 4, shared -", self.report(file))

    def test_text_of_older_programs(self):
        file = self.write("old.sass", listing("association", ASSOCIATION).replace("code for sm_90a", "code for sm_90"))
        self.assertIn("association, sm_90a: 40 registers", self.report(file))

    def test_binary(self):
        program = self.folder / "bin/cuobjdump"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n[ \"$1 $2\" = '--dump-sass --dump-resource-usage' ] && cat '{self.text}'\n")
        program.chmod(0o755)
        with mock.patch.dict(os.environ, {"PATH": f"{program.parent}:{os.environ['PATH']}"}):
            self.assertIn("association", self.report(self.write("kernel.o", b"\x7fELF code")))

    def test_names(self):
        if sass_report.find_program("c++filt") is None:
            self.skipTest("there is no c++filt")
        name = "_ZN8hopfield12_GLOBAL__N_19pool_passINS_10bfloat16_tELi8EEEvNS_4CallE"
        self.assertEqual(sass_report.readable_names([name]), {name: "pool_pass<bfloat16, 8>"})


class Refusals(Case):
    def test_missing_file(self):
        said = self.refusal(str(self.folder / "none.o"))
        self.assertIn("none.o: No such file or directory", said)

    def test_no_machine_code(self):
        self.assertIn("which is neither", self.refusal(self.write("notes.txt", "no code")))

    def test_no_kernels(self):
        self.assertIn("without CUDA code", self.refusal(self.write("empty.sass", "arch = sm_80\n\tcode for sm_80\n")))
        program = self.write("cuobjdump", "#!/bin/sh\necho \"cuobjdump info : File does not contain device code\"\nexit 255\n")
        os.chmod(program, 0o755)
        with mock.patch.object(sass_report, "find_program", lambda name: program):
            self.assertIn("without CUDA code", self.refusal(self.write("host.o", b"\x7fELF host")))

    def test_no_cuobjdump(self):
        with mock.patch.object(sass_report, "find_program", lambda name: None):
            self.assertIn("expected cuobjdump in PATH", self.refusal(self.write("kernel.o", b"\x7fELF code")))

    def test_cuobjdump_fails(self):
        program = self.write("cuobjdump", "#!/bin/sh\necho 'fatal : Unknown ABI' >&2\nexit 1\n")
        os.chmod(program, 0o755)
        with mock.patch.object(sass_report, "find_program", lambda name: program):
            self.assertIn('got "fatal : Unknown ABI"; try', self.refusal(self.write("kernel.o", b"\x7fELF code")))

    def test_unknown_architecture(self):
        self.assertIn("sm_80, sm_90a, got sm_70;", self.refusal(self.text, "--arch", "sm_70"))

    def test_no_kernel_matches(self):
        self.assertIn("association, calls, got pool;", self.refusal(self.text, "--kernel", "pool"))

    def test_wrong_expression(self):
        self.assertIn("regular expression, got a(:", self.refusal(self.text, "--kernel", "a("))

    def test_wrong_width(self):
        self.assertIn("multiple of 64, got 100;", self.refusal(self.text, "--width", "100"))
        self.assertIn("--width: invalid int value", self.refusal(self.text, "--width", "wide"))

    def test_json_cannot_be_written(self):
        self.assertIn("--json", self.refusal(self.text, "--json", str(self.folder)))

    def test_no_file(self):
        self.assertIn("--help shows how it is called", self.refusal())

    def test_exit_code(self):
        command = [sys.executable, SCRIPTS / "sass_report.py", "/no/such/file"]
        result = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((result.returncode, result.stdout), (2, ""))


if __name__ == "__main__":
    unittest.main()
