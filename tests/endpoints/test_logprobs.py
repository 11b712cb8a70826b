from __future__ import annotations

import math
import random

import pytest

from r1prov.endpoints.logprobs import compare_logprobs
from r1prov.errors import UsageError

TOKENS = ["the", "a", "yes", "no", "好"]


def answers(seed: int, per_prompt: int, *, prompts: int = 8, shift: float = 0.0, noise: float):
    """Answers of one model: a fixed truth a prompt, `shift` for other weights, noise a request."""
    draw = random.Random(seed)
    truth = {
        (prompt, token): random.Random(f"{prompt} {token}").uniform(-8, 0)
        + shift * random.Random(f"{prompt} {token} other").choice([-1, 1])
        for prompt in range(prompts)
        for token in TOKENS
    }
    return {
        f"p{prompt}": [
            {token: truth[prompt, token] + draw.gauss(0, noise) for token in TOKENS}
            for _ in range(per_prompt)
        ]
        for prompt in range(prompts)
    }


def test_other_weights_are_seen_far_above_the_noise():
    result = compare_logprobs(
        answers(1, 2, noise=0.001), answers(2, 2, shift=0.1, noise=0.001), seed=0
    )
    assert result.p_value < 0.001
    assert result.difference == pytest.approx(0.1, abs=0.002)
    assert result.noise < 0.002
    assert (result.prompts, result.reference, result.other) == (8, 16, 16)


def test_the_false_positive_rate_is_kept():
    """200 pairs of the same weights at 5 %: more than 20 would have odds of 1 in 1,600."""
    rejected = sum(
        compare_logprobs(
            answers(2 * i, 3, noise=0.01),
            answers(2 * i + 1, 3, noise=0.01),
            permutations=199,
            seed=i,
        ).p_value
        <= 0.05
        for i in range(200)
    )
    assert 1 <= rejected <= 20


def test_the_same_numbers_differ_by_nothing():
    same = answers(1, 2, noise=0.0)
    result = compare_logprobs(same, same, permutations=99, seed=0)
    assert (result.difference, result.noise, result.p_value) == (0, 0, 1)


def test_a_token_that_one_side_never_lists_counts():
    one = {"p": [{"yes": -0.1, "no": -3.0}] * 4}
    two = {"p": [{"yes": -0.1, "non": -3.0}] * 4}
    result = compare_logprobs(one, two, permutations=999, seed=0)
    assert result.difference > 0
    assert result.p_value == pytest.approx(2 / math.comb(8, 4), abs=0.02)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({}, {}),
        ({"p": [{"a": -1.0}] * 2}, {"q": [{"a": -1.0}] * 2}),
        ({"p": [{"a": -1.0}] * 2}, {"p": [{"a": -1.0}]}),
        ({"p": [{"a": float("nan")}] * 2}, {"p": [{"a": -1.0}] * 2}),
        ({"p": [{"a": float("-inf")}] * 2}, {"p": [{"a": -1.0}] * 2}),
    ],
)
def test_nothing_to_compare(one, two):
    with pytest.raises(UsageError):
        compare_logprobs(one, two, permutations=9, seed=0)
