"""Is a bundle to be believed? Its members, its signature, and the verdict made again from both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from r1prov.errors import JsonError, R1ProvError
from r1prov.evidence.at_hand import compare_with_model
from r1prov.evidence.index import Index
from r1prov.evidence.open import Bundle, open_bundle
from r1prov.evidence.openings import head_of
from r1prov.evidence.parts import Kind
from r1prov.evidence.replay import recorded, replay
from r1prov.evidence.statement import Signature, check_signature
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EVIDENCE_INDEX_BYTES
from r1prov.responses.exchange_file import parse_exchange
from r1prov.responses.openings import read_openings
from r1prov.responses.policy import ResponsePolicy
from r1prov.responses.redaction import reveal
from r1prov.responses.verify import verify_exchange
from r1prov.text import plural
from r1prov.trust.states import SignatureState, TimestampState
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Finding,
    Verdict,
    decide,
    finding,
)
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from r1prov.endpoints.acceptance import EndpointCriteria
    from r1prov.endpoints.report import EndpointReport
    from r1prov.responses.report import ExchangeReport
    from r1prov.stores.base import Store
    from r1prov.verify.findings import Report
    from r1prov.verify.pipeline import Authorities
    from r1prov.verify.policy import PolicyFile

# How far the clocks of maker, timestamp authority and verifier may differ.
_SKEW: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceResult:
    """What a bundle is worth.

    Attributes:
        subject: The bundle.
        sha256: Of its file.
        verdict: Over everything: pass only if all of it holds.
        index: What it says of itself.
        signature: Who signed.
        judged_at: By which moment keys were judged: proven by a timestamp, else the present.
        report: The verdict on the model, made again; None if that could not be.
        exchanges: Path and report of each exchange.
        audits: Path and report of each audit of an endpoint, made again.
        findings: Broken rules, those of `report` and of the exchanges among them.
        coverage: What was checked and what not.
        digests: Path to SHA-256 of the model's files, as the bundle has them.
    """

    subject: str
    sha256: str
    verdict: Verdict
    index: Index
    signature: Signature
    judged_at: datetime
    report: Report | None
    exchanges: tuple[tuple[str, ExchangeReport], ...]
    audits: tuple[tuple[str, EndpointReport], ...] = ()
    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]
    digests: dict[str, str]

    @property
    def exit_status(self) -> int:
        """Exit status of `r1prov evidence verify` with this result."""
        return self.verdict.exit_status


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What the verifier brings along.

    Attributes:
        expect: The model that it must be, or `full`.
        policy: Policy instead of that of the bundle.
        responses: What counts of signed API answers; with the pinned keys.
        endpoint: What is demanded of audits of endpoints; it takes the place of what the policy
            in the bundle says where there is a `policy`.
        tokenizer: File or directory of a tokenizer that audits were made with.
        openings: File of openings for redacted exchanges.
        model: The model at hand.
        workers: Hashing threads.
    """

    expect: str | None = None
    policy: PolicyFile | None = None
    responses: ResponsePolicy = field(default_factory=ResponsePolicy)
    endpoint: EndpointCriteria | None = None
    tokenizer: Path | None = None
    openings: Path | None = None
    model: Store | None = None
    workers: int | None = None


def verify_evidence(
    raw: bytes,
    authorities: Authorities,
    *,
    now: datetime,
    demands: Demands | None = None,
    subject: str = "the bundle",
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> EvidenceResult:
    """Verify a bundle with nothing but itself and the pinned keys.

    Args:
        raw: The bundle file.
        authorities: Pinned keys and authorities, and manifests to know models by. The trust files
            in the bundle are what its maker used, and count for nothing here.
        now: The present.
        demands: What else is asked for.
        subject: The bundle's name, for messages.
        progress: For the model at hand, as in `verify`.

    Raises:
        EvidenceError: It is no bundle, or malformed.
        InputError: Something in it is malformed.
        StoreError: The model at hand cannot be read.
    """
    demands = demands or Demands()
    bundle = open_bundle(raw, subject=subject)
    signature = check_signature(
        bundle.signature,
        bundle.index,
        bundle.raw_index,
        authorities.trust,
        now=now,
        subject=subject,
    )
    judged = now
    if signature.state is SignatureState.GOOD and signature.proven is not None:
        judged = min(signature.proven, now)
    run = _Run(bundle, signature, now)
    run.members()
    run.signed()
    report, digests = None, {}
    exchanges: list[tuple[str, ExchangeReport]] = []
    audits: tuple[tuple[str, EndpointReport], ...] = ()
    if bundle.findings:
        run.skip("verdict on the model", "not made again: members are not those that were signed")
    else:
        store = recorded(bundle.index, bundle.payload, subject=subject)
        digests = store.digests if store else {}
        report = replay(
            bundle.index,
            bundle.payload,
            authorities,
            now=judged,
            subject=subject,
            expect=demands.expect,
            policy=demands.policy,
        )
        run.replayed(report)
        exchanges = run.exchanges(demands, judged)
        audits = run.audits(demands, authorities, judged)
        run.unchecked()
        if demands.model is not None:
            found, coverage = compare_with_model(
                bundle, demands.model, authorities, report, store, demands, now, progress
            )
            run.findings += found
            run.coverage += coverage
        else:
            run.coverage.append(
                Coverage("model at hand", CoverageState.SKIPPED, "none given", required=False)
            )
    findings, covered = tuple(run.findings), tuple(run.coverage)
    return EvidenceResult(
        subject=subject,
        sha256=bundle.sha256,
        verdict=decide(findings, covered),
        index=bundle.index,
        signature=signature,
        judged_at=judged,
        report=report,
        exchanges=tuple(exchanges),
        audits=audits,
        findings=findings,
        coverage=covered,
        digests=digests,
    )


class _Run:
    """What has been found so far."""

    def __init__(self, bundle: Bundle, signature: Signature, now: datetime) -> None:
        self.bundle, self.index = bundle, bundle.index
        self.signature = signature
        self.now = now
        self.findings: list[Finding] = list(bundle.findings)
        self.coverage: list[Coverage] = []

    def skip(self, item: str, why: str) -> None:
        """Something that had to be checked and could not be."""
        self.coverage.append(Coverage(item, CoverageState.UNREAD, why))

    def members(self) -> None:
        """Every member was held to the index when the bundle was opened."""
        detail = f"{plural(len(self.index.parts), 'member')} held to the index"
        self.coverage.append(Coverage("members of the bundle", CoverageState.CHECKED, detail))

    def signed(self) -> None:
        """Signature, timestamps, and whether the times fit."""
        signature, created = self.signature, self.index.created
        if signature.state is not SignatureState.GOOD:
            self.findings.append(
                finding("evidence-signature", "index.json.sigstore.json", signature.detail)
            )
        self.coverage.append(
            Coverage("signature of the bundle", CoverageState.CHECKED, signature.detail)
        )
        for stamp in signature.timestamps:
            good = stamp.state is TimestampState.GOOD
            state = CoverageState.CHECKED if good else CoverageState.UNREAD
            if not good:
                # One that proves nothing is never passed over; one of an authority that is not
                # pinned is no sign of tampering either.
                invalid = stamp.state is TimestampState.INVALID
                self.findings.append(
                    finding(
                        f"timestamp-{stamp.state.value}",
                        "timestamp of the bundle",
                        stamp.detail,
                        hint=stamp.hint,
                        severity=Severity.ERROR if invalid else Severity.WARNING,
                    )
                )
            self.coverage.append(Coverage("timestamp of the bundle", state, stamp.detail))
        if not signature.timestamps:
            self.coverage.append(
                Coverage(
                    "timestamp of the bundle",
                    CoverageState.SKIPPED,
                    "it has none: when it was made is its maker's word, and keys are judged by now",
                    required=False,
                )
            )
        latest = min(self.now, signature.proven or self.now)
        if created > latest + _SKEW:
            what = "the present" if signature.proven is None else "its own timestamp"
            self.findings.append(
                finding(
                    "evidence-time",
                    "index.json",
                    f"says that it was made after {what}",
                    expected=f"at most {latest:%Y-%m-%d %H:%M:%SZ}",
                    found=f"{created:%Y-%m-%d %H:%M:%SZ}",
                )
            )

    def replayed(self, report: Report | None) -> None:
        """The verdict made again, beside what the maker's report says."""
        if report is None:
            self.skip(
                "verdict on the model",
                "cannot be made again: the bundle was made without its headers or manifest",
            )
        else:
            self.findings += report.findings
            self.coverage += report.coverage
        stated = self._stated()
        if stated is not None and stated is not self.index.verdict:
            self.findings.append(
                finding(
                    "evidence-verdict",
                    "report/report.json",
                    "report and index state two verdicts",
                    expected=self.index.verdict.value,
                    found=stated.value,
                )
            )
        if report is not None and report.verdict is not self.index.verdict:
            better = self.index.verdict is not Verdict.PASS and report.verdict is Verdict.PASS
            self.findings.append(
                finding(
                    "evidence-verdict",
                    "report/report.json",
                    "the maker's verdict is not the one that was made again",
                    expected=report.verdict.value,
                    found=self.index.verdict.value,
                    # What makes it worse is a finding of its own; what makes it better is not here.
                    severity=Severity.ERROR if better else Severity.WARNING,
                )
            )

    def _stated(self) -> Verdict | None:
        """The verdict that the report in the bundle states; None without one."""
        raw = self.bundle.payload.get("report/report.json")
        if raw is None:
            self.coverage.append(
                Coverage("report", CoverageState.SKIPPED, "not in the bundle", required=False)
            )
            return None
        try:
            value = parse_json(
                raw, subject="report/report.json", max_bytes=MAX_EVIDENCE_INDEX_BYTES
            )
            return Verdict(value["verdict"]) if isinstance(value, dict) else None
        except (JsonError, KeyError, ValueError) as error:
            why = error.message if isinstance(error, R1ProvError) else "it states no verdict"
            self.findings.append(finding("evidence-verdict", "report/report.json", why))
            return None

    def exchanges(self, demands: Demands, at: datetime) -> list[tuple[str, ExchangeReport]]:
        """Verify each exchange by the pinned keys; redacted ones are opened first."""
        found = []
        for part in self.index.of(Kind.EXCHANGES):
            raw = self.bundle.payload[part.path]
            exchange = parse_exchange(raw, subject=f"{self.bundle.subject}, {part.path}")
            if demands.openings is not None:
                for opening in read_openings(demands.openings, head_of(part.path, part.sha256)):
                    exchange = reveal(exchange, opening)
            report = verify_exchange(exchange, demands.responses, now=at)
            found.append((part.path, report))
            self.findings += [
                replace(one, subject=f"{part.path}: {one.subject}") for one in report.findings
            ]
            if report.verdict is Verdict.INCOMPLETE:
                hint = "; open it with --openings" if exchange.redactions else ""
                self.skip(part.path, f"{report.headline}{hint}")
            else:
                self.coverage.append(
                    Coverage(part.path, CoverageState.CHECKED, report.headline, required=False)
                )
        return found

    def audits(
        self, demands: Demands, authorities: Authorities, at: datetime
    ) -> tuple[tuple[str, EndpointReport], ...]:
        """Make audits of endpoints again, and hold them against what is demanded."""
        criteria = demands.endpoint
        named = self.index.policy
        if criteria is None and demands.policy is None and named is not None:
            from r1prov.endpoints.acceptance import parse_endpoint_criteria

            where = f"{self.bundle.subject}, {named}"
            criteria = parse_endpoint_criteria(self.bundle.payload[named], subject=where)
        if criteria is None and not self.index.of(Kind.ENDPOINT) and not self.index.of(Kind.FILES):
            return ()
        from r1prov.evidence.audits import check_audits

        found = check_audits(
            self.bundle,
            trust=authorities.trust,
            shelf=authorities.shelf,
            criteria=criteria,
            tokenizer=demands.tokenizer,
            at=at,
        )
        self.findings += found.findings
        self.coverage += found.coverage
        return found.reports

    def unchecked(self) -> None:
        """What is bound by its digest and not looked into."""
        for kind, why in (
            (Kind.AUDIT, "bound by digest; what it says is not computed again"),
            (Kind.ENVIRONMENT, "the maker's word"),
            (Kind.TRUST, "what the maker trusted; only the pinned keys count"),
        ):
            parts = self.index.of(kind)
            if parts:
                detail = f"{plural(len(parts), 'member')}: {why}"
                self.coverage.append(
                    Coverage(kind.value, CoverageState.SKIPPED, detail, required=False)
                )
