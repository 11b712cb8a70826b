"""A report as JUnit XML, in the form that Jenkins and GitLab read (the xunit plugin's junit-10).

One test case for the verdict, one for everything that a verdict could rest on (passed if it was
checked, an error if it had to be and was not, else skipped), and one for every rule with findings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from r1prov.render.facts import shown_coverage
from r1prov.render.reasons import NOT_CHECKED, Reason, reasons
from r1prov.text import printable
from r1prov.verify.findings import Coverage, CoverageState, Verdict
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from r1prov.verify.findings import Report

# Findings of one rule written out; a test case's text is read by people.
_SHOWN_A_RULE = 100
_OUTCOMES = ("failure", "error", "skipped")


def render(report: Report) -> str:
    """The report as one test suite. ASCII only, with character references.

    No failure and no error exactly if the verdict is `pass`.
    """
    root = ET.Element("testsuites", name="r1prov")
    suite = ET.SubElement(root, "testsuite", name="r1prov verify")
    _verdict(suite, report)
    for one in shown_coverage(report):
        _coverage(suite, one)
    by_rule: dict[str, list[Reason]] = {}
    for reason in reasons(report):
        if reason.rule != NOT_CHECKED:  # coverage has its own test cases
            by_rule.setdefault(reason.rule, []).append(reason)
    for found in by_rule.values():
        _rule(suite, found)
    seconds = (report.finished_at - report.started_at).total_seconds()
    suite.set("tests", str(len(suite)))
    for outcome, attribute in zip(_OUTCOMES, ("failures", "errors", "skipped"), strict=True):
        suite.set(attribute, str(len(suite.findall(f"testcase/{outcome}"))))
    suite.set("time", f"{seconds:.3f}")
    suite.set("timestamp", report.started_at.strftime("%Y-%m-%dT%H:%M:%S"))
    ET.indent(root)
    body = ET.tostring(root, encoding="us-ascii", xml_declaration=False).decode("ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(suite: ET.Element, group: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=f"r1prov.{group}", name=_safe(name))


def _outcome(case: ET.Element, kind: str, label: str, message: str, text: str) -> None:
    made = ET.SubElement(case, kind, type=label, message=_safe(message))
    made.text = text


def _verdict(suite: ET.Element, report: Report) -> None:
    case = _case(suite, "verdict", report.model)
    if report.verdict is not Verdict.PASS:
        kind = "failure" if report.verdict is Verdict.FAIL else "error"
        message = f"{report.verdict.value}: {report.headline}"
        _outcome(case, kind, report.verdict.value, message, _safe(message))


def _coverage(suite: ET.Element, one: Coverage) -> None:
    case = _case(suite, "coverage", one.item)
    if one.state is CoverageState.CHECKED:
        ET.SubElement(case, "system-out").text = _safe(one.detail)
        return
    kind = "error" if one.required else "skipped"
    _outcome(case, kind, one.state.value, one.detail, _safe(one.detail))


def _rule(suite: ET.Element, found: list[Reason]) -> None:
    """All findings of one rule; warnings and notes do not fail it, as in the verdict."""
    first = found[0]
    case = _case(suite, "findings", f"{first.rule} {first.name}: {first.title}")
    lines = []
    for one in found[:_SHOWN_A_RULE]:
        lines.append(f"{one.severity.value}: {_safe(one.subject)}: {_safe(one.message)}")
        lines += [f"  {label}: {_safe(value)}" for label, value in one.details()]
    if len(found) > _SHOWN_A_RULE:
        lines.append(f"and {len(found) - _SHOWN_A_RULE:,} more; --format json lists them all")
    text = "\n".join(lines)
    if first.severity is Severity.ERROR:  # the gravest comes first
        _outcome(case, "failure", first.rule, f"{first.subject}: {first.message}", text)
    else:
        ET.SubElement(case, "system-out").text = text


def _safe(text: str) -> str:
    """Only characters of XML 1.0; the serializer escapes markup."""
    return printable(text, limit=4000)
