"""Whether an attestation is good: by whom, of what kind, about which model, with what verdict.

The steps are those of "How to verify" in the SLSA VSA specification, in its order: signature,
predicate type, verifier, result, levels; the subject comes last because it costs hashing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from r1prov.attest.at_hand import differences
from r1prov.attest.names import VERIFIER_ID, manifest_subject, resource_uri
from r1prov.attest.reader import PREDICATE_TYPES, Statement, predicate_type, read_statement
from r1prov.attest.statements import MODEL_VERIFIED, VSA_TYPE, WEIGHTS_VERIFIED
from r1prov.errors import BundleError, UsageError
from r1prov.text import plural, quoted
from r1prov.trust.bundle import DsseBundle, KeyMaterial, parse_dsse_bundle
from r1prov.trust.dsse import IN_TOTO_TYPE
from r1prov.trust.purpose import Purpose
from r1prov.trust.states import SignatureState, TimestampCheck, earliest
from r1prov.trust.store import TrustedKey, TrustStore, standing
from r1prov.trust.timestamps import check_timestamps
from r1prov.verify.checks.listing import part_of
from r1prov.verify.findings import Part
from r1prov.verify.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from r1prov.manifest.schema import Manifest
    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.stores.base import Store

# How far the clock of another machine may be ahead.
_CLOCK_SKEW = timedelta(minutes=5)
_NAMED_DIFFERENCES = 5


class AttestationState(StrEnum):
    """What became of an attestation. Only `GOOD` counts."""

    GOOD = "good"
    BAD_SIGNATURE = "bad signature"
    UNKNOWN_KEY = "unknown key"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    REVOKED = "revoked"
    OUT_OF_SCOPE = "out of scope"
    TOO_FEW_SIGNERS = "too few signers"
    WRONG_TYPE = "wrong predicate type"
    WRONG_VERIFIER = "wrong verifier"
    WRONG_MODEL = "another model"
    NOT_PASSED = "verdict is not pass"
    TOO_OLD = "too old"
    WRONG_SUBJECT = "subject does not match"


@dataclass(frozen=True, slots=True)
class AttestationResult:
    """Whether an attestation is good.

    Attributes:
        state: What became of it.
        detail: One sentence (may hold untrusted text).
        key_id: Key that signed, or the key that the bundle names.
        owner: Owner of that key; None if it is unknown.
        statement: What it says; None unless a trusted key's signature is good.
        differences: How the model at hand differs, a sentence each.
    """

    state: AttestationState
    detail: str
    key_id: str
    owner: str | None = None
    statement: Statement | None = None
    differences: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """Exit status of `r1prov attest verify` with this result."""
        return 0 if self.state is AttestationState.GOOD else 1


def verify_attestation(
    raw_bundle: bytes,
    trust: TrustStore,
    *,
    now: datetime,
    model: Store | None = None,
    manifest: ShelvedManifest | None = None,
    model_name: str | None = None,
    scope: Scope = Scope.ALL,
    max_age: timedelta | None = None,
    verifier_id: str = VERIFIER_ID,
    subject: str = "the bundle",
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> AttestationResult:
    """Verify a signed SVR or VSA, and that it is about the model or manifest at hand.

    Args:
        raw_bundle: The bytes of the bundle file.
        trust: Whom we trust, for which models.
        now: When validity and age are judged.
        model: The model at hand; hashed.
        manifest: The manifest at hand; its digest has to be the one attested.
        model_name: Name that the model must have.
        scope: `weights` also takes a verdict about the weights alone.
        max_age: Oldest verification that counts; None takes any.
        verifier_id: The verifier whose statements count: a consumer accepts (signer, verifier)
            pairs, and the trust store holds the signers.
        subject: Name of the bundle, for messages.
        workers: Hashing threads; None takes one a processor.
        progress: Called with the bytes to hash; returns a callback for bytes done.

    Raises:
        UsageError: Neither a model nor a manifest is given.
        BundleError: The bundle, or a statement with a good signature, is malformed.
        StoreError: The model cannot be read.
    """
    if model is None and manifest is None:
        raise UsageError(
            "an attestation is checked against a model or a manifest",
            hint="without one it speaks of files nobody has compared",
        )
    bundle = parse_dsse_bundle(raw_bundle, subject=subject)
    envelope = bundle.envelope
    key = _signer(trust, bundle, _key_hint(bundle, subject))
    if isinstance(key, AttestationResult):
        return key
    check = _Check(key, trust, now, _timestamps(bundle, trust, now))
    if envelope.payload_type != IN_TOTO_TYPE:
        return check.result(
            AttestationState.WRONG_TYPE,
            f"the payload is {quoted(envelope.payload_type)}, not {IN_TOTO_TYPE}",
        )
    kind = predicate_type(envelope.payload, subject)
    if kind not in PREDICATE_TYPES:
        detail = f"the predicate type is {quoted(kind)}: neither SVR nor VSA"
        return check.result(AttestationState.WRONG_TYPE, detail)
    check.statement = statement = read_statement(envelope.payload, subject)
    refused = (
        check.signer(statement)
        or check.identity(statement, model_name, verifier_id)
        or check.verdict(statement, scope)
        or check.age(statement, max_age)
        or check.manifest(statement, manifest)
    )
    if refused is not None:
        return refused
    if model is not None:
        found = differences(
            model,
            {n: d for n, d in statement.subjects.items() if n != manifest_subject(check.name)},
            manifest=manifest.manifest if manifest else None,
            scope=scope,
            workers=workers,
            progress=progress,
        )
        if found:
            return check.result(AttestationState.WRONG_SUBJECT, _named(found), tuple(found))
    files = plural(len(statement.subjects) - 1, "file")
    about = "the manifest" if model is None else f"{files} and the manifest"
    detail = f"{check.name} {_what(statement, scope)} on {statement.time:%Y-%m-%d %H:%MZ}: {about}"
    return check.result(AttestationState.GOOD, detail)


def _timestamps(bundle: DsseBundle, trust: TrustStore, now: datetime) -> tuple[TimestampCheck, ...]:
    signature = bundle.envelope.signatures[0].signature
    return check_timestamps(bundle.timestamps, signature, trust.timestamp_authorities, now=now)


def _what(statement: Statement, scope: Scope) -> str:
    weights_only = scope is Scope.WEIGHTS and MODEL_VERIFIED not in statement.properties
    return "passed (weights only)" if weights_only else "passed"


def _key_hint(bundle: DsseBundle, subject: str) -> str:
    """Which key a bundle names. What could vouch for a key otherwise is refused, not passed over.

    Raises:
        BundleError: The bundle has a certificate, a key or log entries.
    """
    material = bundle.material
    if not isinstance(material, KeyMaterial):
        raise BundleError(
            f"{subject} names no public key",
            subject=subject,
            hint="attestations with a certificate are not read",
        )
    if material.key is not None:
        raise BundleError(
            f"{subject} brings its own key", subject=subject, hint="keys are from the trust store"
        )
    if bundle.log_entries:
        raise BundleError(
            f"{subject} has transparency log entries, which are not checked here",
            subject=subject,
        )
    return material.hint


def _signer(trust: TrustStore, bundle: DsseBundle, hint: str) -> TrustedKey | AttestationResult:
    """The trusted key that made the signature. The hint is only a hint."""
    hinted = [one for one in trust.keys if one.key.key_id == hint]
    for key in hinted or trust.keys:
        if bundle.envelope.signed_by(key.key):
            return key
    if hinted:
        owner = hinted[0].owner
        detail = f"not a signature by the key it names, of {owner}"
        return AttestationResult(
            AttestationState.BAD_SIGNATURE, detail, hinted[0].key.key_id, owner
        )
    detail = f"signed by key {hint or '(unnamed)'}, which is not in the trust store"
    return AttestationResult(AttestationState.UNKNOWN_KEY, detail, hint)


class _Check:
    """The questions that follow a good signature. Each answers None or a refusal."""

    def __init__(
        self,
        key: TrustedKey,
        trust: TrustStore,
        now: datetime,
        timestamps: tuple[TimestampCheck, ...],
    ) -> None:
        self.key = key
        self.trust = trust
        self.now = now
        self.timestamps = timestamps
        self.name = ""
        self.statement: Statement | None = None

    def result(
        self, state: AttestationState, detail: str, found: tuple[str, ...] = ()
    ) -> AttestationResult:
        return AttestationResult(
            state, detail, self.key.key.key_id, self.key.owner, self.statement, found
        )

    def signer(self, statement: Statement) -> AttestationResult | None:
        """Whether the key may speak of that model: when it is proven to have signed, else now."""
        if statement.model is None:
            detail = "the policy is no manifest of r1prov, so no key's scope covers it"
            return self.result(AttestationState.OUT_OF_SCOPE, detail)
        self.name = statement.model
        proven = earliest(self.timestamps)
        state, detail = standing(self.key, self.name, self.now, proven, Purpose.ATTESTATIONS)
        if state is not SignatureState.GOOD:
            useless = [one for one in self.timestamps if one.rule is not None]
            detail += "".join(f"; its timestamp proves nothing: {one.detail}" for one in useless)
            return self.result(AttestationState(state.value), detail)
        needed = self.trust.threshold(self.name)
        if needed > 1:
            # Else one key could attest what it takes several to sign.
            detail = f"{self.name} needs {needed} signers, and an attestation has one"
            return self.result(AttestationState.TOO_FEW_SIGNERS, detail)
        return None

    def identity(
        self, statement: Statement, model_name: str | None, verifier_id: str
    ) -> AttestationResult | None:
        """Whether it is by the verifier, and about the model, that was asked for."""
        if statement.verifier_id != verifier_id:
            detail = f"the verifier is {quoted(statement.verifier_id)}, not {quoted(verifier_id)}"
            return self.result(AttestationState.WRONG_VERIFIER, detail)
        if model_name is not None and model_name != self.name:
            detail = f"about {self.name}, not {quoted(model_name)}"
            return self.result(AttestationState.WRONG_MODEL, detail)
        return None

    def verdict(self, statement: Statement, scope: Scope) -> AttestationResult | None:
        """Whether it says that the model, or at least its weights, passed."""
        needed = MODEL_VERIFIED if scope is Scope.ALL else WEIGHTS_VERIFIED
        if statement.passed and needed in statement.properties:
            return None
        detail = f"{needed} is not among what was verified of {self.name}"
        if statement.predicate_type == VSA_TYPE and not statement.passed:
            detail = f"the verification of {self.name} is said not to have passed"
        elif WEIGHTS_VERIFIED in statement.properties:
            detail += ": only its weights passed"
        return self.result(AttestationState.NOT_PASSED, detail)

    def age(self, statement: Statement, max_age: timedelta | None) -> AttestationResult | None:
        """Whether it was verified recently enough, and not in the future."""
        when = f"{statement.time:%Y-%m-%d %H:%MZ}"
        if statement.time > self.now + _CLOCK_SKEW:
            detail = f"verified on {when}, which is in the future"
            return self.result(AttestationState.NOT_YET_VALID, detail)
        if max_age is not None and self.now - statement.time > max_age:
            detail = f"verified on {when}, longer ago than {max_age}"
            return self.result(AttestationState.TOO_OLD, detail)
        return None

    def manifest(
        self, statement: Statement, manifest: ShelvedManifest | None
    ) -> AttestationResult | None:
        """Whether the manifest is a subject, the same as the policy, and the one at hand."""
        attested = statement.subjects.get(manifest_subject(self.name))
        if attested != statement.manifest_sha256:
            detail = "the manifest that is the policy is not among the subjects"
            return self.result(AttestationState.WRONG_SUBJECT, detail)
        if len(statement.subjects) < 2:
            return self.result(AttestationState.WRONG_SUBJECT, "no file is among the subjects")
        if manifest is None:
            return None
        if manifest.sha256 != attested:
            detail = f"{manifest.path} has sha256:{manifest.sha256}; attested is {attested}"
            return self.result(AttestationState.WRONG_SUBJECT, detail)
        if manifest.manifest.name != self.name:
            # Else a key attests any model under a name that it may speak of.
            detail = f"the manifest is of {manifest.manifest.name}, and attested as {self.name}"
            return self.result(AttestationState.WRONG_MODEL, detail)
        if statement.resource_uri not in {None, resource_uri(manifest.manifest)}:
            detail = (
                f"the resource is {quoted(statement.resource_uri or '')}, not "
                f"{resource_uri(manifest.manifest)}"
            )
            return self.result(AttestationState.WRONG_MODEL, detail)
        found = tuple(_against(statement, manifest.manifest))
        if found:
            return self.result(AttestationState.WRONG_SUBJECT, _named(found), found)
        return None


def _against(statement: Statement, manifest: Manifest) -> Iterator[str]:
    """How the subjects differ from what the manifest at hand says, whatever the verifier says."""
    files = {one.path: one.sha256 for one in manifest.files}
    for name, digest in sorted(statement.subjects.items()):
        if name == manifest_subject(manifest.name):
            continue
        if name not in files:
            yield f"{name} is attested, and the manifest lists no such file"
        elif files[name] != digest:
            says = f"says sha256:{files[name]}" if files[name] else "states no digest of it"
            yield f"{name} is attested with sha256:{digest}; the manifest {says}"
    # The properties say so of every file, or every weight file.
    every = MODEL_VERIFIED in statement.properties
    for one in manifest.files:
        needed = every or part_of(one.role) is Part.WEIGHTS
        if needed and one.path not in statement.subjects:
            yield f"{one.path} is in the manifest, and not attested"


def _named(found: Sequence[str]) -> str:
    more = len(found) - _NAMED_DIFFERENCES
    return "; ".join(found[:_NAMED_DIFFERENCES]) + (f"; and {more:,} more" if more > 0 else "")
