"""Reads the text of cuobjdump --dump-sass and finds the loops of each function. See sass_report.py.

A function becomes a graph of blocks of instructions. A loop is a natural one: all blocks from which its header is reached
again without leaving it, where the header is passed on every way to them from the function's beginning.
"""

import re
from typing import NamedTuple

ARCHITECTURE = re.compile(r"(arch = |code for )(sm_\w+)")
FUNCTION = re.compile(r"Function\s?:?\s*(\S+?):?$")
RESOURCES = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)")
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*?)\s*;")
TARGET = re.compile(r"0x([0-9a-f]+)$")
LISTED_TARGETS = re.compile(r"BRANCH_TARGETS ([^\"]*)")
ENDS = {"EXIT", "RET", "KILL", "BRA", "BRX", "BRXU", "JMP", "JMX", "JMXU"}
INDIRECT = {"BRX", "BRXU", "JMX", "JMXU"}

# The classes of instructions by the first part of their name, of which a leading U (of the uniform datapath) is dropped.
CLASSES = {
    "MMA": "HMMA IMMA DMMA BMMA QMMA OMMA HGMMA IGMMA QGMMA BGMMA",
    "MUFU": "MUFU",
    "shared": "LDS STS LDSM STSM ATOMS",
    "copy": "LDGSTS BLKCP BLKPF TMALDG TMASTG TMAREDG TMAPF",
    "global": "LDG STG LD ST ATOM ATOMG RED REDG",
    "local": "LDL STL",
    "integer": "IADD3 IADD IMAD IMUL IABS IMNMX VIMNMX VIADD VIADDMNMX ISETP ICMP LOP3 LOP LEA SHF SHL SHR PRMT SEL POPC "
               "FLO BREV BMSK SGXT IDP ISCADD VABSDIFF I2I I2IP",
    "float": "FFMA FMUL FADD FMNMX FSEL FSET FSETP FCHK FSWZADD HADD2 HMUL2 HFMA2 HMNMX2 HSET2 HSETP2 DADD DMUL DFMA DSETP "
             "F2F F2FP F2I F2IP FRND I2F I2FP",
    "control": "BRA BRX BRXU JMP JMX JMXU CALL RET EXIT KILL BPT BSSY BSYNC BREAK BMOV BAR B2R WARPSYNC ENDCOLLECTIVE YIELD "
               "NANOSLEEP DEPBAR LDGDEPBAR ARRIVES SYNCS MEMBAR ERRBAR CGAERRBAR FENCE CGABAR_ARV CGABAR_WAIT WARPGROUP "
               "WARPGROUPSET ELECT VOTE CCTL TMACCTL SETMAXREG",
}
CLASS_OF = {name: kind for kind, names in CLASSES.items() for name in names.split()}
KINDS = (*CLASSES, "other")


class Instruction(NamedTuple):
    address: int
    predicate: str  # empty, or for example !P0
    name: str  # for example IMAD.MOV.U32
    operands: str

    @property
    def base(self):
        return self.name.split(".")[0]


class Function(NamedTuple):
    architecture: str
    name: str  # mangled
    instructions: list
    resources: dict  # registers, stack, shared; empty where the text does not tell


class Loop(NamedTuple):
    header: int  # the number of a block, as are the others
    latches: list  # the blocks that jump back
    blocks: frozenset


def kind_of(instruction):
    base = instruction.base
    return CLASS_OF.get(base) or CLASS_OF.get(base.removeprefix("U"), "other")


def read_functions(lines):
    """The functions of a text that has what cuobjdump --dump-sass and --dump-resource-usage print, in either order."""
    architecture, name, found, resources = "", None, {}, {}
    for line in lines:
        match = INSTRUCTION.search(line)
        if match:
            if name is not None:
                address, predicate, opcode, operands = match.groups()
                instruction = Instruction(int(address, 16), predicate or "", opcode, operands)
                found.setdefault((architecture, name), []).append(instruction)
        elif match := FUNCTION.search(line.rstrip()):
            name = match[1]
        elif match := RESOURCES.search(line):
            resources[architecture, name] = dict(zip(("registers", "stack", "shared"), map(int, match.groups())))
        elif match := ARCHITECTURE.search(line):
            name = None
            if match[1] == "arch = " or not architecture.startswith(match[2]):
                architecture = match[2]  # older programs go on with "code for sm_90" behind "arch = sm_90a"
    return [Function(*key, code, resources.get(key, {})) for key, code in found.items()]


def targets_of(instruction):
    """The addresses that a branch or a call may go to."""
    if instruction.base in INDIRECT:
        listed = LISTED_TARGETS.search(instruction.operands)
        return [int(target, 16) for target in re.findall(r"0x([0-9a-f]+)", listed[1])] if listed else []
    match = TARGET.search(instruction.operands)
    return [int(match[1], 16)] if match and instruction.base in {"BRA", "JMP", "CALL"} else []


def goes_on(instruction):
    """Whether the next instruction may follow."""
    if instruction.base not in ENDS:
        return True
    if instruction.base in {"BRA", "JMP"} and "," in instruction.operands:
        return True  # under a condition that is an operand
    return instruction.predicate not in {"", "PT", "UPT"}


def jumps_by_calls(instructions, places):
    """The calls that nothing returns from: the assembler uses them as jumps. No way from their target ends with RET."""
    returns = {}

    def is_returned_from(target):
        seen, stack = set(), [target]
        while stack:
            i = stack.pop()
            if i in seen or i == len(instructions):
                continue
            seen.add(i)
            instruction = instructions[i]
            if instruction.base == "RET":
                return True
            if instruction.base != "CALL":
                stack.extend(places[address] for address in targets_of(instruction) if address in places)
            if goes_on(instruction):
                stack.append(i + 1)
        return False

    jumps = set()
    for i, instruction in enumerate(instructions):
        if instruction.base != "CALL":
            continue
        for address in targets_of(instruction):
            if address in places:
                if address not in returns:
                    returns[address] = is_returned_from(places[address])
                if not returns[address]:
                    jumps.add(i)
    return jumps


class Graph(NamedTuple):
    blocks: list  # of lists of instructions
    successors: list  # of each block
    unknown: int  # indirect branches whose targets are not listed


def graph_of(instructions):
    """The blocks of a function, for warps whose lanes are together: BRA.DIV jumps to code for lanes that are not, and
    BRA.CONV around it. Functions that it calls have their code behind its own, but no edge leads there."""
    places = {instruction.address: i for i, instruction in enumerate(instructions)}
    jumping_calls = jumps_by_calls(instructions, places)
    leaders = {0}
    for i, instruction in enumerate(instructions):
        if instruction.base in ENDS or i in jumping_calls:
            leaders.update(places[target] for target in targets_of(instruction) if target in places)
            leaders.add(i + 1)
    begins = sorted(leader for leader in leaders if leader < len(instructions))
    ends = [*begins[1:], len(instructions)]
    number = {begin: i for i, begin in enumerate(begins)}
    successors, unknown = [], 0
    for i, end in enumerate(ends):
        last = instructions[end - 1]
        jumps, falls = [], [i + 1] if i + 1 < len(begins) else []
        if last.base in ENDS or end - 1 in jumping_calls:
            jumps = [number[places[target]] for target in targets_of(last) if target in places]
            if not (last.predicate if last.base == "CALL" else goes_on(last)):
                falls = []
        unknown += last.base in INDIRECT and not jumps
        if last.name.startswith("BRA.DIV"):
            jumps = []
        if last.name.startswith("BRA.CONV"):
            falls = []
        successors.append(sorted({*jumps, *falls}))
    return Graph([instructions[begin:end] for begin, end in zip(begins, ends)], successors, unknown)


def order_of(successors, first=0):
    """The blocks that are reached from the first one, each before those that follow it, but for jumps back."""
    order, seen, stack = [], {first}, [(first, iter(successors[first]))]
    while stack:
        block, rest = stack[-1]
        for follower in rest:
            if follower not in seen:
                seen.add(follower)
                stack.append((follower, iter(successors[follower])))
                break
        else:
            order.append(block)
            stack.pop()
    return order[::-1]


def dominators_of(successors):
    """For each block that is reached, its nearest dominator: the last other block that every way to it passes. Found as
    Cooper, Harvey and Kennedy do, "A Simple, Fast Dominance Algorithm", 2001."""
    order = order_of(successors)
    place = {block: i for i, block in enumerate(order)}
    before = {block: [] for block in order}
    for block in order:
        for follower in successors[block]:
            before[follower].append(block)
    nearest = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for block in order[1:]:
            common = None
            for other in before[block]:
                if other not in nearest:
                    continue
                if common is None:
                    common = other
                while common != other:
                    if place[common] > place[other]:
                        common = nearest[common]
                    else:
                        other = nearest[other]
            changed |= nearest.get(block) != common
            nearest[block] = common
    return nearest


def dominates(nearest, block, other):
    while other != block and nearest[other] != other:
        other = nearest[other]
    return other == block


def loops_of(successors):
    """The natural loops, one for each header, the smallest first."""
    nearest = dominators_of(successors)
    before = {block: [] for block in nearest}
    latches = {}
    for block in nearest:
        for follower in successors[block]:
            before[follower].append(block)
            if dominates(nearest, follower, block):
                latches.setdefault(follower, []).append(block)
    loops = []
    for header, ends in latches.items():
        inside, stack = {header}, list(ends)
        while stack:
            block = stack.pop()
            if block not in inside:
                inside.add(block)
                stack.extend(before[block])
        loops.append(Loop(header, ends, frozenset(inside)))
    return sorted(loops, key=lambda loop: len(loop.blocks))
