"""The tensor table of a GGUF header: each tensor by itself, then how they share the data."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NoReturn

from r1prov.errors import GgufError
from r1prov.formats.executables import trailing_kind
from r1prov.formats.gguf_cursor import Cursor, ReadAt
from r1prov.formats.gguf_types import REMOVED_TENSOR_TYPES, TENSOR_TYPES
from r1prov.formats.inventory import Tensor
from r1prov.formats.names import tensor_name_fault
from r1prov.limits import MAX_GGUF_RANK, MAX_GGUF_TENSOR_NAME_BYTES, MAX_INT63
from r1prov.text import plural, quoted

_SNIFF_BYTES: Final = 4096
# Far above any name: a length beyond it is no name but bytes that were taken for one.
_NO_NAME: Final = 65_535


def read_tensors(cursor: Cursor, count: int, *, file: str, alignment: int) -> list[Tensor]:
    """Read `count` entries of the tensor table.

    Args:
        cursor: Stands at the first entry.
        count: How many the header states.
        file: Path of the file, for `Tensor.file`.
        alignment: Bytes to which tensors are aligned.

    Raises:
        GgufError: An entry breaks a rule.
    """
    tensors: list[Tensor] = []
    names: set[str] = set()
    for index in range(count):
        tensor = _tensor(cursor, index, count, file, alignment)
        if tensor.name in names:
            raise GgufError(
                "gguf-duplicate",
                f"tensor {quoted(tensor.name)} stands twice",
                expected="each tensor once",
            )
        names.add(tensor.name)
        tensors.append(tensor)
    return tensors


def _name(cursor: Cursor, index: int, count: int) -> str:
    length = cursor.u64()
    if not 0 < length <= min(_NO_NAME, cursor.remaining):
        raise GgufError(
            "gguf-count",
            f"entry {index + 1:,} of {count:,} in the tensor table is no tensor",
            expected="a name",
            found="an empty name" if not length else f"a name of {plural(length, 'byte')}",
            hint="a count of the header is probably too large",
        )
    if length > MAX_GGUF_TENSOR_NAME_BYTES:
        raise GgufError(
            "tensor-name",
            f"the name of tensor {index + 1:,} is too long",
            expected=f"at most {plural(MAX_GGUF_TENSOR_NAME_BYTES, 'byte')}",
            found=plural(length, "byte"),
        )
    name = cursor.short_text(f"the name of tensor {index + 1:,}", length)
    fault = tensor_name_fault(name)
    if fault is not None:
        raise GgufError("tensor-name", f"tensor name {quoted(name)} {fault}")
    return name


def _tensor(cursor: Cursor, index: int, count: int, file: str, alignment: int) -> Tensor:
    """One entry: name, number of dimensions, dimensions, type, offset."""
    name = _name(cursor, index, count)
    rank = cursor.u32()
    if rank > MAX_GGUF_RANK:
        raise GgufError(
            "tensor-rank",
            f"tensor {quoted(name)} has too many dimensions",
            expected=f"at most {MAX_GGUF_RANK}",
            found=f"{rank:,}",
        )
    dimensions = [cursor.u64() for _ in range(rank)]
    number = cursor.u32()
    offset = cursor.u64()
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        hint = "types above 41 are those of forks such as ik_llama.cpp" if number > 41 else None
        removed = REMOVED_TENSOR_TYPES.get(number)
        if removed is not None:
            hint = f"{removed} was removed from the format; quantize the model again"
        raise GgufError(
            "dtype-unknown",
            f"tensor {quoted(name)} has an unknown type",
            expected="a tensor type of ggml",
            found=f"{number:,}",
            hint=hint,
        )
    # Zero dimensions count as one, so that the order of dimensions does not decide.
    elements = 1
    for dimension in dimensions:
        elements *= dimension or 1
    if elements > MAX_INT63 or elements * kind.size > MAX_INT63 * kind.block:
        raise GgufError(
            "tensor-overflow",
            f"the shape of tensor {quoted(name)} overflows",
            expected="less than 2^63 elements and bytes, zero dimensions left out",
            found=str(dimensions),
        )
    row = dimensions[0] if dimensions else 1
    if row % kind.block:
        raise GgufError(
            "tensor-misaligned",
            f"a row of tensor {quoted(name)} is no whole number of {kind.name} blocks",
            expected=f"a multiple of {kind.block}",
            found=plural(row, "element"),
        )
    if offset % alignment or offset > MAX_INT63:
        raise GgufError(
            "tensor-offset",
            f"the offset of tensor {quoted(name)} is impossible",
            expected=f"a multiple of {alignment} below 2^63",
            found=f"{offset:,}",
        )
    total = 0 if 0 in dimensions else elements // kind.block * kind.size
    return Tensor(name, kind.name, tuple(reversed(dimensions)), file, offset, offset + total)


def aligned(position: int, alignment: int) -> int:
    """The first multiple of `alignment` from `position` on."""
    return -(-position // alignment) * alignment


def check_layout(
    tensors: Sequence[Tensor],
    read_at: ReadAt,
    *,
    header_bytes: int,
    size: int,
    alignment: int,
    check_padding: bool,
) -> int:
    """Check that header, padding and tensors fill the file, and return where the data begins.

    `gguf.cpp`: "tensor data must be ordered and without gaps": each offset is the padded end of
    the tensor before it. The padding after the last tensor may be missing, as some writers leave
    it out.

    Raises:
        GgufError: They do not.
    """
    begin = aligned(header_bytes, alignment)
    available = max(0, size - begin)
    position = 0
    previous = ""
    gaps = [(header_bytes, min(begin, size))]
    for tensor in tensors:
        if tensor.begin != position:
            _refuse_offset(tensors, tensor, position, previous, available, alignment)
        position = aligned(tensor.end, alignment)
        previous = tensor.name
        if tensor.end != position:
            gaps.append((begin + tensor.end, min(begin + position, size)))
    end = tensors[-1].end if tensors else 0
    if end > available:
        raise GgufError(
            "data-truncated",
            "the file ends before its last tensor",
            expected=f"{plural(end, 'byte')} of data",
            found=plural(available, "byte"),
        )
    if not tensors and size == header_bytes:
        return begin
    if size not in (begin + end, begin + position):
        _refuse_end(read_at, begin + end, size, begin + position)
    if check_padding:
        _check_gaps(read_at, gaps)
    return begin


def _refuse_offset(
    tensors: Sequence[Tensor],
    tensor: Tensor,
    position: int,
    previous: str,
    available: int,
    alignment: int,
) -> NoReturn:
    name = quoted(tensor.name)
    expected, found = f"offset {position:,}", f"offset {tensor.begin:,}"
    if tensor.begin > available:
        raise GgufError(
            "tensor-offset",
            f"tensor {name} lies beyond the end of the file",
            expected=expected,
            found=found,
            hint="runtimes that believed such an offset have leaked memory (CVE-2026-7482)",
        )
    if _tiles(tensors, alignment):
        raise GgufError(
            "tensor-offset",
            f"the data of tensor {name} is not in the order of the tensor table",
            expected=expected,
            found=found,
        )
    if tensor.begin < position:
        other = f" with {quoted(previous)}"
        raise GgufError(
            "tensor-overlap", f"tensor {name} shares bytes{other}", expected=expected, found=found
        )
    raise GgufError(
        "tensor-hole",
        f"bytes before tensor {name} belong to no tensor",
        expected=expected,
        found=found,
    )


def _tiles(tensors: Sequence[Tensor], alignment: int) -> bool:
    position = 0
    for tensor in sorted(tensors, key=attrgetter("begin", "end")):
        if tensor.begin != position:
            return False
        position = aligned(tensor.end, alignment)
    return True


def _refuse_end(read_at: ReadAt, end: int, size: int, padded: int) -> NoReturn:
    if size < padded:
        raise GgufError(
            "trailing-bytes",
            "the padding after the last tensor is cut",
            expected=" or ".join(dict.fromkeys((plural(end, "byte"), plural(padded, "byte")))),
            found=plural(size, "byte"),
        )
    length = min(_SNIFF_BYTES, size - padded)
    kind = trailing_kind(read_at(padded, length), read_at(size - length, length))
    raise GgufError(
        "trailing-bytes",
        "bytes follow the last tensor",
        expected=plural(padded, "byte"),
        found=plural(size, "byte"),
        hint=None if kind is None else f"the bytes after the last tensor look like: {kind}",
    )


def _check_gaps(read_at: ReadAt, gaps: Sequence[tuple[int, int]]) -> None:
    for begin, end in gaps:
        at = begin
        while at < end:
            data = read_at(at, end - at)[: end - at]
            if not data:
                raise GgufError(
                    "header-truncated",
                    "the file ends before its own size",
                    expected=f"at least {plural(end, 'byte')}",
                    found=plural(at, "byte"),
                )
            if any(data):
                raise GgufError(
                    "gguf-padding",
                    f"the padding at byte {begin:,} is not zero",
                    expected="zeros",
                    found=f"byte 0x{data.lstrip(bytes(1))[0]:02x}",
                )
            at += len(data)
