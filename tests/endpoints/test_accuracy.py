from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from r1prov.endpoints.accuracy import Paired, drop_test, mcnemar, pair, wilson
from r1prov.errors import UsageError

counts = st.integers(0, 300)


@given(counts, counts, st.sampled_from([0.8, 0.95, 0.999]))
def test_wilson_is_that_of_scipy(right, wrong, confidence):
    if not right + wrong:
        return
    ours = wilson(right, right + wrong, confidence=confidence)
    theirs = stats.binomtest(right, right + wrong).proportion_ci(confidence, method="wilson")
    assert ours.low == pytest.approx(theirs.low)
    assert ours.high == pytest.approx(theirs.high)


@pytest.mark.parametrize(("right", "asked"), [(0, 0), (3, 2), (-1, 2)])
def test_no_share(right, asked):
    with pytest.raises(UsageError):
        wilson(right, asked)


@given(counts, counts)
def test_mcnemar_is_a_sign_test(b, c):
    theirs = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(Paired(10, b, c, 10)) == pytest.approx(theirs)


def test_pairing_counts():
    assert pair([True, True, False, False], [True, False, True, False]) == Paired(1, 1, 1, 1)
    with pytest.raises(UsageError, match="3 and 1 answers"):
        pair([True] * 3, [True])
    with pytest.raises(UsageError):
        pair([], [])


@given(counts, counts, counts, counts)
def test_no_tolerance_is_mcnemars_statistic(both, b, c, neither):
    """With nothing tolerated Tango's statistic is (b - c) / sqrt(b + c)."""
    if not both + b + c + neither:
        return
    z = drop_test(Paired(both, b, c, neither), tolerated=0).z
    assert z == pytest.approx((b - c) / (b + c) ** 0.5 if b + c else 0)


def likelihood(paired: Paired, drop: float, endpoint_only: float) -> float:
    from math import log

    rest = 1 - 2 * endpoint_only - drop
    parts = (
        (paired.baseline_only, endpoint_only + drop),
        (paired.endpoint_only, endpoint_only),
        (paired.both + paired.neither, rest),
    )
    if any(count and share <= 0 for count, share in parts):
        return float("-inf")
    return sum(count * log(share) for count, share in parts if count)


@pytest.mark.parametrize("paired", [Paired(60, 20, 5, 15), Paired(90, 4, 1, 5), Paired(9, 0, 3, 8)])
@pytest.mark.parametrize("drop", [0.01, 0.05, 0.2])
def test_the_nuisance_share_is_the_most_likely_one(paired, drop):
    """The closed form against a search: z uses the variance at the constrained maximum."""
    grid = [i / 200_000 for i in range(1, 100_000)]
    best = max(grid, key=lambda share: likelihood(paired, drop, share))
    n = paired.asked
    variance = n * (2 * best + drop * (1 - drop))
    z = (paired.baseline_only - paired.endpoint_only - n * drop) / variance**0.5
    assert drop_test(paired, tolerated=drop).z == pytest.approx(z, abs=2e-3)


def rejections(true_drop: float, questions: int, runs: int) -> float:
    """How often the test says 'dropped by more than 5 %' at the 5 % level."""
    draw = random.Random(f"{true_drop} {questions}")
    share = 0
    for _ in range(runs):
        seen = [0, 0, 0, 0]
        for _ in range(questions):
            at = draw.random()
            right_only_before = 0.08 + true_drop
            seen[(at < right_only_before) + 2 * (right_only_before <= at < 0.16 + true_drop)] += 1
        paired = Paired(seen[0], seen[1], seen[2], 0)
        share += drop_test(paired).p_value <= 0.05
    return share / runs


def test_error_rate_and_power_of_the_drop_test():
    """At a true drop of 5 % it errs about as often as it says; at 15 % it mostly sees it."""
    assert rejections(0.05, 300, 400) <= 0.08
    assert rejections(0.0, 300, 400) == 0
    assert rejections(0.15, 300, 400) >= 0.9


@pytest.mark.parametrize("tolerated", [-0.1, 1, float("nan")])
def test_no_tolerance_at_all(tolerated):
    with pytest.raises(UsageError):
        drop_test(Paired(1, 1, 1, 1), tolerated=tolerated)
