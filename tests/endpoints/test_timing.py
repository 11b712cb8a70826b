from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.endpoints.comparison import timing_result
from r1prov.endpoints.timing import MIN_MODALITY_SAMPLES, StreamTimes, describe_times, phases
from r1prov.errors import UsageError


def test_one_peak_with_a_long_tail_is_one_peak():
    draw = random.Random(1)
    times = describe_times([draw.lognormvariate(0, 1) for _ in range(400)])
    assert times.modality is not None
    assert times.modality.p_value > 0.2
    assert times.quantiles[0.5] == pytest.approx(1, abs=0.2)


def test_two_kinds_of_answers_have_two_peaks():
    draw = random.Random(2)
    values = [draw.lognormvariate(0, 0.2) + 3 * (i % 2) for i in range(400)]
    modality = describe_times(values).modality
    assert modality is not None
    assert modality.p_value < 0.001


def test_too_few_times_have_no_modality():
    assert describe_times([1.0] * (MIN_MODALITY_SAMPLES - 1)).modality is None


def test_pieces_that_came_together_are_no_second_peak():
    draw = random.Random(3)
    values = [draw.lognormvariate(-3, 0.5) * (i % 4 > 0) for i in range(400)]
    times = describe_times(values)
    assert (times.samples, times.together) == (400, 100)
    assert times.modality is not None
    assert times.modality.samples == 300
    assert times.modality.p_value > 0.2
    assert describe_times([0.0] * 100).modality is None


@pytest.mark.parametrize("tick", [0.001, 0.004])
def test_the_ticks_of_a_coarse_clock_are_no_peaks(tick):
    draw = random.Random(4)
    values = [round(draw.lognormvariate(-3.5, 0.5) / tick) * tick for _ in range(2000)]
    times = describe_times(values)
    assert times.modality is not None
    assert times.modality.p_value > 0.2
    assert times == describe_times(values)
    slow = [value * (4 if i % 2 else 1) for i, value in enumerate(values)]
    found = describe_times(slow).modality
    assert found is not None
    assert found.p_value < 0.001


def test_what_is_too_few_to_tell_is_said():
    result = timing_result(
        {"total": [1.0, 2.0], "reasoning": [1.0] * 30}, answers=2, side="endpoint"
    )
    assert result.summary.endswith("too few for peaks (below 20): total")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_any_times_are_described(seconds):
    times = describe_times(seconds)
    quantiles = list(times.quantiles.values())
    assert quantiles == sorted(quantiles)
    assert min(seconds) <= times.quantiles[0.5] <= max(seconds)


@pytest.mark.parametrize("seconds", [[], [-1.0], [float("nan")], [float("inf")]])
def test_no_times(seconds):
    with pytest.raises(UsageError):
        describe_times(seconds)


def test_phases_are_told_apart():
    streams = [
        StreamTimes(reasoning=(1.0, 1.5, 1.75), answer=(2.0, 2.25), end=2.5),
        StreamTimes(reasoning=(), answer=(0.5,), end=0.5),
        StreamTimes(reasoning=(), answer=(), end=9.0),
    ]
    assert phases(streams) == {
        "first piece": [1.0, 0.5],
        "reasoning": [0.75],
        "between reasoning pieces": [0.5, 0.25],
        "answer": [0.25, 0.0],
        "between answer pieces": [0.25],
        "total": [2.5, 0.5, 9.0],
    }
    assert phases([]) == {}
