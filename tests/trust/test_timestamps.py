"""Timestamps: what proves a time, and everything that must not. OpenSSL makes them all."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tsa_server import Tsa, at, stamping

from r1prov.errors import TimestampError, UsageError
from r1prov.limits import MAX_TIMESTAMP_BYTES
from r1prov.trust.authorities import TimestampAuthority
from r1prov.trust.states import TimestampCheck, TimestampState, earliest
from r1prov.trust.timestamps import check_timestamp, make_request, read_answer

SIGNATURE = b"the bytes of a signature"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def trusted(root: Any, *issuers: Any, **changes: Any) -> TimestampAuthority:
    made = TimestampAuthority(
        root=root.certificate,
        issuers=tuple(one.certificate for one in issuers),
        file="tsa.pem",
        owner="time service",
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
    )
    return replace(made, **changes)


def check(
    stamp: bytes, *authorities: TimestampAuthority, signature: bytes = SIGNATURE, later: Any = DAY
) -> TimestampCheck:
    return check_timestamp(stamp, signature, authorities, now=datetime.now(UTC) + later)


def refused(checked: TimestampCheck, state: TimestampState, words: str) -> None:
    assert checked.state is state
    assert checked.time is None
    assert words in checked.detail


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root")
    signer = authority.issue("clock", root, **stamping())
    return Tsa(tmp_path_factory.mktemp("tsa"), root, signer)


@pytest.fixture
def make_tsa(authority: Any, tmp_path: Path) -> Callable[..., Tsa]:
    def make(root: Any, signer: Any, *issuers: Any) -> Tsa:
        folder = tmp_path / f"tsa{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return Tsa(folder, root, signer, issuers)

    return make


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
def test_a_timestamp_of_a_trusted_authority_proves_a_time(tsa: Tsa, digest: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    checked = check(tsa.stamp(SIGNATURE, digest), trusted(tsa.root))
    after = datetime.now(UTC)
    assert checked.state is TimestampState.GOOD
    assert checked.rule is None
    assert "time service" in checked.detail
    # The configuration of the authority states an accuracy of 1.5001 seconds.
    accuracy = timedelta(seconds=1, milliseconds=500, microseconds=100)
    assert checked.time is not None
    assert before + accuracy <= checked.time <= after + accuracy
    assert earliest([checked, replace(checked, time=NOW - DAY)]) == NOW - DAY


def test_it_is_over_the_signature_and_nothing_else(tsa: Tsa) -> None:
    stamp = tsa.stamp(SIGNATURE)
    for other in (SIGNATURE + b"\n", b"", SIGNATURE[:-1]):
        refused(
            check(stamp, trusted(tsa.root), signature=other), TimestampState.INVALID, "other bytes"
        )
    for weak in (tsa.stamp(SIGNATURE, "sha1"), tsa.forge(tsa.statement(SIGNATURE), md="sha1")):
        refused(check(weak, trusted(tsa.root)), TimestampState.INVALID, "another hash")


def test_nobody_is_trusted_for_being_in_it(tsa: Tsa, authority: Any) -> None:
    stamp = tsa.stamp(SIGNATURE)
    other = authority.root("time root")
    refused(check(stamp), TimestampState.UNTRUSTED, "names no authority")
    refused(check(stamp, trusted(other)), TimestampState.UNTRUSTED, "names no authority")
    assert check(stamp, trusted(other), trusted(tsa.root)).state is TimestampState.GOOD
    # The root in it does not make it trusted either.
    carried = tsa.forge(tsa.statement(SIGNATURE), more=[tsa.root])
    assert check(carried, trusted(tsa.root)).state is TimestampState.GOOD
    refused(check(carried, trusted(other)), TimestampState.UNTRUSTED, "names no authority")


def test_issuers_come_with_it_or_from_the_trust_store(
    authority: Any, make_tsa: Callable[..., Tsa]
) -> None:
    root = authority.root("time root")
    middle = authority.issue("middle", root, ca=True)
    signer = authority.issue("clock", middle, **stamping())
    tsa = make_tsa(root, signer, middle)
    stamp = tsa.stamp(SIGNATURE)
    refused(check(stamp, trusted(root)), TimestampState.UNTRUSTED, "names no authority")
    assert check(stamp, trusted(root, middle)).state is TimestampState.GOOD
    assert check(stamp, trusted(root, middle, signer)).state is TimestampState.GOOD
    # Without certificates in it, the signer's has to be known.
    bare = tsa.stamp(SIGNATURE, certificate=False)
    refused(check(bare, trusted(root, middle)), TimestampState.INVALID, "no certificate")
    assert check(bare, trusted(root, middle, signer)).state is TimestampState.GOOD
    carried = tsa.forge(tsa.statement(SIGNATURE), more=[middle])
    assert check(carried, trusted(root)).state is TimestampState.GOOD


def test_certificates_out_of_order_are_no_der(authority: Any, make_tsa: Callable[..., Tsa]) -> None:
    """`openssl ts -chain` writes them as they come; DER sorts a SET OF by its bytes."""
    root = authority.root("time root")
    for number in range(2, 20):
        # By their lengths, so that they are out of order for sure.
        middle = authority.issue("m" * 40, root, ca=True)
        signer = authority.issue("c" * number, middle, **stamping())
        if len(signer.der) > len(middle.der):
            break
        middle = authority.issue("m", root, ca=True)
        signer = authority.issue("c" * 40, middle, **stamping())
        if len(signer.der) > len(middle.der):
            break
    tsa = make_tsa(root, signer, middle)
    checked = check(tsa.stamp(SIGNATURE, chain=True), trusted(root))
    refused(checked, TimestampState.INVALID, "DER")
    assert "openssl ts -chain" in (checked.hint or "")


@pytest.mark.parametrize(
    "how",
    [
        {"purposes": None, "email": None},
        {"purposes": (ExtendedKeyUsageOID.CODE_SIGNING,), "email": None},
        stamping(critical=False),
        stamping(purposes=(ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)),
    ],
    ids=["none", "code signing", "not critical", "and more"],
)
def test_the_certificate_is_for_timestamps_alone(tsa: Tsa, authority: Any, how: Any) -> None:
    """RFC 3161, section 2.3."""
    signer = authority.issue("clock", tsa.root, **how)
    stamp = tsa.forge(tsa.statement(SIGNATURE), signer)
    refused(check(stamp, trusted(tsa.root)), TimestampState.INVALID, "timestamps alone")
    right = authority.issue("clock", tsa.root, **stamping())
    stamp = tsa.forge(tsa.statement(SIGNATURE), right)
    assert check(stamp, trusted(tsa.root)).state is TimestampState.GOOD


@pytest.mark.parametrize(
    ("bits", "good"),
    [
        ({"digital_signature": True}, True),
        ({"content_commitment": True}, True),
        ({"digital_signature": True, "content_commitment": True}, True),
        ({"key_encipherment": True}, False),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, dict) else "",
)
def test_what_its_key_may_do(tsa: Tsa, authority: Any, bits: dict[str, bool], good: bool) -> None:
    """Authorities of ETSI EN 319 422 often have contentCommitment (nonRepudiation) alone."""
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    usage = x509.KeyUsage(**{name: bits.get(name, False) for name in names})
    signer = authority.issue("clock", tsa.root, key_usage=usage, **stamping())
    checked = check(tsa.forge(tsa.statement(SIGNATURE), signer), trusted(tsa.root))
    if good:
        assert checked.state is TimestampState.GOOD
    else:
        refused(checked, TimestampState.INVALID, "may not sign data")


def test_a_certificate_that_is_only_shown(tsa: Tsa, authority: Any) -> None:
    """Signed with a certificate for code, beside one for timestamps that has its serial number."""
    signer = authority.issue("clock", tsa.root)
    shown = authority.issue(
        "clock",
        tsa.root,
        key=signer.key,
        serial=signer.x509.serial_number,
        **stamping(),
    )
    stamp = tsa.forge(tsa.statement(SIGNATURE), signer, more=[shown])
    refused(check(stamp, trusted(tsa.root)), TimestampState.INVALID, "several certificates")


def test_one_signature_a_timestamp(tsa: Tsa, authority: Any) -> None:
    second = authority.issue("clock 2", tsa.root, **stamping())
    stamp = tsa.forge(tsa.statement(SIGNATURE), second=second)
    refused(check(stamp, trusted(tsa.root)), TimestampState.INVALID, "2 signatures")


def test_the_certificate_is_judged_when_it_stamped(
    tsa: Tsa, authority: Any, make_tsa: Callable[..., Tsa]
) -> None:
    statement = tsa.statement(SIGNATURE)
    day = (NOW - 30 * DAY).strftime("%Y%m%d%H%M%SZ")
    old = authority.issue("clock", tsa.root, days=(-40, -20), **stamping())
    since = {"valid_from": NOW - 100 * DAY}
    root = authority.root("time root", days=(-100, 100))
    old = authority.issue("clock", root, days=(-40, -20), **stamping())
    good = check(tsa.forge(at(statement, day), old), trusted(root, **since))
    assert good.state is TimestampState.GOOD
    assert good.time is not None
    assert good.time.date() == (NOW - 30 * DAY).date()
    refused(
        check(tsa.forge(statement, old), trusted(root, **since)),
        TimestampState.INVALID,
        "has expired",
    )
    early = (NOW - 50 * DAY).strftime("%Y%m%d%H%M%SZ")
    refused(
        check(tsa.forge(at(statement, early), old), trusted(root, **since)),
        TimestampState.INVALID,
        "not valid yet",
    )


def test_the_future_is_not_proven(tsa: Tsa) -> None:
    statement = tsa.statement(SIGNATURE)
    soon = datetime.now(UTC) + timedelta(minutes=4)
    late = datetime.now(UTC) + timedelta(minutes=6)
    known = trusted(tsa.root)
    for when, good in ((soon, True), (late, False)):
        stamp = tsa.forge(at(statement, when.strftime("%Y%m%d%H%M%SZ")))
        checked = check(stamp, known, later=timedelta())
        if good:
            assert checked.state is TimestampState.GOOD
        else:
            refused(checked, TimestampState.INVALID, "in the future")


@pytest.mark.parametrize(
    ("seconds", "moved"), [(b"\x02\x01\x00", 0), (b"\x02\x01\x3c", 60), (b"\x02\x01\xff", None)]
)
def test_the_accuracy_counts(tsa: Tsa, seconds: bytes, moved: int | None) -> None:
    """A negative one would have a timestamp prove a time before it was made."""
    statement = tsa.statement(SIGNATURE)
    assert statement.count(b"\x02\x01\x01\x80\x02\x01\xf4") == 1
    changed = statement.replace(b"\x02\x01\x01\x80\x02\x01\xf4", seconds + b"\x80\x02\x01\xf4")
    hour = (NOW + timedelta(hours=1)).replace(microsecond=0)
    stamp = tsa.forge(at(changed, hour.strftime("%Y%m%d%H%M%SZ")))
    checked = check(stamp, trusted(tsa.root))
    if moved is None:
        assert checked.state is TimestampState.INVALID
        return
    accuracy = timedelta(seconds=moved, milliseconds=500, microseconds=100)
    assert checked.time == hour + accuracy
    # Whatever the authority says of its clock, the signature is there when it is checked.
    now = hour + timedelta(seconds=1)
    early = check_timestamp(stamp, SIGNATURE, [trusted(tsa.root)], now=now)
    assert early.time == min(hour + accuracy, now)


def test_what_the_trust_store_says_of_an_authority(tsa: Tsa) -> None:
    stamp = tsa.stamp(SIGNATURE)
    revoked = trusted(tsa.root, revoked_at=NOW + 300 * DAY, revoked_reason="key lost")
    refused(check(stamp, revoked), TimestampState.UNTRUSTED, "key lost")
    ended = trusted(tsa.root, valid_from=NOW - 9 * DAY, valid_until=NOW - DAY)
    refused(check(stamp, ended), TimestampState.UNTRUSTED, "counts from")
    begins = trusted(tsa.root, valid_from=NOW + DAY, valid_until=NOW + 9 * DAY)
    refused(check(stamp, begins), TimestampState.UNTRUSTED, "counts from")
    # It is judged at the time of the timestamp, not at that of the check.
    assert check(stamp, trusted(tsa.root), later=3000 * DAY).state is TimestampState.GOOD


def test_a_tampered_one(tsa: Tsa) -> None:
    stamp = tsa.stamp(SIGNATURE)
    known = trusted(tsa.root)
    statement = tsa.statement(SIGNATURE)
    place = stamp.index(b"\x18\x0f") + 2
    year = bytearray(stamp)
    year[place : place + 4] = b"2020"
    early = trusted(tsa.root, valid_from=datetime(2000, 1, 1, tzinfo=UTC))
    assert check(bytes(year), early).state is TimestampState.INVALID
    second = bytearray(stamp)
    second[place + 13] = second[place + 13] ^ 1
    refused(check(bytes(second), known), TimestampState.INVALID, "does not verify")
    last = bytearray(stamp)
    last[-1] ^= 1
    refused(check(bytes(last), known), TimestampState.INVALID, "does not verify")
    for raw in (b"", b"\x30\x00", stamp[:-1], stamp + b"\x00", statement, stamp[9:]):
        refused(check(raw, known), TimestampState.INVALID, "not a timestamp")
    refused(check(bytes(MAX_TIMESTAMP_BYTES + 1), known), TimestampState.INVALID, "larger than")
    # PKIStatus: grantedWithMods says that it is not what was asked for.
    status = stamp.index(b"\x30\x03\x02\x01\x00")
    mods = bytearray(stamp)
    mods[status + 4] = 1
    refused(check(bytes(mods), known), TimestampState.INVALID, "status 1")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_no_changed_byte_proves_another_time(tsa: Tsa, data: st.DataObject) -> None:
    """Whatever changes: no exception, and nothing good that was not good before."""
    stamp = FIXED.setdefault("stamp", tsa.stamp(SIGNATURE))
    known = trusted(tsa.root, valid_from=datetime(1950, 1, 1, tzinfo=UTC))
    good = check(stamp, known)
    raw = bytearray(stamp)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    checked = check(bytes(raw), known)
    if checked.state is TimestampState.GOOD:
        # Only what nobody signs can differ, such as the order of a text in the answer's status.
        assert checked.time == good.time


FIXED: dict[str, bytes] = {}


@given(st.binary(max_size=400))
def test_any_bytes_are_answered(raw: bytes) -> None:
    assert check(raw).state is TimestampState.INVALID


def test_requests_and_their_answers(tsa: Tsa) -> None:
    first, second = make_request(SIGNATURE), make_request(SIGNATURE)
    assert first.nonce != second.nonce
    assert first.raw != second.raw
    sha512 = bytes.fromhex("0609608648016503040203")
    assert sha512 in first.raw
    answer = tsa.reply(first.raw)
    assert read_answer(first, answer, subject="here") == answer
    assert check(answer, trusted(tsa.root)).state is TimestampState.GOOD
    with pytest.raises(TimestampError, match="nonce"):
        read_answer(second, answer, subject="here")
    with pytest.raises(TimestampError, match="other bytes"):
        read_answer(make_request(b"x"), answer, subject="here")
    with pytest.raises(TimestampError, match="not a timestamp"):
        read_answer(first, b"", subject="here")
    # The same query but for `certReq`, its last three bytes.
    bare = bytearray(first.raw[:-3])
    bare[1] -= 3
    with pytest.raises(TimestampError, match="no certificate"):
        read_answer(first, tsa.reply(bytes(bare)), subject="here")
    without = tsa.query(SIGNATURE, "sha512", certificate=False)
    with pytest.raises(TimestampError, match="nonce"):
        read_answer(first, tsa.reply(without), subject="here")


def test_without_the_extra(tsa: Tsa, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = tsa.stamp(SIGNATURE)
    real = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("rfc3161_client"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    checked = check(stamp, trusted(tsa.root))
    refused(checked, TimestampState.UNCHECKED, "not installed")
    assert checked.hint == "install r1prov[timestamp]"
    assert checked.rule == "timestamp-unchecked"
    with pytest.raises(UsageError) as caught:
        make_request(SIGNATURE)
    assert caught.value.hint == "install r1prov[timestamp]"
