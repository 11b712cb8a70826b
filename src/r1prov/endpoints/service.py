"""Limits of the service: the context, and parameters that DeepSeek's own API treats its own way.

Both are about who answers more than about which model. Probes say what to ask beside the usual
request; the answers, refusals among them, are judged by pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r1prov.endpoints.answer import Answer, spent_on
from r1prov.endpoints.result import Outcome, TestResult
from r1prov.text import quoted
from r1prov.verify.findings import Finding, finding

# `max_position_embeddings` of R1 is 163,840; DeepSeek's API gave 64K of it, so that is what a
# claim of R1 promises at least.
CONTEXT_TOKENS = 64_000
# Statuses that say no to the request itself, not to the key, the rate or the moment.
_REFUSALS = (400, 413, 422)
_ENGLISH = "The quick brown fox jumps over the lazy dog. "
_ENGLISH_TOKENS = 10  # of any tokenizer of the table but two


@dataclass(frozen=True, slots=True)
class ParameterProbe:
    """A request that differs from an ordinary one in a parameter.

    Attributes:
        name: Of the parameter.
        fields: What to add to the request body.
        refused: Whether the API for deepseek-reasoner refused it with an error; else it ignored it.
    """

    name: str
    fields: Mapping[str, object]
    refused: bool


# api-docs.deepseek.com/guides/reasoning_model, as long as that model was served.
PARAMETER_PROBES = (
    ParameterProbe("logprobs", {"logprobs": True}, refused=True),
    ParameterProbe("top_logprobs", {"logprobs": True, "top_logprobs": 5}, refused=True),
    ParameterProbe(
        "reasoning_content in a message",
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello", "reasoning_content": "A greeting."},
                {"role": "user", "content": "Bye"},
            ]
        },
        refused=True,
    ),
    ParameterProbe("temperature", {"temperature": 2.0}, refused=False),
    ParameterProbe("presence_penalty", {"presence_penalty": 2.0}, refused=False),
)


def parameter_test(
    answers: Sequence[tuple[ParameterProbe, Answer]], *, subject: str = "parameters"
) -> TestResult:
    """Which parameters are refused. A description: only DeepSeek's own API treated R1 so.

    Args:
        answers: Each probe with what came back, errors included.
        subject: What findings call the endpoint.
    """
    findings: list[Finding] = []
    statistics: dict[str, float] = {}
    told = [(probe, answer) for probe, answer in answers if _told(answer)]
    for probe, answer in told:
        refused = _refused(answer)
        statistics[f"refused_{probe.name.replace(' ', '_')}"] = float(refused)
        if refused is probe.refused:
            continue
        done = "refuses" if refused else "takes"
        given = "with log-probabilities" if answer.logprobs else "without complaint"
        findings.append(
            finding(
                "parameter-behaviour",
                subject,
                f"the endpoint {done} {quoted(probe.name)}" + ("" if refused else f" {given}"),
                expected="an error" if probe.refused else "ignored",
                found=f"status {answer.status}",
            )
        )
    same = len(told) - len(findings)
    return TestResult(
        name="parameters",
        outcome=Outcome.DESCRIPTION if told else Outcome.NOT_TESTABLE,
        summary=f"{same} of {len(told)} parameters are treated as by DeepSeek's own API for R1",
        samples=len(told),
        requests=len(answers),
        tokens=spent_on([answer for _, answer in answers]),
        statistics=statistics,
        findings=tuple(findings),
        benign=("every other host of the same weights treats some of them otherwise",),
        cannot_tell=(
            "which model answers",
            "what is ignored from what is used, where the answer is a sample",
        ),
    )


def context_prompt(tokens: int = CONTEXT_TOKENS) -> str:
    """English text of about that many tokens of any tokenizer, for one request of one token."""
    return (_ENGLISH * (tokens // _ENGLISH_TOKENS)).rstrip()


def context_test(
    answer: Answer, *, tokens: int = CONTEXT_TOKENS, subject: str = "context"
) -> TestResult:
    """Whether a prompt of that many tokens is taken whole.

    A prompt that was cut shows in its count, where counts are honest.

    Args:
        answer: To `context_prompt(tokens)`.
        tokens: As asked.
        subject: What findings call the endpoint.
    """
    counted = answer.usage.prompt_tokens if answer.usage is not None else None
    findings: tuple[Finding, ...] = ()
    if not _told(answer):
        outcome = Outcome.NOT_TESTABLE
        summary = f"the request failed with status {answer.status}"
    elif not _refused(answer):
        if counted is not None and counted < tokens // 2:
            outcome = Outcome.INCONSISTENT
            summary = f"of a prompt of {tokens:,} tokens {counted:,} were counted"
            findings = (finding("context-smaller", subject, summary),)
        else:
            outcome, summary = Outcome.CONSISTENT, f"a prompt of {tokens:,} tokens is taken"
    else:
        outcome = Outcome.INCONSISTENT
        summary = f"a prompt of {tokens:,} tokens is refused"
        findings = (
            finding("context-smaller", subject, summary, found=quoted(answer.error or "no reason")),
        )
    return TestResult(
        name="context",
        outcome=outcome,
        summary=summary,
        samples=1,
        requests=1,
        tokens=counted or 0,
        statistics={} if counted is None else {"prompt_tokens": float(counted)},
        findings=findings,
        benign=("hosts limit the context to save memory, or the key's plan does",),
        cannot_tell=("which model answers: most models of today take as much",),
    )


def _refused(answer: Answer) -> bool:
    return answer.status in _REFUSALS or answer.error is not None


def _told(answer: Answer) -> bool:
    """Whether the answer is about the request: taken, or refused for what is in it."""
    return 200 <= answer.status < 300 or answer.status in _REFUSALS
