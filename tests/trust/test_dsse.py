"""DSSE envelopes: what is signed is type and payload, and nothing of the JSON is free."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import BundleError, InputError, LimitExceeded
from r1prov.trust.dsse import (
    IN_TOTO_TYPE,
    DsseEnvelope,
    DsseSignature,
    parse_envelope,
    pre_authentication_encoding,
    sign_envelope,
)
from r1prov.trust.keys import GENERATED, PrivateKey, generate_private_key

KEY = generate_private_key("ecdsa-p256")
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}' + bytes(range(256))
ENVELOPE = sign_envelope(KEY, PAYLOAD, IN_TOTO_TYPE)
GOOD = ENVELOPE.to_value()


def test_encoding_of_the_specification() -> None:
    """The example of protocol.md, and lengths that count bytes and not characters."""
    assert (
        pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pre_authentication_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@given(st.text(max_size=9), st.binary(max_size=9), st.text(max_size=9), st.binary(max_size=9))
def test_no_two_payloads_encode_alike(a: str, b: bytes, c: str, d: bytes) -> None:
    same = pre_authentication_encoding(a, b) == pre_authentication_encoding(c, d)
    assert same == ((a, b) == (c, d))


@pytest.mark.parametrize("algorithm", GENERATED)
def test_signed_by(algorithm: str, make_key: Callable[..., PrivateKey]) -> None:
    key = make_key(algorithm)
    envelope = parse_envelope(
        json.loads(json.dumps(sign_envelope(key, PAYLOAD, "text/plain").to_value())), subject="e"
    )
    assert envelope.payload == PAYLOAD
    assert envelope.signed_by(key.public)
    assert not envelope.signed_by(make_key(algorithm, 1).public)
    other_type = DsseEnvelope(envelope.payload, "text/html", envelope.signatures)
    assert not other_type.signed_by(key.public)
    bare = DsseSignature(key.sign(PAYLOAD))
    assert not DsseEnvelope(PAYLOAD, "text/plain", (bare,)).signed_by(key.public)


def test_any_signature_may_be_the_one() -> None:
    twice = DsseEnvelope(PAYLOAD, IN_TOTO_TYPE, (DsseSignature(b"junk"), *ENVELOPE.signatures))
    assert twice.signed_by(KEY.public)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_payload_type_or_signature_is_free(position: int, flip: int) -> None:
    parts = [ENVELOPE.payload, IN_TOTO_TYPE.encode(), ENVELOPE.signatures[0].signature]
    position %= sum(map(len, parts))
    for number, part in enumerate(parts):
        if position < len(part):
            changed = bytearray(part)
            changed[position] ^= flip
            parts[number] = bytes(changed)
            break
        position -= len(part)
    envelope = DsseEnvelope(parts[0], parts[1].decode("latin-1"), (DsseSignature(parts[2]),))
    assert not envelope.signed_by(KEY.public)


@given(st.data())
def test_no_character_of_the_text_is_free_but_the_alphabet(data: st.DataObject) -> None:
    text = json.dumps(GOOD, separators=(",", ":"))
    position = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(min_codepoint=32, max_codepoint=126))
    changed = text[:position] + character + text[position + 1 :]
    try:
        envelope = parse_envelope(json.loads(changed), subject="e")
    except (InputError, ValueError):
        return
    if envelope.signed_by(KEY.public):
        assert changed == text or (text[position], character) in {("+", "-"), ("/", "_")}
        assert envelope == ENVELOPE


def changed(path: str, new: object) -> dict[str, Any]:
    made: Any = json.loads(json.dumps(GOOD))
    inner = made
    *parents, last = path.split(".")
    for name in parents:
        inner = inner[int(name) if name.isdigit() else name]
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    value: dict[str, Any] = made
    return value


@pytest.mark.parametrize("key_id", [..., None, "", "a key"])
def test_key_id_is_only_a_hint(key_id: object) -> None:
    envelope = parse_envelope(changed("signatures.0.keyid", key_id), subject="e")
    assert envelope.signed_by(KEY.public)


@pytest.mark.parametrize(
    ("path", "new"),
    [
        ("payload", ...),
        ("payload", None),
        ("payload", "aGVsbG9="[:-1]),
        ("payload", "aGVsbG8=\n"),
        ("payload", "aGVsbG9="),
        ("payload", "+-=="),
        ("payload", "ab+_"),
        ("payloadType", ...),
        ("payloadType", ""),
        ("payloadType", 1),
        ("payloadType", "x" * 257),
        ("signatures", ...),
        ("signatures", []),
        ("signatures", {}),
        ("signatures", [1]),
        ("signatures.0.sig", ...),
        ("signatures.0.sig", ""),
        ("signatures.0.sig", "A" * 1368 + "AAAA"),
        ("signatures.0.keyid", 1),
        ("signatures.0.keyid", "x" * 1025),
        ("signatures.0.more", 1),
        ("more", 1),
    ],
)
def test_what_is_refused(path: str, new: object) -> None:
    with pytest.raises(BundleError, match=r"^e: "):
        parse_envelope(changed(path, new), subject="e")


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_no_object(value: object) -> None:
    with pytest.raises(BundleError):
        parse_envelope(value, subject="e")


def test_url_safe_base64_is_the_other_alphabet() -> None:
    text = base64.urlsafe_b64encode(b"\xfb\xff\xfe").decode()
    assert text == "-__-"
    assert parse_envelope(changed("payload", text), subject="e").payload == b"\xfb\xff\xfe"


def test_too_many_signatures() -> None:
    with pytest.raises(LimitExceeded):
        parse_envelope(changed("signatures", [{"sig": "AAAA"}] * 33), subject="e")
    assert parse_envelope(changed("signatures", [{"sig": "AAAA"}] * 32), subject="e").signatures
