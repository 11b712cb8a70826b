"""Structured fields: the same as http-sf says, but for what is refused on purpose."""

from decimal import Decimal

import http_sf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import ResponseError
from r1prov.responses.structured_fields import (
    Date,
    DisplayString,
    InnerList,
    Item,
    Token,
    parse_dictionary,
    parse_item,
    parse_list,
    write_bare,
    write_dictionary,
    write_list,
    write_member,
)

KINDS = {
    "dictionary": (parse_dictionary, write_dictionary),
    "list": (parse_list, write_list),
    "item": (parse_item, write_member),
}


def ours(kind, text):
    parse, write = KINDS[kind]
    try:
        return write(parse([text], name="x", unique=False))
    except ResponseError:
        return None


def theirs(kind, text):
    try:
        return http_sf.ser(http_sf.parse(text.encode(), tltype=kind))
    except (http_sf.StructuredFieldError, ValueError):
        return None


KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,6}", fullmatch=True)
BARE = st.one_of(
    st.integers(-(10**15) + 1, 10**15 - 1).map(str),
    st.from_regex(r"-?[0-9]{1,12}\.[0-9]{1,3}", fullmatch=True),
    st.from_regex(r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]{0,8}", fullmatch=True),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8).map(write_bare),
    st.binary(max_size=8).map(write_bare),
    st.sampled_from(["?0", "?1"]),
    st.integers(-(10**10), 10**10).map(lambda number: f"@{number}"),
    st.text(max_size=5)
    .filter(lambda t: t.isprintable())
    .map(lambda t: write_bare(DisplayString(t))),
)
PARAMETERS = st.lists(st.one_of(KEYS, st.builds("{}={}".format, KEYS, BARE)), max_size=3).map(
    lambda found: "".join(f"; {one}" for one in found)
)
ITEMS = st.builds("{}{}".format, BARE, PARAMETERS)
MEMBERS = st.one_of(
    ITEMS, st.builds("( {} ){}".format, st.lists(ITEMS, max_size=3).map("  ".join), PARAMETERS)
)
FIELDS = st.one_of(
    st.tuples(st.just("item"), ITEMS),
    st.tuples(st.just("list"), st.lists(MEMBERS, min_size=1, max_size=3).map(" ,\t".join)),
    st.tuples(
        st.just("dictionary"),
        st.lists(
            st.one_of(
                st.builds("{}={}".format, KEYS, MEMBERS), st.builds("{}{}".format, KEYS, PARAMETERS)
            ),
            min_size=1,
            max_size=3,
        ).map(", ".join),
    ),
)


@settings(max_examples=200, deadline=None)
@given(FIELDS)
def test_what_is_well_formed_is_read_as_http_sf_reads_it(field):
    kind, text = field
    own = ours(kind, text)
    assert own is not None
    assert own == theirs(kind, text)
    assert ours(kind, own) == own


@settings(max_examples=200, deadline=None)
@given(FIELDS, st.data())
def test_what_is_broken_is_never_read_where_http_sf_refuses(field, data):
    kind, text = field
    at = data.draw(st.integers(0, len(text)))
    with_one = data.draw(
        st.sampled_from(['"', ";", "=", ",", "(", ")", ":", "é", " ", "A", "0", ""])
    )
    broken = text[:at] + with_one + text[at + 1 :]
    own = ours(kind, broken)
    if own:  # http-sf does not write what is empty
        assert own == theirs(kind, broken)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(KINDS)), st.text(max_size=40))
def test_no_other_exception_whatever_the_text(kind, text):
    ours(kind, text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-0", 0),
        ("1.50", Decimal("1.5")),
        ("a/b:c", Token("a/b:c")),
        ('"a\\"\\\\"', 'a"\\'),
        (":YQ==:", b"a"),
        ("::", b""),
        ("?1", True),
        ("@-5", Date(-5)),
        ('%"%c3%a9"', DisplayString("é")),
    ],
)
def test_values(text, value):
    item = parse_item([text], name="x")
    assert (item.value, type(item.value)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        *("", "1.", ".5", "1.2345", "1234567890123.1", "1" * 16, "--1", "+1"),
        *('"a', '"\\a"', '"é"', '"\x7f"', ":YQ=:", ":YR==:", ":Y Q=:", ":YQ==", ":YQ===:"),
        *("?2", "?", "@1.0", "@", '%"%C3%A9"', '%"%ff"', '%"%"', "%a"),
        *("1 2", "1;A", "1;", "1;a=", "1,2", "(1", "\x001"),
    ],
)
def test_no_item(text):
    with pytest.raises(ResponseError) as caught:
        parse_item([text], name="x")
    assert caught.value.rule == "response-field-malformed"
    assert "`x`" in caught.value.message


@pytest.mark.parametrize("text", ["a=1,", "a=1,,b=2", "A=1", "a=1 b=2", "a=(1 2", "a=(1,2)", "=1"])
def test_no_dictionary(text):
    with pytest.raises(ResponseError):
        parse_dictionary([text], name="x")


def test_what_stands_twice_is_refused_unless_the_last_one_is_meant():
    for text in ("a=1, a=2", "a;b=1;b=2"):
        with pytest.raises(ResponseError, match="twice"):
            parse_dictionary([text], name="x")
        assert parse_dictionary([text], name="x", unique=False)
    last = parse_dictionary(["a=1, b=2, a=3"], name="x", unique=False)
    assert write_dictionary(last) == "a=3, b=2"


def test_lines_of_one_field_are_one_list():
    assert parse_list(["1", " 2\t"], name="x") == (Item(1), Item(2))
    assert parse_list(["(a b);c"], name="x") == (
        InnerList((Item(Token("a")), Item(Token("b"))), {"c": True}),
    )


def test_a_field_has_a_longest_length():
    with pytest.raises(ResponseError, match="too long"):
        parse_list(["1, " * 30_000 + "1"], name="x")


@pytest.mark.parametrize("value", ["\n", "é", 10**15])
def test_what_no_field_can_carry_is_not_written(value):
    with pytest.raises(ResponseError):
        write_bare(value)
