"""Every byte: SHA-256 of each file against the manifest, and Git blob ids against the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import ChangedWhileReading
from r1prov.manifest.schema import Role
from r1prov.verify.checks.listing import OTHER_FILES, WEIGHT_FILES, part_of, part_of_change
from r1prov.verify.findings import (
    Coverage,
    CoverageState,
    Finding,
    Part,
    Tally,
    finding,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator

    from r1prov.manifest.schema import FileEntry, Manifest
    from r1prov.verify.hashing import HashedModel


def check_digests(
    manifest: Manifest,
    hashed: HashedModel,
    git_blobs: dict[str, str],
    executables: Container[str],
) -> Iterator[Finding]:
    """Compare digests.

    Args:
        manifest: What the files must be.
        hashed: What they are.
        git_blobs: Path to Git blob id, from a commit proof that holds.
        executables: Files that can run code: a change of one counts in either scope.
    """
    for entry in manifest.files:
        part = part_of_change(entry, executables)
        error = hashed.errors.get(entry.path)
        if error is not None:
            if isinstance(error, ChangedWhileReading):
                yield finding("file-changed", entry.path, error.message, part=part)
            continue
        digest = hashed.digests.get(entry.path)
        if digest is None:
            continue
        if entry.sha256 is not None and digest.sha256 != entry.sha256:
            yield finding(
                "file-digest",
                entry.path,
                "the content is not what the manifest says",
                expected=f"sha256:{entry.sha256}",
                found=f"sha256:{digest.sha256}",
                hint=_hint(digest.sha256, manifest),
                part=part,
            )
            continue
        blob = git_blobs.get(entry.path)
        if blob is not None and digest.git_blob is not None and digest.git_blob != blob:
            yield finding(
                "git-blob",
                entry.path,
                "another Git blob than the Hub commit holds",
                expected=f"sha1:{blob}",
                found=f"sha1:{digest.git_blob}",
                part=part,
            )


def _hint(sha256: str, manifest: Manifest) -> str | None:
    """Say so when the content is another file of the same manifest: shards that were swapped."""
    for entry in manifest.files:
        if entry.sha256 == sha256:
            return f"this is the content of {entry.path}: were files renamed or swapped?"
    return None


def coverage_of_digests(
    manifest: Manifest, hashed: HashedModel | None, present: Collection[str]
) -> Iterator[Coverage]:
    """What was hashed, what could not be, and what the manifest has no digest for.

    Args:
        manifest: What the files must be.
        hashed: What they are; None if nothing was hashed.
        present: The files that are there.
    """
    for part in (Part.WEIGHTS, Part.OTHER):
        entries = [entry for entry in manifest.files if part_of(entry.role) is part]
        item = WEIGHT_FILES if part is Part.WEIGHTS else OTHER_FILES
        if part is Part.WEIGHTS and not any(one.role is Role.WEIGHTS for one in entries):
            # Else a pass under `--scope weights` could rest on no weights at all.
            yield Coverage(item, CoverageState.SKIPPED, "the manifest lists no weight file")
        if not entries:
            continue
        if hashed is None:
            yield Coverage(item, CoverageState.SKIPPED, "level `structure` reads headers only")
            continue
        unread = [entry.path for entry in entries if entry.path in hashed.errors]
        if unread:
            detail = "; ".join(f"{path}: {hashed.errors[path].message}" for path in unread[:5])
            yield Coverage(item, CoverageState.UNREAD, detail)
        unknown = [entry.path for entry in entries if entry.sha256 is None]
        if unknown:
            detail = f"the manifest has no digest for {len(unknown)} of {len(entries)} files"
            yield Coverage(item, CoverageState.SKIPPED, detail)
        code = [e for e in entries if e.role is Role.CODE and e.path in present]
        if any(entry.sha256 is None for entry in code):
            # In either scope: code that is there runs, whoever wrote it.
            detail = "the manifest has no digest of code that is there"
            yield Coverage("SHA-256 of code files", CoverageState.SKIPPED, detail)
        if not unread and not unknown:
            yield _done(item, entries, hashed)


def _done(item: str, entries: list[FileEntry], hashed: HashedModel) -> Coverage:
    """How many files were hashed and how many are equal, where every digest is known."""
    done = [entry for entry in entries if entry.path in hashed.digests]
    equal = sum(hashed.digests[entry.path].sha256 == entry.sha256 for entry in done)
    detail = f"{equal} of {len(entries)} files equal"
    if equal < len(done):
        detail += f", {len(done) - equal} differ"
    if len(done) < len(entries):
        detail += "; the others are missing or of another size"
    detail += hashed.how(entry.path for entry in entries)
    state = CoverageState.CHECKED if len(done) == len(entries) else CoverageState.SKIPPED
    return Coverage(item, state, detail)


def tally(manifest: Manifest, part: Part, findings: list[Finding], *, hashed: bool) -> Tally:
    """How many files of one part are as signed. Without hashing, none can be."""
    broken = {
        one.subject
        for one in findings
        if one.rule.name
        in {"file-missing", "file-size", "file-digest", "file-changed", "file-unread", "git-blob"}
    }
    entries = [entry for entry in manifest.files if part_of(entry.role) is part]
    good = [
        entry
        for entry in entries
        if hashed and entry.sha256 is not None and entry.path not in broken
    ]
    return Tally(
        matching=len(good),
        total=len(entries),
        matching_bytes=sum(entry.size or 0 for entry in good),
        total_bytes=sum(entry.size or 0 for entry in entries),
        differing=tuple(sorted(entry.path for entry in entries if entry.path in broken)),
    )
