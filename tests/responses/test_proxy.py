"""The signing proxy before a server that behaves, and before one that does not."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace

import http_message_signatures
import httpx
import proxy_process
import pytest
import scripted_upstream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from proxy_process import BODY, NONCE, ask, field, judged, with_receipt
from scripted_upstream import ANSWER, DONE, EVENTS, HUGE, LINES, STREAM

from r1prov.manifest.shelf import load_shelf, resolve_manifest
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.expected import Expected, request_facts
from r1prov.responses.report import State
from r1prov.responses.stream import StreamState, StreamVerifier


@pytest.fixture(scope="module")
def upstream():
    with scripted_upstream.running() as server:
        yield server


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return proxy_process.make_key(tmp_path_factory.mktemp("key") / "answers.key")


@pytest.fixture(scope="module")
def proxy(upstream, key):
    with proxy_process.running(upstream.url, key, "--upstream-timeout", "1") as running:
        running.base = running.url
        yield running


@pytest.fixture(scope="module")
def client(proxy):
    with httpx.Client(base_url=proxy.base, timeout=20) as connected:
        yield connected


@pytest.fixture(scope="module")
def keys(client, proxy):
    return proxy_process.trusted(client, proxy.base)


# ---- whole answers -------------------------------------------------------------------------------


def test_a_whole_answer_is_signed_in_its_header(client, keys, proxy):
    exchange = ask(client, "/v1/chat/completions?a=%2F&b")
    report = judged(exchange, keys, nonce="require")
    assert (report.state, report.findings) == (State.VERIFIED, ())
    assert exchange.response.body == ANSWER
    covered = {str(one) for one in report.covered}
    assert covered == {
        *("@status", "content-type", "content-digest", "r1prov-manifest", "r1prov-weights"),
        *("r1prov-origin", "r1prov-request-digest"),
        *("@method;req", "@authority;req", "@path;req", "@query;req"),
    }
    assert report.nonce == "n-42"
    assert (report.expires - report.created).total_seconds() == 300
    manifest = client.get("/.well-known/r1prov/manifest").content
    digest = base64.b64encode(hashlib.sha256(manifest).digest()).decode()
    assert field(exchange, "r1prov-manifest") == f"sha-256=:{digest}:"
    assert field(exchange, "r1prov-weights") == "stated"
    assert field(exchange, "r1prov-origin") == "upstream"


class Resolver(http_message_signatures.HTTPSignatureKeyResolver):
    def __init__(self, keys):
        self.keys = keys

    def resolve_public_key(self, key_id):
        return self.keys[key_id].material


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256", "ecdsa-p384", "rsa-pss-3072"])
def test_another_library_verifies_the_same_signature(upstream, tmp_path, algorithm):
    own = proxy_process.make_key(tmp_path / "k", algorithm)
    with proxy_process.running(upstream.url, own) as running:
        base = running.url
        with httpx.Client(base_url=base) as client:
            served = proxy_process.trusted(client, base)
            digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
            sent = {"content-digest": f"sha-256=:{digest}:", "accept-signature": NONCE}
            response = client.post("/v1/x?q=1", content=BODY, headers=sent)
            stream = ask(client, "/v1/stream")
    algorithms = {
        "ed25519": http_message_signatures.algorithms.ED25519,
        "ecdsa-p256": http_message_signatures.algorithms.ECDSA_P256_SHA256,
        "ecdsa-p384": http_message_signatures.algorithms.ECDSA_P384_SHA384,
        "rsa-pss-3072": http_message_signatures.algorithms.RSA_PSS_SHA512,
    }
    verifier = http_message_signatures.HTTPMessageVerifier(
        signature_algorithm=algorithms[algorithm], key_resolver=Resolver(served)
    )
    results = verifier.verify(response, expect_tag="r1prov", body=response.content)
    covered = results[0].covered_components
    assert '"content-digest";req' in covered
    assert '"@query";req' in covered
    assert judged(stream, served).state is State.VERIFIED


def test_a_policy_can_ask_for_a_manifest_and_for_verified_weights(client, keys):
    right = hashlib.sha256(client.get("/.well-known/r1prov/manifest").content).hexdigest()
    for exchange in (ask(client, "/v1/x"), ask(client, "/v1/stream")):
        assert judged(exchange, keys, manifest_sha256=right).state is State.VERIFIED
        for changes, rule in (
            ({"manifest_sha256": "0" * 64}, "response-manifest"),
            ({"verified_weights": True}, "response-weights-stated"),
        ):
            report = judged(exchange, keys, **changes)
            assert report.state is State.INVALID
            assert [one.rule.name for one in report.findings] == [rule]


def test_the_clients_own_digest_is_covered_when_it_sends_one(client, keys):
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    exchange = ask(client, "/v1/x", headers={"content-digest": f"sha-256=:{digest}:"})
    report = judged(exchange, keys)
    assert report.state is State.VERIFIED
    assert "content-digest;req" in {str(one) for one in report.covered}


@pytest.mark.parametrize("value", ["sha-256=:AAAA:", "sha-256=x", f"sha-256=:{'A' * 43}=:"])
def test_a_digest_that_is_not_the_contents_is_refused_and_not_forwarded(
    client, keys, upstream, value
):
    before = len(upstream.seen)
    exchange = ask(client, "/v1/x", headers={"content-digest": value})
    assert exchange.response.status == 400
    assert json.loads(exchange.response.body)["error"]["code"] == "bad_content_digest"
    assert field(exchange, "r1prov-origin") == "proxy"
    assert len(upstream.seen) == before
    report = judged(replace(exchange, request=replace(exchange.request, headers=())), keys)
    # What the client said of its content was never true, so it cannot be what was signed.
    assert report.state is State.INVALID


SIGNED_FIELDS = (
    *("content-type", "content-digest", "r1prov-manifest", "r1prov-weights", "r1prov-origin"),
    *("r1prov-request-digest", "signature-input", "signature"),
)


@pytest.fixture(scope="module")
def whole(client):
    return ask(client, "/v1/chat/completions?a=1")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_no_byte_of_what_is_covered_can_be_changed(whole, keys, data):
    part = data.draw(
        st.sampled_from(["status", "body", "method", "url", "request body", *SIGNED_FIELDS])
    )
    request, response = whole.request, whole.response

    def changed(text):
        at = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(st.integers(0x21, 0x7E))
        return text[:at] + (bytes([new]) if isinstance(text, bytes) else chr(new)) + text[at + 1 :]

    if part == "status":
        response = replace(response, status=data.draw(st.integers(200, 599)))
    elif part == "body":
        response = replace(response, body=changed(response.body))
    elif part == "method":
        request = replace(request, method=changed(request.method))
    elif part == "url":
        # The scheme is not signed, and what is after the authority counts as it was sent.
        scheme, rest = request.url[:7], request.url[7:]
        url = scheme + changed(rest)
        request = replace(request, url=url, headers=())
        if "#" in url or "@" in url or url.lower() == request.url.lower():
            return
    elif part == "request body":
        request = replace(request, body=changed(request.body))
    else:
        fields = [(k, changed(v) if k == part else v) for k, v in response.headers]
        response = replace(response, headers=tuple(fields))
    if (request, response) == (whole.request, whole.response):
        return
    report = judged(replace(whole, request=request, response=response), keys, nonce="ignore")
    assert report.state in (State.INVALID, State.UNSIGNED, State.UNCOVERED), part


# ---- streams -------------------------------------------------------------------------------------


def without_statements(content):
    lines = content.split(b"\n\n")
    return b"\n\n".join(one for one in lines if not one.startswith(b": r1prov-signature "))


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/in-bits", "/v1/old"])
def test_a_stream_passes_unchanged_with_statements_between(client, keys, path):
    exchange = ask(client, path)
    report = judged(exchange, keys, nonce="require")
    assert (report.state, report.findings) == (State.VERIFIED, ())
    assert without_statements(exchange.response.body) == STREAM + DONE
    assert exchange.response.body.endswith(b"\n\n" + DONE)
    assert field(exchange, "r1prov-stream").startswith("inline;id=")
    assert report.nonce == "n-42"


def test_events_are_passed_on_at_once(client, upstream, keys, proxy):
    upstream.step.clear()
    with client.stream("POST", "/v1/steps", content=BODY) as response:
        pieces = response.iter_raw()
        got = b""
        for number, event in enumerate((*EVENTS, DONE)):
            upstream.step.set()
            while not got.endswith(event):
                got += next(pieces)
            assert got.count(b"data: ") == number + 1
    verifier = StreamVerifier(
        tuple(response.headers.multi_items()),
        Expected(
            request=request_facts(
                Request(method="POST", url=str(response.url), headers=(), body=BODY)
            ),
            status=200,
            content_type=response.headers["content-type"],
            key=keys.get,
            now=time.time,
        ),
    )
    assert verifier.feed(got) is None
    assert verifier.finish(complete=True).state is StreamState.VERIFIED


OUTCOMES = {
    "/v1/no-end-event": (200, State.VERIFIED, True),
    "/v1/after-end": (200, State.VERIFIED, True),
    "/v1/cut": (200, State.INCOMPLETE_STREAM, False),
    "/v1/cut-within": (200, State.INCOMPLETE_STREAM, False),
    "/v1/forged": (200, State.INCOMPLETE_STREAM, False),
    "/v1/old-open": (200, State.INCOMPLETE_STREAM, False),
    "/v1/then-silent": (200, State.INCOMPLETE_STREAM, False),
    "/v1/cut-whole": (502, State.VERIFIED, True),
    "/v1/nothing": (502, State.VERIFIED, True),
    "/v1/garbage": (502, State.VERIFIED, True),
    "/v1/silent": (504, State.VERIFIED, True),
    "/v1/odd-status": (502, State.VERIFIED, True),
    "/v1/two-types": (502, State.VERIFIED, True),
    "/v1/bad-header": (502, State.VERIFIED, True),
    "/v1/failure": (429, State.VERIFIED, True),
    "/v1/none": (204, State.VERIFIED, True),
    "/v1/redirect": (307, State.VERIFIED, True),
    "/v1/gzip": (200, State.VERIFIED, True),
}


@pytest.mark.parametrize("path", OUTCOMES)
def test_whatever_the_upstream_does_has_a_clear_end(client, keys, path):
    status, state, complete = OUTCOMES[path]
    exchange = ask(client, path)
    assert (exchange.response.status, exchange.response.complete) == (status, complete)
    report = judged(exchange, keys)
    assert report.state is state, report.findings
    if status in (502, 504):
        error = json.loads(exchange.response.body)["error"]
        assert error["type"] == "r1prov_proxy_error"
        assert field(exchange, "r1prov-origin") == "proxy"


def test_a_cut_is_stated_by_the_signer_and_the_connection_is_broken(client, keys):
    exchange = ask(client, "/v1/cut")
    report = judged(exchange, keys)
    names = {one.rule.name for one in report.findings}
    assert names == {"stream-cut", "response-stream-incomplete"}
    assert without_statements(exchange.response.body) == STREAM


def test_upstreams_own_failure_is_passed_on_as_it_is(client):
    exchange = ask(client, "/v1/failure")
    assert exchange.response.body == b'{"error":{"message":"no"}}'
    assert field(exchange, "retry-after") == "7"
    assert field(exchange, "r1prov-origin") == "upstream"
    assert field(ask(client, "/v1/redirect"), "location") == "http://elsewhere.invalid/"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/ndjson", LINES),
        ("/v1/huge", HUGE),
        ("/v1/gzip-stream", gzip.compress(STREAM + DONE, mtime=0)),
    ],
)
def test_what_cannot_hold_statements_is_signed_in_a_receipt(client, keys, path, content):
    exchange = ask(client, path)
    assert exchange.response.body == content
    assert field(exchange, "r1prov-stream").startswith("receipt;id=")
    assert judged(exchange, keys).state is State.RECEIPT_UNAVAILABLE
    fetched = with_receipt(client, exchange)
    assert judged(fetched, keys).state is State.VERIFIED
    spoilt = replace(fetched, response=replace(fetched.response, body=content[:-1] + b"?"))
    assert judged(spoilt, keys).state is State.INVALID


def test_a_receipt_of_a_stream_is_its_last_statement(client, keys):
    exchange = with_receipt(client, ask(client, "/v1/stream"))
    assert exchange.documents[0].status == 200
    assert exchange.documents[0].body in exchange.response.body
    missing = client.get("/.well-known/r1prov/receipts/AAAAAAAAAAAAAAAAAAAAAA")
    assert missing.status_code == 404


# ---- what passes ---------------------------------------------------------------------------------


def test_the_request_arrives_as_it_was_sent_less_what_is_of_the_connection(client, upstream):
    exchange = ask(
        client,
        "/v1/a%2Fb//c?x=%20&y",
        headers={
            "X-Twice": "1",
            "x-twice": "2",
            "connection": "x-hop, keep-alive",
            "x-hop": "secret",
            "te": "trailers",
            "proxy-authorization": "Basic abc",
            "accept-encoding": "gzip",
            "r1prov-origin": "upstream",
            "authorization": "Bearer token",
            "x-utf8": "grüße".encode(),
        },
    )
    said = json.loads(exchange.response.body)
    fields = [(name.lower(), value) for name, value in said["headers"]]
    names = [name for name, _ in fields]
    assert said["target"] == "/v1/a%2Fb//c?x=%20&y"
    assert said["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert ("authorization", "Bearer token") in fields
    assert [value for name, value in fields if name == "x-twice"] == ["1", "2"]
    assert ("accept-encoding", "identity") in fields
    assert ("host", upstream.url.removeprefix("http://")) in fields
    assert ("x-utf8", "grüße".encode().decode("latin-1")) in fields
    assert names.count("accept-encoding") == names.count("host") == 1
    gone = {"x-hop", "te", "proxy-authorization", "r1prov-origin", "accept-signature", "connection"}
    assert not gone & set(names)


def test_the_answer_arrives_as_it_was_sent_less_what_is_of_the_connection(client, keys):
    exchange = ask(client, "/v1/fields")
    names = [name for name, _ in exchange.response.headers]
    assert field(exchange, "x-kept") == "yes"
    assert not {"x-of-hop", "keep-alive"} & set(names)
    assert names.count("signature") == names.count("content-digest") == 1
    assert judged(exchange, keys).state is State.VERIFIED


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_any_method_passes(client, keys, method):
    exchange = ask(client, "/v1/models", method=method, content=b"")
    assert exchange.response.status == 200
    report = judged(exchange, keys)
    assert report.state is State.VERIFIED, report.findings
    if method != "HEAD":
        assert json.loads(exchange.response.body)["method"] == method


# ---- what does not -------------------------------------------------------------------------------


def raw(proxy, data, *, wait=10):
    """What the proxy answers to bytes."""
    host, _, port = proxy.base.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(data)
        got = b""
        try:
            while piece := connection.recv(65536):
                got += piece
        except ConnectionError:
            pass
        return got


HEAD = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
REFUSED = {
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks spelled oddly": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": HEAD + b"Content-Length : 1\r\n\r\na",
    "folded": HEAD + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    "a bare CR": HEAD + b"X: a\rb\r\n\r\n",
    "a NUL": HEAD + b"X: a\0b\r\n\r\n",
    "bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\na\r\n0\r\n\r\n",
    "two hosts": b"POST /v1/x HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    "no host": b"POST /v1/x HTTP/1.1\r\nConnection: close\r\n\r\n",
    "odd host": b"POST /v1/x HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n",
    "dot segments": b"GET /v1/../x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "coded dot segments": b"GET /v1/%2e%2E/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "connect": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "trace": b"TRACE /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a long target": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "not UTF-8": HEAD + b"X: \xff\r\n\r\n",
    "bad nonce": HEAD + b'Accept-Signature: r1prov=();nonce="\r\n\r\n',
    "two nonces": HEAD + b'Accept-Signature: a=();nonce="1", b=();nonce="2"\r\n\r\n',
    "a long nonce": HEAD + b'Accept-Signature: a=();nonce="' + b"n" * 300 + b'"\r\n\r\n',
    "too large": HEAD + b"Content-Length: 99999999999\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "coded chunks": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "content of an upgrade": b"POST /v1/x HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n"
    b"Connection: Upgrade, close\r\nContent-Length: 3\r\n\r\nabc",
    "a target of another host": HEAD.replace(b"/v1", b"http://b/v1") + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_ambiguous_request_is_refused_and_goes_nowhere(proxy, upstream, what):
    before = len(upstream.seen)
    got = raw(proxy, REFUSED[what])
    assert int(got.split()[1]) in range(400, 600)
    assert b"signature-input" not in got.lower()
    assert len(upstream.seen) == before


def test_a_target_in_absolute_form_is_the_host_it_names(proxy, upstream):
    got = raw(proxy, b"GET http://A:80/v1/x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 200 ")
    assert upstream.seen[-1][1] == "/v1/x?y"


def test_a_trailer_is_no_header(proxy, upstream):
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    trailer = b"Host: b\r\nX-Late: 1\r\n\r\n"
    got = raw(proxy, head + b"3\r\nabc\r\n0\r\n" + trailer)
    assert got.startswith(b"HTTP/1.1 200 ")
    _, _, headers, body = upstream.seen[-1]
    assert "X-Late" not in headers
    assert body == b"abc"


def test_an_endless_head_is_cut_off(proxy):
    host, _, port = proxy.base.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        sent = 0
        with suppress(OSError):
            while sent < 400:
                connection.sendall(b"X-A: " + b"a" * 8192 + b"\r\n")
                sent += 1
                time.sleep(0.001)
        assert sent < 400


def test_no_second_request_is_taken_after_a_close(proxy, upstream):
    before = len(upstream.seen)
    one = b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    got = raw(proxy, one + one.replace(b"/v1/x", b"/v1/y"))
    assert got.count(b"HTTP/1.1 ") == 1
    assert [path for _, path, _, _ in upstream.seen[before:]] in (["/v1/x"], [])


def test_a_client_of_http_1_0_gets_a_whole_answer(proxy, keys):
    got = raw(proxy, b"POST /v1/stream HTTP/1.0\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    assert body == STREAM + DONE
    assert b"transfer-encoding" not in head.lower()
    fields = [tuple(line.decode().split(": ", 1)) for line in head.split(b"\r\n")[1:]]
    exchange = Exchange(
        request=Request(method="POST", url="http://a/v1/stream", headers=(), body=b""),
        response=Response(status=200, headers=tuple(fields), body=body),
    )
    assert judged(exchange, keys).state is State.VERIFIED


def test_a_client_that_leaves_ends_the_request_to_the_upstream(client, upstream):
    upstream.hung_up.clear()
    with client.stream("POST", "/v1/endless", content=BODY) as response:
        next(response.iter_raw())
        assert not upstream.hung_up.is_set()
    assert upstream.hung_up.wait(10)


def test_a_request_that_comes_back_is_refused(key, tmp_path):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with proxy_process.running(url, key, "--listen", f"127.0.0.1:{port}") as running:
        assert running.url == url
        answer = httpx.post(f"{url}/v1/x", content=BODY, timeout=20)
    assert answer.status_code == 508
    assert answer.json()["error"]["code"] == "loop"


# ---- what it serves ------------------------------------------------------------------------------


def test_it_serves_its_keys_its_manifest_and_its_health(client, keys, key):
    manifest = resolve_manifest(load_shelf(), "DeepSeek-R1")
    assert client.get("/.well-known/r1prov/manifest").content == manifest.raw
    signatures = client.get("/.well-known/r1prov/manifest/signatures").json()
    assert len(signatures["bundles"]) == len(manifest.bundles()) > 0
    assert len(keys) == 1
    directory = client.get("/.well-known/http-message-signatures-directory")
    assert directory.headers["content-type"] == (
        "application/http-message-signatures-directory+json"
    )
    assert directory.content == client.get("/.well-known/r1prov/jwks.json").content
    assert b'"d"' not in directory.content
    assert client.get("/.well-known/r1prov/health").json() == {"status": "ok"}
    assert client.post("/.well-known/r1prov/health").status_code == 405
    assert client.get("/.well-known/r1prov/nothing").status_code == 404
    assert client.head("/.well-known/r1prov/jwks.json").content == b""


def test_nothing_of_a_request_is_logged(client, proxy):
    secrets = {"authorization": "Bearer sk-very-secret", "x-api-key": "also-secret"}
    for path in ("/v1/garbage?key=secret-query", "/v1/cut?key=secret-query", "/v1/nothing"):
        ask(client, path, content=b"secret-body", headers=secrets)
    assert len(proxy.said) > 3
    assert not [line for line in proxy.said if "secret" in line or "/v1/" in line]


def test_many_streams_at_once_are_each_whole(client, proxy, keys):
    results = []

    def one():
        with httpx.Client(base_url=proxy.base, timeout=30) as own:
            results.append(judged(ask(own, "/v1/stream"), keys).state)

    threads = [threading.Thread(target=one) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [State.VERIFIED] * 30
