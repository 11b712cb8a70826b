"""JSON: every kind of report is as the shipped schema says, and the schema says all of it."""

import json
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.formats.strictjson import parse_json
from r1prov.manifest.schema import VARIANTS
from r1prov.render import json as json_report
from r1prov.text import printable
from r1prov.verify.findings import CoverageState, Part, Verdict
from r1prov.verify.policy import Level, Scope
from r1prov.verify.rules import Severity


def test_the_schema_is_a_schema_and_names_the_version(report_schema):
    jsonschema.Draft202012Validator.check_schema(report_schema)
    assert report_schema["properties"]["schema"]["const"] == json_report.SCHEMA


def test_the_closed_lists_are_those_of_the_code(report_schema):
    def values(*path):
        node = report_schema
        for key in path:
            node = node[key]
        return set(node["enum"])

    definitions = ("$defs",)
    assert values("properties", "verdict") == set(Verdict)
    assert values("properties", "exit_status") == {one.exit_status for one in Verdict}
    assert values("properties", "level") == set(Level)
    assert values("properties", "scope") == set(Scope)
    assert values(*definitions, "manifest", "properties", "variant") == set(VARIANTS)
    assert values(*definitions, "finding", "properties", "severity") == set(Severity)
    assert values(*definitions, "finding", "properties", "part") == set(Part)
    assert values(*definitions, "coverage", "properties", "state") == set(CoverageState)


def test_real_reports_are_valid(real, every_rule, valid_report):
    for report in (*real.values(), every_rule):
        value = valid_report(json_report.render(report))
        assert value["verdict"] == report.verdict
    (one,) = valid_report(json_report.render(real["fail"]))["findings"]
    assert (one["file"], one["rule"]) == ("model.safetensors", "R1P004")


def test_a_report_that_contradicts_itself_is_not_valid(real, valid_report):
    value = json.loads(json_report.render(real["fail"]))
    for change in (
        {"exit_status": 0},
        {"verdict": "passed"},
        {"schema": "r1prov/report/2"},
        {"unknown": 1},
        {"digests": {"a": "00"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            valid_report(json.dumps({**value, **change}))


def test_the_hostile_report(hostile, valid_report):
    check_is_exact(hostile, valid_report)


def test_names_of_bytes_that_are_not_utf8_stay_apart(report_of):
    """A reader that puts U+FFFD for half a surrogate pair would make one name of these."""
    subjects = set()
    for name in ("a\udcff", "a\udcfe", "a\ufffd", "a\\x", "a\x1b"):
        text = json_report.render(report_of(name))
        subjects.add(json.loads(text)["findings"][0]["subject"])
    assert subjects == {r"a\udcff", r"a\udcfe", "a\ufffd", r"a\x", "a\x1b"}


@given(data=st.data())
def test_any_text_stays_text(data, untrusted, report_of, valid_report):
    check_is_exact(report_of(data.draw(untrusted)), valid_report)


def check_is_exact(report, valid_report):
    text = json_report.render(report)
    assert text.isascii()
    assert not any(ord(one) < 0x20 and one != "\n" for one in text)
    parse_json(text.encode(), subject="report", max_bytes=len(text))  # as any reader would take it
    value = valid_report(text)
    for have, want in (
        (value["headline"], report.headline),
        (value["findings"][0]["subject"], report.findings[0].subject),
        (next(iter(value["digests"])), next(iter(report.digests))),
    ):
        halves = any("\ud800" <= one <= "\udfff" for one in want)
        assert have == (printable(want, limit=len(want)) if halves else want)


@pytest.fixture(scope="session")
def report_schema():
    return json.loads((files("r1prov.render") / "schema" / "report-1.json").read_bytes())


@pytest.fixture(scope="session")
def valid_report(report_schema):
    """Parse a report; valid also where the schema allows no member that it does not name."""
    closed = json.loads(json.dumps(report_schema))
    for node in (closed, *closed["$defs"].values()):
        node["additionalProperties"] = False
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(closed, format_checker=checker)

    def call(text):
        value = json.loads(text)
        validator.validate(value)
        return value

    return call
