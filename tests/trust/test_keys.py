"""Keys: a closed list of kinds, strict files, and signatures that cannot be varied."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x25519
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import KeyFileError, UsageError
from r1prov.trust.keys import (
    GENERATED,
    PrivateKey,
    decode_base64,
    encode_private_key,
    generate_private_key,
    is_encrypted,
    parse_private_key,
    parse_public_key,
)

MakeKey = Callable[..., PrivateKey]
ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493


def pem_of(der: bytes, label: str = "PUBLIC KEY") -> bytes:
    text = base64.encodebytes(der).decode().replace("\n", "")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def public_pem(key: Any) -> bytes:
    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def private_pem(key: Any, form: str = "PKCS8") -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        getattr(serialization.PrivateFormat, form),
        serialization.NoEncryption(),
    )
    return pem


def unlock(pem: bytes, *, subject: str) -> PrivateKey:
    return parse_private_key(pem, b"a passphrase", subject=subject)


@pytest.mark.parametrize("algorithm", GENERATED)
def test_sign_verify_and_read_back(algorithm: str, make_key: MakeKey) -> None:
    key = make_key(algorithm)
    signature = key.sign(b"data")
    assert key.public.verify(signature, b"data")
    assert not key.public.verify(signature, b"dat4")
    assert not make_key(algorithm, 1).public.verify(signature, b"data")
    for changed in (
        b"",
        signature[:-1],
        signature + b"\0",
        b"\0" + signature,
        bytes(len(signature)),
    ):
        assert not key.public.verify(changed, b"data")

    public = parse_public_key(key.public.pem(), subject="k.pub")
    assert public == key.public
    assert hash(public) == hash(key.public)
    assert public.key_id == hashlib.sha256(public.spki).hexdigest()
    assert public.key_id8 == public.key_id[:8]
    assert public.verify(signature, b"data")

    for passphrase in (None, b"correct horse"):
        encoded = encode_private_key(key, passphrase)
        assert is_encrypted(encoded) is (passphrase is not None)
        again = parse_private_key(encoded, passphrase, subject="k")
        assert again.public == key.public
        assert key.public.verify(again.sign(b"x"), b"x")


def test_every_bit_of_an_rsa_signature_counts(make_key: MakeKey) -> None:
    key = make_key("rsa-pss-3072")
    signature = key.sign(b"data")
    for position in range(0, len(signature), 16):
        changed = bytearray(signature)
        changed[position] ^= 1 << (position % 8)
        assert not key.public.verify(bytes(changed), b"data")


def test_rsa_is_pss_with_a_salt_of_32_bytes_only(make_key: MakeKey) -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = parse_public_key(public_pem(private), subject="k")
    digest = hashes.SHA256()

    def pss(salt: int) -> padding.PSS:
        return padding.PSS(padding.MGF1(digest), salt)

    assert public.verify(private.sign(b"x", pss(32), digest), b"x")
    assert not public.verify(private.sign(b"x", pss(20), digest), b"x")
    assert not public.verify(private.sign(b"x", padding.PKCS1v15(), digest), b"x")
    assert not public.verify(private.sign(b"x", pss(32), hashes.SHA512()), b"x")


def test_the_hash_follows_the_curve() -> None:
    for curve, good in (
        (ec.SECP256R1(), "SHA256"),
        (ec.SECP384R1(), "SHA384"),
        (ec.SECP521R1(), "SHA512"),
    ):
        private = ec.generate_private_key(curve)
        public = parse_public_key(public_pem(private), subject="k")
        for name in ("SHA256", "SHA384", "SHA512"):
            signature = private.sign(b"x", ec.ECDSA(getattr(hashes, name)()))
            assert public.verify(signature, b"x") is (name == good)


def test_an_ed25519_signature_cannot_be_varied(make_key: MakeKey) -> None:
    key = make_key("ed25519")
    signature = key.sign(b"x")
    plus_order = int.from_bytes(signature[32:], "little") + L
    assert not key.public.verify(signature[:32] + plus_order.to_bytes(32, "little"), b"x")


SMALL_ORDER = [
    0,
    1,
    P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
]


@pytest.mark.parametrize("sign_bit", [0, 2**255])
@pytest.mark.parametrize("y", [*SMALL_ORDER, P, P + 1, P + 3, 2**255 - 1])
def test_ed25519_keys_that_anyone_can_sign_for(y: int, sign_bit: int) -> None:
    raw = (y + sign_bit).to_bytes(32, "little")
    with pytest.raises(KeyFileError):
        parse_public_key(pem_of(ED25519_SPKI + raw), subject="k")


def test_the_small_order_list_is_complete() -> None:
    """The order of each point with such a y divides 8, and there are all 8 of them."""
    d = -121665 * pow(121666, -1, P) % P

    def double(x: int, y: int) -> tuple[int, int]:
        t = d * x * x * y * y
        return 2 * x * y * pow(1 + t, -1, P) % P, (y * y + x * x) * pow(1 - t, -1, P) % P

    def x_of(y: int) -> int:
        square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
        x = pow(square, (P + 3) // 8, P)
        if x * x % P != square:
            x = x * pow(2, (P - 1) // 4, P) % P
        assert x * x % P == square
        return x

    points = {(sign * x_of(y) % P, y) for y in SMALL_ORDER for sign in (1, -1)}
    assert len(points) == 8
    for point in points:
        assert double(*double(*double(*point))) == (0, 1)


def refused_keys() -> dict[str, bytes]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cryptography.hazmat.primitives.asymmetric import dsa

        keys = {
            "secp256k1": ec.generate_private_key(ec.SECP256K1()),
            "brainpool": ec.generate_private_key(ec.BrainpoolP256R1()),
            "rsa-1024": rsa.generate_private_key(65537, 1024),
            "ed448": ed448.Ed448PrivateKey.generate(),
            "x25519": x25519.X25519PrivateKey.generate(),
            "dsa": dsa.generate_private_key(1024),
        }
        return {name: public_pem(key) for name, key in keys.items()}


@pytest.mark.parametrize("kind", ["secp256k1", "brainpool", "rsa-1024", "ed448", "x25519", "dsa"])
def test_kinds_not_on_the_list(kind: str) -> None:
    with pytest.raises(KeyFileError):
        parse_public_key(refused_keys()[kind], subject="k")


def test_an_rsa_key_whose_exponent_is_one_is_refused() -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key()
    der = numbers.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for exponent in (b"\0\0\x01", b"\0\0\x02", b"\x01\0\x02"):
        with pytest.raises(KeyFileError):
            parse_public_key(pem_of(der[:-3] + exponent), subject="k")


def test_files_that_are_not_one_public_key(make_key: MakeKey) -> None:
    pem = make_key().public.pem()
    der = make_key().public.spki
    private = private_pem(ec.generate_private_key(ec.SECP256R1()))
    for raw in (
        b"",
        b"\xff\xfe",
        pem + pem,
        pem + b"text\n",
        b"text\n" + pem,
        b" " + pem,
        pem.replace(b"PUBLIC KEY", b"CERTIFICATE"),
        pem.replace(b"-----END PUBLIC", b"-----END PRIVATE"),
        pem[:-30],
        pem_of(der + b"\0"),
        pem_of(der[:-1]),
        pem_of(der, "RSA PUBLIC KEY"),
        pem_of(b""),
        pem_of(bytes(64)),
        der,
        pem + b"\n" * 70_000,
        private,
        pem + private,
    ):
        with pytest.raises(KeyFileError):
            parse_public_key(raw, subject="k")


def test_a_private_key_is_named_and_not_shown() -> None:
    raw = private_pem(ec.generate_private_key(ec.SECP256R1()))
    for parse in (parse_public_key, unlock):
        with pytest.raises(KeyFileError) as caught:
            parse(raw, subject="k")
        error = caught.value
        shown = f"{error} {error.message} {error.hint} {error.__cause__} {error.__context__}"
        assert not any(line.decode() in shown for line in raw.splitlines()[1:-1])
    with pytest.raises(KeyFileError, match="private key"):
        parse_public_key(raw, subject="k")
    key = parse_private_key(raw, None, subject="k")
    assert raw.splitlines()[1].decode() not in repr(key)


def test_passphrases(make_key: MakeKey) -> None:
    key = make_key("ed25519")
    locked, plain = encode_private_key(key, b"right"), encode_private_key(key, None)
    with pytest.raises(KeyFileError, match="wrong passphrase"):
        parse_private_key(locked, b"wrong", subject="k")
    for nothing in (None, b""):
        with pytest.raises(KeyFileError, match="needs a passphrase"):
            parse_private_key(locked, nothing, subject="k")
    with pytest.raises(KeyFileError, match="is not encrypted"):
        parse_private_key(plain, b"right", subject="k")
    for bad in (b"", b"x" * 1024):
        with pytest.raises(UsageError):
            encode_private_key(key, bad)


def test_other_private_key_files_are_refused(make_key: MakeKey) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    for raw in (
        b"",
        private_pem(private, "TraditionalOpenSSL"),
        private_pem(ed25519.Ed25519PrivateKey.generate(), "OpenSSH"),
        private_pem(x25519.X25519PrivateKey.generate()),
        private_pem(ec.generate_private_key(ec.SECP256K1())),
        make_key().public.pem(),
        pem_of(bytes(64), "PRIVATE KEY"),
    ):
        with pytest.raises(KeyFileError):
            parse_private_key(raw, None, subject="k")


def test_an_unknown_kind_cannot_be_generated() -> None:
    with pytest.raises(UsageError):
        generate_private_key("dsa")


LABELS = ["PUBLIC KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]


@given(st.binary(max_size=200), st.sampled_from(LABELS))
def test_nothing_else_escapes(der: bytes, label: str) -> None:
    for raw in (der, pem_of(der, label)):
        for parse in (parse_public_key, unlock):
            with contextlib.suppress(KeyFileError):
                parse(raw, subject="k")


def test_base64_has_one_spelling() -> None:
    assert decode_base64("aGVsbG8=") == b"hello"
    assert decode_base64("") == b""
    for text in (
        "aGVsbG9=",
        "aGVsbG8",
        "aGVsbG8==",
        " aGVsbG8=",
        "aGVsbG8=\n",
        "aGVs bG8=",
        "-_-_",
        "é",
    ):
        assert decode_base64(text) is None
