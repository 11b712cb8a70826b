"""The inventory: every tensor of a model by name, dtype and shape, read from headers only."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from r1prov.errors import FormatError

# Bits of one element. The closed list of safetensors 0.8.0 (`enum Dtype` in `tensor.rs`).
DTYPE_BITS: Final[dict[str, int]] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

_DIGEST_HEADING: Final = "r1prov/inventory/1\n"


class Tensor(NamedTuple):
    """One tensor as a header describes it.

    Attributes:
        name: Its name.
        dtype: Its dtype as the file spells it.
        shape: Its dimensions.
        file: The file that holds it.
        begin: Offset of its first byte in the data section of the file.
        end: Offset after its last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str
    begin: int
    end: int


class Inventory:
    """The tensors of a whole model, whatever files they are spread over.

    No duplicate wins: `tensors` holds every entry, and `get` answers `None` for a name that stands
    twice, because which of the two a reader loads depends on the reader.

    Attributes:
        tensors: Every entry, sorted by name.
        duplicates: Those entries whose name stands more than once.
        elements: Elements of all tensors.
        data_bytes: Bytes of all tensors.
    """

    __slots__ = ("_by_name", "_digest", "data_bytes", "duplicates", "elements", "tensors")

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        # Order of code points is order of UTF-8 bytes. The file comes before the offsets, so that
        # the order of duplicates does not depend on the order of reading.
        self.tensors: tuple[Tensor, ...] = tuple(
            sorted(tensors, key=lambda t: (t.name, t.file, t.begin, t.end, t.dtype, t.shape))
        )
        self._by_name: dict[str, Tensor] = {tensor.name: tensor for tensor in self.tensors}
        self.duplicates: tuple[Tensor, ...] = ()
        if len(self._by_name) != len(self.tensors):
            counts = Counter(tensor.name for tensor in self.tensors)
            self.duplicates = tuple(t for t in self.tensors if counts[t.name] > 1)
            for tensor in self.duplicates:
                self._by_name.pop(tensor.name, None)
        self.elements: int = sum(math.prod(tensor.shape) for tensor in self.tensors)
        self._digest: str | None = None
        self.data_bytes: int = sum(tensor.end - tensor.begin for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def get(self, name: str) -> Tensor | None:
        """The tensor of that name, or `None` when there is none or more than one."""
        return self._by_name.get(name)

    def dtypes(self) -> dict[str, int]:
        """How many tensors have each dtype, sorted by dtype."""
        return dict(sorted(Counter(tensor.dtype for tensor in self.tensors).items()))

    def digest(self) -> str:
        r"""The inventory digest: SHA-256, in hex, over names, dtypes and shapes.

        The hashed text is `r1prov/inventory/1\n`, then `name\tdtype\td0,d1\n` for each tensor,
        sorted by the UTF-8 bytes of the name. Files and offsets are not in it, so the digest is
        the same whatever the sharding.

        Raises:
            FormatError: A name or dtype holds a tab or newline, so that the text could mean
                another inventory. No header reader lets such a name through.
        """
        if self._digest is None:  # 0.1 s for R1, and asked for by several checks
            self._digest = inventory_digest((t.name, t.dtype, t.shape) for t in self.tensors)
        return self._digest


def inventory_digest(tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> str:
    """`Inventory.digest` of tensors of which only name, dtype and shape are known.

    Raises:
        FormatError: As `Inventory.digest` does.
    """
    # Sorted by the rest too, because the order of duplicates depends on their files.
    entries = sorted(
        (name, f"\t{dtype}\t{','.join(map(str, shape))}\n") for name, dtype, shape in tensors
    )
    text = "".join(name + rest for name, rest in entries)
    if text.count("\t") != 2 * len(entries) or text.count("\n") != len(entries):
        raise FormatError("tensor-name", "a tensor name holds a tab or newline")
    try:
        data = (_DIGEST_HEADING + text).encode()
    except UnicodeEncodeError:
        raise FormatError("tensor-name", "a tensor name is not Unicode text") from None
    return hashlib.sha256(data).hexdigest()
