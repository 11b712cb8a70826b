"""One request on the wire: what became of it, what it cost, and when it may be sent again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from r1prov.endpoints.answer import Answer
from r1prov.endpoints.budget import Budget
from r1prov.endpoints.journal import Arrivals
from r1prov.responses.exchange import Exchange, field_values

# What a stream is allowed at a time once it runs over what it was asked for.
_MORE_TOKENS = 64
# No tokenizer takes fewer tokens than one for so many bytes of what a model writes.
_MOST_BYTES_A_TOKEN = 16


@dataclass(slots=True)
class Attempt:
    """What became of one request.

    Attributes:
        exchange: As it was on the wire; None if no answer came.
        arrivals: When its bytes came.
        seconds: Until its end.
        problem: Why it is no answer; None if it is one.
        retry_after: Seconds that the server asks to be left alone.
        answer: Normalised, of status 200.
        again: Whether the same request may fare better.
    """

    exchange: Exchange | None = None
    arrivals: Arrivals = ()
    seconds: float | None = None
    problem: str | None = None
    retry_after: float | None = None
    answer: Answer | None = None
    again: bool = True


class Hold:
    """Tokens that are held for one request, more of them while its stream runs on.

    A server that does not heed `max_tokens` is read no further than the budget goes. An event has
    a token at least, but for hosts that send parts of tokens: these hold more for a while.

    Args:
        budget: It.
        completion: Tokens that were asked for.
        tokens: That were taken from the budget for it.
    """

    def __init__(self, budget: Budget, completion: int, tokens: int) -> None:
        self._budget = budget
        self._allowed = completion + _MORE_TOKENS  # events without text, first and last
        self._events = 0
        self.tokens = tokens

    def feed(self, piece: bytes) -> None:
        """Count the events of a piece.

        Raises:
            BudgetSpent: There were too many.
        """
        self._events += piece.count(b"data:")
        while self._events > self._allowed:
            self._budget.extend(_MORE_TOKENS)
            self._allowed += _MORE_TOKENS
            self.tokens += _MORE_TOKENS


def spent(done: Attempt, held: int) -> int:
    """Tokens of a request as the endpoint counted them, or what was held for it."""
    exchange, answer = done.exchange, done.answer
    if exchange is None or exchange.response.status != 200:
        return 0  # refused requests are not billed
    usage = None if answer is None else answer.usage
    if answer is None or usage is None:
        return held
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return held
    written = len((answer.reasoning + answer.content).encode())
    if usage.completion_tokens * _MOST_BYTES_A_TOKEN < written:
        return held  # nobody counts so few: a cap holds whatever is said
    return usage.prompt_tokens + usage.completion_tokens


def seconds(exchange: Exchange) -> float | None:
    """How long a recorded exchange took; None where that is not known."""
    if exchange.started_at is None or exchange.finished_at is None:
        return None
    return max(0.0, (exchange.finished_at - exchange.started_at).total_seconds())


def retry_after(exchange: Exchange) -> float | None:
    """Seconds of a `Retry-After` (RFC 9110 section 10.2.3); None if absent or malformed."""
    values = field_values(exchange.response.headers, "retry-after")
    if not values:
        return None
    if values[0].isascii() and values[0].isdigit():
        return float(values[0][:10])  # three centuries, should it be longer
    try:
        then = parsedate_to_datetime(values[0])
    except (ValueError, IndexError, OverflowError):
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
