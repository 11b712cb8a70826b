"""SARIF: valid under the schema of OASIS, and no text of a stranger is more than text."""

import json
from collections import Counter
from dataclasses import replace
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.render import sarif
from r1prov.text import is_unsafe
from r1prov.verify.rules import RULES, Severity


@pytest.fixture(scope="session")
def parse(sarif_schema):
    """Render, parse, validate with formats; return the run."""
    checker = jsonschema.Draft7Validator.FORMAT_CHECKER
    assert {"uri", "uri-reference", "date-time"} <= set(checker.checkers)
    validator = jsonschema.Draft7Validator(sarif_schema, format_checker=checker)

    def call(report):
        log = json.loads(sarif.render(report))
        validator.validate(log)
        (run,) = log["runs"]
        return run

    return call


def place(result):
    return result["locations"][0]["physicalLocation"]["artifactLocation"]


def test_the_flipped_bit(real, parse):
    run = parse(real["fail"])
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == ("R1P004", "error")
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "R1P004"
    assert place(result) == {"uri": "model.safetensors", "uriBaseId": "MODEL"}
    base = run["originalUriBaseIds"]["MODEL"]["uri"]
    assert urljoin(base, "model.safetensors") == f"file://{real['fail'].model}/model.safetensors"
    (one,) = real["fail"].findings
    assert result["properties"] == {
        "subject": one.subject,
        "expected": one.expected,
        "found": one.found,
        "hint": one.rule.help,
    }
    for text in (one.subject, one.expected, one.found, one.rule.help):
        assert text in result["message"]["text"]
    assert run["invocations"][0]["executionSuccessful"] is True
    assert run["invocations"][0]["exitCode"] == 1


def test_a_pass_has_no_result(real, parse):
    run = parse(real["pass"])
    assert run["results"] == []
    assert run["invocations"][0]["exitCode"] == 0


def test_incomplete_is_an_error_and_no_success(real, parse):
    for name in ("incomplete", "unknown"):
        run = parse(real[name])
        levels = {one["ruleId"]: one["level"] for one in run["results"]}
        assert levels["not-checked"] == "error"
        invocation = run["invocations"][0]
        assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 3)


def test_every_rule_has_help(every_rule, parse):
    run = parse(every_rule)
    rules = {one["id"]: one for one in run["tool"]["driver"]["rules"]}
    assert set(rules) == {rule.id for rule in RULES} | {"not-checked"}
    for rule in RULES:
        one = rules[rule.id]
        title = rule.title.replace("{", "{{").replace("}", "}}")
        assert one["shortDescription"]["text"] == f"{title}."
        for text in (one["fullDescription"]["text"], one["help"]["text"], one["help"]["markdown"]):
            assert rule.help.replace("{", "{{").replace("}", "}}") in text
        assert one["helpUri"].endswith("#docs/rules.md")
        assert urlsplit(one["helpUri"]).scheme
        assert one["defaultConfiguration"]["level"] == rule.severity.value
    assert {one["ruleId"]: one["level"] for one in run["results"]} == {
        rule.id: rule.severity.value for rule in RULES
    }


def test_fingerprints_are_stable_and_distinct(real, hostile, parse):
    def prints(report):
        return [one["partialFingerprints"]["r1prov/v1"] for one in parse(report)["results"]]

    before = prints(real["fail"])
    (one,) = real["fail"].findings
    moved = replace(real["fail"], model="/elsewhere", findings=(replace(one, found="sha256:0"),))
    assert prints(moved) == before
    assert prints(replace(moved, findings=(replace(one, subject="other"),))) != before
    assert max(Counter(prints(hostile)).values()) == 1


def test_trust_is_about_the_manifest(report_of, parse):
    run = parse(report_of("x.toml"))
    trust = [one for one in run["results"] if one["ruleId"] == "R1P301"]
    assert {place(one)["uriBaseId"] for one in trust} == {"MODEL"}  # x.toml is in the model, too
    run = parse(
        replace(report_of("x.toml"), digests={}, weights=replace_tally(), other=replace_tally())
    )
    trust = [one for one in run["results"] if one["ruleId"] == "R1P301"]
    assert {place(one)["uri"] for one in trust} == {"x.toml"}
    assert {place(one)["uriBaseId"] for one in trust} == {"MANIFEST"}
    tensors = [one for one in run["results"] if one["ruleId"] == "R1P205"]
    assert {place(one)["uri"] for one in tensors} == {"."}
    named = {one["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] for one in tensors}
    assert named == {"x.toml"}


def replace_tally():
    from r1prov.verify.findings import Tally

    return Tally()


@pytest.mark.parametrize(
    ("model", "digests", "base"),
    [
        ("/models/r 1", {}, "file:///models/r%201/"),
        ("/models/w.safetensors", {"w.safetensors": "0" * 64}, "file:///models/"),
        ("hf://org/name@rev", {}, "hf://org/name%40rev/"),
        ("models/r1", {}, None),
    ],
)
def test_where_the_model_is(report_of, parse, model, digests, base):
    run = parse(replace(report_of("x"), model=model, digests=digests))
    assert run["originalUriBaseIds"]["MODEL"].get("uri") == base


def test_too_many_results_are_counted(real, parse):
    (one,) = real["fail"].findings
    notes = tuple(replace(one, severity=Severity.NOTE) for _ in range(sarif.MAX_RESULTS))
    run = parse(replace(real["fail"], findings=(*notes, one)))
    assert len(run["results"]) == sarif.MAX_RESULTS
    assert run["results"][0]["level"] == "error"  # the gravest are kept
    text = run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]
    assert text.startswith("1 more result")


@pytest.mark.parametrize(
    "name", ["//host/x", "/etc/x", "a:b", "a?b", "a#b", "%2e", "满血\udcff", ""]
)
def test_a_file_name_is_only_a_path(name, report_of, parse):
    report = report_of(name)
    check_is_text(report, parse(report))


@given(data=st.data())
def test_any_text_stays_text(data, untrusted, report_of, parse):
    report = report_of(data.draw(untrusted))
    check_is_text(report, parse(report))


def test_the_hostile_report(hostile, parse):
    check_is_text(hostile, parse(hostile))


def check_is_text(report, run):
    assert len(run["results"]) == len(report.findings) + 1  # and one for what was not checked
    for text in strings(run):
        assert not any(map(is_unsafe, text.replace("\n", "")))
    for result in run["results"]:
        text = result["message"]["text"]
        assert "](" not in text  # no embedded link
        assert "{" not in text.replace("{{", "")  # no placeholder
        assert "}" not in text.replace("}}", "")
    file = report.findings[0].subject
    first = next(one for one in run["results"] if one["ruleId"] == "R1P004")
    uri = place(first)["uri"]
    split = urlsplit(uri)
    assert not any((split.scheme, split.netloc, split.query, split.fragment))
    wanted = file.lstrip("/") or "."
    assert unquote_to_bytes(uri) in (
        wanted.encode("utf-8", "surrogatepass"),
        wanted.encode("utf-8", "surrogateescape") if encodable(wanted) else b"",
    )


def encodable(text):
    return not any(0xD800 <= ord(one) < 0xDC80 or 0xDD00 <= ord(one) < 0xE000 for one in text)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from strings(key)
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)
