"""PKCS#11 URIs: RFC 7512 strictly, and no value of one in an error."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r1prov.errors import UsageError
from r1prov.limits import MAX_KEY_URI_CHARACTERS
from r1prov.trust.token_uri import (
    PATH_ATTRIBUTES,
    QUERY_ATTRIBUTES,
    TokenUri,
    is_token_uri,
    parse_token_uri,
    version_pair,
)

PATH_PLAIN = "abzAZ09-._~:[]@!$'()*+,=&"
QUERY_PLAIN = "abzAZ09-._~:[]@!$'()*+,=/?|"
FREE = [one for one in PATH_ATTRIBUTES if one not in ("type", "slot-id", "library-version", "id")]


def percent(data: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in data)


def test_the_examples_of_the_rfc() -> None:
    """Section 3, those that name a key of a pair."""
    uri = parse_token_uri(
        "pkcs11:object=my-pubkey;type=public",
    )
    assert dict(uri.attributes) == {"object": "my-pubkey", "type": "public"}
    uri = parse_token_uri(
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;"
        "manufacturer=Snake%20Oil,%20Inc.;"
        "model=1.0;"
        "object=my-certificate;"
        "type=private;"
        "id=%69%95%3E%5C%F4%BD%EC%91;"
        "serial="
        "?pin-source=file:/etc/token_pin"
    )
    assert uri.attributes["token"] == "The Software PKCS#11 Softtoken"
    assert uri.attributes["manufacturer"] == "Snake Oil, Inc."
    assert uri.attributes["serial"] == ""
    assert uri.id == bytes.fromhex("69953e5cf4bdec91")
    assert uri.pin_source == "/etc/token_pin"
    uri = parse_token_uri(
        "pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1"
    )
    assert uri.module_path == "/mnt/libmypkcs11.so.1"
    assert parse_token_uri("pkcs11:") == TokenUri({})
    slot = parse_token_uri("pkcs11:slot-description=Sun%20Metaslot;slot-id=327")
    assert slot.attributes == {"slot-description": "Sun Metaslot", "slot-id": "327"}


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("release.key", "begin"),
        ("pkcs11:object", "NAME=VALUE"),
        ("pkcs11:=x", "NAME=VALUE"),
        ("pkcs11:object=a;", "NAME=VALUE"),
        ("pkcs11:;object=a", "NAME=VALUE"),
        ("pkcs11:object=a?", "NAME=VALUE"),
        ("pkcs11:object=a?pin-source=/x&", "NAME=VALUE"),
        ("pkcs11:object=a;object=b", "twice"),
        ("pkcs11:?module-path=/a&module-path=/b", "twice"),
        ("pkcs11:x-vendor=a", "`x-vendor`, which is not understood"),
        ("pkcs11:Object=a", "`Object`, which is not understood"),
        ("pkcs11:module-path=/a", "`module-path`, which is not understood"),
        ("pkcs11:?object=a", "`object`, which is not understood"),
        ("pkcs11:object=a b", "percent-encoded"),
        ("pkcs11:object=a/b", "percent-encoded"),
        ("pkcs11:object=a#b", "percent-encoded"),
        ("pkcs11:object=满", "percent-encoded"),
        ("pkcs11:object=%4", "percent-encoded"),
        ("pkcs11:object=%zz", "percent-encoded"),
        ("pkcs11:object=%", "percent-encoded"),
        ("pkcs11:?module-path=/a;b", "percent-encoded"),
        ("pkcs11:object=%ff", "UTF-8"),
        ("pkcs11:type=cert", "no key pair"),
        ("pkcs11:type=secret-key", "no key pair"),
        ("pkcs11:slot-id=x", "no number"),
        ("pkcs11:slot-id=01", "no number"),
        ("pkcs11:library-version=x", "MAJOR.MINOR"),
        ("pkcs11:library-version=1.2.3", "MAJOR.MINOR"),
        ("pkcs11:?module-path=softhsm.so", "no absolute path"),
        ("pkcs11:?module-path=/a%00b", "no absolute path"),
        ("pkcs11:?module-name=softhsm", "without a path"),
        ("pkcs11:?pin-value=s3cret", "holds a PIN"),
        ("pkcs11:?pin-value=", "holds a PIN"),
        ("pkcs11:?pin-source=|/bin/pin", "command"),
        ("pkcs11:?pin-source=file:pin", "no absolute path"),
        ("pkcs11:?pin-source=file:", "no absolute path"),
        ("pkcs11:?module-path=", "no absolute path"),
        ("pkcs11:?pin-source=pin", "no absolute path"),
        ("pkcs11:?pin-source=https://host/pin", "no absolute path"),
        ("pkcs11:?pin-source=file://host/pin", "another host"),
        ("pkcs11:?pin-source=file:/a%2500", "no absolute path"),
        ("pkcs11:?pin-source=file:/a%25f", "malformed"),
        ("pkcs11:?pin-source=file:/a?b", "malformed"),
        ("pkcs11:?pin-source=file:/a%25ff", "UTF-8"),
        ("pkcs11:object=" + "a" * MAX_KEY_URI_CHARACTERS, "longer"),
    ],
)
def test_what_is_refused(uri: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_token_uri(uri)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("/run/pin", "/run/pin"),
        ("file:/run/pin", "/run/pin"),
        ("FILE:///run/pin", "/run/pin"),
        ("file://localhost/run/pin", "/run/pin"),
        ("file:/run/my%2520pin", "/run/my pin"),
        ("/run/my%20pin", "/run/my pin"),
    ],
)
def test_where_the_pin_is(source: str, path: str) -> None:
    assert parse_token_uri(f"pkcs11:?pin-source={source}").pin_source == path


def test_what_is_a_uri_and_what_a_file() -> None:
    assert is_token_uri("pkcs11:object=a")
    assert is_token_uri("PKCS11:object=a")
    assert parse_token_uri("PKCS11:object=a") == parse_token_uri("pkcs11:object=a")
    for file in ("./pkcs11:a", "pkcs11.key", "pkcs11", "", "/etc/pkcs11:a"):
        assert not is_token_uri(file)


def test_versions() -> None:
    assert version_pair("2.40") == (2, 40)
    assert version_pair("3") == (3, 0)
    for wrong in ("", ".", "2.", ".1", "02", "2.040", "-1", "２"):
        assert version_pair(wrong) is None


def spelt(data: bytes, plain: str) -> st.SearchStrategy[str]:
    """Any way to write bytes: what may stand as it is may be percent-encoded too."""
    ways = [
        st.sampled_from(
            [f"%{byte:02x}", f"%{byte:02X}", *([chr(byte)] if chr(byte) in plain else [])]
        )
        for byte in data
    ]
    return st.tuples(*ways).map("".join)


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)


@given(st.data(), st.dictionaries(st.sampled_from(FREE), TEXT), st.none() | st.binary(max_size=20))
def test_every_spelling_reads_as_what_was_meant(
    data: st.DataObject, wanted: dict[str, str], key_id: bytes | None
) -> None:
    parts = [
        f"{name}={data.draw(spelt(value.encode(), PATH_PLAIN))}" for name, value in wanted.items()
    ]
    if key_id is not None:
        parts.append(f"id={data.draw(spelt(key_id, PATH_PLAIN))}")
    order = data.draw(st.permutations(parts))
    path = "/" + data.draw(TEXT).replace("\0", "")
    module = data.draw(spelt(path.encode(), QUERY_PLAIN))
    uri = parse_token_uri(f"pkcs11:{';'.join(order)}?module-path={module}")
    assert uri == TokenUri(wanted, key_id, path, None)
    # What messages show names the same key, and nothing else.
    assert parse_token_uri(str(uri)) == TokenUri(wanted, key_id)
    assert str(uri).isascii()


@given(
    st.text(max_size=60) | st.text(alphabet="pkcs1:;?&=%ab/x\0", max_size=40).map("pkcs11:".__add__)
)
@example("pkcs11:?pin-source=file:%25")
@example("pkcs11:\ud800=a")
@example("pkcs11:a=\ud800")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        uri = parse_token_uri(text)
    except UsageError:
        return
    assert parse_token_uri(str(uri)).attributes == uri.attributes


SECRET = "s3cr3t-pin"


@given(
    st.sampled_from(["?pin-value=", "?pin-valeu=", ";pin-value=", "?", "?a=b&pin-value=", ";id="]),
    st.sampled_from(["", "%", "%zz", " ", "/", "&", ";", "?x=", "&pin-source=|x", "满", "\0"]),
)
def test_no_value_of_a_refused_uri_is_told(before: str, after: str) -> None:
    try:
        shown = str(parse_token_uri(f"pkcs11:object=a{before}{SECRET}{after}"))
    except UsageError as error:
        shown = f"{error} {error.subject} {error.hint}"
        assert SECRET not in shown
    else:
        assert before == ";id="


def test_the_query_is_never_shown() -> None:
    uri = parse_token_uri("pkcs11:object=a?module-path=/m.so&pin-source=/run/pin")
    assert str(uri) == "pkcs11:object=a"
    assert set(QUERY_ATTRIBUTES) == {"module-path", "module-name", "pin-source", "pin-value"}
