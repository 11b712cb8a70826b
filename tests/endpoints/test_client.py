"""The client against a server that refuses, breaks off, stalls and counts as it is told."""

from __future__ import annotations

import json

import pytest
from told_server import PAGES, serving

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
from r1prov.endpoints.plan import Plan, estimate
from r1prov.endpoints.prompt_set import Prompt
from r1prov.endpoints.sampling import ask_by_turns, schedule
from r1prov.endpoints.tokens.reference import token_reference
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


@pytest.mark.parametrize("step", ["no-options", "not-processable"])
def test_a_server_without_stream_options_is_asked_without_them(log, step):
    with serving(step) as told, client(told, log) as asked:
        replies = asked.ask_all(ask("a", "b", stream=True))
        assert [one.usable for one in replies] == [True, True]
        assert ["stream_options" in one for one in told.seen] == [True, False, False]
        # And a run that is gone on with asks nothing of it again.
        with client(told, log, journal=Journal(log.path)) as again:
            assert all(one.recorded for one in again.ask_all(ask("a", "b", stream=True)))
            assert again.ask(ask("c", stream=True)[0]).usable
    assert ["stream_options" in one for one in told.seen] == [True, False, False, False]


@pytest.mark.parametrize("step", ["error-200", "error-on-the-way", "unmarked-end"])
def test_an_answer_that_says_that_it_failed_is_asked_for_again(log, step):
    """Gateways tell it with status 200, and a cut stream may show it by what it lacks alone."""
    stream = step != "error-200"
    with serving(step, "ok") as told, client(told, log) as asked:
        assert asked.ask(ask("x", stream=stream)[0]).usable
    assert len(told.seen) == 2
    with serving(step) as told, client(told, log, retries=1) as asked:
        reply = asked.ask(ask("x", stream=stream)[0])
        assert not reply.usable
        assert "ends with an error" in reply.problem or "ended before" in reply.problem
        # Nor is it an answer to go on with.
        with client(told, log, journal=Journal(log.path), retries=0) as again:
            assert not again.ask(ask("x", stream=stream)[0]).recorded
    assert len(told.seen) == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("step", sorted(PAGES))
def test_what_is_no_chat_completion_comes_to_nothing_and_says_so(log, step, stream):
    with serving(step, "ok") as told, client(told, log) as asked:
        assert asked.ask(ask("x", stream=stream)[0]).usable
    with serving(step) as told, client(told, log, retries=0) as asked:
        asked.ask_all(ask(*"abcdef", stream=stream))
        assert len(told.seen) == 3
        assert "3 requests in a row failed: the answer is no chat completion: " in asked.stopped
        with client(told, log, journal=Journal(log.path), retries=0) as again:
            assert not again.ask(ask("a", stream=stream)[0]).recorded


def test_who_sent_no_key_is_told_that_one_is_wanted(log):
    with serving("401") as told, client(told, log, key=None) as asked:
        assert "none was sent: --key-env" in asked.ask(ask("x")[0]).problem


def test_a_refusal_with_status_200_is_an_answer(log):
    with serving("refused-200") as told, client(told, log) as asked:
        reply = asked.ask(ask("x")[0])
    assert (len(told.seen), reply.problem, reply.answer.error) == (1, None, "no such parameter")


def test_the_rate_is_limited(log):
    with serving() as told, client(told, log, concurrency=4, per_minute=1200.0) as asked:
        assert all(one.usable for one in asked.ask_all(ask(*"abcdef")))
    assert told.at[-1] - told.at[0] >= 5 * 0.05 - 0.01
    gaps = [b - a for a, b in zip(told.at, told.at[1:], strict=False)]
    assert min(gaps) > 0.01


@pytest.mark.parametrize(
    ("value", "seen"),
    [("-5", 2), ("soon", 2), ("1.5", 2), ("0", 2), ("9" * 400, 1), ("99999999999", 1),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 1), ("Fri, 99 Dec 2015 23:59:59 GMT", 2)],
)  # fmt: skip
def test_a_retry_after_that_makes_no_sense_is_none(log, value, seen):
    with serving(f"429 {value}", "ok") as told, client(told, log) as asked:
        reply = asked.ask(ask("a")[0])
    assert (len(told.seen), reply.usable) == (seen, seen == 2)
    assert (asked.stopped is None) is (seen == 2)


def test_a_stream_that_runs_on_ends_with_the_budget(log):
    """A server that does not heed `max_tokens`, and asks the audit to pay for it."""
    budget = Budget(max_tokens=700)
    with serving("runs-on") as told, client(told, log, budget=budget, concurrency=3) as asked:
        replies = asked.ask_all(ask("a", "b", "c", stream=True))
        assert not any(one.usable for one in replies)
        assert "ran over what it was allowed" in asked.stopped
    assert budget.tokens <= 700
    assert told.events < 3_000


def test_counts_that_cannot_be_are_not_believed(log):
    """200 characters and no tokens: the cap holds all the same."""
    held = ask("a")[0].prompt_estimate + 8
    with serving("free") as told, client(told, log, budget=Budget(max_tokens=2 * held)) as asked:
        asked.ask_all(ask(*"abcdef"))
    assert (len(told.seen), asked.budget.tokens) == (2, 2 * held)


def test_turns_are_random_fair_and_those_of_the_seed():
    """Each prompt as often to either side, side by side, and either one first as often."""
    prompts = [Prompt(str(n), f"prompt {n}") for n in range(20)]
    turns = list(schedule(prompts, range(10), 2, seed=1))
    assert turns == list(schedule(prompts, range(10), 2, seed=1))
    other = list(schedule(prompts, range(10), 2, seed=2))
    assert turns != other
    assert sorted(map(repr, turns)) == sorted(map(repr, other))
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    assert all(a.prompt == b.prompt and {a.side, b.side} == {0, 1} for a, b in pairs)
    first = sum(a.side for a, _ in pairs)
    assert 70 < first < 130  # of 200: outside with a probability of 0.00002
    # Nor do the samples of a later look come in the order of an earlier one.
    later = list(schedule(prompts, range(10, 20), 2, seed=1))
    assert [one.prompt for one in later] != [one.prompt for one in turns]


def test_an_estimate_is_never_less_than_what_any_tokenizer_counts():
    table = token_reference()
    for probe in table.probes:
        most = max(one.counts.get(probe.id, 0) for one in table.counters)
        assert ChatRequest(prompt=probe.text).prompt_estimate >= most
    plan = Plan(context=True)
    assert estimate(plan).prompt_tokens - estimate(Plan()).prompt_tokens == (
        plan.context_request().prompt_estimate
    )


def test_a_key_that_a_server_sends_back_is_shown_nowhere(log):
    with serving("echo") as told, client(told, log) as asked:
        reply = asked.ask(ask("a")[0])
    assert "bad key: Bearer [API key]" in reply.answer.error
    assert KEY not in repr(reply)
    assert KEY not in log.path.read_text()


def test_what_one_side_refuses_the_other_is_not_asked(log, tmp_path):
    other = ExchangeLog(tmp_path / "other", fsync=Fsync.NEVER)
    with (
        serving("401") as bad,
        serving() as good,
        client(bad, log, retries=0) as first,
        client(good, other) as second,
    ):
        ask_by_turns([second, first], ask(*map(str, range(40))), seed=1)
    assert len(bad.seen) == 3
    assert len(good.seen) < 20


@pytest.mark.parametrize(
    "form", ["HTTP://LocalHost:{}/v1/", "http://127.0.0.1:{}/v1?key=abcdef0123456789",
             "http://127.0.0.1:{}/a/../v1/chat/completions"],
)  # fmt: skip
def test_a_run_is_gone_on_with_however_its_url_is_written(log, form):
    with serving() as told:
        url = form.format(told.url.split(":")[-1].removesuffix("/v1"))
        for journal in (None, "again"):
            found = Journal(log.path) if journal else None
            with Client(url, model="m", key=None, log=log, journal=found) as asked:
                assert asked.ask(ask("a")[0]).recorded is bool(journal)
    assert len(told.seen) == 1
    assert "abcdef0123456789" not in log.path.read_text()


@pytest.mark.parametrize(
    ("models", "status", "told_it"),
    [(["401"], 4, "refuses the key"), (["503", "m"], 3, ""), (["404"], 2, "lists 0 models"),
     (["a b"], 2, "lists 2 models: `a`, `b`"), (["302"], 4, "sends elsewhere")],
)  # fmt: skip
def test_a_list_of_models_that_is_refused_says_why(
    monkeypatch, tmp_path, capsys, models, status, told_it
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    with serving("401") as told:
        told.models = models
        asked = ["endpoint", "audit", told.url, "--log", "l", "--retries", "1", "--quiet"]
        assert run(asked) == status
    assert told_it in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.example.com/v1", "http://localhost.example/v1"])
def test_a_name_that_looks_like_this_machine_is_another(monkeypatch, tmp_path, capsys, url):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", KEY)
    assert run(["endpoint", "audit", url, "--model", "m"]) == 2
    assert "in clear" in capsys.readouterr().err


def test_no_proxy_is_given_the_key(monkeypatch, log):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving() as told, client(told, log) as asked:
        assert asked.ask(ask("a")[0]).usable


def test_times_go_on_after_a_line_that_was_torn(log):
    with serving() as told, client(told, log) as asked:
        asked.ask(ask("a")[0])
        path = times_path(log.path)
        path.write_bytes(path.read_bytes()[:-9])
        asked.ask(ask("b")[0])
        found = Journal(log.path).take(asked.url, ask("b")[0].body("m"))
    assert found is not None
    assert found.arrivals


def test_a_model_name_that_is_no_text_is_asked_for(log):
    """Bytes of a command line that are not UTF-8."""
    with serving() as told, client(told, log) as asked:
        asked.model = "org/m:671b-\udcff\u6a21"
        assert asked.ask(ask("a")[0]).usable
    assert told.seen[0]["model"] == "org/m:671b-?\u6a21"


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
    assert run(["endpoint", "audit", url, "--retries", "0"]) == 4
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


@pytest.mark.parametrize(
    "url", ["a.example", "ftp://a", "http://", "http://a:x/", "http://[::1", "unix:///run/s"]
)
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
    assert first_token_logprobs(answer(good)) == {"a": -0.5, "b": -1.0}
    # Hosts of one model say the same, whether they give bytes or not; parts of characters are none.
    told = [
        {"token": "\u597d", "logprob": -0.5},
        {"token": " a", "logprob": -1},
        {"token": "\ufffd", "logprob": -2},
    ]
    parts = [list("\u597d".encode()), [32, 97], [0xE5, 0xA5]]
    with_bytes = [{**one, "bytes": part} for one, part in zip(told, parts, strict=True)]
    assert first_token_logprobs(answer(told)) == first_token_logprobs(answer(with_bytes))
    assert first_token_logprobs(answer(told)) == {"\u597d": -0.5, " a": -1}
    # A server that lists its whole vocabulary takes no more room than one that lists what it may.
    many = [{"token": str(number), "logprob": -1} for number in range(1_000)]
    listed = first_token_logprobs(answer(many))
    assert listed is not None
    assert len(listed) == 20
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
    row = b'["m"]\nprompt = 1\ncompletion = 1\n'
    for bad in (b"\xff", b"[", b"x = 1", b'["m"]\nprompt = -1', b'["m"]\nprompt = true',
                row.replace(b"1", b"nan"), row.replace(b"1", b"inf"), row + b"promt = 2",
                row + b'["other"]\nprompt = 1', b"currency = 1\n" + row,
                row.replace(b"1", b'"1"'), b"x = " + b"[" * 50_000):  # fmt: skip
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
