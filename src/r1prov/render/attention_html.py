"""The attention of one model or two as one HTML page: tables, and maps of layers and heads."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from r1prov.render.attention import SCALE, facts, interval_note, label, summary
from r1prov.text import html_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from r1prov.attention.report import AttentionReport

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #57606a;
  --line: #d0d7de; --more: #0550ae; --less: #a40e26; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --faint: #9aa4ae; --line: #3a424b;
    --more: #79c0ff; --less: #ff8a80; }
}
body { margin: 2rem auto; padding: 0 1rem; max-width: 64rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.3; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; vertical-align: top; padding: .2rem .8rem .2rem 0; }
th { font-weight: normal; color: var(--faint); }
td { font-family: ui-monospace, monospace; font-size: .875rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; } figcaption, footer { color: var(--faint); font-size: .875rem; }
svg { max-width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .more { fill: var(--more); } svg .less { fill: var(--less); }
svg .frame { fill: none; stroke: var(--line); }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
_LEFT, _TOP, _GAP = 44, 20, 8
_WIDTH = 720
_LARGEST_CELL = 22


def as_html(report: AttentionReport) -> str:
    """The report as a page. ASCII only, with character references."""
    page = "\n".join(_page(report)) + "\n"
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _page(report: AttentionReport) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>r1prov: attention of {html_text(label(report), limit=200)}</title>"
    yield f"<style>{_STYLE}</style>\n</head>\n<body>"
    yield f"<h1>Attention of {html_text(label(report))}</h1>"
    for one in report.models:
        yield f"<h2>{html_text(one.location)}</h2>\n<p>{html_text(summary(one.shape))}</p>"
        source = html_text(one.shape.source)
        yield f"<table>\n<tr><th>figure</th><th>tensors</th><th>{source}</th></tr>"
        for figure in one.shape.figures:
            numbers = ("-" if n is None else f"{n:,}" for n in (figure.tensors, figure.config))
            cells = "".join(f"<td>{number}</td>" for number in numbers)
            yield f'<tr><th scope="row">{html_text(figure.name)}</th>{cells}</tr>'
        yield "</table>"
        yield from _list("Contradictions", one.shape.contradictions)
        yield from _list("Headers that cannot be read", [f"{p}: {w}" for p, w in one.malformed])
    yield from _list("The headers alone tell these two apart", report.shapes_differ)
    for profile in report.profiles:
        yield f"<h2>Entropy of {html_text(profile.location)}</h2>\n<table>"
        for name, value in facts(profile):
            yield f'<tr><th scope="row">{name}</th><td>{html_text(value)}</td></tr>'
        yield "</table>"
        yield _figure(f"Layers down, heads across; {SCALE}", profile.head_means(), 1.0)
    if report.difference is not None:
        means = report.difference.heads.mean
        largest = float(abs(means).max())
        yield "<h2>Difference: the second minus the first</h2>"
        caption = (
            f"Blue: more spread in the second; red: less. The darkest is {largest:.4f}. "
            f"{interval_note(report.difference)}"
        )
        yield _figure(caption, means, largest, report.difference.heads.apart())
    yield from _list("Not compared", report.not_compared)
    yield from _list("What this cannot tell", report.cannot_tell)
    yield f"<footer>r1prov {html_text(report.version)}</footer>\n</body>\n</html>"


def _list(heading: str, texts: tuple[str, ...] | list[str]) -> Iterator[str]:
    if texts:
        items = "".join(f"<li>{html_text(one)}</li>" for one in texts)
        yield f"<h2>{heading}</h2>\n<ul>{items}</ul>"


def _figure(
    caption: str,
    values: NDArray[np.float64],
    most: float,
    apart: NDArray[np.bool_] | None = None,
) -> str:
    return (
        f"<figure>\n<figcaption>{html_text(caption)}</figcaption>\n"
        f"{heat_map(values, most, apart)}\n</figure>"
    )


def heat_map(
    values: NDArray[np.float64], most: float, apart: NDArray[np.bool_] | None = None
) -> str:
    """A map of layers and heads as SVG; each cell says its number when it is pointed at.

    Args:
        values: Shape (layers, heads).
        most: The size that is drawn darkest.
        apart: Cells to frame.
    """
    layers, heads = values.shape
    cell = min(_LARGEST_CELL, (_WIDTH - _LEFT - _GAP) // heads)
    cell = max(cell, 4)
    width, height = _LEFT + heads * cell + _GAP, _TOP + layers * cell + _GAP
    marks = [f"<title>{layers} layers, {heads} heads</title>"]
    step = max(1, -(-14 // cell))
    for layer in range(layers):
        y = _TOP + layer * cell
        if layer % step == 0:
            marks.append(f'<text x="{_LEFT - 6}" y="{y + 12}" text-anchor="end">{layer}</text>')
        for head in range(heads):
            value = float(values[layer, head])
            shade = min(1.0, abs(value) / most) if most else 0.0
            kind = "more" if value >= 0 else "less"
            place = f'x="{_LEFT + head * cell}" y="{y}" width="{cell - 1}" height="{cell - 1}"'
            marks.append(
                f'<rect class="{kind}" {place} fill-opacity="{shade:.3f}">'
                f"<title>layer {layer}, head {head}: {value:.4f}</title></rect>"
            )
            if apart is not None and apart[layer, head]:
                marks.append(f'<rect class="frame" {place}/>')
    marks += [
        f'<text x="{_LEFT + head * cell}" y="{_TOP - 6}">{head}</text>'
        for head in range(0, heads, step)
    ]
    inner = "\n".join(marks)
    return f'<svg role="img" width="{width}" viewBox="0 0 {width} {height}">\n{inner}\n</svg>'
