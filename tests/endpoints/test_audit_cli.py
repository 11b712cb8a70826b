"""`r1prov endpoint audit` against every persona, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from persona_server import KEY
from personas import PERSONAS

from r1prov.cli.app import run

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "src/r1prov/render/schema/endpoint-report-1.json").read_text()
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
        jsonschema.validate(report, SCHEMA)
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
