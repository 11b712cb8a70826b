"""What a store says of its own files: digests that somebody else computed.

A statement is no evidence of the bytes. It stands in for hashing only where the bytes are not here
and the report says so; beside bytes that are hashed, it shows what changed since it was made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r1prov.errors import R1ProvError
from r1prov.stores.base import EntryKind
from r1prov.stores.local import LocalStore
from r1prov.stores.ollama import OllamaStore
from r1prov.text import plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from r1prov.hashing.digest import BlobDigest
    from r1prov.stores.base import Entry, Store


@dataclass(frozen=True, slots=True)
class Statements:
    """Digests that a store states.

    Attributes:
        by: Who states them, such as `the Hub`.
        sha256: Path to SHA-256.
        git_blob: Path to Git blob id.
        sizes: Path to size, where that is stated beside a digest.
        remote: Whether the bytes are elsewhere, so that a statement may stand in for them.
        about: A sentence on where the model is from, or None.
        errors: Path to why a statement could not be read.
    """

    by: str
    sha256: Mapping[str, str]
    git_blob: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    remote: bool = False
    about: str | None = None
    errors: Mapping[str, R1ProvError] = field(default_factory=dict)

    def conflict(self, path: str, digest: BlobDigest) -> tuple[str, str] | None:
        """What is stated and what was computed, if the two are not the same."""
        stated = self.sha256.get(path)
        if stated is not None and stated != digest.sha256:
            return f"sha256:{stated}", f"sha256:{digest.sha256}"
        blob = self.git_blob.get(path)
        if stated is None and None not in (blob, digest.git_blob) and blob != digest.git_blob:
            return f"Git blob {blob}", f"Git blob {digest.git_blob}"
        return None


def read_statements(store: Store, entries: list[Entry]) -> Statements | None:
    """What the store states of its files; None where it states nothing.

    Args:
        store: The store.
        entries: Its listing.

    Raises:
        StoreError: The store cannot be listed.
    """
    if isinstance(store, LocalStore):
        return _of_download(store)
    if isinstance(store, OllamaStore):
        sizes = {layer.path: layer.size for layer in store.manifest.layers}
        return Statements("the Ollama manifest", store.stated(), sizes=sizes)
    files = [entry for entry in entries if entry.kind is EntryKind.FILE]
    sha256 = {e.path: e.stated_sha256 for e in files if e.stated_sha256 is not None}
    blobs = {e.path: e.stated_git_blob for e in files if e.stated_git_blob is not None}
    if not sha256 and not blobs:
        return None
    by = getattr(store, "stated_by", "the Hub")
    return Statements(by, sha256, blobs, remote=True)


def _of_download(store: LocalStore) -> Statements | None:
    from r1prov.stores.hub_cache import download_facts

    facts = download_facts(store)
    if facts is None:
        return None
    where = f" of {facts.repo}" if facts.repo else ""
    commits = ", ".join(facts.commits)
    about = f"a download{where} from the Hub" + (f", commit {commits}" if commits else "")
    if len(facts.commits) > 1:
        about = f"a download{where} from the Hub, of {plural(len(facts.commits), 'commit')}"
        about += f" mixed: {commits}"
    return Statements(
        "the record of the download",
        {path: one.sha256 for path, one in facts.stated.items() if one.sha256 is not None},
        {path: one.git_blob for path, one in facts.stated.items() if one.git_blob is not None},
        about=about,
        errors=dict(facts.errors),
    )
