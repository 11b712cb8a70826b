"""A report as SARIF 2.1.0 (OASIS, errata 01), for code scanning and editors.

Paragraphs in comments are those of the specification. An incomplete verdict shows in three places:
a result for everything that was not checked, `executionSuccessful`, and the exit code.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING
from urllib.parse import quote

from r1prov.render.facts import shown_coverage
from r1prov.render.reasons import (
    NOT_CHECKED,
    NOT_CHECKED_HELP,
    NOT_CHECKED_TITLE,
    Reason,
    reasons,
)
from r1prov.text import plural, printable
from r1prov.verify.findings import Verdict
from r1prov.verify.rules import RULES, Rule, Severity

if TYPE_CHECKING:
    from datetime import datetime

    from r1prov.verify.findings import Report

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
# Code scanning of GitHub shows the first 5,000 results of a run, and refuses 25,000.
MAX_RESULTS = 5_000

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "note"}
_EXITS = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail: the evidence says no",
    Verdict.INCOMPLETE: "incomplete: something that had to be checked could not be; never a pass",
}
# §3.49.12 wants an absolute URI, and r1prov's documentation has no fixed address. A package URL
# (ECMA-427) names the file where it is: in the source distribution of this version.
_RULES_PAGE = "docs/rules.md"
_NOT_CHECKED_PAGE = "docs/exit-status.md"
_INDEX = {rule.id: number for number, rule in enumerate(RULES)} | {NOT_CHECKED: len(RULES)}
# Trust rules are about the manifest and the bundles beside it, not about a file of the model.
_TRUST_GROUP = "3"


def render(report: Report) -> str:
    """The report as one SARIF log with one run. ASCII only."""
    found = reasons(report)
    bases = _bases(report)
    run: dict[str, object] = {
        "tool": {
            "driver": {
                "name": "r1prov",
                "fullName": "r1prov: integrity and provenance of DeepSeek-R1 deployments",
                "version": printable(report.version),
                "rules": _rules(report.version),
            }
        },
        "automationDetails": {"id": f"r1prov/{_segment(report.model)}/"},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": bases,
        "invocations": [_invocation(report, len(found))],
        "results": [_result(one, report, bases) for one in found[:MAX_RESULTS]],
        "properties": _properties(report),
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=True) + "\n"


# --- the tool ------------------------------------------------------------------------------------


def _rules(version: str) -> list[dict[str, object]]:
    """The whole table, so that a viewer can show a rule's help without another source."""
    base = f"pkg:pypi/r1prov@{quote(version)}#"
    missing = Rule(NOT_CHECKED, NOT_CHECKED, NOT_CHECKED_TITLE, Severity.ERROR, NOT_CHECKED_HELP)
    made = [_descriptor(rule, base + _RULES_PAGE) for rule in RULES]
    return [*made, _descriptor(missing, base + _NOT_CHECKED_PAGE)]


def _descriptor(rule: Rule, page: str) -> dict[str, object]:
    full = _message(f"{rule.title}. {rule.help}")
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),  # §3.49.7
        "shortDescription": {"text": _message(f"{rule.title}.")},
        "fullDescription": {"text": full},
        "help": {
            "text": full,
            "markdown": _braces(f"**{rule.title}** (`{rule.name}`)\n\n{rule.help}"),
        },
        "helpUri": page,
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"tags": ["security", "supply-chain"], "precision": "very-high"},
    }


def _invocation(report: Report, count: int) -> dict[str, object]:
    made: dict[str, object] = {
        "executionSuccessful": report.verdict is not Verdict.INCOMPLETE,
        "exitCode": report.exit_status,
        "exitCodeDescription": _EXITS[report.verdict],
        "startTimeUtc": _utc(report.started_at),
        "endTimeUtc": _utc(report.finished_at),
    }
    if count > MAX_RESULTS:
        text = f"{plural(count - MAX_RESULTS, 'more result')}: --format json lists them all."
        made["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": text}}]
    return made


def _utc(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # §3.9: UTC, with a Z


# --- results -------------------------------------------------------------------------------------


def _result(one: Reason, report: Report, bases: dict[str, dict[str, object]]) -> dict[str, object]:
    properties = {"subject": one.subject, "expected": one.expected, "found": one.found}
    return {
        "ruleId": one.rule,
        "ruleIndex": _INDEX[one.rule],
        "kind": "fail",
        "level": _LEVELS[one.severity],
        "message": {"text": _message(one.sentence())},
        "locations": [_location(one, report, bases)],
        "partialFingerprints": {"r1prov/v1": one.fingerprint},
        "properties": {
            name: printable(value, limit=4000)
            for name, value in {**properties, "hint": one.hint}.items()
            if value is not None
        },
    }


def _location(
    one: Reason, report: Report, bases: dict[str, dict[str, object]]
) -> dict[str, object]:
    base, uri = "MODEL", "." if one.file is None else _relative(one.file)
    if one.file is None and one.rule[3] == _TRUST_GROUP and report.manifest is not None:
        base, uri = "MANIFEST", _relative(report.manifest.location.rpartition("/")[2])
    place: dict[str, object] = {
        "physicalLocation": {
            "artifactLocation": {"uri": uri, "uriBaseId": base} if base in bases else {"uri": uri},
            # Code scanning of GitHub refuses a location without a line.
            "region": {"startLine": 1},
        }
    }
    if one.file != one.subject:
        place["logicalLocations"] = [{"fullyQualifiedName": printable(one.subject, limit=2000)}]
    return place


def _bases(report: Report) -> dict[str, dict[str, object]]:
    """What the relative locations are relative to (§3.14.14)."""
    folder = report.model
    single = folder.rpartition("/")[2]
    if set(report.digests) == {single}:  # a weight file by itself, not a directory
        folder = folder.rpartition("/")[0]
    bases = {"MODEL": _base(folder, "The model")}
    if report.manifest is not None:
        location = report.manifest.location.rpartition("/")[0]
        bases["MANIFEST"] = _base(location, "The manifest and its signatures")
    return bases


def _base(location: str, text: str) -> dict[str, object]:
    made: dict[str, object] = {"description": {"text": text}}
    scheme, separator, rest = location.partition("://")
    if location.startswith("/"):
        made["uri"] = f"file://{_quoted(location.rstrip('/'))}/"
    elif separator and scheme.isascii() and scheme.isalpha():
        made["uri"] = f"{scheme}://{_quoted(rest.rstrip('/'))}/"
    return made  # without `uri`, a consumer asks where it is: a relative one is not allowed there


def _relative(path: str) -> str:
    """A file name as a relative reference: neither `a:b` nor `//a` may read as another kind."""
    return _quoted(path.lstrip("/")) or "."


def _quoted(path: str) -> str:
    # surrogateescape gives the bytes of an undecodable name; other surrogates have none of their
    # own, and a reference must still come out.
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = path.encode("utf-8", "surrogatepass")
    return quote(raw, safe="/")


def _segment(location: str) -> str:
    return _quoted(location.rstrip("/").rpartition("/")[2]) or "model"


# --- text ----------------------------------------------------------------------------------------


def _message(text: str) -> str:
    """`text` as plain text of a message: no placeholder (§3.11.5), no embedded link (§3.11.6)."""
    return _braces(printable(text, limit=4000)).replace("](", "] (")


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _properties(report: Report) -> dict[str, object]:
    use = report.manifest
    values = {
        "verdict": report.verdict.value,
        "headline": report.headline,
        "model": report.model,
        "level": report.level,
        "scope": report.scope,
        "expected": report.expected,
        "manifest": use.name if use else None,
        "manifestSha256": use.sha256 if use else None,
        "inventorySha256": report.inventory_sha256,
    }
    made: dict[str, object] = {
        name: printable(value, limit=4000) for name, value in values.items() if value is not None
    }
    made["coverage"] = [
        f"{printable(one.item)}: {one.state.value}, {printable(one.detail)}"
        for one in shown_coverage(report)
    ]
    return made
