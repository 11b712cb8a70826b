"""The tensors that a GGUF file of a known model must have, derived from its blueprint.

Names are those of `gguf-py/gguf/tensor_mapping.py` in llama.cpp. What its converter changes:
the experts of a layer become one three-dimensional tensor, FP8 scales are folded into the weights,
and the multi-token-prediction block is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from r1prov.family.blueprint import ExpectedTensor

# `general.architecture` by model type.
ARCHITECTURES: Final[dict[str, str]] = {
    "deepseek_v3": "deepseek2",
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
_OUTSIDE: Final[dict[str, str]] = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_INSIDE: Final[dict[str, str]] = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
_EXPERTS: Final = "mlp.experts."
_CORRECTION: Final = ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias")
_SCALE: Final = "_scale_inv"
# Written by some converters from the rope settings; it is no weight of the model.
OPTIONAL: Final = frozenset({"rope_freqs.weight"})


@dataclass(frozen=True, slots=True)
class GgufLayout:
    """One way in which a converter writes a model.

    Attributes:
        name: What sets it apart.
        shapes: Row-major shape of each tensor by name, in the order of the layers.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]


def gguf_layouts(
    expected: Sequence[ExpectedTensor], config: Mapping[str, object]
) -> tuple[GgufLayout, ...]:
    """Every layout in which the model is found as GGUF, the oldest first.

    Args:
        expected: The blueprint, as `expected_inventory` derives it from the config.
        config: The facts of the config.

    Returns:
        The layouts; none if a tensor has no GGUF name.
    """
    layers = config.get("num_hidden_layers")
    if not isinstance(layers, int) or config.get("model_type") not in ARCHITECTURES:
        return ()
    shapes: dict[str, tuple[int, ...]] = {}
    for tensor in expected:
        layer, rest = _split_layer(tensor.name)
        if layer >= layers or rest.endswith(_SCALE):
            continue
        if rest.startswith(_EXPERTS):
            _add_expert(shapes, layer, rest, tensor.shape)
            continue
        name = _gguf_name(layer, rest)
        if name is None:
            return ()
        shapes[name] = tensor.shape
    joined = GgufLayout("attn_kv_b in one", shapes)
    separate = _separate_kv_b(shapes, config)
    if separate is None:
        return (GgufLayout("usual", shapes),)
    return (joined, GgufLayout("attn_k_b and attn_v_b", separate))


def gguf_name(name: str) -> str | None:
    """The GGUF name of a tensor that is not one of a layer's experts; None if it has none."""
    return _gguf_name(*_split_layer(name))


def _split_layer(name: str) -> tuple[int, str]:
    """Layer and the rest of the name; -1 outside the layers."""
    if not name.startswith("model.layers."):
        return -1, name
    number, _, rest = name.removeprefix("model.layers.").partition(".")
    return int(number), rest


def _gguf_name(layer: int, rest: str) -> str | None:
    if rest == _CORRECTION[0]:
        return f"blk.{layer}.{_CORRECTION[1]}"
    module, _, kind = rest.rpartition(".")
    found = (_OUTSIDE if layer < 0 else _INSIDE).get(module)
    if found is None:
        return None
    return f"{found}.{kind}" if layer < 0 else f"blk.{layer}.{found}.{kind}"


def _add_expert(
    shapes: dict[str, tuple[int, ...]], layer: int, rest: str, shape: tuple[int, ...]
) -> None:
    """`mlp.experts.E.gate_proj.weight` is a slice of `ffn_gate_exps.weight`."""
    projection = rest.split(".")[3]
    name = f"blk.{layer}.ffn_{projection.removesuffix('_proj')}_exps.weight"
    experts = shapes[name][0] if name in shapes else 0
    shapes[name] = (experts + 1, *shape)


def _separate_kv_b(
    shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, object]
) -> dict[str, tuple[int, ...]] | None:
    """Since multi-head latent attention came to llama.cpp (2025-04), `attn_kv_b` is two tensors.

    The keys' half is stored transposed, one matrix a head.
    """
    numbers = [
        config.get(key)
        for key in ("num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim")
    ]
    if not all(isinstance(number, int) for number in numbers):
        return None
    heads, rank, keys, values = (int(str(number)) for number in numbers)
    result: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if name.endswith(".attn_kv_b.weight"):
            prefix = name.removesuffix("attn_kv_b.weight")
            result[f"{prefix}attn_k_b.weight"] = (heads, rank, keys)
            result[f"{prefix}attn_v_b.weight"] = (heads, values, rank)
        else:
            result[name] = shape
    return result
