"""From the bytes of an exchange to an `Answer`: event stream, lines of JSON, or one JSON text."""

from __future__ import annotations

import re
import zlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from r1prov.endpoints.answer import Answer, Part, ReasoningShape, split_think_tags
from r1prov.endpoints.collect import Collector
from r1prov.endpoints.sse import SseReader, looks_like_sse
from r1prov.errors import JsonError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_ANSWER_BYTES, MAX_ANSWER_EVENT_BYTES, MAX_RECOUNT_CHARACTERS
from r1prov.responses.exchange import Exchange, field_values
from r1prov.text import plural, quoted
from r1prov.verify.findings import Finding, finding

# When bytes arrived: how many there were by then, and seconds after the request was sent.
Arrivals = Sequence[tuple[int, float]]

# Findings of one answer that are kept: the hundredth bad line says no more than the tenth.
_MAX_FAULTS = 10
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_LINES = re.compile(rb"\r?\n")


class _Unreadable(Exception):
    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def read_answer(exchange: Exchange, *, arrivals: Arrivals = (), name: str = "answer") -> Answer:
    """Normalise an answer. Raises nothing, whatever the bytes: `Answer.faults` says what is wrong.

    Args:
        exchange: As captured; the body before content decoding.
        arrivals: When its bytes came, ascending; for arrival times of deltas.
        name: What findings call the answer.
    """
    faults: list[Finding] = []

    def fault(message: str, hint: str | None = None) -> None:
        if len(faults) < _MAX_FAULTS:
            faults.append(finding("answer-malformed", name, message, hint=hint))

    body = exchange.response.body
    collector = Collector(fault)
    streamed = complete = False
    try:
        codings = field_values(exchange.response.headers, "content-encoding")
        raw, wrong = _decoded(body, codings)
        # Offsets of coded bytes are none of the content.
        known = () if _names(codings) else arrivals
        streamed, complete = _read(raw, _media_type(exchange), collector, known)
        if wrong is not None:
            complete = False
            fault(wrong)
    except _Unreadable as error:
        fault(error.message, error.hint)
    complete = complete and exchange.response.complete
    if streamed and not complete and collector.error is None:
        faults.append(finding("answer-incomplete", name, "the stream ended before the answer did"))
    if collector.characters > MAX_RECOUNT_CHARACTERS:
        most = plural(MAX_RECOUNT_CHARACTERS, "character")
        fault(f"a text of more than {most} is not counted again")
    deltas, shape = split_think_tags(collector.deltas, spoken=collector.spoken)
    return Answer(
        status=exchange.response.status,
        streamed=streamed,
        complete=complete,
        asked_model=_asked_model(exchange.request.body),
        id=collector.id,
        model=collector.model,
        fingerprint=collector.fingerprint,
        finish_reason=collector.finish_reason,
        content="".join(one.text for one in deltas if one.part is Part.CONTENT),
        reasoning="".join(one.text for one in deltas if one.part is Part.REASONING),
        shape=collector.shape if collector.shape is not ReasoningShape.NONE else shape,
        deltas=deltas,
        usage=collector.usage,
        fields=frozenset(collector.fields),
        logprobs=collector.logprobs,
        tools=collector.tools,
        error=collector.error,
        error_code=collector.error_code,
        faults=tuple(faults),
    )


def _asked_model(body: bytes | None) -> str | None:
    # What we asked is our own; a request that others captured may be anything.
    if body is None:
        return None
    try:
        value = parse_json(body, subject="request", max_bytes=MAX_ANSWER_EVENT_BYTES)
    except JsonError:
        return None
    model = value.get("model") if isinstance(value, dict) else None
    return model if isinstance(model, str) else None


def _media_type(exchange: Exchange) -> str:
    values = field_values(exchange.response.headers, "content-type")
    return values[0].partition(";")[0].strip().lower() if values else ""


def _decoded(body: bytes | None, codings: tuple[str, ...]) -> tuple[bytes, str | None]:
    """The content without its coding (RFC 9110 section 8.4), and what is wrong with its end."""
    if body is None:
        raise _Unreadable("no body was captured")
    wrong = None
    for name in reversed(_names(codings)):
        if name not in ("gzip", "x-gzip", "deflate"):
            raise _Unreadable(
                f"the content is coded as {quoted(name, limit=40)}, which is not read here",
                "ask with `Accept-Encoding: identity`",
            )
        inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            body = inflate.decompress(body, MAX_ANSWER_BYTES + 1)
        except zlib.error:
            raise _Unreadable(f"the content is not {name}") from None
        if not inflate.eof:
            wrong = f"the content ends within its {name}"
        elif inflate.unused_data:
            wrong = f"bytes stand behind the {name} of the content"
    if len(body) > MAX_ANSWER_BYTES:
        raise _Unreadable(f"the answer has more than {plural(MAX_ANSWER_BYTES, 'byte')}")
    return body, wrong


def _names(codings: tuple[str, ...]) -> list[str]:
    names = [one.strip().lower() for value in codings for one in value.split(",")]
    return [one for one in names if one not in ("", "identity")]


def _read(
    raw: bytes, media_type: str, collector: Collector, arrivals: Arrivals
) -> tuple[bool, bool]:
    """Feed every message to the collector; whether it was a stream, and whether it ended."""
    # Servers and proxies mislabel: an error is often JSON under the type of a stream.
    labelled = media_type == "text/event-stream" and not raw.lstrip().startswith(b"{")
    if labelled or looks_like_sse(raw):
        return True, _read_events(raw, collector, arrivals)
    if not raw.strip():
        raise _Unreadable("the body is empty")
    lines = _LINES.split(raw)
    if media_type == "application/x-ndjson" or _several_objects(lines):
        return True, _read_lines(lines, collector, arrivals)
    # DeepSeek sends blank lines before the JSON while a request waits: white space to JSON.
    message = _object(raw)
    collector.add(message, None)
    return False, True


def _read_events(raw: bytes, collector: Collector, arrivals: Arrivals) -> bool:
    reader = SseReader()
    done = False
    for event in reader.events(raw):
        if event.data.strip() == b"[DONE]":
            done = True
            continue
        if done:
            collector.fault("an event stands after `data: [DONE]`", None)
            break
        try:
            collector.add(_object(event.data), _arrival(arrivals, event.end))
        except _Unreadable as error:
            collector.fault(error.message, error.hint)
    if reader.leftover:
        collector.fault("the stream ends within an event", None)
    # Some gateways send no `[DONE]`: a finish reason says as much.
    return done or (collector.finish_reason is not None and not reader.leftover)


def _read_lines(lines: list[bytes], collector: Collector, arrivals: Arrivals) -> bool:
    at = 0
    for line in lines:
        at += len(line) + 1
        if line.strip():
            try:
                collector.add(_object(line), _arrival(arrivals, at))
            except _Unreadable as error:
                collector.fault(error.message, error.hint)
    return collector.finish_reason is not None


def _several_objects(lines: list[bytes]) -> bool:
    filled = [line for line in lines if line.strip()]
    return len(filled) > 1 and all(
        one.startswith(b"{") and one.rstrip().endswith(b"}") for one in filled[:2]
    )


def _object(raw: bytes) -> Mapping[str, object]:
    try:
        value = parse_json(raw, subject="answer", max_bytes=MAX_ANSWER_EVENT_BYTES)
    except JsonError as error:
        raise _Unreadable(error.message, error.hint) from None
    if not isinstance(value, dict):
        raise _Unreadable("a message is JSON but no object")
    return value


def _arrival(arrivals: Arrivals, end: int) -> float | None:
    """When the byte before `end` had come; none if that was not recorded."""
    index = bisect_left(arrivals, end, key=lambda one: one[0])
    return arrivals[index][1] if index < len(arrivals) else None
