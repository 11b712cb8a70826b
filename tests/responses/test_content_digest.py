"""RFC 9530: its examples, with the misprints it has, and what counts for nothing."""

import base64
import contextlib
import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed import RFC

from r1prov.errors import ResponseError
from r1prov.responses.content_digest import (
    body_digests,
    content_digest,
    held_digests,
    parse_content_digest,
    read_content_digest,
)
from r1prov.responses.exchange import BodyDigests, Response

BODY = b'{"hello": "world"}'
SHA256 = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"


@pytest.mark.parametrize("number", range(len(RFC["rfc9530_digests"])))
def test_examples_of_rfc_9530(number):
    example = RFC["rfc9530_digests"][number]
    if example["expect"]:
        body = base64.b64decode(example["body_b64"])
        assert parse_content_digest([example["value"]]).differing(body_digests(body)) == ()
        assert parse_content_digest([example["value"]]).differing(body_digests(body + b"x"))
    else:  # one `=` too many, as the RFC prints it
        with pytest.raises(ResponseError) as caught:
            parse_content_digest([example["value"]])
        assert caught.value.rule == "response-digest-malformed"


def test_examples_of_rfc_9421():
    for example in RFC["content_digests"]:
        digest = parse_content_digest([example["content_digest"]])
        assert digest.differing(body_digests(example["body"].encode())) == ()


def test_the_list_of_rfc_9530_has_two_that_count():
    found = parse_content_digest([RFC["content_digest_field_examples"]["list"]])
    assert [name for name, _ in found.known] == ["sha-256", "sha-512"]


def test_all_that_are_known_must_match():
    good, other = body_digests(BODY), body_digests(b"other")
    mixed = content_digest({"sha-256": good["sha-256"], "sha-512": other["sha-512"]})
    assert parse_content_digest([mixed]).differing(good) == ("sha-512",)


def test_what_does_not_count_is_let_be_beside_what_does():
    found = parse_content_digest([SHA256, "md5=:YQ==:"])
    assert (found.ignored, len(found.known)) == (("md5",), 1)


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (["md5=:YQ==:"], "response-digest-unsupported"),
        ([""], "response-digest-unsupported"),
        (["sha-256=:YQ==:"], "response-digest-malformed"),
        (["sha-256"], "response-digest-malformed"),
        (["sha-256=(:YQ==:)"], "response-digest-malformed"),
        (['sha-256="X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="'], "response-digest-malformed"),
        ([SHA256.replace("=:X", "=: X")], "response-digest-malformed"),
        ([SHA256.replace("PE=", "PF=")], "response-digest-malformed"),  # stray bits
        ([SHA256.replace("PE=", "PE")], "response-digest-malformed"),
        ([SHA256, SHA256], "response-digest-malformed"),
        ([SHA256 + ","], "response-digest-malformed"),
    ],
)
def test_fields_that_are_refused(lines, rule):
    with pytest.raises(ResponseError) as caught:
        parse_content_digest(lines)
    assert caught.value.rule == rule


def test_the_digest_is_over_coded_bytes():
    coded = gzip.compress(BODY)
    digest = parse_content_digest([content_digest({"sha-256": body_digests(coded)["sha-256"]})])
    assert digest.differing(body_digests(coded)) == ()
    assert digest.differing(body_digests(BODY))


def test_a_body_that_is_not_held_is_known_by_its_digests():
    held = Response(status=200, headers=(), body=None, body_digests=BodyDigests.of(BODY))
    assert held_digests(held) == body_digests(BODY)
    assert held_digests(Response(status=200, headers=(), body=None)) is None
    assert read_content_digest(()) is None
    digest = read_content_digest((("content-DIGEST", SHA256),))
    assert digest is not None
    assert digest.differing(body_digests(BODY)) == ()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=50), max_size=3))
def test_no_other_exception_whatever_the_field(lines):
    with contextlib.suppress(ResponseError):
        parse_content_digest(lines)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=50), st.integers(0, 49), st.integers(1, 255))
def test_any_changed_byte_of_a_body_differs(body, at, flip):
    digest = parse_content_digest([content_digest(body_digests(body))])
    assert digest.differing(body_digests(body)) == ()
    changed = bytearray(body or b"\0")
    changed[at % len(changed)] ^= flip
    assert digest.differing(body_digests(bytes(changed))) == ("sha-256", "sha-512")
