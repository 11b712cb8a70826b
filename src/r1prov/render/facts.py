"""What a report says besides its findings, as label and value: every format for people shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.text import human_bytes, plural
from r1prov.verify.findings import BY_TENSOR, Coverage, CoverageState, Report, Tally, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

# Names of differing files shown; the count always says how many there are.
_NAMED = 8
# Unreadable files that have a row of their own.
_UNREAD = 20


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """Label and value, in the order to read them; values hold untrusted text.

    An empty label continues the value before it.
    """
    yield "model", report.model
    if report.expected is not None:
        yield "expected", report.expected
    use = report.manifest
    if use is not None:
        yield "manifest", use.location
        yield "", use.chosen
        for line in use.signers or ("none",):
            yield "signature", line
        hashed = report.level == "full"
        by_tensor = any(one.item == BY_TENSOR for one in report.coverage)
        noun = "tensor" if by_tensor else "file"
        yield "weights", _tally(report.weights, hashed=hashed, noun=noun)
        yield "other files", _tally(report.other, hashed=hashed)
        if use.tree_digest and report.verdict is Verdict.PASS and report.scope == "all":
            yield "tree digest", f"sha256:{use.tree_digest}"
    if report.tensors:
        yield "tensors", f"{report.tensors:,}, inventory sha256:{report.inventory_sha256}"
    for line in report.provenance:
        yield "provenance", line


def shown_coverage(report: Report) -> list[Coverage]:
    """Coverage for people: all of it, but that of many unreadable files a few and their number.

    There is a row for every file that could not be read; the others are few.
    """
    unread = [one for one in report.coverage if one.state is CoverageState.UNREAD]
    if len(unread) <= _UNREAD:
        return list(report.coverage)
    hidden = {id(one) for one in unread[_UNREAD:]}
    more = f"{len(hidden):,} more could not be read; --format json lists them all"
    return [
        *(one for one in report.coverage if id(one) not in hidden),
        Coverage("further files", CoverageState.UNREAD, more),
    ]


def coverage_label(one: Coverage) -> str:
    """Whether a thing was looked at, in the words of the text report."""
    return "checked" if one.state is CoverageState.CHECKED else "not checked"


def _tally(tally: Tally, *, hashed: bool, noun: str = "file") -> str:
    if not tally.total:
        return "none listed"
    if not hashed:
        return f"{plural(tally.total, 'file')} listed, {human_bytes(tally.total_bytes)}, not hashed"
    text = (
        f"{tally.matching:,} of {plural(tally.total, noun)} as signed, "
        f"{human_bytes(tally.matching_bytes)} of {human_bytes(tally.total_bytes)}"
    )
    if tally.differing:
        names = ", ".join(tally.differing[:_NAMED])
        more = len(tally.differing) - _NAMED
        text += f"; differ: {names}" + (f" and {more:,} more" if more > 0 else "")
    return text
