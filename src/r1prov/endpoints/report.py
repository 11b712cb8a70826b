"""What an audit or a comparison of endpoints came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from r1prov.endpoints.result import Outcome, TestResult
from r1prov.verify.findings import Finding

CONSISTENT, INCONSISTENT, NOT_TESTABLE = (
    Outcome.CONSISTENT,
    Outcome.INCONSISTENT,
    Outcome.NOT_TESTABLE,
)
_EXIT = {CONSISTENT: 0, INCONSISTENT: 1, NOT_TESTABLE: 3}
# What no test of answers can tell; a report always says so.
NEVER = (
    "that the endpoint is genuine: that takes signed answers and verified weights",
    "which weights answer requests that are not part of this audit",
)


@dataclass(frozen=True, slots=True)
class NotRun:
    """A test that was left out.

    Attributes:
        name: Of the test.
        why: One sentence without a full stop.
    """

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """An endpoint, a recorded reference or a test set, of a report.

    Attributes:
        role: `endpoint`, `reference`, `A`, `B`, or `questions` for a test set.
        name: URL without secrets, file name, or name of a data set.
        model: Model name that was asked for, or that a reference is of.
        detail: Who signed a reference, and the like.
    """

    role: str
    name: str
    model: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plots:
    """Numbers behind the plots of a report.

    Attributes:
        times: Kind of time and side to seconds, ascending.
        residuals: Probe to counted minus expected tokens, both as differences to the base probe.
        sprt: Log-likelihood ratio after each boundary, in order; thinned out if long.
        sprt_bounds: Where that test decides: lower and upper.
    """

    times: Mapping[str, Sequence[float]] = field(default_factory=dict)
    residuals: Mapping[str, float] = field(default_factory=dict)
    sprt: Sequence[float] = ()
    sprt_bounds: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReport:
    """Verdict and results of one audit or comparison.

    Attributes:
        kind: `audit` or `compare`.
        claim: What is held against the answers, such as `DeepSeek-R1`.
        verdict: `consistent`, `inconsistent` or `not-testable`.
        headline: One sentence that says why.
        sides: Who was asked, or had been.
        results: Of every test, in the order in which they were run.
        not_run: Tests that were left out.
        alpha: Bound of the probability that an endpoint which serves what it claims is called
            inconsistent (Bonferroni over the decisive tests that were run); None if none was.
        requests: Requests sent in this run, retries included.
        tokens: Prompt and completion tokens as the endpoint counted them.
        replayed: Answers taken from the log of an earlier run.
        seed: Of everything that is random.
        log: File of the exchanges.
        log_head: Its last record: with it the log can be held against this report later.
        findings: About the audit itself; those of tests stand in their results.
        plots: Numbers for plots.
    """

    kind: str
    claim: str
    verdict: Outcome
    headline: str
    sides: tuple[Side, ...]
    results: tuple[TestResult, ...]
    not_run: tuple[NotRun, ...]
    alpha: float | None
    requests: int
    tokens: int
    replayed: int
    seed: int
    log: str
    log_head: str
    started_at: datetime
    finished_at: datetime
    version: str
    findings: tuple[Finding, ...] = ()
    plots: Plots = field(default_factory=Plots)

    @property
    def exit_status(self) -> int:
        """0 consistent, 1 inconsistent, 3 not testable."""
        return _EXIT[self.verdict]

    @property
    def benign(self) -> tuple[str, ...]:
        """Harmless causes of what speaks against the claim; none where nothing does."""
        against = [one for one in self.results if one.outcome is INCONSISTENT]
        return tuple(dict.fromkeys(cause for one in against for cause in one.benign))

    @property
    def cannot_tell(self) -> tuple[str, ...]:
        """What this report is blind to."""
        limits = [limit for one in self.results for limit in one.cannot_tell]
        return tuple(dict.fromkeys((*NEVER, *limits)))


def compose(
    results: Sequence[TestResult], claim: str, *, stopped: str | None = None
) -> tuple[Outcome, str]:
    """The verdict of several results, and why.

    Only a decisive result makes it `inconsistent`. One that speaks against the claim and is not
    decisive takes away `consistent` and no more: one level alone is a suspicion.

    Args:
        results: Of every test.
        claim: For the sentence.
        stopped: Why not everything could be asked.
    """
    against = [one for one in results if one.outcome is INCONSISTENT]
    decisive = [one for one in against if one.decisive]
    # Weak evidence for a claim is none: what any model's answers show cannot carry the verdict.
    carrying = [one for one in results if one.outcome is CONSISTENT and one.name in CARRYING]
    if decisive:
        return INCONSISTENT, f"inconsistent with {claim}: {decisive[0].summary}"
    if against:
        # The one that speaks for others, where there is one.
        told = next((one for one in against if one.name in CARRYING), against[0])
        return NOT_TESTABLE, f"not decided: {told.name} speaks against {claim}: {told.summary}"
    if stopped is not None:
        return NOT_TESTABLE, f"not decided: {stopped}"
    if carrying:
        tests = ", ".join(f"{one.name} ({one.samples:,} samples)" for one in carrying)
        return CONSISTENT, f"nothing speaks against {claim}; tested: {tests}"
    return NOT_TESTABLE, "no test that could refute the claim could be made"


# Tests that could have refuted the claim.
CARRYING = frozenset(
    {"tokenizer", "completions", "log-probabilities", "border-inputs", "questions"}
)


def overall_alpha(results: Sequence[TestResult]) -> float | None:
    """Sum of the error rates of the decisive tests that were run: Bonferroni's bound."""
    rates = [
        one.error_rates.alpha
        for one in results
        if one.name in CARRYING
        and one.outcome in (CONSISTENT, INCONSISTENT)
        and one.error_rates is not None
        and one.error_rates.alpha is not None
    ]
    return min(1.0, sum(rates)) if rates else None
