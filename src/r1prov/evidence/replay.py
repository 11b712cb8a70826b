"""The verdict again, from what a bundle holds: the same checks, on the recorded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.errors import EvidenceError, R1ProvError
from r1prov.evidence.parts import Kind
from r1prov.evidence.recorded import RecordedStore, read_recording
from r1prov.evidence.recording import FOLDER, LISTING
from r1prov.limits import MAX_BUNDLE_BYTES, MAX_MANIFEST_BYTES
from r1prov.manifest.schema import parse_manifest
from r1prov.manifest.shelf import ShelvedManifest
from r1prov.trust.directories import read_file
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import Policy
from r1prov.verify.policy_file import parse_policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from r1prov.evidence.index import Index
    from r1prov.verify.findings import Report
    from r1prov.verify.policy import PolicyFile, Scope


def recorded(index: Index, payload: Mapping[str, bytes], *, subject: str) -> RecordedStore | None:
    """The model as the bundle has it; None if it was left out.

    Raises:
        EvidenceError: It is malformed.
    """
    if LISTING not in payload:
        return None
    kept = {one.path for one in index.of(Kind.MODEL)}
    members = {n: d for n, d in payload.items() if n in kept and n.startswith(FOLDER)}
    if LISTING not in members:
        raise EvidenceError(f"{LISTING} is no part of the kind `model`", subject=subject)
    return read_recording(members, subject=subject)


def bundled_manifest(
    index: Index,
    payload: Mapping[str, bytes],
    policy: PolicyFile | None,
    *,
    subject: str,
    theirs: bool = False,
) -> ShelvedManifest | None:
    """The manifest with its signatures as the bundle has them; None if there is none.

    Args:
        index: Of the bundle.
        payload: Its members.
        policy: What may name the manifest by its file.
        subject: The bundle, for messages.
        theirs: Whether the policy is the maker's, whose files lay elsewhere.

    Raises:
        InputError: It is malformed.
    """
    if index.manifest is None:
        return None
    raw = payload[index.manifest]
    if len(raw) > MAX_MANIFEST_BYTES:
        raise EvidenceError(f"{index.manifest} is too large for a manifest", subject=subject)
    manifest = parse_manifest(raw, subject=f"{subject}, {index.manifest}")
    if manifest.name != index.model:
        raise EvidenceError(
            f"the index is about {index.model}, and its manifest of {manifest.name}",
            subject=subject,
        )
    signatures = tuple(
        (Path(one.path).name, payload[one.path])
        for one in index.of(Kind.MANIFEST)
        if one.path != index.manifest and one.size <= MAX_BUNDLE_BYTES
    )
    path = Path(index.manifest)
    entry = policy.entry_for(manifest.name) if policy is not None else None
    named = entry.manifest_file if entry is not None else None
    # The maker's policy names it by where it lay, and here it can only be told by its name. The
    # verifier's names a file that the verifier has.
    if named is not None and (named.name == path.name if theirs else _holds(named, raw)):
        path = named
    return ShelvedManifest(manifest, raw, path, None, signatures)


def replay(
    index: Index,
    payload: Mapping[str, bytes],
    authorities: Authorities,
    *,
    now: datetime,
    subject: str,
    expect: str | None = None,
    policy: PolicyFile | None = None,
    scope: Scope | None = None,
    without_policy: bool = False,
) -> Report | None:
    """Verify the recorded model.

    Args:
        index: Of the bundle; every part of it is as listed.
        payload: Its members.
        authorities: Whom the verifier trusts, whatever the bundle says.
        now: When validity of keys is judged.
        subject: The bundle, for messages.
        expect: The model that the verifier expects; None takes what the maker expected.
        policy: The verifier's policy; None takes that of the bundle.
        scope: Which files have to match; None takes what that policy says, else the maker's choice.
        without_policy: Apply no policy at all.

    Returns:
        The report; None if the bundle does not hold what it takes.

    Raises:
        InputError: Something in the bundle is malformed.
    """
    store = recorded(index, payload, subject=subject)
    if store is None or (index.manifest is None and index.model != "unidentified"):
        return None
    theirs = policy is None
    if theirs and not without_policy:
        policy = bundled_policy(index, payload, subject=subject)
    manifest = bundled_manifest(index, payload, policy, subject=subject, theirs=theirs)
    asked = Policy(
        level=index.level,
        scope=scope or index.scope,
        # A verifier's policy may ask for more files than the maker did.
        scope_given=scope is not None or theirs,
        expect=expect or index.expected,
        file=None if policy is None else _as_read(policy, store),
    )
    return verify(store, authorities, asked, manifest=manifest, now=now)


def bundled_policy(
    index: Index, payload: Mapping[str, bytes], *, subject: str
) -> PolicyFile | None:
    """The policy that the maker applied; None without one.

    Raises:
        PolicyError: It is malformed.
    """
    if index.policy is None:
        return None
    return parse_policy(payload[index.policy], subject=f"{subject}, {index.policy}")


def lets_through(policy: PolicyFile) -> bool:
    """Whether a policy may make a verdict better than it is without one."""
    return bool(
        policy.partial_manifests or policy.rules or any(entry.allow for entry in policy.models)
    )


def _holds(path: Path, raw: bytes) -> bool:
    """Whether a file at hand is this manifest."""
    try:
        return read_file(path, MAX_MANIFEST_BYTES) == raw
    except R1ProvError:
        return False


def _as_read(policy: PolicyFile, store: RecordedStore) -> PolicyFile:
    """What a policy says of digests that the maker had second-hand holds for the maker's run.

    To whoever replays it every digest is stated, by the signer, and that is what evidence is.
    """
    allowed = (policy.stated_digests or "stated" not in store.second_hand) and (
        policy.cached_digests or "cached" not in store.second_hand
    )
    return replace(policy, stated_digests=allowed)
