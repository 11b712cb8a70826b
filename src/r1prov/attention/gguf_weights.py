"""A GGUF model as transformers has it: its config, and its tensors dequantized and renamed.

What llama.cpp's converter changes is undone here: names (`family.gguf_names`), and for Llama the
order of the rows of queries and keys (`LlamaModel.permute` of `convert_hf_to_gguf.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.errors import InputError, UsageError
from r1prov.family.blueprint import expected_inventory
from r1prov.family.gguf_names import ARCHITECTURES, OPTIONAL, gguf_name
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from r1prov.family.gguf_model import GgufModel

ROPE_FACTORS: Final = "rope_freqs.weight"
_TYPES: Final = {name: kind for kind, name in ARCHITECTURES.items() if kind != "deepseek_v3"}


def gguf_config(model: GgufModel) -> dict[str, object]:
    """The config that the metadata lead to, with keys as in `config.json`.

    Raises:
        UsageError: An architecture or rope scaling that is not measured.
        InputError: A figure is missing, or parts of the model are.
    """
    header = model.first
    if model.problems:
        raise InputError(f"is not one whole model: {model.problems[0]}", subject=model.name)
    architecture = header.architecture or ""
    kind = _TYPES.get(architecture)
    if kind is None:
        raise UsageError(
            f"attention entropy of GGUF files is measured for {', '.join(sorted(_TYPES))}; this is "
            f"{quoted(architecture)}",
            subject=model.name,
            hint="heads and layers need no entropy: leave --prompts out",
        )
    scaling = header.text(f"{architecture}.rope.scaling.type")
    if scaling not in (None, "none"):
        raise UsageError(
            f"rope scaling {quoted(scaling)} of a GGUF file is not measured",
            subject=model.name,
            hint="use the model's safetensors files",
        )
    inventory = model.inventory
    embedding = inventory.get("token_embd.weight")
    numbers = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
    }
    config: dict[str, object] = {
        key: _number(model, f"{architecture}.{name}") for key, name in numbers.items()
    }
    heads = _number(model, f"{architecture}.attention.head_count_kv", "num_attention_heads", config)
    head_dim = header.integer(f"{architecture}.attention.key_length")
    return {
        **config,
        "model_type": kind,
        "num_key_value_heads": heads,
        "vocab_size": embedding.shape[0] if embedding is not None else 0,
        "rms_norm_eps": _real(model, f"{architecture}.attention.layer_norm_rms_epsilon", 1e-6),
        "rope_theta": _real(model, f"{architecture}.rope.freq_base", 10_000.0),
        "tie_word_embeddings": inventory.get("output.weight") is None,
        "attention_bias": kind != "qwen2" and inventory.get("blk.0.attn_q.bias") is not None,
        **({} if head_dim is None else {"head_dim": head_dim}),
    }


def _number(
    model: GgufModel, key: str, like: str | None = None, config: Mapping[str, object] | None = None
) -> object:
    value = model.first.integer(key)
    if value is None and like is not None and config is not None:
        return config[like]
    if value is None:
        raise InputError(f"the metadata have no number {quoted(key)}", subject=model.name)
    return value


def _real(model: GgufModel, key: str, default: float) -> float:
    value = model.first.metadata.get(key)
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    if value is None:
        return default
    raise InputError(f"{quoted(key)} is no positive number", subject=model.name)


def renamed(config: Mapping[str, object], model: GgufModel) -> dict[str, str]:
    """The name in the GGUF file of each tensor that the config leads to.

    Tensors of the file that nothing leads to keep their names, so that holding the result against
    the config finds them.

    Raises:
        InputError: The config is malformed.
    """
    names: dict[str, str] = {}
    for one in expected_inventory({**config, "architectures": None}) or ():
        name = gguf_name(one.name)
        if name is not None:
            names[one.name] = name
    there = {tensor.name for tensor in model.inventory}
    known = set(names.values()) | OPTIONAL
    return {
        **{name: stored for name, stored in names.items() if stored in there},
        **{name: name for name in there - known},
    }


def dequantized(
    data: memoryview, dtype: str, shape: tuple[int, ...], *, name: str
) -> NDArray[np.float32]:
    """Weights of a tensor in single precision.

    Args:
        data: Its bytes.
        dtype: Its type as GGUF calls it.
        shape: Its dimensions in row-major order.
        name: Its name, for messages.

    Raises:
        UsageError: The `gguf` package is missing or cannot dequantize this type.
    """
    try:
        import gguf
        import numpy as np
    except ImportError:
        raise UsageError(
            "GGUF weights need the gguf package", hint="install r1prov[torch]"
        ) from None
    kinds: dict[str, gguf.GGMLQuantizationType] = dict(gguf.GGMLQuantizationType.__members__)
    raw = np.frombuffer(data, dtype=np.uint8)
    rows = raw.reshape(-1, len(raw) // max(1, _product(shape[:-1])))
    try:
        values = gguf.quants.dequantize(rows, kinds[dtype])
    except (NotImplementedError, AttributeError, TypeError, ValueError, KeyError):
        raise UsageError(
            f"tensor {quoted(name)} is stored as {dtype}, which the gguf package cannot dequantize"
        ) from None
    return np.array(values, dtype=np.float32).reshape(shape)  # a copy: torch writes to none of ours


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for one in shape:
        count *= one
    return count


def unpermuted(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a Llama query or key projection in the order of transformers.

    The converter interleaves both halves of each head, because llama.cpp rotates neighbours where
    transformers rotates halves.
    """
    rest = weights.shape[1:]
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, half, 2, *rest).swapaxes(1, 2).reshape(weights.shape)
