"""Signatures of Ethereum addresses: Keccak-256 and the recovery of a secp256k1 key (EIP-191).

By hand, because recovery is in no library that is kept well and light: the usual ones bring a
whole Ethereum stack or a compiler for these ninety lines. Only public values are handled, so time
tells nobody anything; and OpenSSL checks each signature again under the key that was recovered.
"""

from __future__ import annotations

from typing import Final

# FIPS 202 sections 3.2 and 3.3 with the padding of the original Keccak, as Ethereum uses it.
_RATE: Final = 136
_MASK: Final = (1 << 64) - 1

# SEC 2 section 2.4.1.
_P: Final = 2**256 - 2**32 - 977
_N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G: Final = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)
_SIGNATURE_BYTES: Final = 65
_Point = tuple[int, int] | None


def _round_constants() -> tuple[int, ...]:
    """The constants of step iota, from their shift register (section 3.2.5)."""
    constants, state = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            if state & 1:
                constant |= 1 << (2**j - 1)
            state = (state << 1) ^ (0x171 if state & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


def _offsets() -> tuple[int, ...]:
    """How far step rho turns each lane (section 3.2.2)."""
    offsets, (x, y) = [0] * 25, (1, 0)
    for t in range(24):
        offsets[x + 5 * y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return tuple(offsets)


_ROUNDS: Final = _round_constants()
_OFFSETS: Final = _offsets()


def _turn(lane: int, by: int) -> int:
    return ((lane << by) | (lane >> (64 - by))) & _MASK


def _permute(lanes: list[int]) -> list[int]:
    for constant in _ROUNDS:
        column = [
            lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]
            for x in range(5)
        ]
        mixed = [column[(x - 1) % 5] ^ _turn(column[(x + 1) % 5], 1) for x in range(5)]
        turned = [0] * 25
        for x in range(5):
            for y in range(5):
                lane = lanes[x + 5 * y] ^ mixed[x]
                turned[y + 5 * ((2 * x + 3 * y) % 5)] = _turn(lane, _OFFSETS[x + 5 * y])
        lanes = [
            turned[i] ^ (~turned[i - i % 5 + (i + 1) % 5] & turned[i - i % 5 + (i + 2) % 5])
            for i in range(25)
        ]
        lanes[0] ^= constant
    return lanes


def keccak256(data: bytes) -> bytes:
    """Keccak-256 as Ethereum has it, which is not SHA3-256."""
    padded = bytearray(data) + bytearray(_RATE - len(data) % _RATE)
    padded[len(data)] ^= 0x01
    padded[-1] ^= 0x80
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE):
        for i in range(_RATE // 8):
            at = start + 8 * i
            lanes[i] ^= int.from_bytes(padded[at : at + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _add(one: _Point, other: _Point) -> _Point:
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % _P == 0:
        return None
    rise, run = (3 * x1 * x1, 2 * y1) if one == other else (y2 - y1, x2 - x1)
    slope = rise * pow(run, -1, _P)
    x = (slope * slope - x1 - x2) % _P
    return x, (slope * (x1 - x) - y1) % _P


def _times(factor: int, point: _Point) -> _Point:
    result: _Point = None
    while factor:
        if factor & 1:
            result = _add(result, point)
        point, factor = _add(point, point), factor >> 1
    return result


def message_digest(text: bytes) -> bytes:
    """What a wallet signs for `text` (EIP-191, version 0x45)."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(text) + text)


def recover_address(signature: bytes, text: bytes) -> str | None:
    """The address whose holder signed `text`; None if the signature is none.

    Args:
        signature: r, s and v (27 or 28), 65 bytes. The larger of the two values that s could have
            is refused (EIP-2), so that nobody can write a signature anew.
        text: What was signed, without the prefix of EIP-191.
    """
    if len(signature) != _SIGNATURE_BYTES or signature[64] not in (27, 28):
        return None
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if not (0 < r < _N and 0 < s <= _N // 2):
        return None
    # SEC 1 section 4.1.6. An x of r + n exists for one in 2^128 signatures and has no v here.
    square = (pow(r, 3, _P) + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if y * y % _P != square:
        return None
    if y % 2 != signature[64] - 27:
        y = _P - y
    digest = message_digest(text)
    inverse = pow(r, -1, _N)
    key = _add(
        _times(s * inverse % _N, (r, y)),
        _times(-int.from_bytes(digest, "big") * inverse % _N, _G),
    )
    if key is None or not _openssl_agrees(key, r, s, digest):
        return None
    raw = key[0].to_bytes(32, "big") + key[1].to_bytes(32, "big")
    return "0x" + keccak256(raw)[-20:].hex()


def _openssl_agrees(key: tuple[int, int], r: int, s: int, digest: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    try:
        public = ec.EllipticCurvePublicNumbers(*key, ec.SECP256K1()).public_key()
        # The digest is Keccak's; `Prehashed` only asks how long it is.
        scheme = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        public.verify(utils.encode_dss_signature(r, s), digest, scheme)
    except (InvalidSignature, ValueError):
        return False
    return True
