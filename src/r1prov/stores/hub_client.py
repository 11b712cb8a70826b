"""Requests to a Hugging Face Hub or a mirror of it: redirects, retries, time-outs, clear errors.

The session is that of `huggingface_hub`, so proxies, certificates, offline mode and whatever
client a program has set there hold here too. Redirects and retries are done here: the token stays
with the endpoint, every hop is counted, and no wait is longer than a cap.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from r1prov.errors import StoreError, Unreadable
from r1prov.limits import MAX_HUB_REDIRECTS, MAX_HUB_RESPONSE_BYTES
from r1prov.stores.hub_endpoint import endpoint_origin, hub_headers, may_carry_token, origin_of
from r1prov.stores.hub_failures import Transient, failure, refuse_encoding, translated

if TYPE_CHECKING:
    from r1prov.stores.traffic import Traffic

_T = TypeVar("_T")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The last one answers a range beyond the end of the file: for whoever asked to judge.
_ANSWERS = frozenset({200, 206, 416})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what; all times in seconds.

    Attributes:
        attempts: How often a request is made before it is given up.
        first_wait: Wait before the second attempt; doubled before each further one.
        longest_wait: Longest of these waits.
        longest_asked_wait: Longest wait that a server may ask for with `Retry-After`.
        connect: For a connection to come about.
        silence: Between two parts of an answer.
        grace: What the slowest answer may take beyond its bytes at `least_rate`.
        least_rate: Bytes a second below which an answer is given up: one byte every ten seconds
            would never be silent for long.
    """

    attempts: int = 5
    first_wait: float = 0.5
    longest_wait: float = 8.0
    longest_asked_wait: float = 60.0
    connect: float = 10.0
    silence: float = 30.0
    grace: float = 60.0
    least_rate: int = 1024


class HubResponse:
    """An answer whose body is read piece by piece.

    Attributes:
        status: HTTP status.
        headers: Headers of the last answer.
        hub_headers: Headers of the answer of the endpoint itself, before redirects to a CDN.
        host: Host of the last answer.
    """

    def __init__(
        self,
        response: Any,  # noqa: ANN401 - of httpx or httpx2
        hub_headers: Mapping[str, str],
        kind: str,
        client: HubClient,
    ) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.iter_raw()
        self._kind = kind
        self._client = client
        self._waited = 0.0
        self._received = 0
        self._put_back = b""
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.hub_headers = hub_headers
        self.host = str(response.url.host)

    def chunk(self) -> bytes:
        """The next bytes of the body; empty at its end.

        Raises:
            Transient: The connection broke, or is too slow.
        """
        if self._put_back:
            data, self._put_back = self._put_back, b""
            return data
        patience = self._client.patience
        begin = time.monotonic()
        data = self._client.guarded(lambda: next(self._chunks, b""))
        self._waited += time.monotonic() - begin
        self._received += len(data)
        self._client.traffic.count_bytes(self._kind, len(data))
        if self._waited > patience.grace + self._received / patience.least_rate:
            raise Transient(f"only {self._received:,} bytes came in {self._waited:.0f} seconds")
        return data

    def put_back(self, data: bytes) -> None:
        """Bytes that `chunk` gives again."""
        self._put_back = data

    def read(self, cap: int) -> bytes:
        """The body, at most `cap` bytes and the rest of the part that passes it."""
        data = bytearray()
        while len(data) <= cap:
            part = self.chunk()
            if not part:
                break
            data += part
        return bytes(data)

    def close(self) -> None:
        """Close the connection, or give it back if the body was read to its end."""
        with suppress(Transient, StoreError):
            self._client.guarded(self._response.close)

    def __enter__(self) -> HubResponse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HubClient:
    """Requests to one endpoint.

    Args:
        endpoint: Such as `https://huggingface.co`, without a slash at the end.
        token: Sent to the endpoint and to nobody else; over plain HTTP to this machine only.
        patience: How long to wait for what.
        traffic: Where to count.

    Raises:
        UsageError: The endpoint is no HTTP address, or the token none that a header can carry.
    """

    def __init__(
        self, endpoint: str, token: str | None, patience: Patience, traffic: Traffic
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._origin = endpoint_origin(self.endpoint)
        self.patience = patience
        self.traffic = traffic
        self._lock = threading.Lock()
        self._not_before = 0.0
        self._headers = hub_headers(token)
        self._token = self._headers.pop("authorization", None)
        if not may_carry_token(self._origin):
            self._token = None

    @property
    def host(self) -> str:
        """Host of the endpoint, for messages."""
        return self._origin[1]

    @property
    def bearer(self) -> str | None:
        """The token, if one is sent."""
        return self._token.removeprefix("Bearer ") if self._token else None

    def json_page(self, path: str, *, kind: str, subject: str) -> tuple[bytes, Mapping[str, str]]:
        """Body and headers of an answer of the API.

        Raises:
            StoreError: There is none, or it is larger than `MAX_HUB_RESPONSE_BYTES`.
        """

        def once() -> tuple[bytes, Mapping[str, str]]:
            with self.open(path, kind=kind, subject=subject) as response:
                body = response.read(MAX_HUB_RESPONSE_BYTES)
                refuse_encoding(response.headers, response.host, subject)
                return body, response.headers

        body, headers = self.run(once, subject)
        if len(body) > MAX_HUB_RESPONSE_BYTES:
            raise Unreadable(
                f"{self.host} answers with more than {MAX_HUB_RESPONSE_BYTES:,} bytes",
                subject=subject,
            )
        return body, headers

    def run(self, action: Callable[[], _T], subject: str) -> _T:
        """Do something until it works, with growing waits.

        Raises:
            Unreadable: It failed `Patience.attempts` times.
            StoreError: What `action` raises other than `Transient`.
        """
        failures = 0
        while True:
            try:
                return action()
            except Transient as error:
                failures += 1
                self.pause(error, failures, subject)

    def pause(self, error: Transient, failures: int, subject: str) -> None:
        """Wait before the next attempt.

        Raises:
            Unreadable: There were enough attempts, or the server asks for too long a wait.
        """
        patience = self.patience
        if error.wait is not None and error.wait > patience.longest_asked_wait:
            raise Unreadable(
                f"{error.reason}, and asks to wait {error.wait:,.0f} seconds",
                subject=subject,
                hint="try later; with a token (HF_TOKEN) the Hub allows more requests",
            ) from None
        if failures >= patience.attempts:
            raise Unreadable(
                f"{error.reason} ({failures} attempts)",
                subject=subject,
                hint="check the network and the endpoint (HF_ENDPOINT), and run again",
            ) from None
        wait = min(patience.longest_wait, patience.first_wait * 2 ** (failures - 1))
        if error.wait is not None:
            # All threads: each would only be refused for itself.
            wait = max(wait, error.wait)
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + wait)
        time.sleep(wait)

    def open(
        self, path: str, *, kind: str, subject: str, headers: Mapping[str, str] | None = None
    ) -> HubResponse:
        """Ask once, following redirects.

        Args:
            path: Path and query on the endpoint, quoted.
            kind: What `Traffic` calls it.
            subject: What the request is about, for messages.
            headers: More headers, such as `Range`.

        Raises:
            Transient: It failed in a way that may pass.
            StoreError: It failed for good.
        """
        with self._lock:
            wait = self._not_before - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        url = self.endpoint + path
        own_headers: Mapping[str, str] = {}
        for hop in range(MAX_HUB_REDIRECTS + 1):
            response = self._send(url, headers or {}, "redirect" if hop else kind, subject)
            if self._is_own(url):
                own_headers = response.headers
            if response.status_code not in _REDIRECTS:
                break
            self.guarded(response.close)
            url = self._redirected(url, response.headers.get("location"), subject)
        else:
            raise Unreadable(
                f"{self.host} sends from one address to the next, {MAX_HUB_REDIRECTS} times",
                subject=subject,
            )
        if response.status_code in _ANSWERS:
            return HubResponse(response, own_headers, kind, self)
        self.guarded(response.close)
        host, sent = str(response.url.host), self._token is not None
        raise failure(response.status_code, response.headers, host, kind, subject, token=sent)

    def guarded(self, action: Callable[[], _T]) -> _T:
        """Turn what the HTTP library raises into `Transient` or `Unreadable`."""
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - whatever library the session is of
            raise translated(error) from None

    def _send(self, url: str, extra: Mapping[str, str], kind: str, subject: str) -> Any:  # noqa: ANN401
        from huggingface_hub import get_session

        # Ranges are of the bytes as stored; a compressed answer has others.
        headers = {**self._headers, "accept-encoding": "identity", **extra}
        if self._token is not None and self._is_own(url):
            headers["authorization"] = self._token
        self.traffic.count_request(kind)

        def send() -> Any:  # noqa: ANN401
            session: Any = get_session()
            request = session.build_request(
                "GET",
                url,
                headers=headers,
                timeout=_library(session).Timeout(
                    self.patience.silence, connect=self.patience.connect
                ),
            )
            return session.send(request, stream=True, follow_redirects=False)

        try:
            return self.guarded(send)
        except Unreadable as error:
            error.subject = subject
            raise

    def _is_own(self, url: str) -> bool:
        try:
            return origin_of(url) == self._origin
        except ValueError:
            return False

    def _redirected(self, url: str, location: str | None, subject: str) -> str:
        """The next address. Never shown whole: those of a CDN carry a signature."""
        try:
            target = urljoin(url, location or "none:")
            scheme, host, _ = origin_of(target)
        except ValueError:
            raise Unreadable(
                f"{self.host} redirects to something that is no address", subject=subject
            ) from None
        if scheme == "http" and urlsplit(url).scheme == "https":
            raise Unreadable(f"{self.host} redirects to {host} without encryption", subject=subject)
        return target


def _library(session: object) -> Any:  # noqa: ANN401
    """The module of the HTTP library: `huggingface_hub` 1 has httpx, 2 has httpx2."""
    for kind in type(session).__mro__:
        if kind.__name__ == "Client" and kind.__module__.startswith("httpx"):
            return sys.modules[kind.__module__.partition(".")[0]]
    raise Unreadable("huggingface_hub has a session that is none of httpx")
