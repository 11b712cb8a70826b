"""An answer with a receipt that was fetched afterwards, judged by the policy.

The quote of the enclave that a receipt's key is said to live in is not verified here, and the
coverage says so: a policy pins the key or the digest of the key set.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Final

from r1prov.errors import JsonError, ResponseError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
from r1prov.responses import aci, near
from r1prov.responses.check_jws import note_open
from r1prov.responses.exchange import field_values
from r1prov.responses.judge import REQUEST_BODY, RESPONSE_BODY, Judge, Outcome, instant
from r1prov.responses.message import request_message
from r1prov.responses.report import State
from r1prov.responses.served import Fetched, fetched_receipts
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.responses.keys import ResponseKey

ACI: Final = "aci"
NEAR: Final = "near"
_QUOTE: Final = "that the key lives in an enclave"
_NOT_HERE: Final = "quotes are not verified here: the policy trusts the key"
_ADVISORY: Final = "x-request-hash"


def offers_receipt(judge: Judge, scheme: str) -> bool:
    """Whether the answer, or what was fetched with it, speaks of a receipt of that scheme."""
    fetched = fetched_receipts(judge.exchange.documents, scheme)
    if fetched.bodies or fetched.statuses:
        return True
    names = ("x-receipt-id", "x-aci-version") if scheme == ACI else ()
    return any(field_values(judge.exchange.response.headers, name) for name in names)


def check_receipt(judge: Judge, scheme: str) -> Outcome:
    """What the receipt of an answer comes to. Of several the one for these bodies counts."""
    fetched = fetched_receipts(judge.exchange.documents, scheme)
    if not fetched.bodies:
        return _unavailable(judge, scheme, fetched)
    check = _check_aci if scheme == ACI else _check_near
    outcomes = [check(judge, raw) for raw in fetched.bodies]
    good = [one for one in outcomes if one.state is not State.INVALID]
    return (good or outcomes)[-1]


def _unavailable(judge: Judge, scheme: str, fetched: Fetched) -> Outcome:
    outcome = Outcome(scheme, State.RECEIPT_UNAVAILABLE)
    said = ", ".join(map(str, fetched.statuses)) or "nothing was fetched"
    outcome.add(
        "response-receipt-unavailable",
        scheme,
        "the answer has a receipt, and it is not among what was captured",
        found=said,
    )
    outcome.unchecked("receipt", said)
    if not judge.exchange.response.complete:
        outcome.state = State.INCOMPLETE_STREAM
    return outcome


# ---- ACI ----------------------------------------------------------------------------------------


def _check_aci(judge: Judge, raw: bytes) -> Outcome:
    outcome = Outcome(ACI)
    try:
        receipt = aci.parse_receipt(raw)
    except ResponseError as error:
        return outcome.refuse(error)
    key = _aci_key(judge, receipt, outcome)
    if key is None:
        return outcome.settled()
    if not receipt.verify(key):
        outcome.key = key
        return _invalid(outcome, key)
    outcome.checked("signature", f"{key.algorithm} over the canonical receipt")
    for sentence in receipt.contradictions:
        outcome.add("response-receipt-events", "event_log", sentence)
    outcome.covered = ["content-digest", "content-digest;req", "@method;req", "@path;req"]
    _same_request(judge, receipt, outcome)
    if not receipt.contradictions:
        _compare(judge, outcome, receipt.received, receipt.returned)
    _model(judge, receipt.model, outcome)
    if receipt.forwarded not in (None, receipt.received):
        outcome.skipped("rewriting", "the service changed the request before it was answered")
    _upstreams(receipt, outcome)
    return _finish(judge, key, outcome, receipt.served_at, receipt.signature)


def _aci_key(judge: Judge, receipt: aci.AciReceipt, outcome: Outcome) -> ResponseKey | None:
    """The key of the receipt: of the policy, or of a key set whose digest is pinned."""
    pins = judge.policy.pins
    digest = f"sha256:{receipt.keyset.hex()}"
    pinned = {pin for pin in pins if pin.startswith("sha256:")}
    if pinned and digest not in pinned:
        outcome.add(
            "response-keyset",
            "workload_keyset_digest",
            "the receipt is of another key set than the policy pins",
            expected=", ".join(sorted(pinned)),
            found=digest,
        )
        return None
    keyset = next((one for one in judge.served.keysets if one.digest == receipt.keyset), None)
    if keyset is None and judge.served.keysets:
        outcome.add(
            "response-keyset",
            "workload_keyset_digest",
            "the receipt is of another key set than the one that was fetched",
            expected=f"sha256:{judge.served.keysets[0].digest.hex()}",
            found=digest,
        )
        return None
    if keyset is None:
        outcome.skipped("key set", "none was fetched, so its digest was compared with pins only")
        keys = judge.keys_called(receipt.key_id, outcome)
        return keys[0] if keys else None
    ends = instant(keyset.not_after)
    outcome.expires = ends
    if ends is not None and ends <= judge.at:
        outcome.add(
            "response-key-expired", "not_after", f"the key set ended {ends:%Y-%m-%d %H:%MZ}"
        )
    served = keyset.keys.get(receipt.key_id)
    if served is not None and digest in pinned:
        outcome.checked("key set", "its digest is pinned, and the key is in it")
        known = {key.thumbprint: key for key in judge.policy.keys}
        return known.get(served.thumbprint, served)
    keys = judge.pinned(receipt.key_id, [served] if served is not None else [], outcome)
    return keys[0] if keys else None


def _same_request(judge: Judge, receipt: aci.AciReceipt, outcome: Outcome) -> None:
    try:
        request = request_message(judge.exchange.request)
    except ResponseError as error:
        outcome.refuse(error)
        return
    for name, signed, sent in (
        ("method", receipt.method, request.method),
        ("endpoint", receipt.endpoint, request.path),
    ):
        if signed != sent:
            outcome.add(
                "response-other-request",
                name,
                f"the receipt is for another {name}",
                expected=quoted(sent, limit=120),
                found=quoted(signed, limit=120),
            )


def _upstreams(receipt: aci.AciReceipt, outcome: Outcome) -> None:
    if not receipt.upstreams:
        return
    last = receipt.upstreams[-1]
    served = f"model {last.model}" if last.model else "a model that it does not name"
    said = "verified" if last.verified else "not verified"
    outcome.skipped("upstream", f"the service says that {served} answered, {said}")


# ---- NEAR ---------------------------------------------------------------------------------------


def _check_near(judge: Judge, raw: bytes) -> Outcome:
    outcome = Outcome(NEAR)
    try:
        receipt = near.parse_near(raw)
        named = receipt.named_key()
    except ResponseError as error:
        return outcome.refuse(error)
    known = [key for key in judge.policy.keys if receipt.address in key.names]
    keys = known or judge.pinned(receipt.address, [named], outcome)
    if not keys:
        return outcome.settled()
    key = keys[0]
    outcome.key = key
    if key.algorithm != receipt.algorithm:
        outcome.add(
            "response-algorithm",
            "signing_algo",
            "the receipt names another algorithm than its key has",
            expected=key.algorithm,
            found=receipt.algorithm,
        )
        return outcome.settled()
    if not receipt.verify(key):
        return _invalid(outcome, key)
    outcome.checked("signature", f"{key.algorithm} over the receipt's text")
    outcome.covered = ["content-digest", "content-digest;req"]
    _compare(judge, outcome, receipt.request, receipt.response)
    if receipt.model is None:
        outcome.skipped("model", "the receipt names none")
    else:
        _model(judge, receipt.model, outcome)
    return _finish(judge, key, outcome, None, receipt.signature)


# ---- both ---------------------------------------------------------------------------------------


def _invalid(outcome: Outcome, key: ResponseKey) -> Outcome:
    outcome.add(
        "response-signature-invalid",
        "receipt",
        f"it does not verify under key {key.thumbprint}",
    )
    return outcome.settled()


def _finish(
    judge: Judge, key: ResponseKey, outcome: Outcome, served_at: int | None, signature: bytes
) -> Outcome:
    judge.key_standing(key, outcome)
    if served_at is not None:
        judge.times(served_at, None, outcome)
    else:
        outcome.skipped("time", "the receipt does not say when it was made")
    outcome.skipped(_QUOTE, _NOT_HERE)
    if field_values(judge.exchange.request.headers, _ADVISORY):
        outcome.add(
            "response-hash-supplied",
            "X-Request-Hash",
            "the request came with a hash of its own, which the receipt may merely repeat",
        )
    note_open(judge, outcome, judge.policy.cover_receipt)
    judge.replay(key, None, signature, outcome)
    return outcome.settled()


def _model(judge: Judge, named: str | None, outcome: Outcome) -> None:
    """Compare the model that a receipt names with the one that was asked for."""
    asked = judge.model
    if asked is None:
        if named is not None:
            outcome.skipped("model", "the request names none that can be read")
        return
    if named is None:
        outcome.skipped("model", "the receipt names none")
    elif named in (asked, judge.policy.aliases.get(asked)):
        outcome.checked("model", f"{named} was asked for and is named")
    else:
        outcome.add(
            "response-model",
            "model",
            "the receipt names another model than was asked for",
            expected=quoted(asked, limit=120),
            found=quoted(named, limit=120),
        )


def _compare(judge: Judge, outcome: Outcome, request: bytes, response: bytes) -> None:
    """Compare the digests of a receipt with the bodies: as they were first, then written anew."""
    digests = judge.request_digests(outcome)
    if digests is not None:
        how = match_digest(request, digests, judge.exchange.request.body)
        if how is None:
            outcome.add(
                "response-other-request",
                "receipt",
                "the receipt is for a request with another body",
                expected=digests["sha-256"].hex(),
                found=request.hex(),
            )
        else:
            _matched(judge, outcome, REQUEST_BODY, how)
    digests = judge.response_digests(outcome)
    if digests is not None:
        how = match_digest(response, digests, judge.exchange.response.body)
        if how is None:
            outcome.add(
                "response-body-mismatch",
                "receipt",
                "the receipt is for an answer with another body",
                expected=response.hex(),
                found=digests["sha-256"].hex(),
            )
        else:
            _matched(judge, outcome, RESPONSE_BODY, how)


def _matched(judge: Judge, outcome: Outcome, item: str, how: str) -> None:
    if not how:
        outcome.checked(item, "sha-256 of the bytes on the wire")
        return
    outcome.add(
        "response-reserialized",
        item,
        f"its bytes are not those that were signed; written anew ({how}) they are",
    )
    if outcome.state is State.VERIFIED:
        outcome.state = State.RESERIALIZED
    if judge.policy.reserialized:
        outcome.checked(item, f"sha-256 after {how}")
    else:
        outcome.weaker(item, f"only after {how}; `reserialized` of the policy")


def match_digest(signed: bytes, digests: dict[str, bytes], body: bytes | None) -> str | None:
    """How a body matches a SHA-256: its bytes as they are first, then written anew.

    Args:
        signed: The digest that was signed.
        digests: Those of the body (`content_digest.held_digests`).
        body: The body; None if only its digests are held.

    Returns:
        The empty string for its bytes, else the way it was written anew; None for no match.
    """
    if hmac.compare_digest(digests["sha-256"], signed):
        return ""
    for how, text in _rewritten(body):
        if hmac.compare_digest(hashlib.sha256(text).digest(), signed):
            return how
    return None


def _rewritten(body: bytes | None) -> Iterator[tuple[str, bytes]]:
    """A JSON body as common servers and clients write it."""
    if body is None:
        return
    try:
        value = parse_json(body, subject="body", max_bytes=MAX_EXCHANGE_BODY_BYTES)
    except JsonError:
        return
    # What vllm-proxy signs, what JSON.stringify gives, and what it gives with an indent of two.
    yield "json.dumps of Python", json.dumps(value).encode()
    for how, indent in (("JSON.stringify", None), ("JSON.stringify with an indent of 2", 2)):
        separators = (",", ": " if indent else ":")
        text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
        yield how, text.encode()
