"""What the store says of its own files, held against what was hashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.verify.findings import Finding, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.manifest.schema import Manifest
    from r1prov.verify.evidence import Evidence
    from r1prov.verify.hashing import HashedModel


def check_stated(
    evidence: Evidence, manifest: Manifest | None, hashed: HashedModel
) -> Iterator[Finding]:
    """A file that is not what its store says was changed after it got there.

    Where the manifest has the digest that was found, its signer outweighs the store's records: a
    file may be replaced after a download and signed as it is.
    """
    stated = evidence.stated
    if stated is None:
        return
    signed = {entry.path: entry.sha256 for entry in manifest.files} if manifest else {}
    for path, digest in hashed.digests.items():
        if path in hashed.stated:
            continue
        conflict = stated.conflict(path, digest)
        if conflict is None:
            continue
        expected, found = conflict
        as_signed = signed.get(path) == digest.sha256
        yield finding(
            "stated-digest",
            path,
            f"not what {stated.by} says of it",
            expected=expected,
            found=found,
            severity=Severity.WARNING if as_signed else None,
        )


def check_records(evidence: Evidence) -> Iterator[Finding]:
    """Sizes that the store states, and records of it that cannot be read."""
    stated = evidence.stated
    if stated is None:
        return
    for path, size in stated.sizes.items():
        found = evidence.files.get(path)
        if found is not None and found.size != size:
            yield finding(
                "stated-digest",
                path,
                f"of another size than {stated.by} says",
                expected=f"{size:,} bytes",
                found=f"{found.size:,} bytes",
            )
    for path, error in stated.errors.items():
        yield finding(
            "stated-digest",
            path,
            f"{stated.by} cannot be read: {error.message}",
            hint="nothing rests on them; remove the file, or download again",
            severity=Severity.WARNING,
        )
