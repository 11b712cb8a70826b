"""Runs the signing proxy: sockets, TLS, signals, and caps on the heads of requests.

Needs `uvicorn`, so only the command imports it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from r1prov.errors import UsageError
from r1prov.limits import MAX_PROXY_HEAD_BYTES
from r1prov.responses.record_asgi import RecordedApplication

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from r1prov.responses.log import ExchangeLog
    from r1prov.responses.proxy import SigningProxy

# A head arrives in one piece from any honest client.
_HEAD_SECONDS: Final = 20.0
_KEEP_ALIVE_SECONDS: Final = 75
# What uvicorn says when an answer is broken off on purpose (`SigningProxy` says why), or when a
# client offers another protocol, where nothing is amiss.
_EXPECTED: Final = (
    "ASGI callable returned without completing response.",
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
)
# From the end of grace to the end of the process: time to send last statements.
_LAST_SECONDS: Final = 2


class Protocol(HttpToolsProtocol):
    """One connection, with caps on the head of a request: its size, and how long it may take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        # Uvicorn's parser takes requests after `Connection: close`; nothing here needs that.
        self.parser = httptools.HttpRequestParser(self)
        self._in_head = False
        self._head = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something came."""
        cycle: RequestResponseCycle | None = self.cycle
        if self._deadline is None and (cycle is None or cycle.response_complete):
            self._await_head()
        within = self._in_head
        super().data_received(data)
        # What came before within the same piece of data is bounded by the size of a read.
        if within and self._in_head:
            self._head += len(data)
            if self._head > MAX_PROXY_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self.scope["r1prov.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self._in_head, self._head = True, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field; one behind the content is a trailer, which is no header (RFC 9110, 6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.scope["r1prov.target"] = self.url  # type: ignore[typeddict-unknown-key]
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class ProxyServer(Server):
    """Uvicorn, which ends streams with a statement before it stops, and reads keys again.

    Args:
        config: Of uvicorn; its application is `proxy`.
        proxy: The application.
        reload: Called on SIGHUP; returns the new site, or None to keep the old one.
        started: Called with the sockets once they listen.
    """

    def __init__(
        self,
        config: Config,
        proxy: SigningProxy,
        *,
        reload: Callable[[], object | None],
        started: Callable[[list[socket.socket]], None],
    ) -> None:
        super().__init__(config)
        self._proxy = proxy
        self._reload = reload
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            if threading.current_thread() is threading.main_thread():
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)
            self._started([one for server in self.servers for one in server.sockets])

    def _hang_up(self) -> None:
        site = self._reload()
        if site is not None:
            self._proxy.site = site  # type: ignore[assignment]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to stop, which is what was wanted: the process ends with 0."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let answers end, then cut what is left."""
        grace = self.config.timeout_graceful_shutdown or 0
        loop = asyncio.get_running_loop()
        cutting = loop.call_later(max(grace - _LAST_SECONDS, 0), self._proxy.stop_streams)
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()


class _Quiet(logging.Filter):
    """Lets pass what was not done on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(_EXPECTED)


def make_server(
    proxy: SigningProxy,
    *,
    host: str,
    port: int,
    certificate: Path | None = None,
    key: Path | None = None,
    grace: int = 30,
    reload: Callable[[], object | None] = lambda: None,
    started: Callable[[list[socket.socket]], None] = lambda _: None,
    log: ExchangeLog | None = None,
) -> ProxyServer:
    """A server that is yet to run.

    Args:
        proxy: The application.
        host: Where to listen.
        port: The same; 0 for any.
        certificate: Chain for TLS, PEM; None for none.
        key: Its private key; None if it is in the same file.
        grace: Seconds that answers under way get to end.
        reload: See `ProxyServer`.
        started: See `ProxyServer`.
        log: Where every exchange is kept; nowhere if absent.

    Raises:
        UsageError: The certificate cannot be used.
    """
    messages = logging.getLogger("uvicorn.error")
    messages.addFilter(_Quiet())
    messages.setLevel(logging.WARNING)
    config = Config(
        proxy if log is None else RecordedApplication(proxy, log),
        host=host,
        port=port,
        http=Protocol,
        ws="none",
        lifespan="on",
        loop="auto",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace + _LAST_SECONDS,
        backlog=4096,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError among them
        raise UsageError(f"the certificate or its key cannot be used: {error}") from None
    return ProxyServer(config, proxy, reload=reload, started=started)


def serve(server: ProxyServer) -> None:
    """Listen until a signal ends it.

    Raises:
        UsageError: It cannot listen there.
    """
    try:
        server.run()
    except SystemExit:
        raise UsageError(
            f"cannot listen on {server.config.host}:{server.config.port}",
            hint="is another program listening there?",
        ) from None
