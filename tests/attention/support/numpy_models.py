"""BERT and Llama in numpy, from the weight files alone: a second computation of every attention.

Nothing here is shared with r1prov or transformers. Llama is computed as llama.cpp does, on rows as
the GGUF file has them: neighbours are rotated, not halves.
"""

from __future__ import annotations

import math
from typing import Any

import gguf
import numpy as np

_ERF = np.vectorize(math.erf)


def softmax(scores: Any) -> Any:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def bert_attention(weights: Any, config: Any, ids: Any) -> list[Any]:
    """Attention of each layer, shape (heads, rows, keys)."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    heads, epsilon = config["num_attention_heads"], config["layer_norm_eps"]

    def norm(x: Any, name: str) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    n = len(ids)
    x = w["embeddings.word_embeddings.weight"][list(ids)]
    x = x + w["embeddings.position_embeddings.weight"][:n]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    found = []
    for layer in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{p}.attention.self.{part}").reshape(n, heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        attention = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
        found.append(attention)
        mixed = (attention @ v).transpose(1, 0, 2).reshape(n, -1)
        x = norm(
            x + linear(mixed, f"{p}.attention.output.dense"), f"{p}.attention.output.LayerNorm"
        )
        inner = linear(x, f"{p}.intermediate.dense")
        inner = inner * 0.5 * (1 + _ERF(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{p}.output.dense"), f"{p}.output.LayerNorm")
    return found


def llama_attention(path: Any, ids: Any) -> tuple[list[Any], int]:
    """Attention of each layer, and the number of the likeliest next token."""
    reader = gguf.GGUFReader(path)
    w = {
        one.name: gguf.quants.dequantize(one.data, one.tensor_type).astype(np.float64)
        for one in reader.tensors
    }

    def setting(key: str) -> Any:
        return reader.fields[f"llama.{key}"].contents()

    heads, key_heads = setting("attention.head_count"), setting("attention.head_count_kv")
    epsilon, base = setting("attention.layer_norm_rms_epsilon"), setting("rope.freq_base")
    n = len(ids)

    def norm(x: Any, name: str) -> Any:
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * w[f"{name}.weight"]

    def rotated(x: Any) -> Any:
        size = x.shape[-1]
        angle = np.arange(n)[:, None] / base ** (np.arange(0, size, 2) / size)
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * np.cos(angle) - odd * np.sin(angle)
        turned[..., 1::2] = even * np.sin(angle) + odd * np.cos(angle)
        return turned

    def projected(x: Any, name: str, count: int) -> Any:
        return (x @ w[f"{name}.weight"].T).reshape(n, count, -1).transpose(1, 0, 2)

    x = w["token_embd.weight"][list(ids)]
    found = []
    for layer in range(setting("block_count")):
        p = f"blk.{layer}"
        y = norm(x, f"{p}.attn_norm")
        q = rotated(projected(y, f"{p}.attn_q", heads))
        k = rotated(projected(y, f"{p}.attn_k", key_heads)).repeat(heads // key_heads, axis=0)
        v = projected(y, f"{p}.attn_v", key_heads).repeat(heads // key_heads, axis=0)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores[:, np.triu(np.ones((n, n), dtype=bool), 1)] = -np.inf
        attention = softmax(scores)
        found.append(attention)
        mixed = (attention @ v).transpose(1, 0, 2).reshape(n, -1)
        x = x + mixed @ w[f"{p}.attn_output.weight"].T
        y = norm(x, f"{p}.ffn_norm")
        gate = y @ w[f"{p}.ffn_gate.weight"].T
        inner = gate / (1 + np.exp(-gate)) * (y @ w[f"{p}.ffn_up.weight"].T)
        x = x + inner @ w[f"{p}.ffn_down.weight"].T
    last = norm(x[-1], "output_norm")
    head = w.get("output.weight", w["token_embd.weight"])
    return found, int((head @ last).argmax())


def entropies(attention: Any) -> Any:
    """-sum p ln p of each row, by definition; shape (heads, rows)."""
    logs = np.log(attention, out=np.zeros_like(attention), where=attention > 0)
    return -(attention * logs).sum(axis=-1)
