"""Code Quality of GitLab: the members that its documentation asks for."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from r1prov.render import gitlab
from r1prov.text import is_unsafe, printable
from r1prov.verify.findings import Verdict

SEVERITIES = {"info", "minor", "major", "critical", "blocker"}


def entries(report):
    """Parsed, with what docs.gitlab.com (Code Quality, custom tools) requires checked."""
    found = json.loads(gitlab.render(report))
    assert isinstance(found, list)
    for one in found:
        assert one["severity"] in SEVERITIES
        assert one["location"]["lines"]["begin"] == 1
        assert not one["location"]["path"].startswith("./")
        for text in (one["description"], one["check_name"], one["location"]["path"]):
            assert isinstance(text, str)
            assert not any(map(is_unsafe, text))
        assert not any(map(is_unsafe, one["content"]["body"].replace("\n", "")))
    prints = [one["fingerprint"] for one in found]
    assert len(set(prints)) == len(prints)
    return found


def test_the_flipped_bit(real):
    (entry,) = entries(real["fail"])
    (one,) = real["fail"].findings
    assert entry["check_name"] == "R1P004 file-digest"
    assert entry["severity"] == "critical"
    assert entry["location"]["path"] == "model.safetensors"
    for text in (one.subject, one.message, one.expected, one.found, one.rule.help):
        assert text in entry["description"]
    again = replace(one, found="sha256:0")
    (moved,) = entries(replace(real["fail"], model="/elsewhere", findings=(again,)))
    assert moved["fingerprint"] == entry["fingerprint"]


def test_it_is_clean_only_on_a_pass(real):
    for report in real.values():
        grave = [one for one in entries(report) if one["severity"] == "critical"]
        assert (not grave) == (report.verdict is Verdict.PASS)


def test_what_is_left_out_is_counted(every_rule):
    findings = (every_rule.findings * 100)[:5_012]
    findings = tuple(replace(one, subject=str(i)) for i, one in enumerate(findings))
    found = entries(replace(every_rule, findings=findings[:5_000]))
    assert len(found) == 5_000
    *shown, last = entries(replace(every_rule, findings=findings))
    assert len(shown) == 5_000
    assert (last["severity"], last["description"][:8]) == ("info", "12 more;")


def test_the_hostile_report(hostile):
    check_is_text(hostile)


@given(data=st.data())
def test_any_text_stays_text(data, untrusted, report_of):
    check_is_text(report_of(data.draw(untrusted)))


def check_is_text(report):
    found = entries(report)
    assert len(found) == len(report.findings) + 1
    first = next(one for one in found if one["check_name"].startswith("R1P004"))
    subject = report.findings[0].subject
    assert first["location"]["path"] == printable(subject, limit=1000) or subject.startswith("./")
