"""Arrays of a GGUF header that the header reader sums up and does not keep: a vocabulary."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from r1prov.errors import GgufError
from r1prov.formats.gguf_cursor import Cursor, ReadAt
from r1prov.formats.gguf_metadata import MetadataReader
from r1prov.formats.gguf_types import SCALARS, STRING
from r1prov.limits import MAX_GGUF_ARRAY_STRINGS, MAX_GGUF_ELEMENT_BYTES

_BEFORE_COUNTS: Final = 4 + 4  # magic and version


def read_arrays(
    read_at: ReadAt, size: int, *, file: str, keys: Collection[str]
) -> dict[str, list[str] | list[int | float]]:
    """Read some arrays whole, of a file whose header `read_gguf` has accepted.

    Args:
        read_at: Returns bytes at an offset, of at most a length.
        size: Size of the file.
        file: Path of the file, for messages.
        keys: The arrays to keep; those that are not there are left out.

    Raises:
        GgufError: The file breaks a rule.
    """
    cursor = Cursor(read_at, size)
    cursor.skip(_BEFORE_COUNTS)
    cursor.u64()
    keeper = _Keeper(cursor, keys)
    try:
        keeper.read(cursor.u64())
    except GgufError as error:
        error.subject = file
        raise
    return keeper.arrays


class _Keeper(MetadataReader):
    def __init__(self, cursor: Cursor, keys: Collection[str]) -> None:
        super().__init__(cursor)
        self.keys = keys
        self.arrays: dict[str, list[str] | list[int | float]] = {}

    def elements(self, key: str, number: int, count: int) -> None:
        if key not in self.keys:
            super().elements(key, number, count)
        elif count > MAX_GGUF_ARRAY_STRINGS:
            raise GgufError(
                "gguf-array",
                "an array is longer than any vocabulary",
                expected=f"at most {MAX_GGUF_ARRAY_STRINGS:,}",
                found=f"{count:,}",
            )
        elif number == STRING:
            take = self.cursor
            self.arrays[key] = [
                take.short_text("a string", take.length("a string", MAX_GGUF_ELEMENT_BYTES))
                for _ in range(count)
            ]
        else:
            self.arrays[key] = [self.cursor.scalar(SCALARS[number]) for _ in range(count)]
