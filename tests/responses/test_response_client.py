"""The adapter `tests/conformance/response-client`: the vectors, and vectors bent in every way."""

import copy
import hmac
import json
import os
import subprocess
import sys
from base64 import b64encode
from gzip import compress
from hashlib import sha512
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from receipts import N, aci_receipt, keyset, near_receipt
from signed import (
    REQUEST_BODY,
    RESPONSE_BODY,
    RFC,
    VECTORS,
    digest_of,
    rfc_signing_key,
    signed,
    signing_key,
    unsigned,
    vectors,
    with_header,
    with_response,
)

from r1prov.responses.jws import create_jws
from r1prov.responses.keys import b64url

CLIENT = Path(__file__).parents[1] / "conformance" / "response-client"


def answers(value, folder, name="vectors.json"):
    """What the adapter says of each vector, in order."""
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    done = subprocess.run(
        [sys.executable, CLIENT, path], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(len(line) == 3 for line in lines), done.stdout
    assert all(line[1] in ("valid", "valid-uncovered", "invalid") for line in lines)
    assert all(line[2] for line in lines)
    return [(line[0], line[1]) for line in lines]


# Valid, over a message whose body is not covered: B.2.1 covers nothing at all.
OPEN = {"B.2.1 sig-b21", "B.2.5 sig-b25", "B.2.6 sig-b26", "B.3 ttrp"}


def test_vectors_of_rfc_9421(tmp_path):
    expected = [
        (
            case["id"],
            "invalid"
            if not case["expect_valid"]
            else "valid-uncovered"
            if case["id"] in OPEN
            else "valid",
        )
        for case in RFC["cases"]
    ]
    assert answers((VECTORS / "rfc9421_vectors.json").read_text(), tmp_path) == expected


def test_vectors_of_jws_and_receipts(tmp_path):
    assert answers((VECTORS / "jws_vectors.json").read_text(), tmp_path) == [
        ("rfc7797_4.1", "valid"),
        ("rfc7797_4.2_detached_unencoded", "valid"),
        ("must_refuse_b64_without_crit", "invalid"),
    ]
    assert answers((VECTORS / "receipt_vectors.json").read_text(), tmp_path) == [
        ("near-2025-10-deepseek-v3.1-sse-ecdsa-2part", "valid"),
        ("near-2025-10-ethers-example", "valid-uncovered"),  # bodies are not published
        ("near-2026-09-ed25519-provider_tee", "valid-uncovered"),
        ("aci-1-spec-vectors", "valid"),
        ("standard-webhooks-v1-hmac", "valid"),
        ("nvidia-nras-eat-jwt", "invalid"),  # its key is not at hand
        ("tdx-quote-v4-dstack-sample", "invalid"),  # quotes are not verified
    ]


def case_of(name):
    return copy.deepcopy(next(one for one in RFC["cases"] if one["id"] == name))


def bent(name, change):
    case = case_of(name)
    change(case)
    return case


def header(case, name, value, side="message"):
    headers = case[side]["headers"]
    case[side]["headers"] = (
        [[k, value] if k.lower() == name else [k, v] for k, v in headers if value is not None]
        if value is not None
        else [[k, v] for k, v in headers if k.lower() != name]
    )


RESPONSE = "2.4 reqres (minimal)"
FULL = "B.2.3 sig-b23"
BENT = {
    "body": (FULL, lambda c: c["message"].update(body="{}"), "invalid"),
    "body gone": (FULL, lambda c: c["message"].update(body=None), "valid-uncovered"),
    "body of an open one": (
        "B.2.6 sig-b26",
        lambda c: c["message"].update(body="{}"),
        "valid-uncovered",
    ),
    "open one whose body was taken": (
        "B.2.6 sig-b26",
        lambda c: c["message"].update(body=""),
        "valid-uncovered",  # it has a Content-Length
    ),
    "two signatures": (FULL, lambda c: c.update(signature_b64="YQ=="), "invalid"),
    "neither request nor response": (FULL, lambda c: c["message"].update(kind="x"), "invalid"),
    "body in base64": (
        FULL,
        lambda c: c["message"].update(body_b64="eyJoZWxsbyI6ICJ3b3JsZCJ9", body=None),
        "valid",
    ),
    "digest": (FULL, lambda c: header(c, "content-digest", "sha-512=:YQ==:"), "invalid"),
    "digest gone": (FULL, lambda c: header(c, "content-digest", None), "invalid"),
    "method": (FULL, lambda c: c["message"].update(method="PUT"), "invalid"),
    "query": (FULL, lambda c: c["message"].update(target="/foo?param=Value&Pet=cat"), "invalid"),
    "absolute target": (
        FULL,
        lambda c: c["message"].update(target="https://example.com/foo?param=Value&Pet=dog"),
        "valid",
    ),
    "host": (FULL, lambda c: header(c, "host", "example.org"), "invalid"),
    "host in upper case": (FULL, lambda c: header(c, "host", "EXAMPLE.COM:443"), "valid"),
    "alg of the case": (FULL, lambda c: c.update(alg="rsa-v1_5-sha256"), "invalid"),
    "alg HMAC": (FULL, lambda c: c.update(alg="hmac-sha256"), "invalid"),
    "alg unknown": (FULL, lambda c: c.update(alg="none"), "invalid"),
    "alg not given": (FULL, lambda c: c.pop("alg"), "valid"),
    "another key": (FULL, lambda c: c.update(keyid="test-key-rsa"), "invalid"),
    "no such key": (FULL, lambda c: c.update(keyid="x"), "invalid"),
    "keyid not given": (FULL, lambda c: c.pop("keyid"), "valid"),
    "label not given": (FULL, lambda c: c.pop("label"), "valid"),
    "another label": (FULL, lambda c: c.update(label="x"), "invalid"),
    "signature": (FULL, lambda c: c.update(signature="sig-b23=:YQ==:"), "invalid"),
    "signature not given": (FULL, lambda c: c.pop("signature"), "valid"),  # signature_b64 has it
    "input not given": (FULL, lambda c: c.pop("signature_input"), "invalid"),
    "input malformed": (FULL, lambda c: c.update(signature_input="sig-b23=("), "invalid"),
    "input with spaces": (
        FULL,
        lambda c: c.update(signature_input=c["signature_input"].replace(' "@', '  "@')),
        "valid",
    ),
    "parameters in another order": (
        FULL,
        lambda c: c.update(
            signature_input=c["signature_input"].replace(
                'created=1618884473;keyid="test-key-rsa-pss"',
                'keyid="test-key-rsa-pss";created=1618884473',
            )
        ),
        "invalid",
    ),
    "message not given": (FULL, lambda c: c.pop("message"), "invalid"),
    "message no object": (FULL, lambda c: c.update(message=[]), "invalid"),
    "headers no list": (FULL, lambda c: c["message"].update(headers=5), "invalid"),
    "headers as an object": (
        FULL,
        lambda c: c["message"].update(headers=dict(c["message"]["headers"])),
        "valid",
    ),
    "target no text": (FULL, lambda c: c["message"].update(target=5), "invalid"),
    "half a character": (FULL, lambda c: header(c, "date", "\ud800"), "invalid"),
    "status": (RESPONSE, lambda c: c["message"].update(status=200), "invalid"),
    "status no number": (RESPONSE, lambda c: c["message"].update(status="503"), "invalid"),
    "response body": (RESPONSE, lambda c: c["message"].update(body="{}"), "invalid"),
    "request gone": (RESPONSE, lambda c: c.update(request=None), "invalid"),
    "request path": (RESPONSE, lambda c: c["request"].update(target="/bar"), "invalid"),
    "request body": (RESPONSE, lambda c: c["request"].update(body="{}"), "invalid"),
    "request body gone": (RESPONSE, lambda c: c["request"].update(body=None), "valid-uncovered"),
    "request digest": (
        RESPONSE,
        lambda c: header(c, "content-digest", digest_of(b"{}"), side="request"),
        "invalid",
    ),
}


def test_vectors_that_are_bent(tmp_path):
    cases = [bent(name, change) | {"id": key} for key, (name, change, _) in BENT.items()]
    found = answers({"cases": [*cases, 5, None, {}], "keys": RFC["keys"]}, tmp_path)
    assert found[: len(BENT)] == [(key, expected) for key, (_, _, expected) in BENT.items()]
    assert found[len(BENT) :] == [(f"#{len(BENT) + n}", "invalid") for n in range(3)]
    keyless = answers({"cases": cases[:2]}, tmp_path)
    assert [state for _, state in keyless] == ["invalid", "invalid"]


def test_keys_as_pem_alone(tmp_path):
    keys = {name: {"pem": one["pem"]} for name, one in RFC["keys"].items()}
    chosen = [
        one for one in RFC["cases"] if one["keyid"] in ("test-key-rsa-pss", "test-key-ed25519")
    ]
    assert [state for _, state in answers({"cases": chosen, "keys": keys}, tmp_path)] == [
        "valid-uncovered" if one["id"] in OPEN else "valid" if one["expect_valid"] else "invalid"
        for one in chosen
    ]


def http_vector(exchange, name):
    fields = dict(exchange.response.headers)
    return {
        "id": name,
        "keyid": "k",
        "label": "sig1",
        "alg": "ed25519",
        "message": {
            "kind": "response",
            "status": 200,
            "headers": [list(one) for one in exchange.response.headers if one[0][:4] != "Sign"],
            "body": RESPONSE_BODY.decode(),
        },
        "request": {
            "kind": "request",
            "method": "POST",
            "target": "/v1/chat/completions",
            "headers": [list(one) for one in exchange.request.headers],
            "body": REQUEST_BODY.decode(),
        },
        "signature_input": fields["Signature-Input"],
        "signature": fields["Signature"],
    }


def test_components_that_the_vectors_do_not_have(tmp_path):
    key = rfc_signing_key("ed25519")
    base = ["@status", "content-digest", "content-digest;req"]
    exchange = unsigned(
        response_headers=(("X-Dict", "a=1, b=2"), ("X-Twice", "1"), ("X-Twice", "2"))
    )
    more = [
        *("@target-uri;req", "@scheme;req", "@request-target;req", "@query;req", "x-twice;bs"),
        *('x-dict;key="a"', "x-dict;sf", 'content-digest;key="sha-256"', "content-type;bs"),
    ]
    cases = [
        http_vector(signed(exchange, key=key, components=[*base, one], keyid="k"), one)
        for one in more
    ]
    whole = http_vector(
        signed(exchange, key=key, components=['content-digest;key="sha-256"'], keyid="k"), "whole"
    )
    status = http_vector(signed(exchange, key=key, components=["@status"], keyid="k"), "status")
    found = answers(
        {"cases": [*cases, whole, status], "keys": {"k": RFC["keys"]["test-key-ed25519"]}}, tmp_path
    )
    assert found == [
        *((one, "valid") for one in more),
        ("whole", "valid"),
        ("status", "valid-uncovered"),
    ]
    taken = copy.deepcopy(status)
    taken["message"]["body"] = ""
    none = http_vector(
        signed(with_response(exchange, status=204), key=key, components=["@status"], keyid="k"), "n"
    )
    none["message"] |= {"status": 204, "body": ""}
    named = {"k": {"jwk": RFC["keys"]["test-key-ed25519"]["jwk"] | {"alg": "EdDSA"}}}
    found = answers({"cases": [taken, none], "keys": named}, tmp_path)
    assert [state for _, state in found] == ["valid-uncovered", "valid"]
    named["k"]["jwk"]["alg"] = "ES256"
    assert answers({"cases": [none], "keys": named}, tmp_path) == [("n", "invalid")]


def test_digests_that_count_and_digests_that_do_not(tmp_path):
    right, wrong = digest_of(RESPONSE_BODY), digest_of(b"{}")
    unknown = "md5=:1B2M2Y8AsgTpgAmY7PhCfg==:"
    long = "sha-512=:" + b64encode(sha512(b"{}").digest()).decode() + ":"
    fields = {
        "unknown only": (unknown, "content-digest", "valid-uncovered"),
        "unknown beside": (f"{unknown}, {right}", "content-digest", "valid"),
        "one wrong": (f"{right}, {long}", "content-digest", "invalid"),
        "the wrong one is open": (f"{right}, {long}", 'content-digest;key="sha-256"', "valid"),
        "the right one is open": (f"{right}, {long}", 'content-digest;key="sha-512"', "invalid"),
        "wrong": (wrong, "content-digest", "invalid"),
        "wrong, and open": (wrong, "@status", "valid-uncovered"),
        "gzip": (digest_of(compress(RESPONSE_BODY)), "content-digest", "invalid"),
    }
    cases = []
    for name, (field, component, _) in fields.items():
        exchange = with_header(unsigned(), "content-digest", field)
        made = signed(exchange, key=rfc_signing_key("ed25519"), components=[component], keyid="k")
        cases.append(http_vector(made, name))
    repr_digest = with_header(unsigned(), "content-digest", wrong)
    repr_digest = with_response(
        repr_digest, headers=(*repr_digest.response.headers[:1], ("Repr-Digest", right))
    )
    made = signed(
        repr_digest, key=rfc_signing_key("ed25519"), components=["repr-digest"], keyid="k"
    )
    cases.append(http_vector(made, "repr"))
    found = answers({"cases": cases, "keys": {"k": RFC["keys"]["test-key-ed25519"]}}, tmp_path)
    expected = [(name, state) for name, (_, _, state) in fields.items()]
    assert found == [*expected, ("repr", "valid-uncovered")]


def jwk_of(key):
    raw = key._material.public_key().public_bytes_raw()
    return {"kty": "OKP", "crv": "Ed25519", "x": b64url(raw)}


def test_jws_vectors_that_are_bent(tmp_path):
    text = create_jws(
        RESPONSE_BODY, signing_key(), kid="k", iat=1, request_body=REQUEST_BODY, status=200
    )
    good = {"jws": text, "payload": RESPONSE_BODY.decode(), "jwk": jwk_of(signing_key())}
    rfc = vectors("jws")["rfc7797_4.2_detached_unencoded"]
    confused = {"jws": rfc["jws"], "payload": rfc["payload"], "jwk": jwk_of(signing_key())}
    found = answers(
        {
            "good": good,
            "payload": good | {"payload": "{}"},
            "no payload": {k: v for k, v in good.items() if k != "payload"},
            "another key": good | {"jwk": jwk_of(signing_key(number=1))},
            "no key": {k: v for k, v in good.items() if k != "jwk"},
            "key confused": confused,
            "a short secret": rfc | {"key_k": "YQ"},
            "a secret that is none": rfc | {"key_k": "==="},
            "a number": 5,
            "nothing": None,
            "empty": {},
            "text": "a.b.c",
            "odd types": {"jws": 5, "payload": [], "key_k": {}},
            "tab\tand\nline": good,
        },
        tmp_path,
    )
    assert [state for _, state in found] == ["valid", *["invalid"] * 12, "valid"]


@pytest.mark.parametrize("alg", ["RS256", "PS512"])
def test_an_rsa_key_that_names_no_algorithm(alg, tmp_path):
    algorithm = {"RS256": "rsa-v1_5-sha256", "PS512": "rsa-pss-sha512"}[alg]
    key = rfc_signing_key(algorithm)
    name = "test-key-rsa" if alg == "RS256" else "test-key-rsa-pss"
    jwk = {k: RFC["keys"][name]["jwk"][k] for k in ("kty", "n", "e")}
    pem = key._material.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    text = create_jws(RESPONSE_BODY, key, kid="k", iat=1, request_body=b"", status=200)
    good = {"jws": text, "payload": RESPONSE_BODY.decode()}
    header = b64url(b'{"alg":"HS256"}')
    confused = hmac.digest(pem, f"{header}.{b64url(RESPONSE_BODY)}".encode(), "sha256")
    other = {"RS256": "PS512", "PS512": "RS256"}[alg]
    found = answers(
        {
            "jwk": good | {"jwk": jwk},
            "jwk with its own": good | {"jwk": jwk | {"alg": alg}},
            "jwk for another": good | {"jwk": jwk | {"alg": other}},
            "pem": good | {"pem": pem.decode()},
            "HMAC under the public key": good
            | {"jws": f"{header}..{b64url(confused)}", "pem": pem.decode()},
        },
        tmp_path,
    )
    assert [state for _, state in found] == ["valid", "valid", "invalid", "valid", "invalid"]


ENDED = keyset(not_after=1)


def test_receipt_vectors_that_are_bent(tmp_path):
    bodies = {"request_body": REQUEST_BODY.decode(), "response_body": RESPONSE_BODY.decode()}
    near, ed = near_receipt(), near_receipt(signing_key())
    aci = {"receipt": aci_receipt(), "keyset": keyset()}
    rewritten = json.dumps(json.loads(RESPONSE_BODY))
    cases = {
        "near": (near | bodies, "valid"),
        "near without bodies": (near, "valid-uncovered"),
        "near, one body": (near | {"request_body": bodies["request_body"]}, "valid-uncovered"),
        "near, another body": (near | bodies | {"response_body": "{}"}, "invalid"),
        "near, a body written anew": (
            near_receipt(response=rewritten.encode()) | bodies,
            "valid-uncovered",
        ),
        "near, algo as in the vectors": (
            {k: v for k, v in near.items() if k != "signing_algo"}
            | bodies
            | {"algo": "EIP-191 personal_sign"},
            "valid",
        ),
        "near, another address": (near | {"signing_address": "0x" + "1" * 40}, "invalid"),
        "near, checksummed address": (
            near | bodies | {"signing_address": "0x" + near["signing_address"][2:].upper()},
            "valid",
        ),
        "near, text": (near | {"text": near["text"][:-1] + "x"}, "invalid"),
        "near, no signature": ({k: v for k, v in near.items() if k != "signature"}, "invalid"),
        "ed25519": (ed | bodies, "valid"),
        "ed25519, signature": (ed | {"signature": "00" * 64}, "invalid"),
        "aci": (aci | bodies, "valid"),
        "aci without bodies": (aci, "valid-uncovered"),
        "aci, another body": (aci | bodies | {"request_body": "{}"}, "invalid"),
        "aci, without its key set": ({"receipt": aci["receipt"]}, "invalid"),
        "aci, another key set": (aci | {"keyset": keyset(subject="x")}, "invalid"),
        "aci, another key": (aci | {"public_key": "11" * 32}, "invalid"),
        "aci, a member": (aci | {"receipt": aci["receipt"] | {"model": "x"}}, "invalid"),
        "aci, one more member": (aci | {"receipt": aci["receipt"] | {"x": 1}}, "invalid"),
        "aci, no events": (aci | {"receipt": aci_receipt(events=[{"type": "x"}])}, "invalid"),
        "aci, receipt no object": (aci | {"receipt": []}, "invalid"),
        "aci, odd types": (aci | {"statement": 5}, "invalid"),
        "near, another model was asked for": (
            near_receipt(model="deepseek-r1-distill") | bodies,
            "invalid",
        ),
        "near, an algorithm that there is not": (
            near | bodies | {"signing_algo": "rsa"},
            "invalid",
        ),
        "near, the other s": (near | bodies | {"signature": high_s(near["signature"])}, "invalid"),
        "near, v of 0": (
            near | bodies | {"signature": near["signature"][:-2] + "00"},
            "invalid",
        ),
        "aci, another model was asked for": (
            aci | {"receipt": aci_receipt(model="x")} | bodies,
            "invalid",
        ),
        "aci, served after its keys ended": (
            {"receipt": aci_receipt(of=ENDED), "keyset": ENDED} | bodies,
            "invalid",
        ),
        "aci, two signatures": (aci | bodies | {"signature": "00" * 64}, "invalid"),
        "aci, report data": (aci | bodies | {"report_data": "00" * 32}, "invalid"),
        "aci, canonical key set": (aci | bodies | {"keyset_jcs": "{}"}, "invalid"),
        "webhook without a secret": ({"headers": {"webhook-signature": "v1,x"}}, "invalid"),
        "nothing": ({}, "invalid"),
    }
    value = {"vectors": [one | {"id": name} for name, (one, _) in cases.items()]}
    expected = [(name, state) for name, (_, state) in cases.items()]
    assert answers(value, tmp_path) == expected
    # A list alone, too.
    assert answers(value["vectors"], tmp_path) == expected


def high_s(signature):
    raw = bytes.fromhex(signature[2:])
    s = N - int.from_bytes(raw[32:64], "big")
    return "0x" + (raw[:32] + s.to_bytes(32, "big") + bytes([55 - raw[64]])).hex()


def test_a_name_that_stands_twice_is_invalid_wherever_it_stands(tmp_path):
    one = json.dumps({"id": "a", "receipt": aci_receipt(), "keyset": keyset()})
    assert answers(f'{{"vectors": [{one}]}}', tmp_path) == [("a", "valid-uncovered")]
    twice = one.replace('"method"', '"method": "GET", "method"')
    assert answers(f'{{"vectors": [{twice}]}}', tmp_path) == [("a", "invalid")]
    text = json.dumps(vectors("jws")["rfc7797_4.1"])
    assert answers(f'{{"b": {text}, "b": {text}}}', tmp_path) == [("b", "valid")] * 2


def test_a_number_that_python_does_not_read_spoils_one_line_only(tmp_path):
    text = json.dumps(
        {"vectors": [near_receipt() | {"id": "a"}, near_receipt() | {"id": "\ud800"}]}
    )
    text = text.replace('{"vectors": [', '{"vectors": [{"id": "x", "jws": ' + "9" * 5000 + "}, ")
    found = answers(text, tmp_path)
    assert [state for _, state in found] == ["invalid", "valid-uncovered", "valid-uncovered"]


def test_cases_and_vectors_in_one_file(tmp_path):
    value = {"cases": [case_of(FULL)], "vectors": [near_receipt()], "keys": RFC["keys"]}
    assert answers(value, tmp_path) == [(FULL, "valid"), ("#0", "valid-uncovered")]


def test_every_member_of_every_vector_may_be_anything(tmp_path):
    cases, receipts = [], []
    junks: list[Any] = [None, 5, "x", [], {}, True]
    for junk in junks:
        for case in RFC["cases"][1:12:5]:
            cases += [case | {key: junk} for key in case if key != "id"]
        for one in vectors("receipt")["vectors"]:
            receipts += [one | {key: junk} for key in one if key != "id"]
    assert len(answers({"cases": cases, "keys": RFC["keys"]}, tmp_path)) == len(cases)
    assert len(answers({"vectors": receipts}, tmp_path)) == len(receipts)


@pytest.mark.parametrize("text", ["", "{", "5", '"x"', "[" * 100_000])
def test_files_that_are_none(text, tmp_path):
    (tmp_path / "v.json").write_text(text)
    done = subprocess.run(
        [sys.executable, CLIENT, tmp_path / "v.json"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_or_is_none(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "pipe"):
        done = subprocess.run([sys.executable, CLIENT, path], capture_output=True, check=False)
        assert done.returncode == 4
    assert (
        subprocess.run([sys.executable, CLIENT], capture_output=True, check=False).returncode == 2
    )
