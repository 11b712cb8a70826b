"""The entries of a safetensors header: each tensor by itself, then how they share the data.

Quotations are from https://github.com/huggingface/safetensors, README, section "Format".
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import Final, NoReturn

from r1prov.errors import SafetensorsError
from r1prov.formats.inventory import DTYPE_BITS, Tensor
from r1prov.formats.names import tensor_name_fault
from r1prov.formats.strictjson import first_duplicate
from r1prov.limits import (
    MAX_HEADER_INT_DIGITS,
    MAX_HEADER_METADATA_BYTES,
    MAX_INT63,
    MAX_TENSOR_RANK,
    MAX_TENSORS_PER_FILE,
)
from r1prov.text import plural, quoted

# The members of a JSON object in order, so that no duplicate is lost. JSON arrays are lists.
Members = tuple[tuple[str, object], ...]

_METADATA: Final = "__metadata__"
_MEMBERS: Final = frozenset(("dtype", "shape", "data_offsets"))


def read_entries(root: Members, *, file: str) -> tuple[list[Tensor], dict[str, str]]:
    """Make tensors and metadata of the members of a header.

    Args:
        root: The header: objects as tuples of their members, arrays as lists.
        file: Path of the file, for `Tensor.file`.

    Raises:
        SafetensorsError: An entry breaks a rule.
    """
    # Spec: "Duplicate keys are disallowed. Not all parsers may respect this." Those that do not
    # keep different ones of the two (Trail of Bits, TOB-SFTN-7).
    if len({name for name, _ in root}) != len(root):
        _refuse_duplicate(root, "the header")
    if len(root) > MAX_TENSORS_PER_FILE + 1:
        raise SafetensorsError(
            "too-many-tensors",
            "the header has more tensors than any model",
            expected=f"at most {plural(MAX_TENSORS_PER_FILE, 'tensor')}",
            found=f"{len(root):,} entries",
        )
    tensors = []
    metadata: dict[str, str] = {}
    for name, value in root:
        if name == _METADATA:
            metadata = _metadata(value)
            continue
        fault = tensor_name_fault(name)
        if fault is not None:
            raise SafetensorsError("tensor-name", f"tensor name {quoted(name)} {fault}")
        tensors.append(_tensor(name, value, file))
    return tensors, metadata


def _refuse_duplicate(members: Members, where: str) -> NoReturn:
    key = first_duplicate(members)
    raise SafetensorsError(
        "header-duplicate-key",
        f"key {quoted(key)} stands twice in {where}",
        expected="each key once",
        hint="readers keep different ones of the two",
    )


def _metadata(value: object) -> dict[str, str]:
    """Spec: "Arbitrary JSON is not allowed, all values must be strings"."""
    if type(value) is not tuple:
        raise SafetensorsError(
            "header-metadata",
            "`__metadata__` is not an object",
            expected="an object of strings",
            found=_kind(value),
        )
    result: dict[str, str] = {}
    size = 0
    for key, text in value:
        if type(text) is not str:
            raise SafetensorsError(
                "header-metadata",
                f"`__metadata__` member {quoted(key)} is not a string",
                expected="a string",
                found=_kind(text),
                hint="no tensor may be named `__metadata__`" if key in _MEMBERS else None,
            )
        size += len(key.encode()) + len(text.encode())
        result[key] = text
    if size > MAX_HEADER_METADATA_BYTES:
        raise SafetensorsError(
            "header-metadata",
            "`__metadata__` is too large",
            expected=f"at most {plural(MAX_HEADER_METADATA_BYTES, 'byte')} of keys and values",
            found=plural(size, "byte"),
        )
    if len(result) != len(value):
        _refuse_duplicate(value, "`__metadata__`")
    return result


def _tensor(name: str, value: object, file: str) -> Tensor:
    """One entry: `"NAME": {"dtype": DTYPE, "shape": [D, …], "data_offsets": [BEGIN, END]}`."""
    if type(value) is not tuple:
        # The reference takes `["F32",[2],[0,8]]`: serde reads a struct from a sequence too.
        raise _bad_entry(name, "is not an object", "an object", _kind(value))
    members: dict[str, object] = dict(value)
    if members.keys() != _MEMBERS or len(value) != 3:
        _refuse_members(name, value, members)
    dtype, shape, offsets = members["dtype"], members["shape"], members["data_offsets"]

    if type(dtype) is not str:
        raise _bad_entry(name, "has a dtype that is no string", "a string", _kind(dtype))
    bits = DTYPE_BITS.get(dtype)
    if bits is None:
        raise SafetensorsError(
            "dtype-unknown",
            f"tensor {quoted(name)} has an unknown dtype",
            expected="a dtype of safetensors 0.8.0",
            found=quoted(dtype, limit=40),
        )

    if type(shape) is not list:
        raise _bad_entry(name, "has a shape that is no array", "an array", _kind(shape))
    if len(shape) > MAX_TENSOR_RANK:
        raise SafetensorsError(
            "tensor-rank",
            f"tensor {quoted(name)} has too many dimensions",
            expected=f"at most {MAX_TENSOR_RANK}",
            found=f"{len(shape):,}",
        )
    # Bits of the tensor with every zero dimension taken as one: whether the product overflows
    # must not depend on the order of the dimensions, as it does where a zero hides it.
    widest = bits
    for dimension in shape:
        if type(dimension) is not int or dimension < 0:  # a bool is an `int` subclass
            raise _bad_entry(
                name, "has a dimension that is no size", "an integer from 0", _kind(dimension)
            )
        widest *= dimension or 1
    if widest > MAX_INT63:
        raise SafetensorsError(
            "tensor-overflow",
            f"the shape of tensor {quoted(name)} overflows",
            expected="less than 2^63 bits, zero dimensions left out",
            found=quoted(str(shape), limit=120),
        )

    if type(offsets) is not list or len(offsets) != 2:
        raise _bad_entry(name, "has offsets that are no pair", "an array of 2", _kind(offsets))
    begin, end = offsets
    for offset in offsets:
        if type(offset) is not int:
            raise _bad_entry(name, "has an offset that is no integer", "integers", _kind(offset))
    if not 0 <= begin <= end <= MAX_INT63:
        raise SafetensorsError(
            "tensor-offset",
            f"the byte range of tensor {quoted(name)} is impossible",
            expected="0 <= begin <= end < 2^63",
            found=_range(begin, end),
        )
    total = 0 if 0 in shape else widest
    if total != (end - begin) * 8:
        _refuse_size(name, dtype, shape, total, end - begin)
    return Tensor(name, dtype, tuple(shape), file, begin, end)


def _refuse_members(name: str, value: Members, members: dict[str, object]) -> NoReturn:
    if len(members) != len(value):
        _refuse_duplicate(value, f"tensor {quoted(name)}")
    unknown = [key for key in members if key not in _MEMBERS]
    if unknown:
        # A place to hide data today, or a meaning that this reader would miss tomorrow.
        raise SafetensorsError(
            "header-unknown-field",
            f"tensor {quoted(name)} has an unknown member",
            expected="`dtype`, `shape` and `data_offsets`",
            found=quoted(unknown[0]),
        )
    missing = sorted(_MEMBERS - members.keys())[0]
    raise _bad_entry(name, f"lacks `{missing}`", "`dtype`, `shape` and `data_offsets`", None)


def _refuse_size(name: str, dtype: str, shape: list[int], bits: int, extent: int) -> NoReturn:
    if bits % 8:
        raise SafetensorsError(
            "tensor-misaligned",
            f"tensor {quoted(name)} does not fill whole bytes",
            expected="a multiple of 8 bits",
            found=f"{bits:,} bits ({dtype}, {plural(math.prod(shape), 'element')})",
        )
    raise SafetensorsError(
        "tensor-size",
        f"shape and dtype of tensor {quoted(name)} do not match its byte range",
        expected=f"{plural(bits // 8, 'byte')} ({dtype} {shape})",
        found=plural(extent, "byte"),
    )


def _bad_entry(name: str, message: str, expected: str, found: str | None) -> SafetensorsError:
    return SafetensorsError(
        "tensor-entry", f"tensor {quoted(name)} {message}", expected=expected, found=found
    )


def _kind(value: object) -> str:
    if type(value) is tuple:
        return "an object"
    if type(value) is list:
        return f"an array of {len(value):,}"
    if type(value) is str:
        return f"the string {quoted(value, limit=40)}"
    if value is None:
        return "`null`"
    if type(value) is bool:
        return "`true`" if value else "`false`"
    return f"the number {_short(value)}"


def _short(value: object) -> str:
    """A number, cut to what helps. The reader has clipped what is much too long."""
    digits = str(value)
    if len(digits) <= 24:
        return digits
    more = " or more" if len(digits) >= MAX_HEADER_INT_DIGITS else ""
    return f"{digits[:20]}… ({min(len(digits), MAX_HEADER_INT_DIGITS)}{more} digits)"


def _range(begin: int, end: int) -> str:
    return f"{_short(begin)} to {_short(end)}"


def check_layout(tensors: list[Tensor], *, available: int) -> int:
    """Check that the tensors tile the data from its start, and return where they end.

    Spec: "The byte buffer needs to be entirely indexed, and cannot contain holes". Tensors may
    stand in the header in any order, and any number of empty ones at one offset.

    Args:
        tensors: Tensors of one file.
        available: Bytes of data that the file has.

    Raises:
        SafetensorsError: `tensor-overlap`, `tensor-hole`, `tensor-offset` or `data-truncated`.
    """
    position = 0
    previous = ""
    for tensor in sorted(tensors, key=itemgetter(4, 5)):  # begin, end
        if tensor.begin != position:
            _refuse_gap(tensor, position, previous, available)
        position = tensor.end
        previous = tensor.name
    if position > available:
        raise SafetensorsError(
            "data-truncated",
            "the file ends before its last tensor",
            expected=f"{plural(position, 'byte')} of data",
            found=plural(available, "byte"),
        )
    return position


def _refuse_gap(tensor: Tensor, position: int, previous: str, available: int) -> NoReturn:
    if tensor.begin < position:
        raise SafetensorsError(
            "tensor-overlap",
            f"tensors {quoted(previous)} and {quoted(tensor.name)} share bytes",
            expected=f"a range from {position}",
            found=_range(tensor.begin, tensor.end),
        )
    if tensor.begin > available:
        raise SafetensorsError(
            "tensor-offset",
            f"tensor {quoted(tensor.name)} lies beyond the end of the file",
            expected=f"a range within {plural(available, 'byte')}",
            found=_range(tensor.begin, tensor.end),
        )
    raise SafetensorsError(
        "tensor-hole",
        f"bytes before tensor {quoted(tensor.name)} belong to no tensor",
        expected=f"a range from {position}",
        found=_range(tensor.begin, tensor.end),
    )


def find_twins(tensors: list[Tensor]) -> list[tuple[str, str]]:
    """A warning when a reader without case would take two names for one."""
    folded = {tensor.name.casefold() for tensor in tensors}
    count = len(tensors) - len(folded)
    if not count:
        return []
    first: dict[str, str] = {}
    for tensor in tensors:
        other = first.setdefault(tensor.name.casefold(), tensor.name)
        if other != tensor.name:
            break
    names = "1 name differs" if count == 1 else f"{count:,} names differ"
    twins = f"{quoted(other)} and {quoted(tensor.name)}"
    return [("tensor-name-twins", f"{names} from another in case only, such as {twins}")]
