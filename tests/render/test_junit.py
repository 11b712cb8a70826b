"""JUnit XML: valid, readable by others, and never green unless the verdict is a pass."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import junitparser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.render import junit
from r1prov.text import is_unsafe, printable
from r1prov.verify.findings import Verdict
from r1prov.verify.rules import Severity


@pytest.fixture(scope="session")
def parse(junit_schema):
    """Render and validate; return the tree as the standard library reads it."""

    def call(report):
        text = junit.render(report)
        junit_schema.validate(text)
        return ET.fromstring(text)

    return call


def outcome(case):
    return next((one.tag for one in case if one.tag != "system-out"), "passed")


def cases(root):
    return {
        (case.get("classname"), case.get("name")): outcome(case) for case in root.iter("testcase")
    }


def test_the_flipped_bit(real, parse):
    root = parse(real["fail"])
    found = cases(root)
    assert found["r1prov.verdict", real["fail"].model] == "failure"
    (name,) = [name for group, name in found if group == "r1prov.findings"]
    assert name.startswith("R1P004 file-digest: ")
    assert found["r1prov.findings", name] == "failure"
    (one,) = real["fail"].findings
    text = root.find(f"testsuite/testcase[@name='{name}']/failure").text
    for part in (one.subject, one.message, one.expected, one.found, one.rule.help):
        assert part in text
    assert [found["r1prov.coverage", one.item] for one in real["fail"].coverage] == ["passed"] * 5


def test_others_read_it(real, parse):
    for report in real.values():
        (suite,) = junitparser.JUnitXml.fromstring(junit.render(report).encode())
        root = parse(report)
        found = list(cases(root).values())
        assert suite.tests == len(suite) == len(found)
        assert suite.failures == found.count("failure")
        assert suite.errors == found.count("error")
        assert suite.skipped == found.count("skipped")
        green = suite.failures == suite.errors == 0
        assert green == (report.verdict is Verdict.PASS)


def test_what_was_not_checked(real, parse):
    found = cases(parse(real["incomplete"]))
    assert not any("not-checked" in name for _, name in found), "each stands once"
    for one in real["incomplete"].coverage:
        wanted = {"checked": "passed"}.get(one.state, "error" if one.required else "skipped")
        assert found["r1prov.coverage", one.item] == wanted
    assert "error" in found.values()


def test_warnings_do_not_fail(real, parse):
    warning = replace(real["fail"].findings[0], severity=Severity.WARNING)
    root = parse(replace(real["pass"], findings=(warning,)))
    assert set(cases(root).values()) == {"passed"}
    assert warning.found in "".join(root.itertext())


def test_a_rule_with_many_findings_is_one_case(real, parse):
    one = real["fail"].findings[0]
    many = tuple(replace(one, subject=f"f{number}") for number in range(150))
    root = parse(replace(real["fail"], findings=many))
    (case,) = [one for one in root.iter("testcase") if one.get("classname") == "r1prov.findings"]
    assert "f99: " in case[0].text
    assert "and 50 more" in case[0].text


def test_the_hostile_report(hostile, parse, report_of):
    check_is_text(hostile, report_of, parse)


@given(data=st.data())
def test_any_text_stays_text(data, untrusted, report_of, parse):
    check_is_text(report_of(data.draw(untrusted)), report_of, parse)


def check_is_text(report, report_of, parse):
    """The same elements and attributes as with harmless text, and nothing unsafe in them."""
    root, plain = parse(report), parse(report_of("x"))
    assert [(one.tag, [*one.attrib]) for one in root.iter()] == [
        (one.tag, [*one.attrib]) for one in plain.iter()
    ]
    for element in root.iter():
        for text in (*element.attrib.values(), element.text or ""):
            assert not any(map(is_unsafe, text.replace("\n", "")))
    case = next(root.iter("testcase"))
    assert case.get("name") == printable(report.model, limit=4000)
