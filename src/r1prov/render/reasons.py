"""What a verdict rests on, in the one form that the formats for pipelines share.

A finding is a reason, and so is everything required that was not checked: a pipeline that only
counts entries must never take `incomplete` for a pass.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.verify.findings import CoverageState
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.verify.findings import Coverage, Finding, Report

# Not rules of the table: nothing is wrong with the model, the check is what is missing.
NOT_CHECKED = "not-checked"
NOT_CHECKED_TITLE = "Something that had to be checked was not"
NOT_CHECKED_HELP = (
    "An incomplete check is never a pass. Make it readable, or give what it is compared with, and "
    "verify again at level full."
)

_HEADINGS = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.NOTE: "Notes"}
_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
# Rules whose subject may be a tensor, a model, a key or a signature beside the manifest. They name
# a file only where the report knows a file of that name.
_OTHER_SUBJECTS = frozenset({"limit", "index-mismatch", "tensor-duplicate", "commit-proof"})
_OTHER_GROUPS = "34"
_CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One thing that a verdict rests on, or a note.

    Attributes:
        rule: Rule id, or `not-checked`.
        name: The rule's name.
        title: The rule's title.
        severity: What it weighs here.
        file: Path inside the model, if it is about a file (untrusted text, like all below).
        subject: File, tensor, key or thing it is about.
        message: What is wrong.
        expected: What the rule or manifest asks for.
        found: What is there.
        hint: What to do next.
        fingerprint: 64 hex digits, the same in every run that finds the same thing.
    """

    rule: str
    name: str
    title: str
    severity: Severity
    file: str | None
    subject: str
    message: str
    expected: str | None
    found: str | None
    hint: str
    fingerprint: str

    @property
    def label(self) -> str:
        """Id and name of the rule."""
        return self.rule if self.rule == self.name else f"{self.rule} {self.name}"

    def details(self) -> list[tuple[str, str]]:
        """Label and value of what was expected, what was found, and what to do."""
        lines = [("expected", self.expected), ("found", self.found), ("do", self.hint)]
        return [(label, value) for label, value in lines if value is not None]

    def sentence(self) -> str:
        """Everything in one line."""
        return "; ".join(
            [
                f"{self.subject}: {self.message}",
                *(f"{name}: {text}" for name, text in self.details()),
            ]
        )


def reasons(report: Report) -> list[Reason]:
    """Findings and required checks that are missing, the gravest first.

    One has severity error exactly if the verdict is not `pass`: `findings.decide` sees to it.
    """
    prints = _Fingerprints(report.manifest.name if report.manifest else "")
    known = known_files(report)
    found = [_of_finding(one, known, prints) for one in report.findings]
    found += [
        _of_coverage(one, prints)
        for one in report.coverage
        if one.required and one.state is not CoverageState.CHECKED
    ]
    return sorted(found, key=lambda one: _ORDER[one.severity])


def by_heading(found: list[Reason]) -> Iterator[tuple[str, list[Reason]]]:
    """The same, under the headings that reports for people have; empty ones are left out."""
    missing = [one for one in found if one.rule == NOT_CHECKED]
    if missing:
        yield "Had to be checked, and was not", missing
    for severity, heading in _HEADINGS.items():
        group = [one for one in found if one.severity is severity and one.rule != NOT_CHECKED]
        if group:
            yield heading, group


def known_files(report: Report) -> set[str]:
    """Paths of the files that the report has hashed or says to differ."""
    return {*report.digests, *report.weights.differing, *report.other.differing}


def file_of(one: Finding, known: set[str]) -> str | None:
    """The file of the model that a finding is about, if it is about one."""
    if one.rule.name == "config-mismatch":
        return _CONFIG
    if one.subject in known:
        return one.subject
    other = one.rule.name in _OTHER_SUBJECTS or one.rule.id[3] in _OTHER_GROUPS
    return None if other else one.subject


def _of_finding(one: Finding, known: set[str], prints: _Fingerprints) -> Reason:
    return Reason(
        rule=one.rule.id,
        name=one.rule.name,
        title=one.rule.title,
        severity=one.severity,
        file=file_of(one, known),
        subject=one.subject,
        message=one.message,
        expected=one.expected,
        found=one.found,
        hint=one.hint or one.rule.help,
        fingerprint=prints.of(one.rule.id, one.subject),
    )


def _of_coverage(one: Coverage, prints: _Fingerprints) -> Reason:
    return Reason(
        rule=NOT_CHECKED,
        name=NOT_CHECKED,
        title=NOT_CHECKED_TITLE,
        severity=Severity.ERROR,
        file=None,
        subject=one.item,
        message="had to be checked, and was not",
        expected=CoverageState.CHECKED.value,
        found=f"{one.state.value}: {one.detail}",
        hint=NOT_CHECKED_HELP,
        fingerprint=prints.of(NOT_CHECKED, one.item),
    )


class _Fingerprints:
    """Digests of model name, rule and subject; a number tells those apart that share all three.

    Neither message nor digests are in it, so that a finding keeps its fingerprint while the file
    changes, nor the place of the model, which differs from one build machine to the next.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._seen: dict[tuple[str, str], int] = {}

    def of(self, rule: str, subject: str) -> str:
        number = self._seen.get((rule, subject), 0)
        self._seen[rule, subject] = number + 1
        text = "\0".join(("r1prov/fingerprint/1", self._model, rule, subject, str(number)))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
