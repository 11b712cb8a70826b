"""Audits of endpoints in a bundle: their files as members, and the verdict of each made again."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import r1prov
from r1prov.endpoints.acceptance import EndpointCriteria, JudgedAudit, judge_audits
from r1prov.endpoints.audit_files import AuditFiles, Remade, remake
from r1prov.endpoints.report_json import report_as_json
from r1prov.endpoints.rerun import differences
from r1prov.endpoints.result import Outcome
from r1prov.endpoints.settings import AuditSettings, installed_libraries
from r1prov.endpoints.tokens.tokenizer import (
    TextTokenizer,
    installed_tokenizer,
    load_tokenizer,
    parse_tokenizer,
)
from r1prov.errors import EvidenceError, JsonError, R1ProvError
from r1prov.evidence.parts import Kind
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EVIDENCE_AUDITS, MAX_EVIDENCE_INDEX_BYTES
from r1prov.text import plural
from r1prov.verify.findings import Coverage, CoverageState, Finding, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from r1prov.endpoints.report import EndpointReport
    from r1prov.evidence.open import Bundle
    from r1prov.manifest.shelf import Shelf
    from r1prov.trust.store import TrustStore

_FOLDER: Final = "endpoint/"
_MEMBER: Final = re.compile(
    r"endpoint/(\d\d)/(plan\.json|exchanges\.jsonl|arrivals\.jsonl|report\.json|reference\.json"
    r"|reference\.json\.\d\d\.sigstore\.json|questions\.(?:jsonl|csv)|tokenizer\.json)",
    re.ASCII,
)
_SKEW: Final = timedelta(minutes=5)
# After this long an audit is told to be old, whatever a policy takes.
_OLD: Final = timedelta(days=30)
_SHOWN: Final = 5
_FIRST: Final = frozenset({"verdict", "claim", "log.head"})
# Places of a report that say what was decided; the rest are figures.
_DECIDING: Final = re.compile(
    r"kind|verdict|exit_status|claim|sides.*|alpha|requests|tokens|seed|log.*|not_run.*"
    r"|results|results\[[^]]*\]\.(?:name|outcome|decisive|samples|requests)",
)


@dataclass(frozen=True, slots=True)
class CheckedAudits:
    """What the audits of a bundle are worth.

    Attributes:
        reports: Folder and report of each that was made again.
        findings: What is wrong, and what they found.
        coverage: What was checked and what not.
    """

    reports: tuple[tuple[str, EndpointReport], ...]
    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]


def audit_members(
    number: int, files: AuditFiles, *, trust: TrustStore, tokenizers: Tokenizers, now: datetime
) -> tuple[dict[str, tuple[Kind, bytes]], EndpointReport]:
    """The members that an audit makes, with its report as it is made again from them.

    Args:
        number: Of the audit in the bundle, from 0.
        files: Of the audit.
        trust: Whom its maker trusts.
        tokenizers: Where its tokenizer may be.
        now: The present.

    Raises:
        EvidenceError: It cannot be made again, so that it would be no evidence.
    """
    folder = f"{_FOLDER}{number:02d}"
    made = remake(
        files,
        trust=trust,
        now=now,
        tokenizers=tokenizers,
        subject=folder,
        run_code=True,  # as its maker did
    )
    if made.again is None or made.settings is None:
        why = made.unchecked or "; ".join(f"{one.subject}: {one.message}" for one in made.findings)
        raise EvidenceError(f"the audit cannot be made again: {why}", subject=folder)
    members = {
        "plan.json": files.plan,
        "exchanges.jsonl": files.log,
        "report.json": report_as_json(made.again.report).encode(),
    }
    if files.times:
        members["arrivals.jsonl"] = files.times
    if files.reference is not None:
        members["reference.json"] = files.reference
        for place, name in enumerate(sorted(files.signatures)):
            members[f"reference.json.{place:02d}.sigstore.json"] = files.signatures[name]
    if files.questions is not None and made.settings.questions is not None:
        csv = made.settings.questions.file.lower().endswith(".csv")
        members["questions.csv" if csv else "questions.jsonl"] = files.questions
    found = {f"{folder}/{name}": (Kind.ENDPOINT, data) for name, data in members.items()}
    if tokenizers.found is not None:
        found[f"{folder}/tokenizer.json"] = (Kind.FILES, tokenizers.found.raw)
    return found, made.again.report


class Tokenizers:
    """Where the tokenizer of an audit may be: in the bundle, in a named file, installed.

    Args:
        raw: What the bundle holds.
        named: File or directory.
        shelf: Manifests, which say what it must be: nobody can slip in another.

    Attributes:
        found: The one that was asked for last, if it is at hand.
    """

    def __init__(self, raw: bytes | None, named: Path | None, shelf: Shelf) -> None:
        self._raw, self._named, self._shelf = raw, named, shelf
        self.found: TextTokenizer | None = None

    def __call__(self, settings: AuditSettings) -> TextTokenizer | None:
        """The tokenizer that an audit was made with; None if it is not at hand."""
        claim = settings.plan.claim or ""
        for load in (self._bundled, self._given, self._installed):
            try:
                found = load(claim)
            except R1ProvError:
                continue  # the next one; where none is the right one, the audit says so
            if found is not None and found.sha256 == settings.tokenizer:
                self.found = found
                return found
        return None

    def _bundled(self, claim: str) -> TextTokenizer | None:
        if self._raw is None:
            return None
        return parse_tokenizer(self._raw, self._shelf, claim=claim, subject="tokenizer.json")

    def _given(self, claim: str) -> TextTokenizer | None:
        return (
            None if self._named is None else load_tokenizer(self._named, self._shelf, claim=claim)
        )

    def _installed(self, claim: str) -> TextTokenizer | None:
        return installed_tokenizer(self._shelf, claim=claim)


def check_audits(
    bundle: Bundle,
    *,
    trust: TrustStore,
    shelf: Shelf,
    criteria: EndpointCriteria | None,
    tokenizer: Path | None,
    run_code: bool,
    at: datetime,
) -> CheckedAudits:
    """Make every audit of a bundle again, and judge them.

    Args:
        bundle: The bundle; intact.
        trust: The pinned keys, which alone say whose references count.
        shelf: Manifests, which say what a tokenizer must be.
        criteria: What is demanded of audits; None for nothing beyond that none contradicts.
        tokenizer: File or directory of a tokenizer that is not in the bundle.
        run_code: Whether code in answers may be run, in a sandbox.
        at: When keys are judged.
    """
    run = _Run(bundle, criteria)
    for name, files, report in _audits(bundle, run.findings):
        made = remake(
            files,
            trust=trust,
            now=at,
            tokenizers=Tokenizers(files.tokenizer, tokenizer, shelf),
            subject=name,
            run_code=run_code,
        )
        run.audit(name, made, report)
    run.criteria()
    return CheckedAudits(tuple(run.reports), tuple(run.findings), tuple(run.coverage))


def _audits(bundle: Bundle, findings: list[Finding]) -> list[tuple[str, AuditFiles, bytes | None]]:
    """Each folder with its files and its report; members that belong to none are findings."""
    folders: dict[str, dict[str, bytes]] = {}
    for part in (*bundle.index.of(Kind.ENDPOINT), *bundle.index.of(Kind.FILES)):
        found = _MEMBER.fullmatch(part.path)
        if found is None:
            message = "is no member that an audit of an endpoint has"
            findings.append(finding("audit-plan", part.path, message))
            continue
        folders.setdefault(found[1], {})[found[2]] = bundle.payload[part.path]
    if len(folders) > MAX_EVIDENCE_AUDITS:
        raise EvidenceError(f"more than {MAX_EVIDENCE_AUDITS} audits", subject=bundle.subject)
    audits = []
    for number, members in sorted(folders.items()):
        name = f"{_FOLDER}{number}"
        lacking = [one for one in ("plan.json", "exchanges.jsonl") if one not in members]
        both = {"questions.csv", "questions.jsonl"} <= members.keys()
        if lacking or both:
            what = f"has no {' and no '.join(lacking)}" if lacking else "has two files of questions"
            findings.append(finding("audit-plan", name, what))
            continue
        files = AuditFiles(
            plan=members["plan.json"],
            log=members["exchanges.jsonl"],
            times=members.get("arrivals.jsonl", b""),
            reference=members.get("reference.json"),
            signatures=_signatures(members),
            questions=members.get("questions.csv", members.get("questions.jsonl")),
            tokenizer=members.get("tokenizer.json"),
        )
        audits.append((name, files, members.get("report.json")))
    return audits


def _signatures(members: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: raw for name, raw in members.items() if name.endswith(".sigstore.json")}


class _Run:
    """What has been found so far."""

    def __init__(self, bundle: Bundle, criteria: EndpointCriteria | None) -> None:
        self.index = bundle.index
        self.demanded = criteria
        self.reports: list[tuple[str, EndpointReport]] = []
        self.findings: list[Finding] = []
        self.coverage: list[Coverage] = []
        self.judged: list[JudgedAudit] = []

    @property
    def required(self) -> bool:
        """Whether an audit that tells nothing leaves the verdict open."""
        return self.demanded is None or self.demanded.required

    def _open(self, item: str, why: str) -> None:
        self.coverage.append(Coverage(item, CoverageState.UNREAD, why, required=self.required))

    def audit(self, name: str, made: Remade, recorded: bytes | None) -> None:
        """Take one audit."""
        self.findings += made.findings
        self._claim(name, made)
        again = made.again
        if again is None or made.settings is None:
            self._open(name, f"not made again: {made.unchecked or 'see what is wrong with it'}")
            return
        report = again.report
        self.reports.append((name, report))
        self._recorded(name, made, recorded)
        self._times(name, again.finished)
        against = report.verdict is Outcome.INCONSISTENT
        for one in (*report.findings, *(f for result in report.results for f in result.findings)):
            # What does not decide the audit does not decide the bundle either.
            severity = Severity.WARNING if one.severity is Severity.ERROR and not against else None
            self.findings.append(
                replace(one, subject=f"{name}: {one.subject}", severity=severity or one.severity)
            )
        if against:
            self.findings.append(finding("audit-inconsistent", name, report.headline))
        detail = f"{report.verdict.value}: {report.headline}; {_made(report, again.failed)}"
        if report.verdict is Outcome.NOT_TESTABLE:
            self._open(name, detail)
        else:
            self.coverage.append(Coverage(name, CoverageState.CHECKED, detail))
        used = made.reference
        if used is not None:
            item = f"reference of {name}"
            if used.findings:
                why = f"whatever the maker chose: {used.findings[0].message}"
                self._open(item, why)
            else:
                told = "; ".join(used.signers)
                self.coverage.append(Coverage(item, CoverageState.CHECKED, told))
        weights = used.reference.weights if used is not None else None
        self.judged.append(
            JudgedAudit(
                name=name,
                url=made.settings.url,
                report=report,
                finished=again.finished,
                failed=again.failed,
                signers=used.key_ids if used is not None else frozenset(),
                reference_manifest=None if weights is None else weights.manifest_sha256,
            )
        )

    def _claim(self, name: str, made: Remade) -> None:
        if made.settings is None:
            return
        claim = made.settings.plan.claim or (
            made.reference.reference.model if made.reference is not None else "nothing"
        )
        if claim.lower() != self.index.model.lower():
            self.findings.append(
                finding(
                    "audit-claim",
                    name,
                    "the audit is about another model than the manifest of the bundle",
                    expected=self.index.model,
                    found=claim,
                )
            )

    def _recorded(self, name: str, made: Remade, raw: bytes | None) -> None:
        """Hold the recorded report against the one that was made again."""
        where = f"{name}/report.json"
        if raw is None:
            self.findings.append(finding("audit-report", where, "the report is not there"))
            return
        try:
            value = parse_json(raw, subject=where, max_bytes=MAX_EVIDENCE_INDEX_BYTES)
        except JsonError as error:
            self.findings.append(finding("audit-report", where, error.message))
            return
        assert made.again is not None  # noqa: S101 - the caller looked
        assert made.settings is not None  # noqa: S101
        found = differences(value, made.again.report)
        if not found:
            return
        places = {one: one.partition(": ")[0] for one in found}
        deciding = [one for one in found if _DECIDING.fullmatch(places[one])]
        # A log that was cut differs in everything: where it ends says so best.
        deciding.sort(key=lambda one: places[one] not in _FIRST)
        settings = made.settings
        same = (
            settings.version == r1prov.__version__ and settings.libraries == installed_libraries()
        )
        shown = (deciding + [one for one in found if one not in deciding])[:_SHOWN]
        more = f"; and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
        message = f"{'; '.join(shown)}{more}"
        if not same and not deciding:
            detail = f"figures differ, with other versions of r1prov or its libraries: {message}"
            self.coverage.append(
                Coverage(f"figures of {name}", CoverageState.SKIPPED, detail, required=False)
            )
            return
        hint = None
        if not same:
            hint = f"it was made with r1prov {settings.version} and other libraries: try those"
        self.findings.append(finding("audit-report", where, message, hint=hint))

    def _times(self, name: str, finished: datetime | None) -> None:
        created = self.index.created
        if finished is None:
            why = "its log does not say when it was made"
            self.coverage.append(
                Coverage(f"time of {name}", CoverageState.SKIPPED, why, required=False)
            )
            return
        if finished - created > _SKEW:  # a sum could pass the last year that there is
            self.findings.append(
                finding(
                    "audit-time",
                    name,
                    "its last answer came after the bundle was made",
                    expected=f"at most {created:%Y-%m-%d %H:%M:%SZ}",
                    found=f"{finished:%Y-%m-%d %H:%M:%SZ}",
                )
            )
        elif created - finished > _OLD:
            self.findings.append(
                finding(
                    "audit-old",
                    name,
                    f"its last answer came {plural((created - finished).days, 'day')} before the "
                    "bundle was made",
                    expected=f"at most {_OLD.days} days",
                    found=f"{finished:%Y-%m-%d}",
                )
            )

    def criteria(self) -> None:
        """Hold all of them against what is demanded."""
        if self.reports:
            why = "the log is what the maker recorded: whoever doubts it audits the endpoint again"
            self.coverage.append(
                Coverage("answers of endpoints", CoverageState.SKIPPED, why, required=False)
            )
        demanded = self.demanded
        if demanded is None:
            return
        index = self.index
        manifest = next((one.sha256 for one in index.parts if one.path == index.manifest), None)
        found = list(judge_audits(demanded, self.judged, at=index.created, manifest=manifest))
        self.findings += found
        detail = f"{demanded.location}: {_held(found)}"
        self.coverage.append(
            Coverage("criteria for endpoints", CoverageState.CHECKED, detail, required=False)
        )


def _held(found: Sequence[Finding]) -> str:
    if not found:
        return "every criterion of [endpoint] is met"
    return f"{plural(len(found), 'finding')} about [endpoint]"


def _made(report: EndpointReport, failed: int) -> str:
    """What was tested, so that a plan that tests little is seen for what it is."""
    tests = [
        f"{one.name} {one.outcome.value} ({one.samples:,})"
        for one in report.results
        if one.outcome is not Outcome.DESCRIPTION
    ]
    text = f"{plural(report.requests, 'request')}, tests: {', '.join(tests) or 'none'}"
    if report.not_run:
        text += f"; not run: {', '.join(dict.fromkeys(one.name for one in report.not_run))}"
    if failed:
        text += f"; {plural(failed, 'request')} without an answer"
    return text
