"""More signatures and timestamps under a bundle that is there: both sides sign one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.errors import UsageError
from r1prov.evidence.archive import read_archive, write_archive
from r1prov.evidence.bag import (
    SIGNATURE,
    TAG_FILES,
    countersignature,
    is_countersignature,
    tag_files,
)
from r1prov.evidence.index import relative
from r1prov.evidence.open import open_bundle
from r1prov.evidence.statement import sign_index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from r1prov.evidence.open import Bundle
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import Signer


def countersign(
    raw: bytes,
    key: Signer,
    certificates: Sequence[Certificate] = (),
    *,
    subject: str,
    stamp: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """The bundle with a signature of another key over the same index, and else as it was.

    Args:
        raw: The bundle file.
        key: The key that signs.
        certificates: As in `sign_statement`.
        subject: The bundle's name, for messages.
        stamp: Adds a timestamp to the signature file.

    Raises:
        EvidenceError: It is no bundle, or malformed.
        UsageError: It is not intact, or that key signed it already.
    """
    bundle, members = _intact(raw, subject)
    signature = sign_index(key, bundle.index, bundle.raw_index, certificates)
    if stamp is not None:
        signature = stamp(signature)
    name = countersignature(key.public.key_id8)
    signed = f'"{key.public.key_id}"'.encode()
    if name in members or signed in members[SIGNATURE]:
        raise UsageError(
            f"{subject} has a signature of key {key.public.key_id8} already: {relative(name)}"
            if name in members
            else f"key {key.public.key_id8} made {subject}, and has signed it",
            subject=subject,
        )
    return _written(members | {name: signature}, bundle)


def restamp(raw: bytes, stamp: Callable[[bytes], bytes], *, subject: str) -> bytes:
    """The bundle with a timestamp more over every signature, and else as it was.

    Args:
        raw: The bundle file.
        stamp: Adds a timestamp to a signature file.
        subject: The bundle's name, for messages.

    Raises:
        EvidenceError: It is no bundle, or malformed.
        UsageError: It is not intact.
    """
    bundle, members = _intact(raw, subject)
    for name in (SIGNATURE, *filter(is_countersignature, sorted(members))):
        members[name] = stamp(members[name])
    return _written(members, bundle)


def _intact(raw: bytes, subject: str) -> tuple[Bundle, dict[str, bytes]]:
    bundle = open_bundle(raw, subject=subject)
    if bundle.findings:
        first = bundle.findings[0]
        raise UsageError(
            f"{subject} is not intact: {first.subject}: {first.message}",
            subject=subject,
            hint="take a bundle whose members `r1prov evidence verify` finds unchanged",
        )
    members = read_archive(raw, subject=subject)
    return bundle, {name: data for name, data in members.items() if name not in TAG_FILES}


def _written(members: dict[str, bytes], bundle: Bundle) -> bytes:
    return write_archive(members | tag_files(members, day=bundle.index.day))
