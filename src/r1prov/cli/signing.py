"""What a command signs with: a private key, and certificates of it."""

from __future__ import annotations

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
