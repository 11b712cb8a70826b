"""The active test: differences of `usage.prompt_tokens` between probes.

Three requests with `max_tokens` 1 settle an honest endpoint; where they do not fit the claim, two
more allow for a scale, and a second round confirms. `needed` says which requests come next, from
nothing but the observations, so an audit can stop and go on at any time.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.endpoints.tokens.explain import (
    Explanation,
    Kind,
    Observation,
    explain,
)
from r1prov.endpoints.tokens.fit import TOLERANCE
from r1prov.endpoints.tokens.reference import Counter, Probe, token_reference
from r1prov.verify.findings import Finding, finding

CLAIM = "DeepSeek-R1"
NAME = "prompt-tokens"
_FIRST = ("base", "digits", "armenian")
_SCALE = ("english", "japanese")
_MORE = ("georgian",)
_ROUNDS = 2
# No scale makes these clearer.
_SETTLED = (Kind.CLAIMED, Kind.CONSTANT, Kind.MISSING)
# What speaks against the claim is asked a second time.
_TO_CONFIRM = (Kind.OTHER, Kind.OTHER_SCALED, Kind.UNEXPLAINED, Kind.TOO_FEW)

_BENIGN = (
    "a hidden system prompt or another chat template adds a constant, which cancels",
    "billing multipliers are fitted as a scale",
    "a gateway may make `usage` with a tokenizer of its own, or estimate it",
    "cached tokens may be left out of the count by some hosts",
)
_CANNOT_TELL = (
    "quantized or fine-tuned weights",
    "a relay that makes `usage` with the claimed tokenizer",
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to make: the probe's text as the only message, `max_tokens` 1, temperature 0.

    Attributes:
        probe: What to send.
        round: Goes into the observation.
    """

    probe: Probe
    round: int


def needed(
    observations: Sequence[Observation], *, claim: str = CLAIM, confirm: bool = True
) -> tuple[Ask, ...]:
    """Which requests come next; none when the test can decide.

    Args:
        observations: What came back so far, in any order.
        claim: Model that is claimed.
        confirm: Whether what speaks against the claim is asked again. A contradiction that was
            not repeated is never decisive.

    Raises:
        UsageError: The table does not know the claimed model.
    """
    reference = token_reference()
    claimed = reference.family_of(claim)
    for number in range(_ROUNDS if confirm else 1):
        asked = [one for one in observations if one.round == number]
        found = _explain_round(observations, number, claimed)
        groups: list[tuple[str, ...]] = [_FIRST]
        if found.kind not in _SETTLED:
            groups.append(_SCALE)
            if found.kind in (Kind.UNEXPLAINED, Kind.TOO_FEW) and number == 0:
                groups.append(_MORE)
        known = {one.probe for one in asked}
        for group in groups:
            wanted = [name for name in group if name not in known]
            if wanted:
                return tuple(Ask(reference.probe(name), number) for name in wanted)
        if found.kind not in _TO_CONFIRM:
            return ()
    return ()


def prompt_token_requests(
    *, claim: str = CLAIM, confirm: bool = True
) -> Generator[tuple[Ask, ...], Sequence[Observation], TestResult]:
    """`needed` as a generator: yields requests, is sent observations, returns the result."""
    observations: list[Observation] = []
    while asks := needed(observations, claim=claim, confirm=confirm):
        answers = yield asks
        found = {(one.probe, one.round) for one in answers}
        observations += answers
        # A request that failed is one without a count, or it would be wanted for ever.
        observations += [
            Observation(one.probe.id, None, one.round)
            for one in asks
            if (one.probe.id, one.round) not in found
        ]
    return prompt_token_test(observations, claim=claim)


def prompt_token_test(
    observations: Sequence[Observation], *, claim: str = CLAIM, subject: str = "usage"
) -> TestResult:
    """What the counts say of the claim. Pure: the same observations give the same result.

    Args:
        observations: One a request, in any order; probes of other tests are left out.
        claim: Model that is claimed.
        subject: What findings call the endpoint.

    Raises:
        UsageError: The table does not know the claimed model.
    """
    reference = token_reference()
    claimed = reference.family_of(claim)
    names = {one.id for one in reference.probes}
    own = [one for one in observations if one.probe in names]
    rounds = sorted({one.round for one in own})
    found = [_explain_round(own, number, claimed) for number in rounds]
    found = [one for one in found if one.kind is not Kind.TOO_FEW] or found[:1]
    last = found[-1] if found else Explanation(Kind.TOO_FEW)
    changed = _changed(own)
    kinds = {(one.kind, one.fit.counter.name if one.fit else "") for one in found}
    # A prompt that changes unseen moves every count of a round alike, and the rounds still agree.
    agree = len(kinds) == 1 and not (changed and last.kind is Kind.UNEXPLAINED)
    if agree or len(found) < 2:
        outcome, summary, findings = _judge(last, claimed, claim, subject)
        if changed:
            findings = (*findings, _unstable(subject))
    else:
        outcome, summary, findings = _judge_changes(found, claim, subject)
    repeated = len(found) > 1 and agree
    statistics = _statistics(own, last)
    statistics["rounds"] = float(len(found))
    statistics["repeated"] = float(repeated)
    # Counts that nothing explains may be an estimate that nobody here knows.
    statistics["another_confirmed"] = float(
        repeated and last.kind in (Kind.OTHER, Kind.OTHER_SCALED)
    )
    return TestResult(
        name=NAME,
        outcome=outcome,
        summary=summary,
        samples=len({one.probe for one in own if one.tokens is not None}),
        requests=len(own),
        tokens=sum(one.spent or one.tokens or 0 for one in own),
        error_rates=ErrorRates(
            alpha=None,
            beta=None,
            basis=(
                f"counts are exact: {TOLERANCE} tokens are let pass, and every other counter of "
                f"the table is {_separation(claimed)} tokens or more away from {claim} on "
                "three probes"
            ),
        ),
        statistics=statistics,
        findings=findings,
        benign=_BENIGN,
        cannot_tell=(f"models with the same vocabulary: {claimed.title}", *_CANNOT_TELL),
    )


def _explain_round(
    observations: Sequence[Observation], number: int, claimed: Counter
) -> Explanation:
    reference = token_reference()
    names = {one.id for one in reference.probes}
    of_round = [one for one in observations if one.round == number and one.probe in names]
    seen = {one.probe: one.tokens for one in of_round if one.tokens is not None}
    missing = sum(one.tokens is None for one in of_round)
    return explain(seen, missing, claimed, reference)


def _changed(observations: Sequence[Observation]) -> bool:
    """Whether one probe was counted differently at different times."""
    counts: dict[str, set[int]] = {}
    for one in observations:
        if one.tokens is not None:
            counts.setdefault(one.probe, set()).add(one.tokens)
    return any(max(values) - min(values) > TOLERANCE for values in counts.values())


def _judge(
    found: Explanation, claimed: Counter, claim: str, subject: str
) -> tuple[Outcome, str, tuple[Finding, ...]]:
    """Outcome, summary and findings of rounds that agree."""
    fit = found.fit
    notes: tuple[Finding, ...] = ()
    if found.rounding > 1:
        message = f"every count is a multiple of {found.rounding}"
        notes = (finding("usage-rounded", subject, message),)
    match found.kind:
        case Kind.TOO_FEW:
            return (
                Outcome.NOT_TESTABLE,
                "the probes that were counted do not tell tokenizers apart",
                (),
            )
        case Kind.MISSING:
            message = "answers to probes hold no prompt tokens"
            return Outcome.NOT_TESTABLE, message, (finding("usage-missing", subject, message),)
        case Kind.CONSTANT:
            message = "every probe has the same count, whatever its length"
            return Outcome.NOT_TESTABLE, message, (finding("usage-constant", subject, message),)
        case Kind.UNEXPLAINED:
            message = f"the counts fit neither the tokenizer of {claim} nor another of the table"
            broken = finding(
                "prompt-tokens-unexplained",
                subject,
                message,
                expected=f"differences of {claimed.name}",
                found=f"off by {found.claimed.residual:.0f} tokens" if found.claimed else None,
            )
            blurred = found.rounding > 1
            outcome = Outcome.NOT_TESTABLE if blurred else Outcome.INCONSISTENT
            return outcome, message, (*notes, broken)
    assert fit is not None  # noqa: S101 - every kind that is left has one
    title = fit.counter.title
    match found.kind:
        case Kind.CLAIMED:
            return Outcome.CONSISTENT, f"prompt tokens are those of {title}", notes
        case Kind.CLAIMED_SCALED:
            message = f"prompt tokens are those of {title} times {fit.scale:.3g}"
            return Outcome.CONSISTENT, message, (*notes, finding("usage-scaled", subject, message))
        case Kind.ESTIMATE:
            message = f"prompt tokens follow {title} times {fit.scale:.3g}, not a model's tokenizer"
            broken = finding("usage-estimated", subject, message)
            return Outcome.NOT_TESTABLE, message, (*notes, broken)
    message = f"prompt tokens are those of {title}"
    if found.kind is Kind.OTHER_SCALED:
        message += f" times {fit.scale:.3g}"
        notes = (*notes, finding("usage-scaled", subject, message))
    broken = finding(
        "prompt-tokens-other-tokenizer",
        subject,
        message,
        expected=claimed.title,
        found=fit.counter.name,
    )
    return Outcome.INCONSISTENT, message, (*notes, broken)


def _judge_changes(
    found: Sequence[Explanation], claim: str, subject: str
) -> tuple[Outcome, str, tuple[Finding, ...]]:
    """Rounds that disagree: a model that was swapped, or counts that mean nothing."""
    others = [
        one.fit.counter
        for one in found
        if one.fit is not None and one.kind in (Kind.OTHER, Kind.OTHER_SCALED)
    ]
    mine = any(one.kind in (Kind.CLAIMED, Kind.CLAIMED_SCALED) for one in found)
    unstable = _unstable(subject)
    if not others:
        return Outcome.NOT_TESTABLE, unstable.message, (unstable,)
    message = f"some probes were counted with the tokenizer of {others[0].title}"
    if mine:
        message += f", some with that of {claim}"
    broken = finding("tokenizer-changed", subject, message, found=others[0].name)
    return Outcome.INCONSISTENT, message, (unstable, broken)


def _unstable(subject: str) -> Finding:
    return finding("usage-unstable", subject, "one prompt has had different token counts")


def _separation(claimed: Counter) -> int:
    """Whole tokens by which the nearest other counter misses a count of the first probes."""
    others = (one for one in token_reference().counters if one is not claimed)

    def spread(one: Counter) -> int:
        apart = [one.counts[name] - claimed.counts[name] for name in _FIRST]
        return max(apart) - min(apart)

    return min(map(spread, others)) // 2


def _statistics(observations: Sequence[Observation], found: Explanation) -> dict[str, float]:
    counts = {one.probe: one.tokens for one in observations if one.tokens is not None}
    numbers = {f"tokens_{name}": float(count) for name, count in counts.items()}
    if "base" in counts:
        for name, count in counts.items():
            if name != "base":
                numbers[f"difference_{name}"] = float(count - counts["base"])
    if found.claimed is not None:
        numbers["residual_claimed"] = found.claimed.residual
        numbers["offset_claimed"] = found.claimed.offset
    if found.margin is not None:
        numbers["residual_nearest_other"] = found.margin
    if found.fit is not None:
        numbers["scale"] = found.fit.scale
        numbers["offset"] = found.fit.offset
        numbers["residual"] = found.fit.residual
    numbers["rounding"] = float(found.rounding)
    return numbers
