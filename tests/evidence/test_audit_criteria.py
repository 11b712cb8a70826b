"""What a policy asks of audits: each criterion by the rule that it has, on real audits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from audit_case import FOLDER, R1, Audits, Liar, told
from evidence_case import rules

from r1prov.endpoints.acceptance import (
    TESTS,
    EndpointCriteria,
    JudgedAudit,
    judge_audits,
    parse_endpoint_criteria,
    read_endpoint_criteria,
)
from r1prov.errors import PolicyError
from r1prov.verify.findings import Verdict
from r1prov.verify.policy_file import parse_policy

HEAD = 'schema = "r1prov/policy/1"\n'
TABLE = HEAD + "[endpoint]\n"
FULL = """
required = true
urls = ["https://api.example/v1"]
claim = "DeepSeek-R1"
verdict = "consistent"
max_error_rate = 0.05
tests = ["tokenizer", "delta-boundaries", "completions", "questions"]
min_accuracy = 0.7
min_accuracy_low = 0.6
max_drop = 0
max_failed = 0
max_age_days = 30
reference_signers = ["e4639098ff98c999d4e8804172494d0aa70114ecb6fcbf3685550cb0a5d1c08f"]
reference_weights = true
[endpoint.min_samples]
completions = 480
questions = 100
"""


def parsed(text: str) -> EndpointCriteria:
    found = parse_endpoint_criteria((TABLE + text).encode(), subject="p.toml")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def audit(made: Audits, liar: Liar) -> JudgedAudit:
    """The honest endpoint, as its bundle has it."""
    ((name, report),) = made.case.verify(liar.raw).audits
    return JudgedAudit(
        name=name,
        url=report.sides[0].name,
        report=report,
        finished=report.finished_at,
        failed=0,
        signers=frozenset({made.signer}),
        reference_manifest="a" * 64,
    )


def test_a_table_with_everything() -> None:
    found = parsed(FULL)
    assert found.urls == ("https://api.example/v1/chat/completions",)
    assert found.max_age == timedelta(days=30)
    assert found.min_samples == {"completions": 480, "questions": 100}
    assert parse_policy((TABLE + FULL).encode(), subject="p").models == ()
    assert parse_endpoint_criteria(HEAD.encode(), subject="p") is None
    assert parsed("") == EndpointCriteria(location="p.toml")


def test_a_table_in_a_pyproject(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[tool.r1prov]\nschema = "r1prov/policy/1"\n[tool.r1prov.endpoint]\nmax_drop = 1\n'
    )
    found = read_endpoint_criteria(path)
    assert found is not None
    assert found.max_drop == 1.0
    path.write_text("[tool.other]\n")
    assert read_endpoint_criteria(path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requierd = true", "did you mean `required`"),
        ("max_eror_rate = 0.1", "did you mean `max_error_rate`"),
        ("required = 1", "must be true or false"),
        ("urls = []", "`urls` is empty"),
        ('urls = ["ftp://x"]', "not of the form"),
        ('urls = ["https://u:p@api.example"]', "user name or password"),
        ('claim = "a b"', "not of the form"),
        ('verdict = "inconsistent"', "not `consistent`"),
        ('verdict = "not-testable"', "not `consistent`"),
        ("max_error_rate = 2", "a number from 0 to 1"),
        ("max_error_rate = nan", "a number from 0 to 1"),
        ("max_error_rate = true", "a number from 0 to 1"),
        ('max_drop = "5 %"', "a number from 0 to 1"),
        ('tests = ["tokeniser"]', "did you mean `tokenizer`"),
        ("tests = []", "`tests` is empty"),
        ("min_samples = { completion = 4 }", "did you mean `completions`"),
        ("min_samples = { completions = -1 }", "outside 0"),
        ("min_samples = 7", "must be a table"),
        ("max_age_days = 0", "not from 1 to"),
        ("max_failed = 1.5", "must be an integer"),
        ('reference_signers = ["x"]', "not of the form"),
        ("reference_signers = []", "`reference_signers` is empty"),
    ],
)
def test_what_no_table_says(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parsed(text)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_a_policy_of_another_schema() -> None:
    with pytest.raises(PolicyError, match="schema is"):
        parse_endpoint_criteria(b'schema = "r1prov/policy/2"\n[endpoint]\n', subject="p")
    with pytest.raises(PolicyError, match="must be a table"):
        parse_endpoint_criteria((HEAD + "endpoint = 7").encode(), subject="p")
    with pytest.raises(PolicyError):
        parse_policy((HEAD + "endpoint = 7").encode(), subject="p")


# What the honest endpoint meets, what it does not, and by which rule.
CRITERIA: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"claim": "deepseek-r1"}, {"claim": "DeepSeek-V3"}, "endpoint-claim"),
    ({"max_error_rate": 0.02}, {"max_error_rate": 0.001}, "endpoint-error-rate"),
    ({"tests": ("tokenizer", "completions")}, {"tests": ("context",)}, "endpoint-tests"),
    ({"tests": ("questions",)}, {"tests": ("log-probabilities",)}, "endpoint-tests"),
    (
        {"min_samples": {"completions": 12}},
        {"min_samples": {"completions": 13}},
        "endpoint-samples",
    ),
    ({"min_samples": {"tokenizer": 1}}, {"min_samples": {"context": 1}}, "endpoint-samples"),
    ({"min_accuracy": 1.0}, {"min_accuracy_low": 0.9}, "endpoint-accuracy"),
    ({"min_accuracy_low": 0.7}, {"min_accuracy_low": 0.8}, "endpoint-accuracy"),
    ({"max_age": timedelta(days=2)}, {"max_age": timedelta(hours=1)}, "endpoint-age"),
    ({"reference_weights": False}, {"reference_weights": True}, "endpoint-reference"),
    ({"reference_signers": ()}, {"reference_signers": ("b" * 64,)}, "endpoint-reference"),
    ({"max_drop": 0.0}, {}, ""),
]


def judged(audit: JudgedAudit, at: datetime | None = None, **what: Any) -> set[str]:
    at = at or audit.report.finished_at + timedelta(days=1)
    criteria = EndpointCriteria(**what)
    return {one.rule.name for one in judge_audits(criteria, [audit], at=at, manifest="b" * 64)}


@pytest.mark.parametrize(("met", "missed", "rule"), CRITERIA)
def test_each_criterion_has_its_rule(
    audit: JudgedAudit, met: dict[str, Any], missed: dict[str, Any], rule: str
) -> None:
    assert judged(audit, **met) == set()
    assert judged(audit, **missed) == ({rule} if rule else set())


def test_criteria_about_what_was_not_measured(audit: JudgedAudit) -> None:
    questions = audit.result("questions")
    assert questions is not None
    rest = tuple(one for one in audit.report.results if one is not questions)
    none = replace(audit, report=replace(audit.report, results=rest, alpha=None))
    assert judged(none, min_accuracy=0.0) == {"endpoint-accuracy"}
    assert judged(none, max_drop=1.0) == {"endpoint-drop"}
    assert judged(none, max_error_rate=1.0) == {"endpoint-error-rate"}
    worse = replace(questions, statistics=dict(questions.statistics) | {"drop": 0.06})
    fell = replace(audit, report=replace(audit.report, results=(*rest, worse)))
    assert judged(fell, max_drop=0.05) == {"endpoint-drop"}
    assert judged(fell, max_drop=0.06) == set()
    # A question without an answer is one that was not answered right: 14 of 17.
    failed = replace(questions, statistics=dict(questions.statistics) | {"failed": 3.0})
    three = replace(audit, report=replace(audit.report, results=(*rest, failed)))
    assert judged(three, min_accuracy=0.82) == set()
    assert judged(three, min_accuracy=0.83) == {"endpoint-accuracy"}
    assert judged(replace(audit, failed=2), max_failed=1) == {"endpoint-failed"}
    assert judged(replace(audit, failed=2), max_failed=2) == set()
    assert judged(replace(audit, finished=None), max_age=timedelta(9)) == {"endpoint-age"}
    signed = replace(audit, reference_manifest="b" * 64)
    assert judged(signed, reference_weights=True) == set()
    assert judged(audit, reference_signers=tuple(audit.signers)) == set()


def test_addresses(audit: JudgedAudit) -> None:
    assert judged(audit, urls=(audit.url,)) == set()
    other = "https://api.example/v1/chat/completions"
    assert judged(audit, urls=(other,)) == {"endpoint-address"}
    assert judged(audit, urls=(other,), required=False) == set()
    # What is demanded of one address is not demanded of others.
    assert judged(audit, urls=(other,), tests=("context",)) == {"endpoint-address"}
    assert judged(audit, urls=(other, audit.url), tests=("context",)) == {
        "endpoint-address",
        "endpoint-tests",
    }
    none = judge_audits(EndpointCriteria(), [], at=datetime.now(UTC), manifest=None)
    assert [one.rule.name for one in none] == ["endpoint-required"]
    relaxed = EndpointCriteria(required=False, urls=(other,))
    assert not list(judge_audits(relaxed, [], at=datetime.now(UTC), manifest=None))


def test_the_verifiers_criteria_go_before_the_makers(made: Audits, liar: Liar) -> None:
    """A maker who tests little, and accepts that: whoever verifies asks for more."""
    raw = made.bundle(made.honest, policy=policy_file(made, "max_failed = 9\n"))
    result = made.case.verify(raw)
    assert result.verdict is Verdict.PASS, result.findings
    assert any("is met" in one.detail for one in result.coverage)
    strict = EndpointCriteria(min_samples={"completions": 480}, tests=("context",))
    result = made.case.verify(raw, endpoint=strict)
    assert result.verdict is Verdict.FAIL
    assert {"endpoint-samples", "endpoint-tests"} <= rules(result)
    assert "it was not part of the audit" in told(result, "endpoint-tests")
    assert FOLDER in told(result, "endpoint-samples")
    # The maker's own table is not passed over where the verifier brings none.
    raw = made.bundle(made.honest, policy=policy_file(made, 'tests = ["context"]\n'))
    assert "endpoint-tests" in rules(made.case.verify(raw))
    # A bundle without an audit, under a table that asks for one.
    assert "endpoint-required" in rules(made.case.verify(made.bundle(), endpoint=strict))


def policy_file(made: Audits, table: str) -> Path:
    path = made.case.folder / "policy.toml"
    path.write_text(f'{HEAD}[[models]]\nname = "{R1}"\n[endpoint]\n{table}')
    return path


def test_every_test_that_an_audit_makes_can_be_asked_for(made: Audits, liar: Liar) -> None:
    named = {one.name for one in made.case.verify(liar.raw).audits[0][1].results}
    assert {one for one in named if not one.startswith("tokenizer, ")} <= set(TESTS)
