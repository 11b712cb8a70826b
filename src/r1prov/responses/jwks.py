"""JSON Web Key Sets (RFC 7517), read strictly: public keys of the kinds that sign responses."""

from __future__ import annotations

import json
from typing import Any, Final

from r1prov.errors import JsonError, KeyFileError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_JWKS_BYTES, MAX_JWKS_KEYS
from r1prov.responses import algorithms
from r1prov.responses.keys import (
    RSA_BITS,
    ResponseKey,
    from_b64url,
    key_of,
    public_members,
    secret_key,
)
from r1prov.text import quoted
from r1prov.trust.keys import PublicKey
from r1prov.trust.keys import parse_public_key as parse_trusted_key

# RFC 7518 section 6: what makes a key private, in every kind.
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_SIZES: Final = {"P-256": 32, "P-384": 48}


def parse_jwks(raw: bytes, *, subject: str, secrets: bool = False) -> tuple[ResponseKey, ...]:
    """Every key of a set, or the key that a single JWK is.

    Args:
        raw: The JSON text.
        subject: Its name, for messages.
        secrets: Take symmetric keys (`oct`), which belong in no file that others see.

    Raises:
        KeyFileError: It is malformed, holds a private key, a key of a kind or size that is not
            taken, or two keys of one name.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_JWKS_BYTES, max_depth=8)
    except JsonError as error:
        raise KeyFileError(f"{subject}: {error.message}", subject=subject) from None
    if not isinstance(value, dict):
        raise KeyFileError(f"{subject} is no key set: not a JSON object", subject=subject)
    found = value.get("keys", [value])
    if not isinstance(found, list) or not 0 < len(found) <= MAX_JWKS_KEYS:
        raise KeyFileError(
            f"{subject}: `keys` must be an array of 1 to {MAX_JWKS_KEYS} keys", subject=subject
        )
    keys = tuple(_key(one, f"{subject} keys[{i}]", secrets=secrets) for i, one in enumerate(found))
    for i, key in enumerate(keys):
        for other in keys[:i]:
            both = sorted(key.names & other.names)
            if both:
                raise KeyFileError(
                    f"{subject} has two keys called {quoted(both[0])}",
                    subject=subject,
                    hint="a signature would not say which of them is meant",
                )
    return keys


def _key(value: object, subject: str, *, secrets: bool) -> ResponseKey:
    if not isinstance(value, dict):
        raise KeyFileError(f"{subject} is no JSON object", subject=subject)
    private = sorted(_PRIVATE & value.keys())
    if private:
        raise KeyFileError(
            f"{subject} holds a private key (member {private[0]})",
            subject=subject,
            hint="whoever reads this file can sign: revoke the key, publish public members only",
        )
    name, algorithm = _optional(value, "kid", subject), _optional(value, "alg", subject)
    operations = value.get("key_ops", ["verify"])
    verifies = isinstance(operations, list) and "verify" in operations
    if value.get("use", "sig") != "sig" or not verifies:
        raise KeyFileError(
            f"{subject} is not for verifying signatures (`use`, `key_ops`)", subject=subject
        )
    kind = _text(value, "kty", subject)
    if kind == "oct":
        return _secret(value, name, subject, secrets=secrets)
    wanted = algorithms.JOSE.get(algorithm, algorithm) if algorithm is not None else None
    if wanted is not None and wanted not in algorithms.ALGORITHMS:
        raise KeyFileError(
            f"{subject} is for {quoted(algorithm or '')}, which is not taken",
            subject=subject,
            hint=f"taken are {', '.join(algorithms.JOSE)}",
        )
    public = _public(kind, value, subject)
    key = key_of(public, algorithm=wanted, name=name, source=subject)
    members = public_members(public)
    if any(value.get(member) != text for member, text in members.items()):
        raise KeyFileError(f"{subject} is not written canonically", subject=subject)
    return key


def _secret(value: dict[str, Any], name: str | None, subject: str, *, secrets: bool) -> ResponseKey:
    if not secrets:
        raise KeyFileError(
            f"{subject} is a shared secret (`oct`), which belongs in no key set",
            subject=subject,
            hint="whoever reads this file can sign; HMAC is no proof of who answered",
        )
    if value.get("alg", "HS256") != "HS256" or name is None:
        raise KeyFileError(f"{subject} needs a `kid`, and is taken for HS256", subject=subject)
    return secret_key(_bytes(value, "k", subject), name=name, source=subject)


def _public(kind: str, value: dict[str, Any], subject: str) -> PublicKey:
    """The key as the trust store reads it, which refuses odd sizes and points."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    built: rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
    try:
        if kind == "RSA":
            modulus, exponent = (_whole(value, member, subject) for member in ("n", "e"))
            # The largest key that is taken is weighed before any arithmetic with it.
            if modulus.bit_length() > RSA_BITS[1] or exponent.bit_length() > 32:
                raise KeyFileError(f"{subject} is an RSA key of odd size", subject=subject)
            built = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        elif kind == "EC":
            curve = _text(value, "crv", subject)
            if curve not in _SIZES:
                raise KeyFileError(
                    f"{subject} is on curve {quoted(curve)}, which is not taken",
                    subject=subject,
                    hint=f"taken are {', '.join(_SIZES)}, and Ed25519 as OKP",
                )
            x, y = (_coordinate(value, member, curve, subject) for member in ("x", "y"))
            on = ec.SECP256R1() if curve == "P-256" else ec.SECP384R1()
            built = ec.EllipticCurvePublicNumbers(x, y, on).public_key()
        elif kind == "OKP" and value.get("crv") == "Ed25519":
            built = ed25519.Ed25519PublicKey.from_public_bytes(_bytes(value, "x", subject))
        else:
            raise KeyFileError(
                f"{subject} is of kind {quoted(kind)}, which is not taken",
                subject=subject,
                hint="RSA, EC and OKP with Ed25519 are",
            )
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{subject} is no valid {kind} key", subject=subject) from None
    pem = built.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return parse_trusted_key(pem, subject=subject)


def _text(value: dict[str, Any], member: str, subject: str) -> str:
    text = _optional(value, member, subject)
    if text is None:
        raise KeyFileError(f"{subject} lacks `{member}`", subject=subject)
    return text


def _optional(value: dict[str, Any], member: str, subject: str) -> str | None:
    text = value.get(member)
    if text is not None and not (isinstance(text, str) and 0 < len(text) <= 4096):
        raise KeyFileError(f"{subject}: `{member}` is no string", subject=subject)
    return text


def _bytes(value: dict[str, Any], member: str, subject: str) -> bytes:
    data = from_b64url(_text(value, member, subject))
    if data is None:
        raise KeyFileError(
            f"{subject}: `{member}` is not base64url without padding", subject=subject
        )
    return data


def _whole(value: dict[str, Any], member: str, subject: str) -> int:
    data = _bytes(value, member, subject)
    # RFC 7518 section 2: no leading zero octets.
    if not data or data[0] == 0:
        raise KeyFileError(f"{subject}: `{member}` is no positive integer", subject=subject)
    return int.from_bytes(data, "big")


def _coordinate(value: dict[str, Any], member: str, curve: str, subject: str) -> int:
    data = _bytes(value, member, subject)
    if len(data) != _SIZES[curve]:  # RFC 7518 section 6.2.1.2: the full size
        raise KeyFileError(
            f"{subject}: `{member}` has {len(data)} bytes; on {curve} it has {_SIZES[curve]}",
            subject=subject,
        )
    return int.from_bytes(data, "big")


def write_jwks(keys: list[tuple[PublicKey, str, str]]) -> bytes:
    """A key set to publish.

    Args:
        keys: For each key the key, its `kid`, and its algorithm as HTTP signatures call it.
    """
    entries = [
        public_members(public)
        | {"kid": name, "alg": algorithms.ALGORITHMS[algorithm].jose[0], "use": "sig"}
        for public, name, algorithm in keys
    ]
    return (json.dumps({"keys": entries}, indent=2) + "\n").encode()
