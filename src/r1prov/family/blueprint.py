"""Derive every tensor that a model must have from its `config.json` alone.

The rules were recovered from published releases: names, shapes and dtypes of DeepSeek-R1 come out
so that the shard index rebuilt from them has the SHA-256 of the published one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from r1prov.errors import InputError
from r1prov.limits import MAX_TENSORS_PER_MODEL
from r1prov.text import plural, quoted

# No dimension of a weight matrix comes near; the bound keeps products of a hostile config small.
_MAX_DIMENSION: Final = 2**31

_DTYPES: Final = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_FP8_FORMATS: Final = {"e4m3": "F8_E4M3", "e5m2": "F8_E5M2"}


class BlueprintError(InputError):
    """A config from which no tensors can be derived; the message names the field."""


class ExpectedTensor(NamedTuple):
    """A tensor that the model must have."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class _Config:
    """Typed reading of a config. Null and absent are the same, as they are to transformers."""

    def __init__(self, values: Mapping[str, object], where: str = "") -> None:
        self._values = values
        self._where = where

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def error(self, key: str, message: str) -> BlueprintError:
        return BlueprintError(f"`{self._where}{key}` {message}", subject="config.json")

    def integer(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self._values.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.error(key, "is missing")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, f"must be an integer, not {quoted(repr(value), limit=60)}")
        if not least <= value <= _MAX_DIMENSION:
            raise self.error(key, f"must be from {least} to 2^31")
        return value

    def flag(self, key: str) -> bool:
        value = self._values.get(key, False)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, not {quoted(repr(value), limit=60)}")
        return value

    def text(self, key: str) -> str | None:
        value = self._values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"must be a string, not {quoted(repr(value), limit=60)}")
        return value

    def pair(self, key: str) -> tuple[int, int]:
        value = self._values.get(key)
        if not isinstance(value, list) or len(value) != 2:
            raise self.error(key, "must be two integers")
        one = _Config({f"{key}[{i}]": item for i, item in enumerate(value)}, self._where)
        return one.integer(f"{key}[0]"), one.integer(f"{key}[1]")

    def table(self, key: str) -> _Config | None:
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "must be an object")
        return _Config(value, f"{self._where}{key}.")

    def dtype(self) -> str:
        # transformers 5 writes `dtype`; neither key means float32, its default.
        key = "torch_dtype" if "torch_dtype" in self else "dtype"
        name = self.text(key) or "float32"
        dtype = _DTYPES.get(name.removeprefix("torch."))
        if dtype is None:
            raise self.error(key, f"is {quoted(name)}, which no rule knows")
        return dtype

    def head_size(self, hidden: int, heads: int) -> int:
        if "head_dim" in self:
            return self.integer("head_dim")
        if hidden % heads:
            raise self.error("num_attention_heads", "does not divide `hidden_size`")
        return hidden // heads


_Rules = Callable[[_Config], Iterator[ExpectedTensor] | None]


def expected_inventory(config: Mapping[str, object]) -> list[ExpectedTensor] | None:
    """Every tensor of the model that a config describes, in the order of DeepSeek's files.

    Args:
        config: A parsed `config.json`, or the facts of one that a manifest states.

    Returns:
        The tensors, or None if no rule covers this model type or its quantization.

    Raises:
        BlueprintError: The config is malformed, or describes more tensors than any model has.
    """
    found = _Config(config)
    kind = found.text("model_type")
    rules = _RULES.get(kind or "")
    if rules is None:
        return None
    architecture, build = rules
    claimed = config.get("architectures")
    if claimed is not None and claimed != [architecture]:
        # Another head on the same body has other tensors.
        return None
    tensors = build(found)
    return None if tensors is None else list(tensors)


def _refuse_huge(config: _Config, key: str, tensors: int) -> None:
    """Refuse before anything is built: the count follows from a few integers."""
    if tensors > MAX_TENSORS_PER_MODEL:
        raise config.error(key, f"leads to {plural(tensors, 'tensor')}, more than any model has")


# --- DeepSeek-V3 and R1 ---------------------------------------------------------------------


class _Fp8(NamedTuple):
    """FP8 with one F32 scale a block: `weight` and `weight_scale_inv`."""

    dtype: str
    rows: int
    columns: int


def _fp8(config: _Config) -> _Fp8 | None:
    """The quantization, None if it is one that no rule knows."""
    if config.text("quant_method") != "fp8":
        return None
    if "modules_to_not_convert" in config or "ignored_layers" in config:
        return None
    dtype = _FP8_FORMATS.get(config.text("fmt") or "e4m3")
    if dtype is None:
        return None
    rows, columns = config.pair("weight_block_size")
    return _Fp8(dtype, rows, columns)


def _deepseek_v3(config: _Config) -> Iterator[ExpectedTensor] | None:
    quantization = config.table("quantization_config")
    fp8 = _fp8(quantization) if quantization is not None else None
    if quantization is not None and fp8 is None:
        return None
    layers = config.integer("num_hidden_layers")
    mtp = config.integer("num_nextn_predict_layers", 0, least=0)
    experts = config.integer("n_routed_experts", 0, least=0)
    _refuse_huge(config, "n_routed_experts", (layers + mtp) * (6 * experts + 30))
    return _DeepSeek(config, fp8).tensors(layers, mtp, experts)


class _DeepSeek:
    """The modules of `DeepseekV3ForCausalLM`, in the order in which DeepSeek stored them."""

    def __init__(self, config: _Config, fp8: _Fp8 | None) -> None:
        self.config = config
        self.fp8 = fp8
        self.dtype = config.dtype()
        self.hidden = config.integer("hidden_size")
        self.vocabulary = config.integer("vocab_size")
        self.dense = config.integer("intermediate_size")
        self.expert = config.integer("moe_intermediate_size", self.dense)
        self.heads = config.integer("num_attention_heads")
        self.kv_rank = config.integer("kv_lora_rank")
        self.nope = config.integer("qk_nope_head_dim")
        self.rope = config.integer("qk_rope_head_dim")
        self.value = config.integer("v_head_dim")
        self.q_rank = config.integer("q_lora_rank") if "q_lora_rank" in config else None
        self.shared = config.integer("n_shared_experts", 0, least=0)
        self.first_moe = config.integer("first_k_dense_replace", 0, least=0)
        self.frequency = config.integer("moe_layer_freq", 1)
        self.bias = config.flag("attention_bias")
        self.correction = (config.text("topk_method") or "noaux_tc") == "noaux_tc"

    def tensors(self, layers: int, mtp: int, experts: int) -> Iterator[ExpectedTensor]:
        hidden, vocabulary = self.hidden, self.vocabulary
        yield self.plain("model.embed_tokens.weight", vocabulary, hidden)
        for layer in range(layers):
            moe = layer >= self.first_moe and layer % self.frequency == 0
            yield from self.block(f"model.layers.{layer}", experts if moe else 0)
        yield self.plain("model.norm.weight", hidden)
        if not self.config.flag("tie_word_embeddings"):
            yield self.plain("lm_head.weight", vocabulary, hidden)
        for layer in range(layers, layers + mtp):
            prefix = f"model.layers.{layer}"
            yield from self.block(prefix, experts)
            yield self.plain(f"{prefix}.embed_tokens.weight", vocabulary, hidden)
            yield self.plain(f"{prefix}.enorm.weight", hidden)
            yield self.plain(f"{prefix}.hnorm.weight", hidden)
            yield self.plain(f"{prefix}.eh_proj.weight", hidden, 2 * hidden)
            yield self.plain(f"{prefix}.shared_head.norm.weight", hidden)
            yield self.plain(f"{prefix}.shared_head.head.weight", vocabulary, hidden)

    def plain(self, name: str, *shape: int) -> ExpectedTensor:
        return ExpectedTensor(name, self.dtype, shape)

    def linear(
        self, name: str, rows: int, columns: int, *, bias: bool = False
    ) -> Iterator[ExpectedTensor]:
        if self.fp8 is None:
            yield self.plain(f"{name}.weight", rows, columns)
        else:
            blocks = (-(-rows // self.fp8.rows), -(-columns // self.fp8.columns))
            yield ExpectedTensor(f"{name}.weight", self.fp8.dtype, (rows, columns))
            yield ExpectedTensor(f"{name}.weight_scale_inv", "F32", blocks)
        if bias:
            yield self.plain(f"{name}.bias", rows)

    def block(self, prefix: str, experts: int) -> Iterator[ExpectedTensor]:
        yield from self.attention(f"{prefix}.self_attn")
        mlp = f"{prefix}.mlp"
        if experts:
            yield self.plain(f"{mlp}.gate.weight", experts, self.hidden)
            if self.correction:
                yield ExpectedTensor(f"{mlp}.gate.e_score_correction_bias", "F32", (experts,))
            if self.shared:
                yield from self.mlp(f"{mlp}.shared_experts", self.expert * self.shared)
            for expert in range(experts):
                yield from self.mlp(f"{mlp}.experts.{expert}", self.expert)
        else:
            yield from self.mlp(mlp, self.dense)
        yield self.plain(f"{prefix}.input_layernorm.weight", self.hidden)
        yield self.plain(f"{prefix}.post_attention_layernorm.weight", self.hidden)

    def attention(self, prefix: str) -> Iterator[ExpectedTensor]:
        query = self.heads * (self.nope + self.rope)
        if self.q_rank is None:
            yield from self.linear(f"{prefix}.q_proj", query, self.hidden)
        else:
            yield from self.linear(f"{prefix}.q_a_proj", self.q_rank, self.hidden, bias=self.bias)
            yield self.plain(f"{prefix}.q_a_layernorm.weight", self.q_rank)
            yield from self.linear(f"{prefix}.q_b_proj", query, self.q_rank)
        compressed = self.kv_rank + self.rope
        yield from self.linear(
            f"{prefix}.kv_a_proj_with_mqa", compressed, self.hidden, bias=self.bias
        )
        yield self.plain(f"{prefix}.kv_a_layernorm.weight", self.kv_rank)
        expanded = self.heads * (self.nope + self.value)
        yield from self.linear(f"{prefix}.kv_b_proj", expanded, self.kv_rank)
        output = self.heads * self.value
        yield from self.linear(f"{prefix}.o_proj", self.hidden, output, bias=self.bias)

    def mlp(self, prefix: str, width: int) -> Iterator[ExpectedTensor]:
        yield from self.linear(f"{prefix}.gate_proj", width, self.hidden)
        yield from self.linear(f"{prefix}.up_proj", width, self.hidden)
        yield from self.linear(f"{prefix}.down_proj", self.hidden, width)


# --- Qwen2, Qwen3, Llama --------------------------------------------------------------------


def _dense(config: _Config, *, kind: str) -> Iterator[ExpectedTensor] | None:
    if config.table("quantization_config") is not None:
        return None
    layers = config.integer("num_hidden_layers")
    _refuse_huge(config, "num_hidden_layers", 17 * layers)
    return _dense_tensors(config, kind, layers)


def _dense_tensors(config: _Config, kind: str, layers: int) -> Iterator[ExpectedTensor]:
    dtype = config.dtype()
    hidden, width = config.integer("hidden_size"), config.integer("intermediate_size")
    vocabulary, heads = config.integer("vocab_size"), config.integer("num_attention_heads")
    key_heads = config.integer("num_key_value_heads", heads)
    size = config.head_size(hidden, heads)
    # Qwen2 has biases on queries, keys and values whatever its config says.
    bias = kind == "qwen2" or config.flag("attention_bias")
    output_bias = kind != "qwen2" and config.flag("attention_bias")
    mlp_bias = kind == "llama" and config.flag("mlp_bias")

    def tensor(name: str, *shape: int) -> ExpectedTensor:
        return ExpectedTensor(name, dtype, shape)

    yield tensor("model.embed_tokens.weight", vocabulary, hidden)
    for layer in range(layers):
        attention = f"model.layers.{layer}.self_attn"
        mlp = f"model.layers.{layer}.mlp"
        keys = key_heads * size
        rows = (("q_proj", heads * size), ("k_proj", keys), ("v_proj", keys))
        if bias:
            for name, count in rows:
                yield tensor(f"{attention}.{name}.bias", count)
        for name, count in rows:
            yield tensor(f"{attention}.{name}.weight", count, hidden)
        yield tensor(f"{attention}.o_proj.weight", hidden, heads * size)
        if output_bias:
            yield tensor(f"{attention}.o_proj.bias", hidden)
        if kind == "qwen3":
            yield tensor(f"{attention}.q_norm.weight", size)
            yield tensor(f"{attention}.k_norm.weight", size)
        for name, out, into in (
            ("gate_proj", width, hidden),
            ("up_proj", width, hidden),
            ("down_proj", hidden, width),
        ):
            yield tensor(f"{mlp}.{name}.weight", out, into)
            if mlp_bias:
                yield tensor(f"{mlp}.{name}.bias", out)
        yield tensor(f"model.layers.{layer}.input_layernorm.weight", hidden)
        yield tensor(f"model.layers.{layer}.post_attention_layernorm.weight", hidden)
    yield tensor("model.norm.weight", hidden)
    if not config.flag("tie_word_embeddings"):
        yield tensor("lm_head.weight", vocabulary, hidden)


# --- BERT -----------------------------------------------------------------------------------


def _bert(config: _Config) -> Iterator[ExpectedTensor] | None:
    if config.table("quantization_config") is not None:
        return None
    layers = config.integer("num_hidden_layers")
    _refuse_huge(config, "num_hidden_layers", 16 * layers)
    return _bert_tensors(config, layers)


def _bert_tensors(config: _Config, layers: int) -> Iterator[ExpectedTensor]:
    dtype = config.dtype()
    hidden, width = config.integer("hidden_size"), config.integer("intermediate_size")
    positions = config.integer("max_position_embeddings", 512)

    def linear(name: str, rows: int, columns: int) -> Iterator[ExpectedTensor]:
        yield ExpectedTensor(f"{name}.weight", dtype, (rows, columns))
        yield ExpectedTensor(f"{name}.bias", dtype, (rows,))

    def norm(name: str) -> Iterator[ExpectedTensor]:
        yield ExpectedTensor(f"{name}.LayerNorm.weight", dtype, (hidden,))
        yield ExpectedTensor(f"{name}.LayerNorm.bias", dtype, (hidden,))

    if _keeps_position_ids(config):
        yield ExpectedTensor("embeddings.position_ids", "I64", (1, positions))
    for name, rows in (
        ("word_embeddings", config.integer("vocab_size")),
        ("position_embeddings", positions),
        ("token_type_embeddings", config.integer("type_vocab_size", 2)),
    ):
        yield ExpectedTensor(f"embeddings.{name}.weight", dtype, (rows, hidden))
    yield from norm("embeddings")
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            yield from linear(f"{prefix}.attention.self.{name}", hidden, hidden)
        yield from linear(f"{prefix}.attention.output.dense", hidden, hidden)
        yield from norm(f"{prefix}.attention.output")
        yield from linear(f"{prefix}.intermediate.dense", width, hidden)
        yield from linear(f"{prefix}.output.dense", hidden, width)
        yield from norm(f"{prefix}.output")
    yield from linear("pooler.dense", hidden, hidden)


def _keeps_position_ids(config: _Config) -> bool:
    """Until transformers 4.31 the positions were stored with the weights."""
    parts = (config.text("transformers_version") or "").split(".")[:2]
    numbers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 6]
    return len(numbers) == 2 and (numbers[0], numbers[1]) < (4, 31)


_RULES: Final[dict[str, tuple[str, _Rules]]] = {
    "deepseek_v3": ("DeepseekV3ForCausalLM", _deepseek_v3),
    "qwen2": ("Qwen2ForCausalLM", lambda config: _dense(config, kind="qwen2")),
    "qwen3": ("Qwen3ForCausalLM", lambda config: _dense(config, kind="qwen3")),
    "llama": ("LlamaForCausalLM", lambda config: _dense(config, kind="llama")),
    "bert": ("BertModel", _bert),
}
