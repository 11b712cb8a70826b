"""OpenPGP signatures of Hub commits: RFC 4880, the one form that the Hub makes, nothing else.

A version 4 signature of type 0x01 (canonical text document), RSA with SHA-256, in ASCII armor
without headers. Strictness costs nothing here: the Hub's signatures have one shape, and every
liberty of the format is a place where two readers could disagree.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from r1prov.errors import FormatError, OpenPgpError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_KEY_FILE_BYTES
from r1prov.trust.keys import decode_base64

_ARMOR = re.compile(
    r"-----BEGIN PGP SIGNATURE-----\n\n"
    # Full lines and a rest: one way to lay out the same bytes.
    r"((?:[A-Za-z0-9+/=]{64}\n)*(?:[A-Za-z0-9+/=]{1,63}\n)?)=([A-Za-z0-9+/]{4})\n"
    r"-----END PGP SIGNATURE-----"
)
_MAX_ARMOR_CHARACTERS = 16_384
_NEW_PACKET, _TAG_SIGNATURE = 0xC0, 2
_VERSION = 4
_TYPE_CANONICAL_TEXT = 0x01
_ALGORITHM_RSA = 1
_HASH_SHA256 = 8
_SUB_CREATED, _SUB_ISSUER, _SUB_ISSUER_FINGERPRINT = 2, 16, 33
_KNOWN_SUBPACKETS = {_SUB_CREATED, _SUB_ISSUER, _SUB_ISSUER_FINGERPRINT}
# Changes what the signature is worth, critical or not, and there is no trusted time to judge it by.
_SUB_EXPIRES = 3
_MIN_BITS, _MAX_BITS = 2048, 8192
_KEY_FIELDS = {"algorithm", "bits", "e", "n_hex", "created_unix", "fingerprint"}


@dataclass(frozen=True, slots=True)
class OpenPgpKey:
    """An RSA public key with the creation time that its fingerprint covers."""

    modulus: int
    exponent: int
    created: int

    def fingerprint(self) -> str:
        """Version 4 fingerprint in upper-case hex (RFC 4880 §12.2)."""
        body = b"".join(
            (
                bytes((_VERSION,)),
                self.created.to_bytes(4, "big"),
                bytes((_ALGORITHM_RSA,)),
                _mpi(self.modulus),
                _mpi(self.exponent),
            )
        )
        prefix = b"\x99" + len(body).to_bytes(2, "big")
        return hashlib.sha1(prefix + body, usedforsecurity=False).hexdigest().upper()


def _mpi(value: int) -> bytes:
    """Multiprecision integer: bit count, then big-endian bytes (RFC 4880 §3.2)."""
    bits = value.bit_length()
    return bits.to_bytes(2, "big") + value.to_bytes((bits + 7) // 8, "big")


def parse_openpgp_key(raw: bytes, *, subject: str) -> OpenPgpKey:
    """Read a key file: JSON with `n_hex`, `e`, `created_unix` and the `fingerprint` they must give.

    Raises:
        OpenPgpError: Malformed, or the fingerprint is another.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_KEY_FILE_BYTES)
    except FormatError as error:
        raise OpenPgpError(f"{subject}: {error.message}", subject=subject) from None
    if not isinstance(value, dict) or not value.keys() >= _KEY_FIELDS:
        raise OpenPgpError(f"{subject} is not an OpenPGP key file", subject=subject)
    modulus, exponent, created = value["n_hex"], value["e"], value["created_unix"]
    if not (isinstance(modulus, str) and re.fullmatch(r"[0-9a-f]{512,2048}", modulus)):
        raise OpenPgpError(f"{subject}: `n_hex` is not a modulus in hex", subject=subject)
    if type(exponent) is not int or type(created) is not int or not 0 <= created < 2**32:
        raise OpenPgpError(f"{subject}: `e` or `created_unix` is no number", subject=subject)
    key = OpenPgpKey(int(modulus, 16), exponent, created)
    bits = key.modulus.bit_length()
    if not _MIN_BITS <= bits <= _MAX_BITS or not 3 <= exponent < 2**32 or exponent % 2 == 0:
        raise OpenPgpError(f"{subject}: not a usable RSA key of {bits} bits", subject=subject)
    if key.fingerprint() != value["fingerprint"]:
        raise OpenPgpError(f"{subject}: the fingerprint is not that of the key", subject=subject)
    return key


def verify_detached_text_signature(armored: str, data: bytes, key: OpenPgpKey) -> int:
    """Verify a signature over text and return the time it says it was made, in Unix seconds.

    Args:
        armored: The signature in ASCII armor.
        data: The signed text, with LF line ends; they are signed as CRLF (RFC 4880 §5.2.1).
        key: The key that must have signed.

    Raises:
        OpenPgpError: Malformed, by another key, or it does not verify. Nothing else is raised.
    """
    body = _packet_body(_dearmor(armored))
    hashed_length = _signature_head(body)
    hashed_end = 6 + hashed_length
    subpackets = _subpackets(body[6:hashed_end])
    unhashed_length = int.from_bytes(body[hashed_end : hashed_end + 2], "big")
    rest = hashed_end + 2 + unhashed_length
    # What is not hashed is not signed. The Hub puts nothing there, so nothing is accepted.
    if unhashed_length or len(body) < rest + 4:
        raise OpenPgpError("the signature packet has unhashed subpackets or is cut short")
    fingerprint = subpackets.get(_SUB_ISSUER_FINGERPRINT, b"")
    if fingerprint.hex().upper() != f"{_VERSION:02d}{key.fingerprint()}":
        raise OpenPgpError(f"signed by key {fingerprint[1:].hex().upper()}, not by the Hub's")
    issuer = subpackets.get(_SUB_ISSUER)
    if issuer is not None and issuer.hex().upper() != key.fingerprint()[-16:]:
        raise OpenPgpError("issuer and issuer fingerprint name different keys")
    created = subpackets.get(_SUB_CREATED, b"")
    if len(created) != 4:
        raise OpenPgpError("the signature has no creation time")
    if int.from_bytes(created, "big") < key.created:
        raise OpenPgpError("the signature says that it is older than its key")
    bits = int.from_bytes(body[rest + 2 : rest + 4], "big")
    integer = body[rest + 4 :]
    value = int.from_bytes(integer, "big")
    if len(integer) != (bits + 7) // 8 or value.bit_length() != bits or value >= key.modulus:
        raise OpenPgpError("the signature integer is malformed")
    text = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    # RFC 4880 §5.2.4: the hashed part, then version, 0xFF and its length as four octets.
    trailer = body[:hashed_end] + bytes((_VERSION, 0xFF)) + hashed_end.to_bytes(4, "big")
    digest = hashlib.sha256(text + trailer).digest()
    if digest[:2] != body[rest : rest + 2]:
        raise OpenPgpError("the signed text is another: the digest does not match")
    _verify_rsa(key, value, text + trailer)
    return int.from_bytes(created, "big")


def _verify_rsa(key: OpenPgpKey, signature: int, signed: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    size = (key.modulus.bit_length() + 7) // 8
    try:
        public = rsa.RSAPublicNumbers(key.exponent, key.modulus).public_key()
        public.verify(signature.to_bytes(size, "big"), signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        raise OpenPgpError("the signature does not verify") from None


def _dearmor(armored: str) -> bytes:
    """Bytes of an armored signature, its checksum checked (RFC 4880 §6)."""
    if len(armored) > _MAX_ARMOR_CHARACTERS:
        raise OpenPgpError("the signature is too long")
    match = _ARMOR.fullmatch(armored)
    if match is None:
        raise OpenPgpError("not an ASCII-armored signature without headers")
    data = decode_base64(match.group(1).replace("\n", ""))
    checksum = decode_base64(match.group(2))
    if data is None or checksum is None:
        raise OpenPgpError("the armor is not canonical base64")
    if _crc24(data) != int.from_bytes(checksum, "big"):
        raise OpenPgpError("the armor's checksum does not match")
    return data


def _crc24(data: bytes) -> int:
    """RFC 4880 §6.1."""
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def _packet_body(data: bytes) -> bytes:
    """The body of the only packet, which must be a signature (RFC 4880 §4.2)."""
    if len(data) < 3 or data[0] != _NEW_PACKET | _TAG_SIGNATURE:
        raise OpenPgpError("not an OpenPGP signature packet in the new format")
    length, start = data[1], 2
    if 192 <= length < 224:
        length, start = ((length - 192) << 8) + data[2] + 192, 3
    elif length >= 224:
        raise OpenPgpError("a packet length that no signature needs")
    if start + length != len(data):
        raise OpenPgpError("the packet is cut short, or something follows it")
    return data[start:]


def _signature_head(body: bytes) -> int:
    """Check the fixed part of a version 4 signature; the length of its hashed subpackets."""
    if len(body) < 8:
        raise OpenPgpError("the signature packet is cut short")
    wanted = (_VERSION, _TYPE_CANONICAL_TEXT, _ALGORITHM_RSA, _HASH_SHA256)
    if tuple(body[:4]) != wanted:
        raise OpenPgpError(
            "not a version 4 signature of canonical text by RSA with SHA-256 "
            f"(found {body[:4].hex()}, expected {bytes(wanted).hex()})"
        )
    length = int.from_bytes(body[4:6], "big")
    if 6 + length + 2 > len(body):
        raise OpenPgpError("the hashed subpackets are cut short")
    return length


def _subpackets(data: bytes) -> dict[int, bytes]:
    """Hashed subpackets that are known, by type (RFC 4880 §5.2.3.1); each at most once.

    An unknown one is skipped, as the RFC asks, unless it is marked as critical: newer writers add
    a random notation.
    """
    found: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        length = data[position]
        if not 1 <= length < 192 or position + 1 + length > len(data):
            raise OpenPgpError("a subpacket is malformed")
        critical, kind = data[position + 1] & 0x80, data[position + 1] & 0x7F
        if kind in found or kind == _SUB_EXPIRES or (critical and kind not in _KNOWN_SUBPACKETS):
            raise OpenPgpError(f"an unexpected subpacket of type {kind}")
        if kind in _KNOWN_SUBPACKETS:
            found[kind] = data[position + 2 : position + 1 + length]
        position += 1 + length
    return found
