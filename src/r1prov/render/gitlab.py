"""A report as a Code Quality report of GitLab (a subset of Code Climate's format)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.render.reasons import Reason, reasons
from r1prov.text import printable
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from r1prov.verify.findings import Report

# GitLab reads the whole report into a merge request page.
_SHOWN = 5_000
_SEVERITIES = {Severity.ERROR: "critical", Severity.WARNING: "minor", Severity.NOTE: "info"}


def render(report: Report) -> str:
    """The report as a JSON array; it has an entry of severity `critical` unless it is a pass."""
    found = [_entry(one, report) for one in reasons(report)[:_SHOWN]]
    return json.dumps(found, indent=2, ensure_ascii=True) + "\n"


def _entry(one: Reason, report: Report) -> dict[str, object]:
    name = report.model.rstrip("/").rpartition("/")[2] or report.model
    details = [one.message, *(f"{label}: {value}" for label, value in one.details())]
    return {
        "type": "issue",
        "check_name": one.label,
        "description": printable(one.sentence(), limit=4000),
        "content": {"body": "\n".join(printable(line, limit=4000) for line in details)},
        "categories": ["Security"],
        "severity": _SEVERITIES[one.severity],
        "fingerprint": one.fingerprint,
        "location": {
            "path": printable(name if one.file is None else one.file, limit=1000),
            "lines": {"begin": 1},
        },
    }
