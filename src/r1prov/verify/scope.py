"""Apply the scope: which findings and which coverage the verdict depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from r1prov.manifest.loadable import INDEX_NAME
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import Role
from r1prov.verify.checks.listing import OTHER_FILES, WEIGHT_FILES
from r1prov.verify.findings import Coverage, Finding, Part
from r1prov.verify.policy import Scope
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from r1prov.verify.by_tensor import TensorCheck

# Findings that other names or another sharding of the same tensors bring about.
_OF_MISSING = frozenset({"file-missing"})
_OF_PRESENT = frozenset(
    {"file-unlisted", "shadowing-file", "file-size", "file-digest", "stated-digest"}
)
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


def by_tensor_findings(
    findings: list[Finding], loadable: list[str], check: TensorCheck, *, index_read: bool
) -> list[Finding]:
    """Under `--by tensor` names and number of the weight files do not count, only tensors do.

    What the tensors were compared for is a note; a weight file beside those that a loader takes
    was not compared, so it stays what it is, and so does every index but the one that says what a
    loader takes.

    Args:
        findings: What was found.
        loadable: The weight files whose tensors were compared.
        check: The comparison.
        index_read: Whether the model's own index was read: it was held against the shards then.
    """
    if check.undigested:
        return findings
    compared = {*loadable, INDEX_NAME} if index_read else set(loadable)
    return [
        replace(one, severity=Severity.NOTE, hint="compared by tensor: files do not count")
        if one.severity is not Severity.NOTE and _is_about_files(one, compared)
        else one
        for one in findings
    ]


def _is_about_files(one: Finding, compared: set[str]) -> bool:
    if one.rule.name in _OF_MISSING:
        return role_of(one.subject) is Role.WEIGHTS or one.subject == INDEX_NAME
    return one.rule.name in _OF_PRESENT and one.subject in compared


def _is_small_error(one: Finding) -> bool:
    return one.part is Part.OTHER and one.severity is Severity.ERROR


def scoped_coverage(
    coverage: list[Coverage], scope: Scope, *, by_tensor: bool = False
) -> list[Coverage]:
    """What the verdict does not need: other files under `--scope weights`, files by tensor.

    Where tensors were compared, an item of its own says whether all were.
    """
    optional = set()
    if scope is Scope.WEIGHTS:
        optional.add(OTHER_FILES)
    if by_tensor:
        optional.add(WEIGHT_FILES)
    return [replace(one, required=False) if one.item in optional else one for one in coverage]
