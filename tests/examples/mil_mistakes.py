"""Mistaken command lines of hopfield_mil: the arguments, and what its one sentence must hold."""


def training(folder):
    """Calls with data in order. Files lie in `folder`."""
    yield from [
        (["--foldz", "3"], ["--foldz: unknown option", "did you mean --folds?"]),
        (["--folds", "1"], ["--folds", "whole number from 2", "'1'"]),
        (["--folds", "13"], ["--folds", "at most 12 folds"]),
        (["--folds", "21"], ["--folds", "at most 12 folds", "21"]),
        (["--epochs", "0"], ["--epochs", "whole number from 1", "'0'"]),
        (["--epochs", "many"], ["--epochs", "'many'"]),
        (["--epochs", "08x"], ["--epochs", "'08x'"]),
        (["--epochs", "1e3"], ["--epochs", "'1e3'"]),
        (["--epochs", "3\n4"], ["--epochs", "'3?4'"]),
        (["--epochs", "٣"], ["--epochs", "'٣'"]),
        (["--epochs", "9" * 5000], ["--epochs", "(5000 bytes)"]),
        (["--epochs", ""], ["--epochs", "an empty text"]),
        (["--epochs="], ["--epochs", "an empty text"]),
        (["--epochs"], ["--epochs", "a value behind it, got nothing"]),
        (["--epochs", "3", "--epochs", "0"], ["--epochs", "'0'"]),
        (["--seed", "-1"], ["--seed", "'-1'"]),
        (["--seed", "1.5"], ["--seed", "'1.5'"]),
        (["--seed", "18446744073709551616"], ["--seed", "from 0 to 18446744073709551615"]),
        (["--lr", "-1"], ["--lr", "a number above 0", "'-1'"]),
        (["--lr", "0"], ["--lr", "a number above 0, got '0'"]),
        (["--lr", "nan"], ["--lr", "'nan'"]),
        (["--lr", "1e400"], ["--lr", "'1e400'"]),
        (["--lr", "0,001"], ["--lr", "'0,001'"]),
        (["--lr-decay", "2"], ["--lr-decay", "from 0 to 1"]),
        (["--dropout", "1.5"], ["--dropout"]),
        (["--bag-dropout", "-0.5"], ["--bag-dropout"]),
        (["--heads", "0"], ["--heads"]),
        (["--hidden", "-3"], ["--hidden"]),
        (["--embedding", "999999999"], ["--embedding", "whole number"]),
        (["--heads", "60000", "--hidden", "60000"], ["--heads", "weights"]),
        (["--batch", "0"], ["--batch"]),
        (["--beta", "nan"], ["--beta", "a finite number"]),
        (["--update-steps", "-2"], ["--update-steps", "from -1"]),
        (["--threads", "-1"], ["--threads"]),
        (["--threads", "1000000"], ["--threads"]),
        (["--repeats", "999999999999999"], ["--repeats", "whole number"]),
        (["--repeats", "50000", "--folds", "4"], ["--repeats", "at most 25000 with 4 folds"]),
        (["--device", "gpu"], ["--device", "cpu, cuda or cuda:N", "'gpu'"]),
        (["--device", "cuda:99"], ["--device", "'cuda:99'"]),
        (["--device", "cuda:"], ["--device", "'cuda:'"]),
        (["--device", "cuda:" + "9" * 30], ["--device", "'cuda:999"]),
        (["--device", ""], ["--device", "an empty text"]),
        (["--quiet=yes"], ["--quiet", "no value"]),
        (["--resume"], ["--resume", "--checkpoint FILE"]),
        (["--overwrite"], ["--overwrite", "--checkpoint FILE"]),
        (["--checkpoint", folder / "c", "--resume", "--overwrite"], ["--overwrite", "both"]),
        (["--epoch", "5"], ["--epoch: unknown option", "did you mean --epochs?"]),
        (["-epochs", "5"], ["-epochs: unknown option", "did you mean --epochs?"]),
        (["--Epochs", "5"], ["--Epochs: unknown option", "did you mean --epochs?"]),
        (["--lr_decay", "1"], ["--lr_decay: unknown option", "did you mean --lr-decay?"]),
        (["--learning-rate", "1"], ["--learning-rate: unknown option", "--help"]),
        (["--top", "3"], ["--top", "belongs to the command predict"]),
        (["--"], ["--: unknown option"]),
        (["bags.csv"], ["'bags.csv'", "expected an option"]),
        (["predict", "--model", "m"], ["predict", "come first"]),
    ]
    for option in ("--scores", "--save-model", "--checkpoint"):
        yield ([option, "/dev/full"], [option, "regular file", "'/dev/full'"])
        yield ([option, folder / "bags.csv"], [option, "the input of --data"])
    yield from [
        (["--json", "/dev/full"], ["--json", "regular file", "'/dev/full'"]),
        (["--json", folder], ["--json", "which is a folder"]),
        (["--json", folder / "missing" / "r"], ["--json", "existing folder"]),
        (["--json", "/proc/r"], ["--json", "can be written to"]),
        (["--json", ""], ["--json", "an empty text"]),
        (["--json"], ["--json", "got nothing"]),
        (["--json", "--quiet"], ["--json", "'--quiet'", "--json=--quiet"]),
        (["--json", f"{folder}/new/"], ["--json"]),
        (["--json", folder / "bags.csv" / "r"], ["--json"]),
        (["--json", folder / ("n" * 300)], ["--json", "too long"]),
        (["--json", folder / "dangling"], ["--json", "a link to a file that is missing"]),
        (["--json", folder / "link.csv"], ["--json", "the input of --data"]),
        (["--json", folder / "r", "--scores", folder / "r"], ["--scores", "another file than that of --json"]),
        (["--json", folder / "r", "--scores", f"{folder}/./r"], ["--scores", "--json"]),
        (["--json", folder / "r", "--save-model", folder / "here" / "r"], ["--save-model", "--json"]),
        (["--json", folder / "r", "--checkpoint", folder / "r"], ["--checkpoint", "--json"]),
    ]


def other(folder):
    """Calls without data, or of predict."""
    bags, model = folder / "bags.csv", folder / "model.safetensors"
    predict = ["predict", "--model", model, "--data", bags]
    yield from [
        ([], ["--data", "got nothing"]),
        (["--data", ""], ["--data", "an empty text"]),
        (["--data", "nothing_like_it"], ["--data", "musk1", "web_recommendation_1"]),
        (["--data", "musk"], ["--data", "did you mean musk1?"]),
        (["--data", "näher.csv"], ["--data", "'näher.csv'"]),
        (["--data", folder], ["--data", "folder"]),
        (["--data", "/dev/null"], ["--data", "device"]),
        (["predikt", "--model", model], ["'predikt'", "did you mean predict?"]),
        (["predict", "--data", bags], ["--model", "got nothing"]),
        (["predict", "--data", bags, "--model", "none"], ["--model", "'none'"]),
        (["predict", "--data", bags, "--model", bags], ["safetensors"]),
        (["predict", "--data", bags, "--model", folder], ["folder"]),
        ([*predict, "--epochs", "3"], ["--epochs: unknown option of predict"]),
        ([*predict, "--scors", "x"], ["--scors: unknown option", "did you mean --scores?"]),
        ([*predict, "--top", "-1"], ["--top", "'-1'"]),
        ([*predict, "again"], ["predict", "'again'"]),
        ([*predict, "--scores", "/dev/full"], ["--scores", "'/dev/full'"]),
        ([*predict, "--scores", model], ["--scores", "the input of --model"]),
        ([*predict, "--scores", folder / "link.csv"], ["--scores", "the input of --data"]),
    ]


def prepare(folder):
    (folder / "link.csv").symlink_to(folder / "bags.csv")
    (folder / "dangling").symlink_to(folder / "gone")
    (folder / "here").symlink_to(folder)


def all_calls(folder):
    return [(["--data", folder / "bags.csv", *call], parts) for call, parts in training(folder)] + list(other(folder))
