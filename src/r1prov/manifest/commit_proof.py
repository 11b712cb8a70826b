"""The Hub commit proof: recompute a commit from its fields, down to the digests of the weights.

LFS pointer (binds size and SHA-256 of a weight file) -> blob id -> tree id -> commit id -> the
Hub's OpenPGP signature. Each step is a hash that anyone can recompute. What it proves: the Hub
recorded these files. It names neither the uploader nor, by itself, the repository, and Git names
its objects by SHA-1 (files that are not under LFS are bound by a SHA-1 only).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from r1prov.errors import CommitProofError, NameRuleError, OpenPgpError
from r1prov.formats.names import check_path
from r1prov.hashing.digest import git_blob_id
from r1prov.limits import MAX_MANIFEST_BYTES
from r1prov.manifest.hub_commit import parse_hub_commit_json
from r1prov.manifest.shelf import load_manifest
from r1prov.stores.hub_git import DIRECTORY_MODE
from r1prov.trust.directories import read_file
from r1prov.trust.openpgp import verify_detached_text_signature
from r1prov.trust.shipped import shipped_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from r1prov.manifest.hub_commit import HubCommit, TreeEntry
    from r1prov.trust.openpgp import OpenPgpKey

_SUBMODULE = "160000"
_FILE_MODES = frozenset({"100644", "100755"})
_MODES = _FILE_MODES | {"120000", DIRECTORY_MODE, _SUBMODULE}
_GIT_ID = re.compile(r"[0-9a-f]{40}")
# Id, size and SHA-256 of the empty file: the one content that everybody knows.
_EMPTY_BLOB = (git_blob_id(b""), 0, hashlib.sha256(b"").hexdigest())
_SYSTEM = "system <system@huggingface.co>"
_PERSON = re.compile(r"[^<>\x00-\x1f\x7f]+ <[^<>\x00-\x20\x7f]*> ([0-9]{1,12}) [+-][0-9]{4}")
_MAX_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class ProofResult:
    """What a commit proof that holds binds.

    Attributes:
        signed: Whether the Hub's key signed the commit.
        bound_sha256: Path of each file under Git LFS to its size and SHA-256.
        bound_git: Path of every other file to its Git blob id.
        unbound: What the commit says nothing about, though the fields state it.
    """

    signed: bool
    bound_sha256: dict[str, tuple[int, str]] = field(default_factory=dict)
    bound_git: dict[str, str] = field(default_factory=dict)
    unbound: tuple[str, ...] = ()


def check_commit_proof(commit: HubCommit, key: OpenPgpKey) -> ProofResult:
    """Recompute everything; any altered field fails.

    Raises:
        CommitProofError: The proof does not hold; the message names the field.
    """
    _check_entries(commit.entries)
    bound_sha256: dict[str, tuple[int, str]] = {}
    bound_git: dict[str, str] = {}
    unbound = [f"repository {commit.repo}"]
    for entry in commit.entries:
        if entry.lfs:
            bound_sha256[entry.name] = _check_pointer(entry)
            continue
        if entry.mode in _FILE_MODES:
            bound_git[entry.name] = entry.git_sha1
        if entry.sha256 is not None or entry.size is not None:
            unbound.append(f"size and SHA-256 of {entry.name} (Git binds its SHA-1 only)")
    _check_contents(commit.entries)
    tree = _object_id(b"tree", _tree_body(commit.entries))
    if tree != commit.tree:
        raise CommitProofError(f"tree: the entries give {tree}, not {commit.tree}")
    _check_fields(commit)
    whole = _object_id(b"commit", _commit_body(commit, with_signature=True))
    if whole != commit.commit:
        raise CommitProofError(f"commit: the fields give {whole}, not {commit.commit}")
    if commit.signature is not None:
        unsigned = _commit_body(commit, with_signature=False)
        try:
            verify_detached_text_signature(commit.signature, unsigned, key)
        except OpenPgpError as error:
            raise CommitProofError(f"signature: {error.message}") from None
    return ProofResult(
        signed=commit.signature is not None,
        bound_sha256=bound_sha256,
        bound_git=bound_git,
        unbound=tuple(unbound),
    )


def lfs_pointer(size: int, sha256: str) -> bytes:
    """The pointer file that Git holds in place of a large one (Git LFS specification, v1)."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    ).encode()


@cache
def known_commits() -> tuple[HubCommit, ...]:
    """The Hub commits that travel with r1prov: in its manifests, and by themselves.

    `manifests/hub-commits/` holds those that no manifest carries. They vouch for what Git does not
    bind, and their files rest on the installation, as every shipped file does.

    Raises:
        R1ProvError: The installation is damaged.
    """
    carried = (
        load_manifest(path).manifest.hub_commit
        for path in sorted(shipped_dir("manifests").glob("*.toml"))
        # Most carry none, and to parse them all takes much longer than to search them.
        if b"[provenance.hub_commit]" in read_file(path, MAX_MANIFEST_BYTES)
    )
    alone = (
        parse_hub_commit_json(read_file(path, MAX_MANIFEST_BYTES), subject=path.name)
        for path in sorted(shipped_dir("manifests/hub-commits").glob("*.json"))
    )
    return (*(commit for commit in carried if commit is not None), *alone)


def conflicts_with(known: HubCommit, given: HubCommit) -> list[str]:
    """What `given` states otherwise than `known`, one line each.

    Of the same commit nothing may differ: what Git binds could by a collision of SHA-1, and what it
    does not bind (the repository, size and SHA-256 of files outside Git LFS) may not be left out
    either. Of another commit, size and SHA-256 of the same blob, where both state them.

    Args:
        known: A commit that is taken to be right.
        given: A commit whose proof holds.
    """
    if known.commit == given.commit:
        return list(_differences(known, given))
    facts = {entry.git_sha1: _blob_facts(entry) for entry in known.entries}
    conflicts = []
    for entry in given.entries:
        stated, known_facts = _blob_facts(entry), facts.get(entry.git_sha1, (None, None))
        for name, one, other in zip(("size", "sha256"), stated, known_facts, strict=True):
            if None not in (one, other) and one != other:
                conflicts.append(
                    f"{name} of {entry.name}: {one}, where a known commit says {other}"
                )
    return conflicts


def _differences(known: HubCommit, given: HubCommit) -> Iterator[str]:
    """What two statements of one commit differ in."""
    if known.repo != given.repo:
        yield f"hub_repo: {given.repo}, where the known commit says {known.repo}"
    for name in ("tree", "parents", "author", "committer", "message", "signature"):
        if getattr(known, name) != getattr(given, name):
            yield f"{name}: not that of the known commit"
    if [entry.name for entry in known.entries] != [entry.name for entry in given.entries]:
        yield "entries: not those of the known commit"
        return
    for right, entry in zip(known.entries, given.entries, strict=True):
        for name in ("mode", "git_sha1", "lfs", "size", "sha256"):
            one, other = getattr(entry, name), getattr(right, name)
            if one != other:
                yield (
                    f"{name} of {entry.name}: {_shown(one)}, where the known commit says "
                    f"{_shown(other)}"
                )


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)


def _blob_facts(entry: TreeEntry) -> tuple[int | None, str | None]:
    """Size and SHA-256 of the Git blob of an entry: of a file under LFS, its pointer's."""
    if entry.lfs and entry.size is not None and entry.sha256 is not None:
        pointer = lfs_pointer(entry.size, entry.sha256)
        return len(pointer), hashlib.sha256(pointer).hexdigest()
    return entry.size, entry.sha256


def _check_entries(entries: tuple[TreeEntry, ...]) -> None:
    if not 0 < len(entries) <= _MAX_ENTRIES:
        raise CommitProofError(f"entries: {len(entries):,} of them")
    for entry in entries:
        if entry.mode not in _MODES:
            raise CommitProofError(f"mode: {entry.mode!r} is no Git mode")
        try:
            check_path(entry.name)
        except NameRuleError as error:
            raise CommitProofError(f"name: {error.message}") from None
        if "/" in entry.name:
            raise CommitProofError(f"name: {entry.name} is not one path component")
        if not _GIT_ID.fullmatch(entry.git_sha1):
            raise CommitProofError(f"git_sha1: that of {entry.name} is not a Git id")
        if entry.lfs and entry.mode not in _FILE_MODES:
            raise CommitProofError(f"mode: {entry.name} is under LFS and not a file")
        stated = entry.sha256 is not None or entry.size is not None
        if stated and entry.mode in (DIRECTORY_MODE, _SUBMODULE):
            raise CommitProofError(f"size: {entry.name} is not a file")
    keys = [_sort_key(entry) for entry in entries]
    if keys != sorted(keys) or len({entry.name for entry in entries}) != len(entries):
        raise CommitProofError("entries: not in Git's order, or a name stands twice")


def _check_contents(entries: tuple[TreeEntry, ...]) -> None:
    """Refuse statements that cannot all be true, though no Git object binds each.

    The same content has the same size and the same digests, and other content has others.
    """
    facts: dict[tuple[str, str], object] = {}

    def agree(what: str, content: str, value: object, entry: TreeEntry) -> None:
        if facts.setdefault((what, content), value) != value:
            raise CommitProofError(f"{what}: {entry.name} and another entry contradict each other")

    for entry in entries:
        if entry.size is not None and entry.sha256 is not None:
            if entry.lfs:
                # The blob is the pointer; of the file itself no blob is known.
                agree("size", entry.sha256, entry.size, entry)
            elif git_blob_id(lfs_pointer(entry.size, entry.sha256)) == entry.git_sha1:
                raise CommitProofError(f"size: {entry.name} is under LFS, and is stated not to be")
        for git_sha1, size, sha256 in (_EMPTY_BLOB, (entry.git_sha1, *_blob_facts(entry))):
            if size is not None:
                agree("size", git_sha1, size, entry)
                if (size == 0) != (git_sha1 == _EMPTY_BLOB[0]):
                    raise CommitProofError(f"size: {entry.name} is not {size} bytes by its Git id")
            if sha256 is not None:
                agree("sha256", git_sha1, sha256, entry)
                agree("git_sha1", sha256, git_sha1, entry)
                if size is not None:
                    agree("size", sha256, size, entry)


def _sort_key(entry: TreeEntry) -> bytes:
    """Git sorts a directory as if its name ended in a slash."""
    return entry.name.encode() + (b"/" if entry.mode == DIRECTORY_MODE else b"")


def _check_pointer(entry: TreeEntry) -> tuple[int, str]:
    if entry.size is None or entry.sha256 is None:
        raise CommitProofError(f"lfs: {entry.name} states no size or digest")
    pointer = git_blob_id(lfs_pointer(entry.size, entry.sha256))
    if pointer != entry.git_sha1:
        raise CommitProofError(
            f"git_sha1: size and SHA-256 of {entry.name} give the LFS pointer {pointer}, not "
            f"{entry.git_sha1}"
        )
    return entry.size, entry.sha256


def _check_fields(commit: HubCommit) -> None:
    """Nothing in a header line may start another one."""
    for git_id in (commit.commit, commit.tree, *commit.parents):
        if not _GIT_ID.fullmatch(git_id):
            raise CommitProofError("commit, tree or parents: not a Git id")
    for name in ("author", "committer"):
        if not _PERSON.fullmatch(getattr(commit, name)):
            raise CommitProofError(f"{name}: not `name <address> seconds zone`")
    if len(commit.parents) > 64:
        raise CommitProofError("parents: too many")
    signature = commit.signature
    if signature is not None:
        if not signature or "\n " in signature or signature.endswith("\n\n"):
            raise CommitProofError("signature: not the text of an armored signature")
        if not commit.committer.startswith(_SYSTEM + " "):
            raise CommitProofError("committer: signed, and not by the Hub's system account")
    for name in ("author", "committer", "message", "signature"):
        value = getattr(commit, name)
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            raise CommitProofError(f"{name}: not encodable as UTF-8") from None


def _tree_body(entries: tuple[TreeEntry, ...]) -> bytes:
    """Git's tree object: mode without leading zeros, name, NUL, raw object id."""
    return b"".join(
        entry.mode.lstrip("0").encode()
        + b" "
        + entry.name.encode()
        + b"\0"
        + bytes.fromhex(entry.git_sha1)
        for entry in entries
    )


def _commit_body(commit: HubCommit, *, with_signature: bool) -> bytes:
    """Git's commit object; the signature is over the object without its `gpgsig` header."""
    lines = [f"tree {commit.tree}"]
    lines += [f"parent {parent}" for parent in commit.parents]
    lines += [f"author {commit.author}", f"committer {commit.committer}"]
    if with_signature and commit.signature is not None:
        # Continuation lines of a header start with a space.
        lines.append("gpgsig " + commit.signature.replace("\n", "\n "))
    return ("\n".join(lines) + "\n\n" + commit.message).encode()


def _object_id(kind: bytes, body: bytes) -> str:
    head = kind + b" " + str(len(body)).encode() + b"\0"
    return hashlib.sha1(head + body, usedforsecurity=False).hexdigest()
