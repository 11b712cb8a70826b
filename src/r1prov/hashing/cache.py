"""Digests that need not be computed again, because the file has not changed since.

A file is taken for unchanged while device, inode, size, modification time and change time are the
same. Who can write to the cache decides what digests are, so a cache that others could write to is
refused. Whatever else is wrong with it costs time only: a damaged row, a damaged file, a full disk
or a lock that does not come free mean that files are read as if there were no cache.

A cached digest says what was read then. Bits that rotted on the disk since, or a kernel that lies
about times, show only to a run that reads the file.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from r1prov.errors import StoreError
from r1prov.hashing.cache_file import CacheFile, Damaged, Unusable, Value
from r1prov.hashing.digest import BlobDigest, Fence, Readable
from r1prov.hashing.engine import HashJob, HashResult, hash_blobs
from r1prov.limits import MAX_CACHED_DIGESTS

# As Git's racy index: a file system's clock may tick once in two seconds (FAT), so a file that
# changed less than that before it was read may change again and show the same times.
RACY_NS: Final = 2_000_000_000

_KEY: Final = struct.Struct(">QQ")
_STATE: Final = struct.Struct(">Qqq")
_CHECKSUM_HEADING: Final = b"r1prov/cache/1\n"


class CachedDigest(NamedTuple):
    """What was found when the file was last read.

    Attributes:
        sha256: SHA-256 in hex.
        git_blob: Git blob id in hex, if it was computed.
        read_at_ns: When the reading began, in nanoseconds since 1970.
    """

    sha256: str
    git_blob: str | None
    read_at_ns: int


def default_cache_path() -> Path:
    """`$XDG_CACHE_HOME/r1prov/digests.sqlite3`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(base) / "r1prov" / "digests.sqlite3"


class DigestCache:
    """Digests of files by device, inode and state. Any number of processes may use one at once.

    Digests of tensors are not kept: they would make the cache a hundred times larger, and whoever
    asks for them asks which bytes differ, which a cache cannot know better than the files.

    Used in the thread that opened it only.

    Args:
        path: The SQLite file; made, with its directory, if it is not there.

    Attributes:
        notes: Why the cache, or a part of it, was not used; for people, each said once.

    Raises:
        CacheError: Others could write to it, so that its digests mean nothing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.notes: list[str] = []
        self._stored = False
        self._file: CacheFile | None = CacheFile(Path(path))
        try:
            self._file.open()
        except Unusable as error:
            self._stop(error)
        else:
            self.notes += self._file.notes

    def get(self, fence: Fence) -> CachedDigest | None:
        """The digest of the file in exactly this state, or None if it must be read."""
        key, state = _packed(fence)
        if self._file is None or key is None:
            return None
        try:
            row = self._file.run(
                "SELECT state, sha256, git_blob, read_at_ns, checksum FROM digests WHERE key = ?",
                (key,),
            )
            if row is None or row[0] != state:
                return None
            found = _unpacked(key, row)
            if found is None:
                self._note("a damaged row of the digest cache: its file is read instead")
                self._file.run("DELETE FROM digests WHERE key = ?", (key,))
        except Unusable as error:
            self._stop(error)
            return None
        return found

    def put(self, digest: BlobDigest, *, read_at_ns: int) -> bool:
        """Keep a digest.

        Args:
            digest: What was computed.
            read_at_ns: When the reading began, or earlier, in nanoseconds since 1970.

        Returns:
            Whether it was kept. It is not when the file changed less than two seconds before it was
            read, or later, or when the store made up its fence.
        """
        fence = digest.fence
        key, state = _packed(fence)
        if self._file is None or key is None or fence.size != digest.size:
            return False
        if max(fence.mtime_ns, fence.ctime_ns) > read_at_ns - RACY_NS:
            return False
        sha256 = bytes.fromhex(digest.sha256)
        git_blob = bytes.fromhex(digest.git_blob) if digest.git_blob else None
        checksum = _checksum(key, state, sha256, git_blob, read_at_ns)
        try:
            self._file.run(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)",
                (key, state, sha256, git_blob, read_at_ns, checksum),
            )
        except Unusable as error:
            self._stop(error)
            return False
        self._stored = True
        return True

    def close(self) -> None:
        """Close the cache. May be called twice."""
        if self._file is not None and self._stored:
            try:
                # The oldest go first. One statement, so that it is done wholly or not at all.
                self._file.run(
                    "DELETE FROM digests WHERE key IN (SELECT key FROM digests "
                    "ORDER BY read_at_ns DESC LIMIT -1 OFFSET ?)",
                    (MAX_CACHED_DIGESTS,),
                )
            except Unusable as error:
                self._stop(error)
        if self._file is not None:
            self._file.close()
            self._file = None

    def _stop(self, error: Unusable) -> None:
        """Go on without the cache, for the rest of this run."""
        assert self._file is not None  # noqa: S101 - for the type checker; only an open one fails
        try:
            if not isinstance(error, Damaged):
                raise error
            self._note(self._file.set_aside(error))
        except Unusable as reason:
            self._note(f"the digest cache is not used: {reason}")
        self._file.close()
        self._file = None

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()


def _packed(fence: Fence) -> tuple[bytes | None, bytes]:
    """Key and state of a file; no key where the fence is none that a file system gave."""
    # Stores that are no file systems fill the fence with zeros, which would be one key for all.
    if fence.inode == 0 or fence.ctime_ns == 0:
        return None, b""
    try:
        key = _KEY.pack(fence.device, fence.inode)
        return key, _STATE.pack(fence.size, fence.mtime_ns, fence.ctime_ns)
    except struct.error:  # a number of more than 64 bits
        return None, b""


def _checksum(
    key: bytes, state: bytes, sha256: bytes, git_blob: bytes | None, read_at_ns: int
) -> bytes:
    """What shows a flipped bit of a row, or a row that stands under another's key.

    No signature: against whoever can write to the file only its mode helps.
    """
    parts = (key, state, sha256, git_blob or b"", b"%d" % read_at_ns)
    text = b"".join(b"%d:%s," % (len(part), part) for part in parts)
    return hashlib.sha256(_CHECKSUM_HEADING + text).digest()


def _unpacked(key: bytes, row: tuple[Value, ...]) -> CachedDigest | None:
    """The digest in a row whose state fits, or None if the row is damaged."""
    state, sha256, git_blob, read_at_ns, checksum = row
    if (
        not isinstance(state, bytes)
        or not isinstance(sha256, bytes)
        or not (git_blob is None or isinstance(git_blob, bytes))
        or not isinstance(read_at_ns, int)
        or checksum != _checksum(key, state, sha256, git_blob, read_at_ns)
    ):
        return None
    return CachedDigest(sha256.hex(), git_blob.hex() if git_blob else None, read_at_ns)


@dataclass(frozen=True, slots=True)
class CachedHashing:
    """What came of jobs of which some were answered by a cache.

    Attributes:
        result: A digest or an error for every job.
        cached: The paths whose digests are from the cache: they were not read this time.
        oldest_ns: When the first of them was read, in nanoseconds since 1970; None without any.
    """

    result: HashResult
    cached: frozenset[str]
    oldest_ns: int | None


def hash_with_cache(
    open_blob: Callable[[str], Readable],
    jobs: Sequence[HashJob],
    cache: DigestCache,
    fences: Mapping[str, Fence],
    *,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> CachedHashing:
    """Hash blobs, except those that the cache knows in the state they are in now.

    Each new digest is kept as soon as it is known, so that a run that is interrupted is not lost.
    Jobs with extents are always read.

    Args:
        open_blob: Opens the blob at a path; called from several threads.
        jobs: What to hash; no path twice.
        cache: Where digests are looked up and kept.
        fences: State of each file in the store's listing; a path without one is always read. Only
            the fences of a file system belong here.
        workers: Hashing threads.
        progress: Called with the number of bytes to read; returns a callback for bytes read.
    """
    known: dict[str, BlobDigest] = {}
    oldest: int | None = None
    for job in jobs:
        found = _look_up(open_blob, job, cache, fences.get(job.path))
        if found is not None:
            known[job.path], read_at_ns = found
            oldest = read_at_ns if oldest is None else min(oldest, read_at_ns)
    unknown = [job for job in jobs if job.path not in known]
    on_bytes = progress(sum(job.size for job in unknown)) if progress and unknown else None
    began = time.time_ns()

    def keep(digest: BlobDigest) -> None:
        if digest.path in fences:
            cache.put(digest, read_at_ns=began)

    hashed = hash_blobs(open_blob, unknown, workers=workers, on_bytes=on_bytes, on_digest=keep)
    digests = {
        job.path: known.get(job.path) or hashed.digests[job.path]
        for job in jobs
        if job.path not in hashed.errors
    }
    return CachedHashing(HashResult(digests, hashed.errors), frozenset(known), oldest)


def _look_up(
    open_blob: Callable[[str], Readable], job: HashJob, cache: DigestCache, listed: Fence | None
) -> tuple[BlobDigest, int] | None:
    if listed is None or job.extents or listed.size != job.size:
        return None
    found = cache.get(listed)
    if found is None or (job.git_blob and found.git_blob is None):
        return None
    try:
        # The file is opened all the same: one that may no longer be read has no digest.
        with open_blob(job.path) as blob:
            if blob.fence() != listed:
                return None
    except (OSError, StoreError):
        return None
    git_blob = found.git_blob if job.git_blob else None
    return BlobDigest(job.path, job.size, found.sha256, git_blob, listed), found.read_at_ns
