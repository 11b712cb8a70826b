from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Sequence
from typing import Self

import pytest

from r1prov.errors import ChangedWhileReading, NotFound, Unreadable
from r1prov.hashing import engine
from r1prov.hashing.digest import Fence, git_blob_id
from r1prov.hashing.engine import HashJob, default_workers, hash_blobs
from r1prov.limits import HASH_BUFFER_BYTES, MAX_HASH_WORKERS


class MemoryBlob:
    """A blob in memory whose reads can be made to fail, grow, shrink or change."""

    def __init__(
        self,
        data: bytes,
        *,
        fail_at: int | None = None,
        error: Exception | None = None,
        fences: Sequence[Fence] = (),
    ) -> None:
        self.size = len(data)
        self._file = io.BytesIO(data)
        self._fail_at = fail_at
        self._error = error or OSError(5, "Input/output error")
        self._fences = list(fences)
        self.closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        if self._fail_at is not None and self._file.tell() >= self._fail_at:
            raise self._error
        return self._file.readinto(buffer)

    def read_at(self, offset: int, length: int, /) -> bytes:
        return self._file.getvalue()[offset : offset + length]

    def fence(self) -> Fence:
        return self._fences.pop(0) if self._fences else Fence(1, 2, self.size, 3, 4)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


SIZES = [
    0,
    1,
    HASH_BUFFER_BYTES - 1,
    HASH_BUFFER_BYTES,
    HASH_BUFFER_BYTES + 1,
    3 * HASH_BUFFER_BYTES,
]


def jobs_of(files: dict[str, bytes], *, git_blob: bool = False) -> list[HashJob]:
    return [HashJob(path, len(data), git_blob) for path, data in files.items()]


@pytest.mark.parametrize("workers", [None, 1, 2, 7])
def test_digests_equal_hashlib_at_every_buffer_boundary(workers):
    files = {f"file-{size}": os.urandom(size) for size in SIZES}
    result = hash_blobs(
        lambda path: MemoryBlob(files[path]), jobs_of(files, git_blob=True), workers=workers
    )
    assert result.errors == {}
    assert list(result.digests) == list(files)
    for path, data in files.items():
        digest = result.digests[path]
        assert digest.sha256 == hashlib.sha256(data).hexdigest()
        assert digest.git_blob == git_blob_id(data)
        assert (digest.path, digest.size) == (path, len(data))
        assert digest.fence == Fence(1, 2, len(data), 3, 4)


def test_git_blob_only_where_asked_for():
    result = hash_blobs(lambda _: MemoryBlob(b"x"), [HashJob("x", 1)])
    assert result.digests["x"].git_blob is None


def test_no_jobs():
    assert hash_blobs(lambda _: MemoryBlob(b""), []).digests == {}


def test_a_path_in_two_jobs_is_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="one job"):
        hash_blobs(lambda _: MemoryBlob(b"x"), [HashJob("x", 1), HashJob("x", 1)])


def test_the_largest_file_is_first():
    files = {"small": b"1", "large": b"1" * 99, "middle": b"1" * 9}
    opened = []

    def open_blob(path):
        opened.append(path)
        return MemoryBlob(files[path])

    hash_blobs(open_blob, jobs_of(files), workers=1)
    assert opened == ["large", "middle", "small"]


@pytest.mark.parametrize(
    ("listed", "message"), [(4, "holds more than the 4 bytes"), (6, "ended after 5 of the 6")]
)
def test_another_size_than_listed_is_a_change(listed, message):
    result = hash_blobs(lambda _: MemoryBlob(b"12345"), [HashJob("x", listed)])
    assert result.digests == {}
    assert isinstance(result.errors["x"], ChangedWhileReading)
    assert message in result.errors["x"].message
    assert result.errors["x"].subject == "x"


@pytest.mark.parametrize(
    ("position", "name"),
    list(enumerate(["device", "inode", "size", "modification time", "change time"])),
)
def test_every_part_of_the_fence_counts(position, name):
    before = Fence(1, 2, 5, 3, 4)
    after = Fence(*(value + (i == position) for i, value in enumerate(before)))
    result = hash_blobs(lambda _: MemoryBlob(b"12345", fences=[before, after]), [HashJob("x", 5)])
    assert result.digests == {}
    assert isinstance(result.errors["x"], ChangedWhileReading)
    assert f"its {name} changed" in result.errors["x"].message


def test_an_io_error_is_unreadable_and_says_how_far_it_came():
    data = os.urandom(3 * HASH_BUFFER_BYTES)
    blob = MemoryBlob(data, fail_at=2 * HASH_BUFFER_BYTES)
    result = hash_blobs(lambda _: blob, [HashJob("x", len(data))])
    error = result.errors["x"]
    assert type(error) is Unreadable
    assert error.message == (
        "could be read for the first 2,097,152 of 3,145,728 bytes only: Input/output error"
    )
    assert blob.closed
    assert result.digests == {}


def test_a_store_error_half_way_also_says_how_far_it_came():
    data = os.urandom(2 * HASH_BUFFER_BYTES)
    blob = MemoryBlob(data, fail_at=HASH_BUFFER_BYTES, error=Unreadable("connection lost"))
    result = hash_blobs(lambda _: blob, [HashJob("x", len(data))])
    assert "first 1,048,576 of 2,097,152 bytes only: connection lost" in result.errors["x"].message


def test_one_bad_blob_does_not_stop_the_others():
    def open_blob(path):
        if path == "gone":
            raise NotFound("does not exist", subject=path)
        if path == "closed":
            raise PermissionError(13, "Permission denied")
        return MemoryBlob(b"fine")

    jobs = [HashJob(path, 4) for path in ("gone", "closed", "good")]
    result = hash_blobs(open_blob, jobs)
    assert set(result.digests) == {"good"}
    assert type(result.errors["gone"]) is NotFound
    assert type(result.errors["closed"]) is Unreadable
    assert "Permission denied" in result.errors["closed"].message


@pytest.mark.parametrize("bug", [ZeroDivisionError("a bug"), SystemExit(3), MemoryError()])
def test_a_bug_in_a_thread_surfaces_in_the_caller(bug):
    def open_blob(path):
        if path == "7":
            raise bug
        return MemoryBlob(b"x")

    with pytest.raises(type(bug)):
        hash_blobs(open_blob, [HashJob(str(i), 1) for i in range(20)], workers=3)
    assert_no_threads()


def test_threads_that_die_without_a_word_are_no_hang(monkeypatch):
    monkeypatch.setattr(engine._Pool, "_work", lambda self, slot: None)
    with pytest.raises(RuntimeError, match="ended without finishing"):
        hash_blobs(lambda _: MemoryBlob(b"x"), [HashJob("x", 1)])


def test_progress_comes_from_the_calling_thread_and_adds_up():
    data = b"x" * (8 * HASH_BUFFER_BYTES)
    calls = []

    class Slow(MemoryBlob):
        def readinto(self, buffer):
            time.sleep(0.05)
            return super().readinto(buffer)

    hash_blobs(
        lambda _: Slow(data),
        [HashJob("x", len(data))],
        on_bytes=lambda count: calls.append((count, threading.current_thread())),
    )
    assert sum(count for count, _ in calls) == len(data)
    assert {thread for _, thread in calls} == {threading.current_thread()}
    assert 2 <= len(calls) <= 12


def test_an_error_in_the_progress_callback_stops_the_threads():
    class Endless(MemoryBlob):
        def readinto(self, buffer):
            time.sleep(0.001)
            return len(buffer)

    def on_bytes(count):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        hash_blobs(lambda _: Endless(b""), [HashJob("x", 1 << 60)], on_bytes=on_bytes)
    assert_no_threads()


def test_a_thread_that_hangs_in_a_read_is_left_behind():
    release = threading.Event()

    class Hung(MemoryBlob):
        def readinto(self, buffer):
            release.wait(30)
            return 0

    def on_bytes(count):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        hash_blobs(lambda _: Hung(b""), [HashJob("x", 1)], on_bytes=on_bytes)
    assert time.monotonic() - start < 5
    release.set()


def test_memory_is_one_buffer_a_thread():
    class Zeros(MemoryBlob):
        left = 64 * HASH_BUFFER_BYTES

        def readinto(self, buffer):
            count = min(len(buffer), self.left)
            self.left -= count
            return count

    tracemalloc.start()
    try:
        jobs = [HashJob(str(i), Zeros.left) for i in range(4)]
        result = hash_blobs(lambda _: Zeros(b""), jobs, workers=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(result.digests) == 4
    assert peak < 2 * HASH_BUFFER_BYTES + 512 * 1024


def test_workers_default(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert default_workers(1) == 1
    assert default_workers(0) == 1
    assert default_workers(16) == 16
    assert default_workers(1000) == MAX_HASH_WORKERS
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert default_workers(1000) == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert default_workers(1000) == 1


def test_ctrl_c_ends_the_process_in_time():
    program = textwrap.dedent(
        """
        import sys
        from r1prov.hashing.engine import HashJob, hash_blobs
        from r1prov.hashing.digest import Fence

        class Endless:
            size = 1 << 60
            def readinto(self, buffer): return len(buffer)
            def fence(self): return Fence(0, 0, 0, 0, 0)
            def __enter__(self): return self
            def __exit__(self, *_): pass

        told = []
        def on_bytes(count):
            if not told:
                print("hashing", flush=True)
                told.append(count)
        try:
            hash_blobs(lambda _: Endless(), [HashJob("a", 1 << 60), HashJob("b", 1 << 60)],
                       workers=2, on_bytes=on_bytes)
        except KeyboardInterrupt:
            sys.exit(130)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hashing\n"
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
        # A second is the promise; the rest is for a busy machine.
        assert time.monotonic() - start < 5
    assert (process.returncode, errors) == (130, b"")


def assert_no_threads() -> None:
    assert [t.name for t in threading.enumerate() if t.name.startswith("hash-")] == []
