"""The proxy from its start to its end: what it stands for, its keys, TLS, signals."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime

import httpx
import proxy_process
import pytest
import scripted_upstream
from proxy_process import BODY, ask, field, judged

from r1prov.cli.app import run
from r1prov.responses.report import State

MODEL = "my-model"


@pytest.fixture(scope="module")
def upstream():
    with scripted_upstream.running() as server:
        yield server


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return proxy_process.make_key(tmp_path_factory.mktemp("key") / "answers.key")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model with a signed manifest and the trust store for it."""
    folder = tmp_path_factory.mktemp("model")
    weights = folder / "weights"
    weights.mkdir()
    empty = b'{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    empty += b" " * (-len(empty) % 8)
    content = len(empty).to_bytes(8, "little") + empty + b"\0" * 8
    (weights / "model.safetensors").write_bytes(content)
    (weights / "config.json").write_text('{"model_type": "tiny"}')
    publisher = proxy_process.make_key(folder / "publisher.key")
    manifest, keys = folder / "m.toml", folder / "keys"
    for command in (
        ["key", "add", f"{publisher}.pub", "--owner", "me", "--model", MODEL, "--keys", str(keys)],
        ["manifest", "create", str(weights), "--name", MODEL, "--output", str(manifest)],
        ["manifest", "sign", str(manifest), "--key", str(publisher)],
    ):
        assert run(command) == 0
    return weights, manifest, keys


def connected(running, **how):
    return httpx.Client(base_url=running.url, timeout=20, **how)


def test_a_model_that_passes_is_bound_as_verified(upstream, key, model):
    weights, manifest, keys = model
    before = int(datetime.now(UTC).timestamp())
    more = ["--manifest", str(manifest), "--model", str(weights), "--keys", str(keys)]
    with proxy_process.running(upstream.url, key, *more) as running, connected(running) as client:
        exchange = ask(client, "/v1/x")
        served = proxy_process.trusted(client, str(client.base_url).rstrip("/"))
        assert client.get("/.well-known/r1prov/manifest").content == manifest.read_bytes()
        stream = ask(client, "/v1/stream")
        assert running.wait_for("standing for").endswith(", verified")
    said, _, at = field(exchange, "r1prov-weights").partition(";at=")
    assert said == "verified"
    assert before <= int(at) <= datetime.now(UTC).timestamp()
    assert judged(exchange, served).state is State.VERIFIED
    assert judged(stream, served).state is State.VERIFIED
    assert field(stream, "r1prov-weights") == f"verified;at={at}"


def test_a_model_that_does_not_pass_starts_nothing(upstream, key, model, tmp_path):
    weights, manifest, keys = model
    altered = tmp_path / "altered"
    shutil.copytree(weights, altered)
    data = bytearray((altered / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (altered / "model.safetensors").write_bytes(data)
    command = ["response", "proxy", "--upstream", upstream.url, "--key", str(key)]
    command += ["--manifest", str(manifest), "--keys", str(keys), "--listen", "127.0.0.1:0"]
    for path, status in ((altered, 1), (tmp_path / "absent", 4)):
        done = subprocess.run(
            [sys.executable, "-m", "r1prov", *command, "--model", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, done.stderr
        assert "listening" not in done.stderr
    unsigned = tmp_path / "unsigned.toml"
    shutil.copy(manifest, unsigned)
    command[command.index(str(manifest))] = str(unsigned)
    done = subprocess.run(
        [sys.executable, "-m", "r1prov", *command, "--model", str(weights)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in (1, 3), done.stderr
    assert "listening" not in done.stderr


def test_keys_change_without_a_gap(upstream, tmp_path):
    current = proxy_process.make_key(tmp_path / "current.key")
    coming = proxy_process.make_key(tmp_path / "coming.key", "ecdsa-p256")
    other = tmp_path / "other.pub"
    # Beforehand the coming key is published, so that clients can pin it; it does not sign yet.
    shutil.copy(f"{coming}.pub", other)
    with (
        proxy_process.running(upstream.url, other, "--key", str(current)) as running,
        connected(running) as client,
    ):
        base = str(client.base_url).rstrip("/")
        first = proxy_process.trusted(client, base)
        old = ask(client, "/v1/x")
        # Then the two change places.
        shutil.copy(f"{current}.pub", other)
        shutil.copy(coming, current)
        signing = running.wait_for("signing with")
        running.process.send_signal(signal.SIGHUP)
        assert running.wait_for("signing with") != signing
        new = ask(client, "/v1/stream")
        assert proxy_process.trusted(client, base).keys() == first.keys()
        assert len(first) == 2
        # A file that cannot be read changes nothing.
        current.write_bytes(b"nonsense")
        running.process.send_signal(signal.SIGHUP)
        assert "the keys stay as they are" in running.wait_for("error:")
        after = ask(client, "/v1/x")
    reports = [judged(exchange, first) for exchange in (old, new, after)]
    assert [report.state for report in reports] == [State.VERIFIED] * 3
    assert reports[0].key.algorithm == "ed25519"
    assert reports[1].key.algorithm == reports[2].key.algorithm == "ecdsa-p256-sha256"
    assert judged(new, {k: v for k, v in first.items() if v.algorithm == "ed25519"}).state is (
        State.INVALID
    )


def test_a_stream_under_way_ends_signed_when_the_proxy_is_stopped(upstream, key):
    upstream.step.clear()
    with proxy_process.running(upstream.url, key) as running, connected(running) as client:
        served = proxy_process.trusted(client, str(client.base_url).rstrip("/"))
        request = client.build_request("POST", "/v1/steps", content=BODY)
        response = client.send(request, stream=True)
        pieces = response.iter_raw()
        upstream.step.set()
        got = next(pieces)
        running.process.terminate()
        upstream.step.set()
        for piece in pieces:
            got += piece
            upstream.step.set()
        assert running.process.wait(20) == 0
        with pytest.raises(httpx.ConnectError):
            client.get("/v1/x")
    assert got.endswith(scripted_upstream.DONE)
    exchange = exchange_of(request, response, got, complete=True)
    assert judged(exchange, served).state is State.VERIFIED


def exchange_of(request, response, content, *, complete):
    from r1prov.responses.exchange import Exchange, Request, Response

    return Exchange(
        request=Request(method="POST", url=str(request.url), headers=(), body=BODY),
        response=Response(
            status=response.status_code,
            headers=tuple(response.headers.multi_items()),
            body=content,
            complete=complete,
        ),
    )


def test_a_stream_that_does_not_end_is_cut_with_a_statement(upstream, key):
    with (
        proxy_process.running(upstream.url, key, "--grace", "0") as running,
        connected(running) as client,
    ):
        served = proxy_process.trusted(client, str(client.base_url).rstrip("/"))
        request = client.build_request("POST", "/v1/endless", content=BODY)
        response = client.send(request, stream=True)
        pieces = response.iter_raw()
        got = next(pieces)
        running.process.terminate()
        broken = False
        try:
            for piece in pieces:
                got += piece
        except httpx.RemoteProtocolError:
            broken = True
        assert broken
        assert running.process.wait(20) == 0
    report = judged(exchange_of(request, response, got, complete=False), served)
    assert report.state is State.INCOMPLETE_STREAM
    assert "stream-cut" in {one.rule.name for one in report.findings}


def test_it_speaks_tls(upstream, key, authority, tmp_path):
    root = authority.root()
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    from r1prov.trust.keys import encode_private_key

    leaf = authority.leaf(
        root,
        purposes=[ExtendedKeyUsageOID.SERVER_AUTH],
        email=None,
        extensions=[(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)],
    )
    (tmp_path / "chain.pem").write_bytes(leaf.pem)
    (tmp_path / "tls.key").write_bytes(encode_private_key(leaf.key, None))
    context = ssl.create_default_context(cadata=root.pem.decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    tls = ["--tls-cert", str(tmp_path / "chain.pem"), "--tls-key", str(tmp_path / "tls.key")]
    with proxy_process.running(upstream.url, key, *tls) as running:
        base = running.url.replace("127.0.0.1", "localhost")
        assert base.startswith("https://")
        with httpx.Client(base_url=base, verify=context, timeout=20) as client:
            served = proxy_process.trusted(client, base)
            assert judged(ask(client, "/v1/stream"), served).state is State.VERIFIED
            assert judged(ask(client, "/v1/x"), served).state is State.VERIFIED


def test_a_command_that_cannot_be_carried_out_says_why(upstream, key, tmp_path, capsys):
    p521 = proxy_process.make_key(tmp_path / "p521.key", "ecdsa-p521")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        usual = {
            "--upstream": upstream.url,
            "--key": str(key),
            "--manifest": "DeepSeek-R1",
            "--listen": "127.0.0.1:0",
        }
        for option, value, status, said in (
            ("--upstream", "ftp://x", 2, "plain http"),
            ("--upstream", "http://user:pw@x", 2, "plain http"),
            ("--key", f"{key}.pub", 2, "one must sign"),
            ("--key", str(p521), 4, "no HTTP signature has"),
            ("--key", str(tmp_path / "absent"), 4, "no such file"),
            ("--manifest", "no-such-model", 4, "no known model"),
            ("--listen", "nowhere", 2, "HOST:PORT"),
            ("--listen", "127.0.0.1:99999", 2, "HOST:PORT"),
            ("--listen", address, 2, "cannot listen"),
            ("--tls-key", str(key), 2, "--tls-cert"),
            ("--tls-cert", str(key), 2, "certificate"),
        ):
            arguments = [part for pair in {**usual, option: value}.items() for part in pair]
            assert run(["response", "proxy", *arguments]) == status, option
            assert said in capsys.readouterr().err
        twice = [part for pair in usual.items() for part in pair] + ["--key", f"{key}.pub"]
        assert run(["response", "proxy", *twice]) == 2
        assert "named twice" in capsys.readouterr().err


def test_without_its_packages_the_command_names_the_extra(key):
    code = (
        "import sys; sys.modules['aiohttp'] = None; from r1prov.cli.app import run; "
        f"sys.exit(run(['response', 'proxy', '--upstream', 'http://x', '--key', {str(key)!r}, "
        "'--manifest', 'DeepSeek-R1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "install r1prov[proxy]" in done.stderr
