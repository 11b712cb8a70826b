"""Putting a test set to an endpoint: accuracy, and whether it fell against a baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from r1prov.endpoints.accuracy import Paired, drop_test, mcnemar, pair, wilson
from r1prov.endpoints.chat import ChatRequest, Reply
from r1prov.endpoints.comparison import Names
from r1prov.endpoints.question_set import Question, score
from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.verify.findings import Finding, finding

QUESTIONS = "questions"
# What DeepSeek advises for R1; a model that reasons loops at 0.
TEMPERATURE = 0.6
_SHOWN = 5

_BENIGN = (
    "answers that were cut off",
    "a chance run: ask again with other questions",
    "another prompt template or sampling than the baseline had",
)
_CANNOT_TELL = (
    "questions that are not like these",
    "models that answer these questions as well: a large distill is near R1 on mathematics",
    "a 4-bit quantization of R1, which loses next to nothing on common test sets",
)


@dataclass(slots=True)
class Scored:
    """Questions that were answered, with whether each answer is right.

    Attributes:
        right: Question id to whether it was.
        cut: How many answers were cut off by their length.
        failed: Questions that got no answer.
        tokens: That the answers took.
    """

    right: dict[str, bool] = field(default_factory=dict)
    cut: int = 0
    failed: int = 0
    tokens: int = 0


def question_request(question: Question, max_tokens: int) -> ChatRequest:
    """A request for the answer to one question."""
    return ChatRequest(prompt=question.prompt, max_tokens=max_tokens, temperature=TEMPERATURE)


def score_replies(questions: Sequence[Question], replies: Sequence[Reply]) -> Scored:
    """Score answers, reasoning left out.

    Raises:
        UsageError: A scorer needs a package that is missing.
    """
    found = Scored()
    for question, reply in zip(questions, replies, strict=True):
        if not reply.usable:
            found.failed += 1
            continue
        found.right[question.id] = score(question, reply.answer.content)
        found.cut += reply.answer.finish_reason == "length"
        usage = reply.answer.usage
        if usage is not None:
            found.tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    return found


def question_result(
    scored: Scored,
    baseline: Mapping[str, bool] | None,
    *,
    alpha: float,
    tolerated: float,
    names: Names,
    requests: int,
) -> TestResult:
    """Accuracy with its interval and, against a baseline, McNemar's test and the drop test.

    Args:
        scored: Of the endpoint.
        baseline: Of the trusted side, by question; None without one.
        alpha: Error rate of the drop test, the only one that decides.
        tolerated: Drop of accuracy that is still taken.
        names: Of the sides.
        requests: That were made.
    """
    asked, right = len(scored.right), sum(scored.right.values())
    if not asked:
        return TestResult(
            name=QUESTIONS,
            outcome=Outcome.NOT_TESTABLE,
            summary="no question was answered",
            requests=requests,
        )
    interval = wilson(right, asked)
    summary = (
        f"{right:,} of {asked:,} right: {right / asked:.1%} "
        f"({interval.low:.1%} to {interval.high:.1%})"
    )
    statistics = {
        "right": float(right),
        "asked": float(asked),
        "accuracy": right / asked,
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "failed": float(scored.failed),
        "cut": float(scored.cut),
    }
    notes: tuple[Finding, ...] = ()
    if scored.cut:
        message = f"{scored.cut:,} of {asked:,} answers were cut off by their length"
        notes = (finding("answers-cut", names.other, message),)
    shared = sorted(set(baseline or ()) & set(scored.right))
    if baseline is None or not shared:
        return TestResult(
            name=QUESTIONS,
            outcome=Outcome.DESCRIPTION,
            summary=summary + "; there is no baseline to hold it against",
            samples=asked,
            requests=requests,
            tokens=scored.tokens,
            statistics=statistics,
            findings=notes,
            cannot_tell=_CANNOT_TELL,
        )
    paired = pair([baseline[one] for one in shared], [scored.right[one] for one in shared])
    drop = drop_test(paired, tolerated=tolerated)
    rejects = drop.p_value <= alpha
    # Silence would be read as an answer where not even the worst one could have told.
    known = paired.both + paired.baseline_only
    worst = Paired(0, known, 0, paired.asked - known)
    able = rejects or drop_test(worst, tolerated=tolerated).p_value <= alpha
    statistics |= {
        "paired": float(paired.asked),
        "right_both": float(paired.both),
        "right_baseline_only": float(paired.baseline_only),
        "right_endpoint_only": float(paired.endpoint_only),
        "right_neither": float(paired.neither),
        "drop": drop.drop,
        "drop_tolerated": drop.tolerated,
        "drop_z": drop.z,
        "drop_p_value": drop.p_value,
        "mcnemar_p_value": mcnemar(paired),
    }
    summary += (
        f"; {drop.drop:+.1%} below {names.reference} on {paired.asked:,} questions "
        f"(more than {tolerated:.0%}: p = {drop.p_value:.2g}; McNemar p = "
        f"{statistics['mcnemar_p_value']:.2g})"
    )
    if not able:
        summary += "; with so few questions no drop could show"
    if rejects:
        lost = [one for one in shared if baseline[one] and not scored.right[one]]
        broken = finding(
            "accuracy-dropped",
            names.other,
            summary,
            expected=f"a drop of at most {tolerated:.0%}",
            found=f"{drop.drop:.1%}; right at the baseline only: {', '.join(lost[:_SHOWN])}"
            + (" …" if len(lost) > _SHOWN else ""),
        )
        notes = (broken, *notes)
    return TestResult(
        name=QUESTIONS,
        outcome=Outcome.INCONSISTENT
        if rejects
        else Outcome.CONSISTENT
        if able
        else Outcome.NOT_TESTABLE,
        summary=summary,
        decisive=rejects,
        samples=paired.asked,
        requests=requests,
        tokens=scored.tokens,
        error_rates=ErrorRates(
            alpha=alpha,
            beta=None,
            basis="one-sided score test for paired shares (Tango 1998) with a correction for "
            "continuity; asymptotic",
        ),
        statistics=statistics,
        findings=notes,
        benign=_BENIGN,
        cannot_tell=_CANNOT_TELL,
    )
