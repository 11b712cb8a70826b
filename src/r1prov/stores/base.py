"""What every store offers, whatever it stands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from r1prov.errors import ChangedWhileReading, LimitExceeded, StoreError, Unreadable
from r1prov.hashing.digest import Fence, Readable


class EntryKind(Enum):
    """What stands at a path of a store. Only a `FILE` can be opened."""

    FILE = "file"
    LINK = "link"
    SPECIAL = "special"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a store's listing.

    Attributes:
        path: Relative path with `/`; bytes that are not UTF-8 are surrogate-escaped.
        kind: What it is.
        size: Bytes of a file, 0 for everything else.
        detail: The target of a link, the sort of a special file (`fifo`), why something could not
            be read, or the blob of a Hugging Face cache that a file's name stands for.
        other_device: Whether it lies on another device than the store (a mount inside the model).
        fence: State of a file when it was listed, so that a later look can tell whether what was
            read in between is what is there now.
        stated_sha256: The SHA-256 that the store says the file has; nothing was hashed.
        stated_git_blob: The Git blob id of the content, as the store says it; nothing was hashed.
            None for a file under Git LFS, whose Git blob is a pointer.
    """

    path: str
    kind: EntryKind
    size: int = 0
    detail: str = ""
    other_device: bool = False
    fence: Fence | None = field(default=None, compare=False)
    stated_sha256: str | None = None
    stated_git_blob: str | None = None


class Store(Protocol):
    """Where a model's files live."""

    @property
    def name(self) -> str:
        """Short name: the last component of its location."""

    @property
    def location(self) -> str:
        """Where it is, in full."""

    def entries(self) -> list[Entry]:
        """Everything in the store but plain directories, sorted by path.

        Raises:
            LimitExceeded: More entries, or deeper directories, than a model has.
            StoreError: The store itself cannot be listed.
        """

    def open(self, path: str) -> Readable:
        """Open the blob at `path`.

        Raises:
            StoreError: There is none, or it is not a file that may be read.
        """


def read_small(store: Store, path: str, cap: int) -> bytes:
    """Read a whole blob of at most `cap` bytes.

    Raises:
        LimitExceeded: The blob is larger than `cap`.
        ChangedWhileReading: The blob grew or shrank.
        StoreError: The blob cannot be opened or read.
    """
    try:
        with store.open(path) as blob:
            if blob.size > cap:
                raise LimitExceeded(
                    f"is {blob.size:,} bytes, more than the {cap:,} that are read", subject=path
                )
            data = blob.read_at(0, blob.size + 1)
            if len(data) != blob.size:
                raise ChangedWhileReading("its size changed while it was read", subject=path)
            return data
    except StoreError:
        raise
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or error}", subject=path) from error
