"""Signing keys: a closed list of kinds, strict files, one algorithm a key.

The algorithm follows from the key and never from a message, so a message cannot choose a weaker
one. `cryptography` is imported inside the functions: most runs of r1prov check no signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from r1prov.errors import KeyFileError, UsageError
from r1prov.limits import MAX_KEY_FILE_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import (
        PrivateKeyTypes,
        PublicKeyTypes,
    )

# Names in the style of the Sigstore algorithm registry; the hash follows the curve.
ECDSA = {
    "secp256r1": ("ecdsa-p256-sha256", "SHA256"),
    "secp384r1": ("ecdsa-p384-sha384", "SHA384"),
    "secp521r1": ("ecdsa-p521-sha512", "SHA512"),
}
ED25519 = "ed25519"
RSA_PSS = "rsa-pss-sha256"
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
# What `cryptography` takes.
_MAX_PASSPHRASE_BYTES = 1023
GENERATED = ("ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "rsa-pss-3072")

_PUBLIC_LABEL = "PUBLIC KEY"
_PRIVATE_LABELS = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
_PEM = re.compile(
    rb"-----BEGIN ([A-Z0-9 ]{1,40})-----\r?\n((?:[A-Za-z0-9+/=]{1,76}\r?\n)+)-----END \1-----\s*"
)

# Edwards points of order 1, 2, 4 and 8 in every encoding (RFC 8032 §5.1.7; the list of
# "Taming the many EdDSAs", table 5, plus the sign-bit twins): under such a key one signature fits
# any message. `cryptography` accepts them.
_P = 2**255 - 19
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _P - 1,
        _P,
        _P + 1,
        2707385501144840649318225287225658788936804267575313519463743609750303402022,
        55188659117513257062467267217118295137698188065244968500265048394206261417927,
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """A public key that may verify signatures.

    Attributes:
        algorithm: Signature algorithm, fixed by the kind of key.
        spki: SubjectPublicKeyInfo, DER.
    """

    algorithm: str
    spki: bytes
    _key: Any

    @property
    def key_id(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo in hex: what a key is called everywhere."""
        return hashlib.sha256(self.spki).hexdigest()

    @property
    def key_id8(self) -> str:
        """First 8 digits of the key id, for file names. Never an identity."""
        return self.key_id[:8]

    def pem(self) -> bytes:
        """The key as one `PUBLIC KEY` PEM block."""
        text = base64.b64encode(self.spki).decode()
        lines = [text[i : i + 64] for i in range(0, len(text), 64)]
        return "\n".join(
            [f"-----BEGIN {_PUBLIC_LABEL}-----", *lines, f"-----END {_PUBLIC_LABEL}-----", ""]
        ).encode()

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether `signature` over `data` is by this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, data, *_scheme(self.algorithm))
        except (InvalidSignature, ValueError):
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.spki == other.spki

    def __hash__(self) -> int:
        return hash(self.spki)


class Signer(Protocol):
    """What signs: a private key at hand, or one that stays where it is, such as on a token."""

    @property
    def public(self) -> PublicKey:
        """Whose signatures these are."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, by the algorithm of `public`."""
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PrivateKey:
    """A private key that signs. It never shows itself: not in `repr`, not in an error."""

    public: PublicKey
    _key: Any

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        signed: bytes = self._key.sign(data, *_scheme(self.public.algorithm))
        return signed


def _scheme(algorithm: str) -> tuple[object, ...]:
    """What `cryptography` takes beside signature and data."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding

    if algorithm == ED25519:
        return ()
    if algorithm == RSA_PSS:
        digest = hashes.SHA256()
        return padding.PSS(padding.MGF1(digest), digest.digest_size), digest
    for name, hash_name in ECDSA.values():
        if name == algorithm:
            return (ec.ECDSA(getattr(hashes, hash_name)()),)
    raise AssertionError(algorithm)


def _pem_block(pem: bytes, subject: str) -> str:
    """The label of the only PEM block in a file.

    Raises:
        KeyFileError: Not exactly one block, or something around it.
    """
    if len(pem) > MAX_KEY_FILE_BYTES:
        raise KeyFileError("is too large for a key file", subject=subject)
    match = _PEM.fullmatch(pem)
    if match is None:
        count = pem.count(b"-----BEGIN ")
        what = f"has {count} PEM blocks" if count != 1 else "is not one well-formed PEM block"
        raise KeyFileError(
            f"{subject} {what}", subject=subject, hint="a key file holds one PEM block, no more"
        )
    return match.group(1).decode()


def parse_public_key(pem: bytes, *, subject: str) -> PublicKey:
    """Read a public key: P-256, P-384, P-521, Ed25519, or RSA of 2048 to 8192 bits.

    Raises:
        KeyFileError: Malformed, a kind not on the list, weak, or a private key.
    """
    label = _pem_block(pem, subject)
    if "PRIVATE" in label:
        raise KeyFileError(
            f"{subject} is a private key, and a public one is wanted",
            subject=subject,
            hint="use the .pub file; if the private key was published, revoke it",
        )
    if label != _PUBLIC_LABEL:
        raise KeyFileError(f"{subject} is a PEM {label}, not a {_PUBLIC_LABEL}", subject=subject)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{subject} is not a public key", subject=subject) from None
    return _public(key, subject)


def parse_public_key_der(spki: bytes, *, subject: str) -> PublicKey:
    """Read a SubjectPublicKeyInfo, of the kinds that `parse_public_key` takes.

    Raises:
        KeyFileError: Malformed, a kind not on the list, or weak.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{subject} is not a public key", subject=subject) from None
    return _public(key, subject)


def _public(key: PublicKeyTypes, subject: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ECDSA:
        algorithm = ECDSA[key.curve.name][0]
    elif isinstance(key, ed25519.Ed25519PublicKey):
        _refuse_small_order(key.public_bytes_raw(), subject)
        algorithm = ED25519
    elif isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise KeyFileError(
                f"{subject} is RSA with {key.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are "
                "taken",
                subject=subject,
            )
        algorithm = RSA_PSS
    else:
        raise KeyFileError(
            f"{subject} is of a kind that is not taken",
            subject=subject,
            hint="ECDSA P-256, P-384, P-521, Ed25519 and RSA are",
        )
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(algorithm, spki, key)


def _refuse_small_order(raw: bytes, subject: str) -> None:
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y in _SMALL_ORDER_Y or y >= _P:
        raise KeyFileError(
            f"{subject} is an Ed25519 key of small order or in a non-canonical encoding",
            subject=subject,
            hint="anyone can sign for such a key: do not trust it",
        )


def is_encrypted(pem: bytes) -> bool:
    """Whether a private key file needs a passphrase."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem


def parse_private_key(pem: bytes, passphrase: bytes | None, *, subject: str) -> PrivateKey:
    """Read a PKCS#8 private key.

    Raises:
        KeyFileError: Malformed, of a kind not on the list, or the passphrase does not fit. The
            message never holds anything of the key.
    """
    label = _pem_block(pem, subject)
    if label not in _PRIVATE_LABELS:
        raise KeyFileError(
            f"{subject} is a PEM {label}, not a PKCS#8 private key",
            subject=subject,
            hint="`openssl pkcs8 -topk8` converts older forms",
        )
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError:
        wanted = "needs a passphrase" if is_encrypted(pem) else "is not encrypted"
        raise KeyFileError(f"{subject} {wanted}", subject=subject) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"{subject} cannot be read: wrong passphrase, or not a private key", subject=subject
        ) from None
    return _private(key, subject)


def _private(key: PrivateKeyTypes, subject: str) -> PrivateKey:
    return PrivateKey(_public(key.public_key(), subject), key)


def generate_private_key(algorithm: str) -> PrivateKey:
    """Make a key, of one of the kinds in `GENERATED`.

    Raises:
        UsageError: Another kind was asked for.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    curves: dict[str, ec.EllipticCurve] = {
        "ecdsa-p256": ec.SECP256R1(),
        "ecdsa-p384": ec.SECP384R1(),
        "ecdsa-p521": ec.SECP521R1(),
    }
    if algorithm in curves:
        return _private(ec.generate_private_key(curves[algorithm]), "new key")
    if algorithm == "ed25519":
        return _private(ed25519.Ed25519PrivateKey.generate(), "new key")
    if algorithm == "rsa-pss-3072":
        return _private(rsa.generate_private_key(65537, 3072), "new key")
    raise UsageError(f"no key kind is called {algorithm}", hint=f"one of {', '.join(GENERATED)}")


def encode_private_key(key: PrivateKey, passphrase: bytes | None) -> bytes:
    """The key as PKCS#8 PEM, encrypted unless `passphrase` is None.

    Raises:
        UsageError: The passphrase is empty or too long.
    """
    from cryptography.hazmat.primitives import serialization as form

    if passphrase is not None and not 0 < len(passphrase) <= _MAX_PASSPHRASE_BYTES:
        raise UsageError(f"a passphrase has 1 to {_MAX_PASSPHRASE_BYTES} bytes")
    encryption: form.KeySerializationEncryption = (
        form.NoEncryption() if passphrase is None else form.BestAvailableEncryption(passphrase)
    )
    encoded: bytes = key._key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, encryption)
    return encoded


def decode_base64(text: str) -> bytes | None:
    """Strict base64: one spelling a value, so that no bit of a signed file is free. None if not."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if base64.b64encode(data).decode() == text else None
