"""One API request and its response, byte for byte as they were on the wire."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

# Field names and values in the order they were sent; a name may occur more than once.
Headers = tuple[tuple[str, str], ...]


def field_values(headers: Headers, name: str) -> tuple[str, ...]:
    """Every value of the field `name` (any letter case), in order, spaces around it removed."""
    wanted = name.lower()
    return tuple(value.strip(" \t") for key, value in headers if key.lower() == wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyDigests:
    """What is known of content that is not held, as whoever captured it computed it.

    Attributes:
        length: In bytes.
        sha256: Digest of the bytes that would stand in `body`.
        sha512: The other algorithm that a `Content-Digest` may use (RFC 9530 section 5).
    """

    length: int
    sha256: bytes
    sha512: bytes

    @classmethod
    def of(cls, body: bytes) -> BodyDigests:
        """The digests of bytes at hand."""
        return cls(
            length=len(body),
            sha256=hashlib.sha256(body).digest(),
            sha512=hashlib.sha512(body).digest(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """Something that was taken out of the exchange, so that nothing which needs it can be checked.

    Attributes:
        part: What: `request.header:NAME` or `request.trailer:NAME` (a name in lower case), the same
            of the response, `request.url:query`, `request.url:path`, `request.url:userinfo`,
            `request.body`, `response.body`, `document:N.url` or `document:N.body`.
        commitment: Salted digest of what stood there, by which it can be proved later; None for
            a secret.
        remainder: A body with single members blanked, to be read only; None if nothing is shown.
    """

    part: str
    commitment: bytes | None = None
    remainder: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sent.

    Attributes:
        method: As sent, such as `POST`.
        url: The whole target URI that the client asked for, with scheme and authority.
        headers: Every field that is known to have been sent.
        body: Bytes of the content, coded as sent (RFC 9110 section 8.4); None if not held.
        body_digests: Digests of content that is not held; None if nothing was captured of it.
        trailers: Fields that came after the content.
    """

    method: str
    url: str
    headers: Headers
    body: bytes | None
    body_digests: BodyDigests | None = None
    trailers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back.

    Attributes:
        status: Three digits.
        headers: Every field that was received.
        body: Bytes of the content with chunking removed and content coding kept: a digest of an
            answer is over these (RFC 9530 section 2), and of an event stream over every byte of
            it, comments included. None if not held.
        complete: Whether the server ended the content; False for a stream that broke off.
        body_digests: Digests of content that is not held; None if nothing was captured of it.
        trailers: Fields that came after the content.
    """

    status: int
    headers: Headers
    body: bytes | None
    complete: bool = True
    body_digests: BodyDigests | None = None
    trailers: Headers = ()


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
        redactions: What was taken out before it was written.
    """

    request: Request
    response: Response
    started_at: datetime | None = None
    finished_at: datetime | None = None
    documents: tuple[CapturedDocument, ...] = field(default=())
    redactions: tuple[Redaction, ...] = field(default=())

    def is_redacted(self, part: str) -> bool:
        """Whether that part (see `Redaction`) was taken out."""
        return any(one.part == part for one in self.redactions)
