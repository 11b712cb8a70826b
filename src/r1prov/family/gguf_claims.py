"""What a GGUF file says of itself against what its tensors show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from r1prov.family.gguf_model import GgufModel
from r1prov.family.gguf_names import ARCHITECTURES
from r1prov.manifest.architecture import Features
from r1prov.manifest.schema import Architecture, Manifest
from r1prov.text import quoted

_NAME_KEYS: Final = (
    "general.name",
    "general.basename",
    "general.finetune",
    "general.base_model.0.name",
    "general.source.url",
    "general.repo_url",
)
_WORD: Final = re.compile(r"[a-z0-9]+(?:\.[0-9]+[a-z]?(?![a-z0-9]))*")
_SIZE_LABEL: Final = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,3})?)([KMBT])")
_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# A label of `1.5B` stands on a model of 1.78 billion parameters.
_LABEL_TOLERANCE: Final = 0.3
# Base type of a file type, such as `Q4_K` of `Q4_K_M`.
_VARIANT: Final = re.compile(r"(?<=_K)_[SML]\b|_MOE\b| \(guessed\)")


def claimed_model(text: str, manifests: Sequence[Manifest]) -> Manifest | None:
    """The known model whose name a text holds, the longest name if there are several.

    A text that says `distill` names no model but a distill: `DeepSeek-R1 Distill …` is no claim
    to be DeepSeek-R1.
    """
    words = _words(text)
    named = [m for m in manifests if _holds(words, _words(m.name))]
    # Llama- and Qwen-based models of the family have both names in theirs.
    best = max(named, key=lambda m: len(_words(m.name)), default=None)
    if best is not None and "distill" in words and "distill" not in _words(best.name):
        return None
    return best


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().removesuffix(".gguf"))


def _holds(words: list[str], wanted: list[str]) -> bool:
    return any(words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1))


def name_claims(model: GgufModel, manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Where the file names a known model: the place with its text, and the model."""
    for key in _NAME_KEYS:
        text = model.first.text(key)
        if text is not None and (claim := claimed_model(text, manifests)) is not None:
            yield f"`{key}` is {quoted(text, limit=80)}", claim
    name = model.name.rsplit("/", 1)[-1]
    if (claim := claimed_model(name, manifests)) is not None:
        yield f"the file is named {quoted(name, limit=80)}", claim


def name_contradictions(
    model: GgufModel, manifests: Sequence[Manifest], inventory_sha256: str | None, label: str
) -> Iterator[str]:
    """Names of another model than the tensors are of.

    Args:
        model: The model.
        manifests: The known ones.
        inventory_sha256: Inventory digest of the model that the tensors fit, if one fits.
        label: What the tensors are, as the end of a sentence.
    """
    for place, claim in name_claims(model, manifests):
        if claim.architecture is not None and claim.architecture.inventory_sha256 != (
            inventory_sha256 or ""
        ):
            yield f"{place}, which is a {claim.variant} model; the tensors are {label}"


def shape_contradictions(
    model: GgufModel, features: Features, known: Architecture | None
) -> Iterator[str]:
    """Metadata that says another shape than the tensors have."""
    header = model.first
    architecture = header.architecture or ""
    incomplete = bool(model.problems)
    for key, shown in (
        ("block_count", 0 if incomplete else features.layers),
        ("embedding_length", features.hidden_size),
        ("expert_count", 0 if incomplete else features.experts),
        ("vocab_size", features.vocabulary),
    ):
        stated = header.integer(f"{architecture}.{key}")
        # A block of multi-token prediction counts as a layer to some converters.
        also = shown + 1 if key == "block_count" and _has_mtp(model) else shown
        if stated is not None and shown and stated not in (shown, also):
            yield f"`{architecture}.{key}` is {stated:,}; the tensors show {shown:,}"
    if features.vocabulary and header.vocabulary > features.vocabulary:
        yield f"the tokenizer has {header.vocabulary:,} tokens; the tensors {features.vocabulary:,}"
    if known is not None:
        expected = ARCHITECTURES.get(known.model_type)
        if architecture and architecture != expected:
            yield f"`general.architecture` is {quoted(architecture)}; the model is a {expected}"
        heads = header.integer(f"{architecture}.attention.head_count")
        if heads is not None and known.attention_heads and heads != known.attention_heads:
            yield f"`attention.head_count` is {heads:,}; the model has {known.attention_heads:,}"
    label = header.text("general.size_label")
    if not incomplete and label is not None and (found := _SIZE_LABEL.fullmatch(label)):
        size = float(found[1]) * _UNITS[found[2]]
        if abs(features.parameters - size) > _LABEL_TOLERANCE * max(size, 1):
            yield (
                f"`general.size_label` is {quoted(label)}; the tensors have "
                f"{features.parameters:,} parameters"
            )


def type_contradictions(model: GgufModel) -> Iterator[str]:
    """A file type that no tensor has."""
    stated = model.file_type
    types = model.types()
    if stated is None or stated.startswith("unknown") or not types or model.problems:
        return
    base = _VARIANT.sub("", stated)
    if not any(name == base or name.startswith(base + "_") for name in types):
        yield f"`general.file_type` is {stated}; the tensors are {', '.join(types)}"


def _has_mtp(model: GgufModel) -> bool:
    return any(".nextn." in tensor.name for header in model.headers for tensor in header.tensors)
