"""Which manifest a verification uses, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.verify.evidence import CONFIG_NAME
from r1prov.verify.findings import ManifestUse

if TYPE_CHECKING:
    from r1prov.family.identify import Identification
    from r1prov.manifest.shelf import Shelf, ShelvedManifest
    from r1prov.trust.store import TrustDecision
    from r1prov.verify.evidence import Evidence
    from r1prov.verify.policy import Policy


def choose_manifest(
    shelf: Shelf,
    identification: Identification,
    evidence: Evidence,
    policy: Policy,
) -> tuple[ShelvedManifest | None, str]:
    """The manifest to use and why.

    Where the headers identify nothing, because they are malformed, say, `config.json` or the
    expected name still tell what the model is meant to be.
    """
    if identification.name is not None:
        best = identification.candidates[0]
        how = "its headers are exactly those" if best.exact else "its headers come closest"
        return shelf.find(identification.name), f"identified: {how} of {identification.name}"
    if policy.expect is not None:
        expected = shelf.find(policy.expect)
        if expected is not None:
            return expected, "no known headers; it is the one that --expect names"
    digest = evidence.config_sha256
    for item in shelf:
        if digest and any(
            e.sha256 == digest and e.path == CONFIG_NAME for e in item.manifest.files
        ):
            return item, f"no known headers; config.json is that of {item.manifest.name}"
    return None, "no manifest fits"


def describe_use(shelved: ShelvedManifest, chosen: str, trusted: TrustDecision) -> ManifestUse:
    """What a report says of the manifest it rests on."""
    manifest = shelved.manifest
    return ManifestUse(
        name=manifest.name,
        variant=manifest.variant,
        publisher=manifest.publisher,
        revision=manifest.revision,
        location=str(shelved.path),
        sha256=shelved.sha256,
        chosen=chosen,
        tree_digest=manifest.tree_digest() if manifest.complete else None,
        signers=tuple(
            f"{check.owner or 'unknown signer'}, key {check.key_id[:8] or 'unnamed'}: "
            + check.state.name.lower().replace("_", " ")
            for check in trusted.checks
        ),
        trusted=trusted.trusted,
    )
