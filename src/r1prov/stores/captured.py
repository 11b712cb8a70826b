"""A local model whose files are read once, into memory of this process, and served from there.

Between a check and a load a file on disk can be changed. A copy that nobody else can write to
cannot: whatever reads it, however often, reads the bytes that were checked.

On Linux the copy is a `memfd_create(2)` file with all seals of `fcntl(2)`: after `F_SEAL_WRITE` the
kernel refuses every write and every writable shared mapping, to this process too. Elsewhere it is
an anonymous mapping that is only handed out read-only.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING, Final

from r1prov.errors import ChangedWhileReading, LimitExceeded, Unreadable
from r1prov.hashing.engine import default_workers
from r1prov.limits import HASH_BUFFER_BYTES, MAX_HASH_WORKERS
from r1prov.stores.base import EntryKind
from r1prov.stores.local import LocalBlob, LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from r1prov.hashing.digest import Fence
    from r1prov.stores.base import Entry

_HINT: Final = "stop whatever writes to the model and run again"


class CapturedBlob(LocalBlob):
    """An open file of a `CapturedStore`; everything is read from the copy."""

    def __init__(self, data: memoryview, fence: Fence) -> None:
        # No descriptor, so not the constructor of the base: nothing of the file is read again.
        self._descriptor = -1
        self.size = len(data)
        self._data = data
        self._fence = fence
        self._position = 0

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer` with the next bytes; 0 at the end of the file."""
        part = self._data[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Up to `length` bytes from `offset`; short only at the end of the file."""
        return bytes(self._data[offset : offset + length])

    def fence(self) -> Fence:
        """The state of the file when it was copied."""
        return self._fence


class CapturedStore(LocalStore):
    """A `LocalStore` that copies files at their first opening and serves them from the copy.

    Only files of the first listing are copied, and no byte more than it says they have. `entries`
    always looks at the disk, so a model that changes while it is checked is still found out.

    Args:
        path: The directory or file.
        keep: Told a path and its size in bytes: whether to copy the file. Others are read from
            disk each time, so nothing of them may be served as checked.

    Raises:
        NotFound: There is nothing at `path`.
        Unreadable: It cannot be opened, or is neither a directory nor a regular file.
    """

    def __init__(self, path: str | os.PathLike[str], keep: Callable[[str, int], bool]) -> None:
        super().__init__(path)
        self._keep = keep
        self._sizes: dict[str, int] | None = None
        self._copies: dict[str, tuple[memoryview, Fence]] = {}
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    @property
    def header_workers(self) -> int:
        """Headers are what is read first of weight files, so as many are copied at once."""
        return default_workers(MAX_HASH_WORKERS)

    def entries(self) -> list[Entry]:
        """Everything that is there now, sorted by path.

        Raises:
            LimitExceeded: More entries, or deeper directories, than a model has.
            Unreadable: The root cannot be listed.
        """
        found = super().entries()
        if self._sizes is None:
            files = (entry for entry in found if entry.kind is EntryKind.FILE)
            self._sizes = {e.path: e.size for e in files if self._keep(e.path, e.size)}
        return found

    def check_room(self, most: int | None) -> int:
        """The bytes that copies of this model take, if there is room for them.

        Args:
            most: How many they may be; None means the memory that is free.

        Raises:
            LimitExceeded: They are more.
            StoreError: The model cannot be listed.
        """
        self.entries()
        needed = sum((self._sizes or {}).values())
        limit = most if most is not None else available_memory()
        if limit is not None and needed > limit:
            raise LimitExceeded(
                f"takes {needed:,} bytes of memory, and {limit:,} "
                + ("are free" if most is None else "are allowed"),
                subject=self.location,
                hint="lazy=True reads and checks one tensor at a time, if the manifest states "
                "digests of tensors",
            )
        return needed

    def open(self, path: str) -> LocalBlob:
        """Open a file; one to keep is copied now, unless it was before.

        Raises:
            NotFound: There is nothing at `path`.
            ChangedWhileReading: It is not as it was listed, or changed while it was copied.
            StoreError: It may not be read, or there is no memory for the copy.
        """
        if self._sizes is None or path not in self._sizes:
            return super().open(path)
        with self._guard:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            if path not in self._copies:
                self._copies[path] = self._copy(path, self._sizes[path])
        return CapturedBlob(*self._copies[path])

    def captured_paths(self) -> list[str]:
        """The files that there are copies of, sorted."""
        return sorted(self._copies)

    def captured(self, path: str) -> memoryview | None:
        """The copy of a file, read-only; None if there is none. It outlives the store."""
        copy = self._copies.get(path)
        return copy[0] if copy is not None else None

    def _copy(self, path: str, size: int) -> tuple[memoryview, Fence]:
        with super().open(path) as blob:
            before = blob.fence()
            try:
                data, covered = _copy_bytes(blob, size)
            except OSError as error:
                reason = error.strerror or str(error)
                raise Unreadable(f"cannot be copied into memory: {reason}", subject=path) from error
            changes = before.changes(blob.fence())
        if covered != size or changes:
            what = f"its {changes} changed" if changes else f"it no longer has {size:,} bytes"
            raise ChangedWhileReading(
                f"changed while it was read: {what}", subject=path, hint=_HINT
            )
        return data, before


def _copy_bytes(blob: LocalBlob, size: int) -> tuple[memoryview, int]:
    """At most `size` bytes of a blob as a read-only buffer, and how many it has (or one more)."""
    if not hasattr(os, "memfd_create"):
        return _copy_into_mapping(blob, size)
    descriptor = os.memfd_create("r1prov", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        # Written, not mapped: where memory is short, a write says so and a mapping kills.
        covered = _each_part(blob, size, lambda part, _: _write(descriptor, part))
        _seal(descriptor)
        kept = min(covered, size)
        if kept == 0:
            return memoryview(b""), covered
        # Private and without PROT_WRITE: no page of it can differ from the sealed file.
        mapping = mmap.mmap(descriptor, kept, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        return memoryview(mapping), covered
    finally:
        os.close(descriptor)  # the mapping keeps the memory, until nobody holds a view of it


def _copy_into_mapping(blob: LocalBlob, size: int) -> tuple[memoryview, int]:
    """The same where there is no `memfd_create`: macOS."""
    if size == 0:
        return memoryview(b""), _each_part(blob, size, lambda _part, _at: None)
    data = memoryview(mmap.mmap(-1, size))

    def put(part: memoryview, at: int) -> None:
        data[at : at + len(part)] = part

    covered = _each_part(blob, size, put)
    return data.toreadonly()[: min(covered, size)], covered


def _each_part(blob: LocalBlob, size: int, take: Callable[[memoryview, int], None]) -> int:
    """Hand over the first `size` bytes in parts; return how many there are, at most one more."""
    view = memoryview(bytearray(min(HASH_BUFFER_BYTES, size + 1)))
    covered = 0
    while covered <= size:
        want = size + 1 - covered
        got = blob.readinto(view if want >= len(view) else view[:want])
        if got == 0:
            break
        take(view[: min(got, size - covered)], covered)
        covered += got
    return covered


def _write(descriptor: int, part: memoryview) -> None:
    while part:
        part = part[os.write(descriptor, part) :]


def _seal(descriptor: int) -> None:
    import fcntl

    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)


def available_memory() -> int | None:
    """Bytes that can be taken without swapping, of the machine and of the container's cgroup.

    None where the system does not say (`MemAvailable` of proc(5), `memory.max` of cgroup v2).
    """
    free = []
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free += [int(one.split()[1]) * 1024 for one in lines if one.startswith("MemAvailable:")]
        # A container sees its own cgroup at the root.
        with (
            open("/sys/fs/cgroup/memory.max", encoding="ascii") as most,
            open("/sys/fs/cgroup/memory.current", encoding="ascii") as now,
        ):
            free.append(int(most.read()) - int(now.read()))
    except (OSError, ValueError, IndexError):
        pass  # not Linux, no cgroup v2 here, or `max`: no limit
    return max(0, min(free)) if free else None
