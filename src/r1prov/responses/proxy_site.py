"""What a proxy publishes about itself: its keys, its manifest, and receipts of past streams."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from r1prov.errors import UsageError
from r1prov.limits import MAX_PROXY_RECEIPTS, PROXY_RECEIPT_SECONDS
from r1prov.responses.jwks import write_jwks
from r1prov.responses.keys import key_of, parse_signing_key
from r1prov.responses.sign import AnswerSigner, Binding
from r1prov.responses.stream import RECEIPTS
from r1prov.trust.keys import parse_private_key, parse_public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from r1prov.manifest.shelf import ShelvedManifest
    from r1prov.responses.keys import ResponseKey, SigningKey
    from r1prov.trust.keys import PublicKey

WELL_KNOWN: Final = "/.well-known/r1prov/"
# draft-meunier-webbotauth-httpsig-directory: where keys of HTTP signatures are looked for.
DIRECTORY: Final = "/.well-known/http-message-signatures-directory"
_DIRECTORY_TYPE: Final = "application/http-message-signatures-directory+json"


@dataclass(frozen=True, slots=True)
class PublishedKey:
    """A key that clients may find in the proxy's key set.

    Attributes:
        public: As the trust store has it.
        response: As it verifies answers.
        signing: With its private half; None for a key that does not sign.
    """

    public: PublicKey
    response: ResponseKey
    signing: SigningKey | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """What a proxy signs with and serves; replaced as a whole when keys change.

    Attributes:
        signer: Signs answers.
        keyid: Of the key that signs.
        documents: Content type and content of what it serves, by path.
    """

    signer: AnswerSigner
    keyid: str
    documents: dict[str, tuple[str, bytes]]


def published_key(pem: bytes, passphrase: bytes | None, *, subject: str) -> PublishedKey:
    """Read a key file: a private key, or a public one that is only to be published.

    Raises:
        KeyFileError: Malformed, of a kind that does not sign answers, or the passphrase does not
            fit.
    """
    if b"PRIVATE KEY-----" not in pem:
        public = parse_public_key(pem, subject=subject)
        return PublishedKey(public, key_of(public, source=subject))
    signing = parse_signing_key(pem, passphrase, subject=subject)
    public = parse_private_key(pem, passphrase, subject=subject).public
    return PublishedKey(public, signing.public, signing)


def make_site(
    keys: Sequence[PublishedKey], manifest: ShelvedManifest, weights_at: int | None
) -> Site:
    """Put together what a proxy signs with and serves.

    Args:
        keys: Every key to publish, the newest last; the last that can sign does.
        manifest: The manifest that the proxy stands for.
        weights_at: When the weights were verified against it; None if they were not.

    Raises:
        UsageError: None of the keys signs, or one is named twice.
        BundleError: A signature beside the manifest is malformed.
    """
    signing = [key.signing for key in keys if key.signing is not None]
    if not signing:
        raise UsageError("none of the keys is a private one, and one must sign")
    names = [key.response.thumbprint for key in keys]
    if len(set(names)) != len(names):
        raise UsageError("one of the keys is named twice")
    key_set = write_jwks(
        [(key.public, key.response.thumbprint, key.response.algorithm) for key in keys]
    )
    bundles = [json.loads(bundle.to_json()) for _, bundle in manifest.bundles()]
    signatures = json.dumps({"bundles": bundles}, indent=2).encode() + b"\n"
    signer = AnswerSigner(signing[-1], Binding(manifest.sha256, weights_at))
    return Site(
        signer,
        signing[-1].public.thumbprint,
        {
            WELL_KNOWN + "jwks.json": ("application/jwk-set+json", key_set),
            DIRECTORY: (_DIRECTORY_TYPE, key_set),
            WELL_KNOWN + "manifest": ("application/toml", manifest.raw),
            WELL_KNOWN + "manifest/signatures": ("application/json", signatures),
            WELL_KNOWN + "health": ("application/json", b'{"status":"ok"}\n'),
        },
    )


class Receipts:
    """The last statements of past streams, for a bounded time and of a bounded number."""

    def __init__(
        self,
        *,
        most: int = MAX_PROXY_RECEIPTS,
        seconds: float = PROXY_RECEIPT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._most = most
        self._seconds = seconds
        self._clock = clock

    def keep(self, name: str, statement: str) -> None:
        """Keep the last statement of a stream."""
        now = self._clock()
        self._kept[name] = (now + self._seconds, statement.encode())
        while self._kept and (
            len(self._kept) > self._most or next(iter(self._kept.values()))[0] <= now
        ):
            self._kept.popitem(last=False)

    def find(self, path: str) -> bytes | None:
        """The statement that a path asks for; None if there is none, or no longer."""
        until, statement = self._kept.get(path.removeprefix(RECEIPTS), (0.0, b""))
        return statement if until > self._clock() else None

    def __len__(self) -> int:
        return len(self._kept)


def error_content(code: str, message: str) -> bytes:
    """An error in the shape that clients of OpenAI's API read."""
    error = {"message": message, "type": "r1prov_proxy_error", "param": None, "code": code}
    return json.dumps({"error": error}).encode()
