"""Bundles that continue each other: one deployment over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import LimitExceeded, NotFound, R1ProvError, Unreadable
from r1prov.evidence.verify import Demands, EvidenceResult, verify_evidence
from r1prov.limits import MAX_EVIDENCE_BYTES, MAX_EVIDENCE_CHAIN
from r1prov.trust.directories import read_file
from r1prov.verify.findings import Finding, Verdict, finding

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from r1prov.verify.pipeline import Authorities

_SUFFIX = ".zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is another from one bundle to the next.

    Attributes:
        what: A file of the model, or what else of a bundle (`manifest`, `verdict`, `signer`, …).
        before: What it was; None if it is new.
        after: What it is; None if it is gone.
    """

    what: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One bundle of the chain, and what changed since the one before."""

    result: EvidenceResult
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The bundles of a directory, the first one first.

    Attributes:
        links: Those that could be read, in the order of the chain, else of their times.
        findings: What is wrong with the chain, and files that are no bundle.
        verdict: Pass if every bundle passes and they form one chain.
    """

    links: tuple[Link, ...]
    findings: tuple[Finding, ...]
    verdict: Verdict


def read_chain(
    directory: Path, authorities: Authorities, *, now: datetime, demands: Demands | None = None
) -> Chain:
    """Verify every bundle of a directory, and that they form one chain.

    Args:
        directory: Where they are, as `*.zip`.
        authorities: Whom the verifier trusts.
        now: The present.
        demands: What is asked of each of them.

    Raises:
        NotFound: There is no bundle.
        Unreadable: It cannot be listed.
        LimitExceeded: There are more than any chain has.
    """
    try:
        paths = sorted(one for one in directory.iterdir() if one.name.endswith(_SUFFIX))
    except OSError as error:
        raise Unreadable(
            f"cannot list {directory}: {error.strerror}", subject=str(directory)
        ) from None
    if not paths:
        raise NotFound(f"no bundle (*{_SUFFIX}) in {directory}", subject=str(directory))
    if len(paths) > MAX_EVIDENCE_CHAIN:
        raise LimitExceeded(
            f"{len(paths):,} bundles; the cap is {MAX_EVIDENCE_CHAIN:,}", subject=str(directory)
        )
    findings: list[Finding] = []
    results: list[EvidenceResult] = []
    for path in paths:
        try:
            raw = read_file(path, MAX_EVIDENCE_BYTES)
            results.append(
                verify_evidence(raw, authorities, now=now, demands=demands, subject=path.name)
            )
        except R1ProvError as error:
            what = error.message.removeprefix(f"{path.name}: ")
            findings.append(finding("evidence-chain", path.name, what, hint=error.hint))
    ordered = _in_order(results, findings)
    links = []
    before: EvidenceResult | None = None
    for result in ordered:
        links.append(Link(result=result, changes=_changes(before, result)))
        before = result
    verdicts = {one.verdict for one in results}
    if findings or Verdict.FAIL in verdicts:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.INCOMPLETE if Verdict.INCOMPLETE in verdicts else Verdict.PASS
    return Chain(links=tuple(links), findings=tuple(findings), verdict=verdict)


def _in_order(results: list[EvidenceResult], findings: list[Finding]) -> list[EvidenceResult]:
    """The bundles as they continue each other; what does not fit is a finding."""
    by_digest: dict[str, EvidenceResult] = {}
    next_of: dict[str, EvidenceResult] = {}
    first = []
    for one in results:
        other = by_digest.setdefault(one.sha256, one)
        if other is not one:
            message = f"is the same file as {other.subject}"
            findings.append(finding("evidence-chain", one.subject, message))
    by_time = sorted(by_digest.values(), key=lambda result: (result.index.created, result.subject))
    for one in by_time:
        previous = one.index.previous
        if previous is None:
            first.append(one)
            continue
        before = by_digest.get(previous.sha256)
        if before is None:
            message = "continues a bundle that is not here, or was replaced"
            findings.append(
                finding(
                    "evidence-previous", one.subject, message, expected=f"sha256:{previous.sha256}"
                )
            )
            first.append(one)
            continue
        if before.index.model != one.index.model:
            message = f"is about {one.index.model}, and continues one about {before.index.model}"
            findings.append(finding("evidence-previous", one.subject, message))
        if before.index.created != previous.created or one.index.created < previous.created:
            message = f"the times of it and of {before.subject} do not follow each other"
            findings.append(finding("evidence-previous", one.subject, message))
        other = next_of.setdefault(before.sha256, one)
        if other is not one:
            message = f"continues {before.subject}, as {other.subject} does"
            findings.append(finding("evidence-chain", one.subject, message))
    if len(first) > 1:
        names = ", ".join(one.subject for one in first[:5])
        findings.append(
            finding("evidence-chain", first[1].subject, f"{len(first)} chains begin here: {names}")
        )
    ordered: list[EvidenceResult] = []
    for one in first:
        at: EvidenceResult | None = one
        while at is not None:
            ordered.append(at)
            at = next_of.get(at.sha256)
    # A second one that continues the same is shown too.
    shown = {one.sha256 for one in ordered}
    return ordered + [one for one in by_time if one.sha256 not in shown]


def _changes(before: EvidenceResult | None, after: EvidenceResult) -> tuple[Change, ...]:
    if before is None:
        return ()
    old, new = _contents(before), _contents(after)
    found = [
        Change(what=path, before=old.get(path), after=new.get(path))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    ]
    was, now = _about(before), _about(after)
    found += [
        Change(what=what, before=was[what], after=now[what])
        for what in was
        if was[what] != now[what]
    ]
    had, has = _audits(before), _audits(after)
    found += [
        Change(what=f"audit of {url}", before=had.get(url), after=has.get(url))
        for url in sorted(had.keys() | has.keys())
        if had.get(url) != has.get(url)
    ]
    return tuple(found)


def _contents(result: EvidenceResult) -> dict[str, str]:
    """Path to SHA-256; to kind and size where there is none, so that a file is never just gone."""
    told = {one.path: f"{one.kind.value}, {one.size:,} bytes, not hashed" for one in result.listed}
    return told | result.digests


def _about(result: EvidenceResult) -> dict[str, str | None]:
    """What of a bundle, beside the files of the model, should stay as it is over time."""
    index, signature, report = result.index, result.signature, result.report
    digests = {one.path: one.sha256 for one in index.parts}
    use = report.manifest if report is not None else None
    return {
        "model": index.model,
        "manifest": digests.get(index.manifest or ""),
        "signers of the manifest": "; ".join(use.signers) if use is not None else None,
        "policy": digests.get(index.policy or ""),
        "scope": index.scope.value,
        "level": index.level.value,
        "expected": index.expected,
        "tensors": report.inventory_sha256 if report is not None else None,
        "signer": f"{signature.owner or 'unknown'}, key {signature.key_id}",
        "verdict": result.verdict.value,
        "r1prov": index.version,
    }


def _audits(result: EvidenceResult) -> dict[str, str]:
    """Address to the verdict of its audit, by claim; of several the worst is told last."""
    found: dict[str, str] = {}
    for _, report in result.audits:
        url = report.sides[0].name
        told = f"{report.verdict.value} with {report.claim}"
        found[url] = f"{found[url]}, {told}" if url in found else told
    return found
