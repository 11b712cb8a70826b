"""What one test of an endpoint found, with its price and its error rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from r1prov.verify.findings import Finding


class Outcome(StrEnum):
    """What a test says of the claim. Never `genuine`: no answer proves which weights wrote it."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"
    NOT_TESTABLE = "not-testable"
    DESCRIPTION = "description"  # figures for a reader; nothing is decided


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRates:
    """How often a test errs.

    Attributes:
        alpha: Probability of `inconsistent` for an endpoint that serves what it claims.
        beta: Probability of `consistent` for the alternative that `basis` names.
        basis: Under which assumptions, and where the figures come from.
    """

    alpha: float | None
    beta: float | None
    basis: str

    @property
    def power(self) -> float | None:
        """Probability that the alternative is found out or left undecided."""
        return None if self.beta is None else 1 - self.beta


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """One test of an endpoint.

    Attributes:
        name: Of the test, such as `prompt-tokens`.
        outcome: What it says of the claim.
        summary: One sentence without a full stop (may hold untrusted text).
        decisive: Whether the outcome stands by itself in the verdict of an audit.
        samples: Independent things that were looked at: probes, answers, boundaries.
        requests: Requests whose answers were used. Those of a passive test were made anyway.
        tokens: Prompt and completion tokens of these, as the endpoint counted them.
        error_rates: None where the test has none that are known.
        statistics: Plain numbers, for tables and plots.
        findings: Rules 9xx.
        benign: Causes that leave the claim untouched and would look the same.
        cannot_tell: What the test is blind to.
    """

    __test__: ClassVar[bool] = False  # the name is no test of pytest

    name: str
    outcome: Outcome
    summary: str
    decisive: bool = False
    samples: int = 0
    requests: int = 0
    tokens: int = 0
    error_rates: ErrorRates | None = None
    statistics: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    benign: tuple[str, ...] = ()
    cannot_tell: tuple[str, ...] = ()
