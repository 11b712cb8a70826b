"""The criteria of a policy file in the document about a bundle, and what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from r1prov.endpoints.acceptance import parse_endpoint_criteria
from r1prov.errors import ManifestError, PolicyError
from r1prov.manifest.fields import read_toml
from r1prov.render.evidence_page import Markup, Page, code, mark
from r1prov.render.evidence_words import WORDS
from r1prov.verify.policy_file import PYPROJECT
from r1prov.verify.rules import RULES, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from r1prov.evidence.verify import EvidenceResult
    from r1prov.render.evidence_dossier import Criteria, Dossier

_ROWS: Final = 150
# The rules that a breach of a criterion is found by, by table and key (docs/contract/criteria.md).
# A criterion that stands here and has no such finding is not breached.
_BREACHES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "models": {
        "name": ("policy-model",),
        "manifest": ("policy-manifest",),
        "manifest_sha256": ("policy-manifest",),
        "signers": ("policy-signers", "signature-invalid", "signer-revoked"),
        "threshold": ("policy-signers", "signature-threshold"),
        "variant": ("policy-variant",),
        "commit_proof": ("policy-commit", "commit-proof"),
        "min_level": ("policy-level",),
        "scope": ("policy-level",),
    },
    "responses": {
        "schemes": ("response-downgraded", "response-unsigned"),
        "tag": ("response-downgraded",),
        "cover": ("response-uncovered",),
        "max_age": ("response-too-old",),
        "skew": ("response-from-future",),
        "nonce": ("response-nonce",),
        "manifest": ("response-manifest",),
        "weights": ("response-weights-stated",),
    },
    "endpoint": {
        "required": ("endpoint-required",),
        "urls": ("endpoint-address",),
        "claim": ("endpoint-claim",),
        "verdict": ("endpoint-verdict",),
        "max_error_rate": ("endpoint-error-rate",),
        "tests": ("endpoint-tests",),
        "min_samples": ("endpoint-samples",),
        "min_accuracy": ("endpoint-accuracy",),
        "min_accuracy_low": ("endpoint-accuracy",),
        "max_drop": ("endpoint-drop",),
        "max_failed": ("endpoint-failed",),
        "max_age_days": ("endpoint-age",),
        "reference_signers": ("endpoint-reference",),
        "reference_weights": ("endpoint-reference",),
    },
}
_IDS: Final = {one.name: one.id for one in RULES}


def criteria(page: Page, dossier: Dossier) -> Iterator[Markup]:
    """Every line of the policy that was applied: what it demands, and whether that was breached."""
    found = dossier.criteria
    if dossier.altered:
        yield page.paragraph("withheld")
        return
    if found is None:
        yield page.paragraph("pol-none")
        return
    whose = "pol-verifier" if found.by_verifier else "pol-maker"
    yield page.paragraph(whose, name=found.name, sha256=code(found.sha256))
    lines = list(_flat(_tables(found)))
    rows = (_row(page, found, path, value, dossier.result) for path, value in lines[:_ROWS])
    yield page.table("policy", ("pol-key", "pol-what", "pol-value", "pol-result"), rows)
    if len(lines) > _ROWS:
        yield page.paragraph("pol-more", count=f"{len(lines) - _ROWS:,}")


def _tables(found: Criteria) -> dict[str, object]:
    try:
        values: dict[str, object] = read_toml(found.raw, found.name)
    except ManifestError:
        return {}  # verification would have refused it
    tool = values.get("tool")
    if found.name.endswith(PYPROJECT) and isinstance(tool, dict):
        inner = tool.get("r1prov")
        return inner if isinstance(inner, dict) else {}
    return values


def _flat(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Each value with its path; tables in an array are told apart by their number."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, (*path, name))
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, (*path[:-1], f"{path[-1]}[{number}]"))
    else:
        yield path, value


def _row(
    page: Page, found: Criteria, path: tuple[str, ...], value: object, result: EvidenceResult
) -> tuple[str, ...]:
    # What stands below `min_samples` is named after tests.
    key = path[1] if path[:2] == ("endpoint", "min_samples") else path[-1]
    table = path[0].partition("[")[0]
    names = (f"pk-{table}-{key}", f"pk-{key}")
    word = next((name for name in names if name in WORDS), None)
    what = page.say(word) if word else Markup("—")
    return (code(".".join(path)), what, _shown(value), _outcome(page, found, key, path, result))


def _shown(value: object) -> Markup:
    if isinstance(value, list):
        return Markup("<br>".join(_shown(one) for one in value)) if value else code("[]")
    if isinstance(value, bool):
        return code("true" if value else "false")
    return code(str(value))


def _outcome(
    page: Page, found: Criteria, key: str, path: tuple[str, ...], result: EvidenceResult
) -> Markup:
    table = path[0].partition("[")[0]
    rules = _BREACHES.get(table, {}).get(key)
    if table == "rules" and key == "severity":
        rules, path = (path[1],), path[:1]
    # Tables below that of a model or of answers say what belongs to one entry, not to all.
    inner = len(path) > 2 and key != "min_samples"
    if rules is None or inner or (table == "models" and not _applies(path[0], result)):
        return Markup("—")
    broken = sorted(
        {
            one.rule.name
            for one in result.findings
            if one.rule.name in rules and one.severity is Severity.ERROR
        }
    )
    if broken:
        named = Markup(", ".join(code(_IDS[name]) for name in broken))
        return mark("no", page.say("pol-breached", rules=named))
    looked = {
        "models": result.report is not None and result.report.manifest is not None,
        "responses": bool(result.exchanges),
        "endpoint": _audited(found, result) or (key == "required" and bool(result.audits)),
        "rules": result.report is not None,
    }
    if not looked[table]:
        return mark("gap", page.say("not-checked"))
    return mark("yes", page.say("pol-kept"))


def _audited(found: Criteria, result: EvidenceResult) -> bool:
    """Whether an audit was judged: those of other addresses than the policy names are not."""
    try:
        demanded = parse_endpoint_criteria(found.raw, subject=found.name)
    except PolicyError:
        return False
    urls = demanded.urls if demanded is not None else ()
    return any(not urls or one.sides[0].name in urls for _, one in result.audits)


def _applies(entry: str, result: EvidenceResult) -> bool:
    """Whether the verdict was made under that entry: of several models each has its own."""
    applied = [one.detail for one in result.coverage if one.item == "policy"]
    return not applied or any(f": {entry} " in f"{one} " for one in applied)
