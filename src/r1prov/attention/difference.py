"""Entropies of two models on the same query rows, head by head.

Rows of one prompt depend on one another, so prompts are what is resampled. Intervals of one family
(all heads, or all layers) hold together: the bootstrap's largest deviation over the family, in
standard errors, sets their width ("max-t"; Romano and Wolf, Econometrica 73, 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2_000
# With fewer prompts the intervals are too narrow: docs/attention.md has what was measured.
LEAST_PROMPTS: Final = 10


@dataclass(frozen=True, slots=True)
class Intervals:
    """Means and the intervals that hold together for all of them.

    Attributes:
        mean: Mean difference, of any shape.
        low: Lower ends; None where there are too few prompts.
        high: Upper ends.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64] | None
    high: NDArray[np.float64] | None

    def apart(self) -> NDArray[np.bool_] | None:
        """Where zero lies outside the interval."""
        if self.low is None or self.high is None:
            return None
        return (self.low > 0) | (self.high < 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """The other model minus the first, in normalized entropy.

    Attributes:
        heads: Of each layer and head; shape (layers, heads).
        layers: Of each layer, the mean over its heads; shape (layers,).
        overall: Of all heads; shape ().
        absolute: Mean size of the difference of a row, which does not cancel; shape
            (layers, heads).
        rows: Query rows that were paired, of each head.
        prompts: Prompts that they came from.
    """

    heads: Intervals
    layers: Intervals
    overall: Intervals
    absolute: NDArray[np.float64]
    rows: int
    prompts: int


def paired_difference(
    first: Sequence[NDArray[np.floating]], other: Sequence[NDArray[np.floating]], *, seed: int = 0
) -> Difference:
    """Hold two models' entropies of the same prompts against each other.

    Args:
        first: One array a prompt of normalized entropies, shape (layers, heads, rows); rows that
            are NaN in either are left out.
        other: The same of the other model.
        seed: Of the bootstrap.
    """
    import numpy as np

    sums, sizes, counts = [], [], []
    for mine, theirs in zip(first, other, strict=True):
        change = np.asarray(theirs, np.float64) - np.asarray(mine, np.float64)
        kept = change[:, :, ~np.isnan(change).any(axis=(0, 1))]
        sums.append(kept.sum(axis=2))
        sizes.append(np.abs(kept).sum(axis=2))
        counts.append(kept.shape[2])
    total = np.stack(sums)
    weights = np.asarray(counts, np.float64)
    draws = None
    if len(counts) >= LEAST_PROMPTS:
        random = np.random.default_rng(seed)
        even = np.full(len(counts), 1 / len(counts))
        draws = random.multinomial(len(counts), even, size=RESAMPLES).astype(np.float64)
    return Difference(
        heads=_intervals(total, weights, draws),
        layers=_intervals(total.mean(axis=2), weights, draws),
        overall=_intervals(total.mean(axis=(1, 2)), weights, draws),
        absolute=np.stack(sizes).sum(axis=0) / weights.sum(),
        rows=int(weights.sum()),
        prompts=len(counts),
    )


def _intervals(
    sums: NDArray[np.float64], weights: NDArray[np.float64], draws: NDArray[np.float64] | None
) -> Intervals:
    """Mean over rows, and simultaneous intervals from resampled prompts.

    Args:
        sums: Sum over the rows of each prompt; shape (prompts, ...).
        weights: Rows of each prompt; shape (prompts,).
        draws: How often each resample takes each prompt; shape (resamples, prompts).
    """
    import numpy as np

    shape = sums.shape[1:]
    flat = sums.reshape(len(sums), -1)
    mean = flat.sum(axis=0) / weights.sum()
    if draws is None:
        return Intervals(mean.reshape(shape), None, None)
    prompts = len(flat)
    # A ratio of sums: deviations of prompts from what their rows would have on average.
    residuals = flat - weights[:, None] * mean
    drawn = draws @ weights
    deviations = (draws @ residuals) / drawn[:, None]
    scale = prompts / (prompts - 1)
    error = np.sqrt(scale * (residuals**2).sum(axis=0)) / weights.sum()
    # The standard error of each resample, so that its own spread counts (bootstrap-t).
    mean_drawn = deviations
    squares = np.empty_like(deviations)
    for column in range(flat.shape[1]):
        off = residuals[:, column][None, :] - weights[None, :] * mean_drawn[:, column][:, None]
        squares[:, column] = (draws * off**2).sum(axis=1)
    errors = np.sqrt(scale * squares) / drawn[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.abs(deviations) / errors
    ratios[~np.isfinite(ratios)] = 0.0
    width = np.quantile(ratios.max(axis=1, initial=0.0), CONFIDENCE) * error
    return Intervals(
        mean.reshape(shape), (mean - width).reshape(shape), (mean + width).reshape(shape)
    )
