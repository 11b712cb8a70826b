"""A report as an in-toto statement: SVR and SLSA VSA.

Sources: in-toto attestation v1 `spec/v1/statement.md`, `spec/predicates/svr.md` (version 0.2, which
made `verifier.policies` required) and https://slsa.dev/spec/v1.2/verification_summary.

Subjects are matched by digest alone, whatever they are called. So what speaks *for* a model names
only files whose content was read and is what the manifest says, and the manifest. A VSA that says
FAILED names the files as they were found: they, together, failed. A file that was not read in this
run, because its digest is from a cache or from the store, is named by neither.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

from r1prov.attest.names import (
    EXTENSION,
    VERIFIER_ID,
    manifest_subject,
    manifest_uri,
    resource_uri,
)
from r1prov.errors import UsageError
from r1prov.text import printable
from r1prov.verify.checks.listing import part_of
from r1prov.verify.findings import CoverageState, Part, Verdict
from r1prov.verify.policy import Scope
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from datetime import datetime

    from r1prov.manifest.schema import Manifest
    from r1prov.verify.findings import ManifestUse, Report

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SVR_TYPE = "https://in-toto.io/attestation/svr/v0.2"
VSA_TYPE = "https://slsa.dev/verification_summary/v1"
SLSA_VERSION = "1.2"
PASSED, FAILED = "PASSED", "FAILED"
# r1prov looks at what a model is, not at how it was built.
_NO_BUILD_CLAIM = "SLSA_BUILD_LEVEL_UNEVALUATED"

# Both: without an exception by a policy, which whoever reads the statement does not know.
MODEL_VERIFIED = "R1PROV_MODEL_VERIFIED"  # verdict pass over every file, each of them read
WEIGHTS_VERIFIED = "R1PROV_WEIGHTS_VERIFIED"  # verdict pass, at least for the weights, all read
MANIFEST_TRUSTED = "R1PROV_MANIFEST_TRUSTED"  # signed by enough trusted keys
FILES_MATCH = "R1PROV_FILES_MATCH"  # every listed file was read and its SHA-256 is equal
WEIGHTS_MATCH = "R1PROV_WEIGHTS_MATCH"  # the same of every weight file and shard index
HUB_COMMIT_HOLDS = "R1PROV_HUB_COMMIT_HOLDS"  # the manifest's digests are those of a Hub commit

_BROKEN_RULES = frozenset({"file-changed", "git-blob"})
_COMMIT_RULES = frozenset({"commit-proof", "git-blob"})
# Named one by one in the extension; `errors_total` always says how many there are.
_NAMED_ERRORS = 50


def svr(report: Report, manifest: Manifest, *, verifier_id: str = VERIFIER_ID) -> bytes:
    """A Simple Verification Result: which properties the model has been found to have.

    A failure is told by what is absent; without `R1PROV_MODEL_VERIFIED` the model did not pass.

    Args:
        report: What was found.
        manifest: The manifest that the report rests on.
        verifier_id: URI of whoever verified.

    Returns:
        The statement: UTF-8 JSON, the same bytes for the same report.

    Raises:
        UsageError: The report rests on no manifest, so there is nothing to name as subject.
    """
    use = manifest_use(report)
    predicate: dict[str, object] = {
        "verifier": {"id": verifier_id, "policies": [_policy(report, use)]},
        "timeCreated": timestamp(report.finished_at),
        "properties": list(passed_properties(report, manifest)),
        EXTENSION: _extension(report, use),
    }
    return _statement(SVR_TYPE, _subjects(use, _equal_files(report, manifest)), predicate)


def vsa(report: Report, manifest: Manifest, *, verifier_id: str = VERIFIER_ID) -> bytes:
    """A SLSA Verification Summary: PASSED for the verdict `pass`, FAILED for every other one.

    Args:
        report: What was found.
        manifest: The manifest that the report rests on.
        verifier_id: URI of whoever verified.

    Returns:
        The statement: UTF-8 JSON, the same bytes for the same report.

    Raises:
        UsageError: The report rests on no manifest, so there is no policy to name.
    """
    use = manifest_use(report)
    passed = report.verdict is Verdict.PASS
    files = _equal_files(report, manifest) if passed else _read_files(report)
    levels = [_NO_BUILD_CLAIM, *passed_properties(report, manifest)] if passed else [FAILED]
    predicate: dict[str, object] = {
        "verifier": {"id": verifier_id, "version": {"r1prov": report.version}},
        "timeVerified": timestamp(report.finished_at),
        "resourceUri": resource_uri(manifest),
        "policy": _policy(report, use),
        "verificationResult": PASSED if passed else FAILED,
        "verifiedLevels": levels,
        "slsaVersion": SLSA_VERSION,
        EXTENSION: _extension(report, use),
    }
    return _statement(VSA_TYPE, _subjects(use, files), predicate)


def passed_properties(report: Report, manifest: Manifest) -> tuple[str, ...]:
    """The properties that the report shows the model to have, in a fixed order.

    They rest on the files that are subjects, so they say nothing of a file that nobody read.
    """
    equal = _equal_files(report, manifest)
    weights = [one.path for one in manifest.files if part_of(one.role) is Part.WEIGHTS]
    weights_match = bool(weights) and equal.keys() >= set(weights)
    files_match = weights_match and len(equal) == len(manifest.files)
    passed = report.verdict is Verdict.PASS and not report.exceptions
    proof = any(
        one.item == "Hub commit proof" and one.state is CoverageState.CHECKED
        for one in report.coverage
    )
    held = {
        MODEL_VERIFIED: passed and files_match and report.scope == Scope.ALL.value,
        WEIGHTS_VERIFIED: passed and weights_match,
        MANIFEST_TRUSTED: report.manifest is not None and report.manifest.trusted,
        FILES_MATCH: files_match,
        WEIGHTS_MATCH: weights_match,
        HUB_COMMIT_HOLDS: proof
        and not any(one.rule.name in _COMMIT_RULES for one in report.findings),
    }
    return tuple(name for name, holds in held.items() if holds)


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second, as in-toto's field type Timestamp asks for."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def manifest_use(report: Report) -> ManifestUse:
    """The manifest that a report rests on.

    Raises:
        UsageError: It rests on none.
    """
    if report.manifest is None:
        raise UsageError(
            "no manifest fits this model, so there is nothing to attest",
            subject=report.model,
            hint="name one with --manifest, or make one: `r1prov manifest create`",
        )
    return report.manifest


def _equal_files(report: Report, manifest: Manifest) -> dict[str, str]:
    """Path to SHA-256 of the files that were read and are what the manifest says."""
    broken = {*report.weights.differing, *report.other.differing}
    # Compared by tensor, `differing` names tensors.
    broken |= {one.subject for one in report.findings if one.rule.name in _BROKEN_RULES}
    read = _read_files(report)
    return {
        entry.path: entry.sha256
        for entry in manifest.files
        if entry.sha256 is not None
        and entry.path not in broken
        and read.get(entry.path) == entry.sha256
    }


def _read_files(report: Report) -> dict[str, str]:
    """Path to SHA-256 of the files that were read in this run."""
    second_hand = {*report.cached, *report.stated}
    return {path: one for path, one in report.digests.items() if path not in second_hand}


def _subjects(use: ManifestUse, files: dict[str, str]) -> list[dict[str, object]]:
    named = [(manifest_subject(use.name), use.sha256), *sorted(files.items())]
    return [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in named]


def _policy(report: Report, use: ManifestUse) -> dict[str, object]:
    """The manifest as the policy that the model was held against (a ResourceDescriptor)."""
    return {
        "uri": manifest_uri(use.name),
        "digest": {"sha256": use.sha256},
        "annotations": {"level": report.level, "scope": report.scope},
    }


def _extension(report: Report, use: ManifestUse) -> dict[str, object]:
    """What the standard fields have no place for: the verdict, and what was not covered.

    For readers. `attest.verify` decides by the standard fields alone. No path of the machine that
    verified is in it.
    """
    errors = [one for one in report.findings if one.severity is Severity.ERROR]
    return {
        "verdict": report.verdict.value,
        "r1prov": report.version,
        "revision": use.revision,
        "manifest_tree_digest": use.tree_digest,
        "inventory_sha256": report.inventory_sha256,
        "bytes_hashed": report.bytes_hashed,
        "exceptions": report.exceptions,
        "cached": [printable(path) for path in report.cached],
        "stated": [printable(path) for path in report.stated],
        "not_covered": [
            {
                "item": printable(one.item),
                "state": one.state.value,
                "detail": printable(one.detail),
                "required": one.required,
            }
            for one in report.coverage
            if one.state is not CoverageState.CHECKED
        ]
        + [
            {
                "item": printable(one.subject),
                "state": CoverageState.SKIPPED.value,
                "detail": printable(one.message),
                "required": False,
            }
            for one in report.findings
            if one.rule.name == "not-covered"
        ],
        "errors": [
            {"rule": one.rule.id, "name": one.rule.name, "subject": printable(one.subject)}
            for one in errors[:_NAMED_ERRORS]
        ],
        "errors_total": len(errors),
    }


def _statement(kind: str, subjects: list[dict[str, object]], predicate: dict[str, object]) -> bytes:
    value = {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": kind,
        "predicate": predicate,
    }
    return json.dumps(value, separators=(",", ":")).encode()
