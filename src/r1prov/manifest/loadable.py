"""Which of a model's weight files a loader takes, and the tensors they make together.

The same answer when a manifest is made and when a model is held against it: what else lies beside
the weights (another format's copy, a variant in fp16, an adapter) is known by its digest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from r1prov.formats.inventory import Inventory

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from r1prov.formats.safetensors import Header
    from r1prov.formats.shard_index import ShardIndex

INDEX_NAME = "model.safetensors.index.json"
# The names that transformers looks for (`SAFE_WEIGHTS_NAME`), whole or in shards.
_MAIN = re.compile(r"model(?:-\d{5,}-of-\d{5,})?\.safetensors", re.IGNORECASE)


def loadable_weights(paths: Iterable[str], index: ShardIndex | None) -> list[str]:
    """The weight files that make up the model, sorted.

    Those that the index names; else `model.safetensors` and its shards; else all at the top; else
    all, as in a pipeline of several components.

    Args:
        paths: Safetensors files of the model.
        index: Its `model.safetensors.index.json`.
    """
    every = sorted(paths)
    if index is not None:
        named = set(index.weight_map.values())
        return [path for path in every if path in named]
    top = [path for path in every if "/" not in path]
    main = [path for path in top if _MAIN.fullmatch(path)]
    return main or top or every


def loadable_inventory(headers: Mapping[str, Header], paths: Iterable[str]) -> Inventory:
    """The tensors of weight files.

    Components of a pipeline have tensors of the same names: there, the folder stands before the
    name.

    Args:
        headers: Path to header.
        paths: Which of them, as `loadable_weights` gives them.
    """
    chosen = [path for path in paths if path in headers]
    return Inventory(
        tensor._replace(name=prefix + tensor.name) if prefix else tensor
        for path, prefix in ((path, component_prefix(path, chosen)) for path in chosen)
        for tensor in headers[path].tensors
    )


def component_prefix(path: str, paths: Collection[str]) -> str:
    """What stands before the names of a file's tensors: its folder, if the files are in several."""
    if all("/" not in one for one in paths):
        return ""
    folders = {one.rpartition("/")[0] for one in paths}
    return f"{path.rpartition('/')[0]}/" if len(folders) > 1 else ""
