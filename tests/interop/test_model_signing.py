"""OMS bundles of ours and of the reference implementation, each verified by the other."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forking_python import ForkingPython

from r1prov.manifest.oms import (
    OmsResult,
    describe_store,
    make_oms_bundle,
    parse_oms_bundle,
    verify_oms,
)
from r1prov.stores.local import LocalStore
from r1prov.trust.certificates import parse_certificates
from r1prov.trust.dsse import IN_TOTO_TYPE, sign_envelope
from r1prov.trust.keys import PrivateKey, encode_private_key, generate_private_key

ROOT = Path(__file__).parents[2]
CURVES = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521")
FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 5,
    # Path components and code points sort these two differently.
    "tokenizer/vocab.txt": b"v",
    "tokenizer.json": b"t",
    ".hidden": b"h",
    "empty": b"",
    "满血.txt": b"u",
}
# Signs through the library: shards and other hashes have no option on its command line.
SIGN = """
import json, pathlib, sys
import model_signing
how = json.loads(sys.argv[1])
hashing = model_signing.hashing.Config()
if "shard_size" in how:
    hashing.use_shard_serialization(
        hashing_algorithm=how["hash"], shard_size=how["shard_size"],
        allow_symlinks=how["allow_symlinks"])
else:
    hashing.use_file_serialization(
        hashing_algorithm=how["hash"], allow_symlinks=how["allow_symlinks"])
hashing.set_allow_symlinks(how["allow_symlinks"])
config = model_signing.signing.Config()
config.use_elliptic_key_signer(private_key=pathlib.Path(how["key"]))
config.set_hashing_config(hashing)
config.sign(pathlib.Path(how["model"]), pathlib.Path(how["signature"]))
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(run_peer: ForkingPython) -> Run:
    return run_peer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def theirs(run: Run, model: Path, bundle: bytes, *trust: object) -> bool:
    """Whether the reference implementation accepts a bundle."""
    signature = model.parent / "asked.sig"
    signature.write_bytes(bundle)
    method = "key" if "--public_key" in trust else "certificate"
    verify = ("-m", "model_signing", "verify", method, model, "--signature", signature)
    done = run(*verify, *trust)
    accepted = "Verification succeeded" in done.stdout
    assert accepted == (done.returncode == 0), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return accepted


def ours(model: Path, bundle: bytes, **trust: Any) -> OmsResult:
    return verify_oms(parse_oms_bundle(bundle, "model.sig"), LocalStore(model), **trust)


def altered(bundle: bytes, part: str) -> bytes:
    value = json.loads(bundle)
    envelope = value["dsseEnvelope"]
    inner, name = (envelope["signatures"][0], "sig") if part == "sig" else (envelope, part)
    content = bytearray(base64.b64decode(inner[name]))
    content[-2] ^= 1
    inner[name] = base64.b64encode(content).decode()
    return json.dumps(value).encode()


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda m: (m / "config.json").write_bytes(b"[]"),
    "missing": lambda m: (m / "tokenizer.json").unlink(),
    "extra": lambda m: (m / "extra.py").write_bytes(b""),
    "renamed": lambda m: (m / "config.json").rename(m / "c.json"),
    "link": lambda m: (m / "link").symlink_to("config.json"),
}


@pytest.mark.parametrize("algorithm", CURVES)
def test_ours_with_a_key(run: Run, model: Path, algorithm: str) -> None:
    key = generate_private_key(algorithm)
    pem, other = model.parent / "key.pub", model.parent / "other.pub"
    pem.write_bytes(key.public.pem())
    other.write_bytes(generate_private_key(algorithm).public.pem())
    bundle = make_oms_bundle(describe_store(LocalStore(model)), key)
    assert theirs(run, model, bundle, "--public_key", pem)
    assert not theirs(run, model, bundle, "--public_key", other)
    for part in ("payload", "sig"):
        assert not theirs(run, model, altered(bundle, part), "--public_key", pem)
        assert not ours(model, altered(bundle, part), public_key=key.public).valid


@pytest.mark.parametrize("change", CHANGES)
def test_both_refuse_a_changed_model(run: Run, model: Path, change: str) -> None:
    key = generate_private_key("ecdsa-p256")
    pem = model.parent / "key.pub"
    pem.write_bytes(key.public.pem())
    bundle = make_oms_bundle(describe_store(LocalStore(model)), key)
    CHANGES[change](model)
    assert not theirs(run, model, bundle, "--public_key", pem)
    assert not ours(model, bundle, public_key=key.public).valid


def test_ours_with_a_certificate(run: Run, model: Path, authority: Any) -> None:
    root, other = authority.root(), authority.root()
    middle = authority.issue("middle", root, ca=True)
    leaf = authority.leaf(middle)
    chain = [leaf.certificate, middle.certificate]
    bundle = make_oms_bundle(describe_store(LocalStore(model)), leaf.key, chain)
    pem, wrong = model.parent / "root.pem", model.parent / "wrong.pem"
    pem.write_bytes(root.pem)
    wrong.write_bytes(other.pem)
    assert theirs(run, model, bundle, "--certificate_chain", pem)
    assert not theirs(run, model, bundle, "--certificate_chain", wrong)
    for part in ("payload", "sig"):
        assert not theirs(run, model, altered(bundle, part), "--certificate_chain", pem)
        refused = ours(model, altered(bundle, part), certificate_roots=[root.certificate])
        assert not refused.valid


def test_what_we_leave_out_they_leave_out(run: Run, model: Path) -> None:
    key = generate_private_key("ecdsa-p256")
    pem = model.parent / "key.pub"
    pem.write_bytes(key.public.pem())
    bundle = make_oms_bundle(describe_store(LocalStore(model), ignore_paths=["tokenizer"]), key)
    for name in ("tokenizer/new", ".gitattributes"):
        (model / name).write_bytes(b"")
    assert theirs(run, model, bundle, "--public_key", pem)
    assert ours(model, bundle, public_key=key.public).valid


def signed_by_peer(run: Run, model: Path, key: PrivateKey, **how: object) -> bytes:
    private, signature = model.parent / "private.pem", model.parent / "model.sig"
    private.write_bytes(encode_private_key(key, None))
    asked = {
        "hash": "sha256",
        "allow_symlinks": False,
        **how,
        "key": str(private),
        "model": str(model),
        "signature": str(signature),
    }
    done = run("-c", SIGN, json.dumps(asked))
    assert done.returncode == 0, done.stderr
    return signature.read_bytes()


@pytest.mark.parametrize("algorithm", CURVES)
def test_theirs_with_a_key(run: Run, model: Path, algorithm: str) -> None:
    key = generate_private_key(algorithm)
    private, signature = model.parent / "private.pem", model.parent / "model.sig"
    private.write_bytes(encode_private_key(key, None))
    files = ("--private_key", private, "--signature", signature)
    done = run("-m", "model_signing", "sign", "key", model, *files)
    assert done.returncode == 0, done.stderr
    bundle = signature.read_bytes()
    assert ours(model, bundle, public_key=key.public).valid
    for part in ("payload", "sig"):
        assert not ours(model, altered(bundle, part), public_key=key.public).valid
    for name, change in CHANGES.items():
        copy = model.parent / name / "model"
        shutil.copytree(model, copy)
        change(copy)
        assert not ours(copy, bundle, public_key=key.public).valid


@pytest.mark.parametrize(
    "how",
    [
        {"hash": "blake2"},
        {"hash": "blake3"},
        {"shard_size": 256},
        {"shard_size": 1000},
        {"shard_size": 7, "hash": "blake2"},
    ],
    ids=str,
)
def test_every_hash_and_shards_of_theirs(run: Run, model: Path, how: dict[str, Any]) -> None:
    key = generate_private_key("ecdsa-p256")
    bundle = signed_by_peer(run, model, key, **how)
    # They leave an empty file out of shards, and cannot tell one that was added.
    if "shard_size" in how:
        refused = ours(model, bundle, public_key=key.public)
        assert [one.subject for one in refused.findings] == ["empty"]
        (model / "empty").unlink()
    assert ours(model, bundle, public_key=key.public).valid
    (model / "model.safetensors").write_bytes(bytes(1280))
    assert not ours(model, bundle, public_key=key.public).valid


def test_links_of_theirs(run: Run, model: Path) -> None:
    key = generate_private_key("ecdsa-p256")
    (model / "link.txt").symlink_to("tokenizer/vocab.txt")
    (model / "folder").symlink_to("tokenizer")
    bundle = signed_by_peer(run, model, key, allow_symlinks=True)
    assert ours(model, bundle, public_key=key.public, allow_symlinks=True).valid
    assert not ours(model, bundle, public_key=key.public).valid


def test_a_single_file_of_theirs(run: Run, tmp_path: Path) -> None:
    key = generate_private_key("ecdsa-p256")
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    bundle = signed_by_peer(run, file, key)
    assert ours(file, bundle, public_key=key.public).valid
    # They name the file `.`, so that its own name is free.
    file = file.rename(tmp_path / "other.gguf")
    assert ours(file, bundle, public_key=key.public).valid
    file.write_bytes(b"gguf")
    assert not ours(file, bundle, public_key=key.public).valid
    inside = tmp_path / "folder"
    inside.mkdir()
    (inside / "a").write_bytes(b"GGUF")
    assert not ours(inside, bundle, public_key=key.public).valid


def test_theirs_with_a_certificate(run: Run, model: Path, authority: Any) -> None:
    root = authority.root()
    middle = authority.issue("middle", root, ca=True)
    leaf = authority.leaf(middle)
    home = model.parent
    for name, content in (
        ("private.pem", encode_private_key(leaf.key, None)),
        ("leaf.pem", leaf.pem),
        ("chain.pem", middle.pem),
        ("root.pem", root.pem),
    ):
        (home / name).write_bytes(content)
    sign = ("-m", "model_signing", "sign", "certificate", model)
    files = ("--private_key", home / "private.pem", "--signature", home / "model.sig")
    chain = ("--signing_certificate", home / "leaf.pem", "--certificate_chain", home / "chain.pem")
    done = run(*sign, *files, *chain)
    assert done.returncode == 0, done.stderr
    bundle = (home / "model.sig").read_bytes()
    roots = parse_certificates((home / "root.pem").read_bytes(), subject="root.pem")
    result = ours(model, bundle, certificate_roots=roots, identity="signer@example.org")
    assert result.valid
    assert not ours(model, bundle, certificate_roots=[authority.root().certificate]).valid


# ------------------------------------------------- where the two answer differently, on purpose


def statement(files: list[tuple[str, str]]) -> dict[str, Any]:
    import hashlib

    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in files)).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest} for name, digest in files
            ],
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
        },
    }


def with_payload(key: PrivateKey, payload: bytes) -> bytes:
    value = json.loads(make_oms_bundle_of(key))
    value["dsseEnvelope"] = sign_envelope(key, payload, IN_TOTO_TYPE).to_value()
    return json.dumps(value).encode()


def make_oms_bundle_of(key: PrivateKey) -> bytes:
    from r1prov.manifest.oms_statement import make_statement

    return make_oms_bundle(make_statement("m", [("a", "0" * 64)]), key)


def test_they_accept_and_we_refuse(run: Run, tmp_path: Path, authority: Any) -> None:
    """Each line of the table in docs/oms.md that is about a peer that accepts."""
    import hashlib

    key = generate_private_key("ecdsa-p256")
    pem = tmp_path / "key.pub"
    pem.write_bytes(key.public.pem())
    model = tmp_path / "model"
    model.mkdir()
    (model / "a").write_bytes(b"1")
    (tmp_path / "outside").write_bytes(b"2")
    one, two = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest()

    def differ(value: dict[str, Any], *options: str, **ours_too: Any) -> None:
        bundle = with_payload(key, json.dumps(value).encode())
        assert theirs(run, model, bundle, "--public_key", pem, *options)
        assert not ours(model, bundle, public_key=key.public, **ours_too).valid

    unsigned = ("--ignore_unsigned_files",)
    # A name that leaves the model, and one that is not in its shortest form.
    differ(statement([("../outside", two)]), *unsigned, ignore_unsigned_files=True)
    differ(statement([("./a", one)]))
    # A member that the schema of the specification does not have.
    more = statement([("a", one)])
    more["predicate"]["serialization"]["follow"] = True
    differ(more)
    # Upper-case digits.
    differ(statement([("a", one.upper())]))
    # A signature that leaves out the weights.
    (model / "model.safetensors").write_bytes(b"evil")
    hidden = statement([("a", one)])
    hidden["predicate"]["serialization"]["ignore_paths"] = ["model.safetensors"]
    differ(hidden)
    (model / "model.safetensors").unlink()
    # A key that stands twice: two readers, two statements.
    text = json.dumps(statement([("a", one)])).replace('"name": "a"', '"name": "b", "name": "a"')
    bundle = with_payload(key, text.encode())
    assert theirs(run, model, bundle, "--public_key", pem)
    assert not ours(model, bundle, public_key=key.public).valid
    # A model without files.
    (model / "a").unlink()
    differ(statement([]))
    (model / "a").write_bytes(b"1")
    # Certificates that expired, or are for web servers.
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root = authority.root(days=(-60, 60))
    (tmp_path / "root.pem").write_bytes(root.pem)
    for how in ({"days": (-30, -10)}, {"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}):
        leaf = authority.leaf(root, **how)
        bundle = make_oms_bundle(describe_store(LocalStore(model)), leaf.key, [leaf.certificate])
        assert theirs(run, model, bundle, "--certificate_chain", tmp_path / "root.pem")
        assert not ours(model, bundle, certificate_roots=[root.certificate]).valid


def test_they_refuse_and_we_accept(run: Run, tmp_path: Path) -> None:
    """What the specification allows and the reference implementation does not read."""
    import hashlib

    key = generate_private_key("ecdsa-p256")
    pem = tmp_path / "key.pub"
    pem.write_bytes(key.public.pem())
    model = tmp_path / "model"
    model.mkdir()
    (model / "a:b").write_bytes(b"1")
    one = hashlib.sha256(b"1").hexdigest()
    minor = statement([("a:b", one)])
    minor["predicateType"] = "https://model_signing/signature/v1.1"
    shards = statement([("a:b:0:1", one)])
    shards["predicate"]["serialization"].update(method="shards", shard_size=4)
    for value in (minor, shards):
        bundle = with_payload(key, json.dumps(value).encode())
        assert not theirs(run, model, bundle, "--public_key", pem)
        assert ours(model, bundle, public_key=key.public).valid
