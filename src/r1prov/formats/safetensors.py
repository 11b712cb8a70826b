"""Safetensors headers, read as the specification writes them and not as readers happen to.

Specification: https://github.com/huggingface/safetensors, README, section "Format". Reference
implementation: `safetensors/src/tensor.rs`, release 0.8.0, which also accepts duplicate names,
white space before the first `{`, unknown members and more. Whatever this module accepts the
reference accepts too.

The file is `N` (u64, little-endian), `N` bytes of JSON, then the data that the JSON describes.
Only the first two are read, and nothing is allocated because a file says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from r1prov.errors import JsonError, SafetensorsError
from r1prov.formats.executables import foreign_kind, trailing_kind
from r1prov.formats.inventory import Tensor
from r1prov.formats.strictjson import (
    SCAN_BYTES,
    StructureScan,
    has_lone_surrogate,
)
from r1prov.formats.tensor_table import check_layout, find_twins, read_entries
from r1prov.limits import (
    MAX_HEADER_INT_DIGITS,
    MAX_HEADER_INT_TEXT_BYTES,
    MAX_HEADER_METADATA_BYTES,
    MAX_HEADER_PADDING_BYTES,
    MAX_SAFETENSORS_HEADER_BYTES,
    MAX_TENSOR_NAME_BYTES,
    MAX_TENSOR_RANK,
    MAX_TENSORS_PER_FILE,
    WARN_HEADER_PADDING_BYTES,
)
from r1prov.text import plural, quoted

ReadAt = Callable[[int, int], bytes]

# One read covers `N` and most headers (R1's longest has 76 kB), which matters over a network.
_FIRST_READ_BYTES: Final = 128 * 1024
# What is looked at to name bytes that should not be there.
_SNIFF_BYTES: Final = 4096
_END_BYTES: Final = MAX_HEADER_PADDING_BYTES + 1
# Header object, tensor object, array of integers.
_MAX_DEPTH: Final = 4
# Longer arrays and integers never become objects. What is somewhat too long is left to the parser,
# which knows whether it is a shape.
_LONG_ARRAY: Final = re.compile(rb"\[(?:[^\[\]{},]*+,){500}")
_LONG_INTEGER: Final = b"0" * MAX_HEADER_INT_TEXT_BYTES
_CLIPPED_INTEGER: Final = b"0" * (MAX_HEADER_INT_DIGITS + 1)
# An inner object of many members can only be meant as `__metadata__`.
_LONG_OBJECT: Final = re.compile(rb": *\{(?:[^\[\]{}:]*+:){10000}")
# Bytes of strings: an escape spells one byte in six. A tensor has its name and its own members.
_TEXT_BYTES: Final = 6 * MAX_HEADER_METADATA_BYTES
_TEXT_BYTES_PER_OBJECT: Final = 6 * (MAX_TENSOR_NAME_BYTES + 100)
_TOO_WIDE_GAP: Final = b" " * (MAX_HEADER_PADDING_BYTES + 1)
_WIDE_GAP: Final = b" " * (WARN_HEADER_PADDING_BYTES + 1)
_SIMPLIFY: Final = bytes.maketrans(b"\t\n\r123456789", b"   000000000")
# A tensor is two objects' worth of brackets and four members; the rest is for `__metadata__`.
_MAX_OBJECTS: Final = MAX_TENSORS_PER_FILE + 2
_MAX_ARRAYS: Final = 2 * MAX_TENSORS_PER_FILE
_MAX_MEMBERS: Final = 4 * MAX_TENSORS_PER_FILE + 10_000


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one safetensors file, checked against the rules and the size of the file.

    Attributes:
        file: Path of the file in its model.
        size: Size of the file.
        header_bytes: Length of the JSON, padding included, without the eight bytes before it.
        tensors: The tensors in the order of the header.
        metadata: The free-form `__metadata__`.
        warnings: Rule and message of what is legal and odd.
    """

    file: str
    size: int
    header_bytes: int
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]
    warnings: tuple[tuple[str, str], ...]


def read_header(read_at: ReadAt, size: int, *, file: str) -> Header:
    """Read and check the header of a safetensors file.

    Args:
        read_at: Returns bytes at an offset, of at most a length; may return fewer.
        size: Size of the file.
        file: Path of the file in its model, for messages and `Tensor.file`.

    Raises:
        SafetensorsError: The file breaks a rule. Nothing else is raised, whatever the bytes;
            what `read_at` raises passes through.
    """
    try:
        return _read_header(read_at, size, file)
    except SafetensorsError as error:
        error.subject = file
        raise


def _read_header(read_at: ReadAt, size: int, file: str) -> Header:
    if size < 8:
        raise SafetensorsError(
            "header-truncated",
            "the file is too short for a header",
            expected="at least 8 bytes",
            found=plural(size, "byte"),
        )
    head = _read(read_at, 0, min(size, _FIRST_READ_BYTES), least=8)
    length = _header_length(head, size)
    raw, wide, minus, clip = _read_json(read_at, head, length)
    root = _decode(raw, clip=clip)
    tensors, metadata = read_entries(root, file=file)
    # The only thing with a minus that is no negative number. Readers differ (serde_json makes it
    # a float), and no writer writes it.
    if minus:
        raise SafetensorsError("tensor-entry", "an integer is written `-0`", expected="`0`")
    end = 8 + length + check_layout(tensors, available=size - 8 - length)
    if end < size:
        _refuse_trailing(read_at, end, size)
    warnings = find_twins(tensors)
    if wide:
        gap = plural(WARN_HEADER_PADDING_BYTES, "byte")
        warnings.append(("header-padding", f"the header holds more than {gap} of white space"))
    return Header(file, size, length, tuple(tensors), metadata, tuple(warnings))


def _read(read_at: ReadAt, offset: int, length: int, *, least: int | None = None) -> bytes:
    """Exactly `length` bytes, or at least `least` of them when it is given."""
    data = bytearray(read_at(offset, length)[:length])
    while len(data) < (length if least is None else least):
        more = read_at(offset + len(data), length - len(data))[: length - len(data)]
        if not more:
            raise SafetensorsError(
                "header-truncated",
                "the file ends before its own size",
                expected=plural(offset + length, "byte"),
                found=plural(offset + len(data), "byte"),
            )
        data += more
    return bytes(data)


def _header_length(head: bytes, size: int) -> int:
    """`N`: spec "8 bytes: N, an unsigned little-endian 64-bit integer"."""
    length = int.from_bytes(head[:8], "little")
    # `MAX_HEADER_SIZE`; the shortest header is `{}`.
    cap = min(size - 8, MAX_SAFETENSORS_HEADER_BYTES)
    if 2 <= length <= cap:
        return length
    kind = foreign_kind(head)
    hint = f"this looks like {kind}" if kind else None
    if kind is None and 2 <= int.from_bytes(head[:8], "big") <= cap:
        hint = "big-endian length? The specification says little-endian"
    if length > MAX_SAFETENSORS_HEADER_BYTES:
        raise SafetensorsError(
            "header-too-large",
            "the header is longer than any reader takes",
            expected=f"at most {plural(MAX_SAFETENSORS_HEADER_BYTES, 'byte')}",
            found=plural(length, "byte"),
            hint=hint,
        )
    raise SafetensorsError(
        "header-length",
        "the header cannot have the length that the file gives",
        expected=f"from 2 to {plural(size - 8, 'byte')}, what the file has left",
        found=plural(length, "byte"),
        hint=hint,
    )


def _read_json(read_at: ReadAt, head: bytes, length: int) -> tuple[bytes, bool, bool, bool]:
    """The JSON without padding, and whether it has a wide gap, a minus, an integer to clip."""

    def part(begin: int, end: int) -> bytes:
        if 8 + end <= len(head):
            return head[8 + begin : 8 + end]
        return _read(read_at, 8 + begin, end - begin)

    _check_start(part(0, min(length, 64)))
    padding = _padding(part(max(0, length - _END_BYTES), length))
    scan = StructureScan(_MAX_DEPTH)
    objects = arrays = members = text = 0
    wide = padding > WARN_HEADER_PADDING_BYTES
    minus = clip = False
    chunks = []
    overlap = b""
    for begin in range(0, length - padding, SCAN_BYTES):
        chunk = part(begin, min(begin + SCAN_BYTES, length - padding))
        try:
            plain = scan.feed(chunk)
        except JsonError as error:
            raise SafetensorsError("header-json", error.message, expected=error.expected) from None
        objects += plain.count(b"{")
        arrays += plain.count(b"[")
        members += plain.count(b":")
        if objects > _MAX_OBJECTS or arrays > _MAX_ARRAYS or members > _MAX_MEMBERS:
            raise SafetensorsError(
                "too-many-tensors",
                "the header has more entries than any model",
                expected=f"at most {plural(MAX_TENSORS_PER_FILE, 'tensor')}",
            )
        text += len(chunk) - len(plain)
        if text > _TEXT_BYTES + objects * _TEXT_BYTES_PER_OBJECT:
            _refuse_metadata()
        window = (overlap + plain).translate(_SIMPLIFY)
        overlap = window[-MAX_HEADER_PADDING_BYTES:]
        wide = _check_window(window) or wide
        minus = minus or b"-" in plain
        clip = clip or _CLIPPED_INTEGER in window
        chunks.append(chunk)
    return b"".join(chunks), wide, minus, clip


def _check_start(start: bytes) -> None:
    """Spec: "The header data MUST begin with a `{` character (0x7B)"."""
    if start.startswith(b"{\0"):
        raise SafetensorsError(
            "header-utf8", "the header is UTF-16 or UTF-32", expected="UTF-8", found="`{`, NUL"
        )
    if start.startswith(b"{"):
        return
    hint: str | None
    if start.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        hint = "a byte order mark; some JSON readers take it, the specification does not"
    elif start[0] in b" \t\n\r":
        hint = "some readers skip white space here, the specification does not allow it"
    else:
        kind = foreign_kind(start)
        hint = None if kind is None else f"this looks like {kind}"
    raise SafetensorsError(
        "header-start",
        "the header does not begin with `{`",
        expected="byte 0x7b",
        found=f"byte 0x{start[0]:02x}",
        hint=hint,
    )


def _padding(end: bytes) -> int:
    """Spec: "The header data MAY be trailing padded with whitespace (0x20)"."""
    kept = end.rstrip(b" ")
    padding = len(end) - len(kept)
    if padding > MAX_HEADER_PADDING_BYTES:
        raise SafetensorsError(
            "header-padding",
            "the header is padded far beyond need",
            expected=f"at most {plural(MAX_HEADER_PADDING_BYTES, 'byte')} of padding",
            found="more",
        )
    last = kept[-1]
    if last in b"\0\t\n\r":
        raise SafetensorsError(
            "header-padding",
            "the header is padded with something other than spaces",
            expected="byte 0x20",
            found=f"byte 0x{last:02x}",
        )
    if last != 0x7D:
        raise SafetensorsError(
            "header-json",
            "the header does not end with `}`",
            expected="byte 0x7d",
            found=f"byte 0x{last:02x}",
            hint="the header length may be wrong",
        )
    return padding


def _check_window(window: bytes) -> bool:
    """Refuse what costs memory to parse; return whether there is a wide gap."""
    if _LONG_ARRAY.search(window):
        raise SafetensorsError(
            "tensor-rank",
            "an array is too long for a shape",
            expected=f"at most {MAX_TENSOR_RANK} dimensions",
            found="an array of 500 elements or more",
        )
    digits = window.find(_LONG_INTEGER)
    if digits >= 0:
        # An integer of an array can only be meant as a dimension or an offset.
        in_array = window[:digits].rstrip(b" ").endswith((b"[", b","))
        raise SafetensorsError(
            "tensor-overflow" if in_array else "tensor-entry",
            "an integer is too long",
            expected="at most 19 digits",
            found=f"{MAX_HEADER_INT_TEXT_BYTES:,} digits or more",
        )
    # Padding moved to before the last brace is padding all the same.
    if _TOO_WIDE_GAP in window:
        raise SafetensorsError(
            "header-padding",
            "the header holds a long stretch of white space",
            expected=f"at most {plural(MAX_HEADER_PADDING_BYTES, 'byte')}",
            found="more",
        )
    if _LONG_OBJECT.search(window):
        _refuse_metadata()
    return _WIDE_GAP in window


def _refuse_metadata() -> NoReturn:
    raise SafetensorsError(
        "header-metadata",
        "the header holds far more text than its tensors need",
        expected=f"`__metadata__` of at most {plural(MAX_HEADER_METADATA_BYTES, 'byte')}",
        found="more",
    )


def _decode(raw: bytes, *, clip: bool) -> tuple[tuple[str, object], ...]:
    """The header as a tuple of its members: spec "JSON UTF-8 string representing the header"."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise SafetensorsError(
            "header-utf8",
            f"the header is not UTF-8 at byte {error.start:,}",
            expected="UTF-8",
            found=f"byte 0x{raw[error.start]:02x}",
        ) from None
    try:
        # An object becomes a tuple of its members, so that no duplicate is lost; an array is a
        # list, so that the two stay apart.
        root: tuple[tuple[str, object], ...] = json.JSONDecoder(
            object_pairs_hook=tuple,
            parse_float=_refuse_float,
            # A function of ours costs much more than the built-in one.
            parse_int=_clipped if clip else None,
            parse_constant=_refuse_constant,
        ).decode(text)
    except json.JSONDecodeError as error:
        raise SafetensorsError(
            "header-json", f"the header is not JSON: {error.msg} at character {error.pos:,}"
        ) from None
    except (ValueError, RecursionError):
        raise SafetensorsError("header-json", "the header is not JSON that can be read") from None
    if has_lone_surrogate(raw):
        raise SafetensorsError("header-json", "a string holds half a surrogate pair")
    return root


def _clipped(digits: str) -> int:
    """The integer, or of a very long one its start, which is too large for anything as well."""
    return int(digits[: MAX_HEADER_INT_DIGITS + 1])


def _refuse_float(digits: str) -> NoReturn:
    raise SafetensorsError(
        "tensor-entry",
        "a number is not an integer",
        expected="digits only",
        found=quoted(digits, limit=40),
    )


def _refuse_constant(name: str) -> NoReturn:
    raise SafetensorsError("header-json", f"{quoted(name)} is not JSON", expected="a JSON value")


def _refuse_trailing(read_at: ReadAt, end: int, size: int) -> NoReturn:
    length = min(_SNIFF_BYTES, size - end)
    kind = trailing_kind(read_at(end, length), read_at(size - length, length))
    raise SafetensorsError(
        "trailing-bytes",
        "bytes follow the last tensor",
        expected=plural(end, "byte"),
        found=plural(size, "byte"),
        hint=None if kind is None else f"the bytes after the last tensor look like: {kind}",
    )
