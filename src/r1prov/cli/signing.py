"""The private key that a command signs with, and the timestamp over its signature."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import PrivateKey


def load_private_key(path: Path) -> PrivateKey:
    """Read a private key file; the passphrase comes from the environment or is asked for.

    Raises:
        KeyFileError: It is malformed, of a refused kind, or the passphrase does not fit.
        NotFound: There is none.
    """
    from r1prov.cli.key import unlocking_passphrase
    from r1prov.limits import MAX_KEY_FILE_BYTES
    from r1prov.trust.directories import read_file
    from r1prov.trust.keys import is_encrypted, parse_private_key

    pem = read_file(path, MAX_KEY_FILE_BYTES)
    passphrase = unlocking_passphrase() if is_encrypted(pem) else None
    return parse_private_key(pem, passphrase, subject=str(path))


def load_certificates(paths: Iterable[Path]) -> list[Certificate]:
    """The certificates of PEM files, in order.

    Raises:
        CertificateError: One is malformed.
        NotFound: There is no such file.
    """
    from r1prov.limits import MAX_CERTIFICATE_FILE_BYTES
    from r1prov.trust.certificates import parse_certificates
    from r1prov.trust.directories import read_file

    found: list[Certificate] = []
    for path in paths:
        raw = read_file(path, MAX_CERTIFICATE_FILE_BYTES)
        found += parse_certificates(raw, subject=str(path))
    return found


def check_signer(leaf: Certificate, now: datetime) -> None:
    """Refuse to sign what nobody would accept.

    Raises:
        CertificateError: The certificate is not that of a signer, or not valid now.
    """
    from r1prov.errors import CertificateError
    from r1prov.trust.chains import signer_fault

    fault = signer_fault(leaf, at=now)
    if fault is not None:
        raise CertificateError(
            f"{fault.message}: {fault.found}",
            subject=fault.certificate,
            hint=f"needed is: {fault.expected}",
        )


def timestamped(bundle: bytes, url: str, *, subject: str) -> bytes:
    """A bundle of either kind with a timestamp of the authority at a URL.

    Says on stderr if the trust store at hand would not believe it: others may.

    Raises:
        UsageError: No such URL, or the extra `r1prov[timestamp]` is not installed.
        TimestampError: No answer, or none that is a timestamp of this signature.
        BundleError: The bundle is malformed.
    """
    from r1prov.cli.output import say
    from r1prov.text import printable
    from r1prov.trust.bundle import signature_of, with_timestamp
    from r1prov.trust.directories import load_trust_store
    from r1prov.trust.states import TimestampState
    from r1prov.trust.timestamp_client import fetch_timestamp
    from r1prov.trust.timestamps import check_timestamp

    signature = signature_of(bundle, subject=subject)
    stamp = fetch_timestamp(signature, url)
    known = load_trust_store().timestamp_authorities
    check = check_timestamp(stamp, signature, known, now=datetime.now(UTC))
    if check.state is not TimestampState.GOOD:
        say(f"warning: whoever trusts as you do would not count it: {printable(check.detail)}")
    return with_timestamp(bundle, stamp, subject=subject)
