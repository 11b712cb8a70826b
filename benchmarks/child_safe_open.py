"""What the safetensors library does to look at every tensor of a model: names, dtypes, shapes."""

import sys
from pathlib import Path

from safetensors import safe_open


def main() -> None:
    tensors = 0
    for path in sorted(Path(sys.argv[1]).glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - it is not a mapping
                part = file.get_slice(name)
                part.get_dtype(), part.get_shape()
                tensors += 1
    if not tensors:
        raise SystemExit("no tensors")


main()
