"""What a file of a model may be called, so that it means one file on every system.

A manifest is read on Linux, macOS and Windows. A name that leaves the model folder, that one of
them reads as another name, or that looks like another name on the screen is refused everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from r1prov.errors import NameRuleError
from r1prov.limits import MAX_PATH_BYTES, MAX_TENSOR_NAME_BYTES
from r1prov.text import is_unsafe, plural, quoted

# Assigned characters that show nothing, and are in none of the categories of `is_unsafe`:
# fillers, the grapheme joiner, vowel inherents, the blank braille cell, variation selectors.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    chr(code) for block in (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for code in block
)

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: reserved with any extension, and
# the superscript digits count as digits.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\xb9\xb2\xb3])", re.I)

# What tensors are called in practice; anything else takes the slow path.
_ORDINARY_TENSOR = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,1023}+")


def unsafe_character(text: str) -> str | None:
    """The first character that hides, reorders or imitates what stands around it."""
    if text.isascii() and text.isprintable():
        return None
    for character in text:
        if (
            is_unsafe(character)
            or character in _INVISIBLE
            or (character != " " and unicodedata.category(character) == "Zs")
        ):
            return character
    return None


def check_path(path: str) -> None:
    """Check that a relative path means the same one file on every system.

    Raises:
        NameRuleError: It does not; the message says why.
    """
    reason = _path_fault(path)
    if reason is not None:
        raise NameRuleError(f"file name {quoted(path)} {reason}", subject=path)


def _path_fault(path: str) -> str | None:
    if not path:
        return "is empty"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    if size > MAX_PATH_BYTES:
        return f"is longer than {plural(MAX_PATH_BYTES, 'byte')}"
    character = unsafe_character(path)
    if character is not None:
        return f"holds the control or invisible character U+{ord(character):04X}"
    if "\\" in path:
        return "holds a backslash, which is a separator on Windows"
    # `C:x` is a drive, `x:y` an NTFS stream, `https://…` a URL.
    if ":" in path:
        return "holds a colon, which means a drive or a stream on Windows"
    if path.startswith("/"):
        return "is absolute"
    if path.endswith("/"):
        return "ends with a slash"
    if not unicodedata.is_normalized("NFC", path):
        return "is not in Unicode normalization form C"
    for component in path.split("/"):
        fault = _component_fault(component)
        if fault is not None:
            return fault
    return None


def _component_fault(component: str) -> str | None:
    if not component:
        return "has an empty component"
    if component in (".", ".."):
        return f"has the component `{component}`"
    if component[-1] in ". ":
        return "has a component that ends with a dot or a space, which Windows drops"
    if _DEVICE.fullmatch(component.split(".", 1)[0].rstrip(" ")):
        return "has a component that is a device on Windows"
    return None


def tensor_name_fault(name: str) -> str | None:
    """Why no tensor may have this name, as the end of a sentence, or `None`.

    The safetensors specification allows any string. A name ends up in reports, in file names of
    converters and in comparisons, so it must look like what it is and not walk out of a folder.
    """
    if _ORDINARY_TENSOR.fullmatch(name):
        return None
    if not name:
        return "is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not Unicode text"
    if size > MAX_TENSOR_NAME_BYTES:
        return f"is longer than {plural(MAX_TENSOR_NAME_BYTES, 'byte')}"
    character = unsafe_character(name)
    if character is not None:
        return f"holds the control or invisible character U+{ord(character):04X}"
    if "\\" in name:
        return "holds a backslash"
    if name.startswith("/"):
        return "starts with a slash"
    if ".." in name.split("/"):
        return "has the component `..`"
    if not unicodedata.is_normalized("NFC", name):
        return "is not in Unicode normalization form C"
    return None


def find_collisions(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of paths that cannot stand side by side on every system.

    Two paths collide when they are equal but for case or Unicode form, or when one is a file where
    the other needs a directory.
    """
    first: dict[str, str] = {}
    collisions = []
    for path in paths:
        folded = _folded(path)
        if folded in first:
            collisions.append((first[folded], path))
        else:
            first[folded] = path
    for folded, path in first.items():
        end = folded.find("/")
        while end >= 0:
            parent = first.get(folded[:end])
            if parent is not None:
                collisions.append((parent, path))
            end = folded.find("/", end + 1)
    return collisions


def _folded(path: str) -> str:
    # Unicode §3.13 D145: canonical caseless matching normalizes before and after folding.
    folded = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFC", folded)
