"""Structured fields of HTTP (RFC 9651), parsed strictly and written canonically.

By hand, because signatures stand on it: `http_signature` builds what was signed from what this
module writes, so a text that two readers could take differently must not get through. Beyond the
specification a key that stands twice can be refused (there the last one wins), and byte sequences
have exactly one spelling. `http-sf` is asked for a second opinion in the tests.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from r1prov.errors import ResponseError
from r1prov.limits import MAX_STRUCTURED_FIELD_BYTES
from r1prov.text import quoted
from r1prov.trust.keys import decode_base64

RULE: Final = "response-field-malformed"

_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*")
_BYTES = re.compile(r":([A-Za-z0-9+/]*={0,2}):")
_BOOLEAN = re.compile(r"\?([01])")
_DATE = re.compile(r"@(-?[0-9]{1,15})(?![0-9.])")
_DISPLAY = re.compile(r'%"((?:[ !#$&-~]|%[0-9a-f]{2})*)"')
_OWS: Final = " \t"
_MAX_INTEGER_DIGITS, _MAX_WHOLE_DIGITS, _MAX_FRACTION_DIGITS = 15, 12, 3


class Token(str):
    """A token, which is written without quotation marks."""

    __slots__ = ()


class Date(int):
    """A date, in seconds since 1970."""

    __slots__ = ()


class DisplayString(str):
    """A string of any characters."""

    __slots__ = ()


BareItem = bool | int | Decimal | str | bytes
Parameters = Mapping[str, BareItem]


@dataclass(frozen=True, slots=True)
class Item:
    """One value and its parameters, in the order in which they stood."""

    value: BareItem
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InnerList:
    """A list in parentheses and its parameters."""

    items: tuple[Item, ...]
    parameters: Parameters = field(default_factory=dict)


Member = Item | InnerList


class _Parser:
    """One pass over a field value. Every character is looked at a bounded number of times."""

    __slots__ = ("_at", "_name", "_text", "_unique")

    def __init__(self, text: str, name: str, *, unique: bool) -> None:
        self._text = text
        self._name = name
        self._unique = unique
        self._at = 0

    def error(self, what: str) -> ResponseError:
        return ResponseError(
            RULE,
            f"field {quoted(self._name)} {what} at character {self._at + 1:,}",
            subject=self._name,
            expected="a structured field (RFC 9651)",
            found=quoted(self._text, limit=120),
        )

    def finish(self) -> None:
        if self._at != len(self._text):
            raise self.error("has something after its end")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
        return match

    def skip(self, characters: str) -> None:
        while self._peek() and self._peek() in characters:
            self._at += 1

    def _key(self) -> str:
        match = self._take(_KEY)
        if match is None:
            raise self.error("lacks a key")
        return match.group()

    def dictionary(self) -> dict[str, Member]:
        """RFC 9651 section 4.2.2."""
        found: dict[str, Member] = {}
        while self._at < len(self._text):
            key = self._key()
            if self._unique and key in found:
                raise self.error(f"names {quoted(key)} twice")
            if self._peek() == "=":
                self._at += 1
                found[key] = self.member()
            else:
                found[key] = Item(value=True, parameters=self._parameters())
            self._separator()
        return found

    def list(self) -> tuple[Member, ...]:
        """RFC 9651 section 4.2.1."""
        found = []
        while self._at < len(self._text):
            found.append(self.member())
            self._separator()
        return tuple(found)

    def _separator(self) -> None:
        self.skip(_OWS)
        if self._at == len(self._text):
            return
        if self._peek() != ",":
            raise self.error("lacks a comma")
        self._at += 1
        self.skip(_OWS)
        if self._at == len(self._text):
            raise self.error("ends with a comma")

    def member(self) -> Member:
        if self._peek() != "(":
            return self.item()
        self._at += 1
        items: list[Item] = []
        while True:
            self.skip(" ")
            if self._peek() == ")":
                self._at += 1
                return InnerList(tuple(items), self._parameters())
            if items and self._text[self._at - 1] != " ":
                raise self.error("lacks a space between items")
            items.append(self.item())

    def item(self) -> Item:
        return Item(self._bare(), self._parameters())

    def _parameters(self) -> dict[str, BareItem]:
        found: dict[str, BareItem] = {}
        while self._peek() == ";":
            self._at += 1
            self.skip(" ")
            key = self._key()
            if self._unique and key in found:
                raise self.error(f"has parameter {quoted(key)} twice")
            found[key] = True
            if self._peek() == "=":
                self._at += 1
                found[key] = self._bare()
        return found

    def _bare(self) -> BareItem:
        first = self._peek()
        if first == '"':
            if match := self._take(_STRING):
                return re.sub(r"\\(.)", r"\1", match.group(1))
        elif first == ":":
            if match := self._take(_BYTES):
                return self._binary(match.group(1))
        elif first == "?":
            if match := self._take(_BOOLEAN):
                return match.group(1) == "1"
        elif first == "@":
            if match := self._take(_DATE):
                return Date(match.group(1))
        elif first == "%":
            if match := self._take(_DISPLAY):
                return self._display(match.group(1))
        elif match := self._take(_NUMBER):
            return self._number(match.group())
        elif match := self._take(_TOKEN):
            return Token(match.group())
        raise self.error("holds no value")

    def _binary(self, text: str) -> bytes:
        """Strict base64: RFC 9651 lets a parser take what lacks padding or has stray bits."""
        data = decode_base64(text)
        if data is None:
            raise self.error("holds base64 that is malformed, or in a second spelling")
        return data

    def _display(self, text: str) -> DisplayString:
        raw = re.sub(rb"%([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), text.encode())
        try:
            return DisplayString(raw.decode())
        except UnicodeDecodeError:
            raise self.error("holds a display string that is not UTF-8") from None

    def _number(self, text: str) -> BareItem:
        whole, dot, fraction = text.lstrip("-").partition(".")
        if not dot and len(whole) <= _MAX_INTEGER_DIGITS:
            return int(text)
        if dot and len(whole) <= _MAX_WHOLE_DIGITS and len(fraction) <= _MAX_FRACTION_DIGITS:
            return Decimal(text)
        raise self.error("holds a number with too many digits")


def _parser(lines: Sequence[str], name: str, *, unique: bool) -> _Parser:
    """Lines of one field as one text (RFC 9651 section 4.2); spaces around are no part of it."""
    text = ", ".join(line.strip(_OWS) for line in lines)
    if len(text) > MAX_STRUCTURED_FIELD_BYTES:
        raise ResponseError(
            RULE,
            f"field {quoted(name)} is too long",
            subject=name,
            expected=f"at most {MAX_STRUCTURED_FIELD_BYTES:,} characters",
            found=f"{len(text):,}",
        )
    parser = _Parser(text.strip(" "), name, unique=unique)
    if not text.isascii():
        raise parser.error("holds a character that is not ASCII")
    return parser


def parse_dictionary(lines: Sequence[str], *, name: str, unique: bool = True) -> dict[str, Member]:
    """A dictionary.

    Args:
        lines: Values of the field's lines, in order.
        name: Of the field, for messages.
        unique: Refuse a key that stands twice; else the last one counts, as RFC 9651 has it.

    Raises:
        ResponseError: `response-field-malformed`.
    """
    parser = _parser(lines, name, unique=unique)
    found = parser.dictionary()
    parser.finish()
    return found


def parse_list(lines: Sequence[str], *, name: str, unique: bool = True) -> tuple[Member, ...]:
    """A list. Arguments and errors are those of `parse_dictionary`."""
    parser = _parser(lines, name, unique=unique)
    found = parser.list()
    parser.finish()
    return found


def parse_item(lines: Sequence[str], *, name: str, unique: bool = True) -> Item:
    """An item. Arguments and errors are those of `parse_dictionary`."""
    parser = _parser(lines, name, unique=unique)
    found = parser.item()
    parser.finish()
    return found


def write_bare(value: BareItem) -> str:
    """A bare item (RFC 9651 section 4.1.3.1).

    Raises:
        ResponseError: No structured field can carry the value.
    """
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, Date):
        return f"@{int(value)}"
    if isinstance(value, int):
        if abs(value) >= 10**_MAX_INTEGER_DIGITS:
            raise ResponseError(RULE, f"{value:.3e} has too many digits for a structured field")
        return str(int(value))
    if isinstance(value, Decimal):
        shown = f"{value:.3f}".rstrip("0")
        return shown + "0" if shown.endswith(".") else shown
    if isinstance(value, bytes):
        return f":{base64.b64encode(value).decode()}:"
    if isinstance(value, Token):
        return str(value)
    if isinstance(value, DisplayString):
        return '%"' + "".join(map(_display_byte, value.encode())) + '"'
    if re.fullmatch(r"[ -~]*", value) is None:
        raise ResponseError(
            RULE, f"{quoted(value, limit=80)} holds a character that no structured field can carry"
        )
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _display_byte(byte: int) -> str:
    plain = 0x20 <= byte < 0x7F and byte not in b'%"'
    return chr(byte) if plain else f"%{byte:02x}"


def write_parameters(parameters: Parameters) -> str:
    """Parameters (section 4.1.1.2), each with its semicolon."""
    return "".join(
        f";{key}" if value is True else f";{key}={write_bare(value)}"
        for key, value in parameters.items()
    )


def write_member(member: Member) -> str:
    """An item or an inner list (sections 4.1.3 and 4.1.1.1)."""
    if isinstance(member, InnerList):
        inside = " ".join(write_member(item) for item in member.items)
        return f"({inside}){write_parameters(member.parameters)}"
    return write_bare(member.value) + write_parameters(member.parameters)


def write_dictionary(members: Mapping[str, Member]) -> str:
    """A dictionary (section 4.1.2)."""
    return ", ".join(
        key + write_parameters(member.parameters)
        if isinstance(member, Item) and member.value is True
        else f"{key}={write_member(member)}"
        for key, member in members.items()
    )


def write_list(members: Sequence[Member]) -> str:
    """A list (section 4.1.1)."""
    return ", ".join(map(write_member, members))
