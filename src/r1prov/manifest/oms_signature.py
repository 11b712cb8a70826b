"""Who signed an OpenSSF Model Signing bundle, and whether that is whom the caller trusts."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import CertificateError, KeyFileError
from r1prov.manifest.oms_statement import WITHDRAWN_PREDICATE
from r1prov.text import quoted
from r1prov.trust.bundle import ChainMaterial, KeyMaterial
from r1prov.trust.certificates import parse_certificate
from r1prov.trust.chains import verify_chain
from r1prov.trust.keyless import verify_keyless
from r1prov.trust.keys import ECDSA, PublicKey, parse_public_key, parse_public_key_der

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from r1prov.trust.bundle import DsseBundle, KeylessMaterial
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keyless import KeylessPolicy

# algorithm-registry.md names these and no other for keys and certificates. For RSA it does not say
# which padding, and no producer signs with one.
_ALGORITHMS = frozenset(name for name, _ in ECDSA.values())


@dataclass(frozen=True, slots=True)
class OmsFinding:
    """One reason not to accept a signature or a model.

    Attributes:
        rule: Name of the rule in the rule table.
        subject: File or thing it is about (untrusted text).
        message: One sentence without a full stop (may hold untrusted text).
        expected: What the rule or signature asks for.
        found: What is there.
        hint: What to do next.
    """

    rule: str
    subject: str
    message: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class OmsSigner:
    """Who signed.

    Attributes:
        method: `key`, `certificate` or `keyless`.
        key: The signing key.
        name: Holder of the certificate (RFC 4514), or empty.
        identities: E-mail addresses, URIs and DNS names of the certificate.
        issuer: Root that the certificate leads to, or the identity provider, or empty.
    """

    method: str
    key: PublicKey
    name: str = ""
    identities: tuple[str, ...] = ()
    issuer: str = ""

    @property
    def key_id(self) -> str:
        """SHA-256 of the signing key's SubjectPublicKeyInfo in hex."""
        return self.key.key_id


def verify_with_key(bundle: DsseBundle, subject: str, key: PublicKey) -> OmsFinding | OmsSigner:
    """Verify a bundle that must be signed with a key."""
    material = bundle.material
    if not isinstance(material, KeyMaterial):
        return _other_method(subject, "a key", material)
    fault = _kind_fault(key, subject) or _named_key_fault(material, key, subject)
    if fault is not None:
        return fault
    if not bundle.envelope.signed_by(key):
        return _bad_signature(bundle, subject, f"key {key.key_id8}")
    return OmsSigner("key", key)


def _kind_fault(key: PublicKey, subject: str) -> OmsFinding | None:
    if key.algorithm in _ALGORITHMS:
        return None
    return OmsFinding(
        "oms-unsupported",
        subject,
        "the signing key is of a kind that OpenSSF Model Signing does not have",
        expected="ECDSA P-256, P-384 or P-521",
        found=key.algorithm,
    )


def key_hints(key: PublicKey) -> tuple[str, ...]:
    """What tools call a key in a bundle, the first being what is written here.

    model_signing takes the SHA-256 of the PEM text; the rest of the world that of the DER, in hex
    or base64.
    """
    der = hashlib.sha256(key.spki).digest()
    return (
        hashlib.sha256(key.pem()).hexdigest(),
        der.hex(),
        base64.b64encode(der).decode(),
    )


def _named_key_fault(material: KeyMaterial, key: PublicKey, subject: str) -> OmsFinding | None:
    """Whether the bundle says that it is signed with another key."""
    named = material.hint
    other = bool(named) and named not in key_hints(key)
    if material.key is not None and not other:
        try:
            if material.key.startswith(b"-----BEGIN "):
                carried = parse_public_key(material.key, subject="the bundle's key")
            else:
                carried = parse_public_key_der(material.key, subject="the bundle's key")
        except KeyFileError as error:
            return OmsFinding("oms-bundle", subject, error.message, hint=error.hint)
        other, named = carried != key, key_hints(carried)[0]
    if not other:
        return None
    return OmsFinding(
        "signer-unknown",
        subject,
        "the bundle names another key than the given one",
        expected=f"key {key_hints(key)[0]}",
        found=f"key {quoted(named, limit=100)}",
        hint="get the signer's public key over another channel than the model",
    )


def verify_with_certificates(
    bundle: DsseBundle,
    subject: str,
    roots: Sequence[Certificate],
    *,
    at: datetime,
    identity: str | None = None,
) -> OmsFinding | OmsSigner:
    """Verify a bundle that must be signed with a certificate that leads to one of `roots`."""
    material = bundle.material
    if not isinstance(material, ChainMaterial):
        return _other_method(subject, "a certificate", material)
    try:
        leaf, *issuers = [
            parse_certificate(der, subject=f"{subject}, certificate {number}")
            for number, der in enumerate(material.certificates, 1)
        ]
    except CertificateError as error:
        return OmsFinding("certificate-usage", subject, error.message, hint=error.hint)
    fault = _kind_fault(leaf.key, subject)
    if fault is not None:
        return fault
    decision = verify_chain(leaf, issuers, roots, at=at)
    if decision.fault is not None:
        return OmsFinding(
            decision.fault.rule,
            subject,
            decision.fault.message,
            expected=decision.fault.expected,
            found=decision.fault.found,
        )
    if not bundle.envelope.signed_by(leaf.key):
        return _bad_signature(bundle, subject, f"the certificate of {quoted(leaf.subject)}")
    if identity is not None and identity not in leaf.identities:
        return OmsFinding(
            "signer-identity",
            subject,
            "signed by another identity than expected",
            expected=quoted(identity),
            found=", ".join(map(quoted, leaf.identities)) or "a certificate without identities",
        )
    return OmsSigner(
        "certificate",
        leaf.key,
        leaf.subject,
        leaf.identities,
        decision.path[-1].subject,
    )


def verify_without_key(
    bundle: DsseBundle, subject: str, policy: KeylessPolicy
) -> OmsFinding | OmsSigner:
    """Verify a bundle that must be signed keylessly, by the identity of the policy.

    Raises:
        UsageError: The extra `sigstore` is not installed.
        TrustFileError: The trusted root is malformed.
    """
    material = bundle.material
    if isinstance(material, KeyMaterial | ChainMaterial):
        return _other_method(subject, "a keyless certificate", material)
    reason = verify_keyless(bundle, policy)
    if reason is not None:
        return OmsFinding(
            "signature-invalid",
            subject,
            f"the keyless signature does not verify: {reason}",
            expected=f"signed by {quoted(policy.identity)}, vouched for by {quoted(policy.issuer)}",
        )
    try:
        certificate = parse_certificate(material.certificate, subject=subject)
    except CertificateError as error:
        return OmsFinding("certificate-usage", subject, error.message, hint=error.hint)
    return OmsSigner(
        "keyless",
        certificate.key,
        certificate.subject,
        certificate.identities,
        policy.issuer,
    )


def _bad_signature(bundle: DsseBundle, subject: str, who: str) -> OmsFinding:
    hint = None
    # Nothing of the payload is to be believed; this only explains.
    if WITHDRAWN_PREDICATE.encode() in bundle.envelope.payload:
        hint = "it looks like one of model_signing 0.2.0, whose form is not read: sign again"
    return OmsFinding(
        "signature-invalid",
        subject,
        f"the signature is not one of {who} over this statement",
        expected=f"a signature of {who}",
        found="another key, or a signature or statement that was changed",
        hint=hint,
    )


def _other_method(
    subject: str, wanted: str, material: KeyMaterial | ChainMaterial | KeylessMaterial
) -> OmsFinding:
    found = "a keyless certificate"
    if isinstance(material, KeyMaterial):
        found = "a key"
    elif isinstance(material, ChainMaterial):
        found = "a certificate"
    return OmsFinding(
        "signer-unknown",
        subject,
        "the bundle is signed by another method than was asked for",
        expected=f"signed with {wanted}",
        found=f"signed with {found}",
    )
