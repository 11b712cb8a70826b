"""Asks an OpenAI-compatible endpoint, and keeps every exchange.

Below the HTTP client sits a transport that writes each exchange into the log as it was on the wire,
refusals and retries too. What an earlier run was answered is taken from its log and not asked
again. Nothing that an endpoint does is an error here: a request that was not answered is a `Reply`
that says so, and the tests decide what they can do without it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from r1prov.endpoints.budget import Budget, BudgetSpent
from r1prov.endpoints.chat import (
    ChatRequest,
    Reply,
    answer_of,
    completions_url,
    models_url,
    no_answer,
)
from r1prov.endpoints.journal import RETRIED, Arrivals, Journal, append_times
from r1prov.endpoints.wire import Keeper, LastExchange, Manners, http_client
from r1prov.errors import Unreadable
from r1prov.limits import ANSWER_SECONDS, MAX_ANSWER_BYTES, MAX_RETRY_AFTER_SECONDS
from r1prov.responses.exchange import Exchange, field_values
from r1prov.responses.redaction import redact_url
from r1prov.text import quoted

if TYPE_CHECKING:
    from r1prov.responses.log import ExchangeLog

# Requests in a row that came to nothing, each with its retries, after which no more are sent.
GIVE_UP = 3
_MAX_BACKOFF = 60.0
# How soon a pause ends once the run is interrupted.
_NAP = 0.2
_INTERRUPTED = "interrupted"


@dataclass(slots=True)
class _Attempt:
    """One request on the wire and what became of it."""

    exchange: Exchange | None = None
    arrivals: Arrivals = ()
    seconds: float | None = None
    problem: str | None = None
    retry_after: float | None = None


@dataclass(slots=True)
class _State:
    """What requests of several threads share."""

    number: int = 0
    failures: int = 0
    not_before: float = 0.0
    include_usage: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """One endpoint, ready to be asked. To be used as a context manager.

    Args:
        url: Base address of the API, such as `https://api.example/v1`.
        model: Name that requests carry; may be set later.
        key: API key; None to send none. It goes into no message and no log.
        log: Where exchanges are kept.
        budget: What may be spent.
        manners: How to ask.
        journal: What an earlier run was answered.

    Attributes:
        stopped: Why no more requests are sent; None while they are.
        failed: Requests that were sent and came to nothing.

    Raises:
        UsageError: No URL that can be asked, a key that no header can hold, or no `httpx`.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        key: str | None,
        log: ExchangeLog,
        budget: Budget | None = None,
        manners: Manners | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.url = completions_url(url)
        self.model = model
        self.budget = budget or Budget()
        self.manners = manners or Manners()
        self.stopped: str | None = None
        self.replayed = 0
        self.failed = 0
        self._models_url = models_url(url)
        self._shown = redact_url(self.url)[0]
        self._log = log
        self._journal = journal
        self._last = LastExchange()
        self._state = _State()
        self._http = http_client(Keeper(log, self._last), key, self.manners)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def log_name(self) -> str:
        """The file of the exchanges."""
        return str(self._log.path)

    @property
    def log_head(self) -> str:
        """The last record of the log, to be noted."""
        return str(self._log.head())

    def models(self) -> Exchange:
        """The answer to `GET …/models`.

        Raises:
            Unreadable: None came.
        """
        done = self._send("GET", self._models_url, b"")
        if done.exchange is None:
            raise Unreadable(done.problem or "no answer", subject=self._shown)
        return done.exchange

    def ask_all(self, requests: Sequence[ChatRequest]) -> list[Reply]:
        """Ask several requests, some at a time; replies are in the order of the requests."""
        if len(requests) < 2 or self.manners.concurrency < 2:
            return [self.ask(one) for one in requests]
        workers = min(self.manners.concurrency, len(requests))
        with ThreadPoolExecutor(workers, thread_name_prefix="r1prov-endpoint") as pool:
            try:
                return list(pool.map(self.ask, requests))
            except BaseException:
                # Ctrl-C: what waits is not sent, and what is under way is not read to its end.
                self.interrupt()
                pool.shutdown(cancel_futures=True)
                raise

    def interrupt(self) -> None:
        """Let no thread send or read any more."""
        self.stopped = _INTERRUPTED

    def ask(self, request: ChatRequest) -> Reply:
        """Ask one request, again where that may help.

        Raises:
            Unreadable: The log cannot be written.
            ExchangeError: The log is damaged.
        """
        with self._state.lock:
            number = self._state.number
            self._state.number += 1
        done = self._replayed(request)
        recorded = done is not None
        if done is None:
            done = self._sent(request)
            self._note(done)
        else:
            self.replayed += 1
        exchange = done.exchange
        answer = (
            no_answer(self.model)
            if exchange is None
            else answer_of(exchange, done.arrivals, number)
        )
        return Reply(
            request=request,
            answer=answer,
            exchange=exchange,
            number=number,
            seconds=done.seconds,
            recorded=recorded,
            problem=done.problem,
        )

    def _bodies(self, request: ChatRequest) -> list[bytes]:
        """The request's body, and the one for servers that know no `stream_options`."""
        usual = request.body(self.model)
        plain = request.body(self.model, include_usage=False)
        if usual == plain:
            return [usual]
        return [usual, plain] if self._state.include_usage else [plain]

    def _replayed(self, request: ChatRequest) -> _Attempt | None:
        if self._journal is None:
            return None
        bodies = self._bodies(request)
        for body in bodies:
            found = self._journal.take(self.url, body)
            if found is None:
                continue  # a run that had found out did not send the options again
            status = found.exchange.response.status
            if body is not bodies[-1] and status == 400:
                continue  # as in the run that is gone on with: asked again without the options
            if body is not bodies[0] and status == 200:
                self._state.include_usage = False
            return _Attempt(found.exchange, found.arrivals, _seconds(found.exchange))
        return None

    def _sent(self, request: ChatRequest) -> _Attempt:
        bodies = self._bodies(request)
        done = self._retried(request, bodies[0])
        refused = done.exchange is not None and done.exchange.response.status == 400
        if len(bodies) > 1 and refused and done.problem is None:
            # Some servers know `stream_options` no more than a stream's `usage`.
            plain = self._retried(request, bodies[1])
            if plain.exchange is not None and plain.exchange.response.status == 200:
                self._state.include_usage = False
                return plain
        return done

    def _retried(self, request: ChatRequest, body: bytes) -> _Attempt:
        held = request.prompt_estimate + (request.max_tokens or 0)
        done = _Attempt(problem="not asked")
        for attempt in range(self.manners.retries + 1):
            if self.stopped is not None:
                return _Attempt(problem=self.stopped)
            self._wait()
            try:
                self.budget.take(held)
            except BudgetSpent as error:
                self.stopped = error.message
                return _Attempt(problem=error.message)
            try:
                done = self._send("POST", self.url, body)
            finally:
                self.budget.settle(held, _spent(done, held))
            if done.problem is None:
                return done
            if done.retry_after is not None and done.retry_after > MAX_RETRY_AFTER_SECONDS:
                self.stopped = f"the endpoint asks to be left alone for {done.retry_after:,.0f} s"
                return done
            if done.exchange is not None and not _may_retry(done.exchange):
                return done
            if attempt < self.manners.retries:
                self._put_off(attempt, done.retry_after)
        return done

    def _put_off(self, attempt: int, retry_after: float | None) -> None:
        """Let nobody send before the pause is over: a limit of the rate is one for all."""
        pause = min(self.manners.backoff * 2.0**attempt, _MAX_BACKOFF)
        # Not in step with other clients that were refused in the same moment.
        pause *= 0.5 + random.random() / 2  # noqa: S311 - no secret
        until = time.monotonic() + max(pause, retry_after or 0.0)
        with self._state.lock:
            self._state.not_before = max(self._state.not_before, until)

    def _wait(self) -> None:
        while (left := self._state.not_before - time.monotonic()) > 0 and self.stopped is None:
            time.sleep(min(left, _NAP))

    def _note(self, done: _Attempt) -> None:
        with self._state.lock:
            failed = done.exchange is None or done.problem is not None
            self.failed += failed
            self._state.failures = self._state.failures + 1 if failed else 0
            if self._state.failures >= GIVE_UP and self.stopped is None:
                self.stopped = f"{GIVE_UP} requests in a row failed: {done.problem}"

    def _send(self, method: str, url: str, body: bytes) -> _Attempt:
        import httpx

        self._last.exchange = self._last.head = None
        arrivals: list[tuple[int, float]] = []
        start, received, problem = time.monotonic(), 0, None
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            with self._http.stream(method, url, content=body, headers=headers) as response:
                for piece in response.iter_raw():
                    received += len(piece)
                    elapsed = time.monotonic() - start
                    arrivals.append((received, elapsed))
                    if self.stopped == _INTERRUPTED:
                        problem = _INTERRUPTED
                        break
                    if elapsed > ANSWER_SECONDS or received > MAX_ANSWER_BYTES:
                        problem = "the answer was too long, and not read to its end"
                        break
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            problem = f"cannot reach {self._shown}: {_reason(error)}"
        exchange, head = self._last.exchange, self._last.head
        if exchange is None:
            return _Attempt(problem=problem or f"{self._shown} gave no answer")
        done = _Attempt(exchange, tuple(arrivals), time.monotonic() - start, problem)
        status = exchange.response.status
        if head is not None and status == 200 and problem is None:
            append_times(self._log.path, head, done.arrivals)
        if status in RETRIED:
            done.problem = f"status {status} of {self._shown}"
            done.retry_after = _retry_after(exchange)
        elif status in (401, 402, 403):
            done.problem = f"the endpoint refuses the key (status {status})"
        elif 300 <= status < 400:
            done.problem = f"status {status}: the endpoint sends elsewhere, and is not followed"
        elif status == 404:
            done.problem = f"{self._shown} is not there (status 404)"
        return done


def _may_retry(exchange: Exchange) -> bool:
    """Whether the same request may fare better; a stream that broke off may."""
    return exchange.response.status in RETRIED or not exchange.response.complete


def _reason(error: Exception) -> str:
    return quoted(str(error) or type(error).__name__, limit=200)


def _spent(done: _Attempt, held: int) -> int:
    """Tokens of a request as the endpoint counted them, or what was held for it."""
    exchange = done.exchange
    if exchange is None or exchange.response.status != 200:
        return 0  # refused requests are not billed
    usage = answer_of(exchange, (), 0).usage
    if usage is None or usage.prompt_tokens is None:
        return held
    return usage.prompt_tokens + (usage.completion_tokens or 0)


def _seconds(exchange: Exchange) -> float | None:
    if exchange.started_at is None or exchange.finished_at is None:
        return None
    return max(0.0, (exchange.finished_at - exchange.started_at).total_seconds())


def _retry_after(exchange: Exchange) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110 section 10.2.3); None if absent or malformed."""
    values = field_values(exchange.response.headers, "retry-after")
    if not values:
        return None
    if values[0].isascii() and values[0].isdigit() and len(values[0]) < 10:
        return float(values[0])
    try:
        then = parsedate_to_datetime(values[0])
    except (ValueError, IndexError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
