"""Servers that stall, cut off, say too much or lie, and what streaming costs in memory."""

from __future__ import annotations

import hashlib
import itertools
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from r1prov.errors import ChangedWhileReading, StoreError, Unreadable
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_OBJECT_RANGES, OBJECT_PREFETCH_BYTES, OBJECT_RANGE_BYTES
from r1prov.stores.object_store import ObjectStore

MIB = 2**20
ZEROS = bytes(MIB)
MODIFIED = "Tue, 20 Jan 2026 10:00:00 GMT"


@dataclass
class Faults:
    """What the server does wrong, from the second range on; and what it was asked."""

    size: int = 64 * MIB
    fault: str = ""
    failures: int = 0
    ranges: list[tuple[int, int]] = field(default_factory=list)
    conditions: set[str] = field(default_factory=set)
    under_way: int = 0
    most_under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """One object of zeros, as S3 would answer; written here because no real server lies."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.head(200 if self.path.endswith("/m/w") else 404, 0)
        self.end_headers()

    def do_GET(self) -> None:
        faults: Faults = self.server.faults
        with faults.lock:
            faults.under_way += 1
            faults.most_under_way = max(faults.most_under_way, faults.under_way)
        try:
            if "list-type=2" in self.path:
                self.listing(faults)
            else:
                self.range(faults)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with faults.lock:
                faults.under_way -= 1

    def head(self, status: int, length: int, e_tag: str = '"tag"') -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Last-Modified", MODIFIED)
        if e_tag:
            self.send_header("ETag", e_tag)

    def listing(self, faults: Faults) -> None:
        if faults.fault == "html-listing":
            return self.body(200, b"<html>sign in to the network</html>")
        if faults.fault == "cut-listing":
            return self.body(200, b"<?xml version='1.0'?><ListBucketResult><Contents><Key>m/w")
        size = -5 if faults.fault == "negative-size" else faults.size
        return self.body(
            200,
            b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>m/w</Key>"
            b"<LastModified>2026-01-20T10:00:00.000Z</LastModified><ETag>&quot;tag&quot;</ETag>"
            b"<Size>%d</Size></Contents></ListBucketResult>" % size,
        )

    def body(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def range(self, faults: Faults) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert match
        start, end = int(match[1]), min(int(match[2]) + 1, faults.size)
        with faults.lock:
            faults.ranges.append((start, end))
            if self.headers["If-Match"]:
                faults.conditions.add(self.headers["If-Match"])
            fault = faults.fault if start else ""
            if fault in {"busy", "cut"}:
                faults.failures -= 1
                fault = fault if faults.failures >= 0 else ""
        if fault == "busy":
            return self.body(503, b"<Error><Code>SlowDown</Code></Error>")
        if fault == "whole":
            self.head(200, faults.size)
        else:
            length = {"endless": 2**40, "short": 1000}.get(fault, end - start)
            self.head(206, length, {"other-tag": '"new"', "no-tag": ""}.get(fault, '"tag"'))
            total = faults.size + 1 if fault == "other-size" else faults.size
            shift = 1 if fault == "shifted" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{end - 1 + shift}/{total}")
        self.end_headers()
        if fault == "endless":
            end = start + 2**40
        if fault == "stall":
            time.sleep(20)
        if fault in {"cut", "drip", "short"}:
            self.wfile.write(ZEROS[:1000])
            while fault == "drip":
                self.wfile.write(b"\0")
                time.sleep(0.1)
            self.close_connection = True
            return None
        while start < end:
            start += self.wfile.write(ZEROS[: min(MIB, end - start)])
        return None


@pytest.fixture
def faults(s3_environment) -> Iterator[Faults]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.faults = Faults()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    s3_environment(f"http://127.0.0.1:{server.server_address[1]}")
    yield server.faults  # type: ignore[attr-defined]
    server.shutdown()
    server.socket.close()


def hash_it(faults: Faults, *, timeout: float = 5, retries: int = 0) -> StoreError | str:
    store = ObjectStore("s3://bucket/m", timeout=timeout, retries=retries)
    result = hash_blobs(store.open, [HashJob("w", faults.size)])
    return result.errors.get("w") or result.digests["w"].sha256


def zeros_digest(size: int) -> str:
    total = hashlib.sha256()
    for _ in range(size // MIB):
        total.update(ZEROS)
    return total.hexdigest()


def test_ranges_are_concurrent_bounded_conditional_and_without_gaps(faults) -> None:
    assert hash_it(faults) == zeros_digest(faults.size)
    assert faults.conditions == {'"tag"'}
    assert 2 <= faults.most_under_way <= MAX_OBJECT_RANGES + 1
    edges = [0, *range(OBJECT_PREFETCH_BYTES, faults.size, OBJECT_RANGE_BYTES), faults.size]
    assert sorted(faults.ranges) == list(itertools.pairwise(edges))


@pytest.mark.parametrize("fault", ["busy", "cut"])
def test_what_failed_on_the_way_is_asked_for_again(faults, fault) -> None:
    faults.fault, faults.failures = fault, 2
    assert hash_it(faults, retries=3) == zeros_digest(faults.size)


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("busy", Unreadable, "answered with an error (SlowDown)"),
        ("cut", Unreadable, "cut off"),
        ("stall", Unreadable, "did not answer in time"),
        ("drip", Unreadable, "did not answer in time"),
        ("whole", Unreadable, "not what this protocol asks for"),
        ("shifted", Unreadable, "not what this protocol asks for"),
        ("endless", Unreadable, "sent more than"),
        ("short", Unreadable, "sent 1,000 of the"),
        ("other-tag", ChangedWhileReading, "another object"),
        ("no-tag", ChangedWhileReading, "another object"),
        ("other-size", ChangedWhileReading, "another object"),
    ],
)
def test_a_faulty_server_gets_an_error_and_never_a_digest(faults, fault, kind, message) -> None:
    faults.fault, faults.failures = fault, 10**6
    start = time.monotonic()
    error = hash_it(faults, timeout=1 if fault in {"stall", "drip"} else 5)
    assert time.monotonic() - start < 10
    assert isinstance(error, kind), error
    assert message in error.message
    assert error.subject == "w"


@pytest.mark.parametrize("fault", ["html-listing", "cut-listing", "negative-size"])
def test_a_faulty_listing_is_an_error(faults, fault) -> None:
    faults.fault = fault
    with pytest.raises(StoreError):
        ObjectStore("s3://bucket/m", timeout=2, retries=0).entries()


def test_an_endpoint_that_accepts_and_never_answers(s3_environment) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        s3_environment(f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = ObjectStore("s3://bucket/m", timeout=0.5, retries=1)
        for attempt in (store.entries, lambda: store.open("a")):
            start = time.monotonic()
            with pytest.raises(Unreadable, match="did not answer in time"):
                attempt()
            assert 0.5 <= time.monotonic() - start < 5


def test_waiting_ends_even_where_the_library_would_go_on(s3_environment, monkeypatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        s3_environment(f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = ObjectStore("s3://bucket/m", timeout=60)
        monkeypatch.setattr(store._client, "_patience", 0.2)
        with pytest.raises(Unreadable, match="did not answer in time"):
            store.open("a")


HASH_IN_CHILD = """
import resource, sys
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.stores.object_store import ObjectStore
store = ObjectStore("s3://bucket/m")
store.open("w").close()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("reading", flush=True)
result = hash_blobs(store.open, [HashJob("w", int(sys.argv[1]))])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(result.digests["w"].sha256, (after - before) * 1024)
"""


def test_streaming_a_gibibyte_takes_no_more_memory_than_its_ranges(faults) -> None:
    faults.size = 1024 * MIB
    done = subprocess.run(
        [sys.executable, "-c", HASH_IN_CHILD, str(faults.size)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    digest, grown = done.stdout.split()[1:]
    assert digest == zeros_digest(faults.size)
    # A range is held as chunks and, for a moment, joined; the chunks in the sockets come on top.
    assert int(grown) < 3 * MAX_OBJECT_RANGES * OBJECT_RANGE_BYTES


def test_an_interrupt_ends_the_process_at_once(faults) -> None:
    faults.fault = "stall"
    process = subprocess.Popen(
        [sys.executable, "-c", HASH_IN_CHILD, str(faults.size)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"reading\n"
    time.sleep(0.5)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=10)
    assert time.monotonic() - start < 5
    assert b"KeyboardInterrupt" in complaint
    assert process.returncode in {-signal.SIGINT, 1, 130}
