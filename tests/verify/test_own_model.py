"""A model of one's own under signature, and every way its signature can fail to count."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from r1prov.cli.app import run


@pytest.fixture
def trust_file(signed, tmp_path):
    """Rewrite the trust file with another value for a key."""
    path = tmp_path / "keys" / "trust.toml"

    def change(key, value):
        text = path.read_text()
        line = f"{key} = {value}"
        if re.search(rf"^{key} = .*$", text, re.MULTILINE):
            text = re.sub(rf"^{key} = .*$", line, text, flags=re.MULTILINE)
        else:
            text = text.replace("models = ", f"{line}\nmodels = ", 1)
        path.write_text(text)

    return change


def stamp(days):
    moment = datetime.now(UTC) + timedelta(days=days)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_three_commands_put_a_model_under_signature(verify, signed, tiny):
    status, report = verify(tiny, *signed, "--expect", "tiny-model")
    assert (status, report["verdict"]) == (0, "pass")
    assert report["manifest"]["trusted"] is True
    items = {one["item"]: one["state"] for one in report["coverage"]}
    assert items["config.json against headers"] == "checked"
    assert items["inventory against the manifest"] == "checked"


def test_an_unknown_signer_fails(verify, rules, signed, tiny):
    status, report = verify(tiny, *signed[:2])
    assert status == 1
    assert rules(report) == {"signer-unknown"}


def test_no_signature_fails(verify, rules, signed, tiny, tmp_path):
    for bundle in tmp_path.glob("*.sigstore.json"):
        bundle.unlink()
    status, report = verify(tiny, *signed)
    assert status == 1
    assert rules(report) == {"signature-missing"}


def test_a_manifest_changed_after_signing_fails(verify, rules, signed, tiny, tmp_path):
    path = tmp_path / "tiny-model.toml"
    path.write_text(path.read_text() + "\n")
    status, report = verify(tiny, *signed)
    assert status == 1
    assert rules(report) == {"signature-invalid"}


def test_expired(verify, rules, signed, tiny, trust_file):
    trust_file("valid_from", stamp(-10))
    trust_file("valid_until", stamp(-1))
    status, report = verify(tiny, *signed)
    assert (status, rules(report)) == (1, {"signer-expired"})


def test_not_yet_valid(verify, rules, signed, tiny, trust_file):
    trust_file("valid_from", stamp(1))
    trust_file("valid_until", stamp(10))
    status, report = verify(tiny, *signed)
    assert (status, rules(report)) == (1, {"signer-not-yet-valid"})


def test_out_of_scope(verify, rules, signed, tiny, trust_file):
    trust_file("models", '["other-*"]')
    status, report = verify(tiny, *signed)
    assert (status, rules(report)) == (1, {"signer-out-of-scope"})


def test_revoked(verify, rules, signed, tiny, tmp_path, capsys):
    (key_id,) = re.findall(r'^id = "(.*)"$', (tmp_path / "keys" / "trust.toml").read_text(), re.M)
    assert run(["key", "revoke", key_id[:8], "--reason", "lost", "--keys", "keys"]) == 0
    status, report = verify(tiny, *signed)
    assert (status, rules(report)) == (1, {"signer-revoked"})


def test_below_threshold_and_then_met_by_a_second_signer(verify, rules, signed, tiny, tmp_path):
    path = tmp_path / "keys" / "trust.toml"
    path.write_text(path.read_text() + '\n[[thresholds]]\nmodels = ["tiny-*"]\nsignatures = 2\n')
    status, report = verify(tiny, *signed)
    assert (status, rules(report)) == (1, {"signature-threshold"})
    assert run(["key", "generate", "k2.pem", "--no-passphrase", "--algorithm", "ed25519"]) == 0
    assert run(["manifest", "sign", "tiny-model.toml", "--key", "k2.pem"]) == 0
    assert run(["key", "add", "k2.pem.pub", "--owner", "b", "--model", "*", "--keys", "keys"]) == 0
    assert verify(tiny, *signed)[0] == 0


def test_the_same_key_counts_once(verify, rules, signed, tiny, tmp_path):
    path = tmp_path / "keys" / "trust.toml"
    path.write_text(path.read_text() + '\n[[thresholds]]\nmodels = ["tiny-*"]\nsignatures = 2\n')
    (bundle,) = tmp_path.glob("*.sigstore.json")
    shutil.copy(bundle, tmp_path / "tiny-model.toml.again.sigstore.json")
    status, report = verify(tiny, *signed)
    assert (status, rules(report)) == (1, {"signature-threshold"})


def test_a_tensor_of_another_shape_is_named(verify, rules, signed, tiny, write_model):
    config = json.loads((tiny / "config.json").read_text())
    config["intermediate_size"] = 256
    shutil.rmtree(tiny)
    write_model(tiny, config)
    status, report = verify(tiny, *signed)
    assert status == 1
    assert {"inventory-mismatch", "file-size"} <= rules(report)


def test_a_user_manifest_is_found_by_identification(verify, signed, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("R1PROV_MANIFESTS", str(tmp_path))
    status, report = verify(tiny, *signed[2:])
    assert status == 0
    assert report["manifest"]["name"] == "tiny-model"
    assert "identified" in report["manifest"]["chosen"]


def test_an_unknown_model_is_incomplete(verify, rules, tiny):
    status, report = verify(tiny)
    assert (status, report["verdict"]) == (3, "incomplete")
    assert rules(report) == set()
    assert verify(tiny, "--expect", "full")[0] == 1


def test_a_malformed_manifest_is_exit_4(verify, tiny, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text('schema = "r1prov/manifest/1"\nsurprise = 1\n')
    status, report = verify(tiny, "--manifest", path)
    assert status == 4
    assert "surprise" in report["error"] or "bad.toml" in report["error"]


def test_changed_code_fails_in_both_scopes(verify, rules, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tiny / "modeling_x.py").write_text("class X: pass\n")
    assert run(["key", "generate", "k.pem", "--no-passphrase"]) == 0
    assert run(["manifest", "create", str(tiny), "--name", "tiny-code"]) == 0
    assert run(["manifest", "sign", "tiny-code.toml", "--key", "k.pem"]) == 0
    added = run(["key", "add", "k.pem.pub", "--owner", "me", "--model", "*", "--keys", "keys"])
    assert added == 0
    how = ["--manifest", "tiny-code.toml", "--keys", "keys", "--scope", "weights"]
    status, report = verify(tiny, *how)
    assert status == 0
    assert "custom-code" in rules(report, "note")
    (tiny / "modeling_x.py").write_text("class Y: pass\n")
    status, report = verify(tiny, *how)
    assert (status, rules(report)) == (1, {"file-digest"})


def test_full_is_more_than_a_word_in_a_manifest(verify, rules, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["key", "generate", "k.pem", "--no-passphrase"]) == 0
    create = ["manifest", "create", str(tiny), "--name", "tiny-full", "--variant", "full"]
    assert run(create) == 0
    assert run(["manifest", "sign", "tiny-full.toml", "--key", "k.pem"]) == 0
    added = run(["key", "add", "k.pem.pub", "--owner", "me", "--model", "*", "--keys", "keys"])
    assert added == 0
    how = ["--manifest", "tiny-full.toml", "--keys", "keys"]
    assert verify(tiny, *how)[0] == 0
    status, report = verify(tiny, *how, "--expect", "full")
    assert (status, rules(report)) == (1, {"model-not-expected"})
