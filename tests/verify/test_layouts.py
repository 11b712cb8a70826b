"""What is put under signature must pass as it is, however a publisher lays it out."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from r1prov.cli.app import run
from r1prov.family.skeleton import write_skeleton
from r1prov.verify.findings import Verdict

TINY = {
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 256,
}


def tensors(*names):
    return {name: np.ones(4, np.float32) * len(name) for name in names}


def write(path, *names):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors(*names), path)


def shards(folder, stem, index):
    """Two shards of two tensors each, and their index."""
    files = [f"{stem}-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    write(folder / files[0], "a", "b")
    write(folder / files[1], "c", "d")
    weight_map = {"a": files[0], "b": files[0], "c": files[1], "d": files[1]}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def pipeline(model):
    for folder in ("text_encoder", "text_encoder_2", "unet", "vae"):
        write(model / folder / "model.safetensors", "w", "b")
        (model / folder / "config.json").write_text('{"_class_name": "X"}')
    index = {"_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet"]}
    (model / "model_index.json").write_text(json.dumps(index))


def sentence_transformer(model):
    write_skeleton(json.dumps(TINY).encode(), model)
    for folder in ("2_Dense_256", "2_Dense_1024"):
        write(model / folder / "model.safetensors", "linear.weight")
        config = {"activation_function": "torch.nn.modules.linear.Identity"}
        (model / folder / "config.json").write_text(json.dumps(config))
    kind = "sentence_transformers.models.Dense"
    modules = [{"idx": 0, "name": "0", "path": "2_Dense_256", "type": kind}]
    (model / "modules.json").write_text(json.dumps(modules))


def with_variant(model):
    write_skeleton(json.dumps(TINY).encode(), model)
    (model / "model.fp16.safetensors").write_bytes((model / "model.safetensors").read_bytes())


def variant_in_shards(model):
    write_skeleton(json.dumps(TINY).encode(), model)
    shards(model, "model.fp16", "model.safetensors.index.fp16.json")


def with_original(model):
    write_skeleton(json.dumps(TINY).encode(), model)
    (model / "original").mkdir()
    shards(model / "original", "consolidated", "consolidated.safetensors.index.json")


def with_consolidated(model):
    write_skeleton(json.dumps(TINY).encode(), model)
    write(model / "consolidated.safetensors", "layers.0")


def with_adapter(model):
    write_skeleton(json.dumps(TINY).encode(), model)
    write(model / "adapter_model.safetensors", "lora_A")
    mapping = {"parent_library": "transformers.models.qwen2.modeling_qwen2"}
    (model / "adapter_config.json").write_text(json.dumps({"auto_mapping": mapping}))


def with_numbers_that_python_writes(model):
    config = TINY | {"time_step_limit": [0.0, float("inf")]}
    write_skeleton(json.dumps(TINY).encode(), model)
    (model / "config.json").write_text(json.dumps(config))
    (model / "tokenizer_config.json").write_text(json.dumps({"model_max_length": int(1e30)}))


def with_own_code_in_a_folder(model):
    write_skeleton(json.dumps(TINY).encode(), model)
    (model / "sub").mkdir()
    (model / "sub" / "modeling_x.py").write_text("class X: pass\n")
    (model / "sub" / "config.json").write_text('{"auto_map": {"AutoModel": "modeling_x.X"}}')
    datasets = {"datasets": [{"path": "x.jsonl", "type": "alpaca"}]}
    (model / "train_config.json").write_text(json.dumps(datasets))


LAYOUTS = [
    pipeline,
    sentence_transformer,
    with_variant,
    variant_in_shards,
    with_original,
    with_consolidated,
    with_adapter,
    with_numbers_that_python_writes,
    with_own_code_in_a_folder,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("scope", ["all", "weights"])
def test_a_model_passes_as_it_was_signed(case, layout, scope):
    for path in sorted(case.model.rglob("*"), reverse=True):
        path.unlink()
    layout(case.model)
    case.create()
    report = case.verify(scope=scope)
    assert [o for o in report.findings if o.severity.value != "note"] == []
    expected = Verdict.INCOMPLETE if layout is pipeline else Verdict.PASS
    assert report.verdict in (Verdict.PASS, expected), report.coverage


def test_a_later_tokenizer_config_is_let_be_under_scope_weights(case):
    path = case.model / "tokenizer_config.json"
    path.write_text(json.dumps({"model_max_length": int(1e30)}))
    case.create()
    path.write_text(json.dumps({"model_max_length": int(1e30), "later": True}))
    assert case.verify(scope="weights").verdict is Verdict.PASS
    assert case.verify(scope="all").verdict is Verdict.FAIL


def test_an_index_of_a_variant_that_does_not_fit_is_not_signed(case):
    weight_map = {"a": "x.safetensors"}
    raw = json.dumps({"metadata": {}, "weight_map": weight_map})
    (case.model / "model.safetensors.index.fp16.json").write_text(raw)
    assert run(["manifest", "create", str(case.model), "--name", "m", "-o", "n.toml"]) == 4
    assert case.verify(scope="weights").verdict is Verdict.FAIL


@pytest.mark.parametrize("scope", ["all", "weights"])
@pytest.mark.parametrize("name", ["vocab.pkl", "run.bat", "lib.so.1", "x.whl", "x.exe", "a.txt"])
def test_a_changed_program_is_never_a_later_revision(case, scope, name):
    path = case.model / name
    path.write_bytes(b"as signed")
    case.create()
    assert case.verify(scope=scope).verdict is Verdict.PASS
    # Of a text as well, if it is a program now.
    path.write_bytes(b"MZ evil!" if name == "a.txt" else b"altered!!")
    assert case.verify(scope=scope).verdict is Verdict.FAIL


@pytest.mark.parametrize("scope", ["all", "weights"])
@pytest.mark.parametrize(
    "key", [{"transformers_weights": "../x.safetensors"}, {"transformers_weights": 1}]
)
def test_weights_from_elsewhere(case, scope, key):
    (case.model / "config.json").write_text(json.dumps(TINY | key))
    report = case.verify(scope=scope)
    assert "config-redirect" in {o.rule.name for o in report.findings}
    assert report.verdict is Verdict.FAIL


@pytest.mark.parametrize("scope", ["all", "weights"])
def test_another_config_instead_of_the_one_that_was_checked(case, scope):
    own = json.loads((case.model / "config.json").read_bytes())
    named = own | {"configuration_files": ["config.4.0.0.json"]}
    (case.model / "config.json").write_text(json.dumps(named))
    (case.model / "config.4.0.0.json").write_text(json.dumps(own))
    assert case.verify(scope=scope).verdict is Verdict.FAIL
    case.create()
    assert case.verify(scope=scope).verdict is Verdict.PASS
    evil = own | {"auto_map": {"AutoModelForCausalLM": "evil/repo--m.M"}}
    (case.model / "config.4.0.0.json").write_text(json.dumps(evil))
    report = case.verify(scope=scope)
    assert {"auto-map", "config-redirect"} <= {o.rule.name for o in report.findings}
    assert report.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model_index.json", {"unet": ["evil_pkg", "Evil"]}),
        ("model_index.json", {"_class_name": ["evil_pipeline", "Evil"]}),
        ("router_config.json", {"types": {"q": "evil_pkg.Evil"}}),
        ("2_Dense/config.json", {"activation_function": "evil_pkg.Evil"}),
        ("adapter/adapter_config.json", {"auto_mapping": {"parent_library": "evil_pkg"}}),
    ],
)
def test_code_named_by_other_libraries_configs(case, name, content):
    path = case.model / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    report = case.verify(scope="weights")
    assert ("auto-map", name) in {(o.rule.name, o.subject) for o in report.findings}
    assert report.verdict is Verdict.FAIL


def test_the_models_own_config_is_never_hidden_by_the_cap(case):
    for number in range(130):
        folder = case.model / f"a{number:03d}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
    config = json.loads((case.model / "config.json").read_bytes())
    config["auto_map"] = {"AutoModel": "evil/repo--m.M"}
    (case.model / "config.json").write_text(json.dumps(config))
    found = {(o.rule.name, o.subject) for o in case.verify(scope="weights").findings}
    assert ("auto-map", "config.json") in found
    assert any(name == "config-json" for name, _ in found)


def test_an_index_of_absent_tensors_over_many_shards_is_refused_quickly(case):
    """Once, the time was the product of both; linear, this is a fraction of a second."""
    for number in range(400):
        write(case.model / f"s{number:04d}.safetensors", f"t{number}")
    weight_map = {f"absent{n}": f"s{n % 400:04d}.safetensors" for n in range(100_000)}
    raw = json.dumps({"metadata": {}, "weight_map": weight_map})
    (case.model / "model.safetensors.index.json").write_text(raw)
    report = case.verify(level="structure")
    wrong = [o for o in report.findings if o.rule.name == "index-mismatch"]
    assert len(wrong) == 5
    assert "100,400 tensors in all" in wrong[0].message


def test_indexes_together_are_capped(case):
    weight_map = {f"t{n}": "x.safetensors" for n in range(250_000)}
    raw = json.dumps({"metadata": {}, "weight_map": weight_map})
    for number in range(3):
        (case.model / f"x{number}.safetensors.index.json").write_text(raw)
    report = case.verify(level="structure")
    assert [o.subject for o in report.findings if o.rule.name == "index-json"] == [
        "x2.safetensors.index.json"
    ]
