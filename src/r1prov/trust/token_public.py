"""The public half of a key on a PKCS#11 token, as a `PublicKey` of the kinds that are taken.

A private key object need not tell it. It stands in a public key or a certificate beside it with the
same id, or, for RSA, in the private key itself.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from r1prov.errors import KeyFileError, TokenError
from r1prov.limits import MAX_TOKEN_OBJECTS
from r1prov.trust.certificates import parse_certificate
from r1prov.trust.keys import PublicKey, parse_public_key_der

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurve
    from pkcs11 import Attribute, Object, Session

# CKA_EC_PARAMS (DER): the curve's object identifier (SEC 2, RFC 8410), or the name that PKCS#11
# v3.0 section 2.3.5 gives Ed25519. And the bytes of a point: 04 and two coordinates, or 32.
_CURVES: Final = {
    bytes.fromhex("06082a8648ce3d030107"): ("secp256r1", 65),
    bytes.fromhex("06052b81040022"): ("secp384r1", 97),
    bytes.fromhex("06052b81040023"): ("secp521r1", 133),
    bytes.fromhex("06032b6570"): ("ed25519", 32),
    bytes.fromhex("130c") + b"edwards25519": ("ed25519", 32),
}


def attribute(item: Object, name: Attribute) -> Any:  # noqa: ANN401 - bytes, str, bool or enum
    """One attribute of an object, or None where the token has or shows none."""
    import pkcs11

    try:
        return item[name]
    except (
        pkcs11.AttributeTypeInvalid,
        pkcs11.AttributeSensitive,
        pkcs11.FunctionFailed,  # python-pkcs11, for an attribute that is there and has no value
        KeyError,
        IndexError,
    ):
        return None


def public_key_of(session: Session, key: Object, name: str) -> PublicKey:
    """The public half of a private key object.

    Raises:
        TokenError: The token does not show it, shows several, or the key is of a kind that is not
            taken.
    """
    from pkcs11 import Attribute, KeyType

    is_rsa = attribute(key, Attribute.KEY_TYPE) == KeyType.RSA
    if is_rsa and attribute(key, Attribute.PUBLIC_EXPONENT):
        return _from_object(key, name)
    key_id, label = attribute(key, Attribute.ID), attribute(key, Attribute.LABEL)
    # PKCS#11 v2.40 section 4.4: the id is what a pair has in common. But some tools give every pair
    # the same, and some give none, so the label counts too.
    by_id, by_label = {Attribute.ID: key_id}, {Attribute.LABEL: label}
    searches = (by_id | by_label, by_id) if key_id else (by_label,)
    found = None
    for search in searches if key_id or label else ():
        found = found or shown_public_key(session, search, name)
    if found is None:
        raise TokenError(
            f"{name}: the token shows no public key for this private one",
            subject=name,
            hint="put its public key or its certificate onto the token, with the same id",
        )
    return found


def shown_public_key(
    session: Session, wanted: Mapping[Attribute, str | bytes], name: str
) -> PublicKey | None:
    """The public key that the token's public keys, or else its certificates, of a kind agree on.

    Raises:
        TokenError: They differ, or it is of a kind that is not taken.
    """
    from pkcs11 import Attribute, ObjectClass

    for kind, read in (
        (ObjectClass.PUBLIC_KEY, _from_object),
        (ObjectClass.CERTIFICATE, _from_certificate),
    ):
        search = {Attribute.CLASS: kind, **wanted}
        objects = list(islice(session.get_objects(search), MAX_TOKEN_OBJECTS))
        keys = {read(one, name) for one in objects}
        if len(keys) > 1:
            raise TokenError(
                f"{name}: {len(keys)} different public keys fit",
                subject=name,
                hint="say which by object= (the label) or id= (the CKA_ID)",
            )
        if keys:
            return keys.pop()
    return None


def _from_certificate(item: Object, name: str) -> PublicKey:
    from pkcs11 import Attribute

    return parse_certificate(attribute(item, Attribute.VALUE) or b"", subject=name).key


def _from_object(item: Object, name: str) -> PublicKey:
    """From the numbers of a key object."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from pkcs11 import Attribute, KeyType

    key: Any
    try:
        if attribute(item, Attribute.KEY_TYPE) == KeyType.RSA:
            exponent = int.from_bytes(attribute(item, Attribute.PUBLIC_EXPONENT) or b"")
            modulus = int.from_bytes(attribute(item, Attribute.MODULUS) or b"")
            key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        else:
            curve, size = _CURVES[attribute(item, Attribute.EC_PARAMS)]
            point = _point(attribute(item, Attribute.EC_POINT) or b"", size)
            key = (
                ed25519.Ed25519PublicKey.from_public_bytes(point)
                if curve == "ed25519"
                else ec.EllipticCurvePublicKey.from_encoded_point(_curves()[curve], point)
            )
    except (ValueError, KeyError, TypeError):
        raise _refused(name) from None
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return parse_public_key_der(spki, subject=name)


def _curves() -> dict[str, EllipticCurve]:
    from cryptography.hazmat.primitives.asymmetric import ec

    return {one.name: one for one in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}


def _point(value: bytes, size: int) -> bytes:
    """A point out of its DER OCTET STRING; some tokens leave that away, which the length tells.

    Raises:
        ValueError: It is neither. Whoever reads the point refuses one of another length.
    """
    if len(value) == size:
        return value
    head = bytes([4, size]) if size < 128 else bytes([4, 0x81, size])
    if not value.startswith(head):
        raise ValueError
    return value[len(head) :]


def _refused(name: str) -> KeyFileError:
    return KeyFileError(
        f"{name} is of a kind that is not taken",
        subject=name,
        hint="ECDSA P-256, P-384, P-521, Ed25519 and RSA are",
    )
