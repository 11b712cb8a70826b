"""Read the objects of a Git pack, within bounds.

Format: `gitformat-pack(5)`. What a server sends is hostile until hashed: every inflation stops at
what the object declares and at a cap, a delta never makes more than it declares, and an object
counts under the id that its bytes have.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

from r1prov.errors import CommitUnavailable
from r1prov.limits import (
    MAX_GIT_DELTA_CHAIN,
    MAX_GIT_INFLATED_BYTES,
    MAX_GIT_OBJECTS,
    MAX_GIT_TREE_BYTES,
)

_COMMIT, _TREE, _BLOB, _TAG, _OFS_DELTA, _REF_DELTA = 1, 2, 3, 4, 6, 7
_NAMES: Final = {_COMMIT: "commit", _TREE: "tree", _BLOB: "blob", _TAG: "tag"}
_KEPT: Final = frozenset({_COMMIT, _TREE})
_STEP: Final = 64 * 1024


def git_object_id(kind: str, body: bytes) -> str:
    """The id of a Git object: SHA-1 of its kind, its length and its bytes."""
    head = f"{kind} {len(body)}\0".encode()
    return hashlib.sha1(head + body, usedforsecurity=False).hexdigest()


def read_pack(raw: bytes) -> dict[str, tuple[str, bytes]]:
    """Commits and trees of a pack by id: kind and body. Blobs are passed over.

    Raises:
        CommitUnavailable: The pack is malformed, or larger than a cap.
    """
    return _Pack(raw).read()


class _Pack:
    """One reading of a pack."""

    def __init__(self, raw: bytes) -> None:
        self._raw = memoryview(raw)
        self._end = len(raw) - 20
        self._inflated = 0
        # Kind and body by offset, of what is kept; deltas wait for their base.
        self._at: dict[int, tuple[int, bytes]] = {}
        self._deltas: dict[int, tuple[int | str, bytes]] = {}
        self._ids: dict[str, int] = {}

    def read(self) -> dict[str, tuple[str, bytes]]:
        raw = self._raw
        version = int.from_bytes(raw[4:8], "big")
        if len(raw) < 32 or bytes(raw[:4]) != b"PACK" or version not in (2, 3):
            raise _malformed("it does not begin as a pack does")
        if hashlib.sha1(raw[: self._end], usedforsecurity=False).digest() != raw[self._end :]:
            raise _malformed("its checksum is wrong")
        count = int.from_bytes(raw[8:12], "big")
        if count > MAX_GIT_OBJECTS:
            raise _too_large(f"{count:,} objects")
        position = 12
        for _ in range(count):
            position = self._object(position)
        if position != self._end:
            raise _malformed("bytes follow its last object")
        self._resolve()
        return {
            git_id: (_NAMES[self._at[offset][0]], self._at[offset][1])
            for git_id, offset in self._ids.items()
        }

    def _byte(self, position: int) -> int:
        if position >= self._end:
            raise _malformed("it ends inside an object")
        return self._raw[position]

    def _object(self, begin: int) -> int:
        """Read the object at an offset; returns the offset of what follows."""
        byte, position = self._byte(begin), begin + 1
        kind, size, shift = byte >> 4 & 7, byte & 15, 4
        while byte & 0x80:
            byte = self._byte(position)
            position += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if shift > 60:
                raise _malformed("an object has a size beyond all measure")
        base: int | str = 0
        if kind == _OFS_DELTA:
            distance, position = self._distance(position)
            base = begin - distance
        elif kind == _REF_DELTA:
            self._byte(position + 19)
            base = self._raw[position : position + 20].hex()
            position += 20
        elif kind not in _NAMES:
            raise _malformed(f"an object is of kind {kind}")
        keep = kind not in (_BLOB, _TAG)
        if keep and size > MAX_GIT_TREE_BYTES:
            # A delta of a large blob may be as large: it is passed over, as the blob is.
            if kind in _KEPT:
                raise _too_large(f"an object of {size:,} bytes")
            keep = False
        body, position = self._inflate(position, size, keep=keep)
        if kind in _KEPT:
            self._add(begin, kind, body)
        elif keep:
            self._deltas[begin] = (base, body)
        return position

    def _distance(self, position: int) -> tuple[int, int]:
        byte = self._byte(position)
        position += 1
        value = byte & 0x7F
        while byte & 0x80:
            byte = self._byte(position)
            position += 1
            value = (value + 1) << 7 | byte & 0x7F
            if value > len(self._raw):
                raise _malformed("a delta has its base outside")
        return value, position

    def _inflate(self, position: int, size: int, *, keep: bool) -> tuple[bytes, int]:
        engine = zlib.decompressobj()
        body = bytearray()
        got = 0
        while not engine.eof:
            part = self._raw[position : min(position + _STEP, self._end)]
            try:
                data = engine.decompress(part, _STEP)
            except zlib.error:
                raise _malformed("an object does not inflate") from None
            # At the end both may hold what is left.
            rest = len(engine.unused_data) or len(engine.unconsumed_tail)
            position += len(part) - rest
            if not part and not data:
                break
            got += len(data)
            self._inflated += len(data)
            if got > size:
                raise _malformed("an object is longer than it says")
            if self._inflated > MAX_GIT_INFLATED_BYTES:
                raise _too_large(f"more than {MAX_GIT_INFLATED_BYTES:,} bytes inflated")
            if keep:
                body += data
        if got != size or not engine.eof:
            raise _malformed("an object is shorter than it says")
        return bytes(body), position

    def _add(self, offset: int, kind: int, body: bytes) -> None:
        self._at[offset] = (kind, body)
        self._ids[git_object_id(_NAMES[kind], body)] = offset

    def _resolve(self) -> None:
        """Apply deltas round by round; what stands on a blob never resolves and is dropped."""
        for _ in range(MAX_GIT_DELTA_CHAIN):
            ready = []
            for offset, (base, _) in self._deltas.items():
                at = self._ids.get(base) if isinstance(base, str) else base
                if at is not None and at in self._at:
                    ready.append((offset, at))
            if not ready:
                return
            for offset, at in ready:
                kind, source = self._at[at]
                target = apply_delta(source, self._deltas.pop(offset)[1])
                self._inflated += len(target)
                if self._inflated > MAX_GIT_INFLATED_BYTES:
                    raise _too_large(f"more than {MAX_GIT_INFLATED_BYTES:,} bytes inflated")
                self._add(offset, kind, target)


def apply_delta(source: bytes, delta: bytes) -> bytes:
    """Make the object that a delta describes.

    Raises:
        CommitUnavailable: The delta is malformed, or makes more than a tree may have.
    """
    source_size, position = _delta_size(delta, 0)
    size, position = _delta_size(delta, position)
    if source_size != len(source):
        raise _malformed("a delta is for another base")
    if size > MAX_GIT_TREE_BYTES:
        raise _too_large(f"an object of {size:,} bytes")
    target = bytearray()
    while position < len(delta):
        command = delta[position]
        position += 1
        if command & 0x80:
            offset, length = 0, 0
            for bit in range(7):
                if command & 1 << bit:
                    if position >= len(delta):
                        raise _malformed("a delta ends inside a copy")
                    if bit < 4:
                        offset |= delta[position] << 8 * bit
                    else:
                        length |= delta[position] << 8 * (bit - 4)
                    position += 1
            length = length or 0x10000
            if offset + length > len(source):
                raise _malformed("a delta copies from outside its base")
            part = source[offset : offset + length]
        elif command:
            part = delta[position : position + command]
            if len(part) != command:
                raise _malformed("a delta ends inside an insertion")
            position += command
        else:
            raise _malformed("a delta has the reserved command 0")
        if len(target) + len(part) > size:
            raise _malformed("a delta makes more than it says")
        target += part
    if len(target) != size:
        raise _malformed("a delta makes less than it says")
    return bytes(target)


def _delta_size(delta: bytes, position: int) -> tuple[int, int]:
    size = shift = 0
    while True:
        if position >= len(delta) or shift > 60:
            raise _malformed("a delta has no sizes")
        byte = delta[position]
        position += 1
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size, position


def _malformed(why: str) -> CommitUnavailable:
    return CommitUnavailable(f"the Git pack that the server sent is malformed: {why}")


def _too_large(what: str) -> CommitUnavailable:
    return CommitUnavailable(f"the Git pack that the server sent is too large: {what}")
