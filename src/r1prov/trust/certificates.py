"""X.509 certificates, read strictly.

RFC 5280, narrowed to what signing certificates of private authorities need. What is not evaluated
(name constraints, policies that exclude, unknown critical extensions) refuses the certificate that
asks for it. `cryptography` parses and checks signatures.
"""

from __future__ import annotations

import base64
import hashlib
import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from r1prov.errors import CertificateError, KeyFileError
from r1prov.limits import MAX_CERTIFICATE_FILE_BYTES, MAX_ROOT_CERTIFICATES
from r1prov.trust.keys import PublicKey, parse_public_key_der

if TYPE_CHECKING:
    from cryptography import x509

_EXT_KEY_USAGE: Final = "2.5.29.37"

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_BLOCK = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n(?:[A-Za-z0-9+/=]{1,76}\r?\n)+-----END CERTIFICATE-----"
)
# Extensions whose meaning is looked at, or that take nothing away by being critical. Policies
# count only where a verifier asks for one, and this one does not (RFC 5280 §6.1.1, any-policy).
_UNDERSTOOD: Final = frozenset(
    {
        "2.5.29.14",  # subjectKeyIdentifier
        "2.5.29.15",  # keyUsage
        "2.5.29.17",  # subjectAltName
        "2.5.29.19",  # basicConstraints
        "2.5.29.32",  # certificatePolicies
        "2.5.29.35",  # authorityKeyIdentifier
        _EXT_KEY_USAGE,
    }
)
_NAME_CONSTRAINTS: Final = "2.5.29.30"
_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """One certificate, with what is looked at; all of it could be read.

    Attributes:
        der: The certificate.
        subject: Name of the holder (RFC 4514).
        issuer: Name of the issuer.
        serial: Serial number, unique for its issuer.
        identities: Subject alternative names: e-mail addresses, URIs and DNS names.
        key: The holder's public key.
        not_before: First moment of validity.
        not_after: Last moment of validity.
        authority: Whether it may issue certificates (basicConstraints, keyUsage).
        max_issuers: How many further issuers may stand below it; None for any number.
        signs: Whether its key may sign data (keyUsage digitalSignature, or no keyUsage).
        commits: Whether its key may sign what it stands by for good (keyUsage contentCommitment,
            once nonRepudiation).
        purposes: Extended key usages; None where it has none, which means any.
        purposes_critical: Whether whoever does not understand the extended key usages must refuse.
        fault: Why it can be part of no chain, or None.
    """

    der: bytes
    subject: str
    issuer: str
    serial: int
    identities: tuple[str, ...]
    key: PublicKey
    not_before: datetime
    not_after: datetime
    authority: bool
    max_issuers: int | None
    signs: bool
    commits: bool
    purposes: frozenset[str] | None
    purposes_critical: bool
    fault: str | None
    _parsed: Any

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hex."""
        return hashlib.sha256(self.der).hexdigest()

    def pem(self) -> bytes:
        """The certificate as one PEM block."""
        text = base64.b64encode(self.der).decode()
        lines = [text[i : i + 64] for i in range(0, len(text), 64)]
        return "\n".join([_BEGIN, *lines, _END, ""]).encode()

    def to_cryptography(self) -> x509.Certificate:
        """The certificate as the library has it."""
        parsed: x509.Certificate = self._parsed
        return parsed

    @property
    def self_signed(self) -> bool:
        """Whether it is issued by its own key, as roots are."""
        return self.issued_by(self)

    def issued_by(self, other: Certificate) -> bool:
        """Whether `other` has the issuer's name and its key made the signature."""
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

        try:
            self._parsed.verify_directly_issued_by(other._parsed)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)


def parse_certificates(pem: bytes, *, subject: str) -> tuple[Certificate, ...]:
    """Read a PEM file of certificates; text around them, as in root bundles, is passed over.

    Raises:
        CertificateError: None in it, too many, one malformed, or a private key beside them.
    """
    if len(pem) > MAX_CERTIFICATE_FILE_BYTES:
        raise CertificateError(f"{subject} is too large for certificates", subject=subject)
    if b"PRIVATE KEY-----" in pem:
        raise CertificateError(
            f"{subject} holds a private key, and certificates are wanted",
            subject=subject,
            hint="give a file with certificates only; if the key was published, revoke it",
        )
    blocks = _BLOCK.findall(pem)
    if not blocks or len(blocks) != pem.count(b"-----BEGIN "):
        what = "has a malformed PEM block" if blocks else "holds no PEM certificate"
        raise CertificateError(
            f"{subject} {what}", subject=subject, hint="`-----BEGIN CERTIFICATE-----` is read"
        )
    if len(blocks) > MAX_ROOT_CERTIFICATES:
        raise CertificateError(
            f"{subject} has {len(blocks):,} certificates; the cap is {MAX_ROOT_CERTIFICATES:,}",
            subject=subject,
        )
    found = []
    for number, block in enumerate(blocks, 1):
        where = subject if len(blocks) == 1 else f"{subject}, certificate {number}"
        try:
            der = base64.b64decode(b"".join(block.split(b"\n")[1:-1]).replace(b"\r", b""))
        except ValueError:
            raise CertificateError(f"{where} is not base64", subject=subject) from None
        found.append(parse_certificate(der, subject=where))
    return tuple(found)


def parse_certificate(der: bytes, *, subject: str) -> Certificate:
    """Read one certificate and everything in it that is looked at.

    Raises:
        CertificateError: Malformed, or its key is of a kind that is not taken. Nothing else is
            raised, whatever the bytes.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import (
        DuplicateExtension,
        InvalidVersion,
        UnsupportedGeneralNameType,
        load_der_x509_certificate,
    )

    try:
        with warnings.catch_warnings():
            # `cryptography` warns of what it will refuse one day, such as a serial number of 0.
            warnings.simplefilter("ignore")
            parsed = load_der_x509_certificate(der)
            spki = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return _certificate(der, parsed, parse_public_key_der(spki, subject=subject))
    except KeyFileError as error:
        raise CertificateError(
            f"the key of {error.message}", subject=subject, hint=error.hint
        ) from None
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        DuplicateExtension,
        InvalidVersion,
        UnsupportedGeneralNameType,
    ) as error:
        raise CertificateError(
            f"{subject} is not a certificate that can be read: {error}", subject=subject
        ) from None


def _certificate(der: bytes, parsed: x509.Certificate, key: PublicKey) -> Certificate:
    from cryptography import x509

    extensions = {one.oid.dotted_string: one for one in parsed.extensions}
    found = {type(one.value): one.value for one in parsed.extensions}
    basic = found.get(x509.BasicConstraints)
    usage = found.get(x509.KeyUsage)
    purposes = found.get(x509.ExtendedKeyUsage)
    names = found.get(x509.SubjectAlternativeName)
    identities: list[str] = []
    if names is not None:
        for kind in (x509.RFC822Name, x509.UniformResourceIdentifier, x509.DNSName):
            identities += names.get_values_for_type(kind)
    return Certificate(
        der=der,
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        serial=parsed.serial_number,
        identities=tuple(identities),
        key=key,
        not_before=parsed.not_valid_before_utc,
        not_after=parsed.not_valid_after_utc,
        # RFC 5280 §4.2.1.9 and §4.2.1.3: without basicConstraints a certificate is no authority.
        authority=bool(basic and basic.ca) and (usage is None or usage.key_cert_sign),
        max_issuers=basic.path_length if basic and basic.ca else None,
        signs=usage is None or usage.digital_signature,
        commits=usage is not None and usage.content_commitment,
        purposes=None if purposes is None else frozenset(one.dotted_string for one in purposes),
        purposes_critical=_EXT_KEY_USAGE in extensions and extensions[_EXT_KEY_USAGE].critical,
        fault=_fault(parsed, extensions),
        _parsed=parsed,
    )


def _fault(
    parsed: x509.Certificate, extensions: dict[str, x509.Extension[x509.ExtensionType]]
) -> str | None:
    from cryptography import x509

    if parsed.version is not x509.Version.v3:
        return "is not an X.509 version 3 certificate"
    # None for EdDSA, which has its hash built in.
    hashing = parsed.signature_hash_algorithm
    if hashing is not None and hashing.name not in _HASHES:
        return f"is signed over {hashing.name}, which is too weak"
    if _NAME_CONSTRAINTS in extensions:
        return "has name constraints, which are not evaluated"
    for oid, one in extensions.items():
        if one.critical and oid not in _UNDERSTOOD:
            return f"has the critical extension {oid}, which is not understood"
    return None
