"""Real models on a real llama.cpp server: unrelated, quantized, and behind a relay."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from discreet import discreet
from llama_server import GGUF, serve_model
from persona_server import KEY
from relay import KnowingSpeaker, RelaySpeaker
from requantize import requantize

from r1prov.cli.app import run
from r1prov.endpoints.audit_files import load_audit, remake
from r1prov.endpoints.reference import parse_reference
from r1prov.endpoints.tokens.tokenizer import installed_tokenizer
from r1prov.manifest.shelf import load_shelf
from r1prov.responses.log_check import check_log
from r1prov.trust.store import TrustStore

SCHEMA = jsonschema.Draft202012Validator(
    json.loads(
        (Path(__file__).parents[2] / "src/r1prov/render/schema/endpoint-report-1.json").read_text()
    )
)
PROMPTS = (
    "Name a colour, and say why.",
    "What do cats like?",
    "Tell me a fact about the sea.",
    "Write the first line of a story.",
    "What is a good breakfast?",
    "Count to three.",
    "Who was Marie Curie?",
    "Is the earth round?",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model with 8-bit weights, and the same one with 4-bit weights."""
    folder = tmp_path_factory.mktemp("gguf")
    yield [requantize(GGUF, folder / f"{kind}.gguf", kind) for kind in ("Q8_0", "Q4_0")]
    for path in folder.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def real(models):
    """The URL of the model with 8-bit weights."""
    with serve_model(models[0], slots=8) as url:
        yield url


@pytest.fixture(scope="module")
def coarse(models):
    """The URL of the same model with 4-bit weights."""
    with serve_model(models[1], slots=8) as url:
        yield url


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    rng = random.Random(5)
    questions = [(rng.randint(101, 987), rng.randint(101, 987)) for _ in range(30)]
    Path("facts.jsonl").write_text(
        "\n".join(
            json.dumps(
                {
                    # So that most answers end before they are cut, which would excuse them.
                    "prompt": f"What is {a} times {b}? Answer with the number alone.",
                    "expected": str(a * b),
                    "scorer": "numeric",
                }
            )
            for a, b in questions
        )
    )
    return tmp_path


def command(*arguments):
    return run(["endpoint", *map(str, arguments), "--concurrency", "8", "--quiet"])


def reported(status):
    report = json.loads(Path("report.json").read_text())
    SCHEMA.validate(report)
    assert report["exit_status"] == status
    return report, {one["name"]: one for one in report["results"]}


FEW = ("--prompts", "prompts.txt", "--samples", 3, "--completion-tokens", 16)
JSON = ("--format", "json", "-o", "report.json")


def test_an_unrelated_model_that_claims_to_be_r1_is_refuted(place, real, start):
    """Its tokenizer is in no table: counts and deltas contradict, and a reference decides."""
    out = ("--out", "r1.json", *FEW)
    assert command("record", start("honest-r1").url, *out) == 0
    reference = ("--reference", "r1.json", "--unsigned-reference")
    asked = ("--streams", 2, "--stream-tokens", 200, "--no-parameters", "--log", "l.jsonl")
    status = command("audit", real, *asked, *reference, *JSON)
    report, results = reported(status)
    assert (status, report["verdict"]) == (1, "inconsistent")
    assert results["prompt-tokens"]["outcome"] == "inconsistent"
    assert results["prompt-tokens"]["findings"][0]["name"] == "prompt-tokens-unexplained"
    assert results["delta-boundaries"]["outcome"] == "inconsistent"
    assert results["completions"]["decisive"]
    rules = {f["name"] for one in report["results"] for f in one["findings"]}
    assert {"deltas-cut-tokens", "completions-differ", "reasoning-missing"} <= rules
    assert 0 < report["alpha"] < 0.02
    assert check_log(Path("l.jsonl")).exchanges == report["requests"] + 1  # and the list of models
    # Several requests at a time; made again without the server it comes to the same.
    r1 = installed_tokenizer(load_shelf(), claim="DeepSeek-R1")
    made = remake(
        load_audit(Path("l.jsonl")),
        trust=TrustStore((), (), ()),
        now=datetime.now(UTC),
        tokenizers=lambda _: r1,
        subject="audit",
    )
    assert made.findings == ()
    assert made.again is not None
    again = made.again.report
    assert {one.name: (one.outcome.value, one.decisive, one.samples) for one in again.results} == {
        name: (one["outcome"], one["decisive"], one["samples"]) for name, one in results.items()
    }
    assert (again.verdict.value, again.requests) == ("inconsistent", report["requests"])


def behind(start, tokenizers, persona, upstream):
    """A persona whose every word is a real model's, and which counts and cuts as R1 does."""
    server = start(persona, refuses=False)
    speaker = RelaySpeaker(server.speakers[0].persona, tokenizers)
    speaker.upstream = upstream
    server.speakers = [speaker]
    return server.url


def test_a_quantized_copy_is_told_from_a_recorded_reference(place, real, coarse, start, tokenizers):
    """Nothing but the weights differs: tokens, counts and fields are those of R1 on both sides."""
    honest = behind(start, tokenizers, "honest-r1", real)
    quantized = behind(start, tokenizers, "quantized", coarse)
    assert run(["key", "generate", "k", "--no-passphrase"]) == 0
    sampled = ("--samples", 4, "--completion-tokens", 8, "--prompts", "prompts.txt")
    assert command("record", honest, "--out", "ref.json", "--key", "k", *sampled) == 0
    reference = parse_reference(Path("ref.json").read_bytes(), subject="ref.json")
    assert len(reference.prompts) == 8
    assert {len(one.completions) for one in reference.prompts} == {4}
    assert {len(one.first_tokens) for one in reference.prompts} == {2}
    asked = ("--reference", "ref.json", "--keys", "keys", *JSON)
    short = ("--streams", 2, "--stream-tokens", 64, "--no-parameters")
    # Nobody here trusts that key yet.
    assert command("audit", honest, *asked, *short) == 4
    trust("k.pub")
    status = command("audit", honest, *asked, *short, "--log", "honest.jsonl")
    report, results = reported(status)
    assert (status, report["verdict"]) == (0, "consistent")
    tests = ("tokenizer", "log-probabilities", "completions")
    assert {results[one]["outcome"] for one in tests} == {"consistent"}
    assert results["completions"]["samples"] == 32
    assert "good signature" in report["sides"][1]["detail"]
    status = command("audit", quantized, *asked, *short, "--log", "quantized.jsonl")
    report, results = reported(status)
    assert (status, report["verdict"]) == (1, "inconsistent")
    assert results["tokenizer"]["outcome"] == "consistent"
    assert results["log-probabilities"]["decisive"]
    assert results["log-probabilities"]["findings"][0]["name"] == "logprobs-differ"
    assert results["log-probabilities"]["samples"] == 16
    assert "quantized weights" in " ".join(results["log-probabilities"]["benign"])
    assert report["not_run"][-2]["name"] == "completions"
    # One changed byte, and no option takes it.
    raw = Path("ref.json").read_bytes()
    Path("ref.json").write_bytes(raw.replace(b'"temperature":1.0', b'"temperature":0.9'))
    assert command("audit", honest, *asked, "--unsigned-reference") == 4


def trust(public):
    added = ["key", "add", public, "--owner", "me", "--model", "*", "--keys", "keys"]
    assert run(added) == 0


def test_two_endpoints_are_compared_in_turns(place, real, coarse):
    asked = ("--prompts", "prompts.txt", "--samples", 4, "--completion-tokens", 8)
    status = command("compare", real, real, *asked, *JSON, "--log", "same.jsonl")
    report, results = reported(status)
    assert (status, report["verdict"]) == (0, "consistent")
    assert results["completions"]["requests"] == 2 * 4 * 8
    assert report["alpha"] <= 0.01
    status = command("compare", real, coarse, *asked, *JSON, "--log", "other.jsonl")
    report, results = reported(status)
    assert (status, results["log-probabilities"]["decisive"]) == (1, True)
    # The order is random, and both take turns.
    log = Path("other.jsonl").read_text().splitlines()
    urls = [next(u for u in (real, coarse, "log") if u in line) for line in log]
    assert urls.count(real) > 16
    assert urls.count(coarse) > 16


# Half of them are near a tie for this model: it takes five times as many words of any prompts.
WORDS = (
    "sells change atlases Explain Earth two which examples Compare whose between how story worst "
    "clock copper border garden bridge mirror forest planet hammer valley"
)


def test_border_inputs_tell_weights_apart_without_log_probabilities(place, real, coarse):
    """Behind a gateway that gives text alone: the same weights pass, the 4-bit copy does not."""
    Path("prompts.txt").write_text(f"{WORDS}\nWhat do cats like?")
    sampled = ("--samples", 2, "--completion-tokens", 4, "--prompts", "prompts.txt")
    assert command("record", real, "--out", "r.json", *sampled, "--log", "record.jsonl") == 0
    recorded = parse_reference(Path("r.json").read_bytes(), subject="r.json").border
    assert len(recorded) >= 6
    found = {}
    for name, upstream in (("same", real), ("coarse", coarse)):
        with discreet(upstream) as url:
            against = ("--reference", "r.json", "--unsigned-reference", "--samples", 2)
            status = command("compare", url, *against, *JSON, "--log", f"{name}.jsonl")
        report, results = reported(status)
        found[name] = results["border-inputs"]
        assert {"log-probabilities"} <= {one["name"] for one in report["not_run"]}
    assert (found["same"]["outcome"], found["same"]["decisive"]) == ("consistent", False)
    assert found["same"]["requests"] == 3 * len(recorded)
    assert (found["coarse"]["outcome"], found["coarse"]["decisive"]) == ("inconsistent", True)
    assert [one["name"] for one in found["coarse"]["findings"]] == ["border-inputs-differ"]
    # Two endpoints, of which the second gives none: the first one's are found on the way.
    with discreet(coarse) as url:
        status = command("compare", real, url, *sampled, *JSON, "--log", "two.jsonl")
    report, results = reported(status)
    assert (status, results["border-inputs"]["decisive"]) == (1, True)
    assert results["border-inputs"]["requests"] > 2 * results["border-inputs"]["samples"]
    assert report["alpha"] <= 0.01


def test_a_relay_that_counts_and_cuts_anew_passes_token_tests_and_not_the_others(
    place, real, start, tokenizers
):
    """The blind spot of the tokenizer tests, and what sees through it."""
    honest = start("honest-r1")
    honest.speakers = [KnowingSpeaker(one.persona, one.tokenizers) for one in honest.speakers]
    out = ("--out", "r1.json", *FEW)
    asked = ("--questions", "facts.jsonl", "--question-tokens", 48)
    assert command("record", honest.url, *out, *asked) == 0
    relay = start("distill-recount-rechunk")
    speaker = RelaySpeaker(relay.speakers[0].persona, tokenizers)
    speaker.upstream = real
    relay.speakers = [speaker]
    streams = ("--streams", 2, "--stream-tokens", 300, "--no-parameters")
    status = command("audit", relay.url, *streams, *JSON)
    report, results = reported(status)
    assert (status, results["tokenizer"]["outcome"]) == (0, "consistent")
    assert any("cuts the stream anew" in one for one in report["cannot_tell"])
    against = ("--reference", "r1.json", "--unsigned-reference", "--all")
    status = command("compare", relay.url, *against, *asked, *JSON)
    report, results = reported(status)
    assert status == 1
    assert results["completions"]["decisive"]
    assert results["completions"]["findings"][0]["name"] == "completions-differ"
    assert results["questions"]["decisive"]
    assert results["questions"]["findings"][0]["name"] == "accuracy-dropped"
    assert (results["completions"]["samples"], results["questions"]["samples"]) <= (24, 30)
    assert report["findings"][0]["name"] == "reference-unsigned"
    # The honest endpoint passes what the relay fails.
    status = command("compare", honest.url, *against, *asked, *JSON)
    assert status == 0
