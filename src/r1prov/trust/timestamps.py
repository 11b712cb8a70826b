"""RFC 3161 timestamps: proof that a signature existed at some moment, by an authority of time.

What is timestamped is the signature, not the signed file (sigstore_bundle.proto,
`RFC3161SignedTimestamp`). Pure: bytes in, decision out. `rfc3161-client` reads ASN.1 and CMS and
verifies the authority's signature; whose timestamps count, and what its certificate must be, is
decided here. A timestamp is believed for the authority that the trust store names, never for what
it brings along.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from r1prov.errors import CertificateError, TimestampError, UsageError
from r1prov.limits import MAX_CHAIN_CERTIFICATES, MAX_TIMESTAMP_BYTES
from r1prov.text import quoted
from r1prov.trust.certificates import parse_certificate
from r1prov.trust.chains import TIME_STAMPING, verify_chain
from r1prov.trust.states import TimestampCheck, TimestampState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from r1prov.trust.authorities import TimestampAuthority
    from r1prov.trust.certificates import Certificate

# NIST CSOR; SHA-1 is what RFC 3161 came with.
_HASHES: Final = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
# How far the clocks of an authority and of this host may differ.
_CLOCK_SKEW: Final = timedelta(minutes=5)
_INSTALL: Final = "install r1prov[timestamp]"
_GRANTED: Final = 0


class _RefusedError(Exception):
    """A timestamp that proves nothing, and why."""

    def __init__(
        self, detail: str, state: TimestampState = TimestampState.INVALID, hint: str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail, self.state, self.hint = detail, state, hint


@dataclass(frozen=True, slots=True)
class _Token:
    """What is looked at of a timestamp; nothing of it is verified."""

    response: Any
    time: datetime
    accuracy: timedelta
    hash_name: str
    imprint: bytes
    nonce: int | None
    issuer: Any
    serial: int
    certificates: tuple[Certificate, ...]


def check_timestamps(
    timestamps: Sequence[bytes],
    signature: bytes,
    authorities: Sequence[TimestampAuthority],
    *,
    now: datetime,
) -> tuple[TimestampCheck, ...]:
    """Check every timestamp over a signature, see `check_timestamp`."""
    return tuple(check_timestamp(one, signature, authorities, now=now) for one in timestamps)


def check_timestamp(
    timestamp: bytes,
    signature: bytes,
    authorities: Sequence[TimestampAuthority],
    *,
    now: datetime,
) -> TimestampCheck:
    """Check a timestamp over a signature.

    The authority's certificates must be valid at the time that the timestamp states, as RFC 3161
    has it: a timestamp outlives the certificate that it was made with.

    Args:
        timestamp: DER of a TimeStampResp.
        signature: The bytes of the signature that it should be about.
        authorities: Whose timestamps count.
        now: No timestamp is from later than this, but for clocks that differ a little.
    """
    try:
        token = _read(timestamp)
        _check_content(token, signature, now)
        leaf = _signer(token, authorities)
        authority = _authority(token, leaf, authorities)
        _check_signature(token, leaf, authority)
    except _RefusedError as why:
        return TimestampCheck(why.state, why.detail, hint=why.hint)
    # The signature was there when the authority saw it: at the latest at the end of its accuracy.
    # And it is there now, however far the authority says that its clock may be off.
    latest = min(token.time + token.accuracy, now)
    when = f"{latest:%Y-%m-%d %H:%M:%SZ}"
    return TimestampCheck(
        TimestampState.GOOD, f"made before {when}, by the clock of {authority.owner}", latest
    )


def _read(timestamp: bytes) -> _Token:
    """Parse a timestamp. Whatever the bytes, only `_RefusedError` is raised."""
    if len(timestamp) > MAX_TIMESTAMP_BYTES:
        raise _RefusedError(f"the timestamp is larger than {MAX_TIMESTAMP_BYTES:,} bytes")
    try:
        from rfc3161_client import decode_timestamp_response
    except ImportError:
        raise _RefusedError(
            "the timestamp was not checked: the package `rfc3161-client` is not installed",
            TimestampState.UNCHECKED,
            _INSTALL,
        ) from None
    hint = None
    try:
        return _token(decode_timestamp_response(timestamp))
    except _RefusedError:
        raise
    # It parses ASN.1 of strangers: whatever it raises, this is no timestamp.
    except Exception as error:  # noqa: BLE001
        if "InvalidSetOrdering" in str(error):
            hint = (
                "its certificates are not in the order of DER, as `openssl ts -chain` leaves them: "
                "leave the issuers out, and give them with the authority in the trust store"
            )
        raise _RefusedError("it is not a timestamp of RFC 3161 in DER", hint=hint) from None


def _token(response: Any) -> _Token:  # noqa: ANN401 - a class of the library
    if response.status != _GRANTED:
        raise _RefusedError(f"the authority did not grant it: status {response.status}")
    info, signed = response.tst_info, response.signed_data
    algorithms = {one.dotted_string for one in signed.digest_algorithms}
    imprint = info.message_imprint
    hash_name = _HASHES.get(imprint.hash_algorithm.dotted_string)
    if hash_name is None or not algorithms <= _HASHES.keys():
        raise _RefusedError("it is over another hash than SHA-256, SHA-384 or SHA-512")
    signers = list(signed.signer_infos)
    if len(signers) != 1:
        raise _RefusedError(f"it has {len(signers)} signatures, not one")
    carried = signed.certificates
    if len(carried) > MAX_CHAIN_CERTIFICATES:
        raise _RefusedError(f"it has more than {MAX_CHAIN_CERTIFICATES} certificates")
    certificates = []
    for der in sorted(carried):
        try:
            certificates.append(parse_certificate(der, subject="its certificate"))
        except CertificateError as error:
            raise _RefusedError(error.message) from None
    accuracy = timedelta()
    if info.accuracy is not None:
        accuracy = timedelta(
            seconds=info.accuracy.seconds or 0,
            milliseconds=info.accuracy.millis or 0,
            microseconds=info.accuracy.micros or 0,
        )
    time = info.gen_time
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    _ = time + accuracy  # an accuracy that leaves the calendar is raised here
    return _Token(
        response=response,
        time=time,
        accuracy=accuracy,
        hash_name=hash_name,
        imprint=imprint.message,
        nonce=info.nonce,
        issuer=signers[0].issuer,
        serial=signers[0].serial_number,
        certificates=tuple(certificates),
    )


def _check_content(token: _Token, signature: bytes, now: datetime) -> None:
    if token.imprint != hashlib.new(token.hash_name, signature).digest():
        raise _RefusedError("it is over other bytes than this signature")
    if token.time > now + _CLOCK_SKEW:
        when = f"{token.time:%Y-%m-%d %H:%MZ}"
        raise _RefusedError(f"it is from {when}, which is in the future", hint="check the clock")


def _check_nonce(token: _Token, request: TimestampRequest) -> None:
    if token.nonce != request.nonce:
        raise _RefusedError("it does not repeat the nonce, so it may be an old one")


def _signer(token: _Token, authorities: Sequence[TimestampAuthority]) -> Certificate:
    """The one certificate that the signature names by issuer and serial number.

    Two of them, one of which is only there to have its extensions looked at, are refused.
    """
    known = [*token.certificates]
    for authority in authorities:
        known += (authority.root, *authority.issuers)
    found = {
        one
        for one in known
        if one.serial == token.serial and one.to_cryptography().issuer == token.issuer
    }
    if len(found) != 1:
        how = "several certificates" if found else "no certificate"
        raise _RefusedError(
            f"{how} of its signer in it",
            hint=None if found else "ask the authority for it (certReq)",
        )
    return found.pop()


def _authority(
    token: _Token, leaf: Certificate, authorities: Sequence[TimestampAuthority]
) -> TimestampAuthority:
    """The trusted authority that the signer's certificate leads to."""
    # RFC 3161 §2.3: the extension is critical and has this purpose alone.
    if not leaf.purposes_critical or leaf.purposes != frozenset({TIME_STAMPING}):
        raise _RefusedError(
            f"the certificate of {quoted(leaf.subject)} is not one for timestamps alone",
            hint="RFC 3161 asks for the critical extended key usage timeStamping and no other",
        )
    fault = None
    for one in authorities:
        chain = verify_chain(
            leaf,
            token.certificates,
            [one.root, *one.issuers],
            at=token.time,
            purpose=TIME_STAMPING,
        )
        if chain.fault is None:
            _check_standing(token, one)
            return one
        if chain.fault.rule != "certificate-untrusted":
            fault = chain.fault
    if fault is not None:
        raise _RefusedError(f"{fault.message} ({fault.found})")
    raise _RefusedError(
        f"the trust store names no authority for timestamps of {quoted(leaf.subject)}",
        TimestampState.UNTRUSTED,
        "`r1prov key add ROOT.pem --timestamp-authority` names one",
    )


def _check_standing(token: _Token, authority: TimestampAuthority) -> None:
    who, state = f"the timestamp authority of {authority.owner}", TimestampState.UNTRUSTED
    if authority.revoked_at is not None:
        day = f"{authority.revoked_at:%Y-%m-%d}"
        raise _RefusedError(f"{who} was revoked on {day}: {authority.revoked_reason}", state)
    if not authority.valid_from <= token.time < authority.valid_until:
        first, last = f"{authority.valid_from:%Y-%m-%d}", f"{authority.valid_until:%Y-%m-%d}"
        raise _RefusedError(
            f"{who} counts from {first} until {last}, and it is from {token.time:%Y-%m-%d}", state
        )


def _check_signature(token: _Token, leaf: Certificate, authority: TimestampAuthority) -> None:
    from rfc3161_client import VerifierBuilder

    middle = {one for one in (*token.certificates, *authority.issuers) if not one.self_signed}
    verifier = VerifierBuilder(
        tsa_certificate=leaf.to_cryptography(),
        intermediates=[one.to_cryptography() for one in middle - {leaf}],
        roots=[authority.root.to_cryptography()],
    ).build()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            verifier.verify(token.response, token.imprint)
    # It verifies CMS of strangers: whatever it raises, nothing was verified.
    except Exception:  # noqa: BLE001
        raise _RefusedError(
            "the authority's signature does not verify", hint="it was changed, or badly made"
        ) from None


@dataclass(frozen=True, slots=True)
class TimestampRequest:
    """What to ask of a timestamp authority.

    Attributes:
        raw: The request (DER of a TimeStampReq).
        signature: The signature to be timestamped.
        nonce: Random number that the answer must repeat, so that no older answer passes for it.
    """

    raw: bytes
    signature: bytes
    nonce: int


def make_request(signature: bytes) -> TimestampRequest:
    """A request for a timestamp over a signature, with a nonce, for the certificate as well.

    The hash is SHA-512, which no signature algorithm of ours outdoes.

    Raises:
        UsageError: The package `rfc3161-client` is not installed.
    """
    try:
        from rfc3161_client import TimestampRequestBuilder
        from rfc3161_client.base import HashAlgorithm
    except ImportError:
        raise UsageError(
            "no timestamp can be asked for: the package `rfc3161-client` is not installed",
            hint=_INSTALL,
        ) from None
    built = TimestampRequestBuilder(signature, HashAlgorithm.SHA512).build()
    nonce = built.nonce
    if nonce is None:
        raise AssertionError("the library left the nonce out")
    return TimestampRequest(built.as_bytes(), signature, nonce)


def read_answer(request: TimestampRequest, answer: bytes, *, subject: str) -> bytes:
    """The timestamp in the answer to a request, which it fits. Whether to trust it is left open.

    Args:
        request: What was asked.
        answer: Body of the answer (DER of a TimeStampResp).
        subject: Who answered, for messages.

    Raises:
        TimestampError: Not granted, not a timestamp, or one of something else.
    """
    try:
        token = _read(answer)
        _check_content(token, request.signature, datetime.now(UTC))
        _check_nonce(token, request)
        _signer(token, ())
    except _RefusedError as why:
        raise TimestampError(
            f"the answer of {subject} is no timestamp of this signature: {why.detail}",
            subject=subject,
            hint=why.hint,
        ) from None
    return answer
