"""A real llama.cpp server with a real model: it signs nothing, and that is what is said."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import llama_server
import openai
import pytest

from r1prov.cli.app import run
from r1prov.errors import ResponseNotVerified
from r1prov.responses.enforce import Enforcement
from r1prov.responses.keys import origin_of
from r1prov.responses.log import ExchangeLog, Fsync
from r1prov.responses.log_check import check_log, read_entry, read_records
from r1prov.responses.policy import HTTP, Promise, ResponsePolicy
from r1prov.responses.report import State
from r1prov.responses.transport_httpx2 import (
    AsyncVerifyingTransport,
    RecordingTransport,
    VerifyingTransport,
)
from r1prov.responses.verify import verify_exchange

WANTED: Any = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "Say hello."}],
    "max_tokens": 4,
    "temperature": 0,
    "seed": 1,
}


@pytest.fixture(scope="module")
def base_url():
    with llama_server.serve_model(slots=1) as url:
        yield url


def client(base_url, transport, kind: Any = openai.OpenAI):
    module: Any = httpx2.AsyncClient if kind is openai.AsyncOpenAI else httpx2.Client
    http = module(transport=transport, timeout=60, trust_env=False)
    return kind(base_url=base_url, api_key="sk-x", http_client=http, max_retries=0)


def test_the_same_text_passes_through_a_transport_and_is_called_unsigned(base_url):
    reports: list[Any] = []
    enforcement = Enforcement(ResponsePolicy(), mode="report", on_report=reports.append)
    with openai.OpenAI(base_url=base_url, api_key="sk-x") as plain:
        expected = plain.chat.completions.create(**WANTED).choices[0].message.content
    assert expected
    with client(base_url, VerifyingTransport(enforcement)) as openai_client:
        answer = openai_client.chat.completions.create(**WANTED)
        assert answer.choices[0].message.content == expected
        stream = openai_client.chat.completions.create(**WANTED, stream=True)
        assert "".join(one.choices[0].delta.content or "" for one in stream) == expected

    async def later():
        async with client(
            base_url, AsyncVerifyingTransport(enforcement), openai.AsyncOpenAI
        ) as openai_client:
            stream = await openai_client.chat.completions.create(**WANTED, stream=True)
            return "".join([one.choices[0].delta.content or "" async for one in stream])

    assert asyncio.run(later()) == expected
    assert [one.state for one in reports] == [State.UNSIGNED] * 3


@pytest.mark.parametrize("stream", [False, True])
def test_an_unsigned_answer_raises_unless_it_is_only_reported(base_url, stream):
    with client(base_url, VerifyingTransport(Enforcement(ResponsePolicy()))) as openai_client:
        with pytest.raises(ResponseNotVerified) as caught:
            list(openai_client.chat.completions.create(**WANTED, stream=stream))
        assert caught.value.report.state is State.UNSIGNED
    policy = ResponsePolicy(promised=(Promise(origin_of(base_url), HTTP),))
    with client(base_url, VerifyingTransport(Enforcement(policy))) as openai_client:
        with pytest.raises(ResponseNotVerified) as caught:
            list(openai_client.chat.completions.create(**WANTED, stream=stream))
        assert caught.value.report.state is State.DOWNGRADED


def test_its_exchanges_are_recorded(base_url, tmp_path):
    log = ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)
    with client(base_url, RecordingTransport(log)) as openai_client:
        text = openai_client.chat.completions.create(**WANTED).choices[0].message.content
        list(openai_client.chat.completions.create(**WANTED, stream=True))
    assert check_log(log.path).exchanges == 2
    both: Any = (
        read_entry(log.path, one.head.number)
        for one in read_records(log.path)
        if one.kind == "exchange"
    )
    whole, streamed = both
    assert text.encode() in whole.response.body
    assert streamed.response.body.endswith(b"data: [DONE]\n\n")
    assert streamed.response.complete
    report = verify_exchange(streamed, ResponsePolicy(), now=datetime.now(UTC))
    assert report.state is State.UNSIGNED


def test_the_command_records_it(base_url, tmp_path, monkeypatch, capsys):
    import json

    monkeypatch.chdir(tmp_path)
    (tmp_path / "ask.json").write_text(json.dumps({**WANTED, "stream": True}))
    url = f"{base_url}/chat/completions"
    arguments = ["response", "record", "--log", "api.jsonl", "--request", "ask.json", url]
    assert run(arguments) == 0
    assert "200: unsigned" in capsys.readouterr().err
    assert run(["response", "verify", "api.jsonl"]) == 3
    assert run(["response", "log", "verify", "api.jsonl"]) == 0
