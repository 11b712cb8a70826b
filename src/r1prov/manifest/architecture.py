"""What the inventory itself says of a model's shape, whatever `config.json` claims."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from r1prov.formats.inventory import Inventory, Tensor
from r1prov.limits import MAX_INT63
from r1prov.manifest.fields import is_fact, is_integer
from r1prov.manifest.schema import Architecture

# The keys of config.json that the blueprint reads, and two that order models with equal headers
# (`transformers_version`, and `scale_fmt` in `quantization_config`).
CONFIG_FACTS = (
    "architectures",
    "attention_bias",
    "dtype",
    "first_k_dense_replace",
    "head_dim",
    "hidden_size",
    "intermediate_size",
    "kv_lora_rank",
    "max_position_embeddings",
    "mlp_bias",
    "model_type",
    "moe_intermediate_size",
    "moe_layer_freq",
    "n_routed_experts",
    "n_shared_experts",
    "num_attention_heads",
    "num_experts_per_tok",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_nextn_predict_layers",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "quantization_config",
    "tie_word_embeddings",
    "topk_method",
    "torch_dtype",
    "transformers_version",
    "type_vocab_size",
    "v_head_dim",
    "vocab_size",
)

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|blocks|h)\.(\d{1,6})\.")
_EXPERT = re.compile(r"\.experts\.(\d{1,6})\.")
# Of the multi-token-prediction block that DeepSeek-V3 appends as one more layer.
_MTP_MARK = ".eh_proj.weight"
_SCALE = "_scale_inv"
_EMBEDDINGS = ("embed_tokens.weight", "word_embeddings.weight", "wte.weight", "lm_head.weight")
_NORMS = ("norm.weight", "input_layernorm.weight")


@dataclass(frozen=True, slots=True)
class Features:
    """The shape of a model as its tensors show it. A number that nothing shows is 0."""

    layers: int
    hidden_size: int
    vocabulary: int
    experts: int
    parameters: int
    tensors: int
    dtypes: dict[str, int]


def read_features(inventory: Inventory) -> Features:
    """Derive the shape of a model from names and shapes of its tensors."""
    layers: set[str] = set()
    experts: set[str] = set()
    mtp = {
        found[1]
        for tensor in inventory
        if tensor.name.endswith(_MTP_MARK) and (found := _LAYER.search(tensor.name))
    }
    parameters = 0
    for tensor in inventory:
        found = _LAYER.search(tensor.name)
        layer = found[1] if found else None
        if layer is not None and layer not in mtp:
            layers.add(layer)
        if ".experts." in tensor.name and (expert := _EXPERT.search(tensor.name)):
            experts.add(expert[1])
        if layer not in mtp and not tensor.name.endswith(_SCALE):
            parameters += math.prod(tensor.shape)
    vocabulary, hidden_size = _embedding(inventory)
    return Features(
        layers=len(layers),
        hidden_size=hidden_size,
        vocabulary=vocabulary,
        experts=len(experts),
        parameters=parameters,
        tensors=len(inventory),
        dtypes=inventory.dtypes(),
    )


def _embedding(inventory: Inventory) -> tuple[int, int]:
    for suffix in _EMBEDDINGS:
        found = _outside_layers(inventory, suffix, rank=2)
        if found is not None:
            return found.shape[0], found.shape[1]
    for suffix in _NORMS:
        norm = next((t for t in inventory if t.name.endswith(suffix) and len(t.shape) == 1), None)
        if norm is not None:
            return 0, norm.shape[0]
    return 0, 0


def _outside_layers(inventory: Inventory, suffix: str, *, rank: int) -> Tensor | None:
    return next(
        (
            tensor
            for tensor in inventory
            if tensor.name.endswith(suffix)
            and len(tensor.shape) == rank
            and not _LAYER.search(tensor.name)
        ),
        None,
    )


def config_facts(config: Mapping[str, object]) -> dict[str, object]:
    """The facts of a `config.json` that a manifest states; null is the same as absent."""
    facts: dict[str, object] = {}
    for key in CONFIG_FACTS:
        value = config.get(key)
        if isinstance(value, dict):
            value = {k: v for k, v in sorted(value.items()) if v is not None and is_fact(v, 1)}
        if value is not None and is_fact(value, 2):
            facts[key] = value
    return facts


def describe_architecture(
    inventory: Inventory, config: Mapping[str, object] | None
) -> Architecture:
    """The architecture of a model: numbers from its headers, names from its config."""
    features = read_features(inventory)
    facts = config_facts(config or {})
    heads = facts.get("num_attention_heads")
    model_type = facts.get("model_type")
    return Architecture(
        model_type=model_type if isinstance(model_type, str) and model_type else "unknown",
        parameters=features.parameters,
        tensors=features.tensors,
        dtypes=features.dtypes,
        inventory_sha256=inventory.digest(),
        layers=features.layers,
        hidden_size=features.hidden_size,
        vocabulary=features.vocabulary,
        experts=features.experts,
        attention_heads=_heads(heads),
        config=facts,
    )


def _heads(value: object) -> int:
    return value if is_integer(value) and 0 < value < MAX_INT63 else 0
