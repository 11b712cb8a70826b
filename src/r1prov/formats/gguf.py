"""Read and check the header of a GGUF file without believing any size it states.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The rules are those of
`ggml/src/gguf.cpp` in llama.cpp, and stricter ones of our own where several readers could see
several models, or where bytes could be hidden.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from r1prov.errors import GgufError
from r1prov.formats.executables import foreign_kind
from r1prov.formats.gguf_cursor import Cursor, ReadAt
from r1prov.formats.gguf_metadata import (
    ARCHITECTURE_KEY,
    TOKENS_KEY,
    ArraySummary,
    Metadata,
    Template,
    Value,
    read_metadata,
)
from r1prov.formats.gguf_tensors import check_layout, read_tensors
from r1prov.formats.gguf_types import FILE_TYPES, GUESSED_FILE_TYPE
from r1prov.formats.inventory import Tensor
from r1prov.formats.tensor_table import find_twins
from r1prov.limits import MAX_GGUF_METADATA, MAX_GGUF_PARTS, MAX_GGUF_TENSORS
from r1prov.text import plural, quoted

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
# A length, one letter, a type and one byte; a length, one letter, no dimensions, type, offset.
_LEAST_PAIR: Final = 8 + 1 + 4 + 1
_LEAST_TENSOR: Final = 8 + 1 + 4 + 4 + 8
_SPLIT_KEYS: Final = ("split.no", "split.count", "split.tensors.count")
_FILE_TYPE_KEY: Final = "general.file_type"


class Split(NamedTuple):
    """Which part of a split model a file is.

    Attributes:
        number: Part number, from 0.
        parts: How many parts there are.
        tensors: Tensors of all parts together, if the file says so.
    """

    number: int
    parts: int
    tensors: int | None


class TypeShare(NamedTuple):
    """What one tensor type takes of a model: tensors, elements, bytes."""

    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the weights are stored.

    Attributes:
        file_type: What `general.file_type` calls it, such as `Q4_K_M`; None if it says nothing.
        types: What each tensor type takes, the most bytes first.
    """

    file_type: str | None
    types: dict[str, TypeShare]


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The header of one GGUF file, checked against the rules and the size of the file.

    Attributes:
        file: Path of the file in its model.
        size: Size of the file.
        version: 2 or 3.
        alignment: Bytes to which tensors are aligned.
        header_bytes: Bytes before the padding that precedes the tensor data.
        data_offset: Offset of the tensor data.
        metadata: Scalars and short strings by key, and summaries of arrays and long strings.
        value_types: Type name of each metadata value.
        tensors: The tensors in the order of the file. Shapes are in row-major order, the reverse
            of the file's, as safetensors has them: a matrix is (rows out, columns in). Offsets
            count from `data_offset`.
        split: Which part this is; None for a whole model.
        templates: The prompt templates, digested and never rendered.
        odd_tokens: Tokens that look like byte tokens and are none.
        warnings: Rule and message of what is legal and odd.
    """

    file: str
    size: int
    version: int
    alignment: int
    header_bytes: int
    data_offset: int
    metadata: dict[str, Value]
    value_types: dict[str, str]
    tensors: tuple[Tensor, ...]
    split: Split | None
    templates: tuple[Template, ...]
    odd_tokens: tuple[str, ...]
    warnings: tuple[tuple[str, str], ...]

    def text(self, key: str) -> str | None:
        """A short string of the metadata."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """An integer of the metadata."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def architecture(self) -> str | None:
        """`general.architecture`; parts after the first of a split model have none."""
        return self.text(ARCHITECTURE_KEY)

    @property
    def vocabulary(self) -> int:
        """Tokens of the tokenizer, 0 if there is none."""
        tokens = self.metadata.get(TOKENS_KEY)
        return tokens.length if isinstance(tokens, ArraySummary) else 0

    @property
    def parameters(self) -> int:
        """Elements of all tensors of this file."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @property
    def quantization(self) -> Quantization:
        """How the weights of this file are stored."""
        return Quantization(file_type_name(self), type_shares(self.tensors))


def read_gguf(read_at: ReadAt, size: int, *, file: str, check_padding: bool = True) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Args:
        read_at: Returns bytes at an offset, of at most a length; may return fewer.
        size: Size of the file.
        file: Path of the file in its model, for messages and `Tensor.file`.
        check_padding: Whether to read the padding after tensors that need some. Every such gap
            costs a read, which matters over a network; the usual shapes leave none.

    Raises:
        GgufError: The file breaks a rule. Nothing else is raised, whatever the bytes; what
            `read_at` raises passes through.
    """
    try:
        return _read_gguf(read_at, size, file, check_padding=check_padding)
    except GgufError as error:
        error.subject = file
        raise


def _read_gguf(read_at: ReadAt, size: int, file: str, *, check_padding: bool) -> GgufHeader:
    cursor = Cursor(read_at, size)
    version = _version(cursor)
    tensor_count = _count(cursor, "tensor", _LEAST_TENSOR, MAX_GGUF_TENSORS)
    pair_count = _count(cursor, "key-value pair", _LEAST_PAIR, MAX_GGUF_METADATA)
    if tensor_count * _LEAST_TENSOR + pair_count * _LEAST_PAIR > cursor.remaining:
        raise GgufError(
            "gguf-count",
            "the file is too short for its counts",
            expected=f"{plural(cursor.remaining, 'byte')} of entries at most",
            found=f"{plural(tensor_count, 'tensor')} and {plural(pair_count, 'key-value pair')}",
        )
    metadata = read_metadata(cursor, pair_count)
    split = _split(metadata)
    # `gguf-split` writes the metadata of the model into its first part only.
    if split is None or split.number == 0:
        _check_architecture(metadata)
    tensors = read_tensors(cursor, tensor_count, file=file, alignment=metadata.alignment)
    header_bytes = cursor.position
    data_offset = check_layout(
        tensors,
        read_at,
        header_bytes=header_bytes,
        size=size,
        alignment=metadata.alignment,
        check_padding=check_padding,
    )
    return GgufHeader(
        file=file,
        size=size,
        version=version,
        alignment=metadata.alignment,
        header_bytes=header_bytes,
        data_offset=data_offset,
        metadata=metadata.values,
        value_types=metadata.types,
        tensors=tuple(tensors),
        split=split,
        templates=metadata.templates,
        odd_tokens=metadata.odd_tokens,
        warnings=(*find_twins(tensors), *_template_warnings(metadata.templates)),
    )


def _version(cursor: Cursor) -> int:
    if cursor.size < 24:
        start = cursor.take(cursor.size)
        if not MAGIC.startswith(start[:4]):
            _refuse_magic(start)
        raise GgufError(
            "header-truncated",
            "the file is too short for a header",
            expected="at least 24 bytes",
            found=plural(cursor.size, "byte"),
        )
    magic = cursor.take(4)
    if magic != MAGIC:
        _refuse_magic(magic + cursor.take(20))
    version = cursor.u32()
    if version in VERSIONS:
        return version
    found = f"{version:,}"
    hint = "it is older than any current reader takes" if version < min(VERSIONS) else None
    if version and not version & 0xFFFF:
        # As llama.cpp tells it: 3 in the other byte order is 0x03000000.
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        found = f"version {swapped:,} in big-endian order"
        hint = "a big-endian GGUF; convert it with `gguf_convert_endian.py`"
    raise GgufError(
        "gguf-version",
        "the file has a GGUF version that is not read",
        expected="2 or 3, little-endian",
        found=found,
        hint=hint,
    )


def _refuse_magic(start: bytes) -> NoReturn:
    kind = foreign_kind(start)
    hint = None if kind is None else f"this looks like {kind}"
    if start.startswith(MAGIC[::-1]):
        hint = "the letters are in big-endian order"
    raise GgufError(
        "gguf-magic",
        "the file does not start with `GGUF`",
        expected=MAGIC.hex(),
        found=start[:4].hex() or "nothing",
        hint=hint,
    )


def _count(cursor: Cursor, noun: str, least: int, cap: int) -> int:
    count = cursor.u64()
    room = cursor.remaining // least
    if count > room:
        raise GgufError(
            "gguf-count",
            f"the file has no room for the {noun}s it states",
            expected=f"at most {plural(room, noun)}",
            found=f"{count:,}",
        )
    if count > cap:
        raise GgufError(
            "gguf-count",
            f"the file states more {noun}s than any model has",
            expected=f"at most {cap:,}",
            found=f"{count:,}",
        )
    return count


def _check_architecture(metadata: Metadata) -> None:
    value = metadata.values.get(ARCHITECTURE_KEY)
    if not isinstance(value, str) or not value:
        raise GgufError(
            "gguf-architecture",
            f"the file has no `{ARCHITECTURE_KEY}`",
            expected="a string such as `deepseek2`",
            found=metadata.types.get(ARCHITECTURE_KEY, "nothing"),
        )


def _split(metadata: Metadata) -> Split | None:
    """`split.no`, `split.count`, `split.tensors.count` of `tools/gguf-split` in llama.cpp."""
    found = {key: metadata.values[key] for key in _SPLIT_KEYS if key in metadata.values}
    for key, value in found.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise GgufError(
                "gguf-split",
                f"`{key}` is no count",
                expected="an integer from 0",
                found=metadata.types[key],
            )
    numbers = {key: int(value) for key, value in found.items() if isinstance(value, int)}
    count = numbers.get("split.count", 0)
    if count == 0:
        return None
    number = numbers.get("split.no")
    if number is None or number >= count or count > MAX_GGUF_PARTS:
        raise GgufError(
            "gguf-split",
            "the part number of a split file is impossible",
            expected=f"`split.no` below `split.count`, and that at most {MAX_GGUF_PARTS:,}",
            found=f"part {number} of {count:,}",
        )
    return Split(number, count, numbers.get("split.tensors.count"))


def _template_warnings(templates: Iterable[Template]) -> Iterable[tuple[str, str]]:
    for template in templates:
        if template.suspicious:
            what = ", ".join(quoted(word, limit=40) for word in template.suspicious)
            yield "template-suspicious", f"the prompt template {quoted(template.key)} uses {what}"
        elif not template.searched:
            size = plural(template.size, "byte")
            yield (
                "template-suspicious",
                f"the prompt template {quoted(template.key)} has {size} and was not searched",
            )


def file_type_name(header: GgufHeader) -> str | None:
    """What `general.file_type` calls the quantization."""
    value = header.integer(_FILE_TYPE_KEY)
    if value is None:
        return None
    guessed = value >= 0 and bool(value & GUESSED_FILE_TYPE)
    name = FILE_TYPES.get(value & ~GUESSED_FILE_TYPE if guessed else value)
    if name is None:
        return f"unknown file type {value}"
    return f"{name} (guessed)" if guessed else name


def type_shares(tensors: Iterable[Tensor]) -> dict[str, TypeShare]:
    """What each tensor type takes of the tensors, the most bytes first."""
    counts: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += 1
        elements[tensor.dtype] += math.prod(tensor.shape)
        sizes[tensor.dtype] += tensor.end - tensor.begin
    order = sorted(counts, key=lambda name: (-sizes[name], name))
    return {name: TypeShare(counts[name], elements[name], sizes[name]) for name in order}
