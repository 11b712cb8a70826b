"""Asking a timestamp authority: real answers of OpenSSL over HTTP, and servers that misbehave."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tsa_server import Tsa, serving, stamping

from r1prov.errors import TimestampError, UsageError
from r1prov.trust import timestamp_client
from r1prov.trust.authorities import TimestampAuthority
from r1prov.trust.keys import encode_private_key
from r1prov.trust.states import TimestampState
from r1prov.trust.timestamp_client import fetch_timestamp
from r1prov.trust.timestamps import check_timestamp

SIGNATURE = b"the bytes of a signature"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root")
    middle = authority.issue("m", root, ca=True)
    signer = authority.issue("clock" * 9, middle, **stamping())
    return Tsa(tmp_path_factory.mktemp("tsa"), root, signer, [middle])


@pytest.fixture(scope="module")
def server(tsa: Tsa) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    with serving(tsa) as made:
        yield made


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def failure(url: str) -> TimestampError:
    with pytest.raises(TimestampError) as caught:
        fetch_timestamp(SIGNATURE, url)
    assert caught.value.exit_code == 4
    return caught.value


def test_a_timestamp_of_an_authority(tsa: Tsa, server: Any) -> None:
    url, seen = server
    seen.clear()
    stamps = {fetch_timestamp(SIGNATURE, f"{url}/tsr?account=secret") for _ in range(2)}
    assert len(stamps) == 2
    known = TimestampAuthority(
        root=tsa.root.certificate,
        issuers=tuple(one.certificate for one in tsa.issuers),
        file="tsa.pem",
        owner="time",
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
    )
    for stamp in stamps:
        checked = check_timestamp(stamp, SIGNATURE, [known], now=datetime.now(UTC))
        assert checked.state is TimestampState.GOOD
    # The authority learns a digest, and never the same number twice.
    assert len({query for _, query in seen}) == 2
    assert not any(SIGNATURE in query for _, query in seen)


def test_over_tls_the_server_must_be_trusted(
    tsa: Tsa, authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = authority.root("web root")
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    web = authority.issue(
        "web",
        root,
        email=None,
        purposes=(ExtendedKeyUsageOID.SERVER_AUTH,),
        extensions=[(address, False)],
    )
    (tmp_path / "web.key").write_bytes(encode_private_key(web.key, None))
    (tmp_path / "web.pem").write_bytes(web.pem)
    (tmp_path / "root.pem").write_bytes(root.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "web.pem", tmp_path / "web.key")
    with serving(tsa, context) as (url, seen):
        assert url.startswith("https:")
        assert "certificate verify failed" in failure(f"{url}/tsr").message.lower()
        assert not seen
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
        assert fetch_timestamp(SIGNATURE, f"{url}/tsr")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("stale", "nonce"),
        ("other", "other bytes"),
        ("chain", "DER"),
        ("refused", "is no timestamp"),
        ("rubbish", "is no timestamp"),
        ("status", "status 503"),
        ("moved", "status 302"),
        ("html", "text/html"),
        ("large", "larger than"),
        ("cut", "answer"),
    ],
)
def test_what_is_no_answer(server: Any, path: str, words: str) -> None:
    url, seen = server
    seen.clear()
    error = failure(f"{url}/{path}?key=secret")
    assert words in error.message
    assert f"{url}/{path}" in error.message
    assert "secret" not in error.message
    assert "\x1b" not in error.message
    assert len(seen) == 1


def test_a_server_that_is_never_done(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timestamp_client, "MAX_TIMESTAMP_SECONDS", 0.4)
    url, _ = server
    started = time.monotonic()
    assert "no timestamp from" in failure(f"{url}/slow").message
    assert time.monotonic() - started < 5


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timestamp_client, "_SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "silent" in failure(f"http://127.0.0.1:{port}/tsr").message
        # Nor during the handshake of TLS.
        assert "no timestamp from" in failure(f"https://127.0.0.1:{port}/tsr").message
    assert "refused" in failure(f"http://127.0.0.1:{port}/tsr").message


@pytest.mark.parametrize(
    "said", [b"", b"\xff\xfe\n\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n"]
)
def test_a_server_that_speaks_no_http(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        failure(f"http://127.0.0.1:{port}/tsr")
        thread.join()


def test_headers_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timestamp_client, "MAX_TIMESTAMP_SECONDS", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = threading.Event()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
                while not done.wait(0.05):
                    try:
                        connection.sendall(b"y")
                    except OSError:
                        return

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        started = time.monotonic()
        failure(f"http://127.0.0.1:{port}/tsr")
        assert time.monotonic() - started < 5
        done.set()
        thread.join()


def test_the_deadline_counts_while_addresses_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third address of a host answers, when the time for all of it is over."""
    monkeypatch.setattr(timestamp_client, "MAX_TIMESTAMP_SECONDS", 0.3)
    monkeypatch.setattr(timestamp_client, "_SILENCE_SECONDS", 0.3)
    with socket.socket() as full, socket.create_server(("127.0.0.1", 0)) as server:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # A queue that is full lets nobody in: connecting is silence.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        done = threading.Event()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                for _ in range(100):  # ten seconds of headers, were nobody to look at the clock
                    try:
                        connection.sendall(b"y")
                    except OSError:
                        return
                    if done.wait(0.1):
                        return

        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", one.getsockname())
            for one in (full, full, server)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        started = time.monotonic()
        failure("http://tsa.example.org/tsr")
        assert time.monotonic() - started < 5
        done.set()
        thread.join()
        for one in waiting:
            one.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tsa.example.org",
        "file:///etc/passwd",
        "ftp://tsa.example.org/",
        "http://",
        "http:///tsr",
        "http://tsa:port/tsr",
        "http://tsa.example.org/a b",
        "http://tsa.example.org/\r\nX: y",
        "http://tsa.example.org/\u6ee1",
        "http://[::1",
        "http://me:secret@tsa.example.org/tsr",
        "http://secret@tsa.example.org/tsr",
    ],
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        fetch_timestamp(SIGNATURE, url)
    assert "secret" not in caught.value.message
