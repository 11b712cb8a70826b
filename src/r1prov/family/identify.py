"""Which member of the family is this, and why: from tensors, never from names of directories.

Pure. Every claim carries what was found and what was expected, and nothing is claimed that tensor
names, dtypes and shapes cannot show: they are the same before and after a fine-tune.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from r1prov.family.likeness import Likeness, Relation, likeness
from r1prov.formats.inventory import Inventory
from r1prov.manifest.architecture import Features, config_facts, read_features
from r1prov.manifest.schema import Architecture, Manifest, Role
from r1prov.text import quoted

UNKNOWN: Final = "unknown"
_CONFIG_NAME: Final = "config.json"
# Between models that nothing tells apart, the one whose name is the claim that is checked.
_VARIANT_ORDER: Final = {"full": 0, "distill": 1, "base": 2, "other": 3}
_RELATION_ORDER: Final = {relation: order for order, relation in enumerate(Relation)}
# Says which version of a library wrote the config, nothing about the model.
_NO_CONFLICT: Final = frozenset({"transformers_version"})


class Certainty(StrEnum):
    """What stands behind the answer."""

    INVENTORY = "inventory"
    """Every tensor is as expected, and no other model is known to have these."""
    CONFIG_ONLY = "config only"
    """Several known models have these tensors, and `config.json` chooses among them."""
    GEOMETRY = "geometry"
    """Several models have these tensors, and nothing chooses among them."""
    PART = "part"
    """What is here fits, and not all is here."""
    ALTERED = "altered"
    """Most tensors fit, or all but their dtypes."""
    NONE = "none"


class ConfigState(StrEnum):
    """What `config.json` says of a candidate."""

    DIGEST = "digest"
    """It is the candidate's, to the byte."""
    FACTS = "facts"
    """It states the same facts."""
    DIFFERS = "differs"
    """It states other facts."""
    SILENT = "silent"
    """There is none, or it says too little."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One feature: what was found and what the candidate has."""

    feature: str
    found: str
    expected: str

    @property
    def agrees(self) -> bool:
        """Whether the two are the same."""
        return self.found == self.expected


@dataclass(frozen=True, slots=True)
class Candidate:
    """A known model held against the one at hand.

    Attributes:
        name: Its name.
        variant: Its variant.
        parameters: Its parameters.
        relation: How the tensors relate.
        score: Equal tensors as a fraction of the larger of both sets.
        detail: The relation in a phrase.
        config: What `config.json` says.
        reasons: Feature by feature.
        inventory_sha256: Its inventory digest.
        same_headers_as: Models that headers cannot tell from it.
    """

    name: str
    variant: str
    parameters: int
    relation: Relation
    score: float
    detail: str
    config: ConfigState
    reasons: tuple[Reason, ...]
    inventory_sha256: str
    same_headers_as: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every tensor is as expected."""
        return self.relation is Relation.EXACT

    def label(self) -> str:
        """Name, variant and size: `DeepSeek-R1 (full, 671.0B parameters)`."""
        return f"{self.name} ({self.variant}, {_billions(self.parameters)} parameters)"


@dataclass(frozen=True, slots=True)
class Identification:
    """Which model it is, as far as headers tell.

    Attributes:
        kind: Variant of the model, or `unknown`.
        name: Name of the model; None if no known model fits.
        exact: Whether every tensor is as expected.
        certainty: What stands behind the answer.
        summary: The answer in one sentence.
        features: What the tensors show.
        candidates: Every known model, the most likely first.
        cannot_tell: What headers leave open.
        config_conflicts: Where `config.json` contradicts the headers or the model.
    """

    kind: str
    name: str | None
    exact: bool
    certainty: Certainty
    summary: str
    features: Features
    candidates: tuple[Candidate, ...]
    cannot_tell: tuple[str, ...]
    config_conflicts: tuple[str, ...]

    def headline(self) -> str:
        """The answer in one sentence; safe to show, as all text of a parsed manifest is."""
        return self.summary


def identify(
    inventory: Inventory,
    *,
    config: Mapping[str, object] | None,
    config_sha256: str | None,
    file_sizes: Mapping[str, int],
    manifests: Sequence[Manifest],
) -> Identification:
    """Hold a model against every known one.

    Args:
        inventory: The tensors at hand, perhaps not all of the model.
        config: Its parsed `config.json`; it may order models with equal headers, nothing more.
        config_sha256: Digest of the `config.json`.
        file_sizes: Path to size of every file.
        manifests: The known models.
    """
    features = read_features(inventory)
    digest = inventory.digest()
    facts = config_facts(config or {})
    # By inventory digest: R1, V3 and V3.1 share theirs, so they are compared once.
    compared: dict[str, Likeness] = {}
    candidates = []
    for manifest in manifests:
        architecture = manifest.architecture
        if architecture is None:
            continue
        key = architecture.inventory_sha256
        if key not in compared:
            compared[key] = likeness(inventory, digest, features.hidden_size, architecture)
        candidates.append(
            Candidate(
                name=manifest.name,
                variant=manifest.variant,
                parameters=architecture.parameters,
                relation=compared[key].relation,
                score=compared[key].score,
                detail=compared[key].detail,
                config=_config_state(manifest, architecture, facts, config_sha256),
                reasons=tuple(_reasons(features, manifest, architecture, file_sizes)),
                inventory_sha256=key,
                same_headers_as=manifest.same_headers_as,
            )
        )
    candidates.sort(key=_rank)
    best = next((c for c in candidates if c.relation is not Relation.OTHER), None)
    if best is None:
        return _unknown(inventory, features, candidates, config)
    twins = [c for c in candidates if c.inventory_sha256 == best.inventory_sha256 and c != best]
    certainty = _certainty(best, twins)
    stated = next(m.architecture for m in manifests if m.name == best.name)
    return Identification(
        kind=best.variant,
        name=best.name,
        exact=best.exact,
        certainty=certainty,
        summary=_summary(best, twins, certainty),
        features=features,
        candidates=tuple(candidates),
        cannot_tell=tuple(_cannot_tell(best, twins)),
        config_conflicts=tuple(_conflicts(features, config, best, stated)),
    )


def _rank(candidate: Candidate) -> tuple[int, float, int, int, int, str]:
    return (
        _RELATION_ORDER[candidate.relation],
        -candidate.score,
        -sum(reason.agrees for reason in candidate.reasons),
        {ConfigState.DIGEST: 0, ConfigState.FACTS: 1}.get(candidate.config, 2),
        _VARIANT_ORDER.get(candidate.variant, len(_VARIANT_ORDER)),
        candidate.name,
    )


def _config_state(
    manifest: Manifest,
    architecture: Architecture,
    facts: Mapping[str, object],
    config_sha256: str | None,
) -> ConfigState:
    stated = next((f.sha256 for f in manifest.files if f.path == _CONFIG_NAME), None)
    if stated is not None and stated == config_sha256:
        return ConfigState.DIGEST
    if facts and facts == architecture.config:
        return ConfigState.FACTS
    both = facts.keys() & architecture.config.keys()
    if any(facts[key] != architecture.config[key] for key in both):
        return ConfigState.DIFFERS
    return ConfigState.SILENT


def _reasons(
    features: Features,
    manifest: Manifest,
    architecture: Architecture,
    file_sizes: Mapping[str, int],
) -> Iterator[Reason]:
    for feature, found, expected in (
        ("layers", features.layers, architecture.layers),
        ("experts a layer", features.experts, architecture.experts),
        ("hidden size", features.hidden_size, architecture.hidden_size),
        ("vocabulary", features.vocabulary, architecture.vocabulary),
        ("tensors", features.tensors, architecture.tensors),
        ("parameters", features.parameters, architecture.parameters),
    ):
        yield Reason(feature, f"{found:,}", f"{expected:,}")
    yield Reason("dtypes", _dtypes(features.dtypes), _dtypes(architecture.dtypes))
    sizes = {f.path: f.size for f in manifest.files if f.role is Role.WEIGHTS and f.size}
    equal = sum(file_sizes.get(path) == size for path, size in sizes.items())
    if sizes:
        count = f"of {len(sizes):,}"
        yield Reason(
            "weight files of the right size", f"{equal:,} {count}", f"{len(sizes):,} {count}"
        )


def _certainty(best: Candidate, twins: Sequence[Candidate]) -> Certainty:
    if best.relation is Relation.PART:
        return Certainty.PART
    if best.relation is not Relation.EXACT:
        return Certainty.ALTERED
    if twins and _chosen_by_config(best, twins):
        return Certainty.CONFIG_ONLY
    if twins or best.same_headers_as:
        return Certainty.GEOMETRY
    return Certainty.INVENTORY


def _chosen_by_config(best: Candidate, twins: Sequence[Candidate]) -> bool:
    """Whether config.json is that of one model only among those with equal headers."""
    if best.config not in (ConfigState.DIGEST, ConfigState.FACTS):
        return False
    return all(twin.config is not best.config for twin in twins)


def _summary(best: Candidate, twins: Sequence[Candidate], certainty: Certainty) -> str:
    names = [twin.name for twin in twins]
    if certainty is Certainty.CONFIG_ONLY:
        alike = _listed([best.name, *names])
        return f"headers fit {alike} alike; config.json is that of {best.label()}"
    if certainty is Certainty.GEOMETRY:
        alike = _listed(names or list(best.same_headers_as))
        return f"headers are exactly those of {best.label()}, and equally of {alike}"
    if certainty is Certainty.INVENTORY:
        return f"headers are exactly those of {best.label()}"
    if certainty is Certainty.PART:
        return f"headers fit a part of {best.label()}: {best.detail}"
    what = "a copy in other dtypes" if best.relation is Relation.DTYPES else "an altered copy"
    return f"headers look like {what} of {best.label()}: {best.detail}"


def _unknown(
    inventory: Inventory,
    features: Features,
    candidates: Sequence[Candidate],
    config: Mapping[str, object] | None,
) -> Identification:
    summary = "no tensors to tell a model by"
    if len(inventory):
        shape = (
            f"{features.layers:,} layers, hidden size {features.hidden_size:,}, "
            f"vocabulary {features.vocabulary:,}, {_billions(features.parameters)} parameters"
        )
        summary = f"no known model: {shape}"
        nearest = candidates[0] if candidates else None
        agreeing = [r.feature for r in nearest.reasons if r.agrees] if nearest else []
        if nearest is not None and agreeing:
            summary += f"; nearest is {nearest.name}, alike in {_listed(agreeing)}"
    return Identification(
        kind=UNKNOWN,
        name=None,
        exact=False,
        certainty=Certainty.NONE,
        summary=summary,
        features=features,
        # Nothing resembles no tensors.
        candidates=tuple(candidates) if len(inventory) else (),
        cannot_tell=(),
        config_conflicts=tuple(_conflicts(features, config, None, None)),
    )


def _cannot_tell(best: Candidate, twins: Sequence[Candidate]) -> Iterator[str]:
    if twins:
        alike = _listed([best.name, *(twin.name for twin in twins)])
        yield f"which of {alike} it is: headers are the same, only digests of the weights tell"
    known = {twin.name for twin in twins}
    for other in best.same_headers_as:
        if other.partition(" (")[0] not in known:
            yield f"whether it is {other}"
    if best.relation is Relation.PART:
        yield "what the missing tensors are"
    yield "what the weights hold: a fine-tune has the same headers, only digests tell"


def _conflicts(
    features: Features,
    config: Mapping[str, object] | None,
    best: Candidate | None,
    stated: Architecture | None,
) -> Iterator[str]:
    if config is None:
        return
    # A part of a model shows fewer layers and experts than there are, and perhaps no embedding.
    whole = best is None or best.relation is not Relation.PART
    shown = {
        "num_hidden_layers": features.layers if whole else 0,
        "hidden_size": features.hidden_size,
        "vocab_size": features.vocabulary,
        "n_routed_experts": features.experts if whole else 0,
    }
    told = set()
    for key, found in shown.items():
        value = config.get(key)
        if value is not None and found and (isinstance(value, bool) or value != found):
            told.add(key)
            yield f"config.json says `{key}` is {_shown(value)}; the headers show {found:,}"
    if stated is None or best is None:
        return
    for key, expected in stated.config.items():
        value = config.get(key)
        if value is None or key in told or key in _NO_CONFLICT or value == expected:
            continue
        yield f"config.json says `{key}` is {_shown(value)}; {best.name} has {_shown(expected)}"


def _shown(value: object) -> str:
    return quoted(repr(value), limit=80)


def _dtypes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {dtype}" for dtype, count in sorted(counts.items())) or "none"


def _billions(count: int) -> str:
    if count < 10**9:
        return f"{count / 10**6:,.1f}M"
    return f"{count / 10**9:,.1f}B"


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
