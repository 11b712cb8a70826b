"""A gateway that passes everything on and refuses log-probabilities, as DeepSeek's own API did."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


@contextlib.contextmanager
def discreet(upstream: str) -> Iterator[str]:
    """Serve the models of `upstream`, the base URL of its API, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._send(200, httpx.get(upstream + self.path.removeprefix("/v1"), timeout=60).content)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "logprobs" in body:
                self._send(400, b'{"error": {"message": "logprobs is not supported"}}')
                return
            answer = httpx.post(upstream + self.path.removeprefix("/v1"), json=body, timeout=120)
            self._send(answer.status_code, answer.content)

        def _send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
