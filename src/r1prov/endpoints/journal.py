"""What an earlier run of an audit was answered, so that nothing is asked twice.

The log of exchanges holds the bytes. When they arrived stands in `LOG.times` beside it, one line an
exchange, bound to its record by the digest; it is a description, and an audit without it only lacks
times. Which request an exchange answers is seen from where it went and what it said: no request
carries a mark of ours.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.chat import answer_of, request_id
from r1prov.errors import JsonError, NotFound, R1ProvError, Unreadable
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_ARRIVALS_LINE_BYTES
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import exchange_of_value
from r1prov.responses.log_check import read_records
from r1prov.responses.log_record import Head, reading
from r1prov.responses.redaction import redact_url
from r1prov.text import quoted

Arrivals = tuple[tuple[int, float], ...]
# Statuses after which the same request may be answered: it was not.
RETRIED = frozenset({408, 409, 425, 429, *range(500, 600)})
# And those that are about the key: another run may have a better one.
_REFUSED_KEY = frozenset({401, 402, 403})
# About the address: the model may be loaded by then.
_ELSEWHERE = frozenset({404, *range(300, 400)})


@dataclass(frozen=True, slots=True)
class Recorded:
    """An exchange of an earlier run.

    Attributes:
        exchange: It, as the log holds it.
        arrivals: When its bytes came; empty if not known.
    """

    exchange: Exchange
    arrivals: Arrivals


class Journal:
    """Answers by request, each given away once, in the order in which they were recorded.

    Args:
        log: The log of the earlier run.

    Raises:
        NotFound, Unreadable, ExchangeError: As `read_records`.
    """

    def __init__(self, log: Path) -> None:
        times = _read_times(times_path(log))
        self._answers: dict[str, deque[Recorded]] = {}
        self._lock = threading.Lock()
        self.exchanges = 0
        for record in read_records(log):
            if record.kind != "exchange":
                continue
            exchange = exchange_of_value(record.value, subject=f"record {record.head.number}")
            if not is_answered(exchange) or exchange.request.body is None:
                continue
            self.exchanges += 1
            key = _id(exchange.request.url, exchange.request.body)
            found = Recorded(exchange, times.get(record.head.digest, ()))
            self._answers.setdefault(key, deque()).append(found)

    def take(self, url: str, body: bytes) -> Recorded | None:
        """The next answer to that request; None where it has to be asked."""
        with self._lock:
            found = self._answers.get(_id(url, body))
            while found:
                one = found.popleft()
                # Only now, for it takes time: an answer that broke off was asked for again.
                if broke_off(answer_of(one.exchange, (), 0)) is None:
                    return one
            return None


def _id(url: str, body: bytes) -> str:
    """Secrets of the URL are not in the log."""
    return request_id(redact_url(url)[0], body)


def is_answered(exchange: Exchange) -> bool:
    """Whether an exchange is an answer to its request, be it a refusal of the request itself."""
    status = exchange.response.status
    if status in RETRIED or status in _REFUSED_KEY or status in _ELSEWHERE:
        return False
    return exchange.response.complete and exchange.response.body is not None


def broke_off(answer: Answer) -> str | None:
    """Why an answer of status 200 is none, and may come if it is asked for again.

    A stream is cut where no length and no last chunk shows it, and gateways tell within a good
    answer that the server behind them failed, or send a page for people instead.
    """
    if answer.status != 200:
        return None
    if answer.error is not None:
        if answer.deltas or answer.error_code in RETRIED:
            return f"the answer ends with an error: {quoted(answer.error, limit=200)}"
        return None
    if answer.faults and not answer.spoke:
        return f"the answer is no chat completion: {answer.faults[0].message}"
    if answer.streamed and not answer.complete:
        return "the stream ended before the answer did"
    return None


def times_path(log: Path) -> Path:
    """The file of arrival times that goes with a log."""
    return log.with_name(f"{log.name}.times")


def append_times(log: Path, head: Head, arrivals: Arrivals) -> None:
    """Keep when the bytes of one recorded answer came.

    Raises:
        Unreadable: It cannot be written.
    """
    value = {"record": head.number, "digest": head.digest, "arrivals": _rounded(arrivals)}
    line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    path = times_path(log)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable(f"{path} is no regular file", subject=str(path))
            if found.st_size and os.pread(descriptor, 1, found.st_size - 1) != b"\n":
                line = b"\n" + line  # the last line of a run that was killed takes no other along
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unreadable(f"cannot write {path}: {error.strerror}", subject=str(path)) from None


def _rounded(arrivals: Arrivals) -> list[list[float]]:
    return [[count, round(seconds, 6)] for count, seconds in arrivals]


def times_of_lines(lines: Iterable[bytes]) -> dict[str, Arrivals]:
    """Record digest to arrivals. A line that is none is left out: times are no evidence."""
    return dict(one for one in map(_times_of, lines) if one is not None)


def _read_times(path: Path) -> dict[str, Arrivals]:
    found: dict[str, Arrivals] = {}
    try:
        with reading(path) as stream:
            lines = iter(lambda: stream.readline(MAX_ARRIVALS_LINE_BYTES + 1), b"")
            for line in lines:
                found |= times_of_lines([line])
    except NotFound:
        return {}
    except R1ProvError:
        return found
    return found


def _times_of(line: bytes) -> tuple[str, Arrivals] | None:
    try:
        value = parse_json(line, subject="times", max_bytes=MAX_ARRIVALS_LINE_BYTES)
    except JsonError:
        return None
    if not isinstance(value, dict):
        return None
    digest, arrivals = value.get("digest"), value.get("arrivals")
    if not isinstance(digest, str) or not isinstance(arrivals, list):
        return None
    pairs: list[tuple[int, float]] = []
    for one in arrivals:
        if not isinstance(one, list) or len(one) != 2 or type(one[0]) is not int:
            return None
        seconds = one[1]
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            return None
        if pairs and (one[0] < pairs[-1][0] or seconds < pairs[-1][1]):
            return None
        pairs.append((one[0], float(seconds)))
    return digest, tuple(pairs)
