"""A report for machines: JSON, schema `r1prov/report/1`. Only additions within one version.

`schema/report-1.json` beside this file is its JSON Schema.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.render.reasons import file_of, known_files
from r1prov.text import readable

if TYPE_CHECKING:
    from r1prov.verify.findings import Finding, Report, Tally

SCHEMA = "r1prov/report/1"


def render(report: Report) -> str:
    """The report as one JSON object. ASCII only: no raw control character can be in it.

    Every reader of JSON takes it (RFC 8259 §8.2): bytes of a name that are not UTF-8 are spelled
    out, where half a surrogate pair would stand for them.
    """
    use = report.manifest
    known = known_files(report)
    value = {
        "schema": SCHEMA,
        "verdict": report.verdict.value,
        "exit_status": report.exit_status,
        "headline": report.headline,
        "model": report.model,
        "level": report.level,
        "scope": report.scope,
        "expected": report.expected,
        "manifest": None
        if use is None
        else {
            "name": use.name,
            "variant": use.variant,
            "publisher": use.publisher,
            "revision": use.revision,
            "location": use.location,
            "sha256": use.sha256,
            "chosen": use.chosen,
            "tree_digest": use.tree_digest,
            "trusted": use.trusted,
            "signers": list(use.signers),
        },
        "weights": _tally(report.weights),
        "other_files": _tally(report.other),
        "tensors": report.tensors,
        "inventory_sha256": report.inventory_sha256,
        "bytes_hashed": report.bytes_hashed,
        "digests": report.digests,
        "cached": list(report.cached),
        "stated": list(report.stated),
        "exceptions": report.exceptions,
        "provenance": list(report.provenance),
        "findings": [_finding(one, known) for one in report.findings],
        "coverage": [
            {
                "item": one.item,
                "state": one.state.value,
                "detail": one.detail,
                "required": one.required,
            }
            for one in report.coverage
        ],
        "started_at": report.started_at.isoformat(),
        "finished_at": report.finished_at.isoformat(),
        "r1prov": report.version,
    }
    return json.dumps(_readable(value), indent=2, ensure_ascii=True) + "\n"


def _readable(value: object) -> object:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {readable(name): _readable(one) for name, one in value.items()}
    return [_readable(one) for one in value] if isinstance(value, list) else value


def _tally(tally: Tally) -> dict[str, object]:
    return {
        "matching": tally.matching,
        "total": tally.total,
        "matching_bytes": tally.matching_bytes,
        "total_bytes": tally.total_bytes,
        "differing": list(tally.differing),
    }


def _finding(one: Finding, known: set[str]) -> dict[str, object]:
    return {
        "rule": one.rule.id,
        "name": one.rule.name,
        "severity": one.severity.value,
        "part": one.part.value,
        "file": file_of(one, known),
        "subject": one.subject,
        "message": one.message,
        "expected": one.expected,
        "found": one.found,
        "hint": one.hint or one.rule.help,
    }
