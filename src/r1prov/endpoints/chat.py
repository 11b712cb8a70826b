"""One request to a chat API and what came back: the units that an audit is made of."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit, urlunsplit

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.read_answer import read_answer
from r1prov.errors import R1ProvError, UsageError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_ANSWER_EVENT_BYTES, MAX_TOP_LOGPROBS
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import check_url
from r1prov.text import quoted

_PATH = "/chat/completions"
_PART_OF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"
# Of a chat template, a system prompt not counted in.
_TEMPLATE_TOKENS = 16


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A chat completion to ask for.

    Nothing in it says that it belongs to an audit: who answers audits better than others would
    otherwise know when to.

    Attributes:
        prompt: The only user message, unless `fields` has `messages`.
        max_tokens: Of the completion; None leaves it to the endpoint.
        temperature: None leaves it to the endpoint.
        stream: Whether to ask for a stream, with its token counts.
        fields: What else goes into the body.
        prompt_tokens: What the prompt takes at most, if that is known; else as many as it has
            bytes, for no tokenizer has more.
    """

    prompt: str
    max_tokens: int | None = None
    temperature: float | None = None
    stream: bool = False
    fields: Mapping[str, object] = field(default_factory=dict)
    prompt_tokens: int | None = None

    def body(self, model: str, *, include_usage: bool = True) -> bytes:
        """The request body: the same bytes for the same request, so that a log can answer it."""
        value: dict[str, object] = {
            "model": model,
            "messages": [{"role": "user", "content": self.prompt}],
        }
        if self.max_tokens is not None:
            value["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            value["temperature"] = self.temperature
        if self.stream:
            value["stream"] = True
            if include_usage:
                value["stream_options"] = {"include_usage": True}
        # A name from a command line need not be UTF-8.
        return json.dumps(value | dict(self.fields), ensure_ascii=False).encode(errors="replace")

    @cached_property
    def prompt_estimate(self) -> int:
        """Tokens that the prompt has at most: for a budget, before anyone counted."""
        if self.prompt_tokens is not None:
            return self.prompt_tokens
        messages = self.fields.get("messages")
        text = self.prompt if messages is None else json.dumps(messages, ensure_ascii=False)
        return len(text.encode(errors="replace")) + _TEMPLATE_TOKENS


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back for a request, after retries.

    Attributes:
        request: It.
        answer: Normalised.
        exchange: The bytes on the wire; None where no answer came at all.
        number: Of the request in the order in which they were first sent, from 0.
        seconds: From sending to the end of the answer; None if not recorded.
        recorded: Whether it was answered from the log of an earlier run.
        problem: Why there is no usable answer; None if there is one (may hold untrusted text).
    """

    request: ChatRequest
    answer: Answer
    exchange: Exchange | None
    number: int
    seconds: float | None = None
    recorded: bool = False
    problem: str | None = None

    @property
    def usable(self) -> bool:
        """Whether a whole answer to the request came."""
        return self.problem is None and self.answer.countable

    def first_token(self) -> dict[str, float] | None:
        """Log-probabilities of the first token, where they were asked for and came."""
        return None if self.exchange is None else first_token_logprobs(self.exchange)


def completions_url(url: str) -> str:
    """Where chat completions are asked for: `URL/chat/completions`, unless that is what URL is.

    Raises:
        UsageError: No absolute http(s) URL, or one that holds a password.
    """
    try:
        check_url(url, "the URL")
    except R1ProvError as error:
        raise UsageError(error.message, hint=error.hint) from None
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018 - raises for a port that is none
    except ValueError:
        host = None
    if not host:
        wanted = "such as https://api.example/v1"
        raise UsageError("the URL names no host, or a malformed one", hint=wanted)
    if "@" in parts.netloc:
        raise UsageError(
            "the URL holds a user name or password",
            hint="a command line is seen by others: put the key into a variable, and name it "
            "with --key-env",
        )
    path = parts.path.rstrip("/")
    path = path if path.endswith(_PATH) else path + _PATH
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def models_url(url: str) -> str:
    """Where the models of the same API are listed."""
    parts = urlsplit(completions_url(url))
    return urlunsplit(parts._replace(path=parts.path.removesuffix(_PATH) + "/models"))


def request_id(url: str, body: bytes) -> str:
    """What makes a request the same as one of an earlier run: where it goes and what it says."""
    return hashlib.sha256(url.encode() + b"\0" + body).hexdigest()


def first_token_logprobs(exchange: Exchange) -> dict[str, float] | None:
    """Token to log-probability, of the first token of an answer that is not streamed.

    None where the answer holds none, or what it holds is no such list. A token is named by its
    text, which every host gives, and its bytes say which text that is, where they are given. Tokens
    that are a part of a character have no text, look alike on some hosts, and are left out.
    """
    body = exchange.response.body
    if body is None or exchange.response.status != 200:
        return None
    try:
        value = parse_json(body, subject="answer", max_bytes=MAX_ANSWER_EVENT_BYTES)
    except R1ProvError:
        return None
    listed = _at(value, "choices", 0, "logprobs", "content", 0, "top_logprobs")
    if not isinstance(listed, list):
        return None
    found: dict[str, float] = {}
    for one in listed[:MAX_TOP_LOGPROBS]:
        token, logprob = _at(one, "token"), _at(one, "logprob")
        raw = _at(one, "bytes")
        if not isinstance(token, str) or isinstance(logprob, bool):
            return None
        if not isinstance(logprob, int | float) or not math.isfinite(logprob) or logprob > 0:
            return None
        if isinstance(raw, list) and all(type(b) is int and 0 <= b < 256 for b in raw) and raw:
            token = bytes(raw).decode(errors="replace")
        if _PART_OF_A_CHARACTER not in token:
            found[token] = max(float(logprob), found.get(token, -math.inf))
    return found or None


def _at(value: object, *path: str | int) -> object:
    """What stands at a path of an untrusted value; None where the path leads nowhere."""
    for step in path:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        else:
            value = value[step] if isinstance(value, list) and len(value) > step else None
    return value


def model_ids(exchange: Exchange) -> tuple[str, ...]:
    """Names of the models in an answer to `GET …/models`; none if it is no such answer."""
    body = exchange.response.body
    if body is None or exchange.response.status != 200:
        return ()
    try:
        value = parse_json(body, subject="models", max_bytes=MAX_ANSWER_EVENT_BYTES)
    except R1ProvError:
        return ()
    data = _at(value, "data")
    ids = [_at(one, "id") for one in data] if isinstance(data, list) else []
    return tuple(dict.fromkeys(one for one in ids if isinstance(one, str) and one))


def the_model(ids: Sequence[str]) -> str:
    """The one model that an endpoint lists.

    Raises:
        UsageError: It lists none or several.
    """
    if len(ids) == 1:
        return ids[0]
    shown = ", ".join(quoted(one, limit=60) for one in ids[:10])
    raise UsageError(
        f"the endpoint lists {len(ids)} models" + (f": {shown}" if shown else ""),
        hint="say which one is to be asked: --model NAME",
    )


def no_answer(model: str) -> Answer:
    """Stands for an answer that never came."""
    return Answer(status=0, complete=False, asked_model=model)


def answer_of(exchange: Exchange, arrivals: Sequence[tuple[int, float]], number: int) -> Answer:
    """The normalised answer of an exchange."""
    return read_answer(exchange, arrivals=arrivals, name=f"answer {number}")
