"""The real openai client through the proxy to a real llama.cpp server, plain and enforcing."""

from __future__ import annotations

import asyncio

import httpx
import httpx2
import llama_server
import openai
import proxy_process
import pytest
import scripted_upstream

from r1prov.errors import ResponseNotVerified
from r1prov.responses import transport_httpx2
from r1prov.responses.enforce import Enforcement
from r1prov.responses.policy import ResponsePolicy
from r1prov.responses.report import State

MESSAGES = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return proxy_process.make_key(tmp_path_factory.mktemp("key") / "answers.key")


@pytest.fixture(scope="module")
def proxy(key):
    with (
        llama_server.serve_model(slots=1) as url,
        # Statements as often as can be, so that a few tokens have some between them.
        proxy_process.running(url.removesuffix("/v1"), key, "--checkpoint", "0.01") as running,
    ):
        running.base = running.url
        yield running


@pytest.fixture(scope="module")
def keys(proxy):
    with httpx.Client() as client:
        return proxy_process.trusted(client, proxy.base)


def policy(keys):
    return ResponsePolicy(keys=tuple(keys.values()), tag="r1prov", nonce="require")


def plain(proxy):
    return openai.OpenAI(base_url=f"{proxy.base}/v1", api_key="sk-test", max_retries=0)


def enforcing(base, enforcement):
    return openai.OpenAI(
        base_url=f"{base}/v1",
        api_key="sk-test",
        max_retries=0,
        http_client=httpx2.Client(
            transport=transport_httpx2.VerifyingTransport(enforcement), trust_env=False, timeout=60
        ),
    )


def last(enforcement):
    report = enforcement.last_report
    assert report is not None
    return report


def wanted(**more):
    return {"model": "any", "messages": MESSAGES, "max_tokens": 4, "temperature": 0, **more}


def test_a_client_that_knows_nothing_of_signatures_sees_no_difference(proxy):
    with plain(proxy) as client:
        whole = client.chat.completions.create(**wanted()).choices[0].message.content
        chunks = list(client.chat.completions.create(**wanted(stream=True)))
        models = client.models.list().data
    assert whole
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason in ("length", "stop")
    assert models


def test_an_enforcing_client_verifies_each_answer_of_a_real_model(proxy, keys):
    enforcement = Enforcement(policy(keys))
    with enforcing(proxy.base, enforcement) as client:
        whole = client.chat.completions.create(**wanted()).choices[0].message.content
        report = last(enforcement)
        assert (report.state, report.scheme) == (State.VERIFIED, "http-signature")
        chunks = list(client.chat.completions.create(**wanted(stream=True)))
        report = last(enforcement)
        assert (report.state, report.scheme) == (State.VERIFIED, "r1prov-stream")
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole


def test_an_enforcing_async_client_verifies_a_stream(proxy, keys):
    enforcement = Enforcement(policy(keys))

    async def run():
        transport = transport_httpx2.AsyncVerifyingTransport(enforcement)
        async with openai.AsyncOpenAI(
            base_url=f"{proxy.base}/v1",
            api_key="sk-test",
            http_client=httpx2.AsyncClient(transport=transport, trust_env=False, timeout=60),
        ) as client:
            return [
                one async for one in await client.chat.completions.create(**wanted(stream=True))
            ]

    assert len(asyncio.run(run())) > 2
    assert last(enforcement).state is State.VERIFIED


def test_an_error_of_the_server_stays_an_error_of_the_server(proxy, keys):
    with (
        enforcing(proxy.base, Enforcement(policy(keys))) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.chat.completions.create(model="any", messages=[{"role": "nonsense"}])
    assert 400 <= caught.value.status_code < 600


@pytest.fixture(scope="module")
def scripted(key):
    """A proxy before a server that answers at once, and the proxy's keys."""
    with (
        scripted_upstream.running() as upstream,
        proxy_process.running(upstream.url, key) as running,
        httpx.Client() as client,
    ):
        base = running.url
        yield base, proxy_process.trusted(client, base)


def test_neither_way_of_signing_is_missed_after_the_other(scripted):
    base, served = scripted
    enforcement = Enforcement(policy(served))
    with enforcing(base, enforcement) as client:
        for stream in (False, True, False, True):
            answer = client.chat.completions.create(**wanted(stream=stream))
            if stream:
                assert len(list(answer)) == len(scripted_upstream.EVENTS)
            assert last(enforcement).state is State.VERIFIED


def test_an_enforcing_client_raises_where_no_policy_knows_the_key(scripted):
    base, _ = scripted
    nobody = ResponsePolicy(tag="r1prov")  # the keys are served, and no policy pins them
    with enforcing(base, Enforcement(nobody)) as client:
        with pytest.raises(ResponseNotVerified, match="R1P82"):
            client.chat.completions.create(**wanted())
        stream = client.chat.completions.create(**wanted(stream=True))
        with pytest.raises(ResponseNotVerified, match="R1P82"):
            list(stream)


def test_a_served_key_counts_once_it_is_pinned(scripted):
    base, served = scripted
    pinned = ResponsePolicy(tag="r1prov", pins=frozenset(served))
    enforcement = Enforcement(pinned)
    with enforcing(base, enforcement) as client:
        client.chat.completions.create(**wanted())
        assert last(enforcement).state is State.VERIFIED
        list(client.chat.completions.create(**wanted(stream=True)))
        assert last(enforcement).state is State.VERIFIED


@pytest.mark.parametrize("path", ["ndjson", "huge", "gzip-stream"])
def test_an_enforcing_client_fetches_the_receipt_it_needs(scripted, path):
    base, served = scripted
    enforcement = Enforcement(policy(served))
    transport = transport_httpx2.VerifyingTransport(enforcement)
    with httpx2.Client(transport=transport, trust_env=False, timeout=60) as client:
        assert client.post(f"{base}/v1/{path}", content=b"{}").status_code == 200
    assert last(enforcement).state is State.VERIFIED


@pytest.mark.parametrize("path", ["cut", "cut-within", "forged"])
def test_an_enforcing_client_takes_no_part_for_the_whole(scripted, path):
    base, served = scripted
    enforcement = Enforcement(policy(served))
    transport = transport_httpx2.VerifyingTransport(enforcement)
    with (
        httpx2.Client(transport=transport, trust_env=False, timeout=60) as client,
        pytest.raises((ResponseNotVerified, httpx2.HTTPError)),
    ):
        client.post(f"{base}/v1/{path}", content=b"{}")
    assert last(enforcement).state is State.INCOMPLETE_STREAM
