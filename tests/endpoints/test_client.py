"""The client against a server that refuses, breaks off, stalls and counts as it is told."""

from __future__ import annotations

import json

import pytest
from told_server import serving

from r1prov.cli.app import run
from r1prov.endpoints.budget import Budget, Estimate, Prices, parse_prices
from r1prov.endpoints.chat import (
    ChatRequest,
    completions_url,
    first_token_logprobs,
    models_url,
    the_model,
)
from r1prov.endpoints.client import Client
from r1prov.endpoints.journal import Journal, times_path
from r1prov.endpoints.wire import Manners
from r1prov.errors import InputError, R1ProvError, UsageError
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.log import ExchangeLog, Fsync
from r1prov.responses.log_check import check_log

KEY = "sk-0123456789abcdef0123"


@pytest.fixture
def log(tmp_path):
    return ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)


def client(told, log, *, budget=None, journal=None, key=KEY, **manners):
    chosen = Manners(**{"backoff": 0.01, "timeout": 5.0, "concurrency": 1, **manners})
    return Client(
        told.url, model="m", key=key, log=log, budget=budget, manners=chosen, journal=journal
    )


def ask(*texts, **fields):
    return [ChatRequest(prompt=one, max_tokens=8, **fields) for one in texts]


def test_a_request_is_sent_as_it_is_and_every_exchange_is_kept_without_the_key(log, tmp_path):
    with serving() as told, client(told, log) as asked:
        reply = asked.ask(ChatRequest(prompt="hé", max_tokens=8, temperature=0.5))
    assert told.seen == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "hé"}],
            "max_tokens": 8,
            "temperature": 0.5,
        }
    ]
    assert told.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not any("r1prov" in f"{name}{value}".lower() for name, value in told.headers[0].items())
    assert (reply.answer.content, reply.usable, reply.problem) == ("to hé", True, None)
    assert reply.answer.usage.total_tokens == 12
    check = check_log(log.path)
    assert (check.exchanges, check.problem) == (1, None)
    assert KEY not in log.path.read_text() + times_path(log.path).read_text()


def test_arrival_times_of_a_stream_are_those_of_its_pieces(log):
    with serving() as told, client(told, log) as asked:
        reply = asked.ask(ChatRequest(prompt="x", stream=True))
    first, second = (one.arrived for one in reply.answer.deltas)
    assert 0.02 < second - first < 2
    assert told.seen[0]["stream_options"] == {"include_usage": True}


def test_refusals_for_now_are_asked_again_and_kept(log):
    with serving("503", "429", "drop", "ok") as told, client(told, log) as asked:
        assert asked.ask_all(ask("x"))[0].answer.content == "to x"
    assert len(told.seen) == 4
    assert check_log(log.path).exchanges == 3  # a connection that was dropped has no exchange


def test_retry_after_is_honoured_by_every_thread(log):
    with serving("429 1", "ok") as told, client(told, log, concurrency=2) as asked:
        asked.ask(ask("a")[0])
        asked.ask_all(ask("b", "c"))
    assert told.at[1] - told.at[0] >= 1.0
    past = "429 Wed, 21 Oct 2015 07:28:00 GMT"
    with serving(past, "ok") as told, client(told, log) as asked:
        assert asked.ask_all(ask("a"))[0].usable
    with serving("429 86400", "ok") as told, client(told, log) as asked:
        assert not asked.ask_all(ask("a", "b"))[1].usable
        assert "left alone for 86,400 s" in asked.stopped
    assert len(told.seen) == 1


def test_a_refused_key_and_a_broken_server_stop_the_run(log):
    with serving("401") as told, client(told, log, retries=0) as asked:
        replies = asked.ask_all(ask(*"abcdef"))
    assert len(told.seen) == 3
    assert "refuses the key (status 401)" in replies[0].problem
    assert "3 requests in a row failed" in replies[-1].problem
    assert KEY not in str(replies)


def test_a_stream_that_breaks_off_is_asked_again_and_never_used(log):
    with serving("cut") as told, client(told, log, retries=1) as asked:
        reply = asked.ask(ChatRequest(prompt="x", stream=True))
    assert len(told.seen) == 2
    assert not reply.usable


def test_a_server_without_stream_options_is_asked_without_them(log):
    with serving("no-options") as told, client(told, log) as asked:
        replies = asked.ask_all(ask("a", "b", stream=True))
        assert [one.usable for one in replies] == [True, True]
    assert ["stream_options" in one for one in told.seen] == [True, False, False]


@pytest.mark.parametrize("step", ["ok", "uncounted"])
def test_the_budget_holds(log, step):
    budget = Budget(max_requests=3)
    with serving(step) as told, client(told, log, budget=budget, concurrency=4) as asked:
        replies = asked.ask_all(ask(*"abcdef"))
    assert len(told.seen) == 3
    assert sum(one.usable for one in replies) == 3
    assert "budget of 3 requests is spent" in asked.stopped
    # 12 tokens are counted for each; where nobody counts, what was held stays spent.
    held = ask("a")[0].prompt_estimate + 8
    with serving(step) as told, client(told, log, budget=Budget(max_tokens=3 * held)) as asked:
        asked.ask_all(ask(*"abcdef"))
        assert asked.budget.tokens == len(told.seen) * (12 if step == "ok" else held)
        assert asked.budget.tokens <= 3 * held
    assert len(told.seen) == (1 + 2 * held // 12 if step == "ok" else 3)


def test_no_more_requests_are_under_way_than_allowed(log):
    with serving("slow") as told, client(told, log, concurrency=3) as asked:
        replies = asked.ask_all(ask(*map(str, range(9))))
    assert told.most == 3
    assert [one.answer.content for one in replies] == [f"to {n}" for n in range(9)]


def test_an_interrupted_run_is_gone_on_with_and_asks_nothing_twice(log):
    with serving() as told, client(told, log) as asked:
        before = asked.ask_all([*ask("a", "a", "b"), ChatRequest(prompt="s", stream=True)])
        port = told.url
        journal = Journal(log.path)
        assert journal.exchanges == 4
        with client(told, log, journal=journal) as again:
            replies = again.ask_all(
                [*ask("a", "b", "a", "a", "c"), ChatRequest(prompt="s", stream=True)]
            )
        assert told.url == port
    # One more `a` than was answered, and `c`.
    assert len(told.seen) == 6
    assert again.replayed == 4
    assert again.budget.requests == 2
    assert [one.recorded for one in replies] == [True, True, True, False, False, True]
    assert all(one.usable for one in replies)
    # With the times of the first run.
    assert [one.arrived for one in replies[-1].answer.deltas] == pytest.approx(
        [one.arrived for one in before[-1].answer.deltas], abs=1e-5
    )
    assert check_log(log.path).exchanges == 6


def test_refusals_are_no_answers_to_go_on_with(log):
    with serving("503") as told, client(told, log, retries=0) as asked:
        asked.ask(ask("a")[0])
    assert Journal(log.path).exchanges == 0


def test_times_that_were_tampered_with_are_left_out(log):
    with serving() as told, client(told, log) as asked:
        asked.ask_all(ask("a"))
        path = times_path(log.path)
        digest = json.loads(path.read_text())["digest"]
        for text in ("{", '{"digest":1}', f'{{"digest":"{digest}","arrivals":[[5,1.0],[4,2.0]]}}'):
            path.write_text(text + "\n")
            found = Journal(log.path).take(asked.url, ask("a")[0].body("m"))
            assert found is not None
            assert found.arrivals == ()


def test_keys_come_from_the_environment_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1PROV_API_KEY", raising=False)
    assert run(["endpoint", "audit", "http://127.0.0.1:9/v1", "--key-env", "NO_SUCH_KEY"]) == 2
    assert "NO_SUCH_KEY of --key-env is not set" in capsys.readouterr().err
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    assert run(["endpoint", "audit", "http://api.example/v1"]) == 2
    assert "in clear" in capsys.readouterr().err
    assert run(["endpoint", "audit", f"https://u:{KEY}@api.example/v1"]) == 2
    assert KEY not in capsys.readouterr().err
    monkeypatch.setenv("R1PROV_API_KEY", f"{KEY}\n")
    assert run(["endpoint", "audit", "http://127.0.0.1:9/v1", "--model", "m"]) == 2
    assert KEY not in capsys.readouterr().err


def test_a_server_that_is_not_there_is_said_to_be(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("R1PROV_API_KEY", raising=False)
    url = "http://127.0.0.1:9/v1"
    assert run(["endpoint", "audit", url]) == 4
    assert "cannot reach" in capsys.readouterr().err
    assert run(["endpoint", "audit", url, "--model", "m", "--retries", "0", "--log", "l"]) == 3
    assert "audit-stopped" in capsys.readouterr().out
    assert run(["endpoint", "audit", url, "--model", "m", "--log", "l"]) == 2
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://a.example", "https://a.example/chat/completions"),
        ("https://a.example/v1/", "https://a.example/v1/chat/completions"),
        ("https://a.example/v1/chat/completions", "https://a.example/v1/chat/completions"),
        ("https://a.example/v1?version=1", "https://a.example/v1/chat/completions?version=1"),
    ],
)
def test_urls_are_completed(url, wanted):
    assert completions_url(url) == wanted
    assert models_url(url).partition("?")[0].endswith("/models")


@pytest.mark.parametrize("url", ["a.example", "ftp://a", "http://", "http://a:x/", "http://[::1"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError):
        completions_url(url)


def exchange(body):
    return Exchange(
        request=Request(method="POST", url="http://a", headers=(), body=b"{}"),
        response=Response(status=200, headers=(), body=body),
    )


def test_first_tokens_are_read_by_their_bytes_and_nothing_else_is_taken():
    def answer(listed):
        content = [{"token": "x", "logprob": -1, "top_logprobs": listed}]
        return exchange(json.dumps({"choices": [{"logprobs": {"content": content}}]}).encode())

    good = [{"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "b", "logprob": -1}]
    assert first_token_logprobs(answer(good)) == {"61": -0.5, "b": -1.0}
    # A server that lists its whole vocabulary takes no more room than one that lists what it may.
    many = [{"token": str(number), "logprob": -1} for number in range(1_000)]
    assert len(first_token_logprobs(answer(many))) == 20
    for bad in ([{"token": "a", "logprob": 1}], [{"token": 1, "logprob": -1}], [], [5], "x",
                [{"token": "a", "logprob": True}], [{"token": "a"}]):  # fmt: skip
        assert first_token_logprobs(answer(bad)) is None
    for raw in (b"", b"[]", b'{"choices":5}', b'{"choices":[{"logprobs":{"content":[]}}]}'):
        assert first_token_logprobs(exchange(raw)) is None


def test_prices_make_an_estimate():
    raw = b'currency = "EUR"\n["m"]\nprompt = 0.5\ncompletion = 2\n["*"]\nprompt=1\ncompletion=1\n'
    prices = parse_prices(raw, model="m", subject="p")
    assert prices == Prices(0.5, 2.0, "EUR")
    assert parse_prices(raw, model="other", subject="p").prompt == 1.0
    cost = Estimate(3, 1_000_000, 500_000)
    assert cost.cost(prices) == 1.5
    assert cost.text(prices).endswith(": 1.50 EUR")
    for bad in (b"\xff", b"[", b"x = 1", b'["m"]\nprompt = -1', b'["m"]\nprompt = true'):
        with pytest.raises(InputError):
            parse_prices(bad, model="m", subject="p")


def test_the_only_model_is_taken_and_several_are_listed():
    assert the_model(["a"]) == "a"
    with pytest.raises(UsageError, match="lists 2 models: `a`, `b"):
        the_model(["a", "b\x1b[31m"])


def test_a_log_that_is_none_is_an_error_of_ours(tmp_path):
    path = tmp_path / "log"
    path.write_text("x\n")
    with pytest.raises(R1ProvError):
        Journal(path)
