"""Events of a stream (`text/event-stream`), with the byte at which each one was complete.

WHATWG HTML, section 9.2.6: lines end with CR LF, LF or CR; a line that begins with a colon is a
comment; a blank line dispatches the event. DeepSeek's API sends comments while a request waits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")
# Blank lines behind a blank line dispatch nothing, however many they are.
_BLANK = re.compile(rb"[\r\n]+")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        data: Its data lines, joined by LF.
        name: Its type; empty for `message`.
        end: Offset of the byte after the blank line that dispatched it.
    """

    data: bytes
    name: bytes
    end: int


@dataclass(slots=True)
class SseReader:
    """Splits a stream into events and counts its comments.

    Attributes:
        comments: Comment lines seen so far.
        leftover: Whether bytes of an event stood at the end that nothing dispatched.
    """

    comments: int = 0
    leftover: bool = False

    def events(self, raw: bytes) -> Iterator[Event]:
        """Every event that a blank line dispatched."""
        data: list[bytes] = []
        name = b""
        start = len(_BOM) if raw.startswith(_BOM) else 0
        while (match := _LINE_END.search(raw, start)) is not None:
            line = raw[start : match.start()]
            start = match.end()
            if not line:
                if data:
                    yield Event(b"\n".join(data), name, start)
                data, name = [], b""
                if (blank := _BLANK.match(raw, start)) is not None:
                    start = blank.end()
                continue
            if line.startswith(b":"):
                self.comments += 1
                continue
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
        self.leftover = bool(data) or start < len(raw)


def looks_like_sse(raw: bytes) -> bool:
    """Whether bytes without a content type begin as an event stream does."""
    start = raw[:64].removeprefix(_BOM).lstrip(b"\r\n")
    return start.startswith((b"data:", b"event:", b":", b"id:", b"retry:"))
