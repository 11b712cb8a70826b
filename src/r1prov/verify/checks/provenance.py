"""Who says so: signatures of the manifest, and the Hub commit that binds its digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import CommitProofError
from r1prov.manifest.commit_proof import ProofResult, check_commit_proof
from r1prov.manifest.schema import Role
from r1prov.text import plural
from r1prov.trust.states import SignatureCheck, SignatureState
from r1prov.trust.store import TrustDecision
from r1prov.verify.findings import Coverage, CoverageState, Finding, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.manifest.schema import Manifest
    from r1prov.trust.openpgp import OpenPgpKey

_RULE_OF_STATE = {
    SignatureState.BAD_SIGNATURE: "signature-invalid",
    SignatureState.UNKNOWN_KEY: "signer-unknown",
    SignatureState.EXPIRED: "signer-expired",
    SignatureState.NOT_YET_VALID: "signer-not-yet-valid",
    SignatureState.REVOKED: "signer-revoked",
    SignatureState.OUT_OF_SCOPE: "signer-out-of-scope",
    SignatureState.CERTIFICATE_UNTRUSTED: "certificate-untrusted",
    SignatureState.CERTIFICATE_USAGE: "certificate-usage",
    SignatureState.CERTIFICATE_EXPIRED: "certificate-expired",
    SignatureState.CERTIFICATE_NOT_YET_VALID: "certificate-not-yet-valid",
    SignatureState.CERTIFICATE_REVOKED: "certificate-revoked",
    SignatureState.OTHER_IDENTITY: "signer-identity",
}


def check_signatures(decision: TrustDecision, manifest_file: str) -> list[Finding]:
    """One finding for each signature or timestamp that does not count, and one if too few count.

    A signature that does not count is only a warning when enough others do, except one that is
    invalid: somebody changed something. A timestamp that does not is one where the signature counts
    without it, or is not needed.
    """
    findings: list[Finding] = []
    for check in decision.checks:
        findings += _timestamps(check, needed=not decision.trusted)
        name = _RULE_OF_STATE.get(check.state)
        if name is None:
            continue
        grave = not decision.trusted or check.state is SignatureState.BAD_SIGNATURE
        findings.append(
            finding(
                name,
                check.bundle,
                check.detail,
                severity=Severity.ERROR if grave else Severity.WARNING,
            )
        )
    if not decision.checks:
        findings.append(
            finding(
                "signature-missing",
                manifest_file,
                "no signature beside the manifest",
                expected=f"{manifest_file}.<key id>.sigstore.json",
                found="none",
            )
        )
    elif not decision.trusted and decision.good_keys:
        findings.append(
            finding(
                "signature-threshold",
                manifest_file,
                "too few good signatures by different keys",
                expected=plural(decision.threshold, "key"),
                found=plural(decision.good_keys, "key"),
            )
        )
    return findings


def _timestamps(check: SignatureCheck, *, needed: bool) -> Iterator[Finding]:
    """The timestamps of a signature that prove nothing."""
    for stamp in check.timestamps:
        if stamp.rule is None:
            continue
        grave = needed and check.state is not SignatureState.GOOD
        yield finding(
            stamp.rule,
            check.bundle,
            stamp.detail,
            severity=Severity.ERROR if grave else Severity.WARNING,
            expected="a timestamp over this signature, by an authority of the trust store",
            hint=stamp.hint,
        )


def check_commit(
    manifest: Manifest, hub_key: OpenPgpKey
) -> tuple[list[Finding], list[Coverage], ProofResult | None, list[str]]:
    """Recompute the Hub commit of the manifest and hold the manifest's digests against it.

    Returns:
        Findings, coverage, the proof if it holds, and lines for a reader that say what it proves.
    """
    commit = manifest.hub_commit
    if commit is None:
        return [], [], None, ["no Hub commit in the manifest: the digests rest on its signers"]
    item = "Hub commit proof"
    try:
        proof = check_commit_proof(commit, hub_key)
    except CommitProofError as error:
        broken = finding("commit-proof", commit.commit, error.message, hint=error.hint)
        return [broken], [Coverage(item, CoverageState.CHECKED, "does not hold")], None, []
    findings = []
    entries = {entry.path: entry for entry in manifest.files}
    for path, (size, sha256) in proof.bound_sha256.items():
        entry = entries.get(path)
        if entry is None or entry.sha256 != sha256 or entry.size != size:
            found = "not listed" if entry is None else f"sha256:{entry.sha256}, {entry.size} bytes"
            findings.append(
                finding(
                    "commit-proof",
                    path,
                    "the manifest and the Hub commit disagree",
                    expected=f"sha256:{sha256}, {size} bytes",
                    found=found,
                )
            )
    for entry in manifest.files:
        # Weights hang on the SHA-256 of an LFS pointer; a file below a directory is bound by the
        # id of that directory only, whose entries the manifest does not carry.
        bound = proof.bound_sha256 if entry.role is Role.WEIGHTS else proof.bound_git
        below = "/" in entry.path and entry.role is not Role.WEIGHTS
        if entry.path in bound or entry.path in proof.bound_sha256 or below:
            continue
        findings.append(
            finding(
                "commit-proof",
                entry.path,
                "the manifest lists it, and the Hub commit does not bind it",
                expected="under Git LFS in the commit"
                if entry.role is Role.WEIGHTS
                else "in the commit's tree",
                found="not bound",
            )
        )
    if commit.commit != manifest.revision:
        findings.append(
            finding(
                "commit-proof",
                commit.commit,
                "the proof is of another revision than the manifest's",
                expected=manifest.revision,
                found=commit.commit,
            )
        )
    if findings:
        return findings, [Coverage(item, CoverageState.CHECKED, "does not hold")], None, []
    signed = f"signed by the Hub's key {hub_key.fingerprint()}" if proof.signed else "not signed"
    lines = [
        f"Hub commit {commit.commit} recomputed from its fields, {signed}",
        f"it binds size and SHA-256 of {plural(len(proof.bound_sha256), 'file')} (Git LFS) and the "
        f"Git blob id of {len(proof.bound_git):,} more",
    ]
    if proof.signed:
        lines.append(
            "proves that the Hub recorded these files; neither who uploaded them nor, by itself, "
            "in which repository"
        )
    return [], [Coverage(item, CoverageState.CHECKED, "holds", required=False)], proof, lines
