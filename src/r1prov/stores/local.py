"""A model in a local directory, in one local file, or in a Hugging Face cache.

The root may be named through links: it is resolved once. Below it every step goes from a directory
descriptor to a name in it, and never through a link, so that nothing that is swapped between the
listing and the reading leads out of the model.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from r1prov.errors import LimitExceeded, NotFound, StoreError, Unreadable
from r1prov.hashing.digest import Fence
from r1prov.limits import MAX_STORE_DEPTH, MAX_STORE_ENTRIES
from r1prov.stores.base import Entry, EntryKind

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO that took a file's place must not wait for a writer.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# `huggingface_hub` names a blob by its Git SHA-1 or, for large files, its SHA-256, and writes
# links of exactly this form into a snapshot (`_create_symlink`).
_CACHE_LINK = re.compile(r"(?P<up>(?:\.\./)+)blobs/(?P<blob>[0-9a-f]{40}|[0-9a-f]{64})")
_CACHE_ROOT = re.compile(r".*/models--[^/]+/snapshots/[^/]+", re.DOTALL)

_SPECIAL = {
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class LocalBlob:
    """An open regular file."""

    def __init__(self, descriptor: int, path: str, status: os.stat_result) -> None:
        self._descriptor = descriptor
        self._path = path
        self._sequential = False
        self.size = status.st_size

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer` with the next bytes; 0 at the end of the file."""
        try:
            if not self._sequential:
                self._sequential = True
                _advise_sequential(self._descriptor)
            return os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise _as_store_error(error, self._path) from error

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Up to `length` bytes from `offset`; short only at the end of the file."""
        parts = []
        try:
            while length > 0:
                # The size bounds what is allocated, whatever length a header asks for; the byte
                # beyond it shows a file that grew.
                part = os.pread(self._descriptor, min(length, self.size + 1), offset)
                if not part:
                    break
                parts.append(part)
                offset += len(part)
                length -= len(part)
        except (OSError, OverflowError) as error:
            raise _as_store_error(error, self._path) from error
        return b"".join(parts)

    def fence(self) -> Fence:
        """The state of the file now."""
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise _as_store_error(error, self._path) from error
        return _fence(status)

    def close(self) -> None:
        """Close the file. May be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

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


class LocalStore:
    """A local directory, or a single local file as a store with one entry.

    Args:
        path: The directory or file; links in it are followed once, here.

    Raises:
        NotFound: There is nothing at `path`.
        Unreadable: It cannot be opened, or is neither a directory nor a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = os.fspath(path)
        if not given:  # what a variable that is not set makes of "$MODEL"
            raise NotFound("an empty path names no model")
        try:
            # The name the user gave, not the one it links to: `model.gguf`, not a blob's digest.
            self.name = os.path.basename(os.path.abspath(given)) or "/"
            self.location = os.path.realpath(given, strict=True)
            root = os.stat(self.location, follow_symlinks=False)
            self._device = root.st_dev
            self._single = not stat.S_ISDIR(root.st_mode)
            if self._single:
                os.close(_open_regular(self.location, None, given)[0])
                return
            self._root = os.open(self.location, _OPEN_DIRECTORY)
        except (OSError, ValueError) as error:
            raise _as_store_error(error, given) from error
        # Held for life: a directory that is put in the root's place is never looked at.
        # Not at exit: a hashing thread may still stand on it.
        weakref.finalize(self, os.close, self._root).atexit = False
        self._cached = _CACHE_ROOT.fullmatch(self.location) is not None

    def entries(self) -> list[Entry]:
        """Everything below the root but plain directories, sorted by path.

        Raises:
            LimitExceeded: More entries than `MAX_STORE_ENTRIES` or deeper than `MAX_STORE_DEPTH`.
            Unreadable: The root cannot be listed.
        """
        if self._single:
            with self.open(self.name) as blob:
                return [Entry(self.name, EntryKind.FILE, blob.size, fence=blob.fence())]
        try:
            # A fresh description of the root, so that two listings do not share a position.
            descriptor = os.open(".", _OPEN_DIRECTORY, dir_fd=self._root)
        except OSError as error:
            raise _as_store_error(error, self.location) from error
        walk = _Walk(self)
        try:
            walk.directory(descriptor, "", 0)
        except OSError as error:
            raise _as_store_error(error, self.location) from error
        finally:
            os.close(descriptor)
        return sorted(walk.entries, key=lambda entry: os.fsencode(entry.path))

    def open(self, path: str) -> LocalBlob:
        """Open a regular file of the store.

        Raises:
            NotFound: There is nothing at `path`.
            StoreError: A link is on the way, or it is not a regular file, or it may not be read.
        """
        if self._single:
            if path != self.name:
                raise NotFound("no such file in the store", subject=path)
            return LocalBlob(*_open_regular(self.location, None, path))
        parts = path.split("/")
        if not {"", ".", ".."}.isdisjoint(parts):
            raise NotFound("not a relative path, so no file of the store", subject=path)
        directory = self._root
        try:
            for part in parts[:-1]:
                below = os.open(part, _OPEN_DIRECTORY, dir_fd=directory)
                if directory != self._root:
                    os.close(directory)
                directory = below
            return self._open_in(directory, parts[-1], path)
        except (OSError, ValueError) as error:
            raise _as_store_error(error, path) from error
        finally:
            if directory != self._root:
                os.close(directory)

    def _open_in(self, directory: int, name: str, path: str) -> LocalBlob:
        if self._cached and stat.S_ISLNK(_lstat(name, directory).st_mode):
            blob = self.cache_blob(os.readlink(name, dir_fd=directory), path)
            if blob is not None:
                with self._blobs() as blobs:
                    return LocalBlob(*_open_regular(blob, blobs, path))
        return LocalBlob(*_open_regular(name, directory, path))

    def cache_blob(self, target: str, path: str) -> str | None:
        """The blob of a Hugging Face cache that a link at `path` names, if it is such a link.

        Only the form that `huggingface_hub` writes counts: as many `../` as lead to the
        repository's folder, then `blobs/` and a digest. A target that merely resolves to the same
        place could pass through a link that is changed later.
        """
        match = _CACHE_LINK.fullmatch(target) if self._cached else None
        if match is None or len(match["up"]) != 3 * (path.count("/") + 2):
            return None
        return match["blob"]

    @contextmanager
    def _blobs(self) -> Iterator[int]:
        # `..` of a real directory is a real directory; O_NOFOLLOW covers `blobs` itself.
        descriptor = os.open("../../blobs", _OPEN_DIRECTORY, dir_fd=self._root)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def file_entry(self, directory: int, name: str, path: str, detail: str = "") -> Entry:
        """The entry of what should be a regular file, opened to be sure that it can be."""
        try:
            descriptor, _, status = _open_regular(name, directory, path)
        except (OSError, StoreError) as error:
            return Entry(path, EntryKind.UNREADABLE, detail=_reason(error))
        os.close(descriptor)
        other = status.st_dev != self._device
        return Entry(path, EntryKind.FILE, status.st_size, detail, other, _fence(status))

    def link_entry(self, directory: int, name: str, path: str) -> Entry:
        """The entry of a link: a file if it is one of a Hugging Face cache, else a link."""
        target = os.readlink(name, dir_fd=directory)
        blob = self.cache_blob(target, path)
        if blob is not None:
            try:
                with self._blobs() as blobs:
                    if stat.S_ISREG(_lstat(blob, blobs).st_mode):
                        return self.file_entry(blobs, blob, path, f"blobs/{blob}")
            except OSError:
                pass  # dangling, or `blobs` is no directory: a link like any other
        return Entry(path, EntryKind.LINK, detail=target)

    def on_other_device(self, status: os.stat_result) -> bool:
        """Whether something lies on another device than the root."""
        return status.st_dev != self._device


def _fence(status: os.stat_result) -> Fence:
    return Fence(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


class _Walk:
    """One listing of a `LocalStore`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._seen = 0
        self.entries: list[Entry] = []

    def directory(self, descriptor: int, prefix: str, depth: int) -> None:
        """List an open directory and everything below it."""
        with os.scandir(descriptor) as names:
            for found in names:
                self._seen += 1
                if self._seen > MAX_STORE_ENTRIES:
                    raise LimitExceeded(
                        f"holds more than {MAX_STORE_ENTRIES:,} entries",
                        subject=self._store.location,
                    )
                self._entry(descriptor, found.name, prefix + found.name, depth)

    def _entry(self, directory: int, name: str, path: str, depth: int) -> None:
        try:
            status = _lstat(name, directory)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFDIR:
                self._below(directory, name, path, depth + 1)
            elif kind == stat.S_IFREG:
                self.entries.append(self._store.file_entry(directory, name, path))
            elif kind == stat.S_IFLNK:
                self.entries.append(self._store.link_entry(directory, name, path))
            else:
                detail = _SPECIAL.get(kind, "special file")
                other = self._store.on_other_device(status)
                self.entries.append(Entry(path, EntryKind.SPECIAL, 0, detail, other))
        except OSError as error:
            # Never left out of the listing: what cannot be looked at cannot pass.
            self.entries.append(Entry(path, EntryKind.UNREADABLE, detail=_reason(error)))

    def _below(self, directory: int, name: str, path: str, depth: int) -> None:
        if depth > MAX_STORE_DEPTH:
            raise LimitExceeded(
                f"holds directories nested more than {MAX_STORE_DEPTH} deep", subject=path
            )
        descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            self.directory(descriptor, f"{path}/", depth)
        finally:
            os.close(descriptor)


def _lstat(name: str, directory: int) -> os.stat_result:
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def _open_regular(name: str, directory: int | None, path: str) -> tuple[int, str, os.stat_result]:
    """Open a file that must be regular; nothing is read before that is known."""
    descriptor = os.open(name, _OPEN_FILE, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        _require_regular(status, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, path, status


def _require_regular(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _SPECIAL.get(stat.S_IFMT(status.st_mode), "directory")
        raise Unreadable(f"is not a regular file but a {kind}", subject=path)


def _advise_sequential(descriptor: int) -> None:
    if hasattr(os, "posix_fadvise"):  # not on macOS
        # Advice only: a file system that knows none is as good.
        with suppress(OSError):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)


def _as_store_error(error: OSError | ValueError | OverflowError, subject: str) -> StoreError:
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        return NotFound("does not exist", subject=subject)
    return Unreadable(f"cannot be read: {_reason(error)}", subject=subject)


def _reason(error: Exception) -> str:
    if isinstance(error, StoreError):
        return error.message
    if isinstance(error, OSError):
        # What O_NOFOLLOW says of a link: ELOOP; with O_DIRECTORY Linux says ENOTDIR.
        if error.errno == errno.ELOOP:
            return "a link, which is not followed"
        return error.strerror or type(error).__name__
    return str(error)
