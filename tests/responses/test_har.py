import base64
import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ExchangeError, R1ProvError, UsageError
from r1prov.responses.har import exchange_of_har

BODY = '{"id":"1","choices":[]}'


def archive(**changes):
    """An archive as browsers write it, with changes such as `request_url`."""
    entry = {
        "startedDateTime": "2026-11-24T12:00:00.250+02:00",
        "time": 1500.5,
        "request": {
            "method": "POST",
            "url": "https://api.example/v1/chat/completions#top",
            "httpVersion": "h2",
            "headers": [
                {"name": ":method", "value": "POST"},
                {"name": "content-type", "value": "application/json"},
            ],
            "postData": {"mimeType": "application/json", "text": '{"model":"r1"}'},
            "bodySize": 14,
        },
        "response": {
            "status": 200,
            "headers": [{"name": "content-type", "value": "application/json"}],
            "content": {"size": len(BODY), "mimeType": "application/json", "text": BODY},
        },
        "_custom": True,
    }
    for name, value in changes.items():
        at = entry
        *path, last = name.split("_") if not name.startswith("_") else [name]
        for key in path:
            at = at[key]
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return {"log": {"version": "1.2", "creator": {}, "entries": [entry]}}


def read(value, **how):
    return exchange_of_har(json.loads(json.dumps(value)), subject="x.har", **how)


def headers(*pairs):
    return [{"name": name, "value": value} for name, value in pairs]


def test_an_entry_is_read():
    har = read(archive())
    exchange = har.exchange
    assert exchange.request.url == "https://api.example/v1/chat/completions"
    assert exchange.request.headers == (("content-type", "application/json"),)
    assert exchange.request.body == b'{"model":"r1"}'
    assert exchange.response.body == BODY.encode()
    assert exchange.started_at == datetime(2026, 11, 24, 10, 0, 0, 250_000, tzinfo=UTC)
    assert (exchange.finished_at - exchange.started_at).total_seconds() == 1.5005
    assert har.entry == 0
    assert any("does not say whether the response was complete" in note for note in har.notes)


def test_base64_content_is_exact():
    body = b"\x00\xff data"
    content = {"size": 7, "text": base64.b64encode(body).decode(), "encoding": "base64"}
    assert read(archive(response_content=content)).exchange.response.body == body


def test_joined_values_are_single_fields_again():
    har = read(archive(response_headers=headers(("set-cookie", "a=b\nc=d"))))
    assert har.exchange.response.headers == (("set-cookie", "a=b"), ("set-cookie", "c=d"))


def test_a_get_has_no_content():
    value = archive(request_postData=..., request_bodySize=0, request_method="GET")
    assert read(value).exchange.request.body == b""


def test_an_answer_without_content():
    assert read(archive(response_content={"size": 0})).exchange.response.body == b""
    value = archive(response_status=204, response_content={"size": -1, "text": "x"})
    assert read(value).exchange.response.body == b""


LOST = {
    "a coded response": (
        {"response_headers": headers(("content-encoding", "gzip"))},
        "response",
        "Content-Digest is over the coded bytes",
    ),
    "a response in several codings": (
        {"response_headers": headers(("content-encoding", "identity"), ("content-encoding", "br"))},
        "response",
        "`br`",
    ),
    "a coded request": (
        {"request_headers": headers(("content-encoding", "gzip"))},
        "request",
        "holds it decoded",
    ),
    "another size": (
        {"response_content": {"size": 99, "text": BODY}},
        "response",
        "had 99 bytes and the archive holds 23",
    ),
    "another length": (
        {"response_headers": headers(("content-length", "24"))},
        "response",
        "Content-Length `24`",
    ),
    "another length of the request": (
        {"request_headers": headers(("content-length", "15"))},
        "request",
        "Content-Length `15`",
    ),
    "a replacement character": (
        {"response_content": {"size": 3, "text": "\ufffd"}},
        "response",
        "bytes that were received are lost",
    ),
    "no text": ({"response_content": {"size": 512}}, "response", "lacks the response's content"),
    "no request text": (
        {"request_postData": ..., "request_bodySize": 14},
        "request",
        "lacks the request's content",
    ),
    "no request text and a length": (
        {
            "request_postData": ...,
            "request_bodySize": -1,
            "request_headers": headers(("Content-Length", "5")),
        },
        "request",
        "lacks the request's content",
    ),
    "parameters": (
        {"request_postData": {"params": [{"name": "a", "value": "b"}], "text": ""}},
        "request",
        "as parameters",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_what_the_archive_lost_is_not_captured_and_said(case):
    changes, which, note = LOST[case]
    har = read(archive(**changes))
    assert getattr(har.exchange, which).body is None
    assert any(note in one for one in har.notes), har.notes


def test_text_is_taken_as_utf8_and_said():
    har = read(archive(response_content={"size": 6, "text": "漢字"}))
    assert har.exchange.response.body == "漢字".encode()
    assert any("taken to have been UTF-8" in note for note in har.notes)


def test_missing_header_fields_are_said():
    assert any("has no header fields" in note for note in read(archive(request_headers=[])).notes)


def test_one_of_several_entries_is_named():
    value = archive()
    value["log"]["entries"] *= 2
    value["log"]["entries"][1] = {**value["log"]["entries"][0], "time": -1}
    with pytest.raises(UsageError, match="2 entries") as caught:
        read(value)
    assert "--entry 0 to --entry 1" in caught.value.hint
    har = read(value, entry=1)
    assert har.entry == 1
    assert har.exchange.finished_at is None
    for entry in (2, -1):
        with pytest.raises(UsageError, match="no entry"):
            read(value, entry=entry)
    with pytest.raises(UsageError, match="0 entries"):
        read({"log": {"entries": []}})


MALFORMED = {
    "no log": ([], "the archive is no object"),
    "no entries": ({"log": {}}, "`entries` is no array"),
    "an entry that is none": ({"log": {"entries": [1]}}, r"`entries\[0\]` is no object"),
    "no request": (archive(request=...), "`request` is no object"),
    "no response": (archive(response=...), "`response` is no object"),
    "no content": (archive(response_content=...), "`content` is no object"),
    "a blocked request": (archive(response_status=0), "holds no response"),
    "a status as text": (archive(response_status="200"), "holds no response"),
    "a time without zone": (archive(startedDateTime="2026-11-24T12:00:00"), "with its zone"),
    "no time": (archive(startedDateTime=...), "with its zone"),
    "the last year": (archive(startedDateTime="0001-01-01T00:00:00+23:00"), "with its zone"),
    "no method": (archive(request_method=""), "is no method"),
    "no URL": (archive(request_url=...), "is missing"),
    "a URL of another scheme": (archive(request_url="chrome://x"), "http://"),
    "fields as an object": (archive(request_headers={}), "is no array"),
    "a field that is none": (archive(request_headers=[1]), "no object"),
    "a field without value": (archive(request_headers=[{"name": "a"}]), "without name and value"),
    "a field with a bad name": (archive(request_headers=headers(("a b", ""))), "no field name"),
    "a field with a bad value": (archive(request_headers=headers(("a", "漢"))), "no field value"),
    "too many fields": (archive(request_headers=headers(("a", "\n" * 300))), "more than 256"),
    "base64 that is none": (
        archive(response_content={"text": "QQ", "encoding": "base64"}),
        "not strict base64",
    ),
    "another encoding": (
        archive(response_content={"text": "QQ", "encoding": "hex"}),
        "unknown encoding",
    ),
    "text that is a number": (archive(response_content={"text": 1}), "is no string"),
    "content of the request that is none": (archive(request_postData=1), "is no object"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_archive_is_refused(case):
    value, message = MALFORMED[case]
    with pytest.raises(ExchangeError, match=message) as caught:
        read(value)
    assert caught.value.subject == "x.har"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
PATHS = [
    "startedDateTime",
    "time",
    "request",
    "response",
    *("request_method", "request_url", "request_headers", "request_postData", "request_bodySize"),
    *("response_status", "response_headers", "response_content"),
]


@given(st.sampled_from(PATHS), JSON)
def test_nothing_but_our_errors_comes_out(path, value):
    with suppress(R1ProvError):
        exchange_of_har(archive(**{path: value}), subject="x")
