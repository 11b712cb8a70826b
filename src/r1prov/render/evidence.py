"""What a bundle is worth, what it holds, and a chain of them, as text and JSON.

`schema/evidence-result-1.json`, `evidence-bundle-1.json` and `evidence-log-1.json` beside this file
are the JSON Schemas.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.attest.statements import timestamp
from r1prov.errors import JsonError
from r1prov.evidence.parts import Kind
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EVIDENCE_INDEX_BYTES
from r1prov.text import human_bytes, plural, printable, readable, table
from r1prov.verify.findings import CoverageState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.endpoints.report import EndpointReport
    from r1prov.evidence.chain import Chain, Link
    from r1prov.evidence.create import Draft
    from r1prov.evidence.open import Bundle
    from r1prov.evidence.statement import Signature
    from r1prov.evidence.verify import EvidenceResult
    from r1prov.verify.findings import Coverage, Finding

SCHEMA = "r1prov/evidence-result/1"
BUNDLE_SCHEMA = "r1prov/evidence-bundle/1"
CHAIN_SCHEMA = "r1prov/evidence-log/1"
_SHOWN = 50


def as_text(result: EvidenceResult) -> str:
    """The verdict first, then what was checked and what was not."""
    index, signature = result.index, result.signature
    proven = signature.proven
    rows = [
        ("bundle", f"sha256:{result.sha256}"),
        ("model", index.model),
        ("made", f"{timestamp(index.created)} by its maker's clock"),
        ("signed", signature.detail),
        *(("and", one.detail) for one in result.countersignatures),
        ("proven", "no time" if proven is None else f"signed before {timestamp(proven)}"),
        ("judged", f"by {timestamp(result.judged_at)}"),
        ("verdict", f"{index.verdict.value} says the bundle; {_again(result)}"),
    ]
    if result.report is not None:
        rows.append(("model is", result.report.headline))
    if result.report is not None and result.report.manifest is not None:
        use = result.report.manifest
        rows.append(("manifest", f"{use.name}, sha256:{use.sha256}"))
        rows += [("signer", one) for one in use.signers]
    rows += [(path, f"{one.state.value}: {one.headline}") for path, one in result.exchanges]
    rows += [(path, _audit_line(one)) for path, one in result.audits]
    limits = "".join(f", {one}" for one in result.limits)
    lines = [f"{result.verdict.value.upper()} evidence about {printable(index.model)}{limits}", ""]
    lines += [f"  {printable(name):<10} {printable(value, limit=1000)}" for name, value in rows]
    lines += _findings(result.findings)
    for path, audit in result.audits:
        lines += ["", f"{printable(path)} tested:", *_tests(audit)]
    for title, wanted in (("checked", True), ("not checked", False)):
        covered = [o for o in result.coverage if (o.state is CoverageState.CHECKED) is wanted]
        if covered:
            lines += ["", f"{title}:"]
            lines += [f"  {printable(o.item)}: {printable(o.detail)}" for o in covered]
    return "\n".join(lines) + "\n"


def as_json(result: EvidenceResult) -> str:
    """The same as one JSON object. ASCII only."""
    return _json({"schema": SCHEMA, **_result(result)})


def bundle_as_text(bundle: Bundle) -> str:
    """What a bundle says that it holds; nothing of it was verified."""
    index = bundle.index
    lines = [
        f"{printable(bundle.subject)}: evidence about {printable(index.model)}, not verified here",
        "",
        f"  bundle     sha256:{bundle.sha256}",
        f"  made       {timestamp(index.created)} with r1prov {printable(index.version)}",
        f"  verdict    {index.verdict.value} (level {index.level.value}, scope "
        f"{index.scope.value}), as its maker says",
    ]
    if index.previous is not None:
        lines.append(f"  continues  sha256:{index.previous.sha256}")
    lines += [f"  {printable(one, limit=1000)}" for one in _stated_audits(bundle)]
    lines += _findings(bundle.findings)
    cells: list[tuple[str, ...]] = [("kind", "bytes", "sha256", "member")]
    cells += [
        (one.kind.value, f"{one.size:,}", one.sha256[:16], printable(one.path))
        for one in index.parts
    ]
    return "\n".join(lines) + "\n\n" + table(cells, right=frozenset({1}))


def bundle_as_json(bundle: Bundle) -> str:
    """The same as one JSON object. ASCII only."""
    value = {
        "schema": BUNDLE_SCHEMA,
        "verified": False,
        "sha256": bundle.sha256,
        "index": json.loads(bundle.index.to_json()),
        "findings": [_finding(one) for one in bundle.findings],
    }
    return _json(value)


def sizes_as_text(draft: Draft) -> str:
    """What would go into a bundle, before it is written."""
    cells: list[tuple[str, ...]] = [("kind", "members", "size")]
    sizes = draft.sizes()
    cells += [
        (kind.value, f"{count:,}", human_bytes(size)) for kind, (count, size) in sizes.items()
    ]
    total = sum(size for _, size in sizes.values())
    cells.append(("all", f"{len(draft.index.parts):,}", human_bytes(total)))
    left = ", ".join(sorted(one.value for one in draft.left_out))
    return table(cells, right=frozenset({1, 2})).rstrip("\n") + (
        f"\nleft out: {left}" if left else ""
    )


def chain_as_text(chain: Chain) -> str:
    """The bundles of a chain, the first one first, with what changed."""
    lines = [f"{chain.verdict.value.upper()} chain of {plural(len(chain.links), 'bundle')}"]
    for link in chain.links:
        result = link.result
        lines += [
            "",
            f"{timestamp(result.index.created)}  {result.verdict.value}  "
            f"{printable(result.index.model)}  {printable(result.subject)}",
        ]
        if link.changes:
            lines += [
                f"  {printable(one.what)}: {_short(one.before)} -> {_short(one.after)}"
                for one in link.changes[:_SHOWN]
            ]
            if len(link.changes) > _SHOWN:
                lines.append(f"  and {len(link.changes) - _SHOWN:,} more")
        elif result.index.previous is not None:
            lines.append("  no change")
    return "\n".join(lines + _findings(chain.findings)) + "\n"


def chain_as_json(chain: Chain) -> str:
    """The same as one JSON object. ASCII only."""
    value = {
        "schema": CHAIN_SCHEMA,
        "verdict": chain.verdict.value,
        "exit_status": chain.verdict.exit_status,
        "findings": [_finding(one) for one in chain.findings],
        "bundles": [_link(one) for one in chain.links],
    }
    return _json(value)


def _link(link: Link) -> dict[str, object]:
    changes = [{"what": o.what, "before": o.before, "after": o.after} for o in link.changes]
    return {**_result(link.result), "changes": changes}


def _again(result: EvidenceResult) -> str:
    if result.report is None:
        return "it could not be made again"
    return f"made again it is {result.report.verdict.value}"


def _audit_line(report: EndpointReport) -> str:
    asked = report.sides[0]
    return f"{asked.name} (model {asked.model}): {report.verdict.value}: {report.headline}"


def _tests(report: EndpointReport) -> list[str]:
    """What was tested and what not: a plan that tests little is seen for what it is."""
    cells: list[tuple[str, ...]] = [("  test", "outcome", "samples")]
    cells += [
        (f"  {printable(one.name)}", one.outcome.value, f"{one.samples:,}")
        for one in report.results
    ]
    lines = table(cells, right=frozenset({2})).rstrip().splitlines()
    return lines + [
        f"  not run: {printable(one.name)}: {printable(one.why)}" for one in report.not_run
    ]


def _stated_audits(bundle: Bundle) -> Iterator[str]:
    """What reports of audits in a bundle say; nothing of it was made again."""
    for part in bundle.index.of(Kind.ENDPOINT):
        folder, _, name = part.path.rpartition("/")
        if name != "report.json" or part.path not in bundle.payload:
            continue
        try:
            value = parse_json(
                bundle.payload[part.path], subject=part.path, max_bytes=MAX_EVIDENCE_INDEX_BYTES
            )
        except JsonError:
            continue  # `verify` says what is wrong with it
        if isinstance(value, dict):
            yield f"{folder} {value.get('verdict')}, as its maker says: {value.get('headline')}"


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return f"sha256:{value[:16]}" if len(value) == 64 else printable(value)


def _findings(findings: tuple[Finding, ...]) -> list[str]:
    lines = [""] if findings else []
    for one in findings[:_SHOWN]:
        lines.append(
            f"{one.severity.value} {one.rule.id} {one.rule.name}: {printable(one.subject)}: "
            f"{printable(one.message, limit=1000)}"
        )
        for name, value in (("expected", one.expected), ("found", one.found)):
            if value is not None:
                lines.append(f"    {name:<8} {printable(value)}")
        lines.append(f"    hint     {printable(one.hint or one.rule.help)}")
    if len(findings) > _SHOWN:
        lines.append(f"and {len(findings) - _SHOWN:,} more findings")
    return lines


def _result(result: EvidenceResult) -> dict[str, object]:
    signature, report = result.signature, result.report
    return {
        "verdict": result.verdict.value,
        "exit_status": result.exit_status,
        "bundle": result.subject,
        "sha256": result.sha256,
        "index": json.loads(result.index.to_json()),
        "signature": _signature(signature),
        "countersignatures": [_signature(one) for one in result.countersignatures],
        "judged_at": timestamp(result.judged_at),
        "limits": list(result.limits),
        "recomputed": None
        if report is None
        else {
            "verdict": report.verdict.value,
            "headline": report.headline,
            "scope": report.scope,
            "exceptions": report.exceptions,
            "inventory_sha256": report.inventory_sha256,
            "tensors": report.tensors,
            "signers": list(report.manifest.signers) if report.manifest else [],
            "tree_digest": report.manifest.tree_digest if report.manifest else None,
        },
        "exchanges": [
            {
                "member": path,
                "state": one.state.value,
                "verdict": one.verdict.value,
                "headline": one.headline,
            }
            for path, one in result.exchanges
        ],
        "audits": [
            {
                "member": path,
                "url": one.sides[0].name,
                "claim": one.claim,
                "verdict": one.verdict.value,
                "headline": one.headline,
                "alpha": one.alpha,
                "requests": one.requests,
                "log_head": one.log_head,
                "tests": [
                    {"name": o.name, "outcome": o.outcome.value, "samples": o.samples}
                    for o in one.results
                ],
                "not_run": [o.name for o in one.not_run],
            }
            for path, one in result.audits
        ],
        "findings": [_finding(one) for one in result.findings],
        "coverage": [_covered(one) for one in result.coverage],
    }


def _signature(one: Signature) -> dict[str, object]:
    return {
        "state": one.state.value,
        "detail": one.detail,
        "key_id": one.key_id,
        "owner": one.owner,
        "proven": None if one.proven is None else timestamp(one.proven),
    }


def _finding(one: Finding) -> dict[str, object]:
    return {
        "rule": one.rule.id,
        "name": one.rule.name,
        "severity": one.severity.value,
        "subject": one.subject,
        "message": one.message,
        "expected": one.expected,
        "found": one.found,
        "hint": one.hint or one.rule.help,
    }


def _covered(one: Coverage) -> dict[str, object]:
    return {
        "item": one.item,
        "state": one.state.value,
        "detail": one.detail,
        "required": one.required,
    }


def _json(value: object) -> str:
    return json.dumps(_readable(value), indent=2, ensure_ascii=True) + "\n"


def _readable(value: object) -> object:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, dict):
        return {readable(name): _readable(one) for name, one in value.items()}
    return [_readable(one) for one in value] if isinstance(value, list) else value
