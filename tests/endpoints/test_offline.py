"""Answers from a log: what a client was answered is answered again, and nothing is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_server import serving

from r1prov.endpoints.chat import ChatRequest
from r1prov.endpoints.client import Client
from r1prov.endpoints.journal import Journal, times_path
from r1prov.endpoints.offline import NEVER_ASKED, OfflineClient, read_log
from r1prov.endpoints.plan import Plan
from r1prov.endpoints.settings import (
    AuditSettings,
    parse_settings,
    plan_path,
    settings_of,
    write_plan,
)
from r1prov.endpoints.wire import Manners
from r1prov.errors import EndpointPlanError, R1ProvError
from r1prov.responses.log import ExchangeLog, Fsync

STREAM = ChatRequest(prompt="s", stream=True)


@pytest.fixture
def log(tmp_path):
    return ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)


def client(told, log, *, journal=None, **manners):
    chosen = Manners(**{"backoff": 0.01, "timeout": 5.0, "concurrency": 1, **manners})
    return Client(told.url, model="m", key=None, log=log, manners=chosen, journal=journal)


def ask(*texts):
    return [ChatRequest(prompt=one, max_tokens=8) for one in texts]


def offline(log, asked):
    times = times_path(log.path)
    raw = times.read_bytes() if times.exists() else b""
    read = read_log(log.path.read_bytes(), raw, url=asked.url, subject="log")
    return OfflineClient(asked.url, asked.model, read), read


def said(replies):
    answers = [one.answer for one in replies]
    return [(one.content, one.usage, one.status, one.finish_reason) for one in answers]


def test_the_same_answers_in_the_same_order_with_their_times(log):
    with serving() as told, client(told, log) as asked:
        live = asked.ask_all([*ask("a", "b", "a"), STREAM])
    replay, read = offline(log, asked)
    again = replay.ask_all([*ask("a", "b", "a"), STREAM])
    assert said(again) == said(live)
    assert [one.seconds for one in again] == pytest.approx([o.seconds for o in live], abs=0.05)
    assert [d.arrived for d in again[3].answer.deltas] == pytest.approx(
        [d.arrived for d in live[3].answer.deltas], abs=1e-5
    )
    assert (replay.replayed, replay.failed, replay.tokens, read.unused) == (4, 0, 36, 0)
    assert read.requests == 4
    assert read.started < read.finished
    assert replay.stopped is None
    # Nothing is sent, whatever is asked for.
    assert replay.ask(ask("c")[0]).problem == NEVER_ASKED
    assert NEVER_ASKED in str(replay.stopped)
    with pytest.raises(R1ProvError, match="lists no models"):
        replay.models()


def test_answers_that_nobody_asks_for_are_counted(log):
    with serving() as told, client(told, log) as asked:
        asked.ask_all(ask("a", "b", "a"))
    replay, read = offline(log, asked)
    replay.ask_all(ask("a"))
    assert read.unused == 2


def test_requests_that_failed_and_that_were_never_sent(log):
    """One is a failure of the endpoint, the other is nobody's knowledge."""
    with serving("ok", "503", "503", "ok") as told, client(told, log, retries=1) as asked:
        live = asked.ask_all(ask("a", "b", "c"))
    assert [one.usable for one in live] == [True, False, True]
    replay, _ = offline(log, asked)
    again = replay.ask_all(ask("a", "b", "c"))
    assert [one.usable for one in again] == [True, False, True]
    assert (replay.failed, replay.stopped) == (1, None)
    assert replay.ask(ask("d")[0]).usable is False
    assert replay.failed == 1
    assert NEVER_ASKED in replay.stopped


def test_a_run_of_failures_ends_it_as_it_ended_the_live_one(log):
    with serving("503") as told, client(told, log, retries=0) as asked:
        asked.ask_all(ask("a", "b", "c"))
    assert asked.stopped is not None
    replay, _ = offline(log, asked)
    replay.ask_all(ask("a", "b", "c"))
    assert "3 requests in a row failed" in replay.stopped


def test_one_that_was_refused_and_answered_later_is_answered(log):
    with serving("429", "ok") as told, client(told, log) as asked:
        asked.ask_all(ask("a"))
    replay, read = offline(log, asked)
    assert replay.ask(ask("a")[0]).usable
    assert (read.requests, read.unused, replay.failed) == (2, 0, 0)


@pytest.mark.parametrize("step", ["error-200", "error-on-the-way", "unmarked-end", "page"])
def test_one_that_broke_off_and_was_asked_again_is_answered(log, step):
    """The log of an honest endpoint holds no answer too many, and none that was not used."""
    asks = [ChatRequest(prompt="s", stream=step != "error-200")]
    with serving("ok", step, "ok") as told, client(told, log) as asked:
        live = asked.ask_all(asks * 2)
    replay, read = offline(log, asked)
    assert said(replay.ask_all(asks * 2)) == said(live)
    assert (read.requests, read.unused, replay.failed) == (3, 0, 0)


@pytest.mark.parametrize("step", ["no-options", "not-processable"])
def test_a_server_without_stream_options_is_replayed_and_resumed_as_it_was_asked(log, step):
    streams = [ChatRequest(prompt=one, stream=True) for one in "abc"]
    with serving(step) as told, client(told, log) as asked:
        live = asked.ask_all(streams)
        assert all(one.usable for one in live)
        sent = len(told.seen)
        assert sent == 4  # the first one twice
        replay, read = offline(log, asked)
        assert said(replay.ask_all(streams)) == said(live)
        assert read.unused == 0
        with client(told, log, journal=Journal(log.path)) as again:
            assert all(one.recorded for one in again.ask_all(streams))
        assert len(told.seen) == sent
    # One that refuses both ways is refused.
    with serving("400") as told, client(told, log) as asked:
        refused = asked.ask(STREAM)
        with client(told, log, journal=Journal(log.path)) as again:
            assert again.ask(STREAM).answer.status == 400
        assert len(told.seen) == 2  # nothing is asked that the log answers, refusals too
    replay, read = offline(log, asked)
    # The address is another, so what went to the first one is not this endpoint's.
    assert len(read.elsewhere) == 4
    assert replay.ask(STREAM).answer.status == refused.answer.status == 400
    assert read.unused == 0


def test_a_plan_is_read_as_it_was_written(log):
    with serving() as told, client(told, log) as asked:
        settings = settings_of(asked, Plan(seed=7), tokenizer=None, reference=None, questions=None)
    raw = settings.to_json()
    assert parse_settings(raw, subject="p") == settings
    assert settings.libraries["numpy"]
    write_plan(log.path, settings)
    write_plan(log.path, settings)  # in the place of that of an earlier run
    assert plan_path(log.path).read_bytes() == raw
    assert plan_path(log.path).stat().st_mode & 0o777 == 0o600


PLAN = json.loads(
    AuditSettings(
        url="https://api.example/v1/chat/completions",
        model="m",
        plan=Plan(),
        libraries={"numpy": "2"},
        version="1",
    ).to_json()
)
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=9),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["file", "sha256", "numpy"]), st.text(max_size=5)),
)


@given(changes=st.dictionaries(st.sampled_from([*PLAN, "more"]), JUNK, min_size=1, max_size=3))
def test_any_plan_is_one_or_is_refused(changes):
    raw = (json.dumps(PLAN | changes, indent=1, sort_keys=True) + "\n").encode()
    try:
        found = parse_settings(raw, subject="p")
    except EndpointPlanError:
        return
    assert found.to_json() == raw


@given(raw=st.binary(max_size=60))
def test_any_bytes_are_no_plan(raw):
    with pytest.raises(EndpointPlanError):
        parse_settings(raw, subject="p")


@pytest.mark.parametrize("raw", [b"", b"x", b"{}\n", b'{"digest":"' + b"0" * 64 + b'"}\n'])
def test_what_is_no_log(raw):
    with pytest.raises(R1ProvError):
        read_log(raw, b"", url="https://api.example/v1/chat/completions", subject="log")
