"""Authorities: whose certificates count, for which models and names; and whose timestamps.

Pure: values in, decision out. A certificate is judged at one moment: when its signature is proven
to have been made, else now. Revocation is what the trust store says; nothing is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from r1prov.text import quoted
from r1prov.trust.chains import verify_chain
from r1prov.trust.scope import matches
from r1prov.trust.states import SignatureState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from r1prov.trust.certificates import Certificate

_NAMED: Final = 4
_FINGERPRINT_DIGITS: Final = 64
_OF_FAULT: Final = {
    "certificate-untrusted": SignatureState.CERTIFICATE_UNTRUSTED,
    "certificate-usage": SignatureState.CERTIFICATE_USAGE,
    "certificate-expired": SignatureState.CERTIFICATE_EXPIRED,
    "certificate-not-yet-valid": SignatureState.CERTIFICATE_NOT_YET_VALID,
}
# Of several authorities that refuse a certificate, the one that came furthest says why.
_FURTHEST: Final = (
    SignatureState.CERTIFICATE_UNTRUSTED,
    SignatureState.CERTIFICATE_USAGE,
    SignatureState.CERTIFICATE_NOT_YET_VALID,
    SignatureState.CERTIFICATE_EXPIRED,
    SignatureState.OTHER_IDENTITY,
    SignatureState.OUT_OF_SCOPE,
    SignatureState.NOT_YET_VALID,
    SignatureState.EXPIRED,
    SignatureState.CERTIFICATE_REVOKED,
    SignatureState.REVOKED,
    SignatureState.GOOD,
)


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """A certificate that counts for nothing, or for what was signed before some moment.

    Attributes:
        certificate: Which, in hex: SHA-256 of the certificate (64 digits), or its serial number
            (at most 40). A serial number means every such certificate under the authority.
        revoked_at: When it was revoked.
        reason: Why.
        invalid_from: Since when its key is not to be believed; None for ever.
    """

    certificate: str
    revoked_at: datetime
    reason: str
    invalid_from: datetime | None = None

    @property
    def is_fingerprint(self) -> bool:
        """Whether it names one certificate, whoever issued it."""
        return len(self.certificate) == _FINGERPRINT_DIGITS

    def means(self, one: Certificate) -> bool:
        """Whether it is about that certificate."""
        if self.is_fingerprint:
            return self.certificate == one.fingerprint
        return int(self.certificate, 16) == one.serial


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedAuthority:
    """A root certificate and what those it vouches for may sign.

    Attributes:
        root: The root certificate.
        issuers: Further certificates that help to find a path to it; not trusted by themselves.
        file: Their file, beside the trust file.
        owner: Whose authority it is.
        valid_from: First moment of a check at which it counts.
        valid_until: First moment of a signature, or else of a check, at which it no longer does.
        models: Patterns (`*`, `?`) of model names that may be signed.
        identities: E-mail addresses, URIs and DNS names, exactly, of signers that count.
        subjects: Names of holders (RFC 4514), exactly, that count too.
        revoked_at: When it was revoked; None if it is not.
        revoked_reason: Why.
        invalid_from: Since when a revoked one is not to be believed; None for ever.
        revoked: Certificates that it issued and that are revoked.
    """

    root: Certificate
    issuers: tuple[Certificate, ...] = ()
    file: str
    owner: str
    valid_from: datetime
    valid_until: datetime
    models: tuple[str, ...]
    identities: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    invalid_from: datetime | None = None
    revoked: tuple[RevokedCertificate, ...] = ()

    @property
    def id(self) -> str:
        """SHA-256 of the root certificate in hex."""
        return self.root.fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class TimestampAuthority:
    """A root certificate whose timestamps prove a time.

    Attributes:
        root: The root certificate.
        issuers: Further certificates, such as the authority's own where timestamps leave it out.
        file: Their file, beside the trust file.
        owner: Whose authority it is.
        valid_from: First moment for which its timestamps count.
        valid_until: First moment after it.
        revoked_at: When it was revoked; None if it is not. A revoked one proves nothing: whoever
            holds its key can write any time into a timestamp.
        revoked_reason: Why.
    """

    root: Certificate
    issuers: tuple[Certificate, ...] = ()
    file: str
    owner: str
    valid_from: datetime
    valid_until: datetime
    revoked_at: datetime | None = None
    revoked_reason: str | None = None

    @property
    def id(self) -> str:
        """SHA-256 of the root certificate in hex."""
        return self.root.fingerprint


@dataclass(frozen=True, slots=True)
class Vouched:
    """What the authorities say of a certificate.

    Attributes:
        state: Whether its holder may sign.
        detail: One sentence (may hold untrusted text).
        authority: The authority that came furthest; None without any.
        identities: The names asked for that the certificate bears, if it is good.
        counted_as: Those that any other authority asks for as well: a threshold must know its
            holder by each of them.
    """

    state: SignatureState
    detail: str
    authority: TrustedAuthority | None = None
    identities: tuple[str, ...] = ()
    counted_as: tuple[str, ...] = ()


def vouch(
    leaf: Certificate,
    issuers: Sequence[Certificate],
    authorities: Sequence[TrustedAuthority],
    *,
    model: str | None,
    now: datetime,
    proven: datetime | None,
) -> Vouched:
    """Whether an authority vouches for the signer of a model.

    Args:
        leaf: The signer's certificate.
        issuers: Certificates that came with the signature; none of them is trusted.
        authorities: Whom we trust.
        model: The model that was signed; None asks for everything but the scope.
        now: When certificates must be valid where no time is proven.
        proven: When the signature is proven to have been made; None if nothing proves a time.
    """
    if not authorities:
        return Vouched(
            SignatureState.CERTIFICATE_UNTRUSTED,
            f"signed with the certificate of {quoted(leaf.subject)}, and the trust store names no "
            "authority",
        )
    answers = []
    for authority in authorities:
        # Who revokes a root, or what it issued, in one entry revokes it in all.
        same = [one for one in authorities if one.root == authority.root]
        gone = [
            certificate
            for one in authorities
            for certificate in one.revoked
            if one in same or certificate.is_fingerprint
        ]
        answers.append(_ask(authority, same, gone, leaf, issuers, model, now, proven))
    furthest = max(answers, key=lambda one: _FURTHEST.index(one.state))
    names = (name for one in answers for name in one.identities)
    return replace(furthest, counted_as=tuple(dict.fromkeys(names)))


def _ask(
    authority: TrustedAuthority,
    same: Sequence[TrustedAuthority],
    revoked: Sequence[RevokedCertificate],
    leaf: Certificate,
    issuers: Sequence[Certificate],
    model: str | None,
    now: datetime,
    proven: datetime | None,
) -> Vouched:
    at = proven or now
    who, whose = f"the certificate of {quoted(leaf.subject)}", f"authority of {authority.owner}"

    def refused(state: SignatureState, detail: str) -> Vouched:
        return Vouched(state, detail, authority)

    chain = verify_chain(leaf, issuers, [authority.root, *authority.issuers], at=at)
    if chain.fault is not None:
        state = _OF_FAULT[chain.fault.rule]
        detail = f"{chain.fault.message} ({chain.fault.found})"
        if state is SignatureState.CERTIFICATE_EXPIRED:
            detail += f", and {proof_of_time(proven)}"
        return refused(state, detail)
    for one in same:
        if one.revoked_at is not None and still_revoked(one.invalid_from, proven):
            reason = f"the {whose} was revoked on {one.revoked_at:%Y-%m-%d}: {one.revoked_reason}"
            return refused(SignatureState.REVOKED, reason)
    for gone in revoked:
        for certificate in chain.path:
            if gone.means(certificate) and still_revoked(gone.invalid_from, proven):
                return refused(
                    SignatureState.CERTIFICATE_REVOKED,
                    f"the certificate of {quoted(certificate.subject)} was revoked on "
                    f"{gone.revoked_at:%Y-%m-%d}: {gone.reason}",
                )
    if now < authority.valid_from:
        since = f"{authority.valid_from:%Y-%m-%d %H:%MZ}"
        return refused(SignatureState.NOT_YET_VALID, f"the {whose} is valid from {since}")
    if at >= authority.valid_until:
        until = f"{authority.valid_until:%Y-%m-%d %H:%MZ}"
        detail = f"the {whose} was valid until {until}, and {proof_of_time(proven)}"
        return refused(SignatureState.EXPIRED, detail)
    named = tuple(one for one in leaf.identities if one in authority.identities)
    if leaf.subject in authority.subjects:
        named = (*named, leaf.subject)
    if not named:
        wanted = ", ".join(map(quoted, (*authority.identities, *authority.subjects)[:_NAMED]))
        names = ", ".join(map(quoted, leaf.identities[:_NAMED])) or "no identity"
        return refused(
            SignatureState.OTHER_IDENTITY, f"{who} names {names}; the {whose} may name {wanted}"
        )
    if model is not None and not matches(model, authority.models):
        may = ", ".join(authority.models)
        return refused(
            SignatureState.OUT_OF_SCOPE,
            f"signers of the {whose} may sign {may}, not {model}",
        )
    detail = f"good signature of {', '.join(map(quoted, named))}, {whose}"
    return Vouched(SignatureState.GOOD, detail, authority, named)


def still_revoked(invalid_from: datetime | None, proven: datetime | None) -> bool:
    """Whether a revocation refuses a signature.

    It does unless its owner says since when the key is not to be believed (RFC 5280 §5.3.2,
    invalidity date) and the signature is proven to be older. The day of revocation alone says
    nothing: a key is lost before anybody revokes it.
    """
    return invalid_from is None or proven is None or proven >= invalid_from


def proof_of_time(proven: datetime | None) -> str:
    """What is known of the moment of a signature that would have had to be made earlier."""
    if proven is None:
        return "nothing proves that it signed before"
    return f"the signature is timestamped {proven:%Y-%m-%d %H:%MZ}"
