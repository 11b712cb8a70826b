"""A chat API that does as it is told: refuses, breaks off, stalls, counts or does not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What servers answer to a field that they do not know.
UNKNOWN = {"no-options": 400, "not-processable": 422}
# What is no chat completion, whatever the status says.
PAGES = {
    "page": b"<html>Please log in</html>",
    "nothing": b"",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "no-text": b'{"choices":[{"message":{"content":"\xff\xfe"}}]}',
    "other-json": b'{"choices":{"a":1},"usage":"many"}',
}


class Told:
    """What the server does with each request in turn; the last for all that follow."""

    def __init__(self) -> None:
        self.script = ["ok"]
        self.models = ["m"]
        self.listed = 0
        self.seen: list[dict[str, Any]] = []
        self.at: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = self.most = self.events = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.url = ""

    def take(self, body: dict[str, Any], headers: Mapping[str, str]) -> str:
        with self.lock:
            self.seen.append(body)
            self.at.append(time.monotonic())
            self.headers.append(dict(headers))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told: Told

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        step = self.told.models.pop(0) if len(self.told.models) > 1 else self.told.models[0]
        self.told.listed += 1
        if step.isdigit():
            self.send(int(step), {"error": {"message": "no"}})
        else:
            self.send(200, {"data": [{"id": one} for one in step.split()]})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        step = self.told.take(body, dict(self.headers))
        try:
            self.act(step, body)
        finally:
            with self.told.lock:
                self.told.under_way -= 1

    def act(self, step: str, body: dict[str, Any]) -> None:
        """Take one step of the script."""
        status, _, rest = step.partition(" ")
        if step == "slow":
            time.sleep(0.1)
        if step == "stall":
            self.told.over.wait(30)
        if step in UNKNOWN and "stream_options" in body:
            self.send(UNKNOWN[step], {"error": {"message": "unknown field stream_options"}})
        elif step == "error-200":  # a gateway that passes on what the server behind it said
            self.send(200, {"error": {"message": "overloaded", "code": 529}})
        elif step == "refused-200":
            self.send(200, {"error": {"message": "no such parameter", "code": 400}})
        elif step in PAGES:  # for people, or none at all, with status 200
            self.send_raw(PAGES[step], "text/html")
        elif step == "odd":
            choice = {"message": {"content": "hello"}, "finish_reason": "stop"}
            self.send(200, {"choices": [choice], "usage": "many"})
        elif step == "echo":
            self.send(400, {"error": {"message": f"bad key: {self.headers['Authorization']}"}})
        elif step in ("error-on-the-way", "unmarked-end"):
            self.begin_stream()
            self.piece(b'data: {"choices":[{"delta":{"content":"half"}}]}\n\n')
            if step == "error-on-the-way":
                self.piece(b'data: {"error":{"message":"upstream gone","code":"502"}}\n\n')
            self.wfile.write(b"0\r\n\r\n")
        elif step == "runs-on":
            self.run_on()
        elif step in ("drop", "cut"):
            if step == "cut":
                self.begin_stream()
                self.piece(b'data: {"choices":[{"delta":{"content":"half"}}]}\n\n')
            self.close_connection = True
        elif status.isdigit():
            self.send(int(status), {"error": {"message": "no"}}, rest)
        elif body.get("stream"):
            self.stream()
        else:
            text = f"to {body['messages'][0]['content']}"
            message = {"role": "assistant", "content": text}
            answer: dict[str, Any] = {
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]
            }
            if step == "free":
                answer["usage"] = {"prompt_tokens": 5, "completion_tokens": 0}
                message["content"] = "word " * 40
            elif step != "uncounted":
                counts = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
                answer["usage"] = counts
            self.send(200, answer)

    def run_on(self) -> None:
        """A stream without an end, for as long as somebody reads it."""
        self.begin_stream()
        event = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
        while True:
            try:
                self.piece(event * 10)
            except OSError:
                return
            self.told.events += 10
            time.sleep(0.001)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def stream(self) -> None:
        """Two pieces with a pause between them, and the end."""
        self.begin_stream()
        for text in ("one", " two"):
            value = {"choices": [{"index": 0, "delta": {"content": text}}]}
            self.piece(b"data: " + json.dumps(value).encode() + b"\n\n")
            time.sleep(0.03)
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        self.piece(b"data: " + json.dumps(end).encode() + b"\n\n")
        self.piece(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def piece(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def send_raw(self, raw: bytes, media_type: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def send(self, status: int, value: object, retry_after: str = "") -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serving(*script: str) -> Iterator[Told]:
    told = Told()
    told.script = list(script) or ["ok"]
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"told": told}))
    told.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        told.over.set()
        http.shutdown()
        http.server_close()
        thread.join(10)
