"""Make the manifest of a model that lies in a store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date

from r1prov.errors import (
    ChangedWhileReading,
    FormatError,
    LimitExceeded,
    ManifestError,
    ShardIndexError,
)
from r1prov.formats.executables import classify
from r1prov.formats.inventory import Inventory
from r1prov.formats.safetensors import Header
from r1prov.formats.shard_index import SUFFIX as INDEX_SUFFIX
from r1prov.formats.shard_index import compare_with_shards, parse_shard_index
from r1prov.formats.strictjson import parse_json
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_CONFIG_BYTES, MAX_SHARD_INDEX_BYTES
from r1prov.manifest.architecture import describe_architecture
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.leftovers import TOOL_FOLDERS, is_tool_leftover
from r1prov.manifest.schema import Architecture, FileEntry, Manifest, Role, Source, parse_manifest
from r1prov.stores.base import Entry, EntryKind, Store, read_small
from r1prov.stores.headers import read_headers, safetensors_paths
from r1prov.text import quoted

_CONFIG_NAME = "config.json"
_HEAD_BYTES = 4096

_WEIGHTS = frozenset(
    ("safetensors", "gguf", "ggml", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "npz")
)
_CODE = frozenset(("py", "pyc", "pyd", "so", "dll", "dylib", "sh", "js", "ts", "ipynb", "cu", "c"))
_DOCUMENTS = frozenset(
    ("md", "txt", "rst", "pdf", "png", "jpg", "jpeg", "gif", "svg", "webp", "bib", "cff")
)
_CONFIGS = frozenset(("json", "jsonl", "yaml", "yml", "toml"))
_DOCUMENT_NAMES = re.compile(r"(?:LICEN[CS]E|NOTICE|README|USE_POLICY|\.gitattributes)(?:[-_.].*)?")
_TOKENIZERS = frozenset(
    (
        "added_tokens.json",
        "chat_template.jinja",
        "chat_template.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    )
)


def role_of(path: str) -> Role:
    """What a file is for, by its name alone; a name that says nothing is `other`."""
    name = path.rpartition("/")[2]
    suffix = name.rpartition(".")[2].casefold() if "." in name else ""
    if name.casefold().endswith((INDEX_SUFFIX, ".bin.index.json")):
        return Role.INDEX
    if name in _TOKENIZERS or suffix in ("tiktoken", "spm"):
        return Role.TOKENIZER
    if suffix in _WEIGHTS:
        return Role.WEIGHTS
    if suffix in _CODE:
        return Role.CODE
    if suffix in _CONFIGS:
        return Role.CONFIG
    if suffix in _DOCUMENTS or _DOCUMENT_NAMES.fullmatch(name):
        return Role.DOCUMENT
    return Role.OTHER


def build_manifest(
    store: Store,
    *,
    name: str,
    publisher: str,
    variant: str,
    source: str,
    revision: str,
    license: str,  # noqa: A002 - what the manifest calls it
    base_model: str | None = None,
    released: date | None = None,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Manifest:
    """Hash every file of a model, read its headers, and state both.

    Leftovers of download tools are left out. Everything else must be a readable regular file: a
    manifest of half a model would be worse than none.

    Args:
        store: Where the model is.
        name: Name of the model.
        publisher: Who releases it.
        variant: `full`, `distill`, `base` or `other`.
        source: Where it comes from.
        revision: Revision there.
        license: Its licence.
        base_model: What it was trained from.
        released: Day of the release.
        workers: Hashing threads.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.

    Raises:
        ManifestError: A value or a file name that no manifest may carry.
        FormatError: A weight file or `config.json` is malformed.
        StoreError: A file cannot be read, or changed while it was read.
    """
    sizes = _regular_files(store)
    headers, errors = read_headers(store, safetensors_paths(sizes))
    for error in errors.values():
        raise error
    _check_indexes(store, sizes, headers)
    jobs = [HashJob(path, size) for path, size in sizes.items()]
    on_bytes = progress(sum(sizes.values())) if progress else None
    hashed = hash_blobs(store.open, jobs, workers=workers, on_bytes=on_bytes)
    for failure in hashed.errors.values():
        raise failure
    inventory = Inventory(tensor for header in headers.values() for tensor in header.tensors)
    if inventory.duplicates:
        first = inventory.duplicates[0]
        raise ManifestError(
            f"tensor {quoted(first.name)} stands in more than one file", subject=first.file
        )
    digests = {path: found.sha256 for path, found in hashed.digests.items()}
    made = Manifest(
        name=name,
        publisher=publisher,
        variant=variant,
        base_model=base_model,
        source=source,
        revision=revision,
        license=license,
        released=released,
        architecture=_architecture(store, inventory, digests.get(_CONFIG_NAME)),
        files=tuple(
            FileEntry(path, size, digests[path], role_of(path)) for path, size in sizes.items()
        ),
        sources=(Source("every size and SHA-256", "r1prov manifest create", "computed-here"),),
    )
    # What cannot be read back must not be signed.
    return parse_manifest(emit_manifest(made), subject=name)


def _check_indexes(store: Store, paths: Iterable[str], headers: Mapping[str, Header]) -> None:
    """An index that does not fit the shards must not be signed either."""
    for path in paths:
        if not path.casefold().endswith(INDEX_SUFFIX):
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


def _regular_files(store: Store) -> dict[str, int]:
    sizes = {}
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
        sizes[entry.path] = entry.size
    if not sizes:
        raise ManifestError("there is no file to state", subject=store.location)
    return sizes


def _is_leftover(store: Store, entry: Entry) -> bool:
    """A tool's bookkeeping by name, and no program by its first bytes."""
    if not is_tool_leftover(entry.path, entry.size):
        return False
    if entry.path.startswith(TOOL_FOLDERS) or entry.kind is not EntryKind.FILE:
        return True
    with store.open(entry.path) as blob:
        return classify(entry.path, blob.read_at(0, min(_HEAD_BYTES, entry.size))) is None


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
    config = parse_json(raw, subject=_CONFIG_NAME, max_bytes=MAX_CONFIG_BYTES)
    if not isinstance(config, dict):
        raise FormatError("config-json", "the file is not a JSON object", subject=_CONFIG_NAME)
    return config
