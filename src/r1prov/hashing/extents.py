"""Digests of byte ranges, taken in the same pass as the digest of the blob that holds them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple


class Extent(NamedTuple):
    """A named range of bytes of a blob: one tensor of a weight file.

    Attributes:
        name: What the digest is found by.
        begin: Offset of the first byte in the blob.
        end: Offset after the last byte; `begin` for an empty range.
    """

    name: str
    begin: int
    end: int


class ExtentHasher:
    """SHA-256 of each extent of a blob whose bytes come in order, in chunks of any size.

    Only one extent is open at a time, so the memory is that of the digests.

    Args:
        extents: What to hash, in any order; bytes between them are passed over.
        size: Size of the blob.

    Raises:
        ValueError: Two extents share bytes or a name, or one lies outside the blob. The readers of
            headers refuse such files, so this is a bug of the caller.
    """

    __slots__ = ("_digests", "_extents", "_next", "_open", "_position")

    def __init__(self, extents: Sequence[Extent], size: int) -> None:
        # An empty extent sorts before the one that begins where it stands.
        self._extents = sorted(extents, key=lambda extent: (extent.begin, extent.end))
        end = 0
        for extent in self._extents:
            if not end <= extent.begin <= extent.end <= size:
                raise ValueError(f"extent {extent} overlaps another or lies outside the blob")
            end = extent.end
        if len({extent.name for extent in extents}) != len(extents):
            raise ValueError("two extents of one blob have one name")
        self._digests: dict[str, str] = {}
        self._next = 0
        self._position = 0
        self._open = hashlib.sha256()

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes of the blob."""
        start = self._position
        end = self._position = start + len(chunk)
        while self._next < len(self._extents):
            extent = self._extents[self._next]
            if extent.begin >= end:
                return
            self._open.update(chunk[max(extent.begin - start, 0) : extent.end - start])
            if extent.end > end:
                return
            self._close(extent)

    def _close(self, extent: Extent) -> None:
        self._digests[extent.name] = self._open.hexdigest()
        self._open = hashlib.sha256()
        self._next += 1

    def digests(self) -> dict[str, str]:
        """SHA-256 in hex of each extent, by name, in the order of the blob.

        Raises:
            ValueError: The blob ended before its last extent.
        """
        for extent in self._extents[self._next :]:
            # Empty extents at the end: no chunk follows that could close them.
            if extent.begin < extent.end:
                raise ValueError(f"the blob ended before the end of extent {extent}")
            self._close(extent)
        return self._digests
