"""Border inputs: how they are chosen, and what their answers come to."""

from __future__ import annotations

import pytest

from r1prov.endpoints.border import (
    GAP,
    LEAST_PROMPTS,
    MAX_CANDIDATES,
    PROMPTS,
    border_result,
    candidates,
    gap_of,
    nearest,
)
from r1prov.endpoints.comparison import LOGPROB_TOLERANCE, Names
from r1prov.endpoints.prompt_set import Prompt, builtin_prompts
from r1prov.endpoints.reference import Completion
from r1prov.endpoints.result import Outcome
from r1prov.endpoints.sampling import Samples


def answers(tokens, count=3):
    return {
        f"p{number}": [Completion(reasoning="", content=token)] * count
        for number, token in enumerate(tokens)
    }


def result(ours, theirs, *, alpha=0.005):
    return border_result(
        ours, Samples(completions=theirs), dict.fromkeys(ours, 0.1),
        alpha=alpha, seed=0, names=Names(),
    )  # fmt: skip


def test_candidates_are_the_words_of_the_prompts():
    found = candidates([Prompt("a", "How, how tall?"), Prompt("b", "为什么？ how")])
    assert [one.text for one in found] == ["How", "how", "tall", "为什么"]
    assert len({one.id for one in found}) == 4
    assert len(candidates(builtin_prompts())) > 100
    many = " ".join(f"w{n}" for n in range(2 * MAX_CANDIDATES))
    assert len(candidates([Prompt("a", many)])) == MAX_CANDIDATES


def test_the_gap_is_between_the_two_likeliest():
    assert gap_of([{"a": -2.0, "b": -0.5, "c": -0.75}]) == 0.25
    assert gap_of([{"a": -1.0, "b": -1.5}, {"a": -1.0, "b": -1.25}]) == pytest.approx(0.375)
    assert gap_of([]) is gap_of([{"a": -0.1}]) is None


def test_ties_that_kernels_tip_over_and_clear_cases_are_left_out():
    gaps = {"tie": 0.01, "clear": GAP[1] * 2, "near": GAP[0] * 1.01, "farther": GAP[1] * 0.99}
    listed = {name: [{"a": -0.5, "b": -0.5 - gap}] for name, gap in gaps.items()}
    assert nearest(listed) == ["near", "farther"]
    assert GAP[0] == 2 * LOGPROB_TOLERANCE
    many = {f"p{n}": [{"a": -0.5, "b": -0.6 - n / 1000}] for n in range(2 * PROMPTS)}
    assert nearest(many) == [f"p{n}" for n in range(PROMPTS)]


def test_the_same_tokens_are_no_difference():
    found = result(answers("abcdefgh"), answers("abcdefgh"))
    assert (found.outcome, found.decisive, found.findings) == (Outcome.CONSISTENT, False, ())
    assert found.error_rates is not None
    assert found.error_rates.alpha == 0.005
    assert (found.samples, found.statistics["other_first_token"]) == (24, 0)


@pytest.mark.parametrize(("tipped", "outcome"), [(1, "consistent"), (4, "inconsistent")])
def test_one_token_is_none_and_several_are(tipped, outcome):
    found = result(answers("abcdefgh"), answers("x" * tipped + "abcdefgh"[tipped:]))
    assert (found.outcome.value, found.decisive) == (outcome, tipped > 1)
    assert found.statistics["other_first_token"] == tipped
    assert [one.rule.name for one in found.findings] == ["border-inputs-differ"] * (tipped > 1)
    assert "quantized weights" in " ".join(found.benign)


def test_too_few_to_tell_is_said():
    few = "abcdefgh"[: LEAST_PROMPTS - 1]
    found = result(answers(few), answers("x" * len(few)))
    assert (found.outcome, found.decisive) == (Outcome.NOT_TESTABLE, False)
    assert found.summary == f"{len(few)} border inputs are too few to tell"
    assert result(answers("abcdefgh"), {}).outcome is Outcome.NOT_TESTABLE
    # No labelling of these reaches so small a rate.
    rare = result(answers("abcdefgh"), answers("xxxxxxxx"), alpha=1e-6)
    assert rare.outcome is Outcome.NOT_TESTABLE
