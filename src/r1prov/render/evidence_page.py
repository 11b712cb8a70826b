"""Markup of the document about a bundle: every text in one or two languages, and escaped.

The page asks for nothing: no script, no font, no picture that is not in it. Its policy allows the
one style sheet, by its digest, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
from typing import TYPE_CHECKING, Final

from r1prov.render.evidence_style import style
from r1prov.render.evidence_words import WORDS, Language
from r1prov.render.sentences_zh import in_chinese
from r1prov.text import html_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_TAGS: Final = {Language.ZH: "zh-Hans", Language.EN: "en"}
_COLUMN: Final = {Language.ZH: 0, Language.EN: 1}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Term(str):
    """Key of `WORDS` that is a value in another text, and put in in the language of that."""

    __slots__ = ()


class Page:
    """Writes texts in the languages of a document."""

    def __init__(self, languages: Sequence[Language]) -> None:
        self.languages = tuple(languages)

    def say(self, key: str, /, **values: str) -> Markup:
        """A text of the table, with values put in.

        Args:
            key: Of `WORDS`.
            values: Text, which is escaped, `Markup`, or a `Term`.
        """
        return self._in_each({one: _said(key, one, values) for one in _COLUMN})

    def told(self, sentence: str) -> Markup:
        """What a check worded in English, in the languages of the document where it is known."""
        return self.both(in_chinese(sentence), sentence)

    def term(self, word: str) -> Markup:
        """A word of the checks, such as the name of a test: no Chinese, no other than itself."""
        chinese = in_chinese(word)
        return self.both(chinese, word) if chinese is not None else plain(word)

    def both(self, chinese: str | None, english: str) -> Markup:
        """What was worded in English, after its Chinese where there is one.

        In a Chinese document the English alone stands where no Chinese is known.
        """
        texts = {Language.EN: str(_inline(english))}
        if chinese is not None:
            texts[Language.ZH] = str(_inline(chinese))
        return self._in_each(texts)

    def _in_each(self, texts: dict[Language, str]) -> Markup:
        wanted = [one for one in self.languages if one in texts] or list(texts)
        if wanted == list(self.languages) and len({texts[one] for one in wanted}) == 1:
            return Markup(texts[wanted[0]])
        return Markup(
            "".join(
                f'<span class="{one}" lang="{_TAGS[one]}">{texts[one]}</span>' for one in wanted
            )
        )

    def open(self, title: str, policy_name: str) -> Markup:
        """The head, up to the body."""
        sheet = style(self.languages, watermark=policy_name)
        digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        )
        kind = "both" if len(self.languages) > 1 else "one"
        return Markup(
            f'<!DOCTYPE html>\n<html lang="{_TAGS[self.languages[0]]}">\n<head>\n'
            '<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="referrer" content="no-referrer">\n'
            f"<title>{html_text(title, limit=200)}</title>\n<style>{sheet}</style>\n</head>\n"
            f'<body class="{kind}">'
        )

    def section(self, key: str, blocks: Iterable[Markup]) -> Markup:
        """A section under a heading of the table."""
        inner = "\n".join(blocks)
        return Markup(f'<section class="{key}">\n<h2>{self.say(key)}</h2>\n{inner}\n</section>')

    def paragraph(self, key: str, /, **values: str) -> Markup:
        """A paragraph of the table."""
        return Markup(f"<p>{self.say(key, **values)}</p>")

    def facts(self, rows: Iterable[tuple[str, str]]) -> Markup:
        """Labels of the table, and values."""
        found = "".join(
            f'<tr><th scope="row">{self.say(key)}</th><td>{_inline(value)}</td></tr>'
            for key, value in rows
        )
        return Markup(f'<table class="facts"><tbody>{found}</tbody></table>')

    def table(self, name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
        """A table whose heading is repeated on every page; a cell may say its class first."""
        head = "".join(f'<th scope="col">{self.say(one)}</th>' for one in heads)
        body = "".join(
            "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        return Markup(
            f'<table class="{name}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        )


def _said(key: str, language: Language, values: Mapping[str, str]) -> str:
    safe = {
        name: _said(value, language, {}) if isinstance(value, Term) else _inline(value)
        for name, value in values.items()
    }
    return html.escape(WORDS[key][_COLUMN[language]]).format_map(safe)


def _inline(value: str) -> Markup:
    return value if isinstance(value, Markup) else plain(value)


def plain(value: str) -> Markup:
    """Text of a stranger: escaped, and isolated from what stands beside it."""
    return Markup(f"<bdi>{html_text(value)}</bdi>")


def code(value: str) -> Markup:
    """A digest, a path or a command, in type that tells letters apart."""
    return Markup(f"<code>{html_text(value)}</code>")


def mark(kind: str, inner: str) -> Markup:
    """A word with a sign before it that shows in black and white too."""
    return Markup(f'<span class="mark {kind}">{_inline(inner)}</span>')


def lines(values: Iterable[str]) -> Markup:
    """Several values in one cell."""
    return Markup("".join(f"<div>{_inline(one)}</div>" for one in values))
