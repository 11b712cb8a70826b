import base64
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ExchangeError, R1ProvError
from r1prov.responses.exchange import (
    BodyDigests,
    CapturedDocument,
    Exchange,
    Redaction,
    Request,
    Response,
)
from r1prov.responses.exchange_file import exchange_to_json, exchange_to_value, parse_exchange

WHEN = datetime(2026, 11, 24, 10, 0, 0, 123456, tzinfo=UTC)
BODY = b'{"model":"deepseek-r1"}'
FULL = Exchange(
    request=Request(
        method="POST",
        url="https://api.example.org:8443/v1/chat/completions?a=%20",
        headers=(("Content-Type", "application/json"), ("X", "caf\xe9\t1")),
        body=BODY,
    ),
    response=Response(
        status=200,
        headers=(("Signature", "sig=:AA==:"), ("Signature", "two")),
        body=None,
        complete=False,
        body_digests=BodyDigests.of(b"long"),
        trailers=(("Signature-Input", "sig=()"),),
    ),
    started_at=WHEN,
    finished_at=WHEN + timedelta(seconds=2),
    documents=(
        CapturedDocument(url="https://x.example/r/1", status=404, body=b"\x00", fetched_at=WHEN),
    ),
    redactions=(
        Redaction(part="request.header:authorization"),
        Redaction(part="request.url:query"),
        Redaction(part="document:0.url", commitment=b"\x01" * 32),
    ),
)


def test_an_exchange_comes_back_from_its_json():
    raw = exchange_to_json(FULL)
    assert parse_exchange(raw, subject="x") == FULL
    assert raw.endswith(b"}\n")
    assert raw.count(b"\n") == 1


def test_the_text_is_the_documented_one():
    small = Exchange(
        request=Request(method="GET", url="http://h/", headers=(("A", "b"),), body=b""),
        response=Response(status=204, headers=(), body=None),
    )
    assert exchange_to_json(small) == (
        b'{"schema":"r1prov/exchange/1","started_at":null,"finished_at":null,"request":{"method":'
        b'"GET","url":"http://h/","headers":[["A","b"]],"body":{"base64":""}},"response":{"status"'
        b':204,"headers":[],"body":null,"complete":true}}\n'
    )


FIELDS = st.lists(
    st.tuples(
        st.text("abcXYZ-09!", min_size=1, max_size=12),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")),
    ),
    max_size=5,
).map(tuple)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
BODIES = st.none() | st.binary(max_size=60)
EXCHANGES = st.builds(
    Exchange,
    request=st.builds(
        Request,
        method=st.sampled_from(["GET", "POST", "M-SEARCH"]),
        url=st.sampled_from(["http://h", "HTTPS://a.b:1/c?d=e#f", "http://[::1]:80/"]),
        headers=FIELDS,
        body=BODIES,
        body_digests=st.none(),
    ),
    response=st.builds(
        Response,
        status=st.integers(100, 599),
        headers=FIELDS,
        body=st.none(),
        complete=st.booleans(),
        body_digests=st.none() | st.binary().map(BodyDigests.of),
    ),
    started_at=TIMES,
    finished_at=TIMES,
    documents=st.just(()) | st.just(FULL.documents),
    redactions=st.just(()),
)


@given(EXCHANGES)
def test_every_exchange_comes_back_and_has_one_text(exchange):
    raw = exchange_to_json(exchange)
    again = parse_exchange(raw, subject="x")
    assert again == exchange
    assert exchange_to_json(again) == raw


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3), st.booleans())
def test_a_mutated_text_is_another_exchange_or_refused(at, patch, insert):
    raw = exchange_to_json(FULL)
    at %= len(raw)
    changed = raw[:at] + patch + raw[at + (0 if insert else len(patch)) :]
    with suppress(R1ProvError):
        exchange = parse_exchange(changed, subject="x")
        # Spaces and spellings of JSON may differ, the meaning is what the canonical text says.
        assert parse_exchange(exchange_to_json(exchange), subject="x") == exchange


def changed(path, value):
    """The full exchange with one value of its JSON replaced; `...` takes the key away."""
    top = json.loads(json.dumps(exchange_to_value(FULL)))
    at = top
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(top).encode()


WRONG = {
    "another schema": (("schema",), "r1prov/exchange/2", "schema"),
    "a missing key": (("finished_at",), ..., "lacks the key `finished_at`"),
    "an unknown key": (("note",), 1, "unknown key `note`"),
    "an unknown key below": (("request", "note"), 1, "`request` has the unknown key"),
    "a time without zone": (("started_at",), "2026-11-24T10:00:00", "time in UTC"),
    "a time that is none": (("started_at",), "2026-06-31T10:00:00Z", "time in UTC"),
    "a time with an offset": (("started_at",), "2026-11-24T10:00:00+00:00", "time in UTC"),
    "nanoseconds": (("started_at",), "2026-11-24T10:00:00.1234567Z", "time in UTC"),
    "a method with a space": (("request", "method"), "PO ST", "must be a method"),
    "a relative URL": (("request", "url"), "/v1", "http:// or https://"),
    "a URL without host": (("request", "url"), "https:///v1", "http:// or https://"),
    "a URL with a space": (("request", "url"), "https://h/a b", "no URI may"),
    "a URL with a letter that is not ASCII": (("request", "url"), "https://h/é", "no URI may"),
    "a field name with a colon": (("request", "headers", 0, 0), "a:b", "no field name"),
    "an empty field name": (("request", "headers", 0, 0), "", "no field name"),
    "a value with a line break": (("request", "headers", 0, 1), "a\r\nb", "no field value may"),
    "a value beyond a byte": (("request", "headers", 0, 1), "漢", "no field value may"),
    "a field of three": (("request", "headers", 0), ["a", "b", "c"], "a name and a value"),
    "fields as an object": (("request", "headers"), {"a": "b"}, "a JSON array"),
    "too many fields": (("request", "headers"), [["a", "b"]] * 257, "the cap is 256"),
    "too long fields": (("request", "headers"), [["a", "b" * 300_000]], "the cap is"),
    "a body as text": (("request", "body"), "hello", "must be a JSON object"),
    "base64 without padding": (("request", "body"), {"base64": "QQ"}, "strict base64"),
    "base64 of an alphabet for URLs": (("request", "body"), {"base64": "-_8="}, "strict base64"),
    "base64 with free bits": (("request", "body"), {"base64": "QR=="}, "strict base64"),
    "a body twice": (("request", "body"), {"base64": "", "length": 0}, "unknown key `length`"),
    "a digest of half its length": (("response", "body", "sha-256"), "AAAA", "another length"),
    "a negative length": (("response", "body", "length"), -1, "a number of bytes"),
    "a length that is true": (("response", "body", "length"), True, "a number of bytes"),
    "a status of two digits": (("response", "status"), 99, "three digits"),
    "a status as text": (("response", "status"), "200", "three digits"),
    "a status that is true": (("response", "status"), True, "three digits"),
    "complete as number": (("response", "complete"), 1, "true or false"),
    "a document without body": (("documents", 0, "body"), None, "must hold its body"),
    "a document without time": (("documents", 0, "fetched_at"), None, "must hold its body"),
    "too many documents": (("documents",), [{}] * 33, "the cap is 32"),
    "a part of no message": (("redactions", 0, "part"), "request.field:x", "a part of an"),
    "a part in upper case": (("redactions", 0, "part"), "request.header:Auth", "a part of an"),
    "a part that is there": (("redactions", 0, "part"), "request.header:x", "is there and said"),
    "a body that is there": (("redactions", 0, "part"), "request.body", "is there and said"),
    "a digest that is there": (("redactions", 0, "part"), "response.body", "is there and said"),
    "a trailer that is there": (
        ("redactions", 0, "part"),
        "response.trailer:signature-input",
        "is there and said",
    ),
    "a document that is not": (("redactions", 0, "part"), "document:1.url", "which is not there"),
    "a part twice": (("redactions", 0, "part"), "request.url:query", "redacted twice"),
    "a commitment in capitals": (("redactions", 0, "commitment"), "A" * 64, "lower-case hex"),
    "a remainder of a field": (("redactions", 0, "remainder"), "", "only of a body"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_of_the_form_is_refused(case):
    path, value, message = WRONG[case]
    with pytest.raises(ExchangeError, match=message) as caught:
        parse_exchange(changed(path, value), subject="exchange.json")
    assert caught.value.subject == "exchange.json"


def test_duplicate_keys_are_refused():
    raw = exchange_to_json(FULL).replace(b'"status":200', b'"status":200,"status":500')
    with pytest.raises(R1ProvError, match="stands twice"):
        parse_exchange(raw, subject="x")


def test_messages_hold_no_secret():
    secret = base64.b64encode(b"sk-very-secret").decode()
    for path, value in (
        (("request", "url"), f"ftp://h/?key={secret}"),
        (("request", "url"), f"https://h/?key= {secret}"),
        (("request", "body"), {"base64": secret[:-1]}),
        (("request", "headers", 0, 1), f"{secret}\n"),
    ):
        with pytest.raises(ExchangeError) as caught:
            parse_exchange(changed(path, value), subject="x")
        assert secret[:8] not in str(caught.value)


def test_what_could_not_be_read_back_is_not_written():
    broken = Exchange(
        request=Request(method="GET", url="http://h/", headers=(("A", "b\n"),), body=b""),
        response=Response(status=200, headers=(), body=b""),
    )
    with pytest.raises(ExchangeError):
        exchange_to_json(broken)
    with pytest.raises(ExchangeError, match="time zone"):
        exchange_to_json(replace(FULL, started_at=datetime(2026, 1, 1)))
