"""The files of one audit, and the audit made again from them alone."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from r1prov.endpoints.journal import times_path
from r1prov.endpoints.offline import read_log
from r1prov.endpoints.plan import Asked
from r1prov.endpoints.question_set import parse_question_set
from r1prov.endpoints.reference_trust import UsedReference, judge_reference, signatures_beside
from r1prov.endpoints.rerun import Rerun, rerun
from r1prov.endpoints.settings import (
    AuditSettings,
    NamedFile,
    installed_libraries,
    parse_settings,
    plan_path,
)
from r1prov.endpoints.tokens.tokenizer import TextTokenizer
from r1prov.errors import NotFound, R1ProvError, UsageError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import (
    MAX_ENDPOINT_LOG_BYTES,
    MAX_ENDPOINT_PLAN_BYTES,
    MAX_ENDPOINT_REFERENCE_BYTES,
    MAX_EVIDENCE_INDEX_BYTES,
    MAX_QUESTION_SET_BYTES,
)
from r1prov.responses.log_check import records_of
from r1prov.text import plural, printable, quoted
from r1prov.trust.directories import read_file
from r1prov.trust.store import TrustStore
from r1prov.verify.findings import Finding, finding

Tokenizers = Callable[[AuditSettings], TextTokenizer | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFiles:
    """What one audit left behind, each as its bytes.

    Attributes:
        plan: What was to be done.
        log: The exchanges.
        times: When their bytes arrived; empty if not kept.
        reference: What the endpoint was held against; None for nothing.
        signatures: Signature files of the reference, by name.
        questions: The test set; None for none.
        tokenizer: The `tokenizer.json` that streams were held against; None if it is not kept.
    """

    plan: bytes = field(repr=False)
    log: bytes = field(repr=False)
    times: bytes = field(repr=False, default=b"")
    reference: bytes | None = field(repr=False, default=None)
    signatures: Mapping[str, bytes] = field(repr=False, default_factory=dict)
    questions: bytes | None = field(repr=False, default=None)
    tokenizer: bytes | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remade:
    """An audit made again, as far as that could be done.

    Attributes:
        settings: What was to be done; None if that cannot be read.
        again: The audit; None if it could not be made again.
        reference: What the reference is worth to whoever looks.
        unchecked: Why it could not be made again though nothing is wrong; None if it could.
        findings: What is wrong with the files.
    """

    settings: AuditSettings | None = None
    again: Rerun | None = None
    reference: UsedReference | None = None
    unchecked: str | None = None
    findings: tuple[Finding, ...] = ()


def load_audit(
    log: Path, *, reference: Path | None = None, questions: Path | None = None
) -> AuditFiles:
    """The files of an audit that was made before.

    Args:
        log: Its log; plan and arrival times stand beside it.
        reference: Where the reference is now; None looks beside the log.
        questions: Where the questions are now; likewise.

    Raises:
        NotFound: One of them is not there.
        UsageError: A file is another one than the plan names.
        EndpointPlanError: The plan is malformed.
    """
    try:
        plan = read_file(plan_path(log), MAX_ENDPOINT_PLAN_BYTES)
    except NotFound:
        raise NotFound(
            f"there is no plan {plan_path(log)} beside the log",
            subject=str(log),
            hint="`r1prov endpoint audit` writes it; `--log LOG --resume` with the same options "
            "makes it for an audit that was made without, and asks nothing twice",
        ) from None
    settings = parse_settings(plan, subject=str(plan_path(log)))
    raw = read_file(log, MAX_ENDPOINT_LOG_BYTES)
    times = times_path(log)
    named = _find(settings.reference, reference, log, "reference")
    asked = _find(settings.questions, questions, log, "questions")
    return AuditFiles(
        plan=plan,
        log=raw,
        times=read_file(times, MAX_ENDPOINT_LOG_BYTES) if times.exists() else b"",
        reference=_content(named, settings.reference, MAX_ENDPOINT_REFERENCE_BYTES),
        signatures={} if named is None else signatures_beside(named),
        questions=_content(asked, settings.questions, MAX_QUESTION_SET_BYTES),
    )


def _find(named: NamedFile | None, given: Path | None, log: Path, what: str) -> Path | None:
    if named is None:
        return None
    path = given or log.parent / named.file
    if not path.exists():
        raise UsageError(
            f"the audit of {log} used {quoted(named.file)}, and it is not beside it",
            subject=str(log),
            hint=f"name it with --{what}",
        )
    return path


def _content(path: Path | None, named: NamedFile | None, most: int) -> bytes | None:
    if path is None or named is None:
        return None
    raw = read_file(path, most)
    if hashlib.sha256(raw).hexdigest() != named.sha256:
        raise UsageError(
            f"{path} is not the file that the audit used: its SHA-256 is another",
            subject=str(path),
            hint=f"wanted: {quoted(named.file)}, sha256:{named.sha256}",
        )
    return raw


def hold_to_report(raw: bytes, audits: Sequence[AuditFiles], *, subject: str) -> None:
    """Whether a report is of one of these audits, by the head of the log that it names.

    Raises:
        UsageError: It is of another log, or the log went on since, or was cut.
        JsonError: It is no strict JSON.
    """
    value = parse_json(raw, subject=subject, max_bytes=MAX_EVIDENCE_INDEX_BYTES)
    log = value.get("log") if isinstance(value, dict) else None
    head = log.get("head") if isinstance(log, dict) else None
    heads = []
    for one in audits:
        last = deque(records_of(one.log, subject="the log"), maxlen=1)
        heads += [str(record.head) for record in last]
    if head not in heads:
        raise UsageError(
            "the report is of none of these logs, or its log is not what it was then",
            subject=subject,
            hint=f"it names the head {quoted(str(head))}; the logs end with {', '.join(heads)}",
        )


def remake(
    files: AuditFiles,
    *,
    trust: TrustStore,
    now: datetime,
    tokenizers: Tokenizers,
    subject: str,
) -> Remade:
    """Make an audit again from its files.

    Args:
        files: Anybody's.
        trust: Whose signatures of a reference count.
        now: When they are judged.
        tokenizers: Gives the tokenizer that an audit was made with; None if it is not at hand.
        subject: What findings call the audit.
    """
    try:
        settings = parse_settings(files.plan, subject=f"{subject}/plan.json")
    except R1ProvError as error:
        return Remade(findings=(_wrong("audit-plan", f"{subject}/plan.json", error),))
    broken = tuple(_other_files(files, settings, subject))
    if broken:
        return Remade(settings=settings, findings=broken)
    where = f"{subject}/reference.json"
    used, asked = None, None
    try:
        if files.reference is not None and settings.reference is not None:
            path = Path(settings.reference.file)
            used = judge_reference(files.reference, path, files.signatures, trust, now=now)
        if files.questions is not None and settings.questions is not None:
            csv = settings.questions.file.lower().endswith(".csv")
            where = f"{subject}/questions.{'csv' if csv else 'jsonl'}"
            asked = Asked(
                questions=parse_question_set(files.questions, subject=where),
                sha256=settings.questions.sha256,
                max_tokens=settings.question_tokens,
                tolerated=settings.tolerated,
            )
    except R1ProvError as error:
        return Remade(settings=settings, findings=(_wrong("audit-plan", where, error),))
    if used is not None and used.altered:
        why = used.findings[0].message if used.findings else "a signature is of another content"
        where = f"{subject}/reference.json"
        return Remade(settings=settings, findings=(finding("audit-plan", where, why),))
    try:
        log = read_log(files.log, files.times, url=settings.url, subject=f"{subject}/exchanges")
    except R1ProvError as error:
        where = f"{subject}/exchanges.jsonl"
        return Remade(settings=settings, findings=(_wrong("audit-log", where, error),))
    if log.elsewhere:
        told = finding_elsewhere(subject, settings.url, log.elsewhere)
        return Remade(settings=settings, findings=(told,))
    lacking = sorted(set(settings.libraries) - set(installed_libraries()))
    if lacking:
        why = f"it takes {', '.join(map(printable, lacking))}: install r1prov[endpoint]"
        return Remade(settings=settings, reference=used, unchecked=why)
    tokenizer = tokenizers(settings) if settings.tokenizer is not None else None
    if settings.tokenizer is not None and tokenizer is None:
        why = (
            f"streams were held against a tokenizer.json of {settings.plan.claim}, "
            f"sha256:{settings.tokenizer}, which is not at hand: name it with --tokenizer"
        )
        return Remade(settings=settings, reference=used, unchecked=why)
    try:
        again = rerun(settings, log, tokenizer=tokenizer, reference=used, asked=asked)
    except R1ProvError as error:
        told = _wrong("audit-plan", f"{subject}/plan.json", error)
        return Remade(settings=settings, reference=used, findings=(told,))
    found: tuple[Finding, ...] = ()
    if again.unused:
        message = f"{plural(again.unused, 'answer')} in the log that the plan does not ask for"
        found = (finding("audit-unused", f"{subject}/exchanges.jsonl", message),)
    return Remade(settings=settings, again=again, reference=used, findings=found)


def finding_elsewhere(subject: str, url: str, elsewhere: list[str]) -> Finding:
    """The finding that requests of an audit went to another address."""
    others = ", ".join(dict.fromkeys(elsewhere))
    return finding(
        "audit-log",
        f"{subject}/exchanges.jsonl",
        f"{plural(len(elsewhere), 'request')} went to another address than the plan's",
        expected=url,
        found=printable(others),
    )


def _wrong(rule: str, where: str, error: R1ProvError) -> Finding:
    return finding(rule, where, error.message, hint=error.hint)


def _other_files(files: AuditFiles, settings: AuditSettings, subject: str) -> Iterator[Finding]:
    """Files that the plan does not name, or names by another digest."""
    for raw, named, what in (
        (files.reference, settings.reference, "reference.json"),
        (files.questions, settings.questions, "questions"),
    ):
        found = None if raw is None else hashlib.sha256(raw).hexdigest()
        wanted = None if named is None else named.sha256
        if found != wanted:
            yield finding(
                "audit-plan",
                f"{subject}/{what}",
                "is not the file that the plan names",
                expected="none" if wanted is None else f"sha256:{wanted}",
                found="none" if found is None else f"sha256:{found}",
            )
