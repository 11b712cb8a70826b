"""Chains of certificates: from a signer to a root that somebody trusts.

RFC 5280 §6, narrowed to what signing certificates of private authorities need. Revocation is not
looked up: nothing here uses the network. Which certificate may issue which is decided here, because
the path builder of `cryptography` is one for web servers.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.errors import CertificateError
from r1prov.limits import MAX_CHAIN_CERTIFICATES, MAX_CHAIN_DEPTH, MAX_CHAIN_SIGNATURE_CHECKS
from r1prov.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import PublicKey

CODE_SIGNING: Final = "1.3.6.1.5.5.7.3.3"
TIME_STAMPING: Final = "1.3.6.1.5.5.7.3.8"
_ANY_PURPOSE: Final = "2.5.29.37.0"
# As RFC 5280 section 4.2.1.12 calls those that are met here.
_PURPOSE_NAMES: Final = {
    CODE_SIGNING: "codeSigning",
    TIME_STAMPING: "timeStamping",
    "1.3.6.1.5.5.7.3.1": "serverAuth",
    "1.3.6.1.5.5.7.3.2": "clientAuth",
    "1.3.6.1.5.5.7.3.4": "emailProtection",
    _ANY_PURPOSE: "anyExtendedKeyUsage",
}


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Why a chain is not trusted.

    Attributes:
        rule: Name of the rule in the rule table.
        certificate: Holder of the certificate it is about.
        message: One sentence.
        expected: What the rule asks for.
        found: What is there.
    """

    rule: str
    certificate: str
    message: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class ChainDecision:
    """What came of a chain: a path from the signer to a trusted root, or the fault."""

    path: tuple[Certificate, ...]
    fault: ChainFault | None = None


def verify_chain(
    leaf: Certificate,
    issuers: Sequence[Certificate],
    roots: Sequence[Certificate],
    *,
    at: datetime,
    purpose: str = CODE_SIGNING,
) -> ChainDecision:
    """Find a path from a signer's certificate to a trusted root.

    Only self-signed certificates among `roots` are trusted; others there help to find the path.

    Args:
        leaf: The signer's certificate.
        issuers: Certificates that came with the signature; none of them is trusted.
        roots: Certificates that the user trusts.
        at: When every certificate of the path must be valid: now, or a proven time of signing.
        purpose: Extended key usage (dotted) that the leaf must have, and issuers may not exclude.
    """
    trusted = [one for one in roots if one.self_signed]
    helpers = [one for one in roots if not one.self_signed]
    search = _Search(trusted, [*issuers, *helpers], at, purpose)
    fault = search.leaf_fault(leaf)
    if fault is not None:
        return ChainDecision((), fault)
    if leaf in trusted:
        return ChainDecision((leaf,))
    path = search.above((leaf,))
    if path is not None:
        return ChainDecision(path)
    if search.faults:
        return ChainDecision((), search.faults[0])
    what = (
        "no given certificate is a root, that is, signed by itself"
        if not trusted
        else ("none of the given roots issued it, nor an issuer of it")
    )
    return ChainDecision(
        (),
        ChainFault(
            "certificate-untrusted",
            leaf.subject,
            f"the certificate does not lead to a trusted root: {what}",
            expected=", ".join(one.subject for one in trusted[:4]) or "a trusted root",
            found=f"issued by {leaf.issuer}",
        ),
    )


def signer_chain(key: PublicKey, certificates: Sequence[Certificate]) -> tuple[Certificate, ...]:
    """What a bundle carries of a chain: the certificate of the key, then its issuers.

    A root is left out: whoever verifies must have it from elsewhere, and sigstore_bundle.proto
    says that signers MUST NOT include one. A signer that is its own root stays.

    Raises:
        CertificateError: The first certificate is not that of the key, or there are too many.
    """
    if not certificates or certificates[0].key != key:
        raise CertificateError(
            "the first certificate is not that of the signing key",
            subject=certificates[0].subject if certificates else None,
            hint="its public key must be the one of the private key",
        )
    if len(certificates) > MAX_CHAIN_CERTIFICATES:
        raise CertificateError(f"has more than {MAX_CHAIN_CERTIFICATES} certificates")
    return (certificates[0], *(one for one in certificates[1:] if not one.self_signed))


def chain_material(chain: Iterable[bytes]) -> dict[str, object]:
    """What a Sigstore bundle says of a signer with a certificate: DER of it and of its issuers."""
    raw = [{"rawBytes": base64.b64encode(der).decode()} for der in chain]
    return {"x509CertificateChain": {"certificates": raw}}


def signer_fault(
    leaf: Certificate, *, at: datetime, purpose: str = CODE_SIGNING
) -> ChainFault | None:
    """Why a certificate cannot be that of a signer, whoever issued it; None if it can."""
    return _Search([], [], at, purpose).leaf_fault(leaf)


class _Search:
    """One search for a path. Every fault on the way is kept, the nearest to the leaf first."""

    def __init__(
        self, trusted: list[Certificate], issuers: list[Certificate], at: datetime, purpose: str
    ) -> None:
        self._trusted = trusted
        self._issuers = issuers
        self._at = at
        self._purpose = purpose
        self._checks = 0
        self.faults: list[ChainFault] = []

    def leaf_fault(self, leaf: Certificate) -> ChainFault | None:
        """Why a certificate cannot be that of a signer."""
        common = self._common_fault(leaf)
        if common is not None:
            return common
        # Authorities of time may have either (ETSI EN 319 422, OpenSSL's purpose `timestampsign`).
        if not leaf.signs and not (leaf.commits and self._purpose == TIME_STAMPING):
            return _usage(leaf, "may not sign data", "keyUsage digitalSignature", "without it")
        if leaf.purposes is None or self._purpose not in leaf.purposes:
            found = _named(leaf.purposes or ()) or "none"
            wanted = f"extended key usage {_named([self._purpose])}"
            return _usage(leaf, "is not for this kind of signature", wanted, found)
        return None

    def above(self, path: tuple[Certificate, ...]) -> tuple[Certificate, ...] | None:
        """The path up to a trusted root, or None."""
        if len(path) >= MAX_CHAIN_DEPTH:
            return None
        top = path[-1]
        for candidates, is_root in ((self._trusted, True), (self._issuers, False)):
            for issuer in candidates:
                if issuer in path or issuer.subject != top.issuer or not self._issued(top, issuer):
                    continue
                fault = self._common_fault(issuer) or self._issuer_fault(issuer, path)
                if fault is not None:
                    self.faults.append(fault)
                    continue
                found = (*path, issuer) if is_root else self.above((*path, issuer))
                if found is not None:
                    return found
        return None

    def _issued(self, certificate: Certificate, issuer: Certificate) -> bool:
        self._checks += 1
        return self._checks <= MAX_CHAIN_SIGNATURE_CHECKS and certificate.issued_by(issuer)

    def _common_fault(self, one: Certificate) -> ChainFault | None:
        if one.fault is not None:
            return _usage(one, one.fault, "a certificate that can be checked in full", one.fault)
        if self._at < one.not_before or self._at > one.not_after:
            early = self._at < one.not_before
            return ChainFault(
                "certificate-not-yet-valid" if early else "certificate-expired",
                one.subject,
                f"the certificate of {quoted(one.subject)} "
                + ("is not valid yet" if early else "has expired"),
                expected=f"valid at {self._at:%Y-%m-%d %H:%MZ}",
                found=f"valid from {one.not_before:%Y-%m-%d %H:%MZ} to "
                f"{one.not_after:%Y-%m-%d %H:%MZ}",
            )
        return None

    def _issuer_fault(
        self, issuer: Certificate, path: tuple[Certificate, ...]
    ) -> ChainFault | None:
        if not issuer.authority:
            wanted = "basicConstraints CA and keyUsage keyCertSign"
            return _usage(issuer, "may not issue certificates", wanted, "without them")
        # RFC 5280 §4.2.1.9: issuers of their own name (a key change) do not count.
        below = sum(one.subject != one.issuer for one in path[1:])
        if issuer.max_issuers is not None and below > issuer.max_issuers:
            wanted = f"at most {issuer.max_issuers} issuers below it"
            return _usage(issuer, "stands too high in the chain", wanted, str(below))
        purposes = issuer.purposes
        if purposes is not None and not purposes & {self._purpose, _ANY_PURPOSE}:
            wanted = f"extended key usage {_named([self._purpose])}, or none stated"
            found = _named(purposes)
            return _usage(issuer, "may not issue for this kind of signature", wanted, found)
        return None


def _named(purposes: Iterable[str]) -> str:
    """Extended key usages as people call them, each with its object identifier."""
    names = (f"{_PURPOSE_NAMES[one]} ({one})" if one in _PURPOSE_NAMES else one for one in purposes)
    return ", ".join(sorted(names))


def _usage(one: Certificate, what: str, expected: str, found: str) -> ChainFault:
    return ChainFault(
        "certificate-usage",
        one.subject,
        f"the certificate of {quoted(one.subject)} {what}",
        expected=expected,
        found=found,
    )
