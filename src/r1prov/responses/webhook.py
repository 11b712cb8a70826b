"""Signed deliveries: Standard Webhooks (`v1` HMAC, `v1a` Ed25519), and the form of Stripe.

An HMAC shows whoever holds the secret that nobody else changed the body. It is no evidence for a
third party, and neither form binds a request or a status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from r1prov.errors import KeyFileError, ResponseError
from r1prov.limits import MAX_MESSAGE_SIGNATURES
from r1prov.responses.algorithms import ED25519, HMAC
from r1prov.responses.exchange import Headers, field_values
from r1prov.responses.keys import ResponseKey, secret_key
from r1prov.text import quoted
from r1prov.trust.keys import decode_base64

_NAMES: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")
_STRIPE: Final = "stripe-signature"
_SECONDS = re.compile(r"[0-9]{1,15}")
_HMAC_HEX = re.compile(r"[0-9a-f]{64}")
_SIZES: Final = {HMAC: 32, ED25519: 64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """The signatures of a delivery, not verified.

    Attributes:
        id: Name of the delivery; None in Stripe's form.
        timestamp: Seconds since 1970.
        prefix: What is signed ahead of the body.
        signatures: Algorithm and bytes of each.
    """

    id: str | None
    timestamp: int
    prefix: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def verify(self, key: ResponseKey, body: bytes) -> bool:
        """Whether one of the signatures over the body is by that key."""
        return any(
            key.verify(signature, self.prefix + body)
            for algorithm, signature in self.signatures
            if algorithm == key.algorithm
        )


def is_webhook(headers: Headers) -> bool:
    """Whether a message carries such signatures."""
    return any(field_values(headers, name) for name in (_NAMES[2], _STRIPE))


def read_webhook(headers: Headers) -> Webhook:
    """The signatures of a delivery. Those of versions that are not known are let be.

    Raises:
        ResponseError: `response-signature-malformed`.
    """
    if field_values(headers, _STRIPE):
        return _stripe(_one(headers, _STRIPE))
    name, seconds, text = (_one(headers, field) for field in _NAMES)
    found = []
    for word in text.split(" "):
        version, comma, value = word.partition(",")
        algorithm = {"v1": HMAC, "v1a": ED25519}.get(version)
        signature = decode_base64(value)
        if not comma or (algorithm is not None and len(signature or b"") != _SIZES[algorithm]):
            raise _malformed(_NAMES[2], word, "`v1,` or `v1a,` and base64")
        if algorithm is not None and signature is not None:
            found.append((algorithm, signature))
    return _webhook(name, seconds, f"{name}.{seconds}.", found, _NAMES[2])


def _stripe(text: str) -> Webhook:
    seconds, found = "", []
    for word in text.split(","):
        key, equals, value = word.strip(" ").partition("=")
        if not equals or (key == "t" and seconds):
            raise _malformed(_STRIPE, word, "`t=SECONDS,v1=HEX`")
        if key == "t":
            seconds = value
        elif key == "v1":
            if _HMAC_HEX.fullmatch(value) is None:
                raise _malformed(_STRIPE, word, "64 hexadecimal digits")
            found.append((HMAC, bytes.fromhex(value)))
    return _webhook(None, seconds, f"{seconds}.", found, _STRIPE)


def _webhook(
    name: str | None, seconds: str, prefix: str, found: list[tuple[str, bytes]], field: str
) -> Webhook:
    if _SECONDS.fullmatch(seconds) is None:
        raise _malformed(field, seconds, "a time in seconds since 1970")
    if not 0 < len(found) <= MAX_MESSAGE_SIGNATURES:
        raise _malformed(
            field, f"{len(found)} signatures", f"1 to {MAX_MESSAGE_SIGNATURES} that are known"
        )
    return Webhook(
        id=name,
        timestamp=int(seconds),
        prefix=prefix.encode("utf-8", "surrogatepass"),
        signatures=tuple(found),
    )


def _one(headers: Headers, name: str) -> str:
    values = field_values(headers, name)
    if len(values) != 1 or not values[0]:
        raise _malformed(name, f"{len(values)} fields", "one field")
    return values[0]


def _malformed(field: str, found: str, expected: str) -> ResponseError:
    return ResponseError(
        "response-signature-malformed",
        f"field {field} is malformed",
        subject=field,
        expected=expected,
        found=quoted(found, limit=80),
    )


def webhook_secret(text: str, *, name: str, source: str = "") -> ResponseKey:
    """The shared secret of Standard Webhooks: `whsec_` and base64.

    Raises:
        KeyFileError: It is none. The message holds nothing of it.
    """
    secret = decode_base64(text.removeprefix("whsec_"))
    if secret is None:
        raise KeyFileError(f"{source or 'the secret'} is not `whsec_` and base64", subject=source)
    return secret_key(secret, name=name, source=source)
