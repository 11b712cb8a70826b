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


class By(StrEnum):
    """What digests are compared by."""

    FILE = "file"  # file by file: names and sharding count
    TENSOR = "tensor"  # tensor by tensor: the same weights in other files are the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Choices of one verification.

    Attributes:
        level: How deep to look.
        scope: Which files have to match.
        expect: Model name, or `full`, that the model must be; None accepts what it is.
        workers: Hashing threads; None takes one a processor.
        by: Whether weights are compared by file or by tensor.
        read_all: Whether every byte of a remote model is read, instead of believing the digests
            that its store states.
    """

    level: Level = Level.FULL
    scope: Scope = Scope.ALL
    expect: str | None = None
    workers: int | None = None
    by: By = By.FILE
    read_all: bool = False
