"""The math of attention entropy: known values, properties, and what averaging heads hides."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from r1prov.attention.entropy import row_entropies
from r1prov.errors import InputError

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6))
SCORES = SHAPES.flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-50, 50, width=32))
)


def by_definition(scores, mask):
    """Softmax and -sum p ln p, one number at a time."""
    heads, rows, keys = scores.shape
    found = np.zeros((heads, rows))
    for h in range(heads):
        for r in range(rows):
            seen = [k for k in range(keys) if mask[r, k]]
            weights = [math.exp(scores[h, r, k] - max(scores[h, r, k] for k in seen)) for k in seen]
            parts = [one / sum(weights) for one in weights]
            found[h, r] = -sum(p * math.log(p) for p in parts if p > 0)
    return found


@pytest.mark.parametrize("keys", [2, 3, 17, 1024])
def test_uniform_attention_has_the_logarithm_of_its_keys(keys):
    found = row_entropies(np.full((2, 3, keys), 7.5))
    assert np.allclose(found.heads, math.log(keys), atol=1e-12)
    assert np.allclose(found.averaged, math.log(keys), atol=1e-12)
    assert np.allclose(found.normalized()[0], 1.0)


def test_one_key_alone_has_no_entropy():
    scores = np.zeros((1, 1, 9))
    scores[0, 0, 4] = 2_000.0  # the others underflow
    found = row_entropies(scores)
    assert found.heads[0, 0] == 0.0
    assert found.averaged[0] == 0.0


def test_causal_rows_see_what_stands_before_them():
    mask = np.tril(np.ones((5, 5), dtype=bool))
    scores = np.zeros((1, 5, 5))
    scores[:, ~mask] = np.inf  # whatever a mask hides changes nothing
    found = row_entropies(scores, mask)
    assert found.visible.tolist() == [1, 2, 3, 4, 5]
    assert np.allclose(found.heads[0], np.log([1, 2, 3, 4, 5]))
    share, averaged = found.normalized()
    assert np.isnan(share[0, 0])
    assert np.isnan(averaged[0])
    assert np.allclose(share[0, 1:], 1.0)


def test_padding_counts_as_no_key():
    mask = np.array([[True, True, False, False]])
    found = row_entropies(np.array([[[0.0, 0.0, 9.0, np.nan]]]), mask)
    assert found.visible.tolist() == [2]
    assert np.allclose(found.normalized()[0], 1.0)


@given(SCORES, st.data())
@settings(max_examples=150, deadline=None)
def test_it_is_the_definition(scores, data):
    mask = data.draw(arrays(np.bool_, scores.shape[1:]))
    mask[:, 0] |= ~mask.any(axis=1)
    found = row_entropies(scores, mask)
    assert np.allclose(found.heads, by_definition(scores, mask), atol=1e-9)
    assert (found.heads <= np.log(mask.sum(axis=1)) + 1e-9).all()


@given(SCORES)
@settings(max_examples=150, deadline=None)
def test_the_entropy_of_the_mean_is_at_least_the_mean_of_the_entropies(scores):
    found = row_entropies(scores)
    assert (found.averaged >= found.heads.mean(axis=0) - 1e-9).all()
    # And at most that and the logarithm of the number of heads.
    assert (found.averaged <= found.heads.mean(axis=0) + math.log(len(scores)) + 1e-9).all()


@given(SCORES, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_of_heads_and_keys(scores, random):
    heads, keys = list(range(scores.shape[0])), list(range(scores.shape[2]))
    random.shuffle(heads)
    random.shuffle(keys)
    found = row_entropies(scores)
    moved = row_entropies(scores[heads][:, :, keys])
    assert np.allclose(moved.heads, found.heads[heads], atol=1e-9)
    assert np.allclose(moved.averaged, found.averaged, atol=1e-9)


@given(SCORES, st.floats(-1000, 1000))
@settings(max_examples=50, deadline=None)
def test_a_constant_added_to_a_row_changes_nothing(scores, constant):
    assert np.allclose(
        row_entropies(scores + constant).heads, row_entropies(scores).heads, atol=1e-8
    )


def test_averaging_hides_sharp_heads():
    """Eight heads that each look at one key of their own, or eight that look at all alike."""
    sharp = np.full((8, 1, 8), -1e9)
    sharp[range(8), 0, range(8)] = 0.0
    found = row_entropies(sharp)
    assert found.heads.max() == 0.0
    assert math.isclose(found.averaged[0], math.log(8))
    assert math.isclose(row_entropies(np.zeros((8, 1, 8))).averaged[0], math.log(8))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = np.zeros((2, 2, 3))
    scores[1, 0, 2] = value
    with pytest.raises(InputError, match="not finite"):
        row_entropies(scores)


def test_a_query_without_keys_is_refused():
    with pytest.raises(InputError, match="sees no key"):
        row_entropies(np.zeros((1, 2, 2)), np.array([[True, False], [False, False]]))
