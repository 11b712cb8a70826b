"""What the document about a bundle says, in Chinese and English: the table evidence.words.toml."""

from __future__ import annotations

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
