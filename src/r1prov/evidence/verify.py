"""Is a bundle to be believed? Its members, its signature, and the verdict made again from both."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from r1prov.errors import ExchangeError
from r1prov.evidence.at_hand import compare_with_model
from r1prov.evidence.index import Index
from r1prov.evidence.open import Bundle, open_bundle
from r1prov.evidence.openings import head_of
from r1prov.evidence.parts import Kind
from r1prov.evidence.replay import bundled_policy, lets_through, recorded, replay
from r1prov.evidence.signed import judge_signatures
from r1prov.evidence.stated import REPORT, contradictions, verdicts
from r1prov.evidence.statement import Signature, check_signature
from r1prov.responses.exchange_file import parse_exchange
from r1prov.responses.openings import read_openings_of
from r1prov.responses.policy import ResponsePolicy
from r1prov.responses.redaction import reveal
from r1prov.responses.verify import verify_exchange
from r1prov.text import plural
from r1prov.trust.states import SignatureState
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Finding,
    Verdict,
    decide,
)
from r1prov.verify.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from r1prov.endpoints.acceptance import EndpointCriteria
    from r1prov.endpoints.report import EndpointReport
    from r1prov.evidence.recorded import RecordedStore
    from r1prov.responses.report import ExchangeReport
    from r1prov.stores.base import Entry, Store
    from r1prov.verify.findings import Report
    from r1prov.verify.pipeline import Authorities
    from r1prov.verify.policy import PolicyFile


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceResult:
    """What a bundle is worth.

    Attributes:
        subject: The bundle.
        sha256: Of its file.
        verdict: Over everything: pass only if all of it holds.
        index: What it says of itself.
        signature: Who signed: the maker.
        countersignatures: Who else signed the same index.
        judged_at: By which moment keys were judged: proven by a timestamp, else the present.
        report: The verdict on the model, made again; None if that could not be.
        exchanges: Path and report of each exchange.
        audits: Path and report of each audit of an endpoint, made again.
        findings: Broken rules, those of `report` and of the exchanges among them.
        coverage: What was checked and what not.
        digests: Path to SHA-256 of the model's files, as the bundle has them.
        listed: What of the model was listed, files without a digest too.
        limits: What a pass is limited by, in a few words each: to be said with the verdict.
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
    listed: tuple[Entry, ...] = ()
    countersignatures: tuple[Signature, ...] = ()
    limits: tuple[str, ...] = ()

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
        scope: Which files have to match, whatever the maker chose; None leaves it at that.
        responses: What counts of signed API answers; with the pinned keys.
        signers: How many different pinned signers must have signed the bundle.
        timestamped: Whether a pinned authority must have timestamped the maker's signature.
        endpoint: What is demanded of audits of endpoints; it takes the place of what the policy
            in the bundle says where there is a `policy`.
        tokenizer: File or directory of a tokenizer that audits were made with.
        run_code: Whether audits that score code may run it, in a sandbox.
        openings: File of openings for redacted exchanges.
        model: The model at hand.
        workers: Hashing threads.
    """

    expect: str | None = None
    policy: PolicyFile | None = None
    scope: Scope | None = None
    responses: ResponsePolicy = field(default_factory=ResponsePolicy)
    signers: int = 1
    timestamped: bool = False
    endpoint: EndpointCriteria | None = None
    tokenizer: Path | None = None
    run_code: bool = False
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
    check = partial(
        check_signature,
        index=bundle.index,
        raw_index=bundle.raw_index,
        trust=authorities.trust,
        now=now,
        subject=subject,
    )
    signature = check(bundle.signature)
    others = tuple(check(raw, member=name) for name, raw in bundle.countersignatures.items())
    judged = now
    if signature.state is SignatureState.GOOD and signature.proven is not None:
        judged = min(signature.proven, now)
    run = _Run(bundle, signature, now)
    run.members()
    run.signed(others, demands)
    store, report = None, None
    exchanges: list[tuple[str, ExchangeReport]] = []
    audits: tuple[tuple[str, EndpointReport], ...] = ()
    if bundle.findings:
        run.skip("verdict on the model", "not made again: members are not those that were signed")
    else:
        store = recorded(bundle.index, bundle.payload, subject=subject)
        report = run.replayed(authorities, demands, judged)
        run.held_to_report(report, store, demands)
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
        countersignatures=others,
        judged_at=judged,
        report=report,
        exchanges=tuple(exchanges),
        audits=audits,
        findings=findings,
        coverage=covered,
        digests=store.digests if store else {},
        listed=tuple(store.entries()) if store else (),
        limits=tuple(_limits(report, store.second_hand if store else frozenset())),
    )


def _limits(report: Report | None, second_hand: frozenset[str]) -> Iterator[str]:
    if report is None:
        return
    if report.scope == Scope.WEIGHTS.value:
        yield "weights only"
    if report.exceptions:
        yield f"{plural(report.exceptions, 'exception')} by policy"
    if "stated" in second_hand:
        yield "by digests that its maker did not compute"
    if "cached" in second_hand:
        yield "by digests that its maker had cached"


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

    def signed(self, others: tuple[Signature, ...], demands: Demands) -> None:
        """Signatures, timestamps, and whether the times fit."""
        findings, coverage = judge_signatures(
            self.index,
            self.signature,
            others,
            now=self.now,
            wanted=demands.signers,
            timestamped=demands.timestamped,
        )
        self.findings += findings
        self.coverage += coverage

    def replayed(self, authorities: Authorities, demands: Demands, at: datetime) -> Report | None:
        """Make the verdict on the model again, by the verifier's demands."""
        again = partial(
            replay,
            self.index,
            self.bundle.payload,
            authorities,
            now=at,
            subject=self.bundle.subject,
            expect=demands.expect,
            scope=demands.scope,
        )
        report = again(policy=demands.policy)
        if report is None:
            self.skip(
                "verdict on the model",
                "cannot be made again: the bundle was made without its headers or manifest",
            )
            return None
        self.findings += report.findings
        self.coverage += report.coverage
        theirs = bundled_policy(self.index, self.bundle.payload, subject=self.bundle.subject)
        if demands.policy is None and theirs is not None and lets_through(theirs):
            # Else a maker could let through whatever is wrong.
            strict = again(without_policy=True)
            if (
                report.verdict is Verdict.PASS
                and strict is not None
                and strict.verdict is not Verdict.PASS
            ):
                self.skip(
                    "exceptions of the maker's policy",
                    f"without them the verdict is {strict.verdict.value}; whoever agrees to them "
                    "says so with --policy",
                )
        return report

    def held_to_report(
        self, report: Report | None, store: RecordedStore | None, demands: Demands
    ) -> None:
        """The maker's report and verdict beside what was made again."""
        self.findings += verdicts(self.index, report)
        raw = self.bundle.payload.get(REPORT)
        if raw is None:
            self.coverage.append(
                Coverage("report", CoverageState.SKIPPED, "not in the bundle", required=False)
            )
            return
        as_made = demands.policy is None and demands.scope in (None, self.index.scope)
        found = list(contradictions(raw, self.index, report, store, as_made=as_made))
        self.findings += found
        what = "says what the evidence says: verdict, model, manifest, digests, tensors"
        self.coverage.append(
            Coverage(
                "report",
                CoverageState.CHECKED,
                f"{plural(len(found), 'contradiction')} to the evidence" if found else what,
                required=False,
            )
        )

    def exchanges(self, demands: Demands, at: datetime) -> list[tuple[str, ExchangeReport]]:
        """Verify each exchange by the pinned keys; redacted ones are opened first."""
        found = []
        heads = {one.path: head_of(one.path, one.sha256) for one in self.index.of(Kind.EXCHANGES)}
        openings = demands.openings
        opened = {} if openings is None else read_openings_of(openings, heads.values())
        if openings is not None:
            proved = sum(map(len, opened.values()))
            self.coverage.append(
                Coverage(
                    "openings",
                    CoverageState.CHECKED if proved else CoverageState.UNREAD,
                    f"{plural(proved, 'redacted part')} proved"
                    if proved
                    else f"{openings} has none of this bundle's exchanges",
                )
            )
        for path, head in heads.items():
            raw = self.bundle.payload[path]
            exchange = parse_exchange(raw, subject=f"{self.bundle.subject}, {path}")
            try:
                for opening in opened.get(head, ()):
                    exchange = reveal(exchange, opening)
            except ExchangeError as error:
                raise ExchangeError(f"{path}: {error.message}", hint=error.hint) from None
            report = verify_exchange(exchange, demands.responses, now=at)
            found.append((path, report))
            self.findings += [
                replace(one, subject=f"{path}: {one.subject}") for one in report.findings
            ]
            if report.verdict is Verdict.INCOMPLETE:
                shut = any(one.commitment is not None for one in exchange.redactions)
                hint = "; open it with --openings" if shut else ""
                self.skip(path, f"{report.headline}{hint}")
            else:
                self.coverage.append(
                    Coverage(path, CoverageState.CHECKED, report.headline, required=False)
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
            run_code=demands.run_code,
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
