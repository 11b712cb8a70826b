"""Two models or manifests side by side, by file and by tensor."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import ChangedWhileReading
from r1prov.limits import HASH_BUFFER_BYTES
from r1prov.manifest.shelf import Shelf, resolve_manifest
from r1prov.manifest.tensor_digests import load_tensor_digests
from r1prov.stores.local import LocalStore
from r1prov.stores.locate import open_store
from r1prov.verify.by_tensor import ModelTensor, match_tensors, model_tensors, stated_tensors
from r1prov.verify.evidence import gather
from r1prov.verify.hashing import hash_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from r1prov.formats.inventory import Inventory, Tensor
    from r1prov.hashing.digest import BlobDigest
    from r1prov.stores.base import Entry, Store


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What one side says of a file: size in bytes and SHA-256, either unknown."""

    size: int | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        label: How the user named it.
        files: Path to facts.
        inventory: Tensors, if headers were read; a manifest has only their digest.
        inventory_sha256: Inventory digest, if known.
        store: The files themselves, if there are any.
        data_begins: Path of a weight file to where its tensor data begins.
        leftovers: Files of download tools; they count only where the other side has them too.
        tensors: Tensors with their digests, if those are known.
        second_hand: A phrase on digests that were stated, not computed; empty if there are none.
        gguf_files: How many GGUF files there are: their tensors are compared by file only.
    """

    label: str
    files: dict[str, FileFacts]
    inventory: Inventory | None
    inventory_sha256: str | None
    store: Store | None = None
    data_begins: dict[str, int] | None = None
    leftovers: frozenset[str] = frozenset()
    tensors: tuple[ModelTensor, ...] | None = None
    second_hand: str = ""
    gguf_files: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs: what it is on each side; None where it is not there."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs, and what could not be compared.

    Attributes:
        a: Label of the one side.
        b: Label of the other.
        files: Files that differ.
        tensors: Tensors that differ.
        not_compared: What was not compared, and why.
        contents_unknown: Files of which a digest is unknown on one side.
        equal_tensors: Tensors whose name, dtype, shape and content are the same, whatever files
            they are in; None where tensors were not compared by digest.
    """

    a: str
    b: str
    files: tuple[Change, ...]
    tensors: tuple[Change, ...]
    not_compared: tuple[str, ...]
    contents_unknown: int = 0
    equal_tensors: int | None = None

    @property
    def equal(self) -> bool:
        """Whether nothing that was compared differs."""
        return not self.files and not self.tensors

    @property
    def exit_status(self) -> int:
        """1 if something differs; 3 if nothing does and contents were not compared; else 0."""
        if not self.equal:
            return 1
        return 3 if self.contents_unknown else 0


def load_side(
    text: str,
    shelf: Shelf,
    *,
    hashing: bool,
    by_tensor: bool = False,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Side:
    """Read one side: a directory or weight file, a manifest file, or a known model's name.

    Args:
        text: How the user named it.
        shelf: The manifests at hand.
        hashing: Whether to hash the files.
        by_tensor: Whether to take the digest of each tensor in the same pass, and to read the
            sidecar of a manifest that states one.
        workers: Hashing threads.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.
    """
    is_store = os.path.lexists(text) or "://" in text
    if text.endswith(".toml") or not is_store:
        shelved = resolve_manifest(shelf, text)
        manifest = shelved.manifest
        files = {entry.path: FileFacts(entry.size, entry.sha256) for entry in manifest.files}
        architecture = manifest.architecture
        stated: tuple[ModelTensor, ...] | None = None
        if by_tensor and manifest.tensors is not None:
            stated = tuple(stated_tensors(load_tensor_digests(manifest, shelved.path.parent)))
        return Side(
            text,
            files,
            None,
            architecture.inventory_sha256 if architecture else None,
            tensors=stated,
        )
    store = open_store(text)
    evidence = gather(store)
    own = evidence.files
    digests: dict[str, str] = {}
    second_hand = ""
    tensors: tuple[ModelTensor, ...] | None = None
    weights = evidence.loadable_weights()
    if hashing:
        counted = {path: evidence.headers[path] for path in weights} if by_tensor else {}
        sizes = {path: entry.size for path, entry in own.items()}
        hashed = hash_model(evidence, sizes, by_tensor=counted, workers=workers, progress=progress)
        for error in hashed.errors.values():
            raise error
        digests = {path: one.sha256 for path, one in hashed.digests.items()}
        second_hand = hashed.how(sizes).removeprefix("; ")
        if by_tensor:
            _refuse_changed(own, hashed.digests)
            tensors = tuple(model_tensors(counted, hashed.digests))
    inventory = evidence.inventory(weights)
    return Side(
        text,
        {path: FileFacts(entry.size, digests.get(path)) for path, entry in own.items()},
        inventory,
        inventory.digest() if len(inventory) else None,
        # Byte by byte only where the bytes are here.
        store if isinstance(store, LocalStore) else None,
        {path: 8 + header.header_bytes for path, header in evidence.headers.items()},
        frozenset(evidence.leftovers),
        tensors,
        second_hand,
        len(evidence.gguf),
    )


def _refuse_changed(listed: Mapping[str, Entry], digests: Mapping[str, BlobDigest]) -> None:
    """Where tensors lie was read before they were hashed: both must be of one state."""
    for path, digest in digests.items():
        fence = listed[path].fence
        if fence is not None and fence != digest.fence:
            raise ChangedWhileReading(
                f"changed after its header was read: {fence.changes(digest.fence)}",
                subject=path,
                hint="stop whatever writes to the model and run again",
            )


def compare(a: Side, b: Side) -> Difference:
    """Compare two sides. What only one of them knows is listed as not compared."""
    changes: list[Change] = []
    not_compared: list[str] = []
    undigested = 0
    for path in sorted(a.files.keys() | b.files.keys()):
        left, right = a.files.get(path), b.files.get(path)
        if (left is None or right is None) and path in a.leftovers | b.leftovers:
            continue
        if left is None or right is None or _contradict(left, right):
            changes.append(Change(path, _file_text(left), _file_text(right)))
        elif left.sha256 is None or right.sha256 is None:
            undigested += 1
    not_compared += [f"{one.label}: tensors of GGUF files" for one in (a, b) if one.gguf_files]
    not_compared += [f"{one.label}: {one.second_hand}" for one in (a, b) if one.second_hand]
    if undigested:
        not_compared.append(f"content of {undigested:,} files: a digest is unknown on one side")
    tensors: list[Change] = []
    equal_tensors: int | None = None
    if a.tensors is not None and b.tensors is not None:
        tensors, equal_tensors = diff_tensors(a.tensors, b.tensors)
    elif a.inventory is not None and b.inventory is not None:
        tensors = _tensor_changes(a, b)
        if any(side.store is None for side in (a, b)) and any(
            "sha256" in (one.before or "") for one in changes
        ):
            not_compared.append("which tensors of differing files: try --by-tensor")
    elif a.inventory_sha256 and b.inventory_sha256:
        if a.inventory_sha256 != b.inventory_sha256:
            tensors = [Change("inventory sha256", a.inventory_sha256, b.inventory_sha256)]
        else:
            not_compared.append("tensors one by one: the inventory digests are equal")
    else:
        not_compared.append("tensors: one side states no inventory")
    return Difference(
        a.label,
        b.label,
        tuple(changes),
        tuple(tensors),
        tuple(not_compared),
        undigested,
        equal_tensors,
    )


def diff_tensors(a: Iterable[ModelTensor], b: Iterable[ModelTensor]) -> tuple[list[Change], int]:
    """Compare two models tensor by tensor and by content, whatever files the tensors are in.

    Returns:
        What differs, sorted by name, and how many tensors are equal. A tensor whose bytes were not
        read on one side is a change, because it is not known to be equal.
    """
    match = match_tensors(a, b)
    changes = [
        Change(one.name, f"sha256:{one.sha256}", f"sha256:{other.sha256}")
        for one, other in match.changed
    ]
    changes += [
        Change(one.name, one.described(), other.described()) for one, other in match.reshaped
    ]
    changes += [Change(one.name, one.content(), other.content()) for one, other in match.undigested]
    changes += [
        Change(one.name, one.described(), f"renamed to {other.name}, same content")
        for one, other in match.renamed
    ]
    changes += [Change(one.name, one.described(), None) for one in match.only_a]
    changes += [Change(one.name, None, one.described()) for one in match.only_b]
    changes += [
        Change(one.name, f"more than once, here in {one.file}: {one.content()}", None)
        for one in match.duplicates_a
    ]
    changes += [
        Change(one.name, None, f"more than once, here in {one.file}: {one.content()}")
        for one in match.duplicates_b
    ]
    return sorted(changes, key=lambda change: change.name), len(match.equal)


def _contradict(left: FileFacts, right: FileFacts) -> bool:
    """Whether both sides state a size, or both a digest, and not the same."""
    pairs = ((left.size, right.size), (left.sha256, right.sha256))
    return any(a is not None and b is not None and a != b for a, b in pairs)


def _file_text(facts: FileFacts | None) -> str | None:
    if facts is None:
        return None
    size = "size unknown" if facts.size is None else f"{facts.size:,} bytes"
    return size + (f", sha256:{facts.sha256}" if facts.sha256 else "")


def _tensor_changes(a: Side, b: Side) -> list[Change]:
    assert a.inventory is not None  # noqa: S101 - for the type checker; the caller looked
    assert b.inventory is not None  # noqa: S101
    changes = []
    for tensor in a.inventory:
        other = b.inventory.get(tensor.name)
        if other is None:
            changes.append(Change(tensor.name, _tensor_text(tensor), None))
        elif (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
            changes.append(Change(tensor.name, _tensor_text(tensor), _tensor_text(other)))
        elif _may_differ(a, b, tensor, other):
            left, right = _content(a, tensor), _content(b, other)
            if left != right:
                changes.append(Change(tensor.name, f"sha256:{left}", f"sha256:{right}"))
    changes += [
        Change(tensor.name, None, _tensor_text(tensor))
        for tensor in b.inventory
        if a.inventory.get(tensor.name) is None
    ]
    return changes


def _may_differ(a: Side, b: Side, left: Tensor, right: Tensor) -> bool:
    """Only tensors in files whose digests differ need reading, where both can be."""
    if a.store is None or b.store is None:
        return False
    one, two = a.files[left.file].sha256, b.files[right.file].sha256
    return one is not None and two is not None and one != two


def _content(side: Side, tensor: Tensor) -> str:
    assert side.store is not None  # noqa: S101 - an inventory comes from a store
    assert side.data_begins is not None  # noqa: S101
    digest = hashlib.sha256()
    position = side.data_begins[tensor.file] + tensor.begin
    remaining = tensor.end - tensor.begin
    with side.store.open(tensor.file) as blob:
        while remaining:
            chunk = blob.read_at(position, min(HASH_BUFFER_BYTES, remaining))
            if not chunk:
                break
            digest.update(chunk)
            position += len(chunk)
            remaining -= len(chunk)
    return digest.hexdigest()


def _tensor_text(tensor: Tensor) -> str:
    return f"{tensor.dtype} [{', '.join(map(str, tensor.shape))}]"
