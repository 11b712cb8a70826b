"""What a maker may say in a bundle of its own, and what becomes of it when it is not so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evidence_case import Case, members_of, replace_model, resigned, rules

from r1prov.errors import EvidenceError
from r1prov.evidence.bag import DATA
from r1prov.evidence.parts import DEFAULT, Kind
from r1prov.render import evidence as render
from r1prov.stores.local import LocalStore
from r1prov.verify.findings import Verdict
from r1prov.verify.policy import Level, PolicyFile, Scope
from r1prov.verify.policy_file import load_policy

POLICY = 'schema = "r1prov/policy/1"\n[[models]]\nname = "m"\n'


def listing_of(raw: bytes) -> Any:
    return json.loads(members_of(raw)[f"{DATA}model/files.json"])


def relisted(case: Case, raw: bytes, value: object, **more: Any) -> bytes:
    text = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
    return resigned(case, raw, payload={"model/files.json": text} | more)


def policy(tmp_path: Path, text: str = "") -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY + text)
    return path


def loaded(path: Path) -> PolicyFile:
    return load_policy(path)


# ------------------------------------------------------------------ the report that people read


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("verdict", "fail"),
        ("exit_status", False),
        ("level", "structure"),
        ("scope", "weights"),
        ("expected", "full"),
        ("r1prov", "9.9"),
        ("tensors", 91_991),
        ("inventory_sha256", "0" * 64),
        ("digests", {}),
        ("manifest", None),
        ("exceptions", 3),
        ("cached", ["config.json"]),
        ("stated", ["model.safetensors"]),
        ("weights", {}),
        ("other_files", None),
        ("headline", "as DeepSeek-R1 (full, deepseek-ai)"),
        ("schema", "r1prov/report/2"),
    ],
)
def test_a_report_about_something_else(case: Case, raw: bytes, name: str, value: object) -> None:
    report = json.loads(members_of(raw)[f"{DATA}report/report.json"])
    assert report[name] != value or type(report[name]) is not type(value)
    changed = {"report/report.json": json.dumps(report | {name: value}).encode()}
    result = case.verify(resigned(case, raw, payload=changed))
    assert result.verdict is Verdict.FAIL
    assert rules(result) == {"evidence-verdict"}
    assert {one.subject for one in result.findings} == {"report/report.json"}
    named = "is no report of" if name == "schema" else name
    assert any(named in one.message + str(one.expected) for one in result.findings)


@pytest.mark.parametrize("name", ["name", "sha256", "variant", "publisher", "revision"])
def test_a_report_about_another_manifest(case: Case, raw: bytes, name: str) -> None:
    report = json.loads(members_of(raw)[f"{DATA}report/report.json"])
    report["manifest"][name] = "DeepSeek-R1"
    changed = {"report/report.json": json.dumps(report).encode()}
    result = case.verify(resigned(case, raw, payload=changed))
    assert {one.message for one in result.findings} == {
        f"`manifest.{name}` of the report is not what the evidence says"
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("signers", ["k, key 00000000: good"]),
        ("signers", []),
        ("signers", None),
        ("tree_digest", "0" * 64),
        ("tree_digest", None),
    ],
)
def test_a_report_of_other_signers_or_another_tree(
    case: Case, raw: bytes, name: str, value: object
) -> None:
    report = json.loads(members_of(raw)[f"{DATA}report/report.json"])
    report["manifest"][name] = value
    changed = {"report/report.json": json.dumps(report).encode()}
    result = case.verify(resigned(case, raw, payload=changed))
    assert result.verdict is Verdict.FAIL
    assert {one.message for one in result.findings} == {
        f"`manifest.{name}` of the report is not what the evidence says"
    }


def test_files_that_a_report_counts_as_matching(case: Case, raw: bytes) -> None:
    report = json.loads(members_of(raw)[f"{DATA}report/report.json"])
    report["weights"]["total"] += 1
    changed = {"report/report.json": json.dumps(report).encode()}
    result = case.verify(resigned(case, raw, payload=changed))
    assert [one.message for one in result.findings] == [
        "`weights` of the report is not what the evidence says"
    ]


@pytest.mark.parametrize("text", [b"[]", b"3", b'"pass"', b"null", b"{}", b"", b"\xff"])
def test_a_report_that_is_none(case: Case, raw: bytes, text: bytes) -> None:
    result = case.verify(resigned(case, raw, payload={"report/report.json": text}))
    assert result.verdict is Verdict.FAIL
    assert rules(result) == {"evidence-verdict"}


def test_a_report_that_leaves_out_what_is_wrong(case: Case, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    (copy / "tokenizer_config.json").write_text('{"x":1}')
    raw = replace_model(case, copy).bundle()
    assert "evidence-verdict" not in rules(case.verify(raw))
    report = json.loads(members_of(raw)[f"{DATA}report/report.json"]) | {"findings": []}
    changed = {"report/report.json": json.dumps(report).encode()}
    result = case.verify(resigned(case, raw, payload=changed))
    found = [one for one in result.findings if one.rule.name == "evidence-verdict"]
    assert [one.message for one in found] == [
        "leaves out what was found of `tokenizer_config.json`"
    ]


def test_a_report_under_another_name_is_none(case: Case, raw: bytes) -> None:
    report = members_of(raw)[f"{DATA}report/report.json"]
    with pytest.raises(EvidenceError, match="none of those stands there"):
        case.verify(
            resigned(
                case,
                raw,
                payload={"report/summary.json": report},
                kinds={"report/summary.json": Kind.REPORT},
            )
        )
    with pytest.raises(EvidenceError, match="none of those stands there"):
        case.verify(resigned(case, raw, payload={"report/x": b""}, kinds={"report/x": Kind.AUDIT}))


# ------------------------------------------------------------------ the recording


def test_content_that_belongs_to_no_file(case: Case, raw: bytes) -> None:
    hidden = resigned(case, raw, payload={"model/x.bin": b"x"}, kinds={"model/x.bin": Kind.MODEL})
    with pytest.raises(EvidenceError, match=r"no entry has the content `model/x\.bin`"):
        case.verify(hidden)


def test_content_in_two_pieces_is_hashed_all_the_same(case: Case, raw: bytes) -> None:
    """Whole content in ranges that touch would not be hashed against the digest stated of it."""
    value = listing_of(raw)
    config = next(one for one in value["entries"] if one["path"] == "config.json")
    config["ranges"] = [[0, 10], [10, config["size"] - 10]]
    with pytest.raises(EvidenceError, match=r"ranges of `config\.json` are not in order"):
        case.verify(relisted(case, raw, value))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "link"}, "is no file, and has content"),
        ({"kind": "special", "size": 0, "sha256": None, "content": None}, ""),
        ({"size": -1}, "of another type"),
        ({"size": True}, "of another type"),
        ({"sha256": "0" * 64}, "another SHA-256"),
        ({"sha256": "A" * 64}, "64 hexadecimal digits"),
        ({"how": "guessed"}, "is none of"),
        ({"how": None}, "is none of"),
        ({"content": "model/files.json"}, "not its content"),
        ({"content": "report/report.json"}, "is not there"),
        ({"ranges": [[0, 1]]}, "not its content"),
        ({"ranges": [[0, 0]]}, "not in order"),
        ({"path": None, "path_hex": "zz"}, "not hexadecimal"),
        ({"path": ""}, "of another type"),
        ({"other_device": 0}, "of another type"),
        ({"extra": 1}, "known members"),
    ],
)
def test_a_listing_that_is_none(
    case: Case, raw: bytes, change: dict[str, object], says: str
) -> None:
    value = listing_of(raw)
    config = next(one for one in value["entries"] if one["path"] == "config.json")
    config |= change
    if not says:
        # Content that its entry no longer names.
        says = "no entry has the content"
    with pytest.raises(EvidenceError, match=says):
        case.verify(relisted(case, raw, value))


def test_a_digest_without_a_word_on_how_it_is_known(case: Case, raw: bytes) -> None:
    value = listing_of(raw)
    del value["entries"][0]["how"]
    with pytest.raises(EvidenceError, match="is none of read, cached, stated"):
        case.verify(relisted(case, raw, value))


def test_a_file_that_is_listed_twice(case: Case, raw: bytes) -> None:
    value = listing_of(raw)
    value["entries"].insert(1, value["entries"][0])
    with pytest.raises(EvidenceError, match="not in order"):
        case.verify(relisted(case, raw, value))


def test_a_recording_without_headers_proves_nothing(case: Case, raw: bytes) -> None:
    """The digests of the manifest copied by somebody who never had the model."""
    value = listing_of(raw)
    weights = next(one for one in value["entries"] if one["path"].endswith(".safetensors"))
    content = weights.pop("content")
    weights.pop("ranges")
    text = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
    forged = resigned(case, raw, payload={"model/files.json": text}, without=(content,))
    result = case.verify(forged)
    assert result.verdict is not Verdict.PASS
    assert "file-unread" in rules(result)


def test_a_maker_who_copies_headers_and_digests(case: Case, raw: bytes) -> None:
    """What it takes to lie: weights that were never read. `--model` finds it, a bundle cannot."""
    assert case.verify(raw).verdict is Verdict.PASS
    text = render.as_text(case.verify(raw))
    assert "by the digest that the signer of the evidence states, not read" in text


def test_digests_that_the_maker_did_not_compute_are_said_first(case: Case, raw: bytes) -> None:
    value = listing_of(raw)
    weights = next(one for one in value["entries"] if one["path"].endswith(".safetensors"))
    for how, says in (("stated", "did not compute"), ("cached", "had cached")):
        weights["how"] = how
        # The report does not say so.
        assert rules(case.verify(relisted(case, raw, value))) == {"evidence-verdict"}
        report = json.loads(members_of(raw)[f"{DATA}report/report.json"]) | {how: [weights["path"]]}
        told = {"report/report.json": json.dumps(report).encode()}
        result = case.verify(relisted(case, raw, value, **told))
        assert result.verdict is Verdict.PASS
        assert says in render.as_text(result).splitlines()[0]


# ------------------------------------------------------------------ level, scope, policy


def test_weights_only_is_said_first_and_all_files_can_be_asked_for(
    case: Case, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    (copy / "tokenizer_config.json").write_text('{"x":1}')
    raw = replace_model(case, copy).bundle(scope=Scope.WEIGHTS)
    result = case.verify(raw)
    assert result.verdict is Verdict.PASS
    assert render.as_text(result).startswith("PASS evidence about m, weights only\n")
    assert json.loads(render.as_json(result))["limits"] == ["weights only"]
    result = case.verify(raw, scope=Scope.ALL)
    assert result.verdict is Verdict.FAIL
    assert "file-size" in rules(result)
    asks = loaded(policy(tmp_path, 'scope = "all"\n'))
    result = case.verify(raw, policy=asks)
    assert result.verdict is Verdict.FAIL
    assert "file-size" in rules(result)
    # What the verifier's policy asks for is looked at, not what the maker did without.
    assert case.verify(case.bundle(scope=Scope.WEIGHTS), policy=asks).verdict is Verdict.PASS


def test_headers_alone_are_no_pass(case: Case, tmp_path: Path) -> None:
    raw = case.bundle(level=Level.STRUCTURE)
    result = case.verify(raw)
    assert result.verdict is Verdict.INCOMPLETE
    # The model at hand is read whole all the same, and the bundle has nothing to compare it with.
    result = case.verify(raw, model=LocalStore(case.model))
    assert result.verdict is Verdict.INCOMPLETE
    row = next(one for one in result.coverage if one.item == "model at hand")
    assert row.state.value == "unread"
    assert row.detail.startswith("0 digests of 0")
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    with next(copy.glob("*.safetensors")).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    assert "file-digest" in rules(case.verify(raw, model=LocalStore(copy)))


ALLOW = """[[models.allow]]
kind = "extra"
files = "*.md"
reason = "runbook"
expires = 2999-01-01
"""


def test_exceptions_of_the_makers_policy_are_not_the_verifiers(case: Case, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    (copy / "RUNBOOK.md").write_text("x")
    lax = policy(tmp_path, ALLOW)
    raw = replace_model(case, copy).bundle(policy=lax)
    result = case.verify(raw)
    assert result.index.verdict is Verdict.PASS
    assert result.verdict is Verdict.INCOMPLETE
    open_ = [one for one in result.coverage if one.required and one.state.value != "checked"]
    assert [one.item for one in open_] == ["exceptions of the maker's policy"]
    assert "without them the verdict is fail" in open_[0].detail
    agreed = case.verify(raw, policy=loaded(lax))
    assert agreed.verdict is Verdict.PASS
    assert render.as_text(agreed).startswith("PASS evidence about m, 1 exception by policy\n")
    # An exception that nothing needs takes nothing from a pass.
    assert case.verify(case.bundle(policy=lax)).verdict is Verdict.PASS


def test_a_manifest_file_that_the_verifier_names(case: Case, raw: bytes, tmp_path: Path) -> None:
    """That it has the same name says nothing: whoever made the bundle chose the name."""
    names = loaded(policy(tmp_path, 'manifest = "m.toml"\n'))
    theirs = tmp_path / "m.toml"
    theirs.write_bytes((case.folder / "m.toml").read_bytes())
    assert case.verify(raw, policy=names).verdict is Verdict.PASS
    theirs.write_bytes(theirs.read_bytes() + b"# another\n")
    result = case.verify(raw, policy=names)
    assert result.verdict is Verdict.FAIL
    assert "policy-manifest" in rules(result)
    theirs.unlink()
    assert "policy-manifest" in rules(case.verify(raw, policy=names))


def test_a_policy_or_manifest_that_is_another_part(case: Case, raw: bytes) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"policy": "trust/hub/key.json"},
        {"manifest": "report/report.json"},
    )
    for change in changes:
        with pytest.raises(EvidenceError, match="not among its parts of the kind"):
            case.verify(resigned(case, raw, **change))


# ------------------------------------------------------------------ the model at hand


def test_files_without_a_digest_are_compared_by_size_and_said(case: Case, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(case.model, copy)
    (copy / "RUNBOOK.md").write_text("x" * 5000)
    lax = policy(tmp_path, ALLOW)
    raw = replace_model(case, copy).bundle(policy=lax)
    result = case.verify(raw, policy=loaded(lax), model=LocalStore(copy))
    assert result.verdict is Verdict.PASS
    rows = [one.detail for one in result.coverage if one.item == "model at hand"]
    assert rows[1] == "1 file by name and size only: the bundle has no digest"
    (copy / "RUNBOOK.md").write_text("x" * 5001)
    result = case.verify(raw, policy=loaded(lax), model=LocalStore(copy))
    assert ("evidence-model", "RUNBOOK.md") in {(o.rule.name, o.subject) for o in result.findings}


def test_a_model_at_hand_that_cannot_be_read_whole(case: Case, raw: bytes) -> None:
    class Broken(LocalStore):
        def open(self, path: str) -> Any:
            from r1prov.errors import Unreadable

            if path.endswith(".safetensors"):
                raise Unreadable("input/output error", subject=path)
            return super().open(path)

    result = case.verify(raw, model=Broken(case.model))
    assert result.verdict is Verdict.INCOMPLETE
    open_ = [one.item for one in result.coverage if one.required and one.state.value != "checked"]
    assert open_[0] == "model at hand"
    assert all(one.startswith("model at hand: ") for one in open_[1:])
    assert len(open_) >= 2


def test_what_is_not_there_cannot_be_compared(case: Case) -> None:
    raw = case.bundle(kinds=DEFAULT - {Kind.MODEL})
    result = case.verify(raw, model=LocalStore(case.model))
    assert result.verdict is Verdict.INCOMPLETE
    assert any("no listing" in one.detail for one in result.coverage)


def test_an_index_of_another_verdict(case: Case, raw: bytes) -> None:
    for verdict in (Verdict.FAIL, Verdict.INCOMPLETE):
        result = case.verify(resigned(case, raw, verdict=verdict))
        assert result.verdict is Verdict.FAIL
        assert rules(result) == {"evidence-verdict"}
    index = replace(case.draft().index, verdict=Verdict.PASS)
    assert index.verdict is Verdict.PASS
