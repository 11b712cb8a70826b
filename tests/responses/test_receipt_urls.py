import json
from dataclasses import replace

import pytest
from signed import unsigned

from r1prov.responses.exchange import Request
from r1prov.responses.policy import ACI, HTTP, NEAR, ResponsePolicy
from r1prov.responses.receipts import DIRECTORY, answer_id, key_set_urls, receipt_urls

PIN = "A" * 43


def exchange(url="https://api.example/v1/chat/completions", answer=b'{"id":"c-1"}', headers=()):
    plain = unsigned()
    return replace(
        plain,
        request=Request(method="POST", url=url, headers=(), body=b'{"model":"a/b:c"}'),
        response=replace(plain.response, headers=tuple(headers), body=answer),
    )


BASES = {
    "https://api.example/v1/chat/completions": "https://api.example/v1",
    "https://api.example/v1/chat/completions/?a=b#c": "https://api.example/v1",
    "https://API.example:443/openai/v2/completions": "https://api.example/openai/v2",
    "https://user:pass@api.example:8443/responses": "https://api.example:8443",
    "https://api.example/something/else": "https://api.example/v1",
}


@pytest.mark.parametrize("url", BASES)
def test_receipts_are_asked_for_at_the_base_of_the_same_origin(url):
    one = exchange(url, headers=[("X-Receipt-Id", "r-1")])
    assert receipt_urls(one, {ACI}) == (f"{BASES[url]}/aci/receipts/r-1",)
    assert receipt_urls(one, {NEAR}) == (f"{BASES[url]}/signature/c-1?model=a%2Fb%3Ac",)
    assert receipt_urls(one, {HTTP}) == ()


@pytest.mark.parametrize("name", ["", "../../admin", "a/b", "a?b=c", "a#b", "a b", "é", "a" * 300])
def test_what_an_answer_says_cannot_lead_elsewhere(name):
    assert receipt_urls(exchange(headers=[("X-Receipt-Id", name)]), {ACI}) == ()
    body = json.dumps({"id": name}).encode()
    assert receipt_urls(exchange(answer=body), {NEAR}) == ()


def test_two_receipts_are_none():
    headers = [("X-Receipt-Id", "a"), ("X-Receipt-Id", "b")]
    assert receipt_urls(exchange(headers=headers), {ACI}) == ()


@pytest.mark.parametrize(
    ("kind", "answer", "found"),
    [
        ("application/json", b'\n\n{"id":"a"}', "a"),
        ("application/json", b'{"id":1}', None),
        ("application/json", b"[]", None),
        ("application/json", b"\xff", None),
        ("application/json", None, None),
        ("text/event-stream", b': hi\n\ndata: {}\n\ndata: {"id":"b"}\n\n', "b"),
        ("text/event-stream; charset=utf-8", b'data:{"id":"c"}\r\n\r\ndata: [DONE]\n\n', "c"),
        ("text/event-stream", b"data: x\n" * 20_000 + b'data: {"id":"d"}\n\n', None),
    ],
)
def test_the_id_of_an_answer(kind, answer, found):
    assert answer_id(exchange(answer=answer, headers=[("Content-Type", kind)])) == found


def test_key_sets_are_asked_for_where_a_pin_could_use_them():
    one = exchange(headers=[("X-Receipt-Id", "r-1")])
    assert key_set_urls(one, ResponsePolicy()) == ()
    pinned = ResponsePolicy(pins=frozenset({PIN}))
    assert key_set_urls(one, pinned) == (f"https://api.example{DIRECTORY}",)
    assert key_set_urls(one, replace(pinned, schemes=(ACI,))) == ()
    aci = ResponsePolicy(pins=frozenset({f"sha256:{'a' * 64}"}))
    (url,) = key_set_urls(one, aci)
    assert url.startswith("https://api.example/v1/aci/attestation?nonce=")
    assert len(url.rpartition("=")[2]) == 64
    assert key_set_urls(exchange(), aci) == ()
