"""Make a Hub commit proof from what Git and the tree API of the Hub say of one commit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import CommitProofError
from r1prov.hashing.digest import git_blob_id
from r1prov.manifest.commit_proof import ProofResult, check_commit_proof, lfs_pointer
from r1prov.manifest.hub_commit import HubCommit, TreeEntry
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.hub_git import DIRECTORY_MODE, RawCommit, fetch_commit, tree_entries
from r1prov.text import quoted

if TYPE_CHECKING:
    from r1prov.hashing.digest import BlobDigest
    from r1prov.stores.hub import HubStore
    from r1prov.trust.openpgp import OpenPgpKey

_GIT_ID = re.compile(r"[0-9a-f]{40}")
# What the fields of a proof can say of a commit; Git allows more (`encoding`, `mergetag`).
_ORDER = ("tree", "parent", "author", "committer", "gpgsig")


@dataclass(frozen=True, slots=True)
class FetchedProof:
    """A commit proof that holds.

    Attributes:
        commit: The commit, as a manifest carries it.
        result: What the proof binds.
        agreed: How many files, also those below directories, Git and the tree API state alike.
        unknown_directories: Directories of which the server sent no tree.
    """

    commit: HubCommit
    result: ProofResult
    agreed: int
    unknown_directories: tuple[str, ...]


def fetch_commit_proof(
    store: HubStore, key: OpenPgpKey, *, digests: Mapping[str, BlobDigest] | None = None
) -> FetchedProof:
    """Fetch the commit of a store over Git, and prove its listing with it.

    Args:
        store: The repository, at its commit.
        key: The key with which the Hub signs commits.
        digests: Digests computed here, by path; those of files that are not under LFS go into the
            proof's entries.

    Raises:
        CommitUnavailable: Git is not reachable; a manifest can be made without a proof.
        CommitProofError: Git and the tree API contradict each other, or the proof does not hold:
            no manifest of this listing should be made.
        StoreError: The repository cannot be listed.
    """
    raw = fetch_commit(store)
    entries = store.entries()
    agreed, unknown = compare_listing(raw, entries)
    commit = make_hub_commit(raw, entries, repo=store.repo, digests=digests)
    return FetchedProof(commit, check_commit_proof(commit, key), agreed, unknown)


def compare_listing(raw: RawCommit, entries: Iterable[Entry]) -> tuple[int, tuple[str, ...]]:
    """Hold the tree API's listing against the Git trees, every file of every directory.

    Returns:
        How many files agree, and the directories of which no tree is known.

    Raises:
        CommitProofError: They contradict each other.
    """
    listed = {entry.path: entry for entry in entries}
    unknown = []
    agreed = 0
    for path, mode, git_id in raw.walk():
        if mode == DIRECTORY_MODE:
            unknown.append(path)
            continue
        entry = listed.pop(path, None)
        if entry is None:
            raise CommitProofError(f"{quoted(path)} is in the commit and not in the Hub's listing")
        if entry.kind is EntryKind.FILE and _listed_id(entry) != git_id:
            raise CommitProofError(
                f"{quoted(path)}: the Hub's listing gives {_listed_id(entry)}, the commit {git_id}"
            )
        agreed += 1
    for path in listed:
        if not path.startswith(tuple(f"{directory}/" for directory in unknown)):
            raise CommitProofError(f"{quoted(path)} is in the Hub's listing and not in the commit")
    return agreed, tuple(unknown)


def make_hub_commit(
    raw: RawCommit,
    entries: Iterable[Entry],
    *,
    repo: str,
    digests: Mapping[str, BlobDigest] | None = None,
) -> HubCommit:
    """Put a commit, its root tree, and what the listing states of its files into one value.

    Nothing is checked that `check_commit_proof` checks.

    Raises:
        CommitProofError: The commit has what the fields of a proof cannot say.
    """
    fields, signature, message = _read_commit(raw.body)
    listed = {entry.path: entry for entry in entries}
    return HubCommit(
        repo=repo,
        commit=raw.commit,
        tree=raw.tree,
        parents=tuple(fields["parent"]),
        author=fields["author"][0],
        committer=fields["committer"][0],
        message=message,
        signature=signature,
        entries=tuple(
            _tree_entry(mode, name, git_id, listed.get(name), (digests or {}).get(name))
            for mode, name, git_id in tree_entries(raw.trees[raw.tree])
        ),
    )


def _listed_id(entry: Entry) -> str | None:
    if entry.stated_sha256 is not None:
        return git_blob_id(lfs_pointer(entry.size, entry.stated_sha256))
    return entry.stated_git_blob


def _tree_entry(
    mode: str, name: str, git_id: str, entry: Entry | None, digest: BlobDigest | None
) -> TreeEntry:
    if entry is None or entry.kind is not EntryKind.FILE:
        return TreeEntry(mode, name, git_id)
    if entry.stated_sha256 is not None:
        return TreeEntry(mode, name, git_id, entry.size, entry.stated_sha256, lfs=True)
    if digest is None:
        return TreeEntry(mode, name, git_id, entry.size)
    if digest.git_blob is not None and digest.git_blob != git_id:
        raise CommitProofError(
            f"{quoted(name)}: what was fetched has the Git id {digest.git_blob}, the commit says "
            f"{git_id}"
        )
    return TreeEntry(mode, name, git_id, digest.size, digest.sha256)


def _read_commit(body: bytes) -> tuple[dict[str, list[str]], str | None, str]:
    """Header fields, signature and message of a commit object."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise CommitProofError("commit: not UTF-8, so no proof can carry it") from None
    head, blank, message = text.partition("\n\n")
    if not blank:
        raise CommitProofError("commit: without a message")
    fields: dict[str, list[str]] = {name: [] for name in _ORDER}
    last = 0
    # A line that starts with a space goes on with the value before it.
    for line in head.replace("\n ", "\0").split("\n"):
        name, _, value = line.partition(" ")
        if name not in fields:
            raise CommitProofError(f"commit: the header {quoted(name)} cannot be in a proof")
        position = _ORDER.index(name)
        if position < last or (fields[name] and name != "parent"):
            raise CommitProofError(f"commit: the header {name} stands twice or out of order")
        last = position
        fields[name].append(value.replace("\0", "\n"))
    for name in ("tree", "author", "committer"):
        if not fields[name]:
            raise CommitProofError(f"commit: without the header {name}")
    if any(not _GIT_ID.fullmatch(parent) for parent in fields["parent"]):
        raise CommitProofError("parents: not a Git id")
    signature = fields["gpgsig"]
    return fields, signature[0] if signature else None, message
