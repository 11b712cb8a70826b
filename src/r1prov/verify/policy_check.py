"""What a policy demands, in plain words, and what is wrong or weak about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

from r1prov.manifest.roles import found_by_name, role_of
from r1prov.manifest.schema import Role
from r1prov.text import plural
from r1prov.trust.store import SignatureState
from r1prov.trust.store import decide as decide_trust
from r1prov.verify.policy import AllowKind, Commit, Level, Scope
from r1prov.verify.policy_file import turns_down
from r1prov.verify.policy_rules import NEEDS_PIN, OTHER_FILES_ONLY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime

    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.verify.pipeline import Authorities
    from r1prov.verify.policy import ModelEntry, PolicyFile, RuleOverride

# An exception that outlives this is one that nobody will look at again.
_LONG_DAYS = 366
_NAMED_ONLY = frozenset({Role.WEIGHTS, Role.INDEX, Role.CODE})


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a policy that its owner should know.

    Attributes:
        where: Its place in the file.
        message: One sentence without a full stop.
        grave: Whether it can never be met, or has expired; else it is only weak.
    """

    where: str
    message: str
    grave: bool


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """A policy explained.

    Attributes:
        policy: The policy.
        general: Sentences about every model.
        entries: The entries and what each demands and allows.
        remarks: What is wrong or weak.
    """

    policy: PolicyFile
    general: tuple[str, ...]
    entries: tuple[tuple[ModelEntry, tuple[str, ...]], ...]
    remarks: tuple[Remark, ...]

    @property
    def exit_status(self) -> int:
        """1 if something can never be met or has expired, else 0."""
        return 1 if any(one.grave for one in self.remarks) else 0


def check_policy(
    policy: PolicyFile, authorities: Authorities, *, now: datetime, model: str | None = None
) -> PolicyCheck:
    """Explain a policy and hold it against the manifests and keys at hand.

    Args:
        policy: The policy.
        authorities: Manifests and trusted keys.
        now: When keys and exceptions are judged.
        model: Explain only what holds for a model of that name.

    Raises:
        PolicyError: Several entries match `model`.
        BundleError: A signature of a manifest it names is malformed.
    """
    remarks: list[Remark] = []
    entries = policy.models
    if model is not None:
        entry = policy.entry_for(model)
        entries = (entry,) if entry is not None else ()
        if entry is None:
            remarks.append(Remark("models", f"no entry allows {model}", grave=True))
    else:
        remarks += _overlaps(policy, authorities)
    explained = []
    for one in entries:
        explained.append((one, tuple(_demands(one))))
        remarks += _entry_remarks(one, authorities, now)
    remarks += _file_remarks(policy, now)
    return PolicyCheck(policy, tuple(_general(policy)), tuple(explained), tuple(remarks))


def _general(policy: PolicyFile) -> Iterator[str]:
    yield "a model that no entry names fails"
    if not policy.cached_digests:
        yield "digests of an earlier run (--cache) are not enough"
    if not policy.stated_digests:
        yield "digests that a store states, and nobody here computed, are not enough"
    if policy.partial_manifests:
        yield "a manifest may lack digests of files other than weights and code"
    for one in policy.rules:
        level = f"is {one.severity.value}" if one.severity else "is shown in coverage only"
        until = f" through {one.expires.isoformat()}" if one.expires else ""
        yield f"{one.rule.id} {one.rule.name} {level}{until}: {one.reason}"


def _demands(entry: ModelEntry) -> Iterator[str]:
    manifest = entry.manifest or (str(entry.manifest_file) if entry.manifest_file else None)
    if manifest is not None:
        yield f"its manifest is {manifest}"
    if entry.manifest_sha256 is not None:
        yield f"the manifest file has SHA-256 {entry.manifest_sha256}"
    needed = entry.threshold or 1
    if entry.signers:
        named = ", ".join(key[:8] for key in entry.signers)
        if needed == len(entry.signers):
            yield f"signed by {plural(needed, 'key')}: {named}"
        else:
            yield f"signed by at least {needed} of these {len(entry.signers)} keys: {named}"
    else:
        yield f"signed by at least {plural(needed, 'trusted key')}; the trust store may ask more"
    if entry.variant is not None:
        full = ", with the tensors of DeepSeek-R1" if entry.variant == "full" else ""
        yield f"its variant is {entry.variant}{full}"
    if entry.commit is not None:
        signed = " and the Hub signed it" if entry.commit is Commit.SIGNED else ""
        yield f"the manifest carries a Hub commit that binds its digests{signed}"
    if entry.min_level is Level.FULL:
        yield "every byte is hashed: level full"
    if entry.scope is Scope.WEIGHTS:
        yield "small files may differ: scope weights, unless the command line says all"
    elif entry.scope is Scope.ALL:
        yield "every file is as signed: scope all"
    for one in entry.allow:
        what = (
            "may be there beyond the manifest" if one.kind is AllowKind.EXTRA else "may be missing"
        )
        yield f"{one.files.text} {what} through {one.expires.isoformat()}: {one.reason}"


def _overlaps(policy: PolicyFile, authorities: Authorities) -> Iterator[Remark]:
    """Known models for which the policy does not say which entry holds."""
    for name in sorted({item.manifest.name for item in authorities.shelf}):
        fitting = [one for one in policy.models if one.matches(name)]
        if len(fitting) > 1:
            names = " and ".join(one.where for one in fitting)
            yield Remark(
                names, f"more than one entry matches {name}: it cannot be decided", grave=True
            )


def _entry_remarks(entry: ModelEntry, authorities: Authorities, now: datetime) -> Iterator[Remark]:
    where = entry.where
    shelved = None
    if entry.manifest is not None:
        shelved = authorities.shelf.find(entry.manifest)
        if shelved is None:
            yield Remark(where, f"no known manifest is called {entry.manifest}", grave=True)
    elif entry.manifest_file is not None:
        path = entry.manifest_file.resolve()
        shelved = next((i for i in authorities.shelf if i.path.resolve() == path), None)
    if shelved is not None:
        yield from _manifest_remarks(entry, shelved, authorities, now)
    trusted = {one.key.key_id: one for one in authorities.trust.keys}
    usable = 0
    for key_id in entry.signers:
        key = trusted.get(key_id)
        if key is None:
            yield Remark(where, f"key {key_id[:8]} is not in the trust store", grave=False)
        elif key.revoked_at is not None:
            yield Remark(where, f"key {key_id[:8]} of {key.owner} is revoked", grave=False)
        elif not key.valid_from <= now < key.valid_until:
            yield Remark(where, f"key {key_id[:8]} of {key.owner} is not valid now", grave=False)
        else:
            usable += 1
    needed = entry.threshold or 1
    if entry.signers and usable < needed:
        can = f"{usable} of its {plural(len(entry.signers), 'signer')} can sign"
        yield Remark(where, f"asks for {plural(needed, 'signature')}, and {can}", grave=True)
    if not set(entry.name) - set("*?"):
        yield Remark(
            where, f"`{entry.name}` allows every model that a trusted key signed", grave=False
        )
    for one in entry.allow:
        yield from _exception(one.where, one.expires, now)
        if one.files.broad:
            yield Remark(one.where, f"`{one.files.text}` names no file in particular", grave=False)
        elif one.kind is AllowKind.EXTRA and not one.files.exact and _never_small(one.files.text):
            yield Remark(
                one.where,
                f"`{one.files.text}` lets nothing in: such files must be named one by one",
                grave=False,
            )


def _never_small(pattern: str) -> bool:
    """Whether what a pattern means are weights, code, or what loaders look for."""
    return role_of(pattern) in _NAMED_ONLY or found_by_name(pattern)


def _manifest_remarks(
    entry: ModelEntry, shelved: ShelvedManifest, authorities: Authorities, now: datetime
) -> Iterator[Remark]:
    """What a model of the named manifest could never meet."""
    where, manifest = entry.where, shelved.manifest
    if not entry.matches(manifest.name):
        yield Remark(
            where, f"its manifest is of {manifest.name}, which its name excludes", grave=True
        )
    if entry.manifest_sha256 not in (None, shelved.sha256):
        yield Remark(where, f"the manifest at hand has SHA-256 {shelved.sha256}", grave=True)
    if entry.variant is not None and entry.variant != manifest.variant:
        yield Remark(where, f"the manifest says variant {manifest.variant}", grave=True)
    if entry.commit is not None and manifest.hub_commit is None:
        yield Remark(where, "the manifest carries no Hub commit", grave=True)
    decision = decide_trust(
        authorities.trust,
        model=manifest.name,
        data=shelved.raw,
        bundles=shelved.bundles(),
        now=now,
    )
    good = {one.key_id for one in decision.checks if one.state is SignatureState.GOOD}
    counting = good & set(entry.signers) if entry.signers else good
    if len(counting) < (entry.threshold or 1):
        have = ", ".join(sorted(key[:8] for key in good)) or "none"
        yield Remark(where, f"the manifest has too few good signatures: {have}", grave=True)


def _file_remarks(policy: PolicyFile, now: datetime) -> Iterator[Remark]:
    for one in policy.rules:
        where = f"rules.{one.rule.name}"
        yield from _rule_remarks(one, where, now)


def _rule_remarks(one: RuleOverride, where: str, now: datetime) -> Iterator[Remark]:
    if one.expires is not None:
        yield from _exception(where, one.expires, now)
    if not turns_down(one.rule, one.severity):
        return
    if one.expires is None:
        yield Remark(where, "is turned down for good: give it a last day (`expires`)", grave=False)
    if one.rule.name in OTHER_FILES_ONLY:
        yield Remark(
            where, "counts for small files only; weights and code keep their rule", grave=False
        )
    if one.rule.name in NEEDS_PIN:
        yield Remark(where, "only the pinned digests say which manifests are meant", grave=False)


def _exception(where: str, expires: date, now: datetime) -> Iterator[Remark]:
    today = now.astimezone(UTC).date()
    if today > expires:
        yield Remark(
            where, f"expired on {expires.isoformat()}: it lets nothing through", grave=True
        )
    elif (expires - today).days > _LONG_DAYS:
        yield Remark(where, f"lasts until {expires.isoformat()}, more than a year", grave=False)
