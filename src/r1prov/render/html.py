"""A report as one HTML page that needs nothing else: no script, no font, no request.

The policy in the page allows the one style sheet below, by its digest, and nothing else: whatever
text slipped through could neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from r1prov.render.facts import coverage_label, facts, shown_coverage
from r1prov.render.reasons import Reason, by_heading, reasons
from r1prov.text import html_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.verify.findings import Report

# A page of more findings than this is no longer read, and slow to open.
_SHOWN = 2_000

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #57606a;
  --line: #d0d7de; --pass: #116329; --fail: #a40e26; --incomplete: #7a4d00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --faint: #9aa4ae; --line: #3a424b;
    --pass: #56d364; --fail: #ff8a80; --incomplete: #e3b341; }
}
@media print {
  :root { --ink: #000000; --paper: #ffffff; --faint: #333333; --line: #999999;
    --pass: #000000; --fail: #000000; --incomplete: #000000; }
  article, tr { break-inside: avoid; }
}
body { margin: 2rem auto; padding: 0 1rem; max-width: 60rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.3; border-inline-start: .5rem solid; padding: .2rem .8rem; }
h1.pass { color: var(--pass); } h1.fail { color: var(--fail); }
h1.incomplete { color: var(--incomplete); }
h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
bdi { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: start; vertical-align: top; padding: .2rem .8rem .2rem 0; }
th { font-weight: normal; color: var(--faint); white-space: nowrap; width: 9rem; }
td { font-family: ui-monospace, monospace; font-size: .875rem; }
footer { margin-top: 2rem; color: var(--faint); font-size: .875rem; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'"


def render(report: Report) -> str:
    """The report as a page. ASCII only, with character references."""
    page = "\n".join(_page(report)) + "\n"
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _page(report: Report) -> Iterator[str]:
    verdict = report.verdict.value
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield f"<title>r1prov: {verdict.upper()} {html_text(report.headline, limit=200)}</title>"
    yield f"<style>{_STYLE}</style>\n</head>\n<body>"
    yield f'<h1 class="{verdict}">{verdict.upper()} {_text(report.headline)}</h1>'
    yield from _findings(reasons(report))
    yield "<h2>What was verified</h2>\n<table>"
    for label, value in facts(report):
        yield _row(label, value)
    yield "</table>\n<h2>Coverage</h2>\n<table>"
    for one in shown_coverage(report):
        yield _row(coverage_label(one), f"{one.item}: {one.detail}")
    yield "</table>"
    finished = report.finished_at.isoformat(" ", "seconds")
    yield (
        f"<footer>r1prov {_text(report.version)}, level {_text(report.level)}, scope "
        f"{_text(report.scope)}, {finished}</footer>\n</body>\n</html>"
    )


def _findings(found: list[Reason]) -> Iterator[str]:
    left = _SHOWN
    for heading, group in by_heading(found):
        yield f"<h2>{heading} ({len(group):,})</h2>"
        for one in group[:left]:
            yield from _finding(one)
        if len(group) > left:
            yield f"<p>and {len(group) - left:,} more; --format json lists them all</p>"
        left = max(0, left - len(group))


def _finding(one: Reason) -> Iterator[str]:
    yield f"<article>\n<h3>{one.label}: {html_text(one.title)}</h3>\n<table>"
    if one.file is not None:
        yield _row("file", one.file)
    if one.file != one.subject:
        yield _row("subject", one.subject)
    yield _row("what is wrong", one.message)
    for label, value in one.details():
        yield _row(label, value)
    yield "</table>\n</article>"


def _row(label: str, value: str) -> str:
    return f'<tr><th scope="row">{label}</th><td>{_text(value)}</td></tr>'


def _text(text: str) -> str:
    """Escaped, and isolated: letters that run right to left move nothing beside them."""
    return f"<bdi>{html_text(text)}</bdi>"
