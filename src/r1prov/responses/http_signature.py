"""HTTP Message Signatures (RFC 9421): the signature base, verified and created, by hand.

Narrow on purpose: what is not understood is refused, never skipped. Nothing here decides whether a
signature is enough: which key, which coverage and which age count is for `responses.policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from r1prov.errors import ResponseError
from r1prov.limits import MAX_MESSAGE_SIGNATURES, MAX_SIGNED_COMPONENTS
from r1prov.responses.components import Component, component_of, component_value, parse_component
from r1prov.responses.exchange import Headers, field_values
from r1prov.responses.keys import ResponseKey, SigningKey
from r1prov.responses.message import Message
from r1prov.responses.structured_fields import (
    BareItem,
    InnerList,
    Item,
    Member,
    parse_dictionary,
    write_dictionary,
    write_member,
)
from r1prov.text import plural, quoted

_INTEGERS: Final = ("created", "expires")
_STRINGS: Final = ("nonce", "alg", "keyid", "tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureInput:
    """What one signature covers and says of itself (RFC 9421 section 2.3).

    Attributes:
        label: Ties it to its signature; not signed, so nothing may hang on it.
        components: What is covered, in order.
        text: The value of `@signature-params`, written canonically.
        created: When it was made, in seconds since 1970.
        expires: When it ends.
        nonce: What makes it unique.
        alg: What it says its algorithm is. Only ever compared with the key's.
        keyid: What it calls its key.
        tag: What it is for.
    """

    label: str
    components: tuple[Component, ...]
    text: str
    created: int | None = None
    expires: int | None = None
    nonce: str | None = None
    alg: str | None = None
    keyid: str | None = None
    tag: str | None = None

    def covers(self, component: Component) -> bool:
        """Whether a component is covered, however its parameters are ordered."""
        return any(one.identity == component.identity for one in self.components)


@dataclass(frozen=True, slots=True)
class HttpSignature:
    """One signature and what it covers."""

    input: SignatureInput
    signature: bytes


def is_signed(headers: Headers) -> bool:
    """Whether a message offers a signature, good or bad."""
    return bool(field_values(headers, "signature-input") or field_values(headers, "signature"))


def read_signatures(headers: Headers) -> tuple[HttpSignature, ...]:
    """The signatures of a message, none verified.

    Raises:
        ResponseError: `response-signature-malformed` or `response-field-malformed`: either field
            is malformed, a label stands twice or lacks its other half, or there are too many.
    """
    inputs, signatures = (
        parse_dictionary(field_values(headers, name), name=name)
        for name in ("signature-input", "signature")
    )
    if inputs.keys() != signatures.keys():
        alone = sorted(inputs.keys() ^ signatures.keys())[0]
        missing = "Signature" if alone in inputs else "Signature-Input"
        raise _malformed(
            f"label {quoted(alone)} stands in one field and not in {missing}",
            expected="the same labels in Signature-Input and Signature",
        )
    if len(inputs) > MAX_MESSAGE_SIGNATURES:
        raise _malformed(
            f"a message with {len(inputs)} signatures",
            expected=f"at most {MAX_MESSAGE_SIGNATURES}",
        )
    return tuple(
        HttpSignature(signature_input(label, member), _signature(label, signatures[label]))
        for label, member in inputs.items()
    )


def _malformed(message: str, expected: str | None = None) -> ResponseError:
    return ResponseError(
        "response-signature-malformed", message, subject="Signature-Input", expected=expected
    )


def _signature(label: str, member: Member) -> bytes:
    if not isinstance(member, Item) or not isinstance(member.value, bytes):
        raise _malformed(f"the signature {quoted(label)} is no byte sequence")
    return member.value


def signature_input(label: str, member: Member) -> SignatureInput:
    """One member of `Signature-Input`.

    Raises:
        ResponseError: `response-signature-malformed`.
    """
    if not isinstance(member, InnerList):
        raise _malformed(f"{quoted(label)} is no list of components")
    if len(member.items) > MAX_SIGNED_COMPONENTS:
        raise _malformed(
            f"{quoted(label)} covers {plural(len(member.items), 'component')}",
            expected=f"at most {MAX_SIGNED_COMPONENTS}",
        )
    components = tuple(map(component_of, member.items))
    seen = set()
    for one in components:
        if one.identity in seen:  # section 2.5: "MUST NOT occur more than once"
            raise _malformed(f"{quoted(label)} covers {one} twice")
        seen.add(one.identity)
    integers: dict[str, int | None] = {}
    strings: dict[str, str | None] = {}
    for key, value in member.parameters.items():
        if key in _INTEGERS:
            if type(value) is not int:
                raise _malformed(f"parameter {key} of {quoted(label)} is no integer")
            integers[key] = value
        elif key in _STRINGS:
            if type(value) is not str:
                raise _malformed(f"parameter {key} of {quoted(label)} is no string")
            strings[key] = value
    return SignatureInput(
        label=label,
        components=components,
        text=write_member(member),
        created=integers.get("created"),
        expires=integers.get("expires"),
        nonce=strings.get("nonce"),
        alg=strings.get("alg"),
        keyid=strings.get("keyid"),
        tag=strings.get("tag"),
    )


def signature_base(signed: SignatureInput, message: Message) -> bytes:
    """What was signed (RFC 9421 section 2.5), rebuilt from the message at hand.

    Raises:
        ResponseError: `response-component-missing`: the message lacks a component; its subclass
            `MissingPart` where it was only not captured or redacted.
    """
    lines = [
        f"{component.identifier}: {component_value(component, message)}\n"
        for component in signed.components
    ]
    return "".join([*lines, f'"@signature-params": {signed.text}']).encode("ascii")


def verify_signature(signature: HttpSignature, message: Message, key: ResponseKey) -> bool:
    """Whether a signature by `key` covers the message as it is; nothing else is judged.

    Raises:
        ResponseError: As `signature_base`.
    """
    return key.verify(signature.signature, signature_base(signature.input, message))


def create_signature(
    message: Message,
    components: Sequence[str],
    key: SigningKey,
    *,
    created: int,
    keyid: str,
    expires: int | None = None,
    nonce: str | None = None,
    tag: str | None = None,
    alg: str | None = None,
    label: str = "sig1",
) -> Headers:
    """Sign a message.

    Args:
        message: What is to be signed; it must have every component.
        components: As a policy writes them, such as `@status` and `@path;req`.
        key: Who signs. Its algorithm is used.
        created: Seconds since 1970.
        keyid: What verifiers know the key as.
        expires: When the signature ends.
        nonce: The client's, where it sent one.
        tag: What the signature is for.
        alg: Written into the signature; leave it out unless a verifier insists.
        label: Of the signature, where a message has several.

    Returns:
        The two header fields to add: `Signature-Input` and `Signature`.

    Raises:
        ResponseError: The message lacks a component, or a parameter cannot be written.
    """
    given: dict[str, BareItem | None] = {
        "created": created,
        "expires": expires,
        "nonce": nonce,
        "keyid": keyid,
        "alg": alg,
        "tag": tag,
    }
    parameters = {name: value for name, value in given.items() if value is not None}
    covered = tuple(
        Item(one.name, dict(one.parameters)) for one in map(parse_component, components)
    )
    member = InnerList(covered, parameters)
    value = key.sign(signature_base(signature_input(label, member), message))
    return (
        ("Signature-Input", write_dictionary({label: member})),
        ("Signature", write_dictionary({label: Item(value)})),
    )


def requested_nonces(headers: Headers) -> tuple[str, ...]:
    """Nonces that a request asks the answer's signature to carry (`Accept-Signature`, section 5.1).

    Raises:
        ResponseError: The field is malformed.
    """
    members = parse_dictionary(field_values(headers, "accept-signature"), name="accept-signature")
    found = (member.parameters.get("nonce") for member in members.values())
    return tuple(nonce for nonce in found if type(nonce) is str)
