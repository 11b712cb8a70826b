"""The form of answers: fields, sums, names, fingerprints; contexts and parameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from persona_client import ask

from r1prov.endpoints.answer import Answer, Delta, Part, ReasoningShape, Usage
from r1prov.endpoints.result import Outcome
from r1prov.endpoints.service import (
    PARAMETER_PROBES,
    context_prompt,
    context_test,
    parameter_test,
)
from r1prov.endpoints.structure import (
    fingerprint_test,
    model_name_test,
    reasoning_test,
    structure_tests,
    usage_arithmetic_test,
)

REASONING = "Let me think about this for a moment before I say anything at all."
SOUND = Answer(
    status=200,
    asked_model="deepseek-reasoner",
    model="deepseek-reasoner",
    reasoning=REASONING,
    content="42.",
    shape=ReasoningShape.REASONING_CONTENT,
    deltas=(Delta(Part.REASONING, REASONING), Delta(Part.CONTENT, "42.")),
    usage=Usage(prompt_tokens=10, completion_tokens=20, total_tokens=30),
    fields=frozenset({"role", "content", "reasoning_content"}),
)


def names(result):
    return [one.rule.name for one in result.findings]


def test_a_sound_answer():
    for result in structure_tests([SOUND, SOUND]):
        assert result.findings == ()
        assert not result.decisive
        assert result.outcome in (Outcome.CONSISTENT, Outcome.NOT_TESTABLE)


def test_reasoning_that_is_missing():
    bare = replace(SOUND, reasoning="", shape=ReasoningShape.NONE, deltas=SOUND.deltas[1:])
    result = reasoning_test([bare])
    assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["reasoning-missing"])
    # One answer in three without it: R1 does so now and then.
    result = reasoning_test([SOUND, SOUND, bare])
    assert (result.outcome, result.findings) == (Outcome.CONSISTENT, ())
    assert result.statistics["answers_with_reasoning"] == 2


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        ("DeepSeek-R1", Outcome.INCONSISTENT),
        ("deepseek-r1-0528", Outcome.INCONSISTENT),
        ("DeepSeek-R1-Distill-Qwen-7B", Outcome.INCONSISTENT),
        ("DeepSeek-V3", Outcome.DESCRIPTION),
        ("DeepSeek-V3.1", Outcome.DESCRIPTION),
    ],
)
def test_reasoning_is_missed_where_the_claimed_model_has_some(claim, outcome):
    bare = replace(SOUND, reasoning="", shape=ReasoningShape.NONE, deltas=SOUND.deltas[1:])
    result = structure_tests([bare], claim=claim)[0]
    assert result.outcome is outcome
    assert bool(result.findings) is (outcome is Outcome.INCONSISTENT)
    assert structure_tests([SOUND], claim=claim)[0].outcome is not Outcome.INCONSISTENT


def test_what_gives_a_distill_away_is_no_matter_where_one_is_claimed():
    told = replace(
        SOUND, model="deepseek-r1-distill-qwen-7b", asked_model="r1", fingerprint="fp_ollama"
    )
    of_r1 = structure_tests([told])
    assert [one.outcome for one in of_r1[2:]] == [Outcome.INCONSISTENT] * 2
    of_distill = structure_tests([told], claim="DeepSeek-R1-Distill-Qwen-7B")
    assert [one.outcome for one in of_distill[2:]] == [Outcome.DESCRIPTION] * 2
    # The distill of 0528 does not have the word in its name.
    other = replace(SOUND, model="DeepSeek-R1-0528-Qwen3-8B")
    assert model_name_test([other]).outcome is Outcome.INCONSISTENT


def test_reasoning_that_is_none():
    copied = replace(SOUND, reasoning="42.", deltas=SOUND.deltas)
    for answer in (copied, replace(SOUND, reasoning=" ok ")):
        result = reasoning_test([answer])
        assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["reasoning-implausible"])


def test_a_field_that_exists_nowhere():
    sent = replace(SOUND, fields=frozenset({"content", "deep_thoughts"}))
    (found,) = reasoning_test([sent]).findings
    assert (found.rule.name, found.expected) == ("no-such-field", "`reasoning_content`")
    assert "the endpoint sends" in found.message
    # Every audit says so: guides tell readers to look for it.
    for answers in ([sent], [SOUND], [replace(SOUND, reasoning="")]):
        summary = reasoning_test(answers).summary
        assert "`deep_thoughts`, which guides tell of, is in no API" in summary


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        (Usage(prompt_tokens=1, completion_tokens=2, total_tokens=4), "prompt plus completion"),
        (Usage(prompt_tokens=9, cache_hit_tokens=4, cache_miss_tokens=4), "hits plus misses"),
        (Usage(prompt_tokens=9, cached_tokens=10), "more cached than prompt"),
        (Usage(completion_tokens=9, reasoning_tokens=10), "more reasoning than completion"),
    ],
)
def test_sums_that_are_wrong(usage, message):
    result = usage_arithmetic_test([SOUND, replace(SOUND, usage=usage)])
    assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["usage-arithmetic"])
    assert message in result.findings[0].message
    assert result.statistics["wrong_sums"] == 1


def test_counts_that_are_missing():
    result = usage_arithmetic_test([replace(SOUND, usage=None)])
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["usage-missing"])


@pytest.mark.parametrize(
    ("model", "outcome"),
    [
        ("deepseek-ai/DeepSeek-R1", Outcome.DESCRIPTION),
        ("DeepSeek-R1-Distill-Qwen-32B", Outcome.INCONSISTENT),
    ],
)
def test_another_name_in_the_answer(model, outcome):
    result = model_name_test([SOUND, replace(SOUND, model=model)])
    assert (result.outcome, names(result)) == (outcome, ["model-not-echoed"])
    asked = replace(SOUND, asked_model="my-distill", model=model)
    assert model_name_test([asked]).outcome is Outcome.DESCRIPTION
    assert model_name_test([replace(SOUND, model=None)]).outcome is Outcome.NOT_TESTABLE


def test_fingerprints():
    result = fingerprint_test([replace(SOUND, fingerprint=one) for one in ("a", "a", "b", "a")])
    assert (result.outcome, names(result)) == (Outcome.DESCRIPTION, ["fingerprint-changed"])
    assert result.statistics == {"fingerprints": 2, "changes": 2}
    ollama = replace(SOUND, fingerprint="fp_ollama")
    result = fingerprint_test([ollama])
    assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["other-server"])
    full = replace(ollama, asked_model="deepseek-r1:671b")
    assert fingerprint_test([full]).outcome is Outcome.DESCRIPTION
    assert fingerprint_test([SOUND]).outcome is Outcome.NOT_TESTABLE


@pytest.mark.parametrize("refuses", [True, False])
def test_parameters_that_are_refused(start, refuses):
    server = start("honest-r1", refuses=refuses)
    answers = [
        (one, ask(server.url, "q", max_tokens=1, **dict[str, Any](one.fields)))
        for one in PARAMETER_PROBES
    ]
    result = parameter_test(answers)
    assert (result.outcome, result.samples) == (Outcome.DESCRIPTION, 5)
    assert names(result) == ([] if refuses else ["parameter-behaviour"] * 3)
    assert result.statistics["refused_logprobs"] == float(refuses)
    assert parameter_test([]).outcome is Outcome.NOT_TESTABLE


def test_a_parameter_that_should_be_ignored_and_is_refused():
    (probe,) = (one for one in PARAMETER_PROBES if one.name == "temperature")
    result = parameter_test([(probe, Answer(status=400, error="temperature must be 1"))])
    assert result.findings[0].message == "the endpoint refuses `temperature`"


def test_the_context(start, r1):
    prompt = context_prompt(4000)
    assert r1.count(prompt) == 4000
    server = start("honest-r1")
    answer = ask(server.url, prompt, max_tokens=1)
    assert context_test(answer, tokens=4000).outcome is Outcome.CONSISTENT
    cut = replace(SOUND, usage=Usage(prompt_tokens=2048))
    for small in (cut, Answer(status=400, error="maximum context length is 2048 tokens")):
        result = context_test(small, tokens=8000)
        assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["context-smaller"])
        assert not result.decisive
    assert context_test(Answer(status=503)).outcome is Outcome.NOT_TESTABLE
    assert context_test(Answer(status=429, error="slow down")).outcome is Outcome.NOT_TESTABLE
