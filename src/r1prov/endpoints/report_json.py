"""The report of an audit or comparison as JSON, schema `r1prov/endpoint-report/1`.

`render/schema/endpoint-report-1.json` is the JSON Schema. No text of an answer is in it.
"""

from __future__ import annotations

import json
from datetime import datetime

from r1prov.endpoints.report import EndpointReport
from r1prov.endpoints.result import TestResult
from r1prov.verify.findings import Finding

SCHEMA = "r1prov/endpoint-report/1"


def report_as_json(report: EndpointReport) -> str:
    """The report as one JSON object. ASCII only."""
    value = {
        "schema": SCHEMA,
        "kind": report.kind,
        "verdict": report.verdict.value,
        "exit_status": report.exit_status,
        "headline": report.headline,
        "claim": report.claim,
        "sides": [
            {"role": s.role, "name": s.name, "model": s.model, "detail": s.detail}
            for s in report.sides
        ],
        "alpha": report.alpha,
        "requests": report.requests,
        "tokens": report.tokens,
        "replayed": report.replayed,
        "seed": report.seed,
        "log": {"file": report.log, "head": report.log_head},
        "started_at": _time(report.started_at),
        "finished_at": _time(report.finished_at),
        "results": [_result(one) for one in report.results],
        "not_run": [{"name": one.name, "why": one.why} for one in report.not_run],
        "findings": [_finding(one) for one in report.findings],
        "benign": list(report.benign),
        "cannot_tell": list(report.cannot_tell),
        "plots": {
            "times": {name: list(v) for name, v in report.plots.times.items()},
            "residuals": dict(report.plots.residuals),
            "sprt": list(report.plots.sprt),
            "sprt_bounds": None
            if report.plots.sprt_bounds is None
            else list(report.plots.sprt_bounds),
        },
        "r1prov": report.version,
    }
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def _result(one: TestResult) -> dict[str, object]:
    rates = one.error_rates
    return {
        "name": one.name,
        "outcome": one.outcome.value,
        "decisive": one.decisive,
        "summary": one.summary,
        "samples": one.samples,
        "requests": one.requests,
        "tokens": one.tokens,
        "error_rates": None
        if rates is None
        else {"alpha": rates.alpha, "beta": rates.beta, "basis": rates.basis},
        "statistics": dict(one.statistics),
        "findings": [_finding(f) for f in one.findings],
        "benign": list(one.benign),
        "cannot_tell": list(one.cannot_tell),
    }


def _finding(one: Finding) -> dict[str, object]:
    return {
        "rule": one.rule.id,
        "name": one.rule.name,
        "severity": one.severity.value,
        "subject": one.subject,
        "message": one.message,
        "expected": one.expected,
        "found": one.found,
        "hint": one.hint or one.rule.help,
    }


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
