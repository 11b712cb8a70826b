"""Which member of the family a GGUF file is, from its tensor shapes.

Shapes are trusted over metadata: they decide what a runtime computes, and a name is only a string.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from r1prov.errors import InputError, UsageError
from r1prov.family.blueprint import expected_inventory
from r1prov.family.gguf_claims import (
    name_claims,
    name_contradictions,
    shape_contradictions,
    type_contradictions,
)
from r1prov.family.gguf_model import GgufModel, gguf_features, join_gguf
from r1prov.family.gguf_names import OPTIONAL, GgufLayout, gguf_layouts
from r1prov.family.identify import UNKNOWN, Reason
from r1prov.family.likeness import Relation
from r1prov.formats.gguf import GgufHeader, Quantization
from r1prov.formats.inventory import Inventory, Tensor
from r1prov.manifest.architecture import Features
from r1prov.manifest.schema import Architecture, Manifest
from r1prov.text import plural, quoted

# Of the larger of both sets, and of the tensors at hand, as in `likeness`.
_NEARLY_ALL: Final = 0.9
_LEAST_EQUAL: Final = 16
_VARIANT_ORDER: Final = {"full": 0, "distill": 1, "base": 2, "other": 3}
_ORDER: Final = {Relation.EXACT: 0, Relation.PART: 1, Relation.ALTERED: 2, Relation.OTHER: 3}


@dataclass(frozen=True, slots=True)
class GgufCandidate:
    """A known model held against the one at hand.

    Attributes:
        name: Its name.
        variant: Its variant.
        parameters: Its parameters.
        relation: How the shapes relate.
        score: Tensors of equal name and shape as a fraction of the larger of both sets.
        detail: The relation in a phrase.
        layout: The converter's layout that fits best.
        reasons: Feature by feature.
        inventory_sha256: Inventory digest of its release.
    """

    name: str
    variant: str
    parameters: int
    relation: Relation
    score: float
    detail: str
    layout: str
    reasons: tuple[Reason, ...]
    inventory_sha256: str

    def label(self) -> str:
        """Name, variant and size: `DeepSeek-R1 (full, 671.0B parameters)`."""
        return f"{self.name} ({self.variant}, {self.parameters / 10**9:,.1f}B parameters)"


@dataclass(frozen=True, slots=True)
class GgufIdentification:
    """Which model a GGUF file holds, as far as its header tells.

    Attributes:
        model: Name of the file or of the split set.
        kind: Variant of the model, or `unknown`.
        names: Every known model with these shapes, the likeliest first; empty if none.
        relation: How the shapes relate to them.
        summary: The answer in one sentence.
        features: What the tensors show.
        quantization: How the weights are stored.
        candidates: Every known model, the most alike first.
        claims: Where the file says of itself what its tensors do not bear out.
        problems: Why the parts of a split file do not make one model.
        cannot_tell: What the header leaves open.
        others: Further GGUF models among the files, which this does not speak of.
    """

    model: str
    kind: str
    names: tuple[str, ...]
    relation: Relation
    summary: str
    features: Features
    quantization: Quantization
    candidates: tuple[GgufCandidate, ...]
    claims: tuple[str, ...]
    problems: tuple[str, ...]
    cannot_tell: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def name(self) -> str | None:
        """The likeliest model."""
        return self.names[0] if self.names else None


def identify_gguf(
    headers: Mapping[str, GgufHeader], manifests: Sequence[Manifest]
) -> GgufIdentification:
    """Say which model the largest GGUF model among some files is.

    Args:
        headers: Header by path: one file, the parts of a split one, or several models.
        manifests: The known models.

    Raises:
        UsageError: There is no header.
    """
    models = join_gguf(headers)
    if not models:
        raise UsageError("there is no GGUF file to identify")
    others = tuple(model.name for model in models[1:])
    return identify_model(models[0], manifests, others=others)


def identify_model(
    model: GgufModel, manifests: Sequence[Manifest], *, others: tuple[str, ...] = ()
) -> GgufIdentification:
    """Hold one GGUF model against every known one."""
    inventory = model.inventory
    features = gguf_features(inventory)
    claimed = {manifest.name for _, manifest in name_claims(model, manifests)}
    compared: dict[str, _Fit] = {}
    candidates = []
    for manifest in manifests:
        architecture = manifest.architecture
        if architecture is None:
            continue
        key = architecture.inventory_sha256
        if key not in compared:
            compared[key] = _fit(inventory, features, architecture)
        candidates.append(_candidate(manifest, architecture, features, compared[key]))
    candidates.sort(
        key=lambda c: (
            _ORDER[c.relation],
            -c.score,
            -sum(reason.agrees for reason in c.reasons),
            c.name not in claimed,
            _VARIANT_ORDER.get(c.variant, len(_VARIANT_ORDER)),
            c.name,
        )
    )
    best = candidates[0] if candidates and candidates[0].relation in _FITS else None
    twins = [c for c in candidates if best and c.inventory_sha256 == best.inventory_sha256]
    known = next((m for m in manifests if best and m.name == best.name), None)
    stated = known.architecture if known else None
    label = f"those of {best.label()}" if best else "those of no known model"
    return GgufIdentification(
        model=model.name,
        kind=best.variant if best else UNKNOWN,
        names=tuple(twin.name for twin in twins),
        relation=best.relation if best else Relation.OTHER,
        summary=_summary(best, twins, features, model),
        features=features,
        quantization=Quantization(model.file_type, model.types()),
        candidates=tuple(candidates),
        claims=(
            *name_contradictions(model, manifests, best.inventory_sha256 if best else None, label),
            *shape_contradictions(model, features, stated),
            *type_contradictions(model),
        ),
        problems=model.problems,
        cannot_tell=tuple(_cannot_tell(twins, known)),
        others=others,
    )


_FITS: Final = (Relation.EXACT, Relation.PART, Relation.ALTERED)


@dataclass(frozen=True, slots=True)
class _Fit:
    relation: Relation
    score: float
    detail: str
    layout: str


_NO_FIT: Final = _Fit(Relation.OTHER, 0.0, "another architecture", "")


def _fit(inventory: Inventory, features: Features, architecture: Architecture) -> _Fit:
    """The layout of a known model that fits best.

    The config facts of a manifest are believed only if the inventory derived from them has the
    digest that the manifest states.
    """
    # Nearly every shape has the hidden size in it, so nothing can be equal if that differs.
    if features.hidden_size not in (0, architecture.hidden_size) or not len(inventory):
        return _NO_FIT
    try:
        expected = expected_inventory(architecture.config)
    except InputError:
        return _NO_FIT
    if expected is None:
        return _NO_FIT
    digest = Inventory(Tensor(*tensor, "", 0, 0) for tensor in expected).digest()
    if digest != architecture.inventory_sha256:
        return _NO_FIT
    fits = [_compare(inventory, layout) for layout in gguf_layouts(expected, architecture.config)]
    return max(fits, key=lambda fit: fit.score, default=_NO_FIT)


def _compare(inventory: Inventory, layout: GgufLayout) -> _Fit:
    found = {t.name: t.shape for t in inventory if t.name not in OPTIONAL}
    wanted = layout.shapes
    equal = sum(wanted.get(name) == shape for name, shape in found.items())
    score = equal / max(len(found), len(wanted))
    total = plural(len(wanted), "tensor")
    if equal == len(found) == len(wanted):
        detail = f"names and shapes of all {total} are equal"
        return _Fit(Relation.EXACT, score, detail, layout.name)
    if equal == len(found) and equal >= _LEAST_EQUAL:
        detail = f"{equal:,} of {total} are here, all of them equal in name and shape"
        return _Fit(Relation.PART, score, detail, layout.name)
    strangers = sorted(name for name, shape in found.items() if wanted.get(name) != shape)
    detail = f"{equal:,} of {total} are equal in name and shape"
    if strangers and score >= _NEARLY_ALL:
        detail += f"; {plural(len(strangers), 'tensor')} differ, such as {quoted(strangers[0])}"
    relation = Relation.ALTERED if score >= _NEARLY_ALL else Relation.OTHER
    return _Fit(relation, score, detail, layout.name)


def _candidate(
    manifest: Manifest, architecture: Architecture, features: Features, fit: _Fit
) -> GgufCandidate:
    reasons = tuple(
        Reason(feature, f"{found:,}", f"{expected:,}")
        for feature, found, expected in (
            ("layers", features.layers, architecture.layers),
            ("experts a layer", features.experts, architecture.experts),
            ("hidden size", features.hidden_size, architecture.hidden_size),
            ("vocabulary", features.vocabulary, architecture.vocabulary),
            ("parameters", features.parameters, architecture.parameters),
        )
    )
    return GgufCandidate(
        name=manifest.name,
        variant=manifest.variant,
        parameters=architecture.parameters,
        relation=fit.relation,
        score=fit.score,
        detail=fit.detail,
        layout=fit.layout,
        reasons=reasons,
        inventory_sha256=architecture.inventory_sha256,
    )


def _summary(
    best: GgufCandidate | None,
    twins: Sequence[GgufCandidate],
    features: Features,
    model: GgufModel,
) -> str:
    stored = ", ".join(model.types())
    stored = f"{model.file_type}: {stored}" if model.file_type else stored
    if best is None:
        if not features.tensors:
            return "no tensors to tell a model by"
        return (
            f"no known model: {features.layers:,} layers, hidden size {features.hidden_size:,}, "
            f"vocabulary {features.vocabulary:,}, {features.parameters:,} parameters ({stored})"
        )
    what = {Relation.EXACT: "shapes are exactly those of", Relation.PART: "shapes fit a part of"}
    text = f"{what.get(best.relation, 'shapes are nearly those of')} {best.label()}"
    if len(twins) > 1:
        text += f", and equally of {' and '.join(twin.name for twin in twins[1:])}"
    return f"{text}, stored as {stored}"


def _cannot_tell(twins: Sequence[GgufCandidate], known: Manifest | None) -> Iterator[str]:
    names = [twin.name for twin in twins]
    if len(names) > 1:
        yield f"which of {', '.join(names)} it is: their shapes are the same"
    if known is not None:
        for other in known.same_headers_as:
            if other.partition(" (")[0] not in names:
                yield f"whether it is {other}"
        if known.base_model is not None:
            yield f"whether it is another fine-tune of {known.base_model}, or that model itself"
        yield "whether the weights are the release's: no digest of a quantized copy is published"
    yield "what the weights hold: a fine-tune has the same shapes"
