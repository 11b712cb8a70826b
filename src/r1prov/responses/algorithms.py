"""Signature algorithms of API responses: a closed list, and what each is called where.

The names are those of the HTTP signature registry (RFC 9421 section 6.2). The algorithm belongs to
the key and never to the message, so no message can choose a weaker one (section 7.3.6).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

HMAC: Final = "hmac-sha256"
ED25519: Final = "ed25519"
# Over the raw text of a receipt, by the holder of an Ethereum address (`responses.secp256k1`).
EIP191: Final = "secp256k1-eip191"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One algorithm.

    Attributes:
        name: In the HTTP signature registry.
        jose: Its names in JWS and JWK (RFC 7518, RFC 8037, RFC 9864), the usual one first.
        kind: `rsa`, `ec`, `okp` or `oct`.
        curve: Of an EC key, as `cryptography` calls it.
        size: Bytes of one coordinate of an ECDSA signature, which is raw r and s.
        hash: Of the message.
    """

    name: str
    jose: tuple[str, ...]
    kind: str
    curve: str | None = None
    size: int = 0
    hash: str = ""


ALGORITHMS: Final[dict[str, Algorithm]] = {
    one.name: one
    for one in (
        Algorithm("rsa-pss-sha512", ("PS512",), "rsa", hash="SHA512"),
        Algorithm("rsa-v1_5-sha256", ("RS256",), "rsa", hash="SHA256"),
        Algorithm("ecdsa-p256-sha256", ("ES256",), "ec", "secp256r1", 32, "SHA256"),
        Algorithm("ecdsa-p384-sha384", ("ES384",), "ec", "secp384r1", 48, "SHA384"),
        Algorithm(ED25519, ("EdDSA", "Ed25519"), "okp"),
        Algorithm(HMAC, ("HS256",), "oct", hash="SHA256"),
    )
}
JOSE: Final[dict[str, str]] = {jose: one.name for one in ALGORITHMS.values() for jose in one.jose}


def check(algorithm: str, key: Any, signature: bytes, data: bytes) -> bool:  # noqa: ANN401
    """Whether a signature over `data` holds.

    Args:
        algorithm: A name of `ALGORITHMS`.
        key: Public key of `cryptography` that fits it; bytes for HMAC.
        signature: Of the exact length that the algorithm has; ECDSA is raw r and s.
        data: What was signed.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    one = ALGORITHMS[algorithm]
    if one.kind == "oct":
        return hmac.compare_digest(hmac.digest(key, data, hashlib.sha256), signature)
    if one.kind == "ec":
        if len(signature) != 2 * one.size:
            return False
        r, s = (int.from_bytes(half, "big") for half in _halves(signature))
        signature = encode_dss_signature(r, s)
    try:
        key.verify(signature, data, *_scheme(one))
    except (InvalidSignature, ValueError):
        return False
    return True


def make(algorithm: str, key: Any, data: bytes) -> bytes:  # noqa: ANN401
    """The signature over `data` by a private key of `cryptography`; bytes for HMAC."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    one = ALGORITHMS[algorithm]
    if one.kind == "oct":
        return hmac.digest(key, data, hashlib.sha256)
    signature: bytes = key.sign(data, *_scheme(one))
    if one.kind == "ec":
        r, s = decode_dss_signature(signature)
        return r.to_bytes(one.size, "big") + s.to_bytes(one.size, "big")
    return signature


def _halves(signature: bytes) -> tuple[bytes, bytes]:
    middle = len(signature) // 2
    return signature[:middle], signature[middle:]


def _scheme(one: Algorithm) -> tuple[Any, ...]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    if one.kind == "okp":
        return ()
    digest: hashes.HashAlgorithm = getattr(hashes, one.hash)()
    if one.kind == "ec":
        return (ec.ECDSA(digest),)
    if one.name == "rsa-v1_5-sha256":
        return padding.PKCS1v15(), digest
    # RFC 9421 section 3.3.1: salt of 64 bytes, MGF1 with SHA-512.
    return padding.PSS(padding.MGF1(hashes.SHA512()), 64), digest
