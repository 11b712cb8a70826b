"""Receipts of Attested Confidential Inference (`aci/1`, draft): RFC 8785 and Ed25519.

A receipt binds the bytes of request and response, the endpoint and method, and the key set of the
service by its digest. Section numbers are those of its specification. That the key set lives in an
enclave is for the quote, which is not verified here: a policy pins the digest of the key set.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from r1prov.errors import KeyFileError
from r1prov.limits import MAX_JWKS_KEYS, MAX_RECEIPT_EVENTS
from r1prov.responses.jcs import canonical
from r1prov.responses.keys import ResponseKey, raw_ed25519_key
from r1prov.responses.receipt_fields import Members, malformed, parse_object
from r1prov.text import quoted

VERSION: Final = "aci/1"
_RECEIVED, _FORWARDED = "request.received", "request.forwarded"
_VERIFIED, _RETURNED = "upstream.verified", "response.returned"
_PURPOSE: Final = "aci.report_data.v1"


@dataclass(frozen=True, slots=True)
class Upstream:
    """One `upstream.verified` event (section 7.5): what the service says it checked."""

    verified: bool
    required: bool
    model: str | None
    session: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AciReceipt:
    """A receipt, not verified.

    Attributes:
        receipt_id: Its name.
        chat_id: Id of the answer; None if that has none.
        model: The model that was asked for; None if the request named none.
        keyset: SHA-256 of the key set's canonical form.
        endpoint: Path of the request.
        method: Of the request.
        served_at: Seconds since 1970, as the service says.
        key_id: The key, within the key set.
        received: SHA-256 of the request's body.
        forwarded: SHA-256 of what went upstream; None if nothing did.
        returned: SHA-256 of the response's body.
        upstreams: What the service says of its upstreams.
        contradictions: What is wrong with the course of events, a sentence each.
        signature: Over `signed`.
        signed: The canonical form of everything but the signature.
    """

    receipt_id: str
    chat_id: str | None
    model: str | None
    keyset: bytes
    endpoint: str
    method: str
    served_at: int
    key_id: str
    received: bytes
    forwarded: bytes | None
    returned: bytes
    upstreams: tuple[Upstream, ...]
    contradictions: tuple[str, ...]
    signature: bytes
    signed: bytes

    def verify(self, key: ResponseKey) -> bool:
        """Whether that key signed the receipt (section 9.3, check 1)."""
        return key.verify(self.signature, self.signed)


@dataclass(frozen=True, slots=True)
class AciKeyset:
    """A workload key set (section 3.1).

    Attributes:
        digest: SHA-256 of its canonical form.
        not_after: Seconds since 1970 after which nothing of it counts.
        keys: Keys that sign receipts, by `key_id`.
    """

    digest: bytes
    not_after: int
    keys: dict[str, ResponseKey]


def is_receipt(value: dict[str, Any]) -> bool:
    """Whether a JSON object looks like a receipt."""
    return "event_log" in value and "workload_keyset_digest" in value


def parse_receipt(raw: bytes, *, subject: str = "receipt") -> AciReceipt:
    """Parse a receipt.

    Raises:
        ResponseError: `response-receipt-malformed`.
    """
    return receipt_of(parse_object(raw, subject=subject), subject=subject)


def receipt_of(value: dict[str, Any], *, subject: str = "receipt") -> AciReceipt:
    """A receipt from parsed JSON.

    Raises:
        ResponseError: `response-receipt-malformed`: a member is missing or of another type, the
            version is another, or an event that must be there is not.
    """
    members = Members(value, subject)
    if members.text("api_version") != VERSION:
        raise malformed(
            f"{subject} is of another version",
            subject=subject,
            expected=VERSION,
            found=quoted(members.text("api_version"), limit=40),
        )
    events = [
        Members(event, f"{subject} event_log[{i}]")
        for i, event in enumerate(members.items("event_log", MAX_RECEIPT_EVENTS))
    ]
    kinds = [event.text("type") for event in events]
    named = dict(zip(kinds, events, strict=True))
    for kind in (_RECEIVED, _RETURNED):
        if kind not in named:
            raise malformed(f"{subject} has no event {kind}", subject=subject, expected=kind)
    forwarded = named.get(_FORWARDED)
    upstreams = tuple(
        _upstream(event) for kind, event in zip(kinds, events, strict=True) if kind == _VERIFIED
    )
    unsigned = {key: item for key, item in value.items() if key != "signature"}
    return AciReceipt(
        receipt_id=members.text("receipt_id"),
        chat_id=members.optional_text("chat_id"),
        model=members.optional_text("model"),
        keyset=members.digest("workload_keyset_digest"),
        endpoint=members.text("endpoint"),
        method=members.text("method"),
        served_at=members.integer("served_at"),
        key_id=members.text("key_id"),
        received=named[_RECEIVED].digest("body_hash"),
        forwarded=forwarded.digest("body_hash") if forwarded is not None else None,
        returned=named[_RETURNED].digest("body_hash"),
        upstreams=upstreams,
        contradictions=tuple(_contradictions(kinds, upstreams)),
        signature=members.raw("signature", 64),
        signed=canonical(unsigned),
    )


def _upstream(event: Members) -> Upstream:
    result = event.text("result")
    if result not in ("verified", "failed"):
        raise malformed(
            "an upstream event has an unknown result",
            subject="event_log",
            expected="verified or failed",
            found=quoted(result, limit=40),
        )
    verified = result == "verified"
    session = event.raw("session_id", 32).hex() if verified else None
    if not verified:
        event.text("reason")
    return Upstream(verified, event.flag("required"), event.optional_text("model_id"), session)


def _contradictions(kinds: list[str], upstreams: tuple[Upstream, ...]) -> list[str]:
    """What no honest course of events has (sections 7.3 to 7.5)."""
    found = []
    if kinds[0] != _RECEIVED:
        found.append(f"the first event is {quoted(kinds[0], limit=60)}, not {_RECEIVED}")
    found += [
        f"event {kind} stands {kinds.count(kind)} times"
        for kind in (_RECEIVED, _FORWARDED, _RETURNED)
        if kinds.count(kind) > 1
    ]
    if _FORWARDED in kinds and kinds.index(_FORWARDED) > kinds.index(_RETURNED):
        found.append("the request was forwarded after the response was returned")
    # More than one attempt may stand there; a required one has to have succeeded in the end.
    required = [one for one in upstreams if one.required]
    if _FORWARDED in kinds and required and not any(one.verified for one in upstreams):
        found.append("the request was forwarded though the required verification failed")
    return found


def keyset_of(value: object, *, subject: str = "key set") -> AciKeyset:
    """A workload key set from parsed JSON. Keys of other algorithms are let be (section 3.1).

    Raises:
        ResponseError: `response-receipt-malformed`.
    """
    members = Members(value, subject)
    keys: dict[str, ResponseKey] = {}
    for i, entry in enumerate(members.items("receipt_signing_keys", MAX_JWKS_KEYS)):
        one = Members(entry, f"{subject} receipt_signing_keys[{i}]")
        name = one.text("key_id")
        if one.text("algo") != "ed25519":
            continue
        if name in keys:
            raise malformed(f"{subject} has two keys called {quoted(name)}", subject=subject)
        try:
            keys[name] = raw_ed25519_key(one.raw("public_key", 32), source=subject, name=name)
        except KeyFileError as error:
            raise malformed(error.message, subject=subject) from None
    digest = hashlib.sha256(canonical(value)).digest()
    return AciKeyset(digest, members.integer("not_after"), keys)


def keyset_in(value: dict[str, Any]) -> object | None:
    """The key set within an attestation report (section 4.1), or the value if it is one."""
    if "receipt_signing_keys" in value:
        return value
    attestation = value.get("attestation")
    return attestation.get("workload_keyset") if isinstance(attestation, dict) else None


def statement(keyset: bytes, nonce: str | None) -> bytes:
    """What a quote binds (section 3.2); its SHA-256 is the report data.

    Args:
        keyset: Digest of the key set.
        nonce: 64 hexadecimal digits; None for the form that shows no freshness.
    """
    digest = f"sha256:{keyset.hex()}"
    return canonical({"keyset_digest": digest, "nonce": nonce, "purpose": _PURPOSE})


def session_id(session: dict[str, Any]) -> str:
    """The name of an attested session: the digest of its record (section 8)."""
    return hashlib.sha256(canonical(session)).hexdigest()
