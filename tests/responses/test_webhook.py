"""Standard Webhooks and Stripe's form, with the library standardwebhooks as a second opinion."""

import base64
import contextlib
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed import (
    CREATED,
    NOW,
    RESPONSE_BODY,
    policy,
    signing_key,
    unsigned,
    vectors,
    with_response,
)
from standardwebhooks import Webhook

from r1prov.errors import KeyFileError, ResponseError
from r1prov.responses.keys import secret_key
from r1prov.responses.policy import COVER_BODIES, ResponsePolicy
from r1prov.responses.report import State
from r1prov.responses.verify import verify_exchange
from r1prov.responses.webhook import is_webhook, read_webhook, webhook_secret

(VECTOR,) = [one for one in vectors("receipt")["vectors"] if one["id"].startswith("standard-")]
SECRET = VECTOR["secret"]
HEADERS = tuple(VECTOR["headers"].items())


def test_the_published_vector():
    webhook = read_webhook(HEADERS)
    key = webhook_secret(SECRET, name="s")
    assert webhook.verify(key, VECTOR["body"].encode())
    assert not webhook.verify(key, VECTOR["body"].encode() + b" ")
    assert not webhook.verify(
        webhook_secret("whsec_" + "A" * 32, name="s"), VECTOR["body"].encode()
    )


def test_what_the_library_signs_verifies():
    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    signature = Webhook(SECRET).sign("msg_1", at, '{"a":1}')
    headers = (
        ("Webhook-Id", "msg_1"),
        ("Webhook-Timestamp", str(int(at.timestamp()))),
        ("Webhook-Signature", f"v1,{'A' * 43}= {signature} v9,unknown"),
    )
    assert read_webhook(headers).verify(webhook_secret(SECRET, name="s"), b'{"a":1}')


def delivered(headers, **changes):
    exchange = unsigned()
    exchange = with_response(exchange, headers=(*exchange.response.headers, *headers))
    return verify_exchange(exchange, ResponsePolicy(**changes), now=NOW)


def signed_v1a(key, body=RESPONSE_BODY):
    value = base64.b64encode(key.sign(f"msg_1.{CREATED}.".encode() + body)).decode()
    return (
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", str(CREATED)),
        ("webhook-signature", f"v1a,{value}"),
    )


def test_ed25519_proves_who_and_leaves_the_request_open():
    key = signing_key()
    report = delivered(signed_v1a(key), keys=(key.public,))
    assert (report.state, report.exit_status) == (State.UNCOVERED, 1)
    cover = policy().cover_jws[:1]
    assert COVER_BODIES[0] == str(cover[0])
    report = delivered(signed_v1a(key), keys=(key.public,), cover_jws=cover)
    assert (report.state, report.exit_status) == (State.VERIFIED, 0)
    report = delivered(signed_v1a(key, b"other"), keys=(key.public,), cover_jws=cover)
    assert [one.rule.name for one in report.findings] == ["response-signature-invalid"]


def test_stripes_form_is_integrity_only():
    key = webhook_secret(SECRET, name="s")
    text = f"{CREATED}.".encode() + RESPONSE_BODY
    # stripe-python: `hmac.new(secret.encode(), payload.encode(), sha256)`, `whsec_` and all.
    digest = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    headers = (("Stripe-Signature", f"t={CREATED},v1={'0' * 64},v1={digest},v0=x"),)
    cover = policy().cover_jws[:1]
    report = delivered(headers, keys=(key,), cover_jws=cover)
    assert (report.state, report.exit_status) == (State.INTEGRITY_ONLY, 3)
    assert report.key.thumbprint == ""


def test_a_bad_signature_in_front_makes_no_new_delivery():
    key = webhook_secret(SECRET, name="s")
    text = f"{CREATED}.".encode() + RESPONSE_BODY
    digest = hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest()
    known: set[tuple[str, str]] = set()

    def seen(name, token):
        before = (name, token) in known
        known.add((name, token))
        return before

    states = []
    for front in ("", f"v1={'0' * 64},", f"v1={'1' * 64},"):
        exchange = unsigned()
        field = ("Stripe-Signature", f"t={CREATED},{front}v1={digest}")
        exchange = with_response(exchange, headers=(*exchange.response.headers, field))
        chosen = ResponsePolicy(keys=(key,), cover_jws=policy().cover_jws[:1])
        states.append(verify_exchange(exchange, chosen, now=NOW, seen=seen).state)
    assert states == [State.INTEGRITY_ONLY, State.INVALID, State.INVALID]


def test_a_secret_that_was_never_written_signs_nothing_of_stripes_form():
    for secret in (b"", SECRET.encode()):
        digest = hmac.new(secret, f"{CREATED}.".encode(), hashlib.sha256).hexdigest()
        webhook = read_webhook((("Stripe-Signature", f"t={CREATED},v1={digest}"),))
        assert not webhook.verify(secret_key(b"k" * 16, name="s"), b"")


def test_without_a_key_that_fits_it_is_unknown():
    report = delivered(HEADERS, keys=(signing_key().public,))
    assert [one.rule.name for one in report.findings] == ["response-key-unknown"]


ID, AT, SIGNATURE = HEADERS
MALFORMED = [
    (AT, SIGNATURE),
    (ID, SIGNATURE),
    (ID, AT, SIGNATURE, SIGNATURE),
    (ID, ("webhook-timestamp", "1.5"), SIGNATURE),
    (ID, ("webhook-timestamp", "٣"), SIGNATURE),
    (ID, AT, ("webhook-signature", "v1")),
    (ID, AT, ("webhook-signature", "v1,abc")),
    (ID, AT, ("webhook-signature", "v1,YQ==")),
    (ID, AT, ("webhook-signature", "v2,YQ==")),
    (ID, AT, ("webhook-signature", " ".join([SIGNATURE[1]] * 17))),
    (("stripe-signature", "v1=" + "0" * 64),),
    (("stripe-signature", "t=1"),),
    (("stripe-signature", "t=1,v1=0"),),
    (("stripe-signature", "t=1,t=2,v1=" + "0" * 64),),
    (("stripe-signature", "nonsense"),),
]


@pytest.mark.parametrize("headers", MALFORMED)
def test_malformed_fields(headers):
    assert is_webhook(headers) or headers == MALFORMED[0][:0]
    with pytest.raises(ResponseError) as caught:
        read_webhook(headers)
    assert caught.value.rule == "response-signature-malformed"


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40))
def test_no_other_exception_whatever_the_field(text):
    for headers in ((ID, AT, ("webhook-signature", text)), (("stripe-signature", text),)):
        with contextlib.suppress(ResponseError):
            read_webhook(headers)


def test_a_secret_never_shows():
    with pytest.raises(KeyFileError) as caught:
        webhook_secret("whsec_hush!", name="s")
    assert "hush" not in caught.value.message
