"""The active test: which requests it wants, and what it makes of the counts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.endpoints.answer import Answer, Usage
from r1prov.endpoints.result import Outcome
from r1prov.endpoints.tokens.added import (
    added_token_requests,
    added_token_test,
    template_overhead_test,
)
from r1prov.endpoints.tokens.explain import Kind, Observation, explain, observe
from r1prov.endpoints.tokens.fit import exact_fit
from r1prov.endpoints.tokens.prompts import needed, prompt_token_requests, prompt_token_test
from r1prov.endpoints.tokens.reference import token_reference

FAMILIES = {one.name: one for one in token_reference().counters if one.tokenizer}
ESTIMATES = {one.name: one for one in token_reference().counters if not one.tokenizer}


def run(count, **how):
    """Ask as long as the test wants to; `count` makes the tokens of a probe in a round."""
    seen: list[Observation] = []
    while asks := needed(seen, **how):
        seen += [Observation(a.probe.id, count(a.probe.id, a.round), a.round) for a in asks]
        assert len(seen) < 30
    return seen, prompt_token_test(seen, claim=how.get("claim", "DeepSeek-R1"))


def counting(counter, *, offset=5, scale=1.0):
    return lambda probe, _: math.ceil(scale * (counter.counts[probe] + offset))


def names(result):
    return [one.rule.name for one in result.findings]


def test_three_requests_settle_an_honest_endpoint():
    seen, result = run(counting(FAMILIES["deepseek-v3"]))
    assert [one.probe for one in seen] == ["base", "digits", "armenian"]
    assert (result.outcome, result.findings, result.decisive) == (Outcome.CONSISTENT, (), False)
    assert (result.samples, result.requests, result.tokens) == (3, 3, 326)
    assert result.statistics["difference_digits"] == 94
    assert result.statistics["residual_claimed"] == 0
    assert result.statistics["residual_nearest_other"] == 13.5
    assert result.statistics["offset"] == 5
    assert result.error_rates is not None
    assert "13 tokens or more" in result.error_rates.basis


@given(st.integers(0, 500), st.sampled_from(sorted(FAMILIES)))
def test_any_template_cancels(offset, name):
    _, result = run(counting(FAMILIES[name], offset=offset))
    if name == "deepseek-v3":
        assert result.outcome is Outcome.CONSISTENT
    else:
        assert result.outcome is Outcome.INCONSISTENT
        assert names(result) == ["prompt-tokens-other-tokenizer"]
        assert result.findings[0].found == name
        assert result.statistics["another_confirmed"] == 1


@given(st.sampled_from(sorted(FAMILIES)), st.floats(0.2, 8), st.integers(0, 60))
def test_any_billing_factor_is_found(name, scale, offset):
    _, result = run(counting(FAMILIES[name], offset=offset, scale=scale))
    if name == "deepseek-v3":
        assert result.outcome is Outcome.CONSISTENT
    else:
        assert result.outcome is Outcome.INCONSISTENT
        assert result.findings[-1].found == name
    if result.statistics["residual_claimed"] > 10:
        assert result.statistics["scale"] == pytest.approx(scale, rel=0.05)


@pytest.mark.parametrize("scale", [1.0, 0.25, 0.5, 1.3])
@pytest.mark.parametrize("name", sorted(ESTIMATES))
def test_an_estimate_is_named_and_accuses_nobody(name, scale):
    _, result = run(counting(ESTIMATES[name], offset=0, scale=scale))
    if name == "words" and scale < 0.5:
        # 3 to 45 tokens for prompts of 300 characters: too blunt to be told apart by everything.
        assert result.outcome in (Outcome.NOT_TESTABLE, Outcome.INCONSISTENT)
        assert result.statistics["repeated"] in (0, 1)
        return
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["usage-estimated"])
    assert ESTIMATES[name].title in result.summary


@pytest.mark.parametrize("step", [5, 8, 10, 16, 20])
@pytest.mark.parametrize("round_to", [math.ceil, math.floor, round])
def test_rounded_counts_are_held_against_what_they_can_be(step, round_to):
    def rounded(counter):
        return lambda probe, _: step * round_to((counter.counts[probe] + 5) / step)

    _, result = run(rounded(FAMILIES["deepseek-v3"]))
    assert result.outcome is Outcome.CONSISTENT
    _, result = run(rounded(FAMILIES["qwen2"]))
    assert result.outcome is Outcome.INCONSISTENT
    assert names(result) == ["usage-rounded", "prompt-tokens-other-tokenizer"]
    assert result.findings[-1].found == "qwen2"


def test_counts_rounded_beyond_use_are_not_testable():
    _, result = run(lambda p, _: 100 * math.ceil(FAMILIES["glm-4"].counts[p] / 100))
    assert (result.outcome, names(result)) == (
        Outcome.NOT_TESTABLE, ["usage-rounded", "prompt-tokens-unexplained"],
    )  # fmt: skip


def test_a_few_tokens_are_let_pass_and_no_more():
    r1 = FAMILIES["deepseek-v3"]
    for extra, holds in ((6, True), (7, False)):
        # The constant is fitted half-way, so six tokens on one probe are three each.
        seen = {"base": 11, "digits": 105 + extra, "armenian": 210}
        fit = exact_fit(r1, seen)
        assert (fit.holds, fit.offset, fit.residual) == (holds, 5 + extra / 2, extra / 2)


def test_two_explanations_are_none():
    # Qwen's tokenizers make a token of each digit and Armenian letter, and so does a counter of
    # characters: other probes tell them apart, and without those nothing is concluded.
    seen = {name: FAMILIES["qwen2"].counts[name] for name in ("base", "digits", "armenian")}
    qwen, characters = FAMILIES["qwen2"], ESTIMATES["characters"]
    assert exact_fit(qwen, seen).holds
    assert exact_fit(characters, seen).holds
    both = {name: seen[name] for name in seen} | {"english": 200, "japanese": 225}
    reference = replace(
        token_reference(), counters=(*token_reference().counters, replace(qwen, name="twin"))
    )
    found = explain(both, 0, FAMILIES["deepseek-v3"], reference)
    assert (found.kind, found.fit) == (Kind.TOO_FEW, None)


def test_missing_and_constant_counts():
    seen, result = run(lambda *_: None)
    assert (len(seen), result.outcome, names(result)) == (
        3,
        Outcome.NOT_TESTABLE,
        ["usage-missing"],
    )
    seen, result = run(lambda *_: 128)
    assert (len(seen), result.outcome, names(result)) == (
        3, Outcome.NOT_TESTABLE, ["usage-constant"],
    )  # fmt: skip


def test_counts_that_nothing_explains():
    noise = {"base": 40, "digits": 77, "armenian": 901, "english": 30, "japanese": 444,
             "georgian": 5}  # fmt: skip
    seen, result = run(lambda probe, _: noise[probe])
    assert len(seen) == 11  # six, and five of them again
    assert (result.statistics["repeated"], result.statistics["another_confirmed"]) == (1, 0)
    assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["prompt-tokens-unexplained"])
    assert not result.decisive


def test_counts_that_change_without_a_reason_are_unstable():
    step = iter(range(1000))
    _, result = run(lambda *_: 50 + 37 * next(step) % 400)
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["usage-unstable"])


def test_a_model_that_was_swapped_between_rounds():
    def swapped(probe, number):
        return FAMILIES["deepseek-v3" if number else "llama-3"].counts[probe] + 5

    _, result = run(swapped)
    assert result.outcome is Outcome.INCONSISTENT
    assert names(result) == ["usage-unstable", "tokenizer-changed"]
    assert "some with that of DeepSeek-R1" in result.summary
    assert result.statistics["repeated"] == 0


def test_a_hidden_prompt_that_changes_between_rounds_confirms_all_the_same():
    _, result = run(lambda probe, number: FAMILIES["qwen2"].counts[probe] + 5 + 40 * number)
    assert result.outcome is Outcome.INCONSISTENT
    assert names(result) == ["prompt-tokens-other-tokenizer", "usage-unstable"]
    assert result.statistics["repeated"] == 1


def test_rounds_of_two_other_models_confirm_nothing():
    def changing(probe, number):
        return FAMILIES["qwen2" if number else "llama-3"].counts[probe] + 5

    _, result = run(changing)
    assert (result.outcome, result.statistics["repeated"]) == (Outcome.INCONSISTENT, 0)
    assert "tokenizer-changed" in names(result)


def test_a_model_that_was_swapped_within_a_round():
    r1, qwen = FAMILIES["deepseek-v3"].counts, FAMILIES["qwen2"].counts
    asked = []

    def swapped(probe, _):
        asked.append(probe)
        return (r1 if len(asked) <= 2 else qwen)[probe] + 5

    _, result = run(swapped)
    assert result.outcome is Outcome.INCONSISTENT
    assert "tokenizer-changed" in names(result)


def test_without_a_repeat_nothing_is_repeated():
    seen, result = run(counting(FAMILIES["qwen2"]), confirm=False)
    assert (len(seen), result.statistics["repeated"]) == (5, 0)
    assert result.outcome is Outcome.INCONSISTENT


def test_another_claim():
    _, result = run(counting(FAMILIES["qwen2"]), claim="DeepSeek-R1-Distill-Qwen-7B")
    assert result.outcome is Outcome.CONSISTENT
    _, result = run(counting(FAMILIES["deepseek-v3"]), claim="DeepSeek-R1-Distill-Qwen-7B")
    assert result.findings[0].found == "deepseek-v3"


@pytest.mark.parametrize("refused", ["base", "digits", "armenian"])
@pytest.mark.parametrize("name", ["deepseek-v3", "qwen2", "llama-3"])
def test_a_probe_that_is_refused_every_time(name, refused):
    counter = counting(FAMILIES[name])
    _, result = run(lambda probe, number: None if probe == refused else counter(probe, number))
    if name == "deepseek-v3":
        assert result.outcome in (Outcome.CONSISTENT, Outcome.NOT_TESTABLE)
    else:
        assert result.outcome is not Outcome.CONSISTENT


def test_probes_that_tell_nothing_apart_are_not_enough():
    llama = FAMILIES["llama-3"].counts
    seen = [Observation(one, llama[one]) for one in ("base", "digits", "english")]
    result = prompt_token_test(seen)
    assert result.outcome is Outcome.NOT_TESTABLE
    assert result.statistics["residual_claimed"] <= 3
    assert [one.probe.id for one in needed(seen)] == ["armenian"]


def test_the_generator_asks_for_the_same():
    counter = FAMILIES["qwen2"]
    plan = prompt_token_requests()
    asks, seen = next(plan), []
    while True:
        found = [Observation(a.probe.id, counter.counts[a.probe.id], a.round) for a in asks]
        seen += found
        try:
            asks = plan.send(found)
        except StopIteration as end:
            result = end.value
            break
    assert result == prompt_token_test(seen)
    assert [one.round for one in seen] == [0] * 5 + [1] * 5


def test_requests_that_failed_are_not_wanted_for_ever():
    plan = prompt_token_requests()
    next(plan)
    with pytest.raises(StopIteration) as end:
        plan.send([])
    assert names(end.value.value) == ["usage-missing"]


@given(st.lists(st.tuples(
    st.sampled_from(["base", "digits", "armenian", "english", "japanese", "georgian", "think"]),
    st.none() | st.integers(0, 2**63 - 1), st.integers(0, 3))))  # fmt: skip
def test_any_observations_give_a_result(seen):
    observations = [Observation(*one) for one in seen]
    result = prompt_token_test(observations)
    assert not result.decisive
    assert all(math.isfinite(value) for value in result.statistics.values())
    needed(observations)
    added_token_test(observations)
    template_overhead_test(observations)


def test_cached_prompts_are_counted_whole():
    def answer(**counts):
        return Answer(status=200, usage=Usage(**counts))

    assert observe("base", answer(cache_hit_tokens=4, cache_miss_tokens=6)).tokens == 10
    assert observe("base", answer(prompt_tokens=9)).tokens == 9
    assert observe("base", answer(completion_tokens=9)).tokens is None
    assert observe("base", Answer(status=200), round=1) == Observation("base", None, 1)


def added(model, *, offset=5, change=lambda count: count):
    reference = token_reference()
    counts = {**reference.family_of(model).counts, **reference.added_counts[model]}
    seen = [Observation(one, counts[one] + offset) for one in ("base", "digits", "armenian")]
    assert [one.probe.id for one in added_token_requests(seen)] == ["think", "search"]
    return seen + [Observation(one, change(counts[one]) + offset) for one in ("think", "search")]


def test_added_tokens_tell_members_of_the_family_apart():
    result = added_token_test(added("deepseek-r1"))
    assert (result.outcome, result.findings) == (Outcome.CONSISTENT, ())
    for model in ("deepseek-v3", "deepseek-v3.1", "deepseek-v3.2", "deepseek-v4"):
        result = added_token_test(added(model))
        assert (result.outcome, names(result)) == (
            Outcome.INCONSISTENT, ["added-tokens-other-model"],
        )  # fmt: skip
        assert model in result.summary
        assert not result.decisive
    assert added_token_test(added("deepseek-v3"), claim="DeepSeek-V3").outcome is Outcome.CONSISTENT
    # A gateway that removes them.
    result = added_token_test(added("deepseek-r1", change=lambda _: 10))
    assert (result.outcome, result.findings) == (Outcome.NOT_TESTABLE, ())


def test_added_tokens_say_nothing_where_the_family_does_not_fit():
    seen = [Observation(one, count + 5) for one, count in FAMILIES["qwen2"].counts.items()]
    assert added_token_requests(seen) == ()
    assert added_token_test(seen).outcome is Outcome.NOT_TESTABLE
    assert template_overhead_test(seen).outcome is Outcome.NOT_TESTABLE


def test_the_overhead_supports_and_never_accuses():
    assert template_overhead_test(added("deepseek-r1")).outcome is Outcome.CONSISTENT
    for offset, like in (
        (4, "deepseek-v3.1"),
        (3, "R1-0528"),
        (3, "deepseek-v3"),
        (0, "no template"),
    ):
        result = template_overhead_test(added("deepseek-r1", offset=offset))
        assert (result.outcome, names(result)) == (Outcome.DESCRIPTION, ["template-overhead"])
        assert like in result.findings[0].message
    result = template_overhead_test(added("deepseek-r1", offset=3), claim="DeepSeek-R1-0528")
    assert result.outcome is Outcome.CONSISTENT
