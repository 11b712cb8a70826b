"""Synthetic models: random bytes in valid safetensors files."""

from __future__ import annotations

import json
import os
from pathlib import Path

SHARDS = 8
MIB = 2**20


def write_model(directory: Path, mebibytes: int) -> None:
    """Write a model of about `mebibytes`, unless it is there already.

    The shards differ in size, as those of real models do, and stand beside a config and an index.
    """
    done = directory / "config.json"
    if done.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    # 5 6 7 ... 12 parts: the sizes differ by more than a factor of two.
    parts = range(5, 5 + SHARDS)
    weight_map, total = {}, 0
    for number, part in enumerate(parts, start=1):
        name = f"model-{number:05}-of-{SHARDS:05}.safetensors"
        size = mebibytes * MIB * part // sum(parts) // 8192 * 8192
        tensor = f"model.layers.{number - 1}.mlp.down_proj.weight"
        weight_map[tensor] = name
        total += size
        entry = {"dtype": "BF16", "shape": [size // 8192, 4096], "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": {"format": "pt"}, tensor: entry}).encode()
        header += b" " * (-len(header) % 8)
        with (directory / name).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            while size:
                size -= file.write(os.urandom(min(size, 16 * MIB)))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    done.write_text(json.dumps({"model_type": "benchmark"}))
