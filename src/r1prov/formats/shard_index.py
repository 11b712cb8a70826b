"""The shard index of a sharded model: `*.safetensors.index.json`.

The index says which file holds which tensor. There is no written specification; this follows what
`transformers` and `huggingface_hub` write (`weight_map`, `metadata.total_size`) and refuses what
they would read in more than one way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from r1prov.errors import JsonError, NameRuleError, ShardIndexError
from r1prov.formats.names import check_path, tensor_name_fault
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_INT63, MAX_SHARD_INDEX_BYTES, MAX_TENSORS_PER_MODEL
from r1prov.text import plural, quoted

# `model.safetensors.index.json`, and of a variant `model.safetensors.index.fp16.json`
# (`_add_variant` in transformers).
_NAME = re.compile(r".*\.safetensors\.index(?:\.[^./]+)?\.json", re.IGNORECASE | re.DOTALL)
# An index is an object of objects; `metadata` of some writers holds one level more.
_MAX_DEPTH: Final = 4


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A parsed shard index.

    Attributes:
        file: Its path in the model.
        weight_map: Tensor name to the path of its shard, in the order of the file.
        total_size: `metadata.total_size`, if it is there. Published indexes are often wrong about
            it (DeepSeek-R1's own is twice its element count), so nothing may rely on it.
    """

    file: str
    weight_map: dict[str, str]
    total_size: int | None


class Disagreement(NamedTuple):
    """A tensor that index and shards place differently."""

    tensor: str
    expected: str
    found: str


def is_shard_index(path: str) -> bool:
    """Whether a path names the index of safetensors shards."""
    return _NAME.fullmatch(path) is not None


def compare_with_shards(
    index: ShardIndex, shards: Mapping[str, Iterable[str]], unread: Iterable[str] = ()
) -> list[Disagreement]:
    """Hold a weight map against the tensors of the shards, in both directions.

    Args:
        index: The index.
        shards: Shard, named as the index names it, to the tensors in its header.
        unread: Shards of which nothing is known and which have a finding of their own.
    """
    unknown = set(unread)
    named = set(index.weight_map.values())
    inside = {shard: set(shards[shard]) for shard in named & shards.keys()}
    place = {name: shard for shard, names in inside.items() for name in names}
    wrong = []
    for name, shard in index.weight_map.items():
        if shard in unknown:
            continue
        if shard not in inside:
            wrong.append(Disagreement(name, f"a safetensors file `{shard}`", "no such weight file"))
        elif name not in inside[shard]:
            found = f"in {place[name]}" if name in place else "in no shard"
            wrong.append(Disagreement(name, f"in {shard}", found))
    for shard, names in inside.items():
        for name in sorted(names):
            meant = index.weight_map.get(name)
            if meant is None:
                wrong.append(Disagreement(name, "in the index", f"only in {shard}"))
            elif meant != shard and meant in inside and name in inside[meant]:
                wrong.append(Disagreement(name, f"only in {meant}", f"also in {shard}"))
    return wrong


def parse_shard_index(raw: bytes, *, file: str) -> ShardIndex:
    """Parse a shard index.

    Raises:
        ShardIndexError: `index-json`, `index-duplicate`, `index-path` or `index-entry`.
    """
    try:
        value = parse_json(raw, subject=file, max_bytes=MAX_SHARD_INDEX_BYTES, max_depth=_MAX_DEPTH)
    except JsonError as error:
        duplicate = error.rule == "json-duplicate-key"
        raise ShardIndexError(
            "index-duplicate" if duplicate else "index-json",
            error.message,
            subject=file,
            expected="each key once" if duplicate else error.expected,
            found=error.found,
            # Most readers keep the last of two keys, some the first.
            hint="which weights load depends on the reader" if duplicate else error.hint,
        ) from error
    if type(value) is not dict:
        raise _entry(file, "a shard index is a JSON object", found=_kind(value))
    for key in value:
        if key not in ("metadata", "weight_map"):
            raise _entry(
                file, f"unknown member {quoted(key)}", expected="`metadata` and `weight_map`"
            )
    if "weight_map" not in value:
        raise _entry(file, "`weight_map` is missing")
    metadata = value.get("metadata")
    return ShardIndex(
        file,
        _weight_map(value["weight_map"], file),
        _total_size({} if metadata is None else metadata, file),
    )


def _weight_map(value: object, file: str) -> dict[str, str]:
    if type(value) is not dict or not value:
        raise _entry(
            file, "`weight_map` is not an object that maps tensors to files", found=_kind(value)
        )
    if len(value) > MAX_TENSORS_PER_MODEL:
        raise _entry(
            file,
            "`weight_map` has too many tensors",
            expected=f"at most {MAX_TENSORS_PER_MODEL:,}",
            found=plural(len(value), "tensor"),
        )
    checked: set[str] = set()
    for name, shard in value.items():
        if type(shard) is not str:
            raise _entry(
                file, f"tensor {quoted(name)} has no file", expected="a string", found=_kind(shard)
            )
        fault = tensor_name_fault(name)
        if fault is not None:
            raise _entry(file, f"tensor name {quoted(name)} {fault}")
        if shard not in checked:
            _check_shard_path(shard, name, file)
            checked.add(shard)
    return cast(dict[str, str], value)


def _check_shard_path(shard: str, name: str, file: str) -> None:
    try:
        check_path(shard)
    except NameRuleError as error:
        raise ShardIndexError(
            "index-path",
            f"tensor {quoted(name)} is in a file outside the rules: {error.message}",
            subject=file,
            expected="a file of the model, by its relative path",
            found=quoted(shard),
        ) from error
    # `transformers` unpickles every shard that does not end so, whatever the name of the index.
    if not shard.endswith(".safetensors"):
        raise ShardIndexError(
            "index-path",
            f"tensor {quoted(name)} is in a file that is no safetensors file",
            subject=file,
            expected="a name that ends with `.safetensors`",
            found=quoted(shard),
        )


def _total_size(metadata: object, file: str) -> int | None:
    if type(metadata) is not dict:
        raise _entry(file, "`metadata` is not an object", found=_kind(metadata))
    if "total_size" not in metadata:
        return None
    total = metadata["total_size"]
    if type(total) is float and total.is_integer():
        total = int(total)  # some writers divide
    if type(total) is not int or not 0 <= total <= MAX_INT63:  # a bool is an `int` subclass
        raise _entry(
            file,
            "`metadata.total_size` is no size",
            expected="an integer from 0 to 2^63-1",
            found=_kind(total),
        )
    return total


def _entry(
    file: str, message: str, *, expected: str | None = None, found: str | None = None
) -> ShardIndexError:
    return ShardIndexError("index-entry", message, subject=file, expected=expected, found=found)


def _kind(value: object) -> str:
    return {dict: "an object", list: "an array", str: "a string", type(None): "`null`"}.get(
        type(value), f"`{str(value).lower()}`"
    )
