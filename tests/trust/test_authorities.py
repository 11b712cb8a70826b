"""Certificates in the trust store: whom an authority vouches for, when, and who took it back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from tsa_server import Tsa, at, stamping

from r1prov.trust.authorities import RevokedCertificate, TimestampAuthority, TrustedAuthority
from r1prov.trust.bundle import MessageBundle, sign_message
from r1prov.trust.states import SignatureCheck, TimestampState
from r1prov.trust.store import (
    SignatureState,
    Threshold,
    TrustDecision,
    TrustedKey,
    TrustStore,
    decide,
    merge,
)

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
DATA = b"manifest"
MODEL = "DeepSeek-R1"
ME = "signer@example.org"


def vouching(root: Any, **changes: Any) -> TrustedAuthority:
    made = TrustedAuthority(
        root=root.certificate,
        file="root.pem",
        owner="ACME",
        valid_from=NOW - 500 * DAY,
        valid_until=NOW + 500 * DAY,
        models=("DeepSeek-R1*",),
        identities=(ME,),
    )
    return replace(made, **changes)


def store_of(*authorities: TrustedAuthority, **more: Any) -> TrustStore:
    return TrustStore((), (), (), authorities, **more)


def signed(leaf: Any, *issuers: Any) -> MessageBundle:
    return sign_message(leaf.key, DATA, [one.certificate for one in (leaf, *issuers)])


def ask(
    store: TrustStore, *bundles: MessageBundle, model: str = MODEL, now: datetime | None = None
) -> TrustDecision:
    # Not NOW: that is when this file was read, and a timestamp made since would be of the future.
    now = now or datetime.now(UTC)
    named = [(f"b{i}", bundle) for i, bundle in enumerate(bundles)]
    return decide(store, model=model, data=DATA, bundles=named, now=now)


def only(decision: TrustDecision) -> SignatureCheck:
    (check,) = decision.checks
    assert decision.trusted is (check.state is SignatureState.GOOD)
    return check


@pytest.fixture(scope="module")
def root(authority: Any) -> Any:
    return authority.root("root", days=(-400, 400))


@pytest.fixture(scope="module")
def leaf(authority: Any, root: Any) -> Any:
    return authority.leaf(root)


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    clock = authority.root("time root", days=(-400, 400))
    signer = authority.issue("clock", clock, days=(-400, 400), **stamping())
    return Tsa(tmp_path_factory.mktemp("tsa"), clock, signer)


@pytest.fixture
def clocks(tsa: Tsa) -> dict[str, Any]:
    made = TimestampAuthority(
        root=tsa.root.certificate,
        file="tsa.pem",
        owner="time",
        valid_from=NOW - 500 * DAY,
        valid_until=NOW + 500 * DAY,
    )
    return {"timestamp_authorities": (made,)}


def stamped(bundle: MessageBundle, tsa: Tsa, when: datetime | None = None) -> MessageBundle:
    """With a timestamp, perhaps of another day."""
    if when is None:
        return replace(bundle, timestamps=(tsa.stamp(bundle.signature),))
    statement = at(tsa.statement(bundle.signature), when.strftime("%Y%m%d%H%M%SZ"))
    return replace(bundle, timestamps=(tsa.forge(statement),))


# ------------------------------------------------------------------ who may sign


def test_a_signer_whom_an_authority_vouches_for(authority: Any, root: Any, leaf: Any) -> None:
    check = only(ask(store_of(vouching(root)), signed(leaf)))
    assert check.state is SignatureState.GOOD
    assert (check.owner, check.identities) == ("ACME", (ME,))
    assert check.authority == root.certificate.fingerprint
    assert check.key_id == leaf.key.public.key_id
    middle = authority.issue("middle", root, ca=True)
    below = authority.leaf(middle)
    assert only(ask(store_of(vouching(root)), signed(below, middle))).state.name == "GOOD"
    assert only(ask(store_of(vouching(root)), signed(below))).state.name == "CERTIFICATE_UNTRUSTED"
    # The issuer may be known instead of sent.
    knows = vouching(root, issuers=(middle.certificate,))
    assert only(ask(store_of(knows), signed(below))).state.name == "GOOD"


def test_each_refusal_is_its_own(authority: Any, root: Any, leaf: Any) -> None:
    store = store_of(vouching(root))

    def of(*bundle: Any, **how: Any) -> str:
        return only(ask(how.pop("store", store), signed(*bundle), **how)).state.name

    assert of(authority.leaf(root, days=(-20, -10))) == "CERTIFICATE_EXPIRED"
    assert of(authority.leaf(root, days=(10, 20))) == "CERTIFICATE_NOT_YET_VALID"
    tls = (ExtendedKeyUsageOID.SERVER_AUTH,)
    assert of(authority.leaf(root, purposes=tls)) == "CERTIFICATE_USAGE"
    assert of(authority.leaf(root, purposes=None)) == "CERTIFICATE_USAGE"
    assert of(authority.leaf(authority.root("root"))) == "CERTIFICATE_UNTRUSTED"
    assert of(leaf, store=store_of()) == "CERTIFICATE_UNTRUSTED"
    assert of(authority.leaf(root, email="other@example.org")) == "OTHER_IDENTITY"
    assert of(authority.leaf(root, email=None)) == "OTHER_IDENTITY"
    assert of(leaf, model="DeepSeek-V3") == "OUT_OF_SCOPE"
    assert of(leaf, now=NOW + 450 * DAY) == "CERTIFICATE_EXPIRED"
    short = store_of(vouching(root, valid_until=NOW))
    assert of(leaf, store=short) == "EXPIRED"
    assert of(leaf, store=store_of(vouching(root, valid_from=NOW + DAY))) == "NOT_YET_VALID"
    gone = {"revoked_at": NOW + 99 * DAY, "revoked_reason": "breach"}
    assert of(leaf, store=store_of(vouching(root, **gone))) == "REVOKED"
    revoked = RevokedCertificate(leaf.certificate.fingerprint, NOW, "left the team")
    assert of(leaf, store=store_of(vouching(root, revoked=(revoked,)))) == "CERTIFICATE_REVOKED"


def test_identities_are_exact(authority: Any, root: Any) -> None:
    names = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier("https://ci.example.org/release"),
            x509.DNSName("ci.example.org"),
        ]
    )
    leaf = authority.leaf(root, email=None, extensions=[(names, False)])

    def state(**named: Any) -> str:
        return only(
            ask(store_of(vouching(root, **{"identities": (), **named})), signed(leaf))
        ).state.name

    assert state(identities=("https://ci.example.org/release",)) == "GOOD"
    assert state(identities=("ci.example.org",)) == "GOOD"
    assert state(subjects=("CN=signer",)) == "GOOD"
    for other in ("ci.example.org.", "example.org", "*", "CI.example.org", "CN=signer", ""):
        assert state(identities=(other,)) == "OTHER_IDENTITY"
    for other in ("signer", "CN=signe", "CN=*", "ci.example.org"):
        assert state(subjects=(other,)) == "OTHER_IDENTITY"


def test_the_signature_is_by_the_certificate(authority: Any, root: Any, leaf: Any) -> None:
    store = store_of(vouching(root))
    other = authority.leaf(root)
    stolen = replace(signed(other), certificates=signed(leaf).certificates)
    assert only(ask(store, stolen)).state.name == "BAD_SIGNATURE"
    decision = decide(store, model=MODEL, data=DATA + b"\n", bundles=[("b", signed(leaf))], now=NOW)
    assert only(decision).state.name == "BAD_SIGNATURE"
    broken = replace(signed(leaf), certificates=(b"0", *signed(leaf).certificates))
    assert only(ask(store, broken)).state.name == "CERTIFICATE_USAGE"


def test_a_listed_key_counts_whatever_comes_with_it(root: Any, leaf: Any) -> None:
    key = TrustedKey(
        key=leaf.key.public,
        file="k.pub",
        owner="me",
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
        models=("*",),
    )

    def state(one: TrustedKey, *authorities: TrustedAuthority) -> str:
        return only(ask(TrustStore((one,), (), (), authorities), signed(leaf))).state.name

    assert state(key) == "GOOD"
    ended = replace(key, valid_until=NOW - DAY / 2)
    assert state(ended) == "EXPIRED"
    assert state(ended, vouching(root)) == "GOOD"
    # A key that its owner revoked is not saved by a certificate.
    lost = replace(key, revoked_at=NOW, revoked_reason="lost")
    assert state(lost, vouching(root)) == "REVOKED"


def test_revoked_certificates(authority: Any, root: Any, leaf: Any) -> None:
    middle = authority.issue("middle", root, ca=True)
    below = authority.leaf(middle)
    serial = f"{below.x509.serial_number:x}"
    for name in (
        serial,
        f"0{serial}",
        f"{middle.x509.serial_number:x}",
        below.certificate.fingerprint,
    ):
        revoked = vouching(root, revoked=(RevokedCertificate(name, NOW, "why"),))
        assert (
            only(ask(store_of(revoked), signed(below, middle))).state.name == "CERTIFICATE_REVOKED"
        )
        assert only(ask(store_of(revoked), signed(leaf))).state.name == "GOOD"
        # In one entry of a root is in all of them.
        twice = store_of(vouching(root), replace(revoked, identities=("x",)))
        assert only(ask(twice, signed(below, middle))).state.name == "CERTIFICATE_REVOKED"
    # A serial number is that of its authority; a fingerprint is nobody else's.
    other = vouching(authority.root("other"), revoked=(RevokedCertificate(serial, NOW, "why"),))
    both = store_of(vouching(root), other)
    assert only(ask(both, signed(below, middle))).state.name == "GOOD"
    print_ = RevokedCertificate(below.certificate.fingerprint, NOW, "why")
    both = store_of(vouching(root), replace(other, revoked=(print_,)))
    assert only(ask(both, signed(below, middle))).state.name == "CERTIFICATE_REVOKED"
    gone = vouching(root, revoked_at=NOW, revoked_reason="breach", identities=("x",))
    assert only(ask(store_of(vouching(root), gone), signed(leaf))).state.name == "REVOKED"


# ------------------------------------------------------------------ how many signed


def test_different_identities_are_counted(authority: Any, root: Any, make_key: Any) -> None:
    both = vouching(root, identities=(ME, "second@example.org"))
    key = make_key()
    listed = TrustedKey(
        key=key.public,
        file="k.pub",
        owner="me",
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
        models=("*",),
    )
    store = TrustStore((listed,), (Threshold(("*",), 2),), (), (both,))
    first, renewed = authority.leaf(root), authority.leaf(root)
    second = authority.leaf(root, email="second@example.org")
    # Two certificates of one person, with two keys.
    assert ask(store, signed(first), signed(renewed)).good_keys == 1
    assert not ask(store, signed(first), signed(renewed)).trusted
    assert ask(store, signed(first), signed(second)).trusted
    assert ask(store, signed(first), sign_message(key, DATA)).trusted
    # One key under two names, and once as itself.
    alias = authority.leaf(root, email="second@example.org", key=first.key)
    assert not ask(store, signed(first), signed(alias)).trusted
    own = authority.leaf(root, key=key)
    assert ask(store, signed(own), sign_message(key, DATA)).good_keys == 1
    # Who is in two groups joins them.
    linked = authority.leaf(root, email="second@example.org", key=renewed.key)
    every = [signed(one) for one in (first, second, renewed, linked, first)]
    assert ask(store, *every).good_keys == 1


def test_nobody_counts_twice(authority: Any, root: Any, make_key: Any) -> None:
    """The names of a signer join what they sign, by whichever way it came to count."""
    key = make_key()
    listed = TrustedKey(
        key=key.public,
        file="k.pub",
        owner="me",
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
        models=("*",),
    )
    two = (Threshold(("*",), 2),)
    # A listed key that comes with a certificate, and another certificate of that name.
    store = TrustStore((listed,), two, (), (vouching(root),))
    own, renewed = authority.leaf(root, key=key), authority.leaf(root)
    decision = ask(store, signed(own), signed(renewed))
    assert [one.state for one in decision.checks] == [SignatureState.GOOD] * 2
    assert decision.checks[0].owner == "me"
    assert (decision.good_keys, decision.trusted) == (1, False)
    # One person by two names, each asked for in an entry, or under a root, of its own.
    other = "second@example.org"
    names = [x509.RFC822Name(ME), x509.RFC822Name(other)]
    san = (x509.SubjectAlternativeName(names), False)
    both = authority.leaf(root, email=None, extensions=[san])
    single = authority.leaf(root, email=other)
    entries = (vouching(root), vouching(root, identities=(other,)))
    for order in (entries, entries[::-1]):
        store = TrustStore((), two, (), order)
        decision = ask(store, signed(both), signed(single))
        assert [one.state for one in decision.checks] == [SignatureState.GOOD] * 2
        assert (decision.good_keys, decision.trusted) == (1, False)


# ------------------------------------------------------------------ when it was signed


def test_a_timestamp_outlives_the_certificate(
    authority: Any, root: Any, tsa: Tsa, clocks: Any
) -> None:
    leaf = authority.leaf(root, days=(-30, -10))
    store = store_of(vouching(root), **clocks)
    plain = signed(leaf)
    check = only(ask(store, plain))
    assert check.state is SignatureState.CERTIFICATE_EXPIRED
    assert "nothing proves that it signed before" in check.detail
    during = stamped(plain, tsa, NOW - 20 * DAY)
    check = only(ask(store, during))
    assert check.state is SignatureState.GOOD
    assert check.proven_time is not None
    assert "timestamped" in check.detail
    # Long after the root and the authority of time have ended too.
    assert only(ask(store, during, now=NOW + 9000 * DAY)).state is SignatureState.GOOD
    after = only(ask(store, stamped(plain, tsa)))
    assert after.state is SignatureState.CERTIFICATE_EXPIRED
    assert "is timestamped" in after.detail
    young = store_of(vouching(root, valid_from=NOW - DAY), **clocks)
    assert only(ask(young, during)).state is SignatureState.GOOD
    before = only(ask(store, stamped(plain, tsa, NOW - 35 * DAY)))
    assert before.state is SignatureState.CERTIFICATE_NOT_YET_VALID
    # The earliest counts, and one that proves nothing takes nothing away.
    many = replace(during, timestamps=(b"x", *stamped(plain, tsa).timestamps, *during.timestamps))
    check = only(ask(store, many))
    assert check.state is SignatureState.GOOD
    assert [one.state.name for one in check.timestamps] == ["INVALID", "GOOD", "GOOD"]
    # Nobody is trusted for time: as without one.
    check = only(ask(store_of(vouching(root)), during))
    assert check.state is SignatureState.CERTIFICATE_EXPIRED
    assert [one.state for one in check.timestamps] == [TimestampState.UNTRUSTED]
    # It is over the signature of somebody else.
    other = replace(signed(leaf), timestamps=during.timestamps)
    check = only(ask(store, other))
    assert check.state is SignatureState.CERTIFICATE_EXPIRED
    assert [one.state for one in check.timestamps] == [TimestampState.INVALID]


def test_a_timestamp_outlives_a_key(make_key: Any, tsa: Tsa, clocks: Any) -> None:
    key = make_key()
    listed = TrustedKey(
        key=key.public,
        file="k.pub",
        owner="me",
        valid_from=NOW - 30 * DAY,
        valid_until=NOW - 10 * DAY,
        models=("*",),
    )

    def state(one: TrustedKey, bundle: MessageBundle) -> str:
        return only(ask(TrustStore((one,), (), (), (), **clocks), bundle)).state.name

    plain = sign_message(key, DATA)
    during, after = stamped(plain, tsa, NOW - 20 * DAY), stamped(plain, tsa)
    assert state(listed, plain) == "EXPIRED"
    assert state(listed, during) == "GOOD"
    assert state(listed, after) == "EXPIRED"
    # Who is trusted only since a later day may have signed before.
    assert state(listed, stamped(plain, tsa, NOW - 31 * DAY)) == "GOOD"
    future = replace(listed, valid_from=NOW + DAY, valid_until=NOW + 2 * DAY)
    assert state(future, during) == state(future, plain) == "NOT_YET_VALID"
    # The accuracy of the authority counts: a second before the end is not before the end.
    edge = replace(listed, valid_until=(NOW - 20 * DAY).replace(microsecond=0))
    assert state(edge, stamped(plain, tsa, edge.valid_until - timedelta(seconds=1))) == "EXPIRED"
    assert state(edge, stamped(plain, tsa, edge.valid_until - timedelta(seconds=2))) == "GOOD"


def test_revocation_and_time(
    authority: Any, root: Any, make_key: Any, tsa: Tsa, clocks: Any
) -> None:
    """A revocation is for ever, unless it says since when the key is not to be believed."""
    leaf = authority.leaf(root, days=(-30, 30))
    plain = signed(leaf)
    old, new = stamped(plain, tsa, NOW - 20 * DAY), stamped(plain, tsa, NOW - 5 * DAY)
    lost = RevokedCertificate(leaf.certificate.fingerprint, NOW, "lost")
    dated = replace(lost, invalid_from=NOW - 10 * DAY)
    key = TrustedKey(
        key=make_key().public,
        file="k.pub",
        owner="me",
        valid_from=NOW - 30 * DAY,
        valid_until=NOW + 30 * DAY,
        revoked_at=NOW,
        revoked_reason="lost",
        models=("*",),
    )
    gone = vouching(root, revoked_at=NOW, revoked_reason="breach")
    mine = sign_message(make_key(), DATA)
    mine_old, mine_new = stamped(mine, tsa, NOW - 20 * DAY), stamped(mine, tsa, NOW - 5 * DAY)

    def of(store: TrustStore, *bundles: MessageBundle) -> list[str]:
        return [only(ask(store, one)).state.name for one in bundles]

    leaf_revoked = store_of(vouching(root, revoked=(lost,)), **clocks)
    assert of(leaf_revoked, plain, old, new) == ["CERTIFICATE_REVOKED"] * 3
    leaf_dated = store_of(vouching(root, revoked=(dated,)), **clocks)
    assert of(leaf_dated, plain, old, new) == ["CERTIFICATE_REVOKED", "GOOD", "CERTIFICATE_REVOKED"]
    assert of(store_of(gone, **clocks), plain, old, new) == ["REVOKED"] * 3
    since = replace(gone, invalid_from=NOW - 10 * DAY)
    assert of(store_of(since, **clocks), plain, old, new) == ["REVOKED", "GOOD", "REVOKED"]
    keys = TrustStore((key,), (), (), (), **clocks)
    assert of(keys, mine, mine_old, mine_new) == ["REVOKED"] * 3
    since_key = replace(key, invalid_from=NOW - 10 * DAY)
    keys = TrustStore((since_key,), (), (), (), **clocks)
    assert of(keys, mine, mine_old, mine_new) == ["REVOKED", "GOOD", "REVOKED"]
    # Without a timestamp that counts, the date helps nobody.
    keys = TrustStore((since_key,), (), ())
    assert of(keys, mine, mine_old, mine_new) == ["REVOKED"] * 3


# ------------------------------------------------------------------ several stores


def test_merged_stores(authority: Any, root: Any, leaf: Any, tsa: Tsa, clocks: Any) -> None:
    shipped = store_of(vouching(root), **clocks)
    narrowed = store_of(vouching(root, models=("other",)))
    assert only(ask(merge([shipped, narrowed]), signed(leaf))).state.name == "OUT_OF_SCOPE"
    assert only(ask(merge([narrowed, shipped]), signed(leaf))).state.name == "GOOD"
    assert merge([shipped, narrowed]).timestamp_authorities == clocks["timestamp_authorities"]
    lost = RevokedCertificate(leaf.certificate.fingerprint, NOW, "lost")
    for gone, state in (
        (vouching(root, revoked_at=NOW, revoked_reason="breach"), "REVOKED"),
        (vouching(root, revoked=(lost,)), "CERTIFICATE_REVOKED"),
    ):
        for stores in ([shipped, store_of(gone)], [store_of(gone), shipped]):
            assert only(ask(merge(stores), signed(leaf))).state.name == state
    (clock,) = clocks["timestamp_authorities"]
    stopped = TrustStore((), (), (), (), (replace(clock, revoked_at=NOW, revoked_reason="breach"),))
    for stores in ([shipped, stopped], [stopped, shipped]):
        (one,) = merge(stores).timestamp_authorities
        assert one.revoked_at == NOW
    second = store_of(vouching(authority.root("second")))
    assert len(merge([shipped, second]).authorities) == 2


def test_of_two_revocations_the_one_that_refuses_more(make_key: Any, tsa: Tsa, clocks: Any) -> None:
    key = make_key()
    entry = TrustedKey(
        key=key.public,
        file="k.pub",
        owner="me",
        valid_from=NOW - 30 * DAY,
        valid_until=NOW + 30 * DAY,
        models=("*",),
    )
    gone = replace(entry, revoked_at=NOW, revoked_reason="lost")
    late = replace(gone, invalid_from=NOW - 10 * DAY)
    early = replace(gone, invalid_from=NOW - 25 * DAY)
    old = stamped(sign_message(key, DATA), tsa, NOW - 20 * DAY)

    def state(*entries: TrustedKey) -> str:
        stores = [TrustStore((one,), (), (), (), **clocks) for one in entries]
        return only(ask(merge(stores), old)).state.name

    assert state(late) == state(late, entry) == state(entry, late) == "GOOD"
    for strict in (gone, early):
        for entries in ((late, strict), (strict, late), (strict, late, entry)):
            assert state(*entries) == "REVOKED"
    # Whom a later store trusts for less is not trusted for more by being revoked.
    narrow = replace(entry, models=("other",))
    assert state(late, narrow) == "OUT_OF_SCOPE"


def test_secrets_stay_out_of_bundles(leaf: Any, tmp_path: Path) -> None:
    from r1prov.trust.keys import encode_private_key

    raw = signed(leaf).to_json()
    secret = encode_private_key(leaf.key, None).splitlines()[1]
    assert secret not in raw
    assert b"PRIVATE" not in raw
