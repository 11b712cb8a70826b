"""Hash many blobs at once, each in one pass, in constant memory.

Threads are enough: hashlib and the read calls release the interpreter lock, so a thread a core
keeps every core busy, and nothing has to be sent between processes.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from r1prov.errors import ChangedWhileReading, StoreError, Unreadable
from r1prov.hashing.digest import BlobDigest, Readable, git_blob_header, tree_digest
from r1prov.hashing.extents import Extent, ExtentHasher
from r1prov.hashing.pieces import PieceHasher, PieceHashing
from r1prov.limits import HASH_BUFFER_BYTES, MAX_HASH_WORKERS

__all__ = ["HashJob", "HashResult", "default_workers", "hash_blobs", "tree_digest"]

_PROGRESS_SECONDS = 0.1
_STOP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class HashJob:
    """One blob to hash.

    Attributes:
        path: The blob's path in its store.
        size: Bytes that the store's listing says it has; another number is an error.
        git_blob: Whether to compute the Git blob id in the same pass.
        extents: Ranges to hash in the same pass, which doubles the work.
        pieces: Another hash, or one hash a piece, to compute in the same pass.
    """

    path: str
    size: int
    git_blob: bool = False
    extents: tuple[Extent, ...] = ()
    pieces: PieceHashing | None = None


@dataclass(frozen=True, slots=True)
class HashResult:
    """What came of the jobs: each path is in exactly one of the two."""

    digests: dict[str, BlobDigest] = field(default_factory=dict)
    errors: dict[str, StoreError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Outcome:
    path: str
    digest: BlobDigest | None = None
    error: StoreError | None = None
    bug: BaseException | None = None


class _Cancelled(Exception):
    """The caller no longer waits."""


def default_workers(jobs: int) -> int:
    """How many threads to use for this many jobs: one a usable core, at least one."""
    # Not on macOS. Where it is, a container's or taskset's share of the machine counts.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, jobs, MAX_HASH_WORKERS))


def hash_blobs(
    open_blob: Callable[[str], Readable],
    jobs: Sequence[HashJob],
    *,
    workers: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
    on_digest: Callable[[BlobDigest], None] | None = None,
) -> HashResult:
    """Hash blobs, the largest first, with one thread a core.

    A blob that cannot be read, or that changed while it was read, is an entry of `errors`; it
    never gets a digest. An exception on the way out (Ctrl-C among them) stops every thread at its
    next buffer; one that hangs in a read is left behind after a second.

    Args:
        open_blob: Opens the blob at a path; called from several threads.
        jobs: What to hash; no path twice.
        workers: Number of threads; by default what `default_workers` says.
        on_bytes: Called in the calling thread, about ten times a second, with the number of bytes
            read since the last call. The numbers add up to all bytes that were read.
        on_digest: Called in the calling thread with each digest as soon as it is known.

    Returns:
        A digest or an error for every job.
    """
    if len({job.path for job in jobs}) != len(jobs):
        raise ValueError("a path may be in one job only")
    count = default_workers(len(jobs))
    if workers is not None:
        count = max(1, min(workers, len(jobs), MAX_HASH_WORKERS))
    pool = _Pool(open_blob, jobs, count)
    found: dict[str, _Outcome] = {}
    told = 0
    told_at = time.monotonic()
    try:
        pool.start()
        while len(found) < len(jobs):
            outcome = pool.next_outcome(_PROGRESS_SECONDS)
            if outcome is not None:
                if outcome.bug is not None:
                    raise outcome.bug
                found[outcome.path] = outcome
                if on_digest is not None and outcome.digest is not None:
                    on_digest(outcome.digest)
            now = time.monotonic()
            if on_bytes is not None and now - told_at >= _PROGRESS_SECONDS:
                total = pool.bytes_read()
                on_bytes(total - told)
                told, told_at = total, now
    finally:
        pool.stop(_STOP_SECONDS)
    if on_bytes is not None and pool.bytes_read() > told:
        on_bytes(pool.bytes_read() - told)
    result = HashResult()
    for job in jobs:
        outcome = found[job.path]
        if outcome.digest is not None:
            result.digests[job.path] = outcome.digest
        elif outcome.error is not None:
            result.errors[job.path] = outcome.error
    return result


class _Pool:
    """The threads of one `hash_blobs` call."""

    def __init__(
        self, open_blob: Callable[[str], Readable], jobs: Sequence[HashJob], workers: int
    ) -> None:
        self._open = open_blob
        self._jobs: queue.SimpleQueue[HashJob] = queue.SimpleQueue()
        # Largest first, or the last thread may start on the largest when the others are done.
        for job in sorted(jobs, key=lambda job: -job.size):
            self._jobs.put(job)
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._cancel = threading.Event()
        # A slot a thread, so that counting needs no lock.
        self._counts = [0] * workers
        # Daemons: a read that hangs (a dead NFS server) must not keep the process alive.
        self._threads = [
            threading.Thread(
                target=self._work, args=(slot,), name=f"r1prov-hash-{slot}", daemon=True
            )
            for slot in range(workers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def next_outcome(self, timeout: float) -> _Outcome | None:
        """The next finished job, or None if none finished in time."""
        alive = any(thread.is_alive() for thread in self._threads)
        try:
            return self._outcomes.get(timeout=timeout)
        except queue.Empty:
            if not alive:
                raise RuntimeError("the hashing threads ended without finishing") from None
            return None

    def bytes_read(self) -> int:
        return sum(self._counts)

    def stop(self, timeout: float) -> None:
        """Tell every thread to stop and wait for them, all together no longer than `timeout`."""
        self._cancel.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, slot: int) -> None:
        view = memoryview(bytearray(HASH_BUFFER_BYTES))
        while not self._cancel.is_set():
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            try:
                outcome = _Outcome(job.path, digest=self._hash(job, view, slot))
            except StoreError as error:
                outcome = _Outcome(job.path, error=error)
            except _Cancelled:
                return
            except BaseException as bug:  # noqa: BLE001 - raised again in the calling thread
                outcome = _Outcome(job.path, bug=bug)
            self._outcomes.put(outcome)

    def _hash(self, job: HashJob, view: memoryview, slot: int) -> BlobDigest:
        covered = 0
        try:
            with self._open(job.path) as blob:
                before = blob.fence()
                sha256 = hashlib.sha256()
                sha1 = None
                if job.git_blob:
                    sha1 = hashlib.sha1(git_blob_header(job.size), usedforsecurity=False)
                parts = ExtentHasher(job.extents, job.size) if job.extents else None
                pieces = PieceHasher(job.pieces) if job.pieces else None
                # One byte more than there should be, to see a blob that grows.
                while covered <= job.size:
                    if self._cancel.is_set():
                        raise _Cancelled
                    want = job.size + 1 - covered
                    got = blob.readinto(view if want >= len(view) else view[:want])
                    if got == 0:
                        break
                    chunk = view if got == len(view) else view[:got]
                    sha256.update(chunk)
                    if sha1 is not None:
                        sha1.update(chunk)
                    if parts is not None:
                        parts.update(chunk)
                    if pieces is not None:
                        pieces.update(chunk)
                    covered += got
                    self._counts[slot] += got
                after = blob.fence()
        except (OSError, Unreadable) as error:
            if isinstance(error, Unreadable) and covered == 0:
                raise
            raise _unreadable(job, covered, error) from error
        _refuse_changed(job, covered, before.changes(after))
        return BlobDigest(
            job.path,
            job.size,
            sha256.hexdigest(),
            sha1.hexdigest() if sha1 else None,
            after,
            parts.digests() if parts is not None else {},
            pieces.digests() if pieces else (),
        )


def _unreadable(job: HashJob, covered: int, error: Exception) -> Unreadable:
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return Unreadable(
        f"could be read for the first {covered:,} of {job.size:,} bytes only: {reason}",
        subject=job.path,
        hint="nothing is known about the rest; check the disk or the permissions and run again",
    )


def _refuse_changed(job: HashJob, covered: int, changes: str) -> None:
    if covered == job.size and not changes:
        return
    if covered > job.size:
        what = f"it holds more than the {job.size:,} bytes it was listed with"
    elif covered < job.size:
        what = f"it ended after {covered:,} of the {job.size:,} bytes it was listed with"
    else:
        what = f"its {changes} changed"
    raise ChangedWhileReading(
        f"changed while it was read: {what}",
        subject=job.path,
        hint="stop whatever writes to the model and run again",
    )
