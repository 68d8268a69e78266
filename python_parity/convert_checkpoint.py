"""Turns a PyTorch checkpoint (.pt, .pth: a state dict, or a dict that holds one) into a safetensors file.

    python convert_checkpoint.py model.pt model.safetensors [--key state_dict]

Needs torch and safetensors. Names are not changed, since the Python package hflayers uses the same names as this library.
torch.load unpickles nothing but tensors and plain containers.
"""

import argparse
import sys

try:
    import torch
    from safetensors.torch import save_file
except ImportError as error:
    sys.exit(f"convert_checkpoint.py: expected a Python with torch and safetensors, got {error}; scripts/bootstrap.sh --full "
             "installs both into .venv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--key", help="entry of the file that holds the state dict")
    arguments = parser.parse_args()
    state = torch.load(arguments.source, map_location="cpu", weights_only=True)
    if arguments.key:
        state = state[arguments.key]
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        names = ", ".join(map(str, state)) or "nothing"
        print(f"convert_checkpoint.py: expected tensors in {arguments.source}, got {names}; name an entry with --key", file=sys.stderr)
        return 1
    save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, arguments.target)
    print(f"{len(tensors)} tensors written to {arguments.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
