"""API exchanges and audits of endpoints in the document about a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.endpoints.result import Outcome
from r1prov.render.evidence_page import Markup, Page, code, lines, mark, plain
from r1prov.render.evidence_plots import audit_plots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.endpoints.report import EndpointReport
    from r1prov.endpoints.result import TestResult
    from r1prov.render.evidence_dossier import Dossier
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


def exchanges(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """Each exchange, what became of its signature, and what that means."""
    found = dossier.result.exchanges
    if dossier.altered:
        yield page.paragraph("withheld")
        return
    if not found:
        yield page.paragraph("x-none")
        return
    yield page.paragraph("x-note")
    rows = (_exchange(page, dossier, path, one) for path, one in found[:_EXCHANGES])
    yield page.table("exchanges", ("x-member", "c-state", "x-signer", "c-detail"), rows)
    if len(found) > _EXCHANGES:
        yield page.paragraph("x-more", count=f"{len(found) - _EXCHANGES:,}")
    if dossier.redacted:
        yield page.paragraph("x-redacted-note")


def _exchange(page: Page, dossier: Dossier, path: str, one: ExchangeReport) -> tuple[Markup, ...]:
    key = one.key
    signer = (
        ["—"] if key is None else [key.owner or key.source.rpartition("/")[2], code(key.thumbprint)]
    )
    if one.created is not None:
        signer.append(f"{one.created:%Y-%m-%d %H:%M:%S} UTC")
    told = [page.told(one.headline)]
    if one.model is not None:
        told.append(page.say("x-model", model=one.model))
    shut = dossier.redacted.get(path, ())
    if shut:
        told.append(page.say("x-redacted", parts=Markup(", ".join(code(part) for part in shut))))
    name = code(path.rpartition("/")[2])
    return name, _word(page, one.verdict.value), lines(signer), lines(told)


def audits(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """Each audit with its tests and plots, and what it cannot tell."""
    found = dossier.result.audits
    if dossier.altered:
        yield page.paragraph("withheld")
        return
    if not found:
        yield page.paragraph("e-none")
        return
    yield page.paragraph("e-note")
    yield page.paragraph("e-findings")
    for path, one in found:
        yield Markup(f"<h3>{code(path)}</h3>")
        yield from _audit(page, one)


def _audit(page: Page, one: EndpointReport) -> Iterator[Markup]:
    sides = [
        Markup(
            f'<span class="inline">{page.term(side.role)}</span>: '
            f"{plain(f'{side.name} ({side.model})')}"
        )
        for side in one.sides
    ]
    yield page.facts(
        [
            ("e-outcome", lines((_word(page, one.verdict.value), page.told(one.headline)))),
            ("e-claim", one.claim),
            ("e-endpoint", lines(sides)),
            ("e-requests", f"{one.requests:,}; {one.tokens:,}"),
            ("e-alpha", "—" if one.alpha is None else f"{one.alpha:.2g}"),
            ("e-when", f"{one.started_at:%Y-%m-%d %H:%M} – {one.finished_at:%Y-%m-%d %H:%M} UTC"),
        ]
    )
    rows = (
        (
            page.term(test.name),
            _word(page, test.outcome.value),
            f"{test.samples:,}",
            _rates(page, test),
            page.told(test.summary),
        )
        for test in one.results
    )
    yield page.table("audit", ("e-test", "e-outcome", "e-samples", "e-rates", "e-says"), rows)
    yield from audit_plots(page, one.plots)
    left = [Markup(f"{page.term(test.name)} — {page.told(test.why)}") for test in one.not_run]
    for key, texts in (
        ("e-benign", [page.told(text) for text in one.benign]),
        ("e-cannot", [page.told(text) for text in one.cannot_tell]),
        ("e-not-run", left),
    ):
        if texts:
            items = "".join(f"<li>{text}</li>" for text in texts)
            yield Markup(f"<h3>{page.say(key)}</h3>\n<ul>{items}</ul>")


def _rates(page: Page, one: TestResult) -> str | Markup:
    rates = one.error_rates
    if one.outcome is Outcome.DESCRIPTION or rates is None:
        return "—"
    if rates.alpha is None:
        return page.say("e-rate-unknown")
    found = [f"α = {rates.alpha:.2g}"]
    if rates.beta is not None:
        found.append(f"β = {rates.beta:.2g}")
    return lines(found)


def _word(page: Page, value: str) -> Markup:
    return mark(_SIGNS[value], page.say(value))
