"""What an Ollama tag really holds, from digests first and names last.

Pure. A tag is a moving name, so the answer never rests on it: it rests on the SHA-256 of the model
layer, failing that on what a GGUF header shows, and says which. A size alone is a hint and is
called one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from r1prov.manifest.ollama_tags import MODEL_PATH, Build, OllamaTags, Step

_MODEL_PREFIX: Final = "model"
FULL: Final = "full"


class TagCertainty(StrEnum):
    """What stands behind the answer, from strongest to weakest."""

    BUILD = "build"
    """Every layer was hashed and is that of a known build."""
    MODEL_LAYER = "model layer"
    """The model layer was hashed and is that of a known build."""
    STATED = "stated digest"
    """The manifest states the digest of a known build; the blob was not hashed."""
    HEADER = "header"
    """Only the GGUF header says so."""
    SIZE = "size"
    """Only the size is that of a known build."""
    NONE = "none"


_FIRM: Final = frozenset((TagCertainty.BUILD, TagCertainty.MODEL_LAYER, TagCertainty.STATED))
_BASIS: Final = {
    TagCertainty.BUILD: "by the SHA-256 of every layer",
    TagCertainty.MODEL_LAYER: "by the SHA-256 of its model layer",
    TagCertainty.STATED: "if the blob is what its name says: it was not hashed",
    TagCertainty.HEADER: "by its GGUF header alone, which a fine-tune shares",
}
_VERDICT: Final = {
    True: "it is the full R1, quantized: not the released weights",
    False: "it is not the full R1",
    None: "whether it is the full R1 is not known",
}


class HeaderAnswer(Protocol):
    """What the identification of a GGUF header must offer."""

    @property
    def name(self) -> str | None:
        """Name of the model; None if no known one fits."""

    @property
    def kind(self) -> str | None:
        """Its variant, such as `full` or `distill`."""

    @property
    def quantization(self) -> str | None:
        """Such as `Q4_K_M`."""


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """A layer of the tag at hand.

    Attributes:
        path: As `OllamaStore` calls it.
        size: Bytes.
        sha256: Its digest; None if it is not known.
        hashed: Whether the digest is of the bytes, not merely what the manifest states.
    """

    path: str
    size: int
    sha256: str | None = None
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class TagAnswer:
    """What a tag holds.

    Attributes:
        tag: The tag that was asked about.
        certainty: What stands behind the answer.
        model: The released model it was made from; None if unknown.
        variant: Variant of that model; None if unknown.
        quantization: Such as `Q4_K_M`; None if unknown.
        full_r1: Whether it is the full DeepSeek-R1, quantized; None if unknown.
        builds: The known builds that fit.
        current: Whether it is the newest known build of this tag; None if that cannot be said.
        summary: The answer in one sentence.
        history: What the tag held, the oldest first, a phrase each.
        notes: What else is to be known, a sentence each: contradictions first.
    """

    tag: str
    certainty: TagCertainty
    model: str | None
    variant: str | None
    quantization: str | None
    full_r1: bool | None
    builds: tuple[Build, ...]
    current: bool | None
    summary: str
    history: tuple[str, ...]
    notes: tuple[str, ...]


def explain_tag(
    tag: str,
    found: Sequence[FoundLayer],
    tags: OllamaTags,
    *,
    manifest_sha256: str | None = None,
    header: HeaderAnswer | None = None,
) -> TagAnswer:
    """Say what a tag holds.

    Args:
        tag: Its short name, such as `deepseek-r1:8b`.
        found: Its layers.
        tags: The table of known builds.
        manifest_sha256: Digest of the Ollama manifest at hand.
        header: What the GGUF header of the model layer says, if it was read.
    """
    models = [layer for layer in found if _is_model(layer.path)]
    model = models[0] if len(models) == 1 else None
    certainty, builds = _match(model, found, tags)
    name = variant = quantization = None
    if certainty in _FIRM:
        name, variant, quantization = builds[0].model, builds[0].variant, builds[0].quantization
    elif header is not None:
        name, variant, quantization = header.name, header.kind, header.quantization
        if name is not None:
            certainty = TagCertainty.HEADER
    history = tags.history(tag)
    steps = history.steps if history else ()
    full_r1 = _is_full_r1(certainty, variant)
    phrases = tuple(_phrases(steps))
    known = f"{tag}: {_joined(phrases)}" if phrases else f"{tag}: no record of this tag"
    label = ", ".join(part for part in (variant, quantization) if part)
    shown = f"{name} ({label})" if label else f"{name}"
    answer = _answer(certainty, shown, builds)
    return TagAnswer(
        tag=tag,
        certainty=certainty,
        model=name,
        variant=variant,
        quantization=quantization,
        full_r1=full_r1,
        builds=builds,
        current=steps[-1].build in builds if steps and certainty in _FIRM else None,
        summary="; ".join((known, answer, _VERDICT[full_r1])),
        history=phrases,
        notes=(
            *_contradictions(tag, certainty, model, builds, steps, header),
            *_other_layers(certainty, builds, found),
            *_stale(tag, certainty, builds, steps),
            *_mislabels(model, manifest_sha256, tags),
            *_split(models),
        ),
    )


def _is_model(path: str) -> bool:
    return path == MODEL_PATH or (path.startswith(f"{_MODEL_PREFIX}-") and path.endswith(".gguf"))


def _match(
    model: FoundLayer | None, found: Sequence[FoundLayer], tags: OllamaTags
) -> tuple[TagCertainty, tuple[Build, ...]]:
    if model is None:
        return TagCertainty.NONE, ()
    if model.sha256 is None:
        # A size is no identity: whoever makes another model can pad it.
        builds = tags.by_model_size(model.size)
        return (TagCertainty.SIZE if builds else TagCertainty.NONE), builds
    builds = tags.by_model_layer(model.sha256)
    if not builds:
        return TagCertainty.NONE, ()
    whole = tuple(build for build in builds if build.complete and not _differences(build, found))
    if whole and all(layer.hashed for layer in found):
        return TagCertainty.BUILD, whole
    certainty = TagCertainty.MODEL_LAYER if model.hashed else TagCertainty.STATED
    return certainty, whole or builds


def _differences(build: Build, found: Sequence[FoundLayer]) -> list[str]:
    """The paths where a build and the layers at hand differ."""
    here = {layer.path: layer.sha256 for layer in found}
    known = {layer.path: layer.sha256 for layer in build.layers}
    return sorted(path for path in here.keys() | known.keys() if here.get(path) != known.get(path))


def _is_full_r1(certainty: TagCertainty, variant: str | None) -> bool | None:
    if variant is None or certainty in (TagCertainty.NONE, TagCertainty.SIZE):
        return None
    if certainty is TagCertainty.HEADER and variant == FULL:
        return None  # V3 and R1-0528 have the same header
    return variant == FULL


def _phrases(steps: Sequence[Step]) -> Iterator[str]:
    """`2025-01 to 2025-05 X (Q4_K_M)`; a re-issue of the same model is no change of it."""
    changes: list[Step] = []
    for step in steps:
        if not changes or changes[-1].build.model_layer != step.build.model_layer:
            changes.append(step)
    for i, step in enumerate(changes):
        what = f"{step.build.model} ({step.build.quantization})"
        after = changes[i + 1] if i + 1 < len(changes) else None
        if after is not None and after.since is not None:
            yield f"before {after.since} {what}"
        else:
            yield f"since {step.since} {what}" if step.since else what


def _joined(phrases: Sequence[str]) -> str:
    # The newest first: that is what the tag means today, as far as is known.
    return ", ".join(reversed(phrases))


def _answer(certainty: TagCertainty, shown: str, builds: tuple[Build, ...]) -> str:
    if certainty is TagCertainty.NONE:
        return "yours is unknown: its model layer is that of no known build"
    if certainty is TagCertainty.SIZE:
        sized = " or ".join(sorted({build.model for build in builds}))
        return f"yours is unknown: its model layer has the size of {sized}, which proves nothing"
    return f"yours is {shown}, {_BASIS[certainty]}"


def _contradictions(
    tag: str,
    certainty: TagCertainty,
    model: FoundLayer | None,
    builds: tuple[Build, ...],
    steps: Sequence[Step],
    header: HeaderAnswer | None,
) -> Iterator[str]:
    firm = certainty in _FIRM
    if firm and steps:
        held = {step.build.model_layer.sha256 for step in steps}
        if builds[0].model_layer.sha256 not in held:
            yield f"{tag} never held {builds[0].model}, as far as is known"
    if firm and header is not None and header.name not in (None, builds[0].model):
        yield (
            f"the GGUF header is that of {header.name}, and the digest that of {builds[0].model}: "
            "one of the two was misread"
        )
    if certainty is TagCertainty.NONE and steps and model is not None:
        yield (
            f"the model layer is none that {tag} is known to have held: a newer build, another "
            "model under this name, or an altered one"
        )
    if certainty is TagCertainty.HEADER and header is not None and steps:
        models = {step.build.model for step in steps}
        if header.name not in models:
            yield f"{tag} never held {header.name}, as far as is known"


def _other_layers(
    certainty: TagCertainty, builds: tuple[Build, ...], found: Sequence[FoundLayer]
) -> Iterator[str]:
    """Template, parameters and system prompt change what a model does, with the same weights."""
    if certainty not in (TagCertainty.MODEL_LAYER, TagCertainty.STATED):
        return
    known = [build for build in builds if build.complete]
    if not known:
        yield "the other layers of this build are not known"
        return
    nearest = min((_differences(build, found) for build in known), key=len)
    if nearest:
        yield (
            f"the model is that of a known build, with other layers ({', '.join(nearest)}): made "
            "with `ollama create`, or a newer issue"
        )


def _stale(
    tag: str, certainty: TagCertainty, builds: tuple[Build, ...], steps: Sequence[Step]
) -> Iterator[str]:
    if not steps or certainty not in _FIRM or steps[-1].build in builds:
        return
    held = {step.build.model_layer.sha256 for step in steps}
    if builds[0].model_layer.sha256 not in held:
        return  # said as a contradiction
    newest = steps[-1].build
    if newest.model_layer != builds[0].model_layer:
        yield f"{tag} means {newest.model} now, as far as is known: pulling it gives another model"
    elif any(step.build in builds for step in steps):
        yield f"{tag} was issued again since, with the same model and another template"


def _mislabels(
    model: FoundLayer | None, manifest_sha256: str | None, tags: OllamaTags
) -> Iterator[str]:
    for digest in (model.sha256 if model else None, manifest_sha256):
        for wrong in tags.mislabels_of(digest) if digest else ():
            yield f"a public file calls this digest `{wrong.called}`; it is {wrong.truth}"


def _split(models: Sequence[FoundLayer]) -> Iterator[str]:
    if len(models) > 1:
        yield f"the model is split into {len(models)} layers, which no known build is"
    elif not models:
        yield "the tag has no model layer"
