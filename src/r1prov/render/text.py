"""A report for people. Everything untrusted goes through `r1prov.text.printable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.text import human_bytes, plural, printable
from r1prov.verify.findings import CoverageState, Finding, Report, Tally, Verdict
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLORS = {Verdict.PASS: "32", Verdict.FAIL: "31", Verdict.INCOMPLETE: "33"}
_HEADINGS = {Severity.ERROR: "errors", Severity.WARNING: "warnings", Severity.NOTE: "notes"}
# Findings of one rule shown in full; the count always says how many there are.
_SHOWN_A_RULE = 10
_LABEL = 14
# Hundreds of the rule ids in the order a reader wants them: who says so and which model it is
# before which file differs.
_GROUPS = "37640215"


def render(report: Report, *, color: bool = False) -> str:
    """The report as text, the verdict and the model in the first line."""
    word = report.verdict.value.upper()
    if color:
        word = f"\x1b[1;{_COLORS[report.verdict]}m{word}\x1b[0m"
    lines = [f"{word}  {printable(report.headline)}", ""]
    lines += _facts(report)
    for severity, heading in _HEADINGS.items():
        found = [one for one in report.findings if one.severity is severity]
        found.sort(key=lambda one: _GROUPS.index(one.rule.id[3]))
        if found:
            lines += ["", f"{heading} ({len(found):,})"]
            lines += finding_lines(found)
    return "\n".join(lines) + "\n"


def _facts(report: Report) -> Iterator[str]:
    yield _row("model", printable(report.model))
    if report.expected is not None:
        yield _row("expected", printable(report.expected))
    use = report.manifest
    if use is not None:
        yield _row("manifest", printable(use.location))
        yield _row("", printable(use.chosen))
        for line in use.signers or ("none",):
            yield _row("signature", printable(line))
        hashed = report.level == "full"
        yield _row("weights", _tally(report.weights, hashed=hashed))
        yield _row("other files", _tally(report.other, hashed=hashed))
        if use.tree_digest and report.verdict is Verdict.PASS and report.scope == "all":
            yield _row("tree digest", f"sha256:{use.tree_digest}")
    if report.tensors:
        yield _row("tensors", f"{report.tensors:,}, inventory sha256:{report.inventory_sha256}")
    for line in report.provenance:
        yield _row("provenance", printable(line))
    for one in report.coverage:
        label = "checked" if one.state is CoverageState.CHECKED else "not checked"
        yield _row(label, f"{printable(one.item)}: {printable(one.detail)}")


def _row(label: str, value: str) -> str:
    return f"  {label:<{_LABEL}}{value}"


def _tally(tally: Tally, *, hashed: bool) -> str:
    if not tally.total:
        return "none listed"
    if not hashed:
        return f"{plural(tally.total, 'file')} listed, {human_bytes(tally.total_bytes)}, not hashed"
    text = (
        f"{tally.matching:,} of {plural(tally.total, 'file')} as signed, "
        f"{human_bytes(tally.matching_bytes)} of {human_bytes(tally.total_bytes)}"
    )
    if tally.differing:
        names = ", ".join(printable(path) for path in tally.differing[:8])
        more = len(tally.differing) - 8
        text += f"; differ: {names}" + (f" and {more:,} more" if more > 0 else "")
    return text


def finding_lines(found: list[Finding]) -> Iterator[str]:
    """Findings with what was expected, what was found and what to do."""
    shown: dict[str, int] = {}
    for one in found:
        shown[one.rule.id] = shown.get(one.rule.id, 0) + 1
        if shown[one.rule.id] > _SHOWN_A_RULE:
            continue
        yield f"  {one.rule.id} {one.rule.name}: {printable(one.subject)}"
        yield f"      {printable(one.message)}"
        if one.expected is not None:
            yield f"      expected  {printable(one.expected)}"
        if one.found is not None:
            yield f"      found     {printable(one.found)}"
        if one.severity is not Severity.NOTE:
            yield f"      do        {printable(one.hint or one.rule.help)}"
    for rule_id, count in shown.items():
        if count > _SHOWN_A_RULE:
            yield f"  {rule_id} … and {count - _SHOWN_A_RULE:,} more; --format json lists them all"
