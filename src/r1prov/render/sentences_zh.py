"""Sentences that checks word in English, in Chinese: the table sentences.zh.toml.

A sentence that fits no template has no Chinese: it is shown as it is, marked as English.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE: Final = Path(__file__).with_name("sentences.zh.toml")
_SLOT: Final = re.compile(r"\{[ntlw]?\}")
_NUMBER: Final = re.compile(r"[+\-]?\d[\d,.]*(?:e[+\-]\d+)?%?")
_PLURAL: Final = "(s)"
# A sentence of a sentence of a sentence: a stranger's text is not followed further.
_DEEP: Final = 6
_PIECES: Final = 12
_CHARACTERS: Final = 4_000


@dataclass(frozen=True, slots=True)
class _Template:
    pieces: tuple[str, ...]
    slots: tuple[str, ...]
    chinese: str

    @classmethod
    def both(cls, english: str, chinese: str) -> Iterator[_Template]:
        """Of a template with a plural two."""
        for form in dict.fromkeys((english.replace(_PLURAL, "s"), english.replace(_PLURAL, ""))):
            yield cls(tuple(_SLOT.split(form)), tuple(_SLOT.findall(form)), chinese)

    def fill(self, text: str, deep: int) -> str | None:
        # By the first place where each piece fits, without going back: a text of a stranger takes
        # no longer than any other.
        first, *rest = self.pieces
        if not text.startswith(first):
            return None
        if not rest:
            return self.chinese if text == first else None
        values, at = [], len(first)
        for number, (slot, piece) in enumerate(zip(self.slots, rest, strict=True)):
            last = number == len(rest) - 1
            found = len(text) - len(piece) if last else text.find(piece, at + 1)
            if found <= at or not text.startswith(piece, found):
                return None
            value = _filled(slot, text[at:found], deep)
            if value is None:
                return None
            values.append(value)
            at = found + len(piece)
        return self.chinese.format(*values)


def _filled(slot: str, value: str, deep: int) -> str | None:
    if slot == "{t}":
        return _translated(value, deep - 1)
    if slot == "{l}":
        return _listed(value, deep - 1)
    if slot == "{n}":
        return value if _NUMBER.fullmatch(value) else None
    if "; " in value:  # another sentence begins there
        return None
    return (_translated(value, deep - 1) or value) if slot == "{w}" else value


def item_in_chinese(item: str) -> str | None:
    """What a coverage item is called in Chinese; None where only English is known."""
    return _first(_table()["items"], item, _DEEP)


def in_chinese(sentence: str) -> str | None:
    """A sentence that a check worded, in Chinese; None where only English is known.

    Several things in one sentence stand between semicolons; all of them must be known.
    """
    return _translated(sentence, _DEEP)


def _translated(text: str, deep: int) -> str | None:
    if deep < 0 or len(text) > _CHARACTERS:
        return None
    pieces = text.split("; ")
    if len(pieces) > _PIECES:
        return None
    # One sentence may hold a semicolon: the longest that is known comes first.
    for taken in range(len(pieces), 0, -1):
        known = _known("; ".join(pieces[:taken]), deep)
        if known is None:
            continue
        if taken == len(pieces):
            return known
        rest = _translated("; ".join(pieces[taken:]), deep)
        return None if rest is None else f"{known}；{rest}"
    return None


def _known(text: str, deep: int) -> str | None:
    for name in ("sentences", "terms", "items"):
        found = _first(_table()[name], text, deep)
        if found is not None:
            return found
    return None


def _listed(text: str, deep: int) -> str | None:
    """Terms, and sentences about them, between commas; a number may have commas of its own."""
    pieces = [_translated(one, deep) for one in text.split(", ")]
    return None if None in pieces else "、".join(one for one in pieces if one is not None)


def _first(templates: tuple[_Template, ...], text: str, deep: int) -> str | None:
    for one in templates:
        found = one.fill(text, deep)
        if found is not None:
            return found
    return None


@functools.cache
def _table() -> dict[str, tuple[_Template, ...]]:
    raw: dict[str, dict[str, str]] = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {
        # What says most by itself comes first: `signed by a trusted key` before `signed by {}`.
        name: tuple(
            sorted(
                (made for item in one.items() for made in _Template.both(*item)),
                key=lambda made: -sum(map(len, made.pieces)),
            )
        )
        for name, one in raw.items()
    }
