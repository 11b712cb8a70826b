"""An answer signed by a detached JWS, or as webhooks are, judged by the policy."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from r1prov.errors import ResponseError
from r1prov.responses.algorithms import ED25519
from r1prov.responses.exchange import field_values
from r1prov.responses.judge import REQUEST_BODY, RESPONSE_BODY, Judge, Outcome
from r1prov.responses.jws import Jws, parse_jws
from r1prov.responses.report import State
from r1prov.responses.webhook import read_webhook
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from r1prov.responses.components import Component
    from r1prov.responses.keys import ResponseKey

SCHEME: Final = "jws"
WEBHOOK: Final = "webhook"


def check_jws(judge: Judge) -> Outcome:
    """What the JWS of an answer comes to."""
    outcome = Outcome(SCHEME)
    try:
        jws = parse_jws(_value(judge))
    except ResponseError as error:
        return outcome.refuse(error)
    keys = judge.keys_called(jws.kid, outcome)
    if not keys:
        return outcome.settled()
    fitting = [key for key in keys if jws.fits(key)]
    if not fitting:
        outcome.key = keys[0]
        outcome.add(
            "response-algorithm",
            "JWS",
            f"the signature says it is {quoted(jws.alg, limit=60)}",
            expected=keys[0].algorithm,
            found=quoted(jws.alg, limit=60),
        )
        return outcome.settled()
    body = _body(judge, outcome)
    if body is None:
        return outcome
    key = next((one for one in fitting if jws.verify(one, body)), None)
    if key is None:
        outcome.key = fitting[0]
        outcome.add(
            "response-signature-invalid",
            "JWS",
            f"it does not verify under key {fitting[0].thumbprint or fitting[0].source}",
            hint="the JWS is over the body alone, as it is on the wire",
        )
        return outcome.settled()
    outcome.checked("signature", f"{key.algorithm} over the body")
    outcome.checked(RESPONSE_BODY, "signed as it is")
    _bound(judge, jws, outcome)
    _finish(judge, key, outcome, (jws.iat, jws.exp), jws.nonce, judge.policy.cover_jws)
    judge.replay(key, jws.nonce, jws.signature, outcome)
    return outcome.settled()


def _value(judge: Judge) -> str:
    values = field_values(judge.exchange.response.headers, judge.policy.jws_field)
    if len(values) != 1:
        raise ResponseError(
            "response-signature-malformed",
            f"{len(values)} fields {judge.policy.jws_field}",
            subject="JWS",
            expected="one field",
        )
    return values[0]


def _body(judge: Judge, outcome: Outcome) -> bytes | None:
    """The answer's bytes: a signature over the body itself needs them all."""
    if judge.response_digests(outcome) is None:
        return None
    body = judge.exchange.response.body
    if body is None:
        outcome.unchecked(RESPONSE_BODY, "only its digest was captured")
    return body


def _bound(judge: Judge, jws: Jws, outcome: Outcome) -> None:
    """What the header binds beside the body."""
    outcome.covered = ["content-digest"]
    if jws.status is not None:
        outcome.covered.append("@status")
        if jws.status != judge.exchange.response.status:
            outcome.add(
                "response-signature-invalid",
                "status",
                "the answer has another status than the one that was signed",
                expected=str(jws.status),
                found=str(judge.exchange.response.status),
            )
    if jws.req_sha256 is None:
        return
    outcome.covered.append("content-digest;req")
    digests = judge.request_digests(outcome)
    if digests is None:
        return
    if hmac.compare_digest(digests["sha-256"], jws.req_sha256):
        outcome.checked(REQUEST_BODY, "sha-256")
    else:
        outcome.add(
            "response-other-request",
            "req_sha256",
            "the answer is to a request with another body",
            expected=digests["sha-256"].hex(),
            found=jws.req_sha256.hex(),
        )


def _finish(
    judge: Judge,
    key: ResponseKey,
    outcome: Outcome,
    times: tuple[int | None, int | None],
    nonce: str | None,
    wanted: Sequence[Component],
) -> None:
    judge.key_standing(key, outcome)
    if key.is_secret:
        outcome.state = State.INTEGRITY_ONLY
    judge.times(*times, outcome)
    judge.nonce(nonce, outcome)
    note_open(judge, outcome, wanted)


def note_open(judge: Judge, outcome: Outcome, wanted: Sequence[Component]) -> None:
    """Note what the policy wants of a scheme that covers bodies, and what this one leaves open."""
    empty = judge.exchange.request.body == b""
    open_ = [
        str(one)
        for one in wanted
        if str(one) not in outcome.covered and not (str(one) == "content-digest;req" and empty)
    ]
    if open_:
        outcome.add(
            "response-uncovered",
            outcome.scheme,
            f"the signature is good and leaves open: {', '.join(open_)}",
            expected=" ".join(map(str, wanted)),
            found=" ".join(outcome.covered),
        )
    else:
        outcome.checked("coverage", "all that the policy wants is signed")
    never = [str(one) for one in judge.policy.cover if str(one) not in outcome.covered]
    if never:
        outcome.skipped("not covered by this scheme", ", ".join(never))


def check_webhook(judge: Judge) -> Outcome:
    """What a webhook's signature comes to: it names no key, so each that fits is tried."""
    outcome = Outcome(WEBHOOK)
    try:
        webhook = read_webhook(judge.exchange.response.headers)
    except ResponseError as error:
        return outcome.refuse(error)
    used = {algorithm for algorithm, _ in webhook.signatures}
    keys = [
        key for key in judge.policy.keys if key.algorithm in used and key.answers_for(judge.origin)
    ]
    if not keys:
        outcome.add(
            "response-key-unknown",
            WEBHOOK,
            f"the policy has no key of {' or '.join(sorted(used))} for {quoted(judge.origin)}",
        )
        return outcome.settled()
    body = _body(judge, outcome)
    if body is None:
        return outcome
    # What proves more is looked at first.
    keys.sort(key=lambda key: key.algorithm != ED25519)
    key = next((one for one in keys if webhook.verify(one, body)), None)
    if key is None:
        outcome.add(
            "response-signature-invalid",
            WEBHOOK,
            f"it does not verify under any of {len(keys)} keys",
            hint="the signature is over the body as it is on the wire, never written anew",
        )
        return outcome.settled()
    outcome.checked("signature", f"{key.algorithm} over id, time and body")
    outcome.checked(RESPONSE_BODY, "signed as it is")
    outcome.covered = ["content-digest"]
    _finish(judge, key, outcome, (webhook.timestamp, None), webhook.id, judge.policy.cover_jws)
    signature = next(value for algorithm, value in webhook.signatures if algorithm == key.algorithm)
    judge.replay(key, webhook.id, signature, outcome)
    return outcome.settled()
