"""Signing a reference, and who signed one that is to be used."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    path: Path
    reference: EndpointReference
    signers: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


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
    reference = parse_reference(raw, subject=str(path))
    bundles = [
        (one.name, parse_bundle(read_file(one, MAX_BUNDLE_BYTES), subject=one.name))
        for one in sorted(path.parent.glob(f"{_escaped(path.name)}.*{BUNDLE_SUFFIX}"))
    ]
    decision = decide(trust, model=reference.model, data=raw, bundles=bundles, now=now)
    signers = tuple(one.detail for one in decision.checks)
    if decision.trusted:
        return UsedReference(path, reference, signers)
    bad = [one for one in decision.checks if one.state is not SignatureState.GOOD]
    why = bad[0].detail if bad else "there is no signature beside it"
    if not unsigned or any(one.state is SignatureState.BAD_SIGNATURE for one in bad):
        raise EndpointReferenceError(
            f"the reference is not signed by {decision.threshold} trusted "
            f"key{'' if decision.threshold == 1 else 's'}: {why}",
            subject=str(path),
            hint="trust the key that signed it (`r1prov key add`); --unsigned-reference takes one "
            "that nobody signed",
        )
    told = finding("reference-unsigned", path.name, why)
    return UsedReference(path, reference, signers, (told,))


def _escaped(name: str) -> str:
    import glob

    return glob.escape(name)
