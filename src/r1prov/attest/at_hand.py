"""The model at hand against the subjects of a statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import StoreError
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import Role
from r1prov.stores.base import EntryKind
from r1prov.verify.checks.code_references import check_code_references, check_redirects
from r1prov.verify.checks.listing import check_entries, check_listing
from r1prov.verify.evidence import gather
from r1prov.verify.policy import Scope
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from r1prov.manifest.schema import Manifest
    from r1prov.stores.base import Store
    from r1prov.verify.evidence import Evidence
    from r1prov.verify.findings import Finding

_SMALL_ROLES = frozenset({Role.CONFIG, Role.TOKENIZER, Role.DOCUMENT})


def differences(
    store: Store,
    subjects: Mapping[str, str],
    *,
    manifest: Manifest | None = None,
    scope: Scope = Scope.ALL,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> list[str]:
    """Hash the model and say how it differs from the files that a statement is about.

    A file that is no subject is a difference: nobody attested it. With the manifest it may be what
    that manifest lets be there, such as a document of a release whose listing is not complete.

    Args:
        store: Where the model is.
        subjects: Path to SHA-256 of the files that the statement is about.
        manifest: The manifest whose digest the statement states, if it is at hand.
        scope: `weights` lets configs, tokenizers and documents be there that nobody attested, as
            the verdict did, unless they name code to run.
        workers: Hashing threads; None takes one a processor.
        progress: Called with the bytes to hash; returns a callback for bytes done.

    Returns:
        One sentence a difference; none if this is the model.

    Raises:
        StoreError: The model, or a file of it, cannot be read.
    """
    evidence = gather(store)
    found = [*_links_and_names(evidence), *_unlisted(evidence, subjects, manifest, scope)]
    jobs = []
    for path in sorted(subjects):
        if path in evidence.files:
            jobs.append(HashJob(path, evidence.files[path].size))
        else:
            found.append(f"{path} is attested and not here")
    if found:  # no need to read 688 GB
        return found
    on_bytes = progress(sum(job.size for job in jobs)) if progress else None
    hashed = hash_blobs(store.open, jobs, workers=workers, on_bytes=on_bytes)
    for error in hashed.errors.values():
        raise error
    for path, digest in sorted(hashed.digests.items()):
        if digest.sha256 != subjects[path]:
            found.append(f"{path} has sha256:{digest.sha256}; attested is {subjects[path]}")
    before = {entry.path: (entry, entry.fence) for entry in evidence.entries}
    if before != {entry.path: (entry, entry.fence) for entry in store.entries()}:
        found.append("files came, went or changed while the check ran")
    return found


def _links_and_names(evidence: Evidence) -> Iterator[str]:
    """What `r1prov verify` refuses of a listing, whatever the manifest."""
    for entry in evidence.entries:
        if entry.kind is EntryKind.UNREADABLE:
            yield f"{entry.path} cannot be read: {entry.detail}"
    for one in _errors(check_entries(evidence)):
        yield f"{one.subject}: {one.message}"


def _unlisted(
    evidence: Evidence, subjects: Mapping[str, str], manifest: Manifest | None, scope: Scope
) -> Iterator[str]:
    leftovers = set(evidence.leftovers)
    extra = [path for path in evidence.files if path not in subjects and path not in leftovers]
    tolerated: set[str] = set()
    if manifest is not None:
        listed = {entry.path for entry in manifest.files}
        refused = {one.subject for one in _errors(check_listing(evidence, manifest))}
        tolerated = set(extra) - listed - refused
    if scope is Scope.WEIGHTS:
        tolerated |= {path for path in extra if _is_small(path, evidence)}
    _require_read(evidence, tolerated)
    for check in (check_code_references, check_redirects):
        for one in _errors(check(evidence, manifest)):
            if one.subject in tolerated:
                yield f"{one.subject}: {one.message}"
    for path in sorted(extra):
        if path not in tolerated:
            yield f"{path} is here and not attested"


def _require_read(evidence: Evidence, paths: Iterable[str]) -> None:
    """What nobody attested may only be there if it is known to be harmless.

    Raises:
        StoreError: One of the files could not be read.
    """
    for path in sorted(paths):
        found = evidence.json_files.get(path)
        error = evidence.unread.get(path) or (found.error if found else None)
        if isinstance(error, StoreError):
            raise error


def _errors(findings: Iterable[Finding]) -> Iterator[Finding]:
    return (one for one in findings if one.severity is Severity.ERROR)


def _is_small(path: str, evidence: Evidence) -> bool:
    return path not in evidence.executables and role_of(path) in _SMALL_ROLES
