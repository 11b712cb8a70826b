"""Files that download tools leave in a model's directory and that no loader reads.

Exact names, and empty locks: a pattern that lets one more file through is a place to hide one.
Whoever uses this looks at the first bytes as well: a program is no leftover. Python's `__pycache__`
is not here, because Python does read it.
"""

from __future__ import annotations

_AT_THE_TOP = frozenset(
    {
        ".gitattributes",
        ".gitignore",
        # ModelScope: cache marker, model and version names.
        ".mdl",
        ".msc",
        ".mv",
    }
)
_ANYWHERE = frozenset({".DS_Store", "Thumbs.db"})

# `huggingface_hub._local_folder`: what it keeps about files it put into a directory.
_HUB = ".cache/huggingface/"
# Folders that belong to a tool as a whole.
TOOL_FOLDERS = (".git/", _HUB)
_HUB_FILES = frozenset({".gitignore", ".gitignore.lock", "CACHEDIR.TAG"})
_HUB_SUFFIXES = (".metadata", ".lock", ".incomplete")


def is_tool_leftover(path: str, size: int) -> bool:
    """Whether a file of that size is bookkeeping of a download tool.

    A manifest that lists such a file (`.gitattributes` is part of every Hub release) means it:
    whoever asks looks at the manifest first.
    """
    if path in _AT_THE_TOP or path.rpartition("/")[2] in _ANYWHERE:
        return True
    if path.startswith(".git/"):
        return True
    if path.startswith(_HUB):
        rest = path.removeprefix(_HUB)
        in_folder = rest.startswith(("download/", "upload/"))
        in_trees = rest.startswith("trees/") and rest.endswith(".json")
        return rest in _HUB_FILES or in_trees or (in_folder and rest.endswith(_HUB_SUFFIXES))
    # Locks lie beside the file they guard, and are empty.
    return path.endswith(".lock") and (size == 0 or path.startswith(".locks/"))
