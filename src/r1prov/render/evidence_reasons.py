"""Findings and coverage in the document about a bundle."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from r1prov.render.evidence_page import Markup, Page, code, mark
from r1prov.render.rules_zh import rule_in_chinese
from r1prov.render.sentences_zh import item_in_chinese
from r1prov.verify.findings import CoverageState
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from r1prov.verify.findings import Coverage, Finding

_ORDER: Final = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
_SIGNS: Final = {Severity.ERROR: "no", Severity.WARNING: "warn", Severity.NOTE: "gap"}
# A paper with more than these is no longer read: the rest is counted.
_FINDINGS: Final = 60
_UNREAD: Final = 20
_COVERED: Final = 250
# A group up to this long stays on one page.
_TOGETHER: Final = 6


def findings(page: Page, found: Sequence[Finding]) -> Iterator[Markup]:
    """Each finding, the gravest first; of many the rest by rule."""
    ordered = sorted(found, key=lambda one: _ORDER[one.severity])
    if not ordered:
        yield page.paragraph("no-findings")
    for group in _groups(ordered[:_FINDINGS]):
        yield _group(page, group)
    rest = Counter(one.rule for one in ordered[_FINDINGS:])
    if rest:
        yield page.paragraph("more-findings", count=f"{rest.total():,}")
        rows = (
            (code(one.id), page.both(rule_in_chinese(one.name)[0], one.title), f"{count:,}")
            for one, count in sorted(rest.items(), key=lambda item: item[0].id)
        )
        yield page.table("rules", ("c-rule", "c-message", "c-count"), rows)


def _groups(found: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that differ in their subject alone, such as files that are missing."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for one in found:
        groups.setdefault((one.rule.name, one.severity, one.hint), []).append(one)
    return list(groups.values())


def _group(page: Page, group: Sequence[Finding]) -> Markup:
    first = group[0]
    title, text = rule_in_chinese(first.rule.name)
    sign = mark(_SIGNS[first.severity], page.say(first.severity.value))
    help_text = page.both(text, first.hint or first.rule.help)
    if len(group) == 1:
        body = page.facts([*_of(page, first), ("c-help", help_text)])
    else:
        named = ("c-subject", "c-message", "c-expected", "c-found")
        rows = (dict(_of(page, one)) for one in group)
        cells = ([row.get(name, "—") for name in named] for row in rows)
        body = Markup(f"<p>{help_text}</p>\n{page.table('group', named, cells)}")
    count = f" × {len(group):,}" if len(group) > 1 else ""
    many = " many" if len(group) > _TOGETHER else ""
    return Markup(
        f'<div class="finding {first.severity.value}{many}"><p class="rule">{sign} '
        f"{code(first.rule.id)} {code(first.rule.name)}{count}</p>\n"
        f"<h3>{page.both(title, first.rule.title)}</h3>\n{body}</div>"
    )


def _of(page: Page, one: Finding) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = [
        ("c-subject", one.subject),
        ("c-message", page.told(one.message)),
    ]
    more = (("c-expected", one.expected), ("c-found", one.found))
    return rows + [(label, page.term(value)) for label, value in more if value is not None]


def coverage(page: Page, covered: Sequence[Coverage]) -> Iterator[Markup]:
    """What was checked and what was not; what had to be and was not comes first."""
    unread = [one for one in covered if one.state is CoverageState.UNREAD]
    hidden = {id(one) for one in unread[_UNREAD:]}
    ordered = sorted((one for one in covered if id(one) not in hidden), key=_rank)
    shown = ordered[:_COVERED]
    left = len(hidden) + len(ordered) - len(shown)
    rows = [
        (
            page.both(item_in_chinese(one.item), one.item),
            _state(page, one),
            page.told(one.detail),
        )
        for one in shown
    ]
    yield page.table("coverage", ("c-item", "c-state", "c-detail"), rows)
    if left:
        yield page.paragraph("more-coverage", count=f"{left:,}")


def _rank(one: Coverage) -> int:
    if one.state is CoverageState.CHECKED:
        return 1
    return 0 if one.required else 2


def _state(page: Page, one: Coverage) -> Markup:
    if one.state is CoverageState.CHECKED:
        return mark("yes", page.say("checked"))
    if one.required:
        return mark("no", page.say("required-missing"))
    return mark("gap", page.say("not-checked"))
