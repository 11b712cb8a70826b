"""Sigstore bundles: read strictly, so that no byte of a bundle file is free."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import BundleError
from r1prov.limits import MAX_BUNDLE_BYTES, MAX_SIGNATURES
from r1prov.trust.bundle import (
    CHAIN_MEDIA_TYPE,
    MEDIA_TYPE,
    MessageBundle,
    count_timestamps,
    parse_bundle,
    parse_dsse_bundle,
    sign_message,
    signature_of,
    with_timestamp,
    write_dsse_bundle,
)
from r1prov.trust.dsse import sign_envelope
from r1prov.trust.keys import PrivateKey

GOOD = MessageBundle("ab" * 32, hashlib.sha256(b"x").digest(), b"signature")
ABSENT = object()


def value() -> dict[str, Any]:
    made: dict[str, Any] = json.loads(GOOD.to_json())
    return made


def changed(path: str, new: object) -> bytes:
    made = value()
    *parents, last = path.split(".")
    inner = made
    for name in parents:
        inner = inner[name]
    if new is ABSENT:
        del inner[last]
    else:
        inner[last] = new
    return json.dumps(made).encode()


def test_the_form() -> None:
    assert value() == {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "ab" * 32}, "tlogEntries": []},
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": base64.b64encode(hashlib.sha256(b"x").digest()).decode(),
            },
            "signature": base64.b64encode(b"signature").decode(),
        },
    }
    assert GOOD.to_json().endswith(b"}\n")


@given(
    st.text(max_size=64), st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=1024)
)
def test_read_back(hint: str, digest: bytes, signature: bytes) -> None:
    bundle = MessageBundle(hint, digest, signature)
    assert parse_bundle(bundle.to_json(), subject="b") == bundle


def test_sign_message(make_key: Callable[..., PrivateKey]) -> None:
    key = make_key()
    bundle = parse_bundle(sign_message(key, b"data").to_json(), subject="b")
    assert bundle.key_hint == key.public.key_id
    assert bundle.digest == hashlib.sha256(b"data").digest()
    assert key.public.verify(bundle.signature, b"data")


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("verificationMaterial.tlogEntries", ABSENT),
        ("verificationMaterial.publicKey", {}),
        ("verificationMaterial.publicKey.hint", ""),
    ],
)
def test_what_may_be_absent(path: str, new: object) -> None:
    assert parse_bundle(changed(path, new), subject="b").signature == b"signature"


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("mediaType", ABSENT),
        ("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2"),
        ("mediaType", MEDIA_TYPE.upper()),
        ("mediaType", None),
        ("more", 1),
        ("verificationMaterial", ABSENT),
        ("verificationMaterial", []),
        ("verificationMaterial.more", 1),
        ("verificationMaterial.publicKey", ABSENT),
        ("verificationMaterial.publicKey", None),
        ("verificationMaterial.publicKey.more", 1),
        ("verificationMaterial.publicKey.hint", 1),
        ("verificationMaterial.publicKey.hint", "x" * 257),
        ("verificationMaterial.tlogEntries", [{}]),
        ("verificationMaterial.tlogEntries", None),
        ("verificationMaterial.tlogEntries", {}),
        ("verificationMaterial.publicKey.rawBytes", "AAAA"),
        ("verificationMaterial.timestampVerificationData", {"more": []}),
        ("verificationMaterial.timestampVerificationData", {"rfc3161Timestamps": [{}]}),
        ("verificationMaterial.timestampVerificationData", {"rfc3161Timestamps": ["AAAA"]}),
        ("verificationMaterial.timestampVerificationData", {"rfc3161Timestamps": {}}),
        ("verificationMaterial.certificate", {"rawBytes": ""}),
        ("messageSignature", ABSENT),
        ("messageSignature", "x"),
        ("messageSignature.more", 1),
        ("messageSignature.messageDigest", ABSENT),
        ("messageSignature.messageDigest.more", 1),
        ("messageSignature.messageDigest.algorithm", "SHA2_512"),
        ("messageSignature.messageDigest.algorithm", ABSENT),
        ("messageSignature.messageDigest.digest", ABSENT),
        ("messageSignature.messageDigest.digest", ""),
        ("messageSignature.messageDigest.digest", base64.b64encode(bytes(31)).decode()),
        ("messageSignature.messageDigest.digest", base64.b64encode(bytes(33)).decode()),
        ("messageSignature.messageDigest.digest", base64.b64encode(bytes(32)).decode() + "\n"),
        ("messageSignature.messageDigest.digest", "A" * 42 + "B="),
        ("messageSignature.messageDigest.digest", bytes(32).hex()),
        ("messageSignature.signature", ABSENT),
        ("messageSignature.signature", None),
        ("messageSignature.signature", ""),
        ("messageSignature.signature", base64.b64encode(bytes(1025)).decode()),
        ("messageSignature.signature", "aGVsbG9="),
        ("messageSignature.signature", "a-_="),
    ],
)
def test_what_is_refused(path: str, new: object) -> None:
    with pytest.raises(BundleError):
        parse_bundle(changed(path, new), subject="b")


def test_other_kinds_are_named() -> None:
    made = value()
    del made["messageSignature"]
    made["dsseEnvelope"] = {"payload": "", "payloadType": "", "signatures": []}
    with pytest.raises(BundleError, match="DSSE"):
        parse_bundle(json.dumps(made).encode(), subject="b")
    with pytest.raises(BundleError, match="transparency log") as caught:
        parse_bundle(changed("verificationMaterial.tlogEntries", [{}]), subject="b")
    assert "keyless" in (caught.value.hint or "")
    with pytest.raises(BundleError) as caught:
        parse_bundle(changed("mediaType", "application/json"), subject="b")
    assert MEDIA_TYPE in (caught.value.hint or "")


def test_texts_that_are_no_strict_json() -> None:
    raw = GOOD.to_json()
    signature = b'"signature":'
    for text in (
        b"",
        b"[]",
        b"null",
        b"<html>",
        b"\xef\xbb\xbf" + raw,
        raw.decode().encode("utf-16"),
        raw + raw,
        raw.replace(signature, b'"signature":"AAAA",' + signature),
        raw.replace(signature, b'"\\u0073ignature":"AAAA",' + signature),
        raw + b" " * MAX_BUNDLE_BYTES,
        b"[" * 100_000,
        raw.replace(b'"tlogEntries":[]', b'"tlogEntries":NaN'),
    ):
        with pytest.raises(BundleError):
            parse_bundle(text, subject="b")


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_nothing_else_escapes(raw: bytes, position: int, byte: int) -> None:
    flipped = bytearray(GOOD.to_json())
    flipped[position % len(flipped)] = byte
    for text in (raw, bytes(flipped)):
        with contextlib.suppress(BundleError):
            parse_bundle(text, subject="b")


# ------------------------------------------------------------------ certificates and timestamps


def test_certificates_and_timestamps_are_read_back() -> None:
    leaf, issuer, stamps = b"leaf", b"issuer", (b"first", b"second")
    for certificates in ((), (leaf,), (leaf, issuer)):
        hint = "" if certificates else GOOD.key_hint
        made = replace(GOOD, key_hint=hint, certificates=certificates, timestamps=stamps)
        assert parse_bundle(made.to_json(), subject="b") == made
    # Tools of OpenSSF Model Signing write chains in version 0.3.
    chain = replace(GOOD, key_hint="", certificates=(leaf, issuer))
    value = json.loads(chain.to_json())
    assert value["mediaType"] == CHAIN_MEDIA_TYPE
    value["mediaType"] = MEDIA_TYPE
    assert parse_bundle(json.dumps(value).encode(), subject="b") == chain
    # Version 0.2 is read for chains alone.
    for other in (GOOD, replace(GOOD, key_hint="", certificates=(leaf,))):
        value = json.loads(other.to_json())
        value["mediaType"] = CHAIN_MEDIA_TYPE
        with pytest.raises(BundleError, match=r"version 0\.2"):
            parse_bundle(json.dumps(value).encode(), subject="b")


@pytest.mark.parametrize(
    "material",
    [
        {},
        {"certificate": {}},
        {"certificate": {"rawBytes": "!"}},
        {"certificate": {"rawBytes": "AAAA", "more": 1}},
        {"certificate": {"rawBytes": "AAAA"}, "publicKey": {"hint": "x"}},
        {"x509CertificateChain": {"certificates": []}},
        {"x509CertificateChain": {"certificates": [{"rawBytes": "AAAA"}] * 17}},
        {"x509CertificateChain": {"certificates": ["AAAA"]}},
        {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{}]},
    ],
    ids=range(9),
)
def test_certificates_that_are_refused(material: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        parse_bundle(changed("verificationMaterial", material), subject="b")


def test_a_timestamp_is_added_and_nothing_else_changes(make_key: Callable[..., PrivateKey]) -> None:
    envelope = sign_envelope(make_key(), b"{}", "x/y")
    dsse = write_dsse_bundle(envelope, {"publicKey": {"hint": "k"}})
    chain = replace(GOOD, key_hint="", certificates=(b"leaf", b"issuer")).to_json()
    for raw, signature in (
        (GOOD.to_json(), GOOD.signature),
        (chain, GOOD.signature),
        (dsse, envelope.signatures[0].signature),
    ):
        assert signature_of(raw, subject="b") == signature
        assert count_timestamps(raw, subject="b") == 0
        once = with_timestamp(raw, b"first", subject="b")
        twice = with_timestamp(once, b"second", subject="b")
        assert count_timestamps(twice, subject="b") == 2
        value = json.loads(twice)
        data = value["verificationMaterial"].pop("timestampVerificationData")
        assert value == json.loads(raw)
        stamps = [base64.b64decode(one["signedTimestamp"]) for one in data["rfc3161Timestamps"]]
        assert stamps == [b"first", b"second"]
    assert parse_dsse_bundle(with_timestamp(dsse, b"1", subject="b"), subject="b").timestamps
    full = replace(GOOD, timestamps=(b"x",) * MAX_SIGNATURES).to_json()
    with pytest.raises(BundleError, match="no more"):
        with_timestamp(full, b"x", subject="b")
    with pytest.raises(BundleError):
        with_timestamp(b"{}", b"x", subject="b")


def test_no_timestamp_makes_a_bundle_unreadable() -> None:
    stamp = bytes(64 * 1024)
    full = replace(GOOD, timestamps=(stamp,) * 11).to_json()
    assert parse_bundle(full, subject="b").timestamps
    assert MAX_BUNDLE_BYTES > len(full) > MAX_BUNDLE_BYTES - 2 * len(stamp)
    with pytest.raises(BundleError, match="the cap is"):
        with_timestamp(full, stamp, subject="b")
