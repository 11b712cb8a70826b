"""An ASGI application around another that writes every exchange into a log."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from r1prov.responses.capture import BodyCapture
from r1prov.responses.exchange import Exchange, Headers, Request, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from r1prov.responses.log import ExchangeLog

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

# Keys, manifests and receipts that a server publishes are no exchanges with a model.
_PUBLISHED: Final = b"/.well-known/"


class RecordedApplication:
    """Records what passes, and changes nothing.

    The record is written before the end of the answer is sent: an exchange that cannot be recorded
    does not end well. One that breaks off is recorded as far as it came.

    Args:
        application: What answers.
        log: Where exchanges are kept.
    """

    def __init__(self, application: Any, log: ExchangeLog) -> None:  # noqa: ANN401 - ASGI
        self._application = application
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of ASGI."""
        if scope["type"] != "http" or scope["raw_path"].startswith(_PUBLISHED):
            await self._application(scope, receive, send)
            return
        passing = _Passing(scope)

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                passing.sent.feed(message.get("body", b""))
            return message

        async def answered(message: Message) -> None:
            if passing.take(message):
                await asyncio.to_thread(self._log.append, passing.exchange(complete=True))
            await send(message)

        try:
            await self._application(scope, received, answered)
        finally:
            if passing.status and not passing.ended:
                passing.ended = True
                broken = passing.exchange(complete=False)
                await asyncio.shield(asyncio.to_thread(self._log.append, broken))


class _Passing:
    """One exchange on its way."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._started_at = datetime.now(UTC)
        self._headers: Headers = ()
        self._body = BodyCapture()
        self.sent = BodyCapture()
        self.status = 0
        self.ended = False

    def take(self, message: Message) -> bool:
        """Take what is sent; whether the answer ends with it."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._headers = _headers(message.get("headers", ()))
        elif message["type"] == "http.response.body" and not self.ended:
            self._body.feed(message.get("body", b""))
            self.ended = not message.get("more_body", False)
            return self.ended
        return False

    def exchange(self, *, complete: bool) -> Exchange:
        """The exchange as far as it came."""
        scope = self._scope
        headers = _headers(scope["headers"])
        host = next((value for name, value in headers if name.lower() == "host"), "")
        if not host:
            host = ":".join(map(str, scope.get("server") or ("localhost",)))
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        return Exchange(
            request=Request(
                method=scope["method"],
                url=f"{scope['scheme']}://{host}{path}{'?' if query else ''}{query}",
                headers=headers,
                body=self.sent.body,
                body_digests=self.sent.digests,
            ),
            response=Response(
                status=self.status,
                headers=self._headers,
                body=self._body.body,
                body_digests=self._body.digests,
                complete=complete,
            ),
            started_at=self._started_at,
            finished_at=datetime.now(UTC),
        )


def _headers(raw: Any) -> Headers:  # noqa: ANN401 - pairs of bytes
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
