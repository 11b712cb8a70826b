"""Receipts: the real and published ones, and every way to bend one."""

import copy
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receipts import aci_receipt, address, keyset, near_receipt, with_aci, with_near
from signed import (
    NOW,
    ORIGIN,
    REQUEST_BODY,
    RESPONSE_BODY,
    signing_key,
    unsigned,
    vectors,
    with_document,
    with_request,
    with_response,
)

from r1prov.errors import ResponseError
from r1prov.responses import aci, near
from r1prov.responses.exchange import BodyDigests
from r1prov.responses.jcs import canonical
from r1prov.responses.keys import address_key
from r1prov.responses.policy import ResponsePolicy
from r1prov.responses.report import State
from r1prov.responses.verify import verify_exchange

VECTORS = {one["id"]: one for one in vectors("receipt")["vectors"]}
ACI = VECTORS["aci-1-spec-vectors"]
REAL = VECTORS["near-2025-10-deepseek-v3.1-sse-ecdsa-2part"]


def verdict(exchange, **changes):
    return verify_exchange(exchange, ResponsePolicy(**changes), now=NOW)


def near_verdict(exchange, **changes):
    return verdict(exchange, keys=(address_key(address()),), **changes)


def aci_verdict(exchange, **changes):
    return verdict(exchange, keys=(signing_key().public.called("receipt-1"),), **changes)


def rules(report):
    return {one.rule.name for one in report.findings}


# ---- the specification's vectors ----------------------------------------------------------------


def test_the_key_set_and_the_statement_of_the_specification():
    found = aci.keyset_of(ACI["keyset"])
    assert canonical(ACI["keyset"]).decode() == ACI["keyset_jcs"]
    assert f"sha256:{found.digest.hex()}" == ACI["workload_keyset_digest"]
    assert aci.statement(found.digest, ACI["nonce"]).decode() == ACI["statement"]
    report_data = hashlib.sha256(aci.statement(found.digest, ACI["nonce"])).hexdigest()
    assert report_data == ACI["report_data"]
    null = hashlib.sha256(aci.statement(found.digest, None)).hexdigest()
    assert null == ACI["report_data_null_nonce"]
    assert aci.session_id(json.loads(ACI["session_jcs"])) == ACI["session_id"]


def test_the_receipt_of_the_specification():
    receipt = aci.receipt_of(ACI["receipt"])
    assert receipt.signed.decode() == ACI["signing_input"]
    assert hashlib.sha256(receipt.signed).hexdigest() == ACI["signing_input_sha256"]
    key = aci.keyset_of(ACI["keyset"]).keys["receipt-1"]
    assert receipt.verify(key)
    assert receipt.received == hashlib.sha256(ACI["request_body"].encode()).digest()
    assert receipt.returned == hashlib.sha256(ACI["response_body"].encode()).digest()
    assert receipt.contradictions == ()
    assert [(one.verified, one.session) for one in receipt.upstreams] == [(True, ACI["session_id"])]


def leaves(value, path=()):
    """The path to every value that is no container."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    else:
        yield path


@pytest.mark.parametrize("path", list(leaves(ACI["receipt"])), ids=str)
@pytest.mark.parametrize("change", ["other", "gone"])
def test_any_member_that_changes_or_goes_fails(path, change):
    value = copy.deepcopy(ACI["receipt"])
    holder = value
    for step in path[:-1]:
        holder = holder[step]
    old = holder[path[-1]]
    if change == "gone":
        del holder[path[-1]]
    elif isinstance(old, str):
        holder[path[-1]] = old[:-1] + ("0" if old[-1] != "0" else "1")
    else:
        holder[path[-1]] = not old if isinstance(old, bool) else old + 1
    key = aci.keyset_of(ACI["keyset"]).keys["receipt-1"]
    try:
        taken = aci.receipt_of(value).verify(key)
    except ResponseError:
        taken = False
    assert not taken


def test_a_real_receipt_of_a_real_stream():
    """An answer of DeepSeek-V3.1 by NEAR AI, of October 2025, in the bytes of the wire."""
    value = {
        "text": REAL["text"],
        "signature": REAL["signature"],
        "signing_address": REAL["signing_address"],
        "signing_algo": "ecdsa",
    }
    exchange = with_response(
        with_request(unsigned(), body=REAL["request_body"].encode()),
        body=REAL["response_body"].encode(),
    )
    trusted = (address_key(REAL["signing_address"]),)
    report = verdict(with_near(exchange, value), keys=trusted)
    assert (report.state, report.exit_status) == (State.VERIFIED, 0)
    assert report.model == "deepseek-v3.1"
    # The documentation's own way to compute the hash, JSON.stringify, is of other bytes.
    compact = json.dumps(json.loads(REAL["request_body"]), separators=(",", ":")).encode()
    report = verdict(with_near(with_request(exchange, body=compact), value), keys=trusted)
    assert (report.state, rules(report)) == (State.RESERIALIZED, {"response-reserialized"})
    # Nobody vouches for the address but the service itself.
    report = verdict(with_near(exchange, value))
    assert rules(report) == {"response-key-unpinned"}
    pinned = frozenset({REAL["signing_address"].lower()})
    assert verdict(with_near(exchange, value), pins=pinned).state is State.VERIFIED


def test_the_real_ed25519_receipt_is_over_the_raw_text():
    vector = VECTORS["near-2026-09-ed25519-provider_tee"]
    receipt = near.near_of({**vector, "signing_algo": "ed25519"})
    assert receipt.model == "Qwen/Qwen3.6-35B-A3B-FP8"
    assert receipt.kind == "provider_tee"
    assert receipt.verify(receipt.named_key())
    prefixed = f"\x19Ethereum Signed Message:\n{len(vector['text'])}{vector['text']}"
    assert not receipt.named_key().verify(receipt.signature, prefixed.encode())


# ---- NEAR ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "text"),
    [(None, ""), ("a", "a:"), ("deepseek-r1:671b", "deepseek-r1:671b:"), (":", "::")],
)
def test_texts_are_split_from_the_right(model, text):
    digests = ("0" * 64, "1" * 64)
    found = near.split_text(text + ":".join(digests))
    assert found == (model, *map(bytes.fromhex, digests))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:b",
        "0" * 64,
        "0" * 64 + ":",
        ":" + "0" * 64 + ":" + "1" * 64,
        "A" * 64 + ":" + "0" * 64,
        "0" * 63 + ":" + "0" * 64,
        "0" * 64 + ":" + "0" * 64 + "\n",
    ],
)
def test_texts_that_are_none(text):
    with pytest.raises(ResponseError):
        near.split_text(text)


NEAR_CHANGES: dict[str, dict[str, Any]] = {
    "another signature": {"signature": "0x" + "1b" * 65},
    "a short signature": {"signature": "0x1b"},
    "no hex": {"signature": "0x" + "zz" * 65},
    "no algorithm": {"signing_algo": None},
    "an unknown algorithm": {"signing_algo": "rsa"},
    "another address": {"signing_address": "0x" + "ab" * 20},
    "a number": {"text": 5},
    "half a character": {"text": "\ud800:" + "0" * 64 + ":" + "0" * 64},
    "kind no text": {"signature_kind": 1},
}


@pytest.mark.parametrize("name", NEAR_CHANGES)
def test_receipts_that_are_bent(name):
    report = near_verdict(with_near(unsigned(), near_receipt() | NEAR_CHANGES[name]))
    assert (report.state, report.exit_status) == (State.INVALID, 1)


def test_each_body_has_its_rule():
    exchange = with_near(unsigned(), near_receipt())
    report = near_verdict(with_request(exchange, body=REQUEST_BODY + b" "))
    assert rules(report) == {"response-reserialized"}  # the same JSON, in other bytes
    report = near_verdict(with_request(exchange, body=b'{"model":"deepseek-r1"}'))
    assert rules(report) == {"response-other-request"}
    report = near_verdict(with_response(exchange, body=b"{}"))
    assert rules(report) == {"response-body-mismatch"}


def test_a_model_may_have_an_alias():
    exchange = with_near(unsigned(), near_receipt(model="deepseek-ai/DeepSeek-R1"))
    assert rules(near_verdict(exchange)) == {"response-model"}
    aliases = {"deepseek-r1": "deepseek-ai/DeepSeek-R1"}
    assert near_verdict(exchange, aliases=aliases).state is State.VERIFIED


def test_a_model_that_cannot_be_compared_is_no_pass():
    exchange = with_near(unsigned(), near_receipt())
    digests = BodyDigests.of(REQUEST_BODY)
    report = near_verdict(with_request(exchange, body=None, body_digests=digests))
    assert (report.state, report.exit_status) == (State.UNCHECKED, 3)


def test_the_older_form_names_no_model_and_says_so():
    report = near_verdict(with_near(unsigned(), near_receipt(model=None)))
    assert report.state is State.VERIFIED
    assert any(one.detail == "the receipt names none" for one in report.coverage)


def test_a_rewritten_body_passes_only_where_the_policy_says_so():
    rewritten = json.dumps(json.loads(RESPONSE_BODY)).encode()
    exchange = with_near(unsigned(), near_receipt(response=rewritten))
    assert near_verdict(exchange).exit_status == 3
    report = near_verdict(exchange, reserialized=True)
    assert (report.state, report.exit_status) == (State.RESERIALIZED, 0)
    assert rules(report) == {"response-reserialized"}


def test_a_key_of_the_policy_has_one_algorithm():
    receipt = near_receipt() | {"signing_algo": "ed25519"}
    assert rules(near_verdict(with_near(unsigned(), receipt))) == {"response-receipt-malformed"}


def test_of_several_tries_the_good_one_counts():
    url = f"{ORIGIN}/v1/signature/chatcmpl-1"
    exchange = with_document(unsigned(), b"", url=url, status=404)
    exchange = with_near(exchange, near_receipt(response=b"other"))
    assert near_verdict(with_near(exchange, near_receipt())).state is State.VERIFIED
    assert near_verdict(exchange).state is State.INVALID


def test_what_a_receipt_does_not_prove_is_said():
    report = near_verdict(with_near(unsigned(), near_receipt()))
    said = {one.item: one.detail for one in report.coverage}
    assert "not verified here" in said["that the key lives in an enclave"]
    assert "@status" in said["not covered by this scheme"]


# ---- ACI ----------------------------------------------------------------------------------------

EVENTS = aci_receipt()["event_log"]
RECEIVED, FORWARDED, VERIFIED, RETURNED = EVENTS
COURSES = {
    "returned first": [RETURNED, RECEIVED],
    "received twice": [RECEIVED, RECEIVED, FORWARDED, RETURNED],
    "returned twice": [RECEIVED, FORWARDED, RETURNED, RETURNED],
    "forwarded after the end": [RECEIVED, RETURNED, FORWARDED],
    "served though verification failed": [
        RECEIVED,
        FORWARDED,
        {"type": "upstream.verified", "result": "failed", "required": True, "reason": "r"},
        RETURNED,
    ],
}


@pytest.mark.parametrize("name", COURSES)
def test_courses_that_no_honest_service_has(name):
    report = aci_verdict(with_aci(unsigned(), aci_receipt(events=COURSES[name])))
    assert rules(report) == {"response-receipt-events"}


GOOD_COURSES = {
    "a direct service": [RECEIVED, FORWARDED, RETURNED],
    "nothing forwarded": [RECEIVED, RETURNED],
    "an event of the service's own": [RECEIVED, {"type": "routing", "x": 1}, FORWARDED, RETURNED],
    "best effort": [
        RECEIVED,
        {"type": "upstream.verified", "result": "failed", "required": False, "reason": "r"},
        FORWARDED,
        RETURNED,
    ],
    "a second try": [
        RECEIVED,
        {"type": "upstream.verified", "result": "failed", "required": True, "reason": "r"},
        VERIFIED,
        FORWARDED,
        RETURNED,
    ],
}


@pytest.mark.parametrize("name", GOOD_COURSES)
def test_courses_that_are_sound(name):
    report = aci_verdict(with_aci(unsigned(), aci_receipt(events=GOOD_COURSES[name])))
    assert (report.state, rules(report)) == (State.VERIFIED, set())


def test_a_rewritten_request_is_said():
    changed = FORWARDED | {"body_hash": "sha256:" + "0" * 64}
    report = aci_verdict(
        with_aci(unsigned(), aci_receipt(events=[RECEIVED, changed, VERIFIED, RETURNED]))
    )
    assert report.state is State.VERIFIED
    assert any(one.item == "rewriting" for one in report.coverage)


ACI_CHANGES: dict[str, dict[str, Any]] = {
    "version": {"api_version": "aci/2"},
    "no events": {"event_log": []},
    "events no list": {"event_log": {}},
    "an event no object": {"event_log": [1]},
    "time as text": {"served_at": "1"},
    "a digest in upper case": {"workload_keyset_digest": "sha256:" + "A" * 64},
    "a digest without its prefix": {"workload_keyset_digest": "0" * 64},
    "an unknown result": {"event_log": [RECEIVED, {**VERIFIED, "result": "maybe"}, RETURNED]},
    "a float beyond": {"x": 2**60},
}


@pytest.mark.parametrize("name", ACI_CHANGES)
def test_malformed_receipts(name):
    value = aci_receipt() | ACI_CHANGES[name]
    assert rules(aci_verdict(with_aci(unsigned(), value))) == {"response-receipt-malformed"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"method": "GET"}, "response-other-request"),
        ({"endpoint": "/v1/completions"}, "response-other-request"),
        ({"model": "qwen"}, "response-model"),
        ({"served_at": int(NOW.timestamp()) - 4000}, "response-too-old"),
        ({"key_id": "receipt-2"}, "response-key-unknown"),
    ],
)
def test_what_a_receipt_says_has_to_fit(changes, rule):
    assert rules(aci_verdict(with_aci(unsigned(), aci_receipt(**changes)))) == {rule}


def with_keyset(exchange, value):
    report = {"api_version": "aci/1", "attestation": {"workload_keyset": value}}
    return with_document(exchange, json.dumps(report).encode(), url=f"{ORIGIN}/v1/aci/attestation")


def test_a_key_set_counts_only_by_its_pinned_digest():
    receipt = aci_receipt()
    exchange = with_keyset(with_aci(unsigned(), receipt), keyset())
    assert rules(verdict(exchange)) == {"response-key-unpinned"}
    pin = frozenset({receipt["workload_keyset_digest"]})
    assert verdict(exchange, pins=pin).state is State.VERIFIED
    by_key = frozenset({signing_key().public.thumbprint})
    assert verdict(exchange, pins=by_key).state is State.VERIFIED
    # A key set that somebody else serves in its place.
    other = keyset(signing_key(number=1))
    assert rules(verdict(with_keyset(with_aci(unsigned(), receipt), other), pins=pin)) == {
        "response-keyset"
    }
    forged = aci_receipt(signing_key(number=1))
    exchange = with_keyset(with_aci(unsigned(), forged), other)
    assert rules(verdict(exchange, pins=pin)) == {"response-keyset"}


def test_a_key_set_ends():
    old = keyset(not_after=int(NOW.timestamp()))
    receipt = aci_receipt(of=old)
    exchange = with_keyset(with_aci(unsigned(), receipt), old)
    report = verdict(exchange, pins=frozenset({receipt["workload_keyset_digest"]}))
    assert rules(report) == {"response-key-expired"}


def test_keys_of_other_algorithms_are_let_be_and_sign_nothing():
    entries = [{"key_id": "receipt-1", "algo": "ml-dsa", "public_key": "00"}]
    other = keyset(receipt_signing_keys=entries)
    receipt = aci_receipt(of=other)
    exchange = with_keyset(with_aci(unsigned(), receipt), other)
    report = verdict(exchange, pins=frozenset({receipt["workload_keyset_digest"]}))
    assert rules(report) == {"response-key-unknown"}


def test_an_answer_that_names_a_receipt_wants_it():
    headers = (*unsigned().response.headers, ("X-Receipt-Id", "rcpt-1"))
    report = aci_verdict(with_response(unsigned(), headers=headers))
    assert (report.state, report.exit_status) == (State.RECEIPT_UNAVAILABLE, 3)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*aci_receipt(), *near_receipt(), "type", "keys"]), inner)
    ),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(JUNK, st.sampled_from(list(aci_receipt())), st.sampled_from(list(near_receipt())))
def test_no_other_exception_whatever_a_receipt_holds(junk, one, other):
    for value in (junk, aci_receipt() | {one: junk}):
        verdict(with_aci(unsigned(), value))
    for value in (junk, near_receipt(signing_key()) | {other: junk}):
        verdict(with_near(unsigned(), value))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["text", "signature"]), st.data())
def test_any_changed_character_of_a_near_receipt_fails(name, data):
    value = near_receipt(signing_key())
    text = value[name]
    at = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from("0123456789abcdef:").filter(lambda c: c != text[at]))
    changed = value | {name: text[:at] + new + text[at + 1 :]}
    report = verdict(with_near(unsigned(), changed), keys=(signing_key().public,))
    assert report.state is State.INVALID


def test_a_key_set_has_no_name_twice():
    entry = keyset()["receipt_signing_keys"][0]
    with pytest.raises(ResponseError, match="two keys called"):
        aci.keyset_of(keyset(receipt_signing_keys=[entry, entry]))
