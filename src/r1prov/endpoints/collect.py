"""Gathers the messages of one answer, each an untrusted JSON object of any dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from r1prov.endpoints.answer import Delta, Part, ReasoningShape, Usage
from r1prov.limits import MAX_INT63
from r1prov.text import quoted

# In the order of preference: gateways send two of them with the same text.
_REASONING = (
    ("reasoning_content", ReasoningShape.REASONING_CONTENT),
    ("reasoning", ReasoningShape.REASONING),
    ("thinking", ReasoningShape.THINKING),
)
# Names of members that are kept, so that a hostile stream cannot fill memory with them.
_MAX_FIELDS = 100
_MAX_NAME = 64


@dataclass(slots=True)
class Collector:
    """Builds up the fields of an `Answer` message by message.

    Attributes:
        fault: Called with a message and a hint for what cannot be read.
    """

    fault: Callable[[str, str | None], None]
    id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    finish_reason: str | None = None
    error: str | None = None
    error_code: int | None = None
    usage: Usage | None = None
    shape: ReasoningShape = ReasoningShape.NONE
    spoken: bool = False
    logprobs: bool = False
    tools: bool = False
    deltas: list[Delta] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)

    @property
    def characters(self) -> int:
        """Characters of all deltas so far."""
        return sum(len(one.text) for one in self.deltas)

    def add(self, message: Mapping[str, object], arrived: float | None) -> None:
        """Take one chunk of a stream, or a whole answer."""
        problem = message.get("error")
        if problem is not None and problem != "":
            self.error = _error_text(problem)
            self.error_code = _error_code(problem)
            return
        self.id = self._text(message, "id") or self.id
        self.model = self._text(message, "model") or self.model
        self.fingerprint = self._text(message, "system_fingerprint") or self.fingerprint
        self._usage(message.get("usage"))
        if isinstance(message.get("message"), dict) and "done" in message:
            self._ollama(message, arrived)
            return
        choices = message.get("choices")
        if choices is None and message.get("usage") is not None:
            return
        if not isinstance(choices, list):
            self.fault("a message has no array `choices`", None)
            return
        for choice in choices:
            if not isinstance(choice, dict):
                self.fault("a choice is no object", None)
            elif choice.get("index", 0) in (0, None):
                self._choice(choice, arrived)

    def _choice(self, choice: Mapping[str, object], arrived: float | None) -> None:
        self.finish_reason = self._text(choice, "finish_reason") or self.finish_reason
        self.logprobs = self.logprobs or isinstance(choice.get("logprobs"), dict)
        for name in ("delta", "message"):
            text = choice.get(name)
            if isinstance(text, dict):
                self._message(text, arrived)
            elif text is not None:
                self.fault(f"`{name}` of a choice is no object", None)

    def _message(self, message: Mapping[str, object], arrived: float | None) -> None:
        for name in message:
            if len(self.fields) < _MAX_FIELDS:
                self.fields.add(name[:_MAX_NAME])
        self.tools = self.tools or bool(message.get("tool_calls"))
        for name, shape in _REASONING:
            text = message.get(name)
            if isinstance(text, str) and text:
                if self.shape is ReasoningShape.NONE:
                    self.shape, self.spoken = shape, True
                self.deltas.append(Delta(Part.REASONING, text, arrived))
                break
            if text is not None and not isinstance(text, str):
                self.fault(f"`{name}` is no string", None)
        content = self._content(message.get("content"))
        if content:
            self.deltas.append(Delta(Part.CONTENT, content, arrived))

    def _content(self, content: object) -> str:
        if content is None or isinstance(content, str):
            return content or ""
        if isinstance(content, list):  # parts, as some gateways answer
            texts = [part.get("text") for part in content if isinstance(part, dict)]
            return "".join(text for text in texts if isinstance(text, str))
        self.fault("`content` is neither a string nor an array of parts", None)
        return ""

    def _ollama(self, message: Mapping[str, object], arrived: float | None) -> None:
        """A line of `/api/chat`: text in `message`, counts at the top of the last line."""
        inner = message["message"]
        assert isinstance(inner, dict)  # noqa: S101 - the caller looked
        self._message(inner, arrived)
        if message.get("done") is True:
            self.finish_reason = self._text(message, "done_reason") or "stop"
            counts = (self._count(message, n) for n in ("prompt_eval_count", "eval_count"))
            prompt, completion = counts
            if prompt is not None or completion is not None:
                self.usage = Usage(prompt_tokens=prompt, completion_tokens=completion)

    def _usage(self, value: object) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            self.fault("`usage` is no object", None)
            return
        completion = value.get("completion_tokens_details")
        prompt = value.get("prompt_tokens_details")
        reasoning = self._count(
            completion if isinstance(completion, dict) else {}, "reasoning_tokens"
        )
        # The last one counts: servers that report usage with every chunk count up.
        self.usage = Usage(
            prompt_tokens=self._count(value, "prompt_tokens"),
            completion_tokens=self._count(value, "completion_tokens"),
            total_tokens=self._count(value, "total_tokens"),
            reasoning_tokens=(
                self._count(value, "reasoning_tokens") if reasoning is None else reasoning
            ),
            cached_tokens=self._count(prompt if isinstance(prompt, dict) else {}, "cached_tokens"),
            cache_hit_tokens=self._count(value, "prompt_cache_hit_tokens"),
            cache_miss_tokens=self._count(value, "prompt_cache_miss_tokens"),
        )

    def _count(self, value: Mapping[str, object], name: str) -> int | None:
        count = value.get(name)
        if isinstance(count, int) and not isinstance(count, bool) and 0 <= count <= MAX_INT63:
            return count
        if count is not None:
            self.fault(f"{quoted(name)} is no count", None)
        return None

    def _text(self, value: Mapping[str, object], name: str) -> str | None:
        text = value.get(name)
        if text is None or isinstance(text, str):
            return text
        self.fault(f"{quoted(name)} is no string", None)
        return None


def _error_code(problem: object) -> int | None:
    code = problem.get("code") if isinstance(problem, dict) else None
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
        return int(code)
    return code if type(code) is int else None


def _error_text(problem: object) -> str:
    if isinstance(problem, dict):
        message = problem.get("message")
        return message if isinstance(message, str) and message else "an error without a message"
    return problem if isinstance(problem, str) else "an error without a message"
