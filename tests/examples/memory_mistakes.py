"""Mistaken command lines of hopfield_memory: the arguments, and what its one sentence must hold. The folder has what
memory_test.py puts there."""


def storing():
    """Continued behind `store --out new`."""
    yield from [
        (["--images", "mixed"], ["--images", "same size", "'grey.png' with 6x4", "with 8x8", "--size"]),
        (["--images", "mixed/grey.png", "--images", "mixed/wide.png"], ["--images", "6x4 pixels in 'mixed/grey.png'", "--size"]),
        (["--images", "gone"], ["--images", "'gone'", "does not exist"]),
        (["--images", "cut.png"], ["--images", "'cut.png'", "cut off"]),
        (["--images", "damaged", "--size", "4x4"], ["--images", "damaged/cut.png", "cut off"]),
        (["--images", "shapes", "--digit", "3"], ["--digit", "with the digits only"]),
        (["--memory", "continous"], ["--memory", "did you mean continuous?"]),
        (["--rule", "hebb"], ["--rule", "--memory binary only", "continuous"]),
        (["--memory", "exponential", "--beta", "3"], ["--beta", "continuous or kernel only"]),
        (["--beta", "0"], ["--beta", "above 0", "'0'"]),
        (["--imges", "shapes"], ["--imges: unknown option of store", "did you mean --images?"]),
        (["--images", "mixed/grey.png", "--json", "mixed/grey.png"], ["--json", "the input of --images"]),
    ]


def recalling():
    """Continued behind `recall --in memory`."""
    yield from [
        (["--corrupt", "blur"], ["--corrupt", "none, half, noise, salt-and-pepper, flip", "'blur'"]),
        (["--corrupt", "half,noise", "--amount", "0.5"], ["--amount", "each corruption of --corrupt half,noise", "got 1"]),
        (["--amount", "1.5"], ["--amount", "from 0 to 1", "'1.5'"]),
        (["--cues", "empty"], ["--cues", "has none"]),
        (["--count", "7"], ["--count", "at most 6"]),
        (["--shw", "3"], ["--shw: unknown option of recall", "did you mean --show?"]),
        (["--grid", "grid.jpg"], ["--grid", ".png", "'grid.jpg'"]),
        (["--grid", "none/grid.png"], ["--grid", "existing folder"]),
    ]


def others():
    yield from [
        ([], ["a command (store, recall or show) or --compare FILE.png"]),
        (["store", "--out", "/proc/new"], ["--out", "can be written to"]),
        (["recal", "--in", "memory"], ["'recal'", "did you mean recall?"]),
        (["show", "--in", "text.png"], ["--in", "safetensors"]),
        (["show", "--in", "stranger"], ["--in", "hopfield_memory store", "'stranger'", "says nothing about images"]),
        (["show", "--in", "tensors"], ["--in", "'tensors'", "a memory that `hopfield_memory store` wrote"]),
        (["recall", "--in", "edited"], ["--in", "'edited'", "does not fit its patterns"]),
        (["recall", "--in", "broken"], ["--in", "'broken'", "is damaged"]),
        (["recall", "--in", "newer"], ["--in", "'newer'", "another version"]),
        (["--compare", "c.jpg"], ["--compare", ".png"]),
        (["--compare", "c.png", "--images", "shapes", "--counts", "1,7"], ["--counts", "at most 6", "7"]),
    ]


def all_calls():
    calls = [(["store", "--out", "new", *call], parts) for call, parts in storing()]
    calls += [(["recall", "--in", "memory", *call], parts) for call, parts in recalling()]
    return calls + list(others())
