"""From a report to a signed attestation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.attest.names import VERIFIER_ID, Kind
from r1prov.attest.statements import manifest_use, svr, vsa
from r1prov.errors import ChangedWhileReading, LimitExceeded
from r1prov.limits import MAX_BUNDLE_BYTES
from r1prov.manifest.shelf import load_manifest
from r1prov.trust.bundle import write_dsse_bundle
from r1prov.trust.chains import chain_material, signer_chain
from r1prov.trust.dsse import IN_TOTO_TYPE, sign_envelope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import Signer
    from r1prov.verify.findings import Report


def manifest_of(report: Report) -> ShelvedManifest:
    """The manifest that a report rests on, read again and held to the digest in the report.

    Raises:
        UsageError: The report rests on none.
        ChangedWhileReading: The file is no longer the one that was verified against.
    """
    use = manifest_use(report)
    shelved = load_manifest(Path(use.location))
    if shelved.sha256 != use.sha256:
        raise ChangedWhileReading(
            f"{use.location} changed since the model was held against it", subject=use.location
        )
    return shelved


def create_attestation(
    report: Report, kind: Kind, key: Signer, *, verifier_id: str = VERIFIER_ID
) -> bytes:
    """Sign what a report says: a Sigstore bundle with a DSSE envelope.

    A verdict that is no pass is attested too: as FAILED in a VSA, by the properties that are
    absent in an SVR.

    Args:
        report: What was found.
        kind: Which statement to make of it.
        key: The key that signs.
        verifier_id: URI of whoever verified.

    Raises:
        UsageError: The report rests on no manifest.
        LimitExceeded: The model has too many files for one bundle.
        StoreError: The manifest can no longer be read, or has changed.
    """
    manifest = manifest_of(report).manifest
    make = svr if kind is Kind.SVR else vsa
    payload = make(report, manifest, verifier_id=verifier_id)
    return sign_statement(key, payload)


def sign_statement(
    key: Signer, statement: bytes, certificates: Sequence[Certificate] = ()
) -> bytes:
    """Sign an in-toto statement: the bundle file.

    Args:
        key: The key that signs.
        statement: What is signed.
        certificates: The key's certificate and its issuers, for those who trust the root; without
            them the signature is for those who know the key.

    Raises:
        CertificateError: The first certificate is not that of the key, or there are too many.
        LimitExceeded: The bundle would be larger than `verify_attestation` reads.
    """
    key_id = key.public.key_id
    # securesystemslib (in-toto, TUF) finds the signature of a key by the `keyid` of the envelope.
    envelope = sign_envelope(key, statement, IN_TOTO_TYPE, key_id=key_id)
    material: dict[str, object] = {"publicKey": {"hint": key_id}}
    if certificates:
        material = chain_material([one.der for one in signer_chain(key.public, certificates)])
    raw = write_dsse_bundle(envelope, material)
    if len(raw) > MAX_BUNDLE_BYTES:
        raise LimitExceeded(
            f"the signed statement has {len(raw):,} bytes; the cap is {MAX_BUNDLE_BYTES:,}",
            hint="a statement names every file: it is too large for so many",
        )
    return raw
