"""A model in a repository of the Hugging Face Hub, read where it is."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from urllib.parse import quote

from r1prov.errors import NotFound, Unreadable, UsageError
from r1prov.limits import REMOTE_HEADER_WORKERS
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.hub_blob import HubBlob, KeptBytes
from r1prov.stores.hub_client import HubClient, Patience
from r1prov.stores.hub_tree import list_tree, parse_object
from r1prov.stores.traffic import Traffic
from r1prov.text import quoted

SCHEME = "hf://"
DEFAULT_ENDPOINT = "https://huggingface.co"
DEFAULT_REVISION = "main"

_COMMIT = re.compile(r"[0-9a-f]{40}")
# `org/name`, or `name` of the oldest models (`huggingface_hub.utils.validate_repo_id`).
_REPO = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,95})(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,95})?")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")


@dataclass(frozen=True, slots=True)
class HubLocation:
    """Where a model is on the Hub.

    Attributes:
        repo: `org/name`.
        revision: Branch, tag or commit.
    """

    repo: str
    revision: str = DEFAULT_REVISION


def parse_hub_location(location: str) -> HubLocation:
    """Read `hf://org/name` or `hf://org/name@revision`.

    Raises:
        UsageError: It is of another form.
    """
    repo, at, revision = location.removeprefix(SCHEME).partition("@")
    hint = "write hf://org/name@revision, such as hf://deepseek-ai/DeepSeek-R1@main"
    if not location.startswith(SCHEME):
        raise UsageError(f"{quoted(location)} does not begin with {SCHEME}", hint=hint)
    if repo.startswith(("datasets/", "spaces/")):
        raise UsageError(f"{quoted(location)} is not a model", hint=hint)
    if not _is_repo(repo):
        raise UsageError(f"{quoted(repo)} is not the name of a repository", hint=hint)
    if at and not _is_revision(revision):
        raise UsageError(f"{quoted(revision)} is not a revision", hint=hint)
    return HubLocation(repo, revision or DEFAULT_REVISION)


class HubStore:
    """One commit of a model repository on the Hub, or on a mirror that speaks its API.

    The revision is resolved once, here; every later request names the commit. Requests: one for
    the revision (none if it is a commit already), one for the listing (one more for each further
    1,000 files), one range for the header of a weight file, one for each small file. Where the
    server sends a file from a CDN, a redirect comes on top of each.

    Args:
        repo: `org/name`.
        revision: Branch, tag or commit.
        endpoint: Such as `https://huggingface.co`; by default the environment's `HF_ENDPOINT`.
        token: By default what `huggingface_hub` finds: `HF_TOKEN`, else the token file. Empty
            for none. Over plain HTTP it is sent to this machine only.
        patience: How long to wait for what.

    Attributes:
        commit: The commit, 40 hex digits.
        hub_name: What the server calls the repository; another name than `repo` if it was renamed
            or moved.
        traffic: What it cost so far.
        header_workers: How many headers to read at once.

    Raises:
        UsageError: A name, the endpoint or the token is none.
        NotFound: There is no such repository or revision.
        Unreadable: No answer, or access is refused.
    """

    header_workers = REMOTE_HEADER_WORKERS

    def __init__(
        self,
        repo: str,
        revision: str = DEFAULT_REVISION,
        *,
        endpoint: str | None = None,
        token: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        if not _is_repo(repo):
            raise UsageError(f"{quoted(repo)} is not the name of a repository")
        if not _is_revision(revision):
            raise UsageError(f"{quoted(revision)} is not a revision")
        endpoint = endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT
        self.repo = repo
        self.revision = revision
        self.name = repo.rpartition("/")[2]
        self.traffic = Traffic()
        self.client = HubClient(endpoint, token, patience or Patience(), self.traffic)
        self.endpoint = self.client.endpoint
        self.hub_name = repo
        self.commit = revision
        if not _COMMIT.fullmatch(revision):
            self.commit = self._resolve()
        self.location = f"{SCHEME}{repo}@{self.commit}"
        self._kept = KeptBytes()
        self._lock = threading.Lock()
        self._listing: dict[str, Entry] | None = None

    def entries(self) -> list[Entry]:
        """Every file of the commit, sorted by path, with the digests that the Hub states.

        Listed once: a commit does not change.

        Raises:
            LimitExceeded: More entries than `MAX_STORE_ENTRIES`.
            StoreError: The listing cannot be fetched or is malformed.
        """
        return list(self._listed().values())

    def open(self, path: str) -> HubBlob:
        """Open a file of the commit; nothing is requested before it is read.

        Raises:
            NotFound: The commit has no such file.
            Unreadable: It is listed as something other than a file.
        """
        entry = self._listed().get(path)
        if entry is None:
            raise NotFound("no such file in the commit", subject=path)
        if entry.kind is not EntryKind.FILE:
            raise Unreadable(f"is no regular file: {entry.detail}", subject=path)
        base = f"/{self.repo}/resolve/{self.commit}"
        return HubBlob(self.client, base, self.commit, entry, self._kept)

    def _listed(self) -> dict[str, Entry]:
        with self._lock:
            if self._listing is None:
                entries = list_tree(self.client, self.repo, self.commit, self.location)
                self._listing = {entry.path: entry for entry in entries}
            return self._listing

    def _resolve(self) -> str:
        subject = f"{SCHEME}{self.repo}@{self.revision}"
        path = f"/api/models/{self.repo}/revision/{quote(self.revision, safe='')}"
        raw, _ = self.client.json_page(path, kind="revision", subject=subject)
        answer = parse_object(raw, "the answer about the revision", subject)
        commit, name = answer.get("sha"), answer.get("id")
        if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
            raise Unreadable(
                f"{self.client.host} names no commit for the revision", subject=subject
            )
        if isinstance(name, str) and _is_repo(name):
            self.hub_name = name
        return commit


def _is_repo(name: str) -> bool:
    return _REPO.fullmatch(name) is not None and ".." not in name


def _is_revision(name: str) -> bool:
    parts = name.split("/")
    return _REVISION.fullmatch(name) is not None and {"", ".", ".."}.isdisjoint(parts)
