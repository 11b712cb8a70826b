"""Active and passive test together: when a contradiction may stand by itself.

One test alone is never decisive. A gateway that counts with a tokenizer of its own contradicts the
active test and the recount; a relay that cuts streams anew contradicts the boundaries; both serve
what they claim. Only the tokens themselves, in the deltas, and the count of the prompt, each seen
twice, leave no harmless cause that is known.
"""

from __future__ import annotations

from collections.abc import Sequence

from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.verify.findings import Finding, finding

NAME = "tokenizer"


def tokenizer_verdict(
    prompts: TestResult,
    passive: Sequence[TestResult],
    *,
    claim: str,
    subject: str = "endpoint",
) -> TestResult:
    """Compose the results of `prompt_token_test`, `boundary_test` and `recount_test`.

    Decisive are prompt tokens of another known tokenizer, in two rounds, together with deltas that
    cut tokens in two answers, each enough by itself.

    Args:
        prompts: Of the active test.
        passive: Of the passive ones, in any order.
        claim: Model that is claimed, for messages.
        subject: What findings call the endpoint.
    """
    deltas = next((one for one in passive if one.name == "delta-boundaries"), None)
    recount = next((one for one in passive if one.name == "completion-recount"), None)
    present = [one for one in (prompts, deltas, recount) if one is not None]
    against = [one for one in present if one.outcome is Outcome.INCONSISTENT]
    active = prompts.outcome is Outcome.INCONSISTENT
    cut = deltas is not None and deltas.outcome is Outcome.INCONSISTENT
    confirmed = (
        prompts.statistics.get("another_confirmed", 0) > 0
        and deltas is not None
        and deltas.statistics.get("answers_rejecting", 0) >= 2
    )
    decisive = active and cut and confirmed
    findings: tuple[Finding, ...] = ()
    outcome = Outcome.INCONSISTENT
    if decisive:
        summary = f"prompt tokens and deltas are not those of {claim}, and a repeat confirmed it"
        found = "; ".join(one.summary for one in against)
        findings = (finding("tokenizer-contradiction", subject, summary, found=found),)
    elif active and cut:
        summary = f"prompt tokens and deltas are not those of {claim}; no repeat confirmed it"
    elif cut and prompts.outcome is Outcome.CONSISTENT:
        summary = f"`usage` is that of {claim}, the deltas are not"
        findings = (finding("usage-spoofed", subject, summary),)
    elif cut:
        summary = f"the deltas are not those of {claim}; prompt tokens say nothing"
    elif against and deltas is not None and deltas.outcome is Outcome.CONSISTENT:
        outcome = Outcome.CONSISTENT
        summary = f"the deltas are those of {claim}; `usage` is made by something else"
    elif against:
        summary = f"`usage` is not that of {claim}; no stream confirms or refutes it"
    elif any(one.outcome is Outcome.CONSISTENT for one in present):
        outcome = Outcome.CONSISTENT
        summary = "; ".join(one.summary for one in present if one.outcome is Outcome.CONSISTENT)
    else:
        outcome = Outcome.NOT_TESTABLE
        summary = "neither prompt tokens nor streams could be tested"
    rates = deltas.error_rates if deltas is not None else None
    return TestResult(
        name=NAME,
        outcome=outcome,
        summary=summary,
        decisive=decisive,
        samples=sum(one.samples for one in present),
        requests=sum(one.requests for one in present if one is not recount),
        tokens=sum(one.tokens for one in present if one is not recount),
        error_rates=None
        if rates is None
        else ErrorRates(
            alpha=rates.alpha,
            beta=None,
            basis="of the deltas; the prompt tokens, which must agree, are exact",
        ),
        statistics={
            "tests_against": float(len(against)),
            "tests_for": float(sum(one.outcome is Outcome.CONSISTENT for one in present)),
            "confirmed": float(confirmed),
        },
        findings=findings,
        benign=tuple(dict.fromkeys(cause for one in present for cause in one.benign)),
        cannot_tell=tuple(dict.fromkeys(limit for one in present for limit in one.cannot_tell)),
    )
