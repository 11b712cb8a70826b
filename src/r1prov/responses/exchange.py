"""One API request and its response, byte for byte as they were on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

# Field names and values in the order they were sent; a name may occur more than once.
Headers = tuple[tuple[str, str], ...]


def field_values(headers: Headers, name: str) -> tuple[str, ...]:
    """Every value of the field `name` (any letter case), in order, spaces around it removed."""
    wanted = name.lower()
    return tuple(value.strip(" \t") for key, value in headers if key.lower() == wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sent.

    Attributes:
        method: As sent, such as `POST`.
        url: The whole target URI that the client asked for, with scheme and authority.
        headers: Every field that is known to have been sent.
        body: Bytes of the content, coded as sent (RFC 9110 section 8.4); None if not captured.
    """

    method: str
    url: str
    headers: Headers
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back.

    Attributes:
        status: Three digits.
        headers: Every field that was received.
        body: Bytes of the content with chunking removed and content coding kept: a digest of an
            answer is over these (RFC 9530 section 2), and of an event stream over every byte of
            it, comments included. None if not captured.
        complete: Whether the server ended the content; False for a stream that broke off.
    """

    status: int
    headers: Headers
    body: bytes | None
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedDocument:
    """What else was fetched to judge the exchange, such as its receipt or the keys served.

    Attributes:
        url: Where it was fetched.
        status: HTTP status of the answer.
        body: Its bytes.
        fetched_at: When.
    """

    url: str
    status: int
    body: bytes
    fetched_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its response.

    Attributes:
        request: What was asked.
        response: What came back.
        started_at: When the request was sent (aware, UTC); None if not captured.
        finished_at: When the last byte came.
        documents: Receipts and the like that were fetched for this exchange.
    """

    request: Request
    response: Response
    started_at: datetime | None = None
    finished_at: datetime | None = None
    documents: tuple[CapturedDocument, ...] = field(default=())
