"""The architecture that a bundle records, beside the figures of DeepSeek-R1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.manifest.schema import Manifest, Role
from r1prov.render.evidence_page import Markup, Page, code, mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from r1prov.manifest.architecture import Features
    from r1prov.manifest.schema import Architecture
    from r1prov.render.evidence_dossier import Dossier


@dataclass(frozen=True, slots=True)
class _Figure:
    """One row: where its number is found; None where headers do not tell."""

    label: str
    key: str
    manifest: Callable[[Architecture], object]
    headers: Callable[[Features], object] | None


def _of_config(key: str) -> Callable[[Architecture], object]:
    return lambda architecture: architecture.config.get(key)


def _weights(manifest: Manifest) -> list[int]:
    return [one.size or 0 for one in manifest.files if one.role is Role.WEIGHTS]


_FIGURES: Final = (
    _Figure("a-model-type", "model_type", lambda a: a.model_type, None),
    _Figure("a-layers", "num_hidden_layers", lambda a: a.layers, lambda f: f.layers),
    _Figure("a-dense", "first_k_dense_replace", _of_config("first_k_dense_replace"), None),
    _Figure("a-mtp", "num_nextn_predict_layers", _of_config("num_nextn_predict_layers"), None),
    _Figure("a-hidden", "hidden_size", lambda a: a.hidden_size, lambda f: f.hidden_size),
    _Figure("a-heads", "num_attention_heads", lambda a: a.attention_heads, None),
    _Figure("a-experts", "n_routed_experts", lambda a: a.experts, lambda f: f.experts),
    _Figure("a-active", "num_experts_per_tok", _of_config("num_experts_per_tok"), None),
    _Figure("a-vocabulary", "vocab_size", lambda a: a.vocabulary, lambda f: f.vocabulary),
    _Figure("a-context", "max_position_embeddings", _of_config("max_position_embeddings"), None),
    _Figure("a-parameters", "", lambda a: a.parameters, lambda f: f.parameters),
    _Figure("a-tensors", "", lambda a: a.tensors, lambda f: f.tensors),
    _Figure("a-dtypes", "", lambda a: a.dtypes, lambda f: f.dtypes),
)


def architecture(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """The table, and what it means."""
    reference = dossier.reference
    if reference is None or (dossier.features is None and dossier.config is None):
        yield page.paragraph("a-none")
        return
    yield page.paragraph("a-intro", name=reference.name, revision=code(reference.revision[:12]))
    rows = list(_rows(page, dossier, reference))
    heads = ("a-what", "a-r1", "a-manifest", "a-config", "a-headers", "a-same", "a-key")
    yield page.table("architecture", heads, (cells for cells, _ in rows))
    different = sum(not same for _, same in rows)
    if different:
        yield page.paragraph("a-unequal", count=f"{different}")
    else:
        others = "、".join(reference.same_headers_as)
        if page.languages[0].value == "en":
            others = "; ".join(reference.same_headers_as)
        yield page.paragraph("a-equal", others=others)


def _rows(
    page: Page, dossier: Dossier, reference: Manifest
) -> Iterator[tuple[tuple[str, ...], bool]]:
    # Only what says that it is R1 is wrong where it differs.
    full = dossier.manifest is not None and dossier.manifest.variant == reference.variant
    unlike = "no" if full else "unlike"
    # A manifest of GGUF files describes none.
    shape = dossier.manifest.architecture if dossier.manifest else None
    for one in _FIGURES:
        standard = one.manifest(reference.architecture) if reference.architecture else None
        found = (
            one.manifest(shape) if shape else None,
            dossier.config.get(one.key) if one.key and dossier.config else None,
            one.headers(dossier.features) if one.headers and dossier.features else None,
        )
        source = f"config.json {one.key}" if one.key else "safetensors"
        yield _row(page, one.label, standard, found, source, unlike)
    files = _weights(reference)
    listed = _weights(dossier.manifest) if dossier.manifest else None
    count, size = dossier.weights
    for label, standard, stated, seen in (
        ("a-files", len(files), len(listed) if listed else None, count or None),
        ("a-bytes", sum(files), sum(listed) if listed else None, size or None),
    ):
        yield _row(page, label, standard, (stated, None, seen), "safetensors", unlike)


def _row(
    page: Page,
    label: str,
    standard: object,
    found: tuple[object, ...],
    source: str,
    unlike: str,
) -> tuple[tuple[str, ...], bool]:
    known = [one for one in found if one not in (None, 0, "", {})]
    same = all(one == standard for one in known)
    compared: Markup | str = "—"
    if known:
        compared = mark("yes", page.say("same")) if same else mark(unlike, page.say("differs"))
    cells = (page.say(label), _shown(standard), *map(_shown, found), compared, code(source))
    return cells, same


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return Markup(
            "<br>".join(f"{code(str(name))}&nbsp;{_shown(value[name])}" for name in sorted(value))
        )
    if isinstance(value, bool) or value in (None, 0, "", {}):
        return "—"
    if isinstance(value, int):
        return Markup(f'<span class="number">{value:,}</span>')
    return str(value)
