"""Audits of endpoints in bundles: made again offline, and held against what their maker says."""

from __future__ import annotations

import html
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_case import (
    API_KEY,
    FOLDER,
    Audits,
    Liar,
    Q,
    audited,
    digest,
    endpoint,
    plan_with,
    rechained,
    told,
)
from document_case import BOTH, ZH, dossier, english
from evidence_case import Case, rezip, rules
from personas import Tokenizers

from r1prov.endpoints.acceptance import EndpointCriteria, parse_endpoint_criteria
from r1prov.endpoints.audit_files import AuditFiles, hold_to_report, load_audit
from r1prov.endpoints.rerun import differences
from r1prov.errors import R1ProvError, UsageError
from r1prov.evidence.archive import read_archive
from r1prov.evidence.bag import DATA
from r1prov.evidence.parts import DEFAULT, Kind
from r1prov.render.evidence_document import as_html
from r1prov.render.sentences_zh import in_chinese
from r1prov.verify.findings import CoverageState, Verdict


def items(result: Any) -> dict[str, Any]:
    return {one.item: one for one in result.coverage}


def test_an_audit_is_made_again_from_its_members(made: Audits, liar: Liar) -> None:
    result = made.case.verify(liar.raw)
    assert result.verdict is Verdict.PASS, result.findings
    ((path, report),) = result.audits
    assert path == FOLDER
    assert report.verdict.value == "consistent"
    assert {"tokenizer", "completions", "questions"} <= {one.name for one in report.results}
    assert report.requests == liar.members()[f"{FOLDER}/exchanges.jsonl"].count(b'"POST"')
    assert report.finished_at > report.started_at
    covered = items(result)
    assert covered[FOLDER].state is CoverageState.CHECKED
    assert "tests: " in covered[FOLDER].detail
    assert "good signature" in covered[f"reference of {FOLDER}"].detail or (
        "references" in covered[f"reference of {FOLDER}"].detail
    )
    # Nobody but the maker saw the answers, and that is said.
    assert covered["answers of endpoints"].state is CoverageState.SKIPPED
    assert API_KEY.encode() not in liar.raw


def test_the_same_audit_gives_the_same_bytes(made: Audits, liar: Liar) -> None:
    name = f"{FOLDER}/report.json"
    assert Liar(made.case, made.bundle(made.honest)).members()[name] == liar.members()[name]


def test_an_endpoint_that_lies_fails_the_bundle(made: Audits, caught: Liar) -> None:
    result = made.case.verify(caught.raw)
    assert result.verdict is Verdict.FAIL
    assert {"audit-inconsistent", "tokenizer-contradiction"} <= rules(result)
    assert result.report is not None
    assert result.report.verdict is Verdict.PASS  # the model itself is good
    # Beside a good one, too.
    both = made.case.verify(made.bundle(made.honest, made.distill))
    assert [one.verdict.value for _, one in both.audits] == ["consistent", "inconsistent"]
    assert "endpoint/01" in told(both, "audit-inconsistent")


def test_one_that_tells_nothing_leaves_it_open_unless_nobody_asked(made: Audits) -> None:
    raw = made.bundle(made.undecided)
    result = made.case.verify(raw)
    assert result.verdict is Verdict.INCOMPLETE
    assert items(result)[FOLDER].state is CoverageState.UNREAD
    relaxed = made.case.verify(raw, endpoint=EndpointCriteria(required=False))
    assert relaxed.verdict is Verdict.PASS
    strict = parse_endpoint_criteria(
        b'schema = "r1prov/policy/1"\n[endpoint]\nverdict = "consistent"', subject="p.toml"
    )
    assert "endpoint-verdict" in rules(made.case.verify(raw, endpoint=strict))


def test_any_byte_of_a_member_by_someone_without_the_key(made: Audits, liar: Liar) -> None:
    members = read_archive(liar.raw, subject="b")
    mine = [name for name in members if name.startswith(f"{DATA}endpoint/")]
    assert len(mine) == 7
    for name in mine:
        data = bytearray(members[name])
        data[len(data) // 2] ^= 1
        result = made.case.verify(rezip(members | {name: bytes(data)}))
        assert result.verdict is Verdict.FAIL
        assert name.partition("/")[2] in told(result, "evidence-member")
        assert result.audits == ()


def reports_of(liar: Liar) -> Any:
    return json.loads(liar.members()[f"{FOLDER}/report.json"])


def as_member(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_a_report_that_says_otherwise(made: Audits, caught: Liar, liar: Liar) -> None:
    """The maker signs `consistent` over the answers of a distill, and then smaller lies."""
    lie = reports_of(caught) | {"verdict": "consistent", "exit_status": 0}
    result = made.case.verify(caught.saying(report_json=as_member(lie)))
    assert {"audit-report", "audit-inconsistent"} <= rules(result)
    assert "verdict: " in told(result, "audit-report")
    for raw in (b"{", b"[]", None):
        result = made.case.verify(liar.saying(report_json=raw))
        assert result.verdict is Verdict.FAIL
        assert f"{FOLDER}/report.json" in told(result, "audit-report")


def test_every_figure_of_a_report_counts(made: Audits, liar: Liar) -> None:
    again = made.case.verify(liar.raw).audits[0][1]
    value = reports_of(liar)
    assert differences(value, again) == []
    changes: list[dict[str, Any]] = [
        {"alpha": 1e-9},
        {"requests": 1},
        {"seed": 7},
        {"headline": "nothing speaks against DeepSeek-R1"},
        {"not_run": [{"name": "x", "why": "y"}]},
        {"results": []},
        {"results": 7},
        {"extra": 1},
        {"log": {"file": "exchanges.jsonl", "head": "0:" + "0" * 64}},
        {"findings": [{"name": "audit-stopped"}]},
        {"plots": {}},
        {"sides": [{"role": "endpoint", "name": "https://api.example", "model": "x"}]},
    ]
    for change in changes:
        found = differences(value | change, again)
        assert found, change
        assert all(one.startswith(next(iter(change))) for one in found)
    others: list[Any] = [None, 7, [], "x", {}]
    for other in others:
        assert differences(other, again)
    # Who signed a reference is judged by whoever looks, and the version is told apart.
    signed = [one | {"detail": "somebody else"} for one in value["sides"]]
    more = [{"name": "reference-unsigned"}]
    same = {"sides": signed, "findings": more, "r1prov": "9"}
    assert differences(value | same, again) == []


def test_samples_and_figures_of_a_test_that_were_made_better(made: Audits, liar: Liar) -> None:
    value = reports_of(liar)
    questions = next(one for one in value["results"] if one["name"] == "questions")
    questions["statistics"]["accuracy"] = 0.999
    result = made.case.verify(liar.saying(report_json=as_member(value)))
    assert "results[questions].statistics.accuracy" in told(result, "audit-report")


def test_a_log_that_was_changed_or_cut(made: Audits, liar: Liar) -> None:
    log = liar.members()[f"{FOLDER}/exchanges.jsonl"]
    lines = log.splitlines(keepends=True)
    # Without mending the chain: where it breaks is said.
    middle = lines[5]
    for broken in (
        log.replace(middle, b""),
        log.replace(middle, middle.replace(b'"status":200', b'"status":201')),
        log.replace(lines[5] + lines[6], lines[6] + lines[5]),
        log[:-1],
        b"".join(lines[1:]),
        b"",
        b"\x00",
    ):
        result = made.case.verify(liar.saying(exchanges_jsonl=broken))
        assert result.verdict is Verdict.FAIL
        assert f"{FOLDER}/exchanges.jsonl" in told(result, "audit-log")
        assert result.audits == ()
    # Cut short at the end the chain holds: the audit comes to less than the report says.
    for less in (1, len(lines) // 2, len(lines) - 1):
        result = made.case.verify(liar.saying(exchanges_jsonl=b"".join(lines[:-less])))
        assert result.verdict is Verdict.FAIL
        assert "log.head" in told(result, "audit-report")


def test_a_log_and_a_report_that_were_cut_together(made: Audits, caught: Liar) -> None:
    """What contradicted is taken out, and all else made to fit: it is no `consistent` audit."""
    lines = caught.members()[f"{FOLDER}/exchanges.jsonl"].splitlines(keepends=True)
    less = AuditFiles(plan=made.distill.plan, log=rechained(lines[:4]))
    result = made.case.verify(made.bundle(less))
    assert result.verdict is Verdict.INCOMPLETE
    assert "the log shows no request" in told(result, "audit-stopped")


def test_answers_that_were_exchanged(made: Audits, liar: Liar) -> None:
    """The answer of another endpoint in the place of this one's, the chain mended."""
    lines = liar.members()[f"{FOLDER}/exchanges.jsonl"].splitlines(keepends=True)
    one, other = json.loads(lines[2]), json.loads(lines[3])
    one["exchange"]["response"], other["exchange"]["response"] = (
        other["exchange"]["response"],
        one["exchange"]["response"],
    )
    forged = rechained(
        [*lines[:2], json.dumps(one).encode(), json.dumps(other).encode(), *lines[4:]]
    )
    result = made.case.verify(liar.saying(exchanges_jsonl=forged))
    assert result.verdict is Verdict.FAIL
    assert "log.head" in told(result, "audit-report")


def test_requests_to_another_address(made: Audits, liar: Liar) -> None:
    log = liar.members()[f"{FOLDER}/exchanges.jsonl"]
    plan = liar.members()[f"{FOLDER}/plan.json"]
    url = json.loads(plan)["url"]
    other = "https://api.example/v1/chat/completions"
    result = made.case.verify(liar.saying(plan_json=plan_with(plan, url=other)))
    assert other in told(result, "audit-log")
    assert url in told(result, "audit-log")
    assert url.encode() in log


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": False},
        {"questions": None},
        {"reference": None, "streams": 2, "run_all": True},
    ],
)
def test_a_plan_that_leaves_out_what_was_asked(made: Audits, change: dict[str, Any]) -> None:
    """With the report made to fit: the answers that nobody asks for any more give it away."""
    files = made.honest
    smaller = AuditFiles(
        plan=plan_with(files.plan, **change),
        log=files.log,
        times=files.times,
        reference=files.reference if "reference" not in change else None,
        signatures=files.signatures if "reference" not in change else {},
        questions=files.questions if "questions" not in change else None,
    )
    result = made.case.verify(made.bundle(smaller))
    assert result.verdict is Verdict.FAIL
    assert f"{FOLDER}/exchanges.jsonl" in told(result, "audit-unused")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "r1prov/endpoint-plan/2"},
        {"url": "ftp://x"},
        {"url": "https://u:p@api.example/v1/chat/completions"},
        {"streams": 25},
        {"streams": True},
        {"samples": 10**9},
        {"logprob_samples": 10**8},
        {"looks": 0},
        {"alpha": 0.0},
        {"alpha": "x"},
        {"kernel": "mine"},
        {"seed": -1},
        {"reference": {"file": "../x", "sha256": "0" * 64}},
        {"questions": {"file": "q.jsonl", "sha256": "x"}},
        {"libraries": {"numpy": 1}},
        {"tokenizer": "x"},
        {"unknown": 1},
    ],
)
def test_a_plan_that_no_audit_has(made: Audits, liar: Liar, change: dict[str, Any]) -> None:
    plan = plan_with(liar.members()[f"{FOLDER}/plan.json"], **change)
    result = made.case.verify(liar.saying(plan_json=plan))
    assert result.verdict is Verdict.FAIL
    assert FOLDER in told(result, "audit-plan")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"samples": 1_001}, "1,001 completions a prompt"),
        ({"logprob_samples": 51}, "51 answers with log-probabilities"),
    ],
)
def test_a_plan_that_would_take_too_much(
    made: Audits, liar: Liar, change: dict[str, Any], what: str
) -> None:
    plan = plan_with(liar.members()[f"{FOLDER}/plan.json"], **change)
    result = made.case.verify(liar.saying(plan_json=plan))
    assert what in told(result, "audit-plan")


def test_a_plan_file_that_is_written_otherwise(made: Audits, liar: Liar) -> None:
    plan = liar.members()[f"{FOLDER}/plan.json"]
    for raw in (b"{}", plan + b"\n", plan.replace(b'"seed": 0', b'"seed":  0'), b"\xff"):
        result = made.case.verify(liar.saying(plan_json=raw))
        assert f"{FOLDER}/plan.json" in told(result, "audit-plan")


def test_a_reference_that_was_swapped(made: Audits, liar: Liar, tmp_path: Path) -> None:
    members = liar.members()
    reference = members[f"{FOLDER}/reference.json"]
    other = reference.replace(b'"model":"DeepSeek-R1"', b'"model":"DeepSeek-R1" ')
    assert other != reference
    result = made.case.verify(liar.saying(reference_json=other))
    assert f"{FOLDER}/reference.json" in told(result, "audit-plan")
    # With its digest in the plan it is still not what the key signed.
    named = json.loads(members[f"{FOLDER}/plan.json"])["reference"]
    plan = plan_with(members[f"{FOLDER}/plan.json"], reference=named | {"sha256": digest(other)})
    result = made.case.verify(liar.saying(reference_json=other, plan_json=plan))
    assert result.verdict is Verdict.FAIL
    assert f"{FOLDER}/reference.json" in told(result, "audit-plan")
    # Without any signature it is what the maker chose, and the audit tells nothing.
    signature = f"{FOLDER}/reference.json.00.sigstore.json"
    bare = liar.with_members(
        {
            f"{FOLDER}/reference.json": other,
            f"{FOLDER}/plan.json": plan,
            signature: None,
        }
    )
    result = made.case.verify(bare)
    assert items(result)[f"reference of {FOLDER}"].state is CoverageState.UNREAD
    assert result.verdict is Verdict.INCOMPLETE, result.findings
    broken = made.case.verify(liar.with_members({signature: b"{}"}))
    assert FOLDER in told(broken, "audit-plan")


def test_a_reference_is_judged_by_the_keys_of_who_looks(
    made: Audits, liar: Liar, tmp_path: Path
) -> None:
    """The maker trusts its signer, the verifier does not."""
    pinned = tmp_path / "pinned"
    shutil.copytree(made.case.keys, pinned)
    text = (pinned / "trust.toml").read_text().split("[[keys]]")
    kept = [one for one in text if 'owner = "references"' not in one]
    assert len(kept) == len(text) - 1
    (pinned / "trust.toml").write_text("[[keys]]".join(kept))
    result = made.case.verify(liar.raw, keys=pinned)
    assert result.verdict is Verdict.INCOMPLETE
    assert "reference-unsigned" in rules(result)
    assert "audit-report" not in rules(result)  # who is trusted is no lie of the maker's


def test_questions_that_were_swapped(made: Audits, liar: Liar) -> None:
    other = Q.replace('"expected": "."', '"expected": "zzz"').encode()
    result = made.case.verify(liar.saying(questions_jsonl=other))
    assert f"{FOLDER}/questions" in told(result, "audit-plan")
    named = {"file": "q.jsonl", "sha256": digest(other)}
    plan = plan_with(liar.members()[f"{FOLDER}/plan.json"], questions=named)
    result = made.case.verify(liar.saying(questions_jsonl=other, plan_json=plan))
    assert "another file of questions" in told(result, "audit-plan")  # than the reference
    both = liar.saying(questions_csv=b"prompt,expected\na,b\n")
    assert "two files of questions" in told(made.case.verify(both), "audit-plan")


def test_arrival_times_and_members_of_no_audit(made: Audits, liar: Liar) -> None:
    result = made.case.verify(liar.saying(arrivals_jsonl=None))
    assert "times" in told(result, "audit-report")
    for lacking in ("plan_json", "exchanges_jsonl"):
        result = made.case.verify(liar.saying(**{lacking: None}))
        assert lacking.replace("_", ".") in told(result, "audit-plan")
        assert result.verdict is Verdict.FAIL
    for name in ("endpoint/x.json", "endpoint/00/other.json", "endpoint/1/plan.json"):
        result = made.case.verify(liar.with_members({name: b"{}"}))
        assert name in told(result, "audit-plan")


def test_an_audit_of_another_model(
    made: Audits, tokenizers: Tokenizers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", API_KEY)
    with endpoint(tokenizers, "v3.1") as server:
        files = audited(server.url, "v3.jsonl", "--claim", "DeepSeek-V3.1")
    result = made.case.verify(made.bundle(files))
    assert result.verdict is Verdict.FAIL
    assert "DeepSeek-V3.1" in told(result, "audit-claim")


def test_when_it_was_made(made: Audits, liar: Liar) -> None:
    index = made.case.verify(liar.raw).index
    # The audit may have ended a moment before the bundle was made, or after.
    later = liar.with_members({}, created=index.created + timedelta(days=40, hours=1))
    result = made.case.verify(later)
    assert "40 days" in told(result, "audit-old")
    # A clock cannot be that far ahead, so the bundle fails for that; the audit by itself does not.
    assert all(
        one.severity.value == "warning" for one in result.findings if "audit" in one.rule.name
    )
    before = liar.with_members({}, created=index.created - timedelta(days=1))
    assert FOLDER in told(made.case.verify(before), "audit-time")
    # The last moment that a bundle can name, and the first.
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert FOLDER in told(made.case.verify(liar.with_members({}, created=last)), "audit-old")
    first = datetime(1, 1, 1, tzinfo=UTC)
    assert FOLDER in told(made.case.verify(liar.with_members({}, created=first)), "audit-time")


def test_what_it_takes_is_named_where_it_is_not_at_hand(
    made: Audits, liar: Liar, tokenizers: Tokenizers, tokenizer_packages: Path, tmp_path: Path
) -> None:
    """A distill under its own name: its tokenizer is in no package."""
    name = "DeepSeek-R1-Distill-Qwen-7B"
    folder = tmp_path / "distill"
    folder.mkdir()
    (tmp_path / "tokenizer.json").write_bytes(tokenizers["deepseek-r1-distill-qwen-7b"].raw)
    with pytest.MonkeyPatch.context() as patch, endpoint(tokenizers, "distill-qwen") as server:
        patch.chdir(folder)
        patch.setenv("R1PROV_API_KEY", API_KEY)
        patch.setenv("XDG_CONFIG_HOME", str(folder))
        case = Case(folder, name)
        files = audited(
            *(server.url, "d.jsonl", "--claim", name, "--tokenizer", str(tmp_path)),
            status=0,
        )
        with pytest.raises(R1ProvError, match="--tokenizer"):
            case.draft(endpoints=lambda: (files,))
        draft = case.draft(endpoints=lambda: (files,), tokenizer=tmp_path)
        raw = draft.archive(draft.signature(case.maker))
        result = case.verify(raw)
        assert result.verdict is Verdict.INCOMPLETE
        assert "not made again" in items(result)[FOLDER].detail
        assert result.audits == ()
        assert case.verify(raw, tokenizer=tmp_path).verdict is Verdict.PASS
        kinds = DEFAULT | {Kind.FILES}
        draft = case.draft(endpoints=lambda: (files,), tokenizer=tmp_path, kinds=kinds)
        whole = Liar(case, draft.archive(draft.signature(case.maker)))
        assert case.verify(whole.raw).verdict is Verdict.PASS
        # Another tokenizer in its place is not that of the model, whoever signed the bundle.
        other = tokenizers["deepseek-r1"].raw
        swapped = whole.with_members({f"{FOLDER}/tokenizer.json": other})
        assert case.verify(swapped).verdict is Verdict.INCOMPLETE
    plan = liar.members()[f"{FOLDER}/plan.json"]
    libraries = json.loads(plan)["libraries"] | {"abacus": "1"}
    result = made.case.verify(liar.saying(plan_json=plan_with(plan, libraries=libraries)))
    assert result.verdict is Verdict.INCOMPLETE
    assert "abacus" in items(result)[FOLDER].detail
    # A plan that names another file than the model's: the right one is not taken for it.
    result = made.case.verify(liar.saying(plan_json=plan_with(plan, tokenizer="0" * 64)))
    assert result.verdict is Verdict.INCOMPLETE
    assert "0" * 64 in items(result)[FOLDER].detail


def test_figures_of_other_versions_are_told_and_verdicts_are_not_let_pass(
    made: Audits, liar: Liar
) -> None:
    plan = plan_with(liar.members()[f"{FOLDER}/plan.json"], r1prov="9.9.9")
    value = reports_of(liar)
    times = next(one for one in value["results"] if one["name"] == "times")
    times["statistics"]["total_q50"] = 1234.5
    result = made.case.verify(liar.saying(plan_json=plan, report_json=as_member(value)))
    assert result.verdict is Verdict.PASS
    assert "total_q50" in items(result)[f"figures of {FOLDER}"].detail
    value["verdict"] = "inconsistent"
    result = made.case.verify(liar.saying(plan_json=plan, report_json=as_member(value)))
    assert "verdict" in told(result, "audit-report")
    assert any("9.9.9" in (one.hint or "") for one in result.findings)


def test_a_report_belongs_to_the_log_that_it_names(made: Audits, tmp_path: Path) -> None:
    for files, name in ((made.honest, "honest"), (made.distill, "distill")):
        lines = files.log.splitlines(keepends=True)
        head = json.loads(lines[-1])
        report = json.dumps({"log": {"head": f"{head['n']}:{head['digest']}"}}).encode()
        hold_to_report(report, [made.honest, made.distill], subject=name)
        shorter = AuditFiles(plan=files.plan, log=b"".join(lines[:-1]))
        with pytest.raises(UsageError, match="none of these logs"):
            hold_to_report(report, [shorter], subject=name)


def test_files_that_an_audit_used_are_looked_for(made: Audits, tmp_path: Path) -> None:
    folder = made.case.folder
    for name in ("honest.jsonl", "honest.jsonl.plan", "honest.jsonl.times"):
        shutil.copy(folder / name, tmp_path)
    log = tmp_path / "honest.jsonl"
    with pytest.raises(UsageError, match="not beside it"):
        load_audit(log)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match="SHA-256 is another"):
        load_audit(log, reference=tmp_path / "other.json", questions=folder / "q.jsonl")
    found = load_audit(log, reference=folder / "r1.json", questions=folder / "q.jsonl")
    assert (found.reference, list(found.signatures)) == (
        made.honest.reference,
        list(made.honest.signatures),
    )
    (tmp_path / "honest.jsonl.plan").unlink()
    with pytest.raises(R1ProvError, match="no plan"):
        load_audit(log)


# ------------------------------------------------------------------ the document for people


@pytest.mark.parametrize("name", ["distill", "undecided"])
def test_the_document_shows_an_audit(made: Audits, name: str) -> None:
    raw = made.bundle(getattr(made, name))
    found = dossier(raw, made.case.keys)
    page = as_html(found, ZH)
    ((_, report),) = found.result.audits
    text = html.unescape(page)
    assert english(text) == []
    assert text.count("<figure>") == 3
    assert report.sides[0].name in text
    # The verdict stands first, and what the audit came to on the first page.
    first = text[text.index("<h1>") : text.index('<section class="h-findings">')]
    wanted = {"distill": ("不通过", "不一致"), "undecided": ("不完整", "无法检验")}[name]
    assert all(one in first for one in wanted)
    for test in report.results:
        assert f"<td>{in_chinese(test.name)}" in re.sub("<(?!td|/td)[^>]*>", "", text), test.name
    both = html.unescape(as_html(found, BOTH))
    for sentence in (report.headline, *report.cannot_tell, *report.benign):
        assert sentence in both, sentence
