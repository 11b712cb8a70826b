"""Which bytes to read, and what digests are known afterwards, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r1prov.errors import ChangedWhileReading, StoreError
from r1prov.hashing.digest import BlobDigest, Fence
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_GIT_BLOB_BYTES
from r1prov.stores.headers import tensor_extents
from r1prov.stores.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from r1prov.hashing.cache import DigestCache
    from r1prov.verify.evidence import Evidence


@dataclass(frozen=True, slots=True)
class HashedModel:
    """Digests of a model's files; each path is in `digests` or in `errors`.

    Attributes:
        digests: What is known.
        errors: What could not be read.
        cached: Paths whose digest is from a cache: they were not read this time.
        stated: Paths whose digest is what a remote store states: nobody here read them.
        by: Who states them.
        bytes_read: Bytes that were hashed this time.
    """

    digests: dict[str, BlobDigest]
    errors: dict[str, StoreError] = field(default_factory=dict)
    cached: frozenset[str] = frozenset()
    stated: frozenset[str] = frozenset()
    by: str = ""

    @property
    def bytes_read(self) -> int:
        """Bytes that were hashed in this run."""
        known = self.cached | self.stated
        return sum(one.size for path, one in self.digests.items() if path not in known)

    def how(self, paths: Iterable[str]) -> str:
        """A phrase for coverage: how many digests of these paths are second-hand."""
        wanted = [path for path in paths if path in self.digests]
        phrases = []
        if cached := sum(path in self.cached for path in wanted):
            phrases.append(f"{cached} by a cached digest, not read this time")
        if stated := sum(path in self.stated for path in wanted):
            phrases.append(f"{stated} by the digest that {self.by} states, not read")
        return "".join(f"; {phrase}" for phrase in phrases)


def hash_model(
    evidence: Evidence,
    sizes: Mapping[str, int],
    *,
    git_blobs: Iterable[str] = (),
    by_tensor: Iterable[str] = (),
    read_all: bool = False,
    cache: DigestCache | None = None,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> HashedModel:
    """Hash files, each in one pass, unless their digest is known otherwise.

    Args:
        evidence: The model.
        sizes: Path to size of the files that are wanted.
        git_blobs: Those of which a Git blob id is wanted too.
        by_tensor: Those of which a digest for each tensor is wanted too; they are always read.
        read_all: Whether to read what a remote store states the digest of.
        cache: Digests of earlier runs; used for local files only, whose state can be told.
        workers: Hashing threads.
        progress: Called with the number of bytes to read; returns a callback for bytes read.
    """
    statements = evidence.stated
    second_hand: dict[str, BlobDigest] = {}
    jobs: list[HashJob] = []
    errors: dict[str, StoreError] = {}
    wanted_blobs, wanted_tensors = set(git_blobs), set(by_tensor)
    for path, size in sizes.items():
        stated = statements.sha256.get(path) if statements and statements.remote else None
        if stated is not None and path not in wanted_tensors and not read_all:
            second_hand[path] = BlobDigest(path, size, stated, None, Fence(0, 0, size, 0, 0))
            continue
        try:
            header = evidence.headers[path] if path in wanted_tensors else None
            extents = tensor_extents(header, size=size) if header else ()
        except ChangedWhileReading as error:
            errors[path] = error
            continue
        jobs.append(
            HashJob(path, size, path in wanted_blobs and size <= MAX_GIT_BLOB_BYTES, extents)
        )
    cached: frozenset[str] = frozenset()
    if cache is not None and isinstance(evidence.store, LocalStore):
        from r1prov.hashing.cache import hash_with_cache

        fences = {e.path: e.fence for e in evidence.entries if e.fence is not None}
        found = hash_with_cache(
            evidence.store.open, jobs, cache, fences, workers=workers, progress=progress
        )
        result, cached = found.result, found.cached
    else:
        on_bytes = progress(sum(job.size for job in jobs)) if progress else None
        result = hash_blobs(evidence.store.open, jobs, workers=workers, on_bytes=on_bytes)
    return HashedModel(
        digests=second_hand | result.digests,
        errors=errors | result.errors,
        cached=cached,
        stated=frozenset(second_hand),
        by=statements.by if statements else "",
    )
