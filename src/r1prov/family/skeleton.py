"""A model's files with true headers and no weights: 688 GB to look at, a few MB on disk.

Headers, shard sizes and the shard index are those of the release to the byte; the tensor data is
a hole of zeros. The demo, the tests and the benchmarks use it.

The layout was recovered from published sizes and hashes. Tensors are walked in the order of the
blueprint, separately in each pipeline stage; a shard ends right after the tensor that brings its
element count (not its bytes) to 2^32; the end of a stage ends the shard. Headers are compact JSON
with `__metadata__` first and no padding.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from r1prov.errors import UsageError
from r1prov.family.blueprint import ExpectedTensor, expected_inventory
from r1prov.formats.inventory import DTYPE_BITS, Inventory, Tensor
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_CONFIG_BYTES

CLOSE_ELEMENTS: Final = 2**32
INDEX_NAME: Final = "model.safetensors.index.json"

# First layer of each pipeline stage after the first, by model type and number of layers. R1, V3
# and V3.1 were written in eight stages, and so was DeepSeek-R1-Distill-Llama-70B; everything
# else in one.
_STAGES: Final[dict[tuple[object, object], tuple[int, ...]]] = {
    ("deepseek_v3", 61): (7, 15, 23, 31, 39, 47, 54),
    ("llama", 80): (10, 20, 30, 40, 50, 60, 70),
}


@dataclass(frozen=True, slots=True)
class Shard:
    """One weight file.

    Attributes:
        name: File name.
        header: The JSON header, without the eight bytes of its length.
        tensors: What it holds, with offsets.
        size: Bytes of the whole file.
    """

    name: str
    header: bytes
    tensors: tuple[Tensor, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Layout:
    """All weight files of a model, and the index if there is more than one."""

    shards: tuple[Shard, ...]
    index: bytes | None

    def inventory(self) -> Inventory:
        """The tensors of all shards."""
        return Inventory(tensor for shard in self.shards for tensor in shard.tensors)


def plan_layout(config: Mapping[str, object], *, stages: Sequence[int] | None = None) -> Layout:
    """Lay out the tensors of a model in files.

    Args:
        config: The parsed `config.json`.
        stages: First layer of each pipeline stage after the first; by default those of the
            release with this model type and number of layers.

    Raises:
        UsageError: There is no blueprint for this model type.
        BlueprintError: The config is malformed.
    """
    tensors = expected_inventory(config)
    if tensors is None:
        raise UsageError("there is no blueprint for this model type", subject="config.json")
    if stages is None:
        stages = _STAGES.get((config.get("model_type"), config.get("num_hidden_layers")), ())
    groups = list(_shard_groups(tensors, stages))
    shards = tuple(
        _shard(_shard_name(number, len(groups)), group) for number, group in enumerate(groups, 1)
    )
    index = None
    if len(shards) > 1:
        index = _index(shards, deepseek=config.get("model_type") == "deepseek_v3")
    return Layout(shards, index)


def write_skeleton(
    config_bytes: bytes, directory: str | os.PathLike[str], *, stages: Sequence[int] | None = None
) -> Layout:
    """Write `config.json`, the index and every weight file, with zeros for weights.

    Args:
        config_bytes: The `config.json`, written as it is.
        directory: Where to write; made if need be.
        stages: As for `plan_layout`.
    """
    config = parse_json(config_bytes, subject="config.json", max_bytes=MAX_CONFIG_BYTES)
    if not isinstance(config, dict):
        raise UsageError("the config is not a JSON object", subject="config.json")
    layout = plan_layout(config, stages=stages)
    os.makedirs(directory, exist_ok=True)
    files = {"config.json": config_bytes}
    if layout.index is not None:
        files[INDEX_NAME] = layout.index
    for name, content in files.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(content)
    for shard in layout.shards:
        with open(os.path.join(directory, shard.name), "wb") as file:
            file.write(len(shard.header).to_bytes(8, "little") + shard.header)
            file.truncate(shard.size)
    return layout


def _shard_groups(
    tensors: Iterable[ExpectedTensor], boundaries: Sequence[int]
) -> Iterable[list[ExpectedTensor]]:
    stages: list[list[ExpectedTensor]] = [[] for _ in range(len(boundaries) + 1)]
    last = 0
    for tensor in tensors:
        # What stands before the layers (embedding) is of the first stage, what stands after them
        # (norm, head) of the last: a tensor outside the layers follows the one before it.
        last = _layer(tensor.name, last)
        stages[sum(last >= boundary for boundary in boundaries)].append(tensor)
    for stage in stages:
        group: list[ExpectedTensor] = []
        elements = 0
        for tensor in stage:
            group.append(tensor)
            elements += math.prod(tensor.shape)
            if elements >= CLOSE_ELEMENTS:
                yield group
                group, elements = [], 0
        if group:
            yield group


def _layer(name: str, otherwise: int) -> int:
    parts = name.split(".", 3)
    if parts[:2] == ["model", "layers"]:
        return int(parts[2])
    return otherwise


def _shard_name(number: int, count: int) -> str:
    # Five digits and six: DeepSeek's own writer, not that of transformers.
    if count == 1:
        return "model.safetensors"
    return f"model-{number:05d}-of-{count:06d}.safetensors"


def _shard(name: str, group: list[ExpectedTensor]) -> Shard:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    placed = []
    begin = 0
    for tensor in group:
        end = begin + math.prod(tensor.shape) * DTYPE_BITS[tensor.dtype] // 8
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        placed.append(Tensor(tensor.name, tensor.dtype, tensor.shape, name, begin, end))
        begin = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    return Shard(name, raw, tuple(placed), 8 + len(raw) + begin)


def _index(shards: Sequence[Shard], *, deepseek: bool) -> bytes:
    tensors = [tensor for shard in shards for tensor in shard.tensors]
    if deepseek:
        # DeepSeek's writer counted two bytes an element, FP8 or not: R1's index says twice the
        # true size.
        total = 2 * sum(math.prod(tensor.shape) for tensor in tensors)
    else:
        total = sum(tensor.end - tensor.begin for tensor in tensors)
    weight_map = {tensor.name: tensor.file for tensor in tensors}
    value = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return json.dumps(value, indent=2).encode()
