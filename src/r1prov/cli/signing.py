"""What a command signs with: a key in a file or on a token, certificates, a timestamp."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from r1prov.trust.certificates import Certificate
    from r1prov.trust.keys import PublicKey, Signer

_KEY_HELP = "Private key file, or PKCS#11 URI of a key on a token (pkcs11:token=…;object=…)."
SigningKey = Annotated[
    str, typer.Option("--key", metavar="FILE|URI", help=_KEY_HELP, envvar="R1PROV_KEY")
]
# Does not read R1PROV_KEY: without the option nothing is signed.
OptionalSigningKey = Annotated[
    str | None, typer.Option("--key", metavar="FILE|URI", help=_KEY_HELP)
]
SignerCertificate = Annotated[
    Path | None,
    typer.Option("--certificate", help="Certificate of the key (PEM), for private authorities."),
]
SignerIssuers = Annotated[
    list[Path] | None,
    typer.Option("--chain", help="Issuers of --certificate (PEM), without the root. Repeatable."),
]
_MODULE = "R1PROV_PKCS11_MODULE"
_PIN = "R1PROV_PKCS11_PIN"


def load_private_key(key: str) -> Signer:
    """What `--key` names, ready to sign; passphrase and PIN from the environment, or asked for.

    Raises:
        KeyFileError: The file is malformed, of a refused kind, or the passphrase does not fit.
        NotFound: There is none.
        TokenError: The token or its key cannot be used.
        UsageError: The URI is malformed, or something to use it is missing.
    """
    from r1prov.cli.key import unlocking_passphrase
    from r1prov.limits import MAX_KEY_FILE_BYTES
    from r1prov.trust.directories import read_file
    from r1prov.trust.keys import is_encrypted, parse_private_key
    from r1prov.trust.token_uri import is_token_uri, parse_token_uri

    if is_token_uri(key):
        from r1prov.trust.token_key import open_token_key

        return open_token_key(parse_token_uri(key), _pin, os.environ.get(_MODULE))
    pem = read_file(Path(key), MAX_KEY_FILE_BYTES)
    passphrase = unlocking_passphrase() if is_encrypted(pem) else None
    return parse_private_key(pem, passphrase, subject=key)


def load_public_key(key: str) -> PublicKey:
    """A public key file, or the public half of a key on a token.

    Raises:
        KeyFileError: The file is malformed or of a refused kind.
        NotFound: There is none.
        TokenError: The token or its key cannot be used.
        UsageError: The URI is malformed, or something to use it is missing.
    """
    from r1prov.limits import MAX_KEY_FILE_BYTES
    from r1prov.trust.directories import read_file
    from r1prov.trust.keys import parse_public_key
    from r1prov.trust.token_uri import is_token_uri, parse_token_uri

    if not is_token_uri(key):
        return parse_public_key(read_file(Path(key), MAX_KEY_FILE_BYTES), subject=key)
    from r1prov.trust.token_key import token_public_key

    return token_public_key(parse_token_uri(key), _pin, os.environ.get(_MODULE))


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


def signing_certificates(certificate: Path | None, chain: list[Path] | None) -> list[Certificate]:
    """The certificate to sign with and its issuers; none without `--certificate`.

    Raises:
        UsageError: Issuers without a certificate.
        CertificateError: One is malformed, or not that of a signer, or not valid now.
        NotFound: There is no such file.
    """
    from r1prov.errors import UsageError

    if chain and certificate is None:
        raise UsageError("--chain goes with --certificate, which they issued")
    found = load_certificates([] if certificate is None else [certificate, *(chain or ())])
    if found:
        check_signer(found[0], datetime.now(UTC))
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


def timestamped(bundle: bytes, url: str, *, subject: str, keys: Path | None = None) -> bytes:
    """A bundle of either kind with a timestamp of the authority at a URL.

    Says on stderr if the trust store at hand, that of `keys` if given, would not believe it: others
    may.

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
    known = load_trust_store(keys).timestamp_authorities
    check = check_timestamp(stamp, signature, known, now=datetime.now(UTC))
    if check.state is not TimestampState.GOOD:
        say(f"warning: whoever trusts as you do would not count it: {printable(check.detail)}")
    return with_timestamp(bundle, stamp, subject=subject)


def _pin() -> str:
    """The PIN of a token: from the environment, else asked for on a terminal."""
    given = os.environ.get(_PIN)
    if given is not None:
        return given
    if sys.stdin is None or not sys.stdin.isatty():
        from r1prov.errors import UsageError

        raise UsageError(
            "the token needs a PIN, and there is no terminal to ask for it",
            hint=f"say pin-source=file:/PATH in the URI, or set {_PIN}",
        )
    return str(typer.prompt("PIN of the token", hide_input=True, err=True))
