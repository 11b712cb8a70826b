"""Whether an answer is signed, by whom, and what of it: every scheme that it offers, one report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import r1prov
from r1prov.errors import ResponseError
from r1prov.responses.check_http import check_http
from r1prov.responses.check_jws import check_jws, check_webhook
from r1prov.responses.check_receipts import check_receipt, offers_receipt
from r1prov.responses.check_stream import check_stream, offers_statements
from r1prov.responses.exchange import Exchange, Request, field_values
from r1prov.responses.http_signature import is_signed
from r1prov.responses.judge import Judge, Outcome, Seen
from r1prov.responses.message import request_message
from r1prov.responses.policy import (
    ACI,
    HTTP,
    IN_HEADERS,
    JWS,
    NEAR,
    STREAM,
    WEBHOOK,
    ResponsePolicy,
)
from r1prov.responses.report import ExchangeReport, KeyUse, State
from r1prov.responses.webhook import is_webhook
from r1prov.text import printable
from r1prov.verify.findings import Coverage, CoverageState, Finding, decide, finding
from r1prov.verify.rules import Severity

# Of several schemes that hold, the one that proves most gives the state.
_ORDER: Final = (
    State.VERIFIED,
    State.RESERIALIZED,
    State.INTEGRITY_ONLY,
    State.UNCOVERED,
    State.INCOMPLETE_STREAM,
    State.UNCHECKED,
    State.RECEIPT_UNAVAILABLE,
)
_HEADLINES: Final = {
    State.VERIFIED: "signed by a trusted key, over this answer to this request",
    State.RESERIALIZED: "signed by a trusted key, over these bodies written anew",
    State.INTEGRITY_ONLY: "intact to holders of a shared secret; it proves nothing to others",
    State.UNCOVERED: "signed by a trusted key, but not over all that the policy wants",
    State.UNCHECKED: "something that is signed was not captured or was redacted",
    State.INCOMPLETE_STREAM: "the answer broke off, so no signature of the whole can hold",
    State.RECEIPT_UNAVAILABLE: "the receipt of the answer is not at hand",
    State.UNSIGNED: "the answer is not signed",
    State.DOWNGRADED: "a signature was promised and is missing",
}


def verify_exchange(
    exchange: Exchange,
    policy: ResponsePolicy,
    *,
    now: datetime,
    seen: Seen | None = None,
    offered_before: frozenset[str] = frozenset(),
    others: Sequence[Request] = (),
) -> ExchangeReport:
    """Verify the signature of an answer by every scheme that the policy takes and it offers.

    Age and validity are judged by the moment at which the answer was complete, if the exchange
    says when, else by `now`. A key that is revoked counts at no time.

    Args:
        exchange: What was captured.
        policy: What counts.
        now: The present (aware).
        seen: Remembers what was accepted. Leave it out where an exchange is verified again.
        offered_before: Schemes by which this origin signed earlier answers: one that is missing
            now is a downgrade.
        others: Other requests of the same client, to name an answer to another request as such.

    Returns:
        The report. Nothing that an answer holds raises.
    """
    at = exchange.finished_at or now
    head = Outcome("exchange")
    try:
        judge = Judge(exchange, policy, at=at, seen=seen, others=others)
    except ResponseError as error:
        return _report(exchange, policy, head.refuse(error), [], at, model=None)
    outcomes = [
        outcome
        for scheme in policy.schemes
        if _is_offered(judge, scheme) and (outcome := _check(judge, scheme)) is not None
    ]
    offered = {_kind(one.scheme) for one in outcomes}
    promised = {_kind(one) for one in policy.promises(judge.origin) | offered_before}
    missing = promised - offered
    if at > now + policy.skew:
        head.add(
            "response-from-future",
            "exchange",
            "the exchange says that it ended in the future",
            expected=f"at most {now:%Y-%m-%d %H:%M:%SZ}",
            found=f"{at:%Y-%m-%d %H:%M:%SZ}",
        )
    for scheme in sorted(missing):
        _note_missing(judge, scheme, head)
    if outcomes:
        _check_host(judge, head)
    return _report(exchange, policy, head, outcomes, at, model=judge.model)


def _kind(scheme: str) -> str:
    """What a scheme counts as where one is missed: our proxy signs each answer in one of two."""
    return HTTP if scheme == STREAM else scheme


def _is_offered(judge: Judge, scheme: str) -> bool:
    headers = judge.exchange.response.headers
    if scheme == HTTP:
        return is_signed(headers)
    if scheme == STREAM:
        return offers_statements(judge)
    if scheme == JWS:
        return bool(field_values(headers, judge.policy.jws_field))
    return is_webhook(headers) if scheme == WEBHOOK else offers_receipt(judge, scheme)


def _check(judge: Judge, scheme: str) -> Outcome | None:
    if scheme in (ACI, NEAR):
        return check_receipt(judge, scheme)
    return {HTTP: check_http, STREAM: check_stream, JWS: check_jws, WEBHOOK: check_webhook}[scheme](
        judge
    )


def _check_host(judge: Judge, head: Outcome) -> None:
    """What was signed for one host is no answer of another.

    `@authority` is that of the `Host` field, which the server saw, and a key's scope goes by the
    URL that was asked. In a capture of somebody else's the two can be told apart only here.
    """
    try:
        message = request_message(judge.exchange.request)
    except ResponseError as error:
        head.refuse(error)
        return
    asked = judge.origin.partition("://")[2]
    if message.authority != asked:
        head.add(
            "response-other-request",
            "Host of the request",
            "the URL names another host than the one that the server was asked as",
            expected=asked,
            found=message.authority,
            hint="the exchange was not captured as it was sent, or the client set Host by hand",
        )


def _note_missing(judge: Judge, scheme: str, head: Outcome) -> None:
    if scheme in IN_HEADERS or scheme == ACI:
        # ACI answers name their receipt in the header (section 5.2).
        head.state = State.DOWNGRADED
        head.add(
            "response-downgraded",
            judge.origin,
            f"it signs by {scheme}, and this answer has no such signature",
            expected=scheme,
            found="none",
        )
    elif head.state is not State.DOWNGRADED:
        head.state = State.RECEIPT_UNAVAILABLE
        head.add("response-receipt-unavailable", judge.origin, "no receipt was fetched")
        head.unchecked("receipt", "none was fetched")


def _report(
    exchange: Exchange,
    policy: ResponsePolicy,
    head: Outcome,
    outcomes: list[Outcome],
    at: datetime,
    *,
    model: str | None,
) -> ExchangeReport:
    bad = [one for one in outcomes if one.state is State.INVALID]
    if bad:
        chosen = bad[0]
    elif outcomes:
        chosen = min(outcomes, key=lambda one: _ORDER.index(one.state))
    else:
        chosen = head
    state = _state(exchange, head, chosen, outcomes)
    findings = [*head.findings]
    coverage = [*head.coverage]
    for one in outcomes:
        # Beside a scheme that holds, what a weaker one leaves open is no finding.
        if one is chosen or one.state is State.INVALID:
            findings += one.findings
            coverage += one.coverage
        else:
            coverage.append(
                Coverage(
                    f"also {one.scheme}", CoverageState.SKIPPED, one.state.value, required=False
                )
            )
    _explain(state, chosen, findings, coverage, exchange)
    return ExchangeReport(
        subject=_subject(exchange),
        state=state,
        verdict=decide(tuple(findings), tuple(coverage)),
        headline=_HEADLINES.get(state) or _worst(findings),
        scheme=chosen.scheme if outcomes else None,
        key=KeyUse.of(chosen.key) if chosen.key is not None else None,
        covered=tuple(chosen.covered),
        created=chosen.created,
        expires=chosen.expires,
        nonce=chosen.nonce,
        tag=chosen.tag,
        model=model,
        findings=tuple(findings),
        coverage=tuple(coverage),
        judged_at=at,
        policy=policy.location,
        version=r1prov.__version__,
    )


def _worst(findings: list[Finding]) -> str:
    """What an invalid answer breaks first, as the headline: an unknown key is no bad signature."""
    title = next(one.rule.title for one in findings if one.severity is Severity.ERROR)
    return title[:1].lower() + title[1:]


def _state(exchange: Exchange, head: Outcome, chosen: Outcome, outcomes: list[Outcome]) -> State:
    """The one state: what is proved wrong comes first, then what is missing."""
    if any(one.state is State.INVALID for one in outcomes):
        return State.INVALID
    if head.state is State.DOWNGRADED:
        return State.DOWNGRADED
    if any(one.severity is Severity.ERROR for one in head.findings):
        return State.INVALID
    if head.state is State.RECEIPT_UNAVAILABLE and not outcomes:
        return State.RECEIPT_UNAVAILABLE
    if not outcomes:
        return State.UNSIGNED
    broken = not exchange.response.complete
    if broken and chosen.state in (State.VERIFIED, State.RESERIALIZED, State.UNCHECKED):
        return State.INCOMPLETE_STREAM
    return chosen.state


def _explain(
    state: State,
    chosen: Outcome,
    findings: list[Finding],
    coverage: list[Coverage],
    exchange: Exchange,
) -> None:
    """The finding and the coverage that a state has by itself."""
    if state is State.UNSIGNED:
        findings.append(
            finding("response-unsigned", "response", "no signature of a scheme that counts")
        )
        coverage.append(Coverage("signature", CoverageState.SKIPPED, "the answer has none"))
    elif state is State.INTEGRITY_ONLY:
        findings.append(
            finding(
                "response-hmac", chosen.scheme, "the signature is an HMAC: both sides can make it"
            )
        )
        coverage.append(
            Coverage("who answered", CoverageState.UNREAD, "a shared secret does not tell")
        )
    if chosen.covered:
        coverage.append(
            Coverage(
                "which weights answered",
                CoverageState.SKIPPED,
                "a signature shows whose key and which bytes, never which model",
                required=False,
            )
        )
    if not exchange.response.complete:
        findings.append(
            finding("response-stream-incomplete", "response", "the content did not come to its end")
        )
        coverage.append(Coverage("end of the answer", CoverageState.UNREAD, "it never came"))


def _subject(exchange: Exchange) -> str:
    request = exchange.request
    url = request.url.partition("?")[0]
    return printable(f"{request.method} {url} → {exchange.response.status}", limit=300)
