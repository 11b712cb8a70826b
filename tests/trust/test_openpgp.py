"""OpenPGP signatures of the one form that the Hub makes. Real ones: `tests/vectors/hub-commits`."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import OpenPgpError
from r1prov.trust.openpgp import (
    OpenPgpKey,
    parse_openpgp_key,
    verify_detached_text_signature,
)
from r1prov.trust.shipped import shipped_dir

PRIVATE = rsa.generate_private_key(65537, 2048)
KEY = OpenPgpKey(PRIVATE.public_key().public_numbers().n, 65537, 1_700_000_000)
TEXT = b"tree 0\nauthor \xe6\xb7\xb1\n\nmessage\n"


def sub(kind: int, body: bytes) -> bytes:
    return bytes((1 + len(body), kind)) + body


CREATED = sub(2, (1_700_000_001).to_bytes(4, "big"))
ISSUER = sub(16, bytes.fromhex(KEY.fingerprint()[-16:]))
FINGERPRINT = sub(33, b"\x04" + bytes.fromhex(KEY.fingerprint()))


def crc24(data: bytes) -> int:
    """Bit by bit as a remainder over the polynomial, other than the code under test."""
    remainder = int.from_bytes(b"\xb7\x04\xce", "big")
    for bit in (byte >> shift & 1 for byte in data for shift in range(7, -1, -1)):
        remainder = (remainder << 1) ^ (0x1864CFB if (remainder >> 23 & 1) ^ bit else 0)
    return remainder & 0xFFFFFF


@dataclass(frozen=True)
class Signature:
    """The parts of a signature; `armored` signs them as they are, right or wrong."""

    version: int = 4
    kind: int = 1
    algorithm: int = 1
    hash: int = 8
    hashed: bytes = CREATED + ISSUER + FINGERPRINT
    unhashed: bytes = b""
    signed: bytes | None = None
    left: bytes | None = None
    number_prefix: bytes = b""
    after: bytes = b""
    width: int = 64
    head: str = "-----BEGIN PGP SIGNATURE-----\n\n"
    tail: str = "\n-----END PGP SIGNATURE-----"
    checksum: int | None = None

    def packet(self, text: bytes = TEXT) -> bytes:
        start = bytes((self.version, self.kind, self.algorithm, self.hash))
        start += len(self.hashed).to_bytes(2, "big") + self.hashed
        signed = text.replace(b"\n", b"\r\n") if self.signed is None else self.signed
        signed += start + b"\x04\xff" + len(start).to_bytes(4, "big")
        digest = hashes.Hash(hashes.SHA256())
        digest.update(signed)
        number = PRIVATE.sign(signed, padding.PKCS1v15(), hashes.SHA256()).lstrip(b"\0")
        bits = int.from_bytes(number, "big").bit_length()
        return (
            start
            + len(self.unhashed).to_bytes(2, "big")
            + self.unhashed
            + (digest.finalize()[:2] if self.left is None else self.left)
            + bits.to_bytes(2, "big")
            + self.number_prefix
            + number
        )

    def armored(self, text: bytes = TEXT) -> str:
        body = self.packet(text)
        length = len(body) - 192
        return self.armor(bytes((0xC2, (length >> 8) + 192, length & 255)) + body + self.after)

    def armor(self, data: bytes) -> str:
        radix = base64.b64encode(data).decode()
        lines = [radix[i : i + self.width] for i in range(0, len(radix), self.width)]
        checksum = crc24(data) if self.checksum is None else self.checksum
        end = "=" + base64.b64encode(checksum.to_bytes(3, "big")).decode()
        return self.head + "\n".join([*lines, end]) + self.tail


GOOD = Signature()


def refuse(armored: str, text: bytes = TEXT, key: OpenPgpKey = KEY) -> None:
    with pytest.raises(OpenPgpError):
        verify_detached_text_signature(armored, text, key)


def test_a_good_signature() -> None:
    assert verify_detached_text_signature(GOOD.armored(), TEXT, KEY) == 1_700_000_001


def test_line_ends_are_signed_as_crlf() -> None:
    verify_detached_text_signature(GOOD.armored(), TEXT.replace(b"\n", b"\r\n"), KEY)
    refuse(replace(GOOD, signed=TEXT).armored())
    refuse(GOOD.armored(), TEXT.replace(b"\n", b"\r"))
    refuse(GOOD.armored(), TEXT + b"\n")
    refuse(GOOD.armored(), TEXT.replace(b"\n\n", b"\n \n"))


def test_unknown_subpackets_are_skipped_unless_critical() -> None:
    notation = sub(20, b"\0\0\0\0\0\x04\0\x10salt" + bytes(16))
    for hashed in (notation + GOOD.hashed, GOOD.hashed + notation):
        verify_detached_text_signature(replace(GOOD, hashed=hashed).armored(), TEXT, KEY)
    refuse(replace(GOOD, hashed=GOOD.hashed + sub(20 | 0x80, bytes(8))).armored())
    critical = sub(2 | 0x80, CREATED[2:]) + sub(16 | 0x80, ISSUER[2:])
    critical += sub(33 | 0x80, FINGERPRINT[2:])
    verify_detached_text_signature(replace(GOOD, hashed=critical).armored(), TEXT, KEY)
    verify_detached_text_signature(replace(GOOD, hashed=CREATED + FINGERPRINT).armored(), TEXT, KEY)


OTHER = bytes.fromhex(KEY.fingerprint())[::-1]


@pytest.mark.parametrize(
    "hashed",
    [
        b"",
        CREATED,
        CREATED + ISSUER,
        ISSUER + FINGERPRINT,
        CREATED + CREATED + FINGERPRINT,
        CREATED + FINGERPRINT + FINGERPRINT,
        CREATED + FINGERPRINT + sub(33, b"\x04" + OTHER),
        CREATED + sub(33, b"\x04" + OTHER),
        CREATED + sub(33, b"\x05" + bytes.fromhex(KEY.fingerprint())),
        CREATED + sub(33, bytes.fromhex(KEY.fingerprint())),
        CREATED + FINGERPRINT + sub(16, OTHER[:8]),
        CREATED + FINGERPRINT + sub(16, ISSUER[2:-1]),
        CREATED + FINGERPRINT + sub(3, (1).to_bytes(4, "big")),
        sub(2, b"\x65") + FINGERPRINT,
        sub(2, (1_699_999_999).to_bytes(4, "big")) + FINGERPRINT,
        CREATED + FINGERPRINT[:-1],
        CREATED + FINGERPRINT + b"\0",
        CREATED + FINGERPRINT + b"\xff",
        CREATED + FINGERPRINT + b"\x02\x14",
    ],
    ids=itertools.count(),  # the key is a new one in every process
)
def test_subpackets_that_are_refused(hashed: bytes) -> None:
    refuse(replace(GOOD, hashed=hashed).armored())


@pytest.mark.parametrize(
    "wrong",
    [
        replace(GOOD, version=3),
        replace(GOOD, version=6),
        replace(GOOD, kind=0),
        replace(GOOD, kind=2),
        replace(GOOD, algorithm=3),
        replace(GOOD, algorithm=17),
        replace(GOOD, hash=2),
        replace(GOOD, hash=10),
        replace(GOOD, unhashed=ISSUER),
        replace(GOOD, left=b"\0\0"),
        replace(GOOD, number_prefix=b"\0"),
        replace(GOOD, after=b"\0"),
        replace(GOOD, after=b"\xc2\x00"),
        replace(GOOD, width=76),
        replace(GOOD, width=63),
        replace(GOOD, width=10_000),
        replace(GOOD, checksum=0),
        replace(GOOD, head="-----BEGIN PGP SIGNATURE-----\nVersion: 1\n\n"),
        replace(GOOD, head="-----BEGIN PGP SIGNATURE-----\n"),
        replace(GOOD, head="-----BEGIN PGP SIGNATURE-----\n \n"),
        replace(GOOD, head="-----BEGIN PGP MESSAGE-----\n\n"),
        replace(GOOD, head="x\n-----BEGIN PGP SIGNATURE-----\n\n"),
        replace(GOOD, tail="\n-----END PGP SIGNATURE-----\n"),
        replace(GOOD, tail="\n-----END PGP SIGNATURE-----\nx"),
        replace(GOOD, tail="\n\n-----END PGP SIGNATURE-----"),
        replace(GOOD, tail="\n-----END PGP MESSAGE-----"),
    ],
    ids=range(26),
)
def test_forms_that_are_refused(wrong: Signature) -> None:
    refuse(wrong.armored())


def test_packets_that_are_refused() -> None:
    body = GOOD.packet()
    size = len(body)
    long = size - 192
    new = bytes(((long >> 8) + 192, long & 255))
    for head in (
        b"\xc1" + new,
        b"\x42" + new,
        b"\xc2\xff" + size.to_bytes(4, "big"),
        b"\xc2\xe8",
        b"\x8b",
        # The old format would be a second form of the same signature.
        b"\x89" + size.to_bytes(2, "big"),
        b"\x8a" + size.to_bytes(4, "big"),
        b"\xc2" + bytes((new[0], new[1] ^ 1)),
        b"\xc2",
        b"",
    ):
        refuse(GOOD.armor(head + body))
    for end in range(size):
        length = end if end < 192 else end - 192
        head = bytes((end,)) if end < 192 else bytes(((length >> 8) + 192, length & 255))
        refuse(GOOD.armor(b"\xc2" + head + body[:end]))
    for text in ("", "\n", "é", "\ud800", "-----BEGIN PGP SIGNATURE-----", "A" * 20_000):
        refuse(text)


def test_another_key() -> None:
    refuse(GOOD.armored(), key=replace(KEY, created=KEY.created + 1))
    other = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    refuse(GOOD.armored(), key=replace(KEY, modulus=other))
    # Another key under the right fingerprint cannot be made; one that claims it does not verify.
    claimed = replace(KEY, modulus=other)
    hashed = CREATED + sub(33, b"\x04" + bytes.fromhex(claimed.fingerprint()))
    refuse(replace(GOOD, hashed=hashed).armored(), key=claimed)


def test_every_byte_of_the_packet_counts() -> None:
    body = GOOD.packet()
    long = len(body) - 192
    head = bytes((0xC2, (long >> 8) + 192, long & 255))
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1 << (position % 8)
        refuse(GOOD.armor(head + bytes(changed)))


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.characters(), st.binary(max_size=600))
def test_nothing_else_escapes(position: int, character: str, packet: bytes) -> None:
    good = GOOD.armored()
    position %= len(good)
    changed = good[:position] + character + good[position + 1 :]
    for text in (changed, good[:position], GOOD.armor(packet), GOOD.armor(b"\xc2" + packet)):
        if text != good:
            with contextlib.suppress(OpenPgpError):
                verify_detached_text_signature(text, TEXT, KEY)
                pytest.fail("a changed signature verifies")


def shipped() -> dict[str, object]:
    value: dict[str, object] = json.loads(
        (shipped_dir("keys") / "huggingface-system-key.json").read_bytes()
    )
    return value


def test_the_hub_key() -> None:
    key = parse_openpgp_key(json.dumps(shipped()).encode(), subject="k")
    assert key.fingerprint() == "C8A817860F8BA646BF0612916A528E38E0733467"
    assert key.modulus.bit_length() == 4096


@pytest.mark.parametrize(
    "change",
    [
        {"n_hex": "00"},
        {"n_hex": None},
        {"n_hex": "z" * 1024},
        {"n_hex": "f" * 1024},
        {"e": 3},
        {"e": 1},
        {"e": True},
        {"e": "65537"},
        {"created_unix": 1},
        {"created_unix": -1},
        {"created_unix": 2**32},
        {"created_unix": 1.0},
        {"fingerprint": "0" * 40},
        {"fingerprint": None},
    ],
)
def test_a_changed_key_file(change: dict[str, object]) -> None:
    with pytest.raises(OpenPgpError):
        parse_openpgp_key(json.dumps({**shipped(), **change}).encode(), subject="k")


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"null", b'{"e":1,"e":1}'])
def test_files_that_are_no_key(raw: bytes) -> None:
    with pytest.raises(OpenPgpError):
        parse_openpgp_key(raw, subject="k")
