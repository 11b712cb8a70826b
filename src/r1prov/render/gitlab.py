"""A report as a Code Quality report of GitLab (a subset of Code Climate's format)."""

from __future__ import annotations

import hashlib
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
    every = reasons(report)
    found = [_entry(one, report) for one in every[:_SHOWN]]
    if len(every) > _SHOWN:
        found.append(_rest(len(every) - _SHOWN, report))
    return json.dumps(found, indent=2, ensure_ascii=True) + "\n"


def _rest(count: int, report: Report) -> dict[str, object]:
    """That the gravest are not all: a page that ends must not look like one that is whole."""
    more = f"{count:,} more; --format json lists them all"
    return {
        "type": "issue",
        "check_name": "r1prov",
        "description": more,
        "content": {"body": more},
        "categories": ["Security"],
        "severity": "info",
        "fingerprint": hashlib.sha256(b"r1prov/more").hexdigest(),
        "location": {"path": _name(report), "lines": {"begin": 1}},
    }


def _name(report: Report) -> str:
    return printable(report.model.rstrip("/").rpartition("/")[2] or report.model, limit=1000)


def _entry(one: Reason, report: Report) -> dict[str, object]:
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
            "path": _name(report) if one.file is None else printable(one.file, limit=1000),
            "lines": {"begin": 1},
        },
    }
