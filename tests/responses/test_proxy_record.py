"""The signing proxy keeps every exchange, whoever asks."""

import contextlib
import time
from datetime import UTC, datetime

import httpx
import proxy_process
import pytest
import scripted_upstream

from r1prov.responses.log_check import check_log, read_entry, read_records
from r1prov.responses.policy import ResponsePolicy
from r1prov.responses.report import State
from r1prov.responses.verify import verify_exchange

KEY = "sk-0123456789abcdef0123"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A proxy that records, its address, its keys and its log."""
    folder = tmp_path_factory.mktemp("proxy")
    key = proxy_process.make_key(folder / "answers.key")
    log = folder / "api.jsonl"
    with (
        scripted_upstream.running() as upstream,
        proxy_process.running(upstream.url, key, "--record", str(log)) as proxy,
        httpx.Client() as client,
    ):
        base = proxy.url
        yield base, proxy_process.trusted(client, base), log


def exchanges(log):
    return [read_entry(log, one.head.number) for one in read_records(log) if one.kind == "exchange"]


def test_answers_and_streams_are_kept_as_they_were_signed(running):
    base, keys, log = running
    before = len(exchanges(log)) if log.exists() else 0
    policy = ResponsePolicy(keys=tuple(keys.values()), tag="r1prov", nonce="ignore")
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}) as client:
        for content in (b'{"model":"m"}', b'{"model":"m","stream":true}'):
            answer = client.post(f"{base}/v1/chat/completions?a=b", content=content)
            # By the time the client has the end, the record is there.
            kept = exchanges(log)[-1]
            assert kept.response.body == answer.content
            assert kept.request.body == content
            assert kept.request.url == f"{base}/v1/chat/completions?a=b"
            assert kept.response.complete
            report = verify_exchange(kept, policy, now=datetime.now(UTC))
            assert report.state in (State.VERIFIED, State.UNCOVERED), report.findings
    assert len(exchanges(log)) == before + 2
    assert KEY.encode() not in log.read_bytes()
    assert check_log(log).problem is None


def test_what_breaks_off_is_kept_as_far_as_it_came(running):
    base, keys, log = running
    policy = ResponsePolicy(keys=tuple(keys.values()), tag="r1prov", nonce="ignore")
    with httpx.Client() as client:
        for path in ("cut", "endless"):
            got = []
            with (
                contextlib.suppress(httpx.RemoteProtocolError),
                client.stream("POST", f"{base}/v1/{path}", content=b"{}") as answer,
            ):
                for piece in answer.iter_raw():
                    got.append(piece)
                    if path == "endless" and len(got) > 2:
                        break  # it is the client that goes away
            kept = wait_for(log, path)
            assert kept.response.body.startswith(b"".join(got))
            assert not kept.response.complete
            report = verify_exchange(kept, policy, now=datetime.now(UTC))
            assert report.state is State.INCOMPLETE_STREAM
    assert check_log(log).problem is None


def wait_for(log, path):
    """The record of that path, which is written after the connection broke."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for one in exchanges(log):
            if one.request.url.endswith(path):
                return one
    pytest.fail(f"no record of {path}")


def test_what_is_published_is_no_exchange(running):
    base, _, log = running
    with httpx.Client() as client:
        client.get(f"{base}/.well-known/http-message-signatures-directory").raise_for_status()
    assert not any("well-known" in one.request.url for one in exchanges(log))
