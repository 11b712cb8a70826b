"""Transports for `httpx`: record exchanges, and verify every answer before it counts.

    client = httpx.Client(transport=VerifyingTransport(policy))
    openai.OpenAI(http_client=client)

docs/exchanges.md has the whole story.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from r1prov.errors import UsageError

try:
    import httpx
except ImportError:
    raise UsageError("this transport needs httpx", hint="pip install 'r1prov[responses]'") from None

from r1prov.responses.enforce import Enforcement
from r1prov.responses.record import Recording
from r1prov.responses.transport import (
    AsyncLiveStream,
    AsyncTransport,
    SyncLiveStream,
    SyncTransport,
)

if TYPE_CHECKING:
    from r1prov.responses.log import ExchangeLog


class _LiveStream(SyncLiveStream, httpx.SyncByteStream):
    pass


class _AsyncLiveStream(AsyncLiveStream, httpx.AsyncByteStream):
    pass


class RecordingTransport(SyncTransport, httpx.BaseTransport):
    """Writes every exchange into a log; requests and answers pass unchanged.

    Args:
        log: Where to.
        inner: What sends; an `httpx.HTTPTransport` by default.
    """

    http: ClassVar[Any] = httpx
    live_stream: ClassVar[Any] = _LiveStream

    def __init__(self, log: ExchangeLog, *, inner: httpx.BaseTransport | None = None) -> None:
        super().__init__(Recording(log), inner or httpx.HTTPTransport())


class AsyncRecordingTransport(AsyncTransport, httpx.AsyncBaseTransport):
    """As `RecordingTransport`, for an `AsyncClient`."""

    http: ClassVar[Any] = httpx
    live_stream: ClassVar[Any] = _AsyncLiveStream

    def __init__(self, log: ExchangeLog, *, inner: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(Recording(log), inner or httpx.AsyncHTTPTransport())


class VerifyingTransport(SyncTransport, httpx.BaseTransport):
    """Verifies every answer by a policy.

    Args:
        enforcement: The policy and what it has learned. One may serve several transports.
        inner: What sends; an `httpx.HTTPTransport` by default.
    """

    http: ClassVar[Any] = httpx
    live_stream: ClassVar[Any] = _LiveStream

    def __init__(
        self, enforcement: Enforcement, *, inner: httpx.BaseTransport | None = None
    ) -> None:
        super().__init__(enforcement, inner or httpx.HTTPTransport())


class AsyncVerifyingTransport(AsyncTransport, httpx.AsyncBaseTransport):
    """As `VerifyingTransport`, for an `AsyncClient`."""

    http: ClassVar[Any] = httpx
    live_stream: ClassVar[Any] = _AsyncLiveStream

    def __init__(
        self, enforcement: Enforcement, *, inner: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(enforcement, inner or httpx.AsyncHTTPTransport())
