"""Keccak-256 and EIP-191: vectors that were published, and the opinion of two libraries."""

import pytest
from Crypto.Hash import keccak
from cryptography.hazmat.primitives.asymmetric import ec
from eth_keys.exceptions import BadSignature
from eth_keys.main import KeyAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from receipts import N, address, wallet, wallet_signature
from signed import vectors

from r1prov.responses.secp256k1 import keccak256, message_digest, recover_address

REAL = [one for one in vectors("receipt")["vectors"] if one["id"].startswith("near-2025")]


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
    ],
)
def test_published_digests(data, digest):
    assert keccak256(data).hex() == digest


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.integers(134, 138).map(bytes)))
def test_keccak_is_that_of_pycryptodome(data):
    assert keccak256(data) == keccak.new(digest_bits=256, data=data).digest()


@pytest.mark.parametrize("vector", REAL, ids=lambda one: one["id"])
def test_real_receipts_recover_their_address(vector):
    raw, text = bytes.fromhex(vector["signature"][2:]), vector["text"].encode()
    assert recover_address(raw, text) == vector["signing_address"].lower()
    assert recover_address(raw, text + b" ") != vector["signing_address"].lower()


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=65, max_size=65), st.binary(max_size=40))
def test_what_is_recovered_is_what_eth_keys_recovers(raw, text):
    raw = raw[:64] + bytes([27 + raw[64] % 2])
    found = recover_address(raw, text)
    s = int.from_bytes(raw[32:64], "big")
    if 0 < s <= N // 2:  # eth-keys takes the larger s too
        try:
            signature = KeyAPI.Signature(raw[:64] + bytes([raw[64] - 27]))
            theirs = signature.recover_public_key_from_msg_hash(message_digest(text)).to_address()
        except (BadSignature, ValueError):
            theirs = None
        assert found == theirs
    else:
        assert found is None


def test_a_signature_has_one_spelling():
    raw = bytes.fromhex(wallet_signature("text")[2:])
    assert recover_address(raw, b"text") == address()
    r, s, v = raw[:32], int.from_bytes(raw[32:64], "big"), raw[64]
    twin = r + (N - s).to_bytes(32, "big") + bytes([55 - v])
    assert recover_address(twin, b"text") is None
    for wrong in (b"", raw[:64], raw + b"\0", raw[:64] + bytes([v - 27]), bytes(64) + b"\x1b"):
        assert recover_address(wrong, b"text") is None
    assert recover_address(N.to_bytes(32, "big") + raw[32:], b"text") is None
    assert recover_address(raw[:32] + bytes(32) + raw[64:], b"text") is None


def test_the_address_of_a_known_key():
    # The address of the private key 1, which everybody knows.
    point = ec.derive_private_key(1, ec.SECP256K1()).public_key().public_numbers()
    raw = point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
    assert keccak256(raw)[-20:].hex() == "7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    assert isinstance(wallet().curve, ec.SECP256K1)
