"""Plots of an endpoint report as SVG that stands in the page: no script, no font, no request.

Every number is drawn from the report alone; labels are escaped like any other text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from r1prov.text import html_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from r1prov.endpoints.report import Plots

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 200, 12, 34
_SHADES = ("a", "b", "c", "d", "e", "f")
# Steps of a curve: more are no longer seen.
_STEPS = 200


def plots(numbers: Plots) -> Iterator[tuple[str, str]]:
    """Heading and SVG of every plot that there are numbers for."""
    times = {name: values for name, values in numbers.times.items() if len(values) > 1}
    if times:
        yield "Times (share of answers or pieces within so many seconds)", _ecdf(times)
    if numbers.residuals:
        yield "Prompt tokens: counted minus expected, by probe", _bars(numbers.residuals)
    if len(numbers.sprt) > 1 and numbers.sprt_bounds is not None:
        heading = "Delta boundaries: evidence against the claimed tokenizer, boundary by boundary"
        yield heading, _path(numbers.sprt, numbers.sprt_bounds)


def _ecdf(times: Mapping[str, Sequence[float]]) -> str:
    values = [max(one, 1e-4) for found in times.values() for one in found]
    low, high = math.log10(min(values)), math.log10(max(values))
    high = high if high > low else low + 1

    def place(seconds: float, share: float) -> str:
        x = (math.log10(max(seconds, 1e-4)) - low) / (high - low)
        return _point(x, share)

    marks = []
    for number, (name, found) in enumerate(sorted(times.items())):
        shade = _SHADES[number % len(_SHADES)]
        step = max(1, len(found) // _STEPS)
        picked = list(enumerate(found))[::step]
        points = " ".join(place(one, (at + 1) / len(found)) for at, one in picked)
        marks.append(f'<polyline class="line {shade}" points="{points}"/>')
        y = _TOP + 14 + 16 * number
        marks.append(
            f'<text class="{shade}" x="{_WIDTH - _RIGHT + 12}" y="{y}">{html_text(name)}</text>'
        )
    ticks = [10**power for power in range(math.ceil(low), math.floor(high) + 1)]
    for tick in ticks:
        x, _ = place(tick, 0).split(",")
        label = f'<text x="{x}" y="{_HEIGHT - 12}" text-anchor="middle">{tick:g} s</text>'
        marks.append(label)
    return _svg([*_frame(("0", 0.0), ("50%", 0.5), ("100%", 1.0)), *marks], "Times")


def _bars(residuals: Mapping[str, float]) -> str:
    height = 22 * len(residuals) + 20
    most = max(1.0, *(abs(one) for one in residuals.values()))
    middle, reach = 400, 220
    marks = [f'<line class="axis" x1="{middle}" y1="4" x2="{middle}" y2="{height - 16}"/>']
    for number, (name, value) in enumerate(residuals.items()):
        y = 6 + 22 * number
        width = max(1.0, abs(value) / most * reach)
        x = middle if value >= 0 else middle - width
        shade = "c" if abs(value) > 1 else "a"
        marks += [
            f'<rect class="bar {shade}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="14"/>',
            f'<text x="8" y="{y + 12}">{html_text(name)}</text>',
            f'<text x="{_WIDTH - 8}" y="{y + 12}" text-anchor="end">{value:+g}</text>',
        ]
    return _svg(marks, "Residuals", height=height)


def _path(path: Sequence[float], bounds: tuple[float, float]) -> str:
    low = min(bounds[0], *path) * 1.1
    high = max(bounds[1], *path) * 1.1

    def share(value: float) -> float:
        return (value - low) / (high - low)

    points = " ".join(_point(at / (len(path) - 1), share(one)) for at, one in enumerate(path))
    marks = _frame(("0", share(0.0)))
    for value, label in ((bounds[0], "claimed tokenizer"), (bounds[1], "another tokenizer")):
        x0, y = _point(0, share(value)).split(",")
        x1, _ = _point(1, share(value)).split(",")
        marks.append(f'<line class="bound" x1="{x0}" y1="{y}" x2="{x1}" y2="{y}"/>')
        marks.append(f'<text x="{_WIDTH - _RIGHT + 12}" y="{float(y) + 4:.1f}">{label}</text>')
    marks.append(f'<polyline class="line a" points="{points}"/>')
    return _svg(marks, "Sequential test")


def _point(x: float, y: float) -> str:
    """A place in the frame: 0 to 1 from the left, 0 to 1 from below."""
    across = _LEFT + x * (_WIDTH - _LEFT - _RIGHT)
    down = _HEIGHT - _BOTTOM - y * (_HEIGHT - _TOP - _BOTTOM)
    return f"{across:.1f},{down:.1f}"


def _frame(*levels: tuple[str, float]) -> list[str]:
    marks = []
    for label, share in levels:
        x0, y = _point(0, share).split(",")
        x1, _ = _point(1, share).split(",")
        marks.append(f'<line class="axis" x1="{x0}" y1="{y}" x2="{x1}" y2="{y}"/>')
        marks.append(
            f'<text x="{_LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{label}</text>'
        )
    return marks


def _svg(marks: list[str], title: str, *, height: int = _HEIGHT) -> str:
    inner = "\n".join(marks)
    return (
        f'<svg role="img" viewBox="0 0 {_WIDTH} {height}"><title>{html_text(title)}</title>\n'
        f"{inner}\n</svg>"
    )
