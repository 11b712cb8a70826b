"""One verification in progress: what it has found so far, and the report in the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import r1prov
from r1prov.errors import ChangedWhileReading, StoreError
from r1prov.manifest.loadable import INDEX_NAME
from r1prov.manifest.schema import Role
from r1prov.manifest.tensor_digests import load_tensor_digests
from r1prov.stores.base import EntryKind
from r1prov.stores.headers import safetensors_paths
from r1prov.text import plural
from r1prov.verify.apply_policy import apply_policy
from r1prov.verify.by_tensor import TensorCheck, check_by_tensor, model_tensors
from r1prov.verify.checks import digests, identity, listing, provenance, statements, weights
from r1prov.verify.evidence import CONFIG_NAME, Evidence
from r1prov.verify.findings import (
    BY_TENSOR,
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
from r1prov.verify.hashing import HashedModel, hash_model
from r1prov.verify.policy import By, Policy, Scope
from r1prov.verify.scope import by_tensor_findings, scoped_coverage, scoped_findings

if TYPE_CHECKING:
    from collections.abc import Callable

    from r1prov.formats.inventory import Inventory
    from r1prov.hashing.cache import DigestCache
    from r1prov.manifest.commit_proof import ProofResult
    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.trust.openpgp import OpenPgpKey
    from r1prov.trust.store import TrustDecision


class Run:
    """What one verification has found so far."""

    def __init__(
        self, evidence: Evidence, policy: Policy, shelved: ShelvedManifest | None, now: datetime
    ) -> None:
        self.evidence = evidence
        self.now = now
        self.trusted: TrustDecision | None = None
        self.shelved = shelved
        self.manifest = shelved.manifest if shelved else None
        self.policy = policy.of(self.manifest)
        self.findings: list[Finding] = []
        self.coverage: list[Coverage] = []
        self.provenance: list[str] = []
        self.hashed: HashedModel | None = None
        self.proof: ProofResult | None = None
        self.tensors: TensorCheck | None = None
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
        if evidence.stated is not None and evidence.stated.about is not None:
            self.provenance.append(evidence.stated.about)

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
        self.trusted = trusted
        manifest, evidence = shelved.manifest, self.evidence
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
        self.coverage += weights.coverage_of_headers(manifest)
        inventory = loadable
        meant = evidence.loadable_weights(safetensors_paths(weight_files))
        if self.policy.by is By.FILE and meant != evidence.loadable_weights():
            inventory = evidence.inventory(meant)
        partial = any(path not in evidence.headers for path in meant)
        if self.policy.by is By.TENSOR:
            partial = bool(evidence.header_errors)
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

    def hash_files(
        self,
        progress: Callable[[int], Callable[[int], None]] | None,
        cache: DigestCache | None = None,
    ) -> None:
        """Hash what the manifest lists, and what the store itself states a digest of.

        A file of another size than the manifest says cannot have its digest: reading 688 GB to
        say so helps nobody.
        """
        entries = self.manifest.files if self.manifest else ()
        stated = self.evidence.stated
        sizes = {
            entry.path: self.evidence.files[entry.path].size
            for entry in entries
            if entry.path in self.evidence.files
            and entry.size in (None, self.evidence.files[entry.path].size)
        }
        blobs = set(self.proof.bound_git) if self.proof else set()
        if stated is not None and not stated.remote:
            known = {*stated.sha256, *stated.git_blob} & self.evidence.files.keys()
            listed = {entry.path for entry in entries}
            sizes |= {path: self.evidence.files[path].size for path in known - listed}
        if stated is not None:
            blobs |= stated.git_blob.keys() - stated.sha256.keys()
        by_tensor: list[str] = []
        if self.policy.by is By.TENSOR:
            by_tensor = self.evidence.loadable_weights()
            sizes |= {path: self.evidence.files[path].size for path in by_tensor}
        if not sizes:
            return
        self.hashed = hash_model(
            self.evidence,
            sizes,
            git_blobs=blobs,
            by_tensor=by_tensor,
            read_all=self.policy.read_all,
            cache=cache,
            workers=self.policy.workers,
            progress=progress,
        )
        if self.manifest is not None:
            bound = self.proof.bound_git if self.proof else {}
            self.findings += digests.check_digests(
                self.manifest, self.hashed, bound, self.evidence.executables
            )
        self.findings += statements.check_stated(self.evidence, self.manifest, self.hashed)
        for path, error in self.hashed.errors.items():
            if not isinstance(error, ChangedWhileReading):
                self.findings.append(finding("file-unread", path, error.message, hint=error.hint))

    def compare_tensors(self) -> None:
        """Hold the tensors against the sidecar of the manifest, whatever files they are in.

        Raises:
            StoreError: The sidecar cannot be read.
            ManifestError: It is malformed, or not the one that the manifest means.
        """
        if self.shelved is None:
            return
        item = BY_TENSOR
        stated = self.shelved.manifest.tensors
        if stated is None:
            detail = "the manifest states none; `r1prov manifest create --tensors` records them"
            self.coverage.append(Coverage(item, CoverageState.SKIPPED, detail))
            return
        if self.hashed is None:
            detail = "level `structure` reads headers only"
            self.coverage.append(Coverage(item, CoverageState.SKIPPED, detail))
            return
        sidecar = load_tensor_digests(self.shelved.manifest, self.shelved.path.parent)
        loadable = set(self.evidence.loadable_weights())
        headers = {p: h for p, h in self.evidence.headers.items() if p in loadable}
        check = check_by_tensor(sidecar, model_tensors(headers, self.hashed.digests))
        self.tensors = check
        self.findings += check.findings
        state = CoverageState.UNREAD if check.undigested else CoverageState.CHECKED
        detail = f"{check.tally.matching:,} of {plural(check.tally.total, 'tensor')} equal"
        if check.undigested:
            detail += f"; {check.undigested:,} could not be read"
        self.coverage.append(Coverage(item, state, detail))

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
        found = self.findings
        if self.tensors is not None:
            found = by_tensor_findings(
                found,
                self.evidence.loadable_weights(),
                self.tensors,
                index_read=INDEX_NAME in self.evidence.indexes,
            )
        by_tensor = self.tensors is not None
        applied = apply_policy(
            scoped_findings(found, self.policy.scope),
            scoped_coverage(self.coverage, self.policy.scope, by_tensor=by_tensor),
            self.policy,
            manifest=self.manifest,
            digested=frozenset(self.hashed.digests) if self.hashed else None,
            today=self.now.astimezone(UTC).date(),
            cached=self.hashed.cached if self.hashed else frozenset(),
            stated=self.hashed.stated if self.hashed else frozenset(),
        )
        findings, coverage = applied.findings, applied.coverage
        weights_only = self.policy.scope is Scope.WEIGHTS
        if use is not None and (applied.exceptions or by_tensor or weights_only):
            use = replace(use, tree_digest=None)  # not every file is as the manifest says
        verdict = decide(findings, coverage)
        hashed = self.hashed is not None
        weights_tally, other_tally = Tally(), Tally()
        if self.manifest is not None:
            weights_tally = digests.tally(self.manifest, Part.WEIGHTS, self.findings, hashed=hashed)
            other_tally = digests.tally(self.manifest, Part.OTHER, self.findings, hashed=hashed)
        if self.tensors is not None:
            weights_tally = self.tensors.tally
        result = self.hashed
        return Report(
            model=self.evidence.store.location,
            verdict=verdict,
            level=self.policy.level.value,
            scope=self.policy.scope.value,
            expected=self.policy.expect,
            manifest=use,
            headline=_headline(verdict, use, headline, self.policy, result, applied.exceptions),
            weights=weights_tally,
            other=other_tally,
            findings=findings,
            coverage=coverage,
            provenance=tuple(self.provenance),
            inventory_sha256=loadable.digest() if len(loadable) else None,
            tensors=len(loadable),
            bytes_hashed=result.bytes_read if result else 0,
            digests={p: one.sha256 for p, one in sorted(result.digests.items())} if result else {},
            cached=tuple(sorted(result.cached)) if result else (),
            stated=tuple(sorted(result.stated)) if result else (),
            exceptions=applied.exceptions,
            started_at=started,
            finished_at=datetime.now(UTC),
            version=r1prov.__version__,
        )


def _headline(
    verdict: Verdict,
    use: ManifestUse | None,
    identified: str,
    policy: Policy,
    hashed: HashedModel | None,
    exceptions: int,
) -> str:
    """The first line: the verdict, and as which model; second-hand digests are said here too."""
    if use is None:
        return f"no signed manifest fits; the headers say: {identified}"
    scope = "" if policy.scope is Scope.ALL else ", weights only"
    if exceptions:
        scope += f", {plural(exceptions, 'exception')} by policy"
    revision = f", revision {use.revision[:12]}" if use.revision else ""
    name = f"{use.name} ({use.variant}, {use.publisher}{revision})"
    if verdict is Verdict.PASS:
        if hashed is not None and hashed.stated:
            scope += f", by digests that {hashed.by} states"
        if hashed is not None and hashed.cached:
            scope += ", by cached digests"
        return f"as {name}{scope}"
    return f"against {name}{scope}"
