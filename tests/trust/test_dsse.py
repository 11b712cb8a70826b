"""DSSE envelopes: what is signed is type and payload, and nothing of the JSON is free."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import BundleError, InputError, LimitExceeded, R1ProvError
from r1prov.trust.bundle import (
    ChainMaterial,
    KeylessMaterial,
    KeyMaterial,
    parse_bundle,
    parse_dsse_bundle,
    sign_message,
    write_dsse_bundle,
)
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
BUNDLE = write_dsse_bundle(ENVELOPE, {"publicKey": {"hint": KEY.public.key_id}})


def test_encoding_of_the_specification() -> None:
    """The example of protocol.md, and lengths that count bytes and not characters."""
    assert (
        pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pre_authentication_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "
    assert (
        pre_authentication_encoding("满", "血".encode()) == b"DSSEv1 3 \xe6\xbb\xa1 3 \xe8\xa1\x80"
    )


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


# --- in a Sigstore bundle ------------------------------------------------------------------------


def test_a_bundle_is_read_back() -> None:
    bundle = parse_dsse_bundle(BUNDLE, subject="b")
    assert bundle.envelope == ENVELOPE
    assert bundle.material == KeyMaterial(KEY.public.key_id)
    assert (bundle.log_entries, bundle.timestamps, bundle.raw) == (0, (), BUNDLE)
    assert BUNDLE.endswith(b"}\n")
    assert BUNDLE.count(b"\n") == 1


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
@settings(max_examples=600, deadline=None)
def test_a_changed_file_is_malformed_or_not_signed_or_says_the_same(at: int, flip: int) -> None:
    """Only what is not signed can change without notice: the hints."""
    altered = bytearray(BUNDLE)
    altered[at] ^= flip
    try:
        bundle = parse_dsse_bundle(bytes(altered), subject="b")
    except BundleError:
        return
    if bundle.envelope.signed_by(KEY.public):
        assert (bundle.envelope.payload_type, bundle.envelope.payload) == (IN_TOTO_TYPE, PAYLOAD)


@given(st.binary(max_size=200))
def test_nothing_but_our_errors_comes_out(raw: bytes) -> None:
    with pytest.raises(R1ProvError):
        parse_dsse_bundle(raw, subject="b")


def _of(**members: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value["dsseEnvelope"].update(members)


def _material(**members: object) -> Callable[[dict[str, Any]], object]:
    return lambda value: value.update(verificationMaterial=members)


SIGNATURE = json.loads(BUNDLE)["dsseEnvelope"]["signatures"][0]
CERTIFICATE = {"rawBytes": "AAAA"}
MALFORMED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no signature": (_of(signatures=[]), "no signatures"),
    "two": (_of(signatures=[SIGNATURE] * 2), "exactly one"),
    "null": (_of(signatures=[None]), "not an object"),
    "loose base64": (_of(payload="YQ"), "canonical base64"),
    "free bits": (_of(payload="YR=="), "canonical base64"),
    "surrogate": (_of(payloadType="\ud800"), "surrogate"),
    "unknown": (_of(x=1), "unknown member `x`"),
    "extra": (lambda v: v.update(x=1), "unknown member 'x'"),
    "media type": (lambda v: v.update(mediaType="x"), "mediaType"),
    "no envelope": (lambda v: v.pop("dsseEnvelope"), "envelope is missing"),
    "no material": (_material(), "has none"),
    "two materials": (_material(publicKey={}, certificate=CERTIFICATE), "must have one of"),
    "unknown material": (_material(publicKey={}, x=1), "unknown member 'x'"),
    "hint": (_material(publicKey={"hint": 1}), "key hint"),
    "long hint": (_material(publicKey={"hint": "x" * 257}), "key hint"),
    "details": (_material(publicKey={"keyDetails": 1}), "keyDetails"),
    "key": (_material(publicKey={"rawBytes": "A"}), "canonical base64"),
    "log": (_material(publicKey={}, tlogEntries={}), "tlogEntries"),
    "log entry": (_material(publicKey={}, tlogEntries=[1]), "log entry"),
    "no log": (_material(certificate=CERTIFICATE), "no transparency log entry"),
    "empty chain": (_material(x509CertificateChain={"certificates": []}), "0 certificates"),
    "certificate": (_material(x509CertificateChain={"certificates": [{}]}), "canonical base64"),
    "timestamp": (
        _material(publicKey={}, timestampVerificationData={"rfc3161Timestamps": [{}]}),
        "canonical base64",
    ),
}


def altered(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(BUNDLE)
    change(value)
    return json.dumps(value).encode()


@pytest.mark.parametrize("name", MALFORMED)
def test_loose_bundles_are_refused(name: str) -> None:
    change, message = MALFORMED[name]
    with pytest.raises(BundleError, match=message):
        parse_dsse_bundle(altered(change), subject="b")


def test_three_kinds_of_material() -> None:
    chain = _material(x509CertificateChain={"certificates": [CERTIFICATE]})
    keyless = _material(certificate=CERTIFICATE, tlogEntries=[{}])
    stamped = _material(
        publicKey={"hint": None, "rawBytes": "AAAA", "keyDetails": "x"},
        timestampVerificationData={"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]},
    )
    for change, material, entries, stamps in (
        (chain, ChainMaterial((bytes(3),)), 0, ()),
        (keyless, KeylessMaterial(bytes(3)), 1, ()),
        (stamped, KeyMaterial("", bytes(3)), 0, (bytes(3),)),
    ):
        bundle = parse_dsse_bundle(altered(change), subject="b")
        assert (bundle.material, bundle.log_entries) == (material, entries)
        assert bundle.timestamps == stamps
        assert bundle.envelope.signed_by(KEY.public)


def test_the_two_kinds_of_bundle_are_not_mistaken_for_one_another() -> None:
    with pytest.raises(BundleError, match="message signature, not a DSSE envelope"):
        parse_dsse_bundle(sign_message(KEY, PAYLOAD).to_json(), subject="b")
    with pytest.raises(BundleError, match="DSSE envelope, not a message signature"):
        parse_bundle(BUNDLE, subject="b")


# --- by others -----------------------------------------------------------------------------------


def test_securesystemslib_takes_our_envelopes_and_refuses_altered_ones(
    make_key: Callable[..., PrivateKey],
) -> None:
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
        key_id = key.public.key_id
        public = key.public.spki[-32:].hex() if kind == "ed25519" else key.public.pem().decode()
        theirs = SSlibKey(key_id, kind, scheme, {"public": public})
        value: Any = sign_envelope(key, PAYLOAD, IN_TOTO_TYPE, key_id=key_id).to_value()
        envelope = Envelope.from_dict(json.loads(json.dumps(value)))
        assert envelope.payload == PAYLOAD
        assert set(envelope.verify([theirs], 1)) == {key_id}
        value["payload"] = base64.b64encode(PAYLOAD + b" ").decode()
        with pytest.raises(VerificationError):
            Envelope.from_dict(value).verify([theirs], 1)
