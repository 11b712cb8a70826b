"""What became of the signature of an answer, as text and JSON (schema `r1prov/exchange-report/1`).

`schema/exchange-report-1.json` beside this file is the JSON Schema.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.text import printable
from r1prov.verify.findings import CoverageState

if TYPE_CHECKING:
    from datetime import datetime

    from r1prov.responses.report import ExchangeReport
    from r1prov.verify.findings import Finding

SCHEMA = "r1prov/exchange-report/1"
_MARKS = {
    CoverageState.CHECKED: "checked",
    CoverageState.SKIPPED: "not checked",
    CoverageState.UNREAD: "could not",
}


def as_text(report: ExchangeReport) -> str:
    """The verdict and why, who signed what, and what was not checked."""
    lines = [
        f"{report.verdict.value}: {printable(report.headline, limit=500)} ({report.state.value})",
        f"  {report.subject}",
        "",
    ]
    rows = [("scheme", report.scheme or "none")]
    if report.key is not None:
        key = report.key
        who = key.thumbprint or "shared secret"
        rows.append(("key", f"{who} {key.algorithm}{f', {key.owner}' if key.owner else ''}"))
    rows += [
        (name, value)
        for name, value in (
            ("model", report.model),
            ("signed", _time(report.created)),
            ("expires", _time(report.expires)),
            ("nonce", report.nonce),
            ("tag", report.tag),
            ("covers", " ".join(report.covered) or None),
        )
        if value is not None
    ]
    rows.append(("judged at", _time(report.judged_at) or ""))
    rows.append(("policy", report.policy))
    lines += [f"  {name:<10} {printable(value, limit=1000)}" for name, value in rows]
    for one in report.findings:
        lines += ["", *_finding_lines(one)]
    lines += ["", "  what was checked"]
    lines += [
        f"    {_MARKS[one.state]:<12} {printable(one.item)}: {printable(one.detail, limit=500)}"
        for one in report.coverage
    ]
    return "\n".join(lines) + "\n"


def _finding_lines(one: Finding) -> list[str]:
    lines = [
        f"  {one.rule.id} {one.severity.value}  {printable(one.rule.title)}",
        f"    {printable(one.subject)}: {printable(one.message, limit=1000)}",
    ]
    lines += [
        f"    {name:<9} {printable(value, limit=1000)}"
        for name, value in (("expected", one.expected), ("found", one.found))
        if value is not None
    ]
    return [*lines, f"    hint      {printable(one.hint or one.rule.help, limit=1000)}"]


def as_json(report: ExchangeReport) -> str:
    """The same as one JSON object. ASCII only."""
    key = report.key
    value = {
        "schema": SCHEMA,
        "verdict": report.verdict.value,
        "exit_status": report.exit_status,
        "state": report.state.value,
        "headline": report.headline,
        "exchange": report.subject,
        "scheme": report.scheme,
        "key": None
        if key is None
        else {
            "thumbprint": key.thumbprint or None,
            "algorithm": key.algorithm,
            "owner": key.owner or None,
            "source": key.source,
        },
        "covered": list(report.covered),
        "created": _time(report.created),
        "expires": _time(report.expires),
        "nonce": report.nonce,
        "tag": report.tag,
        "model": report.model,
        "findings": [
            {
                "rule": one.rule.id,
                "name": one.rule.name,
                "severity": one.severity.value,
                "subject": one.subject,
                "message": one.message,
                "expected": one.expected,
                "found": one.found,
                "hint": one.hint or one.rule.help,
            }
            for one in report.findings
        ],
        "coverage": [
            {
                "item": one.item,
                "state": one.state.value,
                "detail": one.detail,
                "required": one.required,
            }
            for one in report.coverage
        ],
        "judged_at": _time(report.judged_at),
        "policy": report.policy,
        "r1prov": report.version,
    }
    return json.dumps(value, indent=2, ensure_ascii=True) + "\n"


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None
