"""Connections on which no server can keep an audit waiting.

A time-out of silence ends no answer of which one byte comes every minute, no header that never
ends, and no endless row of `100 Continue`. So every exchange has a moment as well by which it is
over, and a run that is interrupted waits for nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from r1prov.endpoints.wire import Deadline

# How soon a connection notices that the run was interrupted.
_NAP = 0.2


def _left(deadline: Deadline, timeout: float | None) -> float:
    """Seconds that an operation may take.

    Raises:
        httpcore.ReadTimeout: None are left.
    """
    left = deadline.at - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the exchange took too long as a whole")
    return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    """A connection that looks at the clock while it waits."""

    def __init__(
        self, inner: httpcore.NetworkStream, deadline: Deadline, interrupted: Callable[[], bool]
    ) -> None:
        self._inner = inner
        self._deadline = deadline
        self._interrupted = interrupted

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = time.monotonic() + _left(self._deadline, timeout)
        while True:
            if self._interrupted():
                raise httpcore.ReadError("interrupted")
            left = until - time.monotonic()
            if left <= 0:
                _left(self._deadline, timeout)
                raise httpcore.ReadTimeout(f"the server was silent for {timeout or 0:g} s")
            try:
                return self._inner.read(max_bytes, min(left, _NAP))
            except httpcore.ReadTimeout:
                continue

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout)
        secured = self._inner.start_tls(ssl_context, server_hostname, left)
        return _Stream(secured, self._deadline, self._interrupted)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore has it
        return self._inner.get_extra_info(info)


class _Network(httpcore.NetworkBackend):
    """Opens such connections, over TCP alone."""

    def __init__(self, deadline: Deadline, interrupted: Callable[[], bool]) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline
        self._interrupted = interrupted

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout)
        stream = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(stream, self._deadline, self._interrupted)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Content(httpx.SyncByteStream):
    """The content of an answer as it arrives."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401 - httpcore says no more of it
        self._inner = inner

    def __iter__(self) -> Iterator[bytes]:
        yield from self._inner

    def close(self) -> None:
        self._inner.close()


class PatientTransport(httpx.BaseTransport):
    """HTTP/1.1 over such connections; it follows no proxy.

    What goes wrong is an exception of `httpcore`.

    Args:
        connections: At a time.
        deadline: By when the exchange of a thread has to be over.
        interrupted: Whether nothing is waited for any more.
    """

    def __init__(
        self, connections: int, deadline: Deadline, interrupted: Callable[[], bool]
    ) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections,
            network_backend=_Network(deadline, interrupted),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its answer is read as it arrives."""
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Content(answer.stream),
            extensions=answer.extensions,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()
