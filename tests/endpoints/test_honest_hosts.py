"""No honest host is called inconsistent, whatever stands between its weights and the audit."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hosts import Host, host
from persona_server import KEY
from personas import PERSONAS

from r1prov.cli.app import run
from r1prov.endpoints.border import ask_border
from r1prov.endpoints.client import Client
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.reference import RecordedPrompt, parse_reference, write_reference
from r1prov.responses.log import ExchangeLog, Fsync

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "src/r1prov/render/schema/endpoint-report-1.json").read_text()
)
TAKEN = ("--reference", "r1.json", "--unsigned-reference", "--no-parameters")
# Few streams: these tests are about what comes after them.
FEW = ("--streams", "2", "--stream-tokens", "60")
PROMPTS = "\n".join(f"Tell me fact {n}." for n in range(6))
QUESTIONS = "\n".join(
    json.dumps({"prompt": f"fact {n}", "expected": "the|的|，", "scorer": "regex", "id": str(n)})
    for n in range(40)
)


@pytest.fixture
def place(tmp_path, monkeypatch, start, tokenizers):
    """A place with a reference that an honest host was recorded for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    Path("p.txt").write_text(PROMPTS)
    Path("q.jsonl").write_text(QUESTIONS)
    server = serving(start, host(tokenizers))
    few = ("--prompts", "p.txt", "--samples", "8", "--completion-tokens", "24", "--log", "rec")
    asked = ("--questions", "q.jsonl", "--question-tokens", "2000")
    assert command("record", server.url, "--out", "r1.json", *few, *asked) == 0
    return server


def serving(start, *speakers: Host):
    server = start("honest-r1")
    server.speakers = list(speakers)
    return server


def command(*arguments):
    return run(["endpoint", *arguments, "--quiet"])


def audit(server, *options):
    output = ("--format", "json", "-o", "report.json", "--log", f"log-{server.url[-8:-3]}")
    status = command("audit", server.url, *output, *options)
    report = json.loads(Path("report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    assert report["exit_status"] == status
    return report, {one["name"]: one for one in report["results"]}


# What is around the weights, and what the report says of it.
AROUND: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "consistent", ""),
    "a system prompt": (
        {"persona": "hidden-system-prompt"}, "not-testable", "put a text of its own before it"),
    "a cache": ({"caches": True}, "not-testable", "as from a cache"),
    "a temperature of its own": (
        {"temperature": 0.5}, "not-testable", "does not heed a temperature"),
    "a filter": ({"filters": 0.3}, "consistent", ""),
}  # fmt: skip


@pytest.mark.parametrize("around", AROUND)
def test_a_reference_contradicts_no_honest_host(place, start, tokenizers, around):
    how, verdict, cause = AROUND[around]
    report, results = audit(serving(start, host(tokenizers, **how)), *FEW, *TAKEN)
    assert (around, report["verdict"]) == (around, verdict)
    found = results["completions"]
    assert not found["decisive"]
    assert cause in found["summary"]
    assert (found["outcome"] == "consistent") is (verdict == "consistent")


def test_other_weights_are_still_contradicted(place, start, tokenizers):
    """The control: what excuses a host excuses nobody else."""
    report, results = audit(serving(start, host(tokenizers, other=True)), *FEW, *TAKEN)
    assert report["verdict"] == "inconsistent"
    assert results["completions"]["decisive"]
    # Asked for the control of the temperature too.
    assert results["completions"]["requests"] > results["completions"]["samples"]


@pytest.fixture
def bordered(place):
    """The same with border inputs, which need log-probabilities to be found: words stand for them.

    What an endpoint makes of such prompts is all that matters here.
    """
    prompts = [Prompt(f"b{number}", f"word {number}") for number in range(8)]
    log = ExchangeLog(Path("border.jsonl"), fsync=Fsync.NEVER)
    with Client(place.url, model="deepseek-r1", key=KEY, log=log) as client:
        (found,) = ask_border([client], prompts, seed=1)
    recorded = tuple(
        RecordedPrompt(id=one.id, text=one.text, completions=tuple(found.completions[one.id]))
        for one in prompts
    )
    reference = parse_reference(Path("r1.json").read_bytes(), subject="r1.json")
    Path("r1.json").write_bytes(write_reference(replace(reference, border=recorded)))


BORDERED: dict[str, tuple[dict[str, Any], str, bool, str]] = {
    "nothing": ({}, "consistent", False, "0 of 8"),
    "a system prompt": (
        {"persona": "hidden-system-prompt"}, "inconsistent", False, "put a text of its own"),
    "a temperature of its own": (
        {"temperature": 0.6}, "inconsistent", False, "does not heed a temperature"),
    "other weights": ({"other": True}, "inconsistent", True, "8 of 8"),
}  # fmt: skip


@pytest.mark.parametrize("around", BORDERED)
def test_border_inputs_contradict_no_honest_host(bordered, start, tokenizers, around):
    how, outcome, decisive, told = BORDERED[around]
    _, results = audit(serving(start, host(tokenizers, **how)), *FEW, *TAKEN, "--samples", "2")
    found = results["border-inputs"]
    assert (around, found["outcome"], found["decisive"]) == (around, outcome, decisive)
    assert told in found["summary"]
    assert found["samples"] == 24


def test_answers_that_were_cut_short_are_no_drop_of_accuracy(place, start, tokenizers):
    asked = ("--questions", "q.jsonl", "--question-tokens", "2000", "--samples", "2", "--all")
    server = serving(start, host(tokenizers, winded=True))
    report, results = audit(server, *FEW, *TAKEN, *asked)
    assert report["verdict"] == "not-testable"
    assert results["questions"]["outcome"] == "inconsistent"
    assert "cut short" in results["questions"]["summary"]
    assert not results["questions"]["decisive"]


def test_questions_are_asked_as_those_of_the_reference_were(place, capsys):
    asked = ("--questions", "q.jsonl", "--question-tokens", "100")
    assert command("audit", place.url, *TAKEN, *asked) == 2
    assert "2,000 tokens for each answer" in capsys.readouterr().err


def test_too_few_completions_bear_nothing_out(place):
    Path("one.txt").write_text("Only one prompt.")
    few = ("--prompts", "one.txt", "--samples", "2", "--completion-tokens", "8")
    output = ("--format", "json", "-o", "r.json")
    assert command("compare", place.url, place.url, "--key-env-b", "R1PROV_API_KEY",
                   *few, *output) == 3  # fmt: skip
    report = json.loads(Path("r.json").read_text())
    found = {one["name"]: one for one in report["results"]}
    assert found["completions"]["outcome"] == "not-testable"
    assert "too few to tell" in found["completions"]["summary"]


MIXED = [
    ("honest-r1", "word-chunks"),
    ("hidden-system-prompt", "affine-billing"),
    ("honest-r1", "affine-billing", "chars-over-4", "one-chunk"),
]


@pytest.mark.parametrize("names", MIXED, ids="+".join)
def test_a_gateway_that_sends_each_request_to_another_honest_host_is_not_accused(
    start, tmp_path, monkeypatch, names
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    server = start(*names)
    server.mixed = random.Random("+".join(names))
    report, _ = audit(server, "--no-parameters")
    assert report["verdict"] in ("consistent", "not-testable")
    assert len({one.persona.name for one in server.speakers}) == len(names)
    assert set(names) <= set(PERSONAS)
