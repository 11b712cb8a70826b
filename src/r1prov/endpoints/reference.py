"""Recorded answers of an endpoint that the user trusts: what others are held against later.

One JSON file, schema `r1prov/endpoint-reference/1`, read strictly: an unknown member is an error.
Its signature is a Sigstore bundle beside it, made and judged as that of a manifest is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from r1prov.errors import EndpointReferenceError, R1ProvError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import (
    MAX_ENDPOINT_REFERENCE_BYTES,
    MAX_REFERENCE_PROMPTS,
    MAX_REFERENCE_SAMPLES,
)
from r1prov.text import quoted

SCHEMA = "r1prov/endpoint-reference/1"
_HINT = "`r1prov endpoint record` writes references"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer to a prompt.

    Attributes:
        reasoning: Its reasoning, wherever it was sent.
        content: The answer itself.
        finish_reason: Why it ended.
        seconds: From sending to the end; None if not recorded.
    """

    reasoning: str
    content: str
    finish_reason: str | None = None
    seconds: float | None = None

    @property
    def text(self) -> str:
        """What is compared: reasoning and answer, whatever fields a host puts them into."""
        parts = (self.reasoning.strip(), self.content.strip())
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedPrompt:
    """A prompt with everything that was answered.

    Attributes:
        id: Its name.
        text: What was sent.
        completions: Each of a request of its own.
        first_tokens: Token to log-probability of the first token, one an answer; may be empty.
    """

    id: str
    text: str
    completions: tuple[Completion, ...]
    first_tokens: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Parameters of every request for a completion.

    Attributes:
        max_tokens: Of the completion.
        temperature: As sent.
        top_p: As sent; None leaves it to the server, which may take what the model's files say.
        top_logprobs: How many tokens were listed; 0 if none were asked for.
    """

    max_tokens: int = 48
    temperature: float = 1.0
    top_p: float | None = None
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWeights:
    """The weights that whoever recorded says the endpoint served, as `r1prov verify` passed them.

    Attributes:
        manifest: Name of the manifest.
        manifest_sha256: Of the manifest file.
        tree_digest: Over path, size and SHA-256 of every file.
    """

    manifest: str
    manifest_sha256: str
    tree_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionResults:
    """Which questions of a test set were answered right.

    Attributes:
        sha256: Of the file of questions.
        max_tokens: Of each answer.
        right: Question id to whether the answer was right.
    """

    sha256: str
    max_tokens: int
    right: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReference:
    """A reference as it stands in its file.

    Attributes:
        model: Name of the model, as manifests have it; also what keys must be trusted for.
        endpoint: URL that was asked, without secrets.
        asked_model: Model name in the requests.
        recorded_at: When it was finished.
        version: Of r1prov.
        sampling: Parameters.
        prompts: With what was answered.
        weights: None if nothing binds it to weights.
        questions: None if no test set was asked.
        border: Prompts near a tie, with first tokens at temperature 0 (`endpoints/border.py`).
    """

    model: str
    endpoint: str
    asked_model: str
    recorded_at: datetime
    version: str
    sampling: Sampling
    prompts: tuple[RecordedPrompt, ...]
    weights: VerifiedWeights | None = None
    questions: QuestionResults | None = None
    border: tuple[RecordedPrompt, ...] = ()

    def completions(self) -> dict[str, list[str]]:
        """Prompt id to the texts of its completions."""
        return {one.id: [each.text for each in one.completions] for one in self.prompts}

    def first_tokens(self) -> dict[str, Sequence[Mapping[str, float]]]:
        """Prompt id to log-probabilities, of prompts that have some."""
        return {one.id: one.first_tokens for one in self.prompts if one.first_tokens}


def write_reference(reference: EndpointReference) -> bytes:
    """The file of a reference: JSON, one prompt a line, ASCII."""
    weights, questions = reference.weights, reference.questions
    head: dict[str, object] = {
        "schema": SCHEMA,
        "model": reference.model,
        "endpoint": reference.endpoint,
        "asked_model": reference.asked_model,
        "recorded_at": reference.recorded_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "version": reference.version,
        "sampling": {
            "max_tokens": reference.sampling.max_tokens,
            "temperature": reference.sampling.temperature,
            "top_p": reference.sampling.top_p,
            "top_logprobs": reference.sampling.top_logprobs,
        },
        "weights": None
        if weights is None
        else {
            "manifest": weights.manifest,
            "manifest_sha256": weights.manifest_sha256,
            "tree_digest": weights.tree_digest,
        },
        "questions": None
        if questions is None
        else {
            "sha256": questions.sha256,
            "max_tokens": questions.max_tokens,
            "right": dict(questions.right),
        },
    }
    lines = [f"{json.dumps(name)}:{_compact(value)}" for name, value in head.items()]
    for name, recorded in (("border", reference.border), ("prompts", reference.prompts)):
        prompts = [_compact(_prompt_value(one)) for one in recorded]
        lines.append(f'"{name}":[\n' + ",\n".join(prompts) + "\n]")
    return ("{" + ",\n".join(lines) + "}\n").encode("ascii")


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _prompt_value(one: RecordedPrompt) -> dict[str, object]:
    return {
        "id": one.id,
        "prompt": one.text,
        "completions": [
            {
                "reasoning": each.reasoning,
                "content": each.content,
                "finish_reason": each.finish_reason,
                "seconds": None if each.seconds is None else round(each.seconds, 6),
            }
            for each in one.completions
        ],
        "first_tokens": [dict(each) for each in one.first_tokens],
    }


def parse_reference(raw: bytes, *, subject: str) -> EndpointReference:
    """Read a reference strictly. It is not trusted by that: `judge_reference` says who signed it.

    Raises:
        EndpointReferenceError: Malformed, too large, or of another schema.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_ENDPOINT_REFERENCE_BYTES)
    except R1ProvError as error:
        raise EndpointReferenceError(error.message, subject=subject, hint=error.hint) from None
    top = _Fields(value, "the reference", subject)
    if "schema" not in top.left or top.text("schema") != SCHEMA:
        raise EndpointReferenceError(f"is no reference of {SCHEMA}", subject=subject, hint=_HINT)
    sampling = top.fields("sampling")
    reference = EndpointReference(
        model=top.text("model"),
        endpoint=top.text("endpoint"),
        asked_model=top.text("asked_model"),
        recorded_at=top.instant("recorded_at"),
        version=top.text("version"),
        sampling=Sampling(
            max_tokens=sampling.count("max_tokens"),
            temperature=sampling.number("temperature"),
            top_p=sampling.number_or_none("top_p") if "top_p" in sampling.left else None,
            top_logprobs=sampling.count("top_logprobs"),
        ),
        prompts=tuple(_prompt(one, subject) for one in top.items("prompts", MAX_REFERENCE_PROMPTS)),
        weights=_weights(top.optional("weights")),
        questions=_questions(top.optional("questions")),
        border=tuple(_prompt(one, subject) for one in top.items_or_none("border")),
    )
    sampling.finish()
    top.finish()
    if not reference.prompts:
        raise EndpointReferenceError("has no prompts", subject=subject)
    for prompts in (reference.prompts, reference.border):
        if len({one.id for one in prompts}) < len(prompts):
            raise EndpointReferenceError("has two prompts of one name", subject=subject)
    return reference


def _prompt(value: object, subject: str) -> RecordedPrompt:
    row = _Fields(value, "a prompt", subject)
    completions = []
    for item in row.items("completions", MAX_REFERENCE_SAMPLES):
        one = _Fields(item, "a completion", subject)
        completions.append(
            Completion(
                reasoning=one.text("reasoning", empty=True),
                content=one.text("content", empty=True),
                finish_reason=one.text_or_none("finish_reason"),
                seconds=one.number_or_none("seconds"),
            )
        )
        one.finish()
    tokens = []
    for item in row.items("first_tokens", MAX_REFERENCE_SAMPLES):
        listed = _Fields(item, "log-probabilities", subject)
        tokens.append({name: listed.logprob(name) for name in tuple(listed.left)})
    found = RecordedPrompt(
        id=row.text("id"),
        text=row.text("prompt"),
        completions=tuple(completions),
        first_tokens=tuple(tokens),
    )
    row.finish()
    return found


def _weights(row: _Fields | None) -> VerifiedWeights | None:
    if row is None:
        return None
    found = VerifiedWeights(
        manifest=row.text("manifest"),
        manifest_sha256=row.sha256("manifest_sha256"),
        tree_digest=row.text("tree_digest"),
    )
    row.finish()
    return found


def _questions(row: _Fields | None) -> QuestionResults | None:
    if row is None:
        return None
    sha256, tokens, right = row.sha256("sha256"), row.count("max_tokens"), row.fields("right")
    row.finish()
    return QuestionResults(
        sha256=sha256,
        max_tokens=tokens,
        right={name: right.flag(name) for name in tuple(right.left)},
    )


@dataclass(slots=True)
class _Fields:
    """Members of an untrusted object, each to be taken once.

    Attributes:
        left: Those that were not taken yet.
    """

    value: object
    what: str
    subject: str
    left: dict[str, object] = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            raise EndpointReferenceError(f"{self.what} is no object", subject=self.subject)
        self.left = dict(self.value)

    def _take(self, name: str) -> object:
        if name not in self.left:
            raise self._error(f"has no member {quoted(name)}")
        return self.left.pop(name)

    def _error(self, why: str) -> EndpointReferenceError:
        return EndpointReferenceError(f"{self.what} {why}", subject=self.subject)

    def text(self, name: str, *, empty: bool = False) -> str:
        value = self._take(name)
        if not isinstance(value, str) or not (value or empty):
            raise self._error(f"has no text as {quoted(name)}")
        return value

    def text_or_none(self, name: str) -> str | None:
        if self._is_null(name):
            return None
        return self.text(name)

    def _is_null(self, name: str) -> bool:
        """Whether that member is null, which takes it."""
        if name in self.left and self.left[name] is None:
            del self.left[name]
            return True
        return False

    def number(self, name: str) -> float:
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._error(f"has no number as {quoted(name)}")
        if not math.isfinite(value) or value < 0:
            raise self._error(f"has no number of zero or more as {quoted(name)}")
        return float(value)

    def number_or_none(self, name: str) -> float | None:
        return None if self._is_null(name) else self.number(name)

    def logprob(self, name: str) -> float:
        value = self._take(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 0:
            raise self._error(f"has no log-probability as {quoted(name)}")
        return float(value)

    def count(self, name: str) -> int:
        value = self._take(name)
        if type(value) is not int or not 0 <= value < 2**31:
            raise self._error(f"has no count as {quoted(name)}")
        return value

    def flag(self, name: str) -> bool:
        value = self._take(name)
        if not isinstance(value, bool):
            raise self._error(f"has neither true nor false as {quoted(name)}")
        return value

    def sha256(self, name: str) -> str:
        value = self.text(name)
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise self._error(f"has no SHA-256 as {quoted(name)}")
        return value

    def instant(self, name: str) -> datetime:
        value = self.text(name)
        try:
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise self._error(f"has no time (2026-01-31T12:00:00Z) as {quoted(name)}") from None

    def fields(self, name: str) -> _Fields:
        return _Fields(self._take(name), name, self.subject)

    def optional(self, name: str) -> _Fields | None:
        value = self._take(name)
        return None if value is None else _Fields(value, name, self.subject)

    def items(self, name: str, most: int) -> list[object]:
        value = self._take(name)
        if not isinstance(value, list) or len(value) > most:
            raise self._error(f"has no array of at most {most:,} as {quoted(name)}")
        return value

    def items_or_none(self, name: str) -> list[object]:
        """As `items`, and none where files of before have no such member."""
        return self.items(name, MAX_REFERENCE_PROMPTS) if name in self.left else []

    def finish(self) -> None:
        if self.left:
            raise self._error(f"has an unknown member {quoted(min(self.left))}")
