"""GGUF files with the true tensor table of a model and no weights: 404 GB to look at, none on disk.

The demo, the tests and the benchmarks use them. Names, shapes, types and offsets are those that
llama.cpp's converter and quantizer give; the vocabulary is made up and the tensor data is a hole
of zeros.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from r1prov.errors import UsageError
from r1prov.family.blueprint import expected_inventory
from r1prov.family.gguf_names import ARCHITECTURES, gguf_layouts
from r1prov.formats.gguf_tensors import aligned
from r1prov.formats.gguf_types import (
    FILE_TYPES,
    SCALARS,
    TENSOR_TYPE_NUMBERS,
    TENSOR_TYPES,
    VALUE_TYPES,
)
from r1prov.formats.inventory import Tensor

ALIGNMENT: Final = 32
_NUMBERS: Final = {name: number for number, name in VALUE_TYPES.items()}
_FILE_TYPE_NUMBERS: Final = {name: number for number, name in FILE_TYPES.items()}
# A recipe is its plain type and the type of what deserves more bits (`llama_tensor_get_type`).
_RECIPES: Final[dict[str, tuple[str, str]]] = {
    "BF16": ("BF16", "BF16"),
    "F16": ("F16", "F16"),
    "Q8_0": ("Q8_0", "Q8_0"),
    "Q4_K_M": ("Q4_K", "Q6_K"),
}
# What does not fit into blocks of 256 falls back to a type with blocks of 32.
_FALLBACK: Final = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}
# Never quantized, whatever the recipe: it chooses the experts.
_ROUTER: Final = "ffn_gate_inp.weight"
# `LLM_TYPE_70B`: eight heads share one `attn_v`, so it gets more bits.
_LAYERS_OF_70B: Final = 80

# Type name and value; a list is an array of strings.
Pair = tuple[str, str, object]


@dataclass(frozen=True, slots=True)
class GgufPlan:
    """One file: its header, with padding up to the data, and its size.

    Attributes:
        name: File name.
        header: Bytes up to the tensor data.
        tensors: What it holds.
        size: Bytes of the whole file.
    """

    name: str
    header: bytes
    tensors: tuple[Tensor, ...]
    size: int


def emit_gguf(pairs: Sequence[Pair], tensors: Sequence[Tensor], *, alignment: int) -> bytes:
    """The bytes of a GGUF header, padded up to the tensor data.

    Args:
        pairs: Key, type name and value of each metadata entry.
        tensors: The tensors, offsets counted from the start of the data.
        alignment: What `general.alignment` says, or 32.
    """
    parts = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs))]
    for key, kind, value in pairs:
        parts.append(_string(key))
        if isinstance(value, list):
            parts.append(struct.pack("<IIQ", _NUMBERS["ARRAY"], _NUMBERS[kind], len(value)))
            parts += [_value(kind, item) for item in value]
        else:
            parts += [struct.pack("<I", _NUMBERS[kind]), _value(kind, value)]
    for tensor in tensors:
        dimensions = tuple(reversed(tensor.shape))
        parts += [
            _string(tensor.name),
            struct.pack(f"<I{len(dimensions)}Q", len(dimensions), *dimensions),
            struct.pack("<IQ", TENSOR_TYPE_NUMBERS[tensor.dtype], tensor.begin),
        ]
    header = b"".join(parts)
    return header.ljust(aligned(len(header), alignment), b"\0")


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: str, value: object) -> bytes:
    if kind == "STRING":
        return _string(str(value))
    return SCALARS[_NUMBERS[kind]].pack(value)


def place_tensors(
    tensors: Sequence[tuple[str, tuple[int, ...], str]], *, file: str, alignment: int
) -> tuple[Tensor, ...]:
    """Give tensors (name, row-major shape, type) their offsets, one after the other."""
    placed = []
    position = 0
    for name, shape, dtype in tensors:
        kind = TENSOR_TYPES[TENSOR_TYPE_NUMBERS[dtype]]
        elements = 1
        for dimension in shape:
            elements *= dimension
        end = position + elements // kind.block * kind.size
        placed.append(Tensor(name, dtype, shape, file, position, end))
        position = aligned(end, alignment)
    return tuple(placed)


def plan_gguf(
    config: Mapping[str, object],
    *,
    name: str,
    file_type: str = "Q4_K_M",
    layout: int = 0,
    parts: int = 1,
    extra: Sequence[Pair] = (),
) -> tuple[GgufPlan, ...]:
    """Lay out a model as one GGUF file or several.

    Args:
        config: The parsed `config.json`.
        name: File name without `.gguf`.
        file_type: `BF16`, `F16`, `Q8_0` or `Q4_K_M`.
        layout: Which of `gguf_layouts`.
        parts: Number of files.
        extra: Further metadata.

    Raises:
        UsageError: There is no blueprint or no GGUF layout for this model type.
        BlueprintError: The config is malformed.
    """
    expected = expected_inventory(config)
    layouts = () if expected is None else gguf_layouts(expected, config)
    if not layouts:
        raise UsageError("there is no GGUF layout for this model type", subject="config.json")
    layers = _integer(config, "num_hidden_layers")
    typed = [
        (tensor, shape, tensor_type(tensor, shape, layers, file_type))
        for tensor, shape in layouts[layout].shapes.items()
    ]
    pairs = [*_metadata(config, file_type), *extra]
    if parts == 1:
        return (_plan(f"{name}.gguf", pairs, typed),)
    size = -(-len(typed) // parts)
    plans = []
    for number in range(parts):
        split: list[Pair] = [
            ("split.no", "UINT16", number),
            ("split.count", "UINT16", parts),
            ("split.tensors.count", "INT32", len(typed)),
        ]
        # As `gguf-split` does: the metadata is in the first part only.
        own = pairs + split if number == 0 else split
        file = f"{name}-{number + 1:05d}-of-{parts:05d}.gguf"
        plans.append(_plan(file, own, typed[number * size : (number + 1) * size]))
    return tuple(plans)


def write_gguf_skeleton(plans: Sequence[GgufPlan], directory: str | os.PathLike[str]) -> None:
    """Write planned files, with a hole of zeros for weights."""
    os.makedirs(directory, exist_ok=True)
    for plan in plans:
        with open(os.path.join(directory, plan.name), "wb") as file:
            file.write(plan.header)
            file.truncate(plan.size)


def tensor_type(name: str, shape: tuple[int, ...], layers: int, file_type: str) -> str:
    """The type that llama.cpp's quantizer gives a tensor."""
    plain, better = _RECIPES[file_type]
    if len(shape) < 2 or name.endswith(_ROUTER):
        return "F32"
    chosen = plain
    if name == "output.weight":
        chosen = better
    elif name.endswith(".attn_v.weight") or ".ffn_down" in name:
        if _more_bits(int(name.split(".")[1]), layers):
            chosen = better
        elif file_type == "Q4_K_M" and layers == _LAYERS_OF_70B and "attn_v" in name:
            chosen = "Q5_K"
    if shape[-1] % TENSOR_TYPES[TENSOR_TYPE_NUMBERS[chosen]].block:
        return _FALLBACK.get(chosen, "F16")
    return chosen


def _more_bits(layer: int, layers: int) -> bool:
    """`use_more_bits`: the first and last eighth of the layers, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _plan(
    file: str, pairs: Sequence[Pair], typed: Sequence[tuple[str, tuple[int, ...], str]]
) -> GgufPlan:
    tensors = place_tensors(typed, file=file, alignment=ALIGNMENT)
    header = emit_gguf(pairs, tensors, alignment=ALIGNMENT)
    end = aligned(tensors[-1].end, ALIGNMENT) if tensors else 0
    return GgufPlan(file, header, tensors, len(header) + end)


def _metadata(config: Mapping[str, object], file_type: str) -> Iterator[Pair]:
    architecture = ARCHITECTURES[str(config["model_type"])]
    yield "general.architecture", "STRING", architecture
    yield "general.type", "STRING", "model"
    for key, source in (
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("vocab_size", "vocab_size"),
        ("leading_dense_block_count", "first_k_dense_replace"),
        ("expert_count", "n_routed_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_shared_count", "n_shared_experts"),
        ("expert_feed_forward_length", "moe_intermediate_size"),
        ("attention.q_lora_rank", "q_lora_rank"),
        ("attention.kv_lora_rank", "kv_lora_rank"),
    ):
        if isinstance(config.get(source), int):
            yield f"{architecture}.{key}", "UINT32", config[source]
    yield "general.file_type", "UINT32", _FILE_TYPE_NUMBERS[file_type]
    yield "tokenizer.ggml.model", "STRING", "gpt2"
    tokens = [f"t{number}" for number in range(_integer(config, "vocab_size"))]
    yield "tokenizer.ggml.tokens", "STRING", tokens


def _integer(config: Mapping[str, object], key: str) -> int:
    value = config[key]
    return value if isinstance(value, int) else 0
