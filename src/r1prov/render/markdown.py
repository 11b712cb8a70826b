"""A report as Markdown, for step summaries, pull requests and wikis.

All that is not our own words is inline code: there no site finds mentions, links or markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.render.facts import coverage_label, facts, shown_coverage
from r1prov.render.reasons import Reason, by_heading, reasons
from r1prov.text import markdown_code
from r1prov.verify.findings import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.verify.findings import Report

# A step summary holds 1 MiB, of which several reports of one step have a share; GitHub drops one
# that is longer as a whole. Names can be made of characters that take thirteen bytes each to show.
_SHOWN = 200
_SHOWN_BYTES = 200_000
_CELL = 500
_MARKS = {Verdict.PASS: "✅", Verdict.FAIL: "❌", Verdict.INCOMPLETE: "⚠️"}


def render(report: Report) -> str:
    """The report as headings and tables."""
    word = report.verdict.value.upper()
    lines = [
        f"## {_MARKS[report.verdict]} r1prov verify: {word}",
        "",
        f"**{word}** {_code(report.headline)}",
        "",
    ]
    left = _Left()
    for heading, group in by_heading(reasons(report)):
        lines += [f"### {heading} ({len(group):,})", "", *_findings(group, left), ""]
    lines += ["### What was verified", "", "| | |", "| --- | --- |"]
    lines += [f"| {label} | {_code(value)} |" for label, value in facts(report)]
    lines += ["", "### Coverage", "", "| | what | |", "| --- | --- | --- |"]
    lines += [
        f"| {coverage_label(one)} | {_code(one.item)} | {_code(one.detail)} |"
        for one in shown_coverage(report)
    ]
    lines += ["", f"r1prov {_code(report.version)}, {report.finished_at.isoformat('T', 'seconds')}"]
    return "\n".join(lines) + "\n"


@dataclass(slots=True)
class _Left:
    """What there is room for yet."""

    rows: int = _SHOWN
    size: int = _SHOWN_BYTES

    def take(self, row: str) -> bool:
        """Whether a row still has room; it then has taken it."""
        size = len(row.encode())
        if not self.rows or size > self.size:
            self.rows = 0  # what comes after is less grave
            return False
        self.rows, self.size = self.rows - 1, self.size - size
        return True


def _findings(group: list[Reason], left: _Left) -> Iterator[str]:
    yield "| rule | file or subject | what is wrong | expected | found | what to do |"
    yield "| --- | --- | --- | --- | --- | --- |"
    shown = 0
    for one in group:
        row = _row(one)
        if not left.take(row):
            break
        yield row
        shown += 1
    if len(group) > shown:
        yield ""
        yield f"… and {len(group) - shown:,} more; `--format json` lists them all."


def _row(one: Reason) -> str:
    cells = [one.label, _subject(one), _code(one.message)]
    cells += ["" if text is None else _code(text) for text in (one.expected, one.found)]
    return f"| {' | '.join([*cells, _code(one.hint)])} |"


def _subject(one: Reason) -> str:
    if one.file is None or one.file == one.subject:
        return _code(one.subject)
    return f"{_code(one.file)}: {_code(one.subject)}"


def _code(text: str) -> str:
    return markdown_code(text, limit=_CELL)
