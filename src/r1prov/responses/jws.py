"""Detached JSON Web Signatures over a body (RFC 7515 appendix F, RFC 7797).

Compact form in a header field. The payload is the body as it is on the wire. The algorithm is that
of the key; `crit` is honoured; keys that a header brings along (`jwk`, `x5c`, `jku`) are never
looked at. A JWS binds neither the status nor the request unless its header says so, in members of
our own: `status` and `req_sha256`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from r1prov.errors import JsonError, ResponseError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_JWS_BYTES
from r1prov.responses.algorithms import ALGORITHMS
from r1prov.responses.keys import ResponseKey, SigningKey, b64url, from_b64url
from r1prov.text import quoted

# What is understood, so that `crit` may name it (RFC 7515 section 4.1.11).
_UNDERSTOOD: Final = frozenset({"b64", "iat", "exp", "nonce", "status", "req_sha256"})
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Jws:
    """A compact JWS, not verified.

    Attributes:
        alg: What it says its algorithm is. Only ever compared with the key's.
        kid: What it calls its key.
        iat: When it was made, in seconds since 1970.
        exp: When it ends.
        nonce: What makes it unique.
        status: The status that it binds.
        req_sha256: The request that it binds, by the SHA-256 of its body.
        encoded: Whether the payload is signed in base64url.
        payload: The payload that it carries; None if it is detached.
        protected: The header, as it is signed.
        signature: Its bytes.
    """

    alg: str
    kid: str | None
    iat: int | None
    exp: int | None
    nonce: str | None
    status: int | None
    req_sha256: bytes | None
    encoded: bool
    payload: bytes | None
    protected: str
    signature: bytes

    def fits(self, key: ResponseKey) -> bool:
        """Whether it names the algorithm that the key has."""
        known = ALGORITHMS.get(key.algorithm)
        return known is not None and self.alg in known.jose

    def verify(self, key: ResponseKey, payload: bytes) -> bool:
        """Whether that key signed `payload`, with the algorithm that it is for."""
        if not self.fits(key) or self.payload not in (None, payload):
            return False
        text = b64url(payload).encode() if self.encoded else payload
        return key.verify(self.signature, self.protected.encode() + b"." + text)


def _malformed(message: str, expected: str | None = None) -> ResponseError:
    return ResponseError("response-signature-malformed", message, subject="JWS", expected=expected)


def parse_jws(text: str) -> Jws:
    """Parse a JWS in compact form.

    Raises:
        ResponseError: `response-signature-malformed`: another number of parts, base64url in
            another spelling than the one, a header that is no strict JSON object, `b64` without
            `crit`, or a `crit` that names what is not understood.
    """
    parts = text.split(".")
    if len(text) > MAX_JWS_BYTES or len(parts) != 3:
        raise _malformed("it is no compact JWS", "three parts between dots")
    header = _header(parts[0])
    encoded = header.get("b64", True)
    _check_critical(header)
    if not isinstance(encoded, bool):
        raise _malformed("`b64` is neither true nor false")
    signature = from_b64url(parts[2])
    if not signature:
        raise _malformed("the signature is not base64url without padding")
    return Jws(
        alg=_text(header, "alg") or "none",
        kid=_text(header, "kid"),
        iat=_integer(header, "iat"),
        exp=_integer(header, "exp"),
        nonce=_text(header, "nonce"),
        status=_integer(header, "status"),
        req_sha256=_digest(header),
        encoded=encoded,
        payload=_payload(parts[1], encoded=encoded),
        protected=parts[0],
        signature=signature,
    )


def _header(text: str) -> dict[str, Any]:
    raw = from_b64url(text)
    if raw is None:
        raise _malformed("the header is not base64url without padding")
    try:
        header = parse_json(raw, subject="JWS header", max_bytes=MAX_JWS_BYTES, max_depth=8)
    except JsonError as error:
        raise _malformed(f"the header is not JSON: {error.message}") from None
    if not isinstance(header, dict) or _text(header, "alg") is None:
        raise _malformed("the header is no JSON object with `alg`")
    return header


def _check_critical(header: dict[str, Any]) -> None:
    critical = header.get("crit")
    if critical is None:
        if "b64" in header:  # RFC 7797 section 6: `crit` MUST name it
            raise _malformed("`b64` stands in the header and not in `crit`", '`crit: ["b64"]`')
        return
    if (
        not isinstance(critical, list)
        or not critical
        or not all(isinstance(name, str) for name in critical)
        or len(set(critical)) != len(critical)
    ):
        raise _malformed("`crit` is no list of different names")
    for name in critical:
        if name not in _UNDERSTOOD or name not in header:
            raise _malformed(f"`crit` names {quoted(name)}, which is not understood or not there")
    if "b64" in header and "b64" not in critical:
        raise _malformed("`b64` stands in the header and not in `crit`", '`crit: ["b64"]`')


def _payload(text: str, *, encoded: bool) -> bytes | None:
    if not text:
        return None
    payload = from_b64url(text) if encoded else text.encode("utf-8", "surrogatepass")
    if payload is None:
        raise _malformed("the payload is not base64url without padding")
    return payload


def _text(header: dict[str, Any], name: str) -> str | None:
    value = header.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise _malformed(f"`{name}` is no string")
    return value


def _integer(header: dict[str, Any], name: str) -> int | None:
    value = header.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _malformed(f"`{name}` is no integer")
    return value


def _digest(header: dict[str, Any]) -> bytes | None:
    text = _text(header, "req_sha256")
    if text is None:
        return None
    digest = from_b64url(text)
    if digest is None or len(digest) != _DIGEST_BYTES:
        raise _malformed("`req_sha256` is no SHA-256 in base64url")
    return digest


def create_jws(
    body: bytes,
    key: SigningKey,
    *,
    kid: str,
    iat: int,
    request_body: bytes,
    status: int,
    nonce: str | None = None,
    exp: int | None = None,
) -> str:
    """A detached JWS over a body, which it takes as it is (`b64` false).

    Args:
        body: Bytes on the wire.
        key: Who signs.
        kid: What verifiers know the key as.
        iat: Seconds since 1970.
        request_body: Of the request that is answered.
        status: Of the response.
        nonce: The client's, where it sent one.
        exp: When the signature ends.
    """
    header: dict[str, object] = {
        "alg": ALGORITHMS[key.public.algorithm].jose[0],
        "b64": False,
        "crit": ["b64"],
        "iat": iat,
        "kid": kid,
        "req_sha256": b64url(hashlib.sha256(request_body).digest()),
        "status": status,
    }
    header |= {name: value for name, value in (("nonce", nonce), ("exp", exp)) if value is not None}
    protected = b64url(json.dumps(header, separators=(",", ":")).encode())
    return f"{protected}..{b64url(key.sign(protected.encode() + b'.' + body))}"
