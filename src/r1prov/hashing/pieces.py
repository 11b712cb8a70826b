"""Other hashes than SHA-256, and a hash for each piece of a blob, in the pass that reads it.

Signatures of other tools may state BLAKE2b or BLAKE3 digests, or one digest for every so many
bytes. They are computed beside the SHA-256 of the whole blob, which identifies a file everywhere
in r1prov.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from r1prov.errors import UsageError

# Bytes of a digest. BLAKE2b without a key, at its full length (RFC 7693); BLAKE3 at its default.
DIGEST_BYTES: Final[dict[str, int]] = {"sha256": 32, "blake2b": 64, "blake3": 32}


def _make(algorithm: str) -> Callable[[], Any]:
    """What makes a hash object.

    Raises:
        UsageError: The package that computes the hash is not installed.
    """
    if algorithm == "sha256":
        return hashlib.sha256
    if algorithm == "blake2b":
        return hashlib.blake2b
    try:
        import blake3
    except ImportError:
        raise UsageError(
            "BLAKE3 digests cannot be computed here: the package `blake3` is not installed",
            hint="install r1prov[blake3]",
        ) from None
    return blake3.blake3


@dataclass(frozen=True, slots=True)
class PieceHashing:
    """How to hash a blob.

    Attributes:
        algorithm: One of `DIGEST_BYTES`.
        size: Bytes of a piece, the last may be shorter; None for the whole blob as one.

    Raises:
        UsageError: The package that computes the hash is not installed.
    """

    algorithm: str
    size: int | None = None

    def __post_init__(self) -> None:
        # Not first in a hashing thread, half-way through a model.
        _make(self.algorithm)


class PieceHasher:
    """Takes the bytes of one blob in order and has the digests at the end.

    Args:
        how: Algorithm and size of a piece.
    """

    __slots__ = ("_current", "_digests", "_make", "_room", "_size")

    def __init__(self, how: PieceHashing) -> None:
        self._make = _make(how.algorithm)
        self._size = how.size
        self._digests: list[bytes] = []
        self._current = self._make()
        self._room = how.size or 0

    def update(self, chunk: memoryview) -> None:
        """Take the next bytes."""
        if self._size is None:
            self._current.update(chunk)
            return
        while chunk:
            part = chunk[: self._room]
            self._current.update(part)
            self._room -= len(part)
            chunk = chunk[len(part) :]
            if self._room == 0:
                self._digests.append(self._current.digest())
                self._current = self._make()
                self._room = self._size

    def digests(self) -> tuple[bytes, ...]:
        """One digest a piece. A blob without a byte has no piece, but a digest as a whole."""
        unfinished = self._size is None or self._room < self._size
        return (*self._digests, self._current.digest()) if unfinished else tuple(self._digests)
