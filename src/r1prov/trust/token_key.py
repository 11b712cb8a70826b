"""Keys on PKCS#11 tokens: found by URI, signing without leaving the token.

A PIN is tried once, because tokens lock after a few wrong ones. What a token signed is verified
before anybody gets it.
"""

from __future__ import annotations

import contextlib
import hashlib
import weakref
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from r1prov.errors import TokenError
from r1prov.limits import MAX_PIN_FILE_BYTES, MAX_TOKEN_OBJECTS
from r1prov.trust.keys import ECDSA, ED25519, RSA_PSS, PublicKey
from r1prov.trust.token_module import find_token, load_module, token_errors
from r1prov.trust.token_public import attribute, public_key_of, shown_public_key
from r1prov.trust.token_uri import TokenUri, shown_id

if TYPE_CHECKING:
    from pathlib import Path

    from pkcs11 import Attribute, Object, Session, SignMixin

_HASHES: Final = {name: hash_name.lower() for name, hash_name in ECDSA.values()}


class TokenKey:
    """A private key on a token, logged in to. It never shows the PIN, and has nothing of the key.

    The session ends when the object is let go, or with `close`.

    Attributes:
        public: The public half.
    """

    def __init__(
        self, public: PublicKey, name: str, key: SignMixin, pin: str | None, session: Session
    ) -> None:
        self.public = public
        self._name = name
        self._key = key
        # Kept only for a key that asks for it at every signature (CKA_ALWAYS_AUTHENTICATE).
        self._pin = pin
        # Once: a module may give the number of an ended session to the next.
        self._end = weakref.finalize(self, _close, session)

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, in the form that `PrivateKey.sign` gives.

        Raises:
            TokenError: The token cannot sign, or what it signed does not verify.
        """
        with token_errors(self._name):
            signature = _sign(self._key, self.public.algorithm, data, self._pin)
        if not self.public.verify(signature, data):
            raise TokenError(
                f"{self._name}: what the token signed does not verify with the public key beside "
                "the private one",
                subject=self._name,
                hint="the two have the same id and are no pair, or the token is broken",
            )
        return signature

    def close(self) -> None:
        """Log out and end the session; the key signs no more."""
        self._end()


def open_token_key(
    uri: TokenUri, ask_pin: Callable[[], str], module: str | None = None
) -> TokenKey:
    """Find the private key that a URI names, and log in to its token.

    Args:
        uri: Which key.
        ask_pin: Gives the PIN where the URI names no file that holds it; called at most once, and
            only when the token was found.
        module: The library that speaks to the token, where the URI names none.

    Raises:
        TokenError: The module cannot be used; no token or key fits, or several; the PIN is wrong;
            or the key is of a kind that is not taken, or not for signing.
        UsageError: No module is named, or the extra `pkcs11` is not installed.
        StoreError: The file that holds the PIN cannot be read.
    """
    name = str(uri)
    library = load_module(uri.module_path or module)
    with token_errors(name):
        token = find_token(library, uri, name)
        pin = read_pin(uri.pin_source) if uri.pin_source is not None else ask_pin()
        if not pin or "\0" in pin or not _is_utf8(pin):
            raise TokenError(f"{name}: the PIN is empty, or no text", subject=name)
        # One C_Login: a second try with a wrong PIN would be one step further to a locked token.
        session = token.open(user_pin=pin)
        try:
            key, always = _private_key(session, uri, name)
            public = public_key_of(session, key, name)
        except BaseException:
            _close(session)
            raise
    return TokenKey(public, name, key, pin if always else None, session)


def token_public_key(
    uri: TokenUri, ask_pin: Callable[[], str], module: str | None = None
) -> PublicKey:
    """The public half of a key pair, without a PIN where the token shows it to everyone.

    Raises:
        TokenError: As `open_token_key`.
        UsageError: As `open_token_key`.
        StoreError: As `open_token_key`.
    """
    name = str(uri)
    library = load_module(uri.module_path or module)
    with token_errors(name):
        session = find_token(library, uri, name).open()
        try:
            shown = shown_public_key(session, _template(uri), name)
        finally:
            _close(session)
    if shown is not None:
        return shown
    key = open_token_key(uri, ask_pin, module)
    key.close()
    return key.public


def read_pin(path: str | Path) -> str:
    """The PIN in a file: all of it, but for one line end.

    Raises:
        StoreError: It cannot be read.
        TokenError: It is no text, or far longer than a PIN. The message holds nothing of it.
    """
    from pathlib import Path

    from r1prov.trust.directories import read_file

    raw = read_file(Path(path), MAX_PIN_FILE_BYTES)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise TokenError(f"{path}: the PIN is not UTF-8", subject=str(path)) from None
    return text.removesuffix("\n").removesuffix("\r")


def _is_utf8(text: str) -> bool:
    """Whether no byte of an environment variable was undecodable."""
    return all(not 0xD800 <= ord(character) <= 0xDFFF for character in text)


def _template(uri: TokenUri) -> dict[Attribute, str | bytes]:
    """What an object must be like, as the token searches for it."""
    import pkcs11

    wanted: dict[Attribute, str | bytes] = {}
    if "object" in uri.attributes:
        wanted[pkcs11.Attribute.LABEL] = uri.attributes["object"]
    if uri.id is not None:
        wanted[pkcs11.Attribute.ID] = uri.id
    return wanted


def _private_key(session: Session, uri: TokenUri, name: str) -> tuple[SignMixin, bool]:
    """The one private key that a URI names, and whether it asks for the PIN at every signature."""
    import pkcs11

    search = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, **_template(uri)}
    found = list(islice(session.get_objects(search), MAX_TOKEN_OBJECTS))
    if not found:
        raise TokenError(
            f"{name}: the token has no such private key",
            subject=name,
            hint="object= names the label, id= the CKA_ID; both must be as on the token",
        )
    if len(found) > 1:
        raise TokenError(f"{name}: {len(found)} private keys fit", subject=name, hint=_ids(found))
    key = found[0]
    if not isinstance(key, pkcs11.SignMixin):  # which it has if CKA_SIGN is set
        raise TokenError(
            f"{name}: the key is not for signing (CKA_SIGN is not set)",
            subject=name,
            hint="make one that is; keys are made for a use, and keep it",
        )
    return key, attribute(key, pkcs11.Attribute.ALWAYS_AUTHENTICATE) is True


def _ids(found: Sequence[Object]) -> str:
    import pkcs11

    ids = [attribute(one, pkcs11.Attribute.ID) or b"" for one in found]
    return "say which: " + ", ".join(shown_id(one) for one in ids)


def _sign(key: SignMixin, algorithm: str, data: bytes, pin: str | None) -> bytes:
    """What the token signs, as `cryptography` would give it."""
    from pkcs11 import MGF, Mechanism

    if algorithm == ED25519:
        return bytes(key.sign(data, mechanism=Mechanism.EDDSA, pin=pin))
    if algorithm == RSA_PSS:
        # As `keys._scheme`: SHA-256 in both places, and a salt of its length.
        pss = (Mechanism.SHA256, MGF.SHA256, hashlib.sha256().digest_size)
        digest = hashlib.sha256(data).digest()
        return bytes(
            key.sign(digest, mechanism=Mechanism.RSA_PKCS_PSS, mechanism_param=pss, pin=pin)
        )
    digest = hashlib.new(_HASHES[algorithm], data).digest()
    return _ecdsa_der(bytes(key.sign(digest, mechanism=Mechanism.ECDSA, pin=pin)))


def _ecdsa_der(raw: bytes) -> bytes:
    """The signature as X.509 has it (RFC 3279 section 2.2.3).

    A token gives r and s, each as long as the order of the curve (PKCS#11 v2.40 section 2.3.1). If
    it gives something else, that does not verify.
    """
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    half = len(raw) // 2
    return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


def _close(session: Session) -> None:
    """End a session; what it says to that changes nothing any more."""
    import pkcs11

    with contextlib.suppress(pkcs11.PKCS11Error):
        session.close()
