"""The document about a bundle as PDF/A: the same page, set on paper, with its fonts in the file.

WeasyPrint sets it. Nothing is fetched for that: every address is refused. A character that no font
here has would be an empty box on paper; so where Chinese fonts are missing there is no document,
and any other such character is written as its number.
"""

from __future__ import annotations

import importlib
import logging
import re
import unicodedata
from typing import TYPE_CHECKING, Final

from r1prov.errors import UsageError
from r1prov.text import is_unsafe

if TYPE_CHECKING:
    from types import ModuleType

_FONTS_HINT: Final = (
    "install Chinese fonts, on Debian and Ubuntu the package fonts-noto-cjk, on Fedora "
    "google-noto-sans-cjk-fonts; or use --format html"
)
_LIBRARIES_HINT: Final = (
    "install its libraries, on Debian and Ubuntu the packages libpango-1.0-0, libpangoft2-1.0-0 "
    "and libharfbuzz-subset0"
)
_REFERENCE: Final = re.compile(r"&#(\d+);")
_LOGGERS: Final = ("weasyprint", "weasyprint.progress", "fontTools")


def as_pdf(page: str, *, identifier: str) -> bytes:
    """Set a page.

    Args:
        page: From `evidence_document.as_html`.
        identifier: Names the document in the file: the same page and identifier give the same
            bytes with the same fonts and libraries.

    Raises:
        UsageError: WeasyPrint or its libraries are not installed, or no font has the characters of
            the document's own words.
    """
    weasyprint = _library()
    raw, missing = _set(weasyprint, page, identifier)
    if not missing:
        return raw
    if any(_is_chinese(one) for one in missing):
        raise UsageError("no font here has Chinese characters", hint=_FONTS_HINT)
    # Characters of a stranger that no font has: their numbers instead of empty boxes.
    raw, left = _set(weasyprint, _numbered(page, missing), identifier)
    if left:
        raise UsageError("no font here has the characters of the document", hint=_FONTS_HINT)
    return raw


def _library() -> ModuleType:
    try:
        module = importlib.import_module("weasyprint")
    except ImportError:
        raise UsageError(
            "documents as PDF need WeasyPrint", hint="install r1prov[pdf], or use --format html"
        ) from None
    except OSError:
        # It loads Pango with dlopen.
        raise UsageError("WeasyPrint does not find Pango", hint=_LIBRARIES_HINT) from None
    return module


def _set(weasyprint: ModuleType, page: str, identifier: str) -> tuple[bytes, frozenset[str]]:
    """The document, and the characters that no font has."""
    from weasyprint.urls import URLFetcher

    seen = _Missing()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(one.propagate, one.level) for one in loggers]
    for one in loggers:
        one.addHandler(seen)
        one.propagate = False
    try:
        document = weasyprint.HTML(string=page, url_fetcher=URLFetcher(allowed_protocols=()))
        raw: bytes = document.write_pdf(
            pdf_variant="pdf/a-3u", pdf_tags=True, pdf_identifier=identifier.encode()
        )
    finally:
        for one, (propagate, level) in zip(loggers, before, strict=True):
            one.removeHandler(seen)
            one.propagate = propagate
            one.setLevel(level)
    return raw, frozenset(seen.characters)


class _Missing(logging.Handler):
    """Collects what WeasyPrint says it has no glyph for."""

    def __init__(self) -> None:
        super().__init__()
        self.characters: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if ".notdef" in str(record.msg) and isinstance(record.args, tuple) and record.args:
            self.characters.add(str(record.args[0]))


def _is_chinese(character: str) -> bool:
    name = unicodedata.name(character, "")
    return name.startswith(("CJK UNIFIED", "IDEOGRAPHIC", "FULLWIDTH"))


def _numbered(page: str, missing: frozenset[str]) -> str:
    r"""The page with those characters as `\u....`; it has them as character references."""

    def replaced(found: re.Match[str]) -> str:
        character = chr(int(found[1]))
        if character not in missing or is_unsafe(character):
            return found[0]
        code = ord(character)
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

    return _REFERENCE.sub(replaced, page)
