"""What an audit may cost, and what it will: requests, tokens, and money by a table of prices."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from r1prov.errors import BudgetSpent, InputError, ManifestError
from r1prov.manifest.fields import read_toml
from r1prov.text import plural, printable, quoted

_PRICES = ("prompt", "completion")


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of one model, in one currency for a million tokens.

    Attributes:
        prompt: Of prompt tokens.
        completion: Of completion tokens.
        currency: Such as `USD`.
    """

    prompt: float
    completion: float
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run takes at most, as planned; retries come on top.

    Attributes:
        requests: How many.
        prompt_tokens: Of all of them, by their length.
        completion_tokens: Of all of them, if each answer is as long as it may be.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    def __mul__(self, times: int) -> Estimate:
        return Estimate(
            self.requests * times, self.prompt_tokens * times, self.completion_tokens * times
        )

    def cost(self, prices: Prices) -> float:
        """In the currency of the prices."""
        return (
            self.prompt_tokens * prices.prompt + self.completion_tokens * prices.completion
        ) / 1_000_000

    def text(self, prices: Prices | None) -> str:
        """One line for whoever is to pay."""
        line = (
            f"at most {plural(self.requests, 'request')}, {self.prompt_tokens:,} prompt tokens and "
            f"{self.completion_tokens:,} completion tokens"
        )
        if prices is not None:
            line += f": {self.cost(prices):.2f} {printable(prices.currency, limit=10)}"
        return line


def parse_prices(raw: bytes, *, model: str, subject: str) -> Prices:
    """Prices of `model` in a TOML table: `["MODEL"]`, each with `prompt` and `completion`.

    A table named `"*"` is for models that have none. `currency` stands at the top.

    Raises:
        InputError: Malformed, or without prices of the model.
    """
    try:
        value = read_toml(raw, subject)
    except ManifestError as error:
        raise InputError(f"no table of prices: {error.message}", subject=subject) from None
    currency = value.get("currency", "USD")
    if not isinstance(currency, str) or not currency.strip():
        raise InputError('`currency` is no name of one, such as "USD"', subject=subject)
    for name, row in value.items():
        if name != "currency":
            _check_row(name, row, subject)
    row = value.get(model, value.get("*"))
    if not isinstance(row, dict):
        raise InputError(
            f"has no prices of {quoted(model)}",
            subject=subject,
            hint='write: ["MODEL"], and below it prompt = 0.55 and completion = 2.19',
        )
    prompt, completion = (_price(row, name, subject) for name in _PRICES)
    return Prices(prompt, completion, currency)


def _check_row(model: str, row: object, subject: str) -> None:
    """Refuse what is no row of prices: a slip of the pen must not make a run look cheap."""
    if not isinstance(row, dict) or set(row) != set(_PRICES):
        raise InputError(
            f"the prices of {quoted(model)} are not just prompt and completion", subject=subject
        )
    for name in _PRICES:
        _price(row, name, subject)


def _price(row: Mapping[str, object], name: str, subject: str) -> float:
    price = row.get(name)
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e9:
        raise InputError(f"{name} is no price for a million tokens", subject=subject)
    return float(price)


class Budget:
    """Counts what is spent, and refuses what would be too much. Safe to use from threads.

    A request holds its estimate until the endpoint has counted, and more while its stream runs on.
    Where it does not count, what was held stays spent.

    Args:
        max_requests: Retries included; None for no cap.
        max_tokens: Prompt and completion tokens; None for no cap.
    """

    def __init__(self, *, max_requests: int | None = None, max_tokens: int | None = None) -> None:
        self.max_requests = max_requests
        self.max_tokens = max_tokens
        self.requests = 0
        self.tokens = 0
        self._held = 0
        self._lock = threading.Lock()

    def take(self, tokens: int) -> None:
        """Allow for one request of at most so many tokens.

        Raises:
            BudgetSpent: It would be too much.
        """
        with self._lock:
            if self.max_requests is not None and self.requests >= self.max_requests:
                raise BudgetSpent(
                    f"the budget of {plural(self.max_requests, 'request')} is spent",
                    hint="raise --max-requests, and go on with --resume",
                )
            spent = self.tokens + self._held
            if self.max_tokens is not None and spent + tokens > self.max_tokens:
                raise BudgetSpent(
                    f"of the budget of {self.max_tokens:,} tokens "
                    f"{max(0, self.max_tokens - spent):,} are left, and the next request may need "
                    f"{tokens:,}",
                    hint="raise --max-tokens, and go on with --resume",
                )
            self.requests += 1
            self._held += tokens

    def extend(self, tokens: int) -> None:
        """Allow so many tokens more for a request whose answer runs on.

        Raises:
            BudgetSpent: It would be too much.
        """
        with self._lock:
            spent = self.tokens + self._held
            if self.max_tokens is not None and spent + tokens > self.max_tokens:
                raise BudgetSpent(
                    f"an answer ran over what it was allowed, and over what is left of the budget "
                    f"of {self.max_tokens:,} tokens",
                    hint="the endpoint does not heed `max_tokens`",
                )
            self._held += tokens

    def settle(self, held: int, spent: int) -> None:
        """Replace what was held for a request by what it took."""
        with self._lock:
            self._held -= held
            self.tokens += spent
