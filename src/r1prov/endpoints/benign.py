"""Harmless causes that an audit can see for itself: what they could explain decides nothing.

A reference holds what weights answer to a prompt under some sampling. Hosts of the same weights
put a system prompt before it, answer a repeated prompt from a cache, or sample as they please, as
DeepSeek's own API did. Answers then differ, and the claim is true all the same. Each of these can
leave a trace of its own; where there is one, a difference is told and contradicts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.chat import Reply
from r1prov.endpoints.client import Client
from r1prov.endpoints.comparison import Names
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.question_run import Scored, question_result
from r1prov.endpoints.question_set import Question
from r1prov.endpoints.reference import Sampling
from r1prov.endpoints.result import TestResult
from r1prov.endpoints.sampling import completion_request
from r1prov.endpoints.tokens.reference import token_reference

# Tokens around a prompt beyond those of any template of the family.
_FAMILY, _ROOM = "deepseek", 3
# Answers at temperature 0 that tell whether a temperature is heeded: pairs of a prompt.
_CONTROL_PROMPTS, _CONTROL_ANSWERS = 4, 3
# Why an answer ended before the model was done with it.
CUT_SHORT = frozenset({"length", "content_filter"})


def hidden_prompt(results: Sequence[TestResult]) -> str | None:
    """Whether the counts of the probes show text that was put before every prompt."""
    found = next((one for one in results if one.name == "template-overhead"), None)
    overhead = None if found is None else found.statistics.get("overhead")
    known = [
        tokens for name, tokens in token_reference().overheads.items() if name.startswith(_FAMILY)
    ]
    if overhead is None or overhead <= max(known) + _ROOM:
        return None
    return (
        f"{overhead:.0f} tokens stand around every prompt, so the host has put a text of its own "
        "before it"
    )


def answers_repeated(
    reference: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]
) -> str | None:
    """Whether the endpoint says the same each time where the reference does not."""
    varied = [
        name
        for name, texts in reference.items()
        if len(set(texts)) > 1 and len(other.get(name, ())) > 1
    ]
    same = [name for name in varied if len(set(other[name])) == 1]
    if not varied or len(same) * 2 < len(varied):
        return None
    return (
        f"it gives one and the same answer to each of {len(same)} prompts, as from a cache or at "
        "a temperature of its own"
    )


def temperature_ignored(
    client: Client, prompts: Sequence[Prompt], sampling: Sampling
) -> tuple[str | None, int]:
    """Whether answers at temperature 0 vary all the same; with the requests that it took.

    Kernels and batching make answers at 0 part sooner or later: most of a short text is one all
    the same.
    """
    if sampling.temperature == 0:
        return None, 0
    cold = replace(sampling, temperature=0.0)
    chosen = prompts[:_CONTROL_PROMPTS]
    asked = [completion_request(one.text, cold) for one in chosen for _ in range(_CONTROL_ANSWERS)]
    replies = client.ask_all(asked)
    same = pairs = 0
    for start in range(0, len(replies), _CONTROL_ANSWERS):
        texts = [_text(one) for one in replies[start : start + _CONTROL_ANSWERS] if one.usable]
        for at, text in enumerate(texts):
            pairs += len(texts) - at - 1
            same += texts[at + 1 :].count(text)
    if pairs and same * 2 < pairs:
        return f"it does not heed a temperature: {same} of {pairs} answers at 0 are alike", len(
            asked
        )
    return None, len(asked)


def _text(reply: Reply) -> str:
    answer: Answer = reply.answer
    return f"{answer.reasoning}\n{answer.content}"


def undecided(result: TestResult, cause: str) -> TestResult:
    """A result that a harmless cause could explain."""
    return replace(
        result,
        decisive=False,
        summary=f"{result.summary}; {cause}, which could explain it",
        benign=tuple(dict.fromkeys((cause, *result.benign))),
    )


def lenient(scored: Scored, questions: Sequence[Question], replies: Sequence[Reply]) -> Scored:
    """As if every answer that was cut short had been going to be right."""
    cut = {
        question.id
        for question, reply in zip(questions, replies, strict=True)
        if reply.usable and reply.answer.finish_reason in CUT_SHORT
    }
    right = {name: value or name in cut for name, value in scored.right.items()}
    return replace(scored, right=right)


def judged_questions(
    scored: Scored,
    at_best: Scored,
    baseline: Mapping[str, bool] | None,
    *,
    alpha: float,
    tolerated: float,
    names: Names,
    requests: int,
) -> TestResult:
    """`question_result`, which does not decide where answers that were cut short make the drop.

    Args:
        scored: Of the endpoint.
        at_best: `lenient` of it.
        baseline: Of the trusted side.
        alpha: Error rate.
        tolerated: Drop of accuracy that is still taken.
        names: Of the sides.
        requests: That were made.
    """
    result, best = (
        question_result(
            one, baseline, alpha=alpha, tolerated=tolerated, names=names, requests=requests
        )
        for one in (scored, at_best)
    )
    if not result.decisive or best.decisive:
        return result
    return undecided(result, "answers were cut short by their length or a filter")
