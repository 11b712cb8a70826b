from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from r1prov.endpoints.comparison import Names, text_result
from r1prov.endpoints.result import Outcome
from r1prov.endpoints.text_statistics import (
    MIN_PROMPTS,
    STATISTICS,
    WINDOW_WORDS,
    clause_words,
    compare_texts,
    lexical_diversity,
    repetition,
    sentence_words,
    words,
)
from r1prov.errors import UsageError


def text(draw: random.Random, count: int, vocabulary: int) -> str:
    return " ".join(f"w{draw.randrange(vocabulary)}" for _ in range(count))


def test_words_of_both_languages():
    assert words("It's 2 o’clock, Über!") == ["it's", "2", "o’clock", "über"]
    assert words("天空是蓝色的。") == ["天空", "是", "蓝色", "的"]
    assert words("… 、 !") == []


def test_diversity_does_not_depend_on_length():
    draw = random.Random(1)
    short, long = (lexical_diversity(text(draw, count, 200)) for count in (400, 8000))
    assert short == pytest.approx(long, abs=0.02)
    assert lexical_diversity("word " * 500) == 1 / WINDOW_WORDS
    assert lexical_diversity(text(draw, WINDOW_WORDS - 1, 200)) is None


def test_diversity_is_the_mean_over_windows():
    draw = random.Random(2)
    tokens = text(draw, 130, 40).split()
    windows = [tokens[i : i + WINDOW_WORDS] for i in range(len(tokens) - WINDOW_WORDS + 1)]
    expected = sum(len(set(window)) for window in windows) / len(windows) / WINDOW_WORDS
    assert lexical_diversity(" ".join(tokens)) == pytest.approx(expected)


def test_repetition():
    assert repetition("a b c d " * 30) == pytest.approx(113 / 117)
    assert repetition(" ".join(f"w{i}" for i in range(100))) == 0
    assert repetition("too short") is None


def test_sentences_and_clauses():
    assert sentence_words("One two three. Four (five)! 六七。") == pytest.approx((3 + 2 + 1) / 3)
    assert clause_words("one, two three; four") == pytest.approx(4 / 3)
    assert sentence_words("3.14 is not two sentences.") == 6
    assert sentence_words("…") is None


def sides(seed: int, vocabulary: int) -> dict[str, list[str]]:
    draw = random.Random(seed)
    return {f"p{i}": [text(draw, 120, vocabulary) for _ in range(8)] for i in range(5)}


def test_another_vocabulary_is_outside_the_interval():
    found = {one.statistic: one for one in compare_texts(sides(1, 60), sides(2, 120), seed=0)}
    one = found["lexical diversity"]
    assert 0 < one.low < one.difference < one.high
    assert one.p_value < 0.001
    assert one.difference == pytest.approx(one.other - one.reference)
    assert (one.prompts, one.texts) == (5, (40, 40))
    assert one.confidence == pytest.approx(0.99)


def test_intervals_and_p_values_err_as_seldom_as_they_say():
    """60 comparisons of one source, 5 statistics each, together at 5 %: 8 is odds of 1 in 200."""
    missed = rejected = 0
    for i in range(60):
        found = compare_texts(sides(2 * i, 60), sides(2 * i + 1, 60), resamples=399, seed=i)
        missed += any(one.low > 0 or one.high < 0 for one in found)
        rejected += any(one.p_value <= 0.01 for one in found)
    assert missed <= 10
    assert rejected <= 8


@given(st.lists(st.floats(-1e3, 1e3), min_size=1), st.lists(st.floats(-1e3, 1e3), min_size=1))
def test_the_distance_is_that_of_scipy(left, right):
    import numpy as np

    from r1prov.endpoints.text_statistics import _wasserstein

    theirs = stats.wasserstein_distance(left, right)
    assert _wasserstein(np.array(left), np.array(right)) == pytest.approx(theirs, abs=1e-6)


@given(st.text())
def test_any_text_has_statistics_or_none(any_text):
    for statistic in STATISTICS.values():
        value = statistic(any_text)
        assert value is None or value >= 0


def test_nothing_to_compare():
    with pytest.raises(UsageError):
        compare_texts({"a": ["text"]}, {"b": ["text"]}, seed=0)
    found = compare_texts({"a": ["short"]}, {"a": ["shorter"]}, resamples=9, seed=0)
    assert "lexical diversity" not in {one.statistic for one in found}


@pytest.mark.parametrize("prompts", [1, 2, 3])
def test_few_prompts_have_no_intervals(prompts):
    texts = {f"p{n}": ["one two three. four five.", "six. seven eight."] for n in range(prompts)}
    result = text_result(texts, texts, seed=0, names=Names())
    few = prompts < MIN_PROMPTS
    assert result.outcome is (Outcome.NOT_TESTABLE if few else Outcome.DESCRIPTION)
    assert bool(result.statistics) is not few
