"""A Git commit of the Hugging Face Hub, as a manifest or a JSON file carries it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import CommitProofError, FormatError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_INT63, MAX_MANIFEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

_GIT_ID = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# `org/name`, for datasets and the like with a prefix, for the oldest models without the `org/`.
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,2}")
_COMMIT_KEYS = frozenset(
    {
        "hub_repo",
        "commit",
        "tree",
        "parents",
        "author",
        "committer",
        "message",
        "signature",
        "entries",
    }
)
_ENTRY_KEYS = frozenset({"mode", "name", "git_sha1"})
_OPTIONAL_ENTRY_KEYS = frozenset({"size", "sha256", "lfs_size", "lfs_sha256"})


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of the commit's tree.

    Attributes:
        mode: Git mode, six digits.
        name: One path component.
        git_sha1: Id of the blob or tree. For a file under Git LFS, of its pointer.
        size: Bytes of the file, if known.
        sha256: SHA-256 of the file, if known. For a file under Git LFS the pointer binds it.
        lfs: Whether the file is under Git LFS.
    """

    mode: str
    name: str
    git_sha1: str
    size: int | None = None
    sha256: str | None = None
    lfs: bool = False


@dataclass(frozen=True, slots=True)
class HubCommit:
    """A commit with all fields from which its id can be recomputed.

    Attributes:
        repo: Repository on the Hub. Git does not bind it.
        commit: Commit id.
        tree: Id of the root tree.
        parents: Parent commit ids.
        author: Name, address, time and zone, as in the commit object.
        committer: The same of the committer.
        message: The message, byte for byte.
        signature: Armored OpenPGP signature, if the commit has one.
        entries: The root tree, in Git's order.
    """

    repo: str
    commit: str
    tree: str
    parents: tuple[str, ...]
    author: str
    committer: str
    message: str
    signature: str | None
    entries: tuple[TreeEntry, ...]


def parse_hub_commit_json(raw: bytes, *, subject: str) -> HubCommit:
    """Read a commit from JSON.

    Raises:
        CommitProofError: Malformed; the message names the field.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_MANIFEST_BYTES)
    except FormatError as error:
        raise CommitProofError(error.message, subject=subject) from None
    if not isinstance(value, dict):
        raise CommitProofError("not a JSON object", subject=subject)
    _keys(value, _COMMIT_KEYS, frozenset(), "commit")
    parents, entries = value["parents"], value["entries"]
    if not isinstance(parents, list) or not isinstance(entries, list):
        raise CommitProofError("parents or entries is not a list")
    signature, repo = value["signature"], _text(value["hub_repo"], "hub_repo")
    if not _REPO.fullmatch(repo):
        raise CommitProofError("hub_repo is not the name of a repository")
    return HubCommit(
        repo=repo,
        commit=_hex(value["commit"], "commit", _GIT_ID),
        tree=_hex(value["tree"], "tree", _GIT_ID),
        parents=tuple(_hex(parent, "parents", _GIT_ID) for parent in parents),
        author=_text(value["author"], "author"),
        committer=_text(value["committer"], "committer"),
        message=_text(value["message"], "message"),
        signature=None if signature is None else _text(signature, "signature"),
        entries=tuple(_entry(entry) for entry in entries),
    )


def _entry(value: object) -> TreeEntry:
    if not isinstance(value, dict):
        raise CommitProofError("an entry is not an object")
    _keys(value, _ENTRY_KEYS, _OPTIONAL_ENTRY_KEYS, "entry")
    lfs = "lfs_sha256" in value or "lfs_size" in value
    names = ("lfs_size", "lfs_sha256") if lfs else ("size", "sha256")
    if lfs and (not value.keys() >= set(names) or value.keys() & {"size", "sha256"}):
        raise CommitProofError("an LFS entry has lfs_size and lfs_sha256, and no size or sha256")
    size, sha256 = value.get(names[0]), value.get(names[1])
    if names[0] in value and (type(size) is not int or not 0 <= size <= MAX_INT63):
        raise CommitProofError(f"{names[0]} is not a size in bytes")
    return TreeEntry(
        mode=_text(value["mode"], "mode"),
        name=_text(value["name"], "name"),
        git_sha1=_hex(value["git_sha1"], "git_sha1", _GIT_ID),
        size=size if isinstance(size, int) else None,
        sha256=_hex(sha256, names[1], _SHA256) if names[1] in value else None,
        lfs=lfs,
    )


def _keys(
    value: dict[str, object], needed: Iterable[str], optional: frozenset[str], what: str
) -> None:
    missing = sorted(set(needed) - value.keys())
    unknown = sorted(value.keys() - set(needed) - optional)
    if missing:
        raise CommitProofError(f"{what}: {missing[0]} is missing")
    if unknown:
        raise CommitProofError(f"{what}: unknown field {unknown[0]}")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise CommitProofError(f"{name} is not a string")
    return value


def _hex(value: object, name: str, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise CommitProofError(f"{name} is not an id in lower-case hex")
    return value
