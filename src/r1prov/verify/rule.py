"""What a rule is, and how much a broken one weighs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs in the verdict."""

    ERROR = "error"  # the verdict is fail
    WARNING = "warning"  # shown; does not by itself change the verdict
    NOTE = "note"  # context that helps to read the result


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: `R1P` and three digits, fixed for ever.
        name: What parsers and tests call it.
        title: One line for a reader.
        severity: What a broken rule weighs unless the policy says otherwise.
        help: Why the rule exists and what to do.
    """

    id: str
    name: str
    title: str
    severity: Severity
    help: str


# Number, name, title, severity and help of a rule, as the tables of rules have them.
Row = tuple[str, str, str, Severity, str]
