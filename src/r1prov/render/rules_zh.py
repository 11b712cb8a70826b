"""The rule table in Chinese: a title and what to do, for every rule."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Final

_FILE: Final = Path(__file__).with_name("rules.zh.toml")


def rule_in_chinese(name: str) -> tuple[str, str]:
    """Title and help of the rule called `name`; a test holds the table complete."""
    title, text = _table()[name]
    return title, text


@functools.cache
def _table() -> dict[str, list[str]]:
    table: dict[str, list[str]] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return table
