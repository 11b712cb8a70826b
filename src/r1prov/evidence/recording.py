"""What of a model a verification looks at, kept so that it can look again without the model.

`record_model` reads what the checks read, headers, configs and first bytes, and writes it down with
the listing and the digests. `RecordedStore` is a store that has only that: the very same checks run
on it. What was not kept cannot be read, and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self

from r1prov.errors import ChangedWhileReading, EvidenceError, JsonError, NotFound, Unreadable
from r1prov.formats.strictjson import parse_json
from r1prov.hashing.digest import Fence, Readable
from r1prov.limits import (
    MAX_EVIDENCE_FILE_BYTES,
    MAX_EVIDENCE_INDEX_BYTES,
    MAX_EVIDENCE_MEMBERS,
    MAX_INT63,
)
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import Role
from r1prov.stores.base import Entry, EntryKind, Store, read_small
from r1prov.verify.evidence import gather

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from r1prov.verify.findings import Report

SCHEMA: Final = "r1prov/recorded-model/1"
FOLDER: Final = "model/"
LISTING: Final = FOLDER + "files.json"
_KEYS: Final = {
    *("path", "path_hex", "kind", "size", "detail", "other_device"),
    *("sha256", "how", "content", "ranges"),
}
_HOW: Final = ("read", "cached", "stated")
_NO_FENCE: Final = Fence(0, 0, 0, 0, 0)


class _Ranges:
    """Byte ranges of one file that were read, without overlap."""

    def __init__(self) -> None:
        self._parts: dict[int, bytes] = {}

    def add(self, offset: int, data: bytes) -> None:
        if len(data) > len(self._parts.get(offset, b"")):
            self._parts[offset] = data

    def merged(self) -> list[tuple[int, bytes]]:
        """In order, with what touches joined."""
        found: list[tuple[int, bytearray]] = []
        for offset, data in sorted(self._parts.items()):
            if found and offset <= found[-1][0] + len(found[-1][1]):
                start, joined = found[-1]
                joined += data[max(0, start + len(joined) - offset) :]
            else:
                found.append((offset, bytearray(data)))
        return [(offset, bytes(data)) for offset, data in found if data]


class _Listening:
    """A blob that notes what is read of it."""

    def __init__(self, blob: Readable, ranges: _Ranges) -> None:
        self._blob = blob
        self._ranges = ranges
        self.size = blob.size

    def readinto(self, buffer: memoryview, /) -> int:
        raise Unreadable("is not hashed while it is recorded")

    def read_at(self, offset: int, length: int, /) -> bytes:
        data = self._blob.read_at(offset, length)
        self._ranges.add(offset, data)
        return data

    def fence(self) -> Fence:
        return self._blob.fence()

    def close(self) -> None:
        self._blob.close()

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


class _Recorder:
    """A store that notes what is read of its blobs."""

    # As of a remote store: gaps between the tensors of a GGUF file are not read.
    traffic = None

    def __init__(self, store: Store) -> None:
        self._store = store
        self.name, self.location = store.name, store.location
        self.listed: list[Entry] = []
        self.ranges: dict[str, _Ranges] = {}

    def entries(self) -> list[Entry]:
        self.listed = self._store.entries()
        return self.listed

    def open(self, path: str) -> Readable:
        return _Listening(self._store.open(path), self.ranges.setdefault(path, _Ranges()))


def record_model(store: Store, report: Report, *, whole_files: bool = False) -> dict[str, bytes]:
    """Write down what the checks look at.

    Args:
        store: The model.
        report: What a verification of it found; its digests are recorded.
        whole_files: Keep files other than weights whole, up to `MAX_EVIDENCE_FILE_BYTES`.

    Returns:
        Members, by name below the payload folder.

    Raises:
        StoreError: The model cannot be read.
        ChangedWhileReading: It changed meanwhile.
    """
    recorder = _Recorder(store)
    gather(recorder)
    listed = recorder.listed
    for entry in listed:
        small = entry.kind is EntryKind.FILE and entry.size <= MAX_EVIDENCE_FILE_BYTES
        if whole_files and small and role_of(entry.path) is not Role.WEIGHTS:
            read_small(recorder, entry.path, MAX_EVIDENCE_FILE_BYTES)
    after = store.entries()
    if after != listed or any(a.fence != b.fence for a, b in zip(after, listed, strict=True)):
        raise ChangedWhileReading(
            "the model changed while it was recorded",
            subject=store.location,
            hint="stop whatever writes to it, and run again",
        )
    members: dict[str, bytes] = {}
    values = []
    for number, entry in enumerate(listed):
        value: dict[str, object] = {
            **_named(entry.path),
            "kind": entry.kind.value,
            "size": entry.size,
            "detail": entry.detail.encode("utf-8", "backslashreplace").decode(),
            "other_device": entry.other_device,
        }
        digest = report.digests.get(entry.path)
        if digest is not None:
            second_hand = "stated" if entry.path in report.stated else "read"
            how = "cached" if entry.path in report.cached else second_hand
            value |= {"sha256": digest, "how": how}
        ranges = recorder.ranges[entry.path].merged() if entry.path in recorder.ranges else []
        if ranges:
            name = f"{FOLDER}{number:05d}.bin"
            members[name] = b"".join(data for _, data in ranges)
            value |= {"content": name, "ranges": [[at, len(data)] for at, data in ranges]}
            _hold_to(entry, ranges, digest)
        values.append(value)
    top = {"schema": SCHEMA, "name": _clean(store.name), "entries": values}
    members[LISTING] = (json.dumps(top, indent=1, sort_keys=True) + "\n").encode()
    return members


def _hold_to(entry: Entry, ranges: list[tuple[int, bytes]], digest: str | None) -> None:
    """What was kept of a file whole must be what was hashed."""
    whole = len(ranges) == 1 and len(ranges[0][1]) == entry.size
    if whole and digest not in (None, hashlib.sha256(ranges[0][1]).hexdigest()):
        raise ChangedWhileReading("changed since it was hashed", subject=entry.path)


def _named(path: str) -> dict[str, object]:
    try:
        path.encode()
    except UnicodeEncodeError:
        return {"path_hex": os.fsencode(path).hex()}
    return {"path": path}


def _clean(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


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
        second_hand: Whether the maker did not read some file itself: it took a digest from a cache
            (`cached`) or believed its store (`stated`).
    """

    stated_by = "the signer of the evidence"
    traffic = None

    def __init__(
        self,
        name: str,
        location: str,
        entries: list[Entry],
        digests: dict[str, str],
        second_hand: frozenset[str],
        parts: dict[str, list[tuple[int, bytes]]],
    ) -> None:
        self.name, self.location = name, location
        self.digests, self.second_hand = digests, second_hand
        self._parts = parts
        self._entries = entries
        self._files = {one.path: one for one in entries if one.kind is EntryKind.FILE}

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
    second_hand = set()
    parts: dict[str, list[tuple[int, bytes]]] = {}
    for value in listed:
        entry, how = _entry(value, where)
        if entries and entries[-1].path >= entry.path:
            raise EvidenceError(f"entries are not in order at {entry.path!r}", subject=where)
        digest = entry.stated_sha256
        if digest is not None:
            digests[entry.path] = digest
            if how != "read":
                second_hand.add(how)
        kept = _content(value, entry, members, where)
        if kept:
            parts[entry.path] = kept
        if (kept and len(kept[0][1]) == entry.size) or not entry.size:
            content = kept[0][1] if kept else b""
            if digest not in (None, hashlib.sha256(content).hexdigest()):
                raise EvidenceError(
                    f"what is kept of {entry.path!r} has another SHA-256 than is stated of it",
                    subject=where,
                )
            # Kept whole: it is hashed again.
            entry = replace(entry, stated_sha256=None)
        entries.append(entry)
    return RecordedStore(top["name"], subject, entries, digests, frozenset(second_hand), parts)


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
    digest, how = value.get("sha256"), value.get("how", "read")
    if digest is not None and (
        not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef")
    ):
        raise EvidenceError(f"`sha256` of {path!r} is not 64 hexadecimal digits", subject=where)
    if not isinstance(how, str) or how not in _HOW:
        raise EvidenceError(f"`how` of {path!r} is none of {', '.join(_HOW)}", subject=where)
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
        raise EvidenceError(f"the content of {entry.path!r} is not there", subject=where)
    kept = []
    at = reached = 0
    for one in ranges:
        if (
            not isinstance(one, list)
            or len(one) != 2
            or any(type(number) is not int for number in one)
            or one[0] < reached
            or one[1] <= 0
            or one[0] + one[1] > entry.size
        ):
            raise EvidenceError(f"ranges of {entry.path!r} are not in order", subject=where)
        kept.append((one[0], data[at : at + one[1]]))
        at += one[1]
        reached = one[0] + one[1]
    if at != len(data):
        raise EvidenceError(f"ranges of {entry.path!r} are not its content", subject=where)
    return kept
