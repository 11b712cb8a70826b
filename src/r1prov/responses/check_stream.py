"""A streamed answer with statements of our own proxy, as it was captured, judged by the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.responses.binding import check_binding
from r1prov.responses.content_digest import held_digests
from r1prov.responses.exchange import field_values
from r1prov.responses.expected import Expected, request_facts
from r1prov.responses.judge import REQUEST_BODY, RESPONSE_BODY, Judge, Outcome, instant
from r1prov.responses.report import State
from r1prov.responses.stream import HEADER, RECEIPTS, StreamResult, StreamState, StreamVerifier
from r1prov.responses.stream_signer import MARKER

if TYPE_CHECKING:
    from r1prov.responses.keys import ResponseKey
    from r1prov.verify.findings import Finding

SCHEME: Final = "r1prov-stream"
_COVERED: Final = (
    *("@status", "content-type", "content-digest"),
    *("@method;req", "@authority;req", "@path;req", "@query;req", "content-digest;req"),
)


def offers_statements(judge: Judge) -> bool:
    """Whether the answer promises statements, or begins with one."""
    response = judge.exchange.response
    body = response.body or b""
    return bool(field_values(response.headers, HEADER)) or body.startswith(MARKER)


def check_stream(judge: Judge) -> Outcome:
    """What the statements of a streamed answer come to."""
    outcome = Outcome(SCHEME)
    exchange = judge.exchange
    request = held_digests(exchange.request)
    if exchange.response.body is None or request is None:
        judge.request_digests(outcome)
        outcome.unchecked(RESPONSE_BODY, "statements are of bytes that are not held")
        return outcome
    used: list[ResponseKey] = []

    def key(name: str) -> ResponseKey | Finding | None:
        trial = Outcome(SCHEME)
        found = judge.keys_called(name, trial)
        if found:
            judge.key_standing(found[0], trial)
        if trial.settled().state is State.INVALID:
            return trial.findings[0]
        if not used:
            used.append(found[0])
            outcome.findings += trial.findings
            outcome.coverage += trial.coverage
        return found[0]

    kinds = field_values(exchange.response.headers, "content-type")
    verifier = StreamVerifier(
        exchange.response.headers,
        Expected(
            request=request_facts(exchange.request),
            status=exchange.response.status,
            content_type=", ".join(kinds) or None,
            key=key,
            now=judge.at.timestamp,
            live=False,
            max_age=judge.policy.max_age.total_seconds(),
            skew=judge.policy.skew.total_seconds(),
        ),
    )
    verifier.feed(exchange.response.body)
    receipts = [one.body for one in exchange.documents if RECEIPTS in one.url and one.status == 200]
    result = verifier.finish(
        complete=exchange.response.complete, receipt=receipts[-1] if receipts else None
    )
    outcome.key = used[0] if used else None
    return _told(judge, result, outcome)


def _told(judge: Judge, result: StreamResult, outcome: Outcome) -> Outcome:
    outcome.findings += result.findings
    said = result.statement
    if said is not None:
        outcome.created, outcome.expires = instant(said.iat), instant(said.exp)
        outcome.covered = list(_COVERED)
    if result.state is StreamState.INCOMPLETE:
        outcome.unchecked(
            RESPONSE_BODY, f"{result.proven:,} of {result.received:,} bytes are accounted for"
        )
        outcome.state = State.INCOMPLETE_STREAM
    elif result.state is StreamState.RECEIPT_UNAVAILABLE:
        outcome.unchecked("receipt", "it is not among what was captured")
        outcome.state = State.RECEIPT_UNAVAILABLE
    elif result.state is StreamState.VERIFIED and said is not None and outcome.key is not None:
        outcome.checked("signature", f"{outcome.key.algorithm}, last of {said.seq + 1} statements")
        outcome.checked(RESPONSE_BODY, f"sha-256, {result.received:,} bytes")
        outcome.checked(REQUEST_BODY, "sha-256")
        judge.nonce(said.request.nonce, outcome)
        _coverage(judge, outcome)
        check_binding(judge, said.manifest_sha256, said.weights, outcome)
        judge.replay(outcome.key, said.request.nonce, said.id.encode(), outcome)
    return outcome.settled()


def _coverage(judge: Judge, outcome: Outcome) -> None:
    """Note what the policy wants beyond what a statement covers."""
    open_ = [str(one) for one in judge.policy.cover if str(one) not in _COVERED]
    if open_:
        outcome.add(
            "response-uncovered",
            "statement",
            f"the statement is good and leaves open: {', '.join(open_)}",
            found=" ".join(_COVERED),
        )
    else:
        outcome.checked("coverage", "all that the policy wants is signed")
