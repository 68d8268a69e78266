#!/usr/bin/env python3
"""What the machine code of CUDA kernels has in its loops of matrix products: needs the compiled files alone, no GPU.

    scripts/sass_report.py build/cuda/kernels/libhopfield_kernels_cuda.a --arch sm_90a --kernel pool_pass --markdown

FILE is an object file, archive, program or library with CUDA code, or a text that cuobjdump --dump-sass
--dump-resource-usage wrote. For each kernel the report has

  registers, stack     of each thread registers and bytes of local memory
  shared, static       bytes of a block's static shared memory, of which GPUs from 9.0 on take 1024 for themselves
  spilled              bytes of local memory that its code stores and loads, each instruction counted once

and for each loop that has matrix products and, if there is such a loop, exponentials too (an association with a tile)

  in the loop          all instructions inside its back edge, those of inner loops counted once
  a trip               the instructions of a warp in the shortest trip with all products, copies and exponentials: what a
                       call without masks, dropout and the like meets. Inner loops are counted as often as the sizes of the
                       tile say, for patterns and instances of --width numbers. See sass_trips.py.
  per score            the trip's instructions of a lane for each score that the lane finds, without MMA and MUFU

by class. MMA: products by tensor cores. MUFU: exponentials, roots, reciprocals. copy: asynchronous copies to shared memory.
shared, global, local: accesses to that memory. integer: with address arithmetic and IMAD.MOV. float: with conversions,
comparisons and FFMA. control: branches and synchronization. other: moves, constants, predicates, shuffles.

An instruction whose predicate is false counts, since it is issued. A function that is called (most often a division) counts
as its call. Code for warps whose lanes are not together does not count. How often a loop runs for a given call, and how long
a warp waits, machine code does not tell.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections import Counter

from sass_loops import KINDS, graph_of, kind_of, loops_of, read_functions
from sass_trips import Work, is_mma, is_plain, shortest_trip

BINARY = (b"\x7fELF", b"!<arch>\n", b"!<thin>\n", b"\x50\xed\x55\xba")
BYTES = re.compile(r"\.(?:[US]?(8|16)|(64|128))\b")


def fail(message):
    print(f"sass_report.py: {message}", file=sys.stderr)
    sys.exit(2)


# The tiles of kernels. Each entry gets a kernel's template arguments and the patterns' width, 0 for all that the kernel is
# compiled for, and returns how its trips are called, with the work of one warp. They follow kBands, kKeysAtOnce and
# kRowsAtOnce in retrieve_*.h, kTileRows and kWarpEights in pool_tile.h.


def retrieve_work(number, compiled, width, keys, products, block_keys=0, loops=0):
    """@param block_keys  rows of a tile that four warps copy in a trip"""
    floats, rows, width = number == "float", 32 if compiled <= 128 else 16, width or compiled
    row_copies = width * (4 if floats else 2) // 128
    return Work(rows, keys, rows * keys * width, products, 3 if floats else 1, block_keys // 16 * row_copies,
                row_copies if block_keys else 0, has_plain=floats, loops=loops)


def pool_work(number, tiles, width, products):
    """A warp finds its share of the scores for all of the width, and sums for its quarter of the width: the same work."""
    floats, width = number == "float", width or 32 * tiles
    rows = (32 if tiles <= 8 else 16) if floats else (64 if tiles <= 8 else 32 if tiles <= 16 else 16)
    row_copies = width * (4 if floats else 2) // 128
    return Work(16, max(rows // 4, 8), 4 * rows * width, products, 3 if floats else 2, rows // 16 * row_copies, row_copies,
                max(rows // 16, 2), floats)


def forward_tiles(number, compiled, width):
    keys = 32 if number == "float" or compiled > 64 else 64
    work = retrieve_work(number, compiled, width, keys, 2, keys)
    return {"ring": work, "resident": work._replace(copies=0)}


def per_head_tiles(number, width):
    keys = 16 if number == "float" else 32
    return {"": retrieve_work(number, 256, width, keys, 3, keys)}


def queries_back_tiles(number, compiled, width):
    return {"": retrieve_work(number, compiled, width, 16, 3, 16 if number == "float" and compiled > 128 else 0)}


def instances_tiles(number, tiles, width):
    return {"": Work(product=16 * 16 * (width or 32 * tiles) // 4, products=1, pieces=3, has_plain=number == "float")}


TILES = {
    "retrieve_all_steps": forward_tiles,
    "retrieve_step_per_head": per_head_tiles,
    "retrieve_by_warpgroups": lambda compiled, width: {"": Work(16, 128, 16 * 128 * (width or compiled), 2)},
    "retrieve_steps_back": queries_back_tiles,
    "retrieve_patterns_back": lambda number, compiled, width: {"": retrieve_work(number, compiled, width, 16, 4, loops=2)},
    "pool_pass": lambda number, tiles, width: {"": pool_work(number, tiles, width, 2)},
    "pool_bags_on_chip": lambda number, tiles, width: {"": pool_work(number, tiles, width, 2)},
    "pool_backward_pass": lambda number, tiles, width: {"": pool_work(number, tiles, width, 3)},
    "pool_backward_instances_pass": instances_tiles,
}


def works_of(kernel, width=0):
    """(name of the trip, Work, without tensor cores) for a kernel like pool_pass<float, 8>; none if its tile is unknown."""
    match = re.fullmatch(r"(\w+)<(.*)>", kernel)
    if not match or match[1] not in TILES:
        return []
    arguments = [int(text) if text.isdigit() else text for text in match[2].split(", ")]
    try:
        works = TILES[match[1]](*arguments, width)
    except TypeError:
        return []  # the kernel has got other template parameters than TILES knows
    found = []
    for name, work in works.items():
        for product in ("tf32", "plain") if work.has_plain else ("",):
            found.append((" ".join(filter(None, (product, name))), work, product == "plain"))
    return found


def find_program(name):
    folders = [os.path.join(os.environ["CUDA_HOME"], "bin")] if os.environ.get("CUDA_HOME") else []
    places = (None, *folders, "/usr/local/cuda/bin")
    return next(filter(None, (shutil.which(name, path=place) for place in places)), None)


def text_of(file):
    """What cuobjdump says of a file, or the file itself where it is such a text."""
    try:
        content = pathlib.Path(file).read_bytes()
    except OSError as error:
        fail(f"expected FILE to be a file with CUDA code, got {file}: {error.strerror}; name one that can be read")
    if not content.startswith(BINARY):
        text = content.decode(errors="replace")
        if "code for sm_" not in text:
            fail(f"expected FILE to be a compiled file with CUDA code or a text by cuobjdump --dump-sass, got {file}, which "
                 "is neither; name for example build/cuda/kernels/libhopfield_kernels_cuda.a")
        return text
    program = find_program("cuobjdump")
    if program is None:
        fail("expected cuobjdump in PATH, CUDA_HOME/bin or /usr/local/cuda/bin, got none of them; install it (NVIDIA's "
             "package cuda-cuobjdump, from PyPI nvidia-cuda-cuobjdump), or give a text that cuobjdump --dump-sass --dump-resource-usage wrote elsewhere")
    command = [program, "--dump-sass", "--dump-resource-usage", file]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if result.returncode != 0 and "does not contain device code" not in result.stderr + result.stdout:
        said = (result.stderr.strip() or f"exit code {result.returncode}").splitlines()[-1]
        fail(f"expected {program} to read {file}, got \"{said}\"; try the cuobjdump of the toolkit that compiled the file")
    return result.stdout


def readable_names(names):
    """Names without namespaces and arguments: pool_pass<bfloat16, 8>."""
    program = find_program("cu++filt") or find_program("c++filt")
    lines = list(names)
    if program and lines:
        lines = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True).stdout.splitlines()
    found = {}
    for name, line in zip(names, lines):
        line = re.sub(r"\(anonymous namespace\)::|\b\w+::|^void |\((?:int|unsigned int|long)\)", "", line)
        line = re.sub(r"\b(b?float16)_t\b", r"\1", line)
        found[name] = re.sub(r"\(.*", "", line)
    return found


def local_bytes(instructions, base):
    total = 0
    for instruction in instructions:
        if instruction.base == base:
            bits = BYTES.search(instruction.name)
            total += int(bits[1] or bits[2]) // 8 if bits else 4
    return total


def product_loops(graph, loops):
    """The smallest loops with products and exponentials, or if there are none the smallest ones with products."""
    def has(loop, test):
        return any(test(graph.blocks[number]) for number in loop.blocks)

    def smallest(some):
        return [loop for loop in some if not any(other.blocks < loop.blocks for other in some)]

    with_products = [loop for loop in loops if has(loop, lambda block: any(map(is_mma, block)))]
    with_products = with_products or [loop for loop in loops if has(loop, is_plain)]
    complete = [loop for loop in with_products if has(loop, lambda block: any(i.name == "MUFU.EX2" for i in block))]
    return sorted(smallest(complete or with_products), key=lambda loop: loop.header)


def count(graph, blocks):
    return Counter(kind_of(instruction) for number in blocks for instruction in graph.blocks[number])


def in_order(counts):
    return {kind: counts[kind] for kind in KINDS}


def describe_loop(graph, loops, loop, kernel, width):
    inner = [other for other in loops if other.blocks < loop.blocks]
    address = [graph.blocks[other.header][0].address for other in (loop, *inner)]
    found = {"address": hex(address[0]), "instructions": in_order(count(graph, loop.blocks)),
             "inner_loops": [{"address": hex(at), "instructions": in_order(count(graph, other.blocks))}
                             for at, other in sorted(zip(address[1:], inner))], "trips": [], "remarks": []}
    works = works_of(kernel, width)
    if not works:
        found["remarks"].append("TILES of sass_report.py does not have this kernel's tile, so nothing is known of its trips")
    if inner:
        found["remarks"].append(f"contains inner loops whose trip count the code does not tell: {len(inner)}")
    for name, work, plain in works:
        trip = shortest_trip(loop, graph, loops, work, plain, copies="resident" not in name)
        expected = work.multiplications(plain)
        if trip is None or not trip.multiplications <= expected <= trip.multiplications + trip.uncertain:
            found["remarks"].append(f"no trip {name} with the {expected} multiplications that its tile takes was found")
            continue
        if not work.copies and "resident" not in name and found["instructions"]["copy"]:
            found["remarks"].append("its trips leave out the copies of this loop, whose number TILES does not tell")
        total, scores = trip.counts.total(), work.rows * work.keys
        rest = total - trip.counts["MMA"] - trip.counts["MUFU"]
        found["trips"].append({
            "name": name, "rows": work.rows, "keys": work.keys, "total": total, "instructions": in_order(trip.counts),
            "per_score": round(32 * rest / scores, 1) if scores else None,
            "inner_loops": [{**each._asdict(), "address": hex(each.address)} for each in trip.passed]})
    return found


def describe(function, kernel, width):
    graph = graph_of(function.instructions)
    loops = loops_of(graph.successors)
    result = {"kernel": kernel, "architecture": function.architecture, "instructions": len(function.instructions)}
    result |= {key: function.resources.get(key) for key in ("registers", "stack", "shared")}
    bytes_of = {name: local_bytes(function.instructions, base) for name, base in (("stored", "STL"), ("loaded", "LDL"))}
    result["spilled"] = bytes_of
    result["loops"] = [describe_loop(graph, loops, loop, kernel, width) for loop in product_loops(graph, loops)]
    result["remarks"] = [f"branches whose targets are not known: {graph.unknown}"] if graph.unknown else []
    return result


def shown(value):
    return "-" if value is None else str(value)


def classes(counts):
    return ", ".join(f"{kind} {number}" for kind, number in counts.items() if number)


def spilled(result):
    return f"{result['spilled']['stored']} / {result['spilled']['loaded']}"


def print_text(results):
    for result in results:
        print(f"{result['kernel']}, {result['architecture']}: {shown(result['registers'])} registers, stack "
              f"{shown(result['stack'])}, spilled {spilled(result)}, shared {shown(result['shared'])}, "
              f"{result['instructions']} instructions")
        for remark in result["remarks"] + ([] if result["loops"] else ["no loop has matrix products"]):
            print(f"  {remark}")
        for loop in result["loops"]:
            counts = loop["instructions"]
            print(f"  loop {loop['address']}: {sum(counts.values())} in the loop: {classes(counts)}")
            for remark in loop["remarks"]:
                print(f"    {remark}")
            for each in loop["inner_loops"]:
                counts = each["instructions"]
                print(f"    inner loop {each['address']}: {sum(counts.values())}: {classes(counts)}")
            for trip in loop["trips"]:
                print_trip(trip)


def print_trip(trip):
    name = f" {trip['name']}" if trip["name"] else ""
    tile = f" of {trip['rows']} x {trip['keys']} scores" if trip["rows"] else ""
    per_score = "" if trip["per_score"] is None else f"; per score {trip['per_score']}"
    print(f"    a trip{name}{tile}: {trip['total']}: {classes(trip['instructions'])}{per_score}")
    for each in trip["inner_loops"]:
        times = "trips not known, counted once" if each["trips"] is None else f"trips: {each['trips']}"
        print(f"    {'  ' * (1 + each['depth'])}inner loop {each['address']}: {each['instructions']}, {times}")


def print_markdown(results):
    columns = ("kernel", "registers", "stack", "spilled", "static", "loop", "in the loop", "a trip", *KINDS, "per score")
    for architecture in sorted({result["architecture"] for result in results}):
        print(f"\n{architecture}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for result in results:
            if result["architecture"] != architecture:
                continue
            first = [result["kernel"], shown(result["registers"]), shown(result["stack"]), spilled(result),
                     shown(result["shared"])]
            rows = [] if result["loops"] else [first]
            for loop in result["loops"]:
                of_loop = [loop["address"], str(sum(loop["instructions"].values()))]
                trips = [[f"{trip['total']} {trip['name']}".strip(), *map(str, trip["instructions"].values()),
                          shown(trip["per_score"])] for trip in loop["trips"]]
                rows += [[*first, *of_loop, *trip] for trip in trips or [[]]]
            for row in rows:
                print(f"| {' | '.join(row + ['-'] * (len(columns) - len(row)))} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: fail(f"{message}; --help shows how it is called")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--kernel", metavar="REGEX", default="", help="only kernels in whose readable name it is found")
    parser.add_argument("--arch", metavar="sm_90a", help="only code of this architecture")
    parser.add_argument("--width", metavar="256", type=int, default=0,
                        help="width of patterns or instances, a multiple of 64; by default all that a kernel is compiled for")
    parser.add_argument("--json", metavar="OUT", help="write the report there as well")
    parser.add_argument("--markdown", action="store_true", help="print tables")
    given = parser.parse_args()
    if given.width < 0 or given.width % 64 != 0:
        fail(f"expected --width to be a positive multiple of 64, got {given.width}; round it up")
    try:
        wanted = re.compile(given.kernel)
    except re.error as error:
        fail(f"expected --kernel to be a regular expression, got {given.kernel}: {error}; put a backslash before brackets")
    functions = []
    for file in given.files:
        functions += read_functions(text_of(file).splitlines())
    if not functions:
        fail(f"expected FILE to have kernels, got {', '.join(given.files)} without CUDA code; name a file that nvcc compiled")
    architectures = sorted({function.architecture for function in functions})
    if given.arch and given.arch not in architectures:
        fail(f"expected --arch to be one of those in the files, {', '.join(architectures)}, got {given.arch}; choose one of "
             "them, or compile for that one")
    names = readable_names(list(dict.fromkeys(function.name for function in functions)))
    chosen = [function for function in functions if wanted.search(names[function.name])
              and given.arch in {None, function.architecture}]
    if not chosen:
        known = ", ".join(sorted(set(names.values())))
        fail(f"expected --kernel to match one of {known}, got {given.kernel}; choose from these")
    results = [describe(function, names[function.name], given.width) for function in chosen]
    results.sort(key=lambda result: (result["architecture"], result["kernel"]))
    if given.json:
        try:
            pathlib.Path(given.json).write_text(json.dumps(results, indent=1) + "\n")
        except OSError as error:
            fail(f"expected --json to be a file that can be written, got {given.json}: {error.strerror}; name another one")
    (print_markdown if given.markdown else print_text)(results)


if __name__ == "__main__":
    main()
