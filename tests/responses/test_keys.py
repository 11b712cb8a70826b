"""Keys of responses: strict files, one algorithm each, RFC 7638 thumbprints."""

import base64
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from receipts import raw_public
from signed import KEYID, PRIVATE, RFC, rfc_key, signing_key

from r1prov.cli.app import run
from r1prov.errors import KeyFileError, NotFound, TrustFileError
from r1prov.responses.jwks import parse_jwks, write_jwks
from r1prov.responses.key_files import load_keys, parse_key_file
from r1prov.responses.keys import (
    address_key,
    b64url,
    from_b64url,
    origin_of,
    parse_public_key,
    parse_signing_key,
    raw_ed25519_key,
    secret_key,
    thumbprint,
)
from r1prov.trust.keys import parse_public_key as parse_trusted

# RFC 7638 section 3.1.
RFC7638 = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJ"
    "ECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2Qvz"
    "qY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0"
    "fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
ED = {"kty": "OKP", "crv": "Ed25519", "x": RFC["keys"]["test-key-ed25519"]["jwk"]["x"], "kid": "ed"}
EC = {k: v for k, v in RFC["keys"]["test-key-ecc-p256"]["jwk"].items() if k not in PRIVATE}


def jwks(*keys):
    return json.dumps({"keys": list(keys)}).encode()


def pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_the_thumbprint_of_rfc_7638():
    (key,) = parse_jwks(json.dumps(RFC7638).encode(), subject="k")
    assert key.thumbprint == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    assert key.algorithm == "rsa-v1_5-sha256"
    assert key.names >= {"2011-04-29", key.thumbprint}


def test_the_thumbprint_of_rfc_8037():
    members = {"crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert thumbprint(members) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    ("alg", "algorithm"),
    [(None, "rsa-pss-sha512"), ("PS512", "rsa-pss-sha512"), ("RS256", "rsa-v1_5-sha256")],
)
def test_an_rsa_key_has_the_algorithm_of_its_record(alg, algorithm):
    value = {k: v for k, v in RFC7638.items() if k != "alg"} | ({"alg": alg} if alg else {})
    assert parse_jwks(json.dumps(value).encode(), subject="k")[0].algorithm == algorithm


def test_a_set_is_read_in_order_and_written_back():
    keys = [signing_key("ed25519"), signing_key("ecdsa-p256"), signing_key("ecdsa-p384")]
    publics = [parse_trusted(pem(key._material), subject="k") for key in keys]
    raw = write_jwks(
        [
            (p, f"k{i}", k.public.algorithm)
            for i, (p, k) in enumerate(zip(publics, keys, strict=True))
        ]
    )
    found = parse_jwks(raw, subject="set")
    assert [key.thumbprint for key in found] == [key.public.thumbprint for key in keys]
    assert all(f"k{i}" in key.names for i, key in enumerate(found))
    assert b'"d"' not in raw


def small_rsa():
    numbers = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    return {"kty": "RSA", "e": "AQAB", "n": b64url(numbers.n.to_bytes(128, "big"))}


def p521():
    numbers = ec.generate_private_key(ec.SECP521R1()).public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-521",
        **{k: b64url(getattr(numbers, k).to_bytes(66, "big")) for k in "xy"},
    }


REFUSED = {
    "a private key": (lambda: ED | {"d": ED["x"]}, "private key"),
    "private RSA": (lambda: RFC7638 | {"p": "AQ"}, "private key"),
    "a shared secret": (
        lambda: {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "a"},
        "secret",
    ),
    "small RSA": (small_rsa, "1024 bits"),
    "huge RSA": (lambda: RFC7638 | {"n": "_" * 4000}, "odd size"),
    "even RSA exponent": (lambda: RFC7638 | {"e": "BA"}, "no valid"),
    "huge exponent": (lambda: RFC7638 | {"e": "AQAAAAAB"}, "odd size"),
    "leading zero": (lambda: RFC7638 | {"e": "AAEAAQ"}, "no positive integer"),
    "P-521": (p521, "P-521"),
    "off the curve": (lambda: EC | {"y": EC["x"]}, "no valid EC"),
    "short coordinate": (lambda: EC | {"x": b64url(b"\1" * 31)}, "31 bytes"),
    "small order": (lambda: ED | {"x": b64url(bytes(32))}, "small order"),
    "Ed448": (lambda: ED | {"crv": "Ed448"}, "kind `OKP`"),
    "short Ed25519": (lambda: ED | {"x": b64url(b"a" * 31)}, "no valid OKP"),
    "padded": (lambda: ED | {"x": ED["x"] + "="}, "base64url"),
    "stray bits": (lambda: ED | {"x": ED["x"][:-1] + "t"}, "base64url"),
    "another algorithm": (lambda: ED | {"alg": "ES256"}, "is for ed25519"),
    "none": (lambda: ED | {"alg": "none"}, "not taken"),
    "HMAC with a public key": (lambda: RFC7638 | {"alg": "HS256"}, "is for rsa"),
    "for encryption": (lambda: ED | {"use": "enc"}, "not for verifying"),
    "for signing only": (lambda: ED | {"key_ops": ["sign"]}, "not for verifying"),
    "key_ops no list": (lambda: ED | {"key_ops": 1}, "not for verifying"),
    "no kind": (lambda: {"kid": "a"}, "lacks `kty`"),
    "unknown kind": (lambda: {"kty": "AKP"}, "not taken"),
    "kid no text": (lambda: ED | {"kid": 1}, "no string"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_keys_that_are_refused(name):
    value, says = REFUSED[name]
    with pytest.raises(KeyFileError, match=says) as caught:
        parse_jwks(jwks(value()), subject="set")
    assert "set keys[0]" in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"[]", b"{}", b'{"keys":[]}', b'{"keys":1}', b'{"keys":[1]}', b"\xff", b"<html>"),
        b'{"keys":[],"keys":[]}',
        jwks(ED, ED),
        jwks(ED, EC | {"kid": "ed"}),
        jwks(*[ED | {"kid": str(n)} for n in range(257)]),
        b"[" * 5000,
    ],
)
def test_sets_that_are_refused(raw):
    with pytest.raises(KeyFileError):
        parse_jwks(raw, subject="set")


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["kty", "crv", "x", "y", "n", "e", "k", "alg", "kid", "use", "keys"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_no_other_exception_whatever_the_set(value):
    with contextlib.suppress(KeyFileError):
        parse_jwks(json.dumps(value).encode(), subject="set", secrets=True)


def test_a_key_shows_itself_by_its_thumbprint_and_a_secret_not_at_all():
    secret = secret_key(b"0123456789abcdef", name="s")
    assert "0123456789abcdef" not in repr(secret) + str(secret)
    assert signing_key().public.thumbprint in repr(signing_key().public)
    assert "private" not in repr(signing_key()).lower()
    with pytest.raises(KeyFileError, match="5 bytes") as caught:
        secret_key(b"short", name="s")
    assert "short" not in caught.value.message


def test_addresses():
    key = address_key("0xCaAA4842758658A85785Ad15367a700C601ffEA5")
    assert key.thumbprint == "0xcaaa4842758658a85785ad15367a700c601ffea5"
    assert not key.verify(b"", b"")
    for wrong in ("", "0x", "caaa4842758658a85785ad15367a700c601ffea5", "0x" + "g" * 40):
        with pytest.raises(KeyFileError):
            address_key(wrong)


def test_raw_ed25519_keys():
    key = signing_key()
    assert raw_ed25519_key(bytes.fromhex(raw_public(key))).thumbprint == key.public.thumbprint
    for wrong in (b"", b"a" * 31, bytes(32)):
        with pytest.raises(KeyFileError):
            raw_ed25519_key(wrong)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://API.example.com:443/a?b", "https://api.example.com"),
        ("http://user:pw@h:8000", "http://h:8000"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_origins(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("pattern", "url", "good"),
    [
        ("https://[::1]:8080", "https://[::1]:8080/v1", True),
        ("https://[::1]:8080", "https://1:8080/v1", False),
        ("https://[0-9]*", "https://5.example.com/", False),
        ("https://API.example.com", "https://api.example.com/", True),
        ("https://api.example.com:443", "https://api.example.com/", True),
        ("http://api.example.com:443", "http://api.example.com/", False),
        ("https://api?.example.com", "https://api1.example.com/", True),
        ("https://api?.example.com", "https://api.example.com/", False),
        ("https://*.example.com", "https://api.example.com:8443/", False),
        ("https://*.example.com", "https://apixexample.com/", False),
        ("https://api.example.com", "https://api.example.com.evil.org/", False),
        ("https://api.example.com", "https://api.example.com@evil.org/", False),
        ("*", "http://[::1]/", True),
    ],
)
def test_a_pattern_of_origins_has_two_wildcards_and_no_class(pattern, url, good):
    key = replace(signing_key().public, origins=(pattern,))
    assert key.answers_for(origin_of(url)) is good


def test_base64url_has_one_spelling():
    assert from_b64url("YQ") == b"a"
    for wrong in ("YQ==", "YR", "Y", "Y Q", "Y+", "é"):
        assert from_b64url(wrong) is None


# ---- files --------------------------------------------------------------------------------------


def test_a_directory_without_a_trust_file_has_every_key_file_in_it(tmp_path):
    (tmp_path / "a.pem").write_bytes(pem(signing_key()._material))
    (tmp_path / "b.jwks").write_bytes(jwks(ED, EC))
    (tmp_path / "notes.txt").write_text("no key")
    keys = load_keys(tmp_path)
    assert [sorted(key.names & {"a", "ed", "test-key-ecc-p256"}) for key in keys] == [
        ["a"],
        ["ed"],
        ["test-key-ecc-p256"],
    ]
    (tmp_path / "c.pem").write_text("-----BEGIN NONSENSE-----")
    with pytest.raises(KeyFileError, match=r"c\.pem"):
        load_keys(tmp_path)


def test_a_trust_file_says_owner_validity_and_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, kind in (("p256", "ecdsa-p256"), ("p521", "ecdsa-p521"), ("rsa", "rsa-pss-3072")):
        assert run(["key", "generate", f"{name}.pem", "--algorithm", kind, "--no-passphrase"]) == 0
        add = ["key", "add", f"{name}.pem.pub", "--owner", "me", "--model", "deepseek-*"]
        assert run([*add, "--keys", "keys"]) == 0
    found = {key.algorithm: key for key in load_keys(tmp_path / "keys")}
    # No HTTP signature is of P-521: that key signs manifests.
    assert set(found) == {"ecdsa-p256-sha256", "rsa-pss-sha512"}
    key = found["ecdsa-p256-sha256"]
    assert (key.owner, key.models) == ("me", ("deepseek-*",))
    assert key.valid_from is not None
    assert key.valid_until is not None
    assert key.valid_from < datetime.now(UTC) < key.valid_until
    assert any(len(name) == 64 for name in key.names)
    # A key that is narrowed to verdicts may not also answer for a provider.
    assert run(["key", "generate", "ci.pem", "--algorithm", "ed25519", "--no-passphrase"]) == 0
    add = ["key", "add", "ci.pem.pub", "--owner", "ci", "--model", "*", "--may", "attestations"]
    assert run([*add, "--keys", "keys"]) == 0
    assert {key.algorithm for key in load_keys(tmp_path / "keys")} == set(found)
    (tmp_path / "keys" / "trust.toml").write_text("schema = 1")
    with pytest.raises(TrustFileError):
        load_keys(tmp_path / "keys")


def test_no_file_and_an_empty_directory(tmp_path):
    with pytest.raises(NotFound):
        load_keys(tmp_path / "absent")
    with pytest.raises(KeyFileError, match="0 key files"):
        load_keys(tmp_path)


def test_pem_files_are_public_keys():
    private = signing_key()._material.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(KeyFileError):
        parse_key_file(private, subject="k")
    rsa_pem = pem(signing_key("rsa-pss-3072")._material)
    assert parse_key_file(rsa_pem, subject="k", algorithm="rsa-v1_5-sha256")[0].algorithm == (
        "rsa-v1_5-sha256"
    )
    with pytest.raises(KeyFileError, match="is for"):
        parse_public_key(rsa_pem, subject="k", algorithm="ed25519")
    with pytest.raises(KeyFileError):
        parse_key_file(jwks(ED), subject="k", algorithm="ecdsa-p256-sha256")
    with pytest.raises(KeyFileError):
        parse_signing_key(rsa_pem, None, subject="k")


def test_the_keys_of_the_rfc_are_read_from_their_jwk():
    assert rfc_key("test-key-ed25519", "ed25519").thumbprint == (
        "poqkLGiymh_W0uP6PZFw-dvez3QJT5SolqXBCW38r0U"
    )
    secret = base64.b64decode(RFC["keys"]["test-shared-secret"]["secret_base64"])
    assert rfc_key("test-shared-secret", "hmac-sha256").material == secret
    assert KEYID not in rfc_key("test-key-ed25519", "ed25519").names
