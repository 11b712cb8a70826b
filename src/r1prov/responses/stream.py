"""Verify a streamed answer while it arrives (docs/signed-responses.md has the wire format).

A transport feeds the bytes of the content as they come and passes them on; after each piece it can
tell how much of what it passed on is proven. What a stream is in the end is one of five states;
"no signature" never becomes "invalid", nor the other way round.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from r1prov.errors import StatementError
from r1prov.limits import MAX_STREAM_STATEMENT_BYTES
from r1prov.responses.exchange import Headers, field_values
from r1prov.responses.expected import Expected
from r1prov.responses.stream_context import check_signature, check_subject, check_time
from r1prov.responses.stream_signer import LINE_START, MARKER
from r1prov.responses.stream_statement import (
    SignedStatement,
    StreamStatement,
    decode_statement,
)
from r1prov.text import quoted
from r1prov.verify.findings import Finding, finding

if TYPE_CHECKING:
    pass

RECEIPTS: Final = "/.well-known/r1prov/receipts/"
HEADER: Final = "R1prov-Stream"


class StreamState(StrEnum):
    """What a streamed answer is."""

    VERIFIED = "verified"
    INVALID = "invalid"
    INCOMPLETE = "incomplete-stream"
    UNSIGNED = "unsigned"
    RECEIPT_UNAVAILABLE = "receipt-unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """What became of a stream.

    Attributes:
        state: One of five.
        findings: Why.
        statement: The last statement that held; None if none did.
        proven: Bytes of the content, from the first on, that statements account for.
        received: Bytes of the content that arrived.
    """

    state: StreamState
    findings: tuple[Finding, ...]
    statement: StreamStatement | None
    proven: int
    received: int


def promised(headers: Headers) -> tuple[str, str] | None:
    """What the header promises: `inline` or `receipt`, and the stream's name; None if nothing."""
    values = field_values(headers, HEADER)
    if len(values) != 1:
        return None
    how, _, rest = values[0].partition(";")
    name = rest.strip(" ").removeprefix('id="').removesuffix('"')
    return (how, name) if how in ("inline", "receipt") else None


class StreamVerifier:
    """Verifies one streamed answer, piece by piece.

    Args:
        headers: Header fields of the answer.
        expected: What the client knows.
    """

    def __init__(self, headers: Headers, expected: Expected) -> None:
        self._expected = expected
        self._promise = promised(headers)
        self._promised = bool(field_values(headers, HEADER))
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._held = b""  # at the start of a line: a statement, or the beginning of one
        self._line_start = True
        self._statement: StreamStatement | None = None
        self._token: str | None = None
        self._key_id: str | None = None  # of the first statement that held
        self._next_seq = 0
        self._proven = 0
        self._after: bytes | None = None  # what followed the last statement
        self._finding: Finding | None = None

    @property
    def received(self) -> int:
        """Bytes of the content so far."""
        return self._hashed + len(self._held) + len(self._after or b"")

    @property
    def proven(self) -> int:
        """Bytes of the content, from the first on, that statements account for."""
        said = self._statement
        ended = said is not None and self._after == said.end.encode()
        return self._proven + (len(self._after or b"") if ended else 0)

    @property
    def failure(self) -> Finding | None:
        """What is wrong with what came so far; None while nothing is."""
        return self._finding

    @property
    def receipt_path(self) -> str | None:
        """Where the last statement can be had after the end; None where nothing was promised."""
        return RECEIPTS + self._promise[1] if self._promise and self._promise[1] else None

    def feed(self, data: bytes) -> Finding | None:
        """Take the next bytes of the content.

        Returns what is wrong, as soon as something is. The rest of the content cannot mend it.
        """
        if self._finding is not None:
            self._hash_on(data)
            return self._finding
        try:
            self._read(data)
        except StatementError as error:
            self._refuse("stream-statement-malformed", f"a line that {error.message}")
        return self._finding

    def finish(self, *, complete: bool, receipt: bytes | None = None) -> StreamResult:
        """Say what the stream is, now that no more of it comes.

        Args:
            complete: Whether the server ended the content.
            receipt: What the server gave for `receipt_path`; None if it was not asked or gave
                nothing.
        """
        if self._finding is None and self._after is None and receipt is not None:
            self._read_receipt(receipt)
        return self._result(complete=complete)

    def _read(self, data: bytes) -> None:
        data, self._held = self._held + data, b""
        while data:
            if self._after is not None and self._statement is not None:
                self._read_after(data, self._statement.end)
                return
            at = self._find_line(data)
            if at is None:
                self._hash_on(data)
                return
            self._hash_on(data[:at])
            line = data[at:]
            end = line.find(b"\n")
            if 0 <= end == len(line) - 1 or end < 0:  # the blank line is still to come
                if len(line) > len(LINE_START) + MAX_STREAM_STATEMENT_BYTES:
                    raise StatementError("is longer than any statement")
                self._held = line
                return
            if not line.startswith(LINE_START) or line[end + 1 : end + 2] != b"\n":
                raise StatementError("is not one JWS with a blank line after it")
            text = line[len(LINE_START) : end].decode("latin-1")
            self._take(text, decode_statement(text))
            if self._finding is not None:
                return
            self._hash_on(line[: end + 2])
            self._proven = self._hashed
            data = line[end + 2 :]

    def _find_line(self, data: bytes) -> int | None:
        """Where a line begins that is a statement or may become one."""
        if self._line_start and (data.startswith(MARKER) or MARKER.startswith(data)):
            return 0
        at = 0
        while (at := data.find(MARKER, at)) >= 0:
            if data[at - 1 : at] in (b"\n", b"\r"):
                return at
            at += 1
        last = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if 0 < last < len(data) and MARKER.startswith(data[last:]):
            return last
        return None

    def _hash_on(self, data: bytes) -> None:
        if data:
            self._hash.update(data)
            self._hashed += len(data)
            self._line_start = data[-1:] in (b"\n", b"\r")

    def _read_after(self, data: bytes, end: str) -> None:
        self._after = (self._after or b"") + data[: len(end) + 1]
        if not end.encode().startswith(self._after):
            self._refuse(
                "stream-after-end",
                "something follows the last statement that it does not name",
                expected=quoted(end) if end else "nothing",
            )

    def _take(self, token: str, signed: SignedStatement) -> None:
        """Hold one statement against what is known; the first thing wrong is the finding."""
        expected, said = self._expected, signed.statement
        self._finding = check_signature(signed, expected)
        if self._finding is None and self._key_id not in (None, signed.key_id):
            self._refuse(
                "stream-other-stream",
                "a statement is signed with another key than those before it",
                expected=quoted(self._key_id or ""),
                found=quoted(signed.key_id),
            )
        if self._finding is None and self._in_order(token, said):
            self._finding = check_subject(said, expected) or check_time(
                said, expected, self._statement
            )
        if self._finding is None:
            self._accounts_for(said)
        if self._finding is None:
            self._statement, self._token = signed.statement, token
            self._key_id = signed.key_id
            self._next_seq = signed.statement.seq + 1
            if signed.statement.state != "open":
                self._after = b""

    def _in_order(self, token: str, said: StreamStatement) -> bool:
        name = self._statement.id if self._statement else self._promise and self._promise[1]
        if name and said.id != name:
            return self._refuse(
                "stream-other-stream",
                "a statement is about another stream",
                expected=name,
                found=said.id,
            )
        if token == self._token or said.seq < self._next_seq:
            return self._refuse(
                "stream-repeated",
                "a statement stands here again, or after one that came later",
                expected=f"number {self._next_seq}",
                found=f"number {said.seq}",
            )
        if said.seq > self._next_seq:
            return self._refuse(
                "stream-order",
                "a statement is missing, or they are in another order",
                expected=f"number {self._next_seq}",
                found=f"number {said.seq}",
            )
        return True

    def _accounts_for(self, said: StreamStatement) -> None:
        if said.offset > self._hashed:
            self._refuse(
                "stream-bytes-removed",
                "bytes of the answer are missing",
                expected=f"{said.offset:,} bytes before this statement",
                found=f"{self._hashed:,}",
            )
        elif said.offset < self._hashed:
            self._refuse(
                "stream-bytes-inserted",
                "the answer has bytes that were not signed",
                expected=f"{said.offset:,} bytes before this statement",
                found=f"{self._hashed:,}",
            )
        elif said.sha256 != self._hash.hexdigest():
            self._refuse(
                "stream-bytes-altered",
                "bytes of the answer were changed, or stand in another order",
                expected=f"sha256:{said.sha256}",
                found=f"sha256:{self._hash.hexdigest()}",
            )

    def _read_receipt(self, receipt: bytes) -> None:
        try:
            token = receipt.decode("ascii")
            signed = decode_statement(token)
        except (UnicodeDecodeError, StatementError) as error:
            said = error.message if isinstance(error, StatementError) else "is not ASCII"
            self._refuse("stream-statement-malformed", f"the receipt {said}")
            return
        if signed.statement.state == "open":
            self._refuse("stream-statement-malformed", "the receipt is not the last statement")
            return
        held, self._held = self._held, b""
        self._hash_on(held)
        # Statements that did not arrive are no fault of the receipt's.
        self._next_seq = max(self._next_seq, signed.statement.seq)
        if signed.statement.offset > self._hashed and signed.statement.id == (
            self._promise and self._promise[1]
        ):
            return  # the stream broke off before: that is what it is
        self._take(token, signed)
        if self._statement is signed.statement:
            self._proven = self._hashed

    def _result(self, *, complete: bool) -> StreamResult:
        said = self._statement
        if self._finding is not None:
            state, found = StreamState.INVALID, self._finding
        elif said is None or self._after is None:
            return self._unfinished(complete=complete)
        elif said.state == "cut":
            state = StreamState.INCOMPLETE
            found = finding(
                "stream-cut", "content", "the signer says that the answer broke off before its end"
            )
        elif self._after != said.end.encode():
            state = StreamState.INCOMPLETE
            found = finding(
                "response-stream-incomplete",
                "content",
                "the event that ends the stream did not arrive",
            )
        else:
            return StreamResult(
                state=StreamState.VERIFIED,
                findings=(),
                statement=said,
                proven=self.proven,
                received=self.received,
            )
        return self._as_result(state, found)

    def _unfinished(self, *, complete: bool) -> StreamResult:
        if self._statement is None and not self._promised:
            found = finding("response-unsigned", "content", "no signature was offered")
            return self._as_result(StreamState.UNSIGNED, found)
        if complete and self._promise and self._promise[0] == "receipt":
            found = finding(
                "response-receipt-unavailable",
                "receipt",
                "the receipt that was promised is not there",
            )
            return self._as_result(StreamState.RECEIPT_UNAVAILABLE, found)
        found = finding(
            "response-stream-incomplete",
            "content",
            "the stream ends without its last statement: it was cut off",
            found=f"{self.received:,} bytes, of which {self.proven:,} are accounted for",
        )
        return self._as_result(StreamState.INCOMPLETE, found)

    def _as_result(self, state: StreamState, found: Finding) -> StreamResult:
        return StreamResult(
            state=state,
            findings=(found,),
            statement=self._statement,
            proven=self.proven,
            received=self.received,
        )

    def _refuse(
        self, rule: str, message: str, *, expected: str | None = None, found: str | None = None
    ) -> bool:
        """Keep what is wrong; always False, so that a check can end with it."""
        self._finding = finding(rule, "content", message, expected=expected, found=found)
        return False
