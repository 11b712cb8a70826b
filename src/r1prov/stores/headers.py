"""Read the headers of a store's safetensors files."""

from __future__ import annotations

from collections.abc import Iterable

from r1prov.errors import ChangedWhileReading, FormatError, SafetensorsError, StoreError
from r1prov.formats.safetensors import Header, read_header
from r1prov.hashing.extents import Extent
from r1prov.limits import MAX_TENSORS_PER_MODEL
from r1prov.stores.base import Store

SUFFIX = ".safetensors"


def safetensors_paths(paths: Iterable[str]) -> list[str]:
    """The paths that name safetensors files."""
    return [path for path in paths if path.endswith(SUFFIX)]


def read_headers(
    store: Store, paths: Iterable[str]
) -> tuple[dict[str, Header], dict[str, FormatError | StoreError]]:
    """Read headers; one that is malformed or cannot be read does not hide the others.

    Args:
        store: Where the files are.
        paths: Which of them to read.

    Returns:
        The header, or the error, of each path.
    """
    headers: dict[str, Header] = {}
    errors: dict[str, FormatError | StoreError] = {}
    tensors = 0
    for path in paths:
        try:
            with store.open(path) as blob:
                header = read_header(blob.read_at, blob.size, file=path)
            tensors += len(header.tensors)
            # Counted on after the cap is passed, so that what follows is not kept either.
            if tensors > MAX_TENSORS_PER_MODEL:
                raise SafetensorsError(
                    "too-many-tensors",
                    "the files up to this one have more tensors than any model",
                    subject=path,
                    expected=f"at most {MAX_TENSORS_PER_MODEL:,}",
                    found=f"{tensors:,}",
                )
            headers[path] = header
        except (FormatError, StoreError) as error:
            errors[path] = error
    return headers, errors


def tensor_extents(header: Header, *, size: int) -> tuple[Extent, ...]:
    """Where the tensors of a file lie, so that one pass gives their digests and the file's.

    Args:
        header: The header of the file.
        size: Bytes that the store's listing says the file has.

    Raises:
        ChangedWhileReading: The header was read of a file of another size.
    """
    if header.size != size:
        raise ChangedWhileReading(
            f"had {header.size:,} bytes when its header was read, and {size:,} when it was listed",
            subject=header.file,
            hint="stop whatever writes to the model and run again",
        )
    # Offsets count from the end of the header: eight bytes of length, then the JSON.
    data = 8 + header.header_bytes
    return tuple(
        Extent(tensor.name, data + tensor.begin, data + tensor.end) for tensor in header.tensors
    )
