"""Each criterion E of Annex A is breached by a bundle that has nothing else wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from contract_kit import criteria
from evidence_case import Case, call, case, raw, rezip
from tsa_server import Tsa, serving, stamping

from r1prov.cli.app import run
from r1prov.evidence.archive import read_archive
from r1prov.evidence.bag import DATA, INDEX, SIGNATURE, TAG_FILES, tag_files
from r1prov.evidence.create import assemble
from r1prov.evidence.index import parse_index, parts_of
from r1prov.evidence.statement import sign_index
from r1prov.verify.findings import Verdict

__all__ = ["case", "raw"]

CREATE = ("evidence", "create", "model", "-m", "m.toml", "--keys", "keys", "--key", "maker.key")


@dataclass
class Bundles:
    """A bundle that passes, a timestamped one, and ways to spoil them."""

    case: Case
    raw: bytes
    stamped: bytes
    url: str

    @property
    def members(self) -> dict[str, bytes]:
        return read_archive(self.raw, subject="b")

    def forged(self, changes: dict[str, bytes | None]) -> bytes:
        """With other members, by somebody who knows BagIt and has no key."""
        members = self.members | changes
        kept = {n: d for n, d in members.items() if d is not None and n not in TAG_FILES}
        day = parse_index(self.members[INDEX], subject="b").day
        return rezip(kept | tag_files(kept, day=day))

    def resigned(self, **changes: Any) -> bytes:
        """By the maker's own key, of an index that says something else."""
        members = self.members
        payload = {n.removeprefix(DATA): d for n, d in members.items() if n.startswith(DATA)}
        index = parse_index(members[INDEX], subject="b")
        kinds = {one.path: one.kind for one in index.parts}
        parts = parts_of({path: (kinds[path], data) for path, data in payload.items()})
        index = replace(index, parts=parts, **changes)
        return assemble(index, payload, sign_index(self.case.maker, index, index.to_json()))


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root")
    return Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))


@pytest.fixture(scope="module")
def bundles(
    case: Case, raw: bytes, tsa: Tsa, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bundles]:
    Path("tsa.pem").write_bytes(tsa.root.pem)
    shutil.copytree("keys", "pinned")
    add = ("key", "add", "tsa.pem", "--timestamp-authority", "--owner", "time")
    call(*add, "--keys", "pinned")
    with serving(tsa) as (address, _):
        url = f"{address}/tsr"
        create = [*CREATE, "--timestamp-url", url, "-o", "stamped.zip", "-q"]
        assert run(create) == 3  # the maker's own store does not know the authority
        yield Bundles(case, raw, Path("stamped.zip").read_bytes(), url)


@pytest.fixture
def verify(
    bundles: Bundles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, set[str], set[str]]]:
    """Exit status of `evidence verify`, errors, and warnings."""

    def run_it(bundle: bytes, *more: str, keys: str = "pinned") -> tuple[int, set[str], set[str]]:
        path = tmp_path / "b.zip"
        path.write_bytes(bundle)
        arguments = ["evidence", "verify", str(path), "--keys", keys, *more, "--format", "json"]
        capsys.readouterr()
        status = run([*arguments, "-o", str(tmp_path / "result.json"), "-q"])
        found = json.loads((tmp_path / "result.json").read_text())["findings"]
        by = {s: {f["rule"] for f in found if f["severity"] == s} for s in ("error", "warning")}
        return status, by["error"], by["warning"]

    return run_it


def report_says_fail(one: Bundles) -> dict[str, bytes | None]:
    name = f"{DATA}report/report.json"
    report = json.loads(one.members[name]) | {"verdict": "fail"}
    return {name: json.dumps(report).encode()}


# Criterion and rule, to a bundle.
BREACHES: dict[tuple[str, str], Callable[[Bundles], bytes]] = {
    ("E-1", "R1P980"): lambda one: one.forged(report_says_fail(one)),
    ("E-1", "R1P981"): lambda one: one.forged({f"{DATA}report/report.json": None}),
    ("E-1", "R1P982"): lambda one: one.forged({f"{DATA}more.json": b"{}"}),
    ("E-2", "R1P983"): lambda one: one.forged(
        {SIGNATURE: read_archive(one.stamped, subject="b")[SIGNATURE]}
    ),
    ("E-3", "R1P984"): lambda one: one.resigned(verdict=Verdict.FAIL),
    ("E-6", "R1P986"): lambda one: one.resigned(
        created=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    ),
}
# Those that take more than one bundle, and the test that makes them.
ELSEWHERE = {
    ("E-4", "R1P985"): "test_the_model_at_hand",
    ("E-5", "R1P322"): "test_time",
    ("E-7", "R1P990"): "test_chains",
    ("E-7", "R1P991"): "test_chains",
    ("E-8", "R1P323"): "test_time",
}


def test_every_criterion_of_evidence_can_be_breached() -> None:
    named = {(one.number, rule) for one in criteria() if one.number[0] == "E" for rule in one.rules}
    assert set(BREACHES) | set(ELSEWHERE) == named
    assert set(ELSEWHERE.values()) <= set(globals())


def test_a_bundle_as_agreed_is_accepted(bundles: Bundles, verify: Callable[..., Any]) -> None:
    assert verify(bundles.raw) == (0, set(), set())
    assert verify(bundles.stamped) == (0, set(), set())


@pytest.mark.parametrize(("number", "rule"), BREACHES, ids=list(map("-".join, BREACHES)))
def test_a_breach_is_named(
    bundles: Bundles, verify: Callable[..., Any], number: str, rule: str
) -> None:
    status, errors, _ = verify(BREACHES[number, rule](bundles))
    (row,) = (one for one in criteria() if one.number == number)
    assert (status, errors) == (row.status, {rule})


def test_who_may_sign_for_the_model(bundles: Bundles, verify: Callable[..., Any]) -> None:
    """E-2: a good signature by a key that is pinned for another model."""
    shutil.copytree("pinned", "narrow", dirs_exist_ok=True)
    path = Path("narrow/trust.toml")
    entries = path.read_text().split("[[keys]]")
    entries = [
        one.replace('["m*"]', '["other"]') if 'owner = "maker"' in one else one for one in entries
    ]
    path.write_text("[[keys]]".join(entries))
    assert verify(bundles.raw, keys="narrow") == (1, {"R1P983"}, set())


def test_the_model_at_hand(bundles: Bundles, verify: Callable[..., Any], tmp_path: Path) -> None:
    """E-4: it was changed after it was accepted, which breaches a criterion of weights as well."""
    copy = tmp_path / "copy"
    shutil.copytree(bundles.case.model, copy)
    assert verify(bundles.raw, "--model", str(copy))[0] == 0
    (copy / "tokenizer_config.json").write_text("[]")
    assert verify(bundles.raw, "--model", str(copy)) == (1, {"R1P985", "R1P004"}, set())


def test_time(
    bundles: Bundles, verify: Callable[..., Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """E-5, E-8: a timestamp of another signature; none; one of an authority nobody pinned."""
    capsys.readouterr()
    for bundle, said in ((bundles.stamped, "signed before 20"), (bundles.raw, "no time")):
        (tmp_path / "t.zip").write_bytes(bundle)
        assert run(["evidence", "verify", str(tmp_path / "t.zip"), "--keys", "pinned"]) == 0
        assert f"proven     {said}" in capsys.readouterr().out
    foreign = json.loads(bundles.members[SIGNATURE])
    stamped = json.loads(read_archive(bundles.stamped, subject="b")[SIGNATURE])
    foreign["verificationMaterial"] = stamped["verificationMaterial"]
    forged = json.dumps(foreign, separators=(",", ":")).encode() + b"\n"
    status, errors, _ = verify(bundles.forged({SIGNATURE: forged}))
    assert (status, errors) == (1, {"R1P322"})
    assert verify(bundles.stamped, keys="keys") == (3, set(), {"R1P323"})


def test_chains(bundles: Bundles, tmp_path: Path) -> None:
    """E-7: one is missing between two, and two continue the same."""
    folder = tmp_path / "bundles"
    folder.mkdir()

    def log() -> tuple[int, set[str]]:
        arguments = ["evidence", "log", str(folder), "--keys", "pinned", "--format", "json"]
        status = run([*arguments, "-o", str(tmp_path / "log.json"), "-q"])
        found = json.loads((tmp_path / "log.json").read_text())["findings"]
        return status, {one["rule"] for one in found}

    before: list[str] = []
    for name in ("1.zip", "2.zip", "3.zip"):
        assert run([*CREATE, *before, "-o", str(folder / name), "-q"]) == 0
        before = ["--previous", str(folder / name)]
    assert log() == (0, set())
    (folder / "2.zip").rename(tmp_path / "2.zip")
    status, found = log()
    assert status == 1
    assert "R1P990" in found
    (tmp_path / "2.zip").rename(folder / "2.zip")
    again = ["--previous", str(folder / "2.zip"), "-o", str(folder / "4.zip"), "-q"]
    assert run([*CREATE, *again]) == 0
    assert log() == (1, {"R1P991"})
