"""Transports for `httpx2`: record exchanges, and verify every answer before it counts.

    client = httpx2.Client(transport=VerifyingTransport(policy))
    openai.OpenAI(http_client=client)

docs/exchanges.md has the whole story.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from r1prov.errors import UsageError

try:
    import httpx2
except ImportError:
    raise UsageError(
        "this transport needs httpx2", hint="pip install 'r1prov[responses]'"
    ) from None

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


class _LiveStream(SyncLiveStream, httpx2.SyncByteStream):
    pass


class _AsyncLiveStream(AsyncLiveStream, httpx2.AsyncByteStream):
    pass


class RecordingTransport(SyncTransport, httpx2.BaseTransport):
    """Writes every exchange into a log; requests and answers pass unchanged.

    Args:
        log: Where to.
        inner: What sends; an `httpx2.HTTPTransport` by default.
    """

    http: ClassVar[Any] = httpx2
    live_stream: ClassVar[Any] = _LiveStream

    def __init__(self, log: ExchangeLog, *, inner: httpx2.BaseTransport | None = None) -> None:
        super().__init__(Recording(log), inner or httpx2.HTTPTransport())


class AsyncRecordingTransport(AsyncTransport, httpx2.AsyncBaseTransport):
    """As `RecordingTransport`, for an `AsyncClient`."""

    http: ClassVar[Any] = httpx2
    live_stream: ClassVar[Any] = _AsyncLiveStream

    def __init__(self, log: ExchangeLog, *, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        super().__init__(Recording(log), inner or httpx2.AsyncHTTPTransport())


class VerifyingTransport(SyncTransport, httpx2.BaseTransport):
    """Verifies every answer by a policy.

    Args:
        enforcement: The policy and what it has learned. One may serve several transports.
        inner: What sends; an `httpx2.HTTPTransport` by default.
    """

    http: ClassVar[Any] = httpx2
    live_stream: ClassVar[Any] = _LiveStream

    def __init__(
        self, enforcement: Enforcement, *, inner: httpx2.BaseTransport | None = None
    ) -> None:
        super().__init__(enforcement, inner or httpx2.HTTPTransport())


class AsyncVerifyingTransport(AsyncTransport, httpx2.AsyncBaseTransport):
    """As `VerifyingTransport`, for an `AsyncClient`."""

    http: ClassVar[Any] = httpx2
    live_stream: ClassVar[Any] = _AsyncLiveStream

    def __init__(
        self, enforcement: Enforcement, *, inner: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(enforcement, inner or httpx2.AsyncHTTPTransport())
