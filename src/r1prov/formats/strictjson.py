r"""JSON read strictly: one text has one meaning, or none.

The `json` module of the standard library takes a byte order mark, UTF-16, duplicate keys (the last
wins), `NaN`, `1e999` (infinity) and lone surrogates, and dies of deep nesting. Two readers that
disagree about a text can be shown two models, so all of that is refused here. Configs that Python
programs wrote may need `NaN`, `Infinity` and long integers: a caller can allow those by name.

Rules: `json-size`, `json-encoding`, `json-depth`, `json-values`, `json-duplicate-key`,
`json-number`, `json-surrogate`, `json-syntax`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final

from r1prov.errors import JsonError
from r1prov.limits import MAX_JSON_DEPTH, MAX_JSON_INT_DIGITS, MAX_JSON_VALUES
from r1prov.text import plural, quoted

# Small enough that a hostile text is refused after little work, large enough to run at C speed.
SCAN_BYTES: Final = 256 * 1024

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
# Each bracket as the signed byte that it adds to the depth. Which kind closes which is left to
# the parser.
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
# An escape that is no `\u`, or a whole surrogate pair: what is left of `\ud8..`-`\udf..` is alone.
_PAIRED_ESCAPE = re.compile(
    rb"\\(?:[^u]|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})", re.DOTALL
)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


class StructureScan:
    """Looks at the brackets of a JSON text before any parser does, chunk by chunk.

    A recursive parser must not be handed a text whose depth is unknown. The scan is linear, holds
    one chunk at a time, and never needs the text to be valid.

    Args:
        max_depth: Deepest nesting of arrays and objects.
    """

    __slots__ = ("_depth", "_inside", "_max_depth", "_pending")

    def __init__(self, max_depth: int) -> None:
        self._max_depth = max_depth
        self._depth = 0
        self._pending = b""  # a backslash whose second half is in the next chunk
        self._inside = 0  # 1 within a string

    def feed(self, chunk: bytes) -> bytes:
        """Scan the next chunk and return it without the content of its strings.

        Raises:
            JsonError: `json-depth` or, for brackets that close nothing, `json-syntax`.
        """
        data = self._pending + chunk
        self._pending = b""
        if b"\\" in data:
            # A backslash outside a string stops every JSON parser right there, so whatever this
            # makes of the rest of such a text does not matter.
            data = _ESCAPE.sub(b"", data)
            if data.endswith(b"\\"):
                data, self._pending = data[:-1], b"\\"
        pieces = data.split(b'"')
        outside = b'"'.join(pieces[self._inside :: 2])
        self._inside ^= (len(pieces) - 1) & 1

        steps = outside.translate(_STEPS, _NOT_BRACKETS)
        if steps:
            depths = list(accumulate(memoryview(steps).cast("b"), initial=self._depth))
            if max(depths) > self._max_depth:
                raise JsonError(
                    "json-depth",
                    "JSON nests too deep",
                    expected=f"at most {plural(self._max_depth, 'level')}",
                )
            if min(depths) < 0:
                raise JsonError("json-syntax", "a bracket closes nothing")
            self._depth = depths[-1]
        return outside


def has_lone_surrogate(raw: bytes) -> bool:
    r"""Whether syntactically valid JSON has half a surrogate pair as a `\u` escape."""
    if not _SURROGATE_ESCAPE.search(raw):
        return False
    return _SURROGATE_ESCAPE.search(_PAIRED_ESCAPE.sub(b" ", raw)) is not None


def parse_json(
    raw: bytes,
    *,
    subject: str,
    max_bytes: int,
    max_depth: int = MAX_JSON_DEPTH,
    max_int_digits: int = MAX_JSON_INT_DIGITS,
    constants: bool = False,
    object_hook: Callable[[list[tuple[str, object]]], object] | None = None,
) -> object:
    """Parse one strict JSON text.

    Args:
        raw: The text, in UTF-8.
        subject: What the text is, for messages.
        max_bytes: Longest text to look at.
        max_depth: Deepest nesting of arrays and objects.
        max_int_digits: Most digits of an integer. The `model_max_length` of transformers, which
            stands for "none", is `int(1e30)` and has 31.
        constants: Take `NaN`, `Infinity` and `-Infinity` as floats. They are no JSON, but what the
            `json` module of Python writes, such as in the `time_step_limit` of Mamba 2. A number
            that overflows to infinity is refused all the same.
        object_hook: Makes a value of the members of an object, in the order of the text; a `dict`
            when absent. Duplicate keys are refused before it is called.

    Raises:
        JsonError: The text is not strict JSON. Nothing else is raised, whatever the bytes.
    """
    try:
        return _parse(
            raw,
            max_bytes,
            max_depth,
            object_hook,
            max_int_digits=max_int_digits,
            constants=constants,
        )
    except JsonError as error:
        error.subject = subject
        raise
    except json.JSONDecodeError as error:
        raise JsonError(
            "json-syntax",
            f"not JSON: {error.msg} at line {error.lineno} column {error.colno}",
            subject=subject,
            hint=_kind_hint(raw),
        ) from None
    except RecursionError:
        raise JsonError("json-depth", "JSON nests too deep", subject=subject) from None


def _parse(
    raw: bytes,
    max_bytes: int,
    max_depth: int,
    object_hook: Callable[[list[tuple[str, object]]], object] | None,
    *,
    max_int_digits: int,
    constants: bool,
) -> object:
    if len(raw) > max_bytes:
        raise JsonError(
            "json-size",
            "JSON text is too long",
            expected=f"at most {plural(max_bytes, 'byte')}",
            found=plural(len(raw), "byte"),
        )
    # RFC 8259 §8.1: UTF-8, and no byte order mark.
    if raw.startswith(b"\xef\xbb\xbf"):
        raise JsonError("json-encoding", "JSON starts with a byte order mark", expected="UTF-8")
    if b"\0" in raw:
        raise JsonError(
            "json-encoding", "JSON holds a NUL byte", expected="UTF-8", hint=_kind_hint(raw)
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise JsonError(
            "json-encoding",
            f"JSON is not UTF-8 at byte {error.start:,}",
            found=f"byte 0x{raw[error.start]:02x}",
            hint=_kind_hint(raw),
        ) from None
    scan = StructureScan(max_depth)
    commas = containers = 0
    for start in range(0, len(raw), SCAN_BYTES):
        plain = scan.feed(raw[start : start + SCAN_BYTES])
        # A value that is not the first of its array or object stands behind a comma.
        commas += plain.count(b",")
        containers += plain.count(b"[") + plain.count(b"{")
        if commas > MAX_JSON_VALUES or containers > MAX_JSON_VALUES:
            raise JsonError(
                "json-values",
                "JSON holds too many values",
                expected=f"at most {MAX_JSON_VALUES:,}",
            )

    def members(pairs: list[tuple[str, object]]) -> object:
        value = dict(pairs)
        if len(value) != len(pairs):
            key = first_duplicate(pairs)
            raise JsonError("json-duplicate-key", f"key {quoted(key)} stands twice in one object")
        return value if object_hook is None else object_hook(pairs)

    value: object = json.JSONDecoder(
        object_pairs_hook=members,
        parse_int=lambda digits: _integer(digits, max_int_digits),
        parse_float=_number,
        parse_constant=float if constants else _refuse_constant,
    ).decode(text)
    # RFC 8259 §8.2: half a surrogate pair is no character, and readers differ in what they make
    # of it.
    if has_lone_surrogate(raw):
        raise JsonError("json-surrogate", "a string holds half a surrogate pair")
    return value


def first_duplicate(pairs: Iterable[tuple[str, object]]) -> str:
    """The first key that stands a second time, or the empty string."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return ""


def _integer(digits: str, most: int) -> int:
    count = len(digits.lstrip("-"))
    if count <= most:
        try:
            return int(digits)
        except ValueError:  # longer than `sys.get_int_max_str_digits()` lets the interpreter read
            most = sys.get_int_max_str_digits()
    raise JsonError(
        "json-number",
        "an integer is too long",
        expected=f"at most {plural(most, 'digit')}",
        found=plural(count, "digit"),
    )


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise JsonError(
            "json-number", "a number is too large for a double", found=quoted(digits, limit=40)
        )
    return value


def _refuse_constant(name: str) -> float:
    # RFC 8259 §6: "Numeric values that cannot be represented […] are not permitted."
    raise JsonError("json-number", f"{quoted(name)} is not a JSON number")


def _kind_hint(raw: bytes) -> str | None:
    start = raw[:64].lstrip()
    if start.startswith(b"<"):
        return "this looks like HTML or XML, such as an error page of a server"
    if start.startswith(b"PK"):
        return "this looks like a ZIP archive"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:2]:
        return "this looks like UTF-16; write it as UTF-8"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the file; fetch it with `git lfs pull`"
    return None
