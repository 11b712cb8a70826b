"""A chat API that does as it is told: refuses, breaks off, stalls, counts or does not."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Told:
    """What the server does with each request in turn; the last for all that follow."""

    def __init__(self):
        self.script = ["ok"]
        self.seen = []
        self.at = []
        self.headers = []
        self.under_way = self.most = 0
        self.lock = threading.Lock()
        self.url = ""

    def take(self, body, headers):
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

    def log_message(self, *_):
        pass

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        step = self.told.take(body, self.headers)
        try:
            self.act(step, body)
        finally:
            with self.told.lock:
                self.told.under_way -= 1

    def act(self, step, body):
        status, _, rest = step.partition(" ")
        if step == "no-options" and "stream_options" in body:
            return self.send(400, {"error": {"message": "unknown field stream_options"}})
        if step == "drop":
            self.close_connection = True
            return None
        if step == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            piece = b'data: {"choices":[{"delta":{"content":"half"}}]}\n\n'
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.close_connection = True
            return None
        if step == "slow":
            time.sleep(0.1)
        if status.isdigit():
            return self.send(int(status), {"error": {"message": "no"}}, rest)
        if body.get("stream"):
            return self.stream()
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        message = {"role": "assistant", "content": f"to {body['messages'][0]['content']}"}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return self.send(200, answer if step == "uncounted" else {**answer, "usage": usage})

    def stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for text in ("one", " two"):
            value = {"choices": [{"index": 0, "delta": {"content": text}}]}
            self.piece(b"data: " + json.dumps(value).encode() + b"\n\n")
            time.sleep(0.03)
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        self.piece(b"data: " + json.dumps(end).encode() + b"\n\n")
        self.piece(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        return

    def piece(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def send(self, status, value, retry_after=""):
        raw = json.dumps(value).encode()
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@contextmanager
def serving(*script):
    told = Told()
    told.script = list(script) or ["ok"]
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("H", (Handler,), {"told": told}))
    told.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        http.shutdown()
        http.server_close()
        thread.join(10)
