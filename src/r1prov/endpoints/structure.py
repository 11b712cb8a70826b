"""The form of answers: what fields there are, whether counts add up, who seems to have sent them.

Every test here is weak evidence. A gateway can add or take away any field, so nothing is decisive;
what speaks against a claim deserves a question to the operator.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from r1prov.endpoints.answer import Answer, ReasoningShape, Usage, spent_on
from r1prov.endpoints.result import Outcome, TestResult
from r1prov.endpoints.tokens.prompts import CLAIM
from r1prov.text import quoted
from r1prov.verify.findings import Finding, finding

# R1 writes hundreds of tokens before it answers; fewer characters than this are no reasoning.
_MIN_REASONING = 40
# Names of reasoning fields that guides tell of and no API has.
IMAGINARY_FIELDS = ("deep_thoughts", "deepThoughts", "deep_thought", "deepthought")
_IMAGINARY = "the field `deep_thoughts`, which guides tell of, is in no API"
_HOW_MANY = 5
# Claims of models that write reasoning before every answer; others do so where it is asked of them,
# or never.
_REASONERS = ("deepseek-r1", "deepseek-reasoner", "qwq")
# In names of models that were distilled from R1 into those of others.
_DISTILLS = ("distill", "qwen", "llama")


def structure_tests(
    answers: Sequence[Answer],
    *,
    claim: str = CLAIM,
    subject: str = "endpoint",
) -> tuple[TestResult, ...]:
    """Every test of this module, over ordinary answers to ordinary questions.

    Args:
        answers: In the order in which they were asked for.
        claim: Model that is claimed.
        subject: What findings call the endpoint.
    """
    return (
        reasoning_test(answers, claim=claim, subject=subject),
        usage_arithmetic_test(answers, subject=subject),
        model_name_test(answers, claim=claim, subject=subject),
        fingerprint_test(answers, claim=claim, subject=subject),
    )


def _is_distill(name: str) -> bool:
    return any(part in name.lower() for part in _DISTILLS)


def reasoning_test(
    answers: Sequence[Answer],
    *,
    claim: str = CLAIM,
    subject: str = "endpoint",
) -> TestResult:
    """Whether answers hold reasoning, where, and whether it can be reasoning.

    Against a claim only where the claimed model always reasons: V3 does not, V3.1 does if asked.

    `deep_thoughts` is named as what it is in every result: who reads of it in a guide looks for it.
    """
    used = [one for one in answers if one.countable]
    sent = {name for one in answers for name in one.fields if name in IMAGINARY_FIELDS}
    findings = [
        finding(
            "no-such-field",
            subject,
            f"the endpoint sends the field {quoted(name)}, which no API of DeepSeek has",
            expected="`reasoning_content`",
        )
        for name in sorted(sent)
    ]
    with_reasoning = [one for one in used if one.reasoning.strip()]
    copied = [one for one in with_reasoning if one.reasoning.strip() == one.content.strip()]
    short = [one for one in with_reasoning if len(one.reasoning.strip()) < _MIN_REASONING]
    shapes = sorted({one.shape for one in used if one.shape is not ReasoningShape.NONE})
    outcome = Outcome.CONSISTENT
    if not used:
        outcome, summary = Outcome.NOT_TESTABLE, "no whole answer"
    elif not claim.lower().startswith(_REASONERS):
        outcome = Outcome.DESCRIPTION
        summary = f"{len(with_reasoning)} of {len(used)} answers hold reasoning"
    elif not with_reasoning:
        outcome = Outcome.INCONSISTENT
        summary = f"none of {len(used)} answers holds reasoning"
        findings.append(finding("reasoning-missing", subject, summary))
    elif copied or len(short) * 2 > len(with_reasoning):
        outcome = Outcome.INCONSISTENT
        summary = (
            f"the reasoning of {len(copied)} answers is the answer itself"
            if copied
            else f"{len(short)} of {len(with_reasoning)} reasonings are shorter than a sentence"
        )
        findings.append(finding("reasoning-implausible", subject, summary))
    else:
        summary = (
            f"{len(with_reasoning)} of {len(used)} answers hold reasoning "
            f"({', '.join(shapes) or 'no known shape'})"
        )
    if used and outcome is not Outcome.DESCRIPTION:
        summary += f"; {_IMAGINARY}"
    characters = [len(one.reasoning) for one in used]
    return TestResult(
        name="reasoning",
        outcome=outcome,
        summary=summary,
        samples=len(used),
        requests=len(used),
        tokens=spent_on(used),
        statistics={
            "answers": float(len(used)),
            "answers_with_reasoning": float(len(with_reasoning)),
            "reasoning_characters": float(sum(characters)),
            **{f"shape_{shape}": float(_shaped(used, shape)) for shape in shapes},
        },
        findings=tuple(findings),
        benign=(
            "a gateway may remove the reasoning, or the request may have turned it off",
            "R1 now and then skips its reasoning; DeepSeek advises to begin it with `<think>`",
        ),
        cannot_tell=("R1 from any other model that reasons, its distills among them",),
    )


def _shaped(answers: Sequence[Answer], shape: ReasoningShape) -> int:
    return sum(one.shape is shape for one in answers)


def usage_arithmetic_test(answers: Sequence[Answer], *, subject: str = "usage") -> TestResult:
    """Whether the counts of each answer add up as those of DeepSeek's API do."""
    used = [one for one in answers if one.usage is not None]
    wrong = [why for one in used if one.usage is not None for why in _arithmetic(one.usage)]
    findings = tuple(
        finding("usage-arithmetic", subject, message, expected=expected, found=found)
        for message, expected, found in wrong[:_HOW_MANY]
    )
    outcome, summary = Outcome.CONSISTENT, f"the counts of {len(used)} answers add up"
    if not used:
        outcome, summary = Outcome.NOT_TESTABLE, "no answer holds token counts"
        if any(one.countable for one in answers):
            findings = (finding("usage-missing", subject, summary),)
    elif wrong:
        outcome, summary = Outcome.INCONSISTENT, f"{len(wrong)} sums of token counts are wrong"
    return TestResult(
        name="usage-arithmetic",
        outcome=outcome,
        summary=summary,
        samples=len(used),
        requests=len(used),
        tokens=spent_on(used),
        statistics={"answers": float(len(used)), "wrong_sums": float(len(wrong))},
        findings=findings,
        benign=("gateways that bill cached tokens apart may not add up",),
        cannot_tell=("which model answers: sums are right for any",),
    )


def _arithmetic(usage: Usage) -> list[tuple[str, str, str]]:
    """What does not add up: message, expected, found."""
    wrong = []
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if prompt is not None and completion is not None and total not in (None, prompt + completion):
        wrong.append(
            (
                "total tokens are not prompt plus completion",
                f"{prompt + completion:,}",
                f"{total:,}",
            )
        )
    hit, miss = usage.cache_hit_tokens, usage.cache_miss_tokens
    if prompt is not None and hit is not None and miss is not None and hit + miss != prompt:
        wrong.append(
            ("prompt tokens are not cache hits plus misses", f"{hit + miss:,}", f"{prompt:,}")
        )
    cached = usage.cached_tokens
    if prompt is not None and cached is not None and cached > prompt:
        wrong.append(("more cached than prompt tokens", f"at most {prompt:,}", f"{cached:,}"))
    reasoning = usage.reasoning_tokens
    if completion is not None and reasoning is not None and reasoning > completion:
        wrong.append(
            ("more reasoning than completion tokens", f"at most {completion:,}", f"{reasoning:,}")
        )
    return wrong


def model_name_test(
    answers: Sequence[Answer], *, claim: str = CLAIM, subject: str = "model"
) -> TestResult:
    """Whether answers carry the model name that was asked for. Names are free text."""
    used = [one for one in answers if one.model is not None and one.asked_model is not None]
    other = [one for one in used if one.model != one.asked_model]
    distills = [one for one in other if _is_distill(one.model or "")]
    findings: tuple[Finding, ...] = ()
    outcome, summary = Outcome.CONSISTENT, f"{len(used)} answers carry the name asked for"
    if not used:
        outcome, summary = Outcome.NOT_TESTABLE, "no answer carries a model name"
    elif other:
        # A host's own name for the same model is not against the claim; the name of a distill is.
        one = (distills or other)[0]
        asked_distill = _is_distill(one.asked_model or "") or _is_distill(claim)
        against = bool(distills) and not asked_distill
        outcome = Outcome.INCONSISTENT if against else Outcome.DESCRIPTION
        summary = f"{len(other)} of {len(used)} answers carry another model name"
        findings = (
            finding(
                "model-not-echoed",
                subject,
                summary,
                expected=quoted(one.asked_model or ""),
                found=quoted(one.model or ""),
            ),
        )
    return TestResult(
        name="model-name",
        outcome=outcome,
        summary=summary,
        samples=len(used),
        requests=len(used),
        tokens=spent_on(used),
        statistics={"answers": float(len(used)), "other_names": float(len(other))},
        findings=findings,
        benign=("hosts and gateways rename models",),
        cannot_tell=("which model answers: any server can send any name",),
    )


def fingerprint_test(
    answers: Sequence[Answer], *, claim: str = CLAIM, subject: str = "fingerprint"
) -> TestResult:
    """`system_fingerprint`: a free string, good for noticing a change and one kind of server."""
    used = [one for one in answers if one.error is None]
    seen = [one.fingerprint for one in used if one.fingerprint]
    changes = sum(a != b for a, b in pairwise(seen))
    findings: list[Finding] = []
    outcome = Outcome.DESCRIPTION
    summary = f"`system_fingerprint` is {quoted(seen[0], limit=80)}" if seen else "no fingerprint"
    if "fp_ollama" in seen:
        # Ollama does serve 671B under `:671b`, so a hint and no more.
        summary = "the fingerprint is that of Ollama"
        tagged = any((one.asked_model or "").endswith(":671b") for one in used)
        if not tagged and not _is_distill(claim):
            outcome = Outcome.INCONSISTENT
        findings.append(finding("other-server", subject, summary, found="`fp_ollama`"))
    elif not seen:
        outcome = Outcome.NOT_TESTABLE
    if changes:
        kinds = len(set(seen))
        message = f"{kinds} fingerprints in {len(seen)} answers, changed {changes} times"
        findings.append(finding("fingerprint-changed", subject, message))
    return TestResult(
        name="fingerprint",
        outcome=outcome,
        summary=summary,
        samples=len(seen),
        requests=len(used),
        tokens=spent_on(used),
        statistics={"fingerprints": float(len(set(seen))), "changes": float(changes)},
        findings=tuple(findings),
        benign=("deployments change it; gateways remove it or make their own",),
        cannot_tell=("which model answers: the string is not signed and means nothing by itself",),
    )
