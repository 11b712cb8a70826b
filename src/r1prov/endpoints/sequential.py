"""Testing while the samples come in, so that a clear case stops early and the error rate holds.

A test that is looked at several times errs more often than once. Here every look has its own share
of the error rate, fixed before the first sample; by the union bound all looks together err at most
at the sum, whatever the dependence between them.
"""

from __future__ import annotations

from dataclasses import dataclass

from r1prov.errors import UsageError


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the data.

    Attributes:
        samples: Share of all samples that are there at this look, from 0 to 1.
        alpha: Share of the error rate that it may spend.
        p_value: What the test said; None until it was asked.
    """

    samples: float
    alpha: float
    p_value: float | None = None

    @property
    def rejects(self) -> bool:
        """Whether the test said at this look that the sides differ."""
        return self.p_value is not None and self.p_value <= self.alpha


def plan_looks(alpha: float, count: int) -> tuple[Look, ...]:
    """Looks at equal steps, half of the error rate kept for the last.

    An early stop is for clear cases, whose p-value is tiny; the last look is left nearly the power
    of a test that looks once.

    Raises:
        UsageError: `alpha` is not between 0 and 1, or `count` is not positive.
    """
    if not 0 < alpha < 1:
        raise UsageError(f"an error rate of {alpha} is none", hint="between 0 and 1, such as 0.01")
    if count < 1:
        raise UsageError(f"{count} looks are none", hint="1 or more")
    if count == 1:
        return (Look(1.0, alpha),)
    early = alpha / 2 / (count - 1)
    looks = [Look((i + 1) / count, early) for i in range(count - 1)]
    return (*looks, Look(1.0, alpha / 2))
