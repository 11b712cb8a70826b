"""Ask a timestamp authority over HTTP (RFC 3161 §3.4): one POST, bounded in time and in bytes."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from r1prov.errors import TimestampError, UsageError
from r1prov.limits import MAX_TIMESTAMP_BYTES, MAX_TIMESTAMP_SECONDS
from r1prov.text import quoted
from r1prov.trust.timestamps import make_request, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUERY: Final = "application/timestamp-query"
_REPLY: Final = "application/timestamp-reply"
# Between two parts of an answer; the whole has `MAX_TIMESTAMP_SECONDS`.
_SILENCE_SECONDS: Final = 10.0


def fetch_timestamp(signature: bytes, url: str) -> bytes:
    """A timestamp over a signature, of the authority at a URL. It is not trusted by being had.

    Proxies of the environment are used; redirects are not followed.

    Args:
        signature: The signature. Its digest is what the authority sees.
        url: Where the authority answers, `http` or `https`: the answer is signed either way.

    Returns:
        DER of a TimeStampResp, over that signature and made for this request.

    Raises:
        UsageError: No such URL, or the extra `r1prov[timestamp]` is not installed.
        TimestampError: No answer, or none that is a timestamp of this signature.
    """
    name = check_url(url)
    request = make_request(signature)
    return read_answer(request, _post(url, request.raw, name), subject=name)


def check_url(url: str) -> str:
    """What a URL of an authority is called in messages: without a query, which may be a secret.

    Raises:
        UsageError: It is no URL that is asked, or holds a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    # http.client would put a line break into the request.
    clean = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not parts.hostname or not clean:
        raise UsageError(
            "the URL of the timestamp authority is not one of http or https",
            hint="such as --timestamp-url http://timestamp.example.org/tsr",
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the URL of the timestamp authority holds a name or a password",
            hint="give one without: it would stand in logs",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def _post(url: str, body: bytes, name: str) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - the scheme is checked
        url, data=body, headers={"Content-Type": _QUERY, "Accept": _REPLY}
    )
    try:
        with _deadline(MAX_TIMESTAMP_SECONDS) as clock:
            opener = urllib.request.build_opener(_Http(clock), _Https(clock), _NoRedirect)
            with opener.open(request, timeout=_SILENCE_SECONDS) as response:
                kind = response.headers.get_content_type()
                raw: bytes = response.read(MAX_TIMESTAMP_BYTES + 1)
                cut = not response.isclosed() and len(raw) <= MAX_TIMESTAMP_BYTES
            if clock.over or cut:
                raise _failure(name, f"no whole answer in {MAX_TIMESTAMP_SECONDS:.0f} seconds")
    except urllib.error.HTTPError as error:
        with error:
            raise _failure(name, f"it answered with status {error.code}") from None
    except urllib.error.URLError as error:
        raise _failure(name, _why(error.reason)) from None
    # A shut connection shows in many ways, by how far the answer came.
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(name, _why(error)) from None
    if len(raw) > MAX_TIMESTAMP_BYTES:
        raise _failure(name, f"its answer is larger than {MAX_TIMESTAMP_BYTES:,} bytes")
    if kind != _REPLY:
        raise _failure(name, f"its answer is {quoted(kind, limit=80)}, not {_REPLY}")
    return raw


def _why(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"it was silent for {_SILENCE_SECONDS:.0f} seconds"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "it speaks no HTTP" if isinstance(error, Exception) else str(error)


def _failure(name: str, why: str) -> TimestampError:
    return TimestampError(
        f"no timestamp from {name}: {why}",
        subject=name,
        hint="try again or another authority: `r1prov manifest timestamp` adds one later",
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Says of a redirect that it is one."""

    def redirect_request(self, *_: Any) -> None:  # noqa: ANN401 - as the library has it
        """No request follows, so the redirect is an error with its status."""


class _Clock:
    """What shuts every connection of a request when its time is up."""

    def __init__(self) -> None:
        self.over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def connect(self, *arguments: Any, **named: Any) -> socket.socket:  # noqa: ANN401
        """`socket.create_connection`, watched."""
        made = socket.create_connection(*arguments, **named)
        with self._lock:
            if self.over:  # several addresses were tried, each for its own time
                made.close()
                raise TimeoutError
            # A second handle, since TLS takes the first one over.
            self._sockets.append(made.dup())
        return made

    def shut(self) -> None:
        """Time is up."""
        with self._lock:
            self.over = True
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The request is done."""
        with self._lock:
            for one in self._sockets:
                one.close()
            self._sockets.clear()


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[_Clock]:
    """A time for all of a request: a byte every nine seconds is never silent for long."""
    clock = _Clock()
    timer = threading.Timer(seconds, clock.shut)
    timer.daemon = True
    timer.start()
    try:
        yield clock
    finally:
        timer.cancel()
        clock.close()


class _Http(urllib.request.HTTPHandler):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **named: Any) -> http.client.HTTPConnection:  # noqa: ANN401
        return _watched(http.client.HTTPConnection(host, **named), self._clock)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self._clock = clock

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **named: Any) -> http.client.HTTPConnection:  # noqa: ANN401
        return _watched(http.client.HTTPSConnection(host, **named), self._clock)


def _watched(connection: http.client.HTTPConnection, clock: _Clock) -> http.client.HTTPConnection:
    connection._create_connection = clock.connect  # type: ignore[attr-defined]
    return connection
