"""`r1prov evidence` as it is typed: acceptance, dispute, disclosure, timestamps, a chain."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from evidence_case import MINILM, ROOT, Case, case
from signed import KEYID, signed, signing_key
from tsa_server import Tsa, serving, stamping

from r1prov.cli.app import run
from r1prov.evidence.archive import read_archive, write_archive
from r1prov.evidence.bag import SIGNATURE, TAG_FILES, tag_files
from r1prov.evidence.create import Wanted, draft_evidence
from r1prov.evidence.verify import verify_evidence
from r1prov.family.skeleton import write_skeleton
from r1prov.render import json as report_as_json
from r1prov.responses.exchange_file import exchange_to_json
from r1prov.responses.jwks import write_jwks
from r1prov.trust.keys import parse_public_key
from r1prov.verify.findings import Verdict
from r1prov.verify.local import load_authorities
from r1prov.verify.policy import Level

__all__ = ["case"]

Do = Callable[..., tuple[int, str, str]]
POLICY = """schema = "r1prov/policy/1"
[[models]]
name = "m"
min_level = "full"
"""


@pytest.fixture
def do(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Do:
    """Runs a command in a folder of its own that has the model, its manifest and the keys."""
    for name in ("model", "keys", "m.toml", "maker.key"):
        os.symlink(case.folder / name, tmp_path / name)
    for one in case.folder.glob("m.toml.*"):
        os.symlink(one, tmp_path / one.name)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(["evidence", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


CREATE = ("create", "./model", "-m", "m.toml", "--keys", "keys", "--key", "maker.key")


@pytest.fixture(scope="module")
def jwks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = signing_key()
    pem = key._material.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public = parse_public_key(pem, subject="k")
    path = tmp_path_factory.mktemp("jwks") / "api.jwks.json"
    path.write_bytes(write_jwks([(public, KEYID, key.public.algorithm)]))
    return path


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root")
    return Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))


@pytest.fixture(scope="module")
def url(tsa: Tsa) -> Iterator[str]:
    with serving(tsa) as (address, _):
        yield address + "/tsr"


def test_create_verify_show(do: Do) -> None:
    status, out, err = do(*CREATE, "-o", "a.zip")
    assert (status, out) == (0, "")
    assert "model" in err
    assert "pass: as m" in err
    status, out, _ = do("verify", "a.zip", "--keys", "keys", "--model", "model", "--expect", "m")
    assert status == 0
    assert out.startswith("PASS evidence about m\n")
    assert "not checked:" in out
    status, out, _ = do("verify", "a.zip", "--keys", "keys", "--format", "json")
    value = json.loads(out)
    assert value["recomputed"]["verdict"] == value["verdict"] == "pass"
    status, out, _ = do("show", "a.zip")
    assert status == 0
    assert "not verified here" in out
    status, out, _ = do("show", "a.zip", "--format", "json")
    assert json.loads(out)["verified"] is False
    assert do(*CREATE, "-o", "a.zip")[0] == 2  # nothing is overwritten
    assert do(*CREATE, "-o", "model/a.zip")[0] == 2
    assert do("verify", "m.toml", "--keys", "keys")[0] == 4
    assert do("verify", "absent.zip", "--keys", "keys")[0] == 4


def test_the_size_is_shown_and_nothing_written(do: Do) -> None:
    status, _, err = do(*CREATE, "-o", "a.zip", "--dry-run", "--exclude", "trust")
    assert status == 0
    assert "kB" in err
    assert "left out: files, trust" in err
    assert not Path("a.zip").exists()


def test_acceptance_in_one_command(do: Do, tmp_path: Path) -> None:
    Path("policy.toml").write_text(POLICY)
    status, _, err = do(*CREATE, "--acceptance", "policy.toml", "-o", "ok.zip")
    assert status == 0, err
    assert do("verify", "ok.zip", "--keys", "keys")[0] == 0
    Path("other.toml").write_text(POLICY.replace('"m"', '"DeepSeek-R1"'))
    status, _, err = do(*CREATE, "--acceptance", "other.toml", "-o", "no.zip")
    assert status == 1
    assert "fail" in err
    assert do("verify", "no.zip", "--keys", "keys")[0] == 1
    # The verifier's own policy counts before that of the bundle.
    assert do("verify", "no.zip", "--keys", "keys", "--policy", "policy.toml")[0] == 1
    assert do("verify", "ok.zip", "--keys", "keys", "--policy", "other.toml")[0] == 1
    both = ("--acceptance", "policy.toml", "--policy", "policy.toml")
    assert do(*CREATE, *both, "-o", "x.zip")[0] == 2
    copy = tmp_path / "copy"
    shutil.copytree("model", copy)
    (copy / "evil.py").write_text("import os")
    changed = ("create", str(copy), *CREATE[2:], "--acceptance", "policy.toml", "-o", "bad.zip")
    status, _, err = do(*changed)
    assert status == 1
    assert "code-unlisted" in do("verify", "bad.zip", "--keys", "keys")[1]


def test_an_exchange_is_redacted_and_opened_later(do: Do, jwks: Path) -> None:
    Path("x.json").write_bytes(exchange_to_json(signed()))
    keys = ("--response-keys", str(jwks))
    asked = ("--exchange", "x.json", *keys)
    status, _, err = do(*CREATE, *asked, "-o", "open.zip")
    assert status == 0, err
    assert do("verify", "open.zip", "--keys", "keys", *keys)[0] == 0
    # Keys in the bundle are not pinned ones.
    assert do("verify", "open.zip", "--keys", "keys")[0] in (1, 3)
    status, _, err = do(*CREATE, *asked, "--redact", "openings.jsonl", "-o", "shut.zip")
    assert status == 0, err
    members = read_archive(Path("shut.zip").read_bytes(), subject="b")
    assert not any(b"chatcmpl-1" in data for data in members.values())
    status, out, _ = do("verify", "shut.zip", "--keys", "keys", *keys)
    assert status == 3
    assert "open it with --openings" in out
    opened = ("verify", "shut.zip", "--keys", "keys", *keys, "--openings", "openings.jsonl")
    status, out, _ = do(*opened)
    assert status == 0, out
    lines = Path("openings.jsonl").read_text().splitlines()
    value = json.loads(lines[0])
    value["value"] = "Zm9yZ2Vk"
    Path("openings.jsonl").write_text("\n".join([json.dumps(value), *lines[1:]]) + "\n")
    status, _, err = do(*opened)
    assert status == 4
    assert "something else" in err


def test_timestamps(do: Do, tsa: Tsa, url: str, tmp_path: Path) -> None:
    keys = tmp_path / "pinned"
    shutil.copytree("keys", keys)
    Path("tsa.pem").write_bytes(tsa.root.pem)
    add = ["key", "add", "tsa.pem", "--timestamp-authority", "--owner", "ACME time"]
    assert run([*add, "--keys", str(keys)]) == 0
    status, _, err = do(*CREATE, "--timestamp-url", url, "-o", "t.zip")
    # Whoever does not know the authority is told that the timestamp proves nothing to them.
    assert status == 3, err
    status, out, _ = do("verify", "t.zip", "--keys", "keys")
    assert status == 3
    assert "timestamp-untrusted" in out
    status, out, _ = do("verify", "t.zip", "--keys", str(keys))
    assert status == 0, out
    assert "signed before" in out
    # Years later both keys have expired: only a timestamp shows that they were good at the time.
    assert do(*CREATE, "-o", "plain.zip")[0] == 0
    authorities = load_authorities(keys)
    later = datetime.now(UTC) + timedelta(days=3000)
    late = verify_evidence(Path("plain.zip").read_bytes(), authorities, now=later)
    assert late.verdict.value == "fail"
    assert late.signature.state.value == "expired"
    late = verify_evidence(Path("t.zip").read_bytes(), authorities, now=later)
    assert late.verdict.value == "pass", late.findings
    # A timestamp of another signature proves nothing.
    members = {n: read_archive(Path(n).read_bytes(), subject=n) for n in ("t.zip", "plain.zip")}
    stamp = json.loads(members["t.zip"][SIGNATURE])["verificationMaterial"]
    forged = json.loads(members["plain.zip"][SIGNATURE])
    forged["verificationMaterial"] = stamp
    kept = {n: d for n, d in members["plain.zip"].items() if n not in TAG_FILES}
    kept[SIGNATURE] = json.dumps(forged, separators=(",", ":")).encode() + b"\n"
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    Path("forged.zip").write_bytes(write_archive(kept | tag_files(kept, day=day)))
    status, out, _ = do("verify", "forged.zip", "--keys", str(keys))
    assert status == 1
    assert "timestamp-invalid" in out


def test_a_chain_over_time(do: Do, tmp_path: Path) -> None:
    folder = Path("log")
    folder.mkdir()
    copy = tmp_path / "copy"
    shutil.copytree("model", copy)
    create = ("create", str(copy), *CREATE[2:])
    assert do(*create, "-o", "log/1.zip")[0] == 0
    assert do(*create, "--previous", "log/1.zip", "-o", "log/2.zip")[0] == 0
    status, out, _ = do("log", "log", "--keys", "keys")
    assert status == 0, out
    assert out.startswith("PASS chain of 2 bundles")
    assert "no change" in out
    (copy / "tokenizer_config.json").write_text('{"a":1}')
    assert do(*create, "--previous", "log/2.zip", "-o", "log/3.zip")[0] == 1
    status, out, _ = do("log", "log", "--keys", "keys", "--format", "json")
    assert status == 1
    third = json.loads(out)["bundles"][2]
    changed = {one["what"] for one in third["changes"]}
    assert changed == {"tokenizer_config.json", "verdict"}
    # One that is missing in the middle, and two that continue the same.
    os.rename("log/2.zip", "2.zip")
    status, out, _ = do("log", "log", "--keys", "keys")
    assert status == 1
    assert "evidence-previous" in out
    os.rename("2.zip", "log/2.zip")
    assert do(*create, "--previous", "log/2.zip", "-o", "log/4.zip")[0] == 1
    out = do("log", "log", "--keys", "keys")[1]
    assert "evidence-chain" in out
    assert "as 3.zip does" in out
    (folder / "junk.zip").write_bytes(b"x")
    assert "junk.zip" in do("log", "log", "--keys", "keys")[1]
    assert do("log", "keys", "--keys", "keys")[0] == 4


def test_the_real_minilm(do: Do) -> None:
    assert MINILM.exists(), "run `make test`, which fetches the model"
    create = ("create", str(MINILM), "--expect", "all-MiniLM-L6-v2", "--key", "maker.key")
    status, _, err = do(*create, "-o", "minilm.zip")
    assert status == 0, err
    assert Path("minilm.zip").stat().st_size < 300_000  # of a model of 91 MB
    # The maker's key is for models m*: it may not attest this one.
    shutil.copytree(ROOT / "keys", "both")
    for file in Path("keys").glob("*.pub"):
        shutil.copy(file, "both")
    key_ids = Path("keys/trust.toml").read_text().split("[[keys]]")[1:]
    with Path("both/trust.toml").open("a") as file_out:
        file_out.writelines("\n[[keys]]" + one for one in key_ids)
    status, out, _ = do("verify", "minilm.zip", "--keys", "both")
    assert status == 1
    assert "may sign m*" in out
    text = Path("both/trust.toml").read_text().replace('"m*"', '"all-*"')
    Path("both/trust.toml").write_text(text)
    status, out, _ = do("verify", "minilm.zip", "--keys", "both", "--model", str(MINILM))
    assert status == 0, out


def test_the_headers_of_r1(do: Do, case: Case, tmp_path: Path) -> None:
    """671B parameters, 163 shards: a sparse skeleton with the real headers' structure."""
    config = (ROOT / "manifests" / "facts" / "configs" / "DeepSeek-R1.json").read_bytes()
    write_skeleton(config, tmp_path / "r1")
    wanted = Wanted(model=str(tmp_path / "r1"), expect="full", level=Level.STRUCTURE)
    draft = draft_evidence(wanted, report_as_json.render)
    assert draft.report.verdict is Verdict.FAIL  # code and tokenizer are not there
    Path("r1.zip").write_bytes(draft.archive(draft.signature(case.maker)))
    size = Path("r1.zip").stat().st_size
    assert 10_000_000 < size < 40_000_000
    status, out, _ = do("verify", "r1.zip", "--format", "json")
    value = json.loads(out)
    assert status == 1
    assert value["index"]["model"] == "DeepSeek-R1"
    assert value["recomputed"]["tensors"] == 91_991
    assert value["recomputed"]["verdict"] == "fail"
    assert not any(one["name"] == "inventory" for one in value["findings"])
