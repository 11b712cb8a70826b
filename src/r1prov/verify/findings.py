"""Findings, coverage, and the report that holds them with the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from r1prov.verify.rules import Rule, Severity, rule

if TYPE_CHECKING:
    from r1prov.errors import FormatError


# The coverage item of a comparison tensor by tensor.
BY_TENSOR = "SHA-256 of tensors"


class Verdict(StrEnum):
    """The answer. `incomplete` is never a pass."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCOMPLETE = "incomplete"

    @property
    def exit_status(self) -> int:
        """Exit status of a command that ends with this verdict."""
        return {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCOMPLETE: 3}[self]


class Part(StrEnum):
    """Which of the two lines of a result a finding belongs to."""

    WEIGHTS = "weights"  # weight files, shard index, inventory, config against headers
    OTHER = "other"  # tokenizer, config, code and document files
    MODEL = "model"  # the model as a whole: signature, identity, hygiene


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule.

    Attributes:
        rule: The rule.
        subject: File, tensor, key or thing it is about (untrusted text).
        message: One sentence without a full stop (may hold untrusted text).
        expected: What the rule or manifest asks for.
        found: What is there.
        hint: What to do next; the rule's help where none is given.
        severity: The rule's, unless policy or scope changed it.
        part: The line of the result it counts in.
    """

    rule: Rule
    subject: str
    message: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None
    severity: Severity = Severity.ERROR
    part: Part = Part.MODEL


def finding(
    name: str,
    subject: str,
    message: str,
    *,
    expected: str | None = None,
    found: str | None = None,
    hint: str | None = None,
    severity: Severity | None = None,
    part: Part = Part.MODEL,
) -> Finding:
    """Make a finding of the rule called `name`, with the rule's severity unless one is given."""
    broken = rule(name)
    return Finding(
        broken, subject, message, expected, found, hint, severity or broken.severity, part
    )


def from_format_error(error: FormatError, subject: str, *, part: Part) -> Finding:
    """The finding that says what a parser refused."""
    return finding(
        error.rule,
        subject,
        error.message,
        expected=error.expected,
        found=error.found,
        hint=error.hint,
        part=part,
    )


class CoverageState(StrEnum):
    """Whether a thing that a verdict could rest on was looked at."""

    CHECKED = "checked"
    SKIPPED = "skipped"  # not looked at, by choice or for want of something to compare with
    UNREAD = "unread"  # wanted and not readable


@dataclass(frozen=True, slots=True)
class Coverage:
    """One thing that was checked or was not.

    Attributes:
        item: What, such as `SHA-256 of weight files`.
        state: Whether it was checked.
        detail: How many of how many, or why not.
        required: Whether the verdict is incomplete without it.
    """

    item: str
    state: CoverageState
    detail: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Tally:
    """How many files of one part of the model match."""

    matching: int = 0
    total: int = 0
    matching_bytes: int = 0
    total_bytes: int = 0
    differing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestUse:
    """Which manifest a report rests on, and how it was chosen.

    Attributes:
        name: Model name in the manifest.
        variant: `full`, `distill`, `base` or `other`.
        publisher: Who released the model.
        revision: Revision that the manifest describes.
        location: Where the manifest file is.
        sha256: Digest of the manifest file.
        chosen: One sentence: why this one.
        tree_digest: Digest over path, size and SHA-256 of every file; none for a partial manifest,
            and none where a policy or scope `weights` lets a difference through.
        signers: One line a signature: key, owner, state.
    """

    name: str
    variant: str
    publisher: str
    revision: str
    location: str
    sha256: str
    chosen: str
    tree_digest: str | None
    signers: tuple[str, ...] = ()
    trusted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Verdict, findings and coverage of one verification.

    Attributes:
        digests: Path to SHA-256 of every file whose digest is known, read or not.
        cached: Of these, paths whose digest an earlier run computed.
        stated: Of these, paths whose digest is what a remote store states: nobody here read them.
        exceptions: How many findings a policy let through.
    """

    model: str
    verdict: Verdict
    level: str
    scope: str
    expected: str | None
    manifest: ManifestUse | None
    headline: str
    weights: Tally
    other: Tally
    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]
    provenance: tuple[str, ...] = ()
    inventory_sha256: str | None = None
    tensors: int = 0
    bytes_hashed: int = 0
    started_at: datetime
    finished_at: datetime
    version: str
    digests: dict[str, str] = field(default_factory=dict)
    cached: tuple[str, ...] = ()
    stated: tuple[str, ...] = ()
    exceptions: int = 0

    @property
    def exit_status(self) -> int:
        """Exit status of `r1prov verify` with this report."""
        return self.verdict.exit_status


def decide(findings: tuple[Finding, ...], coverage: tuple[Coverage, ...]) -> Verdict:
    """Fail on any error; else incomplete where something required was not checked; else pass."""
    if any(one.severity is Severity.ERROR for one in findings):
        return Verdict.FAIL
    if any(one.required and one.state is not CoverageState.CHECKED for one in coverage):
        return Verdict.INCOMPLETE
    return Verdict.PASS
