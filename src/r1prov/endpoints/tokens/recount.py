"""The passive test of `usage`: count the text that came with the claimed tokenizer.

Costs no request. Reasoning counts as completion; an end token and the tags around the reasoning
are not in the text, so a few tokens are let pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.endpoints.tokens.rates import told_apart
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.verify.findings import Finding, finding

NAME = "completion-recount"
# Twenty answers of five honest hosts, of 20 to 250 tokens, were off by 4 at most.
TOLERANCE = 8
# Models write some words in other tokens than their tokenizer would.
TOLERANCE_SHARE = 0.01
# Answers shorter than this hold every counter within the tolerance.
_MIN_TOKENS = 60
_MIN_SPREAD = 20
# Answers off: fewer than the first are chance or a filter, from the second on it is the counter.
_FEW, _MANY = 0.1, 0.2
_ROUNDING, _ROUNDED_ANSWERS = 5, 4
_MAX_ROUNDING = 25
# Characters or bytes to a token, as gateways estimate.
_DIVISORS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0)

_BENIGN = (
    "a gateway may make `usage` with a tokenizer of its own, or estimate it",
    "some hosts leave the reasoning out of the count",
    "a content filter may take away text that was counted",
    "billing multipliers, which the prompt tokens show",
)
_CANNOT_TELL = (
    "tokenizers that count this very text alike: with English prose many do",
    "a relay that recounts with the claimed tokenizer",
)


@dataclass(frozen=True, slots=True)
class _Counted:
    """One answer: what the endpoint counted and what we count."""

    stated: int
    whole: int
    content: int
    characters: int
    utf8: int
    reasons: bool

    def fits(self, count: float, slack: float = 0) -> bool:
        return abs(self.stated - count) <= TOLERANCE + TOLERANCE_SHARE * count + slack


def recount_test(
    answers: Sequence[Answer],
    tokenizer: TextTokenizer,
    *,
    scale: float = 1.0,
    alternatives: Mapping[str, TextTokenizer] | None = None,
    subject: str = "usage",
) -> TestResult:
    """Hold `usage.completion_tokens` against a recount.

    Args:
        answers: Those that are whole, plain text and counted are used.
        tokenizer: Of the claimed model.
        scale: Factor of billing that the prompt tokens showed.
        alternatives: Other tokenizers, if at hand: the one that fits is named.
        subject: What findings call the endpoint.

    Raises:
        LimitExceeded: A text is longer than `MAX_RECOUNT_BYTES`.
    """
    whole = [one for one in answers if one.countable]
    counted = [_count(one, tokenizer) for one in whole]
    known = [one for one in counted if one is not None]
    long = [one for one in known if one.whole >= _MIN_TOKENS]
    outcome, summary, findings = _judge(known, long, scale, subject, tokenizer, bool(whole))
    fitting = _fitting(whole, alternatives or {})
    if outcome is Outcome.INCONSISTENT and fitting:
        summary += f"; they are those of {', '.join(fitting)}"
    residuals = [one.stated - scale * one.whole for one in known]
    return TestResult(
        name=NAME,
        outcome=outcome,
        summary=summary,
        samples=len(long),
        requests=len(known),
        tokens=sum(one.stated for one in known),
        error_rates=ErrorRates(
            alpha=None,
            beta=None,
            basis=(
                f"{TOLERANCE} tokens and {TOLERANCE_SHARE:.0%} are let pass; of 20 answers of five "
                "honest hosts none was off by more than 4"
            ),
        ),
        statistics={
            "answers": float(len(known)),
            "tokens_recounted": float(sum(one.whole for one in known)),
            "answers_off": float(sum(not one.fits(scale * one.whole) for one in long)),
            "residual_sum": float(sum(residuals)),
            "residual_largest": float(max((abs(one) for one in residuals), default=0)),
        },
        findings=findings,
        benign=_BENIGN,
        cannot_tell=(
            f"models with the same vocabulary: {told_apart(tokenizer.name).same}",
            *_CANNOT_TELL,
        ),
    )


def _count(answer: Answer, tokenizer: TextTokenizer) -> _Counted | None:
    if answer.usage is None or answer.usage.completion_tokens is None:
        return None
    text = answer.reasoning + answer.content
    content = tokenizer.count(answer.content)
    return _Counted(
        answer.usage.completion_tokens,
        tokenizer.count(answer.reasoning) + content,
        content,
        len(text),
        len(text.encode(errors="replace")),
        bool(answer.reasoning),
    )


def _judge(
    known: Sequence[_Counted],
    long: Sequence[_Counted],
    scale: float,
    subject: str,
    tokenizer: TextTokenizer,
    any_answer: bool,  # noqa: FBT001 - private, called once
) -> tuple[Outcome, str, tuple[Finding, ...]]:
    if not known:
        if not any_answer:
            return Outcome.NOT_TESTABLE, "no whole answer", ()
        message = "answers hold no completion tokens"
        return Outcome.NOT_TESTABLE, message, (finding("usage-missing", subject, message),)
    if not long:
        return Outcome.NOT_TESTABLE, f"no answer of {_MIN_TOKENS} tokens or more", ()
    stated = {one.stated for one in long}
    spread = max(one.whole for one in long) - min(one.whole for one in long)
    if len(long) >= 2 and len(stated) == 1 and spread > _MIN_SPREAD:
        message = "answers of different length have the same count"
        return Outcome.NOT_TESTABLE, message, (finding("usage-constant", subject, message),)
    step = math.gcd(*stated) if len(long) >= _ROUNDED_ANSWERS else 1
    step = step if step >= _ROUNDING else 1
    notes: tuple[Finding, ...] = ()
    if step > 1:
        notes = (finding("usage-rounded", subject, f"every count is a multiple of {step}"),)
    slack = min(step, _MAX_ROUNDING) if step > 1 else 0
    off = [one for one in long if not one.fits(scale * one.whole, slack)]
    if len(off) <= _FEW * len(long):
        message = (
            f"completion tokens of {len(long) - len(off)} of {len(long)} answers are those of "
        )
        return Outcome.CONSISTENT, message + tokenizer.name, notes
    if all(one.fits(scale * one.content, slack) for one in long):
        message = "completion tokens are those of the answers without their reasoning"
        broken = finding("usage-without-reasoning", subject, message)
        return Outcome.CONSISTENT, message, (*notes, broken)
    estimate = _estimate(long, slack) if len(long) >= 2 else None
    if estimate is not None:
        message = f"completion tokens are {estimate}"
        broken = finding("usage-estimated", subject, message)
        return Outcome.NOT_TESTABLE, message, (*notes, broken)
    if all(not one.reasons and one.stated > scale * one.whole for one in off):
        message = "more was counted than was sent: reasoning that is kept back would be"
        return Outcome.NOT_TESTABLE, message, notes
    worst = max(off, key=lambda one: abs(one.stated - scale * one.whole))
    message = (
        f"completion tokens of {len(off)} of {len(long)} answers are not those of {tokenizer.name}"
    )
    broken = finding(
        "completion-tokens-differ",
        subject,
        message,
        expected=f"{scale * worst.whole:,.0f} tokens",
        found=f"{worst.stated:,}",
    )
    if len(off) < 2 or len(off) < _MANY * len(long):
        return Outcome.NOT_TESTABLE, f"{message}: too few to tell", (*notes, broken)
    return Outcome.INCONSISTENT, message, (*notes, broken)


def _estimate(long: Sequence[_Counted], slack: float) -> str | None:
    for divisor in _DIVISORS:
        for name in ("characters", "utf8"):
            counts = [getattr(one, name) / divisor for one in long]
            if all(
                abs(one.stated - count) <= 1.5 + slack
                for one, count in zip(long, counts, strict=True)
            ):
                unit = "characters" if name == "characters" else "UTF-8 bytes"
                return f"the {unit} over {divisor:g}"
    return None


def _fitting(answers: Sequence[Answer], others: Mapping[str, TextTokenizer]) -> list[str]:
    """Other tokenizers that explain every answer."""
    found = []
    for name, other in others.items():
        counted = [one for one in (_count(a, other) for a in answers) if one is not None]
        if counted and all(one.fits(one.whole) for one in counted):
            found.append(name)
    return found
