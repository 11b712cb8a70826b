"""How right an endpoint is on a test set, and whether it is less right than a baseline.

Pure arithmetic on counts. An interval or a test here holds for questions drawn like those of the
test set; it says nothing of other questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from r1prov.errors import UsageError


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval of a share.

    Attributes:
        low: Lower end.
        high: Upper end.
        confidence: Share of such intervals that hold the true value, such as 0.95.
    """

    low: float
    high: float
    confidence: float


def wilson(right: int, asked: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of `right` out of `asked` (Wilson 1927), good also near 0 and 1.

    Raises:
        UsageError: Nothing was asked, more were right than asked, or the confidence is no share.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence of {confidence} is none", hint="a share, such as 0.95")
    if not 0 <= right <= asked or not asked:
        raise UsageError(f"{right} right of {asked} asked is no share")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / asked
    middle = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    reach = z / (1 + z * z / asked)
    reach *= math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    low = 0.0 if right == 0 else max(0.0, middle - reach)
    high = 1.0 if right == asked else min(1.0, middle + reach)
    return Interval(low, high, confidence)


@dataclass(frozen=True, slots=True)
class Paired:
    """The same questions put to two sides.

    Attributes:
        both: Right on both sides.
        baseline_only: Right at the baseline only.
        endpoint_only: Right at the endpoint only.
        neither: Wrong on both.
    """

    both: int
    baseline_only: int
    endpoint_only: int
    neither: int

    @property
    def asked(self) -> int:
        """How many questions."""
        return self.both + self.baseline_only + self.endpoint_only + self.neither

    @property
    def drop(self) -> float:
        """By how much the endpoint's accuracy is below the baseline's; negative if above."""
        return (self.baseline_only - self.endpoint_only) / self.asked


def pair(baseline: Sequence[bool], endpoint: Sequence[bool]) -> Paired:
    """Count how the same questions, in the same order, came out on both sides.

    Raises:
        UsageError: There are none, or not as many on both sides.
    """
    if len(baseline) != len(endpoint) or not baseline:
        raise UsageError(
            f"{len(baseline)} and {len(endpoint)} answers cannot be paired",
            hint="ask both sides the same questions",
        )
    seen = list(zip(baseline, endpoint, strict=True))
    return Paired(
        both=seen.count((True, True)),
        baseline_only=seen.count((True, False)),
        endpoint_only=seen.count((False, True)),
        neither=seen.count((False, False)),
    )


def mcnemar(paired: Paired) -> float:
    """Two-sided p-value that both sides are equally right: the exact form of McNemar (1947).

    Only questions on which the sides differ count: each is a fair coin if they are equal.
    """
    differing = paired.baseline_only + paired.endpoint_only
    fewer = min(paired.baseline_only, paired.endpoint_only)
    # Each coefficient from the one before: tens of thousands of questions may differ.
    tail, ways = 0, 1
    for i in range(fewer + 1):
        tail += ways
        ways = ways * (differing - i) // (i + 1)
    return min(1.0, float(2 * tail / (1 << differing)))


@dataclass(frozen=True, slots=True)
class DropTest:
    """Outcome of asking whether accuracy fell by more than is tolerated.

    Attributes:
        tolerated: The drop that is still taken, such as 0.05.
        drop: The drop that was seen.
        z: Tango's score statistic, less one question.
        p_value: One-sided: how likely so large a drop is if the true one is `tolerated`.
    """

    tolerated: float
    drop: float
    z: float
    p_value: float


def drop_test(paired: Paired, *, tolerated: float = 0.05) -> DropTest:
    """Whether the endpoint is worse than the baseline by more than `tolerated`.

    The score test for a difference of paired shares (Tango, Statistics in Medicine 17, 1998), with
    the correction for continuity that McNemar's test has from Edwards (1948): one question. Without
    it the test errs more often than it says, up to half as often again; docs/test-sets.md gives
    what it does with it, by enumeration.

    Raises:
        UsageError: `tolerated` is not from 0 to below 1, or nothing was asked.
    """
    if not 0 <= tolerated < 1:
        raise UsageError(f"a drop of {tolerated} is none", hint="a share, such as 0.05")
    if not paired.asked:
        raise UsageError("no question was put to both sides", hint="ask both the same questions")
    n, b, c = paired.asked, paired.baseline_only, paired.endpoint_only
    # Maximum likelihood of the share right at the endpoint only, if the drop were `tolerated`.
    linear = -b - c + (2 * n - b + c) * tolerated
    root = math.sqrt(linear**2 + 8 * n * c * tolerated * (1 - tolerated))
    endpoint_only = (root - linear) / (4 * n)
    variance = n * (2 * endpoint_only + tolerated * (1 - tolerated))
    excess = b - c - n * tolerated - 1
    # Without variance no question tells the sides apart, and no drop is tolerated.
    z = excess / math.sqrt(variance) if variance > 0 else 0.0
    # Not one minus the rest: that has no digits left where it matters.
    return DropTest(tolerated, paired.drop, z, math.erfc(z / math.sqrt(2)) / 2)
