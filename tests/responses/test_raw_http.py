import os
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ExchangeError, R1ProvError
from r1prov.responses.raw_http import parse_raw

REQUEST = b"POST /v1/chat?a=b HTTP/1.1\r\nHost: api.example:8080\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nSignature: \t a=:AA==: \r\n\r\n"
    b"5;name=value\r\nhello\r\n1\r\n!\r\n0\r\nContent-Digest: x\r\n\r\n"
)
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def read(request=REQUEST, response=LENGTH, **how):
    return parse_raw(request, response, subject="capture", **how)


def test_a_request_and_a_chunked_response_are_read_with_trailers():
    exchange = read(response=CHUNKED).exchange
    assert exchange.request.method == "POST"
    assert exchange.request.url == "https://api.example:8080/v1/chat?a=b"
    assert exchange.request.body == b"{}"
    assert exchange.response.status == 200
    assert exchange.response.body == b"hello!"
    assert exchange.response.complete
    assert exchange.response.trailers == (("Content-Digest", "x"),)
    assert exchange.response.headers == (
        ("Transfer-Encoding", "Chunked"),
        ("Signature", "a=:AA==:"),
    )


def test_the_response_may_stand_behind_the_request():
    assert parse_raw(REQUEST + CHUNKED, subject="x").exchange == read(response=CHUNKED).exchange


def test_a_chunked_request_has_its_end_too():
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = parse_raw(head + b"2\r\nab\r\n0\r\n\r\n" + LENGTH, subject="x", scheme="http")
    assert raw.exchange.request.body == b"ab"
    assert raw.exchange.request.url == "http://h/"
    assert "scheme http is assumed" in raw.notes[0]


def test_an_absolute_target_is_the_url():
    request = b"GET http://other.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n"
    assert read(request).exchange.request.url == "http://other.example/x"


def test_a_response_without_length_ends_with_the_connection():
    raw = read(response=b"HTTP/1.0 200 \r\n\r\ndata: x\n\n")
    assert raw.exchange.response.body == b"data: x\n\n"
    assert any("cut end would not show" in note for note in raw.notes)


@pytest.mark.parametrize("status", [204, 304])
def test_some_responses_have_no_content(status):
    response = b"HTTP/1.1 %d x\r\nContent-Length: 5\r\n\r\n" % status
    assert read(response=response).exchange.response.body == b""
    request = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert read(request, LENGTH[:-5]).exchange.response.body == b""


@pytest.mark.parametrize("cut", [*range(1, 6), len(LENGTH) - len(b"HTTP/1.1 200 OK\r\n\r\n")])
def test_a_response_that_broke_off_is_not_complete(cut):
    if cut < 6:
        response = read(response=LENGTH[:-cut]).exchange.response
        assert response.body == b"hello"[:-cut]
        assert not response.complete
    else:
        with pytest.raises(ExchangeError, match="ends before"):
            read(response=LENGTH[: -cut - 6])


@pytest.mark.parametrize("cut", range(1, 45))
def test_a_chunked_response_that_broke_off_keeps_what_came(cut):
    response = read(response=CHUNKED[:-cut]).exchange.response
    assert not response.complete
    assert b"hello!".startswith(response.body)
    assert response.trailers == ()


HEAD = b"HTTP/1.1 200 OK\r\n"
REFUSED = {
    "a bare line feed": (REQUEST.replace(b"\r\nHost", b"\nHost"), LENGTH, "bare line feed"),
    "a bare carriage return": (REQUEST.replace(b"api", b"a\rpi"), LENGTH, "bare carriage return"),
    "a NUL": (REQUEST.replace(b"api", b"a\0pi"), LENGTH, "NUL byte"),
    "a folded line": (REQUEST, HEAD + b"A: b\r\n c\r\n\r\n", "folded"),
    "a tab before a field": (REQUEST, HEAD + b"\tA: b\r\n\r\n", "folded"),
    "a space before the colon": (REQUEST, HEAD + b"A : b\r\n\r\n", "where a field name must be"),
    "no colon": (REQUEST, HEAD + b"Ab\r\n\r\n", "where a field name must be"),
    "no name": (REQUEST, HEAD + b": b\r\n\r\n", "where a field name must be"),
    "a control character": (REQUEST, HEAD + b"A: \x07\r\n\r\n", "no field value may"),
    "two lengths": (
        REQUEST,
        HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "more than one Content-Length",
    ),
    "a list of lengths": (REQUEST, HEAD + b"Content-Length: 5, 5\r\n\r\nhello", "5, 5"),
    "a signed length": (REQUEST, HEAD + b"Content-Length: +5\r\n\r\nhello", r"\+5"),
    "a length of other digits": (
        REQUEST,
        HEAD + b"Content-Length: \xb2\r\n\r\nhello",
        "Content-Length",
    ),
    "an endless length": (REQUEST, HEAD + b"Content-Length: 99999999999\r\n\r\n", "longer than"),
    "a length and a coding": (
        REQUEST,
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "beside a Transfer-Encoding",
    ),
    "another coding": (REQUEST, HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "gzip"),
    "an obfuscated coding": (REQUEST, HEAD + b"Transfer-Encoding: xchunked\r\n\r\n", "xchunked"),
    "two codings": (
        REQUEST,
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "more than one Transfer-Encoding",
    ),
    "a coding of HTTP/1.0": (
        REQUEST,
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "in HTTP/1.0",
    ),
    "a chunk size with a sign": (
        REQUEST,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        "no size of a chunk",
    ),
    "a chunk size with 0x": (
        REQUEST,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n",
        "no size of a chunk",
    ),
    "a chunk longer than its size": (
        REQUEST,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "does not end with CR LF",
    ),
    "a chunk that ends with a line feed": (
        REQUEST,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
        "does not end with CR LF",
    ),
    "bytes after the response": (REQUEST, LENGTH + b"x", "1 byte after the end of the response"),
    "a second response": (REQUEST, LENGTH + LENGTH, "after the end of the response"),
    "bytes after the request": (REQUEST + b"GET", LENGTH, "after the end of the request"),
    "no response": (REQUEST, None, "no response after it"),
    "a switch of protocols": (REQUEST, b"HTTP/1.1 101 x\r\n\r\n", "switches protocols"),
    "HTTP/2": (REQUEST, b"HTTP/2 200 \r\n\r\n", "no status line"),
    "a status of four digits": (REQUEST, b"HTTP/1.1 2000 \r\n\r\n", "no status line"),
    "a cut request": (REQUEST[:-1], LENGTH, "ends before the message"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", LENGTH, "0 Host fields"),
    "two Hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", LENGTH, "2 Host fields"),
    "a Host with user": (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", LENGTH, "names no host"),
    "a Host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", LENGTH, "names no host"),
    "an asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", LENGTH, "http://"),
    "a tunnel": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", LENGTH, "http://"),
    "a long line": (b"GET /" + b"a" * 70_000, LENGTH, "longer than"),
    "many fields": (REQUEST, HEAD + b"A: b\r\n" * 300 + b"\r\n", "too long"),
    "a long header": (REQUEST, HEAD + (b"A: " + b"b" * 60_000 + b"\r\n") * 5 + b"\r\n", "too long"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_readers_differ_on_is_refused(case):
    request, response, message = REFUSED[case]
    with pytest.raises(ExchangeError, match=message) as caught:
        read(request, response)
    assert caught.value.subject == "capture"


@given(
    st.integers(0, len(REQUEST + CHUNKED)),
    st.sampled_from([b"\r", b"\n", b"\0", b" ", b":", b"0", b"\xff", b"\r\n"]) | st.binary(),
    st.integers(0, 3),
)
def test_nothing_but_our_errors_comes_out(at, patch, cut):
    raw = REQUEST + CHUNKED
    with suppress(R1ProvError):
        parse_raw(raw[:at] + patch + raw[at + cut :], subject="x")


@given(st.binary(max_size=300), st.none() | st.binary(max_size=300))
def test_arbitrary_bytes_are_no_exchange(request, response):
    with suppress(R1ProvError):
        parse_raw(request, response, subject="x")


@given(st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=12), st.booleans())
def test_chunks_come_back_however_they_were_cut(body, sizes, extension):
    chunks = b""
    rest = body
    for size in [*sizes, max(1, len(body))]:
        piece, rest = rest[:size], rest[size:]
        if piece:
            chunks += b"%x%s\r\n%s\r\n" % (len(piece), b";x" if extension else b"", piece)
    response = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert read(response=response).exchange.response.body == body


def test_what_a_real_server_sends_is_read():
    """The bytes of a socket, as a capture has them, of the server of the standard library."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[::-1])

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with socket.create_connection(server.server_address, timeout=10) as client:
            host = f"127.0.0.1:{server.server_address[1]}"
            request = (
                f"POST /v1 HTTP/1.1\r\nHost: {host}\r\n"
                "Connection: close\r\nContent-Length: 3\r\n\r\nabc"
            ).encode()
            client.sendall(request)
            response = b"".join(iter(lambda: client.recv(4096), b""))
        thread.join(10)
    exchange = parse_raw(request, response, scheme="http", subject=os.devnull).exchange
    assert exchange.response.body == b"cba"
    assert exchange.request.url == f"http://{host}/v1"
    assert ("Content-Length", "3") in exchange.response.headers
