"""API exchanges and audits of endpoints in the document about a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.render.endpoint import all_findings, rate_label
from r1prov.render.evidence_page import Markup, Page, code, lines, mark
from r1prov.render.evidence_plots import audit_plots
from r1prov.render.evidence_reasons import findings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from r1prov.endpoints.report import EndpointReport
    from r1prov.responses.report import ExchangeReport

_EXCHANGES: Final = 200
_SIGNS: Final = {
    "pass": "yes",
    "fail": "no",
    "incomplete": "warn",
    "consistent": "yes",
    "inconsistent": "no",
    "not-testable": "warn",
    "description": "gap",
}


def exchanges(page: Page, found: Sequence[tuple[str, ExchangeReport]]) -> Iterator[Markup]:
    """Each exchange, what became of its signature, and what that means."""
    if not found:
        yield page.paragraph("x-none")
        return
    yield page.paragraph("x-note")
    rows = (
        (
            code(path.rpartition("/")[2]),
            _word(page, one.verdict.value),
            page.both(None, one.headline),
        )
        for path, one in found[:_EXCHANGES]
    )
    yield page.table("exchanges", ("x-member", "c-state", "c-detail"), rows)
    if len(found) > _EXCHANGES:
        yield page.paragraph("x-more", count=f"{len(found) - _EXCHANGES:,}")


def audits(page: Page, found: Sequence[tuple[str, EndpointReport]]) -> Iterator[Markup]:
    """Each audit with its tests, plots and findings, and what it cannot tell."""
    if not found:
        yield page.paragraph("e-none")
        return
    yield page.paragraph("e-note")
    for path, one in found:
        yield Markup(f"<h3>{code(path)}</h3>")
        yield from _audit(page, one)


def _audit(page: Page, one: EndpointReport) -> Iterator[Markup]:
    sides = (f"{side.role}: {side.name} ({side.model})" for side in one.sides)
    yield page.facts(
        [
            ("e-outcome", lines((_word(page, one.verdict.value), page.both(None, one.headline)))),
            ("e-claim", one.claim),
            ("e-endpoint", lines(sides)),
            ("e-requests", f"{one.requests:,}; {one.tokens:,}"),
            ("e-alpha", "—" if one.alpha is None else f"{one.alpha:.2g}"),
            ("e-when", f"{one.started_at:%Y-%m-%d %H:%M} – {one.finished_at:%Y-%m-%d %H:%M} UTC"),
        ]
    )
    rows = (
        (
            code(test.name),
            _word(page, test.outcome.value),
            f"{test.samples:,}",
            rate_label(test),
            page.both(None, test.summary),
        )
        for test in one.results
    )
    yield page.table("audit", ("e-test", "e-outcome", "e-samples", "e-rates", "e-says"), rows)
    yield from audit_plots(page, one.plots)
    found = all_findings(one)
    if found:
        yield from findings(page, found)
    left = [f"{test.name}: {test.why}" for test in one.not_run]
    for key, texts in (
        ("e-benign", one.benign),
        ("e-cannot", one.cannot_tell),
        ("e-not-run", left),
    ):
        if texts:
            items = "".join(f"<li>{page.both(None, text)}</li>" for text in texts)
            yield Markup(f"<h3>{page.say(key)}</h3>\n<ul>{items}</ul>")


def _word(page: Page, value: str) -> Markup:
    return mark(_SIGNS[value], page.say(value))
