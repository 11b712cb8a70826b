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
    one = {"p": [{"yes": -0.1, "no": -3.0, "so": -5.0}] * 4}
    two = {"p": [{"yes": -0.1, "non": -3.0, "so": -5.0}] * 4}
    result = compare_logprobs(one, two, permutations=999, seed=0)
    # Each is taken for the last of the other's list: 2 of 4 tokens differ by 2.
    assert result.difference == pytest.approx(1)
    assert result.p_value == pytest.approx(2 / math.comb(8, 4), abs=0.02)


def test_answers_that_list_nothing_are_none():
    one: dict[str, list[dict[str, float]]] = {
        "p": [{}, {"a": -0.1}, {"a": -0.1}], "q": [{}, {}],
    }  # fmt: skip
    result = compare_logprobs(one, one, permutations=99, seed=0)
    assert (result.prompts, result.reference, result.difference) == (1, 2, 0)
    with pytest.raises(UsageError, match="twice on both sides"):
        compare_logprobs({"p": [{}] * 4}, {"p": [{"a": -1.0}] * 4}, seed=0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_host_that_lists_fewer_tokens_is_no_other(count):
    """Hosts cap the list as they please, whatever was asked for."""
    draw = random.Random(count)
    whole = {
        f"p{n}": [{f"t{i}": -0.2 - i * (1 + n / 10) for i in range(20)}] * 2 for n in range(12)
    }
    short = {
        name: [dict(list(one.items())[:count]) for one in answers]
        for name, answers in whole.items()
    }
    result = compare_logprobs(whole, short, permutations=999, seed=0)
    assert (result.difference, result.p_value) == (0, 1)
    moved = {
        name: [{t: v + draw.gauss(0, 0.3) for t, v in one.items()} for one in answers[:1]] * 2
        for name, answers in short.items()
    }
    assert compare_logprobs(whole, moved, permutations=999, seed=0).p_value == 0.001


def test_the_end_of_a_list_makes_no_difference_of_its_own():
    """Two tokens that are as likely change places at the end of a list."""
    one = {"p": [{"a": -0.1, "b": -4.0}, {"a": -0.1, "b": -4.0}]}
    two = {"p": [{"a": -0.1, "c": -4.001}, {"a": -0.1, "b": -4.0}]}
    assert compare_logprobs(one, two, permutations=99, seed=0).difference < 0.001


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
