"""Strict reading of TOML tables: every key is asked for by type, and none may be left over."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeGuard

from r1prov.errors import ManifestError
from r1prov.limits import MAX_INT63
from r1prov.text import is_unsafe, quoted

SHA256 = r"[0-9a-f]{64}"
GIT_ID = r"[0-9a-f]{40}"

_MAX_TEXT = 4096
# Author, message and signature of a Git commit; the Hub's longest seen is a few kB.
_MAX_RAW_TEXT = 64 * 1024
_MAX_ITEMS = 4096
# A table of tables of lists: `quantization_config.weight_block_size`.
_MAX_FACT_DEPTH = 3

_FOREIGN = (
    (b"\xef\xbb\xbf", "a byte order mark; TOML files of ours have none"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"{", "JSON"),
    (b"<", "XML or HTML"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"-----BEGIN", "PEM"),
)


def read_toml(raw: bytes, subject: str) -> dict[str, Any]:
    """Decode and parse TOML; everything that is wrong with it is a `ManifestError`."""
    # Only whoever reads a manifest pays for the import.
    import tomli

    for magic, kind in _FOREIGN:
        if raw.startswith(magic):
            raise ManifestError(f"begins like {kind}, not TOML", subject=subject)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"line {line}: not UTF-8", subject=subject) from None
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        line = getattr(error, "lineno", None) or 1
        message = getattr(error, "msg", None) or str(error)
        raise ManifestError(f"line {line}: {message}", subject=subject) from None
    except RecursionError:
        raise ManifestError("nests too deeply", subject=subject) from None
    except ValueError as error:
        # An integer of thousands of digits, or a date that is none.
        raise ManifestError(f"holds a value that cannot be: {error}", subject=subject) from None


def nearest(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the known word which a misspelt one comes closest to."""
    from difflib import get_close_matches

    # Similarity takes quadratic time, and no word of ours is longer than this.
    close = get_close_matches(word[:64], sorted(known), n=1)
    return f"did you mean `{close[0]}`?" if close else None


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer; in Python `True` is one, in TOML and JSON it is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_fact(value: object, depth: int = _MAX_FACT_DEPTH) -> bool:
    """Whether a value of `config.json` can stand in a manifest and come back unchanged."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -MAX_INT63 <= value <= MAX_INT63
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return len(value) <= _MAX_TEXT and not any(map(is_unsafe, value))
    if depth and isinstance(value, list):
        return len(value) <= _MAX_ITEMS and all(is_fact(item, 0) for item in value)
    if depth and isinstance(value, dict):
        return len(value) <= _MAX_ITEMS and all(
            is_fact(key) and is_fact(item, depth - 1) for key, item in value.items()
        )
    return False


class Table:
    """One TOML table. `finish` refuses every key that nobody asked for.

    Args:
        values: The parsed table.
        path: Its place in the file, such as `files[3]`; empty at the top.
        subject: Name of the file.
    """

    __slots__ = ("_asked", "_path", "_subject", "_values")

    def __init__(self, values: dict[str, Any], path: str, subject: str) -> None:
        self._values = values
        self._path = path
        self._subject = subject
        self._asked: set[str] = set()

    def error(self, message: str, *, hint: str | None = None) -> ManifestError:
        """An error about this table."""
        where = f"{self._path}: " if self._path else ""
        return ManifestError(f"{where}{message}", subject=self._subject, hint=hint)

    def finish(self) -> None:
        """Refuse unknown keys: a misspelt key must not drop what it was meant to say."""
        unknown = sorted(self._values.keys() - self._asked)
        if unknown:
            raise self.error(
                f"unknown key {quoted(unknown[0])}", hint=nearest(unknown[0], self._asked)
            )

    def _take(self, key: str) -> object:
        self._asked.add(key)
        return self._values.get(key)

    def _wrong(self, key: str, wanted: str, value: object) -> ManifestError:
        if value is None:
            return self.error(f"`{key}` is missing")
        return self.error(f"`{key}` must be {wanted}, not {quoted(repr(value), limit=80)}")

    def text(
        self, key: str, *, pattern: str | None = None, empty: bool = False, safe: bool = True
    ) -> str:
        """A string, by default not empty and without control characters."""
        return self._checked(key, self._take(key), pattern, empty=empty, safe=safe)

    def _checked(
        self, key: str, value: object, pattern: str | None, *, empty: bool = False, safe: bool
    ) -> str:
        if not isinstance(value, str):
            raise self._wrong(key, "a string", value)
        if not value and not empty:
            raise self.error(f"`{key}` is empty")
        cap = _MAX_TEXT if safe else _MAX_RAW_TEXT
        if len(value) > cap:
            raise self.error(f"`{key}` has {len(value):,} characters; the cap is {cap:,}")
        if safe and any(map(is_unsafe, value)):
            raise self.error(f"`{key}` holds an unprintable character: {quoted(value)}")
        if pattern is not None and re.fullmatch(pattern, value) is None:
            raise self.error(f"`{key}` is {quoted(value)}, which is not of the form {pattern}")
        return value

    def optional_text(
        self, key: str, *, pattern: str | None = None, safe: bool = True
    ) -> str | None:
        """A string, or None where the key is absent."""
        value = self._take(key)
        return None if value is None else self._checked(key, value, pattern, safe=safe)

    def has(self, key: str) -> bool:
        """Whether the key stands in the table."""
        return key in self._values

    def texts(self, key: str, *, pattern: str | None = None) -> tuple[str, ...]:
        """An array of different strings; empty where the key is absent."""
        value = self._take(key)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise self._wrong(key, "an array of strings", value)
        found = tuple(self._checked(key, item, pattern, safe=True) for item in value)
        if len(set(found)) != len(found):
            raise self.error(f"`{key}` says the same twice")
        return found

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of a closed list of strings."""
        value = self.text(key)
        if value not in choices:
            raise self.error(f"`{key}` is {quoted(value)}, not one of: {', '.join(choices)}")
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """A boolean."""
        value = self._take(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def size(self, key: str) -> int:
        """An integer from 0 to 2^63-1."""
        value = self.optional_size(key)
        if value is None:
            raise self._wrong(key, "an integer", None)
        return value

    def optional_size(self, key: str) -> int | None:
        """An integer from 0 to 2^63-1, or None where the key is absent."""
        value = self._take(key)
        if value is None:
            return None
        if not is_integer(value):
            raise self._wrong(key, "an integer", value)
        if not 0 <= value <= MAX_INT63:
            raise self.error(f"`{key}` is outside 0 ... 2^63-1")
        return value

    def optional_share(self, key: str) -> float | None:
        """A number from 0 to 1, or None where the key is absent."""
        value = self._take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(key, "a number from 0 to 1", value)
        return float(value)

    def optional_date(self, key: str) -> date | None:
        """A date without a time, or None where the key is absent."""
        value = self._take(key)
        if value is None:
            return None
        # A datetime is a date to Python.
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self._wrong(key, "a date such as 2025-01-20", value)
        return value

    def optional_instant(self, key: str) -> datetime | None:
        """A moment with its offset, in UTC, or None where the key is absent."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self._wrong(key, "a time with an offset, such as 2026-01-01T00:00:00Z", value)
        try:
            return value.astimezone(UTC)
        except OverflowError:
            raise self.error(f"`{key}` is out of range") from None

    def table(self, key: str) -> Table:
        """A table."""
        found = self.optional_table(key)
        if found is None:
            raise self._wrong(key, "a table", None)
        return found

    def optional_table(self, key: str) -> Table | None:
        """A table, or None where the key is absent."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key, "a table", value)
        return Table(value, f"{self._path}.{key}" if self._path else key, self._subject)

    def tables(self, key: str) -> list[Table]:
        """An array of tables; empty where the key is absent."""
        value = self._take(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(key, "an array of tables", value)
        path = f"{self._path}.{key}" if self._path else key
        return [Table(item, f"{path}[{i}]", self._subject) for i, item in enumerate(value)]

    def keys_matching(self, pattern: str) -> list[str]:
        """The keys of the table; each must have the form."""
        for key in self._values:
            if re.fullmatch(pattern, key) is None:
                raise self.error(f"{quoted(key)} is not of the form {pattern}")
        return list(self._values)

    def facts(self, key: str) -> dict[str, object]:
        """A table of facts of a `config.json`; empty where the key is absent."""
        value = self._take(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not is_fact(value):
            raise self._wrong(key, "a table of strings, numbers, booleans and short lists", value)
        return value
