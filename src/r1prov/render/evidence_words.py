"""What the document about a bundle says, in Chinese and English: the table evidence.words.toml.

What the code itself words in English, such as what coverage is of, is translated where it stands
there and shown as it is otherwise.
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, Final


class Language(StrEnum):
    """In what language a document is."""

    ZH = "zh"
    EN = "en"


def _read() -> dict[str, dict[str, Any]]:
    path = Path(__file__).with_name("evidence.words.toml")
    return tomllib.loads(path.read_text(encoding="utf-8"))


_TABLE: Final = _read()
# Key: (Chinese, English).
WORDS: Final[dict[str, tuple[str, str]]] = {
    key: (chinese, english) for key, (chinese, english) in _TABLE["words"].items()
}
ITEMS: Final[dict[str, str]] = _TABLE["items"]
SENTENCES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.DOTALL), text) for pattern, text in _TABLE["sentences"].items()
)


def item_in_chinese(item: str) -> str | None:
    """What a coverage item is called in Chinese; None where only English is known."""
    return ITEMS.get(item)


def in_chinese(sentence: str) -> str | None:
    """A sentence that a check worded, in Chinese; None where only English is known.

    Several things in one sentence stand between semicolons; all of them must be known.
    """
    whole = _one(sentence)
    if whole is not None or "; " not in sentence:
        return whole
    pieces = [_one(one) for one in sentence.split("; ")]
    return None if None in pieces else "；".join(one for one in pieces if one is not None)


def _one(sentence: str) -> str | None:
    for pattern, text in SENTENCES:
        found = pattern.fullmatch(sentence)
        if found:
            return text.format(*found.groups())
    return None
