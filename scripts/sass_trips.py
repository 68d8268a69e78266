"""Finds the shortest trip of a loop in which it does its work: all products, all exponentials, all copies of a tile.

The loop of a kernel has code for whatever a call may ask for: masks, dropout, scores that are written out. A call that asks
for none of it branches around that code. Which instructions it meets is found here. Of all ways from the loop's header to a
jump back, those are taken that have the wanted products and copies; of these the ones in which most scores are multiplied by
something and most exponentials are found; and of these the one with the fewest instructions.
"""

import re
from collections import Counter
from typing import NamedTuple

from sass_loops import Graph, kind_of, order_of

WARPGROUP_SHAPE = re.compile(r"\.(\d+)x(\d+)x(\d+)")
WARP_SHAPE = re.compile(r"\.(16)(8)(4|8|16|32)\b")
REGISTER = re.compile(r"\bR(\d+|Z)\b")
ARITHMETIC = {"FMUL", "FFMA", "FADD"}
PLAIN_BLOCK = 16  # a block with so many FFMA, a quarter of its instructions or more, multiplies without tensor cores


class Work(NamedTuple):
    """What a warp does in a trip, as far as a kernel's template parameters tell. Numbers that they do not tell are 0."""

    rows: int = 0
    keys: int = 0  # rows x keys are the scores of a trip
    product: int = 0  # multiplications of one product of matrices
    products: int = 0
    pieces: int = 1  # products of the tensor cores for one of matrices, whose numbers are sums of two or three others
    copies: int = 0  # of 16 bytes by each lane in a trip
    row_copies: int = 0  # the same of one row, which is also what LayerNorm reads of it
    norm_rows: int = 0  # rows of a tile that LayerNorm takes one after the other
    has_plain: bool = False  # the kernel also has products without tensor cores
    loops: int = 0  # loops of products, without those for exact states, which come first

    def multiplications(self, plain):
        return self.product * self.products * (1 if plain else self.pieces)


class Passed(NamedTuple):
    """An inner loop on the way."""

    depth: int
    address: int
    trips: int | None  # None: not known, and counted as one
    instructions: int  # of all these trips


class Way(NamedTuple):
    """What a part of a way comes to."""

    multiplications: int = 0
    uncertain: int = 0  # multiplications under a predicate: for wider patterns or for exact states
    copies: int = 0
    scores: int = 0  # a bit for each register of a score that is multiplied by something
    wanted: int = 0  # exponentials, roots, and loops that a trip has to pass
    counts: Counter = Counter()  # instructions of each class
    passed: tuple = ()

    def rank(self):
        return -self.scores.bit_count(), -self.wanted, self.counts.total()


def join(a, b):
    return Way(a.multiplications + b.multiplications, a.uncertain + b.uncertain, a.copies + b.copies, a.scores | b.scores,
               a.wanted + b.wanted, a.counts + b.counts, a.passed + b.passed)


def is_mma(instruction):
    return kind_of(instruction) == "MMA"


def has_mma(block):
    return any(map(is_mma, block))


def multiplications_of(instruction):
    """Multiplications of one warp by an instruction of the tensor cores. Those of a warpgroup are shared by four warps."""
    if match := WARPGROUP_SHAPE.search(instruction.name):
        return int(match[1]) * int(match[2]) * int(match[3]) // 4
    match = WARP_SHAPE.search(instruction.name)
    return int(match[1]) * int(match[2]) * int(match[3]) if match else 0


def is_plain(block):
    fused = sum(instruction.base == "FFMA" for instruction in block)
    return fused >= PLAIN_BLOCK and 4 * fused >= len(block) and not any(i.base == "MUFU" for i in block)


def width_of_result(instruction):
    if shape := WARPGROUP_SHAPE.search(instruction.name):
        return int(shape[2]) // 2
    if is_mma(instruction) or re.search(r"\.(128|4)\b", instruction.name):
        return 4
    return 2 if re.search(r"\.(64|WIDE)\b", instruction.name) or instruction.name == "CS2R" else 1


def score_reads(instructions):
    """For the addresses of additions and multiplications, which registers of scores they read, as bits. Scores are results
    of products whose sums begin with zero in each trip; weighted sums go on from trip to trip. Instructions are looked at in
    the order of addresses, as if there were no branches."""
    current, reads = set(), {}
    for instruction in sorted(instructions):
        registers = [-1 if number == "Z" else int(number) for number in REGISTER.findall(instruction.operands)]
        if not registers:
            continue
        sources = current.intersection(registers[1:])
        if instruction.base in ARITHMETIC and sources:
            reads[instruction.address] = sum(1 << register for register in sources)
        if instruction.base in {"ST", "STS", "STG", "STL", "LDGSTS"}:
            continue
        result = set(range(registers[0], registers[0] + width_of_result(instruction)))
        in_place = result <= sources and (instruction.base not in ARITHMETIC or registers[0] == registers[-1])
        if is_mma(instruction):
            begins = registers[-1] == -1 or registers[-1] in current
        elif instruction.predicate or in_place:
            continue  # a score that is replaced under a condition, or to which a product is added
        else:
            begins = instruction.operands.endswith(" SRZ") or re.fullmatch(r"R\d+(, RZ)+", instruction.operands)
        current = current | result if begins else current - result
    return reads


def way_of_block(block, reads, plain, in_norm):
    sure = uncertain = scores = 0
    if plain and is_plain(block) and not in_norm:
        sure = 32 * sum(instruction.base == "FFMA" for instruction in block)
    for instruction in block:
        if is_mma(instruction):
            if instruction.predicate:
                uncertain += multiplications_of(instruction)
            else:
                sure += multiplications_of(instruction)
        elif not (plain and is_plain(block)):
            scores |= reads.get(instruction.address, 0)
    wanted = sum(instruction.name in {"MUFU.EX2", "MUFU.RSQ"} for instruction in block)
    copies = sum(instruction.base == "LDGSTS" for instruction in block)
    return Way(sure, uncertain, copies, scores, wanted, Counter(map(kind_of, block)))


def trips_of(instructions, way, work, plain, in_norm, in_copy):
    """How often an inner loop is passed in a trip of the loop around it: None if that is not known, 0 if `way`, one of its
    trips, has too many products or copies for the work. LayerNorm's loops are passed once at least, even where a trip takes
    more than a row has."""
    if way.multiplications:
        product = work.product * (1 if plain else work.pieces)
        return None if not product or 0 < product % way.multiplications < product else product // way.multiplications
    if way.copies and work.row_copies:
        if in_copy:
            return work.row_copies // way.copies
        return work.copies // way.copies if way.copies % work.row_copies == 0 else 0
    if work.norm_rows and any(instruction.name == "MUFU.RSQ" for instruction in instructions):
        return work.norm_rows
    loads = sum(instruction.base == "LDS" for instruction in instructions)
    return max(work.row_copies // loads, 1) if in_norm and loads else None


def repeat(way, trips, address):
    """All trips through an inner loop. One without products and copies must not be left out where its trips are known."""
    count = 1 if trips is None else trips
    wanted = way.wanted + (trips is not None and not way.multiplications and not way.copies)
    counts = Counter({kind: number * count for kind, number in way.counts.items()})
    passed = (Passed(0, address, trips, counts.total()), *(each._replace(depth=each.depth + 1) for each in way.passed))
    return Way(way.multiplications * count, way.uncertain * count, way.copies * count, way.scores, wanted, counts,
               passed)


class Search(NamedTuple):
    """What does not change during a search."""

    graph: Graph
    loops: list
    work: Work
    plain: bool  # products are made by FFMA, not by tensor cores
    reads: dict
    left_out: set  # blocks that no way passes

    def instructions(self, loop):
        return [instruction for block in loop.blocks for instruction in self.graph.blocks[block]]

    def ways_of_block(self, number, in_norm):
        block = self.graph.blocks[number]
        other_kind = has_mma(block) if self.plain else self.work.has_plain and not in_norm and is_plain(block)
        return [] if other_kind or number in self.left_out else [way_of_block(block, self.reads, self.plain, in_norm)]

    def ways_of_loop(self, loop, in_norm, in_copy):
        within, address = self.instructions(loop), self.graph.blocks[loop.header][0].address
        ways = list(ways_through(self, loop, in_norm, any(i.base == "LDGSTS" for i in within)).values())
        if not in_copy and any(way.copies == self.work.row_copies for way in ways):
            ways = [way for way in ways if way.copies in {0, self.work.row_copies}]
        found = []
        for way in ways:
            trips = trips_of(within, way, self.work, self.plain, in_norm, in_copy)
            if trips != 0:
                found.append(repeat(way, trips, address))
            if trips and trips > 1 and way.multiplications:
                found.append(repeat(way, trips - 1, address))  # where the assembler has put one before the loop
        return found


def ways_through(search, loop, in_norm=False, in_copy=False):
    """The best way through a loop for each number of multiplications and copies."""
    inside = [other for other in search.loops if other.blocks < loop.blocks]
    inner = [other for other in inside if not any(other.blocks < third.blocks for third in inside)]
    place = {block: block for block in loop.blocks}
    for i, other in enumerate(inner):
        place.update(dict.fromkeys(other.blocks, -1 - i))
    successors = {node: set() for node in place.values()}
    for block in loop.blocks:
        for follower in search.graph.successors[block]:
            if follower in loop.blocks and follower != loop.header and place[follower] != place[block]:
                successors[place[block]].add(place[follower])

    work, within = search.work, search.instructions(loop)
    if work.norm_rows and any(i.name == "MUFU.RSQ" for i in within) and not has_mma(within):
        in_norm = True
    limit = work.multiplications(search.plain)

    def keep(ways, way):
        key = way.multiplications, way.copies
        too_much = limit and way.multiplications > limit or work.copies and way.copies > work.copies
        if not too_much and (key not in ways or way.rank() < ways[key].rank()):
            ways[key] = way

    ends = {place[latch] for latch in loop.latches}
    before, results = {place[loop.header]: {(0, 0): Way()}}, {}
    for node in order_of(successors, place[loop.header]):
        arriving, here = before.pop(node, {}).values(), {}
        if arriving:
            if node >= 0:
                parts = search.ways_of_block(node, in_norm)
            else:
                parts = search.ways_of_loop(inner[-1 - node], in_norm, in_copy)
            for part in parts:
                for way in arriving:
                    keep(here, join(way, part))
        for way in here.values():
            if node in ends:
                keep(results, way)
            for follower in successors[node]:
                keep(before.setdefault(follower, {}), way)
    return results


def unused_blocks(graph, loops, loop, work, plain):
    """Blocks whose products a call of the whole width without exact states does not make.

    * A product has a loop for several instructions of its width at once, and maybe a second one for fewer, and then code
      for the rest. All of them add to the same registers. The first loop whose trips fit the product makes all of it.
    * Two products that add to the same registers are those of the rounding errors of exact states, and of the states. The
      registers may be copied in between, so `work.loops` may tell how many products there are.
    """

    def sums_of(blocks):
        """The registers that products add to: read as a sum before they are written."""
        written, sums = set(), set()
        for instruction in sorted(i for number in blocks for i in graph.blocks[number]):
            if instruction.base == "FFMA" if plain else is_mma(instruction):
                registers = REGISTER.findall(instruction.operands)
                sums |= {registers[-1]} - written
                written.add(registers[0])
        return sums

    def same(some, other):
        return 2 * len(some & other) > min(len(some), len(other))

    def multiplications(blocks):
        return sum(way_of_block(graph.blocks[number], {}, plain, False).multiplications for number in blocks)

    inside = [other for other in loops if other.blocks < loop.blocks]
    inner = [other for other in inside if not any(other.blocks < third.blocks for third in inside)]
    making = sorted((other for other in inner if multiplications(other.blocks) and not (
        plain and any(has_mma(graph.blocks[number]) for number in other.blocks))), key=lambda other: other.header)
    product = work.product * (1 if plain else work.pieces)
    groups = []  # of loops that add to the same registers: these, the loops of each product, multiplications of the last
    for other in making:
        made, sums = multiplications(other.blocks), sums_of(other.blocks)
        group = next((group for group in groups if same(group[0], sums)), None)
        if group is None:
            groups.append([sums, [[other]], made])
            continue
        if made < group[2]:
            group[1][-1].append(other)
        else:
            group[1].append([other])
        group[2] = made
    used, ends = set(), []
    groups.sort(key=lambda group: group[1][-1][0].header)
    for sums, products, _ in groups[-work.loops:]:
        fitting = [other for other in products[-1] if product and product % multiplications(other.blocks) == 0]
        used = used.union(*(other.blocks for other in fitting[:1] or products[-1]))
        if fitting:
            ends.append(sums)
    of_loops = set().union(*(other.blocks for other in inner))
    rest = [number for number in loop.blocks - of_loops if (is_plain if plain else has_mma)(graph.blocks[number])
            and any(same(sums, sums_of([number])) for sums in ends)]
    return {number for other in making for number in other.blocks}.difference(used).union(rest)


def shortest_trip(loop, graph, loops, work, plain=False, copies=True):
    """The trip described at the top of this file, or None if no way through the loop has a product.

    @param copies  the trip copies as much of a tile as it can, rather than nothing
    """
    instructions = [instruction for block in loop.blocks for instruction in graph.blocks[block]]
    unused = unused_blocks(graph, loops, loop, work, plain)
    search = Search(graph, loops, work, plain, score_reads(instructions), unused)
    ways = [way for way in ways_through(search, loop).values() if way.multiplications or way.uncertain]
    if not ways:
        return None
    most = max(way.multiplications for way in ways)
    ways = [way for way in ways if way.multiplications == most]
    wanted = (max if copies else min)(way.copies for way in ways)
    return min((way for way in ways if way.copies == wanted), key=Way.rank)
