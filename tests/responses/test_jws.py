"""Detached JWS: the vectors of RFC 7797, PyJWT as a second opinion, and what must be refused."""

import contextlib
import hashlib
import json
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed import (
    CREATED,
    KEYID,
    NOW,
    REQUEST_BODY,
    RESPONSE_BODY,
    hmac_signing_key,
    policy,
    rfc_signing_key,
    signing_key,
    unsigned,
    vectors,
    with_request,
    with_response,
)

from r1prov.errors import ResponseError
from r1prov.responses.jws import create_jws, parse_jws
from r1prov.responses.keys import b64url, from_b64url, secret_key
from r1prov.responses.report import State
from r1prov.responses.verify import verify_exchange

JWS = vectors("jws")
FIELD = "X-JWS-Signature"


def made(key=None, body=RESPONSE_BODY, **changes):
    given: dict[str, Any] = {
        "kid": KEYID,
        "iat": CREATED,
        "request_body": REQUEST_BODY,
        "status": 200,
    }
    return create_jws(body, key or signing_key(), **given | changes)


def encode(header, key=None, body=RESPONSE_BODY, *, payload="", detached=True):
    """Any header, signed all the same."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    protected = b64url(raw)
    text = protected.encode() + b"." + (body if detached else payload.encode())
    return f"{protected}.{payload}.{b64url((key or signing_key()).sign(text))}"


def verified(text, *, exchange=None, **changes):
    exchange = exchange or unsigned()
    headers = (*exchange.response.headers, (FIELD, text))
    return verify_exchange(with_response(exchange, headers=headers), policy(**changes), now=NOW)


@pytest.mark.parametrize("name", [n for n, v in JWS.items() if isinstance(v, dict)])
def test_vectors_of_rfc_7797(name):
    vector = JWS[name]
    key = secret_key(from_b64url(vector["key_k"]) or b"", name="k")
    jws = parse_jws(vector["jws"])
    assert jws.verify(key, vector["payload"].encode()) is vector["verified"]
    assert not jws.verify(key, vector["payload"].encode() + b"x")
    assert jws.encoded is ("unencoded" not in name)


def test_b64_without_crit_is_refused():
    with pytest.raises(ResponseError, match="not in `crit`"):
        parse_jws(JWS["must_refuse_b64_without_crit"])


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256-sha256", "rsa-v1_5-sha256"])
def test_pyjwt_takes_what_is_created(algorithm):
    key = rfc_signing_key(algorithm)
    found = jwt.PyJWS(algorithms=["EdDSA", "ES256", "RS256", "PS512"]).decode_complete(
        made(key),
        key._material.public_key(),
        algorithms=[json.loads(from_b64url(made(key).split(".")[0]) or b"")["alg"]],
        detached_payload=RESPONSE_BODY,
    )
    assert found["payload"] == RESPONSE_BODY


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512"])
def test_what_pyjwt_makes_verifies(algorithm):
    key = rfc_signing_key(algorithm)
    alg = {"ed25519": "EdDSA", "ecdsa-p256-sha256": "ES256", "rsa-pss-sha512": "PS512"}[algorithm]
    text = jwt.PyJWS().encode(
        RESPONSE_BODY,
        key._material,
        algorithm=alg,
        headers={"b64": False},
        is_payload_detached=True,
    )
    # PyJWT writes `b64` without `crit`, which RFC 7797 section 6 forbids.
    if "crit" not in json.loads(from_b64url(text.split(".")[0]) or b""):
        with pytest.raises(ResponseError):
            parse_jws(text)
    attached = jwt.PyJWS().encode(RESPONSE_BODY, key._material, algorithm=alg)
    assert parse_jws(attached).verify(key.public, RESPONSE_BODY)
    assert not parse_jws(attached).verify(key.public, RESPONSE_BODY + b" ")


ED = {"alg": "EdDSA"}
HEADERS = {
    "no alg": {},
    "alg no text": {"alg": 1},
    "crit null": ED | {"crit": None},
    "crit empty": ED | {"crit": []},
    "crit no list": ED | {"crit": "b64", "b64": False},
    "crit twice": ED | {"crit": ["b64", "b64"], "b64": False},
    "crit unknown": ED | {"crit": ["x"], "x": 1},
    "crit of what is not there": ED | {"crit": ["b64"]},
    "crit without b64": ED | {"crit": ["iat"], "iat": 1, "b64": False},
    "b64 no boolean": ED | {"crit": ["b64"], "b64": 0},
    "iat as text": ED | {"iat": "1"},
    "iat true": ED | {"iat": True},
    "negative": ED | {"iat": -1},
    "req_sha256 short": ED | {"req_sha256": "YQ"},
    "req_sha256 hex": ED | {"req_sha256": "0" * 64},
    "kid no text": ED | {"kid": 1},
    "no object": [1],
    "no JSON": b"{",
    "a key twice": b'{"alg":"none","alg":"EdDSA"}',
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_refused(name):
    with pytest.raises(ResponseError) as caught:
        parse_jws(encode(HEADERS[name]))
    assert caught.value.rule == "response-signature-malformed"
    assert verified(encode(HEADERS[name])).state is State.INVALID


@pytest.mark.parametrize(
    "text",
    ["", "..", "a.b", "a.b.c.d", "e30..", "e30..=", "e30=..YQ", "é..YQ", "e30.=.YQ", "a" * 70_000],
)
def test_texts_that_are_refused(text):
    with pytest.raises(ResponseError):
        parse_jws(text)


def test_a_payload_that_it_brings_along_has_to_be_the_body():
    jws = parse_jws(made())
    assert jws.verify(signing_key().public, RESPONSE_BODY)
    attached = encode(ED, body=b64url(RESPONSE_BODY).encode(), payload="")
    start, _, end = attached.split(".")
    good, bad = (f"{start}.{b64url(one)}.{end}" for one in (RESPONSE_BODY, b"other"))
    assert parse_jws(good).verify(signing_key().public, RESPONSE_BODY)
    assert not parse_jws(bad).verify(signing_key().public, RESPONSE_BODY)


def test_a_bound_answer_is_verified():
    report = verified(made(nonce="n"))
    assert (report.state, report.scheme, report.exit_status) == (State.VERIFIED, "jws", 0)
    assert report.covered == ("content-digest", "@status", "content-digest;req")
    assert any("@path;req" in one.detail for one in report.coverage)


def rules(report):
    return {one.rule.name for one in report.findings}


def test_each_way_to_fail_has_its_rule():
    assert rules(verified(made(body=b"other"))) == {"response-signature-invalid"}
    assert rules(verified(made(request_body=b"other"))) == {"response-other-request"}
    assert rules(verified(made(status=500))) == {"response-signature-invalid"}
    assert rules(verified(made(kid="stranger"))) == {"response-key-unknown"}
    assert rules(verified(made(iat=CREATED - 3600))) == {"response-too-old"}
    assert rules(verified(made(exp=CREATED - 60))) == {"response-expired"}
    assert rules(verified(encode(ED | {"kid": KEYID, "b64": False, "crit": ["b64"]}))) == {
        "response-untimed",
        "response-uncovered",
    }


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256", "RS256", "eddsa"])
def test_the_algorithm_is_that_of_the_key(alg):
    # Also where the header brings a key of its own along.
    header = {"alg": alg, "kid": KEYID, "jwk": {"kty": "oct", "k": "AA"}}
    assert rules(verified(encode(header))) == {"response-algorithm"}


def test_an_hmac_shows_integrity_only():
    key = hmac_signing_key()
    report = verified(made(key), keys=(key.public,))
    assert (report.state, report.exit_status) == (State.INTEGRITY_ONLY, 3)


def test_the_payload_that_a_jws_carries_has_to_be_the_body():
    header = ED | {"kid": KEYID, "iat": CREATED, "status": 200}
    header["req_sha256"] = b64url(hashlib.sha256(REQUEST_BODY).digest())
    payload = b64url(RESPONSE_BODY)
    good = encode(header, payload=payload, detached=False)
    assert verified(good).state is State.VERIFIED
    other = encode(header, payload=b64url(b"other"), detached=False)
    assert rules(verified(other)) == {"response-signature-invalid"}


def test_a_body_that_is_not_there_is_not_checked():
    exchange = with_response(unsigned(), body=None)
    report = verified(made(), exchange=exchange)
    assert (report.state, report.exit_status) == (State.UNCHECKED, 3)
    report = verified(made(), exchange=with_request(unsigned(), body=None))
    assert (report.state, report.exit_status) == (State.UNCHECKED, 3)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_no_other_exception_whatever_the_text(text):
    for one in (text, f"{b64url(text.encode('utf-8', 'ignore'))}..YQ"):
        with contextlib.suppress(ResponseError):
            parse_jws(one)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_changed_character_fails(data):
    text = made()
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("AQgwz059-_.").filter(lambda c: c != text[at]))
    assert verified(text[:at] + other + text[at + 1 :]).state is State.INVALID
