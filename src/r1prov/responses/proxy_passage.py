"""What becomes of one request in the proxy: its answer on the way to the client."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from r1prov.errors import StatementError
from r1prov.responses.proxy_head import RawHeaders, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping

    from r1prov.responses.proxy_upstream import Answer
    from r1prov.responses.stream_signer import StreamSigner

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_LAST_BYTES_SECONDS: Final = 1.0


class Passage:
    """One request and its answer, while they pass.

    Attributes:
        task: Who passes them; cancelled when there is no more use in it.
        started: Whether the client was sent a head.
        finished: Whether it was sent everything.
        client_gone: Whether it left, or takes nothing.
        blocked_since: Since when it takes nothing (`time.monotonic`); None while it does.
    """

    def __init__(self, send: Send, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.started = False
        self.finished = False
        self.client_gone = False
        self.blocked_since: float | None = None
        self._send = send

    async def head(self, status: int, headers: RawHeaders) -> None:
        """Send the head of the answer."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def content(self, data: bytes, *, more: bool) -> None:
        """Send some of its content; waits while the client takes nothing."""
        self.finished = not more
        self.blocked_since = time.monotonic()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self.blocked_since = None


async def pass_stream(
    answer: Answer,
    chunks: AsyncIterator[bytes],
    held: bytes,
    signer: StreamSigner,
    passage: Passage,
    *,
    every: float,
    note: Callable[[Refused | StatementError], None],
) -> None:
    """Pass a stream on with its statements; what broke off is not ended in good order.

    Args:
        answer: Where it comes from.
        chunks: The rest of its content.
        held: What of its content came before.
        signer: Makes the statements.
        passage: Where it goes.
        every: Least seconds between two statements; 0 for only the first and the last.
        note: Called with what went wrong.
    """
    clock = asyncio.get_running_loop().time
    due = clock() + every
    ahead = signer.start(now())
    if held:
        await passage.content(signer.feed(held, now()), more=True)
    try:
        async for chunk in chunks:
            checkpoint = bool(every) and clock() >= due
            data = ahead + signer.feed(chunk, now(), checkpoint=checkpoint)
            ahead = b""
            if checkpoint:
                due = clock() + every
            if signer.ended:
                break
            if data:
                await passage.content(data, more=True)
        else:
            data = ahead
    except (Refused, StatementError) as error:
        note(error)
        await _cut(signer, passage, ahead)
        return
    except asyncio.CancelledError:
        await _cut(signer, passage, ahead)
        raise
    if signer.ended or answer.delimited:
        await passage.content(data + signer.finish(now(), complete=True), more=False)
        # The upstream's own last bytes, without which its connection cannot be used again.
        with suppress(Refused, TimeoutError):
            async with asyncio.timeout(_LAST_BYTES_SECONDS):
                async for _ in chunks:
                    pass
    else:
        await _cut(signer, passage, data)


async def _cut(signer: StreamSigner, passage: Passage, ahead: bytes) -> None:
    """Say that the answer broke off.

    Its connection is then broken too, as the upstream's was: a client that knows nothing of
    signatures must not take it for whole.
    """
    said = ahead + signer.finish(now(), complete=False)
    if said and not passage.client_gone:
        await passage.content(said, more=True)


async def send_plain(
    send: Send, status: int, kind: str, content: bytes, more: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Answer without a signature."""
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", b"%d" % len(content)),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def now() -> int:
    """Whole seconds since 1970."""
    return int(time.time())
