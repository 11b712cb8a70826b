"""Signatures in the form that JOSE and HTTP message signatures share: ECDSA as r and s side by side.

RFC 7518 section 3.4 and RFC 9421 section 3.3.4 ask for both numbers at the curve's full width;
everything else of r1prov signs in DER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r1prov.trust.keys import PrivateKey, PublicKey

# Our name of an algorithm to that of RFC 7518 or RFC 8037, and to the width of r and s in bytes.
_NAMES = {
    "ed25519": ("EdDSA", None),
    "ecdsa-p256-sha256": ("ES256", 32),
    "ecdsa-p384-sha384": ("ES384", 48),
    "ecdsa-p521-sha512": ("ES512", 66),
    "rsa-pss-sha256": ("PS256", None),
}


def jws_name(algorithm: str) -> str:
    """The `alg` of JWS for a key's algorithm."""
    return _NAMES[algorithm][0]


def sign_raw(key: PrivateKey, data: bytes) -> bytes:
    """Sign `data`; an ECDSA signature is r and s, each of the curve's width."""
    signature = key.sign(data)
    width = _NAMES[key.public.algorithm][1]
    if width is None:
        return signature
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(signature)
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


def verify_raw(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature`, in the form of `sign_raw`, is by this key."""
    width = _NAMES[key.algorithm][1]
    if width is None:
        return key.verify(signature, data)
    if len(signature) != 2 * width:
        return False
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    r, s = (int.from_bytes(half, "big") for half in (signature[:width], signature[width:]))
    return key.verify(encode_dss_signature(r, s), data)
