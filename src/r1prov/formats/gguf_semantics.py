"""GGUF metadata that is well-formed and that runtimes stumble over all the same.

Each check stands for a bug that a runtime had: llama.cpp issues 24888, 26690 (tokenizer arrays of
another element type), 25969 (a byte token `<0x-1>`), 25475 (special token ids beyond the
vocabulary), 25821 (`block_count` over its array of layers).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from r1prov.formats.gguf import GgufHeader
from r1prov.formats.gguf_metadata import ArraySummary
from r1prov.limits import MAX_GGUF_LAYERS
from r1prov.text import quoted

_RULE: Final = "gguf-semantics"
# What llama.cpp reads each array as, without asking for its type.
_ARRAY_TYPES: Final[dict[str, tuple[str, ...]]] = {
    "tokenizer.ggml.tokens": ("STRING",),
    "tokenizer.ggml.merges": ("STRING",),
    "tokenizer.ggml.scores": ("FLOAT32",),
    "tokenizer.ggml.token_type": ("INT32", "UINT32"),
}
_ONE_A_TOKEN: Final = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")


def check_semantics(header: GgufHeader) -> tuple[tuple[str, str], ...]:
    """What is wrong with the meaning of the metadata: rule and message of each.

    Args:
        header: A header that `read_gguf` accepted.
    """
    checks = (_arrays, _odd_tokens, _special_tokens, _layers, _numbers)
    return tuple((_RULE, message) for check in checks for message in check(header))


def _arrays(header: GgufHeader) -> Iterator[str]:
    for key, expected in _ARRAY_TYPES.items():
        value = header.metadata.get(key)
        if value is None:
            continue
        if not isinstance(value, ArraySummary):
            yield f"`{key}` is a {header.value_types[key]}, not an array"
        elif value.type not in expected:
            yield f"`{key}` is an array of {value.type}, not of {expected[0]}"
        elif key in _ONE_A_TOKEN and value.length != header.vocabulary:
            yield f"`{key}` has {value.length:,} elements for {header.vocabulary:,} tokens"


def _odd_tokens(header: GgufHeader) -> Iterator[str]:
    for token in header.odd_tokens:
        yield f"token {quoted(token)} is no byte token, though it looks like one"


def _special_tokens(header: GgufHeader) -> Iterator[str]:
    for key in header.metadata:
        if not key.startswith("tokenizer.ggml.") or not key.endswith("_token_id"):
            continue
        number = header.integer(key)
        if number is None:
            yield f"{quoted(key)} is a {header.value_types[key]}, not an integer"
        elif header.vocabulary and not 0 <= number < header.vocabulary:
            yield f"{quoted(key)} is {number:,}, with {header.vocabulary:,} tokens"


def _layers(header: GgufHeader) -> Iterator[str]:
    if header.architecture is None:
        return
    key = f"{header.architecture}.block_count"
    if key not in header.metadata:
        return
    layers = header.integer(key)
    if layers is None or not 0 < layers <= MAX_GGUF_LAYERS:
        shown = header.value_types[key] if layers is None else f"{layers:,}"
        yield f"{quoted(key)} is {shown}, not from 1 to {MAX_GGUF_LAYERS}"


def _numbers(header: GgufHeader) -> Iterator[str]:
    for key, value in header.metadata.items():
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{quoted(key)} is no finite number"
