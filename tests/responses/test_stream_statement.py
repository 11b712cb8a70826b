"""A statement is read strictly: whatever else is signed by the same key is none."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import StatementError
from r1prov.limits import MAX_STREAM_STATEMENT_BYTES
from r1prov.responses.stream_statement import (
    RequestFacts,
    StreamStatement,
    decode_statement,
    encode_statement,
)

FACTS = RequestFacts(
    method="POST", authority="a", path="/", query="?", content_sha256="0" * 64, nonce=None
)
SOUND = StreamStatement(
    id="A" * 22,
    seq=0,
    state="open",
    offset=0,
    sha256="0" * 64,
    end="",
    iat=1,
    exp=2,
    status=200,
    content_type=None,
    request=FACTS,
    manifest_sha256="0" * 64,
    weights="stated",
    weights_at=None,
)
HEADER = {"alg": "EdDSA", "kid": "k", "typ": "r1prov-stream+jws"}
PAYLOAD = {"version": 1, **dataclasses.asdict(SOUND)}


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header=HEADER, payload=PAYLOAD, signature=b"s" * 64):
    parts = [
        one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, payload)
    ]
    return ".".join(b64(part) for part in (*parts, signature))


def test_what_is_written_is_read():
    text = encode_statement(SOUND, key_id="k", algorithm="EdDSA", sign=lambda data: data[:64])
    signed = decode_statement(text)
    assert (signed.statement, signed.key_id, signed.algorithm) == (SOUND, "k", "EdDSA")
    assert signed.signing_input == text.rpartition(".")[0].encode()
    assert signed.signature == signed.signing_input[:64]
    assert decode_statement(token()).statement == SOUND


def without(value, name):
    return {key: item for key, item in value.items() if key != name}


def changed(**members):
    return token(payload={**PAYLOAD, **members})


def request(**members):
    return changed(request={**dataclasses.asdict(FACTS), **members})


WRONG = {
    "nothing": "",
    "two parts": "a.b",
    "four parts": token() + ".a",
    "padding": token() + "=",
    "base64 of another alphabet": token().replace("_", "/") + "/",
    "bits left over": token(signature=b"a")[:-1] + "R",
    "too long": changed(end="x" * MAX_STREAM_STATEMENT_BYTES),
    "another type": token({**HEADER, "typ": "JWT"}),
    "no type": token(without(HEADER, "typ")),
    "no key": token(without(HEADER, "kid")),
    "a key in the header": token({**HEADER, "jwk": {}}),
    "extensions": token({**HEADER, "crit": ["b64"], "b64": False}),
    "an algorithm that is no string": token({**HEADER, "alg": None}),
    "a header that is no object": token([]),
    "a payload that is no object": token(payload=[]),
    "a payload that is no JSON": token(payload=b"{"),
    "a name twice": token(payload=json.dumps(PAYLOAD).encode()[:-1] + b',"seq":0}'),
    "another version": changed(version=2),
    "a version that is true": changed(version=True),
    "a member too many": changed(more=1),
    "a member too few": token(payload=without(PAYLOAD, "exp")),
    "a short name": changed(id="A" * 21),
    "a name of other characters": changed(id="A" * 21 + "."),
    "a negative number": changed(seq=-1),
    "a number that is true": changed(seq=True),
    "a fraction": changed(offset=1.5),
    "a huge number": changed(iat=2**63),
    "an unknown state": changed(state="done"),
    "an unknown standing of weights": changed(weights="good"),
    "verified at no time": changed(weights="verified"),
    "stated at a time": changed(weights_at=1),
    "a digest in capitals": changed(sha256="A" * 64),
    "a short digest": changed(manifest_sha256="0" * 63),
    "an end that goes on": changed(end="data: [DONE]\n\n"),
    "an end of another kind": changed(state="complete", end="data: x\n\n"),
    "an end without a blank line": changed(state="complete", end="data: [DONE]\n"),
    "a content type that is a number": changed(content_type=1),
    "a request that is no object": changed(request=[]),
    "a request with a member too many": request(scheme="https"),
    "a method that is no string": request(method=None),
    "a nonce that is a number": request(nonce=1),
    "a short digest of the request": request(content_sha256="0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_of_the_format_is_refused(what):
    with pytest.raises(StatementError):
        decode_statement(WRONG[what])


@given(st.text(max_size=200))
def test_any_text_is_refused_in_the_same_way(text):
    with pytest.raises(StatementError):
        decode_statement(text)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_in_the_right_form_are_refused_in_the_same_way(header, payload):
    for one in (token(header, payload), token(payload=payload), token(header)):
        with pytest.raises(StatementError):
            decode_statement(one)
