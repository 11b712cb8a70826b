"""Results of holding samples of one side against those of another.

The statistics are in `equality`, `logprobs`, `text_statistics` and `timing`; here they become
results with sizes, error rates and what else they could mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r1prov.endpoints.answer import Answer, Part
from r1prov.endpoints.equality import EqualityResult, compare_completions
from r1prov.endpoints.equality import Samples as Texts
from r1prov.endpoints.logprobs import LogprobSamples, compare_logprobs
from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.endpoints.sampling import Samples
from r1prov.endpoints.sequential import Look
from r1prov.endpoints.text_statistics import MIN_PROMPTS, compare_texts
from r1prov.endpoints.timing import (
    MIN_MODALITY_SAMPLES,
    MODALITY_LEVEL,
    StreamTimes,
    describe_times,
    phases,
)
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.errors import LimitExceeded, UsageError
from r1prov.verify.findings import Finding, finding

COMPLETIONS, LOGPROBS = "completions", "log-probabilities"
# Kernels, hardware and batching move log-probabilities of the same weights; measured with llama.cpp
# they moved by 0.0003 on average, and the mildest quantization (Q8_0) moved them by 0.1.
LOGPROB_TOLERANCE = 0.02

_BENIGN = (
    "a host that sets the temperature or other sampling parameters itself",
    "a hidden system prompt or another chat template",
    "a cache that answers a repeated prompt with one answer",
    "quantized weights that the operator tells of",
    "a reasoning budget that cuts the reasoning short",
    "a newer release behind the same name, as R1-0528 was once behind R1's",
)
_CANNOT_TELL = (
    "why the sides differ",
    "differences that need more samples than were asked for: a mild quantization takes thousands",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the sides are called in sentences."""

    reference: str = "the reference"
    other: str = "the endpoint"


def completions_result(
    reference: Texts,
    samples: Samples,
    looks: Sequence[Look],
    *,
    kernel: str,
    seed: int,
    names: Names,
    tokenizer: TextTokenizer | None = None,
    other_requests: int = 0,
) -> tuple[TestResult, bool]:
    """The equality test at the latest of some looks, and whether it rejects there.

    Args:
        reference: Completions of the trusted side.
        samples: Of the other side.
        looks: Those that were taken, this one last; each but the last with its p-value.
        kernel: Name of the kernel.
        seed: Of the permutations.
        names: Of the sides.
        tokenizer: For the kernel on tokens.
        other_requests: Requests to the trusted side, if it is an endpoint too.
    """
    alpha = sum(one.alpha for one in looks)
    texts = samples.texts()
    try:
        found = compare_completions(reference, texts, kernel=kernel, tokenizer=tokenizer, seed=seed)
    except (UsageError, LimitExceeded) as error:
        return untestable(COMPLETIONS, error.message, samples.requests + other_requests), False
    least = smallest_p_value(found)
    if least > looks[-1].alpha:  # silence would be read as an answer
        why = f"{found.other:,} against {found.reference:,} completions are too few to tell"
        return untestable(COMPLETIONS, why, samples.requests + other_requests), False
    rejects = found.p_value <= looks[-1].alpha
    summary = (
        f"completions of {names.other} "
        + ("are not those of " if rejects else "are not told from those of ")
        + f"{names.reference} (p = {found.p_value:.2g}, {found.other:,} against "
        f"{found.reference:,} of {len(found.prompts):,} prompts)"
    )
    findings: tuple[Finding, ...] = ()
    if rejects:
        broken = finding(
            "completions-differ",
            names.other,
            summary,
            expected=f"p above {looks[-1].alpha:.2g} at look {len(looks)}",
            found=f"p = {found.p_value:.2g}",
        )
        findings = (broken,)
    result = TestResult(
        name=COMPLETIONS,
        outcome=Outcome.INCONSISTENT if rejects else Outcome.CONSISTENT,
        summary=summary,
        decisive=rejects,
        samples=found.other,
        requests=samples.requests + other_requests,
        tokens=samples.tokens,
        error_rates=ErrorRates(
            alpha=alpha,
            beta=None,
            basis=(
                f"permutation within prompts, exact; {len(looks)} looks share the rate by the "
                "union bound. Power depends on the difference: docs/endpoint-error-rates.md "
                "has what was measured"
            ),
        ),
        statistics={
            "mmd2": found.statistic,
            "p_value": found.p_value,
            "permutations": float(found.permutations),
            "looks": float(len(looks)),
            "reference_completions": float(found.reference),
            "prompts": float(len(found.prompts)),
            "prompts_left_out": float(len(found.left_out)),
            "requests_failed": float(samples.failed),
            **{f"mmd2_{one.prompt}": one.mmd2 for one in found.prompts[:5]},
        },
        findings=findings,
        benign=_BENIGN,
        cannot_tell=_CANNOT_TELL,
    )
    return result, rejects


def smallest_p_value(found: EqualityResult) -> float:
    """The smallest p-value that a test with so many completions could have come to.

    Where both sides have as many of every prompt, each labelling and its opposite have one
    statistic.
    """
    labellings = math.prod(math.comb(one.reference + one.other, one.other) for one in found.prompts)
    mirrored = 2 if all(one.reference == one.other for one in found.prompts) else 1
    return max(mirrored / labellings, 1 / (1 + found.permutations))


def logprobs_result(
    reference: LogprobSamples,
    other: LogprobSamples,
    *,
    alpha: float,
    seed: int,
    names: Names,
    requests: int,
    tokens: int = 0,
) -> TestResult:
    """The test on log-probabilities of first tokens.

    Args:
        reference: Of the trusted side.
        other: Of the other side.
        alpha: Error rate.
        seed: Of the permutations.
        names: Of the sides.
        requests: That were made for it.
        tokens: That these took.
    """
    try:
        found = compare_logprobs(reference, other, seed=seed)
    except UsageError as error:
        return untestable(LOGPROBS, error.message, requests)
    differs = found.p_value <= alpha
    beyond = found.difference > max(LOGPROB_TOLERANCE, 3 * found.noise)
    rejects = differs and beyond
    summary = (
        f"log-probabilities differ by {found.difference:.4f} on average "
        f"(p = {found.p_value:.2g}, noise {found.noise:.4f}, {found.prompts:,} prompts)"
    )
    if differs and not beyond:
        summary += f": no more than kernels and batching may do ({LOGPROB_TOLERANCE})"
    findings: tuple[Finding, ...] = ()
    if rejects:
        broken = finding(
            "logprobs-differ",
            names.other,
            summary,
            expected=f"at most {LOGPROB_TOLERANCE} from {names.reference}",
            found=f"{found.difference:.4f}",
        )
        findings = (broken,)
    # With few prompts no labelling can reach the rate: silence would be read as an answer.
    least = 1 / 3**found.prompts
    able = rejects or least <= alpha
    return TestResult(
        name=LOGPROBS,
        outcome=Outcome.INCONSISTENT
        if rejects
        else Outcome.CONSISTENT
        if able
        else Outcome.NOT_TESTABLE,
        summary=summary if able else f"{found.prompts} prompts are too few to tell",
        decisive=rejects,
        samples=found.other,
        requests=requests,
        tokens=tokens,
        error_rates=ErrorRates(
            alpha=alpha,
            beta=None,
            basis="permutation within prompts, and more than kernels and batching do",
        ),
        statistics={
            "difference": found.difference,
            "noise": found.noise,
            "p_value": found.p_value,
            "prompts": float(found.prompts),
            "reference_answers": float(found.reference),
            "answers": float(found.other),
        },
        findings=findings,
        benign=(
            "a hidden system prompt or another chat template",
            "quantized weights that the operator tells of",
            "log-probabilities that a host takes after temperature or penalties",
        ),
        cannot_tell=("why the sides differ", "what comes after the first token"),
    )


def text_result(
    reference: Mapping[str, Sequence[str]],
    other: Mapping[str, Sequence[str]],
    *,
    seed: int,
    names: Names,
) -> TestResult:
    """Text statistics of both sides with intervals. A description: nothing is decided by it."""
    name = "text-statistics"
    try:
        found = compare_texts(reference, other, seed=seed)
    except UsageError as error:
        return untestable(name, error.message, 0)
    # A statistic that only long texts have may have fewer prompts than the others.
    found = tuple(one for one in found if one.prompts >= MIN_PROMPTS)
    if not found:
        return untestable(name, f"fewer than {MIN_PROMPTS} prompts are too few for intervals", 0)
    apart = [one for one in found if one.low > 0 or one.high < 0]
    statistics: dict[str, float] = {}
    for one in found:
        key = one.statistic.replace(" ", "_")
        statistics |= {
            f"{key}_reference": one.reference,
            f"{key}_other": one.other,
            f"{key}_low": one.low,
            f"{key}_high": one.high,
            f"{key}_p_value": one.p_value,
            f"{key}_distance": one.distance,
        }
    told = ", ".join(
        f"{one.statistic} {one.difference:+.3g} ({one.low:+.3g} to {one.high:+.3g})"
        for one in apart
    )
    return TestResult(
        name=name,
        outcome=Outcome.DESCRIPTION,
        summary=f"{names.other} against {names.reference}: {told}"
        if told
        else f"no statistic of {len(found)} differs from {names.reference}",
        samples=max(one.texts[1] for one in found),
        statistics=statistics,
        cannot_tell=("which model answers: style follows prompts, length and sampling too",),
    )


def times_of(answers: Sequence[Answer], seconds: Sequence[float | None]) -> dict[str, list[float]]:
    """Times of streamed answers by what they measure, as `timing.phases` names them.

    Args:
        answers: Streamed, in order.
        seconds: When each ended; None where nobody recorded it.
    """
    streams = []
    for one, end in zip(answers, seconds, strict=True):
        if not one.streamed or not one.countable or end is None:
            continue
        if any(delta.arrived is None for delta in one.deltas):
            continue
        parts = {
            part: tuple(d.arrived for d in one.deltas if d.part is part and d.arrived is not None)
            for part in Part
        }
        streams.append(
            StreamTimes(reasoning=parts[Part.REASONING], answer=parts[Part.CONTENT], end=end)
        )
    return phases(streams)


def timing_result(times: Mapping[str, Sequence[float]], *, answers: int, side: str) -> TestResult:
    """Quantiles of the times of streamed answers, and whether there is more than one peak."""
    name = "times" if side == "endpoint" else f"times of {side}"
    if not times:
        return untestable(name, "no streamed answer with times", 0)
    statistics: dict[str, float] = {}
    peaks, few = [], []
    for kind, seconds in times.items():
        found = describe_times(seconds)
        key = kind.replace(" ", "_")
        statistics[f"{key}_samples"] = float(found.samples)
        statistics |= {
            f"{key}_q{share:.0%}"[:-1]: value for share, value in found.quantiles.items()
        }
        statistics[f"{key}_together"] = float(found.together)
        if found.modality is not None:
            statistics[f"{key}_dip_samples"] = float(found.modality.samples)
            statistics[f"{key}_dip"] = found.modality.dip
            statistics[f"{key}_dip_p_value"] = found.modality.p_value
            if found.modality.p_value <= MODALITY_LEVEL:
                peaks.append(kind)
        else:
            few.append(kind)
    first, total = times.get("first piece", ()), times["total"]
    summary = f"{len(total):,} answers took {describe_times(total).quantiles[0.5]:.2f} s (median)"
    if first:
        summary += f", the first piece {describe_times(first).quantiles[0.5]:.2f} s"
    if peaks:
        summary += f"; more than one peak: {', '.join(peaks)}"
    if few:
        summary += f"; too few for peaks (below {MIN_MODALITY_SAMPLES}): {', '.join(few)}"
    return TestResult(
        name=name,
        outcome=Outcome.DESCRIPTION,
        summary=summary,
        samples=answers,
        statistics=statistics,
        benign=("load, distance, caches and batching",),
        cannot_tell=("which model answers: times describe a service on a day",),
    )


def untestable(name: str, why: str, requests: int) -> TestResult:
    """The result of a test that could not be made."""
    return TestResult(name=name, outcome=Outcome.NOT_TESTABLE, summary=why, requests=requests)
