"""Heads, layers and ranks of a model's attention: derived from tensor shapes, held against config.

No weight is read. With multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1) the
shapes fix every figure; with grouped-query attention they fix products, such as heads times head
size, and the rest is what the config says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from r1prov.formats.gguf import GgufHeader
from r1prov.formats.inventory import Tensor
from r1prov.text import plural, quoted

_LAYER: Final = re.compile(r"(?:[a-z_]+\.){0,4}?(?:layers|layer|blk|h)\.([0-9]{1,6})\.(.+)")
# Roles by what stands after the number of the layer: transformers, BERT, GGUF.
_ROLES: Final[dict[str, str]] = {
    "self_attn.q_proj.weight": "q",
    "self_attn.k_proj.weight": "k",
    "self_attn.v_proj.weight": "v",
    "self_attn.o_proj.weight": "o",
    "self_attn.q_norm.weight": "q_norm",
    "self_attn.k_norm.weight": "k_norm",
    "self_attn.q_a_proj.weight": "q_a",
    "self_attn.q_b_proj.weight": "q_b",
    "self_attn.kv_a_proj_with_mqa.weight": "kv_a",
    "self_attn.kv_a_layernorm.weight": "kv_norm",
    "self_attn.kv_b_proj.weight": "kv_b",
    "self_attn.rotary_emb.inv_freq": "rope",
    "attention.self.query.weight": "q",
    "attention.self.key.weight": "k",
    "attention.self.value.weight": "v",
    "attention.output.dense.weight": "o",
    "attn_q.weight": "q",
    "attn_k.weight": "k",
    "attn_v.weight": "v",
    "attn_output.weight": "o",
    "attn_q_norm.weight": "q_norm",
    "attn_k_norm.weight": "k_norm",
    "attn_q_a.weight": "q_a",
    "attn_q_b.weight": "q_b",
    "attn_kv_a_mqa.weight": "kv_a",
    "attn_kv_a_norm.weight": "kv_norm",
    "attn_kv_b.weight": "kv_b",
    "attn_k_b.weight": "k_b",
    "attn_v_b.weight": "v_b",
}
_DIMENSIONS: Final = {"q_norm": 1, "k_norm": 1, "kv_norm": 1, "rope": 1, "k_b": 3, "v_b": 3}
_ROPE_OF_ALL: Final = "rope_freqs.weight"
# What only a multi-token-prediction layer has.
_MTP: Final = ("eh_proj.weight", "nextn.")
_NAMED: Final = 3
# No count of a model is larger, and a hostile config may hold a number of any length.
_MOST: Final = 2**31


class AttentionKind(StrEnum):
    """How queries share keys and values."""

    MLA = "multi-head latent attention"
    GQA = "grouped-query attention"
    MHA = "multi-head attention"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure from both sources.

    Attributes:
        name: What it is, in words.
        key: Its key in `config.json`, or how it follows from some.
        tensors: What the shapes show; None if they leave it open.
        config: What the config says; None if it says nothing.
    """

    name: str
    key: str
    tensors: int | None
    config: int | None

    @property
    def agrees(self) -> bool | None:
        """Whether both are the same; None if either is silent."""
        if self.tensors is None or self.config is None:
            return None
        return self.tensors == self.config

    @property
    def value(self) -> int | None:
        """The figure: of the tensors if they show it, since they are what is computed with."""
        return self.config if self.tensors is None else self.tensors


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """The attention of a model as its headers and config describe it.

    Attributes:
        kind: How queries share keys.
        source: Where the stated figures come from.
        figures: Every figure that either source has.
        mtp_layers: Numbers of the multi-token-prediction layers.
        contradictions: Where tensors contradict the config, or one another.
        cannot_tell: What the shapes leave open.
    """

    kind: AttentionKind
    source: str
    figures: tuple[Figure, ...]
    mtp_layers: tuple[int, ...]
    contradictions: tuple[str, ...]
    cannot_tell: tuple[str, ...]

    def figure(self, key: str) -> int | None:
        """The value of the figure with that key."""
        return next((one.value for one in self.figures if one.key == key), None)

    @property
    def layers(self) -> int | None:
        """Layers without those for multi-token prediction."""
        return self.figure("num_hidden_layers")

    @property
    def heads(self) -> int | None:
        """Attention heads of each layer."""
        return self.figure("num_attention_heads")


def attention_shape(
    tensors: Iterable[Tensor], stated: Mapping[str, object], *, source: str = "config.json"
) -> AttentionShape:
    """Derive the attention of a model from its tensors, and hold it against what is stated.

    Args:
        tensors: Tensors of all its files.
        stated: Figures by their key in `config.json`; see `gguf_figures` for GGUF.
        source: What `stated` is called.
    """
    return _Shapes(tensors, stated, source).result()


def gguf_figures(header: GgufHeader) -> dict[str, object]:
    """The figures that GGUF metadata state, under their keys of `config.json`.

    Keys are those of `gguf-py/gguf/constants.py` in llama.cpp.
    """
    prefix = header.architecture or ""

    def number(key: str) -> int | None:
        return header.integer(f"{prefix}.{key}")

    found: dict[str, object] = {
        "num_hidden_layers": number("block_count"),
        "num_nextn_predict_layers": number("nextn_predict_layers"),
        "hidden_size": number("embedding_length"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "head_dim": number("attention.key_length"),
        "q_lora_rank": number("attention.q_lora_rank"),
        "kv_lora_rank": number("attention.kv_lora_rank"),
    }
    blocks, mtp = found["num_hidden_layers"], found["num_nextn_predict_layers"]
    if isinstance(blocks, int) and isinstance(mtp, int):
        found["num_hidden_layers"] = blocks - mtp  # llama.cpp counts them as blocks
    if found["kv_lora_rank"] is not None:
        del found["head_dim"]
        # With the absorbed layout `key_length` is that of the compressed keys.
        whole = number("attention.key_length_mla") or number("attention.key_length")
        rope = number("rope.dimension_count")
        found["qk_rope_head_dim"] = rope
        found["v_head_dim"] = number("attention.value_length_mla") or number(
            "attention.value_length"
        )
        if whole is not None and rope is not None:
            found["qk_nope_head_dim"] = whole - rope
        # One shared key head is how the absorbed layout says latent attention.
        del found["num_key_value_heads"]
    return {key: value for key, value in found.items() if value is not None}


_Roles = dict[str, tuple[int, ...]]


class _Shapes:
    def __init__(
        self, tensors: Iterable[Tensor], stated: Mapping[str, object], source: str
    ) -> None:
        self.source = source
        self.contradictions: list[str] = []
        self.cannot_tell: list[str] = []
        self.figures: list[Figure] = []
        self.stated = {key: self._count(key, value) for key, value in stated.items()}
        self.layers: dict[int, _Roles] = {}
        self.mtp: set[int] = set()
        self.numbers: set[int] = set()
        self.rope: int | None = None
        for tensor in tensors:
            self._take(tensor)

    def _count(self, key: str, value: object) -> int | None:
        if type(value) is not int:
            return None
        if key in _FIGURE_NAMES and not 0 <= value <= _MOST:
            self.contradictions.append(
                f"`{key}` of {self.source} is no count of a model: it must be from 0 to 2^31"
            )
            return None
        return value

    def _take(self, tensor: Tensor) -> None:
        if tensor.name == _ROPE_OF_ALL and len(tensor.shape) == 1:
            self.rope = 2 * tensor.shape[0]
        found = _LAYER.fullmatch(tensor.name)
        if found is None:
            return
        number, rest = int(found[1]), found[2]
        self.numbers.add(number)
        if rest.startswith(_MTP):
            self.mtp.add(number)
        role = _ROLES.get(rest)
        if role is not None and len(tensor.shape) == _DIMENSIONS.get(role, 2):
            self.layers.setdefault(number, {})[role] = tensor.shape

    def result(self) -> AttentionShape:
        kind = AttentionKind.UNKNOWN
        ordered = sorted(self.layers)
        self._layer_count(ordered)
        self._same_in_all(ordered)
        first = self.layers[ordered[0]] if ordered else {}
        if {"kv_a", "kv_norm", "o"} <= first.keys() and ("q_b" in first or "q" in first):
            kind = AttentionKind.MLA
            self._latent(first)
        elif {"q", "k"} <= first.keys():
            kind = self._grouped(first)
        else:
            self.cannot_tell.append(
                "how attention is built: no projections of names that r1prov knows"
            )
            for key in ("num_attention_heads", "num_key_value_heads", "head_dim"):
                self._figure(key, None)
        for figure in self.figures:
            if figure.agrees is False:
                self.contradictions.append(
                    f"{figure.name}: the tensors have {figure.tensors:,}, {self.source} says "
                    f"{figure.config:,}"
                )
        return AttentionShape(
            kind,
            self.source,
            tuple(one for one in self.figures if one.value is not None),
            tuple(sorted(self.mtp)),
            tuple(self.contradictions),
            tuple(self.cannot_tell),
        )

    def _figure(self, key: str, tensors: int | None) -> None:
        self.figures.append(Figure(_FIGURE_NAMES[key], key, tensors, self.stated.get(key)))

    def _layer_count(self, ordered: Sequence[int]) -> None:
        main = self.numbers - self.mtp
        self._figure("num_hidden_layers", len(main) or None)
        has_mtp = self.mtp or self.stated.get("num_nextn_predict_layers")
        # Converters to GGUF leave the layer out and its count in.
        if has_mtp and (self.mtp or self.source == "config.json"):
            self._figure("num_nextn_predict_layers", len(self.mtp))
        missing = set(range(max(self.numbers, default=-1) + 1)) - self.numbers
        if missing:
            self.contradictions.append(
                f"tensors of {plural(len(missing), 'layer')} are missing, such as layer "
                f"{min(missing):,}: this is not all of a model"
            )
        bare = sorted(main - set(ordered)) if ordered else []
        if bare:
            self.contradictions.append(
                f"{plural(len(bare), 'layer')} without attention that r1prov knows, such as layer "
                f"{bare[0]:,}"
            )

    def _same_in_all(self, ordered: Sequence[int]) -> None:
        other = [n for n in ordered if self.layers[n] != self.layers[ordered[0]]]
        if other:
            self.contradictions.append(
                f"{plural(len(other), 'layer')} with other attention than layer {ordered[0]:,}, "
                f"such as {', '.join(f'{n:,}' for n in other[:_NAMED])}"
            )

    def _latent(self, roles: _Roles) -> None:
        """Every figure follows: heads = (queries - (keys and values - values)) / rope."""
        hidden = roles["o"][0]
        rank = roles["kv_norm"][0]
        rope = roles["kv_a"][0] - rank
        queries = (roles.get("q_b") or roles["q"])[0]
        values = roles["o"][1]
        heads = nope = value = None
        if "k_b" in roles and "v_b" in roles:
            heads, nope, value = roles["k_b"][0], roles["k_b"][2], roles["v_b"][1]
        elif "kv_b" in roles and rope > 0:
            unrotated = roles["kv_b"][0] - values
            heads, odd = divmod(queries - unrotated, rope)
            if heads > 0 and not odd and not unrotated % heads and not values % heads:
                nope, value = unrotated // heads, values // heads
            else:
                heads = None
        fits = (
            heads is not None
            and nope is not None
            and value is not None
            and heads * (nope + rope) == queries
            and heads * value == values
        )
        if not fits:
            self.contradictions.append(
                "shapes of the attention projections do not fit one another: no number of heads "
                f"gives {queries:,} rows of queries and {values:,} columns of the output"
            )
            heads = nope = value = None
        self._figure("hidden_size", hidden)
        self._figure("num_attention_heads", heads)
        if "q_a" in roles:
            self._figure("q_lora_rank", roles["q_a"][0])
        self._figure("kv_lora_rank", rank)
        self._figure("qk_nope_head_dim", nope)
        self._figure("qk_rope_head_dim", rope)
        self._figure("v_head_dim", value)

    def _grouped(self, roles: _Roles) -> AttentionKind:
        queries, keys = roles["q"][0], roles["k"][0]
        size = self._head_size(roles, queries, keys)
        heads = key_heads = None
        if size is not None and not queries % size and not keys % size:
            heads, key_heads = queries // size, keys // size
        stated_heads, hidden = (
            self.stated.get("num_attention_heads"),
            self.stated.get("hidden_size"),
        )
        stated_keys = self.stated.get("num_key_value_heads") or stated_heads
        # What loaders take where the config is silent.
        if self.stated.get("head_dim") is None and stated_heads and hidden is not None:
            self.stated["head_dim"] = hidden // stated_heads
        stated_size = self.stated.get("head_dim")
        self._figure("hidden_size", roles["q"][1])
        self._figure("num_attention_heads", heads)
        self._figure("num_key_value_heads", key_heads)
        self._figure("head_dim", size)
        self._product("query rows (heads x head size)", queries, stated_heads, stated_size)
        self._product("key rows (key-value heads x head size)", keys, stated_keys, stated_size)
        if size is None:
            self.cannot_tell.append(
                "heads and head size apart: the shapes show their product, and the config the rest"
            )
        return AttentionKind.MHA if queries == keys else AttentionKind.GQA

    def _product(self, name: str, rows: int, heads: int | None, size: int | None) -> None:
        stated = None if heads is None or size is None else heads * size
        if heads == 0:  # a head size cannot be derived from that
            stated = 0
        self.figures.append(Figure(name, "", rows, stated))

    def _head_size(self, roles: _Roles, queries: int, keys: int) -> int | None:
        """Where something of the size of one head is stored: a norm (Qwen3), or rope factors."""
        norms = {roles[name] for name in ("q_norm", "k_norm") if name in roles}
        # Others (OLMo 2) have a norm over all heads at once.
        if len(norms) == 1 and (size := norms.pop()[0]) and size not in (queries, keys):
            return size
        if "rope" in roles:
            return 2 * roles["rope"][0] or None
        return self.rope or None


_FIGURE_NAMES: Final = {
    "num_hidden_layers": "layers",
    "num_nextn_predict_layers": "multi-token-prediction layers",
    "hidden_size": "hidden size",
    "num_attention_heads": "attention heads a layer",
    "num_key_value_heads": "key-value heads a layer",
    "head_dim": "head size",
    "q_lora_rank": "rank of queries",
    "kv_lora_rank": "rank of keys and values",
    "qk_nope_head_dim": "key dimensions a head without rotation",
    "qk_rope_head_dim": "key dimensions with rotation, shared",
    "v_head_dim": "value dimensions a head",
}


def shape_differences(one: AttentionShape, other: AttentionShape) -> Iterator[str]:
    """Why two models have no heads to pair: empty if every layer has the same heads."""
    if one.kind is not other.kind:
        yield f"{one.kind.value} against {other.kind.value}"
    for key in ("num_hidden_layers", "num_attention_heads"):
        mine, theirs = one.figure(key), other.figure(key)
        if mine is None or theirs is None:
            yield f"{_FIGURE_NAMES[key]}: not known of both ({quoted(key)})"
        elif mine != theirs:
            yield f"{_FIGURE_NAMES[key]}: {mine:,} against {theirs:,}"
