"""Check a manifest by itself, without a model: signatures and Hub commit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from r1prov.trust.store import decide as decide_trust
from r1prov.verify.checks import provenance
from r1prov.verify.findings import Finding, Verdict, decide

if TYPE_CHECKING:
    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.trust.store import SignatureCheck
    from r1prov.verify.pipeline import Authorities


@dataclass(frozen=True, slots=True)
class ManifestCheck:
    """What is known of a manifest without its model."""

    shelved: ShelvedManifest
    verdict: Verdict
    signatures: tuple[SignatureCheck, ...]
    findings: tuple[Finding, ...]
    provenance: tuple[str, ...]


def check_manifest(
    shelved: ShelvedManifest, authorities: Authorities, *, now: datetime | None = None
) -> ManifestCheck:
    """Check the signatures and the Hub commit of a manifest.

    Raises:
        BundleError: A bundle beside it is malformed.
    """
    trusted = decide_trust(
        authorities.trust,
        model=shelved.manifest.name,
        data=shelved.raw,
        bundles=shelved.bundles(),
        now=now or datetime.now(UTC),
    )
    findings = provenance.check_signatures(trusted, shelved.path.name)
    more, coverage, _, lines = provenance.check_commit(shelved.manifest, authorities.hub_key)
    every = (*findings, *more)
    return ManifestCheck(
        shelved, decide(every, tuple(coverage)), trusted.checks, every, tuple(lines)
    )
