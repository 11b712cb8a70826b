"""The trust file: read strictly, and written so that it reads back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import CertificateError, TrustFileError
from r1prov.trust.authorities import RevokedCertificate, TimestampAuthority, TrustedAuthority
from r1prov.trust.certificates import parse_certificates
from r1prov.trust.keys import PrivateKey, generate_private_key
from r1prov.trust.store import Threshold, TrustedKey, TrustStore
from r1prov.trust.trust_file import (
    certificate_file,
    parse_trust_store,
    split_root,
    trust_store_toml,
)

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)

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


PEM = generate_private_key("ed25519").public


def text(**changes: str | None) -> str:
    fields: dict[str, str | None] = {
        "id": f'"{PEM.key_id}"',
        "file": '"a.pub"',
        "owner": '"team"',
        "valid_from": "2026-11-24T00:00:00Z",
        "valid_until": "2028-11-24T08:00:00+08:00",
        "models": '["DeepSeek-R1*"]',
        **changes,
    }
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return "\n".join(['schema = "r1prov/trust/1"', "[[keys]]", *lines]) + "\n"


def parse(toml: str | bytes) -> TrustStore:
    raw = toml.encode() if isinstance(toml, str) else toml
    return parse_trust_store(raw, {"a.pub": PEM.pem(), "x": b"x"}.__getitem__, subject="t")


def test_parse() -> None:
    store = parse(text() + '[[thresholds]]\nmodels = ["*"]\nsignatures = 2\n')
    (key,) = store.keys
    assert key.key == PEM
    assert key.valid_until == datetime(2028, 11, 24, tzinfo=UTC)
    assert key.models == ("DeepSeek-R1*",)
    assert key.revoked_at is None
    assert store.threshold("x") == 2
    revoked = parse(text(revoked_at="2027-01-01T00:00:00Z", revoked_reason='"lost"'))
    assert revoked.keys[0].revoked_reason == "lost"
    assert parse('schema = "r1prov/trust/1"').keys == ()


@pytest.mark.parametrize(
    "toml",
    [
        "",
        "x = ",
        'schema = "r1prov/trust/2"',
        "schema = 1",
        text() + "more = 1",
        'schema = "r1prov/trust/1"\nkeyz = []',
        'schema = "r1prov/trust/1"\nkeys = 1',
        'schema = "r1prov/trust/1"\nkeys = [1]',
        text(modles='["*"]'),
        text(id=None),
        text(id=f'"{PEM.key_id.upper()}"'),
        text(id=f'"{"0" * 64}"'),
        text(id='"0"'),
        text(file=None),
        text(file='"../a.pub"'),
        text(file='"/a.pub"'),
        text(file='"d/a.pub"'),
        text(file="'d\\a.pub'"),
        text(file='"CON"'),
        text(file='"x"'),
        text(owner=None),
        text(owner='""'),
        text(owner='"\\u001b[1m"'),
        text(owner='"\\u202e"'),
        text(valid_from=None),
        text(valid_until=None),
        text(valid_from='"2026-11-24T00:00:00Z"'),
        text(valid_from="2026-11-24T00:00:00"),
        text(valid_from="2026-11-24"),
        text(valid_from="0001-01-01T00:00:00+14:00"),
        text(valid_from="2028-11-24T00:00:00Z"),
        text(revoked_at="2027-01-01T00:00:00Z"),
        text(revoked_reason='"lost"'),
        text(models=None),
        text(models="[]"),
        text(models='"*"'),
        text(models="[1]"),
        text(models='["[a-z]*"]'),
        text(models='["a/b"]'),
        text(models='[""]'),
        text() + text().split("\n", 1)[1],
        text() + "[[thresholds]]\nmodels = ['*']",
        text() + "[[thresholds]]\nmodels = ['*']\nsignatures = 0",
        text() + "[[thresholds]]\nmodels = ['*']\nsignatures = true",
        text() + "[[thresholds]]\nmodels = ['*']\nsignatures = 1.0",
        text() + "[[thresholds]]\nmodels = ['*']\nsignatures = 1\nsignature = 2",
        text() + "x = " + "[" * 20_000,
        text() + "x = " + "9" * 5_000,
        text() + "#" * 1024 * 1024,
        b"\xff",
        b"\xef\xbb\xbf" + text().encode(),
        text().encode("utf-16"),
    ],
    ids=range(52),
)
def test_refused(toml: str | bytes) -> None:
    with pytest.raises(TrustFileError):
        parse(toml)


@settings(max_examples=200)
@given(st.integers(0, 1000), st.integers(0, 255))
def test_nothing_else_escapes(position: int, byte: int) -> None:
    raw = bytearray(text().encode())
    raw[position % len(raw)] = byte
    with contextlib.suppress(TrustFileError):
        parse_trust_store(bytes(raw), lambda _: PEM.pem(), subject="t")


def test_written_and_read_back(make_key: MakeKey) -> None:
    first = replace(trusted(make_key(number=0)), owner='a "quoted" \\ name 深度')
    second = replace(trusted(make_key(number=1)), revoked_at=NOW, revoked_reason="lost")
    store = TrustStore((first, second), (Threshold(("a", "b*"), 2),), ("t",))
    raw = trust_store_toml(store)
    files = {one.file: one.key.pem() for one in store.keys}
    again = parse_trust_store(raw, files.__getitem__, subject="t")
    assert set(again.keys) == set(store.keys)
    assert again.thresholds == store.thresholds
    assert trust_store_toml(again) == raw
    assert trust_store_toml(replace(store, keys=(second, first))) == raw


PRINTABLE = st.text(min_size=1, max_size=30).filter(str.isprintable)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)
GLOBS = st.lists(st.from_regex(r"[A-Za-z0-9._*?-]{1,20}", fullmatch=True), min_size=1, max_size=3)


@settings(max_examples=100, deadline=None)
@given(
    owner=PRINTABLE,
    moments=st.lists(MOMENTS, min_size=2, max_size=2, unique=True),
    revoked=st.none() | st.tuples(MOMENTS, PRINTABLE),
    models=GLOBS,
    threshold=st.integers(1, 1000),
)
def test_whatever_is_written_is_read_back(
    make_key: MakeKey,
    owner: str,
    moments: list[datetime],
    revoked: tuple[datetime, str] | None,
    models: list[str],
    threshold: int,
) -> None:
    valid_from, valid_until = sorted(moments)
    key = replace(
        trusted(make_key(), tuple(models)),
        owner=owner,
        valid_from=valid_from.astimezone(UTC),
        valid_until=valid_until.astimezone(UTC),
        revoked_at=revoked[0].astimezone(UTC) if revoked else None,
        revoked_reason=revoked[1] if revoked else None,
    )
    store = store_of(key, signatures=threshold)
    raw = trust_store_toml(store)
    again = parse_trust_store(raw, lambda _: key.key.pem(), subject="trust.toml")
    assert again == store
    assert trust_store_toml(again) == raw


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "a\nb"},
        {"owner": ""},
        {"models": ("[a]",)},
        {"models": ()},
        {"file": "../x"},
        {"valid_until": NOW - 2 * DAY},
    ],
)
def test_what_cannot_be_read_is_not_written(change: dict[str, object], make_key: MakeKey) -> None:
    with pytest.raises(TrustFileError):
        trust_store_toml(store_of(replace(trusted(make_key()), **change)))  # type: ignore[arg-type]


# ------------------------------------------------------------------ authorities


@pytest.fixture(scope="module")
def files(authority: Any) -> dict[str, bytes]:
    root, other = authority.root("root"), authority.root("other")
    middle = authority.issue("middle", root, ca=True)
    return {
        "root.pem": root.pem,
        "more.pem": middle.pem + root.pem,
        "other.pem": other.pem,
        "two.pem": root.pem + other.pem,
        "none.pem": middle.pem,
        "many.pem": root.pem + middle.pem * 16,
        "x": b"x",
        "a.pub": PEM.pem(),
    }


def root_id(files: dict[str, bytes], name: str = "root.pem") -> str:
    (one,) = [c for c in parse_certificates(files[name], subject=name) if c.self_signed]
    return one.fingerprint


def entry(files: dict[str, bytes], table: str = "authorities", **changes: str | None) -> str:
    fields: dict[str, str | None] = {
        "id": f'"{root_id(files)}"',
        "file": '"root.pem"',
        "owner": '"ACME"',
        "valid_from": "2026-11-24T00:00:00Z",
        "valid_until": "2028-11-24T00:00:00Z",
    }
    if table == "authorities":
        fields |= {"models": '["acme-*"]', "identities": '["ml@acme.org"]'}
    fields |= changes
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return "\n".join(['schema = "r1prov/trust/1"', f"[[{table}]]", *lines]) + "\n"


REVOKED = """[[authorities.revoked]]
certificate = "0a1f"
revoked_at = 2027-01-01T00:00:00Z
reason = "left"
"""


def test_parse_authorities(files: dict[str, bytes]) -> None:
    def parse(toml: str) -> TrustStore:
        return parse_trust_store(toml.encode(), files.__getitem__, subject="t")

    (one,) = parse(entry(files) + REVOKED).authorities
    assert (one.id, one.owner, one.models) == (root_id(files), "ACME", ("acme-*",))
    assert (one.identities, one.subjects, one.issuers) == (("ml@acme.org",), (), ())
    (gone,) = one.revoked
    assert (gone.certificate, gone.reason, gone.invalid_from) == ("0a1f", "left", None)
    (more,) = parse(entry(files, file='"more.pem"')).authorities
    assert [issuer.subject for issuer in more.issuers] == ["CN=middle"]
    assert more.root == one.root
    dated = entry(
        files,
        revoked_at="2027-01-01T00:00:00Z",
        revoked_reason='"breach"',
        invalid_from="2026-12-01T00:00:00Z",
    )
    assert parse(dated).authorities[0].invalid_from == NOW
    (clock,) = parse(entry(files, "timestamp_authorities")).timestamp_authorities
    assert (clock.id, clock.owner) == (root_id(files), "ACME")
    # One root may vouch for several groups of signers.
    second = entry(files, identities='["ci@acme.org"]').split("\n", 1)[1]
    assert len(parse(entry(files) + second).authorities) == 2


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("authorities", {"identities": None}),
        ("authorities", {"identities": "[]"}),
        ("authorities", {"identities": '[""]'}),
        ("authorities", {"identities": "[1]"}),
        ("authorities", {"identities": '"ml@acme.org"'}),
        ("authorities", {"identities": '["a\\u001bb"]'}),
        ("authorities", {"subjects": "[1]"}),
        ("authorities", {"models": None}),
        ("authorities", {"more": "1"}),
        ("authorities", {"id": None}),
        ("authorities", {"id": f'"{"0" * 64}"'}),
        ("authorities", {"file": '"other.pem"'}),
        ("authorities", {"file": '"two.pem"'}),
        ("authorities", {"file": '"none.pem"'}),
        ("authorities", {"file": '"many.pem"'}),
        ("authorities", {"file": '"a.pub"'}),
        ("authorities", {"file": '"x"'}),
        ("authorities", {"file": '"../root.pem"'}),
        ("authorities", {"invalid_from": "2026-12-01T00:00:00Z"}),
        (
            "authorities",
            {
                "revoked_at": "2027-01-01T00:00:00Z",
                "revoked_reason": '"x"',
                "invalid_from": "2027-01-02T00:00:00Z",
            },
        ),
        ("authorities", {"revoked": '[{ certificate = "0a" }]'}),
        ("authorities", {"revoked": "[1]"}),
        ("timestamp_authorities", {"models": '["*"]'}),
        ("timestamp_authorities", {"identities": '["a"]'}),
        ("timestamp_authorities", {"invalid_from": "2026-12-01T00:00:00Z"}),
        ("timestamp_authorities", {"file": '"two.pem"'}),
        ("timestamp_authorities", {"valid_until": "2026-11-24T00:00:00Z"}),
        ("certificates", {}),
    ],
    ids=range(28),
)
def test_authorities_that_are_refused(
    table: str, change: dict[str, str | None], files: dict[str, bytes]
) -> None:
    with pytest.raises(TrustFileError):
        parse_trust_store(entry(files, table, **change).encode(), files.__getitem__, subject="t")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("0a1f", "0A1F"),
        ("0a1f", ""),
        ("0a1f", "g"),
        ("0a1f", "0" * 41),
        ("0a1f", "0" * 63),
        ("0a1f", "0" * 65),
        ('reason = "left"', ""),
        ("revoked_at = 2027", "revoked_at = 'x' #"),
        ("reason", "since = 1\nreason"),
        ("reason", "invalid_from = 2027-01-02T00:00:00Z\nreason"),
    ],
)
def test_revocations_that_are_refused(old: str, new: str, files: dict[str, bytes]) -> None:
    assert old in REVOKED
    toml = entry(files) + REVOKED.replace(old, new)
    with pytest.raises(TrustFileError):
        parse_trust_store(toml.encode(), files.__getitem__, subject="t")


def test_a_timestamp_authority_stands_once(files: dict[str, bytes]) -> None:
    twice = entry(files, "timestamp_authorities")
    twice += twice.split("\n", 1)[1]
    with pytest.raises(TrustFileError, match="twice"):
        parse_trust_store(twice.encode(), files.__getitem__, subject="t")


def test_authorities_are_written_and_read_back(files: dict[str, bytes], make_key: MakeKey) -> None:
    certificates = parse_certificates(files["more.pem"], subject="more.pem")
    root, issuers = split_root(certificates, "more.pem")
    plain = TrustedAuthority(
        root=root,
        issuers=issuers,
        file="root.pem",
        owner='the "A" 深度',
        valid_from=NOW,
        valid_until=NOW + DAY,
        models=("a", "b*"),
        identities=("ml@acme.org", "https://ci.acme.org/a"),
    )
    revoked = replace(
        plain,
        identities=(),
        subjects=("CN=a,O=b",),
        revoked_at=NOW,
        revoked_reason="breach",
        invalid_from=NOW - DAY,
        revoked=(
            RevokedCertificate("0a", NOW, "left"),
            RevokedCertificate("0" * 64, NOW, "lost", NOW - DAY),
        ),
    )
    clock = TimestampAuthority(
        root=root, file="tsa.pem", owner="time", valid_from=NOW, valid_until=NOW + DAY
    )
    lost = replace(
        trusted(make_key()), revoked_at=NOW, revoked_reason="lost", invalid_from=NOW - DAY
    )
    store = TrustStore((lost,), (), ("t",), (plain, revoked), (clock,))
    raw = trust_store_toml(store)
    kept = {
        lost.file: lost.key.pem(),
        "root.pem": certificate_file(plain),
        "tsa.pem": certificate_file(clock),
    }
    again = parse_trust_store(raw, kept.__getitem__, subject="t")
    assert again == store
    assert trust_store_toml(again) == raw
    assert certificate_file(clock) == root.pem()
    with pytest.raises(TrustFileError):
        trust_store_toml(replace(store, authorities=(replace(plain, identities=()),)))


def test_one_root_a_file(files: dict[str, bytes]) -> None:
    def split(name: str) -> Any:
        return split_root(parse_certificates(files[name], subject=name), name)

    assert split("root.pem")[0].subject == "CN=root"
    for name, words in (("two.pem", "2 root"), ("none.pem", "0 root"), ("many.pem", "the cap is")):
        with pytest.raises(CertificateError, match=words):
            split(name)
