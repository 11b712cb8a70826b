"""Untrusted text made safe to show.

File names, tensor names, manifest fields and model configs come from strangers. Nothing of them
reaches a terminal before it went through here: an escape sequence in a file name can rewrite what
the screen says, and a bidirectional override can turn `fail` into something that reads as `pass`.
"""

from __future__ import annotations

import unicodedata

# Cc control, Cf format (bidi overrides, zero width), Cs surrogates (undecodable bytes of a file
# name), Co private use, Zl/Zp line and paragraph separators: none of them has a safe look.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_unsafe(character: str) -> bool:
    """Whether a character could change how the text around it is shown."""
    return unicodedata.category(character) in _UNSAFE_CATEGORIES


def printable(text: str, *, limit: int = 400) -> str:
    r"""Return `text` with every unsafe character as a `\x..`/`\u....` escape, cut at `limit`.

    A backslash is doubled only where the text needed an escape, so ordinary names stay as they are
    and no two different names look alike.
    """
    cut = text if len(text) <= limit else text[:limit]
    if cut.isascii() and cut.isprintable():
        shown = cut
    elif any(is_unsafe(character) for character in cut):
        shown = "".join(_escaped(character) for character in cut)
    else:
        shown = cut
    return shown if cut is text or len(text) <= limit else f"{shown}… ({len(text):,} characters)"


def _escaped(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if not is_unsafe(character):
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted(text: str, *, limit: int = 200) -> str:
    """`text` made printable, between backquotes: how messages show a literal."""
    return f"`{printable(text, limit=limit)}`"


def human_bytes(count: float) -> str:
    """A byte count in decimal units, as model hubs show it: `688.6 GB`."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def plural(count: int, noun: str) -> str:
    """`1 file`, `3 files`, `91,991 tensors`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def columns(text: str) -> int:
    """Terminal columns that printable `text` takes; East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def table(rows: list[tuple[str, ...]], *, right: frozenset[int] = frozenset()) -> str:
    """Rows of printable cells as an aligned table; the first row is the heading.

    Args:
        rows: Cells, already printable, the same number in each row.
        right: Indexes of columns that are right-aligned.
    """
    widths = [max(columns(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for i, cell in enumerate(row):
            gap = " " * (widths[i] - columns(cell))
            cells.append(gap + cell if i in right else cell + gap)
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
