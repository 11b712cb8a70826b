"""What of a model a verification looks at, kept so that it can look again without the model.

`record_model` reads what the checks read, headers, configs and first bytes, and writes it down with
the listing and the digests. `recorded.RecordedStore` is a store that has only that: the very same
checks run on it. What was not kept cannot be read, and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Final, Self

from r1prov.errors import ChangedWhileReading, Unreadable
from r1prov.hashing.digest import Fence, Readable
from r1prov.limits import MAX_EVIDENCE_FILE_BYTES
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import Role
from r1prov.stores.base import Entry, EntryKind, Store, read_small
from r1prov.verify.evidence import gather

if TYPE_CHECKING:
    from types import TracebackType

    from r1prov.verify.findings import Report

SCHEMA: Final = "r1prov/recorded-model/1"
FOLDER: Final = "model/"
LISTING: Final = FOLDER + "files.json"


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
