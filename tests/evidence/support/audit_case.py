"""Audits of real endpoints, and bundles that makers made of them, honest and not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from evidence_case import NAMES, Case, call
from persona_server import KEY, PersonaServer, serve
from personas import PERSONAS, Tokenizers

from r1prov.cli.app import run
from r1prov.endpoints.audit_files import AuditFiles, load_audit
from r1prov.evidence.archive import read_archive
from r1prov.evidence.bag import DATA, INDEX
from r1prov.evidence.create import assemble
from r1prov.evidence.index import parse_index, parts_of
from r1prov.evidence.parts import Kind
from r1prov.evidence.statement import sign_index
from r1prov.responses.log_record import record_line
from r1prov.trust.keys import parse_private_key

R1 = "DeepSeek-R1"
# As small as an audit can be that comes to a verdict.
FEW = ("--streams", "4", "--quiet")


@contextmanager
def endpoint(tokenizers: Tokenizers, *names: str, **how: Any) -> Iterator[PersonaServer]:
    """An endpoint of some personas."""
    with serve(*(PERSONAS[name] for name in names), tokenizers=tokenizers, **how) as server:
        yield server


def audited(url: str, log: str, *options: str, status: int = 0) -> AuditFiles:
    """Audit an endpoint as a user does; the files that are left."""
    arguments = ["endpoint", "audit", url, "--log", log, *FEW, "-o", f"{log}.txt", *options]
    found = run(arguments)
    assert found == status, Path(f"{log}.txt").read_text()
    return load_audit(Path(log))


@dataclass
class Liar:
    """A maker who signs what is not so: members of a bundle, changed and signed anew.

    Attributes:
        case: The maker's keys.
        raw: The bundle.
    """

    case: Case
    raw: bytes

    def members(self) -> dict[str, bytes]:
        """The payload."""
        members = read_archive(self.raw, subject="b")
        return {n.removeprefix(DATA): d for n, d in members.items() if n.startswith(DATA)}

    def saying(self, **changes: bytes | None) -> bytes:
        """The bundle with other members of its audit; None takes one away.

        Args:
            changes: Content by name, with `_` for each dot: `plan_json`.
        """
        wanted = {name.replace("_", "."): data for name, data in changes.items()}
        return self.with_members({f"endpoint/00/{n}": data for n, data in wanted.items()})

    def with_members(self, changed: dict[str, bytes | None], **index: Any) -> bytes:
        """The bundle with other members, signed."""
        old = parse_index(read_archive(self.raw, subject="b")[INDEX], subject="b")
        kinds = {one.path: one.kind for one in old.parts}
        kept = {n: d for n, d in (self.members() | changed).items() if d is not None}
        parts = {n: (kinds.get(n, Kind.ENDPOINT), d) for n, d in kept.items()}
        new = replace(old, parts=parts_of(parts), **index)
        return assemble(new, kept, sign_index(self.case.maker, new, new.to_json()))


def plan_with(raw: bytes, **changes: Any) -> bytes:
    """A plan file with other settings, as r1prov would write it."""
    value = json.loads(raw) | changes
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def rechained(lines: list[bytes]) -> bytes:
    """A log of these records whose chain holds again: what its writer can always make."""
    out, previous = [], "0" * 64
    for number, line in enumerate(lines):
        value = json.loads(line)
        kind = next(name for name in ("log", "exchange", "recovered") if name in value)
        made, head = record_line(number, previous, kind, value[kind])
        out.append(made)
        previous = head.digest
    return b"".join(out)


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def key_of(case: Case, name: str, model: str) -> str:
    """A key that the verifier pins for references of a model; its id."""
    call("key", "generate", f"{name}.key", "--no-passphrase", "--algorithm", "ed25519")
    call(
        *("key", "add", f"{name}.key.pub", "--owner", name, "--model", model),
        *("--keys", str(case.keys)),
    )
    raw = (case.folder / f"{name}.key").read_bytes()
    return parse_private_key(raw, None, subject=name).public.key_id


Start = Callable[..., PersonaServer]
API_KEY = KEY
FOLDER = "endpoint/00"
# Enough of them that a drop could show.
Q = "".join(
    f'{{"prompt": "What is {n} * 7?", "expected": ".", "scorer": "regex"}}\n' for n in range(14)
)


@dataclass
class Audits:
    """Files of audits of several endpoints, made once.

    Attributes:
        case: A model of R1's name, and keys.
        honest: Of an honest endpoint, held against a signed reference and asked a question.
        distill: Of one with a distill behind R1's name.
        undecided: Of one whose answers leave it open.
        signer: Id of the key of the reference.
    """

    case: Case
    honest: AuditFiles
    distill: AuditFiles
    undecided: AuditFiles
    signer: str

    def bundle(self, *files: AuditFiles, **more: Any) -> bytes:
        draft = self.case.draft(endpoints=lambda: files, **more)
        return draft.archive(draft.signature(self.case.maker))


@pytest.fixture(scope="session")
def made(tokenizers: Tokenizers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audits]:
    """Audits of three endpoints."""
    folder = tmp_path_factory.mktemp("audits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("R1PROV_API_KEY", API_KEY)
        for name in NAMES:
            patch.delenv(f"R1PROV_{name}", raising=False)
        patch.chdir(folder)
        case = Case(folder, R1)
        signer = key_of(case, "references", R1)
        Path("q.jsonl").write_text(Q)
        Path("p.txt").write_text("one\ntwo\nthree")
        with endpoint(tokenizers, "honest-r1") as server:
            record = ("record", server.url, "--out", "r1.json", "--samples", "4", "--log", "rec")
            few = ("--prompts", "p.txt", "--key", "references.key", "--quiet")
            assert run(["endpoint", *record, *few, "--questions", "q.jsonl"]) == 0
            more = ("--reference", "r1.json", "--questions", "q.jsonl", "--keys", "keys")
            honest = audited(server.url, "honest.jsonl", *more)
        with endpoint(tokenizers, "distill-qwen") as server:
            distill = audited(server.url, "distill.jsonl", status=1)
        with endpoint(tokenizers, "no-reasoning") as server:
            undecided = audited(server.url, "undecided.jsonl", status=3)
    yield Audits(case, honest, distill, undecided, signer)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def liar(made: Audits) -> Liar:
    """A bundle of the honest endpoint, to be changed."""
    return Liar(made.case, made.bundle(made.honest))


@pytest.fixture(scope="session")
def caught(made: Audits) -> Liar:
    """A bundle of the distill behind R1's name, to be made to look better."""
    return Liar(made.case, made.bundle(made.distill))


def told(result: Any, rule: str) -> str:
    """Subjects and messages of the findings of a rule."""
    return "; ".join(
        f"{one.subject}: {one.message} {one.expected} {one.found}"
        for one in result.findings
        if one.rule.name == rule
    )
