"""Who signed a bundle, when, and what of that falls short."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from r1prov.evidence.bag import countersignature
from r1prov.evidence.index import relative
from r1prov.text import plural
from r1prov.trust.states import SignatureState, TimestampState, different_signers
from r1prov.verify.findings import Coverage, CoverageState, Finding, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from r1prov.evidence.index import Index
    from r1prov.evidence.statement import Signature

# How far the clocks of maker, timestamp authority and verifier may differ.
_SKEW: Final = timedelta(minutes=5)
# A bundle is timestamped when it is made.
_DAY: Final = timedelta(days=1)


def judge_signatures(
    index: Index,
    maker: Signature,
    others: Sequence[Signature],
    *,
    now: datetime,
    wanted: int,
    timestamped: bool = False,
) -> tuple[list[Finding], list[Coverage]]:
    """What is found of the maker's signature, of those of others, and of their times.

    Args:
        index: What they signed.
        maker: The maker's.
        others: Of whoever signed the same index later.
        now: The present.
        wanted: How many different signers it takes.
        timestamped: Whether it takes a timestamp of the maker's signature.
    """
    findings: list[Finding] = []
    coverage: list[Coverage] = []
    if maker.state is not SignatureState.GOOD:
        findings.append(finding("evidence-signature", maker.member, maker.detail))
    coverage.append(Coverage("signature of the bundle", CoverageState.CHECKED, maker.detail))
    for one in others:
        unknown = one.state is SignatureState.UNKNOWN_KEY
        state = CoverageState.SKIPPED if unknown else CoverageState.CHECKED
        coverage.append(Coverage(one.member, state, one.detail, required=False))
        if one.key_id == maker.key_id or one.member != relative(countersignature(one.key_id[:8])):
            what = "is not called by the key that it names, or is of the maker's own"
            findings.append(finding("evidence-extra", one.member, what))
        # Whom the verifier does not know counts for nothing, and takes nothing away.
        if not unknown and one.state is not SignatureState.GOOD:
            forged = one.state is SignatureState.BAD_SIGNATURE
            weight = Severity.ERROR if forged else Severity.WARNING
            findings.append(finding("evidence-signature", one.member, one.detail, severity=weight))
    made = [one.check for one in (maker, *others) if one.check is not None]
    signers = different_signers(made)
    if signers < wanted and maker.state is SignatureState.GOOD:
        findings.append(
            finding(
                "evidence-signature",
                "the bundle",
                "too few different signers whose signature is good",
                expected=plural(wanted, "signer"),
                found=plural(signers, "signer"),
                hint="`r1prov evidence sign BUNDLE` adds a signature; pin its key with --keys",
            )
        )
    stamps = [("timestamp of the bundle", one) for one in maker.timestamps]
    stamps += [
        (f"timestamp of {signature.member}", one)
        for signature in others
        for one in signature.timestamps
    ]
    for item, stamp in stamps:
        good = stamp.state is TimestampState.GOOD
        state = CoverageState.CHECKED if good else CoverageState.UNREAD
        if not good:
            # One that proves nothing is never passed over; one of an authority that is not
            # pinned is no sign of tampering either.
            invalid = stamp.state is TimestampState.INVALID
            findings.append(
                finding(
                    f"timestamp-{stamp.state.value}",
                    item,
                    stamp.detail,
                    hint=stamp.hint,
                    severity=Severity.ERROR if invalid else Severity.WARNING,
                )
            )
        coverage.append(Coverage(item, state, stamp.detail))
    if not maker.timestamps:
        coverage.append(
            Coverage(
                "timestamp of the bundle",
                CoverageState.SKIPPED,
                "it has none: when it was made is its maker's word, and keys are judged by now",
                required=False,
            )
        )
    if timestamped and maker.proven is None:
        findings.append(
            finding(
                "evidence-timestamp",
                maker.member,
                "no timestamp of a pinned authority proves when it was signed",
                expected="a timestamp, for it was asked for",
                found=plural(len(maker.timestamps), "timestamp"),
            )
        )
    findings += _times(index, maker, now)
    return findings, coverage


def _times(index: Index, maker: Signature, now: datetime) -> Iterator[Finding]:
    if index.timestamped and not maker.timestamps:
        what = "the timestamp that the index speaks of is not there"
        yield finding("evidence-missing", maker.member, what)
    latest = min(now, maker.proven or now)
    if index.created > latest + _SKEW:
        what = "the present" if maker.proven is None else "its own timestamp"
        yield finding(
            "evidence-time",
            "index.json",
            f"says that it was made after {what}",
            expected=f"at most {latest:%Y-%m-%d %H:%M:%SZ}",
            found=f"{index.created:%Y-%m-%d %H:%M:%SZ}",
        )
    if (
        index.timestamped
        and maker.proven is not None
        and latest - index.created > timedelta(days=1)
    ):
        yield finding(
            "evidence-time",
            "index.json",
            "says that it was made long before its own timestamp",
            expected=f"at least {latest - _DAY:%Y-%m-%d %H:%M:%SZ}",
            found=f"{index.created:%Y-%m-%d %H:%M:%SZ}",
            severity=Severity.WARNING,
        )
