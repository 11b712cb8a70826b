"""The HTTP client of an audit: what passes is kept, and nothing is followed that was not asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from r1prov.errors import ExchangeError, UsageError
from r1prov.limits import MAX_ANSWER_BYTES
from r1prov.text import quoted

if TYPE_CHECKING:
    import httpx

    from r1prov.responses.capture import SentRequest
    from r1prov.responses.exchange import Exchange
    from r1prov.responses.log import ExchangeLog
    from r1prov.responses.log_record import Head
    from r1prov.responses.transport import Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How an endpoint is asked.

    Attributes:
        concurrency: Requests at a time.
        timeout: Longest silence of the server, in seconds.
        retries: How often a request is sent again that was refused for now, or broke off.
        backoff: Seconds before the first of them; doubled each time. A `Retry-After` counts more.
        per_minute: Requests a minute at most, at equal distances; None for as many as it takes.
        user_agent: What the client says that it is. By default that of its HTTP library: a name of
            ours would tell a server that it is being audited.
    """

    concurrency: int = 4
    timeout: float = 300.0
    retries: int = 4
    backoff: float = 1.0
    per_minute: float | None = None
    user_agent: str | None = None


@dataclass  # slots would be shared by all threads
class LastExchange(threading.local):
    """What the last exchange of the thread was, each thread having its own.

    Attributes:
        exchange: It; None if there was none.
        head: Its record in the log.
        refused: Why it cannot be kept: a server may answer what no record can hold.
    """

    exchange: Exchange | None = None
    head: Head | None = None
    refused: str | None = None

    def forget(self) -> None:
        """Before the next one."""
        self.exchange = self.head = self.refused = None


@dataclass  # as above
class Deadline(threading.local):
    """When the exchange of the thread has to be over.

    Attributes:
        at: On the clock of `time.monotonic`.
    """

    at: float = float("inf")


class Keeper:
    """Writes exchanges into a log, and hands each to the thread that made it."""

    holds = False
    keep = MAX_ANSWER_BYTES

    def __init__(self, log: ExchangeLog, last: LastExchange, key: str | None = None) -> None:
        self._log = log
        self._last = last
        self._key = key

    def prepare(self, request: SentRequest) -> SentRequest:
        """The request, as it is."""
        return request

    def conclude(self, exchange: Exchange, *, ended: bool) -> Steps:
        """Keep the exchange, whether or not it came to its end."""
        del ended
        try:
            self._last.head = self._log.append(exchange).head
        except ExchangeError as error:
            self._log.head()  # a log that is damaged ends the run
            self._last.refused = error.message
        else:
            self._last.exchange = without_key(exchange, self._key)
        yield from ()


def without_key(exchange: Exchange, key: str | None) -> Exchange:
    """What replies carry: without the key, which some servers send back to be shown."""
    request, response = replace(exchange.request, headers=()), exchange.response
    if key is not None and response.body is not None and key.encode() in response.body:
        response = replace(response, body=response.body.replace(key.encode(), b"[API key]"))
    return replace(exchange, request=request, response=response)


def http_client(
    observer: Keeper,
    key: str | None,
    manners: Manners,
    deadline: Deadline,
    interrupted: Callable[[], bool],
) -> httpx.Client:
    """An `httpx` client whose transport keeps what passes; it follows nothing and no proxy.

    Args:
        observer: Keeps exchanges.
        key: API key.
        manners: How to ask.
        deadline: By when the exchange of a thread has to be over.
        interrupted: Whether nothing is waited for any more.

    Raises:
        UsageError: A key that no header can hold, or no `httpx`.
    """
    try:
        import httpx

        from r1prov.endpoints.connection import PatientTransport
    except ImportError:
        raise UsageError(
            "asking an endpoint needs httpx", hint="install r1prov[endpoint]"
        ) from None
    from r1prov.responses.transport import SyncLiveStream, SyncTransport

    class _Live(SyncLiveStream, httpx.SyncByteStream):
        pass

    class _Transport(SyncTransport, httpx.BaseTransport):
        http: ClassVar[Any] = httpx
        live_stream: ClassVar[Any] = _Live

    headers = {"Accept-Encoding": "identity"}
    if manners.user_agent is not None:
        headers["User-Agent"] = manners.user_agent
    if key is not None:
        if not key.isascii() or not key.isprintable() or " " in key or not key:
            raise UsageError(
                "the API key holds a character that no header field may",
                hint="look for a line break or quotes around it in the variable",
            )
        headers["Authorization"] = f"Bearer {key}"
    inner = PatientTransport(manners.concurrency, deadline, interrupted)
    return httpx.Client(
        transport=_Transport(observer, inner),
        headers=headers,
        timeout=manners.timeout,
        trust_env=False,
    )


def sent_url(http: httpx.Client, url: str) -> str:
    """A URL as the client sends it, which is how the log has it.

    Raises:
        UsageError: The client cannot send it; `http` is closed then.
    """
    import httpx

    try:
        return str(http.build_request("POST", url).url)
    except (ValueError, httpx.InvalidURL) as error:  # a host name that IDNA does not take
        http.close()
        raise UsageError(f"the URL cannot be asked: {quoted(str(error), limit=200)}") from None
