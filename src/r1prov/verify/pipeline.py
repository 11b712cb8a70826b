"""The one place that decides.

`verify` chooses the manifest, asks the trust store about it, runs the cheap checks first and the
hashing last, and turns what it found into a report. It raises only when it could not decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import r1prov
from r1prov.errors import LimitExceeded
from r1prov.family.gguf import identify_gguf
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import Role
from r1prov.manifest.shelf import Shelf, ShelvedManifest, resolve_manifest
from r1prov.stores.base import EntryKind
from r1prov.trust.store import decide as decide_trust
from r1prov.verify.apply_policy import check_demands
from r1prov.verify.checks import (
    code_references,
    digests,
    hygiene,
    identity,
    index,
    listing,
    statements,
    weights,
)
from r1prov.verify.choice import Choice, choose_manifest, describe_use
from r1prov.verify.evidence import gather
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Part,
    Report,
    Tally,
    decide,
    finding,
)
from r1prov.verify.ollama import explain
from r1prov.verify.policy import By, Level, Policy
from r1prov.verify.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from r1prov.hashing.cache import DigestCache
    from r1prov.stores.base import Store
    from r1prov.trust.openpgp import OpenPgpKey
    from r1prov.trust.store import TrustStore


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
    manifest: str | ShelvedManifest | None = None,
    now: datetime | None = None,
    cache: DigestCache | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Report:
    """Verify a model against its manifest.

    Args:
        store: Where the model lives.
        authorities: Manifests, trusted keys and the Hub's key.
        policy: How deep, which files, and which model is expected.
        manifest: Manifest file or model name, or the manifest itself; None identifies the model
            among the shelf.
        now: Time at which key validity is judged; None is the present.
        cache: Digests of earlier runs, for local files that have not changed since.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.

    Raises:
        StoreError: The model cannot be listed.
        InputError: A manifest, bundle, sidecar, trust or policy file of ours is malformed.
    """
    started = datetime.now(UTC)
    try:
        evidence = gather(store)
    except LimitExceeded as error:
        return _over_a_cap(store, policy, error, started)
    loadable = evidence.inventory(evidence.loadable_weights())
    known = authorities.shelf.manifests()
    gguf = identify_gguf(evidence.gguf, known) if evidence.gguf else None
    if isinstance(manifest, ShelvedManifest):
        choice = Choice(manifest, "given")
    elif manifest is not None:
        choice = Choice(resolve_manifest(authorities.shelf, manifest), "asked for with --manifest")
    else:
        choice = choose_manifest(authorities.shelf, evidence, policy, loadable, gguf)
    shelved, headline = choice.shelved, choice.headline
    reference = authorities.shelf.find(identity.REFERENCE_OF_FULL)
    run = Run(evidence, policy, shelved, now or started)
    run.findings += listing.check_entries(evidence)
    run.findings += weights.check_headers(evidence)
    run.findings += index.check_index(evidence, run.manifest)
    if gguf is not None:
        run.findings += identity.check_gguf(gguf, policy.expect, run.manifest)
    unread = [e.path for e in evidence.entries if e.kind is EntryKind.UNREADABLE]
    missing = not evidence.headers and not evidence.gguf and not evidence.header_errors
    if missing and not any(role_of(path) is Role.WEIGHTS for path in unread):
        run.findings.append(
            finding(
                "no-weights",
                store.name,
                "no safetensors or GGUF file here",
                part=Part.WEIGHTS,
            )
        )
    run.findings += statements.check_records(evidence)
    run.findings += hygiene.check_executables(evidence, run.manifest)
    run.findings += code_references.check_code_references(evidence, run.manifest)
    run.findings += code_references.check_redirects(evidence, run.manifest)
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
            model=shelved.signed_as or shelved.manifest.name,
            data=shelved.raw,
            bundles=shelved.bundles(),
            now=now or started,
        )
        use = describe_use(shelved, choice.why, trusted)
        names = [one.name for one in known]
        run.against(shelved, loadable, trusted, authorities.hub_key, names)
    if policy.level is Level.FULL:
        run.hash_files(progress, cache)
    if policy.by is By.TENSOR:
        run.compare_tensors()
    if shelved is not None:
        run.coverage += digests.coverage_of_digests(
            shelved.manifest, run.hashed, evidence.files.keys()
        )
    answer = explain(store, gguf, run.hashed.digests if run.hashed else None)
    if answer is not None:
        run.provenance += [answer.summary, *answer.notes]
    run.findings += check_demands(
        run.policy,
        shelved,
        trusted=run.trusted,
        proof=run.proof,
        reference=reference.manifest if reference else None,
    )
    run.relist()
    return run.report(use, loadable, headline, started)


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
