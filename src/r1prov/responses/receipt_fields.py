"""Strict access to the members of a receipt: JSON that a stranger wrote."""

from __future__ import annotations

import re
from typing import Any, Final

from r1prov.errors import JsonError, ResponseError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_RECEIPT_BYTES
from r1prov.text import quoted

_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_PREFIX: Final = "sha256:"


def malformed(
    message: str, *, subject: str, expected: str | None = None, found: str | None = None
) -> ResponseError:
    """The error that says what is wrong with a receipt."""
    return ResponseError(
        "response-receipt-malformed", message, subject=subject, expected=expected, found=found
    )


def parse_object(raw: bytes, *, subject: str) -> dict[str, Any]:
    """A JSON object, strictly.

    Raises:
        ResponseError: `response-receipt-malformed`.
    """
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_RECEIPT_BYTES)
    except JsonError as error:
        raise malformed(error.message, subject=subject, found=error.found) from None
    if not isinstance(value, dict):
        raise malformed("it is no JSON object", subject=subject)
    return value


def has_surrogate(text: str) -> bool:
    """Whether a text holds half a character, which has no bytes that could be signed."""
    return any("\ud800" <= one <= "\udfff" for one in text)


class Members:
    """The members of one object, each asked for by type. Others are let be: they are signed too.

    Args:
        value: The parsed value.
        subject: What it is, for messages.
    """

    __slots__ = ("_subject", "_value")

    def __init__(self, value: object, subject: str) -> None:
        if not isinstance(value, dict):
            raise malformed(f"{subject} is no JSON object", subject=subject)
        self._value = value
        self._subject = subject

    def _wrong(self, name: str, expected: str) -> ResponseError:
        found = quoted(repr(self._value[name]), limit=80) if name in self._value else "nothing"
        return malformed(
            f"`{name}` of {self._subject} is wrong",
            subject=self._subject,
            expected=expected,
            found=found,
        )

    def text(self, name: str) -> str:
        """A string that is not empty."""
        value = self._value.get(name)
        if not isinstance(value, str) or not value or has_surrogate(value):
            raise self._wrong(name, "a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """A string; None where it is absent or null."""
        return None if self._value.get(name) is None else self.text(name)

    def integer(self, name: str) -> int:
        """An integer that is not negative."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(name, "an integer")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._value.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def items(self, name: str, cap: int) -> list[object]:
        """An array of at most `cap` values."""
        value = self._value.get(name)
        if not isinstance(value, list) or len(value) > cap:
            raise self._wrong(name, f"an array of at most {cap:,} values")
        return value

    def raw(self, name: str, size: int) -> bytes:
        """Lower-case hexadecimal digits of `size` bytes."""
        return self._bytes(name, self.text(name), size)

    def digest(self, name: str) -> bytes:
        """`sha256:` and 64 hexadecimal digits (ACI, appendix A)."""
        text = self.text(name)
        if not text.startswith(_PREFIX):
            raise self._wrong(name, "`sha256:` and 64 hexadecimal digits")
        return self._bytes(name, text.removeprefix(_PREFIX), 32)

    def _bytes(self, name: str, text: str, size: int) -> bytes:
        if len(text) != 2 * size or _HEX.fullmatch(text) is None:
            raise self._wrong(name, f"{2 * size} lower-case hexadecimal digits")
        return bytes.fromhex(text)
