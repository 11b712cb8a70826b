"""The shipped manifests are what the facts and the blueprint give, and nothing else."""

import importlib.util
import json

import pytest

from r1prov.family.blueprint import expected_inventory
from r1prov.family.skeleton import plan_layout
from r1prov.manifest.schema import Role


@pytest.fixture(scope="session")
def generate(manifests_dir):
    spec = importlib.util.spec_from_file_location("generate", manifests_dir / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generating_again_gives_the_shipped_bytes(generate, manifests_dir, tmp_path, capsys):
    assert generate.main(["--output", str(tmp_path)]) == 0
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in manifests_dir.glob("*.toml")}
    assert "DeepSeek-R1.toml: 173 files, complete" in capsys.readouterr().out


def test_a_fact_that_contradicts_the_derivation_ends_the_run(generate):
    release = next(r for r in generate.load_releases() if r["name"].endswith("Qwen-7B"))
    wrong = json.loads(json.dumps(release))
    wrong["files"][0]["sha256"] = "0" * 64
    with pytest.raises(generate.FactError, match="another digest"):
        generate.build(wrong)
    wrong = json.loads(json.dumps(release))
    wrong["weights_sizes"] = {"model-00001-of-000002.safetensors": 1}
    with pytest.raises(generate.FactError, match="another size"):
        generate.build(wrong)


def test_every_manifest_describes_tensors_its_own_config_facts_give(shipped):
    for manifest in shipped.values():
        facts = manifest.architecture.config
        assert len(expected_inventory(facts) or ()) == manifest.architecture.tensors
        digest = plan_layout(facts).inventory().digest()
        assert digest == manifest.architecture.inventory_sha256, manifest.name


def test_r1_is_as_published(shipped):
    r1 = shipped["DeepSeek-R1"]
    weights = [entry for entry in r1.files if entry.role is Role.WEIGHTS]
    assert r1.complete
    assert len(weights) == 163
    assert sum(entry.size for entry in weights) == 688_586_727_753
    assert r1.architecture.parameters == 671_026_419_200
    assert (r1.architecture.layers, r1.architecture.experts) == (61, 256)
    files = {entry.path: entry for entry in r1.files}
    assert files["tokenizer.json"].size == 7_847_602
    assert files["model.safetensors.index.json"].sha256.startswith("a2c5d238")
    assert [e.path for e in r1.files if e.role is Role.CODE] == [
        *("configuration_deepseek.py", "modeling_deepseek.py")
    ]
    assert r1.untracked_dirs == ("figures",)
    assert not any(path.startswith("figures") for path in files)


def test_which_manifests_are_complete(shipped):
    assert {name for name, manifest in shipped.items() if not manifest.complete} == {
        "DeepSeek-R1-Distill-Llama-70B",
        "DeepSeek-R1-0528-Qwen3-8B",
        "DeepSeek-V3",
        "DeepSeek-V3.1",
    }
    assert {name for name, manifest in shipped.items() if manifest.complete_listing} == {
        "DeepSeek-R1",
        "DeepSeek-R1-Distill-Qwen-32B",
        "all-MiniLM-L6-v2",
    }
    assert {name for name, manifest in shipped.items() if manifest.hub_commit} == {
        "DeepSeek-R1",
        "DeepSeek-R1-Distill-Qwen-32B",
    }


def test_every_manifest_has_sources(shipped):
    for manifest in shipped.values():
        figures = " ".join(source.figure for source in manifest.sources)
        for word in ("revision", "license", "inventory_sha256"):
            assert word in figures, (manifest.name, word)


def test_config_digests_are_those_of_the_config_facts(shipped, config):
    for name, manifest in shipped.items():
        file = next(entry for entry in manifest.files if entry.path == "config.json")
        if file.sha256 is not None:
            release = "DeepSeek-R1@5a56bdb" if name == "DeepSeek-R1" else name
            assert config(release)[1] == file.sha256
