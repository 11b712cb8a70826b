"""Sequential reading of a GGUF header in chunks, with every length checked against the file."""

from __future__ import annotations

import codecs
import hashlib
import struct
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn

from r1prov.errors import GgufError
from r1prov.limits import (
    MAX_GGUF_ARRAY_STRINGS,
    MAX_GGUF_ELEMENT_BYTES,
    MAX_GGUF_HEADER_BYTES,
)
from r1prov.text import plural

ReadAt = Callable[[int, int], bytes]

# Six reads for the 5 MB header of R1, which matters over a network.
CHUNK_BYTES: Final = 1024 * 1024
_U64: Final = struct.Struct("<Q")
_U32: Final = struct.Struct("<I")


class LongText(NamedTuple):
    """A string that is too long to keep.

    Attributes:
        size: Bytes of its UTF-8.
        sha256: Their SHA-256 in hex.
    """

    size: int
    sha256: str


class Cursor:
    """A position in the file that only moves forward, and a window of bytes behind it.

    What is skipped is not read, and no byte is read twice.
    """

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at = read_at
        self.size = size
        self._limit = min(size, MAX_GGUF_HEADER_BYTES)
        self._window = b""
        self._begin = 0  # offset of the window in the file
        self._at = 0  # position in the window
        self._array_strings = 0

    @property
    def position(self) -> int:
        """Offset in the file of the next byte."""
        return self._begin + self._at

    @property
    def remaining(self) -> int:
        """Bytes of the file from the position on."""
        return self.size - self.position

    def _need(self, length: int) -> None:
        """Have `length` bytes in the window; never more than a chunk and what a string may be."""
        have = len(self._window) - self._at
        if have >= length:
            return
        if self.position + length > self._limit:
            self._refuse_end(length)
        parts = [self._window[self._at :]]
        self._begin += self._at
        self._at = 0
        offset = self._begin + have
        while have < length:
            wanted = min(max(CHUNK_BYTES, length - have), self._limit - offset)
            data = self._read_at(offset, wanted)[:wanted]
            if not data:
                raise GgufError(
                    "header-truncated",
                    "the file ends before its own size",
                    expected=plural(self.size, "byte"),
                    found=plural(offset, "byte"),
                )
            parts.append(data)
            have += len(data)
            offset += len(data)
        self._window = b"".join(parts)

    def _refuse_end(self, length: int) -> NoReturn:
        if self.position + length > self.size:
            raise GgufError(
                "header-truncated",
                "the file ends inside its header",
                expected=f"at least {plural(self.position + length, 'byte')}",
                found=plural(self.size, "byte"),
            )
        raise GgufError(
            "header-too-large",
            "the header is longer than that of any model",
            expected=f"at most {plural(MAX_GGUF_HEADER_BYTES, 'byte')}",
        )

    def take(self, length: int) -> bytes:
        """The next `length` bytes; the caller has checked that it is small."""
        self._need(length)
        at = self._at
        self._at = at + length
        return self._window[at : self._at]

    def scalar(self, layout: struct.Struct) -> int | float:
        """The next number."""
        self._need(layout.size)
        value: int | float = layout.unpack_from(self._window, self._at)[0]
        self._at += layout.size
        return value

    def u32(self) -> int:
        """The next unsigned 32-bit integer."""
        return int(self.scalar(_U32))

    def u64(self) -> int:
        """The next unsigned 64-bit integer."""
        return int(self.scalar(_U64))

    def skip(self, length: int) -> None:
        """Move on without reading."""
        if self.position + length > self._limit:
            self._refuse_end(length)
        inside = len(self._window) - self._at
        if length <= inside:
            self._at += length
        else:
            self._begin += self._at + length
            self._at = 0
            self._window = b""

    def length(self, what: str, cap: int) -> int:
        """The length of a string, checked before a byte of it is read."""
        length = self.u64()
        if length > self.remaining or length > cap:
            raise GgufError(
                "gguf-string",
                f"{what} is longer than it can be",
                expected=f"at most {plural(min(self.remaining, cap), 'byte')}",
                found=plural(length, "byte"),
            )
        return length

    def short_text(self, what: str, length: int) -> str:
        """A string of `length` bytes, kept whole."""
        raw = self.take(length)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise _not_utf8(what, raw[error.start]) from None

    def long_text(self, what: str, length: int) -> LongText:
        """A string of any size, read piece by piece and only digested."""
        digest = hashlib.sha256()
        decoder = codecs.getincrementaldecoder("utf-8")()
        left = length
        while left:
            piece = self.take(min(left, CHUNK_BYTES))
            left -= len(piece)
            digest.update(piece)
            try:
                decoder.decode(piece, final=not left)
            except UnicodeDecodeError as error:
                raise _not_utf8(what, error.object[error.start]) from None
        return LongText(length, digest.hexdigest())

    def skip_strings(self, what: str, count: int, visit: Callable[[bytes], None] | None) -> None:
        """Move over an array of strings, checking each; none becomes an object that stays.

        Args:
            what: The array, for messages.
            count: Strings in it; the caller has checked it against what remains.
            visit: Called with each string that starts like a byte token of llama.cpp, `<0x`.
        """
        self._array_strings += count
        if self._array_strings > MAX_GGUF_ARRAY_STRINGS:
            raise GgufError(
                "gguf-array",
                f"{what} brings more strings than any vocabulary",
                expected=f"at most {MAX_GGUF_ARRAY_STRINGS:,} in the file",
                found=f"{self._array_strings:,}",
            )
        unpack = _U64.unpack_from
        while count:
            self._need(8)
            window, at, end = self._window, self._at, len(self._window)
            # The fast path: strings that lie in the window as a whole.
            try:
                while count and at + 8 <= end:
                    stop = at + 8 + unpack(window, at)[0]
                    if stop > end:
                        break
                    piece = window[at + 8 : stop]
                    if not piece.isascii():
                        piece.decode()
                    if visit is not None and piece.startswith(b"<0x"):
                        visit(piece)
                    at = stop
                    count -= 1
            except UnicodeDecodeError as error:
                raise _not_utf8(f"a string of {what}", error.object[error.start]) from None
            self._at = at
            if count and end - at >= 8:
                length = unpack(window, at)[0]
                if length > self.remaining - 8 or length > MAX_GGUF_ELEMENT_BYTES:
                    raise GgufError(
                        "gguf-string",
                        f"a string of {what} is longer than it can be",
                        expected="at most "
                        + plural(min(self.remaining - 8, MAX_GGUF_ELEMENT_BYTES), "byte"),
                        found=plural(length, "byte"),
                    )
                self._need(8 + length)


def _not_utf8(what: str, byte: int) -> GgufError:
    return GgufError(
        "gguf-string", f"{what} is not UTF-8", expected="UTF-8", found=f"byte 0x{byte:02x}"
    )
