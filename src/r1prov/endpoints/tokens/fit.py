"""How well a counter explains the token counts of probes: offset, optional scale, residual.

A chat template and a hidden system prompt add a constant to every count; billing may multiply.
Both are fitted, so what is left over is about the tokenizer alone. Counts are whole numbers and
exact: the fit is by the largest residual, not by least squares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from r1prov.endpoints.tokens.reference import Counter

# Hosts add up to this many tokens to one prompt and not to another (white space that is stripped,
# an end token): Kimi's vendor verifier lets as many pass.
TOLERANCE = 3
# A scale outside of this range is no price list.
_SCALES = (0.05, 20.0)
# Counts that share a divisor of this or more, over four probes or more, are taken as rounded:
# 1 in 300 sets of four counts would be by chance, and pays with a wider tolerance only.
_ROUNDING = 5
_ROUNDED_PROBES = 4


@dataclass(frozen=True, slots=True)
class Fit:
    """A counter held against counts.

    Attributes:
        counter: Which.
        scale: Tokens counted for each of the counter's; 1 where none was fitted.
        offset: Tokens added to every probe.
        residual: Largest distance of a count from the fit, in tokens.
        tolerance: Largest residual that the fit may have.
    """

    counter: Counter
    scale: float
    offset: float
    residual: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the counter explains the counts."""
        return self.residual <= self.tolerance


def exact_fit(counter: Counter, seen: Mapping[str, int], *, rounding: int = 1) -> Fit:
    """Fit the offset alone. `seen` maps probe ids to counts and is not empty."""
    offset, residual = _middle([seen[one] - counter.counts[one] for one in seen])
    return Fit(counter, 1.0, offset, residual, TOLERANCE + (rounding if rounding > 1 else 0))


def scaled_fit(counter: Counter, seen: Mapping[str, int], *, rounding: int = 1) -> Fit | None:
    """Fit offset and scale; None where no scale in range can be fitted.

    The best line by largest residual has the slope of an edge of the points' convex hull, so of a
    pair of them: with six probes, all fifteen are tried.
    """
    best: Fit | None = None
    for one, other in combinations(seen, 2):
        run = counter.counts[one] - counter.counts[other]
        if run == 0:
            continue
        scale = (seen[one] - seen[other]) / run
        if not _SCALES[0] <= scale <= _SCALES[1]:
            continue
        offset, residual = _middle([seen[p] - scale * counter.counts[p] for p in seen])
        # Scaled counts are rounded by whoever scales, up or down.
        tolerance = max(1.5, TOLERANCE * scale) + (rounding if rounding > 1 else 0)
        if best is None or residual < best.residual:
            best = Fit(counter, scale, offset, residual, tolerance)
    return best


def rounding_of(seen: Mapping[str, int]) -> int:
    """The step that counts are rounded to; 1 for counts that are not."""
    step = math.gcd(*seen.values()) if len(seen) >= _ROUNDED_PROBES else 1
    return step if step >= _ROUNDING else 1


def _middle(values: list[float] | list[int]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low + high) / 2, (high - low) / 2
