"""What a verification is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How deep to look."""

    STRUCTURE = "structure"  # headers only: its verdict is at best incomplete
    FULL = "full"  # every byte


class Scope(StrEnum):
    """Which files have to match for a pass."""

    ALL = "all"  # every file of the manifest
    WEIGHTS = "weights"  # weights, inventory and config-to-header check; the rest is listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Choices of one verification.

    Attributes:
        level: How deep to look.
        scope: Which files have to match.
        expect: Model name, or `full`, that the model must be; None accepts what it is.
        workers: Hashing threads; None takes one a processor.
    """

    level: Level = Level.FULL
    scope: Scope = Scope.ALL
    expect: str | None = None
    workers: int | None = None
