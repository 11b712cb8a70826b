"""Everything that a document about a bundle is made from, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.errors import R1ProvError
from r1prov.evidence.bag import SIGNATURE
from r1prov.evidence.index import UNIDENTIFIED, relative
from r1prov.evidence.parts import Kind
from r1prov.evidence.replay import bundled_manifest, recorded
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_CONFIG_BYTES
from r1prov.manifest.architecture import Features, read_features
from r1prov.responses.exchange_file import parse_exchange
from r1prov.trust.bundle import ChainMaterial, parse_dsse_bundle
from r1prov.trust.states import SignatureState
from r1prov.trust.store import read_chain
from r1prov.verify.evidence import gather

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from r1prov.evidence.open import Bundle
    from r1prov.evidence.verify import EvidenceResult
    from r1prov.manifest.schema import Manifest
    from r1prov.trust.authorities import TimestampAuthority, TrustedAuthority
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.store import TrustedKey
    from r1prov.verify.pipeline import Authorities

# The model that every other is held against.
_REFERENCE: Final = "DeepSeek-R1"


@dataclass(frozen=True, slots=True)
class Criteria:
    """A policy that a verdict was made by.

    Attributes:
        name: Of the file.
        raw: The file.
        by_verifier: Whether the verifier brought it; else it is that of the bundle.
    """

    name: str
    raw: bytes
    by_verifier: bool

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """A verified bundle, and what of it the document shows beside the result.

    Attributes:
        result: What the bundle is worth.
        raw_index_sha256: Of its index file.
        now: When it was verified.
        version: Of the r1prov that verifies.
        pinned: The keys that the verification trusted.
        authorities: The authorities that it trusted for certificates.
        clocks: The authorities that it trusted for timestamps.
        chains: Signature file to the certificates that it comes with, the signer's first.
        criteria: The policy that the verdict was made by; None without one.
        redacted: Exchange to the parts that the bundle has as digests only.
        reference: The shipped manifest of DeepSeek-R1; None if the shelf has none.
        manifest: The manifest in the bundle.
        features: What the recorded headers say; None without headers.
        config: The recorded config.json; None without one.
        weights: Files and bytes of the recorded weight files.
        sizes: Path to bytes of every recorded file.
        environment: What the maker says of tool and platform.
        asked: Options that the verdict was asked for with: the same command gives the same verdict.
    """

    result: EvidenceResult
    raw_index_sha256: str
    now: datetime
    version: str
    pinned: tuple[TrustedKey, ...]
    authorities: tuple[TrustedAuthority, ...]
    clocks: tuple[TimestampAuthority, ...]
    chains: dict[str, tuple[Certificate, ...]]
    criteria: Criteria | None
    redacted: dict[str, tuple[str, ...]]
    reference: Manifest | None
    manifest: Manifest | None
    features: Features | None
    config: dict[str, object] | None
    weights: tuple[int, int]
    sizes: dict[str, int]
    environment: dict[str, str]
    asked: tuple[tuple[str, ...], ...] = ()

    @property
    def altered(self) -> bool:
        """Whether members are not those that were signed: then nothing of them is shown."""
        return any(one.rule.name in _ALTERED for one in self.result.findings)

    @property
    def verified(self) -> bool:
        """Whether a pinned key stands for what the document shows."""
        return self.result.signature.state is SignatureState.GOOD and not self.altered


_ALTERED: Final = frozenset({"evidence-member", "evidence-missing", "evidence-extra"})


def gather_dossier(
    bundle: Bundle,
    result: EvidenceResult,
    authorities: Authorities,
    *,
    now: datetime,
    version: str,
    policy: Criteria | None = None,
    asked: tuple[tuple[str, ...], ...] = (),
) -> Dossier:
    """Read what a document shows of a bundle.

    Args:
        bundle: As it was opened.
        result: What its verification came to.
        authorities: Those that it was verified with.
        now: When that was.
        version: Of r1prov.
        policy: What the verifier demanded instead of the policy in the bundle.
        asked: As in `Dossier`.
    """
    features: Features | None = None
    config: dict[str, object] | None = None
    weights, sizes = (0, 0), {}
    manifest: Manifest | None = None
    environment: dict[str, str] = {}
    redacted: dict[str, tuple[str, ...]] = {}
    if not bundle.findings:
        try:
            store = recorded(bundle.index, bundle.payload, subject=bundle.subject)
            shelved = bundled_manifest(bundle.index, bundle.payload, None, subject=bundle.subject)
            manifest = shelved.manifest if shelved else None
            if store is not None:
                seen = gather(store)
                config = seen.config
                loadable = seen.loadable_weights()
                sizes = {one.path: one.size for one in store.entries()}
                weights = (len(loadable), sum(sizes.get(path, 0) for path in loadable))
                inventory = seen.inventory(loadable)
                features = read_features(inventory) if len(inventory) else None
        except R1ProvError:
            # What cannot be read is a finding of the result; here it is only not shown.
            pass
        environment = _environment(bundle)
        redacted = _redacted(bundle)
        policy = policy or _bundled(bundle)
    shelf = {one.manifest.name: one.manifest for one in authorities.shelf.items}
    return Dossier(
        result=result,
        raw_index_sha256=hashlib.sha256(bundle.raw_index).hexdigest(),
        now=now,
        version=version,
        pinned=tuple(authorities.trust.keys),
        authorities=authorities.trust.authorities,
        clocks=authorities.trust.timestamp_authorities,
        chains=dict(_chains(bundle)),
        criteria=policy,
        redacted=redacted,
        reference=shelf.get(_REFERENCE),
        manifest=manifest if bundle.index.model != UNIDENTIFIED else None,
        features=features,
        config=config,
        weights=weights,
        sizes=sizes,
        environment=environment,
        asked=asked,
    )


def _chains(bundle: Bundle) -> Iterator[tuple[str, tuple[Certificate, ...]]]:
    for member, raw in ((relative(SIGNATURE), bundle.signature), *bundle.countersignatures.items()):
        try:
            material = parse_dsse_bundle(raw, subject=member).material
            if isinstance(material, ChainMaterial):
                yield member, tuple(read_chain(material.certificates, subject=member))
        except R1ProvError:
            continue  # what is wrong with it is the result of its signature


def _bundled(bundle: Bundle) -> Criteria | None:
    path = bundle.index.policy
    return None if path is None else Criteria(path, bundle.payload[path], by_verifier=False)


def _redacted(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    found = {}
    for part in bundle.index.of(Kind.EXCHANGES):
        try:
            exchange = parse_exchange(bundle.payload[part.path], subject=part.path)
        except R1ProvError:
            continue
        if exchange.redactions:
            found[part.path] = tuple(one.part for one in exchange.redactions)
    return found


def _environment(bundle: Bundle) -> dict[str, str]:
    for part in bundle.index.of(Kind.ENVIRONMENT):
        try:
            value = parse_json(
                bundle.payload[part.path], subject=part.path, max_bytes=MAX_CONFIG_BYTES
            )
        except R1ProvError:
            continue
        if isinstance(value, dict):
            return {name: one for name, one in value.items() if isinstance(one, str)}
    return {}
