"""`r1prov attest` and `r1prov manifest export`: exit status, streams, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from r1prov.cli.app import run
from r1prov.family.skeleton import write_skeleton

SMALL = {
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


@pytest.fixture(autouse=True)
def _signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model under a signed manifest, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("R1PROV_KEYS", "keys")
    monkeypatch.delenv("R1PROV_POLICY", raising=False)
    write_skeleton(json.dumps(SMALL).encode(), Path("model"), stages=(1,))
    for words in (
        "key generate k.pem --no-passphrase",
        "manifest create model --name m -o m.toml",
        "manifest sign m.toml --key k.pem",
        "key add k.pem.pub --owner me --model m --keys keys",
    ):
        assert run(words.split()) == 0
    capsys.readouterr()


def create(*more: str, kind: str = "vsa") -> int:
    words = ["attest", "create", "model", "--kind", kind, "--key", "k.pem", "-m", "m.toml"]
    return run([*words, *more])


def test_the_verdict_is_the_status_and_is_attested_either_way(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert create("--expect", "m", "-o", "good.json") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "pass: as m (other, unknown)\n"
    assert create("--expect", "other", "-o", "bad.json") == 1
    assert create("--scope", "weights", "-q", "-o", "weights.json", kind="svr") == 0
    capsys.readouterr()
    check = ["attest", "verify", "--model", "model"]
    assert run([*check, "good.json", "--expect", "m", "--max-age", "1"]) == 0
    assert capsys.readouterr().out.startswith("good: m passed on ")
    for words in (
        ["bad.json"],
        ["weights.json"],
        ["good.json", "--expect", "x"],
        ["good.json", "--max-age", "0"],
        ["good.json", "--verifier-id", "https://ci.example"],
        ["good.json", "--manifest", "DeepSeek-R1"],
    ):
        assert run([*check, *words]) == 1, words
    assert run([*check, "weights.json", "--scope", "weights"]) == 0


def test_stdout_is_the_bundle_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert create() == 0
    out = capsys.readouterr().out
    Path("a.json").write_text(out)
    assert run(["attest", "verify", "a.json", "--model", "model", "--format", "json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["schema"], value["state"], value["exit_status"]) == (
        "r1prov/attestation/1",
        "good",
        0,
    )
    assert value["statement"]["model"] == "m"
    assert len(value["statement"]["subjects"]) == 5


def test_an_altered_model_is_1_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert create("-o", "a.json") == 0
    Path("model/config.json").write_text("{}")
    assert run(["attest", "verify", "a.json", "--model", "model"]) == 1
    assert "subject does not match: config.json has sha256:" in capsys.readouterr().out


def test_what_cannot_be_asked_or_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert create("-o", "a.json") == 0
    assert run(["attest", "verify", "a.json"]) == 2
    assert run(["attest", "verify", "a.json", "--model", "model", "--expect", "full"]) == 2
    assert run(["attest", "verify", "none.json", "--model", "model"]) == 4
    assert run(["attest", "verify", "a.json", "--model", "none"]) == 4
    signature = next(Path().glob("m.toml.*.sigstore.json"))
    assert run(["attest", "verify", str(signature), "--model", "model"]) == 4
    assert "message signature" in capsys.readouterr().err
    # No manifest fits: nothing to attest, and nothing written.
    write_skeleton(json.dumps(SMALL | {"vocab_size": 512}).encode(), Path("stranger"))
    words = ["attest", "create", "stranger", "--kind", "svr", "--key", "k.pem", "-o", "s.json"]
    assert run(words) == 2
    assert "nothing to attest" in capsys.readouterr().err
    assert not Path("s.json").exists()


@pytest.mark.parametrize("days", ["nan", "-1", "inf", "1e9"])
def test_an_age_is_a_number_of_days(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert create("-o", "a.json") == 0
    assert run(["attest", "verify", "a.json", "--model", "model", f"--max-age={days}"]) == 2


@pytest.mark.parametrize("uri", ["", "ci", "a\nb", "https://x/ y", "x:" + "y" * 4096])
def test_no_verifier_that_nobody_could_ask_for(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create(f"--verifier-id={uri}", "-o", "a.json") == 2
    assert "not a URI" in capsys.readouterr().err
    assert not Path("a.json").exists()


def test_nothing_is_written_into_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in Path("model").iterdir()}
    Path("link").symlink_to("model/new.json")
    export = ["manifest", "export", "m.toml", "--format", "cyclonedx", "--model", "model"]
    for output in ("model/a.json", "model/config.json", "link"):
        assert create("-o", output) == 2
        assert "lies inside the model" in capsys.readouterr().err
        assert run([*export, "-o", output]) == 2
        assert run(["verify", "model", "-m", "m.toml", "-o", output]) == 2
    assert {path: path.read_bytes() for path in Path("model").iterdir()} == before


def test_a_model_signature_is_no_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    sign = ["manifest", "sign", "m.toml", "--format", "oms", "--key", "k.pem", "-o", "m.sig"]
    assert run(sign) == 0
    words = ["attest", "create", "model", "--kind", "vsa", "--key", "k.pem", "-m", "m.sig"]
    assert run(words) == 2
    assert "OpenSSF Model Signing bundle" in capsys.readouterr().err


def test_a_key_for_manifests_alone_attests_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """And the other way round, from the command line."""
    assert create("-o", "a.json") == 0
    for may, attested, verified in (
        (["manifests"], 1, 0),
        (["attestations"], 0, 1),
        (["attestations", "manifests"], 0, 0),
        ([], 0, 0),
    ):
        keys = f"keys-{'-'.join(may)}"
        words = ["key", "add", "k.pem.pub", "--owner", "me", "--model", "m", "--keys", keys]
        assert run([*words, *(f"--may={one}" for one in may)]) == 0
        check = ["attest", "verify", "a.json", "--model", "model", "--keys", keys]
        assert run(check) == attested
        assert run(["verify", "model", "-m", "m.toml", "--keys", keys]) == verified
        capsys.readouterr()
        assert run(["key", "show", "--keys", keys]) == 0
        only = f"m ({may[0]} only)" if len(may) == 1 else "m "
        assert only in capsys.readouterr().out


def test_a_policy_is_held_to(capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.toml").write_text(
        'schema = "r1prov/policy/1"\n[[models]]\nname = "x"\nmanifest = "x"\n'
    )
    assert create("--policy", "p.toml", "-o", "a.json") == 1
    export = ["manifest", "export", "m.toml", "--format", "cyclonedx", "--model", "model"]
    assert run([*export, "--policy", "p.toml"]) == 1
    assert run(["attest", "verify", "a.json", "--model", "model"]) == 1
    assert "verdict is not pass" in capsys.readouterr().out


def test_export(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    export = ["manifest", "export", "m.toml", "--format"]
    assert run([*export, "cyclonedx"]) == 0
    first = capsys.readouterr().out
    assert run([*export, "cyclonedx"]) == 0
    assert capsys.readouterr().out == first
    assert json.loads(first)["metadata"]["timestamp"] == "1970-01-01T00:00:00+00:00"
    assert run([*export, "cyclonedx-xml", "-o", "m.xml"]) == 0
    assert Path("m.xml").read_text().startswith("<?xml ")
    assert run([*export, "cyclonedx", "--model", "model", "-o", "m.json"]) == 0
    assert '"value": "pass"' in Path("m.json").read_text()
    Path("model/config.json").write_text("{}")
    assert run([*export, "cyclonedx", "--model", "model", "-o", "m.json"]) == 1
    assert '"value": "fail"' in Path("m.json").read_text()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    assert run([*export, "cyclonedx"]) == 2
    assert "SOURCE_DATE_EPOCH" in capsys.readouterr().err
