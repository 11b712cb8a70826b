"""DSSE envelopes: strict to read, and not a bit of what is signed is free."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import BundleError, LimitExceeded, R1ProvError
from r1prov.trust.bundle import parse_bundle, sign_message
from r1prov.trust.dsse import (
    IN_TOTO_PAYLOAD_TYPE,
    DsseBundle,
    pae,
    parse_dsse_bundle,
    sign_envelope,
    verify_envelope,
)
from r1prov.trust.keys import GENERATED, PrivateKey, generate_private_key

PAYLOAD = '{"_type":"https://in-toto.io/Statement/v1","满":"血"}'.encode()
KEY = generate_private_key("ed25519")
RAW = sign_envelope(KEY, IN_TOTO_PAYLOAD_TYPE, PAYLOAD)
MakeKey = Callable[..., PrivateKey]


def test_pae_is_that_of_the_specification() -> None:
    """The example of DSSE's protocol.md, and lengths that count bytes."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("满", "血".encode()) == b"DSSEv1 3 \xe6\xbb\xa1 3 \xe8\xa1\x80"


@pytest.mark.parametrize("algorithm", GENERATED)
def test_every_kind_of_key_signs_and_no_other_key_fits(algorithm: str, make_key: MakeKey) -> None:
    key, other = make_key(algorithm, 0), make_key(algorithm, 1)
    bundle = parse_dsse_bundle(sign_envelope(key, "t/x", PAYLOAD), "b")
    assert (bundle.payload_type, bundle.payload) == ("t/x", PAYLOAD)
    assert bundle.key_hint == key.public.key_id
    assert verify_envelope(bundle, key.public)
    assert not verify_envelope(bundle, other.public)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_no_byte_of_payload_type_or_signature_is_free(data: st.DataObject) -> None:
    bundle = parse_dsse_bundle(RAW, "b")
    field = data.draw(st.sampled_from(["payload", "signature", "payload_type"]))
    value = getattr(bundle, field)
    content = bytearray(value.encode() if isinstance(value, str) else value)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 127))
    parts: dict[str, Any] = {
        "key_hint": bundle.key_hint,
        "payload_type": bundle.payload_type,
        "payload": bundle.payload,
        "signature": bundle.signature,
        field: content.decode() if isinstance(value, str) else bytes(content),
    }
    assert verify_envelope(bundle, KEY.public)
    assert not verify_envelope(DsseBundle(**parts), KEY.public)


@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
@settings(max_examples=600, deadline=None)
def test_a_changed_file_is_malformed_or_not_signed_or_says_the_same(at: int, flip: int) -> None:
    """Only what is not signed can change without notice: the hints."""
    changed = bytearray(RAW)
    changed[at] ^= flip
    try:
        bundle = parse_dsse_bundle(bytes(changed), "b")
    except BundleError:
        return
    if verify_envelope(bundle, KEY.public):
        assert (bundle.payload_type, bundle.payload) == (IN_TOTO_PAYLOAD_TYPE, PAYLOAD)


@given(st.binary(max_size=200))
def test_nothing_but_our_errors_comes_out(raw: bytes) -> None:
    with pytest.raises(R1ProvError):
        parse_dsse_bundle(raw, "b")


def _with(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(RAW)
    change(value)
    return json.dumps(value).encode()


SIGNATURE = json.loads(RAW)["dsseEnvelope"]["signatures"][0]
MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no signature": (lambda v: v["dsseEnvelope"].update(signatures=[]), "exactly one"),
    "two": (lambda v: v["dsseEnvelope"].update(signatures=[SIGNATURE] * 2), "exactly one"),
    "not a list": (lambda v: v["dsseEnvelope"].update(signatures={}), "exactly one"),
    "null": (lambda v: v["dsseEnvelope"].update(signatures=[None]), "not an object"),
    "no payload": (lambda v: v["dsseEnvelope"].pop("payload"), "canonical base64"),
    "loose base64": (lambda v: v["dsseEnvelope"].update(payload="YQ"), "canonical base64"),
    "free bits": (lambda v: v["dsseEnvelope"].update(payload="YR=="), "canonical base64"),
    "no type": (lambda v: v["dsseEnvelope"].pop("payloadType"), "payloadType"),
    "long type": (lambda v: v["dsseEnvelope"].update(payloadType="x" * 300), "payloadType"),
    "unknown": (lambda v: v["dsseEnvelope"].update(x=1), "unknown member 'x'"),
    "keyid": (
        lambda v: v["dsseEnvelope"].update(signatures=[SIGNATURE | {"keyid": 1}]),
        "keyid",
    ),
    "extra": (lambda v: v["dsseEnvelope"].update(signatures=[SIGNATURE | {"x": 1}]), "unknown"),
    "empty": (
        lambda v: v["dsseEnvelope"].update(signatures=[SIGNATURE | {"sig": ""}]),
        "0 bytes",
    ),
    "certificate": (
        lambda v: v.update(verificationMaterial={"certificate": {}}),
        "names no public key",
    ),
    "log": (lambda v: v["verificationMaterial"].update(tlogEntries=[{}]), "transparency log"),
    "media type": (lambda v: v.update(mediaType="x"), "mediaType"),
    "no envelope": (lambda v: v.pop("dsseEnvelope"), "dsseEnvelope is missing"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_loose_bundles_are_refused(name: str) -> None:
    change, message = MALFORMED[name]
    with pytest.raises(BundleError, match=message):
        parse_dsse_bundle(_with(change), "b")


def test_other_writers_leave_the_keyid_empty() -> None:
    for keyid in (None, ""):
        signature = SIGNATURE | {"keyid": keyid}
        value = json.loads(RAW)
        value["dsseEnvelope"]["signatures"] = [signature]
        bundle = parse_dsse_bundle(json.dumps(value).encode(), "b")
        assert verify_envelope(bundle, KEY.public)


def test_the_two_kinds_of_bundle_are_not_mistaken_for_one_another() -> None:
    with pytest.raises(BundleError, match="message signature, not a DSSE envelope"):
        parse_dsse_bundle(sign_message(KEY, PAYLOAD).to_json(), "b")
    with pytest.raises(BundleError, match="DSSE envelope, not a message signature"):
        parse_bundle(RAW, subject="b")


def test_what_would_not_be_read_is_not_written() -> None:
    with pytest.raises(LimitExceeded, match="the cap is"):
        sign_envelope(KEY, IN_TOTO_PAYLOAD_TYPE, b"x" * 1_000_000)


def test_securesystemslib_takes_our_envelopes_and_refuses_altered_ones(make_key: MakeKey) -> None:
    """The DSSE implementation of the in-toto and TUF projects."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    for algorithm, kind, scheme in (
        ("ed25519", "ed25519", "ed25519"),
        ("ecdsa-p256", "ecdsa", "ecdsa-sha2-nistp256"),
        ("ecdsa-p384", "ecdsa", "ecdsa-sha2-nistp384"),
        ("rsa-pss-3072", "rsa", "rsassa-pss-sha256"),
    ):
        key = make_key(algorithm)
        public = key.public.spki[-32:].hex() if kind == "ed25519" else key.public.pem().decode()
        theirs = SSlibKey(key.public.key_id, kind, scheme, {"public": public})
        value = json.loads(sign_envelope(key, IN_TOTO_PAYLOAD_TYPE, PAYLOAD))["dsseEnvelope"]
        envelope = Envelope.from_dict(json.loads(json.dumps(value)))
        assert envelope.payload == PAYLOAD
        assert set(envelope.verify([theirs], 1)) == {key.public.key_id}
        value["payload"] = base64.b64encode(PAYLOAD + b" ").decode()
        with pytest.raises(VerificationError):
            Envelope.from_dict(value).verify([theirs], 1)
