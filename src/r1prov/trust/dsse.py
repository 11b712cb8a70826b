"""DSSE envelopes: a payload, what kind it is, and signatures over both.

The specification is https://github.com/secure-systems-lab/dsse (protocol.md, envelope.md), v1.0.
What is signed is the pre-authentication encoding of type and payload, never the JSON around them,
so the payload counts byte for byte as it was received and is parsed only afterwards.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import BundleError, LimitExceeded
from r1prov.limits import MAX_SIGNATURES
from r1prov.text import plural, quoted
from r1prov.trust.keys import decode_base64

if TYPE_CHECKING:
    from r1prov.trust.keys import PublicKey, Signer

IN_TOTO_TYPE = "application/vnd.in-toto+json"
_MAX_TYPE = 256
_MAX_KEY_ID = 1024
# The longest we take is an RSA signature of 8192 bits.
_MAX_SIGNATURE_BYTES = 1024
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class DsseSignature:
    """One signature of an envelope.

    Attributes:
        signature: The signature bytes.
        key_id: Which key made it, as the envelope says: only a hint. Empty where it says nothing.
    """

    signature: bytes
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class DsseEnvelope:
    """A payload with signatures; nothing of it is to be believed before `signed_by` said so.

    Attributes:
        payload: The signed bytes.
        payload_type: What they are, which is signed too.
        signatures: At least one.
    """

    payload: bytes
    payload_type: str
    signatures: tuple[DsseSignature, ...]

    def signed_by(self, key: PublicKey) -> bool:
        """Whether any of the signatures is by this key."""
        signed = pre_authentication_encoding(self.payload_type, self.payload)
        return any(key.verify(one.signature, signed) for one in self.signatures)

    def to_value(self) -> dict[str, object]:
        """The envelope as JSON values."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payloadType": self.payload_type,
            "signatures": [
                {"sig": base64.b64encode(one.signature).decode(), "keyid": one.key_id}
                for one in self.signatures
            ],
        }


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: `DSSEv1`, then type and payload, each with its length before it.

    The lengths are decimal and count bytes; one space stands between any two parts.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(
    key: Signer, payload: bytes, payload_type: str, *, key_id: str = ""
) -> DsseEnvelope:
    """Sign a payload of some type; `key_id` is what the signature says of its key."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return DsseEnvelope(payload, payload_type, (DsseSignature(signature, key_id),))


def parse_envelope(value: object, *, subject: str) -> DsseEnvelope:
    """Read an envelope from parsed JSON.

    Args:
        value: What `formats.strictjson.parse_json` made of it.
        subject: The file it comes from, for messages.

    Raises:
        BundleError: A member is missing, unknown or of another type, or base64 is loose.
        LimitExceeded: More signatures than `MAX_SIGNATURES`.
    """
    top = _object(value, {"payload", "payloadType", "signatures"}, "the envelope", subject)
    kind = top.get("payloadType")
    if not isinstance(kind, str) or not 0 < len(kind) <= _MAX_TYPE:
        raise BundleError(
            f"{subject}: payloadType is missing or not a short string", subject=subject
        )
    payload = _base64(top.get("payload"), "the payload", subject)
    signatures = top.get("signatures")
    if not isinstance(signatures, list) or not signatures:
        raise BundleError(
            f"{subject}: the envelope has no signatures", subject=subject, hint="it proves nothing"
        )
    if len(signatures) > MAX_SIGNATURES:
        raise LimitExceeded(
            f"{subject}: the envelope has {plural(len(signatures), 'signature')}; the cap is "
            f"{MAX_SIGNATURES}",
            subject=subject,
        )
    return DsseEnvelope(payload, kind, tuple(_signature(one, subject) for one in signatures))


def _signature(value: object, subject: str) -> DsseSignature:
    one = _object(value, {"sig", "keyid"}, "a signature", subject)
    signature = _base64(one.get("sig"), "a signature", subject)
    if not 0 < len(signature) <= _MAX_SIGNATURE_BYTES:
        raise BundleError(
            f"{subject}: a signature has {plural(len(signature), 'byte')}", subject=subject
        )
    # Optional; early OMS tools wrote null.
    key_id = one.get("keyid")
    if key_id is None:
        key_id = ""
    if not isinstance(key_id, str) or len(key_id) > _MAX_KEY_ID:
        raise BundleError(f"{subject}: a keyid is not a short string", subject=subject)
    return DsseSignature(signature, key_id)


def _object(value: object, known: set[str], what: str, subject: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BundleError(f"{subject}: {what} is missing or not an object", subject=subject)
    unknown = sorted(value.keys() - known)
    if unknown:
        raise BundleError(
            f"{subject}: {what} has an unknown member {quoted(unknown[0])}", subject=subject
        )
    return value


def _base64(value: object, what: str, subject: str) -> bytes:
    """Bytes from base64 with the standard or the URL alphabet, as protocol.md allows.

    One alphabet a string, padded, no stray bits: nothing in it is free but that choice.
    """
    data = None
    if isinstance(value, str):
        url_safe = ("-" in value or "_" in value) and not ("+" in value or "/" in value)
        data = decode_base64(value.translate(_URL_SAFE) if url_safe else value)
    if data is None:
        raise BundleError(f"{subject}: {what} is not canonical base64", subject=subject)
    return data
