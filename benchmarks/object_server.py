"""One file as every object of an S3 bucket: `python object_server.py FILE [LATENCY RATE]`.

It does as little as it can for a byte (`sendfile`), so that the clients are what is measured.
LATENCY (seconds before the first byte) and RATE (bytes a second of one connection) make it a
distant one.
"""

from __future__ import annotations

import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SHARDS = 163
MODIFIED = "Tue, 20 Jan 2026 10:00:00 GMT"


class Handler(BaseHTTPRequestHandler):
    """GET, HEAD and ListObjectsV2."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        """What is known of the file."""
        self._head(200, SIZE)

    def do_GET(self) -> None:
        """A listing, or bytes of the file."""
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            return self._listing()
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            start, end = 0, SIZE
            self._head(200, SIZE)
        else:
            start = int(match[1])
            end = min(int(match[2] or SIZE) + 1, SIZE)
            self._head(206, end - start, f"bytes {start}-{end - 1}/{SIZE}")
        time.sleep(LATENCY)
        while start < end:
            begin = time.monotonic()
            sent = os.sendfile(self.connection.fileno(), FILE, start, min(end - start, 2**20))
            start += sent
            if RATE:
                time.sleep(max(0.0, sent / RATE - (time.monotonic() - begin)))
        return None

    def _head(self, status: int, length: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Last-Modified", MODIFIED)
        self.send_header("ETag", '"tag"')
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.flush()

    def _listing(self) -> None:
        names = [f"m/model-{n:05}-of-{SHARDS:05}.safetensors" for n in range(1, SHARDS + 1)]
        body = "".join(
            f"<Contents><Key>{name}</Key><LastModified>2026-01-20T10:00:00.000Z</LastModified>"
            f"<ETag>&quot;tag&quot;</ETag><Size>{SIZE}</Size></Contents>"
            for name in names
        )
        raw = f"<ListBucketResult><IsTruncated>false</IsTruncated>{body}</ListBucketResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw.encode())


if __name__ == "__main__":
    FILE = os.open(sys.argv[1], os.O_RDONLY)
    LATENCY, RATE = map(float, sys.argv[2:] or (0, 0))
    SIZE = os.fstat(FILE).st_size
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()
