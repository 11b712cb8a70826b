"""A certificate authority for tests: any certificate, right or wrong, signed by a real key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from r1prov.trust.certificates import Certificate, parse_certificate
from r1prov.trust.keys import PrivateKey, generate_private_key

CODE = (ExtendedKeyUsageOID.CODE_SIGNING,)


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key."""

    key: PrivateKey
    x509: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.x509.public_bytes(serialization.Encoding.PEM)

    @property
    def certificate(self) -> Certificate:
        return parse_certificate(self.der, subject="test")


def usage(**bits: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: bits.get(name, False) for name in names})


class Authority:
    """Issues certificates; what is not asked for is as it should be."""

    def root(self, name: str = "root", **how: Any) -> Issued:
        return self.issue(name, ca=True, **how)

    def leaf(self, issuer: Issued, name: str = "signer", **how: Any) -> Issued:
        return self.issue(name, issuer, **how)

    def issue(
        self,
        name: str,
        issuer: Issued | None = None,
        *,
        ca: bool = False,
        path_length: int | None = None,
        days: tuple[float, float] = (-1, 365),
        key_usage: x509.KeyUsage | str | None = "right",
        purposes: Sequence[x509.ObjectIdentifier] | str | None = "right",
        email: str | None = "signer@example.org",
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        basic: bool = True,
        algorithm: str = "ecdsa-p256",
        key: PrivateKey | None = None,
        digest: Any = None,
        serial: int | None = None,
    ) -> Issued:
        key = key or generate_private_key(algorithm)
        now = datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.x509.subject if issuer else subject)
            .public_key(key._key.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
        )
        if basic:
            builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        if key_usage == "right":
            key_usage = usage(key_cert_sign=True) if ca else usage(digital_signature=True)
        if isinstance(key_usage, x509.KeyUsage):
            builder = builder.add_extension(key_usage, critical=True)
        if purposes == "right":
            purposes = None if ca else CODE
        if purposes is not None:
            assert not isinstance(purposes, str)
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if email is not None and not ca:
            names = x509.SubjectAlternativeName([x509.RFC822Name(email)])
            builder = builder.add_extension(names, critical=False)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        signer = issuer.key if issuer else key
        hashing = digest or (None if signer.public.algorithm == "ed25519" else hashes.SHA256())
        return Issued(key, builder.sign(signer._key, hashing))


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()
