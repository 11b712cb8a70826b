import base64
import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ExchangeError
from r1prov.responses.exchange import BodyDigests, Exchange, Redaction, Request, Response
from r1prov.responses.exchange_file import exchange_to_json, parse_exchange
from r1prov.responses.redaction import (
    SECRET_FIELDS,
    Content,
    Opening,
    RedactionRules,
    commitment,
    redact,
    redact_url,
    reveal,
)

KEY = "sk-0123456789abcdef/0123"
DIGEST = RedactionRules(content=Content.DIGEST)


def exchange(
    *,
    url="https://api.example/v1/chat",
    sent=(),
    received=(),
    body=b'{"user":"me"}',
    answer=b'{"text":"hi"}',
    **more,
):
    return Exchange(
        request=Request(method="POST", url=url, headers=tuple(sent), body=body),
        response=Response(status=200, headers=tuple(received), body=answer),
        **more,
    )


def parts(made):
    return {one.part for one in made.exchange.redactions}


def test_an_exchange_without_secrets_stays_as_it_is():
    plain = exchange(sent=[("Content-Type", "application/json"), ("Signature", "a=:AA==:")])
    made = redact(plain)
    assert made.exchange == plain
    assert made.openings == ()


@pytest.mark.parametrize(
    "name",
    [
        *sorted(SECRET_FIELDS),
        *("AUTHORIZATION", "X-Acme-Api-Key", "acme-access-token", "X-Secret", "Acme-Password"),
        *("X-Vault-Token", "hf_token", "Token", "X-Forwarded-Authorization", "Helicone-Auth"),
        *("X-CSRFToken", "Cf-Access-Jwt-Assertion", "X-Bearer", "X-Amzn-Key", "Cookie2"),
    ],
)
def test_secret_fields_go_and_are_named(name):
    made = redact(exchange(sent=[("A", "b"), (name, "v1"), (name, "v2")], received=[(name, "w")]))
    assert made.exchange.request.headers == (("A", "b"),)
    assert made.exchange.response.headers == ()
    assert parts(made) == {f"request.header:{name.lower()}", f"response.header:{name.lower()}"}
    assert all(one.commitment is None for one in made.exchange.redactions)


@pytest.mark.parametrize(
    "name",
    [
        *("Signature", "Signature-Input", "Content-Digest", "Idempotency-Key", "X-Request-Id"),
        *("Webhook-Signature", "X-Ratelimit-Remaining-Tokens", "X-Receipt-Id", "Author"),
        *("Next-Page-Token", "WWW-Authenticate", "Sec-WebSocket-Key"),
    ],
)
def test_fields_that_a_verification_needs_stay(name):
    assert redact(exchange(sent=[(name, "value")])).exchange.request.headers == ((name, "value"),)


def test_a_bearer_token_under_any_name_goes():
    made = redact(exchange(sent=[("X-Forwarded-Auth-Info", f"bearer {KEY}")]))
    assert made.exchange.request.headers == ()


def test_trailers_are_redacted_too():
    plain = exchange()
    plain = replace(plain, response=replace(plain.response, trailers=(("Set-Cookie", "a=b"),)))
    made = redact(plain)
    assert made.exchange.response.trailers == ()
    assert parts(made) == {"response.trailer:set-cookie"}


URLS: dict[str, tuple[str, set[str]]] = {
    "https://u:p@h/x": ("https://h/x", {"userinfo"}),
    "https://u@p@h": ("https://h", {"userinfo"}),
    "https://h/a@b?c=d@e": ("https://h/a@b?c=d@e", set()),
    "https://h/?key=abc&model=r1": ("https://h/?key=REDACTED&model=r1", {"query"}),
    "https://h/?model=r1;ToKeN=abc": ("https://h/?model=r1;ToKeN=REDACTED", {"query"}),
    "https://h/?%6bey=abc": ("https://h/?%6bey=REDACTED", {"query"}),
    "https://h/?acme-api-key=abc#f": ("https://h/?acme-api-key=REDACTED#REDACTED", {"query"}),
    "https://h/?key=&token": ("https://h/?key=&token", set()),
    "https://h/?a=b=c&&sig=d=e": ("https://h/?a=b=c&&sig=REDACTED", {"query"}),
    "https://h/?user_token=a&Authorization=b&max_tokens=5": (
        "https://h/?user_token=REDACTED&Authorization=REDACTED&max_tokens=5",
        {"query"},
    ),
    "https://h/?api+key=a": ("https://h/?api+key=REDACTED", {"query"}),
    "https://h/?a=b#access_token=c": ("https://h/?a=b#REDACTED", {"query"}),
    "https://h/?a=b#part": ("https://h/?a=b#part", set()),
    "https://h/?monkey=1": ("https://h/?monkey=1", set()),
}


@pytest.mark.parametrize("url", URLS)
def test_urls_lose_their_secrets_only(url):
    shown, gone = redact_url(url)
    assert (shown, set(gone)) == URLS[url]
    made = redact(exchange(url=url))
    assert made.exchange.request.url == shown
    assert parts(made) == {f"request.url:{part}" for part in gone}


def test_a_location_with_a_token_goes():
    made = redact(
        exchange(received=[("Location", "https://h/?token=a"), ("Link", "<https://h/a>")])
    )
    assert made.exchange.response.headers == (("Link", "<https://h/a>"),)


@pytest.mark.parametrize("location", ["https://h/#access_token=a", "//user:secret@h/"])
def test_a_reference_with_a_secret_goes(location):
    assert redact(exchange(received=[("Location", location)])).exchange.response.headers == ()


def test_a_key_that_is_the_name_of_a_user_is_taken_out_of_content():
    made = redact(
        exchange(url=f"https://{KEY.replace('/', '')}@h/", answer=KEY.replace("/", "").encode())
    )
    assert made.exchange.response.body is None


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        (f"Bearer\t{KEY}", KEY),
        (f'Digest username="u", response="{KEY}"', KEY),
        ('Bearer a"b\\cSECRETSECRET', r"a\"b\\cSECRETSECRET"),
    ],
)
def test_a_secret_is_found_behind_any_scheme_and_as_json_writes_it(value, secret):
    made = redact(exchange(sent=[("Authorization", value)], answer=secret.encode()))
    assert made.exchange.response.body is None
    assert secret.encode() not in (made.exchange.redactions[-1].remainder or b"")


def test_a_secret_of_a_trailer_is_taken_out_of_content():
    plain = exchange(answer=KEY.encode())
    plain = replace(plain, request=replace(plain.request, trailers=(("X-Api-Key", KEY),)))
    assert redact(plain).exchange.response.body is None


def test_members_of_a_stream_behind_a_byte_order_mark_are_blanked():
    made = redact(
        exchange(
            received=[("Content-Type", "text/event-stream")],
            answer=b'\xef\xbb\xbfdata: {"secret_text":"x"}\n\n',
        ),
        RedactionRules(members=frozenset({"secret_text"})),
    )
    assert made.exchange.redactions[-1].remainder == (
        b'\xef\xbb\xbfdata:{"secret_text": "REDACTED"}\n\n'
    )


BASIC = base64.b64encode(b"user:" + KEY.encode()).decode()


@pytest.mark.parametrize("value", [f"Bearer {KEY}", f"Basic {BASIC}", KEY])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_secret_is_found_wherever_it_is_quoted(value, escaped):
    shown = KEY.replace("/", "\\/") if escaped else KEY
    made = redact(
        exchange(
            url=f"https://h/bot{KEY}/x?q={KEY}",
            sent=[("Authorization", value), ("X-Copy", f"is {KEY}")],
            received=[("X-Echo", KEY)],
            answer=f'{{"error":"wrong key {shown}"}}'.encode(),
        )
    )
    written = exchange_to_json(made.exchange)
    assert made.exchange.request.headers == made.exchange.response.headers == ()
    assert made.exchange.request.url == "https://h/botREDACTED/x?q=REDACTED"
    assert {"request.url:path", "request.url:query", "response.body"} <= parts(made)
    assert made.exchange.response.body is None
    (redaction,) = (one for one in made.exchange.redactions if one.part == "response.body")
    assert redaction.remainder == b'{"error":"wrong key REDACTED"}'
    for secret in (KEY, value, BASIC, shown):
        assert secret.encode() not in written
        assert base64.b64encode(secret.encode())[2:-4] not in written
    assert made.exchange.request.body == b'{"user":"me"}'


@pytest.mark.parametrize(
    "sent",
    [
        {"url": f"https://h/?key={KEY}"},
        {"url": "https://h/?key=" + KEY.replace("/", "%2F")},
        {"url": "https://user:" + KEY.replace("/", "%2F") + "@h/"},
        {"sent": [("Cookie", f"theme=dark; session={KEY}")]},
        {"received": [("Set-Cookie", f"session={KEY}; Path=/")]},
    ],
)
def test_secrets_of_urls_and_cookies_are_found_too(sent):
    made = redact(exchange(**sent, answer=f"wrong key {KEY}".encode()))
    assert "response.body" in parts(made)
    assert KEY.encode() not in exchange_to_json(made.exchange)


@pytest.mark.parametrize("coding", ["gzip", "br"])
def test_a_secret_in_coded_content_is_found_or_feared(coding):
    body = gzip.compress(f"key {KEY}".encode())
    fields = [("Content-Encoding", coding)]
    made = redact(exchange(sent=[("Authorization", KEY)], received=fields, answer=body))
    assert made.exchange.response.body is None
    made = redact(
        exchange(sent=[("Authorization", KEY)], received=fields, answer=gzip.compress(b"hello"))
    )
    assert (made.exchange.response.body is None) == (coding == "br")
    assert redact(exchange(received=fields, answer=body)).exchange.response.body == body


def test_documents_lose_secrets_and_say_so():
    from datetime import UTC, datetime

    from r1prov.responses.exchange import CapturedDocument

    when = datetime(2026, 1, 1, tzinfo=UTC)
    made = redact(
        exchange(
            sent=[("Authorization", f"Bearer {KEY}")],
            documents=(
                CapturedDocument(url="https://h/r?key=1", status=200, body=b"{}", fetched_at=when),
                CapturedDocument(url="https://h/r", status=200, body=KEY.encode(), fetched_at=when),
            ),
        )
    )
    assert made.exchange.documents[0].url == "https://h/r?key=REDACTED"
    assert made.exchange.documents[1].body == b""
    assert {"document:0.url", "document:1.body"} <= parts(made)


MEMBERS = RedactionRules(members=frozenset({"user", "content"}))


def test_members_are_blanked_at_any_depth_and_the_body_is_withheld():
    body = '{"model":"r1","us\\u0065r":"me","messages":[{"role":"user","content":["漢"]}]}'.encode()
    made = redact(exchange(body=body), MEMBERS)
    assert made.exchange.request.body is None
    assert made.exchange.response.body == b'{"text":"hi"}'
    (redaction,) = made.exchange.redactions
    assert json.loads(redaction.remainder or b"") == {
        "model": "r1",
        "user": "REDACTED",
        "messages": [{"role": "user", "content": "REDACTED"}],
    }
    assert reveal(made.exchange, made.openings[0]).request.body == body


def test_members_are_blanked_in_the_events_of_a_stream():
    stream = (
        b': keep-alive\r\n\r\ndata: {"delta":{"content":"secret"}}\n\n'
        b'data: {"half":\ndata: "content"}\n\ndata: {"usage":1}\n\ndata: [DONE]\n\n'
    )
    made = redact(
        exchange(answer=stream, received=[("Content-Type", "text/event-stream; charset=utf-8")]),
        MEMBERS,
    )
    remainder = next(one for one in made.exchange.redactions if one.part == "response.body")
    assert remainder.remainder == (
        b': keep-alive\r\n\r\ndata:{"delta": {"content": "REDACTED"}}\n\n'
        b'data:REDACTED\ndata:REDACTED\n\ndata: {"usage":1}\n\ndata: [DONE]\n\n'
    )


@pytest.mark.parametrize("body", [b"user=me&content=x", b'{"user":"me"', b'{"user":1,"user":2}'])
def test_content_that_cannot_be_searched_is_withheld_whole(body):
    made = redact(exchange(body=body, answer=b""), MEMBERS)
    (redaction,) = made.exchange.redactions
    assert (redaction.part, redaction.remainder) == ("request.body", None)
    assert made.exchange.response.body == b""


def test_content_becomes_digests_and_can_be_opened_one_by_one():
    plain = exchange(sent=[("Authorization", f"Bearer {KEY}")])
    made = redact(plain, DIGEST)
    again = parse_exchange(exchange_to_json(made.exchange), subject="x")
    assert (again.request.body, again.response.body) == (None, None)
    first, second = made.openings
    assert {first.part, second.part} == {"request.body", "response.body"}
    opened = reveal(again, first)
    assert opened.request.body == plain.request.body
    assert opened.response.body is None
    assert [one.part for one in opened.redactions] == [
        "request.header:authorization",
        "response.body",
    ]
    assert reveal(opened, second).response == plain.response


def test_digests_without_salt_do_not_stay_beside_salted_ones():
    plain = exchange(answer=None)
    plain = replace(plain, response=replace(plain.response, body_digests=BodyDigests.of(b"yes")))
    made = redact(plain, DIGEST)
    assert made.exchange.response.body_digests is None
    assert Redaction(part="response.body") in made.exchange.redactions


@given(st.binary(max_size=40), st.integers(0, 31), st.integers(1, 255))
def test_an_opening_of_anything_else_is_refused(body, at, flip):
    made = redact(exchange(body=body), DIGEST)
    good = made.openings[0]
    salt = bytearray(good.salt)
    salt[at] ^= flip
    wrong = [
        replace(good, salt=bytes(salt)),
        replace(good, value=good.value + b"x"),
        replace(good, part="response.body"),
        # A byte that moves from the salt into the content.
        replace(good, salt=good.salt[:-1], value=good.salt[-1:] + good.value),
    ]
    for one in wrong:
        with pytest.raises(ExchangeError, match="is of something else"):
            reveal(made.exchange, one)


def test_only_what_was_redacted_to_a_digest_can_be_opened():
    made = redact(exchange(sent=[("Authorization", KEY)]))
    for part in ("request.header:authorization", "request.body"):
        with pytest.raises(ExchangeError, match="not redacted to a digest"):
            reveal(made.exchange, Opening(part=part, salt=b"\0" * 32, value=b""))


def test_the_commitment_is_the_documented_one():
    import hashlib

    salt = bytes(range(32))
    assert (
        commitment("request.body", salt, b"hi")
        == hashlib.sha256(b"r1prov/redaction/1\0request.body\0" + salt + b"hi").digest()
    )


def test_salts_are_fresh_and_not_shown():
    first, second = (redact(exchange(), DIGEST) for _ in range(2))
    assert first.exchange.redactions != second.exchange.redactions
    assert "salt" not in repr(first.openings[0])
    assert "user" not in repr(first.openings[0])


def test_a_second_redaction_keeps_the_first():
    once = redact(exchange(sent=[("Cookie", "a=b")]), DIGEST)
    twice = redact(once.exchange)
    assert twice.exchange == once.exchange
    assert twice.openings == ()


SECRETS = st.text("abcdefghijKLMNOP0123456789-_", min_size=12, max_size=40)


@given(SECRETS, st.text(max_size=10), st.text(max_size=10))
def test_no_written_byte_holds_the_secret(secret, before, after):
    text = f"{before}{secret}{after}"
    made = redact(
        exchange(
            url=f"https://user:{secret}@h/?api_key={secret}",
            sent=[("Authorization", f"Bearer {secret}"), ("Cookie", f"s={secret}")],
            received=[("Set-Cookie", f"t={secret}")],
            body=text.encode(),
            answer=json.dumps({"error": text}).encode(),
        )
    )
    shown = made.exchange
    held = [shown.request.url, *(value for _, value in shown.request.headers)]
    held += [value for _, value in shown.response.headers]
    raw = b"\n".join(
        [
            *(one.encode() for one in held),
            *(one.remainder or b"" for one in shown.redactions),
            shown.request.body or b"",
            shown.response.body or b"",
        ]
    )
    assert secret.encode() not in raw
