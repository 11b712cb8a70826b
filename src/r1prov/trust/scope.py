"""Which models a key or an authority may sign for."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def matches(model: str, patterns: Iterable[str]) -> bool:
    """Whether a model name matches one of the patterns; upper and lower case differ."""
    return any(fnmatchcase(model, one) for one in patterns)
