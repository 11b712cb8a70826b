"""Apply a policy file to what the checks found. Pure: nothing is read here.

Two steps: `check_demands` says where model and run fall short of what the policy demands;
`apply_policy` lets through what it allows. Whatever it changes is said in the report: in the
message of the finding, or, where a rule is off, in a line of coverage.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from r1prov.manifest.roles import found_by_name
from r1prov.manifest.schema import Role
from r1prov.text import plural
from r1prov.trust.store import SignatureState
from r1prov.verify.checks.identity import EXPECT_FULL, meets
from r1prov.verify.checks.listing import OTHER_FILES, part_of
from r1prov.verify.findings import Coverage, CoverageState, Finding, Part, finding
from r1prov.verify.policy import Allowance, AllowKind, Commit, Level, Policy, Scope
from r1prov.verify.policy_rules import may_turn_down
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date

    from r1prov.manifest.commit_proof import ProofResult
    from r1prov.manifest.schema import Manifest
    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.trust.store import TrustDecision
    from r1prov.verify.policy import ModelEntry, PolicyFile, RuleOverride

WEIGHT_FILES = "SHA-256 of weight files"
# What says that a path is extra or missing. A size that differs is neither.
_EXTRA = frozenset({"file-unlisted", "not-covered", "signed-path-ignored"})
_NOT_HASHED = frozenset({"file-missing", "file-size"})
_NAMED = 5


def check_demands(
    policy: Policy,
    shelved: ShelvedManifest | None,
    *,
    trusted: TrustDecision | None,
    proof: ProofResult | None,
    reference: Manifest | None,
) -> Iterator[Finding]:
    """What the policy demands of manifest and run, and they are not.

    Args:
        policy: The policy, of this manifest.
        shelved: The manifest that is used.
        trusted: What became of its signatures.
        proof: Its Hub commit, if that holds.
        reference: The manifest of DeepSeek-R1, which says what `full` is.
    """
    if policy.ignored is not None:
        yield finding(
            "policy-in-model",
            policy.ignored,
            "a policy inside the model is not one: it was ignored",
        )
    if policy.file is None:
        return
    if shelved is None or policy.entry is None:
        name = shelved.manifest.name if shelved else "a model that no manifest fits"
        yield finding(
            "policy-model",
            name,
            "no entry of the policy allows it",
            expected=", ".join(one.name for one in policy.file.models[:_NAMED]),
            found=name,
        )
        return
    yield from _manifest_demands(policy.entry, shelved)
    if trusted is not None:
        yield from _signer_demands(policy.entry, shelved.path.name, trusted)
    yield from _run_demands(policy, policy.entry)
    yield from _model_demands(policy.entry, shelved.manifest, proof, reference)


def _manifest_demands(entry: ModelEntry, shelved: ShelvedManifest) -> Iterator[Finding]:
    pin, name = entry.manifest_sha256, entry.manifest
    if pin is not None and pin != shelved.sha256:
        yield finding(
            "policy-manifest",
            shelved.path.name,
            f"not the manifest that the policy pins ({entry.where})",
            expected=f"sha256:{pin}",
            found=f"sha256:{shelved.sha256}",
        )
    if name is not None and shelved.manifest.name != name:
        yield finding(
            "policy-manifest",
            shelved.path.name,
            f"not the manifest that the policy names ({entry.where})",
            expected=name,
            found=shelved.manifest.name,
        )
    path = entry.manifest_file
    # Nobody else's file stands in by its name; a copy elsewhere may, where the digest is pinned.
    if path is not None and pin is None and shelved.path.resolve() != path.resolve():
        yield finding(
            "policy-manifest",
            shelved.path.name,
            f"not the manifest file that the policy names ({entry.where})",
            expected=str(path),
            found=str(shelved.path),
        )


def _signer_demands(
    entry: ModelEntry, manifest_file: str, trusted: TrustDecision
) -> Iterator[Finding]:
    if not entry.signers and entry.threshold is None:
        return
    # A key id is the digest of the key, so different ids are different keys.
    good = {one.key_id for one in trusted.checks if one.state is SignatureState.GOOD}
    counting = good & set(entry.signers) if entry.signers else good
    needed = entry.threshold or 1
    if len(counting) >= needed:
        return
    whose = f" of these {len(entry.signers)}" if entry.signers else ""
    yield finding(
        "policy-signers",
        manifest_file,
        f"too few good signatures by keys that the policy names ({entry.where})",
        expected=f"{plural(needed, 'key')}{whose}: "
        + (", ".join(key[:8] for key in entry.signers[:_NAMED]) or "any that is trusted"),
        found=", ".join(sorted(key[:8] for key in good)) or "none",
    )


def _run_demands(policy: Policy, entry: ModelEntry) -> Iterator[Finding]:
    if entry.min_level is Level.FULL and policy.level is Level.STRUCTURE:
        yield finding(
            "policy-level",
            "level",
            f"the policy asks for every byte ({entry.where})",
            expected="level full",
            found="level structure",
        )
    if entry.scope is Scope.ALL and policy.scope is Scope.WEIGHTS:
        yield finding(
            "policy-level",
            "scope",
            f"the policy asks for every file ({entry.where})",
            expected="scope all",
            found="scope weights",
        )


def _model_demands(
    entry: ModelEntry, manifest: Manifest, proof: ProofResult | None, reference: Manifest | None
) -> Iterator[Finding]:
    variant = entry.variant
    if variant is not None:
        is_full = variant != EXPECT_FULL or meets(EXPECT_FULL, manifest, reference)
        if manifest.variant != variant or not is_full:
            same = manifest.variant == variant
            yield finding(
                "policy-variant",
                manifest.name,
                f"another variant than the policy asks for ({entry.where})",
                expected=variant,
                found=f"{manifest.variant}, with other tensors than DeepSeek-R1"
                if same
                else manifest.variant,
            )
    if entry.commit is None:
        return
    if proof is None or (entry.commit is Commit.SIGNED and not proof.signed):
        what = "signed by the Hub" if entry.commit is Commit.SIGNED else "that holds"
        yield finding(
            "policy-commit",
            manifest.name,
            f"no Hub commit proof as the policy asks for ({entry.where})",
            expected=f"a commit {what}",
            found="a commit that the Hub did not sign" if proof else "none that holds",
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """What a policy made of a verification.

    Attributes:
        findings: As the policy weighs them.
        coverage: As the policy requires it, with a line that names the policy.
        exceptions: How many findings count for less than without the policy.
    """

    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]
    exceptions: int = 0


@dataclass(slots=True)
class _Changes:
    """What a policy changed."""

    findings: list[Finding] = field(default_factory=list)
    let_through: set[str] = field(default_factory=set)  # paths that need not be there, or as signed
    named: set[str] = field(default_factory=set)  # extra paths that an allowance names
    uncovered: set[str] = field(default_factory=set)  # extra paths that leave coverage open
    off: dict[str, list[str]] = field(default_factory=dict)  # rule id to subjects
    used: set[str] = field(default_factory=set)  # allowances, by place
    exceptions: int = 0
    raised: int = 0


def apply_policy(
    findings: Iterable[Finding],
    coverage: Iterable[Coverage],
    policy: Policy,
    *,
    manifest: Manifest | None,
    digested: frozenset[str] | None,
    today: date,
    cached: frozenset[str] = frozenset(),
    stated: frozenset[str] = frozenset(),
) -> Applied:
    """Findings and coverage as the policy weighs them. Without a policy file, as they are.

    Args:
        findings: What the checks found, with the scope applied.
        coverage: What was checked, with the scope applied.
        policy: The policy, of this manifest.
        manifest: What the files must be.
        digested: Paths whose digest is known; None if nothing was hashed.
        today: Day (UTC) on which exceptions are judged.
        cached: Paths whose digest is from an earlier run.
        stated: Paths whose digest the store states and nobody here computed.
    """
    file, entry = policy.file, policy.entry
    if file is None:
        return Applied(tuple(findings), tuple(coverage))
    changes = _Changes()
    allowances = entry.allow if entry else ()
    rules = {one.rule.id: one for one in file.rules if not _expired(one.expires, today)}
    for one in findings:
        if one.rule.name == "not-covered" and one.severity is not Severity.NOTE:
            changes.uncovered.add(one.subject)
        allowed = _allowing(one, allowances, today)
        override = rules.get(one.rule.id)
        if allowed is not None:
            changes.findings.append(
                _let_through(one, Severity.NOTE, allowed.reason, allowed.expires)
            )
            changes.used.add(allowed.where)
            (changes.named if allowed.kind is AllowKind.EXTRA else changes.let_through).add(
                one.subject
            )
            changes.exceptions += 1
        elif override is not None and override.severity is not one.severity:
            _override(one, override, changes)
        else:
            changes.findings.append(one)
    changes.findings += _expiries(file, allowances, today)
    rows = _waived(list(coverage), changes, file, manifest, digested)
    rows += _off_rows(file, changes)
    rows += _second_hand(file, cached, stated)
    rows.append(_summary(file, entry, changes, allowances, today))
    return Applied(tuple(changes.findings), tuple(rows), changes.exceptions)


def _expired(expires: date | None, today: date) -> bool:
    """An exception counts through its last day."""
    return expires is not None and today > expires


def _allowing(one: Finding, allowances: tuple[Allowance, ...], today: date) -> Allowance | None:
    """The allowance that lets a finding through.

    Weights, code, what can run and what loaders look for must be named exactly: a pattern for
    documents would otherwise let in whatever somebody puts beside them. A missing file cannot be
    loaded.
    """
    if one.rule.name in _EXTRA:
        kind = AllowKind.EXTRA
    elif one.rule.name == "file-missing":
        kind = AllowKind.MISSING
    else:
        return None
    for allowance in allowances:
        if allowance.kind is not kind or _expired(allowance.expires, today):
            continue
        vague_is_enough = one.part is Part.OTHER and (
            kind is AllowKind.MISSING or not found_by_name(one.subject)
        )
        if (vague_is_enough or allowance.files.exact) and allowance.files.matches(one.subject):
            return allowance
    return None


def _let_through(
    one: Finding, severity: Severity, reason: str, expires: date | None, verb: str = "let through"
) -> Finding:
    until = f", until {expires.isoformat()}" if expires else ""
    return replace(
        one, severity=severity, message=f"{one.message}; {verb} by policy: {reason}{until}"
    )


def _override(one: Finding, override: RuleOverride, changes: _Changes) -> None:
    """Give a finding the severity that the policy says, or keep it where it may not."""
    order = [None, Severity.NOTE, Severity.WARNING, Severity.ERROR]
    down = order.index(override.severity) < order.index(one.severity)
    if down and not may_turn_down(one):
        changes.findings.append(one)
        return
    if down:
        changes.exceptions += 1
    else:
        changes.raised += 1
    if down and one.rule.name in _NOT_HASHED:
        changes.let_through.add(one.subject)
    if override.severity is None:
        changes.off.setdefault(one.rule.id, []).append(one.subject)
        return
    verb = f"{'let through' if down else 'raised'} as {override.severity.value}"
    changes.findings.append(
        _let_through(one, override.severity, override.reason, override.expires, verb)
    )


def _expiries(
    file: PolicyFile, allowances: tuple[Allowance, ...], today: date
) -> Iterator[Finding]:
    for one in allowances:
        if _expired(one.expires, today):
            yield _expiry(f"{one.where} {one.files.text}", one.reason, one.expires)
    for override in file.rules:
        if override.expires is not None and _expired(override.expires, today):
            yield _expiry(f"rules.{override.rule.name}", override.reason, override.expires)


def _expiry(subject: str, reason: str, expires: date) -> Finding:
    return finding(
        "policy-expired",
        subject,
        f"the exception ended on {expires.isoformat()}: {reason}",
        expected="a last day that is to come",
        found=expires.isoformat(),
    )


def _waived(
    rows: list[Coverage],
    changes: _Changes,
    file: PolicyFile,
    manifest: Manifest | None,
    digested: frozenset[str] | None,
) -> list[Coverage]:
    """Rows that are not required because the policy lets every cause of them through.

    Decided by the files themselves, not by what a row says: a row stays required as soon as one
    file behind it is neither known nor let through. At level `structure` all stay.
    """
    if manifest is None or digested is None:
        return rows
    waived: dict[str, str] = {}
    for part, item in ((Part.WEIGHTS, WEIGHT_FILES), (Part.OTHER, OTHER_FILES)):
        # Files whose digest was not compared, and whether the policy does without.
        gaps = {
            entry.path: entry.path in changes.let_through
            or (file.partial_manifests and entry.sha256 is None and _is_small(entry.role))
            for entry in manifest.files
            if part_of(entry.role) is part and (entry.sha256 is None or entry.path not in digested)
        }
        if part is Part.OTHER:
            gaps |= {
                path: file.partial_manifests or path in changes.named for path in changes.uncovered
            }
        if gaps and all(gaps.values()):
            named = ", ".join(sorted(gaps)[:_NAMED])
            more = f" and {len(gaps) - _NAMED:,} more" if len(gaps) > _NAMED else ""
            waived[item] = f"let through by policy: {named}{more}"
    return [
        replace(one, required=False, detail=f"{one.detail}; {waived[one.item]}")
        if one.item in waived and one.state is CoverageState.SKIPPED and one.required
        else one
        for one in rows
    ]


def _is_small(role: Role) -> bool:
    """Whether a partial manifest may be enough for it: never for weights, an index or code."""
    return part_of(role) is Part.OTHER and role is not Role.CODE


def _off_rows(file: PolicyFile, changes: _Changes) -> Iterator[Coverage]:
    for override in file.rules:
        subjects = changes.off.get(override.rule.id)
        if subjects:
            until = f", until {override.expires.isoformat()}" if override.expires else ""
            named = ", ".join(subjects[:_NAMED])
            more = f" and {len(subjects) - _NAMED:,} more" if len(subjects) > _NAMED else ""
            yield Coverage(
                f"{override.rule.id} {override.rule.name}",
                CoverageState.SKIPPED,
                f"off by policy: {override.reason}{until}; {plural(len(subjects), 'finding')} not "
                f"shown: {named}{more}",
                required=False,
            )


def _second_hand(
    file: PolicyFile, cached: frozenset[str], stated: frozenset[str]
) -> Iterator[Coverage]:
    """Digests that the policy does not take leave the verdict incomplete."""
    for refused, paths, what, how in (
        (not file.cached_digests, cached, "cached digests", "verify again without a cache"),
        (not file.stated_digests, stated, "stated digests", "verify a copy, or read every byte"),
    ):
        if refused and paths:
            named = ", ".join(sorted(paths)[:_NAMED])
            yield Coverage(
                f"{what} refused by policy",
                CoverageState.SKIPPED,
                f"{plural(len(paths), 'file')} not read in this run: {named}; {how}",
            )


def _summary(
    file: PolicyFile,
    entry: ModelEntry | None,
    changes: _Changes,
    allowances: tuple[Allowance, ...],
    today: date,
) -> Coverage:
    which = f"{entry.where} {entry.name}" if entry else "no entry fits"
    detail = f"{file.location}, sha256:{file.sha256}: {which}"
    if changes.exceptions:
        detail += f"; {plural(changes.exceptions, 'finding')} let through"
    if changes.raised:
        detail += f"; {plural(changes.raised, 'finding')} raised"
    unused = [
        one.files.text
        for one in allowances
        if one.where not in changes.used and not _expired(one.expires, today)
    ]
    if unused:
        detail += f"; no use for the allowance of {', '.join(unused[:_NAMED])}"
    return Coverage("policy", CoverageState.CHECKED, detail, required=False)
