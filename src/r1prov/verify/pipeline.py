"""The one place that decides.

`verify` chooses the manifest, asks the trust store about it, runs the cheap checks first and the
hashing last, and turns what it found into a report. It raises only when it could not decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import r1prov
from r1prov.errors import ChangedWhileReading, LimitExceeded, StoreError
from r1prov.family.identify import identify
from r1prov.hashing.engine import HashJob, HashResult, hash_blobs
from r1prov.limits import MAX_GIT_BLOB_BYTES
from r1prov.manifest.schema import Role
from r1prov.manifest.shelf import Shelf, ShelvedManifest, resolve_manifest
from r1prov.stores.base import EntryKind
from r1prov.stores.headers import safetensors_paths
from r1prov.text import plural
from r1prov.trust.store import decide as decide_trust
from r1prov.verify.apply_policy import apply_policy, check_demands
from r1prov.verify.checks import digests, hygiene, identity, index, listing, provenance, weights
from r1prov.verify.choice import choose_manifest, describe_use
from r1prov.verify.evidence import CONFIG_NAME, Evidence, gather
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Finding,
    ManifestUse,
    Part,
    Report,
    Tally,
    Verdict,
    decide,
    finding,
)
from r1prov.verify.policy import Level, Policy, Scope
from r1prov.verify.scope import scoped_coverage, scoped_findings

if TYPE_CHECKING:
    from collections.abc import Callable

    from r1prov.formats.inventory import Inventory
    from r1prov.manifest.commit_proof import ProofResult
    from r1prov.stores.base import Store
    from r1prov.trust.openpgp import OpenPgpKey
    from r1prov.trust.store import TrustDecision, TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """Whom and what a verification believes.

    Attributes:
        shelf: Manifests to choose from.
        trust: Keys and what each may sign.
        hub_key: The key with which the Hub signs commits.
    """

    shelf: Shelf
    trust: TrustStore
    hub_key: OpenPgpKey


def verify(
    store: Store,
    authorities: Authorities,
    policy: Policy,
    *,
    manifest: str | None = None,
    now: datetime | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Report:
    """Verify a model against its manifest.

    Args:
        store: Where the model lives.
        authorities: Manifests, trusted keys and the Hub's key.
        policy: How deep, which files, and which model is expected.
        manifest: Manifest file or model name; None identifies the model among the shelf.
        now: Time at which key validity is judged; None is the present.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.

    Raises:
        StoreError: The model cannot be listed.
        InputError: A manifest, bundle, trust or policy file of ours is malformed.
    """
    started = datetime.now(UTC)
    try:
        evidence = gather(store)
    except LimitExceeded as error:
        return _over_a_cap(store, policy, error, started)
    loadable = evidence.inventory(evidence.loadable_weights())
    identification = None
    if manifest is not None:
        shelved: ShelvedManifest | None = resolve_manifest(authorities.shelf, manifest)
        chosen = "asked for with --manifest"
    else:
        identification = identify(
            loadable,
            config=evidence.config,
            config_sha256=evidence.config_sha256,
            file_sizes=evidence.sizes(),
            manifests=authorities.shelf.manifests(),
        )
        shelved, chosen = choose_manifest(authorities.shelf, identification, evidence, policy)
    headline = identification.headline() if identification else ""
    reference = authorities.shelf.find(identity.REFERENCE_OF_FULL)
    run = _Run(evidence, policy, shelved, now or started)
    run.findings += listing.check_entries(evidence)
    run.findings += weights.check_headers(evidence)
    run.findings += index.check_index(evidence, run.manifest)
    if not evidence.headers and not evidence.header_errors:
        run.findings.append(
            finding(
                "no-weights",
                store.name,
                "no safetensors file here",
                hint=_hub_cache_hint(evidence),
                part=Part.WEIGHTS,
            )
        )
    run.findings += hygiene.check_executables(evidence, run.manifest)
    run.findings += hygiene.check_code_references(evidence, run.manifest)
    run.findings += identity.check_expectation(
        policy.expect,
        run.manifest,
        reference.manifest if reference else None,
        headline,
    )
    use = None
    if shelved is None:
        run.without_manifest(loadable, headline)
    else:
        trusted = decide_trust(
            authorities.trust,
            model=shelved.manifest.name,
            data=shelved.raw,
            bundles=shelved.bundles(),
            now=now or started,
        )
        use = describe_use(shelved, chosen, trusted)
        names = [one.name for one in authorities.shelf.manifests()]
        run.against(shelved, loadable, trusted, authorities.hub_key, names)
        if policy.level is Level.FULL:
            run.hash_files(progress)
        run.coverage += digests.coverage_of_digests(
            shelved.manifest, run.hashed, evidence.files.keys()
        )
    run.findings += check_demands(
        run.policy,
        shelved,
        trusted=run.trusted,
        proof=run.proof,
        reference=reference.manifest if reference else None,
    )
    run.relist()
    return run.report(use, loadable, headline, started)


def _hub_cache_hint(evidence: Evidence) -> str | None:
    """The folder of a repository in a Hub cache holds the model one level further down."""
    parts = (entry.path.split("/") for entry in evidence.entries)
    snapshots = sorted({p[1] for p in parts if len(p) > 2 and p[0] == "snapshots"})
    if not snapshots:
        return None
    return f"a repository of a Hub cache: point at snapshots/{snapshots[0]}" + (
        f" or one of {len(snapshots) - 1} others" if len(snapshots) > 1 else ""
    )


def _over_a_cap(store: Store, policy: Policy, error: LimitExceeded, started: datetime) -> Report:
    """A model too large to list is not verified: incomplete, with the cap named."""
    broken = finding("limit", store.name, error.message, hint=error.hint)
    coverage = Coverage("listing", CoverageState.UNREAD, error.message)
    return Report(
        model=store.location,
        verdict=decide((broken,), (coverage,)),
        level=policy.level.value,
        scope=policy.scope.value,
        expected=policy.expect,
        manifest=None,
        headline="nothing was checked: the model is larger than a cap",
        weights=Tally(),
        other=Tally(),
        findings=(broken,),
        coverage=(coverage,),
        started_at=started,
        finished_at=datetime.now(UTC),
        version=r1prov.__version__,
    )


class _Run:
    """What one verification has found so far."""

    def __init__(
        self, evidence: Evidence, policy: Policy, shelved: ShelvedManifest | None, now: datetime
    ) -> None:
        self.evidence = evidence
        self.manifest = shelved.manifest if shelved else None
        self.policy = policy.of(self.manifest)
        self.now = now
        self.trusted: TrustDecision | None = None
        self.findings: list[Finding] = []
        self.coverage: list[Coverage] = []
        self.provenance: list[str] = []
        self.hashed: HashResult | None = None
        self.proof: ProofResult | None = None
        for entry in evidence.entries:
            if entry.kind is EntryKind.UNREADABLE:
                self._unread(entry.path, entry.detail)
        for path, error in evidence.header_errors.items():
            if isinstance(error, StoreError):
                self._unread(path, error.message)
        for path, error in evidence.unread.items():
            self._unread(path, error.message)
        for path, broken in evidence.index_errors.items():
            if isinstance(broken, StoreError):
                self._unread(path, broken.message)

    def _unread(self, path: str, why: str) -> None:
        """Not readable is not a mismatch: the verdict is incomplete, never fail."""
        self.findings.append(finding("file-unread", path, why))
        self.coverage.append(Coverage(path, CoverageState.UNREAD, why))

    def without_manifest(self, inventory: Inventory, headline: str) -> None:
        """The checks that need no manifest, and the sentence that there is none."""
        partial = bool(self.evidence.header_errors)
        found, coverage = weights.check_config(
            self.evidence, inventory, partial=partial, as_signed=True
        )
        self.findings += [*weights.check_duplicates(inventory), *found]
        self.coverage += coverage
        self.findings.append(
            finding(
                "no-manifest",
                self.evidence.store.name,
                "nothing signed to hold this model against",
                found=headline,
            )
        )
        self.coverage.append(Coverage("manifest", CoverageState.SKIPPED, "none fits this model"))

    def against(
        self,
        shelved: ShelvedManifest,
        loadable: Inventory,
        trusted: TrustDecision,
        hub_key: OpenPgpKey,
        names: list[str],
    ) -> None:
        """Every check against the manifest except hashing."""
        manifest, evidence = shelved.manifest, self.evidence
        self.trusted = trusted
        self.findings += provenance.check_signatures(trusted, shelved.path.name)
        self.coverage.append(
            Coverage("manifest signature", CoverageState.CHECKED, shelved.path.name)
        )
        found, coverage, self.proof, lines = provenance.check_commit(manifest, hub_key)
        self.findings += found
        self.coverage += coverage
        self.provenance += lines
        listed_findings = list(listing.check_listing(evidence, manifest))
        self.findings += listed_findings
        self.coverage += listing.coverage_of_listing(listed_findings)
        self.findings += identity.check_claims(evidence, manifest, names, self.policy.expect)
        weight_files = [entry.path for entry in manifest.files if entry.role is Role.WEIGHTS]
        listed = [path for path in weight_files if path in evidence.headers]
        self.coverage += weights.coverage_of_headers(manifest)
        inventory = loadable
        if sorted(listed) != evidence.loadable_weights():
            inventory = evidence.inventory(listed)
        partial = any(path not in evidence.headers for path in safetensors_paths(weight_files))
        self.findings += weights.check_duplicates(inventory)
        found, coverage = weights.check_inventory(inventory, manifest, partial=partial)
        self.findings += found
        self.coverage += coverage
        signed = {entry.path: entry.sha256 for entry in manifest.files}
        found, coverage = weights.check_config(
            evidence,
            inventory,
            partial=partial,
            as_signed=(CONFIG_NAME not in signed and CONFIG_NAME not in evidence.files)
            or (
                signed.get(CONFIG_NAME) is not None
                and signed[CONFIG_NAME] == evidence.config_sha256
            ),
        )
        self.findings += found
        self.coverage += coverage

    def hash_files(self, progress: Callable[[int], Callable[[int], None]] | None) -> None:
        """Hash every listed file that is there with the size it must have."""
        if self.manifest is None:
            return
        git_blobs = self.proof.bound_git if self.proof else {}
        jobs = []
        for entry in self.manifest.files:
            found = self.evidence.files.get(entry.path)
            # A file of another size cannot have the digest: reading 688 GB to say so helps nobody.
            if found is None or (entry.size is not None and entry.size != found.size):
                continue
            small = found.size <= MAX_GIT_BLOB_BYTES
            jobs.append(HashJob(entry.path, found.size, entry.path in git_blobs and small))
        on_bytes = progress(sum(job.size for job in jobs)) if progress else None
        self.hashed = hash_blobs(
            self.evidence.store.open, jobs, workers=self.policy.workers, on_bytes=on_bytes
        )
        self.findings += digests.check_digests(self.manifest, self.hashed, git_blobs)
        for path, error in self.hashed.errors.items():
            if not isinstance(error, ChangedWhileReading):
                self.findings.append(finding("file-unread", path, error.message, hint=error.hint))

    def relist(self) -> None:
        """Look again at the end: what came, went or changed since the listing was not verified.

        The listing comes before everything that is read, so headers, index and config are covered
        as well as the files that were hashed.
        """
        listed = {entry.path for entry in self.manifest.files} if self.manifest else set()
        leftovers = set(self.evidence.leftovers) - listed
        before = {entry.path: entry for entry in self.evidence.entries}
        after = {entry.path: entry for entry in self.evidence.store.entries()}
        for path in sorted(before.keys() | after.keys()):
            was, now = before.get(path), after.get(path)
            same = was is not None and now is not None and was.fence == now.fence
            if (was == now and same) or path in leftovers:
                continue
            if was is None or now is None or was.fence is None or now.fence is None:
                message = "came, went or changed its kind while the check ran"
                self.findings.append(finding("listing-changed", path, message))
            else:
                message = f"changed while the check ran: {was.fence.changes(now.fence)}"
                self.findings.append(finding("file-changed", path, message))

    def report(
        self, use: ManifestUse | None, loadable: Inventory, headline: str, started: datetime
    ) -> Report:
        """The report, with the scope applied and the verdict decided."""
        applied = apply_policy(
            scoped_findings(self.findings, self.policy.scope),
            scoped_coverage(self.coverage, self.policy.scope),
            self.policy,
            manifest=self.manifest,
            digested=frozenset(self.hashed.digests) if self.hashed else None,
            today=self.now.astimezone(UTC).date(),
        )
        findings, coverage = applied.findings, applied.coverage
        if use is not None and applied.exceptions:
            use = replace(use, tree_digest=None)  # not every file is as the manifest says
        verdict = decide(findings, coverage)
        hashed = self.hashed is not None
        weights_tally, other_tally = Tally(), Tally()
        if self.manifest is not None:
            weights_tally = digests.tally(self.manifest, Part.WEIGHTS, self.findings, hashed=hashed)
            other_tally = digests.tally(self.manifest, Part.OTHER, self.findings, hashed=hashed)
        result = self.hashed
        return Report(
            model=self.evidence.store.location,
            verdict=verdict,
            level=self.policy.level.value,
            scope=self.policy.scope.value,
            expected=self.policy.expect,
            manifest=use,
            headline=_headline(verdict, use, headline, self.policy, applied.exceptions),
            weights=weights_tally,
            other=other_tally,
            findings=findings,
            coverage=coverage,
            provenance=tuple(self.provenance),
            inventory_sha256=loadable.digest() if len(loadable) else None,
            tensors=len(loadable),
            bytes_hashed=sum(one.size for one in result.digests.values()) if result else 0,
            digests={p: one.sha256 for p, one in sorted(result.digests.items())} if result else {},
            started_at=started,
            finished_at=datetime.now(UTC),
            version=r1prov.__version__,
        )


def _headline(
    verdict: Verdict, use: ManifestUse | None, identified: str, policy: Policy, exceptions: int
) -> str:
    """The first line: the verdict, and as which model."""
    if use is None:
        return f"no signed manifest fits; the headers say: {identified}"
    scope = "" if policy.scope is Scope.ALL else ", weights only"
    if exceptions:
        scope += f", {plural(exceptions, 'exception')} by policy"
    revision = f", revision {use.revision[:12]}" if use.revision else ""
    name = f"{use.name} ({use.variant}, {use.publisher}{revision})"
    if verdict is Verdict.PASS:
        return f"as {name}{scope}"
    return f"against {name}{scope}"
