from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from r1prov.endpoints.accuracy import Paired, drop_test, mcnemar, pair, wilson
from r1prov.endpoints.comparison import Names
from r1prov.endpoints.question_run import Scored, question_result
from r1prov.endpoints.report import compose
from r1prov.endpoints.result import Outcome
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


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 2, float("nan")])
def test_no_confidence(confidence):
    with pytest.raises(UsageError):
        wilson(1, 2, confidence=confidence)


@pytest.mark.parametrize("asked", [1, 10, 100_000])
def test_none_and_all_right(asked):
    """The ends are ends, and the other side is the one that Wilson gives: z² / (n + z²)."""
    z = stats.norm.ppf(0.975)
    none, all_ = wilson(0, asked), wilson(asked, asked)
    assert (none.low, all_.high) == (0, 1)
    assert none.high == pytest.approx(z * z / (asked + z * z))
    assert all_.low == pytest.approx(1 - none.high)


@given(counts, counts)
def test_mcnemar_is_a_sign_test(b, c):
    theirs = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(Paired(10, b, c, 10)) == pytest.approx(theirs)


def test_mcnemar_of_as_many_questions_as_are_taken():
    assert mcnemar(Paired(0, 2_000, 2_000, 0)) == 1
    theirs = stats.binomtest(49_000, 100_000).pvalue
    assert mcnemar(Paired(0, 49_000, 51_000, 0)) == pytest.approx(theirs)


def test_pairing_counts():
    assert pair([True, True, False, False], [True, False, True, False]) == Paired(1, 1, 1, 1)
    with pytest.raises(UsageError, match="3 and 1 answers"):
        pair([True] * 3, [True])
    with pytest.raises(UsageError):
        pair([], [])


@given(counts, counts, counts, counts)
def test_no_tolerance_is_mcnemars_statistic_as_edwards_corrected_it(both, b, c, neither):
    """With nothing tolerated Tango's statistic is (b - c) / sqrt(b + c)."""
    if not both + b + c + neither:
        return
    z = drop_test(Paired(both, b, c, neither), tolerated=0).z
    assert z == pytest.approx((b - c - 1) / (b + c) ** 0.5 if b + c else 0)


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
    z = (paired.baseline_only - paired.endpoint_only - n * drop - 1) / variance**0.5
    assert drop_test(paired, tolerated=drop).z == pytest.approx(z, abs=2e-3)


def raos_score(paired: Paired, drop: float) -> float:
    """Rao's score statistic by the multinomial likelihood alone, without Tango's algebra."""
    b = paired.baseline_only
    n, rest = paired.asked, paired.both + paired.neither
    found = optimize.minimize_scalar(
        lambda e: -likelihood(paired, drop, e),
        bounds=(1e-12, (1 - drop) / 2 - 1e-12),
        method="bounded",
        options={"xatol": 1e-13},
    )
    e = found.x
    first, last = e + drop, 1 - 2 * e - drop
    # The score is one question's worth of the excess smaller.
    score = (b / first - rest / last) * (1 - 1 / (b - paired.endpoint_only - n * drop))
    by_drop = n * (1 / first + 1 / last)
    by_both = n * (1 / first + 2 / last)
    by_share = n * (1 / first + 1 / e + 4 / last)
    return float(score / (by_drop - by_both**2 / by_share) ** 0.5)


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(1, 60),
    st.sampled_from([0.01, 0.05, 0.2]),
)
def test_the_drop_test_is_raos_score_test(both, b, c, drop):
    paired = Paired(both, b, c, 1)
    if abs(b - c - paired.asked * drop) < 0.01:
        return
    found = drop_test(paired, tolerated=drop)
    assert found.z == pytest.approx(raos_score(paired, drop), rel=1e-4, abs=1e-4)
    assert found.p_value == pytest.approx(stats.norm.sf(found.z))


def test_it_is_one_sided():
    """A gain is never a drop, however large; and a p-value of a large drop keeps its digits."""
    assert drop_test(Paired(50, 0, 50, 0)).p_value > 0.9999
    assert drop_test(Paired(95, 0, 0, 5)).p_value > 0.95
    worse = drop_test(Paired(500, 400, 0, 100))
    assert 0 < worse.p_value < 1e-40
    assert drop_test(Paired(500, 61, 10, 429)).p_value == pytest.approx(0.5)
    assert drop_test(Paired(0, 1, 0, 0)).drop == 1


def test_of_nothing_there_is_no_drop():
    with pytest.raises(UsageError, match="no question"):
        drop_test(Paired(0, 0, 0, 0))


def exact_rate(asked: int, differing: float, true_drop: float, alpha: float) -> float:
    """How often the test rejects, by adding up what every outcome has for a probability.

    Args:
        asked: Questions.
        differing: Share of them on which the sides differ.
        true_drop: What the drop really is.
        alpha: Level.
    """
    worse, better = (differing + true_drop) / 2, (differing - true_drop) / 2
    total = 0.0
    for b in range(asked + 1):
        by_b = stats.binom.pmf(b, asked, worse)
        if by_b < 1e-12:
            continue
        most = asked - b
        weights = stats.binom.pmf(range(most + 1), most, better / (1 - worse))
        for c, by_c in enumerate(weights):
            # More at the endpoint only is less of a drop: the first that passes ends it.
            if drop_test(Paired(most - c, b, c, 0)).p_value > alpha:
                break
            total += by_b * by_c
    return total


@pytest.mark.parametrize("differing", [0.05, 0.08, 0.3])
@pytest.mark.parametrize(("asked", "alpha"), [(100, 0.05), (100, 0.01), (300, 0.01)])
def test_the_level_is_kept_by_exact_enumeration(asked, alpha, differing):
    """At a drop of 5 %, which is still taken, and all the more without one."""
    assert 0.1 * alpha < exact_rate(asked, differing, 0.05, alpha) <= alpha
    assert exact_rate(asked, differing, 0.0, alpha) < 0.2 * alpha


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


def judged(asked, *, right, alpha=0.01):
    """The result where a baseline got everything right, and the endpoint the first `right`."""
    names = [f"q{number:02}" for number in range(asked)]
    scored = Scored(right={name: number < right for number, name in enumerate(names)})
    return question_result(
        scored,
        dict.fromkeys(names, True),
        alpha=alpha,
        tolerated=0.05,
        names=Names(),
        requests=asked,
    )


@pytest.mark.parametrize(
    ("asked", "right", "outcome"),
    [
        (7, 7, Outcome.NOT_TESTABLE),
        (7, 0, Outcome.NOT_TESTABLE),
        (8, 8, Outcome.CONSISTENT),
        (8, 0, Outcome.INCONSISTENT),
    ],
)
def test_questions_bear_a_claim_out_only_if_they_could_have_refuted_it(asked, right, outcome):
    found = judged(asked, right=right)
    assert found.outcome is outcome
    assert ("no drop could show" in found.summary) is (outcome is Outcome.NOT_TESTABLE)
    verdict, _ = compose([found], "R1")
    assert verdict is outcome


def test_a_baseline_that_knew_nothing_bears_nothing_out():
    scored = Scored(right=dict.fromkeys("abcdefghijkl", False))
    found = question_result(
        scored,
        dict.fromkeys("abcdefghijkl", False),
        alpha=0.01,
        tolerated=0.05,
        names=Names(),
        requests=12,
    )
    assert found.outcome is Outcome.NOT_TESTABLE
