"""The style sheet of the document about a bundle: for paper first, A4, in black and white too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from r1prov.render.evidence_words import WORDS, Language

if TYPE_CHECKING:
    from collections.abc import Sequence

# Fonts are named, not brought along: first those of Debian's fonts-noto-cjk, then what other
# systems have. Page margins take no custom properties, so the names are put in.
_FONTS: Final = {
    "SANS": '"Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "PingFang SC", '
    '"Microsoft YaHei", sans-serif',
    "SERIF": '"Noto Serif CJK SC", "Noto Serif SC", "Source Han Serif SC", "Songti SC", "SimSun", '
    "serif",
    "MONO": '"Noto Sans Mono CJK SC", "Noto Sans Mono", "Menlo", "Consolas", monospace',
}
_FILE: Final = Path(__file__).with_name("evidence.css")


def style(languages: Sequence[Language], *, watermark: str) -> str:
    """The style sheet.

    Args:
        languages: Of the document, for the page numbers.
        watermark: For the head of every page: no text of a stranger, it is not escaped.
    """
    column = {Language.ZH: 0, Language.EN: 1}
    pages = [
        '"'
        + WORDS["page"][column[one]].format(page='" counter(page) "', pages='" counter(pages) "')
        + '"'
        for one in languages
    ]
    sheet = _FILE.read_text(encoding="utf-8")
    for name, fonts in _FONTS.items():
        sheet = sheet.replace(name, fonts)
    sheet = (
        sheet.replace("PAGES", ' " \\B7  " '.join(pages))
        .replace("PLACE", " \\B7  ".join(WORDS["title"][column[one]] for one in languages))
        .replace("WATERMARK", watermark)
    )
    # Character references are nothing in a style sheet: escapes of CSS are.
    return "".join(one if ord(one) < 0x80 else f"\\{ord(one):x} " for one in sheet)
