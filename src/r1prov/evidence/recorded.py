"""A recorded model, read back: a store that has only what was kept."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from r1prov.errors import EvidenceError, JsonError, NotFound, Unreadable
from r1prov.evidence.recording import LISTING, SCHEMA
from r1prov.formats.strictjson import parse_json
from r1prov.hashing.digest import Fence, Readable
from r1prov.limits import MAX_EVIDENCE_INDEX_BYTES, MAX_EVIDENCE_MEMBERS, MAX_INT63
from r1prov.stores.base import Entry, EntryKind
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_KEYS: Final = {
    *("path", "path_hex", "kind", "size", "detail", "other_device"),
    *("sha256", "how", "content", "ranges"),
}
_HOW: Final = ("read", "cached", "stated")
_NO_FENCE: Final = Fence(0, 0, 0, 0, 0)


class _Blob:
    """What is kept of one file."""

    def __init__(self, path: str, size: int, parts: list[tuple[int, bytes]]) -> None:
        self.size = size
        self._path = path
        self._parts = parts
        self._at = 0

    def readinto(self, buffer: memoryview, /) -> int:
        data = self.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def read_at(self, offset: int, length: int, /) -> bytes:
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        for start, data in self._parts:
            if start <= offset and end <= start + len(data):
                return data[offset - start : end - start]
        raise Unreadable("these bytes are not in the evidence", subject=self._path)

    def fence(self) -> Fence:
        return _NO_FENCE

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()


class RecordedStore:
    """A model as a bundle has it.

    Attributes:
        name: What the model's store was called.
        location: Which bundle it is in.
        digests: Path to SHA-256 of every file whose digest was known.
        how: Path to how its maker knew a digest: `read`, from a cache (`cached`), or believing its
            store (`stated`).
    """

    stated_by = "the signer of the evidence"
    traffic = None

    def __init__(
        self,
        name: str,
        location: str,
        entries: list[Entry],
        digests: dict[str, str],
        how: dict[str, str],
        parts: dict[str, list[tuple[int, bytes]]],
    ) -> None:
        self.name, self.location = name, location
        self.digests, self.how = digests, how
        self._parts = parts
        self._entries = entries
        self._files = {one.path: one for one in entries if one.kind is EntryKind.FILE}

    @property
    def second_hand(self) -> frozenset[str]:
        """How digests are known that the maker did not compute: `cached`, `stated`."""
        return frozenset(self.how.values()) - {"read"}

    def entries(self) -> list[Entry]:
        """Everything that was listed."""
        return list(self._entries)

    def open(self, path: str) -> Readable:
        """What is kept of a file.

        Raises:
            NotFound: There was no such file.
            Unreadable: Nothing of it is kept.
        """
        entry = self._files.get(path)
        if entry is None:
            raise NotFound("is not in the evidence", subject=path)
        if path not in self._parts and entry.size:
            raise Unreadable("its content is not in the evidence", subject=path)
        return _Blob(path, entry.size, self._parts.get(path, []))


def read_recording(members: Mapping[str, bytes], *, subject: str) -> RecordedStore:
    """Read back what `record_model` wrote.

    Args:
        members: The members below the payload folder.
        subject: The bundle, for messages.

    Raises:
        EvidenceError: It is malformed, or content kept whole has not the digest stated of it.
    """
    where = f"{subject}, {LISTING}"
    try:
        top = parse_json(members[LISTING], subject=where, max_bytes=MAX_EVIDENCE_INDEX_BYTES)
    except JsonError as error:
        raise EvidenceError(error.message, subject=where, hint=error.hint) from None
    if not isinstance(top, dict) or set(top) != {"schema", "name", "entries"}:
        raise EvidenceError("is not an object of `schema`, `name` and `entries`", subject=where)
    listed = top["entries"]
    if top["schema"] != SCHEMA or not isinstance(top["name"], str) or not isinstance(listed, list):
        raise EvidenceError(f"is not of the schema {SCHEMA}", subject=where)
    entries: list[Entry] = []
    digests: dict[str, str] = {}
    known: dict[str, str] = {}
    parts: dict[str, list[tuple[int, bytes]]] = {}
    unused = set(members) - {LISTING}
    for value in listed:
        entry, how = _entry(value, where)
        if entries and entries[-1].path >= entry.path:
            raise EvidenceError(f"entries are not in order at {quoted(entry.path)}", subject=where)
        digest = entry.stated_sha256
        if digest is not None:
            digests[entry.path] = digest
            known[entry.path] = how
        kept = _content(value, entry, members, where)
        if kept:
            parts[entry.path] = kept
            unused.discard(str(value["content"]))
        if (kept and len(kept[0][1]) == entry.size) or not entry.size:
            content = kept[0][1] if kept else b""
            if digest not in (None, hashlib.sha256(content).hexdigest()):
                raise EvidenceError(
                    f"what is kept of {quoted(entry.path)} has another SHA-256 than is stated "
                    "of it",
                    subject=where,
                )
            # Kept whole: it is hashed again.
            entry = replace(entry, stated_sha256=None)
        entries.append(entry)
    if unused:
        raise EvidenceError(f"no entry has the content {quoted(min(unused))}", subject=where)
    return RecordedStore(top["name"], subject, entries, digests, known, parts)


def _entry(value: object, where: str) -> tuple[Entry, str]:
    if not isinstance(value, dict) or not set(value) <= _KEYS:
        raise EvidenceError("an entry is not an object of the known members", subject=where)
    path, as_hex = value.get("path"), value.get("path_hex")
    if isinstance(as_hex, str) and path is None:
        try:
            path = os.fsdecode(bytes.fromhex(as_hex))
        except ValueError:
            raise EvidenceError("`path_hex` is not hexadecimal", subject=where) from None
    kinds = {kind.value: kind for kind in EntryKind}
    kind, size = value.get("kind"), value.get("size")
    detail, other = value.get("detail"), value.get("other_device")
    if (
        not isinstance(path, str)
        or not path
        or not isinstance(kind, str)
        or kind not in kinds
        or type(size) is not int
        or not 0 <= size <= MAX_INT63
        or not isinstance(detail, str)
        or not isinstance(other, bool)
    ):
        raise EvidenceError("an entry lacks a member, or has one of another type", subject=where)
    digest = value.get("sha256")
    how = value.get("how") if digest is not None else "read"
    if digest is not None and (
        not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef")
    ):
        raise EvidenceError(
            f"`sha256` of {quoted(path)} is not 64 hexadecimal digits", subject=where
        )
    if not isinstance(how, str) or how not in _HOW:
        raise EvidenceError(f"`how` of {quoted(path)} is none of {', '.join(_HOW)}", subject=where)
    held = digest is not None or size or value.get("content") is not None
    if held and kinds[kind] is not EntryKind.FILE:
        raise EvidenceError(f"{quoted(path)} is no file, and has content", subject=where)
    made = Entry(path, kinds[kind], size, detail, other, stated_sha256=digest)
    return made, how


def _content(
    value: dict[str, object], entry: Entry, members: Mapping[str, bytes], where: str
) -> list[tuple[int, bytes]]:
    name, ranges = value.get("content"), value.get("ranges", [])
    if name is None:
        return []
    data = members.get(name) if isinstance(name, str) else None
    if data is None or not isinstance(ranges, list) or len(ranges) > MAX_EVIDENCE_MEMBERS:
        raise EvidenceError(f"the content of {quoted(entry.path)} is not there", subject=where)
    kept: list[tuple[int, bytes]] = []
    at = reached = 0
    for one in ranges:
        if (
            not isinstance(one, list)
            or len(one) != 2
            or any(type(number) is not int for number in one)
            or one[0] < reached
            or (kept and one[0] == reached)  # what touches is one range, so that it is hashed
            or one[1] <= 0
            or one[0] + one[1] > entry.size
        ):
            raise EvidenceError(f"ranges of {quoted(entry.path)} are not in order", subject=where)
        kept.append((one[0], data[at : at + one[1]]))
        at += one[1]
        reached = one[0] + one[1]
    if at != len(data):
        raise EvidenceError(f"ranges of {quoted(entry.path)} are not its content", subject=where)
    return kept
