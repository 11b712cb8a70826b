"""Keyless signatures of Sigstore: a short-lived certificate, and a log that recorded its use.

The `sigstore` package does the work, offline: certificate chain, signed certificate timestamp,
log entry with inclusion proof and checkpoint, time, identity. Here it is given bytes and asked.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Final

from r1prov.errors import TrustFileError, UsageError
from r1prov.limits import MAX_TRUST_FILE_BYTES

if TYPE_CHECKING:
    from sigstore.models import TrustedRoot

    from r1prov.trust.bundle import DsseBundle

# Where the `sigstore` package keeps the trusted root of the public instance that it was released
# with. Its own offline mode would read, and write, a cache in the home directory instead.
_EMBEDDED: Final = ("_store", "https%3A%2F%2Ftuf-repo-cdn.sigstore.dev", "trusted_root.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeylessPolicy:
    """Whose keyless signature is wanted.

    Attributes:
        identity: Subject alternative name of the certificate: an e-mail address or a URI, exactly.
        issuer: OpenID Connect issuer that vouched for the identity, exactly.
        trusted_root: A Sigstore trusted root (JSON); None for that of the public instance which
            the installed `sigstore` package carries.
    """

    identity: str
    issuer: str
    trusted_root: bytes | None = None


def verify_keyless(bundle: DsseBundle, policy: KeylessPolicy) -> str | None:
    """Verify a keyless bundle offline.

    Returns:
        None if the envelope is signed as the policy asks, else why not.

    Raises:
        UsageError: The `sigstore` package is not installed, or carries no trusted root.
        TrustFileError: The trusted root is malformed.
    """
    try:
        from sigstore.errors import Error
        from sigstore.models import Bundle
        from sigstore.verify import Verifier
        from sigstore.verify.policy import Identity
    except ImportError:
        raise UsageError(
            "keyless signatures cannot be verified here: the package `sigstore` is not installed",
            hint="install r1prov[sigstore]",
        ) from None
    # Its log lines are for its own command line.
    logging.getLogger("sigstore").addHandler(logging.NullHandler())
    root = _trusted_root(policy.trusted_root)
    try:
        verifier = Verifier(trusted_root=root)
    except (Error, ValueError) as error:
        raise TrustFileError(
            f"the Sigstore trusted root cannot be used: {error}", subject="trusted root"
        ) from None
    try:
        kind, payload = verifier.verify_dsse(
            Bundle.from_json(bundle.raw),
            Identity(identity=policy.identity, issuer=policy.issuer),
        )
    # It parses certificates and ASN.1 of strangers: whatever it raises, nothing was verified.
    except Exception as error:  # noqa: BLE001
        return str(error) or type(error).__name__
    if (kind, payload) != (bundle.envelope.payload_type, bundle.envelope.payload):
        return "the library verified another payload than was read here"
    return None


def _trusted_root(raw: bytes | None) -> TrustedRoot:
    from pydantic import ValidationError
    from sigstore.errors import Error
    from sigstore.models import TrustedRoot
    from sigstore_models.trustroot.v1 import TrustedRoot as Form

    if raw is None:
        file = resources.files("sigstore").joinpath(*_EMBEDDED)
        if not file.is_file():
            raise UsageError(
                "the installed `sigstore` package carries no trusted root",
                hint="give one: `trusted_root.json` of the Sigstore instance",
            )
        raw = file.read_bytes()
    if len(raw) > MAX_TRUST_FILE_BYTES:
        raise TrustFileError("is too large for a trusted root", subject="trusted root")
    try:
        return TrustedRoot(Form.from_json(raw))
    except (ValidationError, ValueError, Error) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TrustFileError(
            f"not a Sigstore trusted root: {first}", subject="trusted root"
        ) from None
