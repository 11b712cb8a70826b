"""Plots of an audit for paper: colours and dashes in the picture itself, captions in two languages.

Neither the style sheet of the page nor that of a PDF reaches into a picture, so what classes mean
is written out. Lines differ by their dashes, for black and white.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from r1prov.render.endpoint_plots import plots
from r1prov.render.evidence_page import Markup, Page
from r1prov.render.evidence_words import Language
from r1prov.render.sentences_zh import in_chinese
from r1prov.text import html_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.endpoints.report import Plots

_INK, _FAINT, _AXIS = "#1c2126", "#545d66", "#c9cfd6"
# Okabe and Ito (2008), darkened; with dashes of their own.
_SHADES: Final = {
    "a": ("#00558c", ""),
    "b": ("#a83a00", "7 3"),
    "c": ("#00664a", "2 2"),
    "d": ("#7a5600", "9 3 2 3"),
    "e": ("#8a3d6b", "4 4"),
    "f": ("#545d66", "1 3"),
}
_CLASS: Final = re.compile(r'class="([a-z ]+)"')
# A name beside the plot, which stands for its line: it gets a piece of that.
_LEGEND: Final = re.compile(r'<text class="([a-f])" x="(\d+)" y="(\d+)">')
# Labels of the sequential test, and room for two languages beside a plot.
_BOUNDS: Final = ("claimed tokenizer", "another tokenizer")
_WIDTH, _WIDER = 720, 800
_CAPTIONS: Final = (
    ("Times", "p-times"),
    ("Prompt tokens", "p-residuals"),
    ("Delta boundaries", "p-sprt"),
)


def audit_plots(page: Page, numbers: Plots) -> Iterator[Markup]:
    """A figure of every plot that there are numbers for."""
    for heading, svg in plots(_labelled(page, numbers)):
        key = next((name for start, name in _CAPTIONS if heading.startswith(start)), None)
        caption = page.say(key) if key else page.told(heading)
        yield Markup(
            f"<figure>\n<figcaption>{caption}</figcaption>\n{_painted(page, svg)}\n</figure>"
        )


def _labelled(page: Page, numbers: Plots) -> Plots:
    """The same numbers with labels in the languages of the document."""
    return replace(
        numbers,
        times={_label(page, name): values for name, values in numbers.times.items()},
        residuals={_label(page, name): value for name, value in numbers.residuals.items()},
    )


def _label(page: Page, name: str) -> str:
    chinese = in_chinese(name) if Language.ZH in page.languages else None
    if chinese is None:
        return name
    return chinese if page.languages == (Language.ZH,) else f"{chinese} {name}"


def _painted(page: Page, svg: str) -> str:
    for name in _BOUNDS:
        svg = svg.replace(f">{name}<", f">{html_text(_label(page, name))}<")
    if len(page.languages) > 1:
        svg = svg.replace(f'viewBox="0 0 {_WIDTH} ', f'viewBox="0 0 {_WIDER} ', 1)
    # A quotation mark in a label is a character reference: what matches is ours.
    painted = _LEGEND.sub(_legend, svg)
    painted = _CLASS.sub(lambda found: _attributes(found[1].split()), painted)
    return painted.replace(
        "<svg ",
        '<svg xmlns="http://www.w3.org/2000/svg" font-size="11" '
        f'font-family="Noto Sans CJK SC, sans-serif" fill="{_INK}" ',
        1,
    )


def _legend(found: re.Match[str]) -> str:
    shade, x, y = found[1], int(found[2]), int(found[3])
    line = f'<line class="line {shade}" x1="{x}" y1="{y - 4}" x2="{x + 26}" y2="{y - 4}"/>'
    return f'{line}<text class="{shade}" x="{x + 32}" y="{y}">'


def _attributes(classes: list[str]) -> str:
    shade = next((one for one in classes if one in _SHADES), None)
    color, dashes = _SHADES[shade] if shade else (_INK, "")
    if "axis" in classes:
        return f'stroke="{_AXIS}"'
    if "bound" in classes:
        return f'stroke="{_FAINT}" stroke-dasharray="4 4"'
    if "line" in classes:
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        return f'fill="none" stroke="{color}" stroke-width="1.6"{dash}'
    return f'fill="{color}"'
