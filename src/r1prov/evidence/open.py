"""Open a bundle: is every member the one that the index lists? Nothing is decided about a model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from r1prov.errors import EvidenceError, LimitExceeded
from r1prov.evidence.archive import read_archive
from r1prov.evidence.bag import (
    DATA,
    INDEX,
    SIGNATURE,
    TAG_FILES,
    is_countersignature,
    tag_files,
)
from r1prov.evidence.index import Index, parse_index, payload, relative
from r1prov.limits import MAX_SIGNATURES
from r1prov.verify.findings import Finding, finding

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle as it was read. Nothing of it is to be believed before its signature is checked.

    Attributes:
        subject: Its name, for messages.
        sha256: Of the file.
        index: What it says it holds.
        raw_index: The index file.
        signature: The signature file of the maker.
        countersignatures: Those of others, by name.
        payload: Its members, by path below the payload folder.
        findings: Members that are altered, missing or added.
    """

    subject: str
    sha256: str
    index: Index
    raw_index: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    countersignatures: dict[str, bytes] = field(repr=False)
    payload: dict[str, bytes] = field(repr=False)
    findings: tuple[Finding, ...]


def open_bundle(raw: bytes, *, subject: str) -> Bundle:
    """Read a bundle and hold every member to the index.

    Raises:
        EvidenceError: The archive, or the index in it, is malformed.
        LimitExceeded: It is larger than a cap.
    """
    members = read_archive(raw, subject=subject)
    for needed in (INDEX, SIGNATURE):
        if needed not in members:
            raise EvidenceError(
                f"{subject} has no {relative(needed)}: it was taken out, or this is another "
                "kind of archive",
                subject=subject,
                hint="a bundle is what `r1prov evidence create` makes",
            )
    index = parse_index(members[INDEX], subject=subject)
    return Bundle(
        subject=subject,
        sha256=hashlib.sha256(raw).hexdigest(),
        index=index,
        raw_index=members[INDEX],
        signature=members[SIGNATURE],
        countersignatures=_countersignatures(members, subject),
        payload=payload(members),
        findings=tuple(_differences(index, members)),
    )


def _countersignatures(members: dict[str, bytes], subject: str) -> dict[str, bytes]:
    found = {relative(n): data for n, data in sorted(members.items()) if is_countersignature(n)}
    if len(found) >= MAX_SIGNATURES:
        raise LimitExceeded(
            f"{subject} has {len(found):,} signatures beside its maker's; the cap is "
            f"{MAX_SIGNATURES - 1}",
            subject=subject,
        )
    return found


def _differences(index: Index, members: dict[str, bytes]) -> Iterator[Finding]:
    listed = {DATA + one.path: one for one in index.parts}
    for name, part in listed.items():
        data = members.get(name)
        if data is None:
            yield finding("evidence-missing", relative(name), "listed in the index, and not there")
            continue
        digest = hashlib.sha256(data).hexdigest()
        if digest != part.sha256 or len(data) != part.size:
            yield finding(
                "evidence-member",
                relative(name),
                "its content is not what the index lists",
                expected=f"sha256:{part.sha256}, {part.size:,} bytes",
                found=f"sha256:{digest}, {len(data):,} bytes",
            )
    for name in sorted(members.keys() - listed.keys() - TAG_FILES - {INDEX, SIGNATURE}):
        if not is_countersignature(name):
            yield finding("evidence-extra", relative(name), "not listed in the index")
    tags = tag_files({n: d for n, d in members.items() if n not in TAG_FILES}, day=index.day)
    for name, data in sorted(tags.items()):
        if name not in members:
            yield finding("evidence-missing", relative(name), "a tag file of BagIt is not there")
        elif members[name] != data:
            yield finding(
                "evidence-member",
                relative(name),
                "this tag file of BagIt does not say what follows from the other members",
                expected=f"sha256:{hashlib.sha256(data).hexdigest()}",
                found=f"sha256:{hashlib.sha256(members[name]).hexdigest()}",
            )
