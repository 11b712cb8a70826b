"""The Git objects of a Hub commit, fetched over smart HTTP without the files.

`dulwich` negotiates (Git protocol version 2, `filter blob:none`, `deepen 1`); the pack itself is
read by `git_pack`, and nothing counts that does not hash to the id by which it was asked for.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from r1prov.errors import CommitUnavailable, R1ProvError
from r1prov.limits import MAX_GIT_PACK_BYTES, MAX_GIT_SECONDS, MAX_STORE_DEPTH, MAX_STORE_ENTRIES
from r1prov.stores.git_pack import read_pack

if TYPE_CHECKING:
    from r1prov.stores.hub import HubStore
    from r1prov.stores.traffic import Traffic

_TREE_LINE = re.compile(rb"tree ([0-9a-f]{40})\n")
# Mode, name, id (Git's tree object); modes as Git writes them, without leading zeros.
_TREE_ENTRY = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)
DIRECTORY_MODE = "040000"
_ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
# Negotiation: a few packets; the refs of a Hub repository, some 100 bytes each.
_BEYOND_PACK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RawCommit:
    """A commit as Git has it; each body hashes to its id.

    Attributes:
        commit: Commit id.
        body: The commit object.
        tree: Id of the root tree.
        trees: Body of the root tree and of every tree below it that the server sent, by id.
    """

    commit: str
    body: bytes
    tree: str
    trees: Mapping[str, bytes]

    def walk(self) -> Iterator[tuple[str, str, str]]:
        """Path, mode (six digits) and id of every entry, but of directories whose tree is known."""
        waiting = [(self.tree, "", 0)]
        seen = 0
        while waiting:
            tree, prefix, depth = waiting.pop()
            for mode, name, git_id in tree_entries(self.trees[tree]):
                seen += 1
                # The same tree may stand in a thousand places of another one that does so too.
                if seen > MAX_STORE_ENTRIES or depth > MAX_STORE_DEPTH:
                    raise CommitUnavailable("the commit has more files or directories than a model")
                if mode == DIRECTORY_MODE and git_id in self.trees:
                    waiting.append((git_id, f"{prefix}{name}/", depth + 1))
                else:
                    yield prefix + name, mode, git_id


def tree_entries(body: bytes) -> list[tuple[str, str, str]]:
    """Mode (six digits), name and id of the entries of a tree object, in its order.

    Raises:
        CommitUnavailable: It is no tree object.
    """
    entries = []
    position = 0
    while position < len(body):
        match = _TREE_ENTRY.match(body, position)
        if match is None or b"/" in match[2]:
            raise CommitUnavailable("a Git tree of the commit is malformed")
        name = match[2].decode("utf-8", "surrogateescape")
        entries.append((match[1].decode().zfill(6), name, match[3].hex()))
        position = match.end()
    return entries


def fetch_commit(store: HubStore) -> RawCommit:
    """Fetch commit and trees of a store's commit.

    Costs three requests (capabilities, refs, pack), counted as `git` in `store.traffic`.

    Raises:
        CommitUnavailable: Git is not reachable there, refuses, or sends what is not the commit.
    """
    try:
        raw = _fetch_pack(store)
    except R1ProvError as error:
        error.subject = error.subject or store.location
        raise
    try:
        return _select(read_pack(raw), store.commit)
    except CommitUnavailable as error:
        error.subject = store.location
        raise


def _select(objects: Mapping[str, tuple[str, bytes]], commit: str) -> RawCommit:
    kind, body = objects.get(commit, ("", b""))
    if kind != "commit":
        raise CommitUnavailable("the server's Git has not sent the commit that was asked for")
    line = _TREE_LINE.match(body)
    if line is None:
        raise CommitUnavailable("the commit names no tree")
    root = line[1].decode()
    trees: dict[str, bytes] = {}
    waiting = [root]
    while waiting:
        tree = waiting.pop()
        kind, found = objects.get(tree, ("", b""))
        if kind == "tree" and tree not in trees:
            trees[tree] = found
            waiting += [git_id for mode, _, git_id in tree_entries(found) if mode == DIRECTORY_MODE]
    if root not in trees:
        raise CommitUnavailable("the server's Git has not sent the root tree of the commit")
    return RawCommit(commit, body, root, trees)


def _fetch_pack(store: HubStore) -> bytes:
    try:
        from dulwich.client import Urllib3HttpGitClient, default_urllib3_manager
        from dulwich.object_store import ObjectStoreGraphWalker
        from dulwich.objects import ObjectID
    except ImportError:
        raise CommitUnavailable(
            "fetching the Git commit needs dulwich", hint="install r1prov[git]"
        ) from None
    # It warns of servers without filters; where nobody logs, Python would print that.
    logging.getLogger("dulwich").addHandler(logging.NullHandler())
    commit = ObjectID(store.commit.encode())
    base = f"{store.endpoint}/{store.repo}"
    pack = bytearray()

    def take(data: bytes) -> int:
        pack.extend(data)
        return len(data)

    bounded: _Bounded | None = None
    try:
        manager = default_urllib3_manager(
            None, base_url=base, timeout=store.client.patience.silence
        )
        bounded = _Bounded(manager, store.traffic)
        bearer = store.client.bearer
        client = Urllib3HttpGitClient(
            base,
            pool_manager=bounded,  # type: ignore[arg-type]
            username="r1prov" if bearer else None,
            password=bearer,
            thin_packs=False,
            quiet=True,
        )
        client.fetch_pack(
            base,
            lambda refs, depth=None: [commit],
            ObjectStoreGraphWalker([], lambda _: []),
            take,
            depth=1,
            ref_prefix=[b"HEAD"],
            filter_spec=b"blob:none",
        )
    except R1ProvError:
        raise
    except Exception as error:  # noqa: BLE001 - dulwich and urllib3 raise of every kind
        raise _unavailable(error, store) from None
    finally:
        if bounded is not None:
            bounded.close()
    return bytes(pack)


def _unavailable(error: Exception, store: HubStore) -> CommitUnavailable:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    host = store.client.host
    if "NotGitRepository" in kinds:
        what = f"{host} has no Git repository there"
    elif "HTTPUnauthorized" in kinds:
        what = f"{host} refuses access to the Git repository"
    elif "HangupException" in kinds:
        what = f"{host} broke off; it may not give out a commit that is no branch's last"
    else:
        # Kinds only: messages hold addresses, and what the server wrote.
        what = f"the Git commit cannot be fetched from {host} ({type(error).__name__})"
    return CommitUnavailable(
        what, hint="without it a manifest has no commit proof; everything else is the same"
    )


class _Bounded:
    """A urllib3 pool manager whose answers end: in bytes, in time, and at this host."""

    def __init__(self, manager: Any, traffic: Traffic) -> None:  # noqa: ANN401 - urllib3's
        self._manager = manager
        self._traffic = traffic
        self._deadline = time.monotonic() + MAX_GIT_SECONDS
        self._left = MAX_GIT_PACK_BYTES + _BEYOND_PACK
        self._answers: list[Any] = []
        self.headers: dict[str, str] = dict(manager.headers)

    def request(self, method: str, url: str, **options: Any) -> _BoundedResponse:  # noqa: ANN401
        self._traffic.count_request("git")
        # No redirect: the credentials are for this host, and so is the answer.
        response = self._manager.request(method, url, redirect=False, retries=False, **options)
        self._answers.append(response)
        kind = str(response.headers.get("Content-Type", ""))
        if "/info/refs" in url and response.status == 200 and kind != _ADVERTISEMENT:
            # Of anything else dulwich would take loose objects, one request each.
            raise CommitUnavailable("the server does not speak Git's smart HTTP")
        return _BoundedResponse(response, self._spend)

    def close(self) -> None:
        """Close every connection; dulwich leaves those of refused requests open."""
        for response in self._answers:
            response.close()
        self._manager.clear()

    def _spend(self, count: int) -> None:
        self._traffic.count_bytes("git", count)
        self._left -= count
        if self._left < 0:
            raise CommitUnavailable(
                f"the server's Git sends more than {MAX_GIT_PACK_BYTES:,} bytes",
                hint="it cannot leave out the files (uploadpack.allowFilter)",
            )
        if time.monotonic() > self._deadline:
            raise CommitUnavailable(
                f"the server's Git takes longer than {MAX_GIT_SECONDS:.0f} seconds"
            )


class _BoundedResponse:
    """What dulwich uses of a urllib3 response; it sets the last two attributes itself."""

    def __init__(self, response: Any, spend: Callable[[int], None]) -> None:  # noqa: ANN401
        self._response = response
        self._spend = spend
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.content_type: str | None = None
        self.redirect_location: str | None = None

    def geturl(self) -> str | None:
        url: str | None = self._response.geturl()
        return url

    def read(self, amount: int | None = None) -> bytes:
        limit = 65536 if amount is None else max(0, min(amount, 65536))
        data: bytes = self._response.read(limit)
        self._spend(len(data))
        return data

    def close(self) -> None:
        self._response.close()
