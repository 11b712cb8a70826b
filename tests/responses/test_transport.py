"""The transports under the real openai client, against a server that misbehaves as it is told."""

import asyncio
import threading
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import httpx2
import openai
import pytest
from scripted_server import TEXT, serve

from r1prov.errors import LimitExceeded, ResponseNotVerified, Unreadable
from r1prov.responses import transport_httpx, transport_httpx2
from r1prov.responses.enforce import Enforcement, Mode, SeenSignatures
from r1prov.responses.log import ExchangeLog, Fsync
from r1prov.responses.log_check import check_log, read_entry, read_records
from r1prov.responses.policy import ACI, HTTP, NEAR, Promise, ResponsePolicy
from r1prov.responses.report import State
from r1prov.responses.verify import verify_exchange
from r1prov.verify.findings import Verdict

KEY = "sk-0123456789abcdef0123"
WHOLE = "".join(TEXT)
KINDS = ["httpx2", "httpx2-async", "httpx", "httpx-async"]
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def server():
    with serve() as scripted:
        yield scripted


@pytest.fixture
def policy(server):
    return ResponsePolicy(keys=(server.key.public,), schemes=(HTTP, ACI))


def http_client(kind, observer, *, timeout=20):
    """A client of that kind. `observer` is an Enforcement or an ExchangeLog."""
    module, transports = {"httpx2": (httpx2, transport_httpx2), "httpx": (httpx, transport_httpx)}[
        kind.removesuffix("-async")
    ]
    name = "RecordingTransport" if isinstance(observer, ExchangeLog) else "VerifyingTransport"
    if kind.endswith("-async"):
        transport = getattr(transports, f"Async{name}")(observer)
        return module.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
    transport = getattr(transports, name)(observer)
    return module.Client(transport=transport, timeout=timeout, trust_env=False)


def ask(server, observer, model="r1", *, kind="httpx2", stream=False, retries=0, seen=None):
    """The text of one answer by the openai client; `seen` gets parts of a stream as they come."""
    parts = [] if seen is None else seen

    def take(chunk):
        parts.append(chunk.choices[0].delta.content or "")

    options = {"base_url": server.base_url, "api_key": KEY, "max_retries": retries}
    wanted = {"model": model, "messages": MESSAGES, "stream": stream}

    async def later():
        async with openai.AsyncOpenAI(http_client=http_client(kind, observer), **options) as client:
            answer = await client.chat.completions.create(**wanted)
            if not stream:
                return answer.choices[0].message.content
            async for chunk in answer:
                take(chunk)
            return "".join(parts)

    if kind.endswith("-async"):
        return asyncio.run(later())
    with openai.OpenAI(http_client=http_client(kind, observer), **options) as client:
        answer = client.chat.completions.create(**wanted)
        if not stream:
            return answer.choices[0].message.content
        for chunk in answer:
            take(chunk)
        return "".join(parts)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_answer_is_verified_under_every_client(server, policy, kind, stream):
    enforcement = Enforcement(policy)
    assert ask(server, enforcement, kind=kind, stream=stream) == WHOLE
    report = enforcement.last_report
    assert (report.state, report.verdict, report.scheme) == (State.VERIFIED, Verdict.PASS, HTTP)
    _, _, headers, _ = server.requests[-1]
    assert headers["accept-encoding"] == "identity"
    assert headers["content-digest"].startswith("sha-256=:")
    assert f'nonce="{report.nonce}"' in headers["accept-signature"]
    assert headers["authorization"] == f"Bearer {KEY}"


def test_every_request_has_a_nonce_of_its_own(server, policy):
    enforcement = Enforcement(policy)
    nonces = set()
    for _ in range(3):
        ask(server, enforcement)
        nonces.add(enforcement.last_report.nonce)
    assert len(nonces) == 3


FAULTS = {
    "unsigned": (State.UNSIGNED, "response-unsigned"),
    "strip": (State.UNSIGNED, "response-unsigned"),
    "tampered": (State.INVALID, "response-body-mismatch"),
    "truncated": (State.INVALID, "response-body-mismatch"),
    "wrong-key": (State.INVALID, "response-key-unknown"),
    "uncovered": (State.UNCOVERED, "response-uncovered"),
    "other-request": (State.INVALID, "response-signature-invalid"),
    "algorithm": (State.INVALID, "response-algorithm"),
    "old": (State.INVALID, "response-too-old"),
    "expired": (State.INVALID, "response-expired"),
    "no-nonce": (State.INVALID, "response-nonce"),
    "type": (State.INVALID, "response-signature-invalid"),
}
STREAM_FAULTS = {
    **{name: FAULTS[name] for name in ("unsigned", "tampered", "truncated", "uncovered")},
    "inserted": (State.INVALID, "response-body-mismatch"),
    "after": (State.INVALID, "response-body-mismatch"),
    "bytewise+tampered": (State.INVALID, "response-body-mismatch"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_byte_of_a_faulty_answer_is_handed_over(server, policy, fault):
    ask(server, Enforcement(policy))
    enforcement = Enforcement(policy)
    state, rule = FAULTS[fault]
    before = len(server.requests)
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, enforcement, f"r1+{fault}", retries=3)
    assert caught.value.report.state is state
    assert rule in {one.rule.name for one in caught.value.report.findings}
    assert state.value in str(caught.value)
    assert caught.value.exit_code == (3 if state is State.UNSIGNED else 1)
    assert len(server.requests) == before + 1, "it is no fault of the connection to be retried"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_to_another_request_of_the_same_client_is_told_as_such(server, policy, stream):
    enforcement = Enforcement(policy)
    ask(server, enforcement)
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, enforcement, "r1+other-request", stream=stream)
    assert "response-other-request" in {one.rule.name for one in caught.value.report.findings}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_faulty_stream_raises_at_its_end(server, policy, fault, kind):
    state, rule = STREAM_FAULTS[fault]
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, Enforcement(policy), f"r1+{fault}", kind=kind, stream=True, retries=3)
    assert caught.value.report.state is state
    assert rule in {one.rule.name for one in caught.value.report.findings}


@pytest.mark.parametrize("fault", ["unsigned", "tampered", "wrong-key"])
@pytest.mark.parametrize("stream", [False, True])
def test_reported_answers_are_handed_over_with_their_report(server, policy, fault, stream):
    reports = []
    enforcement = Enforcement(policy, mode=Mode.REPORT, on_report=reports.append)
    text = ask(server, enforcement, f"r1+{fault}", stream=stream)
    assert text == (WHOLE.replace("Hello", "Hallo") if fault == "tampered" else WHOLE)
    assert [one.state for one in reports] == [FAULTS[fault][0]]
    assert reports[0].verdict is not Verdict.PASS


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_handed_on_while_it_arrives(server, policy, kind):
    """The server sends its second event only after the client has shown the first."""
    server.release.clear()
    seen = []

    class Seen(list):
        def append(self, part):
            seen.append(part)
            server.release.set()

    with pytest.raises(ResponseNotVerified):
        ask(server, Enforcement(policy), "r1+wait+tampered", kind=kind, stream=True, seen=Seen())
    assert seen[0] == "Hallo"
    assert server.release.is_set()


def test_the_end_of_a_stream_is_not_handed_on_before_it_is_verified(server, policy):
    got = []
    body = {"model": "r1+tampered", "messages": MESSAGES, "stream": True}
    with (
        http_client("httpx2", Enforcement(policy)) as client,
        client.stream("POST", f"{server.base_url}/chat/completions", json=body) as response,
        pytest.raises(ResponseNotVerified),
    ):
        got.extend(response.iter_bytes())
    assert b"Hallo" in b"".join(got)
    assert b"DONE" not in b"".join(got)


@pytest.mark.parametrize("kind", ["httpx2", "httpx2-async"])
def test_pieces_of_any_size_are_one_answer(server, policy, kind):
    assert ask(server, Enforcement(policy), "r1+bytewise", kind=kind, stream=True) == WHOLE


def test_coded_answers_are_verified_as_they_were_coded(server, policy):
    for stream in (False, True):
        enforcement = Enforcement(policy)
        assert ask(server, enforcement, "r1+gzip", stream=stream) == WHOLE
        assert enforcement.last_report.state is State.VERIFIED
        with pytest.raises(ResponseNotVerified):
            ask(server, Enforcement(policy), "r1+gzip+wrong-key", stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_sent_again_is_refused(server, policy, stream):
    server.first.clear()
    enforcement = Enforcement(replace(policy, nonce="ignore"))
    assert ask(server, enforcement, "r1+replay", stream=stream) == WHOLE
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, enforcement, "r1+replay", stream=stream)
    assert "response-replayed" in {one.rule.name for one in caught.value.report.findings}
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, Enforcement(policy), "r1+replay", stream=stream)
    assert "response-nonce" in {one.rule.name for one in caught.value.report.findings}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", ["unsigned", "strip"])
def test_a_signature_that_was_offered_before_and_is_missing_is_a_downgrade(
    server, policy, fault, stream
):
    enforcement = Enforcement(policy, mode="report")
    ask(server, enforcement, f"r1+{fault}", stream=stream)
    assert enforcement.last_report.state is State.UNSIGNED
    ask(server, enforcement, "r1")
    ask(server, enforcement, f"r1+{fault}", stream=stream)
    report = enforcement.last_report
    assert (report.state, report.verdict) == (State.DOWNGRADED, Verdict.FAIL)
    with serve() as another:
        ask(another, enforcement, f"r1+{fault}", stream=stream)
    assert enforcement.last_report.state is State.UNSIGNED, "each origin is for itself"
    promised = replace(policy, promised=(Promise(server.origin, HTTP),))
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, Enforcement(promised), f"r1+{fault}", stream=stream)
    assert caught.value.report.state is State.DOWNGRADED


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["aci", "near"])
def test_receipts_are_fetched_after_the_end(server, policy, form, kind, stream):
    enforcement = Enforcement(replace(policy, schemes=(form,)))
    assert ask(server, enforcement, f"r1+{form}", kind=kind, stream=stream) == WHOLE
    report = enforcement.last_report
    assert (report.state, report.verdict, report.scheme) == (State.VERIFIED, Verdict.PASS, form)
    method, path, headers, _ = server.requests[-1]
    assert method == "GET"
    assert path.startswith("/v1/aci/receipts/r-" if form == "aci" else "/v1/signature/chat-")
    assert headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("kind", ["httpx2", "httpx2-async"])
@pytest.mark.parametrize("form", [ACI, NEAR])
def test_a_receipt_that_comes_late_is_waited_for(server, policy, form, kind):
    enforcement = Enforcement(replace(policy, schemes=(form,)))
    before = len(server.requests)
    assert ask(server, enforcement, f"r1+{form}+late", kind=kind, stream=True) == WHOLE
    assert len(server.requests) == before + 4


RECEIPT_FAULTS = {
    "aci+missing": (State.RECEIPT_UNAVAILABLE, "response-receipt-unavailable"),
    "near+missing": (State.RECEIPT_UNAVAILABLE, "response-receipt-unavailable"),
    "aci+garbage": (State.INVALID, "response-receipt-malformed"),
    "near+garbage": (State.INVALID, "response-receipt-malformed"),
    "aci+wrong-key": (State.INVALID, "response-key-unknown"),
    "near+wrong-key": (State.INVALID, "response-key-unpinned"),
    "aci+other-request": (State.INVALID, "response-other-request"),
    "near+other-request": (State.INVALID, "response-other-request"),
    "aci+tampered": (State.INVALID, "response-body-mismatch"),
    "near+tampered": (State.INVALID, "response-body-mismatch"),
    "near+model": (State.INVALID, "response-model"),
}


@pytest.mark.parametrize("fault", RECEIPT_FAULTS)
@pytest.mark.parametrize("kind", ["httpx2", "httpx2-async"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_receipt_that_does_not_hold_refuses_the_answer(server, policy, fault, kind, stream):
    enforcement = Enforcement(
        replace(policy, schemes=(fault.partition("+")[0],)), receipt_seconds=0.2
    )
    state, rule = RECEIPT_FAULTS[fault]
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, enforcement, f"r1+{fault}", kind=kind, stream=stream)
    assert caught.value.report.state is state
    assert rule in {one.rule.name for one in caught.value.report.findings}


def test_no_receipt_is_asked_for_where_none_is_promised(server, policy):
    enforcement = Enforcement(ResponsePolicy(keys=policy.keys), mode="report")
    before = len(server.requests)
    ask(server, enforcement, "r1+unsigned")
    assert len(server.requests) == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_breaks_off_is_an_error_of_the_connection_and_incomplete(
    server, policy, kind
):
    for stream in (False, True):
        reports = []
        enforcement = Enforcement(policy, on_report=reports.append)
        # openai takes what httpx and httpx2 raise for one of its own, or lets it through.
        with pytest.raises(
            (openai.APIConnectionError, httpx.TransportError, httpx2.TransportError)
        ):
            ask(server, enforcement, "r1+cut", kind=kind, stream=stream)
        assert [one.verdict for one in reports] != [Verdict.PASS]
        assert "response-stream-incomplete" in {one.rule.name for one in reports[0].findings}


@pytest.mark.parametrize("kind", ["httpx2", "httpx2-async"])
def test_a_client_that_stops_reading_gets_no_verdict_of_a_whole_answer(server, policy, kind):
    reports = []
    enforcement = Enforcement(policy, on_report=reports.append)
    url = f"{server.base_url}/chat/completions"
    body = {"model": "r1", "messages": MESSAGES, "stream": True}

    async def later():
        async with http_client(kind, enforcement) as client:
            async with client.stream("POST", url, json=body) as response:
                async for _ in response.aiter_raw():
                    break
            async with client.stream("POST", url, json=body):
                pass

    if kind.endswith("-async"):
        asyncio.run(later())
    else:
        with http_client(kind, enforcement) as client:
            with client.stream("POST", url, json=body) as response:
                next(response.iter_raw())
            with client.stream("POST", url, json=body):
                pass
    assert [one.state for one in reports] == [State.INCOMPLETE_STREAM] * 2


def test_a_server_that_goes_on_after_the_end_is_left(server, policy):
    """Half a megabyte of comments after `[DONE]`: the client neither waits nor keeps them."""
    with pytest.raises(ResponseNotVerified) as caught:
        ask(server, Enforcement(policy), "r1+drip", stream=True)
    assert caught.value.report.state is State.INCOMPLETE_STREAM
    assert caught.value.exit_code == 3


def test_long_streams_are_judged_by_digests_and_long_answers_refused(server, policy):
    for kind in ("httpx2", "httpx2-async"):
        enforcement = Enforcement(policy, keep=300)
        assert ask(server, enforcement, kind=kind, stream=True) == WHOLE
        assert enforcement.last_report.state is State.VERIFIED
        with pytest.raises(ResponseNotVerified):
            ask(server, enforcement, "r1+tampered", kind=kind, stream=True)
        with pytest.raises(LimitExceeded, match="more than 100 bytes"):
            ask(server, Enforcement(policy, keep=100), kind=kind)


def test_memory_stays_flat_however_long_a_stream_is(tmp_path):
    """32 MB pass through a transport that keeps 64 kB."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from r1prov.responses.record import Recording

    size, piece = 32 * 1024 * 1024, b": comment\n\n" * 6000

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for _ in range(size // len(piece)):
                self.wfile.write(piece)

        def log_message(self, *args):
            pass

    log = ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)
    with HTTPServer(("127.0.0.1", 0), Handler) as one:
        thread = threading.Thread(target=one.handle_request)
        thread.start()
        transport = transport_httpx2.RecordingTransport(log)
        transport._observer = Recording(log, keep=64 * 1024)
        tracemalloc.start()
        url = f"http://127.0.0.1:{one.server_address[1]}/"
        with (
            httpx2.Client(transport=transport, trust_env=False) as client,
            client.stream("GET", url) as response,
        ):
            length = sum(len(one) for one in response.iter_raw())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        thread.join(10)
    assert length == size // len(piece) * len(piece)
    assert peak < 4 * 1024 * 1024
    exchange = read_entry(log.path, None)
    assert exchange.response.body is None
    assert exchange.response.body_digests.length == length


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_recording_changes_nothing_and_keeps_all_but_secrets(tmp_path, server, kind, stream):
    log = ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)
    assert ask(server, log, "r1", kind=kind, stream=stream) == WHOLE
    _, _, headers, body = server.requests[-1]
    assert headers["accept-encoding"] != "identity"
    assert "accept-signature" not in headers
    exchange = read_entry(log.path, None)
    assert exchange.response.complete, "the client stopped at [DONE], the record did not"
    assert exchange.request.body == body
    sent = {name: value for name, value in headers.items() if name != "authorization"}
    assert {name.lower(): value for name, value in exchange.request.headers} == sent
    assert exchange.is_redacted("request.header:authorization")
    assert KEY.encode() not in log.path.read_bytes()
    assert exchange.response.body.endswith(b"data: [DONE]\n\n" if stream else b"}")


def test_what_was_enforced_can_be_verified_again_from_the_log(tmp_path, server, policy):
    log = ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)
    enforcement = Enforcement(policy, log=log)
    ask(server, enforcement)
    ask(server, enforcement, stream=True)
    with pytest.raises(ResponseNotVerified):
        ask(server, enforcement, "r1+tampered")
    aci = Enforcement(replace(policy, schemes=(ACI,)), log=log)
    ask(server, aci, "r1+aci", stream=True)
    assert check_log(log.path).exchanges == 4
    states = [
        verify_exchange(read_entry(log.path, number), policy, now=datetime.now(UTC)).state
        for number in range(1, 5)
    ]
    assert states == [State.VERIFIED, State.VERIFIED, State.INVALID, State.VERIFIED]


def test_a_log_that_cannot_be_written_stops_the_answer(tmp_path, server, policy):
    log = ExchangeLog(tmp_path / "none" / "log.jsonl")
    with pytest.raises(Unreadable):
        ask(server, Enforcement(policy, log=log))
    with pytest.raises(Unreadable):
        ask(server, log, stream=True)


def test_one_enforcement_serves_many_threads(server, policy):
    enforcement = Enforcement(policy, mode="report")
    texts = []
    threads = [
        threading.Thread(
            target=lambda n=n: texts.append(ask(server, enforcement, stream=bool(n % 2)))
        )
        for n in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert texts == [WHOLE] * 8


def test_signatures_are_remembered_as_long_as_they_could_count():
    from datetime import timedelta

    seen = SeenSignatures(timedelta(seconds=0.05))
    assert not seen("key", "a")
    assert seen("key", "a")
    assert not seen("other", "a")
    deadline = time.monotonic() + 5
    while seen("key", "a"):
        assert time.monotonic() < deadline
    assert not seen("key", "b")


def test_records_hold_exchanges_of_all_clients(tmp_path, server):
    log = ExchangeLog(tmp_path / "log.jsonl", fsync=Fsync.NEVER)
    for kind in KINDS:
        ask(server, log, kind=kind)
    assert sum(one.kind == "exchange" for one in read_records(log.path)) == len(KINDS)
