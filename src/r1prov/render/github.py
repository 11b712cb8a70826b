"""A report as workflow commands of GitHub Actions, and as the step's summary.

Every line is one command, so that no text of a stranger stands where a command could begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.render import markdown
from r1prov.render.reasons import Reason, reasons
from r1prov.text import annotation_data, annotation_property, printable
from r1prov.verify.findings import Verdict
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from r1prov.verify.findings import Report

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
# GitHub shows ten annotations of each kind a step. One more line, and one of the verdict, say what
# is not shown.
_SHOWN = 8


def render(report: Report) -> str:
    """The verdict and up to eight findings of each severity as annotations, a line each."""
    command = "notice" if report.verdict is Verdict.PASS else "error"
    title = f"r1prov: {report.verdict.value.upper()}"
    lines = [_command(command, title, printable(report.headline, limit=2000))]
    found = reasons(report)
    for severity, name in _COMMANDS.items():
        group = [one for one in found if one.severity is severity]
        lines += [_annotation(name, one) for one in group[:_SHOWN]]
        if len(group) > _SHOWN:
            more = f"{len(group) - _SHOWN:,} more; the step summary and --format json have them"
            lines.append(_command(name, "r1prov", more))
    return "\n".join(lines) + "\n"


def summary(report: Report) -> str:
    """The report as Markdown for the file that `GITHUB_STEP_SUMMARY` names."""
    return markdown.render(report)


def _annotation(name: str, one: Reason) -> str:
    # Escaped one by one: only the line feeds between them are ours.
    lines = [one.message, *(f"{label}: {value}" for label, value in one.details())]
    if one.file != one.subject:
        lines.insert(0, one.subject)
    data = "\n".join(printable(line, limit=1000) for line in lines)
    return _command(name, one.label, data, file=one.file)


def _command(name: str, title: str, data: str, *, file: str | None = None) -> str:
    where = "" if file is None else f"file={annotation_property(printable(file, limit=1000))},"
    return f"::{name} {where}title={annotation_property(title)}::{annotation_data(data)}"
