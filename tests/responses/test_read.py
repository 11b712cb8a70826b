import json
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ExchangeError, NotFound, R1ProvError, Unreadable, UsageError
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.exchange_file import exchange_to_json
from r1prov.responses.log import ExchangeLog
from r1prov.responses.read import parse_capture, read_exchange

REQUEST = b"POST /v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
EXCHANGE = Exchange(
    request=Request(
        method="POST",
        url="https://h/v1",
        headers=(("Host", "h"), ("Content-Length", "2")),
        body=b"{}",
    ),
    response=Response(status=200, headers=(("Content-Length", "2"),), body=b"[]"),
)
HAR = {
    "log": {
        "entries": [
            {
                "startedDateTime": "2026-11-24T10:00:00Z",
                "time": 0,
                "request": {
                    "method": "POST",
                    "url": "https://h/v1",
                    "headers": [
                        {"name": "Host", "value": "h"},
                        {"name": "Content-Length", "value": "2"},
                    ],
                    "postData": {"text": "{}"},
                },
                "response": {
                    "status": 200,
                    "headers": [{"name": "Content-Length", "value": "2"}],
                    "content": {"size": 2, "text": "[]"},
                },
            }
        ]
    }
}


def same(capture):
    return (capture.exchange.request, capture.exchange.response) == (
        EXCHANGE.request,
        EXCHANGE.response,
    )


def test_every_form_is_told_by_its_content(tmp_path):
    files = {
        "exchange": exchange_to_json(EXCHANGE),
        "har": b"\xef\xbb\xbf " + json.dumps(HAR).encode(),
        "raw": REQUEST + RESPONSE,
    }
    for form, data in files.items():
        path = tmp_path / "capture.txt"
        path.write_bytes(data)
        capture = read_exchange(path)
        assert capture.form == form
        assert same(capture)
        assert bool(capture.notes) == (form != "exchange")


def test_a_directory_holds_request_and_response(tmp_path):
    (tmp_path / "request.http").write_bytes(REQUEST)
    with pytest.raises(NotFound, match=r"response\.http"):
        read_exchange(tmp_path)
    (tmp_path / "response.http").write_bytes(RESPONSE)
    assert same(read_exchange(tmp_path))
    assert read_exchange(tmp_path, scheme="http").exchange.request.url == "http://h/v1"
    with pytest.raises(UsageError, match="--entry"):
        read_exchange(tmp_path, entry=0)


def test_a_record_of_a_log(tmp_path):
    log = ExchangeLog(tmp_path / "log.jsonl")
    log.append(EXCHANGE)
    assert read_exchange(log.path).form == "log"
    assert same(read_exchange(log.path))
    log.append(EXCHANGE)
    with pytest.raises(UsageError, match="several exchanges"):
        read_exchange(log.path)
    assert same(read_exchange(log.path, entry=2))
    for entry in (0, 3):
        with pytest.raises(UsageError, match=f"no exchange as record {entry}"):
            read_exchange(log.path, entry=entry)


@pytest.mark.parametrize("data", [exchange_to_json(EXCHANGE), REQUEST + RESPONSE])
def test_an_entry_goes_with_what_has_several(data):
    with pytest.raises(UsageError, match="--entry"):
        parse_capture(data, entry=0, subject="x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no exchange of a known form"),
        (b"\x1f\x8b\x08", "no exchange of a known form"),
        (b"[]", "no exchange of a known form"),
        (b" " + REQUEST, "no exchange of a known form"),
        (b"{}", "lacks the key `schema`"),
        (b"\xef\xbb\xbf" + exchange_to_json(EXCHANGE), "byte order mark"),
        (b'{"log":[]}', "lacks the key `schema`"),
        (b"{", "not JSON"),
    ],
)
def test_everything_else_is_refused(data, message):
    with pytest.raises(R1ProvError, match=message) as caught:
        parse_capture(data, subject="x")
    assert caught.value.subject == "x"
    assert caught.value.exit_code == 4


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(NotFound):
        read_exchange(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((Unreadable, ExchangeError)):
        read_exchange(tmp_path / "pipe")


@given(st.binary(max_size=60), st.sampled_from([b"", b"{", b'{"log":{}', REQUEST]))
def test_nothing_but_our_errors_comes_out(data, start):
    with suppress(R1ProvError):
        parse_capture(start + data, subject="x")
