"""The proxy as its users run it: the command, in a process of its own."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from r1prov.cli.app import run
from r1prov.responses.exchange import CapturedDocument, Exchange, Request, Response
from r1prov.responses.jwks import parse_jwks
from r1prov.responses.policy import ResponsePolicy
from r1prov.responses.verify import verify_exchange

BODY = b'{"model":"deepseek-r1","messages":[]}'
NONCE = 'r1prov=("@status");nonce="n-42";tag="r1prov"'


class Proxy:
    """A running proxy.

    `base` is where it listens, once somebody asked.
    """

    base = ""

    def __init__(self, arguments: list[str]):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "r1prov", "response", "proxy", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def wait_for(self, beginning: str, timeout: float = 30) -> str:
        """The next line that begins so; what comes before it is passed over."""
        while True:
            line = self._lines.get(timeout=timeout)
            assert line is not None, f"the proxy ended: {self.said}"
            if line.startswith(beginning):
                return line

    @property
    def url(self) -> str:
        return self.wait_for("listening on ").removeprefix("listening on ")

    def end(self) -> int:
        """Stop it, and return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(timeout=40)
        finally:
            self.process.kill()
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()


@contextmanager
def running(upstream: str, key: Path, *more: str) -> Iterator[Proxy]:
    """A proxy for the manifest of DeepSeek-R1, on a port of its own."""
    arguments = ["--upstream", upstream, "--key", str(key), "--listen", "127.0.0.1:0", *more]
    if "--manifest" not in more:
        arguments += ["--manifest", "DeepSeek-R1"]
    proxy = Proxy(arguments)
    try:
        yield proxy
    finally:
        proxy.end()


def make_key(path: Path, algorithm: str = "ed25519") -> Path:
    """A private key file, with the public one beside it."""
    assert run(["key", "generate", str(path), "--no-passphrase", "--algorithm", algorithm]) == 0
    return path


def trusted(client, url: str):
    """The keys that a proxy serves, by key id. A test may believe them; a client pins them."""
    keys = parse_jwks(client.get(f"{url}/.well-known/r1prov/jwks.json").content, subject="served")
    return {key.thumbprint: key for key in keys}


def ask(client, path, *, method="POST", content=BODY, headers=None):
    """One exchange with the bytes as they were on the wire."""
    request = client.build_request(
        method,
        path,
        content=content,
        headers=[("accept-signature", NONCE), *(headers or {}).items()],
    )
    response = client.send(request, stream=True)
    received, complete = [], True
    try:
        received += response.iter_raw()
    except httpx.RemoteProtocolError:
        complete = False
    response.close()
    return Exchange(
        request=Request(
            method=method, url=str(request.url), headers=request.headers.multi_items(), body=content
        ),
        response=Response(
            status=response.status_code,
            headers=tuple(response.headers.multi_items()),
            body=b"".join(received),
            complete=complete,
        ),
        finished_at=datetime.now(UTC),
    )


def judged(exchange, keys, **changes):
    policy = ResponsePolicy(keys=tuple(keys.values()), tag="r1prov", **changes)
    return verify_exchange(exchange, policy, now=datetime.now(UTC))


def field(exchange, name):
    return dict(exchange.response.headers).get(name)


def with_receipt(client, exchange):
    name = field(exchange, "r1prov-stream").partition('id="')[2].rstrip('"')
    url = f"{client.base_url}/.well-known/r1prov/receipts/{name}"
    answer = client.get(url)
    return replace(
        exchange,
        documents=(
            CapturedDocument(
                url=url,
                status=answer.status_code,
                body=answer.content,
                fetched_at=datetime.now(UTC),
            ),
        ),
    )
