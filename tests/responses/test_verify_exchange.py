"""Whole exchanges: one state each, and any changed byte of what is covered fails."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receipts import aci_receipt, near_receipt, with_aci, with_near
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

from r1prov.responses.components import parse_component
from r1prov.responses.exchange import (
    BodyDigests,
    Exchange,
    Redaction,
    Request,
    Response,
    field_values,
)
from r1prov.responses.http_signature import create_signature, read_signatures
from r1prov.responses.jws import create_jws
from r1prov.responses.keys import b64url
from r1prov.responses.message import exchange_message
from r1prov.responses.policy import COVER, Promise, ResponsePolicy
from r1prov.responses.report import State
from r1prov.responses.structured_fields import Item, write_dictionary
from r1prov.responses.verify import verify_exchange
from r1prov.verify.findings import Verdict


def verdict(exchange, chosen=None, **options):
    return verify_exchange(exchange, chosen or policy(), now=NOW, **options)


def rules(report):
    return {one.rule.name for one in report.findings}


def test_a_good_answer_says_what_it_proves():
    report = verdict(signed(unsigned(nonce="n"), nonce="n", tag="r1prov", expires=CREATED + 60))
    assert (report.state, report.verdict) == (State.VERIFIED, Verdict.PASS)
    assert report.covered == COVER
    assert report.scheme == "http-signature"
    assert report.key.thumbprint == signing_key().public.thumbprint
    assert (report.nonce, report.tag, report.model) == ("n", "r1prov", "deepseek-r1")
    assert (report.created, report.expires) == (NOW, NOW + timedelta(seconds=60))
    checked = {one.item for one in report.coverage if one.state == "checked"}
    assert checked == {
        *("signature", "nonce", "body of the answer", "body of the request", "coverage"),
    }


# ---- any byte -----------------------------------------------------------------------------------

GOOD = signed()


def changed_bytes(data, raw):
    at = data.draw(st.integers(0, len(raw) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda b: b != raw[at]))
    return raw[:at] + bytes([other]) + raw[at + 1 :]


def changed_text(data, text):
    at = data.draw(st.integers(0, len(text) - 1))
    return (
        text[:at]
        + data.draw(st.characters(codec="latin-1").filter(lambda c: c != text[at]))
        + (text[at + 1 :])
    )


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_changed_byte_of_any_covered_part_fails(data):
    part = data.draw(
        st.sampled_from(
            [
                "body",
                "request body",
                "status",
                "method",
                "path",
                "host",
                "request digest",
                "content-type",
                "content-digest",
                "signature",
                "signature-input",
            ]
        )
    )
    exchange = GOOD
    if part == "body":
        exchange = with_response(exchange, body=changed_bytes(data, RESPONSE_BODY))
    elif part == "request body":
        exchange = with_request(exchange, body=changed_bytes(data, REQUEST_BODY))
    elif part == "status":
        status = data.draw(st.integers(100, 599).filter(lambda s: s != 200))
        exchange = with_response(exchange, status=status)
    elif part == "method":
        exchange = with_request(exchange, method=changed_text(data, "POST"))
    elif part == "path":
        path = "/" + changed_text(data, "v1/chat/completions")
        exchange = with_request(exchange, url=f"https://api.example.com{path}")
        # What follows a question mark or a hash is no path, and ends it all the same.
    elif part in ("host", "request digest"):
        name = "host" if part == "host" else "content-digest"
        headers = tuple(
            (k, changed_text(data, v)) if k.lower() == name else (k, v)
            for k, v in exchange.request.headers
        )
        if name == "host" and dict(headers)["Host"].lower() in ("api.example.com", ""):
            return  # the same host; without one it is that of the URL
        exchange = with_request(exchange, headers=headers)
    else:
        old = next(v for k, v in exchange.response.headers if k.lower() == part)
        new = changed_text(data, old)
        if part == "signature-input" and verdict(with_header(exchange, part, new)).state not in (
            State.INVALID,
            State.UNSIGNED,
        ):
            pytest.fail(f"{new} was taken")
        if new.strip(" \t") == old:
            return
        exchange = with_header(exchange, part, new)
    report = verdict(exchange)
    assert report.verdict is not Verdict.PASS
    assert report.state in (State.INVALID, State.UNSIGNED)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30), st.binary(max_size=30), st.text(max_size=20))
def test_nothing_that_an_exchange_holds_raises(first, second, body, url):
    exchange = Exchange(
        request=Request(method=first, url=url, headers=((first, second),), body=body),
        response=Response(
            status=0,
            headers=(
                ("Signature-Input", first),
                ("Signature", second),
                ("x-jws-signature", first),
                ("webhook-signature", second),
            ),
            body=body,
        ),
    )
    report = verdict(with_document(exchange, body, url=url))
    assert report.verdict is not Verdict.PASS


# ---- states -------------------------------------------------------------------------------------


def test_no_signature_is_not_invalid_and_not_a_pass():
    report = verdict(unsigned())
    assert (report.state, report.verdict, report.exit_status) == (
        State.UNSIGNED,
        Verdict.INCOMPLETE,
        3,
    )


def test_a_signature_that_was_offered_before_and_is_missing_is_a_downgrade():
    report = verdict(unsigned(), offered_before=frozenset({"http-signature"}))
    assert (report.state, rules(report)) == (State.DOWNGRADED, {"response-downgraded"})
    # Another signature does not make up for it.
    text = create_jws(
        RESPONSE_BODY, signing_key(), kid=KEYID, iat=CREATED, request_body=REQUEST_BODY, status=200
    )
    headers = (*unsigned().response.headers, ("x-jws-signature", text))
    report = verdict(
        with_response(unsigned(), headers=headers),
        policy(promised=(Promise(ORIGIN, "http-signature"),)),
    )
    assert (report.state, report.verdict) == (State.DOWNGRADED, Verdict.FAIL)
    assert verdict(with_response(unsigned(), headers=headers)).state is State.VERIFIED


def test_a_receipt_that_was_promised_may_only_not_be_fetched_yet():
    report = verdict(unsigned(), policy(promised=(Promise(ORIGIN, "near"),)))
    assert (report.state, report.verdict) == (State.RECEIPT_UNAVAILABLE, Verdict.INCOMPLETE)
    # An ACI answer names its receipt in the header: without it the offer was taken off.
    report = verdict(unsigned(), policy(promised=(Promise(ORIGIN, "aci"),)))
    assert report.state is State.DOWNGRADED


def test_a_promise_is_of_one_origin():
    promised = policy(promised=(Promise("https://other.example", "http-signature"),))
    assert verdict(unsigned(), promised).state is State.UNSIGNED


def test_half_of_a_signature_is_invalid_not_unsigned():
    for name in ("signature", "signature-input"):
        report = verdict(without_header(GOOD, name))
        assert (report.state, rules(report)) == (State.INVALID, {"response-signature-malformed"})
    assert verdict(without_header(GOOD, "signature", "signature-input")).state is State.UNSIGNED


def test_an_answer_that_broke_off_is_neither_verified_nor_invalid():
    cut = with_response(GOOD, body=RESPONSE_BODY[:5], complete=False)
    report = verdict(cut)
    assert (report.state, report.verdict) == (State.INCOMPLETE_STREAM, Verdict.INCOMPLETE)
    # But a signature that is bad is bad.
    assert verdict(with_response(cut, status=201)).state is State.INVALID


def test_the_better_of_two_schemes_counts_and_a_bad_one_always_does():
    exchange = with_near(signed(components=["content-digest"]), near_receipt(signing_key()))
    report = verdict(exchange)
    assert (report.state, report.scheme, report.verdict) == (State.VERIFIED, "near", Verdict.PASS)
    assert any(one.item == "also http-signature" for one in report.coverage)
    bad = with_near(signed(), near_receipt(signing_key(), response=b"other"))
    assert verdict(bad).state is State.INVALID
    assert verdict(bad, policy(schemes=("http-signature",))).state is State.VERIFIED


# ---- what was not captured ----------------------------------------------------------------------


@pytest.mark.parametrize("side", ["request", "response"])
def test_a_body_that_was_not_captured_is_not_checked(side):
    change = with_request if side == "request" else with_response
    report = verdict(change(GOOD, body=None))
    assert (report.state, report.verdict) == (State.UNCHECKED, Verdict.INCOMPLETE)
    assert any(one.detail == "not captured" for one in report.coverage)
    redacted = replace(change(GOOD, body=None), redactions=(Redaction(part=f"{side}.body"),))
    report = verdict(redacted)
    assert report.state is State.UNCHECKED
    assert any(one.detail == "redacted" for one in report.coverage)


def test_a_long_body_is_checked_by_its_digests():
    held = with_response(GOOD, body=None, body_digests=BodyDigests.of(RESPONSE_BODY))
    assert verdict(held).state is State.VERIFIED
    other = with_response(GOOD, body=None, body_digests=BodyDigests.of(b"other"))
    assert rules(verdict(other)) == {"response-body-mismatch"}


@pytest.mark.parametrize(
    ("part", "component"),
    [
        ("request.header:x-team", "x-team;req"),
        ("response.header:x-trace", "x-trace"),
        ("request.url:query", "@query;req"),
        ("request.url:query", '@query-param;req;name="a"'),
    ],
)
def test_what_was_redacted_can_neither_verify_nor_fail(part, component):
    exchange = unsigned(
        url="https://api.example.com/v1/chat/completions?a=1",
        request_headers=(("X-Team", "a"),),
        response_headers=(("X-Trace", "b"),),
    )
    good = signed(exchange, components=[*COVER, component])
    assert verdict(good).state is State.VERIFIED
    gone = ("x-team", "x-trace")
    bare = replace(
        good,
        request=replace(
            good.request, headers=tuple(h for h in good.request.headers if h[0].lower() not in gone)
        ),
        response=replace(
            good.response,
            headers=tuple(h for h in good.response.headers if h[0].lower() not in gone),
        ),
        redactions=(Redaction(part=part),),
    )
    report = verdict(bare)
    assert (report.state, report.verdict) == (State.UNCHECKED, Verdict.INCOMPLETE)
    # A part that was not redacted is missing.
    if "header" in part:
        assert verdict(replace(bare, redactions=())).state is State.INVALID


# ---- coverage -----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", COVER)
def test_each_component_of_the_profile_is_wanted(missing):
    report = verdict(signed(components=[one for one in COVER if one != missing]))
    assert (report.state, rules(report)) == (State.UNCOVERED, {"response-uncovered"})
    (one,) = report.findings
    assert missing in one.message.split("open: ")[1].split(", ")


def test_the_target_uri_stands_for_authority_and_path():
    components = ["@status", "content-digest", "content-type", "@method;req", "content-digest;req"]
    assert verdict(signed(components=[*components, "@target-uri;req"])).state is State.VERIFIED
    assert verdict(signed(components=[*components, "@request-target;req"])).state is (
        State.UNCOVERED
    )


def test_one_member_of_the_digest_is_enough_if_it_counts():
    rest = [one for one in COVER if one != "content-digest"]
    assert verdict(signed(components=[*rest, 'content-digest;key="sha-256"'])).state is (
        State.VERIFIED
    )
    both = with_header(unsigned(), "Content-Digest", f"md5=:YQ==:, {digest_of(RESPONSE_BODY)}")
    report = verdict(signed(both, components=[*rest, 'content-digest;key="md5"']))
    assert report.state is State.UNCOVERED


def test_a_digest_that_is_not_covered_protects_nothing():
    """Body and digest are exchanged together: the signature does not notice."""
    exchange = signed(components=[one for one in COVER if one != "content-digest"])
    forged = with_header(with_response(exchange, body=b"{}"), "Content-Digest", digest_of(b"{}"))
    report = verdict(forged)
    assert (report.state, report.verdict) == (State.UNCOVERED, Verdict.FAIL)


def test_what_is_not_there_need_not_be_covered():
    exchange = unsigned(request_body=b"")
    exchange = with_request(
        exchange, headers=tuple(h for h in exchange.request.headers if h[0] != "Content-Digest")
    )
    exchange = without_header(exchange, "content-type")
    components = [one for one in COVER if one not in ("content-type", "content-digest;req")]
    assert verdict(signed(exchange, components=components)).state is State.VERIFIED
    # The answer's digest is wanted all the same: its content could have been taken away.
    bare = [one for one in components if one != "content-digest"]
    empty = with_response(exchange, body=b"", headers=())
    assert verdict(signed(empty, components=bare)).state is State.UNCOVERED
    # A request with content needs its digest, which the client has to send.
    exchange = with_request(exchange, body=REQUEST_BODY)
    report = verdict(signed(exchange, components=components))
    assert report.state is State.UNCOVERED
    assert "client sends" in report.findings[0].hint


def test_a_field_that_the_policy_names_cannot_be_taken_away():
    cover = tuple(map(parse_component, ("content-digest", "x-model")))
    bare = signed(components=["content-digest"])
    assert verdict(bare, policy(cover=cover)).state is State.UNCOVERED
    exchange = with_response(bare, headers=(*bare.response.headers, ("X-Model", "r1")))
    assert verdict(exchange, policy(cover=cover)).state is State.UNCOVERED


def test_a_request_whose_content_is_not_known_may_have_had_some():
    exchange = unsigned()
    headers = tuple(h for h in exchange.request.headers if h[0] != "Content-Digest")
    exchange = with_request(exchange, headers=headers, body=None)
    components = [one for one in COVER if one != "content-digest;req"]
    assert verdict(signed(exchange, components=components)).state is State.UNCOVERED


def test_only_members_of_the_digest_that_are_covered_count():
    two = f"{digest_of(RESPONSE_BODY)}, sha-512=:{'A' * 86}==:"
    others = [one for one in COVER if one != "content-digest"]
    exchange = with_header(unsigned(), "content-digest", two)
    good = signed(exchange, components=[*others, 'content-digest;key="sha-256"'])
    assert verdict(good).state is State.VERIFIED
    bad = signed(exchange, components=[*others, 'content-digest;key="sha-512"'])
    assert rules(verdict(bad)) == {"response-body-mismatch"}


def test_a_digest_in_a_trailer_is_not_the_one_of_the_header():
    others = [one for one in COVER if one != "content-digest"]
    exchange = with_response(unsigned(), trailers=(("Content-Digest", digest_of(b"other")),))
    report = verdict(signed(exchange, components=[*others, "content-digest;tr"]))
    assert report.state is State.UNCOVERED


def test_a_revoked_key_is_revoked_under_any_name_that_a_server_gives_it():
    public = signing_key().public
    entry = {"kid": "fresh", "kty": "OKP", "crv": "Ed25519"}
    entry["x"] = b64url(signing_key()._material.public_key().public_bytes_raw())
    exchange = with_document(signed(keyid="fresh"), json.dumps({"keys": [entry]}).encode())
    assert verdict(exchange, policy(keys=(public,))).state is State.VERIFIED
    revoked = replace(public, revoked_at=NOW)
    pins = frozenset({public.thumbprint})
    report = verdict(exchange, policy(keys=(revoked,), pins=pins))
    assert rules(report) == {"response-key-revoked"}
    # What a server sent with an error is no key set.
    absent = with_document(
        signed(keyid="fresh"), json.dumps({"keys": [entry]}).encode(), status=404
    )
    assert rules(verdict(absent, policy(keys=(public,)))) == {"response-key-unknown"}


@pytest.mark.parametrize("gap", ["\n", "\t", "\r", " ", "\x00", "\x7f"])
def test_a_url_with_a_gap_is_not_the_url_without(gap):
    url = f"https://api.example.com/v1/ch{gap}at/completions"
    assert verdict(with_request(signed(), url=url)).state is State.INVALID


def test_a_narrower_policy_is_said_in_full():
    cover = tuple(map(parse_component, ("content-digest", "x-model")))
    exchange = unsigned(response_headers=(("X-Model", "r1"),))
    report = verdict(signed(exchange), policy(cover=cover))
    assert (report.state, report.findings[0].expected) == (
        State.UNCOVERED,
        "content-digest x-model",
    )
    assert (
        verdict(
            signed(exchange, components=["content-digest", "x-model"]), policy(cover=cover)
        ).state
        is State.VERIFIED
    )


# ---- which signature, which key -----------------------------------------------------------------


def test_a_tag_chooses_and_a_label_does_not():
    two = signed(signed(tag="a"), label="sig2", tag="b")
    assert rules(verdict(two)) == {"response-signature-ambiguous"}
    assert verdict(two, policy(tag="b")).state is State.VERIFIED
    assert verdict(two, policy(tag="c")).state is State.UNSIGNED
    same = signed(signed(tag="a"), label="sig2", tag="a")
    assert rules(verdict(same, policy(tag="a"))) == {"response-signature-ambiguous"}


def test_a_signature_of_a_stranger_beside_a_good_one_is_let_be():
    both = signed(signed(), key=signing_key(number=1), label="proxy", keyid="proxy")
    assert verdict(both).state is State.VERIFIED
    assert rules(verdict(signed(key=signing_key(number=1), keyid="x"))) == {"response-key-unknown"}


def test_a_stranger_under_our_name_is_invalid():
    assert rules(verdict(signed(key=signing_key(number=1)))) == {"response-signature-invalid"}


def test_rotation_with_overlap():
    old, new = (signing_key(number=n).public.called(KEYID) for n in (0, 1))
    keys = (
        replace(old, valid_until=NOW + timedelta(hours=1)),
        replace(new, valid_from=NOW - timedelta(hours=1)),
    )
    for number in (0, 1):
        exchange = signed(key=signing_key(number=number))
        assert verdict(exchange, policy(keys=keys)).state is State.VERIFIED
    later = replace(GOOD, finished_at=NOW + timedelta(hours=2))
    report = verify_exchange(later, policy(keys=keys), now=NOW + timedelta(hours=2))
    assert "response-key-expired" in rules(report)


def test_a_key_is_known_by_its_thumbprint_and_by_being_the_only_one():
    thumbprint = signing_key().public.thumbprint
    assert verdict(signed(keyid=thumbprint)).state is State.VERIFIED
    assert verdict(signed(keyid=None)).state is State.VERIFIED
    two = policy(keys=(signing_key().public, signing_key(number=1).public))
    assert rules(verdict(signed(keyid=None), two)) == {"response-key-unknown"}


@pytest.mark.parametrize(
    ("origins", "good"),
    [
        (("https://api.example.com",), True),
        (("https://*.example.com",), True),
        (("*",), True),
        (("http://api.example.com",), False),
        (("https://api.example.com:8443",), False),
        (("https://example.com",), False),
    ],
)
def test_scope_by_origin(origins, good):
    key = replace(signing_key().public.called(KEYID), origins=origins)
    assert (verdict(signed(), policy(keys=(key,))).state is State.VERIFIED) is good


def test_scope_by_model_needs_a_model():
    key = replace(signing_key().public.called(KEYID), models=("deepseek-*",))
    assert verdict(signed(), policy(keys=(key,))).state is State.VERIFIED
    report = verdict(signed(unsigned(request_body=b"{}")), policy(keys=(key,)))
    assert (report.state, report.verdict) == (State.UNCHECKED, Verdict.INCOMPLETE)


def test_a_revoked_key_counts_at_no_time():
    key = replace(signing_key().public.called(KEYID), revoked_at=NOW + timedelta(days=365))
    assert rules(verdict(signed(), policy(keys=(key,)))) == {"response-key-revoked"}


# ---- time, nonce, replay ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("created", "rule"),
    [
        (CREATED - 330, None),
        (CREATED - 331, "response-too-old"),
        (CREATED + 30, None),
        (CREATED + 31, "response-from-future"),
        (-1, "response-too-old"),
        (10**14, "response-from-future"),
    ],
)
def test_window(created, rule):
    assert rules(verdict(signed(created=created))) == ({rule} if rule else set())


def test_age_is_judged_by_the_moment_of_the_capture():
    later = NOW + timedelta(days=30)
    assert verify_exchange(signed(), policy(), now=later).state is State.VERIFIED
    without = replace(signed(), finished_at=None)
    assert rules(verify_exchange(without, policy(), now=later)) == {"response-too-old"}
    ahead = replace(signed(), finished_at=NOW + timedelta(days=1))
    assert "response-from-future" in rules(verdict(ahead))


@pytest.mark.parametrize(
    ("asked", "answered", "mode", "good"),
    [
        (None, None, "echo", True),
        (None, "n", "echo", True),
        ("n", "n", "echo", True),
        ("n", None, "echo", False),
        ("n", "m", "echo", False),
        ("n", "N", "echo", False),
        (None, "n", "require", False),
        ("n", "n", "require", True),
        ("n", "m", "ignore", True),
    ],
)
def test_nonces(asked, answered, mode, good):
    report = verdict(signed(unsigned(nonce=asked), nonce=answered), policy(nonce=mode))
    assert rules(report) == (set() if good else {"response-nonce"})


class Memory:
    """What an exchange log does for verify_exchange."""

    def __init__(self):
        self.known = set()

    def __call__(self, key, token):
        found = (key, token) in self.known
        self.known.add((key, token))
        return found


def test_an_answer_is_taken_once():
    memory = Memory()
    for exchange in (signed(nonce="n"), signed(), signed(nonce="m")):
        assert verdict(exchange, seen=memory).state is State.VERIFIED
        assert rules(verdict(exchange, seen=memory)) == {"response-replayed"}
    assert len(memory.known) == 3


P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P384 = 2**384 - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D


@pytest.mark.parametrize(("kind", "order"), [("ecdsa-p256", P256), ("ecdsa-p384", P384)])
def test_an_ecdsa_signature_in_its_other_spelling_is_no_new_answer(kind, order):
    key, memory = signing_key(kind), Memory()
    exchange = signed(key=key)
    assert verdict(exchange, policy(key), seen=memory).state is State.VERIFIED
    (made,) = read_signatures(exchange.response.headers)
    middle = len(made.signature) // 2
    r, s = made.signature[:middle], made.signature[middle:]
    other = r + (order - int.from_bytes(s, "big")).to_bytes(len(s), "big")
    again = with_header(exchange, "signature", write_dictionary({"sig1": Item(other)}))
    assert verdict(again, policy(key)).state is State.VERIFIED
    assert rules(verdict(again, policy(key), seen=memory)) == {"response-replayed"}


def test_a_signature_that_ended_before_it_was_made_never_counts():
    report = verdict(signed(expires=CREATED - 1))
    assert rules(report) == {"response-expired"}
    assert verdict(signed(expires=CREATED + 1)).state is State.VERIFIED


def test_trailers_that_were_captured_can_be_signed():
    exchange = with_response(unsigned(), trailers=(("X-Usage", "7"),))
    exchange = signed(exchange, components=[*COVER, "x-usage;tr"])
    assert verdict(exchange).state is State.VERIFIED
    other = with_response(exchange, trailers=(("X-Usage", "8"),))
    assert verdict(other).state is State.INVALID
    asked = with_request(unsigned(), trailers=(("X-Ask", "1"),))
    asked = signed(asked, components=[*COVER, "x-ask;req;tr"])
    assert verdict(asked).state is State.VERIFIED
    assert verdict(with_request(asked, trailers=(("X-Ask", "2"),))).state is State.INVALID
    gone = verdict(with_response(exchange, trailers=()))
    assert (gone.state, gone.exit_status) == (State.UNCHECKED, 3)


def test_what_is_bad_is_not_remembered():
    memory = Memory()
    assert verdict(with_response(signed(nonce="n"), status=500), seen=memory).state is State.INVALID
    assert verdict(signed(nonce="n", created=CREATED - 900), seen=memory).state is State.INVALID
    assert memory.known == set()


def test_an_answer_to_another_request_is_named_where_that_request_is_known():
    other = with_request(unsigned(), url="https://api.example.com/v1/completions")
    answer = signed(other)
    swapped = replace(answer, request=unsigned().request)
    assert rules(verdict(swapped)) == {"response-signature-invalid"}
    assert "another one" in verdict(swapped).findings[0].hint
    assert rules(verdict(swapped, others=[other.request])) == {"response-other-request"}


def test_a_downgraded_algorithm():
    """RSA and HMAC confused: the public key as a secret. The key decides, so it is no secret."""
    assert rules(verdict(signed(alg="rsa-v1_5-sha256"))) == {"response-algorithm"}
    key = hmac_signing_key()
    assert rules(verdict(signed(key=key, alg="hmac-sha256"))) == {"response-algorithm"}


def test_an_hmac_is_never_a_pass():
    key = hmac_signing_key()
    report = verdict(signed(key=key), policy(key))
    assert (report.state, report.verdict) == (State.INTEGRITY_ONLY, Verdict.INCOMPLETE)
    bad = with_response(signed(key=key), status=500)
    assert verdict(bad, policy(key)).state is State.INVALID


def test_a_receipt_and_its_model_count_for_aci_too():
    key = signing_key().public.called("receipt-1")
    exchange = with_aci(unsigned(), aci_receipt(model=None))
    report = verdict(exchange, ResponsePolicy(keys=(key,)))
    assert report.state is State.VERIFIED
    assert any("names none" in one.detail for one in report.coverage)


def test_fields_of_the_response_that_were_signed_twice_over():
    """Two lines of one field are one value, in order."""
    exchange = unsigned(response_headers=(("X-A", "1"), ("X-A", "2")))
    good = signed(exchange, components=[*COVER, "x-a"])
    assert verdict(good).state is State.VERIFIED
    headers = tuple(reversed(good.response.headers))
    assert verdict(with_response(good, headers=headers)).state is State.INVALID


def test_create_needs_what_it_covers():
    from r1prov.errors import ResponseError

    with pytest.raises(ResponseError, match="no such field"):
        create_signature(
            exchange_message(unsigned()), ["x-none"], signing_key(), created=1, keyid="k"
        )
    with pytest.raises(ResponseError, match="no structured field"):
        create_signature(
            exchange_message(unsigned()), [], signing_key(), created=1, keyid="k", nonce="é"
        )


def test_a_host_field_that_contradicts_the_url_is_of_another_request():
    """Signed for one host, shown as an answer of another: the signature alone would hold."""
    exchange = signed()
    host = field_values(exchange.request.headers, "host") or ("api.example.com",)
    headers = tuple(pair for pair in exchange.request.headers if pair[0].lower() != "host")
    exchange = with_request(exchange, headers=(("Host", host[0]), *headers))
    assert verify_exchange(exchange, policy(), now=NOW).state is State.VERIFIED
    shown = with_request(exchange, url="https://api.deepseek.com/v1/chat/completions")
    report = verify_exchange(shown, policy(), now=NOW)
    assert report.state is State.INVALID
    (found,) = [one for one in report.findings if one.rule.name == "response-other-request"]
    assert (found.expected, found.found) == ("api.deepseek.com", "api.example.com")


def test_the_headline_of_an_invalid_answer_says_what_is_wrong():
    unknown = verify_exchange(signed(), policy(keys=()), now=NOW)
    assert unknown.state is State.INVALID
    assert unknown.headline == "signed by a key that nobody here trusts"
    changed = verify_exchange(with_response(signed(), body=b"{}"), policy(), now=NOW)
    assert changed.headline == "the body is not the one that was signed"
