"""GGUF files as models: the parts of a split one joined, and why they do not fit together."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from r1prov.formats.gguf import GgufHeader, TypeShare, file_type_name, type_shares
from r1prov.formats.inventory import Inventory
from r1prov.manifest.architecture import Features
from r1prov.text import plural, quoted

# `LLAMA_SPLIT_PATH` of llama.cpp: runtimes find the other parts by this name and no other.
_PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<parts>[0-9]{5})\.gguf")
_LAYER: Final = re.compile(r"blk\.([0-9]{1,6})\.(.+)")
_MTP: Final = "nextn."
_EXPERTS: Final = ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight")


@dataclass(frozen=True, slots=True)
class GgufModel:
    """One model: a GGUF file, or the parts of a split one.

    Attributes:
        name: Path of the file, or what the paths of its parts have in common.
        headers: The headers of its files, by part number.
        problems: Why the parts do not make one model; empty if they do.
    """

    name: str
    headers: tuple[GgufHeader, ...]
    problems: tuple[str, ...]

    @property
    def first(self) -> GgufHeader:
        """The file whose metadata speaks for the model."""
        return self.headers[0]

    @property
    def inventory(self) -> Inventory:
        """The tensors of all parts."""
        return Inventory(tensor for header in self.headers for tensor in header.tensors)

    @property
    def file_type(self) -> str | None:
        """What the file calls its quantization."""
        return file_type_name(self.first)

    def types(self) -> dict[str, TypeShare]:
        """What each tensor type takes of the model."""
        return type_shares(tensor for header in self.headers for tensor in header.tensors)


def join_gguf(headers: Mapping[str, GgufHeader]) -> tuple[GgufModel, ...]:
    """Group files into models, the largest first.

    Args:
        headers: Header by path. Files that belong together are told by their names, as runtimes do.
    """
    groups: dict[str, list[str]] = {}
    for path in sorted(headers):
        found = _PART.fullmatch(path)
        name = path if found is None else f"{found['stem']} ({int(found['parts'])} parts)"
        groups.setdefault(name, []).append(path)
    models = [_model(name, {p: headers[p] for p in paths}) for name, paths in groups.items()]
    return tuple(sorted(models, key=lambda model: -sum(h.size for h in model.headers)))


def _model(name: str, headers: Mapping[str, GgufHeader]) -> GgufModel:
    ordered = sorted(
        headers, key=lambda path: (split.number if (split := headers[path].split) else 0, path)
    )
    problems = tuple(_problems(headers))
    return GgufModel(name, tuple(headers[path] for path in ordered), problems)


def _problems(headers: Mapping[str, GgufHeader]) -> Iterator[str]:
    numbers: Counter[int] = Counter()
    stated: set[int] = set()
    totals: set[int] = set()
    for path, header in headers.items():
        named, split = _PART.fullmatch(path), header.split
        if split is None:
            if named is not None:
                yield f"{quoted(path)} is named as a part, and its header does not say so"
            continue
        numbers[split.number] += 1
        stated.add(split.parts)
        if split.tensors is not None:
            totals.add(split.tensors)
        if named is None:
            if split.parts > 1:
                yield (
                    f"{quoted(path)} is part {split.number + 1:,} of {split.parts:,}, and not "
                    "named as one"
                )
        elif (int(named["number"]), int(named["parts"])) != (split.number + 1, split.parts):
            yield (
                f"{quoted(path)} is part {split.number + 1:,} of {split.parts:,} by its header, "
                "another by its name"
            )
    if len(stated) > 1:
        yield f"parts disagree on their number: {', '.join(map(str, sorted(stated)))}"
    missing = [n for n in range(max(stated, default=0)) if not numbers[n]]
    if missing:
        shown = ", ".join(f"{n + 1}" for n in missing[:8]) + (", …" if len(missing) > 8 else "")
        yield f"{plural(len(missing), 'part')} of {max(stated):,} missing: {shown}"
    for number, count in sorted(numbers.items()):
        if count > 1:
            yield f"part {number + 1:,} is there {count:,} times"
    yield from _tensor_problems(headers, totals, complete=not missing)


def _tensor_problems(
    headers: Mapping[str, GgufHeader], totals: set[int], *, complete: bool
) -> Iterator[str]:
    names = Counter(tensor.name for header in headers.values() for tensor in header.tensors)
    count = names.total()
    if len(totals) > 1:
        yield f"parts disagree on their tensors: {', '.join(map(str, sorted(totals)))}"
    elif totals and complete and totals != {count}:
        yield f"the parts have {plural(count, 'tensor')}; their headers say {min(totals):,}"
    twice = sorted(name for name, times in names.items() if times > 1)
    if twice:
        yield f"{plural(len(twice), 'tensor')} in two parts, such as {quoted(twice[0])}"


def gguf_features(inventory: Inventory) -> Features:
    """The shape of a model as its tensors show it; a number that nothing shows is 0.

    Parameters leave out a multi-token-prediction block and tables that are no weights.
    """
    layers: set[str] = set()
    mtp: set[str] = set()
    experts = 0
    for tensor in inventory:
        found = _LAYER.fullmatch(tensor.name)
        if found is None:
            continue
        layers.add(found[1])
        if found[2].startswith(_MTP):
            mtp.add(found[1])
        if found[2] in _EXPERTS and len(tensor.shape) == 3:
            experts = max(experts, tensor.shape[0])
    parameters = sum(
        math.prod(tensor.shape)
        for tensor in inventory
        if not tensor.name.startswith("rope_")
        and not ((found := _LAYER.fullmatch(tensor.name)) and found[1] in mtp)
    )
    vocabulary = hidden = 0
    for name in ("token_embd.weight", "output.weight"):
        table = inventory.get(name)
        if table is not None and len(table.shape) == 2:
            vocabulary, hidden = table.shape
            break
    else:
        norm = inventory.get("output_norm.weight") or inventory.get("blk.0.attn_norm.weight")
        hidden = norm.shape[0] if norm is not None and len(norm.shape) == 1 else 0
    return Features(
        layers=len(layers - mtp),
        hidden_size=hidden,
        vocabulary=vocabulary,
        experts=experts,
        parameters=parameters,
        tensors=len(inventory),
        dtypes=inventory.dtypes(),
    )
