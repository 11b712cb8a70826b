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
from typing import TYPE_CHECKING

from r1prov.endpoints.attempt import Attempt, Hold, retry_after, seconds, spent
from r1prov.endpoints.budget import Budget
from r1prov.endpoints.chat import (
    ChatRequest,
    Reply,
    answer_of,
    completions_url,
    models_url,
    no_answer,
)
from r1prov.endpoints.journal import (
    RETRIED,
    Journal,
    append_times,
    broke_off,
)
from r1prov.endpoints.wire import (
    Deadline,
    Keeper,
    LastExchange,
    Manners,
    http_client,
    sent_url,
)
from r1prov.errors import BudgetSpent, Unreadable
from r1prov.limits import (
    ANSWER_SECONDS,
    MAX_ANSWER_BYTES,
    MAX_ARRIVALS,
    MAX_RETRY_AFTER_SECONDS,
)
from r1prov.responses.exchange import Exchange
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
# Statuses of servers that know no `stream_options`: some say it is malformed, some that it is
# not to be processed.
_UNKNOWN_FIELD = frozenset({400, 422})


@dataclass(slots=True)
class _State:
    """What requests of several threads share."""

    number: int = 0
    failures: int = 0
    not_before: float = 0.0
    next_slot: float = 0.0
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
        self.model = model
        self.budget = budget or Budget()
        self.manners = manners or Manners()
        self.stopped: str | None = None
        self.replayed = 0
        self.failed = 0
        self._key = key
        self._log = log
        self._journal = journal
        self._last = LastExchange()
        self._state = _State()
        asked, listed = completions_url(url), models_url(url)
        self._deadline = Deadline()
        self._http = http_client(
            Keeper(log, self._last, key), key, self.manners, self._deadline, self._interrupted
        )
        self.url = sent_url(self._http, asked)
        self._models_url = listed
        self._shown = redact_url(self.url)[0]

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
        """The answer to `GET …/models`, asked for again where that may help.

        Raises:
            Unreadable: None came, or the endpoint refuses the key.
        """
        done = Attempt(problem="no answer")
        for attempt in range(self.manners.retries + 1):
            self._wait()
            done = self._send("GET", self._models_url, b"")
            late = (done.retry_after or 0.0) > MAX_RETRY_AFTER_SECONDS
            if done.problem is None or not done.again or late:
                break
            if attempt < self.manners.retries:
                self._put_off(attempt, done.retry_after)
        status = 0 if done.exchange is None else done.exchange.response.status
        if done.exchange is None or (done.problem is not None and status != 404):
            raise Unreadable(
                done.problem or "no answer",
                subject=self._shown,
                hint="check the address, and that something listens there"
                if done.exchange is None
                else "name the model with --model (`evidence create`: --endpoint-model), and no "
                "list of models is asked for",
            )
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

    def _interrupted(self) -> bool:
        return self.stopped == _INTERRUPTED

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
        return Reply(
            request=request,
            answer=no_answer(self.model)
            if exchange is None
            else answer_of(exchange, done.arrivals, number),
            exchange=exchange,
            number=number,
            seconds=done.seconds,
            recorded=recorded,
            problem=done.problem,
        )

    def declined(self, request: ChatRequest, why: str) -> Reply:
        """Stands for the reply to a request that is not sent."""
        return Reply(
            request=request,
            answer=no_answer(self.model),
            exchange=None,
            number=self._state.number,
            problem=why,
        )

    def _bodies(self, request: ChatRequest) -> list[bytes]:
        """The request's body, and the one for servers that know no `stream_options`."""
        usual = request.body(self.model)
        plain = request.body(self.model, include_usage=False)
        if usual == plain:
            return [usual]
        return [usual, plain] if self._state.include_usage else [plain]

    def _replayed(self, request: ChatRequest) -> Attempt | None:
        if self._journal is None:
            return None
        bodies = self._bodies(request)
        for body in bodies:
            found = self._journal.take(self.url, body)
            if found is None:
                continue  # a run that had found out did not send the options again
            if len(bodies) > 1 and body is bodies[0] and is_unknown(found.exchange):
                continue  # as in the run that is gone on with: asked again without the options
            if len(bodies) > 1 and body is bodies[1]:
                self._state.include_usage = False
            return Attempt(found.exchange, found.arrivals, seconds(found.exchange))
        return None

    def _sent(self, request: ChatRequest) -> Attempt:
        bodies = self._bodies(request)
        done = self._retried(request, bodies[0])
        refused = done.exchange is not None and is_unknown(done.exchange)
        if len(bodies) > 1 and refused and done.problem is None:
            # Some servers know `stream_options` no more than a stream's `usage`.
            plain = self._retried(request, bodies[1])
            if plain.exchange is not None and plain.exchange.response.status == 200:
                self._state.include_usage = False
                return plain
        return done

    def _retried(self, request: ChatRequest, body: bytes) -> Attempt:
        held = request.prompt_estimate + (request.max_tokens or 0)
        done = Attempt(problem="not asked")
        for attempt in range(self.manners.retries + 1):
            if self.stopped is not None:
                return Attempt(problem=self.stopped)
            self._wait()
            try:
                self.budget.take(held)
            except BudgetSpent as error:
                self.stopped = error.message
                return Attempt(problem=error.message)
            hold = Hold(self.budget, request.max_tokens or held, held)
            done = Attempt(problem="not asked")
            try:
                done = self._send("POST", self.url, body, hold if request.stream else None)
            finally:
                self.budget.settle(hold.tokens, spent(done, hold.tokens))
            if done.problem is None or not done.again:
                return done
            if done.retry_after is not None and done.retry_after > MAX_RETRY_AFTER_SECONDS:
                self.stopped = f"the endpoint asks to be left alone for {done.retry_after:,.0f} s"
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
        """Wait until a pause is over, and for the turn that the limit of the rate gives."""
        slot = 0.0
        if self.manners.per_minute is not None:
            with self._state.lock:
                slot = max(time.monotonic(), self._state.next_slot, self._state.not_before)
                self._state.next_slot = slot + 60.0 / self.manners.per_minute
        while self.stopped is None:
            left = max(self._state.not_before, slot) - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _NAP))

    def _note(self, done: Attempt) -> None:
        with self._state.lock:
            failed = done.exchange is None or done.problem is not None
            self.failed += failed
            self._state.failures = self._state.failures + 1 if failed else 0
            if self._state.failures >= GIVE_UP and self.stopped is None:
                self.stopped = f"{GIVE_UP} requests in a row failed: {done.problem}"

    def _send(self, method: str, url: str, body: bytes, hold: Hold | None = None) -> Attempt:
        import httpcore
        import httpx

        self._last.forget()
        arrivals: list[tuple[int, float]] = []
        start, received, problem, again = time.monotonic(), 0, None, True
        headers = {"Content-Type": "application/json"} if body else {}
        # A header takes little longer than a server may be silent, and the whole of it an hour.
        self._deadline.at = start + 1.5 * self.manners.timeout
        try:
            with self._http.stream(method, url, content=body, headers=headers) as response:
                self._deadline.at = start + ANSWER_SECONDS
                for piece in response.iter_raw():
                    received += len(piece)
                    elapsed = time.monotonic() - start
                    if len(arrivals) < MAX_ARRIVALS:
                        arrivals.append((received, elapsed))
                    else:
                        arrivals[-1] = (received, elapsed)
                    if self._interrupted():
                        problem = _INTERRUPTED
                        break
                    if elapsed > ANSWER_SECONDS or received > MAX_ANSWER_BYTES:
                        problem = "the answer was too long, and not read to its end"
                        again = False
                        break
                    if hold is not None:
                        hold.feed(piece)
        except BudgetSpent as error:
            problem = self.stopped = error.message
        except (
            *(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError),
            *(httpcore.UnsupportedProtocol, httpcore.ConnectionNotAvailable),
            *(httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError),
        ) as error:
            problem = f"cannot reach {self._shown}: {self._reason(error)}"
            again = time.monotonic() - start < ANSWER_SECONDS  # another hour would go like this one
        exchange, head = self._last.exchange, self._last.head
        if self._last.refused is not None:
            problem = f"what {self._shown} answered cannot be kept: {self._last.refused}"
        if exchange is None:
            return Attempt(problem=problem or f"{self._shown} gave no answer", again=again)
        done = Attempt(exchange, tuple(arrivals), time.monotonic() - start, problem, again=again)
        status = exchange.response.status
        if head is not None and status == 200 and problem is None:
            append_times(self._log.path, head, done.arrivals)
        if status in RETRIED:
            done.problem = f"status {status} of {self._shown}"
            done.retry_after = retry_after(exchange)
        elif status in (401, 402, 403):
            done.problem = (
                f"the endpoint refuses the key (status {status})"
                if self._key
                else f"the endpoint wants a key (status {status}), and none was sent: --key-env"
            )
            done.again = False
        elif 300 <= status < 400:
            done.problem = f"status {status}: the endpoint sends elsewhere, and is not followed"
            done.again = False
        elif status == 404:
            done.problem = f"{self._shown} is not there (status 404)"
            done.again = False
        elif status == 200 and body:
            done.answer = answer_of(exchange, (), 0)
            done.problem = problem or broke_off(done.answer)
        return done

    def _reason(self, error: Exception) -> str:
        """What went wrong, without the key: a server can send it back within a header."""
        text = str(error) or type(error).__name__
        return quoted(text.replace(self._key, "[API key]") if self._key else text, limit=200)


def is_unknown(exchange: Exchange) -> bool:
    """Whether a request was refused for what stands in it."""
    return exchange.response.status in _UNKNOWN_FIELD
