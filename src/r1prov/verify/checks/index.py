"""The shard index: its tensors must be those of the shards, in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import FormatError, StoreError
from r1prov.formats.shard_index import compare_with_shards
from r1prov.manifest.loadable import INDEX_NAME
from r1prov.text import plural
from r1prov.verify.findings import Finding, Part, finding, from_format_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.formats.shard_index import ShardIndex
    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence

# Tensors named in findings; the count always says how many there are.
_NAMED = 5


def check_index(evidence: Evidence, manifest: Manifest | None) -> Iterator[Finding]:
    """Every `*.safetensors.index.json` against the shards beside it.

    Args:
        evidence: What was read of the model.
        manifest: What it must be. A shard that is not there has a finding of its own only if the
            manifest lists it.
    """
    for path, error in evidence.index_errors.items():
        if isinstance(error, FormatError):
            yield from_format_error(error, path, part=Part.WEIGHTS)
        elif not isinstance(error, StoreError):
            yield finding(
                "index-json",
                path,
                error.message,
                expected="an index within the caps",
                hint=error.hint,
                part=Part.WEIGHTS,
            )
    top = [path for path in evidence.loadable_weights() if "/" not in path]
    if len(top) > 1 and not any("/" not in p for p in evidence.indexes | evidence.index_errors):
        yield finding(
            "index-missing",
            INDEX_NAME,
            f"{len(top)} weight files and no index that says which tensor is where",
            expected=INDEX_NAME,
            found="no such file",
            part=Part.WEIGHTS,
        )
    listed = {entry.path for entry in manifest.files} if manifest else set()
    missing = listed - evidence.files.keys()
    for path, index in evidence.indexes.items():
        yield from _check_one(evidence, path, index, missing)


def _check_one(
    evidence: Evidence, path: str, index: ShardIndex, missing: set[str]
) -> Iterator[Finding]:
    folder = path[: path.rfind("/") + 1]
    shards = {
        name: [tensor.name for tensor in evidence.headers[folder + name].tensors]
        for name in set(index.weight_map.values())
        if folder + name in evidence.headers
    }
    elsewhere = evidence.header_errors.keys() | missing
    unread = {n for n in index.weight_map.values() if folder + n in elsewhere}
    wrong = compare_with_shards(index, shards, unread)
    for name, expected, found in wrong[:_NAMED]:
        yield finding(
            "index-mismatch",
            name,
            f"{path} and the shards disagree ({plural(len(wrong), 'tensor')} in all)",
            expected=expected,
            found=found,
            part=Part.WEIGHTS,
        )
    total = sum(
        tensor.end - tensor.begin
        for name in shards
        for tensor in evidence.headers[folder + name].tensors
    )
    if index.total_size is not None and not unread and index.total_size != total:
        yield finding(
            "index-total-size",
            path,
            "`total_size` is not the number of tensor bytes",
            expected=f"{total:,}",
            found=f"{index.total_size:,}",
            part=Part.WEIGHTS,
        )
