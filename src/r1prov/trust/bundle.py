"""Sigstore bundles v0.3: a message signature, or a DSSE envelope, with what verifies it.

The native signature of a manifest is a bundle with a message signature: the form is
`dev.sigstore.bundle.v1.Bundle` in its JSON encoding, with a public key by hint, or the signer's
certificate, and no transparency log entry, so that other Sigstore clients can check it too. Bundles
with a DSSE envelope sign statements, such as those of OpenSSF Model Signing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import BundleError, JsonError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import (
    MAX_BUNDLE_BYTES,
    MAX_CHAIN_CERTIFICATES,
    MAX_OMS_BUNDLE_BYTES,
    MAX_SIGNATURES,
)
from r1prov.text import quoted
from r1prov.trust.chains import signer_chain
from r1prov.trust.dsse import DsseEnvelope, parse_envelope
from r1prov.trust.keys import decode_base64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import Signer

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# Clients of Sigstore take a chain of certificates from this version alone, and from version 0.3 the
# signer's certificate; OpenSSF Model Signing has chains in version 0.3.
CHAIN_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle+json;version=0.2"
# sigstore_bundle.proto: both spellings mean version 0.3.
_MEDIA_TYPES = (MEDIA_TYPE, "application/vnd.dev.sigstore.bundle+json;version=0.3")
_ALL_MEDIA_TYPES = (*_MEDIA_TYPES, CHAIN_MEDIA_TYPE)
_MAX_HINT = 256
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
        certificates: DER of the signer's certificate, then of its issuers; none if the bundle is
            signed with a key that is known by other means.
        timestamps: Timestamps over the signature (RFC 3161 answers, DER).
    """

    key_hint: str
    digest: bytes
    signature: bytes
    certificates: tuple[bytes, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    def to_json(self) -> bytes:
        """The bundle file: one line of JSON and a newline."""
        material: dict[str, object] = {"publicKey": {"hint": self.key_hint}}
        if len(self.certificates) == 1:
            material = {"certificate": _raw_bytes(self.certificates[0])}
        elif self.certificates:
            chain = {"certificates": [_raw_bytes(one) for one in self.certificates]}
            material = {"x509CertificateChain": chain}
        material["tlogEntries"] = []
        if self.timestamps:
            material["timestampVerificationData"] = _stamped(self.timestamps)
        value = {
            "mediaType": CHAIN_MEDIA_TYPE if len(self.certificates) > 1 else MEDIA_TYPE,
            "verificationMaterial": material,
            "messageSignature": {
                "messageDigest": {
                    "algorithm": _DIGEST_ALGORITHM,
                    "digest": base64.b64encode(self.digest).decode(),
                },
                "signature": base64.b64encode(self.signature).decode(),
            },
        }
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def sign_message(
    key: Signer, data: bytes, certificates: Sequence[Certificate] = ()
) -> MessageBundle:
    """Sign the exact bytes of `data`.

    Args:
        key: The key that signs.
        data: What is signed.
        certificates: The key's certificate and its issuers, for those who trust the root; without
            them the signature is for those who know the key.

    Raises:
        CertificateError: The first certificate is not that of the key, or there are too many.
    """
    digest, signature = hashlib.sha256(data).digest(), key.sign(data)
    if not certificates:
        return MessageBundle(key.public.key_id, digest, signature)
    sent = tuple(one.der for one in signer_chain(key.public, certificates))
    return MessageBundle("", digest, signature, sent)


def signature_of(raw: bytes, *, subject: str) -> bytes:
    """The signature in a bundle of either kind: what a timestamp is over.

    Raises:
        BundleError: It is not a bundle that is read here.
        LimitExceeded: More signatures than any bundle has.
    """
    if "dsseEnvelope" in _members(raw, _ALL_MEDIA_TYPES, MAX_OMS_BUNDLE_BYTES, subject):
        bundle = parse_dsse_bundle(raw, subject=subject, max_bytes=MAX_OMS_BUNDLE_BYTES)
        return bundle.envelope.signatures[0].signature
    return parse_bundle(raw, subject=subject).signature


def with_timestamp(raw: bytes, timestamp: bytes, *, subject: str) -> bytes:
    """A bundle of either kind with one timestamp more, and else as it was.

    Raises:
        BundleError: It is not a bundle that is read here, or has no room for a timestamp.
        LimitExceeded: More signatures than any bundle has.
    """
    signature_of(raw, subject=subject)
    value = _members(raw, _ALL_MEDIA_TYPES, MAX_OMS_BUNDLE_BYTES, subject)
    material = _object(value["verificationMaterial"], "verificationMaterial", subject)
    stamps = (*_timestamps(material, subject), timestamp)
    if len(stamps) > MAX_SIGNATURES:
        raise BundleError(
            f"{subject} has {MAX_SIGNATURES} timestamps, and takes no more", subject=subject
        )
    material["timestampVerificationData"] = _stamped(stamps)
    grown = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    cap = MAX_OMS_BUNDLE_BYTES if "dsseEnvelope" in value else MAX_BUNDLE_BYTES
    if len(grown) > cap:
        # Nobody would read it, and it takes the place of one that is read.
        raise BundleError(
            f"{subject} with one timestamp more has {len(grown):,} bytes; the cap is {cap:,}",
            subject=subject,
        )
    return grown


def count_timestamps(raw: bytes, *, subject: str) -> int:
    """How many timestamps a bundle of either kind has.

    Raises:
        BundleError: It is not a bundle that is read here.
        LimitExceeded: More signatures than any bundle has.
    """
    signature_of(raw, subject=subject)
    value = _members(raw, _ALL_MEDIA_TYPES, MAX_OMS_BUNDLE_BYTES, subject)
    return len(_timestamps(_object(value["verificationMaterial"], "", subject), subject))


def _raw_bytes(der: bytes) -> dict[str, str]:
    return {"rawBytes": base64.b64encode(der).decode()}


def _stamped(timestamps: Sequence[bytes]) -> dict[str, object]:
    stamps = [{"signedTimestamp": base64.b64encode(one).decode()} for one in timestamps]
    return {"rfc3161Timestamps": stamps}


def parse_bundle(raw: bytes, *, subject: str) -> MessageBundle:
    """Read a bundle strictly.

    Raises:
        BundleError: Not JSON, another kind of bundle, an unknown member, or loose base64.
    """
    top = _members(raw, (MEDIA_TYPE, CHAIN_MEDIA_TYPE), MAX_BUNDLE_BYTES, subject)
    if "dsseEnvelope" in top:
        raise BundleError(
            f"{subject} holds a DSSE envelope, not a message signature",
            subject=subject,
            hint="bundles that sign a statement about a model are another kind",
        )
    _only(top, {"mediaType", "verificationMaterial", "messageSignature"}, "the bundle", subject)
    material = _object(top.get("verificationMaterial"), "verificationMaterial", subject)
    kind = _material(material, subject)
    if material.get("tlogEntries", []) != []:
        raise BundleError(
            f"{subject} has transparency log entries, which are not checked here",
            subject=subject,
            hint="keyless signatures are read of models, not of manifests",
        )
    if top["mediaType"] == CHAIN_MEDIA_TYPE and not isinstance(kind, ChainMaterial):
        raise BundleError(
            f"{subject}: bundles of version 0.2 are read with a chain of certificates only",
            subject=subject,
            hint=f"others are {MEDIA_TYPE}",
        )
    hint = ""
    certificates: tuple[bytes, ...] = ()
    if isinstance(kind, KeyMaterial):
        if kind.key is not None:
            raise BundleError(
                f"{subject} brings its own key",
                subject=subject,
                hint="keys are from the trust store",
            )
        hint = kind.hint
    elif isinstance(kind, ChainMaterial):
        certificates = kind.certificates
    else:
        certificates = (kind.certificate,)
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
    return MessageBundle(hint, value_bytes, signature, certificates, _timestamps(material, subject))


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The bundle is signed with a key, which it names.

    Attributes:
        hint: Which key, in the words of the tool that wrote the bundle; may be empty.
        key: The key itself, PEM or DER, as model_signing 0.3.1 to 1.0.1 wrote it.
    """

    hint: str
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class ChainMaterial:
    """The bundle is signed with a certificate: DER of the leaf, then of its issuers."""

    certificates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeylessMaterial:
    """The bundle is signed with a short-lived certificate that a transparency log recorded."""

    certificate: bytes


@dataclass(frozen=True, slots=True)
class DsseBundle:
    """A signed envelope and what verifies it. Nothing of it is verified by reading it.

    Attributes:
        material: What verifies the envelope, one of three kinds.
        envelope: The payload and its one signature.
        log_entries: Number of transparency log entries.
        timestamps: Signed timestamps (RFC 3161 responses, DER).
        raw: The bundle file.
    """

    material: KeyMaterial | ChainMaterial | KeylessMaterial
    envelope: DsseEnvelope
    log_entries: int
    timestamps: tuple[bytes, ...]
    raw: bytes


def write_dsse_bundle(envelope: DsseEnvelope, material: Mapping[str, object]) -> bytes:
    """A bundle file with an envelope: one line of JSON and a newline.

    Args:
        envelope: The signed envelope.
        material: What verifies it, as JSON: the one member of `verificationMaterial` that says so.
    """
    value = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {**material, "tlogEntries": []},
        "dsseEnvelope": envelope.to_value(),
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def parse_dsse_bundle(raw: bytes, *, subject: str, max_bytes: int = MAX_BUNDLE_BYTES) -> DsseBundle:
    """Read a bundle with a DSSE envelope strictly.

    What belongs to the transparency log is left to the library that verifies it.

    Raises:
        BundleError: Not JSON, another kind of bundle, an unknown member, or loose base64.
        LimitExceeded: More signatures than any bundle has.
    """
    top = _members(raw, _MEDIA_TYPES, max_bytes, subject)
    if "messageSignature" in top:
        raise BundleError(
            f"{subject} holds a message signature, not a DSSE envelope",
            subject=subject,
            hint="bundles that sign the bytes of a file are another kind",
        )
    _only(top, {"mediaType", "verificationMaterial", "dsseEnvelope"}, "the bundle", subject)
    material = _object(top.get("verificationMaterial"), "verificationMaterial", subject)
    envelope = parse_envelope(top.get("dsseEnvelope"), subject=subject)
    # sigstore_bundle.proto: "DSSE envelopes in a bundle MUST have exactly one signature."
    if len(envelope.signatures) != 1:
        raise BundleError(
            f"{subject}: the envelope of a bundle has exactly one signature, and this one "
            f"{len(envelope.signatures)}",
            subject=subject,
        )
    entries = _list(material.get("tlogEntries", []), "tlogEntries", subject)
    for entry in entries:
        _object(entry, "a transparency log entry", subject)
    kind = _material(material, subject)
    if isinstance(kind, KeylessMaterial) and not entries:
        raise BundleError(
            f"{subject} has a certificate for keyless signing and no transparency log entry",
            subject=subject,
        )
    return DsseBundle(kind, envelope, len(entries), _timestamps(material, subject), raw)


def _material(
    material: dict[str, object], subject: str
) -> KeyMaterial | ChainMaterial | KeylessMaterial:
    kinds = ("publicKey", "x509CertificateChain", "certificate")
    _only(
        material,
        {*kinds, "tlogEntries", "timestampVerificationData"},
        "verificationMaterial",
        subject,
    )
    found = [kind for kind in kinds if kind in material]
    if len(found) != 1:
        raise BundleError(
            f"{subject}: verificationMaterial must have one of {', '.join(kinds)}, and has "
            f"{' and '.join(found) or 'none'}",
            subject=subject,
        )
    value = _object(material[found[0]], found[0], subject)
    if found[0] == "publicKey":
        return _key_material(value, subject)
    if found[0] == "certificate":
        return KeylessMaterial(_certificate(value, subject))
    _only(value, {"certificates"}, "x509CertificateChain", subject)
    chain = _list(value.get("certificates"), "certificates", subject)
    if not 1 <= len(chain) <= MAX_CHAIN_CERTIFICATES:
        raise BundleError(
            f"{subject} has {len(chain)} certificates, not 1 to {MAX_CHAIN_CERTIFICATES}",
            subject=subject,
        )
    return ChainMaterial(
        tuple(_certificate(_object(one, "a certificate", subject), subject) for one in chain)
    )


def _key_material(value: dict[str, object], subject: str) -> KeyMaterial:
    _only(value, {"hint", "rawBytes", "keyDetails"}, "publicKey", subject)
    hint = value.get("hint")
    hint = "" if hint is None else _hint(hint, subject)
    if not isinstance(value.get("keyDetails", ""), str):
        raise BundleError(f"{subject}: keyDetails is not a string", subject=subject)
    key = _base64(value["rawBytes"], "the public key", subject) if "rawBytes" in value else None
    return KeyMaterial(hint, key)


def _certificate(value: dict[str, object], subject: str) -> bytes:
    _only(value, {"rawBytes"}, "a certificate", subject)
    return _base64(value.get("rawBytes"), "a certificate", subject)


def _timestamps(material: dict[str, object], subject: str) -> tuple[bytes, ...]:
    if "timestampVerificationData" not in material:
        return ()
    data = _object(material["timestampVerificationData"], "timestampVerificationData", subject)
    _only(data, {"rfc3161Timestamps"}, "timestampVerificationData", subject)
    stamps = _list(data.get("rfc3161Timestamps", []), "rfc3161Timestamps", subject)
    found = []
    for stamp in stamps:
        one = _object(stamp, "a timestamp", subject)
        _only(one, {"signedTimestamp"}, "a timestamp", subject)
        found.append(_base64(one.get("signedTimestamp"), "a timestamp", subject))
    return tuple(found)


def _members(
    raw: bytes, media_types: tuple[str, ...], max_bytes: int, subject: str
) -> dict[str, object]:
    """The members of a bundle of one of these media types, whatever it holds."""
    try:
        value = parse_json(raw, subject=subject, max_bytes=max_bytes)
    except JsonError as error:
        raise BundleError(f"{subject}: {error.message}", subject=subject, hint=error.hint) from None
    top = _object(value, "the bundle", subject)
    media = top.get("mediaType")
    if media not in media_types:
        raise BundleError(
            f"{subject}: mediaType is {quoted(repr(media), limit=80)}",
            subject=subject,
            hint=f"{MEDIA_TYPE} is read",
        )
    return top


def _hint(value: object, subject: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_HINT:
        raise BundleError(f"{subject}: the key hint is not a short string", subject=subject)
    return value


def _list(value: object, what: str, subject: str) -> list[object]:
    if not isinstance(value, list) or len(value) > MAX_SIGNATURES:
        raise BundleError(
            f"{subject}: {what} is not a list of at most {MAX_SIGNATURES}", subject=subject
        )
    return value


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
