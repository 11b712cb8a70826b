"""`r1prov endpoint audit` against every persona, as a user runs it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from persona_server import KEY, MODEL
from personas import PERSONAS
from told_server import serving

from r1prov.cli.app import run
from r1prov.responses.log_check import check_log

SCHEMA = jsonschema.Draft202012Validator(
    json.loads(
        (Path(__file__).parents[2] / "src/r1prov/render/schema/endpoint-report-1.json").read_text()
    )
)


@pytest.fixture
def audit(start, tmp_path, monkeypatch, capsys):
    """Run an audit of some personas; the report as JSON and the exit status."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)

    def begin(*names, options=(), **how):
        server = start(*names, **how)
        status = run(
            [
                *("endpoint", "audit", server.url, "--quiet"),
                *("--format", "json", "-o", "report.json", "--log", "audit.jsonl", *options),
            ]
        )
        assert status in (0, 1, 3), capsys.readouterr().err
        report = json.loads(Path("report.json").read_text())
        SCHEMA.validate(report)
        assert report["exit_status"] == status
        return report, server

    return begin


def results(report):
    return {one["name"]: one for one in report["results"]}


def rules(report):
    found = [*report["findings"], *(f for one in report["results"] for f in one["findings"])]
    return {one["name"] for one in found}


# What each persona's audit comes to, and the rule that names it.
NAMED = {
    "honest-r1": ("consistent", None),
    "think-tags": ("consistent", None),
    "think-end-tag": ("consistent", None),
    "reasoning-field": ("consistent", None),
    "hidden-system-prompt": ("consistent", "template-overhead"),
    "distill-qwen": ("inconsistent", "tokenizer-contradiction"),
    "distill-llama": ("inconsistent", "tokenizer-contradiction"),
    "ollama-distill": ("inconsistent", "other-server"),
    "v3": ("not-testable", "added-tokens-other-model"),
    "v3.1": ("not-testable", "added-tokens-other-model"),
    "affine-billing": ("consistent", "usage-scaled"),
    "rounded": ("consistent", "usage-rounded"),
    "chars-over-4": ("consistent", "usage-estimated"),
    "constant": ("consistent", "usage-constant"),
    "no-usage": ("consistent", "usage-missing"),
    "usage-without-reasoning": ("consistent", "usage-without-reasoning"),
    "batched": ("consistent", None),
    "word-chunks": ("consistent", "stream-rechunked"),
    "fixed-chunks": ("consistent", "stream-rechunked"),
    "one-chunk": ("consistent", "stream-rechunked"),
    "deep-thoughts": ("not-testable", "no-such-field"),
    "no-reasoning": ("not-testable", "reasoning-missing"),
    "distill-estimated-usage": ("not-testable", "deltas-cut-tokens"),
    "distill-spoofed-usage": ("not-testable", "usage-spoofed"),
    # Blind spots: see test_blind_spots.
    "distill-recount-rechunk": ("consistent", None),
    "quantized": ("consistent", None),
}


def test_every_persona_stands_in_the_table():
    assert set(PERSONAS) == set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_each_persona_is_named_for_what_it_is(audit, name):
    report, server = audit(name)
    verdict, rule = NAMED[name]
    assert (report["verdict"], name) == (verdict, name)
    if rule is None:
        assert rules(report) <= {"template-overhead"}
    else:
        assert rule in rules(report)
    refused = 3 if "parameters" in results(report) else 0  # before the server counts them
    assert report["requests"] == len(server.requests) + refused
    assert "genuine" in report["cannot_tell"][0]


@pytest.mark.parametrize("after", [6, 9, 15])
def test_a_model_that_is_swapped_on_the_way_is_found(audit, after):
    """Within the first half, between the halves, and within the second."""
    report, _ = audit("honest-r1", "distill-qwen", swap_after=after)
    assert report["verdict"] == "inconsistent"
    assert results(report)["tokenizer"]["decisive"]
    assert {"tokenizer-changed", "tokenizer-contradiction"} <= rules(report)


def test_a_distill_is_refuted_before_everything_was_asked(audit):
    report, server = audit("distill-qwen", options=("--context",))
    assert {one["name"] for one in report["not_run"]} == {"second half", "parameters", "context"}
    assert len(server.requests) == 14
    every, _ = audit("distill-qwen", options=("--all", "--log", "other.jsonl"))
    assert every["not_run"] == []


def test_blind_spots_are_told_where_they_are_passed(audit):
    for name in ("distill-recount-rechunk", "quantized"):
        report, _ = audit(name, options=("--log", f"{name}.jsonl"))
        told = " ".join(report["cannot_tell"])
        assert "cuts the stream anew with the claimed tokenizer" in told
        assert "quantized" in told


def test_a_run_that_the_budget_stopped_is_gone_on_with(audit):
    report, server = audit("honest-r1", options=("--max-requests", "7"))
    assert (report["verdict"], report["requests"]) == ("not-testable", 7)
    assert "audit-stopped" in rules(report)
    assert report["not_run"]
    again, _other = audit("honest-r1", options=("--log", "b.jsonl", "--max-tokens", "900"))
    assert again["tokens"] <= 900
    # Another server has another address, so its answers are not taken for the first one's.
    status = run(
        [
            *("endpoint", "audit", server.url, "--quiet", "--log", "audit.jsonl", "--resume"),
            *("--format", "json", "-o", "report.json"),
        ]
    )
    report = json.loads(Path("report.json").read_text())
    SCHEMA.validate(report)
    assert (status, report["verdict"], report["replayed"]) == (0, "consistent", 7)
    bodies = [json.dumps(one, sort_keys=True) for one in server.requests]
    assert max(bodies.count(one) for one in bodies) == 2  # probes, once in each half
    assert check_log(Path("audit.jsonl")).problem is None


def test_text_and_pages(start, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    url = start("honest-r1").url
    prices = f'["{MODEL}"]\nprompt = 0.55\ncompletion = 2.19\n'
    Path("prices.toml").write_text(prices)
    asked = ["endpoint", "audit", url, "--model", MODEL, "--prices", "prices.toml", "--yes"]
    assert run(asked) == 0
    out, err = capsys.readouterr()
    assert out.startswith("CONSISTENT  nothing speaks against DeepSeek-R1; tested: tokenizer")
    assert "alpha 0.00" in out
    assert re.search(r"deepseek-reasoner: at most \d+ requests, .*: 0\.\d\d USD", err)
    assert run([*asked, "--log", "b.jsonl", "--format", "html", "-o", "a.html"]) == 0
    page = Path("a.html").read_text()
    assert page.count("<svg") == 3
    assert KEY not in page + out + err + Path("b.jsonl").read_text()


def test_accuracy_has_an_interval_and_a_baseline(start, tmp_path, monkeypatch):
    """A test set without a baseline is described; answers that were cut off are told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    lines = [
        '{"prompt": "a", "expected": "zzz"}',
        '{"prompt": "b", "expected": "the", "scorer": "regex"}',
    ]
    Path("q.jsonl").write_text("\n".join(lines))
    asked = ("--questions", "q.jsonl", "--question-tokens", "600", "--no-parameters")
    url = start("honest-r1").url
    output = ("--quiet", "--format", "json", "-o", "r.json")
    assert run(["endpoint", "audit", url, *asked, *output]) == 0
    report = json.loads(Path("r.json").read_text())
    found = results(report)["questions"]
    assert found["outcome"] == "description"
    assert found["samples"] == 2
    assert 0 <= found["statistics"]["accuracy_low"] <= found["statistics"]["accuracy"]
    assert [one["name"] for one in found["findings"]] == ["answers-cut"]
    Path("q.jsonl").write_text("{}")
    assert run(["endpoint", "audit", url, *asked, "--log", "b"]) == 4


def test_a_reference_of_another_model_or_other_questions_is_refused_first(
    start, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    Path("p.txt").write_text("one\ntwo")
    Path("q.jsonl").write_text('{"prompt": "a", "expected": "b"}')
    Path("other.jsonl").write_text('{"prompt": "a", "expected": "c"}')
    server = start("honest-r1")
    few = ("--prompts", "p.txt", "--samples", "2", "--questions", "q.jsonl", "--log", "l")
    record = ["endpoint", "record", server.url, "--out", "r.json", *few]
    assert run(record) == 0
    assert run(record) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err
    before = len(server.requests)
    audit = ["endpoint", "audit", server.url, "--reference", "r.json", "--unsigned-reference"]
    assert run([*audit, "--claim", "DeepSeek-V3"]) == 2
    assert "the reference is of `DeepSeek-R1`" in capsys.readouterr().err
    assert run([*audit, "--questions", "other.jsonl", "--log", "m"]) == 2
    assert "another file of questions" in capsys.readouterr().err
    assert len(server.requests) == before


def test_a_run_that_is_interrupted_ends_soon(start, tmp_path, monkeypatch):
    """A server that stalls, and Ctrl-C."""
    home = tmp_path / "run"
    home.mkdir()
    with serving("429 200") as told:
        command = [sys.executable, "-m", "r1prov", "endpoint", "audit", told.url, "--model", "m"]
        with subprocess.Popen(command, cwd=home, stderr=subprocess.PIPE) as process:
            while not told.seen:
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert (process.returncode, b"Traceback" in err) == (130, False)
