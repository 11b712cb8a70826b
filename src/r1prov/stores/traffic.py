"""What a remote store cost: requests and bytes, by kind."""

from __future__ import annotations

import threading
from collections import Counter

from r1prov.text import human_bytes, plural


class Traffic:
    """Counts requests and the bytes of their bodies; safe to use from several threads.

    A kind names what a request was for: `revision`, `tree`, `range`, `file`, `stream`, `redirect`
    (each hop to another address), `git`. Requests that failed and were made again count too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        self._ignored = 0

    def count_request(self, kind: str) -> None:
        """One more request of a kind."""
        with self._lock:
            self._requests[kind] += 1

    def count_bytes(self, kind: str, count: int) -> None:
        """So many more bytes of bodies of a kind."""
        with self._lock:
            self._bytes[kind] += count

    def count_ignored_range(self) -> None:
        """One more answer that was a whole file where a range was asked for."""
        with self._lock:
            self._ignored += 1

    @property
    def requests(self) -> dict[str, int]:
        """Requests by kind."""
        with self._lock:
            return dict(self._requests)

    @property
    def bytes(self) -> dict[str, int]:
        """Bytes of response bodies by kind, as they came over the wire."""
        with self._lock:
            return dict(self._bytes)

    @property
    def ignored_ranges(self) -> int:
        """Answers that were a whole file where a range was asked for."""
        return self._ignored

    @property
    def total_requests(self) -> int:
        """All requests."""
        return sum(self.requests.values())

    @property
    def total_bytes(self) -> int:
        """All bytes of response bodies."""
        return sum(self.bytes.values())

    def summary(self) -> str:
        """One line, such as `165 requests, 21.4 MB (1 revision, 1 tree, 163 range)`."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.requests.items()))
        line = f"{plural(self.total_requests, 'request')}, {human_bytes(self.total_bytes)}"
        return f"{line} ({kinds})" if kinds else line
