"""Paired differences: exact where they must be, and intervals that hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from r1prov.attention.difference import LEAST_PROMPTS, RESAMPLES, paired_difference


def compared(one, other, **options):
    """Untyped: with few prompts intervals are None, which most tests here have no use for."""
    return paired_difference(one, other, **options)


def entropies(random, prompts, layers=3, heads=4):
    return [random.random((layers, heads, int(random.integers(4, 40)))) for _ in range(prompts)]


def test_a_model_against_itself_is_exactly_nothing():
    one = entropies(np.random.default_rng(0), 12)
    found = compared(one, one)
    assert not found.heads.mean.any()
    assert not found.absolute.any()
    assert not found.heads.apart().any()
    assert found.heads.low.tolist() == found.heads.high.tolist()


def test_means_are_over_rows_of_all_prompts():
    random = np.random.default_rng(1)
    one, other = entropies(random, 11), []
    other = [one_prompt + random.normal(0, 0.1, one_prompt.shape) for one_prompt in one]
    found = compared(one, other)
    change = np.concatenate([b - a for a, b in zip(one, other, strict=True)], axis=2)
    assert np.allclose(found.heads.mean, change.mean(axis=2))
    assert np.allclose(found.layers.mean, change.mean(axis=(1, 2)))
    assert np.isclose(found.overall.mean, change.mean())
    assert np.allclose(found.absolute, abs(change).mean(axis=2))
    assert (found.rows, found.prompts) == (change.shape[2], 11)


def test_rows_without_entropy_are_left_out():
    one = [np.full((1, 1, 3), 0.5), np.full((1, 1, 2), 0.5)]
    other = [one[0] + 0.1, one[1] + 0.3]
    one[0][..., 0] = other[0][..., 0] = np.nan
    found = compared(one, other)
    assert found.rows == 4
    assert np.isclose(found.overall.mean, 0.2)


def test_heads_go_with_their_order():
    random = np.random.default_rng(2)
    one = entropies(random, LEAST_PROMPTS)
    other = [a + random.normal(0, 0.1, a.shape) for a in one]
    order = [2, 0, 3, 1]
    found = compared(one, other)
    moved = compared([a[:, order] for a in one], [a[:, order] for a in other])
    assert np.allclose(moved.heads.mean, found.heads.mean[:, order])
    assert np.allclose(moved.heads.low, found.heads.low[:, order])
    assert np.allclose(moved.overall.low, found.overall.low)


def test_few_prompts_have_no_interval():
    one = entropies(np.random.default_rng(3), LEAST_PROMPTS - 1)
    found = compared(one, one)
    assert found.heads.low is None
    assert found.heads.apart() is None


def test_the_direction_is_the_second_minus_the_first():
    random = np.random.default_rng(4)
    one = entropies(random, 12)
    other = [a.copy() for a in one]
    for a in other:
        a[1, 2] += 0.05 + random.normal(0, 0.01, a.shape[2])
    found = compared(one, other)
    assert found.heads.apart().sum() == 1
    assert found.heads.low[1, 2] > 0
    assert found.layers.mean.argmax() == 1


@pytest.mark.parametrize("prompts", [LEAST_PROMPTS, 30])
def test_intervals_hold_together_as_often_as_they_say(prompts):
    """All 12 heads are in their intervals in 95 of 100 runs; skewed effects of whole prompts."""
    held, runs = 0, 120
    for seed in range(runs):
        random = np.random.default_rng(seed)
        one = entropies(random, prompts)
        other = [
            a + random.gamma(2, 0.01, (3, 4, 1)) - 0.02 + random.normal(0, 0.05, a.shape)
            for a in one
        ]
        heads = compared(one, other, seed=seed).heads
        held += bool(((heads.low <= 0) & (heads.high >= 0)).all())
    # 105 of 120 or fewer have a chance of 0.0006 at a true rate of 0.95.
    assert held > 105
    assert RESAMPLES >= 1_000


def test_rows_of_a_prompt_are_not_taken_for_independent():
    """One effect a prompt and no noise in rows: more rows must not make intervals narrower."""
    random = np.random.default_rng(5)
    effects = random.normal(0, 0.1, 20)

    def width(rows):
        one = [np.zeros((1, 1, rows)) for _ in effects]
        found = compared(one, [a + e for a, e in zip(one, effects, strict=True)])
        return float(found.overall.high - found.overall.low)

    assert np.isclose(width(5), width(500))
    assert width(5) > 4 * effects.std() / np.sqrt(len(effects)) * 0.9
