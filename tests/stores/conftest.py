"""Object stores on loopback: real servers from packages, started in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that accepts connections."""

    endpoint: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        # Its whole group: the `node` of a wheel is a script that starts the real one.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True, slots=True)
class S3:
    """An S3 server and Amazon's own client for it."""

    server: Server
    client: Any


StartServer = Callable[..., Server]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def start_server(tmp_path_factory) -> Iterator[StartServer]:
    """Start a server; `{port}` in its arguments is the port, and all are stopped at the end."""
    started: list[Server] = []

    def start(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Server:
        port = free_port()
        directory = tmp_path_factory.mktemp("server")
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [argument.format(port=port) for argument in argv],
                cwd=directory,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = Server(f"http://127.0.0.1:{port}", process)
        started.append(server)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{argv[0]} did not start: {(directory / 'log').read_text()}")
                time.sleep(0.05)
            else:
                return server

    yield start
    for server in started:
        server.kill()


def start_moto(start_server: StartServer, **environment: str) -> S3:
    import boto3
    from botocore.config import Config

    moto = Path(sys.executable).with_name("moto_server")
    server = start_server([str(moto), "-H", "127.0.0.1", "-p", "{port}"], environment)
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
        config=Config(proxies={}),
    )
    return S3(server, client)


@pytest.fixture(scope="session")
def s3_server(start_server) -> S3:
    return start_moto(start_server)


@pytest.fixture
def start_s3(start_server) -> Callable[..., S3]:
    """Starts another S3 server, for tests that break it."""
    return lambda **environment: start_moto(start_server, **environment)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials of whoever runs the tests, and no metadata service of their machine."""
    for name in os.environ:
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_", "AZURITE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    dead = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", dead)
    monkeypatch.setenv("AZURE_MSI_ENDPOINT", dead)
    return monkeypatch


@pytest.fixture
def s3_environment(clean_environment) -> Callable[[str], None]:
    """Points the environment at an S3 endpoint, with credentials that it takes."""

    def point(endpoint: str) -> None:
        clean_environment.setenv("AWS_ENDPOINT_URL", endpoint)
        clean_environment.setenv("AWS_ACCESS_KEY_ID", "test")
        clean_environment.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-no-message-shows")

    return point
