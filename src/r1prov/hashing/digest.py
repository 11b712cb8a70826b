"""What a blob must offer to be hashed, and what hashing it tells."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from r1prov.errors import NameRuleError


class Fence(NamedTuple):
    """What a file system says about an open file; any difference means that the file changed.

    `ctime_ns` is there because a writer can set the modification time back with `utimensat`, but
    not the change time. A write through `mmap` may update both late: no fence shows that.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def changes(self, after: Fence) -> str:
        """Name what differs in `after`, such as `size, change time`; empty if nothing does."""
        names = ("device", "inode", "size", "modification time", "change time")
        return ", ".join(name for name, a, b in zip(names, self, after, strict=True) if a != b)


class Readable(Protocol):
    """One open blob. Its methods raise `OSError` or `StoreError` when it cannot be read."""

    @property
    def size(self) -> int:
        """Bytes of the blob, as known when it was opened."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer` with the next bytes; 0 at the end of the blob."""

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Up to `length` bytes from `offset`; short only at the end of the blob."""

    def fence(self) -> Fence:
        """The state of the blob now."""

    def close(self) -> None:
        """Release what the blob holds. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class BlobDigest:
    """The digests of one blob.

    Attributes:
        path: The blob's path in its store.
        size: Bytes that were read, which is all of them.
        sha256: SHA-256 in hex.
        git_blob: Git blob id (SHA-1) in hex, if it was asked for.
        fence: State of the blob before and after it was read; the same, or there is no digest.
        extents: SHA-256 in hex of each extent that was asked for, by name.
        pieces: Digests of its pieces, or of the whole by another hash, if they were asked for.
    """

    path: str
    size: int
    sha256: str
    git_blob: str | None
    fence: Fence
    extents: dict[str, str] = field(default_factory=dict)
    pieces: tuple[bytes, ...] = ()


def git_blob_header(size: int) -> bytes:
    """What Git hashes ahead of a blob's content (gitformat-pack, "blob SP size NUL")."""
    return b"blob %d\0" % size


def git_blob_id(data: bytes) -> str:
    """The id that Git gives a blob with this content."""
    # SHA-1 binds nothing by itself here: it is how Git, and so the Hub, names an object.
    return hashlib.sha1(git_blob_header(len(data)) + data, usedforsecurity=False).hexdigest()


def tree_digest(entries: Iterable[tuple[str, int, str]]) -> str:
    """One SHA-256 that binds path, size and SHA-256 of every file.

    Args:
        entries: `(path, size, sha256)` of each file, in any order.

    Raises:
        NameRuleError: A path holds a line break, so two different trees could read the same, or
            characters that have no bytes.
    """
    lines = []
    for path, size, sha256 in entries:
        if "\n" in path:
            raise NameRuleError("a path with a line break cannot be part of a tree", subject=path)
        try:
            # Names whose bytes are not UTF-8 come from the file system surrogate-escaped.
            raw = path.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise NameRuleError("the path is not Unicode text", subject=path) from None
        lines.append((raw, b"%s %d %s\n" % (sha256.encode("ascii"), size, raw)))
    total = hashlib.sha256(b"r1prov/tree/1\n")
    for _, line in sorted(lines):
        total.update(line)
    return total.hexdigest()
