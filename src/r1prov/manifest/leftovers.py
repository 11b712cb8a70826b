"""Files that download tools leave in a model's directory and that no loader reads.

Exact names, and empty locks: a pattern that lets one more file through is a place to hide one.
Whoever uses this looks at the content as well (`looks_like_leftover`): a name says nothing about
what is in a file. Python's `__pycache__` is not here, because Python does read it.
"""

from __future__ import annotations

import codecs
from typing import Final

from r1prov.formats.executables import classify
from r1prov.formats.pickles import is_data_pickle

# What `looks_like_leftover` wants to see of most files, in bytes.
HEAD_BYTES: Final = 4096
# Of ModelScope's pickles it wants to see all. One entry of `.msc` takes some hundred bytes.
MAX_MODELSCOPE_BYTES: Final = 1 << 20

# Names, with the largest size in bytes at which a file is still bookkeeping.
_MODELSCOPE_PICKLES: Final = frozenset({".mdl", ".msc"})
_AT_THE_TOP: Final[dict[str, int]] = {
    ".gitattributes": 1 << 20,
    ".gitignore": 1 << 20,
    # ModelScope's `FileSystemCache`: model, cached files, and version; the last is one line.
    ".mdl": MAX_MODELSCOPE_BYTES,
    ".msc": MAX_MODELSCOPE_BYTES,
    ".mv": HEAD_BYTES,
}
# Finder's grows with the number of files; Explorer's holds a small picture of each image.
_ANYWHERE: Final[dict[str, int]] = {".DS_Store": 1 << 20, "Thumbs.db": 16 << 20}
_MAGIC: Final[dict[str, bytes]] = {
    ".DS_Store": b"\0\0\0\1Bud1",
    # [MS-CFB] 2.2: what every compound file starts with. The head shows no more.
    "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
}

# `huggingface_hub._local_folder`: what it keeps about files it put into a directory.
_HUB = ".cache/huggingface/"
# Folders that belong to a tool as a whole.
TOOL_FOLDERS = (".git/", _HUB)
_HUB_FILES = frozenset({".gitignore", ".gitignore.lock", "CACHEDIR.TAG"})
_HUB_SUFFIXES = (".metadata", ".lock", ".incomplete")


def is_tool_leftover(path: str, size: int) -> bool:
    """Whether a file of that name and size, in bytes, can be bookkeeping of a download tool.

    A manifest that lists such a file (`.gitattributes` is part of every Hub release) means it:
    whoever asks looks at the manifest first.
    """
    most = _AT_THE_TOP.get(path, _ANYWHERE.get(path.rpartition("/")[2]))
    if most is not None:
        return size <= most
    if path.startswith(".git/"):
        return True
    if path.startswith(_HUB):
        rest = path.removeprefix(_HUB)
        in_folder = rest.startswith(("download/", "upload/"))
        in_trees = rest.startswith("trees/") and rest.endswith(".json")
        return rest in _HUB_FILES or in_trees or (in_folder and rest.endswith(_HUB_SUFFIXES))
    # Locks lie beside the file they guard, and are empty; those of a folder may name a process.
    return path.endswith(".lock") and (
        size == 0 or (path.startswith(".locks/") and size <= HEAD_BYTES)
    )


def bytes_to_judge(path: str) -> int:
    """How many first bytes of a file `looks_like_leftover` wants to see."""
    return MAX_MODELSCOPE_BYTES if path in _MODELSCOPE_PICKLES else HEAD_BYTES


def looks_like_leftover(path: str, data: bytes) -> bool:
    """Whether a file whose name and size pass `is_tool_leftover` holds what such a file holds.

    ModelScope's `.msc` and `.mdl` are pickles: they pass when they are whole and import nothing,
    so whoever asks must not call those executable as well. A file in a folder that belongs to a
    tool passes whatever it holds, because no loader goes there. An empty file hides nothing.

    Args:
        path: Path in the model's directory.
        data: The first `bytes_to_judge(path)` bytes of the file, or all when it is shorter.
    """
    if not is_tool_leftover(path, len(data)):
        return False
    if not data or path.startswith(TOOL_FOLDERS):
        return True
    if path in _MODELSCOPE_PICKLES:
        # A ZIP archive is found by its end record, whatever stands before it.
        return is_data_pickle(data) and b"PK\x05\x06" not in data
    magic = _MAGIC.get(path.rpartition("/")[2])
    if magic is not None:
        return data.startswith(magic)
    return _is_plain_text(data, lines=path != ".mv") and classify(path, data) is None


def _is_plain_text(data: bytes, *, lines: bool) -> bool:
    """Whether bytes are UTF-8 without control characters, of one line or of several."""
    try:
        # A head may be cut in the middle of a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(data, len(data) < HEAD_BYTES)
    except UnicodeDecodeError:
        return False
    if not lines:
        text = text.removesuffix("\n")
    breaks = "\t\n\r" if lines else ""
    return all(
        character >= " " and character != "\x7f" for character in text if character not in breaks
    )
