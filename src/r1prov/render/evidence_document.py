"""The document about a verified bundle: one HTML page, in Chinese, English or both.

The verdict comes first; before it only, where it applies, that nothing of it was verified.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from r1prov.render.evidence_api import audits, exchanges
from r1prov.render.evidence_architecture import architecture
from r1prov.render.evidence_page import Markup, Page, Term, code, lines, plain
from r1prov.render.evidence_parts import (
    chain,
    contents,
    digests,
    environment,
    proof,
    yourself,
)
from r1prov.render.evidence_policy import criteria
from r1prov.render.evidence_reasons import coverage, findings
from r1prov.render.evidence_signers import signatures, timestamps
from r1prov.render.evidence_words import WORDS, Language
from r1prov.text import human_bytes
from r1prov.verify.findings import CoverageState, Verdict
from r1prov.verify.policy import Level
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from r1prov.endpoints.report import EndpointReport
    from r1prov.render.evidence_dossier import Dossier
    from r1prov.verify.findings import Tally

# Circle, octagon and triangle: told apart without colour.
_SIGNS: Final = {
    Verdict.PASS: '<circle cx="32" cy="32" r="28" fill="none" stroke="#00664a" stroke-width="4"/>'
    '<path d="M19 33 L28 43 L46 22" fill="none" stroke="#00664a" stroke-width="5"/>',
    Verdict.FAIL: '<path d="M21 4 H43 L60 21 V43 L43 60 H21 L4 43 V21 Z" fill="#a83a00"/>'
    '<path d="M21 21 L43 43 M43 21 L21 43" fill="none" stroke="#ffffff" stroke-width="6"/>',
    Verdict.INCOMPLETE: '<path d="M32 5 L61 57 H3 Z" fill="none" stroke="#7a5600" '
    'stroke-width="4"/><path d="M32 22 V41 M32 46 V51" fill="none" stroke="#7a5600" '
    'stroke-width="5"/>',
}


def as_html(dossier: Dossier, languages: Sequence[Language]) -> str:
    """The document. ASCII only, with character references."""
    text = "\n".join(_document(Page(languages), dossier)) + "\n"
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _document(page: Page, dossier: Dossier) -> Iterator[Markup]:
    result = dossier.result
    column = 0 if page.languages[0] is Language.ZH else 1
    word = WORDS[result.verdict.value][column]
    warning = WORDS["unverified"]
    mark = (
        ""
        if dossier.verified
        else " ".join(warning if len(page.languages) > 1 else [warning[column]])
    )
    start = f"{mark} · " if mark else ""
    yield page.open(f"{start}{word} · {WORDS['title'][column]} · {result.index.model}", mark)
    if not dossier.verified:
        why = "unverified-altered" if dossier.altered else "unverified-key"
        yield Markup(
            f'<div class="unverified" role="alert"><strong>{page.say("unverified")}</strong>'
            f"{page.paragraph(why)}</div>"
        )
    yield Markup(f"<h1>{page.say('title')}</h1>")
    yield Markup(f'<p class="subtitle">{page.say("subtitle")}</p>')
    yield _verdict(page, dossier)
    if dossier.verified:
        said = page.say(
            "verified",
            version=dossier.version,
            now=moment(dossier.now),
            count=f"{len(dossier.pinned):,}",
        )
        yield Markup(f'<p class="basis">{said}</p>')
    yield page.section("h-facts", [page.facts(_facts(page, dossier))])
    yield page.section("h-findings", findings(page, result.findings))
    yield page.section("h-coverage", coverage(page, result.coverage))
    yield page.section("h-policy", criteria(page, dossier))
    if dossier.altered:
        yield page.section("h-architecture", [page.paragraph("withheld")])
    else:
        yield page.section("h-architecture", architecture(page, dossier))
    yield page.section("h-signatures", signatures(page, dossier))
    yield page.section("h-timestamps", timestamps(page, dossier))
    yield page.section("h-exchanges", exchanges(page, dossier))
    yield page.section("h-audits", audits(page, dossier))
    yield page.section("h-chain", chain(page, result.index.previous))
    yield page.section("h-contents", contents(page, dossier))
    yield page.section("h-environment", environment(page, dossier.environment))
    yield page.section("h-proof", proof(page))
    yield page.section("h-yourself", yourself(page, dossier))
    yield page.section("h-digests", digests(page, dossier))
    yield Markup(
        f"<footer>{page.say('footer', version=dossier.version)}</footer>\n</body>\n</html>"
    )


def _verdict(page: Page, dossier: Dossier) -> Markup:
    result = dossier.result
    verdict = result.verdict
    errors = sum(one.severity is Severity.ERROR for one in result.findings)
    missing = sum(
        one.required and one.state is not CoverageState.CHECKED for one in result.coverage
    )
    says = page.say(
        f"{verdict.value}-says",
        model=_model(dossier),
        errors=f"{errors:,}",
        missing=f"{missing:,}",
    )
    return Markup(
        f'<div class="verdict {verdict.value}"><div class="sign">'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">{_SIGNS[verdict]}</svg></div>'
        f'<div class="words"><div class="word">{page.say(verdict.value)}</div>'
        f'<p>{says}</p><p class="kind">{_kind(page, dossier)}</p>{_limits(page, dossier)}'
        "</div></div>"
    )


def _limits(page: Page, dossier: Dossier) -> Markup:
    """What a pass is limited by: it belongs to the verdict."""
    told = [page.told(one) for one in dossier.result.limits]
    if not told:
        return Markup("")
    items = "".join(f"<li>{one}</li>" for one in told)
    return Markup(f'<div class="limits"><p>{page.say("limits")}</p><ul>{items}</ul></div>')


def _model(dossier: Dossier) -> str:
    """The model that the verdict is about: the one asked for, where it fails."""
    report = dossier.result.report
    if report is not None and dossier.result.verdict is not Verdict.PASS and report.expected:
        return Term("the-full") if report.expected == "full" else report.expected
    return dossier.result.index.model


def _kind(page: Page, dossier: Dossier) -> Markup:
    """What the model is by its manifest, so that nobody takes a distill for R1."""
    use = dossier.result.report.manifest if dossier.result.report else None
    if use is None:
        return page.say("is-unknown")
    if use.variant == "full":
        return page.say("is-full")
    return page.say("is-not-full", model=use.name, variant=_variant(use.variant))


def _variant(variant: str) -> str:
    key = f"variant-{variant}"
    return Term(key) if key in WORDS else variant


def _facts(page: Page, dossier: Dossier) -> Iterator[tuple[str, str]]:
    result, index, report = dossier.result, dossier.result.index, dossier.result.report
    yield "f-bundle", result.subject
    yield "f-sha256", code(result.sha256)
    yield "f-model", index.model
    use = report.manifest if report else None
    if use is not None:
        yield "f-publisher", f"{use.publisher}, {use.revision}" if use.revision else use.publisher
    expected = report.expected if report else index.expected
    if expected == "full":
        yield "f-expected", page.say("f-expected-full")
    else:
        yield "f-expected", expected or page.say("f-expected-none")
    if report is not None:
        yield "f-weights", _tally(page, report.weights, report.level)
        yield "f-other", _tally(page, report.other, report.level)
    if result.audits:
        yield "f-audits", lines(_audit(page, one) for _, one in result.audits)
    if result.exchanges:
        yield "f-exchanges", _counted(page, [one.verdict.value for _, one in result.exchanges])
    level, scope = Term(f"level-{index.level.value}"), Term(f"scope-{index.scope.value}")
    yield "f-depth", page.say("f-depth-says", level=level, scope=scope)
    proven = result.signature.proven
    if proven is None:
        yield "f-created", page.say("f-created-word", time=moment(index.created))
    else:
        yield (
            "f-created",
            page.say("f-created-proven", time=moment(index.created), proven=moment(proven)),
        )
    signature = result.signature
    if signature.owner is None:
        yield "f-signed", page.say("f-signed-unknown", key=code(signature.key_id))
    else:
        yield "f-signed", lines((signature.owner, code(signature.key_id)))
    yield "f-verified", moment(dossier.now)
    yield "f-judged", moment(result.judged_at)
    yield "f-maker", page.say("f-maker-says", verdict=Term(index.verdict.value))
    if report is not None:
        yield "f-original", page.told(report.headline)
        if use is not None:
            yield "f-manifest", code(use.sha256)
        if use is not None and use.tree_digest:
            yield "f-tree", code(use.tree_digest)
        if report.inventory_sha256:
            yield "f-inventory", code(report.inventory_sha256)


def _audit(page: Page, one: EndpointReport) -> Markup:
    verdict = f'<span class="inline">{page.say(one.verdict.value)}</span>'
    return Markup(f"{plain(one.sides[0].name)} {verdict}")


def _counted(page: Page, verdicts: Sequence[str]) -> Markup:
    """How many came to which verdict."""
    counts = Counter(verdicts)
    told = (f"{page.say(one.value)} {counts[one.value]:,}" for one in Verdict if counts[one.value])
    return Markup(f'<span class="inline">{" · ".join(told)}</span>')


def _tally(page: Page, tally: Tally, level: str) -> Markup:
    if not tally.total:
        return page.say("f-none")
    if level != Level.FULL:
        whole = human_bytes(tally.total_bytes)
        return page.say("f-unhashed", total=f"{tally.total:,}", bytes=whole)
    return page.say(
        "f-tally",
        matching=f"{tally.matching:,}",
        total=f"{tally.total:,}",
        bytes=human_bytes(tally.matching_bytes),
    )


def moment(time: datetime) -> str:
    """A time for people, in UTC."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
