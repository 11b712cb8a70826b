"""An audit or comparison of endpoints as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from r1prov.render.endpoint import all_findings, facts, outcome_label, rate_label
from r1prov.render.endpoint_plots import plots
from r1prov.text import html_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from r1prov.endpoints.report import EndpointReport
    from r1prov.endpoints.result import TestResult

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #57606a;
  --line: #d0d7de; --consistent: #116329; --inconsistent: #a40e26; --not-testable: #7a4d00;
  --a: #0550ae; --b: #8250df; --c: #a40e26; --d: #116329; --e: #7a4d00; --f: #57606a; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --faint: #9aa4ae; --line: #3a424b;
    --consistent: #56d364; --inconsistent: #ff8a80; --not-testable: #e3b341;
    --a: #79c0ff; --b: #d2a8ff; --c: #ff8a80; --d: #56d364; --e: #e3b341; --f: #9aa4ae; }
}
body { margin: 2rem auto; padding: 0 1rem; max-width: 64rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.3; border-inline-start: .5rem solid; padding: .2rem .8rem; }
h1.consistent { color: var(--consistent); } h1.inconsistent { color: var(--inconsistent); }
h1.not-testable { color: var(--not-testable); }
h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
bdi { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; vertical-align: top; padding: .2rem .8rem .2rem 0; }
th { font-weight: normal; color: var(--faint); white-space: nowrap; }
td { font-family: ui-monospace, monospace; font-size: .875rem; }
td.number { text-align: end; } td.word bdi { overflow-wrap: normal; }
@media (max-width: 48rem) {
  table.tests, table.tests tbody, table.tests tr { display: block; }
  table.tests tr { border-top: 1px solid var(--line); padding: .4rem 0; }
  table.tests tr.heads { display: none; }
  table.tests th, table.tests td { display: block; text-align: start; padding: 0; }
  table.tests th { color: var(--ink); font-weight: bold; }
  table.tests td::before { content: attr(data-label) " "; color: var(--faint);
    font: .875rem system-ui, sans-serif; }
  figure { overflow-x: auto; } svg { min-width: 34rem; }
}
figure { margin: 1rem 0; } figcaption { color: var(--faint); font-size: .875rem; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .axis { stroke: var(--line); } svg .bound { stroke: var(--faint); stroke-dasharray: 4 4; }
svg .line { fill: none; stroke-width: 1.5; }
svg .line.a { stroke: var(--a); } svg .line.b { stroke: var(--b); }
svg .line.c { stroke: var(--c); } svg .line.d { stroke: var(--d); }
svg .line.e { stroke: var(--e); } svg .line.f { stroke: var(--f); }
svg text.a, svg .bar.a { fill: var(--a); } svg text.b { fill: var(--b); }
svg text.c, svg .bar.c { fill: var(--c); } svg text.d { fill: var(--d); }
svg text.e { fill: var(--e); } svg text.f { fill: var(--f); }
footer { margin-top: 2rem; color: var(--faint); font-size: .875rem; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"
_COLUMNS = ("test", "outcome", "samples", "requests", "tokens", "error rate", "what it says")


def as_html(report: EndpointReport) -> str:
    """The report as a page. ASCII only, with character references."""
    page = "\n".join(_page(report)) + "\n"
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _page(report: EndpointReport) -> Iterator[str]:
    verdict = report.verdict.value
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>r1prov: {verdict} {html_text(report.headline, limit=200)}</title>"
    yield f"<style>{_STYLE}</style>\n</head>\n<body>"
    # Some headlines begin with the verdict.
    rest = report.headline.removeprefix(verdict).lstrip()
    yield f'<h1 class="{verdict}">{verdict.upper()} {_text(rest)}</h1>'
    yield "<table>"
    for label, value in facts(report):
        yield _row(label, value)
    yield '</table>\n<h2>Tests</h2>\n<table class="tests">'
    heads = "".join(f'<th scope="col">{one}</th>' for one in _COLUMNS)
    yield f'<tr class="heads">{heads}</tr>'
    for one in report.results:
        yield _result(one)
    yield "</table>"
    for heading, svg in plots(report.plots):
        yield f"<figure>\n<figcaption>{html_text(heading)}</figcaption>\n{svg}\n</figure>"
    yield from _findings(report)
    if report.not_run:
        yield "<h2>Not run</h2>\n<table>"
        for left in report.not_run:
            yield _row(left.name, left.why)
        yield "</table>"
    yield from _list("Harmless causes that would look the same", report.benign)
    yield from _list("What this cannot tell", report.cannot_tell)
    yield f"<footer>r1prov {_text(report.version)}</footer>\n</body>\n</html>"


def _result(one: TestResult) -> str:
    values = [outcome_label(one), *(f"{n:,}" for n in (one.samples, one.requests, one.tokens))]
    values += [rate_label(one), one.summary]
    kinds = ("word", "number", "number", "number", "word", "")
    cells = [f'<th scope="row">{_text(one.name)}</th>']
    cells += [
        f'<td class="{kind}" data-label="{label}">{_text(value)}</td>'
        for label, kind, value in zip(_COLUMNS[1:], kinds, values, strict=True)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _findings(report: EndpointReport) -> Iterator[str]:
    found = all_findings(report)
    if found:
        yield f"<h2>Findings ({len(found)})</h2>"
    for one in found:
        yield f"<article>\n<h3>{one.rule.id} {one.severity.value}: {html_text(one.rule.title)}</h3>"
        yield "<table>"
        yield _row("subject", one.subject)
        yield _row("what is wrong", one.message)
        for label, value in (("expected", one.expected), ("found", one.found)):
            if value is not None:
                yield _row(label, value)
        yield _row("what to do", one.hint or one.rule.help)
        yield "</table>\n</article>"


def _list(heading: str, texts: Sequence[str]) -> Iterator[str]:
    if texts:
        items = "".join(f"<li>{_text(one)}</li>" for one in texts)
        yield f"<h2>{heading}</h2>\n<ul>{items}</ul>"


def _row(label: str, value: str) -> str:
    return f'<tr><th scope="row">{html_text(label)}</th><td>{_text(value)}</td></tr>'


def _text(text: str) -> str:
    """Escaped, and isolated: letters that run right to left move nothing beside them."""
    return f"<bdi>{html_text(text)}</bdi>"
