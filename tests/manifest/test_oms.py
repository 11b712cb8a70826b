"""OpenSSF Model Signing end to end: signed, verified, and altered in every place."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1prov.errors import (
    BundleError,
    CertificateError,
    InputError,
    KeyFileError,
    ManifestError,
    OmsError,
    UsageError,
)
from r1prov.manifest.oms import (
    OmsResult,
    describe_manifest,
    describe_store,
    make_oms_bundle,
    parse_oms_bundle,
    verify_oms,
)
from r1prov.manifest.schema import parse_manifest
from r1prov.stores.local import LocalStore
from r1prov.trust.bundle import MEDIA_TYPE, sign_message
from r1prov.trust.dsse import IN_TOTO_TYPE, sign_envelope
from r1prov.trust.keys import PrivateKey, generate_private_key
from r1prov.verify.rules import knows

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors" / "oms"
CASES = json.loads((VECTORS / "cases.json").read_text())["cases"]
CLIENT = ROOT / "tests" / "conformance" / "oms-client"
KEY = generate_private_key("ecdsa-p256")
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "sub/empty": b""}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    for name, content in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def sign(model: Path, key: PrivateKey = KEY, **how: Any) -> bytes:
    return make_oms_bundle(describe_store(LocalStore(model), **how), key)


def verify(raw: bytes, model: Path, key: PrivateKey = KEY, **how: Any) -> OmsResult:
    bundle = parse_oms_bundle(raw, "model.sig")
    if not how.keys() & {"certificate_roots", "keyless"}:
        how["public_key"] = key.public
    result = verify_oms(bundle, LocalStore(model), **how)
    assert result.valid == (not result.findings)
    for one in result.findings:
        assert knows(one.rule), one.rule
    return result


def rules(result: OmsResult) -> list[str]:
    return sorted(one.rule for one in result.findings)


def client(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, CLIENT, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_there_are_25_vectors() -> None:
    assert len(CASES) == 25
    assert {case["id"] for case in CASES} == {one.name for one in VECTORS.iterdir() if one.is_dir()}
    assert (VECTORS / "s19-symlink-escape/model/model-00001-of-00002.safetensors").is_symlink()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_vectors(case: dict[str, Any], tmp_path: Path) -> None:
    home = VECTORS / case["id"]
    options: list[object] = ["--bundle", home / "model.sig", "--model", home / "model"]
    if "public_key" in case:
        options += ["--public-key", home / case["public_key"]]
    for one in case.get("certificate_chain", []):
        options += ["--certificate-chain", home / one]
    for flag in ("ignore_unsigned_files", "allow_symlinks"):
        if case.get(flag):
            options.append("--" + flag.replace("_", "-"))
    done = client("verify", *options)
    word = done.stdout.split(maxsplit=1)[0].removesuffix(":")
    assert (word, done.returncode) == (case["expect"], 0 if case["expect"] == "valid" else 1)


@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def test_signed_and_verified(model: Path, algorithm: str) -> None:
    key = generate_private_key(algorithm)
    result = verify(sign(model, key), model, key)
    assert result.findings == ()
    assert result.signer is not None
    assert (result.signer.method, result.signer.key_id) == ("key", key.public.key_id)
    assert result.statement is not None
    assert [one.path for one in result.statement.files] == sorted(FILES)
    assert (
        result.statement.root
        == hashlib.sha256(
            b"".join(hashlib.sha256(FILES[name]).digest() for name in sorted(FILES))
        ).hexdigest()
    )
    assert result.bytes_hashed == sum(map(len, FILES.values()))
    assert result.tree_digest is not None


def test_the_bundle_is_of_the_specification(model: Path) -> None:
    value = json.loads(sign(model))
    assert value.keys() == {"mediaType", "verificationMaterial", "dsseEnvelope"}
    assert value["mediaType"] == MEDIA_TYPE
    # What `sha256sum key.pub` prints.
    hint = hashlib.sha256(KEY.public.pem()).hexdigest()
    assert value["verificationMaterial"] == {"publicKey": {"hint": hint}, "tlogEntries": []}
    envelope = value["dsseEnvelope"]
    assert envelope["payloadType"] == IN_TOTO_TYPE
    assert [one.keys() for one in envelope["signatures"]] == [{"sig", "keyid"}]
    assert json.loads(base64.b64decode(envelope["payload"]))["subject"][0]["name"] == "model"


@pytest.mark.parametrize(
    ("alter", "wanted"),
    [
        (lambda m: (m / "config.json").write_bytes(b"[]"), ["file-digest"]),
        (lambda m: (m / "sub/empty").write_bytes(b"x"), ["file-digest"]),
        (lambda m: (m / "config.json").unlink(), ["file-missing"]),
        (lambda m: (m / "extra").write_bytes(b""), ["file-unlisted"]),
        (lambda m: (m / ".hidden").write_bytes(b""), ["file-unlisted"]),
        (lambda m: (m / "sub/.git").write_bytes(b""), ["file-unlisted"]),
        (lambda m: (m / "config.json").rename(m / "c"), ["file-missing", "file-unlisted"]),
        (lambda m: os.mkfifo(m / "pipe"), ["not-regular"]),
        (lambda m: (m / "link").symlink_to("config.json"), ["symlink"]),
        (
            lambda m: shutil.move(m / "sub", m / "x") and (m / "sub").symlink_to("x"),
            ["file-missing", "file-unlisted", "symlink"],
        ),
    ],
)
def test_altered_models(model: Path, alter: Any, wanted: list[str]) -> None:
    raw = sign(model)
    alter(model)
    result = verify(raw, model)
    assert rules(result) == wanted
    assert result.signer is not None


def test_a_good_signature_says_who_even_of_a_bad_model(model: Path) -> None:
    raw = sign(model)
    (model / "config.json").write_bytes(b"[]")
    (finding,) = verify(raw, model).findings
    assert finding.subject == "config.json"
    assert finding.expected == "sha256:" + hashlib.sha256(b"{}").hexdigest()
    assert finding.found == "sha256:" + hashlib.sha256(b"[]").hexdigest()


def test_another_key(model: Path) -> None:
    raw = sign(model)
    other = generate_private_key("ecdsa-p256")
    result = verify(raw, model, other)
    assert rules(result) == ["signer-unknown"]
    assert result.signer is None
    assert result.statement is None
    value = json.loads(raw)
    for hint in ("", None, ...):
        if hint is ...:
            del value["verificationMaterial"]["publicKey"]["hint"]
        else:
            value["verificationMaterial"]["publicKey"]["hint"] = hint
        unnamed = json.dumps(value).encode()
        assert rules(verify(unnamed, model, other)) == ["signature-invalid"]
        assert verify(unnamed, model).valid


def test_every_way_to_name_a_key(model: Path) -> None:
    value = json.loads(sign(model))
    der = hashlib.sha256(KEY.public.spki).digest()
    for hint in (der.hex(), base64.b64encode(der).decode()):
        value["verificationMaterial"]["publicKey"] = {"hint": hint}
        assert verify(json.dumps(value).encode(), model).valid
    value["verificationMaterial"]["publicKey"] = {"hint": der.hex().upper()}
    assert rules(verify(json.dumps(value).encode(), model)) == ["signer-unknown"]


def test_keys_carried_by_old_bundles(model: Path) -> None:
    value = json.loads(sign(model))
    other = generate_private_key("ecdsa-p256").public

    def with_key(raw: bytes) -> bytes:
        carried = {"rawBytes": base64.b64encode(raw).decode(), "keyDetails": "PKIX_ECDSA_P256"}
        value["verificationMaterial"] = {"publicKey": carried}
        return json.dumps(value).encode()

    assert verify(with_key(KEY.public.pem()), model).valid
    assert verify(with_key(KEY.public.spki), model).valid
    assert rules(verify(with_key(other.pem()), model)) == ["signer-unknown"]
    assert rules(verify(with_key(b"junk"), model)) == ["oms-bundle"]
    # The carried key is never the one that is trusted.
    assert rules(verify(with_key(KEY.public.pem()), model, generate_private_key("ecdsa-p256"))) == [
        "signer-unknown"
    ]


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa-pss-3072"])
def test_kinds_of_keys_that_oms_does_not_have(model: Path, algorithm: str) -> None:
    key = generate_private_key(algorithm)
    statement = describe_store(LocalStore(model))
    with pytest.raises(KeyFileError, match=r"(?i)cannot sign"):
        make_oms_bundle(statement, key)
    raw = json.loads(sign(model))
    raw["verificationMaterial"] = {"publicKey": {}}
    payload = base64.b64decode(raw["dsseEnvelope"]["payload"])
    raw["dsseEnvelope"] = sign_envelope(key, payload, IN_TOTO_TYPE).to_value()
    assert rules(verify(json.dumps(raw).encode(), model, key)) == ["oms-unsupported"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_no_byte_of_a_bundle_is_free(position: int, flip: int, model: Path) -> None:
    raw = sign(model)
    position %= len(raw)
    byte = raw[position] ^ flip
    altered = raw[:position] + bytes([byte]) + raw[position + 1 :]
    try:
        result = verify(altered, model)
    except InputError:
        return
    if result.valid:
        # base64 has two alphabets.
        assert (raw[position], byte) in {(0x2B, 0x2D), (0x2F, 0x5F)}
        assert parse_oms_bundle(altered, "b").bundle.envelope == (
            parse_oms_bundle(raw, "b").bundle.envelope
        )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(position=st.integers(0, 10**6), flip=st.integers(1, 255))
def test_no_byte_of_what_is_signed_is_free(position: int, flip: int, model: Path) -> None:
    value = json.loads(sign(model))
    envelope = value["dsseEnvelope"]
    places = [(envelope, "payload"), (envelope["signatures"][0], "sig")]
    inner, name = places[position % 2]
    changed = bytearray(base64.b64decode(inner[name]))
    changed[position // 2 % len(changed)] ^= flip
    inner[name] = base64.b64encode(changed).decode()
    assert rules(verify(json.dumps(value).encode(), model)) == ["signature-invalid"]


def test_no_file_is_opened_before_the_signature_is_good(model: Path) -> None:
    class Closed(LocalStore):
        def entries(self) -> Any:
            raise AssertionError("listed")

        def open(self, path: str) -> Any:
            raise AssertionError("opened")

    value = json.loads(sign(model))
    value["dsseEnvelope"]["payload"] = base64.b64encode(b"{}").decode()
    bundle = parse_oms_bundle(json.dumps(value).encode(), "model.sig")
    result = verify_oms(bundle, Closed(model), public_key=KEY.public)
    assert rules(result) == ["signature-invalid"]


def test_the_withdrawn_form_is_explained(model: Path) -> None:
    value = json.loads(sign(model))
    payload = b'{"predicateType":"https://model_signing/Digests/v0.1"}'
    value["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    (finding,) = verify(json.dumps(value).encode(), model).findings
    assert finding.rule == "signature-invalid"
    assert "0.2.0" in (finding.hint or "")


def altered_bundle(raw: bytes, path: str, new: object) -> bytes:
    value = json.loads(raw)
    inner = value
    *parents, last = [int(name) if name.isdigit() else name for name in path.split(".")]
    for name in parents:
        inner = inner[name]
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.3"),
        ("verificationMaterial.tlogEntries", ...),
        ("verificationMaterial.tlogEntries", [{"logIndex": "5"}]),
        ("verificationMaterial.timestampVerificationData", {}),
        (
            "verificationMaterial.timestampVerificationData",
            {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]},
        ),
        ("dsseEnvelope.signatures.0.keyid", ...),
        ("dsseEnvelope.signatures.0.keyid", None),
    ],
)
def test_what_bundles_may_have(model: Path, path: str, new: object) -> None:
    result = verify(altered_bundle(sign(model), path, new), model)
    assert result.valid
    unchecked = "not looked at" in " ".join(result.notes)
    assert unchecked == (isinstance(new, list) or "AAAA" in str(new))


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("mediaType", ...),
        ("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1"),
        ("mediaType", "application/vnd.dev.sigstore.bundle.v0.4+json"),
        ("more", 1),
        ("messageSignature", {}),
        ("dsseEnvelope", ...),
        ("dsseEnvelope.signatures", []),
        ("dsseEnvelope.signatures", [{"sig": "AAAA"}, {"sig": "AAAA"}]),
        ("verificationMaterial", ...),
        ("verificationMaterial", {}),
        ("verificationMaterial.more", 1),
        ("verificationMaterial.tlogEntries", None),
        ("verificationMaterial.tlogEntries", [1]),
        ("verificationMaterial.tlogEntries", [{}] * 33),
        ("verificationMaterial.timestampVerificationData", None),
        ("verificationMaterial.timestampVerificationData", {"x": 1}),
        ("verificationMaterial.timestampVerificationData", {"rfc3161Timestamps": [{}]}),
        ("verificationMaterial.publicKey", None),
        ("verificationMaterial.publicKey.hint", 1),
        ("verificationMaterial.publicKey.hint", "x" * 257),
        ("verificationMaterial.publicKey.rawBytes", "?"),
        ("verificationMaterial.publicKey.rawBytes", None),
        ("verificationMaterial.publicKey.keyDetails", 1),
        ("verificationMaterial.publicKey.more", 1),
        ("verificationMaterial.certificate", {"rawBytes": "AAAA"}),
        ("verificationMaterial", {"certificate": {"rawBytes": "AAAA"}}),
        ("verificationMaterial", {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": []}),
        ("verificationMaterial", {"certificate": {}, "tlogEntries": [{}]}),
        ("verificationMaterial", {"x509CertificateChain": {}}),
        ("verificationMaterial", {"x509CertificateChain": {"certificates": []}}),
        (
            "verificationMaterial",
            {"x509CertificateChain": {"certificates": [{"rawBytes": "AAAA"}] * 17}},
        ),
        ("verificationMaterial", {"x509CertificateChain": {"certificates": [{"rawBytes": "AAA"}]}}),
    ],
)
def test_what_bundles_may_not_have(model: Path, path: str, new: object) -> None:
    with pytest.raises(BundleError):
        parse_oms_bundle(altered_bundle(sign(model), path, new), "model.sig")


def test_no_bundles(model: Path) -> None:
    for raw in (b"", b"{}", b"[]", b"\xef\xbb\xbf" + sign(model), sign(model) * 2):
        with pytest.raises(BundleError):
            parse_oms_bundle(raw, "model.sig")
    with pytest.raises(BundleError, match="message signature"):
        parse_oms_bundle(sign_message(KEY, b"x").to_json(), "model.sig")


def test_how_to_verify_is_said_once(model: Path, authority: Any) -> None:
    bundle, store = parse_oms_bundle(sign(model), "model.sig"), LocalStore(model)
    root = authority.root().certificate
    ways: list[dict[str, Any]] = [
        {},
        {"public_key": KEY.public, "certificate_roots": [root]},
        {"public_key": KEY.public, "identity": "a@b"},
        {"public_key": KEY.public, "ignore_paths": ["../x"]},
        {"public_key": KEY.public, "ignore_paths": [""]},
    ]
    for how in ways:
        with pytest.raises(UsageError):
            verify_oms(bundle, store, **how)


# ---------------------------------------------------------------- certificates


def test_signed_with_a_certificate(model: Path, authority: Any) -> None:
    root = authority.root()
    middle = authority.issue("middle", root, ca=True)
    leaf = authority.leaf(middle)
    chain = [one.certificate for one in (leaf, middle, root)]
    raw = make_oms_bundle(describe_store(LocalStore(model)), leaf.key, chain)
    sent = json.loads(raw)["verificationMaterial"]["x509CertificateChain"]["certificates"]
    assert [base64.b64decode(one["rawBytes"]) for one in sent] == [leaf.der, middle.der]

    roots = [root.certificate]
    result = verify(raw, model, certificate_roots=roots, identity="signer@example.org")
    assert result.valid
    assert result.signer is not None
    assert (result.signer.name, result.signer.issuer) == ("CN=signer", "CN=root")
    assert result.signer.identities == ("signer@example.org",)
    for wrong in ("signer@example.com", "CN=signer", "signer", ""):
        refused = verify(raw, model, certificate_roots=roots, identity=wrong)
        assert rules(refused) == ["signer-identity"]
    other = authority.root().certificate
    assert rules(verify(raw, model, certificate_roots=[other])) == ["certificate-untrusted"]
    later = leaf.certificate.not_after.replace(year=leaf.certificate.not_after.year + 1)
    assert rules(verify(raw, model, certificate_roots=roots, at=later)) == ["certificate-expired"]
    (model / "config.json").write_bytes(b"[]")
    assert rules(verify(raw, model, certificate_roots=roots)) == ["file-digest"]


def test_bundles_with_bad_certificates(model: Path, authority: Any) -> None:
    root = authority.root()
    leaf = authority.leaf(root)
    statement = describe_store(LocalStore(model))
    raw = make_oms_bundle(statement, leaf.key, [leaf.certificate])
    roots = [root.certificate]
    place = "verificationMaterial.x509CertificateChain.certificates.0.rawBytes"

    def with_leaf(der: bytes) -> list[str]:
        changed = altered_bundle(raw, place, base64.b64encode(der).decode())
        return rules(verify(changed, model, certificate_roots=roots))

    assert with_leaf(leaf.der) == []
    # The same authority's certificate of somebody else.
    assert with_leaf(authority.leaf(root).der) == ["signature-invalid"]
    assert with_leaf(authority.leaf(root, key=leaf.key, days=(-9, -1)).der) == [
        "certificate-expired"
    ]
    assert with_leaf(authority.leaf(root, key=leaf.key, purposes=None).der) == ["certificate-usage"]
    assert with_leaf(authority.leaf(root, algorithm="ed25519").der) == ["oms-unsupported"]
    assert with_leaf(b"junk") == ["certificate-usage"]


def test_a_certificate_of_another_key_does_not_sign(model: Path, authority: Any) -> None:
    leaf = authority.leaf(authority.root()).certificate
    with pytest.raises(CertificateError):
        make_oms_bundle(describe_store(LocalStore(model)), KEY, [leaf])


def test_methods_do_not_stand_for_each_other(model: Path, authority: Any) -> None:
    root = authority.root()
    leaf = authority.leaf(root)
    with_certificate = make_oms_bundle(
        describe_store(LocalStore(model)), leaf.key, [leaf.certificate]
    )
    assert rules(verify(with_certificate, model, leaf.key)) == ["signer-unknown"]
    roots = [root.certificate]
    assert rules(verify(sign(model), model, certificate_roots=roots)) == ["signer-unknown"]


# ---------------------------------------------------------------- what is signed


def test_what_cannot_be_signed(model: Path) -> None:
    (model / "link").symlink_to("config.json")
    with pytest.raises(OmsError, match="no regular file"):
        describe_store(LocalStore(model))
    assert verify(sign(model, ignore_paths=["link"]), model).valid
    empty = model.parent / "empty"
    (empty / ".git").mkdir(parents=True)
    (empty / ".git/config").write_bytes(b"x")
    with pytest.raises(OmsError, match="no files"):
        describe_store(LocalStore(empty))


def test_a_single_file(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    raw = sign(file)
    assert verify(raw, file).valid
    file.rename(tmp_path / "other.gguf")
    assert rules(verify(raw, tmp_path / "other.gguf")) == ["file-missing", "file-unlisted"]


def test_a_manifest_is_signed_without_the_model(model: Path) -> None:
    from dataclasses import replace

    from r1prov.manifest.schema import FileEntry, Manifest, Role

    def entry(name: str, sha256: str | None = None) -> FileEntry:
        content = FILES.get(name, b"x")
        return FileEntry(
            name, len(content), sha256 or hashlib.sha256(content).hexdigest(), Role.OTHER
        )

    manifest = Manifest(
        name="DeepSeek-R1",
        publisher="deepseek-ai",
        variant="full",
        source="https://huggingface.co/deepseek-ai/DeepSeek-R1",
        revision="main",
        license="MIT",
        files=(*map(entry, FILES), entry(".gitattributes")),
    )
    raw = make_oms_bundle(describe_manifest(manifest), KEY)
    result = verify(raw, model)
    assert result.valid
    assert result.statement is not None
    assert result.statement.name == "DeepSeek-R1"
    whole = replace(manifest, files=manifest.files[:-1])
    assert result.tree_digest == whole.tree_digest()
    for partial in (
        replace(manifest, complete_listing=False),
        replace(manifest, untracked_dirs=("figures",)),
        replace(manifest, files=(FileEntry("a", None, None, Role.OTHER),)),
    ):
        with pytest.raises(ManifestError):
            describe_manifest(partial)


def test_the_shipped_manifest_of_r1() -> None:
    path = ROOT / "manifests" / "DeepSeek-R1.toml"
    manifest = parse_manifest(path.read_bytes(), subject=path.name)
    if manifest.complete and manifest.complete_listing and not manifest.untracked_dirs:
        statement = describe_manifest(manifest)
        assert len(statement.files) >= 163
    else:
        with pytest.raises(ManifestError):
            describe_manifest(manifest)


# ---------------------------------------------------------------- the client


def test_the_client_finds_the_bundle_inside_the_model(model: Path, tmp_path: Path) -> None:
    raw = sign(model)
    (model / "model.sig").write_bytes(raw)
    key = tmp_path / "key.pub"
    key.write_bytes(KEY.public.pem())
    options = ("verify", "--model", model, "--public-key", key)
    done = client(*options, "--bundle", model / "model.sig")
    assert (done.returncode, done.stdout) == (0, f"valid key {KEY.public.key_id}\n"), done.stderr
    # Another bundle's name is an extra file like any other.
    (tmp_path / "other.sig").write_bytes(raw)
    done = client(*options, "--bundle", tmp_path / "other.sig")
    assert (done.returncode, done.stdout) == (1, "invalid: R1P002 model.sig: not signed\n")
    # GnuTLS describes a key ahead of its block.
    key.write_bytes(b"Public Key Information:\n\n" + KEY.public.pem())
    assert client(*options, "--bundle", model / "model.sig").returncode == 0


def test_the_client_on_bad_input(model: Path, tmp_path: Path) -> None:
    key, bundle = tmp_path / "key.pub", tmp_path / "model.sig"
    key.write_bytes(KEY.public.pem())
    bundle.write_bytes(b"{}")
    options = ("verify", "--bundle", bundle, "--public-key", key)
    done = client(*options, "--model", model)
    assert done.returncode == 1
    assert done.stdout.startswith("invalid: R1P310 ")
    bundle.write_bytes(sign(model))
    assert client(*options, "--model", tmp_path / "nowhere").returncode == 4
    assert client(*options).returncode == 2
    assert client(*options, "--model", model, "--certificate-chain", key).returncode == 2
    key.write_bytes(b"no key")
    assert client(*options, "--model", model).returncode == 1
    key.unlink()
    done = client(*options, "--model", model)
    assert (done.returncode, done.stdout) == (4, "")
