"""An exchange while it happens: bodies are hashed as they pass, and the end is held back.

Nothing here does I/O: a transport feeds what it sends and receives.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
from r1prov.responses.exchange import (
    BodyDigests,
    Exchange,
    Headers,
    Request,
    Response,
    field_values,
)

# Content that a client reads while it arrives: events, and JSON lines as Ollama's own API has them.
_LIVE: Final = frozenset(
    {
        "text/event-stream",
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/stream+json",
    }
)
# The event that ends a stream of chat completions, at the beginning of a line.
_DONE: Final = re.compile(rb"(?:^|(?<=[\r\n]))data: ?\[DONE\]")
_DONE_LINES: Final = (b"data: [DONE]", b"data:[DONE]")


class BodyCapture:
    """A body that passes by: hashed whole, and kept as long as it stays below a cap.

    Args:
        keep: Bytes that are kept at most. Of a longer body nothing but digests is.
    """

    __slots__ = ("_kept", "_length", "_most", "_sha256", "_sha512")

    def __init__(self, keep: int = MAX_EXCHANGE_BODY_BYTES) -> None:
        self._most = keep
        self._kept: bytearray | None = bytearray()
        self._length = 0
        self._sha256 = hashlib.sha256()
        self._sha512 = hashlib.sha512()

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._length += len(data)
        self._sha256.update(data)
        self._sha512.update(data)
        if self._kept is not None:
            if self._length > self._most:
                self._kept = None
            else:
                self._kept += data

    @property
    def body(self) -> bytes | None:
        """All bytes so far, or None if they were too many."""
        return None if self._kept is None else bytes(self._kept)

    @property
    def digests(self) -> BodyDigests | None:
        """Digests of a body that is not kept."""
        if self._kept is not None:
            return None
        return BodyDigests(
            length=self._length, sha256=self._sha256.digest(), sha512=self._sha512.digest()
        )


class EndHolder:
    """Lets a stream of events pass, and holds back the event that ends it.

    Clients stop reading at `data: [DONE]`, before the last bytes have come, and take the answer for
    whole. So this event is handed on only once the stream was verified.
    """

    __slots__ = ("_held", "_line_start", "ended")

    def __init__(self) -> None:
        self._held = b""
        self._line_start = True
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """What may be handed on now that `data` came."""
        data = self._held + data
        if self.ended:
            self._held = data
            return b""
        for found in _DONE.finditer(data):
            if found.start() or self._line_start:
                self.ended = True
                return self._pass(data, found.start())
        # The last line may be the beginning of that event.
        start = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        line = data[start:]
        begins = line and any(one.startswith(line) for one in _DONE_LINES)
        if begins and (start or self._line_start):
            return self._pass(data, start)
        return self._pass(data, len(data))

    def _pass(self, data: bytes, end: int) -> bytes:
        passed, self._held = data[:end], data[end:]
        if passed:
            self._line_start = passed[-1:] in (b"\n", b"\r")
        return passed

    @property
    def held(self) -> bytes:
        """What was held back."""
        return self._held


@dataclass(frozen=True, slots=True, kw_only=True)
class SentRequest:
    """A request as it went out."""

    method: str
    url: str
    headers: Headers
    body: bytes
    started_at: datetime


class ExchangeCapture:
    """One exchange from the response's header on.

    Args:
        sent: The request.
        status: Status code.
        headers: Header fields as they came.
        keep: Bytes of each body that are kept at most.
    """

    def __init__(
        self,
        sent: SentRequest,
        status: int,
        headers: Headers,
        *,
        keep: int = MAX_EXCHANGE_BODY_BYTES,
    ) -> None:
        self.sent = sent
        self.status = status
        self.headers = headers
        self._body = BodyCapture(keep)
        self._keep = keep

    @property
    def live(self) -> bool:
        """Whether a client reads this answer while it arrives.

        Coded content is not: what it says is not seen before it is decoded, so neither is its end.
        """
        kind = next(iter(field_values(self.headers, "content-type")), "")
        coded = any(one != "identity" for one in field_values(self.headers, "content-encoding"))
        return kind.partition(";")[0].strip(" \t").lower() in _LIVE and not coded

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the response's content."""
        self._body.feed(data)

    @property
    def body(self) -> bytes | None:
        """The content so far, or None if it was too long to keep."""
        return self._body.body

    def exchange(self, *, complete: bool) -> Exchange:
        """The exchange as it ended."""
        sent = BodyCapture(self._keep)
        sent.feed(self.sent.body)
        return Exchange(
            request=Request(
                method=self.sent.method,
                url=self.sent.url,
                headers=self.sent.headers,
                body=sent.body,
                body_digests=sent.digests,
            ),
            response=Response(
                status=self.status,
                headers=self.headers,
                body=self._body.body,
                body_digests=self._body.digests,
                complete=complete,
            ),
            started_at=self.sent.started_at,
            finished_at=datetime.now(UTC),
        )


def latin1_headers(raw: list[tuple[bytes, bytes]]) -> Headers:
    """Header fields of httpx, one character a byte."""
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
