"""Downloads of `huggingface_hub` on disk: what they say of themselves, with no network.

Two layouts. The cache, `models--org--name/{blobs,refs,snapshots,trees}`, where a snapshot's files
are links into `blobs/` and a blob's name is its digest. And `--local-dir`, a plain directory with
`.cache/huggingface/{download/<path>.metadata,trees/<commit>.json}` in it. Which links of a
snapshot are followed, `stores.local` decides; here, none is.

All of this is what the Hub said at the time of the download, and whoever can write to the files
can write to these too. It finds damage, not malice.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from r1prov.errors import FormatError, LimitExceeded, NotFound, StoreError, Unreadable
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_DOWNLOAD_METADATA_BYTES, MAX_HUB_RESPONSE_BYTES, MAX_INT63
from r1prov.stores.base import Entry, EntryKind, read_small
from r1prov.stores.local import LocalStore
from r1prov.text import quoted

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# `repo_folder_name` of `huggingface_hub`; a repository's name has no `--`.
_PART = r"((?:(?!--)[A-Za-z0-9_.-])+)"
_FOLDER = re.compile(rf"models--{_PART}(?:--{_PART})?")
_SNAPSHOT = re.compile(r".*/(models--[^/]+)/snapshots/([^/]+)", re.DOTALL)
_DOWNLOAD = ".cache/huggingface/download/"
_METADATA = ".metadata"
# `write_download_metadata`: commit, ETag, seconds since 1970 as Python writes a float.
_RECORD = re.compile(
    rb"([0-9a-f]{40})\r?\n([!-~]{1,256})\r?\n(\d{1,12}(?:\.\d{1,9})?)\r?\n?", re.ASCII
)
_FORMAT_VERSION = 1

_Error = FormatError | StoreError | LimitExceeded


class Stated(NamedTuple):
    """What a download states of one file; nothing was hashed.

    Attributes:
        sha256: SHA-256 of a file under Git LFS.
        git_blob: Git blob id of any other file.
        size: Bytes, where that is stated.
    """

    sha256: str | None = None
    git_blob: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """What the path of a snapshot says.

    Attributes:
        repo: `org/name` on the Hub.
        commit: The commit.
        folder: The repository's folder in the cache.
    """

    repo: str
    commit: str
    folder: str


@dataclass(frozen=True, slots=True)
class DownloadFacts:
    """What a download says of itself.

    Attributes:
        repo: `org/name`, from the path of a cache; a `--local-dir` does not say.
        commits: Commits that files were taken from; more than one is a mixed download.
        stated: What is stated of each file, by path.
        errors: Records that are malformed, or contradict each other, by path.
        sources: What was read: `blobs`, `metadata`, `trees`.
    """

    repo: str | None
    commits: tuple[str, ...]
    stated: dict[str, Stated] = field(default_factory=dict)
    errors: dict[str, _Error] = field(default_factory=dict)
    sources: tuple[str, ...] = ()


def find_snapshot(path: str | os.PathLike[str], revision: str | None = None) -> str | None:
    """The snapshot to take, given the folder of a repository in the cache.

    Args:
        path: Perhaps a folder `models--org--name`.
        revision: A commit, or the name of a ref; by default `main`, else the only snapshot.

    Returns:
        Path of the snapshot, or None if `path` is no such folder.

    Raises:
        NotFound: The revision is not in the cache.
        Unreadable: There are several snapshots and none is `main`.
    """
    folder = os.path.realpath(path)
    if not _FOLDER.fullmatch(os.path.basename(folder)):
        return None
    snapshots = os.path.join(folder, "snapshots")
    try:
        # A snapshot is a directory; a link to one leads out of the cache or renames a commit.
        names = sorted(
            found.name for found in os.scandir(snapshots) if found.is_dir(follow_symlinks=False)
        )
    except OSError:
        return None
    commit = revision if revision in names else _ref(folder, revision or "main")
    if commit in names:
        return os.path.join(snapshots, commit)
    if revision is not None or not names:
        raise NotFound(
            f"the cache has no snapshot of {quoted(revision or 'main')}",
            subject=folder,
            hint=f"it has: {', '.join(names[:5]) or 'none'}",
        )
    if len(names) > 1:
        raise Unreadable(
            f"holds {len(names)} snapshots, and refs/main names none of them",
            subject=folder,
            hint=f"name one: {os.path.join(snapshots, names[0])}",
        )
    return os.path.join(snapshots, names[0])


def snapshot_facts(path: str | os.PathLike[str]) -> SnapshotFacts | None:
    """Repository and commit by the path of a snapshot; None if it is none."""
    match = _SNAPSHOT.fullmatch(os.path.realpath(path))
    if match is None or not _COMMIT.fullmatch(match[2]):
        return None
    name = _FOLDER.fullmatch(match[1])
    if name is None:
        return None
    folder = os.path.dirname(os.path.dirname(os.path.realpath(path)))
    return SnapshotFacts("/".join(filter(None, name.groups())), match[2], folder)


def download_facts(store: LocalStore) -> DownloadFacts | None:
    """Read what a download says of itself; None if it is no download of `huggingface_hub`.

    Raises:
        StoreError: The store cannot be listed.
        LimitExceeded: It is larger than any model.
    """
    snapshot = snapshot_facts(store.location)
    entries = store.entries()
    facts = _Collector()
    if snapshot is not None:
        _read_blob_names(entries, facts)
        facts.commits.add(snapshot.commit)
        try:
            beside = LocalStore(snapshot.folder)
        except StoreError as error:
            facts.errors[snapshot.folder] = error
        else:
            _read_trees(beside, f"trees/{snapshot.commit}.json", facts)
    else:
        _read_metadata(store, entries, facts)
        for commit in sorted(facts.commits):
            _read_trees(store, f".cache/huggingface/trees/{commit}.json", facts)
    if not facts.sources and not facts.errors:
        return None
    return DownloadFacts(
        repo=snapshot.repo if snapshot else None,
        commits=tuple(sorted(facts.commits)),
        stated=facts.stated,
        errors=facts.errors,
        sources=tuple(sorted(facts.sources)),
    )


def state_entries(entries: Iterable[Entry], facts: DownloadFacts) -> list[Entry]:
    """The entries with what the download states of them."""
    stated = []
    for entry in entries:
        fact = facts.stated.get(entry.path)
        if fact is None or entry.kind is not EntryKind.FILE:
            stated.append(entry)
        else:
            stated.append(replace(entry, stated_sha256=fact.sha256, stated_git_blob=fact.git_blob))
    return stated


class _Collector:
    """Facts as they come in; two sources of one file must agree."""

    def __init__(self) -> None:
        self.stated: dict[str, Stated] = {}
        self.errors: dict[str, _Error] = {}
        self.commits: set[str] = set()
        self.sources: set[str] = set()
        self.commit_of: dict[str, str] = {}

    def add(self, path: str, new: Stated, source: str) -> None:
        self.sources.add(source)
        known = self.stated.setdefault(path, new)
        merged = []
        for one, other in zip(known, new, strict=True):
            if None not in (one, other) and one != other:
                self.errors[path] = Unreadable(
                    f"the records of the download contradict each other: {one} and {other}",
                    subject=path,
                    hint="download it again",
                )
                return
            merged.append(one if one is not None else other)
        sha256, git_blob, size = merged
        self.stated[path] = Stated(
            sha256 if isinstance(sha256, str) else None,
            git_blob if isinstance(git_blob, str) else None,
            size if isinstance(size, int) else None,
        )


def _read_blob_names(entries: Iterable[Entry], facts: _Collector) -> None:
    for entry in entries:
        name = entry.detail.removeprefix("blobs/")
        if entry.kind is EntryKind.FILE and name != entry.detail:
            facts.add(entry.path, _by_etag(name), "blobs")


def _by_etag(etag: str) -> Stated:
    """The Hub's ETags: 64 digits are a SHA-256, 40 a Git blob id; others say nothing of content."""
    if _SHA256.fullmatch(etag):
        return Stated(sha256=etag)
    return Stated(git_blob=etag if _COMMIT.fullmatch(etag) else None)


def _read_metadata(store: LocalStore, entries: Iterable[Entry], facts: _Collector) -> None:
    for entry in entries:
        path = entry.path.removeprefix(_DOWNLOAD)
        if path == entry.path or not path.endswith(_METADATA):
            continue
        path = path.removesuffix(_METADATA)
        try:
            raw = read_small(store, entry.path, MAX_DOWNLOAD_METADATA_BYTES)
        except (StoreError, LimitExceeded) as error:
            facts.errors[entry.path] = error
            continue
        match = _RECORD.fullmatch(raw)
        if match is None:
            facts.errors[entry.path] = Unreadable(
                "is no record of a download: expected commit, ETag and time on three lines",
                subject=entry.path,
                hint="download the file again, or remove the record",
            )
            continue
        commit = match[1].decode()
        facts.commits.add(commit)
        facts.commit_of[path] = commit
        facts.add(path, _by_etag(match[2].decode()), "metadata")


def _read_trees(store: LocalStore, name: str, facts: _Collector) -> None:
    """A listing of the Hub as `_tree_cache` of `huggingface_hub` keeps it."""
    try:
        raw = read_small(store, name, MAX_HUB_RESPONSE_BYTES)
    except NotFound:
        return
    except (StoreError, LimitExceeded) as error:
        facts.errors[name] = error
        return
    try:
        listing = _parse_trees(raw, name)
    except (FormatError, StoreError) as error:
        facts.errors[name] = error
        return
    commit = os.path.basename(name).removesuffix(".json")
    for path, stated in listing.items():
        # In a mixed download each commit speaks of its own files only.
        if facts.commit_of.get(path, commit) == commit:
            facts.add(path, stated, "trees")


def _parse_trees(raw: bytes, name: str) -> dict[str, Stated]:
    value = parse_json(raw, subject=name, max_bytes=MAX_HUB_RESPONSE_BYTES)
    files = value.get("files") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("format_version") != _FORMAT_VERSION:
        raise Unreadable(
            f"is no listing of format {_FORMAT_VERSION}",
            subject=name,
            hint="written by another version of huggingface_hub; remove it",
        )
    if not isinstance(files, dict):
        raise Unreadable("is a listing without files", subject=name)
    return {path: _stated(path, item, name) for path, item in files.items()}


def _stated(path: str, item: object, name: str) -> Stated:
    members = item if isinstance(item, dict) else {}
    size, oid, sha256 = members.get("size"), members.get("blob_id"), members.get("lfs_sha256")
    fine = (
        type(size) is int
        and 0 <= size <= MAX_INT63
        and isinstance(oid, str)
        and _COMMIT.fullmatch(oid)
        and (sha256 is None or (isinstance(sha256, str) and _SHA256.fullmatch(sha256)))
        and (sha256 is None or members.get("lfs_size") == size)
    )
    if not fine:
        raise Unreadable(f"states {quoted(path)} in a malformed way", subject=name)
    if sha256 is not None:
        return Stated(sha256=sha256, size=size)
    return Stated(git_blob=oid, size=size)


def _ref(folder: str, name: str) -> str:
    """What a ref of the cache holds; empty if there is none that can be read."""
    try:
        raw = read_small(LocalStore(folder), f"refs/{name}", MAX_DOWNLOAD_METADATA_BYTES)
    except (StoreError, LimitExceeded):
        return ""
    text = raw.decode("ascii", "replace").strip()
    return text if _COMMIT.fullmatch(text) else ""
