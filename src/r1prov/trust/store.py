"""The trust store: keys and authorities, what each may sign, since and until when.

Pure: values in, decision out. Validity is judged when a signature is proven to have been made, by a
timestamp of an authority that the trust store names; without one, at the time of the check: a
signature of an expired key does not count, however old it says it is.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from r1prov.errors import CertificateError
from r1prov.trust.authorities import (
    TimestampAuthority,
    TrustedAuthority,
    proof_of_time,
    still_revoked,
    vouch,
)
from r1prov.trust.certificates import Certificate, parse_certificate
from r1prov.trust.purpose import Purpose
from r1prov.trust.scope import matches
from r1prov.trust.states import (
    SignatureCheck,
    SignatureState,
    TimestampCheck,
    different_signers,
    earliest,
)
from r1prov.trust.timestamps import check_timestamps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from r1prov.trust.bundle import MessageBundle
    from r1prov.trust.keys import PublicKey

__all__ = [
    "SignatureCheck",
    "SignatureState",
    "Threshold",
    "TrustDecision",
    "TrustStore",
    "TrustedKey",
    "decide",
    "merge",
    "standing",
    "standing_certified",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A key and what it is trusted for.

    Attributes:
        key: The public key.
        file: Its file, beside the trust file.
        owner: Whose it is.
        valid_from: First moment of a check at which it counts.
        valid_until: First moment of a signature, or else of a check, at which it no longer does.
        revoked_at: When it was revoked; None if it is not.
        revoked_reason: Why.
        invalid_from: Since when a revoked key is not to be believed; None for ever.
        models: Patterns (`*`, `?`) of model names that it may sign.
        may: What of such models it may sign.
    """

    key: PublicKey
    file: str
    owner: str
    valid_from: datetime
    valid_until: datetime
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    invalid_from: datetime | None = None
    models: tuple[str, ...]
    may: tuple[Purpose, ...] = tuple(Purpose)


@dataclass(frozen=True, slots=True)
class Threshold:
    """How many different signers are needed, for models whose name matches."""

    models: tuple[str, ...]
    signatures: int


@dataclass(frozen=True, slots=True)
class TrustStore:
    """Trusted keys and authorities, thresholds, and the trust files they come from."""

    keys: tuple[TrustedKey, ...]
    thresholds: tuple[Threshold, ...]
    locations: tuple[str, ...]
    authorities: tuple[TrustedAuthority, ...] = ()
    timestamp_authorities: tuple[TimestampAuthority, ...] = ()

    def threshold(self, model: str) -> int:
        """Signatures that a model needs: the highest threshold that matches its name, else 1."""
        return max(
            (one.signatures for one in self.thresholds if matches(model, one.models)), default=1
        )


@dataclass(frozen=True, slots=True)
class TrustDecision:
    """Whether enough trusted signers signed, and what became of each signature.

    Attributes:
        trusted: Whether as many signed as the threshold asks for.
        checks: What became of each signature.
        good_keys: How many different signers made a good one: keys, or identities of certificates.
        threshold: How many it takes.
    """

    trusted: bool
    checks: tuple[SignatureCheck, ...]
    good_keys: int
    threshold: int


def decide(
    store: TrustStore,
    *,
    model: str,
    data: bytes,
    bundles: Sequence[tuple[str, MessageBundle]],
    now: datetime,
) -> TrustDecision:
    """Decide whether `data`, a manifest of `model`, is signed by enough trusted signers.

    Different keys are counted by their bytes, certificates by the identity they were asked for:
    either of them twice, or under two names, counts once.

    Args:
        store: Whom we trust.
        model: Model name in the manifest.
        data: The exact bytes of the manifest file.
        bundles: File name and content of each signature.
        now: When validity is judged where no timestamp proves an earlier time.
    """
    digest = hashlib.sha256(data).digest()
    checks = tuple(
        _check(store, model, data, digest, name, bundle, now) for name, bundle in bundles
    )
    good = different_signers(checks)
    threshold = store.threshold(model)
    return TrustDecision(good >= threshold, checks, good, threshold)


def _check(
    store: TrustStore,
    model: str,
    data: bytes,
    digest: bytes,
    name: str,
    bundle: MessageBundle,
    now: datetime,
) -> SignatureCheck:
    """Find who made a signature, and whether they may."""
    hinted = [one for one in store.keys if one.key.key_id == bundle.key_hint]
    if bundle.digest != digest:
        owner = hinted[0].owner if hinted else None
        detail = "the file is not the one that was signed: its SHA-256 is another"
        return SignatureCheck(name, bundle.key_hint, owner, SignatureState.BAD_SIGNATURE, detail)
    if bundle.certificates:
        return _check_certified(store, model, data, name, bundle, now)
    # The hint is only a hint: without a match every trusted key is tried.
    for key in hinted or store.keys:
        if key.key.verify(bundle.signature, data):
            stamps = _timestamps(store, bundle, now)
            state, detail = standing(key, model, now, earliest(stamps))
            return SignatureCheck(name, key.key.key_id, key.owner, state, detail, timestamps=stamps)
    if hinted:
        detail = f"not a signature by the key it names, of {hinted[0].owner}"
        state = SignatureState.BAD_SIGNATURE
        return SignatureCheck(name, bundle.key_hint, hinted[0].owner, state, detail)
    detail = f"signed by key {bundle.key_hint or '(unnamed)'}, which is not in the trust store"
    return SignatureCheck(name, bundle.key_hint, None, SignatureState.UNKNOWN_KEY, detail)


def _check_certified(
    store: TrustStore, model: str, data: bytes, name: str, bundle: MessageBundle, now: datetime
) -> SignatureCheck:
    """Whether a signature with a certificate is by someone whom an authority vouches for."""
    try:
        leaf, *issuers = read_chain(bundle.certificates, subject=name)
    except CertificateError as error:
        state = SignatureState.CERTIFICATE_USAGE
        return SignatureCheck(name, bundle.key_hint, None, state, error.message)
    if not leaf.key.verify(bundle.signature, data):
        detail = "not a signature by the certificate that it comes with"
        state = SignatureState.BAD_SIGNATURE
        return SignatureCheck(name, leaf.key.key_id, None, state, detail)
    stamps = _timestamps(store, bundle, now)
    return standing_certified(store, leaf, issuers, name=name, model=model, now=now, stamps=stamps)


def standing_certified(
    store: TrustStore,
    leaf: Certificate,
    issuers: Sequence[Certificate],
    *,
    name: str,
    model: str,
    now: datetime,
    stamps: tuple[TimestampCheck, ...],
    purpose: Purpose = Purpose.MANIFESTS,
) -> SignatureCheck:
    """Whether the holder of a certificate, who made a signature, may.

    A key that the trust store lists is judged as such, whatever certificate comes with it, where
    that makes the signature count, or refuses it for good.

    Args:
        store: Whom we trust.
        leaf: The signer's certificate; the signature is by its key.
        issuers: What came with it.
        name: The bundle, for messages.
        model: What was signed is about it.
        now: When validity is judged where no time is proven.
        stamps: Timestamps over the signature.
        purpose: What was signed; those whom an authority vouches for may sign either.
    """
    proven = earliest(stamps)
    answer = vouch(leaf, issuers, store.authorities, model=model, now=now, proven=proven)
    for key in store.keys:
        if key.key != leaf.key:
            continue
        state, detail = standing(key, model, now, proven, purpose)
        final = state in (SignatureState.GOOD, SignatureState.REVOKED)
        if final or answer.state is SignatureState.CERTIFICATE_UNTRUSTED:
            # The names stay: a threshold must not count who has another certificate of them twice.
            return SignatureCheck(
                bundle=name,
                key_id=key.key.key_id,
                owner=key.owner,
                state=state,
                detail=detail,
                identities=answer.identities,
                authority=answer.authority.id if answer.identities and answer.authority else None,
                counted_as=answer.counted_as,
                timestamps=stamps,
            )
    return SignatureCheck(
        bundle=name,
        key_id=leaf.key.key_id,
        owner=answer.authority.owner if answer.authority else None,
        state=answer.state,
        detail=answer.detail + _when(proven, answer.state),
        identities=answer.identities,
        authority=answer.authority.id if answer.authority else None,
        counted_as=answer.counted_as,
        timestamps=stamps,
    )


def read_chain(certificates: Sequence[bytes], *, subject: str) -> list[Certificate]:
    """The certificates of a bundle, the signer's first.

    Raises:
        CertificateError: One is malformed.
    """
    return [
        parse_certificate(der, subject=f"{subject}, certificate {number}")
        for number, der in enumerate(certificates, 1)
    ]


def _timestamps(
    store: TrustStore, bundle: MessageBundle, now: datetime
) -> tuple[TimestampCheck, ...]:
    return check_timestamps(
        bundle.timestamps, bundle.signature, store.timestamp_authorities, now=now
    )


def _when(proven: datetime | None, state: SignatureState) -> str:
    if proven is None or state is not SignatureState.GOOD:
        return ""
    return f", timestamped {proven:%Y-%m-%d %H:%MZ}"


def standing(
    key: TrustedKey,
    model: str,
    now: datetime,
    proven: datetime | None = None,
    purpose: Purpose = Purpose.MANIFESTS,
) -> tuple[SignatureState, str]:
    """Whether a key may sign for a model, and one sentence on it.

    Args:
        key: The key.
        model: The model.
        now: When its validity is judged; its end only where no time is proven.
        proven: When the signature is proven to have been made; None if nothing proves a time.
        purpose: What was signed.
    """
    who, at = f"key {key.key.key_id8} of {key.owner}", proven or now
    if key.revoked_at is not None and still_revoked(key.invalid_from, proven):
        day = f"{key.revoked_at:%Y-%m-%d}"
        return SignatureState.REVOKED, f"{who} was revoked on {day}: {key.revoked_reason}"
    # By now: who is trusted from today on may have signed before, and a proof of it takes nothing.
    if now < key.valid_from:
        return SignatureState.NOT_YET_VALID, f"{who} is valid from {key.valid_from:%Y-%m-%d %H:%MZ}"
    if at >= key.valid_until:
        until = f"{key.valid_until:%Y-%m-%d %H:%MZ}"
        detail = f"{who} was valid until {until}, and {proof_of_time(proven)}"
        return SignatureState.EXPIRED, detail
    if not matches(model, key.models):
        return SignatureState.OUT_OF_SCOPE, f"{who} may sign {', '.join(key.models)}, not {model}"
    if purpose not in key.may:
        return SignatureState.OUT_OF_SCOPE, f"{who} may sign {', '.join(key.may)}, not {purpose}"
    good = SignatureState.GOOD
    return good, f"good signature of {who}{_when(proven, good)}"


def merge(stores: Iterable[TrustStore]) -> TrustStore:
    """Several stores as one. A key or an authority in any is trusted.

    Of the same key the later store's entry counts, so that a user can narrow what a shipped key
    may do; a revocation in any store wins. Authorities are taken in the same way, by their root:
    the later store's entries of a root replace those of the earlier.
    """
    keys: dict[bytes, TrustedKey] = {}
    authorities: dict[str, list[TrustedAuthority]] = {}
    clocks: dict[str, TimestampAuthority] = {}
    thresholds: list[Threshold] = []
    locations: list[str] = []
    for store in stores:
        for key in store.keys:
            known = keys.get(key.key.spki)
            keys[key.key.spki] = key if known is None else _with_revocation(key, known)
        for root in {one.id: None for one in store.authorities}:
            lost = [one for one in authorities.get(root, ()) if one.revoked_at or one.revoked]
            own = [one for one in store.authorities if one.id == root]
            authorities[root] = [*(_revoked_only(one) for one in lost), *own]
        for clock in store.timestamp_authorities:
            other = clocks.get(clock.id)
            if other is None or other.revoked_at is None:
                clocks[clock.id] = clock
        thresholds += store.thresholds
        locations += store.locations
    return TrustStore(
        tuple(keys.values()),
        tuple(thresholds),
        tuple(locations),
        tuple(one for same in authorities.values() for one in same),
        tuple(clocks.values()),
    )


def _with_revocation(key: TrustedKey, earlier: TrustedKey) -> TrustedKey:
    """A key with its own revocation or that of an earlier store, whichever refuses more."""
    if earlier.revoked_at is None:
        return key
    if key.revoked_at is not None and (
        key.invalid_from is None
        or (earlier.invalid_from is not None and key.invalid_from <= earlier.invalid_from)
    ):
        return key
    return replace(
        key,
        revoked_at=earlier.revoked_at,
        revoked_reason=earlier.revoked_reason,
        invalid_from=earlier.invalid_from,
    )


def _revoked_only(one: TrustedAuthority) -> TrustedAuthority:
    """An entry whose revocations hold, and which vouches for nobody."""
    return replace(one, identities=(), subjects=())
