"""Untrusted text made safe to show.

File names, tensor names, manifest fields and model configs come from strangers. Nothing of them
reaches a terminal before it went through here: an escape sequence in a file name can rewrite what
the screen says, and a bidirectional override can turn `fail` into something that reads as `pass`.
Nor does it reach a page, a pull request or a build log, where a name could be markup or a command.
"""

from __future__ import annotations

import html
import re
import unicodedata

# Cc control, Cf format (bidi overrides, zero width), Cs surrogates (undecodable bytes of a file
# name), Co private use, Zl/Zp line and paragraph separators: none of them has a safe look.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_unsafe(character: str) -> bool:
    """Whether a character could change how the text around it is shown."""
    return unicodedata.category(character) in _UNSAFE_CATEGORIES


def printable(text: str, *, limit: int = 400) -> str:
    r"""Return `text` with every unsafe character as a `\x..`/`\u....` escape, cut at `limit`.

    A backslash is doubled only where the text needed an escape. So ordinary names stay as they are,
    and what was made printable once is not changed by a second time, as messages within messages
    need; a name that spells an escape out looks like one with the character.
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


def readable(text: str) -> str:
    """`text` unchanged, unless it has half a surrogate pair: then as `printable`, and uncut.

    Such a half is no character: some readers of JSON refuse the whole text for it, and others make
    one name of several.
    """
    if text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text):
        return text
    return printable(text, limit=len(text))


def quoted(text: str, *, limit: int = 200) -> str:
    """`text` made printable, between backquotes: how messages show a literal."""
    return f"`{printable(text, limit=limit)}`"


def html_text(text: str, *, limit: int = 2000) -> str:
    """`text` for HTML or XML, as element content or in a quoted attribute.

    What `printable` leaves is a character of XML 1.0 (production 2): neither a control character
    nor a surrogate nor U+FFFE can make a document ill-formed.
    """
    return html.escape(printable(text, limit=limit), quote=True)


def markdown_code(text: str, *, limit: int = 2000) -> str:
    """`text` as inline code of GitHub or GitLab Markdown, also inside a table cell.

    Only code is safe from what these sites add to Markdown: mentions, references to issues, links
    made of bare addresses. A code span takes everything literally between fences longer than any
    run of backquotes in it. But a pipe ends the table cell around it, and parsers differ on a
    backslash before that pipe: with one of those, or a space at an end, the text is an HTML `code`
    element of character references, which CommonMark (0.31, section 2.5) never reads as structure.
    """
    shown = printable(text, limit=limit)
    if shown and shown == shown.strip(" ") and "|" not in shown and "\\" not in shown:
        fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
        pad = " " if "`" in (shown[0], shown[-1]) else ""
        return f"{fence}{pad}{shown}{pad}{fence}"
    kept = "".join(one if one.isalnum() or ord(one) > 0x7F else _reference(one) for one in shown)
    return f"<code>{kept}</code>"


def _reference(character: str) -> str:
    if character == "@":  # GitHub finds e-mail addresses after references are resolved
        return "&#64;<!-- -->"
    return " " if character == " " else f"&#{ord(character)};"


def annotation_data(text: str) -> str:
    r"""`text` as the message of a GitHub workflow command; `\n` in it begins a new line there.

    A command ends with its line, so an escaped line cannot begin another. The percent sign comes
    first: the runner turns `%25` back last (`ActionCommand.cs` of actions/runner).
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def annotation_property(text: str) -> str:
    """`text` as a property of a GitHub workflow command, where `:` and `,` would end it."""
    return annotation_data(text).replace(":", "%3A").replace(",", "%2C")


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
