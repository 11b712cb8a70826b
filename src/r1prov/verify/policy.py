"""What a verification is asked to do, and what a policy file demands and lets through."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from r1prov.errors import PolicyError
from r1prov.text import quoted
from r1prov.verify.rules import Rule, Severity

if TYPE_CHECKING:
    from pathlib import Path

    from r1prov.manifest.schema import Manifest
    from r1prov.trust.states import SignatureCheck
    from r1prov.verify.globs import PathGlob


class Level(StrEnum):
    """How deep to look."""

    STRUCTURE = "structure"  # headers only: its verdict is at best incomplete
    FULL = "full"  # every byte


class Scope(StrEnum):
    """Which files have to match for a pass."""

    ALL = "all"  # every file of the manifest
    WEIGHTS = "weights"  # weights, inventory and config-to-header check; the rest is listed


class By(StrEnum):
    """What digests are compared by."""

    FILE = "file"  # file by file: names and sharding count
    TENSOR = "tensor"  # tensor by tensor: the same weights in other files are the same


class Commit(StrEnum):
    """What a policy asks of the Hub commit in a manifest."""

    HOLDS = "holds"  # it is there, and digests and commit agree
    SIGNED = "signed"  # moreover the Hub signed the commit


class AllowKind(StrEnum):
    """What an allowance is about."""

    EXTRA = "extra"  # files that the manifest does not list
    MISSING = "missing"  # files of the manifest that are not there


@dataclass(frozen=True, slots=True)
class Allowance:
    """Files that may be extra or missing.

    Attributes:
        kind: Extra or missing.
        files: Which.
        reason: Why.
        expires: Last day (UTC) on which it counts.
        where: Its place in the file, such as `models[0].allow[1]`.
    """

    kind: AllowKind
    files: PathGlob
    reason: str
    expires: date
    where: str


@dataclass(frozen=True, slots=True)
class RuleOverride:
    """Another severity for a rule.

    Attributes:
        rule: The rule.
        severity: What its findings weigh; None shows them in coverage only.
        reason: Why.
        expires: Last day (UTC) on which it counts; None is for good.
    """

    rule: Rule
    severity: Severity | None
    reason: str
    expires: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """What a policy demands of models whose name matches. None and empty demand nothing.

    Attributes:
        name: Model name, or pattern with `*` and `?`, compared with the name in the manifest.
        manifest: Name of the model whose manifest must be used.
        manifest_file: Manifest file that must be used.
        manifest_sha256: Digest of the manifest file.
        signers: Key ids that count.
        identities: Names that count in the certificate of a signer.
        authorities: Ids of the authorities that may vouch for a certificate that counts.
        threshold: How many different signers of those (of all that are trusted, if there are none)
            must have signed.
        min_level: Least level.
        scope: Which files have to match, where the command line does not say.
        variant: Variant in the manifest; `full` is what `--expect full` asks for.
        commit: What the Hub commit in the manifest must be.
        allow: Files that may be extra or missing.
        where: Its place in the file, such as `models[0]`.
    """

    name: str
    manifest: str | None = None
    manifest_file: Path | None = None
    manifest_sha256: str | None = None
    signers: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    authorities: tuple[str, ...] = ()
    threshold: int | None = None
    min_level: Level | None = None
    scope: Scope | None = None
    variant: str | None = None
    commit: Commit | None = None
    allow: tuple[Allowance, ...] = ()
    where: str = "models[0]"

    def matches(self, name: str) -> bool:
        """Whether a model of that name falls under this entry; upper and lower case differ."""
        return fnmatchcase(name, self.name)

    @property
    def names_signers(self) -> bool:
        """Whether only some of those that the trust store trusts count."""
        return bool(self.signers or self.identities or self.authorities)

    def counts(self, check: SignatureCheck) -> bool:
        """Whether a good signature is by a signer that the policy wants."""
        if not self.names_signers or check.key_id in self.signers:
            return True
        if check.authority is None or not (self.identities or self.authorities):
            return False
        named = not self.identities or not set(self.identities).isdisjoint(check.identities)
        return named and (not self.authorities or check.authority in self.authorities)

    def wanted_signers(self, limit: int = 5) -> str:
        """Whose signatures count, in words; empty if anybody's that is trusted does."""
        words = [f"key {one[:8]}" for one in self.signers[:limit]]
        words += self.identities[:limit]
        text = ", ".join(words)
        if self.authorities:
            vouching = ", ".join(one[:8] for one in self.authorities[:limit])
            who = text if self.identities else ", ".join([*words, "anyone"])
            text = f"{who} with a certificate of authority {vouching}"
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """A policy file: deny by default, each model under exactly one entry.

    Attributes:
        location: Where it is.
        sha256: Digest of the file.
        models: The models that may be deployed.
        rules: Rules with another severity.
        cached_digests: Whether a digest of an earlier run is enough.
        stated_digests: Whether a digest that a store states, and nobody here computed, is enough.
        partial_manifests: Whether a manifest may lack digests of files other than weights and
            code.
    """

    location: str
    sha256: str
    models: tuple[ModelEntry, ...]
    rules: tuple[RuleOverride, ...] = ()
    cached_digests: bool = True
    stated_digests: bool = True
    partial_manifests: bool = False

    def entry_for(self, name: str) -> ModelEntry | None:
        """The entry that a model of that name falls under; None if the policy has none.

        Raises:
            PolicyError: Several fit, so that it is not said what holds.
        """
        fitting = [entry for entry in self.models if entry.matches(name)]
        if len(fitting) > 1:
            both = " and ".join(f"{one.where} {quoted(one.name)}" for one in fitting[:2])
            raise PolicyError(
                f"{both} both match {quoted(name)}",
                subject=self.location,
                hint="narrow the patterns so that exactly one entry fits each model",
            )
        return fitting[0] if fitting else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Choices of one verification.

    Attributes:
        level: How deep to look.
        scope: Which files have to match.
        expect: Model name, or `full`, that the model must be; None accepts what it is.
        workers: Hashing threads; None takes one a processor.
        by: Whether weights are compared by file or by tensor.
        read_all: Whether every byte of a remote model is read, instead of believing the digests
            that its store states.
        scope_given: Whether somebody chose `scope`; else a policy file may.
        file: The policy file that is applied.
        ignored: A policy file inside the model that was not.
        entry: What `file` demands of the model at hand, once that is known.
    """

    level: Level = Level.FULL
    scope: Scope = Scope.ALL
    expect: str | None = None
    workers: int | None = None
    by: By = By.FILE
    read_all: bool = False
    scope_given: bool = True
    file: PolicyFile | None = None
    ignored: str | None = None
    entry: ModelEntry | None = None

    def of(self, manifest: Manifest | None) -> Policy:
        """The policy for the model of that manifest: its entry found, its scope settled.

        Raises:
            PolicyError: Several entries fit.
        """
        if self.file is None or manifest is None:
            return self
        entry = self.file.entry_for(manifest.name)
        if entry is None or entry.scope is None or self.scope_given:
            return replace(self, entry=entry)
        return replace(self, entry=entry, scope=entry.scope)
