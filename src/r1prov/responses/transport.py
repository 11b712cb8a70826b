"""What the transports for httpx and httpx2 share: see every exchange as it is on the wire.

A transport sits below the client, so the bytes it sees are those that were sent and received;
nothing that passes is parsed and written anew. What becomes of an exchange is up to an `Observer`:
`record.Recording` keeps it, `enforce.Enforcement` verifies it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from r1prov.errors import LimitExceeded
from r1prov.limits import (
    MAX_RECEIPT_BYTES,
    MAX_STREAM_TAIL_BYTES,
    STREAM_TAIL_SECONDS,
)
from r1prov.responses.capture import EndHolder, ExchangeCapture, SentRequest
from r1prov.responses.exchange import CapturedDocument, Headers

if TYPE_CHECKING:
    from r1prov.responses.exchange import Exchange


@dataclass(frozen=True, slots=True)
class Fetch:
    """A step of an observer: get a document; the answer is a `CapturedDocument` or None.

    Attributes:
        url: Where.
        headers: To be sent, credentials included.
        seconds: How long it may take.
    """

    url: str
    headers: Headers
    seconds: float


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of an observer: wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """A step of an observer: something that takes time or blocks, such as a flush to the disk."""

    do: Callable[[], None]


Step = Fetch | Pause | Work
Steps = Generator[Step, CapturedDocument | None, None]


class Observer(Protocol):
    """What becomes of the exchanges of a transport.

    Attributes:
        holds: Whether an answer that is not streamed is handed over only after `conclude` has let
            it pass. Of a streamed one, the event that ends it always is.
        keep: Bytes of each body that are kept at most; of a longer one only digests are.
    """

    holds: bool
    keep: int

    def prepare(self, request: SentRequest) -> SentRequest:
        """The request as it is to be sent."""

    def conclude(self, exchange: Exchange, *, ended: bool) -> Steps:
        """Decide about an exchange that is over, asking for what is needed step by step.

        Args:
            exchange: It.
            ended: Whether the response came to its end; if not, another error is under way or the
                client has stopped reading.

        Raises:
            R1ProvError: The answer must not be handed over.
        """


class _Tail:
    """What may still come after the event that ends a stream."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self._left = MAX_STREAM_TAIL_BYTES

    def over(self, data: bytes) -> bool:
        """Whether that was too much, or took too long."""
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + STREAM_TAIL_SECONDS
        self._left -= len(data)
        return self._left < 0 or now > self._deadline


class _Flow:
    """One response on its way through a transport, without I/O."""

    def __init__(self, capture: ExchangeCapture, observer: Observer) -> None:
        self.capture = capture
        self._observer = observer
        self._holder = EndHolder() if capture.live else None
        self._tail = _Tail()
        self.concluded = False
        self.stopped = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes of a live answer; what of them may be handed on."""
        self.capture.feed(data)
        if self._holder is None:
            return data
        passed = self._holder.feed(data)
        if self._holder.ended and self._tail.over(data):
            self.stopped = True
        return passed

    @property
    def held(self) -> bytes:
        """What is handed on once the observer let the answer pass."""
        return b"" if self._holder is None else self._holder.held

    def conclude(self, *, ended: bool) -> Steps:
        """The observer's decision; only the first time that this is asked for."""
        if self.concluded:
            return
        self.concluded = True
        exchange = self.capture.exchange(complete=ended and not self.stopped)
        yield from self._observer.conclude(exchange, ended=ended)

    def too_long(self) -> LimitExceeded | None:
        """Why a whole answer cannot be held back."""
        if self.capture.body is not None:
            return None
        return LimitExceeded(
            f"an answer of more than {self._observer.keep:,} bytes cannot be verified before "
            "it is handed over",
            hint="ask for a stream",
        )


def _headers(raw: Any) -> Headers:  # noqa: ANN401 - `Headers.raw` of httpx: names and values
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


class _Shared:
    """What the sync and the async transport have in common.

    Attributes:
        http: The module of the client, `httpx` or `httpx2`.
        live_stream: Class of a response's content while it arrives.
    """

    http: ClassVar[Any]
    live_stream: ClassVar[Any]

    def __init__(self, observer: Observer, inner: Any) -> None:  # noqa: ANN401 - of either module
        self._observer = observer
        self._inner = inner

    def _outgoing(self, request: Any, body: bytes) -> tuple[SentRequest, Any]:  # noqa: ANN401
        """The request as it is sent, and what the inner transport is given."""
        sent = self._observer.prepare(
            SentRequest(
                method=request.method,
                url=str(request.url).partition("#")[0],  # a fragment is never sent
                headers=_headers(request.headers.raw),
                body=body,
                started_at=datetime.now(UTC),
            )
        )
        outgoing = self.http.Request(
            request.method,
            request.url,
            headers=_raw(sent.headers),
            stream=self.http.ByteStream(body),
            extensions=request.extensions,
        )
        return replace(sent, headers=_headers(outgoing.headers.raw)), outgoing

    def _flow(self, sent: SentRequest, response: Any) -> _Flow:  # noqa: ANN401
        headers = _headers(response.headers.raw)
        return _Flow(
            ExchangeCapture(sent, response.status_code, headers, keep=self._observer.keep),
            self._observer,
        )

    def _answer(self, response: Any, stream: Any) -> Any:  # noqa: ANN401 - a response of the module
        return self.http.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=stream,
            extensions=response.extensions,
        )

    def _get(self, step: Fetch) -> Any:  # noqa: ANN401 - a request of the module
        limits = dict.fromkeys(("connect", "read", "write", "pool"), step.seconds)
        return self.http.Request(
            "GET", step.url, headers=_raw(step.headers), extensions={"timeout": limits}
        )

    @staticmethod
    def _document(step: Fetch, status: int, body: bytes) -> CapturedDocument | None:
        if len(body) > MAX_RECEIPT_BYTES:
            return None
        return CapturedDocument(
            url=step.url, status=status, body=body, fetched_at=datetime.now(UTC)
        )


class SyncTransport(_Shared):
    """A transport of a `Client`."""

    def handle_request(self, request: Any) -> Any:  # noqa: ANN401 - of the module
        """Send a request, and hand over its response once the observer lets it pass."""
        sent, outgoing = self._outgoing(request, request.read())
        response = self._inner.handle_request(outgoing)
        flow = self._flow(sent, response)
        if flow.capture.live or not self._observer.holds:
            return self._answer(response, self.live_stream(self, response.stream, flow))
        try:
            try:
                for piece in response.stream:
                    flow.capture.feed(piece)
                    if error := flow.too_long():
                        raise error
            finally:
                response.stream.close()
        except BaseException:
            self.run(flow.conclude(ended=False))
            raise
        self.run(flow.conclude(ended=True))
        return self._answer(response, self.http.ByteStream(flow.capture.body))

    def run(self, steps: Steps) -> None:
        """Take the steps of an observer."""
        answer: CapturedDocument | None = None
        with suppress(StopIteration):
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, Fetch):
                    answer = self._fetch(step)
                elif isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    step.do()

    def _fetch(self, step: Fetch) -> CapturedDocument | None:
        deadline = time.monotonic() + step.seconds
        body = b""
        try:
            response = self._inner.handle_request(self._get(step))
            try:
                for piece in response.stream:
                    body += piece
                    if len(body) > MAX_RECEIPT_BYTES or time.monotonic() > deadline:
                        return None
            finally:
                response.stream.close()
        except (self.http.HTTPError, self.http.InvalidURL, OSError):
            return None
        return self._document(step, response.status_code, body)

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()


class SyncLiveStream:
    """Content of a response that a client reads while it arrives."""

    def __init__(self, transport: SyncTransport, inner: Any, flow: _Flow) -> None:  # noqa: ANN401
        self._transport = transport
        self._inner = inner
        self._flow = flow

    def __iter__(self) -> Iterator[bytes]:
        try:
            for piece in self._inner:
                if passed := self._flow.feed(piece):
                    yield passed
                if self._flow.stopped:
                    break
        except GeneratorExit:
            raise
        except BaseException:
            self._transport.run(self._flow.conclude(ended=False))
            raise
        self._transport.run(self._flow.conclude(ended=True))
        if self._flow.held:
            yield self._flow.held

    def close(self) -> None:
        """Close the connection; an answer that was not read to its end is concluded as such."""
        try:
            self._inner.close()
        finally:
            self._transport.run(self._flow.conclude(ended=False))


class AsyncTransport(_Shared):
    """A transport of an `AsyncClient`."""

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401 - of the module
        """Send a request, and hand over its response once the observer lets it pass."""
        sent, outgoing = self._outgoing(request, await request.aread())
        response = await self._inner.handle_async_request(outgoing)
        flow = self._flow(sent, response)
        if flow.capture.live or not self._observer.holds:
            return self._answer(response, self.live_stream(self, response.stream, flow))
        try:
            try:
                async for piece in response.stream:
                    flow.capture.feed(piece)
                    if error := flow.too_long():
                        raise error
            finally:
                await response.stream.aclose()
        except BaseException:
            await self.run(flow.conclude(ended=False))
            raise
        await self.run(flow.conclude(ended=True))
        return self._answer(response, self.http.ByteStream(flow.capture.body))

    async def run(self, steps: Steps) -> None:
        """Take the steps of an observer; what blocks is done in a thread."""
        import anyio

        answer: CapturedDocument | None = None
        with suppress(StopIteration), anyio.CancelScope(shield=True):
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, Fetch):
                    answer = await self._fetch(step)
                elif isinstance(step, Pause):
                    await anyio.sleep(step.seconds)
                else:
                    await anyio.to_thread.run_sync(step.do)

    async def _fetch(self, step: Fetch) -> CapturedDocument | None:
        import anyio

        body = b""
        try:
            with anyio.fail_after(step.seconds):
                response = await self._inner.handle_async_request(self._get(step))
                try:
                    async for piece in response.stream:
                        body += piece
                        if len(body) > MAX_RECEIPT_BYTES:
                            return None
                finally:
                    await response.stream.aclose()
        except (self.http.HTTPError, self.http.InvalidURL, OSError):  # TimeoutError is an OSError
            return None
        return self._document(step, response.status_code, body)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class AsyncLiveStream:
    """Content of a response that an async client reads while it arrives."""

    def __init__(self, transport: AsyncTransport, inner: Any, flow: _Flow) -> None:  # noqa: ANN401
        self._transport = transport
        self._inner = inner
        self._flow = flow

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._inner:
                if passed := self._flow.feed(piece):
                    yield passed
                if self._flow.stopped:
                    break
        except GeneratorExit:
            raise
        except BaseException:
            await self._transport.run(self._flow.conclude(ended=False))
            raise
        await self._transport.run(self._flow.conclude(ended=True))
        if self._flow.held:
            yield self._flow.held

    async def aclose(self) -> None:
        """Close the connection; an answer that was not read to its end is concluded as such."""
        try:
            await self._inner.aclose()
        finally:
            await self._transport.run(self._flow.conclude(ended=False))
