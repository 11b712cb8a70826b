"""A manifest of one's own model, and which files are none of its."""

import hashlib
import json
import os

import pytest

from r1prov.errors import ManifestError, SafetensorsError
from r1prov.family.skeleton import write_skeleton
from r1prov.manifest.build import build_manifest
from r1prov.manifest.leftovers import is_tool_leftover
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import Role
from r1prov.stores.headers import read_headers
from r1prov.stores.local import LocalStore

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "torch_dtype": "bfloat16",
    "vocab_size": 64,
    "sliding_window": None,
}


@pytest.fixture
def model(tmp_path):
    write_skeleton(json.dumps(CONFIG).encode(), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "notes.md").write_text("hello")
    return tmp_path


def build(path, **options):
    options = {"name": "mine", "publisher": "me", "variant": "other", **options}
    return build_manifest(LocalStore(path), source="", revision="", license="unknown", **options)


def test_every_file_is_hashed_and_the_shape_is_stated(model):
    seen = []

    def progress(total):
        seen.append(total)
        return lambda count: None

    manifest = build(model, progress=progress)
    assert {entry.path: entry.role for entry in manifest.files} == {
        "config.json": Role.CONFIG,
        "model.safetensors": Role.WEIGHTS,
        "sub/notes.md": Role.DOCUMENT,
        "tokenizer.json": Role.TOKENIZER,
    }
    for entry in manifest.files:
        raw = (model / entry.path).read_bytes()
        assert (entry.size, entry.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert seen == [sum(entry.size for entry in manifest.files)]
    architecture = manifest.architecture
    assert (architecture.layers, architecture.hidden_size, architecture.vocabulary) == (3, 16, 64)
    assert (architecture.attention_heads, architecture.experts) == (2, 0)
    assert architecture.config["num_hidden_layers"] == 3
    assert manifest.complete
    assert manifest.complete_listing


def test_leftovers_are_left_out(model):
    before = build(model)
    for path in (".gitattributes", ".DS_Store", ".git/HEAD", ".cache/huggingface/CACHEDIR.TAG"):
        (model / path).parent.mkdir(parents=True, exist_ok=True)
        (model / path).write_bytes(b"\0\0\0\1Bud1" if path == ".DS_Store" else b"x")
    assert build(model) == before


def test_a_store_without_weights_has_no_architecture(tmp_path):
    (tmp_path / "README.md").write_text("x")
    assert build(tmp_path).architecture is None


def test_what_no_manifest_may_state_is_refused(model):
    with pytest.raises(ManifestError, match="variant"):
        build(model, variant="fulll")
    with pytest.raises(ManifestError, match="name"):
        build(model, name="a b")
    (model / "link").symlink_to("config.json")
    with pytest.raises(ManifestError, match="no regular file"):
        build(model)
    (model / "link").unlink()
    (model / "aux.json").write_text("")
    with pytest.raises(ManifestError, match="device"):
        build(model)
    (model / "aux.json").unlink()
    (model / os.fsdecode(b"\xff.json")).write_text("")
    with pytest.raises(ManifestError, match="not UTF-8"):
        build(model)


def test_an_empty_store_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="no file"):
        build(tmp_path)


def test_a_malformed_weight_file_is_refused(model):
    (model / "model.safetensors").write_bytes(b"\0" * 7)
    with pytest.raises(SafetensorsError):
        build(model)


def test_a_tensor_in_two_files_is_refused(model):
    raw = (model / "model.safetensors").read_bytes()
    for number in (1, 2):
        (model / f"model-{number:05d}-of-00002.safetensors").write_bytes(raw)
    with pytest.raises(ManifestError, match="more than one file"):
        build(model)


def test_one_bad_header_does_not_hide_the_others(model):
    (model / "bad.safetensors").write_bytes(b"")
    headers, errors = read_headers(
        LocalStore(model), ["bad.safetensors", "gone.safetensors", "model.safetensors"]
    )
    assert set(headers) == {"model.safetensors"}
    assert set(errors) == {"bad.safetensors", "gone.safetensors"}


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("model-00001-of-000163.safetensors", Role.WEIGHTS),
        ("pytorch_model.bin", Role.WEIGHTS),
        ("x/y.gguf", Role.WEIGHTS),
        ("model.safetensors.index.json", Role.INDEX),
        ("generation_config.json", Role.CONFIG),
        ("1_Pooling/config.json", Role.CONFIG),
        ("tokenizer.json", Role.TOKENIZER),
        ("vocab.txt", Role.TOKENIZER),
        ("qwen.tiktoken", Role.TOKENIZER),
        ("modeling_deepseek.py", Role.CODE),
        ("lib.so", Role.CODE),
        ("LICENSE", Role.DOCUMENT),
        ("LICENSE-MODEL", Role.DOCUMENT),
        ("README.md", Role.DOCUMENT),
        (".gitattributes", Role.DOCUMENT),
        ("figures/benchmark.jpg", Role.DOCUMENT),
        ("LICENSES", Role.OTHER),
        ("data", Role.OTHER),
        ("x.dat", Role.OTHER),
    ],
)
def test_roles_follow_from_names(path, role):
    assert role_of(path) is role


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", ".git/hooks/x", ".gitignore", ".gitattributes", ".DS_Store"),
        *("sub/.DS_Store", "Thumbs.db", ".msc", ".mdl", ".mv", ".locks/x/y.lock"),
        *(".cache/huggingface/.gitignore", ".cache/huggingface/CACHEDIR.TAG"),
        ".cache/huggingface/download/model.safetensors.metadata",
        ".cache/huggingface/download/sub/x.lock",
        ".cache/huggingface/download/abc.def.incomplete",
    ],
)
def test_leftovers_are_known_by_exact_names(path):
    assert is_tool_leftover(path, 5)


@pytest.mark.parametrize(
    "path",
    [
        *("config.json", "sub/.git/config", ".git", ".gitx/a", "sub/.gitignore", "a.lock"),
        *("__pycache__/x.pyc", ".cache/x", ".cache/huggingface/x.py", "x.metadata"),
        *(".cache/huggingface/download/model.safetensors", ".locks/evil.py", ".cache/torch/x"),
        *(".ds_store", "sub/.msc", "download/x.metadata", "model.incomplete"),
    ],
)
def test_nothing_else_is_a_leftover(path):
    assert not is_tool_leftover(path, 5)


def test_a_lock_is_a_leftover_only_if_it_is_empty():
    assert is_tool_leftover("sub/a.lock", 0)
    assert not is_tool_leftover("sub/a.lock", 1)
