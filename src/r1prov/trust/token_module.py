"""The module that speaks to PKCS#11 tokens, the token that a URI names, and what either says.

`python-pkcs11` calls the module. What it raises ends here: every failure is a `TokenError` that
says what to do.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from r1prov.errors import TokenError, UsageError
from r1prov.limits import MAX_TOKEN_OBJECTS, MODULE_TRIAL_SECONDS
from r1prov.text import quoted
from r1prov.trust.token_uri import TokenUri, version_pair

if TYPE_CHECKING:
    from pkcs11 import Slot, Token
    from pkcs11._pkcs11 import lib as Module  # noqa: N812 - it is a class

# What a token says, by the exception of python-pkcs11: the message, and what to do.
_EXPLAINED: Final[dict[str, tuple[str, str]]] = {
    "PinIncorrect": (
        "the PIN is wrong; it was tried once",
        "make sure of it before the next try: a token locks after a few wrong ones",
    ),
    "PinLocked": (
        "the PIN is locked, as after too many wrong ones",
        "the token's security officer can set a new one",
    ),
    "PinExpired": ("the PIN has expired", "set a new one with the token's own tool"),
    "PinInvalid": ("the PIN has characters that the token does not take", "see its manual"),
    "PinLenRange": ("the PIN is too short or too long for the token", "see its manual"),
    "UserPinNotInitialized": (
        "no user PIN is set on the token",
        "set one with the token's own tool; a token without a PIN is not used",
    ),
    "UserAlreadyLoggedIn": (
        "another key of this token is in use in this process",
        "close it first: a login is to the token, not to a key",
    ),
    "TokenNotPresent": ("the token is not in its slot", "insert it"),
    "DeviceRemoved": ("the token was removed", "insert it, and sign again"),
    "TokenNotRecognised": (
        "the token is of a kind that its module does not know",
        "use its maker's module",
    ),
    "MechanismInvalid": (
        "the token cannot sign in the way that the key needs",
        "ECDSA needs CKM_ECDSA, RSA CKM_RSA_PKCS_PSS with SHA-256, Ed25519 CKM_EDDSA",
    ),
    "MechanismParamInvalid": (
        "the token cannot sign in the way that the key needs",
        "RSA needs CKM_RSA_PKCS_PSS with SHA-256 and a salt of 32 bytes",
    ),
    "UserNotLoggedIn": (
        "the token asks for its PIN again",
        "it may have been reset, or another program logged it out; sign again",
    ),
}
_EXPLAINED["AnotherUserAlreadyLoggedIn"] = _EXPLAINED["UserAlreadyLoggedIn"]
# Loads the module and nothing else: its path is an argument, so nothing of it is code.
_TRIAL: Final = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


def load_module(path: str | None) -> Module:
    """The module, loaded and initialized; once a process for a path."""
    if path is None:
        raise UsageError(
            "no PKCS#11 module is named",
            hint="say ?module-path=/PATH/TO/MODULE.so in the URI, or set R1PROV_PKCS11_MODULE",
        )
    try:
        import pkcs11
    except ImportError:
        raise UsageError(
            "keys on tokens need the extra `pkcs11`", hint="pip install 'r1prov[pkcs11]'"
        ) from None
    _try_module(path)
    try:
        return pkcs11.lib(path)
    except (pkcs11.PKCS11Error, ValueError) as error:
        raise TokenError(
            f"the PKCS#11 module {quoted(path)} does not start: {quoted(str(error))}",
            subject=path,
            hint="its own configuration may be missing, such as SOFTHSM2_CONF",
        ) from None


def _try_module(path: str) -> None:
    """Load the module in a process of its own, for a damaged library kills whoever loads it.

    Raises:
        TokenError: It is missing, no library, damaged, or not for this machine.
    """
    if not os.path.isabs(path) or not os.path.isfile(path):
        raise TokenError(
            f"the PKCS#11 module {quoted(path)} is no file with an absolute path",
            subject=path,
            hint="it is a library of the token's maker, such as /usr/lib/softhsm/libsofthsm2.so",
        )
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, with code of ours
            [sys.executable, "-I", "-c", _TRIAL, path],
            capture_output=True,
            timeout=MODULE_TRIAL_SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        reason = type(error).__name__
    else:
        if done.returncode == 0:
            return
        lines = done.stderr.decode("utf-8", "replace").splitlines()
        reason = lines[-1] if lines and done.returncode > 0 else "it is damaged: loading it crashes"
    raise TokenError(
        f"the PKCS#11 module {quoted(path)} cannot be loaded: {quoted(reason)}",
        subject=path,
        hint="it must be a library for this machine, with all that it depends on",
    )


def find_token(library: Module, uri: TokenUri, name: str) -> Token:
    """The one token that a URI names."""
    import pkcs11

    present, matching = [], []
    for slot in library.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            continue  # another reader's affair
        if not token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED:
            continue
        present.append(token)
        if _fits(library, slot, token, uri):
            matching.append(token)
    if len(matching) == 1:
        return matching[0]
    what = "no token fits" if not matching else f"{len(matching)} tokens fit"
    labels = ", ".join(quoted(one.label, limit=40) for one in present[:MAX_TOKEN_OBJECTS])
    raise TokenError(
        f"{name}: {what}",
        subject=name,
        hint=f"the module has {labels or 'no token at all'}; token= names the label, serial= one "
        "of several",
    )


def _fits(library: Module, slot: Slot, token: Token, uri: TokenUri) -> bool:
    facts: dict[str, Callable[[], object]] = {
        "token": lambda: token.label,
        "manufacturer": lambda: token.manufacturer_id,
        "serial": lambda: token.serial.decode("utf-8", "replace"),
        "model": lambda: token.model,
        "slot-id": lambda: str(slot.slot_id),
        "slot-description": lambda: slot.slot_description,
        "slot-manufacturer": lambda: slot.manufacturer_id,
        "library-manufacturer": lambda: library.manufacturer_id,
        "library-description": lambda: library.library_description,
    }
    for about, wanted in uri.attributes.items():
        if about == "library-version":
            if tuple(library.library_version) != version_pair(wanted):
                return False
        elif about in facts:
            # Fixed fields padded with blanks, which RFC 7512 section 2.3 leaves out.
            found = str(facts[about]()).rstrip(" \0")
            if found != wanted.rstrip(" "):
                return False
    return True


@contextlib.contextmanager
def token_errors(name: str) -> Iterator[None]:
    """Whatever the library raises becomes a `TokenError`."""
    import pkcs11

    try:
        yield
    except pkcs11.PKCS11Error as error:
        kind = type(error).__name__
        detail = f" ({quoted(str(error))})" if str(error) else ""
        message, hint = _EXPLAINED.get(
            kind,
            (f"the token answers {kind}{detail}", "its maker's manual says more; CKR_ codes do"),
        )
        raise TokenError(f"{name}: {message}", subject=name, hint=hint) from None
    except (ValueError, KeyError, TypeError, IndexError, MemoryError) as error:
        # The library's own decoding of what a token said.
        raise TokenError(
            f"{name}: the token says what cannot be read ({type(error).__name__})",
            subject=name,
            hint="it or its module is broken, or newer than is understood",
        ) from None
