"""Read the headers of a store's safetensors and GGUF files."""

from __future__ import annotations

from collections.abc import Iterable

from r1prov.errors import FormatError, GgufError, SafetensorsError, StoreError
from r1prov.formats.gguf import GgufHeader, read_gguf
from r1prov.formats.safetensors import Header, read_header
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


def read_gguf_headers(
    store: Store, paths: Iterable[str], *, check_padding: bool = True
) -> tuple[dict[str, GgufHeader], dict[str, FormatError | StoreError]]:
    """Read GGUF headers; one that is malformed or cannot be read does not hide the others.

    Args:
        store: Where the files are.
        paths: Which of them to read; Ollama's blobs have no suffix, so names do not decide.
        check_padding: As for `read_gguf`; a remote store may want to save the reads.

    Returns:
        The header, or the error, of each path.
    """
    headers: dict[str, GgufHeader] = {}
    errors: dict[str, FormatError | StoreError] = {}
    tensors = 0
    for path in paths:
        try:
            with store.open(path) as blob:
                header = read_gguf(blob.read_at, blob.size, file=path, check_padding=check_padding)
            tensors += len(header.tensors)
            if tensors > MAX_TENSORS_PER_MODEL:
                raise GgufError(
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
