"""The signing proxy: an ASGI application that forwards to a server and signs what it answers.

An answer is signed in its header once it is whole; an event stream passes as it comes, with signed
statements between its events. docs/signing-proxy.md says what the signatures say.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from r1prov.errors import ResponseError, StatementError
from r1prov.limits import (
    MAX_PROXY_HELD_BYTES,
    MAX_PROXY_REQUEST_BYTES,
    MAX_PROXY_REQUESTS_BYTES,
)
from r1prov.responses.content_digest import body_digests, parse_content_digest
from r1prov.responses.proxy_head import Admitted, RawHeaders, Refused, admit, value_of
from r1prov.responses.proxy_passage import Passage, now, pass_stream, send_plain
from r1prov.responses.proxy_site import DIRECTORY, WELL_KNOWN, Receipts, Site, error_content
from r1prov.responses.stream import RECEIPTS
from r1prov.responses.stream_statement import RequestFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from r1prov.responses.proxy_upstream import Answer, Upstream

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_EVENT_STREAM: Final = "text/event-stream"
# Streams in other forms than events, which have no comments to put statements into.
_OTHER_STREAMS: Final = frozenset(
    {
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/json-seq",
        "application/stream+json",
    }
)
_NO_CONTENT: Final = (204, 205, 304)
# How often it is looked whether a client takes what it is sent.
_STALL_CHECK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """How a proxy behaves.

    Attributes:
        checkpoint_seconds: Least time between two statements of a stream; 0 for only the first
            and the last.
        client_seconds: How long a client may take to send more of its request, or to take more of
            an answer.
        max_request_bytes: Longest content of a request.
        max_requests_bytes: The same of all requests under way together.
        max_held_bytes: Longest answer that is held back until it is whole.
    """

    checkpoint_seconds: float = 2.0
    client_seconds: float = 60.0
    max_request_bytes: int = MAX_PROXY_REQUEST_BYTES
    max_requests_bytes: int = MAX_PROXY_REQUESTS_BYTES
    max_held_bytes: int = MAX_PROXY_HELD_BYTES


class SigningProxy:
    """The application.

    Args:
        upstream: The server behind it.
        site: What it signs with and serves. May be replaced while the proxy runs: streams under
            way keep the key they began with.
        settings: How it behaves.
        say: Called with a line about what went wrong. Nothing of a request or answer is in it.
    """

    def __init__(
        self,
        upstream: Upstream,
        site: Site,
        settings: ProxySettings | None = None,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.site = site
        self.receipts = Receipts()
        self._settings = settings or ProxySettings()
        self._upstream = upstream
        self._say = say
        self._passing: set[Passage] = set()
        self._stopping = False
        self._request_bytes = 0
        # Tells a request that comes back to where it was.
        self._via = f"1.1 r1prov-{secrets.token_hex(8)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            if scope["path"].startswith(WELL_KNOWN) or scope["path"] == DIRECTORY:
                await self._serve(scope, send)
            else:
                await self._pass(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    def stop_streams(self) -> None:
        """End every stream under way with a statement that says it was cut."""
        self._stopping = True
        for passage in self._passing:
            passage.task.cancel()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        watching: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._upstream.open()
                watching = asyncio.create_task(self._watch_stalled())
                await send({"type": "lifespan.startup.complete"})
            else:
                if watching is not None:
                    watching.cancel()
                await self._upstream.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _watch_stalled(self) -> None:
        """Let go of clients that take nothing: what they are sent fills memory."""
        while True:
            await asyncio.sleep(min(_STALL_CHECK_SECONDS, self._settings.client_seconds))
            oldest = time.monotonic() - self._settings.client_seconds
            for passage in self._passing:
                if passage.blocked_since is not None and passage.blocked_since < oldest:
                    passage.client_gone = True
                    passage.task.cancel()

    # ---- what is served ------------------------------------------------------------------------

    async def _serve(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            await send_plain(
                send, 405, "application/json", error_content("method", "only GET and HEAD")
            )
            return
        kind, content = self.site.documents.get(path, ("", b""))
        if path.startswith(RECEIPTS):
            kind, content = "application/jose", self.receipts.find(path) or b""
        if not content:
            message = "there is no such document, or no longer, or not yet"
            await send_plain(send, 404, "application/json", error_content("not_found", message))
            return
        await send_plain(send, 200, kind, content, ((b"cache-control", b"no-cache"),))

    # ---- what is passed on ----------------------------------------------------------------------

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        pieces: list[int] = []  # sizes of what arrived of the content
        try:
            request = admit(scope)
            if any(self._via in value for name, value in request.headers if name == "via"):
                raise Refused(508, "loop", "the upstream leads back to this proxy")  # noqa: TRY301
            body = await self._body(scope, receive, pieces)
            if body is not None:
                await self._guarded(scope, request, body, receive, send)
        except Refused as refused:
            # Nothing is signed: what was asked is not wholly known.
            self._note(refused)
            content = error_content(refused.code, refused.message)
            closing = ((b"connection", b"close"),)
            await send_plain(send, refused.status, "application/json", content, closing)
        finally:
            self._request_bytes -= sum(pieces)

    async def _body(self, scope: Scope, receive: Receive, sizes: list[int]) -> bytes | None:
        """The request's content; None if the client went away."""
        most = self._settings.max_request_bytes
        too_large = Refused(413, "request_too_large", f"the request has more than {most:,} bytes")
        length = value_of(scope["headers"], b"content-length")
        if length is not None and int(length) > most:
            raise too_large
        pieces: list[bytes] = []
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._settings.client_seconds):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, "request_timeout", "the request did not arrive") from None
            if message["type"] == "http.disconnect":
                return None
            pieces.append(message.get("body", b""))
            sizes.append(len(pieces[-1]))
            self._request_bytes += sizes[-1]
            size += sizes[-1]
            if size > most:
                raise too_large
            if self._request_bytes > self._settings.max_requests_bytes:
                raise Refused(503, "busy", "too many requests are under way")
            if not message.get("more_body", False):
                return b"".join(pieces)

    async def _guarded(
        self, scope: Scope, request: Admitted, body: bytes, receive: Receive, send: Send
    ) -> None:
        """Forward, unless the client goes away or the proxy stops."""
        task = asyncio.current_task()
        if task is None:
            return
        passage = Passage(send, task)
        self._passing.add(passage)

        def gone(watched: asyncio.Future[Message]) -> None:
            if not watched.cancelled() and not passage.finished:
                passage.client_gone = True
                task.cancel()

        # Once the request is read, only one thing can still be received: that the client left.
        watch = asyncio.ensure_future(receive())
        watch.add_done_callback(gone)
        try:
            await self._exchange(request, body, passage)
        except asyncio.CancelledError:
            task.uncancel()
            if passage.client_gone:
                # A client that takes nothing would be sent what waits for it first.
                scope.get("r1prov.abort", lambda: None)()
            elif not self._stopping:
                raise
            elif not passage.started:
                content = error_content("stopping", "the proxy is stopping")
                await send_plain(send, 503, "application/json", content)
        finally:
            passage.finished = True
            self._passing.discard(passage)
            watch.cancel()

    async def _exchange(self, request: Admitted, body: bytes, passage: Passage) -> None:
        site = self.site
        facts = RequestFacts(
            method=request.method,
            authority=request.authority,
            path=request.path,
            query=request.query,
            content_sha256=hashlib.sha256(body).hexdigest(),
            nonce=request.nonce,
        )
        try:
            _check_digest(request, body)
            async with self._upstream.send(request, body, self._via) as answer:
                await self._answer(site, request, facts, answer, passage)
        except Refused as refused:
            self._note(refused)
            if not passage.started:
                content = error_content(refused.code, refused.message)
                await self._whole(
                    site,
                    request,
                    facts,
                    passage,
                    status=refused.status,
                    headers=[(b"content-type", b"application/json")],
                    content=content,
                    origin="proxy",
                )

    async def _answer(
        self, site: Site, request: Admitted, facts: RequestFacts, answer: Answer, passage: Passage
    ) -> None:
        kind = (answer.content_type or "").partition(";")[0].strip().lower()
        chunks = answer.chunks()
        held = b""
        bare = request.method == "HEAD" or answer.status in _NO_CONTENT
        streamed = kind == _EVENT_STREAM or kind in _OTHER_STREAMS
        if bare or request.http_1_0 or not streamed:
            whole, held = await self._hold(chunks)
            if whole:
                await self._whole(
                    site,
                    request,
                    facts,
                    passage,
                    status=answer.status,
                    headers=answer.headers,
                    content=held,
                    origin="upstream",
                )
                return
            if request.http_1_0:
                raise Refused(502, "too_large", "the answer is too long for HTTP/1.0")
        inline = kind == _EVENT_STREAM and not answer.coded and not held
        name, signer, promise = site.signer.stream(
            facts, status=answer.status, content_type=answer.content_type, inline=inline
        )
        await passage.head(answer.status, [*answer.headers, *_raw(promise)])
        try:
            await pass_stream(
                answer,
                chunks,
                held,
                signer,
                passage,
                every=self._settings.checkpoint_seconds,
                note=self._note,
            )
        finally:
            if signer.receipt is not None:
                self.receipts.keep(name, signer.receipt)

    async def _hold(self, chunks: AsyncIterator[bytes]) -> tuple[bool, bytes]:
        """The content, and whether it is whole or only the beginning of one too long to hold."""
        pieces: list[bytes] = []
        size = 0
        async for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size > self._settings.max_held_bytes:
                return False, b"".join(pieces)
        return True, b"".join(pieces)

    async def _whole(
        self,
        site: Site,
        request: Admitted,
        facts: RequestFacts,
        passage: Passage,
        *,
        status: int,
        headers: RawHeaders,
        content: bytes,
        origin: str,
    ) -> None:
        """Send an answer that is signed in its header."""
        signed = site.signer.answer(
            request,
            facts,
            status=status,
            content_type=value_of(headers, b"content-type"),
            content=content,
            origin=origin,
            now=now(),
        )
        bare = request.method == "HEAD" or status in _NO_CONTENT
        length = [] if bare else [(b"content-length", b"%d" % len(content))]
        await passage.head(status, [*headers, *length, *_raw(signed)])
        await passage.content(content, more=False)

    def _note(self, error: Refused | StatementError) -> None:
        code = error.code if isinstance(error, Refused) else "forged_statement"
        self._say(f"{code}: {error.message}")


def _check_digest(request: Admitted, body: bytes) -> None:
    """Refuse a request whose own digest does not fit: it would be signed as what was asked."""
    if not request.content_digest:
        return
    try:
        stated = parse_content_digest(request.content_digest)
    except ResponseError:
        raise Refused(
            400, "bad_content_digest", "the request's Content-Digest cannot be used"
        ) from None
    if stated.differing(body_digests(body)):
        raise Refused(
            400, "bad_content_digest", "the request's Content-Digest is not that of its content"
        )


def _raw(fields: list[tuple[str, str]]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
