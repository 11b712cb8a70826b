"""What goes wrong between us and a Hub, told apart: what may pass, and what will not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from r1prov.errors import NotFound, StoreError, Unreadable

# 408 and 425 ask to try again; 429 is the rate limit; the 5xx are what gateways say of a server
# that is busy or restarts. 501 and 505 would be the same the next time.
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
# IETF draft ratelimit-headers, as the Hub sends it: `"api";r=0;t=55`.
_RATE_LIMIT = re.compile(r'"[^"]*"\s*;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})')


class Transient(Exception):
    """A failure that may be gone at the next attempt; never leaves the Hub's modules."""

    def __init__(self, reason: str, *, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


def failure(
    status: int, headers: Mapping[str, str], host: str, kind: str, subject: str, *, token: bool
) -> Transient | StoreError:
    """The error of an answer that is neither 200 nor 206, by status and `X-Error-Code`."""
    if status in _TRY_AGAIN:
        what = "limits the rate of requests" if status == 429 else "has no answer just now"
        return Transient(f"{host} {what} (status {status})", wait=_asked_wait(headers))
    code = headers.get("x-error-code", "")
    if code == "GatedRepo":
        return Unreadable(
            f"the repository is gated, and {host} refuses access (status {status})",
            subject=subject,
            hint="accept its conditions on the Hub and set HF_TOKEN to a token that may read",
        )
    if code == "RepoNotFound":
        return NotFound(
            f"{host} has no such repository, or a private one (status {status})",
            subject=subject,
            hint="check the name; for a private repository set HF_TOKEN",
        )
    if code == "RevisionNotFound":
        return NotFound(
            f"{host} has no such revision of the repository",
            subject=subject,
            hint="a branch, a tag, or the 40 hex digits of a commit",
        )
    if status in (401, 403):
        sent = "the token that was sent" if token else "a request without a token"
        return Unreadable(
            f"{host} refuses {sent} (status {status})",
            subject=subject,
            hint="set HF_TOKEN to a token that may read the repository",
        )
    if status in (404, 410):
        sought = {"revision": "repository or revision", "tree": "repository or revision"}
        return NotFound(
            f"{host} has no such {sought.get(kind, 'file in this commit')}", subject=subject
        )
    return Unreadable(f"{host} answers with status {status}", subject=subject)


def refuse_encoding(headers: Mapping[str, str], host: str, subject: str) -> None:
    """Refuse a body that is not the bytes as stored.

    Raises:
        Unreadable: It is compressed, though `identity` was asked for.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Unreadable(
            f"{host} compresses its answer though asked not to",
            subject=subject,
            hint="check what stands between: a proxy may do this",
        )


def translated(error: Exception) -> Exception:
    """What an exception of the HTTP library means: `Transient`, or a `StoreError`."""
    if isinstance(error, (Transient, StoreError)):
        return error
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "OfflineModeIsEnabled" in kinds:
        return Unreadable(
            "is on the Hub, and offline mode is on",
            hint="unset HF_HUB_OFFLINE, or name the folder of a download",
        )
    # Messages of the library may hold the address, and with it a signature: kinds only.
    if "TimeoutException" in kinds:
        return Transient("no answer in time")
    if "ConnectError" in kinds or "ProxyError" in kinds:
        return Transient(f"no connection: {_cause(error)}")
    if "TransportError" in kinds or "StreamError" in kinds:
        return Transient(f"the connection broke ({type(error).__name__})")
    return Unreadable(f"the request cannot be made ({type(error).__name__})")


def _cause(error: BaseException) -> str:
    """What the system said at the bottom of a chain of exceptions."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait (RFC 9110 §10.2.3), or that its rate limit lasts."""
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    if limit is not None:
        return float(limit[1])
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    try:
        until = parsedate_to_datetime(value)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
