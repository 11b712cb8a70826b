"""Keys of API responses: strict readers, one algorithm a key, and what each key is good for.

A key is trusted because somebody put it into a policy, a trust store or a file that was named, or
because its thumbprint is pinned. A key set that a server sends is only compared with such pins:
being served proves nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from r1prov.errors import KeyFileError
from r1prov.limits import MAX_KEY_FILE_BYTES
from r1prov.responses import algorithms
from r1prov.responses.message import normal_authority, split_url
from r1prov.text import quoted
from r1prov.trust.keys import MAX_RSA_BITS, MIN_RSA_BITS, PublicKey, parse_private_key
from r1prov.trust.keys import parse_public_key as parse_trusted_key

_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
MIN_SECRET_BYTES: Final = 16
# The algorithm that a key has unless its record says another: RSA keys fit two.
_BY_TRUST: Final = {
    "ecdsa-p256-sha256": "ecdsa-p256-sha256",
    "ecdsa-p384-sha384": "ecdsa-p384-sha384",
    "ed25519": algorithms.ED25519,
    "rsa-pss-sha256": "rsa-pss-sha512",
}
_RSA: Final = ("rsa-pss-sha512", "rsa-v1_5-sha256")
ANY: Final = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ResponseKey:
    """A key that may verify responses, and what it is good for.

    Attributes:
        algorithm: The only one that it is used with.
        thumbprint: RFC 7638 with SHA-256, base64url; for an address, the address; for a shared
            secret, nothing that could be tried offline.
        names: What a message may call it (`keyid`, `kid`): its own id, the thumbprint, and the
            SHA-256 of its SubjectPublicKeyInfo in hex, as in the trust store.
        owner: Whose it is, as our own files say.
        source: Where it is from, for messages.
        origins: Origins that it may answer for: patterns of scheme, host and port.
        models: Patterns of models that it may answer as.
        valid_from: First moment of validity; None if it has no beginning.
        valid_until: First moment after it; None if it has no end.
        revoked_at: When it was revoked; None if it is not.
        revoked_reason: Why.
        address: `0x` and 40 digits; the key itself is known from its signatures.
    """

    algorithm: str
    thumbprint: str
    names: frozenset[str]
    owner: str = ""
    source: str = ""
    origins: tuple[str, ...] = ANY
    models: tuple[str, ...] = ANY
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    address: str | None = None
    material: Any = None

    def __repr__(self) -> str:
        return f"ResponseKey({self.algorithm}, {self.thumbprint})"

    @property
    def is_secret(self) -> bool:
        """Whether it is a shared secret: whoever verifies with it can also sign with it."""
        return self.algorithm == algorithms.HMAC

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` over `data` is by this key."""
        if self.material is None:
            return False
        return algorithms.check(self.algorithm, self.material, signature, data)

    def answers_for(self, origin: str) -> bool:
        """Whether an origin such as `https://api.example.com` is in scope."""
        return any(fnmatchcase(origin, pattern) for pattern in self.origins)

    def answers_as(self, model: str) -> bool:
        """Whether a model is in scope; upper and lower case differ."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)

    def called(self, name: str) -> ResponseKey:
        """The same key with one more name."""
        return replace(self, names=self.names | {name})


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A private key that signs responses. It never shows itself.

    Attributes:
        public: What verifies its signatures.
    """

    public: ResponseKey
    _material: Any

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        return algorithms.make(self.public.algorithm, self._material, data)


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL: lower case, without a default port.

    Raises:
        ResponseError: It is no absolute URL.
    """
    parts = split_url(url)
    scheme = parts.scheme.lower()
    return f"{scheme}://{normal_authority(parts.netloc.rpartition('@')[2], scheme)}"


def b64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64url(text: str) -> bytes | None:
    """Strict base64url without padding, one spelling a value. None if it is not that."""
    if re.fullmatch(r"[A-Za-z0-9_-]*", text) is None:
        return None
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None
    return data if b64url(data) == text else None


# ---- public keys --------------------------------------------------------------------------------


def key_of(
    public: PublicKey, *, algorithm: str | None = None, name: str | None = None, source: str = ""
) -> ResponseKey:
    """The response key of a public key of the trust store.

    Args:
        public: The key.
        algorithm: For RSA, which of its two it is used with; by default `rsa-pss-sha512`.
        name: What messages call it, besides its own ids.
        source: Where it is from, for messages.

    Raises:
        KeyFileError: No algorithm of HTTP signatures fits it, or not the one that was named.
    """
    known = _BY_TRUST.get(public.algorithm)
    if known is None:
        raise KeyFileError(
            f"{source or 'the key'} is {public.algorithm}, which no HTTP signature has",
            subject=source,
            hint=f"one of {', '.join(a for a in algorithms.ALGORITHMS if a != algorithms.HMAC)}",
        )
    if algorithm is not None and known in _RSA and algorithm in _RSA:
        known = algorithm
    if algorithm not in (None, known):
        raise KeyFileError(
            f"{source or 'the key'} is for {known}, not {quoted(algorithm or '')}", subject=source
        )
    print_ = thumbprint(public_members(public))
    names = frozenset({print_, public.key_id} | ({name} if name else set()))
    return ResponseKey(
        algorithm=known,
        thumbprint=print_,
        names=names,
        source=source,
        material=_loaded(public),
    )


def parse_public_key(
    pem: bytes, *, subject: str, algorithm: str | None = None, name: str | None = None
) -> ResponseKey:
    """Read one `PUBLIC KEY` PEM block.

    Raises:
        KeyFileError: Malformed, private, or of a kind that is not taken.
    """
    return key_of(
        parse_trusted_key(pem, subject=subject), algorithm=algorithm, name=name, source=subject
    )


def parse_signing_key(
    pem: bytes, passphrase: bytes | None, *, subject: str, algorithm: str | None = None
) -> SigningKey:
    """Read a PKCS#8 private key that is to sign responses.

    Raises:
        KeyFileError: Malformed, of a kind that is not taken, or the passphrase does not fit.
    """
    private = parse_private_key(pem, passphrase, subject=subject)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    public = key_of(private.public, algorithm=algorithm, source=subject)
    return SigningKey(public, load_pem_private_key(pem, passphrase))


def secret_key(secret: bytes, *, name: str, source: str = "") -> ResponseKey:
    """A shared secret for HMAC-SHA256. It shows integrity to its holders and proves nothing else.

    Raises:
        KeyFileError: Too short, or longer than a key file.
    """
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_KEY_FILE_BYTES:
        raise KeyFileError(
            f"{source or 'a shared secret'} has {len(secret)} bytes; at least {MIN_SECRET_BYTES} "
            "are taken",
            subject=source,
        )
    return ResponseKey(
        algorithm=algorithms.HMAC,
        thumbprint="",
        names=frozenset({name}),
        source=source,
        material=secret,
    )


def address_key(address: str, *, source: str = "") -> ResponseKey:
    """The holder of an Ethereum address, whose secp256k1 key shows in each signature.

    Raises:
        KeyFileError: It is no address.
    """
    lower = address.lower()
    if _ADDRESS.fullmatch(lower) is None:
        raise KeyFileError(
            f"{quoted(address, limit=80)} is no address: `0x` and 40 hexadecimal digits",
            subject=source,
        )
    return ResponseKey(
        algorithm=algorithms.EIP191,
        thumbprint=lower,
        names=frozenset({lower}),
        source=source,
        address=lower,
    )


def raw_ed25519_key(raw: bytes, *, source: str = "", name: str | None = None) -> ResponseKey:
    """The key of 32 bytes, as receipts write Ed25519 keys.

    Raises:
        KeyFileError: They are no key, or one for which anybody can sign.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise KeyFileError(f"{source or 'the key'} is no Ed25519 key", subject=source) from None
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return parse_public_key(pem, subject=source, name=name)


def _loaded(public: PublicKey) -> Any:  # noqa: ANN401 - a key of `cryptography`
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(public.spki)


def public_members(public: PublicKey) -> dict[str, str]:
    """The members of a JWK that make up a public key (RFC 7518 section 6, RFC 8037)."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key = _loaded(public)
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
    if isinstance(key, ec.EllipticCurvePublicKey):
        size = (key.key_size + 7) // 8
        point = key.public_numbers()
        return {
            "kty": "EC",
            "crv": f"P-{key.key_size}",
            "x": b64url(point.x.to_bytes(size, "big")),
            "y": b64url(point.y.to_bytes(size, "big")),
        }
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise KeyFileError("a key of this kind has no JWK here")
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(key.public_bytes_raw())}


def _integer(value: int) -> str:
    return b64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def thumbprint(members: dict[str, str]) -> str:
    """RFC 7638 with SHA-256: the required members in order, without spaces."""
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return b64url(hashlib.sha256(text.encode()).digest())


# The bounds of RSA moduli, for whoever reads a key set.
RSA_BITS: Final = (MIN_RSA_BITS, MAX_RSA_BITS)
