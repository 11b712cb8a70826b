"""What became of the signature of one answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from r1prov.verify.findings import Coverage, Finding, Verdict

if TYPE_CHECKING:
    from r1prov.responses.keys import ResponseKey


class State(StrEnum):
    """What became of it; exactly one an exchange. Only `VERIFIED` is a proof."""

    VERIFIED = "verified"
    RESERIALIZED = "verified-reserialized"  # good over the body written anew: weaker
    INTEGRITY_ONLY = "integrity-only"  # good, by a shared secret: either side can have made it
    UNCOVERED = "uncovered"  # good, and something that the policy wants is not covered
    UNCHECKED = "unchecked"  # something signed was not captured, or was redacted
    INCOMPLETE_STREAM = "incomplete-stream"
    RECEIPT_UNAVAILABLE = "receipt-unavailable"
    UNSIGNED = "unsigned"
    DOWNGRADED = "downgraded"  # a signature was promised and is missing
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyUse:
    """The key that a signature was checked with.

    Attributes:
        thumbprint: RFC 7638, or an address; empty for a shared secret.
        algorithm: Of the key.
        owner: Whose it is, as the policy says; empty if it does not.
        source: Where it is from.
    """

    thumbprint: str
    algorithm: str
    owner: str
    source: str

    @classmethod
    def of(cls, key: ResponseKey) -> KeyUse:
        """What a report says of a key."""
        return cls(
            thumbprint=key.thumbprint, algorithm=key.algorithm, owner=key.owner, source=key.source
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeReport:
    """State, verdict, findings and coverage of one exchange.

    Attributes:
        subject: The exchange in one line.
        state: What became of the signature.
        verdict: Fail on any error; incomplete where something that was to be checked could not be.
        headline: One sentence.
        scheme: The scheme that the state is of; None without a signature.
        key: The key that it was checked with; None if none was known.
        covered: Components that a good signature binds, as policies write them.
        created: When it was made, as it says.
        expires: When it ends.
        nonce: What makes it unique.
        tag: What it is for.
        model: Model that was asked for; None if the request names none.
        findings: Broken rules.
        coverage: What was checked and what not.
        judged_at: The moment by which age and validity were judged.
        policy: Where the policy is from.
        version: Of r1prov.
    """

    subject: str
    state: State
    verdict: Verdict
    headline: str
    scheme: str | None
    key: KeyUse | None
    covered: tuple[str, ...]
    created: datetime | None
    expires: datetime | None
    nonce: str | None
    tag: str | None
    model: str | None
    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]
    judged_at: datetime
    policy: str
    version: str

    @property
    def exit_status(self) -> int:
        """Exit status of `r1prov response verify` with this report."""
        return self.verdict.exit_status
