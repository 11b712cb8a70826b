"""Read the headers of a store's weight files: safetensors and GGUF."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from r1prov.errors import ChangedWhileReading, FormatError, GgufError, SafetensorsError, StoreError
from r1prov.formats.safetensors import Header, read_header
from r1prov.hashing.extents import Extent
from r1prov.limits import MAX_TENSORS_PER_MODEL
from r1prov.stores.base import Store

if TYPE_CHECKING:
    from r1prov.formats.gguf import GgufHeader

SUFFIX = ".safetensors"
GGUF_SUFFIX = ".gguf"

_T = TypeVar("_T")


def gguf_paths(paths: Iterable[str]) -> list[str]:
    """The paths that name GGUF files."""
    return [path for path in paths if path.casefold().endswith(GGUF_SUFFIX)]


def safetensors_paths(paths: Iterable[str]) -> list[str]:
    """The paths that name safetensors files, in capitals too, as some file systems do not care."""
    return [path for path in paths if path.casefold().endswith(SUFFIX)]


def read_headers(
    store: Store, paths: Iterable[str], *, workers: int | None = None
) -> tuple[dict[str, Header], dict[str, FormatError | StoreError]]:
    """Read headers; one that is malformed or cannot be read does not hide the others.

    Args:
        store: Where the files are.
        paths: Which of them to read.
        workers: How many to read at once; by default what the store's `header_workers` says, and
            one for a store without.

    Returns:
        The header, or the error, of each path, in the order of the paths.
    """
    headers: dict[str, Header] = {}
    errors: dict[str, FormatError | StoreError] = {}
    tensors = 0
    for path, outcome in _each(store, paths, _read_safetensors, workers):
        if not isinstance(outcome, Header):
            errors[path] = outcome
            continue
        tensors += len(outcome.tensors)
        # Counted on after the cap is passed, so that what follows is not kept either.
        if tensors > MAX_TENSORS_PER_MODEL:
            errors[path] = _too_many(SafetensorsError, path, tensors)
            continue
        headers[path] = outcome
    return headers, errors


def read_gguf_headers(
    store: Store, paths: Iterable[str]
) -> tuple[dict[str, GgufHeader], dict[str, FormatError | StoreError]]:
    """Read GGUF headers, as `read_headers` does those of safetensors files."""
    headers: dict[str, GgufHeader] = {}
    errors: dict[str, FormatError | StoreError] = {}
    tensors = 0
    for path, outcome in _each(store, paths, _read_gguf, None):
        if isinstance(outcome, FormatError | StoreError):
            errors[path] = outcome
            continue
        tensors += len(outcome.tensors)
        if tensors > MAX_TENSORS_PER_MODEL:
            errors[path] = _too_many(GgufError, path, tensors)
        else:
            headers[path] = outcome
    return headers, errors


def _too_many(kind: type[FormatError], path: str, tensors: int) -> FormatError:
    return kind(
        "too-many-tensors",
        "the files up to this one have more tensors than any model",
        subject=path,
        expected=f"at most {MAX_TENSORS_PER_MODEL:,}",
        found=f"{tensors:,}",
    )


def _each(
    store: Store,
    paths: Iterable[str],
    read: Callable[[Store, str], _T],
    workers: int | None,
) -> Iterator[tuple[str, _T]]:
    """Path and outcome in the order of the paths; no more than a few are held."""
    if workers is None:
        workers = getattr(store, "header_workers", 1)
    if workers <= 1:
        for path in paths:
            yield path, read(store, path)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="r1prov-header")
    running: deque[tuple[str, Future[_T]]] = deque()
    try:
        for path in paths:
            running.append((path, pool.submit(read, store, path)))
            # Twice as many as run: one slow file at the front keeps nobody idle.
            if len(running) >= 2 * workers:
                first, future = running.popleft()
                yield first, future.result()
        for first, future in running:
            yield first, future.result()
    finally:
        # Not waited for: after Ctrl-C a request may still run into its time-out.
        pool.shutdown(wait=False, cancel_futures=True)


def _read_safetensors(store: Store, path: str) -> Header | FormatError | StoreError:
    try:
        with store.open(path) as blob:
            return read_header(blob.read_at, blob.size, file=path)
    except (FormatError, StoreError) as error:
        return error


def _read_gguf(store: Store, path: str) -> GgufHeader | FormatError | StoreError:
    from r1prov.formats.gguf import read_gguf

    try:
        with store.open(path) as blob:
            # Over a network each gap between tensors would cost a request.
            remote = hasattr(store, "traffic")
            return read_gguf(blob.read_at, blob.size, file=path, check_padding=not remote)
    except (FormatError, StoreError) as error:
        return error


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
