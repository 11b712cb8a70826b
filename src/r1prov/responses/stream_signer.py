"""Puts signed statements into an event stream while it passes, without holding it up.

Only two things are ever held back: bytes that may still turn out to be the event that ends the
stream, and that event until the last statement stands before it (docs/signed-responses.md).
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from r1prov.errors import StatementError
from r1prov.responses.stream_statement import END_EVENT, RequestFacts, StreamStatement

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER: Final = b": r1prov-signature"
LINE_START: Final = MARKER + b" "
LINE_END: Final = b"\n\n"

_BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
_ENDS: Final = tuple(
    b"data:" + space + b"[DONE]" + end for space in (b" ", b"") for end in _BLANK_LINES
)
# An end event, or what may become one with the bytes that come next.
_MAYBE_END: Final = re.compile(
    b"(?:"
    + b"|".join(_BLANK_LINES)
    + b")(?=(?:"
    + b"|".join(map(re.escape, _ENDS))
    + b"|(?:"
    + b"|".join({re.escape(end[:size]) for end in _ENDS for size in range(1, len(end))})
    + b")\\Z))"
)
_FORGED: Final = re.compile(b"[\r\n]" + re.escape(MARKER))
# What is remembered of the bytes sent: a marker or a blank line may begin within it.
_REMEMBERED: Final = len(MARKER) + 1


class StreamSigner:
    """One streamed answer on its way through.

    Args:
        sign: Makes the compact JWS of a statement.
        stream_id: The stream's name.
        status: Status of the answer.
        content_type: Its `Content-Type`.
        request: The request it answers.
        manifest_sha256: The manifest that the proxy stands for.
        weights_at: When its weights were verified; None if they were not.
        lifetime: Seconds from a statement's signing to its expiry.
        inline: Put statements into the content. Without it there is one, after the end, and only
            `receipt` has it.
    """

    def __init__(
        self,
        sign: Callable[[StreamStatement], str],
        *,
        stream_id: str,
        status: int,
        content_type: str | None,
        request: RequestFacts,
        manifest_sha256: str,
        weights_at: int | None,
        lifetime: int,
        inline: bool = True,
    ) -> None:
        self._sign = sign
        self._id = stream_id
        self._status = status
        self._content_type = content_type
        self._request = request
        self._manifest = manifest_sha256
        self._weights_at = weights_at
        self._lifetime = lifetime
        self._inline = inline
        self._hash = hashlib.sha256()
        self._sent = 0
        self._last = b""  # the last few bytes sent, to tell where events end
        self._held = b""  # the beginning of what may be the end event
        self._seq = 0
        self._signed_at = 0
        self._signed_to = 0
        self.receipt: str | None = None
        self.ended = False

    def start(self, now: int) -> bytes:
        """The first statement: who answers what, before any of the answer."""
        return self._statement("open", now) if self._inline else b""

    def feed(self, data: bytes, now: int, *, checkpoint: bool = False) -> bytes:
        """What to send for the next bytes of the answer.

        Args:
            data: The bytes.
            now: Seconds since 1970.
            checkpoint: Sign what has been sent so far, if that ends with an event and anything
                came since the last statement.

        Raises:
            StatementError: The answer brings a line that reads as a statement.
        """
        if not self._inline:
            return self._pass(data)
        if self.ended:
            return b""
        data, self._held = self._held + data, b""
        joint, before = self._last + data, len(self._last)
        if _FORGED.search(joint):
            raise StatementError("the answer brings a statement of its own")
        # A blank line from long before is followed by what was sent since.
        maybe = _MAYBE_END.search(joint, max(0, before - 4))
        if maybe is None or maybe.end() < before:
            sent = self._pass(data)
        else:
            at = maybe.end() - before
            sent, self._held = self._pass(data[:at]), data[at:]
            ends = END_EVENT.match(self._held)
            if ends is not None:
                self._held = b""
                self.ended = True
                return sent + self._statement("complete", now, ends.group()) + ends.group()
        if checkpoint and self._sent > self._signed_to and self._between_events:
            sent += self._statement("open", now)
        return sent

    def finish(self, now: int, *, complete: bool) -> bytes:
        """What to send after the last byte of the answer.

        Args:
            now: Seconds since 1970.
            complete: Whether the answer ended as it should. Where it broke off within an event,
                only the receipt says so: nothing may follow half an event.
        """
        if self.ended:
            return b""
        self.ended = True
        sent, self._held = self._pass(self._held), b""
        state = "complete" if complete else "cut"
        if not self._inline or not (complete or self._between_events):
            self._statement(state, now)
            return sent
        if self._last[-1:] not in (b"\r", b"\n"):
            sent += self._pass(b"\n")
        return sent + self._statement(state, now)

    @property
    def _between_events(self) -> bool:
        return self._last.endswith(_BLANK_LINES)

    def _pass(self, data: bytes) -> bytes:
        if data:
            self._hash.update(data)
            self._sent += len(data)
            self._last = (self._last + data[-_REMEMBERED:])[-_REMEMBERED:]
        return data

    def _statement(self, state: str, now: int, end: bytes = b"") -> bytes:
        self._signed_at = now = max(now, self._signed_at)  # a clock may be set back
        statement = StreamStatement(
            id=self._id,
            seq=self._seq,
            state=state,
            offset=self._sent,
            sha256=self._hash.hexdigest(),
            end=end.decode(),
            iat=now,
            exp=now + self._lifetime,
            status=self._status,
            content_type=self._content_type,
            request=self._request,
            manifest_sha256=self._manifest,
            weights="stated" if self._weights_at is None else "verified",
            weights_at=self._weights_at,
        )
        token = self._sign(statement)
        self._seq += 1
        if state != "open":
            self.receipt = token
        line = LINE_START + token.encode() + LINE_END
        if self._inline:
            self._pass(line)
            self._signed_to = self._sent
        return line
