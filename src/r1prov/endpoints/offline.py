"""An endpoint that is gone: its answers are those of a log, and nothing is sent.

`OfflineClient` stands where `Client` does, so that the very same audit runs on the log. A request
that the log shows to have failed is one that failed. A request that it does not show at all ends
the run, as an exhausted budget does: nobody knows what would have been answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from r1prov.endpoints.budget import Budget
from r1prov.endpoints.chat import ChatRequest, Reply, answer_of, no_answer, request_id
from r1prov.endpoints.client import GIVE_UP, Client, is_unknown
from r1prov.endpoints.journal import Recorded, broke_off, is_answered, times_of_lines
from r1prov.endpoints.wire import Manners
from r1prov.errors import ExchangeError
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import exchange_of_value
from r1prov.responses.log_check import records_of
from r1prov.responses.log_record import Head
from r1prov.text import plural, quoted

NEVER_ASKED = "the log shows no request that the plan asks for next"


@dataclass(slots=True)
class RecordedLog:
    """The log of one audit, read and held against its own chain.

    Attributes:
        head: Its last record.
        requests: Completions that were asked for, retries included.
        started: When the first was sent.
        finished: When the last one had been answered.
        elsewhere: URLs of requests that did not go to the audited address.
        answers: Request to its answers, in order; what was given away is gone.
        tried: Every request that was sent, answered or not.
    """

    head: Head
    requests: int = 0
    started: datetime | None = None
    finished: datetime | None = None
    elsewhere: list[str] = field(default_factory=list)
    answers: dict[str, deque[Recorded]] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)

    @property
    def unused(self) -> int:
        """Answers that nobody has asked for."""
        return sum(map(len, self.answers.values()))


def read_log(raw: bytes, times: bytes, *, url: str, subject: str) -> RecordedLog:
    """Read the log of an audit, and check its chain.

    Args:
        raw: The log.
        times: When the bytes of its answers arrived; may be empty.
        url: Where the audit asked.
        subject: For messages.

    Raises:
        ExchangeError: The chain does not hold, or something in it is no exchange.
        JsonError: A record is no strict JSON.
    """
    arrivals = times_of_lines(times.splitlines(keepends=True))
    found: RecordedLog | None = None
    for record in records_of(raw, subject=subject):
        found = found or RecordedLog(record.head)
        found.head = record.head
        if record.kind != "exchange":
            continue
        where = f"{subject}, record {record.head.number}"
        exchange = exchange_of_value(record.value, subject=where)
        body = exchange.request.body
        if exchange.request.method != "POST":
            continue  # which models there are
        if body is None:
            raise ExchangeError("a request is there as a digest only", subject=where)
        if exchange.request.url != url:
            found.elsewhere.append(exchange.request.url)
            continue
        _count(found, exchange)
        name = request_id(url, body)
        found.tried.add(name)
        if is_answered(exchange):
            one = Recorded(exchange, arrivals.get(record.head.digest, ()))
            found.answers.setdefault(name, deque()).append(one)
    if found is None:
        raise ExchangeError("the log is empty", subject=subject)
    return found


def _count(found: RecordedLog, exchange: Exchange) -> None:
    found.requests += 1
    started, finished = exchange.started_at, exchange.finished_at or exchange.started_at
    if started is not None and (found.started is None or started < found.started):
        found.started = started.astimezone(UTC)
    if finished is not None and (found.finished is None or finished > found.finished):
        found.finished = finished.astimezone(UTC)


class OfflineClient(Client):
    """Answers from a log, one request after the other; nothing can be sent.

    Args:
        url: Where the audit asked.
        model: Model name of its requests.
        log: What was answered.

    Attributes:
        failed: Requests of the audit that the log shows without an answer.
        tokens: Prompt and completion tokens of the answers, as the endpoint counted them.
    """

    def __init__(self, url: str, model: str, log: RecordedLog) -> None:
        # Not that of `Client`, which opens connections. One at a time: the same order every time.
        self.url = url
        self.model = model
        self.budget = Budget(max_requests=0, max_tokens=0)
        self.manners = Manners(concurrency=1, retries=0)
        self.stopped: str | None = None
        self.replayed = 0
        self.failed = 0
        self.tokens = 0
        self._recorded = log
        self._number = 0
        self._in_a_row = 0
        self._knows_usage = True

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    @property
    def log_name(self) -> str:
        """What the log is called in a report."""
        return "exchanges.jsonl"

    @property
    def log_head(self) -> str:
        """The last record of the log."""
        return str(self._recorded.head)

    def models(self) -> Exchange:
        """Nothing is asked: the plan names the model.

        Raises:
            ExchangeError: Always.
        """
        raise ExchangeError("a recorded endpoint lists no models")

    def ask(self, request: ChatRequest) -> Reply:
        """The next answer to a request, as the log has it."""
        number, self._number = self._number, self._number + 1
        found, tried = self._find(request)
        if found is None:
            return self._unanswered(request, number, tried=tried)
        self.replayed += 1
        self._in_a_row = 0
        exchange = found.exchange
        answer = answer_of(exchange, found.arrivals, number)
        if answer.usage is not None:
            usage = answer.usage
            self.tokens += (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
        return Reply(
            request=request,
            answer=answer,
            exchange=exchange,
            number=number,
            seconds=_seconds(exchange),
            recorded=True,
        )

    def _find(self, request: ChatRequest) -> tuple[Recorded | None, bool]:
        """The answer, and whether the request was sent at all."""
        usual = request_id(self.url, request.body(self.model))
        plain = request_id(self.url, request.body(self.model, include_usage=False))
        tried = bool({usual, plain} & self._recorded.tried)
        if not self._knows_usage:
            return self._next(plain), tried
        first = self._next(usual)
        if usual == plain or (first is not None and not is_unknown(first.exchange)):
            return first, tried
        # A server that knows no `stream_options` was asked again without them.
        second = self._next(plain)
        if second is not None and second.exchange.response.status == 200:
            self._knows_usage = False
            return second, tried
        return first or second, tried

    def _next(self, name: str) -> Recorded | None:
        """The next answer; one that broke off was asked for again, as in the run itself."""
        waiting = self._recorded.answers.get(name)
        while waiting:
            one = waiting.popleft()
            if broke_off(answer_of(one.exchange, (), 0)) is None:
                return one
        return None

    def _unanswered(self, request: ChatRequest, number: int, *, tried: bool) -> Reply:
        self.failed += tried
        self._in_a_row += 1
        problem = "the log shows that this request failed" if tried else NEVER_ASKED
        if self.stopped is None and not tried:
            self.stopped = f"{NEVER_ASKED}: {quoted(request.prompt, limit=60)}"
        elif self.stopped is None and self._in_a_row >= GIVE_UP:
            self.stopped = f"{plural(GIVE_UP, 'request')} in a row failed"
        return Reply(
            request=request,
            answer=no_answer(self.model),
            exchange=None,
            number=number,
            recorded=True,
            problem=problem,
        )


def _seconds(exchange: Exchange) -> float | None:
    if exchange.started_at is None or exchange.finished_at is None:
        return None
    return max(0.0, (exchange.finished_at - exchange.started_at).total_seconds())
