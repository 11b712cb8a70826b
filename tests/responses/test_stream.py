"""Streams as the signer writes them and the verifier reads them, and every way to spoil one."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.errors import ResponseError, StatementError, UsageError
from r1prov.responses.algorithms import ALGORITHMS
from r1prov.responses.exchange import Request
from r1prov.responses.expected import Expected, request_facts
from r1prov.responses.keys import SigningKey, key_of
from r1prov.responses.stream import StreamState, StreamVerifier
from r1prov.responses.stream_signer import LINE_START, MARKER, StreamSigner
from r1prov.responses.stream_statement import (
    StreamStatement,
    decode_statement,
    encode_statement,
)
from r1prov.trust.keys import GENERATED, generate_private_key
from r1prov.verify.findings import finding
from r1prov.verify.rules_of_streams import STREAMS


def new_key(kind="ed25519"):
    private = generate_private_key(kind)
    return SigningKey(key_of(private.public), private._key)


KEY, OTHER = new_key(), new_key()
NOW = 1_764_000_000
MANIFEST = hashlib.sha256(b"manifest").hexdigest()
ID = "AAAAAAAAAAAAAAAAAAAAAA"
DONE = b"data: [DONE]\n\n"
EVENTS = [b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % i for i in range(6)]
FACTS = request_facts(
    Request(
        method="POST",
        url="https://Api.Example.com:443/v1/chat/completions?a=%2F",
        headers=(),
        body=b'{"stream":true}',
    ),
    nonce="n-1",
)
INLINE = (("R1prov-Stream", f'inline;id="{ID}"'), ("Content-Type", "text/event-stream"))
RECEIPT = (("R1prov-Stream", f'receipt;id="{ID}"'), ("Content-Type", "text/event-stream"))


def signing(key=KEY):
    def sign(statement):
        return encode_statement(
            statement,
            key_id=key.public.thumbprint,
            algorithm=ALGORITHMS[key.public.algorithm].jose[0],
            sign=key.sign,
        )

    return sign


def signer(key=KEY, **changes):
    said = {
        "stream_id": ID,
        "status": 200,
        "content_type": "text/event-stream",
        "request": FACTS,
        "manifest_sha256": MANIFEST,
        "weights_at": NOW - 60,
        "lifetime": 300,
    }
    return StreamSigner(signing(key), **{**said, **changes})


def expected(**changes):
    said = {
        "request": FACTS,
        "status": 200,
        "content_type": "text/event-stream",
        "key": {KEY.public.thumbprint: KEY.public}.get,
        "now": lambda: NOW,
        "manifest_sha256": MANIFEST,
        "verified_weights": True,
    }
    return Expected(**{**said, **changes})


def signed(pieces, *, every=2, complete=True, **changes):
    stream = signer(**changes)
    sent = [stream.start(NOW)]
    for number, piece in enumerate(pieces, 1):
        sent.append(stream.feed(piece, NOW, checkpoint=number % every == 0))
    sent.append(stream.finish(NOW, complete=complete))
    return b"".join(sent), stream


def verified(content, *, headers=INLINE, size=None, complete=True, receipt=None, **changes):
    verifier = StreamVerifier(headers, expected(**changes))
    size = size or len(content) or 1
    for at in range(0, len(content), size):
        verifier.feed(content[at : at + size])
    return verifier.finish(complete=complete, receipt=receipt)


def rules(result):
    return [found.rule.name for found in result.findings]


GOOD, _ = signed([*EVENTS, DONE])


def statement_lines(content):
    """Start and end of every statement, the blank line included."""
    spans, at = [], 0
    while (at := content.find(MARKER, at)) >= 0:
        end = content.index(b"\n\n", at) + 2
        spans.append((at, end))
        at = end
    return spans


def without_statements(content):
    for start, end in reversed(statement_lines(content)):
        content = content[:start] + content[end:]
    return content


def test_a_signed_stream_is_the_stream_with_comments_between_its_events():
    assert without_statements(GOOD) == b"".join(EVENTS) + DONE
    assert GOOD.startswith(MARKER)
    assert GOOD.endswith(b"\n\n" + DONE)
    assert len(statement_lines(GOOD)) == 5
    result = verified(GOOD)
    assert (result.state, rules(result)) == (StreamState.VERIFIED, [])
    assert result.proven == result.received == len(GOOD)
    assert result.statement.request.nonce == "n-1"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 19, 1000])
def test_pieces_of_any_size_are_the_same_stream(size):
    assert verified(GOOD, size=size) == verified(GOOD)


@pytest.mark.parametrize("kind", [one for one in GENERATED if "521" not in one])
def test_every_kind_of_key_signs(kind):
    key = new_key(kind)
    content, _ = signed([*EVENTS, DONE], key=key)
    keys = {key.public.thumbprint: key.public}.get
    assert verified(content, key=keys).state is StreamState.VERIFIED
    at = content.rindex(MARKER)
    line = bytearray(content[at : content.index(b"\n", at)])
    line[-30] = ord("A") if line[-30] != ord("A") else ord("B")
    bad = content[:at] + bytes(line) + content[at + len(line) :]
    assert rules(verified(bad, key=keys)) == ["response-signature-invalid"]


@given(st.data())
def test_the_signer_writes_the_same_however_the_bytes_come(data):
    ends = data.draw(st.sampled_from([DONE, b"data:[DONE]\r\n\r\n", b"data: [DONE]\n", b""]))
    extra = data.draw(
        st.sampled_from([b"", b": keep-alive\n\n", b"data: [DON]\n\n", b"data: [DONE]x\n\n", b"d"])
    )
    content = b"".join(EVENTS[:2]) + extra + ends
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    whole, _ = signed([content], every=99)
    stream = signer()
    sent = [stream.start(NOW)]
    shown = 0
    for piece in pieces:
        sent.append(stream.feed(piece, NOW))
        shown += len(piece)
        # Nothing is held but what may be the end.
        assert len(without_statements(b"".join(sent))) >= shown - len(DONE) - 2
    sent.append(stream.finish(NOW, complete=True))
    assert b"".join(sent) == whole
    assert verified(whole).state is StreamState.VERIFIED
    kept = without_statements(whole)
    assert kept.removesuffix(b"\n") == content.removesuffix(b"\n")


def test_the_last_statement_stands_before_the_end_event_and_names_it():
    start, end = statement_lines(GOOD)[-1]
    said = decode_statement(GOOD[start:end].split()[2].decode()).statement
    assert (said.state, said.end.encode(), said.offset) == ("complete", DONE, start)
    assert said.sha256 == hashlib.sha256(GOOD[:start]).hexdigest()
    assert GOOD[end:] == DONE


def test_what_comes_after_the_end_event_is_not_passed_on():
    stream = signer()
    stream.start(NOW)
    assert stream.feed(DONE + b"data: more\n\n", NOW).endswith(b"\n\n" + DONE)
    assert stream.ended
    assert stream.feed(b"data: more\n\n", NOW) == stream.finish(NOW, complete=True) == b""


def test_a_stream_without_an_end_event_ends_with_its_statement():
    content, _ = signed(EVENTS)
    _, end = statement_lines(content)[-1]
    assert end == len(content)
    assert verified(content).state is StreamState.VERIFIED


def test_an_answer_that_stops_within_a_line_still_ends_with_its_statement():
    content, _ = signed([b"data: 1\n\ndata: 2"])
    assert content.endswith(b"\n\n")
    assert b"data: 2\n" + MARKER in content
    assert verified(content).state is StreamState.VERIFIED


@pytest.mark.parametrize("cut", range(2, len(MARKER) + 2))
def test_an_answer_cannot_bring_statements_of_its_own(cut):
    stream = signer()
    stream.start(NOW)
    forged = b"data: 1\n\n" + MARKER + b" abc\n\n"
    at = len(b"data: 1\n\n") - 2 + cut
    stream.feed(forged[:at], NOW)
    with pytest.raises(StatementError, match="of its own"):
        stream.feed(forged[at:], NOW)


def test_a_model_may_write_about_the_marker():
    content, _ = signed([b'data: ": r1prov-signature x"\n\n', DONE])
    assert verified(content).state is StreamState.VERIFIED


def spoil(**how):
    """A named way to spoil GOOD, and the finding it must give."""
    return how


SPANS = statement_lines(GOOD)
FIRST, SECOND, THIRD = SPANS[0], SPANS[1], SPANS[2]
AN_EVENT = GOOD.index(EVENTS[2])
SPOILT = {
    "an event taken out": (GOOD.replace(EVENTS[2], b""), "stream-bytes-removed"),
    "an event put in": (
        GOOD.replace(EVENTS[2], EVENTS[2] + b"data: x\n\n"),
        "stream-bytes-inserted",
    ),
    "an event twice": (GOOD.replace(EVENTS[2], EVENTS[2] * 2), "stream-bytes-inserted"),
    "two events the other way round": (
        GOOD.replace(EVENTS[2] + EVENTS[3], EVENTS[3] + EVENTS[2]),
        "stream-bytes-altered",
    ),
    "a digit changed": (GOOD.replace(b'"3"', b'"7"'), "stream-bytes-altered"),
    "a keep-alive put in": (
        GOOD[:AN_EVENT] + b": keep-alive\n\n" + GOOD[AN_EVENT:],
        "stream-bytes-inserted",
    ),
    "line ends rewritten": (
        GOOD.replace(EVENTS[2], EVENTS[2].replace(b"\n", b"\r\n")),
        "stream-bytes-inserted",
    ),
    "a statement twice": (
        GOOD[: SECOND[1]] + GOOD[SECOND[0] : SECOND[1]] + GOOD[SECOND[1] :],
        "stream-repeated",
    ),
    "a statement taken out": (GOOD[: SECOND[0]] + GOOD[SECOND[1] :], "stream-order"),
    "the first statement taken out": (GOOD[FIRST[1] :], "stream-order"),
    "parts the other way round": (
        GOOD[: FIRST[1]]
        + GOOD[SECOND[1] : THIRD[1]]
        + GOOD[FIRST[1] : SECOND[1]]
        + GOOD[THIRD[1] :],
        "stream-order",
    ),
    "something after the end": (GOOD + b"data: more\n\n", "stream-after-end"),
    "another end": (GOOD.replace(DONE, b"data: [DONE]\r\n\r\n"), "stream-after-end"),
    "the end twice": (GOOD + DONE, "stream-after-end"),
    "a statement in other words": (
        GOOD.replace(b"\n\n" + GOOD[SECOND[0] : SECOND[0] + 25], b"\n\n: r1prov-signature  ey"),
        "stream-statement-malformed",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_each_way_to_spoil_a_stream_has_its_own_finding(how):
    content, rule = SPOILT[how]
    assert content != GOOD
    result = verified(content)
    assert (result.state, rules(result)) == (StreamState.INVALID, [rule])
    assert verified(content, size=5).findings[0].rule.name == rule


def test_what_is_wrong_shows_at_the_next_statement_not_at_the_end():
    content = GOOD.replace(b'"0"', b'"9"')
    verifier = StreamVerifier(INLINE, expected())
    assert verifier.feed(content[: SECOND[0]]) is None
    assert verifier.proven == FIRST[1]
    found = verifier.feed(content[SECOND[0] : SECOND[1]])
    assert found is not None
    assert found.rule.name == "stream-bytes-altered"
    assert verifier.failure is found
    assert verifier.finish(complete=True).state is StreamState.INVALID


def test_a_client_knows_how_much_is_proven_while_it_reads():
    verifier = StreamVerifier(INLINE, expected())
    proven = []
    for _, end in SPANS:
        verifier.feed(GOOD[verifier.received : end])
        proven.append(verifier.proven)
    assert proven == [end for _, end in SPANS]


@given(st.integers(0, len(GOOD) - 1))
def test_a_stream_that_is_cut_anywhere_is_incomplete_and_nothing_else(at):
    result = verified(GOOD[:at], complete=False)
    assert (result.state, rules(result)) == (StreamState.INCOMPLETE, ["response-stream-incomplete"])
    assert result.proven <= at
    # Whether the connection ended in good order makes no difference: anyone can end it so.
    assert verified(GOOD[:at], complete=True).state is StreamState.INCOMPLETE


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at, flip):
    spoilt = GOOD[:at] + bytes([GOOD[at] ^ flip]) + GOOD[at + 1 :]
    assert verified(spoilt).state in (StreamState.INVALID, StreamState.INCOMPLETE)


@given(st.integers(0, len(GOOD)), st.binary(min_size=1, max_size=8))
def test_nothing_can_be_put_in(at, data):
    spoilt = GOOD[:at] + data + GOOD[at:]
    if spoilt != GOOD:
        assert verified(spoilt).state is not StreamState.VERIFIED


@given(st.binary(max_size=400))
def test_any_bytes_end_in_a_state(data):
    assert verified(MARKER + b" " + data).state is not StreamState.VERIFIED
    assert verified(data, headers=()).state in (StreamState.UNSIGNED, StreamState.INVALID)


CONTEXT: dict[str, tuple[dict[str, object], str]] = {
    "method": ({"request": dataclasses.replace(FACTS, method="GET")}, "response-other-request"),
    "authority": (
        {"request": dataclasses.replace(FACTS, authority="other.example")},
        "response-other-request",
    ),
    "path": ({"request": dataclasses.replace(FACTS, path="/v1/other")}, "response-other-request"),
    "query": ({"request": dataclasses.replace(FACTS, query="?")}, "response-other-request"),
    "content": (
        {"request": dataclasses.replace(FACTS, content_sha256="0" * 64)},
        "response-other-request",
    ),
    "nonce": ({"request": dataclasses.replace(FACTS, nonce="n-2")}, "response-nonce"),
    "status": ({"status": 201}, "stream-head"),
    "content type": ({"content_type": "text/plain"}, "stream-head"),
    "manifest": ({"manifest_sha256": "0" * 64}, "response-manifest"),
    "replay": ({"seen": {ID}}, "response-replayed"),
    "expired": ({"now": lambda: NOW + 400}, "response-expired"),
    "too old": ({"now": lambda: NOW + 90, "max_age": 20}, "response-too-old"),
    "not yet signed": ({"now": lambda: NOW - 100}, "response-from-future"),
    "unknown key": ({"key": lambda _: None}, "response-key-unknown"),
    "another key": ({"key": lambda _: OTHER.public}, "response-signature-invalid"),
    "a key that is no longer good": (
        {"key": lambda _: finding("response-key-revoked", "key", "revoked")},
        "response-key-revoked",
    ),
    "another kind of key": (
        {"key": lambda _: new_key("ecdsa-p256").public},
        "response-algorithm",
    ),
}


@pytest.mark.parametrize("what", CONTEXT)
def test_a_sound_stream_for_somebody_or_something_else_is_refused(what):
    changes, rule = CONTEXT[what]
    result = verified(GOOD, **changes)
    assert (result.state, rules(result)) == (StreamState.INVALID, [rule])
    assert result.proven == 0


def test_weights_that_were_only_stated_can_be_refused():
    content, _ = signed([*EVENTS, DONE], weights_at=None)
    assert rules(verified(content)) == ["response-weights-stated"]
    assert verified(content, verified_weights=False).state is StreamState.VERIFIED


def test_a_statement_of_another_stream_is_refused():
    other, _ = signed([*EVENTS, DONE], stream_id="B" * 22)
    start, end = statement_lines(other)[1]
    mixed = GOOD[: SECOND[0]] + other[start:end] + GOOD[SECOND[1] :]
    assert rules(verified(mixed)) == ["stream-other-stream"]


def test_a_clock_that_is_set_back_spoils_no_stream():
    stream = signer()
    content = stream.start(NOW) + stream.feed(DONE, NOW - 30)
    assert verified(content).state is StreamState.VERIFIED


def test_a_statement_older_than_the_one_before_is_refused():
    first = signer().start(NOW)
    after = StreamStatement(
        **{
            **dataclasses.asdict(decode_statement(first.split()[2].decode()).statement),
            "seq": 1,
            "offset": len(first),
            "sha256": hashlib.sha256(first).hexdigest(),
            "iat": NOW - 5,
            "request": FACTS,
        }
    )
    content = first + LINE_START + signing()(after).encode() + b"\n\n"
    assert rules(verified(content)) == ["stream-order"]


def test_a_long_stream_can_be_verified_afterwards():
    stream = signer()
    content = stream.start(NOW - 3000) + stream.feed(DONE, NOW)
    assert rules(verified(content)) == ["response-expired"]
    assert verified(content, live=False).state is StreamState.VERIFIED
    assert rules(verified(content, live=False, now=lambda: NOW + 400)) == ["response-expired"]


def test_no_signature_is_unsigned_unless_one_was_promised():
    plain = b"".join(EVENTS) + DONE
    result = verified(plain, headers=())
    assert (result.state, rules(result)) == (StreamState.UNSIGNED, ["response-unsigned"])
    assert verified(plain).state is StreamState.INCOMPLETE
    stripped = verified(GOOD, headers=())
    assert stripped.state is StreamState.VERIFIED  # the header promises, the statements prove


def test_a_signer_says_that_an_answer_broke_off():
    content, stream = signed(EVENTS, complete=False)
    result = verified(content, complete=False)
    assert (result.state, rules(result)) == (StreamState.INCOMPLETE, ["stream-cut"])
    assert result.proven == result.received == len(content)
    within, stream = signed([b"data: 1\n\ndata: 2"], complete=False)
    assert within.endswith(b"data: 2")  # nothing may follow half an event
    assert decode_statement(stream.receipt).statement.state == "cut"
    assert rules(verified(within, receipt=stream.receipt.encode())) == ["stream-cut"]


def test_a_receipt_stands_in_for_statements_in_the_content():
    content, stream = signed(EVENTS, inline=False)
    assert content == b"".join(EVENTS)
    token = stream.receipt.encode()
    assert verified(content, headers=RECEIPT, receipt=token).state is StreamState.VERIFIED
    assert rules(verified(content, headers=RECEIPT)) == ["response-receipt-unavailable"]
    for spoilt, rule in (
        (content.replace(b'"3"', b'"7"'), "stream-bytes-altered"),
        (content + b"data: x\n\n", "stream-bytes-inserted"),
    ):
        assert rules(verified(spoilt, headers=RECEIPT, receipt=token)) == [rule]
    cut = verified(content[:-9], headers=RECEIPT, receipt=token, complete=False)
    assert (cut.state, rules(cut)) == (StreamState.INCOMPLETE, ["response-stream-incomplete"])
    for bad in (b"", b"\xff", b"a.b.c", token + b"\n", token[:-1]):
        result = verified(content, headers=RECEIPT, receipt=bad)
        assert result.state is StreamState.INVALID
    _, stream = signed(EVENTS, inline=False, stream_id="B" * 22)
    result = verified(content, headers=RECEIPT, receipt=stream.receipt.encode())
    assert rules(result) == ["stream-other-stream"]


def test_a_receipt_tells_that_the_end_was_withheld():
    content, stream = signed([*EVENTS, DONE])
    start, _ = statement_lines(content)[-1]
    token = stream.receipt.encode()
    result = verified(content[:start], receipt=token)
    assert (result.state, rules(result)) == (StreamState.INCOMPLETE, ["response-stream-incomplete"])
    assert result.proven == start
    earlier = verified(content[: SPANS[2][1]], receipt=token)
    assert earlier.state is StreamState.INCOMPLETE


def test_a_receipt_of_an_open_stream_is_none():
    content, _ = signed(EVENTS)
    token = content.split()[2]
    assert rules(verified(content[: FIRST[1]], receipt=token)) == ["stream-statement-malformed"]


@pytest.mark.parametrize(
    ("url", "authority", "path", "query"),
    [
        ("http://H:80/", "h", "/", "?"),
        ("https://h:80", "h:80", "/", "?"),
        ("https://user:pass@h:443/a//b?", "h", "/a//b", "?"),
        ("http://[::1]:8000/a%2fb?q=1&q=2", "[::1]:8000", "/a%2fb", "?q=1&q=2"),
    ],
)
def test_a_request_is_described_as_http_signatures_do(url, authority, path, query):
    facts = request_facts(Request(method="GET", url=url, headers=(), body=b""))
    assert (facts.authority, facts.path, facts.query) == (authority, path, query)
    assert facts.content_sha256 == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize("url", ["/v1", "http://[", "nonsense"])
def test_a_request_to_nowhere_is_refused(url):
    with pytest.raises(ResponseError):
        request_facts(Request(method="GET", url=url, headers=(), body=b""))
    with pytest.raises(UsageError, match="captured"):
        request_facts(Request(method="GET", url="http://h/", headers=(), body=None))


def test_every_rule_of_streams_has_a_case_here():
    produced = {rule for _, rule in SPOILT.values()} | {rule for _, rule in CONTEXT.values()}
    # The others have a test of their own above.
    produced |= {"stream-other-stream", "stream-cut", "response-weights-stated"}
    assert {name for _, name, *_ in STREAMS} <= produced


def test_a_stream_does_not_change_its_key():
    """Not even to another that is trusted: one key answers for the whole of a stream."""
    first = signer(KEY)
    content = first.start(NOW) + first.feed(EVENTS[0], NOW, checkpoint=True)
    start, end = statement_lines(content)[-1]
    said = decode_statement(content[start + len(LINE_START) : end - 2].decode())
    later = dataclasses.replace(
        said.statement,
        seq=said.statement.seq + 1,
        state="complete",
        offset=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    for key, want in ((KEY, []), (OTHER, ["stream-other-stream"])):
        last = encode_statement(
            later, key_id=key.public.thumbprint, algorithm="EdDSA", sign=key.sign
        )
        whole = content + LINE_START + last.encode() + b"\n\n"
        keys = {one.public.thumbprint: one.public for one in (KEY, OTHER)}
        assert rules(verified(whole, key=keys.get)) == want
