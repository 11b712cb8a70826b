"""The listing of a Hub repository: pages of its tree API, read strictly."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from r1prov.errors import FormatError, LimitExceeded, Unreadable
from r1prov.formats.strictjson import parse_json
from r1prov.hashing.digest import Fence
from r1prov.limits import (
    MAX_HUB_PAGES,
    MAX_HUB_RESPONSE_BYTES,
    MAX_INT63,
    MAX_PATH_BYTES,
    MAX_STORE_DEPTH,
    MAX_STORE_ENTRIES,
)
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.hub_client import HubClient
from r1prov.text import quoted

_GIT_ID = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# RFC 8288, in the one form that the Hub and its mirrors send.
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?next"?')


def parse_object(raw: bytes, what: str, subject: str) -> dict[str, object]:
    """The JSON object of an answer.

    Raises:
        Unreadable: It is none.
    """
    value = _parse(raw, what, subject)
    if not isinstance(value, dict):
        raise Unreadable(f"{what} is no JSON object", subject=subject)
    return value


def list_tree(client: HubClient, repo: str, commit: str, subject: str) -> list[Entry]:
    """Every file of a commit, sorted by path: one request for each 1,000 files.

    Raises:
        LimitExceeded: More files than `MAX_STORE_ENTRIES`.
        StoreError: The listing cannot be fetched, or is none that can be trusted to be whole.
    """
    path = f"/api/models/{repo}/tree/{commit}"
    query: str | None = "recursive=true&expand=false"
    asked: set[str] = set()
    entries: dict[str, Entry] = {}
    while query is not None:
        if query in asked or len(asked) >= MAX_HUB_PAGES:
            raise Unreadable(f"{client.host} lists the repository without an end", subject=subject)
        asked.add(query)
        raw, headers = client.json_page(f"{path}?{query}", kind="tree", subject=subject)
        items = _parse(raw, "the listing", subject)
        if not isinstance(items, list):
            raise Unreadable("the listing is no JSON array", subject=subject)
        for item in items:
            entry = _entry(item, f"{client.endpoint}/{repo}@{commit}", subject)
            if entry is None:
                continue
            if entry.path in entries:
                raise Unreadable(f"the listing has {quoted(entry.path)} twice", subject=subject)
            entries[entry.path] = entry
            if len(entries) > MAX_STORE_ENTRIES:
                raise LimitExceeded(
                    f"holds more than {MAX_STORE_ENTRIES:,} entries", subject=subject
                )
        query = _next_query(headers)
    return sorted(entries.values(), key=lambda entry: entry.path.encode())


def _next_query(headers: Mapping[str, str]) -> str | None:
    """Query of the next page. A mirror may name the Hub's address, so only the query counts."""
    match = _NEXT.search(headers.get("link", ""))
    if match is None:
        return None
    try:
        # What is not printable ASCII is quoted: it becomes part of a request line.
        return quote(urlsplit(match[1]).query, safe="%=&+/:?@!$'()*,;-._~")
    except ValueError:
        return None


def _parse(raw: bytes, what: str, subject: str) -> object:
    try:
        return parse_json(raw, subject=subject, max_bytes=MAX_HUB_RESPONSE_BYTES)
    except FormatError as error:
        raise Unreadable(
            f"{what} is malformed: {error.message}",
            subject=subject,
            hint="is HF_ENDPOINT a Hub? A log-in page of a network looks like this too",
        ) from None


def _entry(item: object, origin: str, subject: str) -> Entry | None:
    if not isinstance(item, dict):
        raise Unreadable("an item of the listing is no JSON object", subject=subject)
    kind = item.get("type")
    path = _path(item.get("path"), subject)
    if kind == "directory":
        return None
    if kind != "file":
        return Entry(path, EntryKind.SPECIAL, detail=f"listed as {quoted(str(kind), limit=40)}")
    oid = item.get("oid")
    if not isinstance(oid, str) or not _GIT_ID.fullmatch(oid):
        raise Unreadable(f"the listing has no Git id for {quoted(path)}", subject=subject)
    size, lfs, sha256 = _size(item.get("size"), path, subject), item.get("lfs"), None
    if lfs is not None:
        if not isinstance(lfs, dict):
            raise Unreadable(f"the LFS entry of {quoted(path)} is malformed", subject=subject)
        # `oid` in the tree API, `sha256` in what `huggingface_hub` and some mirrors make of it.
        found = lfs.get("oid", lfs.get("sha256"))
        text = found.removeprefix("sha256:") if isinstance(found, str) else ""
        if not _SHA256.fullmatch(text):
            raise Unreadable(f"the listing has no SHA-256 for {quoted(path)}", subject=subject)
        sha256 = text
        if _size(lfs.get("size"), path, subject) != size:
            raise Unreadable(f"the listing has two sizes for {quoted(path)}", subject=subject)
    # Commits do not change: the fence says which content was listed.
    fence = Fence(_number(origin), _number(path), size, 0, _number(sha256 or oid))
    return Entry(
        path,
        EntryKind.FILE,
        size,
        fence=fence,
        stated_sha256=sha256,
        stated_git_blob=oid if sha256 is None else None,
    )


def _path(path: object, subject: str) -> str:
    """A path that can be part of an address; what else is wrong with it, the checks find."""
    if not isinstance(path, str) or not path:
        raise Unreadable("an item of the listing has no path", subject=subject)
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise Unreadable("the listing has a path that is no text", subject=subject) from None
    parts = path.split("/")
    if length > MAX_PATH_BYTES or len(parts) > MAX_STORE_DEPTH + 1:
        raise LimitExceeded("the listing has a path beyond all measure", subject=subject)
    if not {"", ".", ".."}.isdisjoint(parts) or "\0" in path:
        raise Unreadable(
            f"the listing has {quoted(path)}, which is no path of a file", subject=subject
        )
    return path


def _size(value: object, path: str, subject: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INT63:
        raise Unreadable(f"the listing has no size for {quoted(path)}", subject=subject)
    return value


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
