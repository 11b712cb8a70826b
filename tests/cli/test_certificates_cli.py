"""Certificates and timestamps as they are typed: signed, expired, revoked, tampered with."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tsa_server import Tsa, serving, stamping

from r1prov.cli import trusting
from r1prov.cli.app import run
from r1prov.family.skeleton import write_skeleton
from r1prov.manifest.oms import describe_manifest, make_oms_bundle
from r1prov.manifest.shelf import load_manifest
from r1prov.render.trust import render_trust_store
from r1prov.trust.authorities import RevokedCertificate, TrustedAuthority
from r1prov.trust.bundle import sign_message
from r1prov.trust.directories import load_trust_directory
from r1prov.trust.dsse import pre_authentication_encoding
from r1prov.trust.keys import encode_private_key
from r1prov.trust.store import TrustStore, merge

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
SECONDS = 1 / 86400

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and its manifest, unsigned."""
    folder = tmp_path_factory.mktemp("made")
    write_skeleton(json.dumps(SMALL).encode(), folder / "model", stages=(1,))
    made = ["manifest", "create", folder / "model", "--name", "m", "-o", folder / "m.toml"]
    assert run([*map(str, made)]) == 0
    return folder


@pytest.fixture(scope="module")
def pki(authority: Any) -> dict[str, Any]:
    root = authority.root("ACME root", days=(-400, 400))
    middle = authority.issue("ACME issuing", root, ca=True, days=(-400, 400))
    return {"root": root, "middle": middle, "leaf": authority.leaf(middle)}


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root", days=(-400, 400))
    return Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))


@pytest.fixture(scope="module")
def url(tsa: Tsa) -> Iterator[str]:
    with serving(tsa) as (address, _):
        yield f"{address}/tsr"


@pytest.fixture(autouse=True)
def _here(
    model: Path,
    pki: dict[str, Any],
    tsa: Tsa,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("R1PROV_KEYS", "keys")
    for name in ("R1PROV_MANIFESTS", "R1PROV_POLICY", "R1PROV_KEY", "R1PROV_TIMESTAMP_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(model / "m.toml", "m.toml")
    (tmp_path / "model").symlink_to(model / "model")
    for name, issued in (*pki.items(), ("tsa", tsa.root)):
        Path(f"{name}.pem").write_bytes(issued.pem)
    keep(pki["leaf"])
    trust = ["key", "add", "root.pem", "--certificate", "--owner", "ACME", "--model", "m"]
    assert run([*trust, "--identity", "signer@example.org"]) == 0


def keep(leaf: Any) -> None:
    """The key and certificate of a signer, as files."""
    Path("leaf.pem").write_bytes(leaf.pem)
    Path("leaf.key").write_bytes(encode_private_key(leaf.key, None))


def bundle_path() -> Path:
    (path,) = Path().glob("m.toml.*.sigstore.json")
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def calling(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run([*map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return calling


SIGN = ("manifest", "sign", "m.toml", "--key", "leaf.key", "--certificate", "leaf.pem")
CHECK = ("manifest", "verify", "m.toml")
RULES = {"timestamp-invalid": "R1P322", "timestamp-untrusted": "R1P323"}
CLOCK = ("key", "add", "tsa.pem", "--timestamp-authority", "--owner", "ACME time")


def severities(call: Call) -> tuple[int, dict[str, str]]:
    """Exit status of the gate, and how much each rule of its report weighs."""
    status, out, _ = call("verify", "model", "--manifest", "m.toml", "--format", "json")
    found = json.loads(out)["findings"]
    return status, {one["rule"]: one["severity"] for one in found}


def rules(out: str) -> set[str]:
    return {line.split()[1].rstrip(":") for line in out.splitlines() if line.startswith("  R1P")}


# ------------------------------------------------------------------ certificates


def test_signed_with_a_certificate(call: Call, pki: dict[str, Any]) -> None:
    status, out, _ = call(*SIGN, "--chain", "middle.pem", "--chain", "root.pem")
    assert status == 0
    assert pki["leaf"].key.public.key_id in out
    value = json.loads(bundle_path().read_bytes())
    material = value["verificationMaterial"]
    sent = [one["rawBytes"] for one in material["x509CertificateChain"]["certificates"]]
    # Never the root: whoever verifies has it from elsewhere.
    assert sent == [base64.b64encode(pki[name].der).decode() for name in ("leaf", "middle")]
    assert value["mediaType"].endswith("version=0.2")
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (0, set())
    assert "ACME for signer@example.org" in out
    status, out, _ = call("verify", "model", "--manifest", "m.toml", "--format", "json")
    report = json.loads(out)
    assert (status, report["verdict"]) == (0, "pass")
    assert report["manifest"]["signers"] == [
        f"ACME for signer@example.org, key {pki['leaf'].key.public.key_id8}: good"
    ]
    # The same with the chain in one option.
    one = ("manifest", "sign", "m.toml", "--key", "leaf.key", "--certificate-chain")
    assert call(*one, "leaf.pem", "--certificate-chain", "middle.pem")[0] == 0
    assert call(*CHECK)[0] == 0


def test_the_leaf_alone(call: Call) -> None:
    assert call(*SIGN)[0] == 0
    value = json.loads(bundle_path().read_bytes())
    assert value["mediaType"].endswith("v0.3+json")
    assert set(value["verificationMaterial"]) == {"certificate", "tlogEntries"}
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (1, {"certificate-untrusted"})
    # The issuer may be known from the trust store instead.
    Path("both.pem").write_bytes(Path("middle.pem").read_bytes() + Path("root.pem").read_bytes())
    trust = ("key", "add", "both.pem", "--certificate", "--owner", "ACME", "--model", "m")
    assert call(*trust, "--identity", "signer@example.org", "--keys", "other")[0] == 0
    assert call(*CHECK, "--keys", "other")[0] == 0


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ({"days": (-20, -10)}, "certificate-expired"),
        ({"days": (10, 20)}, "certificate-not-yet-valid"),
        ({"purposes": None}, "certificate-usage"),
        ({"email": "other@example.org"}, "signer-identity"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_refusal_is_a_finding(
    call: Call, authority: Any, pki: dict[str, Any], how: Any, rule: str
) -> None:
    leaf = authority.leaf(pki["root"], **how)
    bundle = sign_message(leaf.key, Path("m.toml").read_bytes(), [leaf.certificate])
    Path("m.toml.x.sigstore.json").write_bytes(bundle.to_json())
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (1, {rule})
    status, out, _ = call("verify", "model", "--manifest", "m.toml")
    assert status == 1
    assert rule in rules(out)


def test_scope_revocation_and_roots(call: Call, pki: dict[str, Any], authority: Any) -> None:
    assert call(*SIGN, "--chain", "middle.pem")[0] == 0
    trust = ("key", "add", "root.pem", "--certificate", "--owner", "ACME", "--model", "other")
    assert call(*trust, "--identity", "signer@example.org", "--keys", "narrow")[0] == 0
    status, out, _ = call(*CHECK, "--keys", "narrow")
    assert (status, rules(out)) == (1, {"signer-out-of-scope"})
    Path("wrong.pem").write_bytes(authority.root("ACME root").pem)
    trust = ("key", "add", "wrong.pem", "--certificate", "--owner", "x", "--model", "m")
    assert call(*trust, "--identity", "signer@example.org", "--keys", "wrong")[0] == 0
    status, out, _ = call(*CHECK, "--keys", "wrong")
    assert (status, rules(out)) == (1, {"certificate-untrusted"})
    root, leaf = (pki[name].certificate for name in ("root", "leaf"))
    shutil.copytree("keys", "first")
    gone = ("key", "revoke", "--reason", "left the team", "--keys", "first")
    assert call(*gone, leaf.fingerprint, "--authority", root.fingerprint[:8])[0] == 0
    status, out, _ = call(*CHECK, "--keys", "first")
    assert (status, rules(out)) == (1, {"certificate-revoked"})
    assert "left the team" in out
    shutil.copytree("keys", "second")
    gone = ("key", "revoke", "--reason", "left the team", "--keys", "second")
    serial = pki["leaf"].x509.serial_number
    assert call(*gone, f"{serial:X}", "--authority", root.fingerprint)[0] == 0
    assert rules(call(*CHECK, "--keys", "second")[1]) == {"certificate-revoked"}
    gone = ("key", "revoke", "--reason", "breach", "--keys", "keys")
    assert call(*gone, root.fingerprint[:8])[0] == 0
    assert rules(call(*CHECK)[1]) == {"signer-revoked"}


def test_revoked_where_one_store_took_the_place_of_another(
    pki: dict[str, Any], authority: Any
) -> None:
    """What is left of a shipped entry are its revocations: they are written with the user's."""
    now = datetime.now(UTC).replace(microsecond=0)
    lost = RevokedCertificate("5f3a", now, "lost")

    def entry(*issuers: Any, **more: Any) -> TrustStore:
        made = TrustedAuthority(
            root=pki["root"].certificate,
            issuers=tuple(one.certificate for one in issuers),
            file="a.pem",
            owner="ACME",
            valid_from=now - timedelta(days=1),
            valid_until=now + timedelta(days=1),
            models=("m",),
            **more,
        )
        return TrustStore((), (), (), (made,))

    other = authority.issue("other issuing", pki["root"], ca=True)
    shipped = entry(pki["middle"], identities=("signer@example.org",), revoked=(lost,))
    own = entry(other, identities=("second@example.org",))
    known, id_ = merge([shipped, own]), pki["root"].certificate.fingerprint
    why = trusting.Revocation("left")
    trusting.revoke_certificate("ab12", id_, known, Path("one"), why)
    (read,) = load_trust_directory(Path("one")).authorities
    assert [gone.certificate for gone in read.revoked] == ["5f3a", "ab12"]
    assert read.identities == ("second@example.org",)
    assert set(read.issuers) == {pki["middle"].certificate, other.certificate}
    trusting.revoke_entry(id_, known, Path("two"), why)
    (read,) = load_trust_directory(Path("two")).authorities
    assert (read.revoked_reason, read.revoked) == ("left", (lost,))
    dated = trusting.Revocation("left", now - timedelta(days=3))
    trusting.revoke_certificate("ab12", id_, known, Path("three"), dated)
    shown = render_trust_store(load_trust_directory(Path("three")), now)
    assert f"left, but for what is timestamped before {now - timedelta(days=3):%Y-%m-%d}" in shown


def test_what_is_shown(call: Call, pki: dict[str, Any], tsa: Tsa) -> None:
    assert call(*CLOCK)[0] == 0
    root = pki["root"].certificate
    gone = ("key", "revoke", "0abc", "--reason", "x", "--authority", root.fingerprint)
    assert call(*gone, "--keys", "keys")[0] == 0
    status, out, _ = call("key", "show")
    assert status == 0
    assert root.fingerprint in out
    assert "m as signer@example.org" in out
    assert "certificate 0abc" in out
    assert tsa.root.certificate.fingerprint in out
    # Two entries of one root share its file: neither loses an issuer.
    Path("both.pem").write_bytes(Path("middle.pem").read_bytes() + Path("root.pem").read_bytes())
    add = ("--certificate", "--owner", "ACME", "--model", "x", "--identity", "a", "--keys", "two")
    for path in ("both.pem", "root.pem"):
        assert call("key", "add", path, *add)[0] == 0
    assert "CN=ACME issuing" in call("key", "show", f"two/{root.fingerprint[:8]}.pem")[1]
    assert call("key", "show", "--keys", "two")[1].count(root.fingerprint) == 2
    status, out, _ = call("key", "show", "leaf.pem")
    assert status == 0
    for words in ("CN=signer", "signer@example.org", "1.3.6.1.5.5.7.3.3"):
        assert words in out
    assert pki["leaf"].key.public.key_id in out
    assert call("key", "show", "leaf.key")[0] == 4
    assert call("key", "revoke", tsa.root.certificate.fingerprint, "--reason", "x")[0] == 0
    (line,) = [one for one in call("key", "show")[1].splitlines() if "ACME time" in one]
    assert "revoked" in line


def test_what_cannot_be_asked_for(call: Call, authority: Any, pki: dict[str, Any]) -> None:
    sign = ("manifest", "sign", "m.toml", "--key", "leaf.key")
    assert call(*sign, "--chain", "middle.pem")[0] == 2
    both = ("--certificate", "leaf.pem", "--certificate-chain", "leaf.pem")
    assert call(*sign, *both)[0] == 2
    status, _, err = call(*sign, "--certificate", "middle.pem")
    assert status == 4, "not the certificate of a signer"
    keep(authority.leaf(pki["root"], days=(-20, -10)))
    status, _, err = call(*SIGN)
    assert status == 4
    assert "has expired" in err
    Path("leaf.pem").write_bytes(pki["leaf"].pem)
    status, _, err = call(*SIGN)
    assert status == 4
    assert "not that of the signing key" in err
    Path("leaf.pem").write_bytes(Path("leaf.key").read_bytes())
    status, _, err = call(*SIGN)
    assert status == 4
    assert Path("leaf.key").read_text().splitlines()[1] not in err
    assert not [*Path().glob("m.toml.*")]
    add = ("key", "add", "root.pem", "--owner", "x")
    for more in (
        ("--certificate", "--model", "m"),
        ("--certificate", "--identity", "a"),
        ("--identity", "a", "--model", "m"),
        ("--timestamp-authority", "--model", "m"),
        ("--timestamp-authority", "--certificate", "--model", "m", "--identity", "a"),
        (),
    ):
        assert call(*add, *more)[0] == 2
    assert call("key", "add", "leaf.pem", "--owner", "x", "--timestamp-authority")[0] == 4
    assert call(*CLOCK)[0] == 0
    assert call(*CLOCK)[0] == 2, "it is there already"
    clock = ("key", "show")
    (line,) = [one for one in call(*clock)[1].splitlines() if "ACME time" in one]
    revoke = ("key", "revoke", line.split()[0], "--reason", "x", "--invalid-from", "2026-01-01")
    assert call(*revoke, "--keys", "keys")[0] == 2
    assert call("key", "revoke", "0" * 64, "--reason", "x", "--authority", "00000000")[0] == 2


# ------------------------------------------------------------------ timestamps


def test_a_signature_that_outlives_its_certificate(
    call: Call, authority: Any, pki: dict[str, Any], url: str
) -> None:
    """Signed while valid, with and without a timestamp, and verified once it has expired."""
    assert call(*CLOCK)[0] == 0
    leaf = authority.leaf(pki["root"], days=(-1, 3 * SECONDS))
    keep(leaf)
    status, out, err = call(*SIGN, "--timestamp-url", url)
    assert (status, err) == (0, "")
    assert "timestamped" in out
    stamped = bundle_path().read_bytes()
    assert call(*SIGN)[0] == 0
    plain = bundle_path().read_bytes()
    assert call(*CHECK)[0] == 0, "both count while it is valid"
    time.sleep(max(0.0, (leaf.certificate.not_after - datetime.now(UTC)).total_seconds() + 1))

    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (1, {"certificate-expired"})
    assert "nothing proves that it signed before" in out
    bundle_path().write_bytes(stamped)
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (0, set())
    assert "good, timestamped" in out
    status, out, _ = call("verify", "model", "--manifest", "m.toml")
    assert (status, rules(out)) == (0, set())

    # The timestamp is over the signature: it proves nothing of another one.
    value = json.loads(plain)
    stamps = json.loads(stamped)["verificationMaterial"]["timestampVerificationData"]
    value["verificationMaterial"]["timestampVerificationData"] = stamps
    bundle_path().write_text(json.dumps(value))
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (1, {"certificate-expired", "timestamp-invalid"})
    assert "over other bytes" in out
    # Too late.
    bundle_path().write_bytes(plain)
    assert call("manifest", "timestamp", "m.toml", "--tsa-url", url)[0] == 0
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (1, {"certificate-expired"})
    assert "the signature is timestamped" in out


@pytest.fixture
def expired(authority: Any, pki: dict[str, Any]) -> Callable[..., None]:
    """A bundle whose certificate has expired, with timestamps of a moment before."""

    def sign(*stamps: Callable[[bytes], bytes]) -> None:
        from dataclasses import replace

        leaf = authority.leaf(pki["root"], days=(-20, -10))
        bundle = sign_message(leaf.key, Path("m.toml").read_bytes(), [leaf.certificate])
        made = tuple(stamp(bundle.signature) for stamp in stamps)
        raw = replace(bundle, timestamps=made).to_json()
        Path("m.toml.x.sigstore.json").write_bytes(raw)

    return sign


def test_timestamps_that_prove_nothing(
    call: Call, tsa: Tsa, authority: Any, expired: Callable[..., None]
) -> None:
    from tsa_server import at

    assert call(*CLOCK)[0] == 0
    moment = (datetime.now(UTC) - timedelta(days=15)).strftime("%Y%m%d%H%M%SZ")
    old = authority.issue("clock", tsa.root, days=(-30, 30), **stamping())
    code = authority.issue("clock", tsa.root, days=(-30, 30))
    other = authority.root("time root", days=(-30, 30))
    stranger = authority.issue("clock", other, days=(-30, 30), **stamping())

    def made(signer: Any) -> Callable[[bytes], bytes]:
        return lambda signature: tsa.forge(at(tsa.statement(signature), moment), signer)

    def tampered(signature: bytes) -> bytes:
        stamp = tsa.stamp(signature)
        place = stamp.index(b"\x18\x0f") + 2
        return stamp[:place] + moment.encode() + stamp[place + 15 :]

    expired(made(old))
    assert call(*CHECK)[0] == 0
    for stamp, rule in (
        (made(code), "timestamp-invalid"),
        (made(stranger), "timestamp-untrusted"),
        (tampered, "timestamp-invalid"),
        (lambda _: tsa.forge(at(tsa.statement(b"other"), moment), old), "timestamp-invalid"),
        (lambda _: b"\x30\x00", "timestamp-invalid"),
    ):
        expired(stamp)
        status, out, _ = call(*CHECK)
        assert (status, rules(out)) == (1, {"certificate-expired", rule})
        assert severities(call) == (1, {"R1P316": "error", RULES[rule]: "error"})
    # Beside a good one it is a warning, as it is where none is needed.
    expired(made(stranger), made(old))
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (0, {"timestamp-untrusted"})
    assert "timestamped" in out
    assert severities(call) == (0, {"R1P323": "warning"})


def test_no_timestamp_is_needed_while_the_certificate_is_valid(call: Call, url: str) -> None:
    status, _, err = call(*SIGN, "--chain", "middle.pem", "--timestamp-url", url)
    assert status == 0
    assert "warning: " in err, "the trust store names no authority for it yet"
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (0, {"timestamp-untrusted"})
    assert call(*CLOCK)[0] == 0
    status, out, _ = call(*CHECK)
    assert (status, rules(out)) == (0, set())


def test_timestamps_are_added_later(call: Call, url: str, monkeypatch: Any) -> None:
    assert call(*CLOCK)[0] == 0
    add = ("manifest", "timestamp", "m.toml", "--timestamp-url", url)
    assert call(*add)[0] == 4, "there is no signature"
    assert call(*SIGN, "--chain", "middle.pem")[0] == 0
    before = json.loads(bundle_path().read_bytes())
    assert call("manifest", "timestamp", "m.toml")[0] == 2
    assert call(*add)[0] == 0
    after = json.loads(bundle_path().read_bytes())
    stamps = after["verificationMaterial"].pop("timestampVerificationData")
    assert after == before
    assert len(stamps["rfc3161Timestamps"]) == 1
    assert "already" in call(*add)[1]
    monkeypatch.setenv("R1PROV_TIMESTAMP_URL", url)
    assert call("manifest", "timestamp", "m.toml", "--again")[0] == 0
    value = json.loads(bundle_path().read_bytes())
    stamps = value["verificationMaterial"]["timestampVerificationData"]
    assert len(stamps["rfc3161Timestamps"]) == 2
    assert call(*CHECK)[0] == 0
    with Path("m.toml").open("a") as file:
        file.write("\n")
    status, _, err = call("manifest", "timestamp", "m.toml", "--again")
    assert status == 4
    assert "another file" in err


def test_no_answer_leaves_nothing_behind(call: Call, url: str) -> None:
    for path, words in (("status", "503"), ("other", "other bytes"), ("stale", "nonce")):
        address = url.replace("/tsr", f"/{path}")
        status, _, err = call(*SIGN, "--timestamp-url", address)
        assert status == 4
        assert words in err
        assert not [*Path().glob("m.toml.*")]
    status, _, err = call(*SIGN, "--timestamp-url", "http://me:secret@127.0.0.1/")
    assert status == 2
    assert "secret" not in err


# ------------------------------------------------------------------ OpenSSF Model Signing


def test_model_signatures(
    call: Call, authority: Any, pki: dict[str, Any], tsa: Tsa, url: str
) -> None:
    oms = (*SIGN, "--chain", "middle.pem", "--format", "oms", "-o", "model.sig")
    check = ("manifest", "verify", "model.sig", "--model", "model")
    assert call(*oms, "--timestamp-url", url)[0] == 0
    status, out, _ = call(*check)
    assert (status, rules(out)) == (0, {"timestamp-untrusted"})
    assert call(*CLOCK)[0] == 0
    status, out, _ = call(*check)
    assert (status, rules(out)) == (0, set())
    assert "ACME for signer@example.org" in out
    # The gate finds what stands beside a bundle too: no shard index is part of it.
    status, out, _ = call("verify", "model", "--manifest", "model.sig")
    assert (status, rules(out)) == (0, set())
    Path("model.sig").unlink()
    expired = authority.leaf(pki["root"], days=(-20, -10))
    statement = describe_manifest(load_manifest(Path("m.toml")).manifest)
    raw = make_oms_bundle(statement, expired.key, [expired.certificate])
    Path("model.sig").write_bytes(raw)
    for words in (check, ("verify", "model", "--manifest", "model.sig")):
        status, out, _ = call(*words)
        assert (status, "certificate-expired" in rules(out)) == (1, True)
    from tsa_server import at

    from r1prov.trust.bundle import signature_of, with_timestamp

    old = authority.issue("clock", tsa.root, days=(-30, 30), **stamping())
    moment = (datetime.now(UTC) - timedelta(days=15)).strftime("%Y%m%d%H%M%SZ")
    signed = tsa.statement(signature_of(raw, subject="b"))
    stamped = with_timestamp(raw, tsa.forge(at(signed, moment), old), subject="b")
    Path("model.sig").write_bytes(stamped)
    assert call(*check)[0] == 0
    assert call("verify", "model", "--manifest", "model.sig")[0] == 0
    # Without a trust store: roots are given, for signers and for time.
    given = (*check, "--certificate-chain", "root.pem")
    assert call(*given)[0] == 1
    status, out, _ = call(*given, "--timestamp-authority", "tsa.pem")
    assert status == 0
    assert "note          timestamp: made before" in out
    status, out, _ = call(*given, "--timestamp-authority", "root.pem")
    assert (status, rules(out)) == (1, {"certificate-expired", "timestamp-untrusted"})
    assert call(*check, "--timestamp-authority", "tsa.pem")[0] == 2
    assert call(*check, "--public-key", "x", "--timestamp-authority", "tsa.pem")[0] in (2, 4)
    # Added by the command: too late here.
    Path("model.sig").write_bytes(raw)
    assert call("manifest", "timestamp", "model.sig", "--timestamp-url", url)[0] == 0
    assert rules(call(*check)[1]) == {"certificate-expired"}
    # Who signed it is not who may.
    other = authority.leaf(pki["root"], email="other@example.org")
    Path("model.sig").write_bytes(make_oms_bundle(statement, other.key, [other.certificate]))
    assert rules(call(*check)[1]) == {"signer-identity"}


@pytest.mark.parametrize("payload", [b"{}", b"", b'{"_type": "https://in-toto.io/Statement/v1"}'])
def test_anybody_of_the_authority_may_sign_nonsense(
    call: Call, authority: Any, pki: dict[str, Any], payload: bytes
) -> None:
    """What leads to a trusted root and signs no statement is a finding, whoever it is."""
    call(*SIGN, "--chain", "middle.pem", "--format", "oms", "-o", "model.sig")
    value = json.loads(Path("model.sig").read_bytes())
    for email in ("signer@example.org", "intern@example.org"):
        leaf = authority.leaf(pki["middle"], email=email)
        chain = [leaf.certificate, pki["middle"].certificate]
        value["verificationMaterial"]["x509CertificateChain"]["certificates"] = [
            {"rawBytes": base64.b64encode(one.der).decode()} for one in chain
        ]
        envelope = value["dsseEnvelope"]
        signed = pre_authentication_encoding(envelope["payloadType"], payload)
        envelope["payload"] = base64.b64encode(payload).decode()
        envelope["signatures"][0]["sig"] = base64.b64encode(leaf.key.sign(signed)).decode()
        Path("bad.sig").write_text(json.dumps(value))
        for words in (
            ("verify", "model", "--manifest", "bad.sig"),
            ("manifest", "verify", "bad.sig", "--model", "model"),
        ):
            status, out, err = call(*words)
            assert status == 1, err
            assert any(rule.startswith("oms-") for rule in rules(out)), out
            assert ": good" not in out


# ------------------------------------------------------------------ attestations


def test_attestations_with_a_timestamp(call: Call, url: str) -> None:
    assert call(*CLOCK)[0] == 0
    assert call("key", "generate", "ci.key", "--no-passphrase")[0] == 0
    assert call("key", "add", "ci.key.pub", "--owner", "CI", "--model", "m")[0] == 0
    assert call("manifest", "sign", "m.toml", "--key", "ci.key")[0] == 0
    create = ("attest", "create", "model", "--kind", "vsa", "--key", "ci.key", "-m", "m.toml")
    assert call(*create, "-o", "m.vsa", "--timestamp-url", url)[0] == 0
    check = ("attest", "verify", "m.vsa", "--model", "model")
    assert call(*check)[0] == 0
    value = json.loads(Path("m.vsa").read_bytes())
    assert value["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    assert call("manifest", "timestamp", "m.vsa", "--timestamp-url", url, "--again")[0] == 0
    assert call(*check)[0] == 0


# ------------------------------------------------------------------ policy


def test_a_policy_asks_for_an_identity(call: Call, pki: dict[str, Any]) -> None:
    assert call(*SIGN, "--chain", "middle.pem")[0] == 0
    root = pki["root"].certificate.fingerprint

    def verdict(demand: str) -> tuple[int, set[str]]:
        text = f'schema = "r1prov/policy/1"\n[[models]]\nname = "m"\n{demand}\n'
        Path("p.toml").write_text(text)
        status, out, _ = call("verify", "model", "--manifest", "m.toml", "--policy", "p.toml")
        return status, rules(out)

    short = (1, {"policy-signers"})
    key = pki["leaf"].key.public.key_id
    assert verdict('identities = ["signer@example.org"]') == (0, set())
    assert verdict('identities = ["other@example.org"]') == short
    assert verdict(f'authorities = ["{root}"]') == (0, set())
    assert verdict(f'authorities = ["{"a" * 64}"]') == short
    named = 'identities = ["signer@example.org"]\n'
    assert verdict(f'{named}authorities = ["{root}"]') == (0, set())
    assert verdict(f'{named}authorities = ["{"a" * 64}"]') == short
    assert verdict(f'signers = ["{"b" * 64}"]') == short
    assert verdict(f'signers = ["{key}"]') == (0, set())
    assert verdict(f'signers = ["{"b" * 64}"]\n{named}') == (0, set())
    assert verdict(f'signers = ["{"b" * 64}"]\n{named}threshold = 2') == short
    status, out, _ = call("policy", "check", "p.toml")
    assert status == 1
    assert "signer@example.org" in out
    Path("p.toml").unlink()
    status, out, err = call("policy", "init", "model", "--manifest", "m.toml", "-o", "p.toml")
    assert status == 0, err
    drafted = Path("p.toml").read_text()
    assert 'identities = ["signer@example.org"]' in drafted
    assert f'authorities = ["{root}"]' in drafted
    found = call("verify", "model", "--manifest", "m.toml", "--policy", "p.toml")
    assert found[0] == 0, found[1]
