"""Open the store that a MODEL of the command line names."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from r1prov.errors import UsageError
from r1prov.stores.local import LocalStore
from r1prov.text import plural, quoted

if TYPE_CHECKING:
    from r1prov.stores.base import Store

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OBJECT_SCHEMES = frozenset({"s3", "gs", "az"})
SCHEMES = ("hf", "ollama", *sorted(_OBJECT_SCHEMES))


def open_store(model: str | os.PathLike[str]) -> Store:
    """Open a model where it lives; the libraries of a remote store are loaded only for it.

    Args:
        model: `hf://org/name@revision`, `ollama://name:tag`, `s3://…`, `gs://…`, `az://…`, or a
            path: a directory, a weight file, the folder of a repository in a Hub cache, which
            means its snapshot, or an Ollama models directory with one tag.

    Raises:
        UsageError: No store has this scheme, or the location is malformed.
        StoreError: There is nothing, it cannot be read, or its extra is not installed.
        InputError: What describes the model is malformed.
    """
    text = os.fspath(model)
    match = _SCHEME.match(text)
    scheme = match[1] if match else None
    # A directory called `hf:` must not stand in for the Hub: a known scheme always counts.
    if scheme not in SCHEMES and (match is None or os.path.lexists(text)):
        return _local(text)
    if scheme == "hf":
        from r1prov.stores.hub import HubStore, parse_hub_location

        location = parse_hub_location(text)
        return HubStore(location.repo, location.revision)
    if scheme == "ollama":
        from r1prov.stores.ollama import OllamaStore

        return OllamaStore(text)
    if scheme in _OBJECT_SCHEMES:
        from r1prov.stores.object_store import ObjectStore

        return ObjectStore(text)
    raise UsageError(
        f"{quoted(text)} is in no store that r1prov reads",
        hint=f"a path, or one of {', '.join(f'{one}://' for one in SCHEMES)}",
    )


def open_stores(model: str | os.PathLike[str]) -> list[Store]:
    """As `open_store`, but of an Ollama models directory every tag.

    Raises:
        R1ProvError: As `open_store`, or the library has no tag.
    """
    path = os.fspath(model)
    tags = _tags(path)
    if not tags:
        return [open_store(path)]
    from r1prov.stores.ollama import OllamaStore

    return [OllamaStore(tag, path) for tag in tags]


def _local(path: str) -> Store:
    from r1prov.stores.hub_cache import find_snapshot

    tags = _tags(path)
    if len(tags) > 1:
        raise UsageError(
            f"{quoted(path)} is an Ollama library of {plural(len(tags), 'tag')}",
            hint=f"set OLLAMA_MODELS to it and name one: ollama://{tags[0]} "
            f"(also {', '.join(tags[1:8])}); `r1prov identify` takes it whole",
        )
    if tags:
        from r1prov.stores.ollama import OllamaStore

        return OllamaStore(tags[0], path)
    return LocalStore(path and (find_snapshot(path) or path))


def _tags(path: str) -> list[str]:
    """The tags of an Ollama models directory; none for anything else."""
    if not path:  # `pathlib` takes it for the working directory
        return []
    from r1prov.stores.ollama_library import is_models_directory, list_tags

    if _SCHEME.match(path) or not is_models_directory(path):
        return []
    return [tag.short() for tag in list_tags(path)]


def traffic_of(store: Store) -> str | None:
    """What a remote store cost so far, in a line; None for one on this machine."""
    traffic = getattr(store, "traffic", None)
    return None if traffic is None else f"{store.location}: {traffic.summary()}"
