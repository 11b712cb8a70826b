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
    """Read a bundle with a message signature strictly.

    Raises:
        BundleError: Not JSON, another kind of bundle, an unknown member, or loose base64.
    """
    top = read_bundle(raw, subject=subject)
    if "dsseEnvelope" in top:
        raise BundleError(
            f"{subject} holds a DSSE envelope, not a message signature",
            subject=subject,
            hint="bundles that sign a statement about a model are another kind",
        )
    hint = read_key_hint(top, "messageSignature", subject)
    message = read_object(top.get("messageSignature"), "messageSignature", subject)
    only_members(message, {"messageDigest", "signature"}, "messageSignature", subject)
    digest = read_object(message.get("messageDigest"), "messageDigest", subject)
    only_members(digest, {"algorithm", "digest"}, "messageDigest", subject)
    if digest.get("algorithm") != _DIGEST_ALGORITHM:
        raise BundleError(
            f"{subject}: digest algorithm is {digest.get('algorithm')!r}, not {_DIGEST_ALGORITHM}",
            subject=subject,
        )
    value_bytes = read_base64(digest.get("digest"), "the message digest", subject)
    if len(value_bytes) != _DIGEST_BYTES:
        raise BundleError(f"{subject}: the message digest is not 32 bytes", subject=subject)
    return MessageBundle(hint, value_bytes, read_signature(message.get("signature"), subject))


def read_bundle(raw: bytes, *, subject: str) -> dict[str, object]:
    """The members of a bundle of our media type, whatever its content.

    Raises:
        BundleError: Not strict JSON, not an object, or of another media type.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_BUNDLE_BYTES)
    except JsonError as error:
        raise BundleError(f"{subject}: {error.message}", subject=subject, hint=error.hint) from None
    top = read_object(value, "the bundle", subject)
    media = top.get("mediaType")
    if media != MEDIA_TYPE:
        raise BundleError(
            f"{subject}: mediaType is {media!r}", subject=subject, hint=f"{MEDIA_TYPE} is read"
        )
    return top


def read_key_hint(top: dict[str, object], content: str, subject: str) -> str:
    """The key hint of a bundle whose content is the member `content`.

    Raises:
        BundleError: Another member, a certificate, or transparency log entries.
    """
    only_members(top, {"mediaType", "verificationMaterial", content}, "the bundle", subject)
    material = read_object(top.get("verificationMaterial"), "verificationMaterial", subject)
    if "publicKey" not in material:
        raise BundleError(
            f"{subject} names no public key",
            subject=subject,
            hint="bundles with a certificate (keyless signing) are not read here",
        )
    only_members(material, {"publicKey", "tlogEntries"}, "verificationMaterial", subject)
    if material.get("tlogEntries", []) != []:
        raise BundleError(
            f"{subject} has transparency log entries, which are not checked here", subject=subject
        )
    public = read_object(material["publicKey"], "publicKey", subject)
    only_members(public, {"hint"}, "publicKey", subject)
    hint = public.get("hint", "")
    if not isinstance(hint, str) or len(hint) > 256:
        raise BundleError(f"{subject}: the key hint is not a short string", subject=subject)
    return hint


def read_signature(value: object, subject: str) -> bytes:
    """The bytes of a signature member.

    Raises:
        BundleError: Loose base64, empty, or longer than any key that is taken makes.
    """
    signature = read_base64(value, "the signature", subject)
    if not 0 < len(signature) <= _MAX_SIGNATURE_BYTES:
        raise BundleError(f"{subject}: the signature is {len(signature)} bytes", subject=subject)
    return signature


def read_object(value: object, what: str, subject: str) -> dict[str, object]:
    """`value`, if it is an object."""
    if not isinstance(value, dict):
        raise BundleError(f"{subject}: {what} is missing or not an object", subject=subject)
    return value


def only_members(value: dict[str, object], known: set[str], what: str, subject: str) -> None:
    """Refuse members that are not `known`."""
    unknown = sorted(value.keys() - known)
    if unknown:
        raise BundleError(
            f"{subject}: {what} has an unknown member {unknown[0]!r}", subject=subject
        )


def read_base64(value: object, what: str, subject: str) -> bytes:
    """The bytes of a member in canonical base64."""
    data = decode_base64(value) if isinstance(value, str) else None
    if data is None:
        raise BundleError(f"{subject}: {what} is not canonical base64", subject=subject)
    return data
