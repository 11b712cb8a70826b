"""The manifest: what a model must be, and the strict parser of its TOML form.

A `Manifest` is untrusted until the trust store says who signed its bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from r1prov.errors import LimitExceeded, ManifestError, NameRuleError
from r1prov.formats.names import check_path, find_collisions
from r1prov.formats.shard_index import is_shard_index
from r1prov.hashing.digest import tree_digest
from r1prov.limits import MAX_MANIFEST_BYTES, MAX_STORE_ENTRIES
from r1prov.manifest.fields import GIT_ID, SHA256, Table, read_toml
from r1prov.manifest.hub_commit import HubCommit, TreeEntry
from r1prov.text import quoted

SCHEMA_PREFIX = "r1prov/manifest/"
SCHEMA_VERSION = 1
TENSORS_SUFFIX = ".tensors"

VARIANTS = ("full", "distill", "base", "other")
# From strongest to weakest: bound by a hash that is published or signed elsewhere; several
# independent documents; one document; derived from other figures; hearsay; computed by the
# manifest's maker from the files at hand.
STRENGTHS = ("proved-by-hash", "several", "one", "derived", "weak", "computed-here")

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_DTYPE = r"[A-Z][A-Z0-9_]{1,15}"
_MODE = r"[0-7]{5,6}"


class Role(StrEnum):
    """What a file is to the model."""

    WEIGHTS = "weights"
    INDEX = "index"
    CONFIG = "config"
    TOKENIZER = "tokenizer"
    CODE = "code"
    DOCUMENT = "document"
    OTHER = "other"


# Names whose role is not for the manifest to choose.
_ROLE_OF_SUFFIX = {
    ".safetensors": Role.WEIGHTS,
    ".gguf": Role.WEIGHTS,
    ".py": Role.CODE,
}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of the model.

    Attributes:
        path: Path relative to the model, with `/`.
        size: Bytes, if known.
        sha256: SHA-256 in hex, if known; never without the size.
        role: What the file is for.
    """

    path: str
    size: int | None
    sha256: str | None
    role: Role


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of the model.

    Attributes:
        model_type: As `config.json` calls it.
        parameters: Elements of the model proper: no quantization scales, no MTP layer.
        tensors: Tensors in all weight files.
        dtypes: Tensors of each dtype.
        inventory_sha256: The inventory digest.
        layers: Transformer layers, without an MTP layer.
        hidden_size: Width of the residual stream.
        vocabulary: Rows of the embedding.
        experts: Routed experts a layer; 0 in a dense model.
        attention_heads: As `config.json` says, 0 if unknown; shapes do not tell.
        config: The facts of `config.json` from which the inventory can be derived.
    """

    model_type: str
    parameters: int
    tensors: int
    dtypes: dict[str, int]
    inventory_sha256: str
    layers: int
    hidden_size: int
    vocabulary: int
    experts: int
    attention_heads: int
    config: dict[str, object]


@dataclass(frozen=True, slots=True)
class TensorSidecar:
    """The file beside the manifest that states a SHA-256 for each tensor.

    Attributes:
        path: Its name in the directory of the manifest; ends with `TENSORS_SUFFIX`.
        size: Its bytes.
        sha256: Its SHA-256 in hex.
        count: Tensors that it states.
    """

    path: str
    size: int
    sha256: str
    count: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure comes from and how strongly it is supported (one of `STRENGTHS`)."""

    figure: str
    source: str
    strength: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a model must be.

    Attributes:
        name: Name of the model, as `--expect` takes it.
        publisher: Who releases it.
        variant: One of `VARIANTS`.
        base_model: What it was trained from.
        source: Where it is published.
        revision: Revision there.
        license: Its licence.
        released: Day of the release.
        complete_listing: Whether every file of the release is listed. If not, an extra document
            or config is not covered rather than unexpected.
        untracked_dirs: Directories of the release of whose files no digest is known.
        same_headers_as: Models that headers cannot tell from this one, each with the reason.
        architecture: The shape of the model, if known.
        files: Every file that must be there.
        tensors: The sidecar with the digests of the tensors, if there is one.
        sources: Where the figures come from.
        hub_commit: The Git commit of the Hub that binds the digests.
    """

    name: str
    publisher: str
    variant: str
    source: str
    revision: str
    license: str
    files: tuple[FileEntry, ...]
    base_model: str | None = None
    released: date | None = None
    complete_listing: bool = True
    untracked_dirs: tuple[str, ...] = ()
    same_headers_as: tuple[str, ...] = ()
    architecture: Architecture | None = None
    tensors: TensorSidecar | None = None
    sources: tuple[Source, ...] = ()
    hub_commit: HubCommit | None = None

    @property
    def complete(self) -> bool:
        """Whether size and SHA-256 of every listed file are known."""
        return all(entry.sha256 is not None for entry in self.files)

    def tree_digest(self) -> str:
        """One digest over path, size and SHA-256 of every file.

        Raises:
            ManifestError: The manifest is partial.
        """
        entries = []
        for entry in self.files:
            if entry.size is None or entry.sha256 is None:
                raise ManifestError(
                    f"has no digest of {entry.path}, so it has no tree digest", subject=self.name
                )
            entries.append((entry.path, entry.size, entry.sha256))
        return tree_digest(entries)


def parse_manifest(raw: bytes, *, subject: str) -> Manifest:
    """Parse a manifest strictly: unknown keys, loose types and unsafe names are errors.

    Args:
        raw: The bytes of the TOML file.
        subject: Its name, for messages.

    Raises:
        ManifestError: It is malformed, or of a schema that this version does not read.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"is {len(raw):,} bytes; the cap is {MAX_MANIFEST_BYTES:,}", subject=subject
        )
    top = Table(read_toml(raw, subject), "", subject)
    _check_schema(top)
    model = top.table("model")
    files = tuple(_file(table) for table in top.tables("files"))
    if not files:
        raise top.error("lists no file")
    architecture = top.optional_table("architecture")
    tensors = top.optional_table("tensors")
    provenance = top.optional_table("provenance")
    sources: tuple[Source, ...] = ()
    commit = None
    if provenance is not None:
        sources = tuple(_source(table) for table in provenance.tables("sources"))
        commit_table = provenance.optional_table("hub_commit")
        commit = _hub_commit(commit_table) if commit_table is not None else None
        provenance.finish()
    manifest = Manifest(
        name=model.text("name", pattern=_NAME),
        publisher=model.text("publisher"),
        variant=model.choice("variant", VARIANTS),
        base_model=model.optional_text("base_model"),
        source=model.text("source", empty=True),
        revision=model.text("revision", empty=True),
        license=model.text("license"),
        released=model.optional_date("released"),
        complete_listing=model.flag("complete_listing"),
        untracked_dirs=model.texts("untracked_dirs"),
        same_headers_as=model.texts("same_headers_as"),
        architecture=_architecture(architecture) if architecture is not None else None,
        files=files,
        tensors=_tensors(tensors) if tensors is not None else None,
        sources=sources,
        hub_commit=commit,
    )
    model.finish()
    top.finish()
    _check_paths(manifest, top)
    _check_counts(manifest, top)
    return manifest


def _check_schema(top: Table) -> None:
    schema = top.text("schema")
    version = schema.removeprefix(SCHEMA_PREFIX)
    if not schema.startswith(SCHEMA_PREFIX) or not (version.isascii() and version.isdigit()):
        raise top.error(f"schema is {quoted(schema)}, not `{SCHEMA_PREFIX}{SCHEMA_VERSION}`")
    # Compared as text: a number of a thousand digits is no version either.
    if version != str(SCHEMA_VERSION):
        raise top.error(
            f"schema {quoted(schema)} is not one this version reads",
            hint="it may be newer than this r1prov: upgrade",
        )


def _file(table: Table) -> FileEntry:
    path = table.text("path", safe=False)
    try:
        check_path(path)
    except NameRuleError as error:
        raise table.error(f"path {quoted(path)}: {error.message}", hint=error.hint) from None
    size = table.optional_size("size")
    sha256 = table.optional_text("sha256", pattern=SHA256)
    if sha256 is not None and size is None:
        raise table.error("has a sha256 and no size")
    role = Role(table.choice("role", tuple(Role)))
    needed = next((r for end, r in _ROLE_OF_SUFFIX.items() if path.casefold().endswith(end)), role)
    if is_shard_index(path):
        needed = Role.INDEX
    if role is not needed:
        # Else `--scope weights` would let weights or code be that it must not.
        raise table.error(f"path {quoted(path)} has role {role.value}; it must be {needed.value}")
    table.finish()
    return FileEntry(path, size, sha256, role)


def _architecture(table: Table) -> Architecture:
    dtypes = table.table("dtypes")
    counts = {key: dtypes.size(key) for key in dtypes.keys_matching(_DTYPE)}
    architecture = Architecture(
        model_type=table.text("model_type"),
        parameters=table.size("parameters"),
        tensors=table.size("tensors"),
        dtypes=dict(sorted(counts.items())),
        inventory_sha256=table.text("inventory_sha256", pattern=SHA256),
        layers=table.size("layers"),
        hidden_size=table.size("hidden_size"),
        vocabulary=table.size("vocabulary"),
        experts=table.size("experts"),
        attention_heads=table.size("attention_heads"),
        config=table.facts("config"),
    )
    dtypes.finish()
    table.finish()
    if sum(counts.values()) != architecture.tensors:
        raise table.error("dtypes do not add up to tensors")
    return architecture


def _tensors(table: Table) -> TensorSidecar:
    path = table.text("path", safe=False)
    try:
        check_path(path)
    except NameRuleError as error:
        raise table.error(f"path {quoted(path)}: {error.message}", hint=error.hint) from None
    # A file beside the manifest: never one of another directory, a manifest or a signature.
    if "/" in path or not path.endswith(TENSORS_SUFFIX):
        raise table.error(f"path {quoted(path)} is not of the form `NAME{TENSORS_SUFFIX}`")
    sidecar = TensorSidecar(
        path, table.size("size"), table.text("sha256", pattern=SHA256), table.size("count")
    )
    table.finish()
    return sidecar


def _source(table: Table) -> Source:
    source = Source(table.text("figure"), table.text("source"), table.choice("strength", STRENGTHS))
    table.finish()
    return source


def _hub_commit(table: Table) -> HubCommit:
    commit = HubCommit(
        repo=table.text("repo"),
        commit=table.text("commit", pattern=GIT_ID),
        tree=table.text("tree", pattern=GIT_ID),
        parents=table.texts("parents", pattern=GIT_ID),
        author=table.text("author", safe=False),
        committer=table.text("committer", safe=False),
        # Hashed as it is, so it may hold anything; whoever shows it makes it printable.
        message=table.text("message", safe=False, empty=True),
        signature=table.optional_text("signature", safe=False),
        entries=tuple(_tree_entry(entry) for entry in table.tables("entries")),
    )
    table.finish()
    return commit


def _tree_entry(table: Table) -> TreeEntry:
    entry = TreeEntry(
        mode=table.text("mode", pattern=_MODE),
        name=table.text("name", safe=False),
        git_sha1=table.text("git_sha1", pattern=GIT_ID),
        size=table.optional_size("size"),
        sha256=table.optional_text("sha256", pattern=SHA256),
        lfs=table.flag("lfs", default=False),
    )
    table.finish()
    return entry


def _check_counts(manifest: Manifest, top: Table) -> None:
    stated, architecture = manifest.tensors, manifest.architecture
    if stated is not None and architecture is not None and stated.count != architecture.tensors:
        raise top.error(
            f"tensors: count is {stated.count:,}, and architecture has {architecture.tensors:,}"
        )


def _check_paths(manifest: Manifest, top: Table) -> None:
    paths = [entry.path for entry in manifest.files]
    if len(paths) > MAX_STORE_ENTRIES:
        raise top.error(f"lists {len(paths):,} files; the cap is {MAX_STORE_ENTRIES:,}")
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise top.error(f"lists {quoted(path)} twice")
        seen.add(path)
    for directory in manifest.untracked_dirs:
        try:
            check_path(directory)
        except NameRuleError as error:
            raise top.error(f"untracked_dirs: {quoted(directory)}: {error.message}") from None
    try:
        collisions = find_collisions(paths)
    except LimitExceeded as error:
        raise top.error(error.message) from None
    for first, second in collisions:
        raise top.error(
            f"lists {quoted(first)} and {quoted(second)}, which are one file, or a file and its "
            "own directory, on some systems"
        )
