"""The format as documented: read by others, and the same bytes wherever it is written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from evidence_case import Case, members_of, resigned, retagged
from signed import signed

from r1prov.evidence.bag import DATA, INDEX, SIGNATURE
from r1prov.evidence.environment import tool_digest
from r1prov.responses.exchange_file import exchange_to_json

HERE = Path(__file__).parent
INDEPENDENT = HERE / "support" / "independent.py"


def independently(bundle: Path, key: Path) -> subprocess.CompletedProcess[str]:
    """By a script that knows the documented format and no r1prov (`-I`: not even by path)."""
    return subprocess.run(
        [sys.executable, "-I", str(INDEPENDENT), str(bundle), str(key)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_documented_format_is_enough_to_verify_it(
    case: Case, raw: bytes, tmp_path: Path
) -> None:
    path, key = tmp_path / "b.zip", case.folder / "maker.key.pub"
    path.write_bytes(raw)
    done = independently(path, key)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"pass about m, {len(members_of(raw)) - 6} members\n"
    assert "r1prov" not in [
        line.split()[1].partition(".")[0]
        for line in INDEPENDENT.read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]
    members = members_of(raw)
    report = f"{DATA}report/report.json"
    for forged in (
        retagged(members | {report: b"{}"}),
        retagged({name: data for name, data in members.items() if name != report}),
        retagged(members | {f"{DATA}more": b""}),
        retagged(members | {INDEX: members_of(resigned(case, raw, version="9"))[INDEX]}),
        retagged(members | {SIGNATURE: members[SIGNATURE].replace(b"A", b"B", 1)}),
    ):
        path.write_bytes(forged)
        assert independently(path, key).returncode == 1
    path.write_bytes(raw)
    assert independently(path, case.folder / "k.key.pub").returncode == 1


MAKE = """
import datetime, hashlib, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from evidence_case import Case
import r1prov.responses.redaction as redaction
from r1prov.evidence.create import Wanted, draft_evidence
from r1prov.evidence.parts import DEFAULT, Kind

# The salts are random, so that nobody can guess them; for the comparison they are not.
redaction.os = type("Fixed", (), {"urandom": staticmethod(lambda size: b"s" * size)})
case = object.__new__(Case)
case.folder = Path(sys.argv[2])
now = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
exchanges = (case.folder / "x.json",)
for how in (
    {},
    {"kinds": DEFAULT | {Kind.FILES}, "policy": case.folder / "p.toml", "timestamped": True},
    {"exchanges": exchanges, "audits": (case.folder / "x.json", case.folder / "p.toml")},
    {"exchanges": exchanges, "digests_only": True},
):
    wanted = {"manifest": str(case.folder / "m.toml"), "keys": case.folder / "keys"} | how
    # The report has the times of its run in it, and is another each time.
    draft = draft_evidence(
        Wanted(model=str(case.folder / "model"), **wanted), lambda report: "{}", now=now
    )
    print(hashlib.sha256(draft.archive(draft.signature(case.maker))).hexdigest())
"""


def test_the_same_inputs_elsewhere(case: Case) -> None:
    """Other hash seeds, locale, time zone, umask, folder; the report has its times in it."""
    (case.folder / "x.json").write_bytes(exchange_to_json(signed()))
    (case.folder / "p.toml").write_text('schema = "r1prov/policy/1"\n[[models]]\nname = "m"\n')
    made = set()
    for seed, zone, locale, mask, folder in (
        ("0", "UTC", "C", 0o022, "/"),
        ("4711", "Asia/Shanghai", "C.UTF-8", 0o077, str(case.folder)),
    ):
        environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        done = subprocess.run(
            [sys.executable, "-c", MAKE, str(HERE / "support"), str(case.folder)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=folder,
            umask=mask,
        )
        assert done.returncode == 0, done.stderr
        made.add(done.stdout)
    assert len(made) == 1
    assert len(set(made.pop().split())) == 4


def test_the_digest_of_the_tool_is_that_of_its_files(case: Case, raw: bytes) -> None:
    """As a shell computes it over the installed package."""
    stated = json.loads(members_of(raw)[f"{DATA}environment/environment.json"])
    assert stated["tool_sha256"] == tool_digest()
    import r1prov

    command = "find . -name '*.py' | cut -c3- | LC_ALL=C sort | xargs sha256sum | sha256sum"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=Path(r1prov.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert stated["tool_sha256"] == done.stdout.split()[0]
    clock = datetime.fromisoformat(stated["clock"])
    assert abs((datetime.now(UTC) - clock).total_seconds()) < 600
    assert {"python", "implementation", "system", "machine", "libraries"} <= stated.keys()


def test_an_index_has_what_the_documentation_says(raw: bytes) -> None:
    documented = (HERE.parents[1] / "docs" / "evidence-format.md").read_text()
    index = json.loads(members_of(raw)[INDEX])
    assert [name for name in index if f"`{name}`" not in documented] == []
    assert [name for name in index["parts"][0] if f"`{name}`" not in documented] == []


def test_what_a_file_of_a_bundle_has_for_its_digest(raw: bytes) -> None:
    for one in json.loads(members_of(raw)[INDEX])["parts"]:
        assert hashlib.sha256(members_of(raw)[DATA + one["path"]]).hexdigest() == one["sha256"]
