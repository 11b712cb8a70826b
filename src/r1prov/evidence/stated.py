"""What the maker's report says, beside what was made again from the evidence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from r1prov.errors import JsonError
from r1prov.evidence.parts import PLACES, Kind
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EVIDENCE_INDEX_BYTES
from r1prov.text import quoted, readable
from r1prov.verify.findings import Finding, Part, Verdict, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from r1prov.evidence.index import Index
    from r1prov.evidence.recorded import RecordedStore
    from r1prov.verify.findings import Report, Tally

REPORT: Final = PLACES[Kind.REPORT]
_SCHEMA: Final = "r1prov/report/1"
# `as NAME (VARIANT, PUBLISHER, revision R)`: what follows says how the digests are known.
_MODEL: Final = re.compile(r"(?:as|against) [^()]*\([^()]*\)")

_KEY: Final = re.compile(r"\bkey ([0-9a-f]{8}):")


def verdicts(index: Index, report: Report | None) -> Iterator[Finding]:
    """The maker's verdict beside the one that was made again."""
    if report is None or report.verdict is index.verdict:
        return
    better = index.verdict is not Verdict.PASS and report.verdict is Verdict.PASS
    yield finding(
        "evidence-verdict",
        "index.json",
        "the maker's verdict is not the one that was made again",
        expected=report.verdict.value,
        found=index.verdict.value,
        # What makes it worse is a finding of its own; what makes it better is not here.
        severity=Severity.ERROR if better else Severity.WARNING,
    )


def contradictions(
    raw: bytes,
    index: Index,
    report: Report | None,
    store: RecordedStore | None,
    *,
    as_made: bool,
) -> Iterator[Finding]:
    """Where the report that people read says something else than what was signed and recorded.

    Args:
        raw: The report file.
        index: What was signed.
        report: The verdict made again; None if that could not be.
        store: The model as it was recorded.
        as_made: Whether it was made again by the maker's choices, so that findings compare.
    """
    try:
        value = parse_json(raw, subject=REPORT, max_bytes=MAX_EVIDENCE_INDEX_BYTES)
    except JsonError as error:
        yield finding("evidence-verdict", REPORT, error.message)
        return
    if not isinstance(value, dict) or value.get("schema") != _SCHEMA:
        yield finding("evidence-verdict", REPORT, f"is no report of {_SCHEMA}")
        return
    wanted: dict[str, object] = {
        "verdict": index.verdict.value,
        "exit_status": index.verdict.exit_status,
        "level": index.level.value,
        "scope": index.scope.value,
        "expected": index.expected,
        "r1prov": index.version,
    }
    if report is not None and store is not None:
        wanted |= {
            "tensors": report.tensors,
            "inventory_sha256": report.inventory_sha256,
            "digests": {readable(path): digest for path, digest in store.digests.items()},
            **{
                how: sorted(readable(path) for path, one in store.how.items() if one == how)
                for how in ("cached", "stated")
            },
        }
    for name, expected in wanted.items():
        if name not in value or value[name] != expected or type(value[name]) is not type(expected):
            yield _says_else(name, expected, value.get(name))
    yield from _about(value, index, report)
    if report is not None and as_made:
        again: dict[str, object] = {
            "exceptions": report.exceptions,
            "weights": _tally(report.weights),
            "other_files": _tally(report.other),
        }
        for name, expected in again.items():
            if value.get(name) != expected:
                yield _says_else(name, expected, value.get(name))
        # Under scope `weights` there is none, and under the scope of the verifier there may be.
        tree = report.manifest.tree_digest if report.manifest is not None else None
        about = value.get("manifest")
        if isinstance(about, dict) and about.get("tree_digest") != tree:
            yield _says_else("manifest.tree_digest", tree, about.get("tree_digest"))
        yield from _left_out(value, report)


def _about(value: dict[str, object], index: Index, report: Report | None) -> Iterator[Finding]:
    """Which model and manifest the report is about."""
    stated = value.get("manifest")
    listed = next((one.sha256 for one in index.parts if one.path == index.manifest), None)
    if listed is not None and not isinstance(stated, dict):
        yield _says_else("manifest", index.model, stated)
    if isinstance(stated, dict):
        wanted: dict[str, object] = {"name": index.model}
        if listed is not None:
            wanted["sha256"] = listed
        use = report.manifest if report is not None else None
        if use is not None:
            wanted |= {"variant": use.variant, "publisher": use.publisher, "revision": use.revision}
        for name, expected in wanted.items():
            if stated.get(name) != expected:
                yield _says_else(f"manifest.{name}", expected, stated.get(name))
    headline = value.get("headline")
    if report is None or report.verdict is not index.verdict or report.manifest is None:
        return
    signed = _keys(report.manifest.signers)
    lines = stated.get("signers") if isinstance(stated, dict) else None
    if not isinstance(lines, list) or _keys(lines) != signed:
        yield _says_else("manifest.signers", sorted(signed), lines)
    again = _MODEL.match(readable(report.headline))
    if again is not None and not (isinstance(headline, str) and headline.startswith(again.group())):
        yield _says_else("headline", again.group(), headline)


def _keys(lines: Iterable[object]) -> list[str]:
    """Keys that lines about signers name. Whose they are is for each reader's own trust to say."""
    return sorted(key for one in lines if isinstance(one, str) for key in _KEY.findall(one))


def _tally(tally: Tally) -> dict[str, object]:
    return {
        "matching": tally.matching,
        "total": tally.total,
        "matching_bytes": tally.matching_bytes,
        "total_bytes": tally.total_bytes,
        "differing": [readable(one) for one in tally.differing],
    }


def _left_out(value: dict[str, object], report: Report) -> Iterator[Finding]:
    """Findings about files that were made again, and the report does not have."""
    listed = value.get("findings")
    stated = {
        (one.get("name"), one.get("subject"))
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("subject"), str)
    }
    for one in report.findings:
        if one.part is Part.MODEL or (one.rule.name, readable(one.subject)) in stated:
            continue
        yield finding(
            "evidence-verdict",
            REPORT,
            f"leaves out what was found of {quoted(one.subject)}",
            expected=f"{one.rule.id} {one.rule.name}",
            found="no such finding",
        )


def _says_else(name: str, expected: object, found: object) -> Finding:
    return finding(
        "evidence-verdict",
        REPORT,
        f"`{name}` of the report is not what the evidence says",
        expected=_short(expected),
        found=_short(found),
    )


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"{len(value):,} entries"
    return "none" if value is None else quoted(str(value), limit=200)
