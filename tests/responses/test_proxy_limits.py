"""What the proxy bounds: requests, answers that are held, clients that take nothing, receipts."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import proxy_process
import pytest
import scripted_upstream
from proxy_process import ask, field, judged, with_receipt

from r1prov.errors import UsageError
from r1prov.manifest.shelf import load_shelf, resolve_manifest
from r1prov.responses.proxy import ProxySettings, SigningProxy
from r1prov.responses.proxy_server import make_server
from r1prov.responses.proxy_site import Receipts, make_site, published_key
from r1prov.responses.proxy_upstream import Upstream, base_url
from r1prov.responses.report import State

SETTINGS = ProxySettings(
    checkpoint_seconds=0.05, client_seconds=0.5, max_request_bytes=1000, max_held_bytes=500
)


@pytest.fixture(scope="module")
def upstream():
    with scripted_upstream.running() as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    key = proxy_process.make_key(tmp_path_factory.mktemp("key") / "k")
    published = published_key(key.read_bytes(), None, subject="k")
    return make_site([published], resolve_manifest(load_shelf(), "DeepSeek-R1"), None)


@contextmanager
def running(proxy):
    """The proxy behind real sockets, in a thread of this process; yields its URL."""
    listening = threading.Event()
    address = []

    def started(sockets):
        address.append(sockets[0].getsockname()[1])
        listening.set()

    server = make_server(proxy, host="127.0.0.1", port=0, grace=0, started=started)
    thread = threading.Thread(target=server.run)
    thread.start()
    assert listening.wait(20)
    try:
        yield f"http://127.0.0.1:{address[0]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def said():
    """What the proxy says."""
    return []


@pytest.fixture(scope="module")
def base(upstream, site, said):
    behind = Upstream(upstream.url, silence=5)
    with running(SigningProxy(behind, site, SETTINGS, say=said.append)) as url:
        yield url


@pytest.fixture(scope="module")
def client(base):
    with httpx.Client(base_url=base, timeout=20) as connected:
        yield connected


@pytest.fixture(scope="module")
def keys(client, base):
    return proxy_process.trusted(client, base)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_that_is_too_large_is_refused(client, upstream, chunked):
    before = len(upstream.seen)
    content = (b"x" * 600 for _ in range(2)) if chunked else b"x" * 1001
    answer = client.post("/v1/x", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"
    assert "signature" not in answer.headers
    assert len(upstream.seen) == before
    assert client.post("/v1/x", content=b"x" * 1000).status_code == 200


def test_an_upstream_that_frames_wrongly_is_not_waited_for(client, upstream, said):
    upstream.step.clear()
    with client.stream("POST", "/v1/bad-chunk", content=b"") as response:
        pieces = response.iter_raw()
        got = next(pieces)
        upstream.step.set()
        try:
            for piece in pieces:
                got += piece
        except httpx.RemoteProtocolError:
            said.append("broken")
    assert said[-2:] == ["upstream_cut: the upstream's answer broke off", "broken"]
    assert got.endswith(b"\n\n")  # between events, so it ends with a statement


def test_requests_are_bounded_together_too(upstream, site):
    settings = ProxySettings(max_requests_bytes=1000)
    with (
        running(SigningProxy(Upstream(upstream.url, silence=5), site, settings)) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        for _ in range(3):  # what is done with counts no more
            assert client.post("/v1/x", content=b"x" * 900).status_code == 200
        with client.stream("POST", "/v1/endless", content=b"x" * 900) as response:
            pieces = response.iter_raw()
            next(pieces)
            refused = httpx.post(f"{url}/v1/x", content=b"x" * 900)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        upstream.hung_up.wait(10)


def test_a_request_that_does_not_arrive_is_given_up(base):
    host, _, port = base.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_takes_nothing_is_let_go(base, upstream):
    host, _, port = base.removeprefix("http://").rpartition(":")
    upstream.hung_up.clear()
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/flood HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert upstream.hung_up.wait(15)


def test_a_long_answer_passes_and_is_signed_in_a_receipt(client, keys):
    exchange = ask(client, "/v1/huge")
    assert exchange.response.body == scripted_upstream.HUGE
    assert judged(with_receipt(client, exchange), keys).state is State.VERIFIED
    assert field(ask(client, "/v1/chat/completions"), "r1prov-stream") is None


def test_a_stream_has_statements_as_it_goes(client, upstream, keys):
    upstream.step.clear()
    got = b""
    with client.stream("POST", "/v1/steps", content=b"") as response:
        pieces = response.iter_raw()
        for event in (*scripted_upstream.EVENTS, scripted_upstream.DONE):
            time.sleep(0.06)  # longer than from one statement to the next
            upstream.step.set()
            while event not in got:
                got += next(pieces)
    assert got.count(b": r1prov-signature ") >= 4


def test_no_statements_between_if_none_are_wanted(upstream, site):
    settings = ProxySettings(checkpoint_seconds=0)
    with (
        running(SigningProxy(Upstream(upstream.url, silence=5), site, settings)) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        exchange = ask(client, "/v1/stream")
    assert exchange.response.body.count(b": r1prov-signature ") == 2


def test_an_upstream_that_is_not_there_is_said_to_be_unreachable(site):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    application = SigningProxy(Upstream(f"http://127.0.0.1:{port}", silence=5), site)
    with running(application) as url, httpx.Client(base_url=url, timeout=20) as client:
        exchange = ask(client, "/v1/x")
        served = proxy_process.trusted(client, url)
    assert exchange.response.status == 502
    assert b"upstream_unreachable" in exchange.response.body
    assert judged(exchange, served).state is State.VERIFIED


def test_receipts_are_kept_for_a_time_and_up_to_a_number():
    now = [0.0]
    receipts = Receipts(most=2, seconds=10, clock=lambda: now[0])
    path = "/.well-known/r1prov/receipts/"
    for name in "abc":
        receipts.keep(name, f"statement {name}")
    assert len(receipts) == 2
    assert receipts.find(path + "a") is None
    assert receipts.find(path + "c") == b"statement c"
    now[0] = 10.0
    assert receipts.find(path + "c") is None
    receipts.keep("d", "statement d")
    assert len(receipts) == 1


@pytest.mark.parametrize("url", ["", "x", "file:///x", "http://", "http://h/?q", "http://h/#f"])
def test_an_upstream_is_a_plain_url(url):
    with pytest.raises(UsageError):
        base_url(url)
    assert base_url("https://h:1/base/") == "https://h:1/base"


def test_paths_go_behind_the_base_of_the_upstream(upstream, site):
    application = SigningProxy(Upstream(f"{upstream.url}/base/", silence=5), site)
    with running(application) as url:
        assert httpx.get(f"{url}/v1/x?y", timeout=20).json()["target"] == "/base/v1/x?y"


def test_a_websocket_is_closed(site, upstream):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError

    application = SigningProxy(Upstream(upstream.url, silence=5), site)
    asyncio.run(application({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.close"}]


def test_the_manifest_it_names_is_the_one_it_serves(client):
    manifest = client.get("/.well-known/r1prov/manifest").content
    exchange = ask(client, "/v1/stream")
    said = exchange.response.body.split()[2].decode()
    from r1prov.responses.stream_statement import decode_statement

    statement = decode_statement(said).statement
    assert statement.manifest_sha256 == hashlib.sha256(manifest).hexdigest()
