"""Trust decisions: who may sign what, since and until when, and how many must."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import TrustFileError
from r1prov.trust.bundle import MessageBundle, parse_bundle, sign_message
from r1prov.trust.directories import load_trust_directory
from r1prov.trust.keys import PrivateKey
from r1prov.trust.purpose import Purpose
from r1prov.trust.shipped import shipped_dir
from r1prov.trust.store import (
    SignatureState,
    Threshold,
    TrustDecision,
    TrustedKey,
    TrustStore,
    decide,
    merge,
)
from r1prov.trust.trust_file import parse_trust_store, trust_store_toml

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DATA = b"manifest"
MODEL = "DeepSeek-R1"

MakeKey = Callable[..., PrivateKey]


def trusted(key: PrivateKey, models: tuple[str, ...] = ("DeepSeek-R1*",)) -> TrustedKey:
    return TrustedKey(
        key=key.public,
        file=f"{key.public.key_id8}.pub",
        owner="someone",
        valid_from=NOW - DAY,
        valid_until=NOW + DAY,
        models=models,
    )


def store_of(*keys: TrustedKey, signatures: int = 1) -> TrustStore:
    return TrustStore(keys, (Threshold(("*",), signatures),), ("trust.toml",))


def ask(
    store: TrustStore, *bundles: MessageBundle, model: str = MODEL, now: datetime = NOW
) -> TrustDecision:
    named = [(f"b{i}", bundle) for i, bundle in enumerate(bundles)]
    return decide(store, model=model, data=DATA, bundles=named, now=now)


def states(decision: TrustDecision) -> list[str]:
    return [check.state.name for check in decision.checks]


def test_a_key_for_attestations_signs_no_manifest(make_key: MakeKey) -> None:
    """A key of CI is at hand to whoever runs a job there; that of a release is not."""
    key = make_key()
    for may, state in (
        ((Purpose.ATTESTATIONS,), "OUT_OF_SCOPE"),
        ((Purpose.MANIFESTS,), "GOOD"),
        (tuple(Purpose), "GOOD"),
    ):
        decision = ask(store_of(replace(trusted(key), may=may)), sign_message(key, DATA))
        assert states(decision) == [state]
        assert decision.trusted is (state == "GOOD")
        if state != "GOOD":
            assert "may sign attestations, not manifests" in decision.checks[0].detail


@pytest.mark.parametrize("may", [*((one,) for one in Purpose), tuple(Purpose)])
def test_what_a_key_may_sign_reads_back(may: tuple[Purpose, ...], make_key: MakeKey) -> None:
    store = store_of(replace(trusted(make_key()), may=may))
    raw = trust_store_toml(store)
    assert (b"may = " in raw) == (len(may) == 1)
    pem = store.keys[0].key.pem()
    assert parse_trust_store(raw, lambda _: pem, subject="t").keys[0].may == may
    for wrong in ("[]", '"manifests"', '["manifest"]', "[1]", "[[]]", "{}", '["manifests", ""]'):
        bad = raw.replace(b"\nmodels", f"\nmay = {wrong}\nmodels".encode(), 1)
        if len(may) == 1:
            bad = bad.replace(f'may = ["{may[0]}"]\n'.encode(), b"")
        with pytest.raises(TrustFileError, match="`may` is not a list"):
            parse_trust_store(bad, lambda _: pem, subject="t")


def test_a_good_signature(make_key: MakeKey) -> None:
    key = make_key()
    decision = ask(store_of(trusted(key)), sign_message(key, DATA))
    assert decision.trusted
    assert (decision.good_keys, decision.threshold) == (1, 1)
    (check,) = decision.checks
    assert (check.bundle, check.key_id, check.owner) == ("b0", key.public.key_id, "someone")


def test_no_signature_and_no_key(make_key: MakeKey) -> None:
    assert not ask(store_of(trusted(make_key()))).trusted
    assert states(ask(TrustStore((), (), ()), sign_message(make_key(), DATA))) == ["UNKNOWN_KEY"]


def test_another_file(make_key: MakeKey) -> None:
    key = make_key()
    decision = ask(store_of(trusted(key)), sign_message(key, DATA + b"\n"))
    assert states(decision) == ["BAD_SIGNATURE"]
    assert "SHA-256" in decision.checks[0].detail
    lying = replace(sign_message(key, DATA + b"\n"), digest=hashlib.sha256(DATA).digest())
    assert states(ask(store_of(trusted(key)), lying)) == ["BAD_SIGNATURE"]
    # A good signature with a digest of something else is no good signature either.
    lying = replace(sign_message(key, DATA), digest=bytes(32))
    assert states(ask(store_of(trusted(key)), lying)) == ["BAD_SIGNATURE"]


def test_the_hint_is_a_hint(make_key: MakeKey) -> None:
    first, second = make_key(number=0), make_key(number=1)
    store = store_of(trusted(first), trusted(second))
    for hint in ("", "00" * 32, first.public.key_id8, first.public.key_id.upper()):
        unnamed = replace(sign_message(second, DATA), key_hint=hint)
        decision = ask(store, unnamed)
        assert decision.trusted
        assert decision.checks[0].key_id == second.public.key_id
    # But a bundle that names a trusted key must be signed by it.
    stolen = replace(sign_message(second, DATA), key_hint=first.public.key_id)
    assert states(ask(store, stolen)) == ["BAD_SIGNATURE"]
    stranger = sign_message(make_key(number=2), DATA)
    assert states(ask(store, stranger)) == ["UNKNOWN_KEY"]
    assert states(ask(store, replace(stranger, key_hint=""))) == ["UNKNOWN_KEY"]
    assert states(ask(store, replace(stranger, key_hint=first.public.key_id))) == ["BAD_SIGNATURE"]


@pytest.mark.parametrize(
    ("offset", "state"),
    [
        (-DAY - timedelta(microseconds=1), "NOT_YET_VALID"),
        (-DAY, "GOOD"),
        (DAY - timedelta(microseconds=1), "GOOD"),
        (DAY, "EXPIRED"),
    ],
)
def test_validity_is_judged_now(offset: timedelta, state: str, make_key: MakeKey) -> None:
    key = make_key()
    decision = ask(store_of(trusted(key)), sign_message(key, DATA), now=NOW + offset)
    assert states(decision) == [state]
    assert decision.trusted is (state == "GOOD")
    if state == "EXPIRED":
        assert "nothing proves that it signed before" in decision.checks[0].detail


def test_revocation_has_no_clock(make_key: MakeKey) -> None:
    key = make_key()
    for moment in (NOW - DAY, NOW + 100 * DAY):
        revoked = replace(trusted(key), revoked_at=moment, revoked_reason="laptop lost")
        decision = ask(store_of(revoked), sign_message(key, DATA))
        assert states(decision) == ["REVOKED"]
        assert "laptop lost" in decision.checks[0].detail


@pytest.mark.parametrize(
    ("glob", "model", "fits"),
    [
        ("DeepSeek-R1*", "DeepSeek-R1", True),
        ("DeepSeek-R1*", "DeepSeek-R1-Distill-Qwen-7B", True),
        ("DeepSeek-R1*", "deepseek-r1", False),
        ("DeepSeek-R1*", "xDeepSeek-R1", False),
        ("DeepSeek-R1", "DeepSeek-R1\n", False),
        ("DeepSeek-R?", "DeepSeek-R1", True),
        ("DeepSeek-R?", "DeepSeek-R", False),
        ("DeepSeek.R1", "DeepSeek-R1", False),
        ("*", "anything", True),
    ],
)
def test_scope(glob: str, model: str, fits: bool, make_key: MakeKey) -> None:
    key = make_key()
    decision = ask(store_of(trusted(key, (glob,))), sign_message(key, DATA), model=model)
    assert states(decision) == ["GOOD" if fits else "OUT_OF_SCOPE"]
    assert decision.trusted is fits


def test_threshold_counts_different_keys(make_key: MakeKey) -> None:
    first, second = make_key(number=0), make_key(number=1)
    store = store_of(trusted(first), trusted(second), signatures=2)
    once, again = sign_message(first, DATA), sign_message(first, DATA)
    assert once.signature != again.signature
    assert not ask(store, once).trusted
    assert ask(store, once, again, replace(once, key_hint="")).good_keys == 1
    assert not ask(store, once, again).trusted
    assert ask(store, once, sign_message(second, DATA)).trusted
    # The key a second time, as another entry of the store.
    twin = replace(trusted(first), owner="someone else", file="twin.pub")
    twins = store_of(trusted(first), twin, signatures=2)
    assert not ask(twins, once, again).trusted


def test_the_highest_threshold_counts(make_key: MakeKey) -> None:
    thresholds = (Threshold(("*",), 1), Threshold(("DeepSeek-R1",), 2), Threshold(("x",), 3))
    store = TrustStore((), thresholds, ())
    assert [store.threshold(name) for name in ("DeepSeek-R1", "DeepSeek-V3", "x")] == [2, 1, 3]
    assert TrustStore((), (), ()).threshold("x") == 1


def test_bad_signatures_take_nothing_from_good_ones(make_key: MakeKey) -> None:
    key = make_key()
    good = sign_message(key, DATA)
    decision = ask(store_of(trusted(key)), replace(good, signature=b"x"), good)
    assert states(decision) == ["BAD_SIGNATURE", "GOOD"]
    assert decision.trusted


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["ecdsa-p256", "ed25519"]),
    part=st.sampled_from(["data", "digest", "signature"]),
    position=st.integers(0, 10_000),
    flip=st.integers(1, 255),
    hinted=st.booleans(),
)
def test_one_changed_byte_is_never_good(
    make_key: MakeKey, kind: str, part: str, position: int, flip: int, hinted: bool
) -> None:
    key = make_key(kind)
    bundle = sign_message(key, DATA)
    values = {"data": DATA, "digest": bundle.digest, "signature": bundle.signature}
    spoilt = bytearray(values[part])
    spoilt[position % len(spoilt)] ^= flip
    values[part] = bytes(spoilt)
    changed = MessageBundle(bundle.key_hint * hinted, values["digest"], values["signature"])
    # Also when whoever changed the file mends the digest in the bundle.
    mended = replace(changed, digest=hashlib.sha256(values["data"]).digest())
    for one in (changed, mended) if part == "data" else (changed,):
        decision = decide(
            store_of(trusted(key)),
            model=MODEL,
            data=values["data"],
            bundles=[("b", one)],
            now=NOW,
        )
        assert not decision.trusted
        assert decision.good_keys == 0
        assert "GOOD" not in states(decision)


def test_merge(make_key: MakeKey) -> None:
    first, second = trusted(make_key(number=0)), trusted(make_key(number=1))
    revoked = replace(first, revoked_at=NOW, revoked_reason="lost")
    for stores in (
        [store_of(first), store_of(revoked, second)],
        [store_of(revoked), store_of(first, second)],
    ):
        merged = merge(stores)
        assert [one.revoked_at for one in merged.keys] == [NOW, None]
        assert merged.locations == ("trust.toml", "trust.toml")
        assert states(ask(merged, sign_message(make_key(), DATA))) == ["REVOKED"]
    strict = merge([store_of(first), store_of(second, signatures=2)])
    assert strict.threshold(MODEL) == 2


def test_the_shipped_store_is_as_it_is_written() -> None:
    store = load_trust_directory(shipped_dir("keys"))
    (key,) = store.keys
    assert key.owner == "r1prov project"
    assert key.valid_from == datetime(2026, 11, 24, tzinfo=UTC)
    assert key.valid_until == datetime(2028, 11, 24, tzinfo=UTC)
    assert key.models == ("DeepSeek-R1*", "DeepSeek-V3*", "all-MiniLM-L6-v2")
    assert key.may == (Purpose.MANIFESTS,)
    assert store.threshold(MODEL) == 1


def test_the_shipped_manifests_are_signed_by_it() -> None:
    store = load_trust_directory(shipped_dir("keys"))
    for path in Path(shipped_dir("manifests")).glob("*.toml"):
        bundles = [
            (one.name, parse_bundle(one.read_bytes(), subject=one.name))
            for one in path.parent.glob(f"{path.name}.*.sigstore.json")
        ]
        decision = decide(store, model=path.stem, data=path.read_bytes(), bundles=bundles, now=NOW)
        assert decision.trusted, path.name
        assert {check.state for check in decision.checks} == {SignatureState.GOOD}


def test_no_private_key_is_shipped() -> None:
    for path in Path(shipped_dir("keys")).rglob("*"):
        assert b"PRIVATE" not in path.read_bytes(), path.name
