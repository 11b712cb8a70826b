"""The settings with which a model is built: known ones of known architectures, and no others.

`config.json` is not handed to transformers. What it says of shapes must be what the tensors have,
to the last of them, so that nothing is allocated by a number that no tensor bears out; and a key
that is not read here (`auto_map`, `num_labels`, …) can neither run code nor cost memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.errors import InputError, UsageError
from r1prov.family.blueprint import expected_inventory
from r1prov.text import plural, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHARED: Final = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
_DECODER: Final = (
    *_SHARED,
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "attention_bias",
    "tie_word_embeddings",
)
_WINDOW: Final = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
# Class of the body without head, and the keys that it computes with, by model type. These are the
# architectures whose attention the tests hold against a computation of their own.
ARCHITECTURES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "llama": ("LlamaModel", (*_DECODER, "head_dim", "mlp_bias")),
    "qwen2": ("Qwen2Model", (*_DECODER, *_WINDOW)),
    "qwen3": ("Qwen3Model", (*_DECODER, *_WINDOW, "head_dim")),
    "deepseek_v3": (
        "DeepseekV3Model",
        (
            *_DECODER,
            "moe_intermediate_size",
            "n_shared_experts",
            "n_routed_experts",
            "routed_scaling_factor",
            "q_lora_rank",
            "kv_lora_rank",
            "qk_rope_head_dim",
            "qk_nope_head_dim",
            "v_head_dim",
            "n_group",
            "topk_group",
            "num_experts_per_tok",
            "first_k_dense_replace",
            "norm_topk_prob",
            "rope_interleave",
        ),
    ),
    "bert": (
        "BertModel",
        (
            *_SHARED,
            "num_attention_heads",
            "hidden_act",
            "max_position_embeddings",
            "type_vocab_size",
            "layer_norm_eps",
            "pad_token_id",
        ),
    ),
}
# What changes the arithmetic in a way that is not computed here.
_REFUSED: Final[dict[str, tuple[object, ...]]] = {
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "topk_method": ("noaux_tc",),
    "scoring_func": ("sigmoid",),
    "moe_layer_freq": (1,),
}


def model_type(config: Mapping[str, object], *, subject: str) -> str:
    """The model type, if its attention is measured.

    Raises:
        UsageError: It is another, or the weights are quantized in a way that is not read.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        found = quoted(kind) if isinstance(kind, str) else "no model type"
        raise UsageError(
            f"attention entropy is measured for {', '.join(sorted(ARCHITECTURES))}; this is "
            f"{found}",
            subject=subject,
            hint="heads and layers need no entropy: leave --prompts out",
        )
    if config.get("quantization_config") is not None:
        raise UsageError(
            "weights quantized in safetensors files are not measured",
            subject=subject,
            hint="use a copy in BF16, F16 or F32, or a GGUF file",
        )
    for key, taken in _REFUSED.items():
        value = config.get(key)
        if value is not None and value not in taken:
            raise UsageError(
                f"attention with `{key}` {quoted(str(value), limit=60)} is not measured",
                subject=subject,
            )
    return kind


def check_shapes(
    config: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]], *, subject: str
) -> None:
    """Hold every tensor against what the config leads to.

    Args:
        config: The config.
        shapes: Shape of each tensor, by its name as transformers has it.
        subject: The model, for messages.

    Raises:
        InputError: They differ, or the config is malformed.
        UsageError: No rule covers the config.
    """
    # What is stored by other versions, or not needed for the body.
    free = ("embeddings.position_ids", "pooler.", "lm_head.")
    wanted = expected_inventory({**config, "architectures": None})
    if wanted is None:
        raise UsageError("no rule says which tensors this config leads to", subject=subject)
    layers = config.get("num_hidden_layers")
    depth = layers if isinstance(layers, int) else 0
    expected = {one.name: one.shape for one in wanted if not one.name.startswith(free)}
    found = {name: shape for name, shape in shapes.items() if not name.startswith(free)}
    if expected == found:
        return
    odd = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    raise InputError(
        f"{plural(len(odd), 'tensor')} of {depth:,} layers are not what the config leads to, such "
        f"as {quoted(odd[0])}: expected {_shape(expected.get(odd[0]))}, found "
        f"{_shape(found.get(odd[0]))}",
        subject=subject,
        hint="`r1prov identify` says which model this is",
    )


def settings(config: Mapping[str, object], kind: str) -> dict[str, object]:
    """The keys that the architecture computes with; dropout is always off."""
    return {key: config[key] for key in ARCHITECTURES[kind][1] if config.get(key) is not None}


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else str(list(shape))
