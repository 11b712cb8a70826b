"""Which manifest a verification uses, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.family.identify import identify
from r1prov.manifest.schema import Role
from r1prov.verify.evidence import CONFIG_NAME
from r1prov.verify.findings import ManifestUse
from r1prov.verify.ollama import known_build

if TYPE_CHECKING:
    from r1prov.family.gguf import GgufIdentification
    from r1prov.family.identify import Identification
    from r1prov.formats.inventory import Inventory
    from r1prov.manifest.shelf import Shelf, ShelvedManifest
    from r1prov.trust.store import TrustDecision
    from r1prov.verify.evidence import Evidence
    from r1prov.verify.policy import Policy


@dataclass(frozen=True, slots=True)
class Choice:
    """A manifest, or none.

    Attributes:
        shelved: The manifest.
        why: One sentence: why this one, or why none.
        headline: What the headers say, if they were asked.
    """

    shelved: ShelvedManifest | None
    why: str
    headline: str = ""


def choose_manifest(
    shelf: Shelf,
    evidence: Evidence,
    policy: Policy,
    loadable: Inventory,
    gguf: GgufIdentification | None,
) -> Choice:
    """The manifest to hold a model against.

    Where the headers identify nothing, because they are malformed, say, `config.json` or the
    expected name still tell what the model is meant to be. GGUF files have their own builds: those
    of the Ollama library by digest, others by a manifest that lists the file.

    Args:
        shelf: The manifests at hand.
        evidence: The model.
        policy: Which model is expected.
        loadable: The tensors that a loader would take.
        gguf: What the GGUF headers say, if the weights are GGUF.
    """
    build = known_build(evidence.store)
    if build is not None:
        return Choice(*build, gguf.summary if gguf else "")
    if gguf is not None and evidence.only_gguf:
        sizes = evidence.sizes()
        for item in shelf:
            weights = [f for f in item.manifest.files if f.role is Role.WEIGHTS and f.size]
            same = [f.path for f in weights if sizes.get(f.path) == f.size]
            if same and all(path in evidence.gguf for path in same):
                return Choice(item, f"it lists {same[0]} with the size it has here", gguf.summary)
        expected = shelf.find(policy.expect) if policy.expect else None
        if expected is not None:
            return Choice(expected, "it is the one that --expect names", gguf.summary)
        return Choice(None, "no manifest lists these GGUF files", gguf.summary)
    identification = identify(
        loadable,
        config=evidence.config,
        config_sha256=evidence.config_sha256,
        file_sizes=evidence.sizes(),
        manifests=shelf.manifests(),
    )
    return Choice(*_by_headers(shelf, identification, evidence, policy), identification.headline())


def _by_headers(
    shelf: Shelf, identification: Identification, evidence: Evidence, policy: Policy
) -> tuple[ShelvedManifest | None, str]:
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
        signers=tuple(check.line() for check in trusted.checks),
        trusted=trusted.trusted,
    )
