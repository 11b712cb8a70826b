"""Gather what the checks look at: the listing, headers, index, config and first bytes.

Reading happens here, deciding in `checks/`. Nothing here is larger than the headers of the model:
weights are only hashed, by `pipeline`, after the cheap checks are done.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r1prov.errors import FormatError, LimitExceeded, R1ProvError, StoreError
from r1prov.formats.executables import classify
from r1prov.formats.inventory import Inventory
from r1prov.formats.model_config import parse_model_config
from r1prov.formats.pickles import pickle_imports
from r1prov.formats.shard_index import ShardIndex, is_shard_index, parse_shard_index
from r1prov.limits import (
    MAX_CONFIG_BYTES,
    MAX_CONFIG_FILES,
    MAX_SHARD_INDEX_BYTES,
    MAX_TENSORS_PER_MODEL,
)
from r1prov.manifest.leftovers import (
    TOOL_FOLDERS,
    bytes_to_judge,
    is_tool_leftover,
    looks_like_leftover,
)
from r1prov.manifest.loadable import INDEX_NAME, loadable_inventory, loadable_weights
from r1prov.stores.base import Entry, EntryKind, Store, read_small
from r1prov.stores.headers import (
    gguf_paths,
    read_gguf_headers,
    read_headers,
    safetensors_paths,
)
from r1prov.stores.statements import Statements, read_statements

if TYPE_CHECKING:
    from collections.abc import Iterable

    from r1prov.formats.gguf import GgufHeader
    from r1prov.formats.safetensors import Header

CONFIG_NAME = "config.json"
# JSON files from which loaders take the names of code to import: `config.json`,
# `tokenizer_config.json`, `processor_config.json` and their kind (transformers
# `dynamic_module_utils`), the modules of sentence-transformers, the components of diffusers.
# `config.4.0.0.json` is for a version of transformers (`configuration_files`).
_CONFIG = re.compile(r"(?:.*_)?config(?:\.[^/]*)?\.json", re.IGNORECASE | re.DOTALL)
_OTHER_CONFIGS = frozenset(
    {"modules.json", "model_index.json", "config_sentence_transformers.json"}
)
_HEAD_BYTES = 4096


@dataclass(slots=True)
class JsonFile:
    """A small JSON file of the model.

    Attributes:
        sha256: Digest of the bytes that were parsed.
        value: The object or array; None if it is malformed.
        error: Why it is malformed.
    """

    sha256: str | None = None
    value: dict[str, object] | list[object] | None = None
    error: R1ProvError | None = None


@dataclass(slots=True)
class Evidence:
    """All that was read of a model, except the weights themselves.

    Attributes:
        store: Where the model is.
        entries: Its listing.
        files: Path to entry of every regular file.
        leftovers: Files of download tools.
        headers: Path to header of every well-formed safetensors file.
        gguf: Path to header of every well-formed GGUF file.
        header_errors: Path to what is wrong with the header of every other weight file.
        indexes: Path to shard index, of those that are well-formed.
        index_errors: Path to what is wrong with the others.
        json_files: Path to content of the files that can name code.
        executables: Path to kind of the files that can run code.
        imports: Path to the globals that a pickle imports, as far as its first bytes tell.
        unread: Path to why first bytes could not be read.
        stated: Digests that the store states of its files.
    """

    store: Store
    entries: list[Entry]
    files: dict[str, Entry] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    headers: dict[str, Header] = field(default_factory=dict)
    gguf: dict[str, GgufHeader] = field(default_factory=dict)
    header_errors: dict[str, FormatError | StoreError] = field(default_factory=dict)
    indexes: dict[str, ShardIndex] = field(default_factory=dict)
    index_errors: dict[str, R1ProvError] = field(default_factory=dict)
    json_files: dict[str, JsonFile] = field(default_factory=dict)
    executables: dict[str, str] = field(default_factory=dict)
    imports: dict[str, list[str]] = field(default_factory=dict)
    unread: dict[str, StoreError] = field(default_factory=dict)
    stated: Statements | None = None

    @property
    def config(self) -> dict[str, object] | None:
        """The parsed `config.json`, if there is a well-formed one."""
        found = self.json_files.get(CONFIG_NAME)
        return found.value if found and isinstance(found.value, dict) else None

    @property
    def config_sha256(self) -> str | None:
        """SHA-256 of `config.json`."""
        found = self.json_files.get(CONFIG_NAME)
        return found.sha256 if found else None

    @property
    def only_gguf(self) -> bool:
        """Whether the weights are GGUF files and nothing else."""
        return bool(self.gguf) and not self.headers

    def sizes(self) -> dict[str, int]:
        """Size in bytes of every regular file that is not a tool's leftover."""
        return {path: entry.size for path, entry in self.files.items()}

    def loadable_weights(self, among: Iterable[str] | None = None) -> list[str]:
        """The weight files a loader would take.

        Args:
            among: Files to choose from, perhaps missing ones; by default those that are here.
        """
        paths = self.headers if among is None else among
        return loadable_weights(paths, self.indexes.get(INDEX_NAME))

    def inventory(self, paths: Iterable[str]) -> Inventory:
        """The tensors of the weight files at `paths` whose headers are well-formed."""
        return loadable_inventory(self.headers, paths)


def gather(store: Store) -> Evidence:
    """List the store and read headers, index, JSON files and first bytes.

    Raises:
        StoreError: The store itself cannot be listed.
        LimitExceeded: More files, or deeper, than the caps allow.
    """
    entries = store.entries()
    evidence = Evidence(store, entries)
    for entry in entries:
        if entry.kind is not EntryKind.FILE:
            continue
        evidence.files[entry.path] = entry
    paths = safetensors_paths(evidence.files)
    evidence.headers, evidence.header_errors = read_headers(store, paths)
    evidence.gguf, errors = read_gguf_headers(store, gguf_paths(evidence.files))
    evidence.header_errors |= errors
    evidence.stated = read_statements(store, entries)
    _read_indexes(evidence)
    _read_json_files(evidence)
    _classify(evidence)
    return evidence


def _read_indexes(evidence: Evidence) -> None:
    paths = [path for path in evidence.files if is_shard_index(path)]
    # The model's own first, so that the cap never hides it behind others.
    paths.sort(key=lambda path: (path != INDEX_NAME, path.count("/"), path))
    tensors = 0
    for path in paths:
        try:
            raw = read_small(evidence.store, path, MAX_SHARD_INDEX_BYTES)
            found = parse_shard_index(raw, file=path)
        except (FormatError, LimitExceeded, StoreError) as error:
            evidence.index_errors[path] = error
            continue
        tensors += len(found.weight_map)
        if tensors <= MAX_TENSORS_PER_MODEL:
            evidence.indexes[path] = found
        else:
            evidence.index_errors[path] = LimitExceeded(
                f"the indexes up to this one name {tensors:,} tensors; the cap is "
                f"{MAX_TENSORS_PER_MODEL:,}",
                subject=path,
            )


def _read_json_files(evidence: Evidence) -> None:
    """Read the files that can name code to import, at the top and in sub-directories."""
    named = [path for path in evidence.files if _can_name_code(path)]
    # By depth, so that the cap never hides the model's own config behind nested ones.
    named.sort(key=lambda path: (path.count("/"), path != CONFIG_NAME, path))
    for number, path in enumerate(named):
        if number < MAX_CONFIG_FILES:
            evidence.json_files[path] = _read_json(evidence, path)
        else:
            many = LimitExceeded(f"more than {MAX_CONFIG_FILES} files of this kind", subject=path)
            evidence.json_files[path] = JsonFile(error=many)


def _can_name_code(path: str) -> bool:
    if path.startswith(TOOL_FOLDERS):
        return False
    name = path.rpartition("/")[2].casefold()
    return _CONFIG.fullmatch(name) is not None or name in _OTHER_CONFIGS


def _read_json(evidence: Evidence, name: str) -> JsonFile:
    found = JsonFile()
    try:
        raw = read_small(evidence.store, name, MAX_CONFIG_BYTES)
        found.sha256 = hashlib.sha256(raw).hexdigest()
        value = parse_model_config(raw, subject=name)
        # Only the list of modules of sentence-transformers is an array.
        if isinstance(value, dict) or (isinstance(value, list) and name != CONFIG_NAME):
            found.value = value
        else:
            found.error = FormatError(
                "config-json",
                "the file is not a JSON object",
                subject=name,
                expected="an object",
                found=type(value).__name__,
            )
    except (FormatError, LimitExceeded, StoreError) as error:
        found.error = error
    return found


def _classify(evidence: Evidence) -> None:
    """Look at the first bytes of everything that no header vouches for.

    A leftover that holds anything else than such files do is none. What lies in the tools' own
    folders is not looked at: loaders do not go there, and Git keeps scripts in its own.
    """
    leftovers = []
    for path, entry in evidence.files.items():
        # A well-formed header proves that the file is weights and nothing else.
        if path in evidence.headers or path in evidence.gguf:
            continue
        leftover = is_tool_leftover(path, entry.size)
        if leftover and path.startswith(TOOL_FOLDERS):
            leftovers.append(path)
            continue
        try:
            with evidence.store.open(path) as blob:
                head = blob.read_at(0, min(bytes_to_judge(path), entry.size))
        except StoreError as error:
            evidence.unread[path] = error
            continue
        if leftover and looks_like_leftover(path, head):
            leftovers.append(path)
            continue
        kind = classify(path, head[:_HEAD_BYTES])
        if kind is not None:
            evidence.executables[path] = kind
            evidence.imports[path] = pickle_imports(head) if "pickle" in kind else []
    evidence.leftovers = leftovers
