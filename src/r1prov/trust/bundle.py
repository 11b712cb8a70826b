"""Sigstore bundle v0.3 with a message signature: the native signature of a manifest.

The form is `dev.sigstore.bundle.v1.Bundle` in its JSON encoding, with a public key by hint and no
transparency log entry, so that other Sigstore clients can check it too.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import BundleError, JsonError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_BUNDLE_BYTES
from r1prov.trust.keys import decode_base64

if TYPE_CHECKING:
    from r1prov.trust.keys import PrivateKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_DIGEST_ALGORITHM = "SHA2_256"
_DIGEST_BYTES = 32
# The longest we take is an RSA signature of 8192 bits.
_MAX_SIGNATURE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class MessageBundle:
    """A signature over a message.

    Attributes:
        key_hint: Which key signed, as the bundle says: only a hint.
        digest: SHA-256 of the message, as the bundle says.
        signature: The signature bytes.
    """

    key_hint: str
    digest: bytes
    signature: bytes

    def to_json(self) -> bytes:
        """The bundle file: one line of JSON and a newline."""
        value = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.key_hint}, "tlogEntries": []},
            "messageSignature": {
                "messageDigest": {
                    "algorithm": _DIGEST_ALGORITHM,
                    "digest": base64.b64encode(self.digest).decode(),
                },
                "signature": base64.b64encode(self.signature).decode(),
            },
        }
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def sign_message(key: PrivateKey, data: bytes) -> MessageBundle:
    """Sign the exact bytes of `data`."""
    return MessageBundle(key.public.key_id, hashlib.sha256(data).digest(), key.sign(data))


def parse_bundle(raw: bytes, *, subject: str) -> MessageBundle:
    """Read a bundle strictly.

    Raises:
        BundleError: Not JSON, another kind of bundle, an unknown member, or loose base64.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_BUNDLE_BYTES)
    except JsonError as error:
        raise BundleError(f"{subject}: {error.message}", subject=subject, hint=error.hint) from None
    top = _object(value, "the bundle", subject)
    media = top.get("mediaType")
    if media != MEDIA_TYPE:
        raise BundleError(
            f"{subject}: mediaType is {media!r}", subject=subject, hint=f"{MEDIA_TYPE} is read"
        )
    if "dsseEnvelope" in top:
        raise BundleError(
            f"{subject} holds a DSSE envelope, not a message signature",
            subject=subject,
            hint="bundles that sign a statement about a model are another kind",
        )
    _only(top, {"mediaType", "verificationMaterial", "messageSignature"}, "the bundle", subject)
    material = _object(top.get("verificationMaterial"), "verificationMaterial", subject)
    if "publicKey" not in material:
        raise BundleError(
            f"{subject} names no public key",
            subject=subject,
            hint="bundles with a certificate (keyless signing) are not read here",
        )
    _only(material, {"publicKey", "tlogEntries"}, "verificationMaterial", subject)
    if material.get("tlogEntries", []) != []:
        raise BundleError(
            f"{subject} has transparency log entries, which are not checked here", subject=subject
        )
    public = _object(material["publicKey"], "publicKey", subject)
    _only(public, {"hint"}, "publicKey", subject)
    hint = public.get("hint", "")
    if not isinstance(hint, str) or len(hint) > 256:
        raise BundleError(f"{subject}: the key hint is not a short string", subject=subject)
    message = _object(top.get("messageSignature"), "messageSignature", subject)
    _only(message, {"messageDigest", "signature"}, "messageSignature", subject)
    digest = _object(message.get("messageDigest"), "messageDigest", subject)
    _only(digest, {"algorithm", "digest"}, "messageDigest", subject)
    if digest.get("algorithm") != _DIGEST_ALGORITHM:
        raise BundleError(
            f"{subject}: digest algorithm is {digest.get('algorithm')!r}, not {_DIGEST_ALGORITHM}",
            subject=subject,
        )
    value_bytes = _base64(digest.get("digest"), "the message digest", subject)
    if len(value_bytes) != _DIGEST_BYTES:
        raise BundleError(f"{subject}: the message digest is not 32 bytes", subject=subject)
    signature = _base64(message.get("signature"), "the signature", subject)
    if not 0 < len(signature) <= _MAX_SIGNATURE_BYTES:
        raise BundleError(f"{subject}: the signature is {len(signature)} bytes", subject=subject)
    return MessageBundle(hint, value_bytes, signature)


def _object(value: object, what: str, subject: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BundleError(f"{subject}: {what} is missing or not an object", subject=subject)
    return value


def _only(value: dict[str, object], known: set[str], what: str, subject: str) -> None:
    unknown = sorted(value.keys() - known)
    if unknown:
        raise BundleError(
            f"{subject}: {what} has an unknown member {unknown[0]!r}", subject=subject
        )


def _base64(value: object, what: str, subject: str) -> bytes:
    data = decode_base64(value) if isinstance(value, str) else None
    if data is None:
        raise BundleError(f"{subject}: {what} is not canonical base64", subject=subject)
    return data
