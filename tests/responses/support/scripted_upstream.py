"""A server that answers as its path says: well, badly, slowly, or not at all. Real sockets."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS = [
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    b'[{"index":0,"delta":{"content":"w%d "},"finish_reason":null}]}\n\n' % i
    for i in range(5)
]
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
STREAM = EVENTS[0] + KEEP_ALIVE + b"".join(EVENTS[1:])
ANSWER = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello"},
                "finish_reason": "stop",
            }
        ],
    }
).encode()
HUGE = b'{"x":"' + b"y" * (17 * 1024 * 1024) + b'"}'
LINES = b'{"a":1}\n{"a":2}\n{"done":true}\n'


class Script(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Upstream

    def log_message(self, format, *args):  # noqa: A002 - the name in the library
        pass

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.server.seen.append((self.command, self.path, self.headers, self.body))
        name = self.path.partition("?")[0].rpartition("/")[2].replace("-", "_").replace(".", "_")
        getattr(self, f"answer_{name}", self.answer_echo)()

    do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_GET  # noqa: N815 - the library's

    # ---- how to answer -----------------------------------------------------------------------

    def raw(self, data):
        self.wfile.write(data)
        self.wfile.flush()

    def whole(self, body, kind="application/json", status=200, **headers):
        head = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.raw(body)

    def begin(self, kind="text/event-stream; charset=utf-8", **headers):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data):
        self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self):
        self.raw(b"0\r\n\r\n")

    def hang_up(self):
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    # ---- the script --------------------------------------------------------------------------

    def answer_echo(self):
        said = {
            "method": self.command,
            "target": self.path,
            "headers": [list(pair) for pair in self.headers.items()],
            "sha256": hashlib.sha256(self.body).hexdigest(),
        }
        self.whole(json.dumps(said).encode())

    def answer_completions(self):
        if json.loads(self.body or b"{}").get("stream"):
            self.answer_stream()
        else:
            self.whole(ANSWER)

    def answer_stream(self):
        self.begin()
        for event in (EVENTS[0], KEEP_ALIVE, *EVENTS[1:], DONE):
            self.chunk(event)
        self.end()

    def answer_in_bits(self):
        self.begin()
        for byte in STREAM + DONE:
            self.chunk(bytes([byte]))
        self.end()

    def answer_steps(self):
        """A piece each time the test allows one."""
        self.begin()
        for event in (*EVENTS, DONE):
            self.server.step.wait(20)
            self.server.step.clear()
            try:
                self.chunk(event)
            except OSError:
                self.server.hung_up.set()
                return
        self.end()

    def answer_endless(self):
        self.begin()
        with self.server.counting(self):
            while True:
                self.chunk(EVENTS[0])
                time.sleep(0.02)

    def answer_flood(self):
        self.begin()
        with self.server.counting(self):
            while True:
                self.chunk(EVENTS[0] * 400)

    def answer_no_end_event(self):
        self.begin()
        self.chunk(STREAM)
        self.end()

    def answer_after_end(self):
        self.begin()
        self.chunk(STREAM + DONE + b"data: more\n\n")
        self.end()

    def answer_cut(self):
        self.begin()
        self.chunk(STREAM)
        self.hang_up()

    def answer_cut_within(self):
        self.begin()
        self.chunk(STREAM + b"data: {")
        self.hang_up()

    def answer_cut_whole(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.raw(b'{"choices":')
        self.hang_up()

    def answer_bad_chunk(self):
        """The wrong size comes when the test allows it: in a packet of its own."""
        self.begin()
        self.chunk(STREAM)
        self.server.step.wait(20)
        self.server.step.clear()
        self.raw(b"zz\r\nnonsense\r\n")
        self.hang_up()

    def answer_forged(self):
        self.begin()
        self.chunk(STREAM)
        self.chunk(b": r1prov-signature abc\n\n")
        self.chunk(DONE)
        self.end()

    def answer_gzip(self):
        self.whole(gzip.compress(ANSWER, mtime=0), Content_Encoding="gzip")

    def answer_gzip_stream(self):
        self.begin(Content_Encoding="gzip")
        self.chunk(gzip.compress(STREAM + DONE, mtime=0))
        self.end()

    def answer_ndjson(self):
        self.begin("application/x-ndjson")
        for line in LINES.splitlines(keepends=True):
            self.chunk(line)
        self.end()

    def answer_huge(self):
        self.whole(HUGE)

    def answer_old(self):
        self.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + STREAM + DONE)
        self.hang_up()

    def answer_old_open(self):
        self.raw(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + STREAM)
        self.hang_up()

    def answer_nothing(self):
        self.hang_up()

    def answer_garbage(self):
        self.raw(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        self.hang_up()

    def answer_silent(self):
        with self.server.counting(self):
            self.connection.settimeout(20)
            self.connection.recv(1)

    def answer_then_silent(self):
        self.begin()
        self.chunk(EVENTS[0])
        self.answer_silent()

    def answer_failure(self):
        self.whole(b'{"error":{"message":"no"}}', status=429, Retry_After="7")

    def answer_none(self):
        self.send_response(204)
        self.end_headers()

    def answer_redirect(self):
        self.whole(b"", status=307, Location="http://elsewhere.invalid/")

    def answer_odd_status(self):
        self.raw(b"HTTP/1.1 799 Odd\r\nContent-Length: 0\r\n\r\n")

    def answer_two_types(self):
        self.raw(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Type: text/html\r\n"
            b"Content-Length: 1\r\n\r\nx"
        )

    def answer_bad_header(self):
        self.raw(b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 1\r\n\r\nx")

    def answer_fields(self):
        self.whole(
            b"{}",
            X_Kept="yes",
            Connection="keep-alive, x-of-hop",
            X_Of_Hop="secret",
            Signature="r1prov=:AAAA:",
            Signature_Input='r1prov=();tag="r1prov"',
            Content_Digest="sha-256=:AAAA:",
            R1prov_Manifest="sha-256=:AAAA:",
            Keep_Alive="timeout=5",
        )


class Upstream(ThreadingHTTPServer):
    """The server, and what it has seen."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Script)
        self.seen = []
        self.step = threading.Event()
        self.hung_up = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that leaves is part of the script."""

    @contextmanager
    def counting(self, script) -> Iterator[None]:
        """Tells when the client of an endless answer has left."""
        self.hung_up.clear()
        try:
            yield
        except OSError:
            pass
        finally:
            script.close_connection = True
            self.hung_up.set()


@contextmanager
def running() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
