"""The proxy's way to the server behind it: one request out, one answer in, nothing interpreted.

Needs `aiohttp`, so only the proxy imports it.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
from yarl import URL

from r1prov.errors import UsageError
from r1prov.responses.proxy_head import Admitted, RawHeaders, Refused, answer_headers, value_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Servers commonly close an idle connection after 5 s; one that closes while a request is on its
# way to it fails a request that may not be sent twice.
_KEEP_ALIVE_SECONDS: Final = 4.0
_CONNECT_SECONDS: Final = 10.0
# How often it is looked whether there is still somebody to wait for.
_LOOK_SECONDS: Final = 1.0
# What aiohttp keeps in memory when it would warn that a large body blocks the loop.
_BODY_AT_ONCE: Final = 1024 * 1024
# Fields that aiohttp would add on its own.
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class UpstreamFailed(Refused):
    """The upstream did not answer, or its answer broke off."""


class Answer:
    """An answer that is coming in.

    Attributes:
        status: Status code.
        headers: Fields that the client gets.
        content_type: Its `Content-Type`; None if it has none.
        delimited: Whether the end of its content can be told from a broken connection.
    """

    def __init__(self, response: aiohttp.ClientResponse, silence: float) -> None:
        self._response = response
        self._silence = silence
        if not 200 <= response.status <= 599:
            raise Refused(502, "bad_upstream", f"the upstream answered {response.status}")
        self.status = response.status
        self.headers: RawHeaders = answer_headers(response.raw_headers)
        self.content_type = value_of(self.headers, b"content-type")
        self.delimited = (
            "Content-Length" in response.headers or "Transfer-Encoding" in response.headers
        )

    @property
    def coded(self) -> bool:
        """Whether the content is compressed, though nobody asked for that."""
        coding = value_of(self.headers, b"content-encoding")
        return coding is not None and coding.lower() != "identity"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content as it comes, coded as it was sent.

        Raises:
            UpstreamFailed: It broke off, is framed wrongly, or nothing came for too long.
        """
        silent = 0.0
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    chunk = await self._response.content.readany()
            except (TimeoutError, aiohttp.ServerTimeoutError):
                # aiohttp does not tell a reader when the framing of the content is wrong.
                connection = self._response.connection
                protocol = connection.protocol if connection is not None else None
                if protocol is not None and protocol.exception() is not None:
                    raise _broken_off() from None
                silent += _LOOK_SECONDS
                if silent >= self._silence:
                    message = "the upstream fell silent"
                    raise UpstreamFailed(504, "upstream_timeout", message) from None
            except (aiohttp.ClientError, OSError):
                raise _broken_off() from None
            else:
                if not chunk:
                    return
                silent = 0.0
                yield chunk


def _broken_off() -> UpstreamFailed:
    return UpstreamFailed(502, "upstream_cut", "the upstream's answer broke off")


class Upstream:
    """A server that the proxy stands before.

    Args:
        url: Its base URL; paths of requests are put after it.
        silence: Seconds that it may send nothing.
    """

    def __init__(self, url: str, *, silence: float) -> None:
        self.base = base_url(url)
        self._silence = silence
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make ready to send, within the running event loop."""
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ADDED,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=_CONNECT_SECONDS, sock_read=self._silence
            ),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def send(self, request: Admitted, body: bytes, via: str) -> AsyncIterator[Answer]:
        """Send a request and wait for the head of the answer; leaving closes what is not read.

        Args:
            request: What to send.
            body: Its content.
            via: What to add as `Via`.

        Raises:
            UpstreamFailed: There is no answer.
            Refused: There is one that cannot be passed on.
        """
        if self._session is None:
            raise UpstreamFailed(502, "upstream_unreachable", "the proxy is not running")
        headers = [*request.headers, ("accept-encoding", "identity"), ("via", via)]
        try:
            response = await self._session.request(
                request.method,
                URL(self.base + request.target, encoded=True),
                headers=headers,
                data=_payload(request.method, body),
                allow_redirects=False,
            )
        except aiohttp.ServerTimeoutError:
            raise UpstreamFailed(504, "upstream_timeout", "the upstream did not answer") from None
        except aiohttp.ClientConnectorError:
            raise UpstreamFailed(
                502, "upstream_unreachable", "the upstream cannot be reached"
            ) from None
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            raise UpstreamFailed(
                502, "upstream_failed", "the upstream gave no valid answer"
            ) from None
        try:
            yield Answer(response, self._silence)
        finally:
            # Back into the pool if it was read to its end, else the connection is closed: what
            # was cancelled must not go on computing.
            response.release()


def base_url(url: str) -> str:
    """A base URL without a slash at its end.

    Raises:
        UsageError: It is not one of HTTP, or has a query, a fragment or a password in it.
    """
    try:
        parsed = URL(url)
        whole = parsed.scheme in ("http", "https") and bool(parsed.host)
    except ValueError:
        whole = False
    if not whole or parsed.query_string or parsed.fragment or parsed.user or parsed.password:
        raise UsageError(
            "the upstream is not a plain http:// or https:// URL",
            hint="such as http://127.0.0.1:8000; clients send their own credentials",
        )
    return str(parsed).rstrip("/")


def _payload(method: str, body: bytes) -> bytes | io.BytesIO | None:
    if not body and method in ("GET", "HEAD", "OPTIONS", "DELETE"):
        return None
    return body if len(body) < _BODY_AT_ONCE else io.BytesIO(body)
