"""A report for people. Everything untrusted goes through `r1prov.text.printable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.render.facts import coverage_label, facts, shown_coverage
from r1prov.text import printable
from r1prov.verify.findings import Finding, Report, Verdict
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLORS = {Verdict.PASS: "32", Verdict.FAIL: "31", Verdict.INCOMPLETE: "33"}
_HEADINGS = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.NOTE: "notes"}
# Findings of one rule shown in full; the count always says how many there are.
_SHOWN_A_RULE = 10
_LABEL = 14
# A line that names eight files may be longer than one name.
_FACT = 4000
# Hundreds of the rule ids in the order a reader wants them: who says so and which model it is
# before which file differs.
_GROUPS = "37640215"


def render(report: Report, *, color: bool = False) -> str:
    """The report as text, the verdict and the model in the first line."""
    word = report.verdict.value.upper()
    if color:
        word = f"\x1b[1;{_COLORS[report.verdict]}m{word}\x1b[0m"
    lines = [f"{word}  {printable(report.headline)}", ""]
    lines += [_row(label, printable(value, limit=_FACT)) for label, value in facts(report)]
    lines += [
        _row(coverage_label(one), f"{printable(one.item)}: {printable(one.detail)}")
        for one in shown_coverage(report)
    ]
    for severity, heading in _HEADINGS.items():
        found = [one for one in report.findings if one.severity is severity]
        found.sort(key=lambda one: _GROUPS.index(one.rule.id[3]))
        if found:
            lines += ["", f"{heading} ({len(found):,})"]
            lines += finding_lines(found)
    return "\n".join(lines) + "\n"


def _row(label: str, value: str) -> str:
    return f"  {label:<{_LABEL}}{value}"


def finding_lines(found: list[Finding]) -> Iterator[str]:
    """Findings with what was expected, what was found and what to do."""
    shown: dict[str, int] = {}
    for one in found:
        shown[one.rule.id] = shown.get(one.rule.id, 0) + 1
        if shown[one.rule.id] > _SHOWN_A_RULE:
            continue
        yield f"  {one.rule.id} {one.rule.name}: {printable(one.subject)}"
        yield f"      {printable(one.message)}"
        if one.expected is not None:
            yield f"      expected  {printable(one.expected)}"
        if one.found is not None:
            yield f"      found     {printable(one.found)}"
        if one.severity is not Severity.NOTE:
            yield f"      do        {printable(one.hint or one.rule.help)}"
    for rule_id, count in shown.items():
        if count > _SHOWN_A_RULE:
            yield f"  {rule_id} … and {count - _SHOWN_A_RULE:,} more; --format json lists them all"
