"""Symbolic links of a model whose signature allows them: inside the model, or not at all.

The store names each link and never follows one. Here a link is followed by name, through the
store's own listing, so a target is always a file that the store would open under its real path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from r1prov.limits import MAX_STORE_ENTRIES
from r1prov.stores.base import Entry, EntryKind
from r1prov.text import quoted

# What Linux follows in one path (path_resolution(7)).
_MAX_FOLLOWED: Final = 40


@dataclass(slots=True)
class Linked:
    """What links add to a model.

    Attributes:
        files: Path of a link to a file, to the file's own path.
        below: Path beneath a link to a directory, to the file's own path.
        faults: Path of a link that is not followed, to the reason.
    """

    files: dict[str, str] = field(default_factory=dict)
    below: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def follow_links(entries: Sequence[Entry]) -> Linked:
    """Follow every link of a listing as far as it stays inside."""
    listing = _Listing(entries)
    found = Linked()
    for entry in entries:
        if entry.kind is not EntryKind.LINK:
            continue
        target = listing.resolve(entry.path)
        if isinstance(target, _Fault):
            found.faults[entry.path] = target.reason
        elif target in listing.files:
            found.files[entry.path] = target
        else:
            reason = listing.add_directory(entry.path, target, found)
            if reason is not None:
                found.faults[entry.path] = reason
    return found


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: str


class _Listing:
    def __init__(self, entries: Sequence[Entry]) -> None:
        self.files = {one.path for one in entries if one.kind is EntryKind.FILE}
        self._links = {one.path: one.detail for one in entries if one.kind is EntryKind.LINK}
        self._paths = [one.path for one in entries]
        self._directories = {""}
        for path in self._paths:
            while "/" in path:
                path = path.rpartition("/")[0]
                self._directories.add(path)

    def resolve(self, link: str) -> str | _Fault:
        """The real path of a file or directory that a link leads to."""
        done: list[str] = link.split("/")
        todo: list[str] = []
        followed = 0
        while True:
            path = "/".join(done)
            target = self._links.get(path)
            if target is not None:
                followed += 1
                if followed > _MAX_FOLLOWED:
                    return _Fault("leads round in a circle")
                if target.startswith("/"):
                    return _Fault(f"leads to {quoted(target)}, an absolute path")
                done.pop()
                todo = [*target.split("/"), *todo]
            elif path in self.files:
                return _Fault("leads to something beneath a file") if todo else path
            elif path not in self._directories:
                return _Fault("leads to nothing that can be read")
            while todo and todo[0] in ("", "."):
                todo.pop(0)
            if not todo:
                return "/".join(done)
            step = todo.pop(0)
            if step != "..":
                done.append(step)
            elif done:
                done.pop()
            else:
                return _Fault("leads out of the model")

    def add_directory(self, link: str, target: str, found: Linked) -> str | None:
        """List what stands beneath a link to a directory; the reason if that cannot be."""
        if not target or link.startswith(f"{target}/"):
            return "leads to a directory that it lies in"
        for path in self._paths:
            if not path.startswith(f"{target}/"):
                continue
            if path not in self.files:
                return f"leads to a directory with {quoted(path)}, which is no file"
            found.below[link + path.removeprefix(target)] = path
            if len(found.below) > MAX_STORE_ENTRIES:
                return f"leads to more than {MAX_STORE_ENTRIES:,} files"
        return None
