"""An audit or comparison of endpoints as text and as JSON (schema `r1prov/endpoint-report/1`).

`schema/endpoint-report-1.json` beside this file is the JSON Schema. No text of an answer is in
either: only what was computed of it. What else an endpoint chose, such as its model name, goes
through `printable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.endpoints.report_json import report_as_json
from r1prov.endpoints.result import Outcome
from r1prov.text import plural, printable, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from r1prov.endpoints.report import EndpointReport
    from r1prov.endpoints.result import TestResult
    from r1prov.verify.findings import Finding

_COLORS = {Outcome.CONSISTENT: "32", Outcome.INCONSISTENT: "31", Outcome.NOT_TESTABLE: "33"}
_WIDE = 500


def as_text(report: EndpointReport, *, color: bool = False) -> str:
    """Verdict, tests as a table, findings, and what cannot be told."""
    word = report.verdict.value.upper()
    if color:
        word = f"\x1b[1;{_COLORS[report.verdict]}m{word}\x1b[0m"
    lines = [f"{word}  {printable(report.headline, limit=_WIDE)}", ""]
    lines += [f"  {label:<14}{printable(value, limit=_WIDE)}" for label, value in facts(report)]
    lines += [
        "",
        table([_HEADING, *map(_row, report.results)], right=frozenset({2, 3, 4})).rstrip(),
    ]
    lines += ["", "what each test says"]
    lines += [
        f"  {printable(one.name)}: {printable(one.summary, limit=_WIDE)}" for one in report.results
    ]
    if report.not_run:
        lines += ["", "not run"]
        lines += [f"  {printable(o.name)}: {printable(o.why, limit=_WIDE)}" for o in report.not_run]
    found = all_findings(report)
    if found:
        lines += ["", f"findings ({len(found)})"]
        lines += [line for one in found for line in _finding_lines(one)]
    for heading, texts in (
        ("harmless causes that would look the same", report.benign),
        ("what this cannot tell", report.cannot_tell),
    ):
        if texts:
            lines += ["", heading, *(f"  - {printable(one, limit=_WIDE)}" for one in texts)]
    return "\n".join(lines) + "\n"


_HEADING = ("test", "outcome", "samples", "requests", "tokens", "error rate")


def _row(one: TestResult) -> tuple[str, ...]:
    return (
        printable(one.name),
        outcome_label(one),
        f"{one.samples:,}",
        f"{one.requests:,}",
        f"{one.tokens:,}",
        rate_label(one),
    )


def outcome_label(one: TestResult) -> str:
    """The outcome, and whether it decides."""
    return f"{one.outcome.value} (decisive)" if one.decisive else one.outcome.value


def rate_label(one: TestResult) -> str:
    """Error rates of a test, as far as they are known."""
    rates = one.error_rates
    if one.outcome is Outcome.DESCRIPTION or rates is None:
        return "none"
    if rates.alpha is None:
        return "not known"
    label = f"alpha {rates.alpha:.2g}"
    return label if rates.beta is None else f"{label}, beta {rates.beta:.2g}"


def facts(report: EndpointReport) -> Iterator[tuple[str, str]]:
    """What was done, as label and value."""
    yield "claim", report.claim
    for side in report.sides:
        model = f" (model {side.model})" if side.model else ""
        yield side.role, f"{side.name}{model}{f': {side.detail}' if side.detail else ''}"
    alpha = "none: no decisive test was made"
    if report.alpha is not None:
        alpha = f"at most {report.alpha:.2g} that such an endpoint is called inconsistent"
    yield "error rate", alpha
    yield "cost", f"{plural(report.requests, 'request')}, {report.tokens:,} tokens"
    if report.replayed:
        yield "resumed", f"{plural(report.replayed, 'answer')} of an earlier run"
    yield "seed", str(report.seed)
    yield "log", f"{report.log}, head {report.log_head}"
    yield "time", f"{_time(report.started_at)} to {_time(report.finished_at)}"
    yield "r1prov", report.version


def all_findings(report: EndpointReport) -> list[Finding]:
    """Findings of the report and of its tests, each once."""
    found = [*report.findings, *(f for one in report.results for f in one.findings)]
    return list(dict.fromkeys(found))


def _finding_lines(one: Finding) -> Iterator[str]:
    yield f"  {one.rule.id} {one.severity.value} {one.rule.name}: {printable(one.subject)}"
    yield f"      {printable(one.message, limit=_WIDE)}"
    for label, value in (("expected", one.expected), ("found", one.found)):
        if value is not None:
            yield f"      {label:<10}{printable(value, limit=_WIDE)}"
    yield f"      {'do':<10}{printable(one.hint or one.rule.help, limit=_WIDE)}"


def as_json(report: EndpointReport) -> str:
    """The report as one JSON object. ASCII only."""
    return report_as_json(report)


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
