"""Make a bundle: verify, record, judge from the record alone as others will, write down."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import r1prov
from r1prov.attest.create import manifest_of
from r1prov.errors import ChangedWhileReading, UsageError
from r1prov.evidence.archive import write_archive
from r1prov.evidence.bag import DATA, INDEX, SIGNATURE, tag_files
from r1prov.evidence.environment import environment
from r1prov.evidence.index import UNIDENTIFIED, Index, Previous, parts_of
from r1prov.evidence.open import open_bundle
from r1prov.evidence.openings import head_of, member_of
from r1prov.evidence.parts import DEFAULT, Kind
from r1prov.evidence.recording import record_model
from r1prov.evidence.replay import replay
from r1prov.evidence.statement import sign_index
from r1prov.limits import (
    MAX_CERTIFICATE_FILE_BYTES,
    MAX_EVIDENCE_BYTES,
    MAX_EVIDENCE_FILE_BYTES,
    MAX_JWKS_BYTES,
    MAX_POLICY_BYTES,
    MAX_TRUST_FILE_BYTES,
)
from r1prov.responses.exchange_file import exchange_to_json
from r1prov.responses.read import read_exchange
from r1prov.responses.redaction import Content, RedactionRules, redact
from r1prov.stores.local import LocalStore
from r1prov.stores.locate import open_store
from r1prov.stores.ollama import OllamaStore
from r1prov.trust.directories import HUB_KEY_FILE, TRUST_FILE, read_file
from r1prov.trust.shipped import shipped_dir
from r1prov.verify.findings import Verdict
from r1prov.verify.local import load_authorities
from r1prov.verify.oms_bundle import read_bundle
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import Level, Policy, Scope
from r1prov.verify.policy_file import find_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from r1prov.endpoints.audit_files import AuditFiles
    from r1prov.endpoints.report import EndpointReport
    from r1prov.responses.log_record import Head
    from r1prov.responses.redaction import Opening
    from r1prov.stores.base import Store
    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import Signer
    from r1prov.verify.findings import Report
    from r1prov.verify.policy import PolicyFile

_SAFE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_SUFFIXES: Final = frozenset({".pem", ".pub", ".jwk", ".jwks", ".json", ".toml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be verified and put into a bundle.

    Attributes:
        model: Where the model is, as `open_store` takes it.
        manifest: Manifest file or model name; None identifies the model.
        expect: Model name, or `full`, that the model must be.
        level: How deep to look.
        scope: Which files have to match; None takes what the policy says.
        read_all: Read a remote model whole.
        keys: Trust only the keys of this directory.
        policy: Policy file; None looks for one.
        exchanges: Captured API exchanges; their secrets are taken out.
        digests_only: Put the bodies of exchanges in as salted digests.
        response_keys: Files or directories of keys that such answers are signed with.
        audits: Results of other tools.
        kinds: What goes in.
        previous: The bundle that this one continues.
        timestamped: The signature will be timestamped.
        workers: Hashing threads.
        tokenizer: File or directory of the tokenizer that audits were made with.
    """

    model: str
    manifest: str | None = None
    expect: str | None = None
    level: Level = Level.FULL
    scope: Scope | None = None
    read_all: bool = False
    keys: Path | None = None
    policy: Path | None = None
    exchanges: tuple[Path, ...] = ()
    digests_only: bool = False
    response_keys: tuple[Path, ...] = ()
    audits: tuple[Path, ...] = ()
    kinds: frozenset[Kind] = DEFAULT
    previous: Path | None = None
    timestamped: bool = False
    workers: int | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A bundle that nobody has signed.

    Attributes:
        index: What it holds.
        payload: Its members, by path below the payload folder.
        report: What the verification found.
        openings: What proves bodies that are in it as digests, by the member that they belong to.
        left_out: Kinds that were not wanted.
        audits: What audits of endpoints come to, made again from their members.
    """

    index: Index
    payload: dict[str, bytes] = field(repr=False)
    report: Report
    openings: tuple[tuple[Head, tuple[Opening, ...]], ...] = field(repr=False, default=())
    left_out: frozenset[Kind] = frozenset()
    audits: tuple[EndpointReport, ...] = ()

    def sizes(self) -> dict[Kind, tuple[int, int]]:
        """Number of members and bytes of each kind that goes in."""
        found: dict[Kind, tuple[int, int]] = {}
        for part in self.index.parts:
            count, size = found.get(part.kind, (0, 0))
            found[part.kind] = (count + 1, size + part.size)
        return found

    def signature(self, key: Signer, certificates: Sequence[Certificate] = ()) -> bytes:
        """The signature of the index, without a timestamp."""
        return sign_index(key, self.index, self.index.to_json(), certificates)

    def untimestamped(self) -> Draft:
        """The same, of whose signature no timestamp is to be had."""
        return replace(self, index=replace(self.index, timestamped=False))

    def archive(self, signature: bytes) -> bytes:
        """The bundle file: the same bytes for the same draft and signature."""
        return assemble(self.index, self.payload, signature)


def assemble(index: Index, payload: dict[str, bytes], signature: bytes) -> bytes:
    """The bundle file of an index, its payload and a signature."""
    members = {DATA + path: data for path, data in payload.items()}
    members |= {INDEX: index.to_json(), SIGNATURE: signature}
    return write_archive(members | tag_files(members, day=index.day))


def draft_evidence(
    wanted: Wanted,
    report_as_json: Callable[[Report], str],
    *,
    now: datetime | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
    endpoints: Callable[[], Sequence[AuditFiles]] | None = None,
) -> Draft:
    """Verify a model and collect the evidence.

    Args:
        wanted: The model, and what goes in.
        report_as_json: Writes the report (`render.json.render`, of a floor above this one).
        now: When the bundle is made, instead of what the clock says: it is then the one time in it.
        progress: Called with the bytes to hash; returns a callback for bytes done.
        endpoints: Audits endpoints, or finds audits, once the model was verified.

    Raises:
        R1ProvError: It could not be decided; a model that is wrong is a report, and evidence.
    """
    created, now = now, now or datetime.now(UTC)
    store = open_store(wanted.model)
    _refuse_what_cannot_be_replayed(store, wanted)
    local = Path(wanted.model) if isinstance(store, LocalStore) else None
    found = find_policy(wanted.policy, model=local)
    authorities = load_authorities(wanted.keys, found.file)
    asked = Policy(
        level=wanted.level,
        scope=wanted.scope or Scope.ALL,
        scope_given=wanted.scope is not None,
        expect=wanted.expect,
        workers=wanted.workers,
        read_all=wanted.read_all,
        file=found.file,
        ignored=found.ignored,
    )
    collected = _Collected(wanted.kinds)
    # Before hours of hashing: what is wrong with them shows at once.
    policy = _add_policy(collected, found.file)
    openings = _add_exchanges(collected, wanted)
    for path in wanted.audits:
        name = path.name if _SAFE.fullmatch(path.name) else "result"
        collected.add(Kind.AUDIT, f"audit/{name}", read_file(path, MAX_EVIDENCE_FILE_BYTES))
    _add_trust(collected, authorities, wanted)
    previous = _previous(wanted)
    report = verify(store, authorities, asked, manifest=wanted.manifest, now=now, progress=progress)
    if created is not None:
        # By one clock: the same inputs at the same moment give the same bytes.
        report = replace(report, started_at=created, finished_at=created)
    model = report.manifest.name if report.manifest else UNIDENTIFIED
    if previous is not None and previous.model != model:
        raise UsageError(
            f"{wanted.previous} is about {previous.model}, and this model is {model}",
            subject=str(wanted.previous),
            hint="a chain follows one deployment of one model",
        )
    told = report_as_json(_without_places(report, store)).encode()
    collected.add(Kind.REPORT, "report/report.json", told)
    if Kind.MODEL in wanted.kinds:
        for name, data in record_model(
            store, report, whole_files=Kind.FILES in wanted.kinds
        ).items():
            collected.add(Kind.MODEL, name, data)
    manifest = _add_manifest(collected, report)
    files = endpoints() if endpoints is not None else ()
    # An audit takes a while: the bundle is made when it has ended.
    made = max(now, datetime.now(UTC)) if files and created is None else now
    audits = _add_audits(collected, files, authorities, wanted.tokenizer, made)
    collected.add(Kind.ENVIRONMENT, "environment/environment.json", environment(made))
    index = Index(
        model=model,
        created=made.replace(microsecond=0),
        version=r1prov.__version__,
        verdict=report.verdict,
        level=Level(report.level),
        scope=Scope(report.scope),
        expected=wanted.expect,
        manifest=manifest,
        policy=policy,
        timestamped=wanted.timestamped,
        previous=None if previous is None else previous.link,
        parts=parts_of(collected.members),
    )
    payload = {path: data for path, (_, data) in collected.members.items()}
    _hold_to_report(index, payload, report, authorities, now)
    return Draft(
        index=index,
        payload=payload,
        report=report,
        openings=openings,
        left_out=frozenset(Kind) - wanted.kinds,
        audits=audits,
    )


class _Collected:
    """Members so far, of the kinds that are wanted."""

    def __init__(self, kinds: frozenset[Kind]) -> None:
        self.kinds = kinds
        self.members: dict[str, tuple[Kind, bytes]] = {}
        self._names: set[str] = set()

    def add(self, kind: Kind, path: str, data: bytes) -> None:
        """Take a member; another of that name gets a number."""
        if kind not in self.kinds:
            return
        head, dot, tail = path.rpartition(".")
        number, name = 1, path
        while name.casefold() in self._names:
            number += 1
            name = f"{head}-{number}{dot}{tail}" if dot else f"{path}-{number}"
        self._names.add(name.casefold())
        self.members[name] = (kind, data)


def _without_places(report: Report, store: Store) -> Report:
    """A report that does not tell where model and manifest lie on its maker's disk."""
    use = report.manifest
    if use is not None:
        use = replace(use, location=Path(use.location).name)
    return replace(
        report, manifest=use, model=store.name if isinstance(store, LocalStore) else report.model
    )


def _refuse_what_cannot_be_replayed(store: Store, wanted: Wanted) -> None:
    if isinstance(store, OllamaStore):
        raise UsageError(
            "no evidence is made of an Ollama tag",
            subject=wanted.model,
            hint="name the GGUF file itself; `r1prov verify ollama://…` verifies the tag",
        )
    if wanted.manifest is not None and read_bundle(wanted.manifest) is not None:
        raise UsageError(
            "evidence rests on a manifest, and this is an OpenSSF Model Signing bundle",
            subject=wanted.manifest,
            hint="make a manifest: `r1prov manifest create`",
        )


def _add_manifest(collected: _Collected, report: Report) -> str | None:
    if report.manifest is None or Kind.MANIFEST not in collected.kinds:
        return None
    shelved = manifest_of(report)
    name = shelved.path.name if _SAFE.fullmatch(shelved.path.name) else "manifest.toml"
    path = f"manifest/{name}"
    collected.add(Kind.MANIFEST, path, shelved.raw)
    for number, (file, raw) in enumerate(shelved.signature_files()):
        kept = file if _SAFE.fullmatch(file) else f"{name}.{number:02d}.sigstore.json"
        collected.add(Kind.MANIFEST, f"manifest/{kept}", raw)
    return path


def _add_policy(collected: _Collected, file: PolicyFile | None) -> str | None:
    if file is None or Kind.POLICY not in collected.kinds:
        return None
    location = Path(file.location)
    if not location.is_file():
        raise UsageError(
            "a policy in pyproject.toml cannot be put into evidence",
            subject=file.location,
            hint="keep it in a file of its own, and name it with --policy",
        )
    raw = read_file(location, MAX_POLICY_BYTES)
    if hashlib.sha256(raw).hexdigest() != file.sha256:
        raise ChangedWhileReading("changed while the model was verified", subject=file.location)
    collected.add(Kind.POLICY, "policy/policy.toml", raw)
    return "policy/policy.toml"


def _add_trust(collected: _Collected, authorities: Authorities, wanted: Wanted) -> None:
    """The trust files as they lie on disk, with the keys and certificates that they name."""
    trust = authorities.trust
    for number, location in enumerate(trust.locations):
        folder = Path(location).parent
        raw = read_file(folder / TRUST_FILE, MAX_TRUST_FILE_BYTES)
        collected.add(Kind.TRUST, f"trust/{number}/{TRUST_FILE}", raw)
        named = re.findall(rb'^\s*file\s*=\s*["\']([A-Za-z0-9._-]+)["\']', raw, re.MULTILINE)
        for name in sorted({one.decode() for one in named}):
            data = read_file(folder / name, MAX_CERTIFICATE_FILE_BYTES)
            collected.add(Kind.TRUST, f"trust/{number}/{name}", data)
    hub_key = read_file(shipped_dir("keys") / HUB_KEY_FILE, MAX_CERTIFICATE_FILE_BYTES)
    collected.add(Kind.TRUST, f"trust/hub/{HUB_KEY_FILE}", hub_key)
    for number, path in enumerate(wanted.response_keys):
        files = (
            sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES) if path.is_dir() else [path]
        )
        for file in files:
            name = file.name if _SAFE.fullmatch(file.name) else "keys"
            raw = read_file(file, MAX_JWKS_BYTES)
            collected.add(Kind.TRUST, f"trust/responses/{number}/{name}", raw)


def _add_exchanges(
    collected: _Collected, wanted: Wanted
) -> tuple[tuple[Head, tuple[Opening, ...]], ...]:
    """Exchanges without secrets, and bodies as digests if that is wanted."""
    rules = RedactionRules(content=Content.DIGEST if wanted.digests_only else Content.KEEP)
    openings = []
    for number, path in enumerate(wanted.exchanges):
        redacted = redact(read_exchange(path).exchange, rules)
        raw = exchange_to_json(redacted.exchange)
        collected.add(Kind.EXCHANGES, member_of(number), raw)
        if redacted.openings:
            head = head_of(member_of(number), hashlib.sha256(raw).hexdigest())
            openings.append((head, redacted.openings))
    return tuple(openings)


@dataclass(frozen=True, slots=True)
class _Before:
    """The bundle that is continued, and what it is about."""

    link: Previous
    model: str


def _add_audits(
    collected: _Collected,
    files: Sequence[AuditFiles],
    authorities: Authorities,
    tokenizer: Path | None,
    now: datetime,
) -> tuple[EndpointReport, ...]:
    """Audits of endpoints, each with its report as it is made again from what goes in."""
    if not files:
        return ()
    from r1prov.evidence.audits import Tokenizers, audit_members

    reports = []
    for number, one in enumerate(files):
        members, report = audit_members(
            number,
            one,
            trust=authorities.trust,
            tokenizers=Tokenizers(one.tokenizer, tokenizer, authorities.shelf),
            now=now,
        )
        for path, (kind, data) in members.items():
            collected.add(kind, path, data)
        reports.append(report)
    return tuple(reports)


def _previous(wanted: Wanted) -> _Before | None:
    if wanted.previous is None:
        return None
    raw = read_file(wanted.previous, MAX_EVIDENCE_BYTES)
    before = open_bundle(raw, subject=wanted.previous.name)
    if before.findings:
        raise UsageError(
            f"{wanted.previous} is not intact: {before.findings[0].subject}: "
            f"{before.findings[0].message}",
            subject=str(wanted.previous),
            hint="continue the chain from a bundle that verifies",
        )
    link = Previous(sha256=hashlib.sha256(raw).hexdigest(), created=before.index.created)
    return _Before(link, before.index.model)


def _hold_to_report(
    index: Index,
    payload: dict[str, bytes],
    report: Report,
    authorities: Authorities,
    now: datetime,
) -> None:
    """A pass that the evidence does not bear out would be refused by everyone else."""
    if report.verdict is not Verdict.PASS or not {Kind.MODEL, Kind.MANIFEST} <= {
        one.kind for one in index.parts
    }:
        return
    again = replay(index, payload, authorities, now=now, subject="the bundle")
    if again is not None and again.verdict is not Verdict.PASS:
        why = [f"{one.subject}: {one.message}" for one in again.findings][:3]
        raise ChangedWhileReading(
            f"the model passed, and the evidence taken of it does not: {'; '.join(why)}",
            subject=report.model,
            hint="it changed meanwhile; run again",
        )
