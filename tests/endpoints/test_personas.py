"""Every persona is named for what it is, over real HTTP and server-sent events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from persona_client import ask
from personas import PERSONAS

from r1prov.endpoints.result import Outcome, TestResult
from r1prov.endpoints.structure import structure_tests
from r1prov.endpoints.tokens.added import (
    added_token_requests,
    added_token_test,
    template_overhead_test,
)
from r1prov.endpoints.tokens.boundaries import boundary_test
from r1prov.endpoints.tokens.contradiction import tokenizer_verdict
from r1prov.endpoints.tokens.explain import Observation, observe
from r1prov.endpoints.tokens.prompts import needed, prompt_token_test
from r1prov.endpoints.tokens.recount import recount_test

CLAIM = "DeepSeek-R1"
# Seeds of the corpus: English and Chinese by turns of chance.
QUESTIONS = tuple(f"question {number}" for number in range(8))
YES, NO, MUTE = Outcome.CONSISTENT, Outcome.INCONSISTENT, Outcome.NOT_TESTABLE


@dataclass(frozen=True)
class Audit:
    """Results by name, and what the server was asked."""

    results: dict[str, TestResult]
    requests: int

    def outcome(self, *names: str) -> tuple[Outcome, ...]:
        return tuple(self.results[name].outcome for name in names)

    def rules(self, name: str) -> list[str]:
        return [one.rule.name for one in self.results[name].findings]


def audit(server, r1, *, questions=QUESTIONS):
    """The tests of this package in the order in which they depend on each other."""
    half = len(questions) // 2
    streams = [ask(server.url, one, stream=True) for one in questions[:half]]
    seen: list[Observation] = []
    while asks := needed(seen, claim=CLAIM) or added_token_requests(seen, claim=CLAIM):
        seen += [
            observe(one.probe.id, ask(server.url, one.probe.text, max_tokens=1), round=one.round)
            for one in asks
        ]
    streams += [ask(server.url, one, stream=True) for one in questions[half:]]
    prompts = prompt_token_test(seen, claim=CLAIM)
    scale = prompts.statistics.get("scale", 1.0) if prompts.outcome is YES else 1.0
    passive = [boundary_test(streams, r1), recount_test(streams, r1, scale=scale)]
    found = [
        prompts,
        added_token_test(seen, claim=CLAIM),
        template_overhead_test(seen, claim=CLAIM),
        *passive,
        tokenizer_verdict(prompts, passive, claim=CLAIM),
        *structure_tests(streams),
    ]
    assert all(not one.faults for one in streams)
    return Audit({one.name: one for one in found}, len(server.requests))


TOKENIZER = ("prompt-tokens", "delta-boundaries", "completion-recount", "tokenizer")


@pytest.mark.parametrize(
    "name",
    ["honest-r1", "think-tags", "think-end-tag", "reasoning-field", "hidden-system-prompt"],
)
def test_an_honest_endpoint_passes_every_test(start, r1, name):
    found = audit(start(name), r1)
    assert found.outcome(*TOKENIZER) == (YES, YES, YES, YES)
    assert (
        found.outcome("added-tokens", "reasoning", "usage-arithmetic", "model-name") == (YES,) * 4
    )
    assert found.requests == len(QUESTIONS) + 5
    # A hidden system prompt is a constant, and is told as no more than that.
    hidden = name == "hidden-system-prompt"
    assert found.rules("template-overhead") == (["template-overhead"] if hidden else [])
    others = (
        rule for one in found.results if one != "template-overhead" for rule in found.rules(one)
    )
    assert list(others) == []
    shape = {"think-tags": "think-tags", "think-end-tag": "think-end-tag",
             "reasoning-field": "reasoning"}.get(name, "reasoning_content")  # fmt: skip
    assert found.results["reasoning"].statistics[f"shape_{shape}"] == len(QUESTIONS)


@pytest.mark.parametrize(
    ("name", "family"), [("distill-qwen", "qwen2"), ("distill-llama", "llama-3")]
)
def test_a_distill_behind_the_name_of_r1_is_named(start, r1, name, family):
    found = audit(start(name), r1)
    assert found.outcome(*TOKENIZER) == (NO, NO, NO, NO)
    assert found.results["tokenizer"].decisive
    assert found.rules("tokenizer") == ["tokenizer-contradiction"]
    assert found.results["prompt-tokens"].findings[0].found == family
    assert found.outcome("added-tokens") == (MUTE,)
    assert not any(one.decisive for key, one in found.results.items() if key != "tokenizer")


@pytest.mark.parametrize(("name", "member"), [("v3", "deepseek-v3"), ("v3.1", "deepseek-v3.1")])
def test_another_model_of_the_family_shows_in_its_added_tokens(start, r1, name, member):
    found = audit(start(name), r1)
    assert found.outcome("prompt-tokens", "tokenizer", "added-tokens") == (YES, YES, NO)
    assert found.rules("added-tokens") == ["added-tokens-other-model"]
    assert member in found.results["added-tokens"].summary
    assert found.rules("template-overhead") == ["template-overhead"]


@pytest.mark.parametrize(
    ("name", "prompts", "recount", "rule"),
    [
        ("affine-billing", YES, YES, "usage-scaled"),
        ("rounded", YES, YES, "usage-rounded"),
        ("chars-over-4", MUTE, MUTE, "usage-estimated"),
        ("constant", MUTE, MUTE, "usage-constant"),
        ("no-usage", MUTE, MUTE, "usage-missing"),
    ],
)
def test_a_gateway_that_rewrites_usage_is_named_and_not_accused(
    start, r1, name, prompts, recount, rule
):
    found = audit(start(name), r1)
    assert found.outcome(*TOKENIZER) == (prompts, YES, recount, YES)
    assert rule in found.rules("prompt-tokens")
    assert found.results["added-tokens"].requests == 0
    assert not found.results["tokenizer"].decisive


def test_usage_without_the_reasoning_is_named(start, r1):
    found = audit(start("usage-without-reasoning"), r1)
    assert found.outcome(*TOKENIZER) == (YES, YES, YES, YES)
    assert found.rules("completion-recount") == ["usage-without-reasoning"]


def test_a_distill_behind_an_estimating_gateway_is_caught_by_its_stream(start, r1):
    found = audit(start("distill-estimated-usage"), r1)
    assert found.outcome(*TOKENIZER) == (MUTE, NO, MUTE, NO)
    # One test alone is not decisive.
    assert not found.results["tokenizer"].decisive


def test_usage_that_is_faked_over_the_stream_of_a_distill(start, r1):
    found = audit(start("distill-spoofed-usage"), r1)
    assert found.outcome(*TOKENIZER) == (YES, NO, YES, NO)
    assert found.rules("tokenizer") == ["usage-spoofed"]
    assert not found.results["tokenizer"].decisive


@pytest.mark.parametrize("name", ["word-chunks", "fixed-chunks", "one-chunk"])
def test_a_relay_that_cuts_the_stream_anew_is_not_accused(start, r1, name):
    found = audit(start(name), r1)
    assert found.outcome(*TOKENIZER) == (YES, MUTE, YES, YES)
    assert found.rules("delta-boundaries") == ["stream-rechunked"]


def test_batched_deltas_are_tested_all_the_same(start, r1):
    found = audit(start("batched"), r1, questions=[f"batched {n}" for n in range(14)])
    assert found.outcome(*TOKENIZER) == (YES, YES, YES, YES)


def test_a_model_that_is_swapped_half_way_is_noticed(start, r1):
    # Four streams and the probes by R1, and then the distill.
    found = audit(start("honest-r1", "distill-qwen", swap_after=9), r1)
    assert found.outcome("prompt-tokens", "delta-boundaries") == (YES, NO)
    assert "tokenizer-changed" in found.rules("delta-boundaries")
    # The probes fall into the swap: some are counted by one and some by the other.
    found = audit(start("honest-r1", "distill-qwen", swap_after=6), r1)
    assert found.outcome("prompt-tokens", "delta-boundaries") == (NO, NO)
    assert "tokenizer-changed" in found.rules("prompt-tokens")
    assert "tokenizer-changed" in found.rules("delta-boundaries")


def test_reasoning_that_is_missing_or_in_a_field_that_exists_nowhere(start, r1):
    found = audit(start("no-reasoning"), r1)
    assert found.rules("reasoning") == ["reasoning-missing"]
    found = audit(start("deep-thoughts"), r1)
    assert found.rules("reasoning") == ["no-such-field", "reasoning-missing"]
    # Hidden text is counted: that is no contradiction.
    assert found.outcome("completion-recount", "tokenizer") == (MUTE, YES)


def test_ollama_gives_itself_away(start, r1):
    found = audit(start("ollama-distill"), r1)
    assert found.rules("fingerprint") == ["other-server"]
    assert found.results["tokenizer"].decisive


@pytest.mark.parametrize("name", ["distill-recount-rechunk", "quantized"])
def test_the_blind_spots(start, r1, name):
    """Neither counts nor deltas show a relay that makes both anew, nor rounded weights."""
    found = audit(start(name), r1)
    assert found.outcome(*TOKENIZER) == (YES, YES, YES, YES)
    limits = " ".join(found.results["tokenizer"].cannot_tell)
    assert "cuts the stream anew with the claimed tokenizer" in limits
    assert "quantized" in limits


def test_every_persona_is_tested_here():
    text = Path(__file__).read_text()
    assert [name for name in PERSONAS if f'"{name}"' not in text] == []


def test_the_server_speaks_http_as_others_do(start):
    server = start("honest-r1")
    with httpx.Client() as client:
        models = client.get(f"{server.url}/models").json()
        assert models["data"][0]["id"] == "deepseek-reasoner"
        assert client.post(f"{server.url}/chat/completions", json={}).status_code == 401
    assert ask(server.url, "q", logprobs=True).error
    whole, streamed = ask(server.url, "q"), ask(server.url, "q", stream=True)
    assert (whole.status, whole.streamed, streamed.streamed) == (200, False, True)
    assert (whole.content, whole.reasoning) == (streamed.content, streamed.reasoning)
    assert whole.usage == streamed.usage
