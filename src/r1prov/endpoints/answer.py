"""An answer of a chat API, whatever the dialect, made of the bytes that came over the wire.

Hosts differ in where the reasoning is (`reasoning_content` of DeepSeek, vLLM, SGLang, llama.cpp;
`reasoning` of newer vLLM, Ollama and gateways; `<think>` tags in the content, of which R1's
template may have swallowed the first; `thinking` of Ollama's own API) and in how a stream ends.
Nothing is mended: what an answer says is taken as it stands, and what cannot be read is a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from r1prov.limits import MAX_RECOUNT_CHARACTERS
from r1prov.verify.findings import Finding


class Part(StrEnum):
    """Which text of an answer a delta belongs to."""

    REASONING = "reasoning"
    CONTENT = "content"


class ReasoningShape(StrEnum):
    """How the reasoning was sent."""

    REASONING_CONTENT = "reasoning_content"
    REASONING = "reasoning"
    THINKING = "thinking"
    THINK_TAGS = "think-tags"  # both tags, or the first and no end
    THINK_END = "think-end-tag"  # the prompt ended with the first tag
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of text as it was sent.

    Attributes:
        part: Reasoning or content.
        text: Not empty.
        arrived: Seconds after the request was sent; None if not recorded.
    """

    part: Part
    text: str
    arrived: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts as the endpoint states them; None for what it does not state."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    cache_hit_tokens: int | None = None
    cache_miss_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an endpoint answered.

    Attributes:
        status: HTTP status; 0 if none was captured.
        streamed: Whether it came as a stream.
        complete: Whether the stream ended by itself; True for a whole body.
        asked_model: `model` of the request, if that was captured.
        id: `id` of the answer.
        model: `model` of the answer.
        fingerprint: `system_fingerprint`; None if absent or null.
        finish_reason: Why it ended.
        content: The answer's text, without reasoning.
        reasoning: The reasoning's text.
        shape: How the reasoning was sent.
        deltas: Pieces of both in the order of the stream; one a part for a whole body.
        usage: Token counts; None without any.
        fields: Names of the members of messages and deltas.
        logprobs: Whether log-probabilities came.
        tools: Whether the model called tools, whose text is not in `content`.
        error: Message of an error object (untrusted text).
        error_code: Its code, where that is a number: gateways pass on a status so.
        faults: What could not be read.
    """

    status: int
    streamed: bool = False
    complete: bool = True
    asked_model: str | None = None
    id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    finish_reason: str | None = None
    content: str = ""
    reasoning: str = ""
    shape: ReasoningShape = ReasoningShape.NONE
    deltas: tuple[Delta, ...] = ()
    usage: Usage | None = None
    fields: frozenset[str] = frozenset()
    logprobs: bool = False
    tools: bool = False
    error: str | None = None
    error_code: int | None = None
    faults: tuple[Finding, ...] = ()

    @property
    def countable(self) -> bool:
        """Whether counts and boundaries of it mean something: whole, sound, plain text."""
        sound = 200 <= self.status < 300 and self.error is None and self.complete
        return sound and not self.tools and 0 < self.characters <= MAX_RECOUNT_CHARACTERS

    @property
    def spoke(self) -> bool:
        """Whether anything of it could be read: text, calls of tools, counts or its end."""
        return bool(self.deltas or self.tools or self.usage or self.finish_reason or self.fields)

    @property
    def characters(self) -> int:
        """Characters of reasoning and content."""
        return sum(len(one.text) for one in self.deltas)

    def deltas_of(self, part: Part) -> tuple[str, ...]:
        """Texts of the deltas of one part, in order."""
        return tuple(one.text for one in self.deltas if one.part is part)


def spent_on(answers: Sequence[Answer]) -> int:
    """Prompt and completion tokens of some answers, as the endpoint counted them."""
    return sum(
        (one.usage.prompt_tokens or 0) + (one.usage.completion_tokens or 0)
        for one in answers
        if one.usage is not None
    )


_START, _END = "<think>", "</think>"


def split_think_tags(
    deltas: Sequence[Delta], *, spoken: bool
) -> tuple[tuple[Delta, ...], ReasoningShape]:
    """Take `<think>` tags out of the content, even where deltas cut them.

    Args:
        deltas: In the order of the stream.
        spoken: Whether reasoning came in a field of its own: then a tag is text like any other.

    Returns:
        Deltas with the text between the tags as reasoning and without the tags, and the shape.
    """
    text = "".join(one.text for one in deltas if one.part is Part.CONTENT)
    begin = len(text) - len(text.lstrip())
    opened = text.startswith(_START, begin)
    end = text.find(_END)
    if spoken or (not opened and end < 0):
        return tuple(deltas), ReasoningShape.NONE
    inside = begin + len(_START) if opened else 0
    after = len(text) if end < 0 else end + len(_END)
    stop = len(text) if end < 0 else end
    found: list[Delta] = []
    at = 0
    for one in deltas:
        if one.part is Part.REASONING:
            found.append(one)
            continue
        upto = at + len(one.text)
        for part, low, high in (
            (Part.REASONING, inside, stop),
            (Part.CONTENT, after, len(text)),
        ):
            piece = text[max(at, low) : min(upto, high)]
            if piece and max(at, low) < min(upto, high):
                found.append(Delta(part, piece, one.arrived))
        at = upto
    shape = ReasoningShape.THINK_TAGS if opened else ReasoningShape.THINK_END
    return tuple(found), shape
