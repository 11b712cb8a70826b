"""Answers of every dialect, cut, coded, broken and hostile."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from persona_client import exchange

from r1prov.endpoints.answer import Answer, Delta, Part, ReasoningShape, split_think_tags
from r1prov.endpoints.read_answer import read_answer
from r1prov.endpoints.sse import SseReader
from r1prov.limits import MAX_ANSWER_BYTES, MAX_RECOUNT_CHARACTERS
from r1prov.responses.exchange import Exchange, Request, Response

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/api/dialects.json").read_text())
CASES = {one["name"]: one for one in VECTORS["cases"]}


def wire(body, content_type="text/event-stream", *, coding=None, complete=True, status=200):
    headers = [("Content-Type", content_type)]
    if coding:
        headers.append(("Content-Encoding", coding))
    request = Request(
        method="POST", url="http://127.0.0.1/v1/chat/completions", headers=(), body=None
    )
    response = Response(status=status, headers=tuple(headers), body=body, complete=complete)
    return Exchange(request=request, response=response)


def usage_of(answer: Answer):
    used = answer.usage
    return used and [
        used.prompt_tokens, used.completion_tokens, used.total_tokens, used.reasoning_tokens,
        used.cached_tokens, used.cache_hit_tokens, used.cache_miss_tokens,
    ]  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_dialect(name):
    case = CASES[name]
    expected = dict(case["expected"])
    answer = read_answer(wire(case["body"].encode(), case["content_type"]))
    assert [one.rule.name for one in answer.faults] == expected.pop("faults", [])
    assert usage_of(answer) == expected.pop("usage")
    assert [f"{one.part}:{one.text}" for one in answer.deltas] == expected.pop("deltas")
    assert answer.error == expected.pop("error", None)
    for field, value in expected.items():
        assert getattr(answer, field) == value, field


@pytest.mark.parametrize("name", CASES)
def test_a_dialect_is_known_without_a_content_type(name):
    case = CASES[name]
    body = case["body"].encode()
    known = read_answer(wire(body, case["content_type"]))
    assert read_answer(wire(body, "")) == known


def test_labels_that_are_wrong():
    stream, whole = (
        CASES["deepseek-stream"]["body"].encode(),
        CASES["deepseek-whole"]["body"].encode(),
    )
    assert read_answer(wire(stream, "application/json")) == read_answer(wire(stream))
    assert read_answer(wire(whole)) == read_answer(wire(whole, "application/json"))
    error = read_answer(wire(b'{"error":{"message":"no such model"}}', status=404))
    assert (error.error, error.faults) == ("no such model", ())


@pytest.mark.parametrize("name", ["deepseek-stream", "vllm-reasoning", "llama.cpp", "broken-off"])
def test_a_stream_that_breaks_off_anywhere(name):
    body = CASES[name]["body"].encode()
    whole = read_answer(wire(body))
    for end in range(0, len(body) - 1, 7):
        answer = read_answer(wire(body[:end]))
        assert whole.content.startswith(answer.content) or answer.shape is not whole.shape
        # Only `[DONE]` or a finish reason with nothing behind it is an end.
        assert answer.complete <= (answer.finish_reason is not None)


def test_a_stream_that_the_server_did_not_end():
    body = CASES["deepseek-stream"]["body"].encode()
    answer = read_answer(wire(body, complete=False))
    assert not answer.countable
    assert [one.rule.name for one in answer.faults] == ["answer-incomplete"]


@pytest.mark.parametrize(
    ("coding", "code"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)],
)
def test_content_coding(coding, code):
    body = CASES["deepseek-whole"]["body"].encode()
    assert read_answer(wire(code(body), "application/json", coding=coding)).content == "42."


def test_content_that_cannot_be_decoded():
    bomb = gzip.compress(b"\0" * (MAX_ANSWER_BYTES + 10))
    for body, coding in ((b"no gzip", "gzip"), (b"x", "br"), (bomb, "gzip")):
        answer = read_answer(wire(body, coding=coding))
        assert [one.rule.name for one in answer.faults] == ["answer-malformed"]
        assert not answer.countable
    (fault,) = read_answer(wire(b"x", coding="br")).faults
    assert fault.hint == "ask with `Accept-Encoding: identity`"
    assert read_answer(wire(None)).faults[0].message == "no body was captured"


def test_a_bomb_is_not_inflated():
    packer = zlib.compressobj(1)
    chunk = bytes(2**20)
    bomb = b"".join(packer.compress(chunk) for _ in range(400)) + packer.flush()
    tracemalloc.start()
    answer = read_answer(wire(bomb, coding="deflate"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [one.rule.name for one in answer.faults] == ["answer-malformed"]
    assert peak < 3 * MAX_ANSWER_BYTES


def test_coded_content_that_does_not_end_where_it_should():
    body = gzip.compress(CASES["deepseek-stream"]["body"].encode())
    for sent in (body[:-4], body + b"more"):
        answer = read_answer(wire(sent, coding="gzip"))
        assert answer.content == "42."
        assert not answer.complete
        assert "answer-malformed" in [one.rule.name for one in answer.faults]


def test_a_text_that_is_too_long_to_count():
    text = json.dumps({"choices": [{"message": {"content": "a" * (MAX_RECOUNT_CHARACTERS + 1)}}]})
    answer = read_answer(wire(text.encode(), "application/json"))
    assert [one.rule.name for one in answer.faults] == ["answer-malformed"]
    assert not answer.countable


def test_other_choices_are_left_out():
    choices = [{"index": n, "message": {"content": f"answer {n}"}} for n in (1, 0)]
    answer = read_answer(wire(json.dumps({"choices": choices}).encode(), "application/json"))
    assert answer.content == "answer 0"


def test_a_status_that_is_no_success_counts_for_nothing():
    body = CASES["deepseek-whole"]["body"].encode()
    assert read_answer(wire(body, "application/json")).countable
    assert not read_answer(wire(body, "application/json", status=500)).countable


def test_a_finish_reason_is_no_end_with_half_an_event_behind_it():
    body = CASES["no-done"]["body"].encode()
    assert read_answer(wire(body)).complete
    assert not read_answer(wire(body + b'data: {"cho')).complete


def test_what_stands_after_the_end_is_not_taken():
    body = CASES["no-done"]["body"] + 'data: [DONE]\n\ndata: {"choices":[]}\n\n'
    answer = read_answer(wire(body.encode()))
    assert [one.message for one in answer.faults] == ["an event stands after `data: [DONE]`"]


def test_events_as_the_standard_cuts_them():
    raw = b"\xef\xbb\xbfevent: a\rdata: 1\rdata:2\r\r:c\nid: 7\n\ndata\n\ndata: last"
    reader = SseReader()
    assert [(one.name, one.data) for one in reader.events(raw)] == [(b"a", b"1\n2"), (b"", b"")]
    assert (reader.comments, reader.leftover) == (1, True)


def test_blank_lines_are_nothing_however_many():
    raw = b"\r\n\n\ndata: 1\n\n\r\n\r\rdata: 2\n\n" + b"\n" * 5_000_000
    assert [one.data for one in SseReader().events(raw)] == [b"1", b"2"]


def test_arrival_times_are_those_of_the_last_byte(start):
    server = start("honest-r1")
    got, arrivals = exchange(server.url, "q", stream=True)
    body = got.response.body
    assert body is not None
    answer = read_answer(got, arrivals=[(100, 1.0), (len(body) // 2, 2.0), (len(body), 3.0)])
    assert {one.arrived for one in answer.deltas} == {2.0, 3.0}
    assert answer.deltas[0].arrived == 2.0
    real = [one.arrived for one in read_answer(got, arrivals=arrivals).deltas]
    known = [one for one in real if one is not None]
    assert known == sorted(real, key=lambda one: one or 0.0)
    assert read_answer(got).deltas[0].arrived is None


def test_the_request_says_what_was_asked(start):
    server = start("honest-r1")
    answer = read_answer(exchange(server.url, "q", max_tokens=1)[0])
    assert (answer.asked_model, answer.model) == ("deepseek-reasoner", "deepseek-reasoner")
    assert answer.finish_reason == "length"
    assert answer.usage is not None


MEMBERS = (
    *("choices", "delta", "message", "usage", "error", "content", "reasoning", "done", "id"),
    *("index", "model", "reasoning_content", "finish_reason", "prompt_tokens", "tool_calls"),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(
    st.lists(st.binary(max_size=40) | _JSON.map(lambda v: json.dumps(v).encode()), max_size=6),
    st.sampled_from(["text/event-stream", "application/json", "application/x-ndjson", "", "x/y;"]),
    st.sampled_from([b"data: ", b"", b"data:"]),
    st.sampled_from([None, "gzip", "identity", "deflate, gzip", "br"]),
)
def test_no_bytes_make_it_fail(messages, content_type, prefix, coding):
    body = b"".join(prefix + one + b"\n\n" for one in messages)
    answer = read_answer(wire(body, content_type, coding=coding))
    assert answer.content == "".join(answer.deltas_of(Part.CONTENT))
    assert answer.reasoning == "".join(answer.deltas_of(Part.REASONING))
    assert len(answer.faults) <= 11


@given(st.text("<think>/ a\n", max_size=60), st.lists(st.integers(0, 60), max_size=8))
def test_where_deltas_are_cut_changes_no_text(text, cuts):
    places = sorted({0, len(text), *(one for one in cuts if one < len(text))})
    deltas = [Delta(Part.CONTENT, text[a:b]) for a, b in pairwise(places)]
    whole, shape = split_think_tags([Delta(Part.CONTENT, text)] if text else [], spoken=False)
    cut, same = split_think_tags(deltas, spoken=False)
    assert same is shape
    for part in Part:
        joined = ["".join(one.text for one in some if one.part is part) for some in (whole, cut)]
        assert joined[0] == joined[1]
    assert all(one.text for one in cut)
    if shape is ReasoningShape.NONE:
        assert "".join(one.text for one in cut) == text
