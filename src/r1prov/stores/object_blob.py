"""One object of an object store, read by ranges."""

from __future__ import annotations

import concurrent.futures
import hashlib
import threading
from collections import deque
from types import TracebackType
from typing import Self

from r1prov.errors import StoreError
from r1prov.hashing.digest import Fence
from r1prov.limits import MAX_OBJECT_RANGES, OBJECT_PREFETCH_BYTES, OBJECT_RANGE_BYTES
from r1prov.stores.object_client import ObjectClient, Part, Stamp


class ReadAhead:
    """How many ranges each of a store's streams may have under way; shared by all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams = 0

    def enter(self) -> None:
        """A stream begins."""
        with self._lock:
            self._streams += 1

    def leave(self) -> None:
        """A stream ends."""
        with self._lock:
            self._streams -= 1

    def share(self) -> int:
        """The number for one stream, at least one."""
        return max(1, MAX_OBJECT_RANGES // max(1, self._streams))


class ObjectBlob:
    """An object, held to the state it had when it was opened.

    Opening it is one request, which brings its first `OBJECT_PREFETCH_BYTES` along. Every later
    range is asked for on the condition that the entity tag is the same, and what the answer says
    about the object is compared as well, for servers that ignore conditions.

    Raises:
        NotFound: There is no such object.
        StoreError: It cannot be read.
    """

    def __init__(self, client: ObjectClient, key: str, path: str, ahead: ReadAhead) -> None:
        self._client = client
        self._key = key
        self._path = path
        self._ahead = ahead
        first = client.open(key, OBJECT_PREFETCH_BYTES, path)
        self._stamp = first.stamp
        self._first = first.data
        self.size = first.stamp.size
        # The stream: what `readinto` gives next, and the ranges behind it.
        self._part = memoryview(first.data)
        self._asked = len(first.data)
        self._under_way: deque[concurrent.futures.Future[Part]] = deque()
        self._streaming = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of `buffer` with the next bytes; 0 at the end of the object."""
        if not self._streaming:
            self._streaming = True
            self._ahead.enter()
        self._ask()
        if not self._part:
            if not self._under_way:
                return 0
            self._part = memoryview(self._wait(self._under_way.popleft()))
            self._ask()
        count = min(len(buffer), len(self._part))
        buffer[:count] = self._part[:count]
        self._part = self._part[count:]
        return count

    def read_at(self, offset: int, length: int, /) -> bytes:
        """Up to `length` bytes from `offset`; short only at the end of the object."""
        end = min(offset + length, self.size)
        parts = [self._first[offset:end]]
        start = max(offset, min(len(self._first), end))
        while start < end:
            stop = min(start + OBJECT_RANGE_BYTES, end)
            parts.append(self._wait(self._client.start_read(self._key, start, stop, self._stamp)))
            start = stop
        return b"".join(parts)

    def fence(self) -> Fence:
        """The state that every byte read so far belongs to.

        No request is made: a range of another state is never given out, so that what a later look
        could tell is only what happened after the reading.
        """
        return fence(self._stamp)

    def close(self) -> None:
        """Give up what is under way. May be called twice."""
        if self._streaming:
            self._streaming = False
            self._ahead.leave()
        while self._under_way:
            self._under_way.popleft().cancel()
        self._part = memoryview(b"")
        self._asked = self.size

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

    def _ask(self) -> None:
        """Keep as many ranges under way as this stream may have."""
        while self._asked < self.size and len(self._under_way) < self._ahead.share():
            stop = min(self._asked + OBJECT_RANGE_BYTES, self.size)
            self._under_way.append(
                self._client.start_read(self._key, self._asked, stop, self._stamp)
            )
            self._asked = stop

    def _wait(self, future: concurrent.futures.Future[Part]) -> bytes:
        try:
            return self._client.wait(future, self._path).data
        except StoreError:
            self.close()
            raise


def fence(stamp: Stamp) -> Fence:
    """What a store says about an object, as a fence: the entity tag stands where an inode would."""
    tag = int.from_bytes(hashlib.sha256(stamp.e_tag.encode()).digest()[:8], "big")
    time = stamp.modified * 10**9
    return Fence(device=0, inode=tag, size=stamp.size, mtime_ns=time, ctime_ns=time)
