"""JSON in the one form that RFC 8785 (JCS) gives it, over which receipts are signed."""

from __future__ import annotations

import json
from typing import Final

from r1prov.errors import ResponseError

# RFC 8785 section 3.1: numbers are IEEE 754 doubles, so larger integers have no exact form.
_MAX_INTEGER: Final = 2**53 - 1


def canonical(value: object) -> bytes:
    """The canonical text of a parsed JSON value.

    Args:
        value: As `formats.strictjson` parses it, which refuses duplicate keys and lone surrogates.

    Raises:
        ResponseError: `response-receipt-malformed`: it has no canonical form.
    """
    try:
        return _written(value).encode()
    except (RecursionError, UnicodeEncodeError):
        raise _refused("nests too deep, or holds half a character") from None


def _refused(why: str) -> ResponseError:
    return ResponseError(
        "response-receipt-malformed",
        f"the document has no canonical form: it {why}",
        expected="JSON that RFC 8785 can write",
    )


def _written(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        # What JSON.stringify escapes (RFC 8785 section 3.2.2.2) is what Python escapes.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise _refused("holds an integer beyond 2^53")
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, dict):
        # Section 3.2.3: sorted by UTF-16 code units.
        keys = sorted(value, key=lambda key: str(key).encode("utf-16-be"))
        return "{" + ",".join(f"{_written(key)}:{_written(value[key])}" for key in keys) + "}"
    raise _refused(f"holds a {type(value).__name__}")


def _number(value: float) -> str:
    """A double as ECMAScript writes it (section 3.2.2.3): the same digits as Python's, placed."""
    if value != value or value in (float("inf"), float("-inf")):
        raise _refused("holds a number that is none")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    # `point` is how many of the digits stand before the point.
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if -6 < point <= 21:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{digits}"
        if point >= len(digits):
            return sign + digits.ljust(point, "0")
        return f"{sign}{digits[:point]}.{digits[point:]}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"
