"""Servers that speak no HTTP, or speak it without end: none is waited for, and each is named."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest
from told_server import serving

from r1prov.endpoints import client as client_module
from r1prov.endpoints.chat import ChatRequest
from r1prov.endpoints.client import Client
from r1prov.endpoints.wire import Manners
from r1prov.responses.log import ExchangeLog, Fsync
from r1prov.responses.log_check import check_log

KEY = "sk-0123456789abcdef0123"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextlib.contextmanager
def raw(speak):
    """A TCP server that takes a request and says what `speak` writes."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    seen: list[bytes] = []

    def serve(peer):
        with peer, contextlib.suppress(OSError):
            seen.append(peer.recv(65536))
            speak(peer, over)
            peer.shutdown(socket.SHUT_WR)
            over.wait(0.2)

    def listen():
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", seen
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def says(*pieces):
    def speak(peer, _):
        for one in pieces:
            peer.sendall(one)

    return speak


def again_and_again(begin, piece, pause=0.01):
    def speak(peer, over):
        peer.sendall(begin)
        while not over.wait(pause):
            peer.sendall(piece)

    return speak


def silent(_, over):
    over.wait(20)


def ask(url, log, *, stream=True, **manners):
    chosen = Manners(**{"timeout": 0.4, "retries": 0, "concurrency": 1, **manners})
    with Client(url, model="m", key=KEY, log=log, manners=chosen) as asked:
        return asked.ask(ChatRequest(prompt="x", max_tokens=5, stream=stream))


@pytest.fixture
def log(tmp_path):
    return ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)


NAMED = {
    "a header that never ends": (
        again_and_again(b"HTTP/1.1 200 OK\r\nX: ", b"a"), "took too long as a whole"),
    "an endless row of 100 Continue": (
        again_and_again(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "took too long as a whole"),
    "comments without end": (
        again_and_again(STREAM, b"3\r\n:\n\n\r\n"), "too long"),
    "silence": (silent, "silent for 0.4 s"),
    "a header of megabytes": (
        again_and_again(b"HTTP/1.1 200 OK\r\n", b"X: " + b"a" * 9000 + b"\r\n", 0.0),
        "too long"),
    "no HTTP": (says(b"SSH-2.0-OpenSSH\r\n"), "cannot reach"),
    "a length below zero": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhi"), "Content-Length"),
    "less than was said": (
        says(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}"), "peer closed"),
    "no chunk": (says(STREAM + b"ZZ\r\n"), "chunk"),
    "a status of its own": (
        says(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), "cannot be kept"),
    "the key, within a header that is none": (
        says(b"HTTP/1.1 200 OK\r\n" + KEY.encode() + b"\r\n\r\n"), "[API key]"),
}  # fmt: skip


@pytest.mark.parametrize("what", NAMED)
def test_every_server_is_named_and_none_is_waited_for(log, monkeypatch, what):
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.8)
    speak, named = NAMED[what]
    with raw(speak) as (url, _):
        start = time.monotonic()
        reply = ask(url, log)
        assert time.monotonic() - start < 5
    assert not reply.usable
    assert named in reply.problem
    assert KEY not in repr(reply)
    assert check_log(log.path).problem is None if log.path.exists() else True


def test_an_answer_without_end_is_not_asked_for_again(log, monkeypatch):
    monkeypatch.setattr(client_module, "ANSWER_SECONDS", 0.5)
    speak, _ = NAMED["comments without end"]
    with raw(speak) as (url, seen):
        assert not ask(url, log, retries=2).usable
    assert len(seen) == 1


def test_a_redirection_takes_no_key_elsewhere(log):
    with raw(says(b"")) as (elsewhere, seen):
        to = f"HTTP/1.1 307 X\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n".encode()
        with raw(says(to)) as (url, asked):
            reply = ask(url, log)
    assert "is not followed" in reply.problem
    assert KEY.encode() in asked[0]
    assert seen == []


def test_an_answer_of_single_bytes_takes_little_memory(log, monkeypatch):
    """Arrivals are kept of so many pieces and no more."""
    monkeypatch.setattr(client_module, "MAX_ARRIVALS", 1_000)
    tracemalloc.start()
    try:
        with raw(says(STREAM + b"1\r\n:\r\n" * 30_000 + b"0\r\n\r\n")) as (url, _):
            reply = ask(url, log, timeout=20)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert reply.exchange is not None
    assert len(reply.exchange.response.body) == 30_000


@pytest.mark.parametrize("concurrency", ["1", "4"])
def test_an_interrupted_run_waits_for_no_silent_server(tmp_path, concurrency):
    with serving("stall") as told:
        command = [sys.executable, "-m", "r1prov", "endpoint", "audit", told.url, "--model", "m"]
        options = ["--concurrency", concurrency, "--yes"]
        with subprocess.Popen([*command, *options], cwd=tmp_path, stderr=subprocess.PIPE) as run:
            while not told.seen:
                assert run.poll() is None
                time.sleep(0.01)
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=10)
    assert (run.returncode, b"Traceback" in err) == (130, False)
