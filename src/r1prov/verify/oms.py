"""A model against an OpenSSF Model Signing bundle, in place of a manifest of our own.

The signed statement becomes the manifest of the run, so that listing, headers, index, config,
hygiene, expectation, scope and policy are judged as for any other; only what it cannot say, such as
an inventory, is not asked for.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from r1prov.family.gguf import identify_gguf
from r1prov.hashing.digest import BlobDigest
from r1prov.manifest.oms import OmsResult, verify_oms
from r1prov.manifest.oms_files import is_below
from r1prov.manifest.oms_statement import DEFAULT_IGNORED, SINGLE_FILE
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import FileEntry, Manifest, Role
from r1prov.manifest.shelf import ShelvedManifest
from r1prov.text import plural
from r1prov.verify.apply_policy import check_demands
from r1prov.verify.checks import code_references, hygiene, identity, index, listing, weights
from r1prov.verify.evidence import Evidence, gather
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    ManifestUse,
    Part,
    Report,
    Tally,
    finding,
)
from r1prov.verify.hashing import HashedModel
from r1prov.verify.oms_bundle import BundleFile, as_finding, attribute, watch
from r1prov.verify.policy import By, Level, Policy
from r1prov.verify.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from r1prov.manifest.oms_statement import OmsStatement
    from r1prov.stores.base import Store
    from r1prov.verify.pipeline import Authorities

_INVENTORY: Final = "inventory against the manifest"
_NOT_COMPARED = frozenset(
    {"file-missing", "file-unread", "file-changed", "symlink", "not-regular", "listing-changed"}
)
_LEFT_OUT: Final = 'sign it too; or let it through by its name in a policy (`kind = "extra"`)'
_DIFFERS = _NOT_COMPARED | {"file-digest", "file-size"}


def verify_with_bundle(
    store: Store,
    authorities: Authorities,
    policy: Policy,
    file: BundleFile,
    *,
    now: datetime | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Report:
    """Verify a model against the bundle of any OMS tool, signed with a key of the trust store.

    Every byte is read: neither cached digests nor those that a store states take part.

    Args:
        store: Where the model lives.
        authorities: The trust store, and manifests whose names nobody may claim.
        policy: How deep, which files, which model is expected, and the policy file.
        file: The bundle.
        now: Time at which key validity is judged; None is the present.
        progress: Called with the number of bytes to hash; returns a callback for bytes done.

    Raises:
        StoreError: The model cannot be listed.
        LimitExceeded: It holds more than a model does.
        PolicyError: Several entries of the policy file fit.
        UsageError: The hash is BLAKE3 and the extra is not installed.
    """
    started = datetime.now(UTC)
    evidence = gather(store)
    signed = attribute(file, authorities.trust, now or started)
    result = None
    if signed.statement is not None and policy.level is Level.FULL:
        result = verify_oms(
            file.bundle,
            store,
            public_key=signed.key,
            ignore_paths=file.inside(store),
            workers=policy.workers,
            on_bytes=watch(store, progress),
        )
    shelved = None
    if signed.statement is not None:
        manifest = _as_manifest(signed.statement, signed.owner, evidence, result)
        shelved = ShelvedManifest(manifest, file.raw, file.path)
    run = Run(evidence, policy, shelved, now or started)
    headline = "nothing that a trusted key signed"
    _structure(run, authorities, headline)
    loadable = evidence.inventory(evidence.loadable_weights())
    if shelved is None or signed.statement is None:
        run.findings += signed.findings
        run.without_manifest(loadable, headline)
    else:
        names = [one.name for one in authorities.shelf.manifests()]
        run.against(shelved, loadable, signed.decision, authorities.hub_key, names)
        _without_ignored(run, (*signed.statement.ignore_paths, *file.inside(store)))
        _files(run, shelved.manifest, signed.statement, result)
    if policy.by is By.TENSOR:
        run.compare_tensors()
    reference = authorities.shelf.find(identity.REFERENCE_OF_FULL)
    run.findings += check_demands(
        run.policy,
        shelved,
        trusted=run.trusted,
        proof=None,
        reference=reference.manifest if reference else None,
    )
    run.relist()
    use = ManifestUse(
        name=signed.statement.name if signed.statement else store.name,
        variant="other",
        publisher=signed.owner,
        revision="",
        location=str(file.path),
        sha256=file.sha256,
        chosen="asked for with --manifest: an OpenSSF Model Signing bundle",
        tree_digest=result.tree_digest if result is not None and result.valid else None,
        signers=signed.signers(),
        trusted=signed.decision.trusted,
    )
    tallies = {
        part: _tally(run, part, hashed=result is not None) for part in (Part.WEIGHTS, Part.OTHER)
    }
    return replace(
        run.report(use, loadable, headline, started),
        weights=tallies[Part.WEIGHTS],
        other=tallies[Part.OTHER],
        bytes_hashed=result.bytes_hashed if result is not None else 0,
    )


def _as_manifest(
    statement: OmsStatement, owner: str, evidence: Evidence, result: OmsResult | None
) -> Manifest:
    """The statement in the form of a manifest: what it does not state is left open.

    Of files signed with another hash, or in shards, no SHA-256 is stated. Where such a file is as
    signed, the one of the bytes that were parsed stands in, so that a config counts as signed.
    """
    broken = {one.subject for one in result.findings} if result is not None else set()
    entries = []
    for signed in statement.files:
        path = signed.path
        if path == SINGLE_FILE and list(evidence.files) == [evidence.store.name]:
            path = evidence.store.name
        sha256 = None
        if statement.hash_type == "sha256" and not statement.shard_size:
            sha256 = signed.digests[0].hex()
        elif result is not None and path in evidence.json_files and path not in broken:
            sha256 = evidence.json_files[path].sha256
        entries.append(FileEntry(path, signed.size, sha256, role_of(path)))
    return Manifest(
        name=statement.name,
        publisher=owner,
        variant="other",
        source="",
        revision="",
        license="",
        files=tuple(entries),
    )


def _structure(run: Run, authorities: Authorities, headline: str) -> None:
    """The checks of names, headers, index, code and expectation, as for any manifest."""
    evidence, manifest, expect = run.evidence, run.manifest, run.policy.expect
    run.findings += listing.check_entries(evidence)
    run.findings += weights.check_headers(evidence)
    run.findings += index.check_index(evidence, manifest)
    if evidence.only_gguf:
        gguf = identify_gguf(evidence.gguf, authorities.shelf.manifests())
        run.findings += identity.check_gguf(gguf, expect, manifest)
    if not evidence.headers and not evidence.gguf and not evidence.header_errors:
        nothing = "no safetensors or GGUF file here"
        run.findings.append(finding("no-weights", evidence.store.name, nothing, part=Part.WEIGHTS))
    run.findings += hygiene.check_executables(evidence, manifest)
    run.findings += code_references.check_code_references(evidence, manifest)
    run.findings += code_references.check_redirects(evidence, manifest)
    reference = authorities.shelf.find(identity.REFERENCE_OF_FULL)
    run.findings += identity.check_expectation(
        expect, manifest, reference.manifest if reference else None, headline
    )


def _without_ignored(run: Run, ignored: tuple[str, ...]) -> None:
    """Take back what the specification lets be: unsigned files at ignored paths, no inventory.

    What loaders look for at such a path has a finding of its own (`signed-path-ignored`).
    """
    roots = frozenset({*ignored, *DEFAULT_IGNORED})
    run.findings = [
        one
        for one in run.findings
        if not (one.rule.name == "file-unlisted" and is_below(one.subject, roots))
    ]
    run.coverage = [
        replace(one, detail="an OMS signature states none", required=False)
        if one.item == _INVENTORY
        else one
        for one in run.coverage
    ]


def _files(run: Run, manifest: Manifest, statement: OmsStatement, result: OmsResult | None) -> None:
    """What the files are, by the statement; and what the statement does and does not bind."""
    evidence = run.evidence
    listed = {entry.path: entry for entry in manifest.files}
    known = {(one.rule.name, one.subject) for one in run.findings}
    leftovers = set(evidence.leftovers)
    for one in result.findings if result is not None else ():
        explained = one.subject in leftovers or ("shadowing-file", one.subject) in known
        if (one.rule, one.subject) in known or (one.rule == "file-unlisted" and explained):
            continue
        entry = listed.get(one.subject)
        part = listing.part_of_change(entry, evidence.executables) if entry else Part.MODEL
        if one.rule == "signed-path-ignored":
            one = replace(one, hint=_LEFT_OUT)
        run.findings.append(as_finding(one, part))
    broken = {one.subject for one in run.findings if one.rule.name in _DIFFERS}
    if result is not None:
        # Only digests that were stated and found equal: the others are in the findings.
        stated = statement.hash_type == "sha256" and not statement.shard_size
        run.hashed = HashedModel(
            {
                path: BlobDigest(path, here.size, entry.sha256, None, here.fence)
                for path, entry in listed.items()
                if stated and entry.sha256 is not None and path not in broken
                if (here := evidence.files.get(path)) is not None and here.fence is not None
            }
        )
    run.coverage += _coverage(run, manifest, statement, result)
    run.provenance += [
        f"oms-root sha256:{statement.root}: over the digests of "
        f"{plural(len(statement.files), 'file')} in the order listed; it binds neither names nor "
        "sizes, and identifies no model",
        "the signed statement binds the path and digest of each file it lists; its name is a label",
    ]


def _coverage(
    run: Run, manifest: Manifest, statement: OmsStatement, result: OmsResult | None
) -> Iterator[Coverage]:
    how = "" if statement.hash_type == "sha256" else f", by {statement.hash_type}"
    if statement.shard_size:
        how += f", in shards of {plural(statement.shard_size, 'byte')}"
    for part, item in ((Part.WEIGHTS, listing.WEIGHT_FILES), (Part.OTHER, listing.OTHER_FILES)):
        entries = [one for one in manifest.files if listing.part_of(one.role) is part]
        if part is Part.WEIGHTS and not any(one.role is Role.WEIGHTS for one in entries):
            # Else a pass under `--scope weights` could rest on no weights at all.
            yield Coverage(item, CoverageState.SKIPPED, "the signature lists no weight file")
        if not entries:
            continue
        if result is None:
            yield Coverage(item, CoverageState.SKIPPED, "level `structure` reads headers only")
            continue
        rules: dict[str, set[str]] = {}
        for one in run.findings:
            rules.setdefault(one.subject, set()).add(one.rule.name)
        open_ = [one.path for one in entries if rules.get(one.path, set()) & _NOT_COMPARED]
        equal = sum(not rules.get(one.path, set()) & _DIFFERS for one in entries)
        state = CoverageState.SKIPPED if open_ else CoverageState.CHECKED
        if any("file-unread" in rules[path] for path in open_):
            state = CoverageState.UNREAD
        detail = f"{equal:,} of {plural(len(entries), 'file')} equal{how}"
        if open_:
            detail += f"; not compared: {', '.join(open_[:5])}"
        yield Coverage(item, state, detail)
    yield Coverage(
        "what the signature does not state",
        CoverageState.SKIPPED,
        "publisher, revision, licence, architecture and inventory",
        required=False,
    )
    for note in result.notes if result is not None else ():
        yield Coverage("what the signature leaves", CoverageState.SKIPPED, note, required=False)


def _tally(run: Run, part: Part, *, hashed: bool) -> Tally:
    """How many files of one part are as signed. Without hashing, none can be."""
    if run.manifest is None:
        return Tally()
    broken = {one.subject for one in run.findings if one.rule.name in _DIFFERS}
    entries = [one.path for one in run.manifest.files if listing.part_of(one.role) is part]
    sizes = {path: run.evidence.files[path].size for path in entries if path in run.evidence.files}
    good = [path for path in entries if hashed and path not in broken]
    return Tally(
        matching=len(good),
        total=len(entries),
        matching_bytes=sum(sizes.get(path, 0) for path in good),
        total_bytes=sum(sizes.values()),
        differing=tuple(sorted(path for path in entries if path in broken)),
    )
