"""Apply the scope: which findings and which coverage the verdict depends on."""

from __future__ import annotations

from dataclasses import replace

from r1prov.verify.checks.listing import OTHER_FILES
from r1prov.verify.findings import Coverage, Finding, Part
from r1prov.verify.policy import Scope
from r1prov.verify.rules import Severity

_LATER_REVISION = (
    "only small files differ, not the weights; they may be of a later revision: go on with "
    "--scope weights, or sign a manifest of your own revision (r1prov manifest create)"
)
_NOT_WEIGHTS = (
    "not weights, so --scope weights lets it be; it may be of a later revision, which a manifest "
    "of your own would pin (r1prov manifest create)"
)


def scoped_findings(findings: list[Finding], scope: Scope) -> list[Finding]:
    """Under `--scope weights` differing small files are listed and do not fail.

    Under `all`, where only small files differ, the hint says how to go on.
    """
    if scope is Scope.WEIGHTS:
        return [
            replace(one, severity=Severity.WARNING, hint=one.hint or _NOT_WEIGHTS)
            if _is_small_error(one)
            else one
            for one in findings
        ]
    errors = [one for one in findings if one.severity is Severity.ERROR]
    if not all(_is_small_error(one) for one in errors):
        return findings
    return [
        replace(one, hint=one.hint or _LATER_REVISION) if _is_small_error(one) else one
        for one in findings
    ]


def _is_small_error(one: Finding) -> bool:
    return one.part is Part.OTHER and one.severity is Severity.ERROR


def scoped_coverage(coverage: list[Coverage], scope: Scope) -> list[Coverage]:
    """Under `--scope weights` the digests of other files are not required."""
    if scope is Scope.ALL:
        return coverage
    return [replace(one, required=False) if one.item == OTHER_FILES else one for one in coverage]
