"""OpenSSF Model Signing (OMS): bundles of any tool verified, and bundles that any tool verifies.

`parse_oms_bundle` reads, `verify_oms` decides, `make_oms_bundle` writes. A bundle that is no
bundle is an error; a signature or a model that is not what it should be is a finding.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from r1prov.errors import CertificateError, KeyFileError, ManifestError, OmsError, UsageError
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_CHAIN_CERTIFICATES, MAX_OMS_BUNDLE_BYTES
from r1prov.manifest.oms_files import FileOptions, check_files, is_below
from r1prov.manifest.oms_signature import (
    OmsFinding,
    OmsSigner,
    key_hints,
    verify_with_certificates,
    verify_with_key,
    verify_without_key,
)
from r1prov.manifest.oms_statement import (
    DEFAULT_IGNORED,
    OmsStatement,
    make_statement,
    parse_statement,
    path_fault,
    statement_json,
)
from r1prov.stores.base import EntryKind
from r1prov.text import plural, quoted
from r1prov.trust.bundle import KeylessMaterial, parse_dsse_bundle, write_dsse_bundle
from r1prov.trust.dsse import IN_TOTO_TYPE, sign_envelope
from r1prov.trust.keys import ECDSA

if TYPE_CHECKING:
    from r1prov.manifest.schema import Manifest
    from r1prov.stores.base import Store
    from r1prov.trust.bundle import DsseBundle
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keyless import KeylessPolicy
    from r1prov.trust.keys import PublicKey, Signer

__all__ = [
    "OmsBundle",
    "OmsFinding",
    "OmsResult",
    "OmsSigner",
    "describe_manifest",
    "describe_store",
    "make_oms_bundle",
    "parse_oms_bundle",
    "verify_oms",
]


@dataclass(frozen=True, slots=True)
class OmsBundle:
    """A bundle as read; nothing of it is verified.

    Attributes:
        subject: Name of the bundle file.
        bundle: Envelope and verification material.
    """

    subject: str
    bundle: DsseBundle


@dataclass(frozen=True, slots=True)
class OmsResult:
    """What came of a verification.

    Attributes:
        findings: Every reason not to accept the model; none if it is valid.
        signer: Who signed, once the signature is verified; else None.
        statement: What was signed, once the signature is verified; else None.
        ignored: Files that were not looked at because a path is ignored.
        notes: What a reader should know beside, one sentence each.
        bytes_hashed: Bytes that were read.
        tree_digest: r1prov's tree digest of the signed files, which, unlike the OMS root digest
            (`statement.root`), binds their names and sizes.
    """

    findings: tuple[OmsFinding, ...]
    signer: OmsSigner | None = None
    statement: OmsStatement | None = None
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bytes_hashed: int = 0
    tree_digest: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the signature is good and the model is what was signed."""
        return not self.findings and self.signer is not None and self.statement is not None


def parse_oms_bundle(raw: bytes, subject: str) -> OmsBundle:
    """Read a bundle file.

    Raises:
        BundleError: Not a Sigstore bundle v0.3 with a DSSE envelope and one signature.
        LimitExceeded: More signatures than any bundle has.
    """
    bundle = parse_dsse_bundle(raw, subject=subject, max_bytes=MAX_OMS_BUNDLE_BYTES)
    return OmsBundle(subject, bundle)


def verify_oms(
    bundle: OmsBundle,
    store: Store,
    *,
    public_key: PublicKey | None = None,
    certificate_roots: Sequence[Certificate] = (),
    keyless: KeylessPolicy | None = None,
    identity: str | None = None,
    at: datetime | None = None,
    ignore_unsigned_files: bool = False,
    allow_symlinks: bool = False,
    ignore_paths: Sequence[str] = (),
    workers: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> OmsResult:
    """Verify signature, statement and every file, in that order.

    No file is opened before the signature is good. Exactly one of `public_key`,
    `certificate_roots` and `keyless` says whom to trust.

    Args:
        bundle: The bundle.
        store: The model.
        public_key: The signer's key, for bundles signed with a key.
        certificate_roots: Trusted roots, for bundles signed with a certificate; certificates
            among them that are not self-signed only help to find a path.
        keyless: Whose keyless signature is wanted.
        identity: E-mail address, URI or DNS name that the signer's certificate must have.
        at: When certificates must be valid; now by default. A time of signing that nothing proves
            must not be given.
        ignore_unsigned_files: Whether files that are not signed may be there.
        allow_symlinks: Whether links inside the model are followed, where the signer did too.
        ignore_paths: Paths that may be there unsigned, such as the bundle's own.
        workers: Hashing threads; by default one a core.
        on_bytes: Told of progress, see `hash_blobs`.

    Raises:
        UsageError: Not exactly one way to verify, an identity without a certificate, an ignored
            path that is none, or an extra that is not installed.
        TrustFileError: The Sigstore trusted root is malformed.
        LimitExceeded: The store holds more than a model does.
        StoreError: The store cannot be listed.
    """
    if sum((public_key is not None, bool(certificate_roots), keyless is not None)) != 1:
        raise UsageError(
            "exactly one of a public key, root certificates and a keyless identity verifies a "
            "model signature"
        )
    if identity is not None and not certificate_roots:
        raise UsageError("an identity to expect goes with root certificates")
    for path in ignore_paths:
        fault = path_fault(path)
        if fault is not None:
            raise UsageError(f"the ignored path {quoted(path)} {fault}")
    subject = bundle.subject
    if public_key is not None:
        signer = verify_with_key(bundle.bundle, subject, public_key)
    elif keyless is not None:
        signer = verify_without_key(bundle.bundle, subject, keyless)
    else:
        when = at or datetime.now(UTC)
        signer = verify_with_certificates(
            bundle.bundle, subject, certificate_roots, at=when, identity=identity
        )
    if isinstance(signer, OmsFinding):
        return OmsResult((signer,))
    envelope = bundle.bundle.envelope
    try:
        statement = parse_statement(envelope.payload, envelope.payload_type, subject=subject)
    except OmsError as error:
        broken = OmsFinding(
            error.rule, subject, error.message, error.expected, error.found, error.hint
        )
        return OmsResult((broken,), signer)
    options = FileOptions(
        ignore_unsigned_files=ignore_unsigned_files,
        allow_symlinks=allow_symlinks,
        ignore_paths=tuple(ignore_paths),
        workers=workers,
        on_bytes=on_bytes,
    )
    files = check_files(statement, store, options)
    return OmsResult(
        files.findings,
        signer,
        statement,
        files.ignored,
        tuple(_notes(bundle.bundle, len(files.ignored))),
        files.bytes_hashed,
        files.tree_digest,
    )


def _notes(bundle: DsseBundle, ignored: int) -> list[str]:
    notes = []
    if not isinstance(bundle.material, KeylessMaterial) and (
        bundle.log_entries or bundle.timestamps
    ):
        notes.append("the bundle's log entries and timestamps are not looked at")
    if ignored:
        notes.append(f"{plural(ignored, 'file')} at ignored paths not looked at")
    return notes


def describe_store(
    store: Store,
    *,
    ignore_paths: Sequence[str] = (),
    workers: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> OmsStatement:
    """What there is to sign: every file of a model, hashed, but for ignored paths.

    Args:
        store: The model.
        ignore_paths: What to leave out beside `DEFAULT_IGNORED`, such as the bundle's own path.
        workers: Hashing threads; by default one a core.
        on_bytes: Told of progress, see `hash_blobs`.

    Raises:
        OmsError: No file, or a name that may not stand in a statement.
        StoreError: Something cannot be listed or read, is a link or no file, or changed.
    """
    ignored = frozenset({*DEFAULT_IGNORED, *ignore_paths})
    jobs = []
    for entry in store.entries():
        if is_below(entry.path, ignored):
            continue
        if entry.kind is not EntryKind.FILE:
            raise OmsError(
                "symlink" if entry.kind is EntryKind.LINK else "not-regular",
                f"{entry.path} is no regular file, and cannot be signed",
                subject=entry.path,
                expected="a regular file",
                found=entry.detail,
                hint="replace it, or ignore its path",
            )
        jobs.append(HashJob(entry.path, entry.size))
    hashed = hash_blobs(store.open, jobs, workers=workers, on_bytes=on_bytes)
    for error in hashed.errors.values():
        raise error
    digests = ((path, one.sha256) for path, one in hashed.digests.items())
    return make_statement(store.name, digests, ignore_paths=ignore_paths)


def describe_manifest(manifest: Manifest) -> OmsStatement:
    """What there is to sign of a manifest: its files, from their digests, without the model.

    Files that verifiers of OMS never look at (`.gitattributes` and its kind) are left out.

    Raises:
        ManifestError: A digest is unknown, or the release has files that are not listed.
        OmsError: No file is left.
    """
    if not manifest.complete_listing or manifest.untracked_dirs:
        raise ManifestError(
            "does not list every file of the release, so a signature of it would refuse the model",
            subject=manifest.name,
            hint="`r1prov manifest create` lists and hashes the model that you have",
        )
    digests = []
    for entry in manifest.files:
        if is_below(entry.path, DEFAULT_IGNORED):
            continue
        if entry.sha256 is None:
            raise ManifestError(
                f"has no digest of {entry.path}, and a statement needs one of every file",
                subject=manifest.name,
                hint="`r1prov manifest create` hashes the model that you have",
            )
        digests.append((entry.path, entry.sha256))
    return make_statement(manifest.name, digests)


def make_oms_bundle(
    statement: OmsStatement, key: Signer, chain: Sequence[Certificate] = ()
) -> bytes:
    """Sign a statement.

    Args:
        statement: From `describe_store` or `describe_manifest`.
        key: ECDSA, of one of the three NIST curves.
        chain: The key's certificate and its issuers, for a bundle that is verified against a root;
            without it the bundle is verified with the public key. A root in it is left out:
            whoever verifies must have it from elsewhere.

    Returns:
        The bundle file.

    Raises:
        KeyFileError: The key is of another kind.
        CertificateError: The first certificate is not that of the key, or there are too many.
    """
    if key.public.algorithm not in {name for name, _ in ECDSA.values()}:
        raise KeyFileError(
            f"a {key.public.algorithm} key cannot sign for OpenSSF Model Signing",
            hint="make one: `r1prov key generate --algorithm ecdsa-p256`",
        )
    material: dict[str, object] = {"publicKey": {"hint": key_hints(key.public)[0]}}
    if chain:
        if chain[0].key != key.public:
            raise CertificateError("the first certificate is not that of the signing key")
        if len(chain) > MAX_CHAIN_CERTIFICATES:
            raise CertificateError(f"has more than {MAX_CHAIN_CERTIFICATES} certificates")
        sent = [chain[0], *(one for one in chain[1:] if not one.self_signed)]
        certificates = [{"rawBytes": base64.b64encode(one.der).decode()} for one in sent]
        material = {"x509CertificateChain": {"certificates": certificates}}
    envelope = sign_envelope(key, statement_json(statement), IN_TOTO_TYPE)
    return write_dsse_bundle(envelope, material)
