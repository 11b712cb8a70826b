"""Keyless OMS bundles, verified offline against a Sigstore instance made here.

The instance is small and whole: a certificate authority, a certificate transparency log and a
transparency log, each with a key of its own, and a trusted root that names them. `sigstore` checks
all of it as it does for the public instance; nothing of that package is replaced.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from r1prov.errors import TrustFileError, UsageError
from r1prov.manifest.oms import OmsResult, describe_store, parse_oms_bundle, verify_oms
from r1prov.manifest.oms_statement import statement_json
from r1prov.stores.local import LocalStore
from r1prov.trust.bundle import MEDIA_TYPE
from r1prov.trust.dsse import IN_TOTO_TYPE, sign_envelope
from r1prov.trust.keyless import KeylessPolicy
from r1prov.trust.keys import PrivateKey, PublicKey, generate_private_key

WHO, ISSUER = "signer@example.org", "https://login.example.org"
# Fulcio's extension for the OpenID Connect issuer, and RFC 6962 §3.3 for timestamps.
OIDC = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@dataclass
class Instance:
    """A Sigstore instance with keys of its own."""

    root: Any
    log: PrivateKey = field(default_factory=lambda: generate_private_key("ecdsa-p256"))
    ct_log: PrivateKey = field(default_factory=lambda: generate_private_key("ecdsa-p256"))
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def trusted_root(self) -> bytes:
        start = (self.now - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

        def log(key: PublicKey, url: str) -> dict[str, object]:
            return {
                "baseUrl": url,
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": b64(key.spki),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": {"start": start},
                },
                "logId": {"keyId": b64(hashlib.sha256(key.spki).digest())},
            }

        value = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log.public, "https://log.example.org")],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "example", "commonName": "root"},
                    "uri": "https://ca.example.org",
                    "certChain": {"certificates": [{"rawBytes": b64(self.root.der)}]},
                    "validFor": {"start": start},
                }
            ],
            "ctlogs": [log(self.ct_log.public, "https://ct.example.org")],
            "timestampAuthorities": [],
        }
        return json.dumps(value).encode()

    def certificate(self, key: PrivateKey) -> x509.Certificate:
        """A ten-minute certificate with a signed certificate timestamp."""
        usage = dict.fromkeys(
            (
                *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
                *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
            ),
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.x509.subject)
            .public_key(key._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now)
            .not_valid_after(self.now + timedelta(minutes=10))
            .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(WHO)]), critical=True)
            .add_extension(x509.UnrecognizedExtension(OIDC, ISSUER.encode()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.root.x509.public_key()),
                critical=False,
            )
        )
        tbs = builder.sign(self.root.key._key, hashes.SHA256()).tbs_certificate_bytes
        when = struct.pack(">Q", int(self.now.timestamp() * 1000))
        issuer = hashlib.sha256(self.root.key.public.spki).digest()
        length = struct.pack(">I", len(tbs))[1:]
        signature = self.ct_log.sign(b"\0\0" + when + b"\0\1" + issuer + length + tbs + b"\0\0")
        sct = (
            b"\0"
            + hashlib.sha256(self.ct_log.public.spki).digest()
            + when
            + b"\0\0"
            + b"\4\3"
            + struct.pack(">H", len(signature))
            + signature
        )
        listed = struct.pack(">HH", len(sct) + 2, len(sct)) + sct
        octets = b"\x04" + (b"\x81" if len(listed) > 127 else b"") + bytes([len(listed)]) + listed
        extension = x509.UnrecognizedExtension(SCT_LIST, octets)
        return builder.add_extension(extension, critical=False).sign(
            self.root.key._key, hashes.SHA256()
        )

    def entry(self, envelope: Any, certificate: x509.Certificate) -> dict[str, object]:
        """The log's only entry, with its promise, proof and checkpoint."""
        body = canonical(
            {
                "apiVersion": "0.0.1",
                "kind": "dsse",
                "spec": {
                    "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                    "payloadHash": {
                        "algorithm": "sha256",
                        "value": hashlib.sha256(envelope.payload).hexdigest(),
                    },
                    "signatures": [
                        {
                            "signature": b64(envelope.signatures[0].signature),
                            "verifier": b64(certificate.public_bytes(Encoding.PEM)),
                        }
                    ],
                },
            }
        )
        log_id = hashlib.sha256(self.log.public.spki).digest()
        time = int(self.now.timestamp()) + 1
        promise = {"body": b64(body), "integratedTime": time, "logID": log_id.hex(), "logIndex": 0}
        root = hashlib.sha256(b"\0" + body).digest()
        note = f"log.example.org - 1\n1\n{b64(root)}\n"
        signature = b64(log_id[:4] + self.log.sign(note.encode()))
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(log_id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": b64(self.log.sign(canonical(promise)))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": f"{note}\n— log.example.org {signature}\n"},
            },
            "canonicalizedBody": b64(body),
        }

    def sign(self, model: Path) -> bytes:
        key = generate_private_key("ecdsa-p256")
        certificate = self.certificate(key)
        payload = statement_json(describe_store(LocalStore(model)))
        envelope = sign_envelope(key, payload, IN_TOTO_TYPE)
        return json.dumps(
            {
                "mediaType": MEDIA_TYPE,
                "verificationMaterial": {
                    "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
                    "tlogEntries": [self.entry(envelope, certificate)],
                },
                "dsseEnvelope": envelope.to_value(),
            }
        ).encode()


def make_instance(authority: Any) -> Instance:
    key = generate_private_key("ecdsa-p256")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key._key.public_key())
    return Instance(authority.root(key=key, extensions=[(identifier, False)]))


@pytest.fixture(scope="module")
def instance(authority: Any) -> Instance:
    return make_instance(authority)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_bytes(b"{}")
    return root


def verify(raw: bytes, model: Path, instance: Instance, **policy: Any) -> OmsResult:
    asked = {"identity": WHO, "issuer": ISSUER, "trusted_root": instance.trusted_root(), **policy}
    bundle = parse_oms_bundle(raw, "model.sig")
    return verify_oms(bundle, LocalStore(model), keyless=KeylessPolicy(**asked))


def rules(result: OmsResult) -> list[str]:
    return [one.rule for one in result.findings]


def test_offline_against_a_given_root(instance: Instance, model: Path) -> None:
    raw = instance.sign(model)
    result = verify(raw, model, instance)
    assert result.findings == ()
    assert result.valid
    assert result.signer is not None
    assert (result.signer.method, result.signer.identities) == ("keyless", (WHO,))
    assert result.signer.issuer == ISSUER
    assert result.notes == (), "log entry and time were looked at"
    (model / "config.json").write_bytes(b"[]")
    assert rules(verify(raw, model, instance)) == ["file-digest"]


@pytest.mark.parametrize(
    "policy", [{"identity": "evil@example.org"}, {"issuer": "https://evil.example.org"}]
)
def test_identity_and_issuer_count(instance: Instance, model: Path, policy: dict[str, str]) -> None:
    result = verify(instance.sign(model), model, instance, **policy)
    assert rules(result) == ["signature-invalid"]
    assert result.signer is None


def test_another_instance_is_not_trusted(instance: Instance, model: Path, authority: Any) -> None:
    raw = instance.sign(model)
    other = make_instance(authority)
    assert rules(verify(raw, model, other)) == ["signature-invalid"]
    for part in ("log", "ct_log"):
        mixed = Instance(instance.root, instance.log, instance.ct_log)
        setattr(mixed, part, getattr(other, part))
        assert rules(verify(raw, model, mixed)) == ["signature-invalid"], part
    # By default it is the public instance that counts.
    assert rules(verify(raw, model, instance, trusted_root=None)) == ["signature-invalid"]


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("dsseEnvelope.payload", b64(b"{}")),
        ("dsseEnvelope.payloadType", "application/json"),
        ("dsseEnvelope.signatures.0.sig", b64(b"junk")),
        ("verificationMaterial.certificate.rawBytes", b64(b"junk")),
        ("verificationMaterial.tlogEntries.0", {}),
        ("verificationMaterial.tlogEntries.0.logIndex", "1"),
        ("verificationMaterial.tlogEntries.0.logIndex", "-1"),
        ("verificationMaterial.tlogEntries.0.integratedTime", "1"),
        ("verificationMaterial.tlogEntries.0.canonicalizedBody", b64(b"{}")),
        ("verificationMaterial.tlogEntries.0.inclusionPromise", None),
        ("verificationMaterial.tlogEntries.0.inclusionPromise.signedEntryTimestamp", b64(b"junk")),
        ("verificationMaterial.tlogEntries.0.inclusionProof.rootHash", b64(bytes(32))),
        ("verificationMaterial.tlogEntries.0.inclusionProof.treeSize", "2"),
        ("verificationMaterial.tlogEntries.0.inclusionProof.checkpoint.envelope", "x\n1\nx\n\n"),
        ("verificationMaterial.tlogEntries.0.kindVersion.kind", "hashedrekord"),
    ],
)
def test_altered_bundles(instance: Instance, model: Path, path: str, new: object) -> None:
    value = json.loads(instance.sign(model))
    inner = value
    *parents, last = [int(name) if name.isdigit() else name for name in path.split(".")]
    for name in parents:
        inner = inner[name]
    inner[last] = new
    assert rules(verify(json.dumps(value).encode(), model, instance)) == ["signature-invalid"]


def test_a_signature_of_another_statement(instance: Instance, model: Path) -> None:
    """Each half is good: the log entry and certificate of one bundle, the envelope of another."""
    one, two = (json.loads(instance.sign(model)) for _ in range(2))
    one["dsseEnvelope"] = two["dsseEnvelope"]
    assert rules(verify(json.dumps(one).encode(), model, instance)) == ["signature-invalid"]


@pytest.mark.parametrize("root", [b"", b"{}", b"[]", b"\xff", b'{"mediaType":"x"}', b" " * 2**21])
def test_roots_that_are_none(instance: Instance, model: Path, root: bytes) -> None:
    with pytest.raises(TrustFileError):
        verify(instance.sign(model), model, instance, trusted_root=root)


def test_the_extra_is_named(instance: Instance, model: Path, monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sigstore.models", None)
    with pytest.raises(UsageError) as caught:
        verify(instance.sign(model), model, instance)
    assert caught.value.hint == "install r1prov[sigstore]"
