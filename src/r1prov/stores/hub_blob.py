"""One file of a Hub repository: ranges for headers, a stream with resume for hashing."""

from __future__ import annotations

import re
import threading
from types import TracebackType
from typing import Self
from urllib.parse import quote

from r1prov.errors import ChangedWhileReading, Unreadable
from r1prov.hashing.digest import Fence
from r1prov.limits import (
    REMOTE_FIRST_RANGE_BYTES,
    REMOTE_KEPT_BYTES,
    REMOTE_MAX_RANGE_BYTES,
    REMOTE_WHOLE_FILE_BYTES,
)
from r1prov.stores.base import Entry
from r1prov.stores.hub_client import HubClient, HubResponse
from r1prov.stores.hub_failures import Transient, refuse_encoding

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# A stream that got this far since it last broke is worth going on with, however often it breaks.
_PROGRESS_BYTES = 1024 * 1024


class KeptBytes:
    """Beginnings of files, so that a second look costs no request. A commit does not change.

    Holds at most `REMOTE_KEPT_BYTES`; what came first stays.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[str, bytes] = {}
        self._held = 0

    def get(self, path: str) -> bytes | None:
        """The kept beginning of a file."""
        with self._lock:
            return self._parts.get(path)

    def put(self, path: str, data: bytes) -> None:
        """Keep a beginning, if it is longer than what is kept and there is room."""
        with self._lock:
            held = self._held - len(self._parts.get(path, b"")) + len(data)
            if path in self._parts and len(self._parts[path]) >= len(data):
                return
            if held <= REMOTE_KEPT_BYTES:
                self._parts[path] = data
                self._held = held


class HubBlob:
    """A file of a commit. Nothing is requested before something is read.

    Args:
        client: Where to ask.
        base: Path on the endpoint of the commit's files.
        commit: The commit.
        entry: The file, as listed.
        kept: Where beginnings are kept.
    """

    def __init__(
        self, client: HubClient, base: str, commit: str, entry: Entry, kept: KeptBytes
    ) -> None:
        self._client = client
        self._url = f"{base}/{quote(entry.path)}"
        self._commit = commit
        self._entry = entry
        self._kept = kept
        self._stream: HubResponse | None = None
        self._pending = memoryview(b"")
        self._position = 0
        # Failures of the stream since it last got on well, and where the last one was.
        self._failures = self._reached = 0
        self._window: tuple[int, bytes] = (0, b"")
        self._closed = False
        self._validators: dict[str, str] = {}
        self._fence = entry.fence or Fence(0, 0, entry.size, 0, 0)
        self.size = entry.size

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer` with the next bytes; 0 at the end of the file."""
        self._refuse_closed()
        if self.size <= REMOTE_WHOLE_FILE_BYTES:
            data = self._whole()
            part = memoryview(data)[self._position : self._position + len(buffer)]
            buffer[: len(part)] = part
            self._position += len(part)
            return len(part)
        if not self._pending:
            self._pending = memoryview(self._next_part())
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Up to `length` bytes from `offset`; short only at the end of the file."""
        self._refuse_closed()
        if offset < 0:
            raise Unreadable("cannot be read: the offset is negative", subject=self._entry.path)
        end = min(offset + max(length, 0), self.size)
        if end <= offset:
            return b""
        for begin, data in ((0, self._kept.get(self._entry.path) or b""), self._window):
            if begin <= offset and end <= begin + len(data):
                return data[offset - begin : end - begin]
        # Of a small file all, of another one what was asked for and what will be asked for next.
        if self.size <= 2 * REMOTE_FIRST_RANGE_BYTES or (
            end - offset == self.size <= REMOTE_WHOLE_FILE_BYTES
        ):
            return self._whole()[offset:end]
        begin, data = self._window
        ahead = REMOTE_FIRST_RANGE_BYTES
        if data and offset == begin + len(data):
            ahead = min(2 * len(data), REMOTE_MAX_RANGE_BYTES)
        data = self._fetch("range", offset, min(max(end, offset + ahead), self.size))
        if offset == 0 and len(data) <= REMOTE_WHOLE_FILE_BYTES:
            self._kept.put(self._entry.path, data)
        self._window = (offset, data)
        return data[: end - offset]

    def fence(self) -> Fence:
        """What was listed: every answer is held against it, so reading cannot pass it by."""
        return self._fence

    def close(self) -> None:
        """Give the connection back. May be called twice."""
        self._closed = True
        self._window = (0, b"")
        self._pending = memoryview(b"")
        self._drop_stream()

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

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Unreadable("cannot be read: it was closed", subject=self._entry.path)

    def _whole(self) -> bytes:
        kept = self._kept.get(self._entry.path)
        if kept is not None and len(kept) == self.size:
            return kept
        if self._window[0] == 0 and len(self._window[1]) == self.size and self.size:
            return self._window[1]
        data = self._fetch("file", 0, self.size)
        self._kept.put(self._entry.path, data)
        # Should there be no room to keep it, this blob still needs it once only.
        self._window = (0, data)
        return data

    def _fetch(self, kind: str, begin: int, end: int) -> bytes:
        """The bytes of a range, going on where an answer broke off."""
        data = bytearray()

        def once() -> bytes:
            with self._open(kind, begin + len(data), end) as response:
                while begin + len(data) < end:
                    part = response.chunk()
                    if not part:
                        raise Transient(
                            f"the answer ended at byte {begin + len(data):,} of {end:,}"
                        )
                    room = end - begin - len(data)
                    # Of a whole file, not of a range that was ignored.
                    if kind == "file" and len(part) > room:
                        raise self._longer()
                    data.extend(part[:room])
                if kind == "file" and response.chunk():
                    raise self._longer()
            return bytes(data)

        return self._client.run(once, self._entry.path)

    def _next_part(self) -> bytes:
        """The next bytes of the stream; empty at the end of the file."""
        while True:
            try:
                part = self._part_at_position()
            except Transient as error:
                self._drop_stream()
                if self._position - self._reached >= _PROGRESS_BYTES:
                    self._failures = 0
                self._failures += 1
                self._reached = self._position
                self._client.pause(error, self._failures, self._entry.path)
            else:
                self._position += len(part)
                return part

    def _part_at_position(self) -> bytes:
        if self._stream is None:
            if self._position >= self.size:
                return b""
            self._stream = self._open("stream", self._position, self.size)
        part = self._stream.chunk()
        if self._position + len(part) > self.size:
            raise self._longer()
        if not part:
            self._drop_stream()
            if self._position < self.size:
                raise Transient(f"the answer ended at byte {self._position:,}")
        return part

    def _open(self, kind: str, begin: int, end: int) -> HubResponse:
        """An answer whose body goes on at `begin`."""
        headers = {}
        if begin > 0 or end < self.size:
            last = "" if end == self.size else str(end - 1)
            headers["range"] = f"bytes={begin}-{last}"
        subject = self._entry.path
        response = self._client.open(self._url, kind=kind, subject=subject, headers=headers)
        try:
            if response.status == 416:
                raise self._changed(f"it ends before byte {begin:,}")  # noqa: TRY301
            refuse_encoding(response.headers, response.host, subject)
            self._refuse_other_commit(response)
            if response.status == 206:
                self._check_range(response, begin)
            else:
                self._check_length(response)
                if headers:
                    self._client.traffic.count_ignored_range()
                    _skip(response, begin)
        except BaseException:
            response.close()
            raise
        return response

    def _check_range(self, response: HubResponse, begin: int) -> None:
        """RFC 9110 §14.4: which bytes came, and of how many."""
        given = response.headers.get("content-range", "")
        match = _RANGE.fullmatch(given)
        if match is None or int(match[1]) != begin:
            raise Unreadable(
                f"{response.host} answers with another range: expected one from byte {begin:,}, "
                f"found {given[:80] or 'none'}",
                subject=self._entry.path,
                hint="a broken mirror or proxy; try another endpoint",
            )
        if match[3] not in ("*", str(self.size)):
            raise self._other_size(int(match[3]))

    def _check_length(self, response: HubResponse) -> None:
        length = response.headers.get("content-length", "")
        if re.fullmatch(r"\d{1,19}", length) and int(length) != self.size:
            raise self._other_size(int(length))

    def _refuse_other_commit(self, response: HubResponse) -> None:
        """What the endpoint says of the file must be what it listed."""
        hub = response.hub_headers
        commit = hub.get("x-repo-commit", self._commit)
        if commit != self._commit:
            raise self._changed(f"the server answers for the commit {commit[:40]}")
        listed = self._entry.stated_sha256 or self._entry.stated_git_blob
        linked = _etag(hub.get("x-linked-etag", ""))
        # The plain ETag of a file under LFS or Xet is the CDN's own.
        given = linked or (
            _etag(hub.get("etag", "")) if self._entry.stated_sha256 is None else None
        )
        if given and listed and len(given) == len(listed) and given != listed:
            raise self._changed(f"the server has {given}, and its listing {listed}")
        size = hub.get("x-linked-size", "")
        if re.fullmatch(r"\d{1,19}", size) and int(size) != self.size:
            raise self._other_size(int(size))
        validator = response.headers.get("etag", "").removeprefix("W/")
        if validator and self._validators.setdefault(response.host, validator) != validator:
            raise self._changed("its ETag is another one than at the start")

    def _longer(self) -> ChangedWhileReading:
        return self._changed("the answer holds more bytes than were listed")

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _other_size(self, found: int) -> ChangedWhileReading:
        return self._changed(f"expected the {self.size:,} bytes of the listing, found {found:,}")

    def _changed(self, what: str) -> ChangedWhileReading:
        return ChangedWhileReading(
            f"what the server sends is not what it lists: {what}",
            subject=self._entry.path,
            hint="run again; if it stays, the server or a mirror in between is broken",
        )


def _skip(response: HubResponse, count: int) -> None:
    """Read past what a server sends that ignores ranges."""
    while count > 0:
        part = response.chunk()
        if not part:
            raise Transient("the answer ended before the range")
        count -= len(part)
        if count < 0:
            response.put_back(part[count:])


def _etag(value: str) -> str | None:
    """The digest in an ETag, if it is one (40 digits: Git blob id, 64: SHA-256)."""
    plain = value.removeprefix("W/").strip('"')
    return plain if _DIGEST.fullmatch(plain) else None
