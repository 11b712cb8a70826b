"""Who signs a bundle: keys, certificates, several signers, and what a timestamp does to them."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from document_case import BOTH, ZH, dossier, english
from evidence_case import Case, call, members_of, resigned, retagged, rules
from tsa_server import Tsa, stamping

from r1prov.errors import BundleError, LimitExceeded, R1ProvError, UsageError
from r1prov.evidence.bag import INDEX, SIGNATURE, countersignature
from r1prov.evidence.countersign import countersign, restamp
from r1prov.evidence.index import relative
from r1prov.evidence.verify import verify_evidence
from r1prov.render.evidence_document import as_html
from r1prov.trust.bundle import signature_of, with_timestamp
from r1prov.trust.keys import PrivateKey, generate_private_key, parse_private_key
from r1prov.verify.findings import Verdict
from r1prov.verify.local import load_authorities

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def supplier(case: Case) -> PrivateKey:
    """The key that signed the manifest: the other side of the contract."""
    raw = (case.folder / "k.key").read_bytes()
    return parse_private_key(raw, None, subject="k")


def stamper(tsa: Tsa, **how: Any) -> Callable[[bytes], bytes]:
    def stamp(raw: bytes) -> bytes:
        signature = signature_of(raw, subject="s")
        return with_timestamp(raw, tsa.stamp(signature, **how), subject="s")

    return stamp


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root")
    return Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))


@pytest.fixture(scope="module")
def pinned(case: Case, tsa: Tsa, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of both sides, and the authority of time."""
    folder = tmp_path_factory.mktemp("pinned")
    shutil.copytree(case.keys, folder, dirs_exist_ok=True)
    (folder / "tsa.pem.in").write_bytes(tsa.root.pem)
    add = ("key", "add", str(folder / "tsa.pem.in"), "--timestamp-authority", "--owner", "time")
    call(*add, "--keys", str(folder))
    return folder


# ------------------------------------------------------------------ certificates


def test_signed_with_a_certificate(case: Case, authority: Any, tmp_path: Path) -> None:
    root = authority.root()
    middle = authority.issue("middle", root, ca=True)
    leaf = authority.leaf(middle)
    (tmp_path / "root.pem").write_bytes(root.pem)
    keys = tmp_path / "keys"
    shutil.copytree(case.keys, keys)
    trust = ("key", "add", str(tmp_path / "root.pem"), "--certificate", "--owner", "ACME")
    named = ("--identity", "signer@example.org", "--keys", str(keys))
    call(*trust, "--model", "m", *named)
    draft = case.draft()
    chain = [leaf.certificate, middle.certificate]
    raw = draft.archive(draft.signature(leaf.key, chain))
    result = case.verify(raw, keys=keys)
    assert result.verdict is Verdict.PASS, result.findings
    assert result.signature.owner == "ACME"
    assert "signer@example.org" in result.signature.detail
    # Whoever does not trust the root has no signature.
    assert case.verify(raw).signature.state.value == "certificate untrusted"
    narrow = tmp_path / "narrow"
    shutil.copytree(case.keys, narrow)
    call(*trust, "--model", "other", *named[:3], str(narrow))
    assert "may sign other" in case.verify(raw, keys=narrow).signature.detail
    # The certificate of one and the signature of another.
    other = authority.leaf(middle)
    value = json.loads(members_of(raw)[SIGNATURE])
    forged = json.loads(draft.signature(other.key, [other.certificate, middle.certificate]))
    forged["verificationMaterial"] = value["verificationMaterial"]
    text = json.dumps(forged, separators=(",", ":")).encode() + b"\n"
    result = case.verify(retagged(members_of(raw) | {SIGNATURE: text}), keys=keys)
    assert result.verdict is Verdict.FAIL
    assert "another key" in result.signature.detail


def test_a_key_that_may_sign_manifests_only(case: Case, raw: bytes, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    shutil.copytree(case.keys, keys)
    path = keys / "trust.toml"
    path.write_text(
        path.read_text().replace('models = ["m*"]', 'models = ["m*"]\nmay = ["manifests"]')
    )
    assert "may" in path.read_text()
    result = case.verify(raw, keys=keys)
    assert "may sign manifests, not attestations" in result.signature.detail
    assert result.verdict is Verdict.FAIL


# ------------------------------------------------------------------ several signers


def test_both_sides_sign_one_bundle(case: Case, raw: bytes, supplier: PrivateKey) -> None:
    both = countersign(raw, supplier, subject="b.zip")
    assert members_of(both)[INDEX] == members_of(raw)[INDEX]
    assert countersign(raw, supplier, subject="b.zip") == both
    result = case.verify(both, signers=2)
    assert result.verdict is Verdict.PASS, result.findings
    assert [one.owner for one in result.countersignatures] == ["k"]
    assert case.verify(both, signers=3).verdict is Verdict.FAIL
    result = case.verify(raw, signers=2)
    assert result.verdict is Verdict.FAIL
    assert [one.found for one in result.findings] == ["1 signer"]
    for key in (supplier, case.maker):
        with pytest.raises(UsageError, match=r"signature of key|has signed it"):
            countersign(both, key, subject="b.zip")


def test_one_signer_is_not_two(case: Case, raw: bytes) -> None:
    """The maker's own signature again under another name."""
    members = members_of(raw)
    twice = members | {countersignature("0" * 8): members[SIGNATURE]}
    assert case.verify(retagged(twice), signers=2).verdict is Verdict.FAIL
    # Nor is it a member that may be there.
    assert rules(case.verify(retagged(twice))) == {"evidence-extra"}


def test_a_countersignature_under_the_name_of_another(
    case: Case, raw: bytes, supplier: PrivateKey
) -> None:
    members = members_of(countersign(raw, supplier, subject="b.zip"))
    good = members.pop(named := countersignature(supplier.public.key_id8))
    assert case.verify(retagged(members | {named: good})).verdict is Verdict.PASS
    result = case.verify(retagged(members | {countersignature("0" * 8): good}))
    assert result.verdict is Verdict.FAIL
    assert rules(result) == {"evidence-extra"}


def test_a_signature_of_somebody_unknown_takes_nothing(case: Case, raw: bytes) -> None:
    both = countersign(raw, generate_private_key("ed25519"), subject="b.zip")
    result = case.verify(both)
    assert result.verdict is Verdict.PASS
    assert any("not among the pinned keys" in one.detail for one in result.coverage)
    assert case.verify(both, signers=2).verdict is Verdict.FAIL


def test_a_forged_countersignature(case: Case, raw: bytes, supplier: PrivateKey) -> None:
    other = countersign(case.bundle(now=NOW - timedelta(hours=1)), supplier, subject="b.zip")
    name = countersignature(supplier.public.key_id8)
    moved = retagged(members_of(raw) | {name: members_of(other)[name]})
    result = case.verify(moved)
    assert result.verdict is Verdict.FAIL
    assert [one.subject for one in result.findings] == [relative(name)]
    assert "another index" in result.findings[0].message
    with pytest.raises(R1ProvError):
        case.verify(retagged(members_of(raw) | {name: b"{}"}))
    many = {countersignature(f"{n:08x}"): b"{}" for n in range(40)}
    with pytest.raises(LimitExceeded):
        case.verify(retagged(members_of(raw) | many))
    broken = retagged(members_of(raw) | {"evidence/data/x": b""})
    with pytest.raises(UsageError, match="not intact"):
        countersign(broken, supplier, subject="b.zip")


def test_a_name_that_is_like_a_countersignature_is_none(case: Case, raw: bytes) -> None:
    for name in (f"{INDEX}.zzzzzzzz.sigstore.json", f"{INDEX}.0000000.sigstore.json"):
        result = case.verify(retagged(members_of(raw) | {name: b"{}"}))
        assert "evidence-extra" in rules(result)


# ------------------------------------------------------------------ time


def test_a_timestamp_that_is_taken_away(case: Case, tsa: Tsa, pinned: Path) -> None:
    draft = case.draft(timestamped=True)
    bare = draft.signature(case.maker)
    raw = draft.archive(stamper(tsa)(bare))
    assert case.verify(raw, keys=pinned).verdict is Verdict.PASS
    result = case.verify(draft.archive(bare), keys=pinned)
    assert result.verdict is Verdict.FAIL
    assert rules(result) == {"evidence-missing"}


def test_a_timestamp_that_is_added_later(
    case: Case, raw: bytes, tsa: Tsa, pinned: Path, supplier: PrivateKey
) -> None:
    both = countersign(raw, supplier, subject="b.zip")
    stamped = restamp(both, stamper(tsa), subject="b.zip")
    result = case.verify(stamped, keys=pinned, signers=2)
    assert result.verdict is Verdict.PASS, result.findings
    assert result.signature.proven is not None
    assert result.countersignatures[0].proven is not None
    later = datetime.now(UTC) + timedelta(days=3000)
    late = verify_evidence(stamped, load_authorities(pinned), now=later)
    assert late.verdict is Verdict.PASS, late.findings


def test_a_timestamp_can_be_asked_for(
    case: Case, raw: bytes, tsa: Tsa, pinned: Path, supplier: PrivateKey
) -> None:
    stamped = restamp(countersign(raw, supplier, subject="b.zip"), stamper(tsa), subject="b.zip")
    assert case.verify(stamped, keys=pinned, timestamped=True).verdict is Verdict.PASS
    for bundle, keys, found in ((raw, pinned, "0 timestamps"), (stamped, case.keys, "1 timestamp")):
        result = case.verify(bundle, keys=keys, timestamped=True)
        assert result.verdict is Verdict.FAIL
        (missing,) = [one for one in result.findings if one.rule.name == "evidence-timestamp"]
        assert missing.found == found
    # That of somebody else does not make up for the maker's.
    members = members_of(stamped) | {SIGNATURE: members_of(raw)[SIGNATURE]}
    result = case.verify(retagged(members), keys=pinned, timestamped=True)
    assert "evidence-timestamp" in rules(result)


def test_the_date_of_a_maker_who_lies(case: Case, tsa: Tsa, pinned: Path) -> None:
    for days, weight in ((-400, "warning"), (400, "error")):
        draft = case.draft(timestamped=True, now=NOW + timedelta(days=days))
        raw = draft.archive(stamper(tsa)(draft.signature(case.maker)))
        result = case.verify(raw, keys=pinned)
        found = [one for one in result.findings if one.rule.name == "evidence-time"]
        assert [one.severity.value for one in found] == [weight]


def test_a_key_that_was_revoked(case: Case, tsa: Tsa, pinned: Path, tmp_path: Path) -> None:
    draft = case.draft(timestamped=True)
    raw = draft.archive(stamper(tsa)(draft.signature(case.maker)))
    for day, good in ((1, True), (-1, False)):
        keys = tmp_path / f"keys{day}"
        shutil.copytree(pinned, keys)
        since = f"{datetime.now(UTC) + timedelta(days=day):%Y-%m-%dT%H:%M:%SZ}"
        path = keys / "trust.toml"
        head, mark, tail = path.read_text().partition('owner = "maker"')
        more = f'\nrevoked_at = {since}\nrevoked_reason = "lost"\ninvalid_from = {since}'
        path.write_text(head + mark + more + tail)
        result = case.verify(raw, keys=keys)
        # Signed before the day since when the key is not believed: proven, so it counts.
        assert (result.verdict is Verdict.PASS) is good, result.findings
        assert good or result.signature.state.value == "revoked"


def test_whose_clock_and_what_it_stamped(
    case: Case, tsa: Tsa, pinned: Path, authority: Any
) -> None:
    draft = case.draft(timestamped=True)
    bare = draft.signature(case.maker)
    other = case.draft(timestamped=True, now=NOW - timedelta(hours=1)).signature(case.maker)
    moved = with_timestamp(bare, tsa.stamp(signature_of(other, subject="s")), subject="s")
    assert "timestamp-invalid" in rules(case.verify(draft.archive(moved), keys=pinned))
    # Of an authority that nobody pinned: no sign of tampering, and no proof.
    result = case.verify(draft.archive(stamper(tsa)(bare)))
    assert result.verdict is Verdict.INCOMPLETE
    assert rules(result) == {"timestamp-untrusted"}


def test_a_signature_file_in_another_form(case: Case, raw: bytes) -> None:
    value = json.loads(members_of(raw)[SIGNATURE])
    spaced = json.dumps(value).encode() + b"\n"
    with pytest.raises(BundleError, match="not written as r1prov writes it"):
        case.verify(retagged(members_of(raw) | {SIGNATURE: spaced}))
    value["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    text = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    with pytest.raises(BundleError, match="not signed with a key that it names"):
        case.verify(retagged(members_of(raw) | {SIGNATURE: text}))


def test_an_index_that_says_timestamped_of_another_kind(case: Case, raw: bytes) -> None:
    with pytest.raises(R1ProvError, match="neither true nor false"):
        case.verify(resigned(case, raw, timestamped=1))


# ------------------------------------------------------------------ the document for people


def test_the_document_names_every_signer(
    case: Case, authority: Any, tsa: Tsa, pinned: Path, supplier: PrivateKey, tmp_path: Path
) -> None:
    root = authority.root()
    middle = authority.issue("middle", root, ca=True)
    leaf = authority.leaf(middle)
    (tmp_path / "root.pem").write_bytes(root.pem)
    keys = tmp_path / "keys"
    shutil.copytree(pinned, keys)
    call(
        *("key", "add", str(tmp_path / "root.pem"), "--certificate", "--owner", "ACME"),
        *("--model", "m", "--identity", "signer@example.org", "--keys", str(keys)),
    )
    draft = case.draft()
    signed = draft.archive(draft.signature(leaf.key, [leaf.certificate, middle.certificate]))
    raw = restamp(countersign(signed, supplier, subject="b"), stamper(tsa), subject="b")
    found = dossier(raw, keys, signers=2)
    assert found.result.verdict is Verdict.PASS, found.result.findings
    text = html.unescape(as_html(found, BOTH))
    for one in (
        *("signer@example.org", "ACME", "证据包索引（副署）", "证书机构", "时间戳机构"),
        supplier.public.key_id,
        *(issued.certificate.fingerprint for issued in (leaf, middle, root, tsa.root)),
    ):
        assert one in text, one
    signed_by = text.partition('<table class="signatures">')[2].partition("</table>")[0]
    assert signed_by.count('class="mark yes"') == 3  # maker, countersigner, manifest
    assert supplier.public.key_id in signed_by
    stamps = text[text.index('<section class="h-timestamps">') :]
    assert stamps[: stamps.index("</section>")].count("不晚于") == 2
    assert english(html.unescape(as_html(found, ZH))) == []
    # Without the authority the same bundle is not verified, and the document says so first.
    alone = as_html(dossier(raw, case.keys), BOTH)
    assert alone.index('class="unverified"') < alone.index("<h1>")
