"""DSSE envelopes in Sigstore bundles v0.3: the signature of a statement about a model.

DSSE v1.0 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md): the signature is over
the payload type and the payload bytes as they are, so nothing is canonicalized and nothing is
parsed before it is verified. A Sigstore bundle holds exactly one signature in its envelope.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import BundleError, LimitExceeded
from r1prov.limits import MAX_BUNDLE_BYTES
from r1prov.trust.bundle import (
    MEDIA_TYPE,
    only_members,
    read_base64,
    read_bundle,
    read_key_hint,
    read_object,
    read_signature,
)

if TYPE_CHECKING:
    from r1prov.trust.keys import PrivateKey, PublicKey

# in-toto attestation v1, envelope.md: what an in-toto statement in JSON is called.
IN_TOTO_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MAX_PAYLOAD_TYPE_BYTES = 256


@dataclass(frozen=True, slots=True)
class DsseBundle:
    """A signature over a payload and its type.

    Attributes:
        key_hint: Which key signed, as the bundle says: only a hint.
        payload_type: Media type of the payload; signed with it.
        payload: The payload bytes, not to be parsed before the signature is verified.
        signature: The signature bytes.
    """

    key_hint: str
    payload_type: str
    payload: bytes
    signature: bytes


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that a DSSE signature is over (pre-authentication encoding).

    Both lengths count bytes, so type and payload cannot be shifted into one another.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_envelope(key: PrivateKey, payload_type: str, payload: bytes) -> bytes:
    """Sign a payload: the bundle file, one line of JSON and a newline.

    Raises:
        LimitExceeded: The bundle would be larger than r1prov reads.
    """
    value = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.key_id}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [
                {
                    "sig": base64.b64encode(key.sign(pae(payload_type, payload))).decode(),
                    "keyid": key.public.key_id,
                }
            ],
        },
    }
    raw = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    if len(raw) > MAX_BUNDLE_BYTES:
        raise LimitExceeded(
            f"the signed statement has {len(raw):,} bytes; the cap is {MAX_BUNDLE_BYTES:,}",
            hint="a statement names every file: it is too large for so many",
        )
    return raw


def parse_dsse_bundle(raw: bytes, subject: str) -> DsseBundle:
    """Read a bundle with a DSSE envelope strictly. The payload is not looked at.

    Args:
        raw: The bytes of the bundle file.
        subject: Its name, for messages.

    Raises:
        BundleError: Not JSON, another kind of bundle, an unknown member, loose base64, or not
            exactly one signature.
    """
    top = read_bundle(raw, subject=subject)
    if "messageSignature" in top:
        raise BundleError(
            f"{subject} holds a message signature, not a DSSE envelope",
            subject=subject,
            hint="that is the signature of a file, such as a manifest",
        )
    hint = read_key_hint(top, "dsseEnvelope", subject)
    envelope = read_object(top.get("dsseEnvelope"), "dsseEnvelope", subject)
    only_members(envelope, {"payload", "payloadType", "signatures"}, "dsseEnvelope", subject)
    kind = envelope.get("payloadType")
    if not isinstance(kind, str) or not 0 < len(kind.encode()) <= _MAX_PAYLOAD_TYPE_BYTES:
        raise BundleError(f"{subject}: payloadType is not a short string", subject=subject)
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise BundleError(f"{subject}: the envelope has not exactly one signature", subject=subject)
    signature = read_object(signatures[0], "the signature", subject)
    only_members(signature, {"sig", "keyid"}, "the signature", subject)
    # Not signed and only a hint (envelope.md); null and "" are what other writers put there.
    if not isinstance(signature.get("keyid") or "", str):
        raise BundleError(f"{subject}: keyid is not a string", subject=subject)
    return DsseBundle(
        key_hint=hint,
        payload_type=kind,
        payload=read_base64(envelope.get("payload"), "the payload", subject),
        signature=read_signature(signature.get("sig"), subject),
    )


def verify_envelope(bundle: DsseBundle, key: PublicKey) -> bool:
    """Whether the envelope's signature is by this key."""
    return key.verify(bundle.signature, pae(bundle.payload_type, bundle.payload))
