"""What `evidence verify`, `show` and `log` print for programs, by the schemas of the package."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from document_case import audit, exchange
from evidence_case import Case, call, case, members_of, raw, rezip
from jsonschema import Draft202012Validator

from r1prov.cli.app import run
from r1prov.evidence.bag import DATA
from r1prov.render import evidence as render

__all__ = ["case", "raw"]


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((files("r1prov.render") / "schema" / f"{name}-1.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def asked(tmp_path: Path, *arguments: str) -> tuple[int, Any]:
    out = tmp_path / "out.json"
    status = run(["evidence", *arguments, "--format", "json", "-o", str(out)])
    return status, json.loads(out.read_text())


@pytest.fixture
def bundles(case: Case, raw: bytes, tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    (folder / "a.zip").write_bytes(raw)
    altered = members_of(raw) | {f"{DATA}report/report.json": b"{}"}
    (folder / "b.zip").write_bytes(rezip(altered))
    create = ("evidence", "create", str(case.model), "-m", "m.toml", "--keys", str(case.keys))
    more = ("--key", "maker.key", "--previous", str(folder / "a.zip"), "--exclude", "model", "-q")
    call(*create, *more, "-o", str(folder / "c.zip"), status=3)
    return folder


def test_each_output_is_of_its_schema(case: Case, bundles: Path, tmp_path: Path) -> None:
    keys = ("--keys", str(case.keys))
    for name, wanted in (("a", 0), ("b", 1), ("c", 3)):
        bundle = str(bundles / f"{name}.zip")
        status, value = asked(tmp_path, "verify", bundle, *keys)
        validator("evidence-result").validate(value)
        assert (status, value["exit_status"]) == (wanted, wanted)
        status, value = asked(tmp_path, "show", bundle)
        validator("evidence-bundle").validate(value)
        assert status == (name == "b")
    status, value = asked(tmp_path, "log", str(bundles), *keys)
    validator("evidence-log").validate(value)
    assert status == value["exit_status"] == 1
    assert value["bundles"][1]["changes"]


def test_audits_exchanges_and_several_signers(case: Case, raw: bytes) -> None:
    result = case.verify(raw)
    made = replace(
        result,
        audits=(("endpoint/00", audit()),),
        exchanges=(("exchanges/00000.json", exchange("x")),),
        countersignatures=(result.signature,),
    )
    value = json.loads(render.as_json(made))
    validator("evidence-result").validate(value)
    assert value["audits"]
    assert value["exchanges"]


def test_a_schema_is_closed(case: Case, raw: bytes) -> None:
    value = json.loads(render.as_json(case.verify(raw)))
    found = validator("evidence-result")
    for wrong in (
        value | {"more": 1},
        value | {"verdict": "fail"},
        {name: one for name, one in value.items() if name != "limits"},
        value | {"index": value["index"] | {"verdict": "maybe"}},
    ):
        assert not found.is_valid(wrong)
