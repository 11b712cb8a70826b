"""HTTP/1.1 as it was on the wire: one request and its response, read strictly.

What a message is must not depend on who reads it. Everything on which parsers are known to differ,
and on which request smuggling lives (RFC 9112 section 11.2), is refused: a bare LF or CR, folded
lines, a space before the colon, two lengths, a length beside a transfer coding, and any transfer
coding but `chunked`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from r1prov.errors import ExchangeError
from r1prov.limits import MAX_EXCHANGE_BODY_BYTES, MAX_HTTP_FIELDS, MAX_HTTP_HEADER_BYTES
from r1prov.responses.exchange import Exchange, Headers, Request, Response, field_values
from r1prov.responses.exchange_file import TOKEN, check_field, check_url
from r1prov.text import plural, quoted

REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}) (\S+) HTTP/(1\.[01])")
_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[01]) ([1-5]\d\d)(?: [\t \x21-\x7e\x80-\xff]*)?")
# RFC 9112 section 7.1: extensions of a chunk mean nothing to us, but may not hide a line break.
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})[\t ]*(?:;[\t \x21-\x7e\x80-\xff]*)?")
_LENGTH: Final = re.compile(r"\d{1,18}", re.ASCII)
_MAX_LINE: Final = 64 * 1024


class _Truncated(Exception):
    """The bytes end within a message."""


@dataclass(frozen=True, slots=True)
class RawExchange:
    """What was read.

    Attributes:
        exchange: Request and response.
        notes: What the bytes do not say, one sentence each.
    """

    exchange: Exchange
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Body:
    content: bytes
    trailers: Headers = ()
    complete: bool = True
    until_close: bool = False


class _Cursor:
    """A place in the bytes."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def line(self, what: str) -> bytes:
        """The next line, which ends with CR LF."""
        end = self.data.find(b"\n", self.at, self.at + _MAX_LINE)
        if end < 0:
            if len(self.data) - self.at >= _MAX_LINE:
                raise ExchangeError(f"{what} is longer than {_MAX_LINE:,} bytes")
            raise _Truncated
        line = self.data[self.at : end]
        if not line.endswith(b"\r"):
            raise ExchangeError(
                f"{what} ends with a bare line feed",
                hint="lines of HTTP/1.1 end with CR LF (RFC 9112 section 2.2); a text editor may "
                "have changed the capture",
            )
        line = line[:-1]
        if b"\r" in line or b"\0" in line:
            raise ExchangeError(f"{what} holds a bare carriage return or a NUL byte")
        self.at = end + 1
        return line

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""
        piece = self.data[self.at : self.at + count]
        self.at += len(piece)
        return piece

    def rest(self) -> bytes:
        return self.take(len(self.data))


def parse_raw(
    request: bytes, response: bytes | None = None, *, scheme: str = "https", subject: str
) -> RawExchange:
    """Read one request and its response.

    Args:
        request: The request; the response may follow at once.
        response: The response, where it is not in `request`.
        scheme: `http` or `https`: the bytes do not say over which they went.
        subject: What it is, for messages.

    Raises:
        ExchangeError: It is not strict HTTP/1.1, or not one request with one response.
    """
    try:
        return _parse(_Cursor(request), response, scheme)
    except _Truncated:
        raise ExchangeError("the capture ends before the message does", subject=subject) from None
    except ExchangeError as error:
        error.subject = subject
        raise


def _parse(cursor: _Cursor, response: bytes | None, scheme: str) -> RawExchange:
    request = _request(cursor, scheme)
    if response is not None:
        if cursor.at != len(cursor.data):
            left = len(cursor.data) - cursor.at
            raise ExchangeError(f"{plural(left, 'byte')} after the end of the request")
        cursor = _Cursor(response)
    elif cursor.at == len(cursor.data):
        raise ExchangeError("there is a request and no response after it")
    answer, until_close = _response(cursor, request.method)
    if cursor.at != len(cursor.data):
        left = len(cursor.data) - cursor.at
        raise ExchangeError(
            f"{plural(left, 'byte')} after the end of the response",
            hint="a capture of several exchanges must be cut into single ones",
        )
    notes = [f"the scheme {scheme} is assumed: the bytes do not say it", "times were not captured"]
    if until_close:
        notes.append("the response ends with its connection, so a cut end would not show")
    return RawExchange(Exchange(request=request, response=answer), tuple(notes))


def _request(cursor: _Cursor, scheme: str) -> Request:
    line = cursor.line("the request line")
    found = REQUEST_LINE.fullmatch(line)
    if found is None:
        raise ExchangeError(f"{quoted(line.decode('latin-1'), limit=40)} is no request line")
    method, target, version = (one.decode("latin-1") for one in found.groups())
    headers = _fields(cursor, "the request's header section")
    hosts = field_values(headers, "host")
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        # RFC 9112 section 3.2: such a request is answered with 400.
        raise ExchangeError(f"the request has {plural(len(hosts), 'Host field')}, not one")
    body = _framed(cursor, headers, version, "the request", partial=False)
    if body is None:
        body = _Body(b"")
    if not body.complete:
        raise _Truncated
    return Request(
        method=method,
        url=_url(target, hosts[0] if hosts else "", scheme),
        headers=headers,
        body=body.content,
        trailers=body.trailers,
    )


def _url(target: str, host: str, scheme: str) -> str:
    """The target URI (RFC 9112 section 3.3)."""
    if target.startswith("/"):
        if not re.fullmatch(r"[A-Za-z0-9.\-_~%!$&'()*+,;=:\[\]]+", host, re.ASCII):
            raise ExchangeError("the request names no host to which its target belongs")
        target = f"{scheme}://{host}{target}"
    check_url(target, "the request's target")
    return target


def _response(cursor: _Cursor, method: str) -> tuple[Response, bool]:
    while True:
        line = cursor.line("the status line")
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise ExchangeError(f"{quoted(line.decode('latin-1'), limit=40)} is no status line")
        version, status = found[1].decode(), int(found[2])
        headers = _fields(cursor, "the response's header section")
        if status == 101:
            raise ExchangeError("the response switches protocols, so what follows is not HTTP")
        if status >= 200:
            break
    # RFC 9112 section 6.3: these have no content, whatever their fields say.
    if method == "HEAD" or status in (204, 304):
        body = _Body(b"")
    else:
        framed = _framed(cursor, headers, version, "the response", partial=True)
        body = framed or _until_close(cursor)
    answer = Response(
        status=status,
        headers=headers,
        body=body.content,
        complete=body.complete,
        trailers=body.trailers,
    )
    return answer, body.until_close


def _until_close(cursor: _Cursor) -> _Body:
    _refuse_long(len(cursor.data) - cursor.at, "the response")
    return _Body(cursor.rest(), until_close=True)


def _fields(cursor: _Cursor, where: str) -> Headers:
    fields: list[tuple[str, str]] = []
    start = cursor.at
    while line := cursor.line(where):
        if line[:1] in (b" ", b"\t"):
            raise ExchangeError(
                f"{where} has a folded line, which readers take differently",
                hint="RFC 9112 section 5.2 has done away with line folding",
            )
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not TOKEN.fullmatch(name):
            raise ExchangeError(f"{where} has {quoted(name, limit=40)} where a field name must be")
        check_field(name, value, where)
        fields.append((name, value.strip(" \t")))
        if len(fields) > MAX_HTTP_FIELDS or cursor.at - start > MAX_HTTP_HEADER_BYTES:
            raise ExchangeError(
                f"{where} is too long",
                hint=f"at most {MAX_HTTP_FIELDS} fields and {MAX_HTTP_HEADER_BYTES:,} bytes",
            )
    return tuple(fields)


def _framed(
    cursor: _Cursor, headers: Headers, version: str, what: str, *, partial: bool
) -> _Body | None:
    """The content by the length that the message states, or None if it states none.

    RFC 9112 section 6.3, without what it leaves to the recipient's mercy.
    """
    lengths = field_values(headers, "content-length")
    codings = field_values(headers, "transfer-encoding")
    if lengths and codings:
        raise ExchangeError(
            f"{what} has a Content-Length beside a Transfer-Encoding",
            hint="readers differ on which of them counts (RFC 9112 section 6.3)",
        )
    if len(lengths) > 1 or len(codings) > 1:
        name = "Content-Length" if lengths else "Transfer-Encoding"
        raise ExchangeError(f"{what} has more than one {name} field")
    if codings:
        if codings[0].lower() != "chunked" or version == "1.0":
            raise ExchangeError(
                f"{what} has the transfer coding {quoted(codings[0], limit=40)} in HTTP/{version}; "
                "only `chunked` in HTTP/1.1 is read"
            )
        return _chunked(cursor, what, partial=partial)
    if not lengths:
        return None
    if not _LENGTH.fullmatch(lengths[0]):
        raise ExchangeError(f"{what} has the Content-Length {quoted(lengths[0], limit=40)}")
    length = int(lengths[0])
    _refuse_long(length, what)
    content = cursor.take(length)
    return _Body(content, complete=len(content) == length)


def _chunked(cursor: _Cursor, what: str, *, partial: bool) -> _Body:
    """Chunks (RFC 9112 section 7.1); where `partial`, those that came before the capture ends."""
    content = bytearray()
    try:
        trailers = _chunks(cursor, what, content)
    except _Truncated:
        if not partial:
            raise
        cursor.at = len(cursor.data)
        return _Body(bytes(content), complete=False)
    return _Body(bytes(content), trailers)


def _chunks(cursor: _Cursor, what: str, content: bytearray) -> Headers:
    """Read every chunk into `content`, and return the fields of the trailer section."""
    while True:
        line = cursor.line(f"a chunk of {what}")
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise ExchangeError(
                f"{quoted(line.decode('latin-1'), limit=40)} is no size of a chunk of {what}"
            )
        size = int(found[1], 16)
        if size == 0:
            return _fields(cursor, f"the trailer section of {what}")
        piece = cursor.take(size)
        content += piece
        _refuse_long(len(content), what)
        end = cursor.take(2)
        if len(end) < 2 and b"\r\n".startswith(end):
            raise _Truncated
        if end != b"\r\n":
            raise ExchangeError(f"a chunk of {what} does not end with CR LF")


def _refuse_long(length: int, what: str) -> None:
    if length > MAX_EXCHANGE_BODY_BYTES:
        raise ExchangeError(f"{what} is longer than {MAX_EXCHANGE_BODY_BYTES:,} bytes")
