"""The key-value pairs of a GGUF header: scalars and short strings kept, the rest summed up."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from r1prov.errors import GgufError
from r1prov.formats.gguf_cursor import Cursor, LongText
from r1prov.formats.gguf_types import ARRAY, BOOL, SCALARS, STRING, UINT32, VALUE_TYPES
from r1prov.limits import (
    MAX_GGUF_ALIGNMENT,
    MAX_GGUF_KEPT_BYTES,
    MAX_GGUF_KEPT_TEXT_BYTES,
    MAX_GGUF_KEY_BYTES,
    MAX_GGUF_STRING_BYTES,
    MAX_TEMPLATE_BYTES,
)
from r1prov.text import plural, quoted

ALIGNMENT_KEY: Final = "general.alignment"
ARCHITECTURE_KEY: Final = "general.architecture"
TOKENS_KEY: Final = "tokenizer.ggml.tokens"
# `tokenizer.chat_template`, and `tokenizer.chat_template.NAME` for further ones.
_TEMPLATE_KEY: Final = "tokenizer.chat_template"
_DEFAULT_ALIGNMENT: Final = 32
_KEPT_ODD_TOKENS: Final = 8
_KEPT_MATCH: Final = 40

# The format asks for lower case, digits, `_` and `.`; architectures such as `command-r` put a
# hyphen into the keys that start with them.
_KEY: Final = re.compile(r"[a-z0-9_.-]+")
_BYTE_TOKEN: Final = re.compile(rb"<0x[0-9A-Fa-f]{2}>")
# What a prompt template has no use for: ways from the template language into Python.
_SUSPICIOUS: Final = re.compile(
    r"__\w+__|\\x5f|\\u005f|\\137|\|\s*attr\b|\blipsum\b|\bcycler\b|\bjoiner\b|\bpopen\b"
    r"|\bsubprocess\b|\bos\s*\.\s*system\b|\beval\s*\(|\bexec\s*\(|\bgetattr\b"
    r"|\{%-?\s*(?:include|import|from|extends)\b",
    re.IGNORECASE,
)


class ArraySummary(NamedTuple):
    """An array that was skipped.

    Attributes:
        type: Type of its elements, such as `STRING`.
        length: How many they are.
    """

    type: str
    length: int


Value = bool | int | float | str | LongText | ArraySummary


class Template(NamedTuple):
    """A prompt template; it is never rendered.

    Attributes:
        key: Its key.
        size: Bytes of its UTF-8.
        sha256: Their SHA-256 in hex.
        suspicious: What in it reaches outside the template language, empty if nothing does.
        searched: Whether it was short enough to be searched.
    """

    key: str
    size: int
    sha256: str
    suspicious: tuple[str, ...]
    searched: bool


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the key-value pairs say.

    Attributes:
        values: By key, in the order of the file.
        types: Type name of each value.
        alignment: Bytes to which tensors are aligned.
        templates: The prompt templates.
        odd_tokens: Tokens that look like byte tokens and are none, up to eight.
    """

    values: dict[str, Value]
    types: dict[str, str]
    alignment: int
    templates: tuple[Template, ...]
    odd_tokens: tuple[str, ...]


def read_metadata(cursor: Cursor, count: int) -> Metadata:
    """Read `count` key-value pairs.

    Raises:
        GgufError: A pair breaks a rule.
    """
    return MetadataReader(cursor).read(count)


class MetadataReader:
    """Reads pairs one after the other; `elements` is what becomes of an array."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.kept = 0
        self.templates: list[Template] = []
        self.odd_tokens: list[str] = []

    def read(self, count: int) -> Metadata:
        """All pairs."""
        values: dict[str, Value] = {}
        types: dict[str, str] = {}
        for _ in range(count):
            key = self.key()
            if key in values:
                raise GgufError(
                    "gguf-duplicate",
                    f"key {quoted(key)} stands twice",
                    expected="each key once",
                    hint="readers keep different ones of the two",
                )
            number = self.cursor.u32()
            values[key] = self.value(key, number)
            types[key] = VALUE_TYPES[number]
            if self.kept > MAX_GGUF_KEPT_BYTES:
                raise GgufError(
                    "gguf-count",
                    "the file has more metadata than any model",
                    expected=f"at most {plural(MAX_GGUF_KEPT_BYTES, 'byte')} of keys and short "
                    "values",
                    found="more",
                )
        alignment = _alignment(values, types)
        return Metadata(values, types, alignment, tuple(self.templates), tuple(self.odd_tokens))

    def key(self) -> str:
        """The next key."""
        length = self.cursor.length("a key", MAX_GGUF_KEY_BYTES)
        key = self.cursor.short_text("a key", length)
        if not _KEY.fullmatch(key):
            raise GgufError(
                "gguf-key",
                f"key {quoted(key, limit=80)} is malformed",
                expected="lower-case letters, digits, `_`, `-` and `.`",
                found="an empty key" if not key else None,
                hint="the count of key-value pairs may be too large, or a length before it wrong",
            )
        self.kept += length
        return key

    def value(self, key: str, number: int) -> Value:
        """The next value, of the type with that number."""
        if number == STRING:
            return self.text(key)
        if number == ARRAY:
            return self.array(key)
        self.kept += 8
        layout = SCALARS.get(number)
        if layout is None:
            raise _unknown_type(key, number)
        value = self.cursor.scalar(layout)
        if number != BOOL:
            return value
        if value > 1:
            raise GgufError(
                "gguf-value",
                f"the value of {quoted(key)} is no boolean",
                expected="byte 0 or 1",
                found=f"byte {value}",
            )
        return value == 1

    def text(self, key: str) -> str | LongText:
        """The next string."""
        what = f"the value of {quoted(key, limit=80)}"
        length = self.cursor.length(what, MAX_GGUF_STRING_BYTES)
        template = key == _TEMPLATE_KEY or key.startswith(_TEMPLATE_KEY + ".")
        if length > (MAX_TEMPLATE_BYTES if template else MAX_GGUF_KEPT_TEXT_BYTES):
            long = self.cursor.long_text(what, length)
            if template:
                self.templates.append(Template(key, long.size, long.sha256, (), searched=False))
            return long
        text = self.cursor.short_text(what, length)
        if not template:
            self.kept += length
            return text
        digest = hashlib.sha256(text.encode()).hexdigest()
        found = {match[0][:_KEPT_MATCH] for match in _SUSPICIOUS.finditer(text)}
        self.templates.append(
            Template(key, length, digest, tuple(sorted(found)[:_KEPT_ODD_TOKENS]), searched=True)
        )
        return LongText(length, digest)

    def array(self, key: str) -> ArraySummary:
        """The next array."""
        what = f"the array {quoted(key, limit=80)}"
        number = self.cursor.u32()
        count = self.cursor.u64()
        self.kept += 8
        if number == ARRAY:
            raise GgufError(
                "gguf-array",
                f"{what} is an array of arrays",
                expected="an array of numbers, booleans or strings",
                hint="no runtime reads nested arrays",
            )
        size = 8 if number == STRING else SCALARS[number].size if number in SCALARS else None
        if size is None:
            raise _unknown_type(key, number)
        if count * size > self.cursor.remaining:
            raise GgufError(
                "gguf-array",
                f"{what} is longer than the file",
                expected=f"at most {self.cursor.remaining // size:,} elements",
                found=f"{count:,}",
            )
        self.elements(key, number, count)
        return ArraySummary(VALUE_TYPES[number], count)

    def elements(self, key: str, number: int, count: int) -> None:
        """Move over the elements of an array, whose extent has been checked."""
        if number == STRING:
            visit = self.visit_token if key == TOKENS_KEY else None
            what = f"the array {quoted(key, limit=80)}"
            self.cursor.skip_strings(what, count, visit)
        else:
            self.cursor.skip(count * SCALARS[number].size)

    def visit_token(self, token: bytes) -> None:
        """Keep a token that looks like a byte token and is none."""
        odd = token.endswith(b">") and len(token) <= 64 and not _BYTE_TOKEN.fullmatch(token)
        if odd and len(self.odd_tokens) < _KEPT_ODD_TOKENS:
            self.odd_tokens.append(token.decode())


def _unknown_type(key: str, number: int) -> GgufError:
    return GgufError(
        "gguf-type",
        f"the value of {quoted(key, limit=80)} has an unknown type",
        expected=f"0 to {max(VALUE_TYPES)}",
        found=f"{number:,}",
        hint="the count of key-value pairs may be too large, or a length before it wrong",
    )


def _alignment(values: dict[str, Value], types: dict[str, str]) -> int:
    """Format: "The alignment is always a multiple of 8"; llama.cpp: a UINT32, a power of two."""
    value = values.get(ALIGNMENT_KEY, _DEFAULT_ALIGNMENT)
    kind = types.get(ALIGNMENT_KEY, VALUE_TYPES[UINT32])
    if (
        kind == VALUE_TYPES[UINT32]
        and isinstance(value, int)
        and 8 <= value <= MAX_GGUF_ALIGNMENT
        and not value & (value - 1)
    ):
        return value
    raise GgufError(
        "gguf-alignment",
        f"`{ALIGNMENT_KEY}` is impossible",
        expected=f"a UINT32, a power of two from 8 to {MAX_GGUF_ALIGNMENT:,}",
        found=f"{kind} {value:,}" if isinstance(value, int) else kind,
    )
