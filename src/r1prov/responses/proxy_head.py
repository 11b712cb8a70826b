"""Heads of requests and answers on their way through the proxy: what passes, what does not.

A proxy must not let two readers see two messages: what is ambiguous is refused, never repaired.
Framing (`Content-Length` against `Transfer-Encoding`, line ends, field syntax) is checked by the
server's parser before anything comes here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.errors import InputError, ResponseError
from r1prov.limits import MAX_PROXY_NONCE_BYTES, MAX_PROXY_TARGET_BYTES
from r1prov.responses.http_signature import requested_nonces
from r1prov.responses.message import normal_authority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

RawHeaders = list[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1, and what is of one connection by custom.
_HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade "
    b"proxy-authenticate proxy-authorization proxy-authentication-info".split()
)
# The client sends these about its own request, or asks the proxy by them; the upstream gets its
# own. Identity, so that statements can be put into a stream and digests are of what people read.
_OWN_OF_REQUEST: Final = frozenset(
    b"host content-length accept-encoding accept-signature expect".split()
)
# A proxy that signs answers passes on no other signature of the answer, which nobody could tell
# from its own by the names of these fields.
_OWN_OF_ANSWER: Final = frozenset(
    b"content-length content-digest signature signature-input".split()
)
_OURS: Final = b"r1prov-"
_TARGET = re.compile(rb"/[!-~]*")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5 without obsolete folding; other bytes than ASCII may occur.
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_REFUSED_METHODS: Final = frozenset({"CONNECT", "TRACE"})


class Refused(InputError):
    """A request or answer that the proxy does not pass on.

    Args:
        status: Of the answer that the client gets.
        code: A word for programs.
        message: One sentence for people, without anything the other side sent.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that may pass.

    Attributes:
        method: As sent.
        authority: `@authority`.
        path: As sent.
        query: With its question mark; `?` where there is none.
        target: Path and query as sent.
        headers: What the upstream gets.
        nonce: What the client wants repeated; None if nothing.
        content_digest: Values of its `Content-Digest`.
        http_1_0: Whether the client speaks HTTP/1.0, which has no chunks.
    """

    method: str
    authority: str
    path: str
    query: str
    target: str
    headers: tuple[tuple[str, str], ...]
    nonce: str | None
    content_digest: tuple[str, ...]
    http_1_0: bool


def admit(scope: Mapping[str, Any]) -> Admitted:
    """Look at the head of a request, as ASGI gives it.

    Raises:
        Refused: It is ambiguous, or asks for what the proxy does not do.
    """
    headers: RawHeaders = list(scope["headers"])
    method = scope["method"]
    if method in _REFUSED_METHODS:
        raise Refused(501, "method_not_supported", f"{method} is not supported")
    path, query = bytes(scope.get("raw_path") or b""), bytes(scope["query_string"])
    _check_target(path, query)
    _check_framing(headers)
    shown = tuple(
        (_text(name, "name"), _text(value, "value"))
        for name, value in headers
        if passes(name, headers, _OWN_OF_REQUEST)
    )
    own = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return Admitted(
        method=method,
        authority=_authority(headers, scope["scheme"], scope.get("r1prov.target", b"/")),
        path=path.decode(),
        query=f"?{query.decode()}",
        target=path.decode() + (f"?{query.decode()}" if query else ""),
        headers=shown,
        nonce=_nonce(own),
        content_digest=tuple(value for name, value in own if name == "content-digest"),
        http_1_0=scope.get("http_version") == "1.0",
    )


def passes(name: bytes, headers: Iterable[tuple[bytes, bytes]], own: frozenset[bytes]) -> bool:
    """Whether a field goes on to the other side."""
    lower = name.lower()
    if lower in _HOP_BY_HOP or lower in own or lower.startswith(_OURS):
        return False
    named = (value for key, value in headers if key.lower() == b"connection")
    return all(lower != one.strip().lower() for value in named for one in value.split(b","))


def answer_headers(raw: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Fields of an upstream's answer that the client gets, names in lower case.

    Raises:
        Refused: One of them cannot be passed on, or there are two of what must be one.
    """
    headers = list(raw)
    kept = [
        (name.lower(), value.strip(b" \t"))
        for name, value in headers
        if passes(name, headers, _OWN_OF_ANSWER)
    ]
    if not all(_TOKEN.fullmatch(name) and _VALUE.fullmatch(value) for name, value in kept):
        raise Refused(502, "bad_upstream", "the upstream's header cannot be passed on")
    kinds = [value for name, value in kept if name == b"content-type"]
    if len(kinds) > 1 or not all(kind.isascii() and len(kind) <= 1024 for kind in kinds):
        raise Refused(502, "bad_upstream", "the upstream's content type cannot be signed")
    return kept


def value_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of a field that stands once; None if it does not stand at all."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def _check_target(path: bytes, query: bytes) -> None:
    if len(path) + len(query) > MAX_PROXY_TARGET_BYTES:
        raise Refused(414, "target_too_long", "the request target is too long to be signed")
    if not _TARGET.fullmatch(path) or (query and not _TARGET.fullmatch(b"/" + query)):
        raise Refused(400, "bad_target", "the request target is not an absolute path")
    for segment in path.lower().replace(b"%2e", b".").split(b"/"):
        if segment in (b".", b".."):
            raise Refused(400, "bad_target", "the request target has a dot segment")


def _check_framing(headers: RawHeaders) -> None:
    """Refuse content that would not reach the upstream as it was sent."""
    codings = [value.strip().lower() for name, value in headers if name == b"transfer-encoding"]
    if codings not in ([], [b"chunked"]):
        raise Refused(501, "transfer_coding", "no transfer coding but chunked is supported")
    names = {name for name, _ in headers}
    named = b",".join(value.lower() for name, value in headers if name == b"connection")
    upgrade = b"upgrade" in names and b"upgrade" in map(bytes.strip, named.split(b","))
    length = value_of(headers, b"content-length")
    if upgrade and (codings or (length is not None and int(length))):
        # The parser takes what follows such a head for the other protocol's, not for content.
        raise Refused(
            501, "upgrade", "content in a request to upgrade is not supported: use plain HTTP/1.1"
        )


def _authority(headers: RawHeaders, scheme: str, target: bytes) -> str:
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1:
        raise Refused(400, "bad_host", "the request does not have exactly one Host field")
    try:
        host = normal_authority(hosts[0].decode("latin-1"), scheme)
        named = host
        if not target.startswith((b"/", b"*")):  # in absolute form (RFC 9112 section 3.2.2)
            behind = target.partition(b"://")[2].decode("latin-1")
            named = normal_authority(re.split("[/?#]", behind, maxsplit=1)[0], scheme)
    except ResponseError:
        raise Refused(400, "bad_host", "the Host field or the target's host is no host") from None
    if named != host:
        raise Refused(400, "bad_host", "the request target names another host than the Host field")
    return host


def _nonce(headers: tuple[tuple[str, str], ...]) -> str | None:
    try:
        nonces = set(requested_nonces(headers))
    except ResponseError:
        raise Refused(400, "bad_accept_signature", "Accept-Signature is malformed") from None
    if len(nonces) > 1:
        raise Refused(400, "bad_accept_signature", "Accept-Signature asks for several nonces")
    nonce = next(iter(nonces), None)
    if nonce is not None and not 0 < len(nonce) <= MAX_PROXY_NONCE_BYTES:
        raise Refused(
            400, "bad_accept_signature", f"a nonce has 1 to {MAX_PROXY_NONCE_BYTES} characters"
        )
    return nonce


def _text(raw: bytes, what: str) -> str:
    """As text that the upstream gets as the same bytes: its client writes UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Refused(400, "bad_header", f"the {what} of a header field is not UTF-8") from None
