"""Bundles made of a signed model: determinism, tampering, signers, and the verdict made again."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import time
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bagit
import pytest
from evidence_case import (
    MINILM,
    Case,
    call,
    members_of,
    replace_model,
    resigned,
    retagged,
    rezip,
    rules,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r1prov.errors import R1ProvError, UsageError
from r1prov.evidence.bag import DATA, INDEX, ROOT, SIGNATURE
from r1prov.evidence.create import Wanted, draft_evidence
from r1prov.evidence.index import Index, parse_index, parts_of
from r1prov.evidence.open import open_bundle
from r1prov.evidence.parts import DEFAULT, Kind
from r1prov.render import json as report_as_json
from r1prov.stores.local import LocalStore
from r1prov.verify.findings import Verdict

# A place, taken modulo the length: strategies must not depend on what is made for each run.
_WHERE = st.integers(0, 1 << 20)
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_bundle_passes_with_nothing_but_itself_and_the_pinned_keys(
    case: Case, raw: bytes
) -> None:
    result = case.verify(raw)
    assert result.verdict is Verdict.PASS, result.findings
    assert result.exit_status == 0
    assert result.report is not None
    assert result.report.verdict is Verdict.PASS
    assert result.report.inventory_sha256
    assert result.signature.owner == "maker"
    items = {one.item: one.state.value for one in result.coverage}
    assert items["timestamp of the bundle"] == "skipped"
    assert items["model at hand"] == "skipped"


def test_the_same_inputs_give_the_same_bytes(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs over two copies: other times and modes of files, time zone, umask, language."""
    now = datetime.now(UTC)
    runs = []
    for place, zone, mask, stamp in (("a", "UTC", 0o22, 1), ("b", "Asia/Shanghai", 0o77, 10**9)):
        folder = tmp_path / place
        before = os.umask(mask)
        monkeypatch.setenv("TZ", zone)
        monkeypatch.setenv("LC_ALL", "C" if place == "a" else "zh_CN.UTF-8")
        time.tzset()
        try:
            # Written in another order, too: no listing of a directory is sorted by itself.
            for path in sorted(case.model.rglob("*"), reverse=place == "b"):
                target = folder / "model" / path.relative_to(case.model)
                target.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file():
                    target.write_bytes(path.read_bytes())
                    os.utime(target, (stamp, stamp))
            monkeypatch.chdir(folder)
            for one in case.folder.glob("m.toml*"):
                shutil.copy(one, folder)
            draft = draft_evidence(
                Wanted(model="model", manifest="m.toml", keys=case.keys),
                report_as_json.render,
                now=now,
            )
        finally:
            os.umask(before)
        runs.append(draft.archive(draft.signature(case.maker)))
    monkeypatch.undo()
    time.tzset()
    assert draft.index.verdict is Verdict.PASS
    assert runs[0] == runs[1]
    # Where the model lies is nobody's business: it tells names of users and of machines.
    assert str(tmp_path).encode() not in runs[0]
    again = replace(draft, payload=dict(reversed(draft.payload.items())))
    assert again.archive(again.signature(case.maker)) == runs[0]


def test_other_tools_open_and_validate_it(raw: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        assert file.testzip() is None
        file.extractall(tmp_path)
    bag = bagit.Bag(str(tmp_path / "evidence"))
    bag.validate()
    (tmp_path / "evidence" / "data" / "model" / "files.json").write_text("{}")
    assert not bag.is_valid()


def test_every_member_is_covered_by_what(case: Case, raw: bytes) -> None:
    """Any byte of any member, by someone who writes a proper archive: what and where."""
    chance = random.Random(7)
    for name, data in sorted(members_of(raw).items()):
        for at in {0, len(data) - 1, chance.randrange(len(data))}:
            altered = bytearray(data)
            altered[at] ^= 1 << chance.randrange(8)
            forged = rezip(members_of(raw) | {name: bytes(altered)})
            short = name.removeprefix(ROOT)
            try:
                result = case.verify(forged)
            except R1ProvError as error:
                assert name in (INDEX, SIGNATURE), error  # noqa: PT017
                assert short in error.message + str(error.subject)  # noqa: PT017
                continue
            assert result.verdict is Verdict.FAIL
            if name == INDEX:
                continue
            assert any(short in one.subject for one in result.findings), (name, result.findings)


@settings(
    max_examples=150, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=_WHERE, bits=st.integers(1, 255))
def test_any_byte_of_the_file(case: Case, raw: bytes, at: int, bits: int) -> None:
    altered = bytearray(raw)
    altered[at % len(raw)] ^= bits
    with pytest.raises(R1ProvError):
        case.verify(bytes(altered))


@settings(
    max_examples=60, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=_WHERE, bits=st.integers(1, 255))
def test_any_byte_of_the_signature(case: Case, raw: bytes, at: int, bits: int) -> None:
    members = members_of(raw)
    altered = bytearray(members[SIGNATURE])
    altered[at % len(altered)] ^= bits
    try:
        result = case.verify(retagged(members | {SIGNATURE: bytes(altered)}))
    except R1ProvError:
        return
    assert result.verdict is Verdict.FAIL
    assert "evidence-signature" in rules(result)


def test_a_member_dropped_added_or_swapped_with_another_bundle(case: Case, raw: bytes) -> None:
    members = members_of(raw)
    other = members_of(case.bundle(kinds=DEFAULT | {Kind.FILES}, now=NOW))
    for name in members:
        less = {one: data for one, data in members.items() if one != name}
        if name in (INDEX, SIGNATURE):
            with pytest.raises(R1ProvError, match=name.removeprefix(ROOT)):
                case.verify(rezip(less))
            continue
        result = case.verify(rezip(less))
        assert result.verdict is Verdict.FAIL
        found = {(one.rule.name, one.subject) for one in result.findings}
        assert ("evidence-missing", name.removeprefix(ROOT)) in found
    for name in (f"{DATA}extra.bin", f"{ROOT}extra.txt", "outside.txt"):
        result = case.verify(retagged(members | {name: b"x"}))
        assert result.verdict is Verdict.FAIL
        assert "evidence-extra" in rules(result)
    for name in (f"{DATA}report/report.json", INDEX, SIGNATURE):
        result = case.verify(retagged(members | {name: other[name]}))
        assert result.verdict is Verdict.FAIL
        expected = "evidence-member" if name.startswith(DATA) else "evidence-signature"
        assert expected in rules(result)


def test_an_index_that_lists_other_digests_is_not_what_was_signed(case: Case, raw: bytes) -> None:
    members = members_of(raw)
    name = f"{DATA}report/report.json"
    report = json.loads(members[name]) | {"headline": "as DeepSeek-R1"}
    changed = json.dumps(report).encode()
    index = parse_index(members[INDEX], subject="b")
    kinds = {DATA + one.path: one.kind for one in index.parts}
    parts = parts_of(
        {
            n.removeprefix(DATA): (kinds[n], d)
            for n, d in (members | {name: changed}).items()
            if n in kinds
        }
    )
    forged = members | {name: changed, INDEX: replace(index, parts=parts).to_json()}
    result = case.verify(retagged(forged))
    assert rules(result) == {"evidence-signature", "evidence-verdict"}
    assert "another index" in result.signature.detail


def test_who_signed_counts(case: Case, raw: bytes, tmp_path: Path) -> None:
    call("key", "generate", "stranger.key", "--no-passphrase")
    only = tmp_path / "stranger"
    call("key", "add", "stranger.key.pub", "--owner", "x", "--model", "m", "--keys", str(only))
    result = case.verify(raw, keys=only)
    assert "evidence-signature" in rules(result)
    assert (
        "signature-missing" in rules(result)
        or "signature-untrusted" in rules(result)
        or (result.report is not None and result.report.verdict is Verdict.FAIL)
    )
    pinned = tmp_path / "revoked"
    shutil.copytree(case.keys, pinned)
    key_id = result.signature.key_id
    call("key", "revoke", key_id, "--reason", "lost", "--keys", str(pinned))
    assert "revoked" in case.verify(raw, keys=pinned).signature.detail


def test_the_verdict_is_made_again_and_not_believed(case: Case, raw: bytes) -> None:
    """A maker who says `pass` of a model with another digest."""
    members = members_of(raw)
    listing = json.loads(members[f"{DATA}model/files.json"])
    weights = next(e for e in listing["entries"] if str(e.get("path")).endswith("safetensors"))
    weights["sha256"] = "0" * 64
    lie = (json.dumps(listing, indent=1, sort_keys=True) + "\n").encode()
    result = case.verify(resigned(case, raw, payload={"model/files.json": lie}))
    assert result.signature.state.value == "good"
    assert result.index.verdict is Verdict.PASS
    assert result.verdict is Verdict.FAIL
    assert {"file-digest", "evidence-verdict"} <= rules(result)


def test_a_lie_about_content_that_is_there(case: Case, raw: bytes) -> None:
    members = members_of(raw)
    name = next(n for n, d in members.items() if d == b"{}" and "/model/" in n)
    with pytest.raises(R1ProvError, match="another SHA-256"):
        case.verify(resigned(case, raw, payload={name.removeprefix(DATA): b"[]"}))


def test_headers_are_looked_at_again(case: Case, raw: bytes) -> None:
    """One tensor of another shape in the recorded header."""
    members = members_of(raw)
    name = next(n for n, d in members.items() if b"lm_head.weight" in d and n.endswith(".bin"))
    at = members[name].index(b"BF16")
    forged = members[name][:at] + b"F16 " + members[name][at + 4 :]
    result = case.verify(resigned(case, raw, payload={name.removeprefix(DATA): forged}))
    assert result.verdict is Verdict.FAIL
    assert result.report is not None
    assert any(one.part.value == "weights" for one in result.report.findings)


def test_a_report_that_says_otherwise(case: Case, raw: bytes) -> None:
    members = members_of(raw)
    report = json.loads(members[f"{DATA}report/report.json"]) | {"verdict": "fail"}
    changed = {"report/report.json": json.dumps(report).encode()}
    result = case.verify(resigned(case, raw, payload=changed))
    assert rules(result) == {"evidence-verdict"}
    assert result.verdict is Verdict.FAIL
    # Nor is a verdict made better than its maker's.
    result = case.verify(resigned(case, raw, payload=changed, verdict=Verdict.FAIL))
    assert result.verdict is Verdict.FAIL
    garbage = {"report/report.json": b"nonsense"}
    assert case.verify(resigned(case, raw, payload=garbage)).verdict is Verdict.FAIL


@settings(
    max_examples=60, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    which=_WHERE,
    at=_WHERE,
    instead=st.sampled_from([None, b"", b"{}", b"[]", b"null", b'{"verdict":[]}']),
    more=st.one_of(st.none(), st.binary(max_size=40)),
)
def test_a_maker_who_signs_nonsense(
    case: Case, raw: bytes, which: int, at: int, instead: bytes | None, more: bytes | None
) -> None:
    """Whatever a pinned key signs, nothing but a verdict or an error of ours comes out."""
    paths = sorted(n.removeprefix(DATA) for n in members_of(raw) if n.startswith(DATA))
    path = paths[which % len(paths)]
    content = members_of(raw)[DATA + path]
    cut = at % (len(content) + 1)
    junk = content[:cut] if more is None else content[:cut] + more + content[cut:]
    junk = junk if instead is None else instead
    try:
        result = case.verify(resigned(case, raw, payload={path: junk}))
    except R1ProvError:
        return
    if result.verdict is Verdict.PASS and junk != content:
        # Blanks between the members of a JSON text change nothing of a signature of the manifest.
        may_differ = path.startswith(("environment/", "trust/", "report/"))
        assert may_differ or path.endswith(".sigstore.json"), path


def test_a_bundle_from_the_future(case: Case, raw: bytes) -> None:
    late = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    result = case.verify(resigned(case, raw, created=late))
    assert rules(result) == {"evidence-time"}


def test_the_model_at_hand(case: Case, raw: bytes, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    result = case.verify(raw, model=LocalStore(copy))
    assert result.verdict is Verdict.PASS, result.findings
    weights = next(copy.glob("*.safetensors"))
    with weights.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    result = case.verify(raw, model=LocalStore(copy))
    assert {"file-digest", "evidence-model"} <= rules(result)
    assert any(one.subject == weights.name for one in result.findings)
    weights.unlink()
    (copy / "more.txt").write_text("x")
    found = {
        (one.rule.name, one.subject) for one in case.verify(raw, model=LocalStore(copy)).findings
    }
    assert {("evidence-model", weights.name), ("evidence-model", "more.txt")} <= found


def test_a_failing_model_is_evidence_too(case: Case, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    (copy / "tokenizer_config.json").write_text("[]")
    (copy / "evil.py").write_text("import os")
    os_name = b"caf\xe9.txt"
    (copy / os_name.decode("utf-8", "surrogateescape")).write_text("x")
    (copy / "link").symlink_to("/etc/passwd")
    elsewhere = replace_model(case, copy)
    raw = elsewhere.bundle()
    result = case.verify(raw)
    assert result.index.verdict is Verdict.FAIL
    assert result.report is not None
    names = rules(result.report)
    assert {"file-digest", "code-unlisted", "symlink", "file-unlisted"} <= names
    assert "evidence-verdict" not in rules(result)


def test_what_is_left_out_is_said(case: Case) -> None:
    for left in (Kind.MODEL, Kind.MANIFEST):
        result = case.verify(case.bundle(kinds=DEFAULT - {left}))
        assert result.verdict is Verdict.INCOMPLETE
        assert result.report is None
    result = case.verify(case.bundle(kinds=DEFAULT - {Kind.REPORT, Kind.TRUST, Kind.ENVIRONMENT}))
    assert result.verdict is Verdict.PASS
    draft = case.draft(kinds=DEFAULT - {Kind.TRUST})
    assert Kind.TRUST not in draft.sizes()
    assert draft.left_out == {Kind.TRUST, Kind.FILES}


def test_files_go_in_whole_when_asked(case: Case) -> None:
    assert MINILM.exists(), "run `make test`, which fetches the model"
    both = []
    for kinds in (DEFAULT, DEFAULT | {Kind.FILES}):
        both.append(
            sum(
                size
                for _, size in replace_model(case, MINILM)
                .draft(manifest="all-MiniLM-L6-v2", keys=None, kinds=kinds)
                .sizes()
                .values()
            )
        )
    assert both[1] - both[0] > 600_000  # tokenizer.json and vocab.txt


def test_expectation_of_the_verifier(case: Case, raw: bytes) -> None:
    assert case.verify(raw, expect="m").verdict is Verdict.PASS
    result = case.verify(raw, expect="DeepSeek-R1")
    assert result.verdict is Verdict.FAIL
    assert "wrong-model" in rules(result) or "not-expected" in rules(result) or result.findings


def test_what_no_evidence_is_made_of(case: Case) -> None:
    index: Index = case.draft().index
    assert index.model == "m"
    members = members_of(case.bundle())
    broken = rezip(members | {f"{DATA}extra.bin": b""})
    (case.folder / "broken.zip").write_bytes(broken)
    with pytest.raises(UsageError, match="not intact"):
        case.draft(previous=case.folder / "broken.zip")
    assert open_bundle(broken, subject="b").findings
