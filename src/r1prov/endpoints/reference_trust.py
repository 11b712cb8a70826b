"""Signing a reference, and who signed one that is to be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from r1prov.endpoints.reference import EndpointReference, parse_reference
from r1prov.errors import EndpointReferenceError
from r1prov.limits import MAX_BUNDLE_BYTES, MAX_ENDPOINT_REFERENCE_BYTES
from r1prov.manifest.shelf import BUNDLE_SUFFIX
from r1prov.trust.bundle import parse_bundle, sign_message
from r1prov.trust.directories import read_file
from r1prov.trust.keys import Signer
from r1prov.trust.store import SignatureState, TrustStore, decide
from r1prov.verify.findings import Finding, finding


@dataclass(frozen=True, slots=True)
class UsedReference:
    """A reference with what its signatures are worth.

    Attributes:
        path: Its file.
        reference: It.
        signers: One sentence a signature.
        findings: What a user who takes an unsigned one is told.
        key_ids: Trusted keys with a good signature.
        altered: Whether a signature is of another content.
        threshold: How many trusted keys it takes.
        raw: The file.
    """

    path: Path
    reference: EndpointReference
    signers: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    key_ids: frozenset[str] = frozenset()
    altered: bool = False
    threshold: int = 1
    raw: bytes = field(repr=False, default=b"")


def bundle_path(path: Path, key: Signer) -> Path:
    """Where the signature of a reference by that key stands."""
    return path.with_name(f"{path.name}.{key.public.key_id8}{BUNDLE_SUFFIX}")


def sign_reference(raw: bytes, key: Signer) -> bytes:
    """The bundle that signs the exact bytes of a reference file."""
    return sign_message(key, raw).to_json()


def load_reference(
    path: Path, trust: TrustStore, *, now: datetime, unsigned: bool = False
) -> UsedReference:
    """Read a reference and judge its signatures.

    Args:
        path: Its file; bundles stand beside it.
        trust: Whose signatures count.
        now: When validity is judged.
        unsigned: Take it even if nobody who is trusted signed it, and say so.

    Raises:
        NotFound, Unreadable: It cannot be read.
        EndpointReferenceError: Malformed, or not signed by enough trusted keys.
        BundleError: A bundle beside it is malformed.
    """
    raw = read_file(path, MAX_ENDPOINT_REFERENCE_BYTES)
    used = judge_reference(raw, path, signatures_beside(path), trust, now=now)
    why = used.findings[0].message if used.findings else ""
    if used.findings and (not unsigned or used.altered):
        raise EndpointReferenceError(
            f"the reference is not signed by {used.threshold} trusted "
            f"key{'' if used.threshold == 1 else 's'}: {why}",
            subject=str(path),
            hint="trust the key that signed it (`r1prov key add`); --unsigned-reference takes one "
            "that nobody signed",
        )
    return used


def signatures_beside(path: Path) -> dict[str, bytes]:
    """The signature files of a reference, by name.

    Raises:
        Unreadable, LimitExceeded: One cannot be read.
    """
    return {
        one.name: read_file(one, MAX_BUNDLE_BYTES)
        for one in sorted(path.parent.glob(f"{_escaped(path.name)}.*{BUNDLE_SUFFIX}"))
    }


def judge_reference(
    raw: bytes, path: Path, signatures: Mapping[str, bytes], trust: TrustStore, *, now: datetime
) -> UsedReference:
    """What a reference is worth to whoever trusts these keys; one of a stranger is not refused.

    Args:
        raw: The reference file.
        path: Its name.
        signatures: Signature files, by name.
        trust: Whose signatures count.
        now: When validity is judged.

    Raises:
        EndpointReferenceError: Malformed.
        BundleError: A signature file is malformed.
    """
    reference = parse_reference(raw, subject=str(path))
    bundles = [(name, parse_bundle(one, subject=name)) for name, one in signatures.items()]
    decision = decide(trust, model=reference.model, data=raw, bundles=bundles, now=now)
    good = [one for one in decision.checks if one.state is SignatureState.GOOD]
    bad = [one for one in decision.checks if one.state is not SignatureState.GOOD]
    told: tuple[Finding, ...] = ()
    if not decision.trusted:
        why = bad[0].detail if bad else "there is no signature beside it"
        told = (finding("reference-unsigned", path.name, why),)
    return UsedReference(
        path,
        reference,
        tuple(one.detail for one in decision.checks),
        told,
        frozenset(one.key_id for one in good),
        altered=any(one.state is SignatureState.BAD_SIGNATURE for one in bad),
        threshold=decision.threshold,
        raw=raw,
    )


def _escaped(name: str) -> str:
    import glob

    return glob.escape(name)
