"""Read the headers of a store's safetensors files."""

from __future__ import annotations

from collections.abc import Iterable

from r1prov.errors import FormatError, StoreError
from r1prov.formats.safetensors import Header, read_header
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
    for path in paths:
        try:
            with store.open(path) as blob:
                headers[path] = read_header(blob.read_at, blob.size, file=path)
        except (FormatError, StoreError) as error:
            errors[path] = error
    return headers, errors
