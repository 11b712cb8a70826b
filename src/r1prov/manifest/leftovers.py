"""Files that download tools leave in a model's directory and that no loader reads.

Exact names, and the locks of download tools: a pattern that lets one more file through is a place
to hide one. Python's `__pycache__` is not here, because Python does read it.
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
_HUB_FILES = frozenset({".gitignore", ".gitignore.lock", "CACHEDIR.TAG"})
_HUB_SUFFIXES = (".metadata", ".lock", ".incomplete")


def is_tool_leftover(path: str) -> bool:
    """Whether a file is bookkeeping of a download tool.

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
        return rest in _HUB_FILES or (in_folder and rest.endswith(_HUB_SUFFIXES))
    # Locks of download tools lie beside the file they guard; no loader reads a `.lock`.
    return path.endswith(".lock")
