from __future__ import annotations

import random
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.endpoints.equality import (
    KERNELS,
    PREFIX_TOKENS,
    compare_completions,
    hamming_kernel,
    token_kernel,
)
from r1prov.endpoints.sequential import plan_looks
from r1prov.errors import UsageError

WORDS = [
    "the",
    "sky",
    "is",
    "blue",
    "because",
    "light",
    "of",
    "short",
    "waves",
    "is",
    "scattered",
    "most",
    "by",
    "air",
]


def completions(seed: int, per_prompt: int, prompts: int = 4, bias: float = 0.0):
    """Random walks over words; `bias` is how often a word of another model comes in."""
    draw = random.Random(seed)
    return {
        f"p{number}": [
            " ".join(
                "moreover" if draw.random() < bias else draw.choice(WORDS[: 3 + number])
                for _ in range(12)
            )
            for _ in range(per_prompt)
        ]
        for number in range(prompts)
    }


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_statistic_is_the_textbook_sum(kernel):
    one, two = completions(1, 3, 1)["p0"], completions(2, 4, 1)["p0"]
    result = compare_completions({"p": one}, {"p": two}, kernel=kernel, permutations=9, seed=0)
    k = KERNELS[kernel]([*one, *two])
    inside = sum(k[i, j] for i in range(3) for j in range(3) if i != j) / 6
    outside = sum(k[i, j] for i in range(3, 7) for j in range(3, 7) if i != j) / 12
    across = sum(k[i, j] for i in range(3) for j in range(3, 7)) / 12
    assert result.statistic == pytest.approx(inside + outside - 2 * across)


def test_tokens_are_compared_place_by_place(r1):
    texts = ["the sky is blue", "the sky was blue", "the sky is blue"]
    same = token_kernel(r1)(texts)
    ids = [r1.ids(one) for one in texts]
    assert [len(one) for one in ids] == [4, 4, 4]
    # One of the four differs; behind the end all places are alike.
    assert same[0, 1] == pytest.approx(1 - 1 / PREFIX_TOKENS)
    assert same[0, 2] == 1
    # A word of one character more moves every character behind it, and no token.
    assert hamming_kernel(texts)[0, 1] < same[0, 1]
    result = compare_completions(
        {"p": texts}, {"p": texts}, kernel="tokens", tokenizer=r1, permutations=9, seed=0
    )
    assert result.kernel == "tokens"
    with pytest.raises(UsageError, match="needs a tokenizer"):
        compare_completions({"p": texts}, {"p": texts}, kernel="tokens", seed=0)


def test_the_p_value_is_that_of_all_labellings():
    one, two = completions(3, 3, 1, bias=0.3)["p0"], completions(4, 3, 1)["p0"]
    drawn = compare_completions({"p": one}, {"p": two}, permutations=40_000, seed=1)
    texts, observed, reached = [*one, *two], drawn.statistic, 0
    for chosen in combinations(range(6), 3):
        left = [texts[i] for i in chosen]
        right = [texts[i] for i in range(6) if i not in chosen]
        other = compare_completions({"p": left}, {"p": right}, permutations=1, seed=0)
        reached += other.statistic >= observed - 1e-12
    assert drawn.p_value == pytest.approx(reached / 20, abs=0.01)


def test_labels_are_permuted_within_a_prompt_only():
    """Two prompts with different answers, each the same on both sides: no difference."""
    sides = {"a": ["yes"] * 5, "b": ["a long answer about the sea"] * 5}
    result = compare_completions(sides, sides, seed=0, permutations=99)
    assert result.statistic == pytest.approx(0)
    assert result.p_value == 1


def test_the_false_positive_rate_is_kept():
    """200 pairs of the same source at 5 %: more than 20 would have odds of 1 in 1,600."""
    rejected = sum(
        compare_completions(
            completions(2 * i, 6), completions(2 * i + 1, 6), permutations=199, seed=i
        ).p_value
        <= 0.05
        for i in range(200)
    )
    assert 1 <= rejected <= 20


# The third is for texts of one token.
@pytest.mark.parametrize("kernel", ["hamming", "ngram"])
def test_another_model_is_seen_and_the_prompt_named(kernel):
    one, two = completions(1, 10), completions(2, 10)
    two["p2"] = completions(3, 10, bias=0.9)["p2"]
    result = compare_completions(one, two, kernel=kernel, permutations=999, seed=5)
    assert result.p_value == 0.001
    assert result.prompts[0].prompt == "p2"
    assert (result.reference, result.other) == (40, 40)


def test_a_prompt_without_two_answers_on_both_sides_is_named():
    one, two = completions(1, 4), completions(2, 4)
    two["p1"] = two["p1"][:1]
    del two["p3"]
    assert compare_completions(one, two, permutations=9, seed=0).left_out == ("p1", "p3")
    with pytest.raises(UsageError, match="no prompt has two"):
        compare_completions({"p": ["a", "b"]}, {"q": ["a", "b"]}, seed=0)


def test_the_same_seed_gives_the_same_result():
    one, two = completions(1, 5), completions(2, 5)
    results = {compare_completions(one, two, permutations=99, seed=7).p_value for _ in range(3)}
    assert len(results) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=300), min_size=2, max_size=6))
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_similarities(kernel, texts):
    similar = KERNELS[kernel](texts)
    assert np.allclose(similar, similar.T)
    assert np.allclose(np.diag(similar), 1)
    assert similar.min() >= 0
    assert similar.max() <= 1 + 1e-9
    assert np.linalg.eigvalsh(similar).min() > -1e-9


@given(st.floats(1e-6, 0.5), st.integers(1, 20))
def test_looks_spend_the_error_rate_and_no_more(alpha, count):
    looks = plan_looks(alpha, count)
    assert sum(look.alpha for look in looks) == pytest.approx(alpha)
    assert looks[-1].samples == 1
    assert [look.samples for look in looks] == sorted(look.samples for look in looks)


@pytest.mark.parametrize(("alpha", "count"), [(0, 1), (1, 1), (0.05, 0)])
def test_no_plan(alpha, count):
    with pytest.raises(UsageError):
        plan_looks(alpha, count)
