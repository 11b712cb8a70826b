"""The passive test of streams: deltas end where tokens end, at no request of its own.

A server sends a delta when it has a token, or several, so the ends of deltas are ends of tokens of
the tokenizer that made them. A relay that fakes `usage` and passes the stream on is caught by this;
one that cuts the stream anew with the claimed tokenizer is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.endpoints.tokens.deltas import Cuts, cuts_of, judged
from r1prov.endpoints.tokens.rates import HONEST, OTHER, USUAL, Apart, told_apart
from r1prov.endpoints.tokens.sprt import Decision, Sprt
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.verify.findings import Finding, finding

NAME = "delta-boundaries"
ALPHA = BETA = 1e-4
# Without so many boundaries inside words or numbers, a text that was cut between words by a relay
# would pass as tokens.
_MIN_INNER = 30

_BENIGN = (
    "several tokens in one delta: their last one ends it",
    "a relay may cut the stream anew, by words or by a number of characters",
    "models write some words in other tokens than their tokenizer would: part of the rate",
)
_CANNOT_TELL = (
    "quantized or fine-tuned weights",
    "a relay that cuts the stream anew with the claimed tokenizer",
)


@dataclass(slots=True)
class _Runs:
    """Decisions of tests that begin anew after each one, over answers in order."""

    low: int = 0
    high: int = 0
    accepting: set[int] = field(default_factory=set)
    rejecting: set[int] = field(default_factory=set)

    def add(self, decision: Decision, answer: int) -> None:
        if decision is Decision.LOW:
            self.low += 1
            self.accepting.add(answer)
        else:
            self.high += 1
            self.rejecting.add(answer)


def boundary_test(
    answers: Sequence[Answer],
    tokenizer: TextTokenizer,
    *,
    alternatives: Mapping[str, TextTokenizer] | None = None,
    alpha: float = ALPHA,
    beta: float = BETA,
    subject: str = "stream",
) -> TestResult:
    """Hold the deltas of streamed answers against the claimed tokenizer.

    The test begins anew after each decision, so an endpoint that changes its model half-way is
    noticed; `alpha` of the result is that of all runs together. It accepts only where tokenizers
    that are likely behind the claim would have been rejected (`USUAL`).

    Args:
        answers: In the order in which they were asked for; those that are not whole are left out.
        tokenizer: Of the claimed model.
        alternatives: Other tokenizers, if at hand: the one that fits is named.
        alpha: Probability that one run rejects an honest endpoint.
        beta: Probability that one run takes the weakest alternative for the claim.
        subject: What findings call the endpoint.

    Raises:
        UsageError: Error rates out of range.
        LimitExceeded: A text is longer than `MAX_RECOUNT_BYTES`.
    """
    used = [one for one in answers if one.streamed and one.countable]
    cuts = judged([one for one in (cuts_of(one, tokenizer) for one in used) if one is not None])
    sprt = Sprt(HONEST, OTHER, alpha, beta)
    runs = _Runs()
    inner = 0
    for number, one in enumerate(cuts):
        if one.rechunked is not None:
            continue
        inner += one.inner
        for trial in one.trials:
            decision = sprt.add(hit=trial)
            if decision is not Decision.CONTINUE:
                runs.add(decision, number)
                sprt.restart()
    sound = [one for one in cuts if one.rechunked is None]
    whys = [one.rechunked for one in cuts if one.rechunked is not None]
    rates = {
        name: _rate([cuts_of(one, other) for one in used])
        for name, other in (alternatives or {}).items()
    }
    outcome, summary, findings = _judge(runs, sound, whys, inner, sprt, rates, tokenizer, subject)
    # One that was begun and did not decide could have.
    begun = runs.low + runs.high + (sprt.trials > 0)
    apart = told_apart(tokenizer.name)
    return TestResult(
        name=NAME,
        outcome=outcome,
        summary=summary,
        samples=sum(len(one.trials) for one in sound),
        requests=len(used),
        tokens=sum(one.usage.completion_tokens or 0 for one in used if one.usage is not None),
        error_rates=ErrorRates(
            alpha=min(1.0, alpha * max(1, begun)),
            beta=beta,
            basis=(
                f"sequential test of independent boundaries, {HONEST:.1%} off against {OTHER:.1%};"
                " the first rate rests on five honest hosts, the second holds for the tokenizers"
                f" of {', '.join(sorted(apart.found)) or 'none of the table'}"
            ),
        ),
        statistics={
            "answers": float(len(used)),
            "answers_rechunked": float(len(whys)),
            "boundaries": float(sum(one.boundaries for one in sound)),
            "boundaries_off": float(sum(one.off for one in sound)),
            "boundaries_inner": float(inner),
            "runs_accepting": float(runs.low),
            "runs_rejecting": float(runs.high),
            "answers_rejecting": float(len(runs.rejecting)),
            "log_likelihood_ratio": sprt.ratio,
            **{f"off_rate_{name}": rate for name, rate in rates.items() if rate is not None},
        },
        findings=findings,
        benign=_BENIGN,
        cannot_tell=(
            f"models with the same vocabulary: {apart.same}",
            *_missed(apart),
            *_CANNOT_TELL,
        ),
    )


def _rate(cuts: Sequence[Cuts | None]) -> float | None:
    known = [one for one in cuts if one is not None]
    total = sum(one.boundaries for one in known)
    return sum(one.off for one in known) / total if total else None


def _missed(apart: Apart) -> tuple[str, ...]:
    if not apart.missed:
        return ()
    names = ", ".join(sorted(apart.missed))
    return (
        f"the tokenizers of {names} for sure: their tokens seldom end inside those of the claim",
    )


def _judge(
    runs: _Runs,
    sound: Sequence[Cuts],
    whys: Sequence[str],
    inner: int,
    sprt: Sprt,
    rates: Mapping[str, float | None],
    tokenizer: TextTokenizer,
    subject: str,
) -> tuple[Outcome, str, tuple[Finding, ...]]:
    total, off = sum(one.boundaries for one in sound), sum(one.off for one in sound)
    notes: tuple[Finding, ...] = ()
    if whys:
        why = "; ".join(dict.fromkeys(whys))
        notes = (finding("stream-rechunked", subject, f"deltas are no tokens: {why}"),)
    if not sound:
        why = notes[0].message if notes else "no whole streamed answer"
        return Outcome.NOT_TESTABLE, why, notes
    if runs.high:
        fitting = [name for name, rate in rates.items() if rate is not None and rate <= HONEST]
        message = f"{off:,} of {total:,} deltas end inside a token of {tokenizer.name}"
        if fitting:
            message += f"; all end with one of {', '.join(fitting)}"
        broken = finding(
            "deltas-cut-tokens",
            subject,
            message,
            expected=f"at most {HONEST:.1%}",
            found=f"{off / total:.1%}",
        )
        if runs.accepting - runs.rejecting:
            changed = (
                f"deltas of {len(runs.rejecting)} answers end inside tokens of {tokenizer.name}, "
                f"those of {len(runs.accepting - runs.rejecting)} or more do not"
            )
            notes = (*notes, finding("tokenizer-changed", subject, changed))
        return Outcome.INCONSISTENT, message, (broken, *notes)
    unseen = USUAL & told_apart(tokenizer.name).missed
    if runs.low and unseen:
        message = (
            f"{total - off:,} of {total:,} deltas end with a token of {tokenizer.name}; so would "
            f"those of {', '.join(sorted(unseen))}"
        )
        return Outcome.NOT_TESTABLE, message, notes
    if runs.low and inner >= _MIN_INNER:
        message = f"{total - off:,} of {total:,} deltas end with a token of {tokenizer.name}"
        return Outcome.CONSISTENT, message, notes
    if runs.low:
        message = f"of {total:,} deltas {inner} end inside a word or number: too few to tell"
        return Outcome.NOT_TESTABLE, message, notes
    wanted = sprt.expected_trials(HONEST)
    message = f"{total:,} deltas do not decide; about {wanted:,.0f} are needed"
    return Outcome.NOT_TESTABLE, message, notes
