"""Counts with the interval that the true share lies in."""

from __future__ import annotations

from scipy import stats


def share(hits: int, runs: int) -> dict[str, float | int | list[float]]:
    """Hits of runs, with the exact 95 % interval of Clopper and Pearson."""
    if not runs:
        return {"hits": 0, "runs": 0}
    interval = stats.binomtest(hits, runs).proportion_ci(0.95, method="exact")
    return {
        "hits": hits,
        "runs": runs,
        "share": round(hits / runs, 4),
        "95 %": [round(interval.low, 4), round(interval.high, 4)],
    }
