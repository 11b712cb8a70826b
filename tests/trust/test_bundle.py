"""Sigstore bundles: read strictly, so that no byte of a bundle file is free."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import BundleError
from r1prov.limits import MAX_BUNDLE_BYTES
from r1prov.trust.bundle import MEDIA_TYPE, MessageBundle, parse_bundle, sign_message
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
