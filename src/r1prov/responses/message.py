"""A request or response as signatures see it: what each component of RFC 9421 section 2 is."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from r1prov.errors import ResponseError
from r1prov.responses.exchange import field_values
from r1prov.text import quoted

if TYPE_CHECKING:
    from r1prov.responses.exchange import Exchange, Headers, Request

_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
# What stays as it is when a query parameter is encoded again: the application/x-www-form-urlencoded
# percent-encode set of the URL standard, which RFC 9421 section 2.2.8 names.
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-._")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(?::([0-9]*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMessage:
    """A request, taken apart.

    Attributes:
        method: As sent.
        scheme: Of the target URI, in lower case.
        authority: Host and port as they name the origin: lower case, without a default port.
        path: Absolute path, `/` if the URI has none.
        query: What follows the question mark; None without one.
        target: The request target as it stands in the first line (RFC 9112 section 3.2).
        headers: Fields.
        trailers: Fields after the content.
        redacted: Parts that were taken out, named as `Redaction.part` is.
    """

    method: str
    scheme: str
    authority: str
    path: str
    query: str | None
    target: str
    headers: Headers
    trailers: Headers = ()
    redacted: frozenset[str] = field(default=frozenset())

    @property
    def target_uri(self) -> str:
        """The whole target URI, rebuilt as a server does (RFC 9110 section 7.1)."""
        query = "" if self.query is None else f"?{self.query}"
        return f"{self.scheme}://{self.authority}{self.path}{query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseMessage:
    """A response and the request that it answers."""

    status: int
    headers: Headers
    request: RequestMessage | None = None
    trailers: Headers = ()
    redacted: frozenset[str] = field(default=frozenset())


Message = RequestMessage | ResponseMessage


def split_url(url: str) -> SplitResult:
    """A URL in its parts.

    Raises:
        ResponseError: It is no absolute URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if not parts.scheme or not parts.hostname:
        raise ResponseError(
            "response-field-malformed",
            "the request has no absolute URL",
            subject="request",
            expected="scheme, host and path",
            found=quoted(url, limit=120),
        )
    return parts


def normal_authority(text: str, scheme: str) -> str:
    """Host and port in lower case, without the port that the scheme has by itself.

    RFC 9421 section 2.2.3, RFC 9110 section 4.2.3.

    Raises:
        ResponseError: It is no host with or without a port.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None or not text.isascii():
        raise ResponseError(
            "response-field-malformed",
            f"{quoted(text, limit=120)} is no host",
            subject="host",
            expected="a host, and a port if there is one",
        )
    host, port = match.group(1).lower(), match.group(2)
    return host if port in (None, "", _DEFAULT_PORTS.get(scheme)) else f"{host}:{port}"


def request_message(request: Request, redacted: frozenset[str] = frozenset()) -> RequestMessage:
    """A captured request as signatures see it.

    The authority is that of the `Host` field where one was sent: a server knows no other.

    Raises:
        ResponseError: Its URL or `Host` is malformed, or there are several `Host` fields.
    """
    url, _, _ = request.url.partition("#")
    parts = split_url(url)
    scheme = parts.scheme.lower()
    hosts = field_values(request.headers, "host")
    if len(hosts) > 1:
        raise ResponseError(
            "response-field-malformed",
            "the request has several Host fields",
            subject="host",
            expected="one (RFC 9112 section 3.2)",
            found=str(len(hosts)),
        )
    stated = hosts[0] if hosts and hosts[0] else parts.netloc.rpartition("@")[2]
    authority = normal_authority(stated, scheme)
    query = parts.query if "?" in url else None
    path = parts.path or "/"
    if request.method == "CONNECT":
        target = stated
    else:
        target = path + ("" if query is None else f"?{query}")
    return RequestMessage(
        method=request.method,
        scheme=scheme,
        authority=authority,
        path=path,
        query=query,
        target=target,
        headers=request.headers,
        redacted=_parts_of(redacted, "request."),
    )


def exchange_message(exchange: Exchange) -> ResponseMessage:
    """The response of an exchange, with its request, as signatures see it.

    Raises:
        ResponseError: The request's URL or `Host` is malformed.
    """
    redacted = frozenset(one.part for one in getattr(exchange, "redactions", ()))
    return ResponseMessage(
        status=exchange.response.status,
        headers=exchange.response.headers,
        request=request_message(exchange.request, redacted),
        redacted=_parts_of(redacted, "response."),
    )


def _parts_of(redacted: frozenset[str], prefix: str) -> frozenset[str]:
    return frozenset(part.removeprefix(prefix) for part in redacted if part.startswith(prefix))


def query_parameter(query: str | None, name: str) -> str:
    """The value of one parameter of a query, decoded and encoded again.

    Args:
        query: The query without its question mark.
        name: Of the parameter, encoded.

    Raises:
        ResponseError: There is none of that name, or more than one, which "MUST NOT be included"
            (RFC 9421 section 2.2.8), or it is not UTF-8.
    """
    found = []
    for pair in (query or "").split("&"):
        if pair:
            key, _, value = pair.partition("=")
            if _form_encoded(key) == name:
                found.append(_form_encoded(value))
    if len(found) != 1:
        raise ResponseError(
            "response-component-missing",
            f"the query has {len(found) or 'no'} parameters called {quoted(name)}",
            subject="@query-param",
            expected="exactly one",
        )
    if found[0] is None:
        raise ResponseError(
            "response-component-missing",
            f"the query parameter {quoted(name)} is not UTF-8",
            subject="@query-param",
        )
    return found[0]


def _form_encoded(text: str) -> str | None:
    """A name or value decoded and encoded again; None if it is not UTF-8."""
    try:
        raw = text.replace("+", " ").encode()
        decoded = _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), raw)
        decoded.decode()
    except UnicodeError:
        return None
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in decoded)
