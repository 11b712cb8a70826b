"""An attestation is good for one model, by one signer, for some time; each way to fail is told."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tsa_server import Tsa, stamping

from r1prov.attest.create import sign_statement
from r1prov.attest.names import Kind
from r1prov.attest.verify import AttestationState as State
from r1prov.errors import BundleError, LimitExceeded, R1ProvError, Unreadable, UsageError
from r1prov.manifest.shelf import load_manifest
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.local import LocalBlob, LocalStore
from r1prov.trust.authorities import TimestampAuthority
from r1prov.trust.bundle import signature_of, with_timestamp, write_dsse_bundle
from r1prov.trust.dsse import sign_envelope
from r1prov.trust.purpose import Purpose
from r1prov.trust.store import Threshold
from r1prov.verify.policy import Scope

from .conftest import Case, key, payload_of

WEIGHT_FILE = "model-00001-of-000002.safetensors"


@pytest.mark.parametrize("kind", Kind)
def test_a_pass_is_good(kind: Kind, case: Case) -> None:
    result = case.check(
        case.attest(kind),
        manifest=load_manifest(case.manifest),
        model_name="m",
        max_age=timedelta(hours=1),
    )
    assert (result.state, result.exit_status) == (State.GOOD, 0)
    assert result.owner == "CI"
    assert result.statement is not None
    assert result.statement.model == "m"
    assert "5 files and the manifest" in result.detail


def test_something_must_be_at_hand(case: Case) -> None:
    bundle = case.attest()
    with pytest.raises(UsageError, match="against a model or a manifest"):
        case.check(bundle, model=None)
    assert case.check(bundle, model=None, manifest=load_manifest(case.manifest)).exit_status == 0


# --- who -----------------------------------------------------------------------------------------


def test_signature_and_key(case: Case) -> None:
    bundle = case.attest()
    value = json.loads(bundle)
    assert value["verificationMaterial"]["publicKey"] == {"hint": key().public.key_id}
    assert value["dsseEnvelope"]["signatures"][0]["keyid"] == key().public.key_id
    payload = payload_of(bundle) | {"x": 1}
    value["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    result = case.check(json.dumps(value).encode())
    assert result.state is State.BAD_SIGNATURE
    assert result.statement is None  # nothing of it is shown as if it counted
    assert case.check(case.attest(signer=1)).state is State.UNKNOWN_KEY
    value = json.loads(bundle)
    value["verificationMaterial"]["publicKey"]["hint"] = ""
    assert case.check(json.dumps(value).encode()).state is State.GOOD  # the hint is only a hint


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        (State.OUT_OF_SCOPE, {"models": ("other-*",)}),
        (State.OUT_OF_SCOPE, {"may": (Purpose.MANIFESTS,)}),
        (State.GOOD, {"may": (Purpose.ATTESTATIONS,)}),
        (State.EXPIRED, {"valid_until": -1}),
        (State.NOT_YET_VALID, {"valid_from": 1}),
        (State.REVOKED, {"revoked_at": 0, "revoked_reason": "lost"}),
    ],
)
def test_standing_of_the_key(state: State, changes: dict[str, Any], case: Case) -> None:
    given_ = {
        name: case.now + timedelta(hours=value) if isinstance(value, int) else value
        for name, value in changes.items()
    }
    assert case.check(case.attest(), trust=case.trusted(**given_)).state is state


def test_one_attestation_is_not_two_signers(case: Case) -> None:
    trust = replace(case.trusted(), thresholds=(Threshold(("m",), 2),))
    assert case.check(case.attest(), trust=trust).state is State.TOO_FEW_SIGNERS


@pytest.mark.parametrize(
    ("material", "message"),
    [
        ({"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{}]}, "names no public key"),
        ({"x509CertificateChain": {"certificates": [{"rawBytes": "AAAA"}]}}, "names no public key"),
        ({"publicKey": {"hint": "", "rawBytes": "AAAA"}}, "brings its own key"),
        ({"publicKey": {"hint": ""}, "tlogEntries": [{}]}, "not checked here"),
        (
            {
                "publicKey": {"hint": ""},
                "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "AAAA"}]},
            },
            None,
        ),
        ({"publicKey": {"hint": ""}, "timestampVerificationData": {}}, None),
    ],
)
def test_only_a_key_of_the_trust_store_vouches(
    material: dict[str, Any], message: str | None, case: Case
) -> None:
    value = json.loads(case.attest()) | {"verificationMaterial": material}
    bundle = json.dumps(value).encode()
    if message is None:
        assert case.check(bundle).state is State.GOOD
        return
    with pytest.raises(BundleError, match=message):
        case.check(bundle)


def test_a_timestamp_outlives_the_key(
    case: Case, authority: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = authority.root("time root")
    tsa = Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))
    clock = TimestampAuthority(
        root=root.certificate,
        file="tsa.pem",
        owner="time",
        valid_from=case.now - timedelta(days=1),
        valid_until=case.now + timedelta(days=365),
    )
    trust = case.trusted(valid_until=case.now + timedelta(hours=1))
    clocked = replace(trust, timestamp_authorities=(clock,))
    later = case.now + timedelta(days=300)
    plain = case.attest()
    stamp = tsa.stamp(signature_of(plain, subject="b"))
    stamped = with_timestamp(plain, stamp, subject="b")
    assert case.check(stamped, trust=clocked, now=later).state is State.GOOD
    assert case.check(plain, trust=clocked, now=later).state is State.EXPIRED
    refused = case.check(stamped, trust=trust, now=later)
    assert refused.state is State.EXPIRED
    assert "names no authority" in refused.detail
    other = with_timestamp(case.attest(), stamp, subject="b")
    refused = case.check(other, trust=clocked, now=later)
    assert refused.state is State.EXPIRED
    assert "over other bytes" in refused.detail


def test_what_would_not_be_read_is_not_written() -> None:
    with pytest.raises(LimitExceeded, match="the cap is"):
        sign_statement(key(), b"x" * 1_000_000)


# --- what ----------------------------------------------------------------------------------------


def test_other_payloads_and_predicates(case: Case) -> None:
    value = json.dumps(payload_of(case.attest())).encode()
    envelope = sign_envelope(key(), value, "application/json")
    untyped = write_dsse_bundle(envelope, {"publicKey": {"hint": ""}})
    assert case.check(untyped).state is State.WRONG_TYPE
    other = case.altered(lambda v: v.update(predicateType="https://slsa.dev/provenance/v1"))
    assert case.check(other).state is State.WRONG_TYPE
    older = case.altered(
        lambda v: v.update(predicateType="https://in-toto.io/attestation/svr/v0.1"), Kind.SVR
    )
    assert case.check(older).state is State.GOOD


def test_another_verifier_or_model(case: Case) -> None:
    bundle = case.attest()
    assert case.check(bundle, verifier_id="https://ci.example").state is State.WRONG_VERIFIER
    assert case.check(bundle, model_name="other").state is State.WRONG_MODEL
    foreign = case.altered(lambda v: v["predicate"]["policy"].update(uri="https://x.example/p"))
    assert case.check(foreign).state is State.OUT_OF_SCOPE
    elsewhere = case.altered(lambda v: v["predicate"].update(resourceUri="urn:x"))
    result = case.check(elsewhere, manifest=load_manifest(case.manifest))
    assert result.state is State.WRONG_MODEL


@pytest.mark.parametrize("kind", Kind)
def test_no_verdict_but_pass(kind: Kind, case: Case) -> None:
    (case.model / "tokenizer_config.json").write_text('{"x": 1}')
    assert case.check(case.attest(kind)).state is State.NOT_PASSED
    weights = case.attest(kind, scope="weights")
    result = case.check(weights)
    assert result.state is State.NOT_PASSED
    assert "only its weights" in result.detail
    result = case.check(weights, scope=Scope.WEIGHTS)
    assert result.state is State.GOOD
    assert "weights only" in result.detail


def test_passed_needs_both_the_result_and_the_property(case: Case) -> None:
    levels = case.altered(lambda v: v["predicate"].update(verifiedLevels=["SLSA_BUILD_LEVEL_3"]))
    assert case.check(levels).state is State.NOT_PASSED
    failed = case.altered(lambda v: v["predicate"].update(verificationResult="FAILED"))
    assert case.check(failed).state is State.NOT_PASSED


def test_age(case: Case) -> None:
    bundle = case.attest()
    old = {"now": case.now + timedelta(days=3)}
    assert case.check(bundle, **old).state is State.GOOD
    assert case.check(bundle, **old, max_age=timedelta(days=4)).state is State.GOOD
    assert case.check(bundle, **old, max_age=timedelta(days=2)).state is State.TOO_OLD
    early = case.check(bundle, now=case.now - timedelta(hours=1), max_age=timedelta(days=9))
    assert early.state is State.NOT_YET_VALID


# --- of what -------------------------------------------------------------------------------------


def test_every_difference_of_the_model_at_hand(case: Case) -> None:
    bundle = case.attest()
    path = case.model / WEIGHT_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1

    def differs(*names: str) -> None:
        result = case.check(bundle)
        assert result.state is State.WRONG_SUBJECT
        assert [name for name in names if any(name in one for one in result.differences)] == [
            *names
        ]

    original = path.read_bytes()
    path.write_bytes(content)
    differs(WEIGHT_FILE)
    path.unlink()
    differs(WEIGHT_FILE)
    path.write_bytes(original)
    assert case.check(bundle).state is State.GOOD

    extra = case.model / "modeling_x.py"
    extra.write_text("import os")
    (case.model / "README.md").write_text("x")
    differs("modeling_x.py", "README.md")
    extra.unlink()
    (case.model / "README.md").unlink()
    (case.model / "link.json").symlink_to("config.json")
    differs("link.json")


def test_the_manifest_says_what_may_be_there_besides(case: Case) -> None:
    case.restate(lambda m: replace(m, complete_listing=False))
    bundle = case.attest()
    manifest = load_manifest(case.manifest)
    (case.model / "README.md").write_text("x")
    assert case.check(bundle).state is State.WRONG_SUBJECT
    assert case.check(bundle, manifest=manifest).state is State.GOOD
    (case.model / "extra.safetensors").write_bytes(bytes(16))
    assert case.check(bundle, manifest=manifest).state is State.WRONG_SUBJECT


def test_under_scope_weights_small_files_may_come_but_no_code(case: Case) -> None:
    (case.model / "tokenizer_config.json").write_text('{"x": 1}')
    bundle = case.attest(scope="weights")
    assert case.check(bundle, scope=Scope.WEIGHTS).state is State.GOOD
    (case.model / "tokenizer_config.json").write_text('{"x": 2}')
    assert case.check(bundle, scope=Scope.WEIGHTS).state is State.GOOD
    named = '{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}'
    (case.model / "tokenizer_config.json").write_text(named)
    assert case.check(bundle, scope=Scope.WEIGHTS).state is State.WRONG_SUBJECT
    (case.model / "tokenizer_config.json").write_text("{}")
    (case.model / "evil.py").write_text("import os")
    assert case.check(bundle, scope=Scope.WEIGHTS).state is State.WRONG_SUBJECT
    (case.model / "evil.py").unlink()
    (case.model / "tokenizer_config.json").write_text("#!/bin/sh\n")
    assert case.check(bundle, scope=Scope.WEIGHTS).state is State.WRONG_SUBJECT
    (case.model / "vocab.txt").write_bytes(b"\x7fELF" + bytes(60))
    (case.model / "tokenizer_config.json").write_text("{}")
    result = case.check(bundle, scope=Scope.WEIGHTS)
    assert result.differences == ("vocab.txt is here and not attested",)
    (case.model / "vocab.txt").unlink()
    (case.model / "config.json").write_text("{}")  # attested, and no longer what it was
    assert case.check(bundle, scope=Scope.WEIGHTS).state is State.WRONG_SUBJECT


def test_a_config_that_sends_the_loader_elsewhere_is_never_let_be(case: Case) -> None:
    case.restate(lambda m: replace(m, complete_listing=False))
    bundle = case.attest()
    manifest = load_manifest(case.manifest)
    extra = case.model / "generation_config.json"
    extra.write_text("{}")
    assert case.check(bundle, manifest=manifest).state is State.GOOD
    for content in (
        '{"transformers_weights": "other.safetensors"}',
        '{"configuration_files": ["config.4.0.0.json"]}',
        '{"auto_map": {"AutoModel": "evil.Model"}}',
        "{",
    ):
        extra.write_text(content)
        for scope in Scope:
            result = case.check(bundle, manifest=manifest, scope=scope)
            assert result.state is State.WRONG_SUBJECT, content
            assert "generation_config.json" in result.detail


def test_an_unattested_file_that_cannot_be_read_is_an_error(case: Case) -> None:
    case.restate(lambda m: replace(m, complete_listing=False))
    bundle = case.attest()

    class Closed(LocalStore):
        def open(self, path: str) -> LocalBlob:
            if path == unreadable:
                raise Unreadable("the disk went away", subject=path)
            return super().open(path)

    for unreadable in ("NOTES.md", "generation_config.json"):
        (case.model / unreadable).write_text("{}")
        with pytest.raises(Unreadable, match="the disk went away"):
            case.check(bundle, manifest=load_manifest(case.manifest), model=Closed(case.model))
        (case.model / unreadable).unlink()


class Meanwhile(LocalStore):
    """A store in which something happens whenever a file is opened."""

    happens: Callable[[], object]

    def open(self, path: str) -> LocalBlob:
        self.happens()
        return super().open(path)


def test_what_comes_while_the_check_runs_is_a_difference(case: Case) -> None:
    bundle = case.attest()
    store = Meanwhile(case.model)
    store.happens = lambda: (case.model / "late.json").write_text("{}")
    result = case.check(bundle, model=store)
    assert result.state is State.WRONG_SUBJECT
    assert "while the check ran" in result.detail


def test_what_cannot_be_read_is_an_error_not_a_pass(case: Case) -> None:
    bundle = case.attest()
    store = Meanwhile(case.model)
    opened: list[int] = []
    store.happens = lambda: opened.append(1)
    assert case.check(bundle, model=store).state is State.GOOD
    last = 2 * len(opened)  # hashing comes last

    def fail() -> None:
        opened.append(1)
        if len(opened) == last:
            raise Unreadable("the disk went away", subject="x")

    store.happens = fail
    with pytest.raises(Unreadable, match="the disk went away"):
        case.check(bundle, model=store)


def test_an_entry_that_cannot_be_looked_into_is_a_difference(case: Case) -> None:
    class Locked(LocalStore):
        def entries(self) -> list[Entry]:
            hidden = Entry("locked", EntryKind.UNREADABLE, detail="permission denied")
            return [*super().entries(), hidden]

    result = case.check(case.attest(), model=Locked(case.model))
    assert result.state is State.WRONG_SUBJECT
    assert "locked cannot be read" in result.detail


def test_another_manifest(case: Case) -> None:
    bundle = case.attest()
    case.restate(lambda m: replace(m, publisher="someone else"))
    result = case.check(bundle, manifest=load_manifest(case.manifest))
    assert result.state is State.WRONG_SUBJECT


def test_the_manifest_at_hand_is_of_the_model_that_the_key_may_speak_of(case: Case) -> None:
    """Its digest under another name would be another model, attested by a key for `m` alone."""
    own = case.attest()
    case.restate(lambda m: replace(m, name="mm"))
    value = payload_of(own)
    digest = {"sha256": load_manifest(case.manifest).sha256}
    value["subject"][0]["digest"] = value["predicate"]["policy"]["digest"] = digest
    value["predicate"]["resourceUri"] = "urn:r1prov:model:mm"
    bundle = sign_statement(key(), json.dumps(value).encode())
    for at_hand in ({}, {"model": None}):
        result = case.check(bundle, manifest=load_manifest(case.manifest), **at_hand)
        assert result.state is State.WRONG_MODEL
        assert result.detail == "the manifest is of mm, and attested as m"


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("scope", Scope)
def test_the_manifest_at_hand_is_believed_before_the_verifier(
    kind: Kind, scope: Scope, case: Case
) -> None:
    """Other weights, attested by a trusted key as if they were those of the manifest."""
    path = case.model / WEIGHT_FILE
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1

    def swapped(value: dict[str, Any]) -> None:
        (one,) = [one for one in value["subject"] if one["name"] == WEIGHT_FILE]
        one["digest"]["sha256"] = hashlib.sha256(changed).hexdigest()

    def extra(value: dict[str, Any]) -> None:
        value["subject"].append({"name": "x.bin", "digest": {"sha256": "0" * 64}})

    def fewer(value: dict[str, Any]) -> None:
        value["subject"] = [one for one in value["subject"] if one["name"] != WEIGHT_FILE]

    manifest = load_manifest(case.manifest)
    asked: dict[str, Any] = {"manifest": manifest, "scope": scope}
    assert case.check(case.attest(kind), **asked).state is State.GOOD
    made = [
        (case.altered(swapped, kind), "the manifest says sha256:"),
        (case.altered(extra, kind), "x.bin is attested, and the manifest lists no such file"),
        (case.altered(fewer, kind), "is in the manifest, and not attested"),
    ]
    path.write_bytes(changed)
    assert case.check(made[0][0], scope=scope).state is State.GOOD  # nothing here says otherwise
    for bundle, what in made:
        for model in ({}, {"model": None}):
            result = case.check(bundle, **asked, **model)
            assert result.state is State.WRONG_SUBJECT
            assert what in result.detail


def test_subjects_must_hold_the_manifest_and_a_file(case: Case) -> None:
    for change in (
        lambda v: v["subject"].pop(0),
        lambda v: v["subject"][0]["digest"].update(sha256="0" * 64),
        lambda v: v.update(subject=v["subject"][:1]),
    ):
        assert case.check(case.altered(change)).state is State.WRONG_SUBJECT
        # Nor is it good where only the manifest is at hand.
        only = {"model": None, "manifest": load_manifest(case.manifest)}
        assert case.check(case.altered(change), **only).state is State.WRONG_SUBJECT


# --- malformed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda v: v.pop("predicate"),
        lambda v: v.update(subject={}),
        lambda v: v["subject"].append(v["subject"][1]),
        lambda v: v["subject"][1].update(digest={"sha512": "0"}),
        lambda v: v["subject"][1]["digest"].update(sha256="A" * 64),
        lambda v: v["predicate"].update(timeVerified="2026-01-01T00:00:00+01:00"),
        lambda v: v["predicate"].update(timeVerified="2026-13-01T00:00:00Z"),
        lambda v: v["predicate"].update(verifiedLevels="R1PROV_MODEL_VERIFIED"),
        lambda v: v["predicate"].update(verifiedLevels=[1]),
        lambda v: v["predicate"].update(verifier=[]),
        lambda v: v["predicate"].update(policy={"uri": "urn:r1prov:manifest:m"}),
        lambda v: v["predicate"].pop("resourceUri"),
    ],
)
def test_malformed_statements_are_errors_not_verdicts(change: Any, case: Case) -> None:
    with pytest.raises(BundleError, match="the statement's"):
        case.check(case.altered(change))


@pytest.mark.parametrize("count", [0, 2])
def test_svr_has_one_policy(count: int, case: Case) -> None:
    def change(value: dict[str, Any]) -> None:
        value["predicate"]["verifier"]["policies"] *= count

    with pytest.raises(BundleError, match="policies"):
        case.check(case.altered(change, Kind.SVR))


@given(payload=st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_nothing_but_our_errors_comes_out_of_a_signed_payload(payload: bytes, case: Case) -> None:
    with pytest.raises(R1ProvError):
        case.check(sign_statement(key(), payload))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@given(data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_member_may_be_any_json(data: st.DataObject, case: Case) -> None:
    def change(value: dict[str, Any]) -> None:
        at: Any = value
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not keys:
                return
            chosen = data.draw(st.sampled_from(keys))
            if isinstance(at[chosen], dict | list) and data.draw(st.booleans()):
                at = at[chosen]
                continue
            at[chosen] = data.draw(_JSON)
            return

    kind = data.draw(st.sampled_from(list(Kind)))
    with contextlib.suppress(BundleError):
        case.check(case.altered(change, kind))
