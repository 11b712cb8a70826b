"""Reports of endpoints: nothing that an endpoint chose reaches a terminal or a page raw."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from r1prov.endpoints.report import (
    EndpointReport,
    NotRun,
    Plots,
    Side,
    compose,
    overall_alpha,
)
from r1prov.endpoints.report_json import SCHEMA
from r1prov.endpoints.result import ErrorRates, Outcome, TestResult
from r1prov.render.endpoint import as_json, as_text
from r1prov.render.endpoint_html import as_html
from r1prov.verify.findings import finding

ROOT = Path(__file__).parents[2]
HOSTILE = "\x1b[31m</script><script>alert(1)</script><img src=x onerror=y>\u202e\ud800\x00&\"'|`\n"


def result(name="tokenizer", outcome=Outcome.CONSISTENT, *, decisive=False, alpha=0.01, text="s"):
    return TestResult(
        name=name,
        outcome=outcome,
        summary=text,
        decisive=decisive,
        samples=5,
        requests=3,
        tokens=1000,
        error_rates=ErrorRates(alpha=alpha, beta=None, basis=text),
        statistics={"x": 1.0},
        findings=(
            finding("fingerprint-changed", text, text, expected=text, found=text, hint=text),
        ),
        benign=(text,),
        cannot_tell=(text,),
    )


def report(text="plain", **changes):
    results = (result(text=text), result(text, Outcome.INCONSISTENT, decisive=True, text=text))
    whole = EndpointReport(
        kind="audit",
        claim=text,
        verdict=Outcome.INCONSISTENT,
        headline=text,
        sides=(Side(role="endpoint", name=text, model=text, detail=text),),
        results=results,
        not_run=(NotRun(text, text),),
        alpha=0.01,
        requests=6,
        tokens=2000,
        replayed=1,
        seed=0,
        log=text,
        log_head="3:" + "a" * 64,
        started_at=datetime(2026, 11, 25, tzinfo=UTC),
        finished_at=datetime(2026, 11, 25, tzinfo=UTC),
        version="1",
        findings=(finding("audit-stopped", text, text),),
        plots=Plots(
            times={text: [0.1, 0.2, 3.0], "total": [1.0, 2.0]},
            residuals={text: -5.0, "digits": 200.0},
            sprt=[0.0, 1.2, -3.0, 9.5],
            sprt_bounds=(-9.2, 9.2),
        ),
    )
    return replace(whole, **changes)


@pytest.fixture(scope="module")
def schema():
    return json.loads((ROOT / "src/r1prov/render/schema/endpoint-report-1.json").read_text())


@pytest.mark.parametrize("text", ["plain", HOSTILE])
def test_json_is_as_the_schema_says(schema, text):
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"]["schema"]["const"] == SCHEMA
    raw = as_json(report(text))
    assert raw.isascii()
    assert "\x1b" not in raw
    jsonschema.validate(json.loads(raw), schema)
    jsonschema.validate(json.loads(as_json(report(alpha=None, plots=Plots()))), schema)


def test_text_shows_verdict_tests_costs_and_limits():
    shown = as_text(report())
    assert shown.startswith("INCONSISTENT  plain\n")
    for wanted in (
        "alpha 0.01",
        "inconsistent (decisive)",
        "genuine",
        "not run",
        "harmless",
        "1,000",
    ):
        assert wanted in shown
    assert as_text(report(), color=True).startswith("\x1b[1;31mINCONSISTENT\x1b[0m")


def test_no_control_character_of_an_endpoint_reaches_a_terminal():
    shown = as_text(report(HOSTILE))
    assert not re.search(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown
    )
    shown.encode("utf-8")


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self):
        super().__init__()
        self.tags = []
        self.attributes = []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attributes]


def test_a_page_holds_no_tag_of_an_endpoint_and_loads_nothing():
    plain, hostile = Page(), Page()
    plain.feed(as_html(report()))
    hostile.feed(as_html(report(HOSTILE)))
    assert hostile.tags == plain.tags
    assert not {"script", "img", "link", "iframe", "object", "use", "image"} & set(plain.tags)
    assert not {"src", "href", "style", "onerror", "onload"} & set(hostile.attributes)
    assert plain.tags.count("svg") == 3
    assert as_html(report(HOSTILE)).isascii()
    assert "default-src 'none'" in as_html(report())


def test_plots_draw_what_stands_in_the_report():
    page = as_html(report())
    assert page.count("<polyline") == 3
    assert page.count("<rect") == 2
    assert "claimed tokenizer" in page
    assert "<figure>" not in as_html(report(plots=Plots()))


CASES = [
    ([], None, Outcome.NOT_TESTABLE),
    ([result()], None, Outcome.CONSISTENT),
    # Structure alone carries nothing.
    ([result("reasoning")], None, Outcome.NOT_TESTABLE),
    ([result(), result("reasoning", Outcome.INCONSISTENT)], None, Outcome.NOT_TESTABLE),
    ([result(outcome=Outcome.INCONSISTENT)], None, Outcome.NOT_TESTABLE),
    ([result(outcome=Outcome.INCONSISTENT, decisive=True)], None, Outcome.INCONSISTENT),
    ([result(), result("x", Outcome.INCONSISTENT, decisive=True)], "spent", Outcome.INCONSISTENT),
    ([result()], "spent", Outcome.NOT_TESTABLE),
    ([result(outcome=Outcome.NOT_TESTABLE)], None, Outcome.NOT_TESTABLE),
    ([result(outcome=Outcome.DESCRIPTION)], None, Outcome.NOT_TESTABLE),
]


@pytest.mark.parametrize(("results", "stopped", "verdict"), CASES)
def test_only_what_is_decisive_makes_it_inconsistent(results, stopped, verdict):
    assert compose(results, "R1", stopped=stopped)[0] is verdict


def test_error_rates_of_the_tests_that_decide_add_up():
    assert overall_alpha([result(), result("completions"), result("reasoning")]) == 0.02
    assert overall_alpha([result("reasoning")]) is None
    assert overall_alpha([result(alpha=0.9), result("questions", alpha=0.9)]) == 1.0
    assert report().exit_status == 1
