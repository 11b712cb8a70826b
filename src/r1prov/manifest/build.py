"""Make the manifest of a model that lies in a store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Required, TypedDict, Unpack

from r1prov.errors import (
    ChangedWhileReading,
    FormatError,
    LimitExceeded,
    ManifestError,
    ShardIndexError,
)
from r1prov.formats.inventory import Inventory
from r1prov.formats.model_config import parse_model_config
from r1prov.formats.safetensors import Header
from r1prov.formats.shard_index import (
    ShardIndex,
    compare_with_shards,
    is_shard_index,
    parse_shard_index,
)
from r1prov.hashing.digest import BlobDigest, Fence
from r1prov.hashing.engine import HashJob, HashResult, hash_blobs
from r1prov.limits import MAX_CONFIG_BYTES, MAX_SHARD_INDEX_BYTES
from r1prov.manifest.architecture import describe_architecture
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.hub_commit import HubCommit
from r1prov.manifest.leftovers import (
    TOOL_FOLDERS,
    bytes_to_judge,
    is_tool_leftover,
    looks_like_leftover,
)
from r1prov.manifest.loadable import INDEX_NAME, loadable_inventory, loadable_weights
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import (
    Architecture,
    FileEntry,
    Manifest,
    Source,
    TensorSidecar,
    parse_manifest,
)
from r1prov.manifest.tensor_digests import TensorDigest, check_tensor_digests, emit_tensor_digests
from r1prov.stores.base import Entry, EntryKind, Store, read_small
from r1prov.stores.headers import (
    gguf_paths,
    read_gguf_headers,
    read_headers,
    safetensors_paths,
    tensor_extents,
)
from r1prov.text import quoted

# Given the digests of the files, the commit that binds them, or None if it cannot be had.
Prove = Callable[[Mapping[str, BlobDigest]], HubCommit | None]

_CONFIG_NAME = "config.json"


class Identity(TypedDict, total=False):
    """What the maker of a manifest says about the model; no file tells it.

    Attributes:
        name: Name of the model.
        publisher: Who releases it.
        variant: `full`, `distill`, `base` or `other`.
        source: Where it comes from.
        revision: Revision there.
        license: Its licence.
        base_model: What it was trained from.
        released: Day of the release.
    """

    name: Required[str]
    publisher: Required[str]
    variant: Required[str]
    source: Required[str]
    revision: Required[str]
    license: Required[str]
    base_model: str | None
    released: date | None


def check_identity(identity: Identity) -> None:
    """Refuse what a manifest cannot state before hours are spent on hashing.

    Raises:
        ManifestError: A name, variant or text that no manifest may carry.
    """
    nothing = FileEntry("x", 0, hashlib.sha256(b"").hexdigest(), role_of("x"))
    emit = emit_manifest(Manifest(**identity, files=(nothing,)))
    parse_manifest(emit, subject=identity["name"])


def build_manifest(
    store: Store,
    *,
    prove: Prove | None = None,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
    **identity: Unpack[Identity],
) -> Manifest:
    """Hash every file of a model, read its headers, and state both.

    Where a remote store states the SHA-256 of a file, that is taken and the file is not fetched;
    the sources of the manifest say so.

    Leftovers of download tools are left out. Everything else must be a readable regular file: a
    manifest of half a model would be worse than none.

    Args:
        store: Where the model is.
        prove: Given the digests, fetches the Hub commit that binds them; None for no proof.
        workers: Hashing threads.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.
        identity: What the manifest calls the model.

    Raises:
        ManifestError: A value or a file name that no manifest may carry.
        FormatError: A weight file or `config.json` is malformed.
        StoreError: A file cannot be read, or changed while it was read.
    """
    return _build(store, None, workers, progress, identity, prove)[0]


def build_manifest_with_tensors(
    store: Store,
    sidecar: str,
    *,
    prove: Prove | None = None,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
    **identity: Unpack[Identity],
) -> tuple[Manifest, bytes]:
    """`build_manifest` that also states a SHA-256 for each tensor, from the same pass.

    Args:
        store: Where the model is.
        sidecar: File name that the manifest gives the sidecar, such as `NAME.tensors`.
        prove: As for `build_manifest`.
        workers: Hashing threads.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.
        identity: What the manifest calls the model.

    Returns:
        The manifest, and the bytes of the sidecar that belongs beside it.

    Raises:
        ManifestError: As `build_manifest`; or the model has no tensor whose bytes are known.
        FormatError: As `build_manifest`.
        StoreError: As `build_manifest`.
    """
    manifest, raw = _build(store, sidecar, workers, progress, identity, prove)
    check_tensor_digests(manifest, raw, subject=sidecar)
    return manifest, raw


def _build(
    store: Store,
    sidecar: str | None,
    workers: int | None,
    progress: Callable[[int], Callable[[int], None]] | None,
    identity: Identity,
    prove: Prove | None = None,
) -> tuple[Manifest, bytes]:
    entries = _regular_files(store)
    sizes = {path: entry.size for path, entry in entries.items()}
    headers, errors = read_headers(store, safetensors_paths(sizes))
    _, gguf_errors = read_gguf_headers(store, gguf_paths(sizes))
    for error in (*errors.values(), *gguf_errors.values()):
        raise error
    index = _check_indexes(store, sizes, headers)
    stated: dict[str, BlobDigest] = {}
    jobs = []
    for path, entry in entries.items():
        if entry.stated_sha256 is not None and sidecar is None:
            nothing_read = Fence(0, 0, entry.size, 0, 0)
            stated[path] = BlobDigest(path, entry.size, entry.stated_sha256, None, nothing_read)
            continue
        wanted = sidecar is not None and path in headers
        extents = tensor_extents(headers[path], size=entry.size) if wanted else ()
        jobs.append(HashJob(path, entry.size, entry.stated_git_blob is not None, extents))
    on_bytes = progress(sum(job.size for job in jobs)) if progress else None
    hashed = hash_blobs(store.open, jobs, workers=workers, on_bytes=on_bytes)
    for failure in hashed.errors.values():
        raise failure
    _refuse_changed(entries, hashed)
    known = stated | hashed.digests
    commit = prove(known) if prove is not None else None
    inventory = loadable_inventory(headers, loadable_weights(headers, index))
    if inventory.duplicates:
        first = inventory.duplicates[0]
        raise ManifestError(
            f"tensor {quoted(first.name)} stands in more than one file", subject=first.file
        )
    digests = {path: found.sha256 for path, found in known.items()}
    raw = b""
    tensors = None
    if sidecar is not None:
        raw, tensors = _sidecar(sidecar, inventory, hashed, store)
    made = Manifest(
        **identity,
        architecture=_architecture(store, inventory, digests.get(_CONFIG_NAME)),
        files=tuple(
            FileEntry(path, size, digests[path], role_of(path)) for path, size in sizes.items()
        ),
        tensors=tensors,
        sources=_sources(store, stated, commit),
        hub_commit=commit,
    )
    # What cannot be read back must not be signed.
    return parse_manifest(emit_manifest(made), subject=made.name), raw


def _sources(
    store: Store, stated: Mapping[str, BlobDigest], commit: HubCommit | None
) -> tuple[Source, ...]:
    if not stated:
        return (Source("every size and SHA-256", "r1prov manifest create", "computed-here"),)
    by = f"the listing of {store.location}"
    return (
        Source(
            "size and SHA-256 of files under Git LFS",
            f"{by}, bound by the Hub commit" if commit else by,
            "proved-by-hash" if commit else "one",
        ),
        Source("size and SHA-256 of other files", "r1prov manifest create", "computed-here"),
    )


def _check_indexes(
    store: Store, paths: Iterable[str], headers: Mapping[str, Header]
) -> ShardIndex | None:
    """The model's index. One that does not fit the shards must not be signed either."""
    main = None
    for path in paths:
        if not is_shard_index(path):
            continue
        index = parse_shard_index(read_small(store, path, MAX_SHARD_INDEX_BYTES), file=path)
        folder = path[: path.rfind("/") + 1]
        shards = {
            name: [tensor.name for tensor in headers[folder + name].tensors]
            for name in set(index.weight_map.values())
            if folder + name in headers
        }
        for wrong in compare_with_shards(index, shards):
            raise ShardIndexError(
                "index-mismatch",
                f"index and shards disagree on {quoted(wrong.tensor)}",
                subject=path,
                expected=wrong.expected,
                found=wrong.found,
                hint="mend the model first: a manifest of it would state that it is right",
            )
        if path == INDEX_NAME:
            main = index
    return main


def _refuse_changed(listed: dict[str, Entry], hashed: HashResult) -> None:
    """Headers were read between the listing and the hashing: all three must be of one state."""
    for path, digest in hashed.digests.items():
        entry, fence = listed[path], digest.fence
        if entry.stated_git_blob not in (None, digest.git_blob):
            raise ChangedWhileReading(
                f"the server sent the Git blob {digest.git_blob}, and lists "
                f"{entry.stated_git_blob}",
                subject=path,
            )
        if entry.stated_sha256 not in (None, digest.sha256):
            raise ChangedWhileReading(
                f"the server sent sha256:{digest.sha256}, and lists {entry.stated_sha256}",
                subject=path,
            )
        if entry.fence is not None and entry.fence != fence:
            raise ChangedWhileReading(
                f"changed while the manifest was made: {entry.fence.changes(fence)}",
                subject=path,
                hint="stop whatever writes to the model and run again",
            )


def _sidecar(
    path: str, inventory: Inventory, hashed: HashResult, store: Store
) -> tuple[bytes, TensorSidecar]:
    if not len(inventory):
        raise ManifestError(
            "has no safetensors file, so there is no tensor to state", subject=store.location
        )
    if any(tensor.name not in hashed.digests[tensor.file].extents for tensor in inventory):
        raise ManifestError(
            "has several components with tensors of their own",
            subject=store.location,
            hint="make a manifest with tensors of each component's folder",
        )
    raw = emit_tensor_digests(
        TensorDigest(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            hashed.digests[tensor.file].extents[tensor.name],
        )
        for tensor in inventory
    )
    return raw, TensorSidecar(path, len(raw), hashlib.sha256(raw).hexdigest(), len(inventory))


def _regular_files(store: Store) -> dict[str, Entry]:
    entries = {}
    for entry in store.entries():
        if _is_leftover(store, entry):
            continue
        if entry.kind is not EntryKind.FILE:
            raise ManifestError(
                f"{quoted(entry.path)} is no regular file ({entry.kind.value}: {entry.detail})",
                subject=entry.path,
                hint="copy the model with its links resolved",
            )
        try:
            entry.path.encode()
        except UnicodeEncodeError:
            raise ManifestError(
                f"the name {quoted(entry.path)} is not UTF-8", subject=entry.path
            ) from None
        entries[entry.path] = entry
    if not entries:
        raise ManifestError("there is no file to state", subject=store.location)
    return entries


def _is_leftover(store: Store, entry: Entry) -> bool:
    """A tool's bookkeeping by name, and by what it holds.

    What a Hub lists is part of the release, whatever it is called.
    """
    if entry.stated_sha256 is not None or entry.stated_git_blob is not None:
        return False
    if not is_tool_leftover(entry.path, entry.size):
        return False
    if entry.path.startswith(TOOL_FOLDERS) or entry.kind is not EntryKind.FILE:
        return True
    with store.open(entry.path) as blob:
        head = blob.read_at(0, min(bytes_to_judge(entry.path), entry.size))
    return looks_like_leftover(entry.path, head)


def _architecture(
    store: Store, inventory: Inventory, config_sha256: str | None
) -> Architecture | None:
    if not len(inventory):
        return None
    config: dict[str, object] | None = None
    if config_sha256 is not None:
        config = _read_config(store, config_sha256)
    return describe_architecture(inventory, config)


def _read_config(store: Store, sha256: str) -> dict[str, object]:
    try:
        raw = read_small(store, _CONFIG_NAME, MAX_CONFIG_BYTES)
    except LimitExceeded as error:
        raise ManifestError(error.message, subject=_CONFIG_NAME) from None
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise ChangedWhileReading("changed after it was hashed", subject=_CONFIG_NAME)
    config = parse_model_config(raw, subject=_CONFIG_NAME)
    if not isinstance(config, dict):
        raise FormatError("config-json", "the file is not a JSON object", subject=_CONFIG_NAME)
    return config
