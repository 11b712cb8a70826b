"""PKCS#11 URIs (RFC 7512): which key on which token signs, and where its module and PIN are.

`pkcs11:token=release;object=manifests;id=%01?module-path=/usr/lib/softhsm/libsofthsm2.so`

Read strictly: what is not understood could have narrowed the choice, so it is an error. Section 2.3
gives the grammar, 2.4 how attributes are compared. No value of a URI stands in an error, for a PIN
may be among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from r1prov.errors import UsageError
from r1prov.limits import MAX_KEY_URI_CHARACTERS
from r1prov.text import printable, quoted

SCHEME: Final = "pkcs11:"
# Section 2.3, `pk11-pattr` and `pk11-qattr`; `id` alone holds bytes and no text.
PATH_ATTRIBUTES: Final = (
    *("token", "manufacturer", "serial", "model"),
    *("slot-id", "slot-description", "slot-manufacturer"),
    *("library-manufacturer", "library-description", "library-version"),
    *("object", "type", "id"),
)
QUERY_ATTRIBUTES: Final = ("module-path", "module-name", "pin-source", "pin-value")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# `pk11-pchar` and what either part takes beside it; everything else is percent-encoded.
_PATH_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&]|%[0-9A-Fa-f]{2})*")
_QUERY_VALUE = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=/?|]|%[0-9A-Fa-f]{2})*")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_PLAIN = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:[]@!$'()*+,="
)
_SLOT_ID = re.compile(r"0|[1-9][0-9]{0,19}")
_VERSION = re.compile(r"(0|[1-9][0-9]{0,2})(?:\.(0|[1-9][0-9]{0,2}))?")
_FILE_HOSTS = ("", "localhost")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """A URI as read.

    Attributes:
        attributes: What token and key must be like, by attribute name, but for `id`. An empty value
            stands for an empty field, as in `serial=` of section 3.
        id: The key's `CKA_ID`, or None if any will do.
        module_path: The library that speaks to the token: an absolute path, or None.
        pin_source: The file that holds the PIN: an absolute path, or None.
    """

    attributes: Mapping[str, str]
    id: bytes | None = None
    module_path: str | None = None
    pin_source: str | None = None

    def __str__(self) -> str:
        """What is looked for, without module and PIN: how messages name the key."""
        parts = [f"{name}={_encoded(value.encode())}" for name, value in self.attributes.items()]
        if self.id is not None:
            parts.append("id=" + "".join(f"%{byte:02X}" for byte in self.id))
        return SCHEME + ";".join(parts)


def is_token_uri(text: str) -> bool:
    """Whether a key is named by a URI and not by a file (`./pkcs11:x` is a file)."""
    return text[: len(SCHEME)].lower() == SCHEME


def parse_token_uri(text: str) -> TokenUri:
    """Read a URI.

    Raises:
        UsageError: It breaks the grammar, has an attribute twice or one that is not understood,
            holds a PIN, or names a PIN or module by what is no file. The message names the
            attribute, never its value.
    """
    if not is_token_uri(text):
        raise _error("does not begin with pkcs11:")
    if len(text) > MAX_KEY_URI_CHARACTERS:
        raise _error(f"is longer than {MAX_KEY_URI_CHARACTERS:,} characters")
    path, mark, query = text[len(SCHEME) :].partition("?")
    wanted = _parts(path, ";", PATH_ATTRIBUTES, _PATH_VALUE) if path else {}
    how = _parts(query, "&", QUERY_ATTRIBUTES, _QUERY_VALUE) if mark else {}
    if "pin-value" in how:
        raise _error(
            "holds a PIN, which others can read in the list of processes and in shell histories",
            "put it into a file and say pin-source=file:/PATH, or into R1PROV_PKCS11_PIN; change "
            "that PIN",
        )
    if "module-name" in how:
        raise _error("names its module without a path", "say module-path=/PATH/TO/MODULE.so")
    key_id = wanted.pop("id", None)
    attributes = {name: _text(name, value) for name, value in wanted.items()}
    _check(attributes)
    module, pin = how.get("module-path"), how.get("pin-source")
    return TokenUri(
        MappingProxyType(attributes),
        key_id,
        None if module is None else _absolute("module-path", _text("module-path", module)),
        None if pin is None else _pin_file(_text("pin-source", pin)),
    )


def version_pair(text: str) -> tuple[int, int] | None:
    """`library-version`: major and minor, the minor 0 if absent; None if it is no version."""
    match = _VERSION.fullmatch(text)
    return None if match is None else (int(match[1]), int(match[2] or 0))


def _error(what: str, hint: str | None = None) -> UsageError:
    return UsageError(f"the PKCS#11 URI {what}", hint=hint or "RFC 7512 and docs/pkcs11.md say how")


def _parts(
    text: str, separator: str, known: tuple[str, ...], form: re.Pattern[str]
) -> dict[str, bytes]:
    """The attributes of one half of a URI, decoded."""
    found: dict[str, bytes] = {}
    for part in text.split(separator):
        name, equals, value = part.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise _error(f"has a part between `{separator}` that is not NAME=VALUE")
        if name not in known:
            raise _error(f"has the attribute {quoted(name)}, which is not understood here")
        if name in found:
            raise _error(f"has `{name}` twice")
        if not form.fullmatch(value):
            raise _error(
                f"has a character in `{name}` that must be percent-encoded, or a `%` without two "
                "hex digits"
            )
        found[name] = _decoded(value)
    return found


def _decoded(value: str) -> bytes:
    return _PERCENT.sub(lambda match: bytes([int(match[1], 16)]), value.encode("ascii"))


def _encoded(value: bytes) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in value)


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _error(f"has bytes in `{name}` that are not UTF-8") from None


def _check(attributes: Mapping[str, str]) -> None:
    """Attributes of which not every text makes sense."""
    if attributes.get("type", "private") not in ("private", "public"):
        raise _error("has a `type` that is no key pair", "say type=private, or leave it out")
    if not _SLOT_ID.fullmatch(attributes.get("slot-id", "0")):
        raise _error("has a `slot-id` that is no number")
    if version_pair(attributes.get("library-version", "0")) is None:
        raise _error("has a `library-version` that is not MAJOR.MINOR")


def _absolute(name: str, path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise _error(f"has a `{name}` that is no absolute path")
    return path


def _pin_file(source: str) -> str:
    """The path in `pin-source`: itself, or in a `file:` URI (RFC 8089) on this host."""
    if source.startswith("|"):
        raise _error("wants a command run for the PIN, which is not done", "say pin-source=file:/…")
    if source[:5].lower() == "file:":
        source = source[5:]
        if source.startswith("//"):
            host, slash, rest = source[2:].partition("/")
            if host.lower() not in _FILE_HOSTS:
                raise _error("wants the PIN from a file of another host")
            source = slash + rest
        if not _QUERY_VALUE.fullmatch(source) or "?" in source:
            raise _error("has a `file:` URI in `pin-source` that is malformed")
        source = _text("pin-source", _decoded(source))
    return _absolute("pin-source", source)


def shown_id(key_id: bytes) -> str:
    """A `CKA_ID` as a URI has it, for messages."""
    return printable("id=" + "".join(f"%{byte:02X}" for byte in key_id), limit=120)
