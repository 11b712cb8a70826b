"""Wald's sequential probability ratio test of a proportion (Annals of Math. Stat. 16, 1945)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from r1prov.errors import UsageError


class Decision(StrEnum):
    """Where the test stands."""

    CONTINUE = "continue"
    LOW = "low"  # the proportion is `low` or less
    HIGH = "high"  # the proportion is `high` or more


@dataclass(slots=True)
class Sprt:
    """Decides between two proportions, looking at one trial at a time.

    With the bounds of Wald the probability of `HIGH` at `low` is at most `alpha / (1 - beta)`, and
    that of `LOW` at `high` at most `beta / (1 - alpha)`, for independent trials.

    Attributes:
        low: Proportion under the hypothesis.
        high: Proportion under the alternative.
        alpha: Probability of `HIGH` where `low` is true.
        beta: Probability of `LOW` where `high` is true.
        trials: Seen since the last decision.
        hits: Of these.
        ratio: Logarithm of the likelihood ratio, alternative over hypothesis.
    """

    low: float
    high: float
    alpha: float
    beta: float
    trials: int = 0
    hits: int = 0
    ratio: float = 0.0
    _hit: float = field(init=False, repr=False)
    _miss: float = field(init=False, repr=False)
    _upper: float = field(init=False, repr=False)
    _lower: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < 1:
            raise UsageError(f"no two proportions: {self.low} and {self.high}")
        if not (0 < self.alpha < 0.5 and 0 < self.beta < 0.5):
            raise UsageError(f"no error rates below one half: {self.alpha} and {self.beta}")
        self._hit = math.log(self.high / self.low)
        self._miss = math.log((1 - self.high) / (1 - self.low))
        self._upper = math.log((1 - self.beta) / self.alpha)
        self._lower = math.log(self.beta / (1 - self.alpha))

    def add(self, *, hit: bool) -> Decision:
        """Count one trial and say where the test stands."""
        self.trials += 1
        self.hits += hit
        self.ratio += self._hit if hit else self._miss
        if self.ratio >= self._upper:
            return Decision.HIGH
        if self.ratio <= self._lower:
            return Decision.LOW
        return Decision.CONTINUE

    def restart(self) -> None:
        """Forget the trials; the next one begins a test of its own."""
        self.trials = self.hits = 0
        self.ratio = 0.0

    def expected_trials(self, proportion: float) -> float:
        """Trials until a decision, on the average, where the proportion is `low` or `high`."""
        chance_up = self.alpha if proportion <= self.low else 1 - self.beta
        drift = proportion * self._hit + (1 - proportion) * self._miss
        return (chance_up * self._upper + (1 - chance_up) * self._lower) / drift
