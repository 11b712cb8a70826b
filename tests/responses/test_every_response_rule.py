"""Every rule 8xx is produced by an exchange that breaks it, and by no sound one.

Rules 840 and above belong to streams and captures; their tests are beside those.
"""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from receipts import (
    aci_receipt,
    address,
    keyset,
    near_receipt,
    wallet_signature,
    with_aci,
    with_near,
)
from signed import (
    CREATED,
    KEYID,
    NOW,
    ORIGIN,
    REQUEST_BODY,
    RESPONSE_BODY,
    digest_of,
    hmac_signing_key,
    policy,
    signed,
    signing_key,
    unsigned,
    with_document,
    with_header,
    with_request,
    with_response,
    without_header,
)

from r1prov.responses.jwks import write_jwks
from r1prov.responses.keys import address_key
from r1prov.responses.policy import Promise, ResponsePolicy
from r1prov.responses.report import State
from r1prov.responses.verify import verify_exchange
from r1prov.trust.keys import parse_public_key
from r1prov.verify.findings import Verdict
from r1prov.verify.rules import RULES

CASES = {}
OTHER_BODY = b'{"model":"deepseek-r1","messages":[]}'


def breaks(rule, state, verdict=Verdict.FAIL):
    def add(function):
        CASES[rule] = (function, state, verdict)
        return function

    return add


def near_policy(**changes):
    return ResponsePolicy(keys=(address_key(address()),), **changes)


def jwks_of(key):
    public = parse_public_key(pem_of(key), subject="k")
    return write_jwks([(public, KEYID, key.public.algorithm)])


def pem_of(key):
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key._material.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@breaks("response-unsigned", State.UNSIGNED, Verdict.INCOMPLETE)
def _():
    return unsigned(), policy()


@breaks("response-downgraded", State.DOWNGRADED)
def _():
    return unsigned(), policy(promised=(Promise(ORIGIN, "http-signature"),))


@breaks("response-field-malformed", State.INVALID)
def _():
    return with_header(signed(), "Signature-Input", "sig1=("), policy()


@breaks("response-signature-malformed", State.INVALID)
def _():
    return with_header(signed(), "Signature-Input", 'sig1=("@nothing")'), policy()


@breaks("response-component-missing", State.INVALID)
def _():
    return without_header(signed(), "content-type"), policy()


@breaks("response-signature-invalid", State.INVALID)
def _():
    return with_response(signed(), status=201), policy()


@breaks("response-uncovered", State.UNCOVERED)
def _():
    return signed(components=["@status", "content-type"]), policy()


@breaks("response-body-mismatch", State.INVALID)
def _():
    return with_response(signed(), body=RESPONSE_BODY + b" "), policy()


@breaks("response-digest-malformed", State.INVALID)
def _():
    exchange = with_header(unsigned(), "Content-Digest", digest_of(RESPONSE_BODY)[:-1] + "=:")
    return signed(exchange), policy()


@breaks("response-digest-unsupported", State.INVALID)
def _():
    return signed(with_header(unsigned(), "Content-Digest", "md5=:YQ==:")), policy()


@breaks("response-other-request", State.INVALID)
def _():
    return with_request(signed(), body=OTHER_BODY), policy()


@breaks("response-replayed", State.INVALID)
def _():
    return signed(nonce="n"), policy(), {"seen": lambda key, token: True}


@breaks("response-nonce", State.INVALID)
def _():
    return signed(unsigned(nonce="fresh"), nonce="stale"), policy()


@breaks("response-untimed", State.INVALID)
def _():
    return signed(created=None), policy()


@breaks("response-expired", State.INVALID)
def _():
    return signed(expires=CREATED - 31), policy()


@breaks("response-too-old", State.INVALID)
def _():
    return signed(created=CREATED - 331), policy()


@breaks("response-from-future", State.INVALID)
def _():
    return signed(created=CREATED + 31), policy()


@breaks("response-algorithm", State.INVALID)
def _():
    return signed(alg="hmac-sha256"), policy()


@breaks("response-hmac", State.INTEGRITY_ONLY, Verdict.INCOMPLETE)
def _():
    key = hmac_signing_key()
    return signed(key=key), policy(key)


@breaks("response-key-unknown", State.INVALID)
def _():
    return signed(keyid="stranger"), policy()


@breaks("response-key-unpinned", State.INVALID)
def _():
    key = signing_key(number=1)
    exchange = with_document(unsigned(), jwks_of(key))
    return signed(exchange, key=key), ResponsePolicy()


@breaks("response-key-malformed", State.INVALID)
def _():
    return signed(with_document(unsigned(), b'{"keys":[{"kty":"RSA","d":"AA"}]}')), ResponsePolicy()


def keyed(**changes):
    return policy(keys=(replace(signing_key().public.called(KEYID), **changes),))


@breaks("response-key-revoked", State.INVALID)
def _():
    return signed(), keyed(revoked_at=NOW + timedelta(days=1), revoked_reason="lost")


@breaks("response-key-expired", State.INVALID)
def _():
    return signed(), keyed(valid_until=NOW)


@breaks("response-key-not-yet-valid", State.INVALID)
def _():
    return signed(), keyed(valid_from=NOW + timedelta(seconds=1))


@breaks("response-key-origin", State.INVALID)
def _():
    return signed(), keyed(origins=("https://other.example",))


@breaks("response-key-model", State.INVALID)
def _():
    return signed(), keyed(models=("qwen*",))


@breaks("response-signature-ambiguous", State.INVALID)
def _():
    return signed(signed(), label="sig2"), policy()


@breaks("response-model", State.INVALID)
def _():
    return with_near(unsigned(), near_receipt(model="qwen:7b")), near_policy()


@breaks("response-hash-supplied", State.VERIFIED, Verdict.PASS)
def _():
    exchange = unsigned(request_headers=(("X-Request-Hash", "ab" * 32),))
    return with_near(exchange, near_receipt()), near_policy()


@breaks("response-reserialized", State.RESERIALIZED, Verdict.INCOMPLETE)
def _():
    rewritten = json.dumps(json.loads(RESPONSE_BODY)).encode()
    return with_near(unsigned(), near_receipt(response=rewritten)), near_policy()


@breaks("response-receipt-unavailable", State.RECEIPT_UNAVAILABLE, Verdict.INCOMPLETE)
def _():
    url = f"{ORIGIN}/v1/signature/chatcmpl-1"
    return with_document(unsigned(), b"", url=url, status=404), near_policy()


@breaks("response-receipt-malformed", State.INVALID)
def _():
    return with_near(unsigned(), near_receipt() | {"text": "a:b:c"}), near_policy()


@breaks("response-receipt-events", State.INVALID)
def _():
    receipt = aci_receipt()
    events = list(reversed(receipt["event_log"]))
    key = signing_key().public.called("receipt-1")
    return with_aci(unsigned(), aci_receipt(events=events)), ResponsePolicy(keys=(key,))


@breaks("response-keyset", State.INVALID)
def _():
    return with_aci(unsigned(), aci_receipt()), ResponsePolicy(
        pins=frozenset({"sha256:" + "0" * 64})
    )


@breaks("response-stream-incomplete", State.INCOMPLETE_STREAM, Verdict.INCOMPLETE)
def _():
    return with_response(signed(), body=RESPONSE_BODY[:9], complete=False), policy()


def report_of(case, **options):
    exchange, chosen, *more = case
    return verify_exchange(exchange, chosen, now=NOW, **(more[0] if more else {}), **options)


SOUND = {
    "http": lambda: (signed(unsigned(nonce="n"), nonce="n"), policy()),
    "near": lambda: (with_near(unsigned(), near_receipt()), near_policy()),
    "near, Ed25519": lambda: (with_near(unsigned(), near_receipt(signing_key())), policy()),
    "aci, a key": lambda: (
        with_aci(unsigned(), aci_receipt()),
        ResponsePolicy(keys=(signing_key().public.called("receipt-1"),)),
    ),
    "aci, a key set": lambda: (
        with_document(with_aci(unsigned(), aci_receipt()), json.dumps(keyset()).encode()),
        ResponsePolicy(pins=frozenset({aci_receipt()["workload_keyset_digest"]})),
    ),
    "a pinned key that is served": lambda: (
        signed(with_document(unsigned(), jwks_of(signing_key()))),
        ResponsePolicy(pins=frozenset({signing_key().public.thumbprint})),
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_exchange_breaks_no_rule(name):
    report = report_of(SOUND[name]())
    assert [one.rule.name for one in report.findings] == []
    assert (report.state, report.verdict) == (State.VERIFIED, Verdict.PASS)


@pytest.mark.parametrize("rule", CASES)
def test_rule(rule):
    function, state, verdict = CASES[rule]
    report = report_of(function())
    produced = [one for one in report.findings if one.rule.name == rule]
    assert produced, [(one.rule.name, one.message) for one in report.findings]
    assert (report.state, report.verdict) == (state, verdict), report.findings
    # Distinct: nothing else is said, but that a key set was no help for want of a key.
    others = {one.rule.name for one in report.findings} - {rule}
    assert others <= {"response-key-unknown"} if rule == "response-key-malformed" else not others
    for one in produced:
        assert one.subject
        assert one.message
        assert one.hint or one.rule.help


def test_there_is_a_case_for_every_rule():
    core = {rule.name for rule in RULES if "R1P800" < rule.id < "R1P840"}
    assert core == set(CASES)
    text = "".join(
        path.read_text()
        for path in Path(__file__).parent.glob("test_*.py")
        if path.name != __file__
    )
    later = {rule.name for rule in RULES if "R1P840" <= rule.id < "R1P900"}
    assert {name for name in later if f'"{name}"' not in text} == set()


def test_the_request_body_digest_is_the_one_that_was_sent():
    assert digest_of(REQUEST_BODY) in dict(unsigned().request.headers).values()
    assert wallet_signature("a").startswith("0x")
