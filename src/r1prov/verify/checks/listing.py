"""Completeness: which files are missing, which are extra, and which are not plain files."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from r1prov.errors import NameRuleError
from r1prov.formats.names import check_path, find_collisions
from r1prov.manifest.roles import role_of
from r1prov.manifest.schema import Manifest, Role
from r1prov.stores.base import EntryKind
from r1prov.verify.findings import Coverage, CoverageState, Finding, Part, finding
from r1prov.verify.rules import Severity

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from r1prov.manifest.schema import FileEntry
    from r1prov.verify.evidence import Evidence

# Loaders look for these names before, or beside, the sharded weights.
SHADOWING_NAMES = frozenset(
    {
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "consolidated.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
    }
)
# The coverage item of everything that is not weights; `--scope weights` does not require it.
OTHER_FILES = "SHA-256 of other files"
WEIGHT_FILES = "SHA-256 of weight files"
_WEIGHT_ROLES = frozenset({Role.WEIGHTS, Role.INDEX})
# What a release may have beyond a manifest that says its listing is not complete.
_SMALL_ROLES = frozenset({Role.CONFIG, Role.TOKENIZER, Role.DOCUMENT})


def part_of_change(entry: FileEntry, executables: Container[str]) -> Part:
    """The line in which a *changed* file counts: a changed program is never a later README.

    A missing module does nothing; another one in its place runs in the server. What is a program
    is told by the file at hand as well, whatever it was when it was signed.
    """
    if entry.role is Role.CODE or entry.path in executables:
        return Part.MODEL
    return part_of(entry.role)


def part_of(role: Role) -> Part:
    """The line of the result in which files of this role count."""
    return Part.WEIGHTS if role in _WEIGHT_ROLES else Part.OTHER


def check_entries(evidence: Evidence) -> Iterator[Finding]:
    """Links, special files, unreadable entries, unsafe names and colliding names."""
    leftovers = set(evidence.leftovers)
    for entry in evidence.entries:
        if entry.kind is EntryKind.LINK:
            yield finding(
                "symlink",
                entry.path,
                "a symbolic link that is not followed",
                expected="a regular file",
                found=f"link to {entry.detail}",
            )
        elif entry.kind is EntryKind.SPECIAL:
            yield finding(
                "not-regular",
                entry.path,
                "not a regular file",
                expected="a regular file",
                found=entry.detail,
            )
        if entry.other_device:
            yield finding(
                "crosses-device", entry.path, "on another file system than the model's directory"
            )
        if entry.path in leftovers:
            continue
        try:
            check_path(entry.path)
        except NameRuleError as error:
            yield finding(
                "file-name", entry.path, error.message, expected="a portable name", hint=error.hint
            )
    names = [entry.path for entry in evidence.entries if entry.path not in leftovers]
    for first, second in find_collisions(names):
        yield finding(
            "name-collision",
            second,
            f"the same file as {first} on systems that ignore case or Unicode form",
            expected="one name a file",
            found=f"{first} and {second}",
        )


def check_listing(evidence: Evidence, manifest: Manifest) -> Iterator[Finding]:
    """Missing and unlisted files, sizes, and leftovers of tools."""
    listed = {entry.path: entry for entry in manifest.files}
    unreadable = {e.path for e in evidence.entries if e.kind is EntryKind.UNREADABLE}
    for path, entry in listed.items():
        found = evidence.files.get(path)
        if found is None:
            if path not in unreadable:
                yield finding(
                    "file-missing",
                    path,
                    "listed in the manifest and not in the model",
                    expected="present" if entry.size is None else f"{entry.size:,} bytes",
                    found="no such file",
                    part=part_of(entry.role),
                )
        elif entry.size is not None and found.size != entry.size:
            yield finding(
                "file-size",
                path,
                "another size than the manifest says",
                expected=f"{entry.size:,} bytes",
                found=f"{found.size:,} bytes",
                part=part_of_change(entry, evidence.executables),
            )
    leftovers = [path for path in evidence.leftovers if path not in listed]
    yield from _leftovers(leftovers)
    known = set(listed) | set(leftovers)
    for path in evidence.files:
        if path not in known:
            yield _unlisted(path, evidence, manifest)


def _unlisted(path: str, evidence: Evidence, manifest: Manifest) -> Finding:
    role = role_of(path)
    size = f"{evidence.files[path].size:,} bytes"
    top = path.split("/", 1)[0]
    harmless = path not in evidence.executables and role in _SMALL_ROLES
    if path.casefold() in SHADOWING_NAMES:
        return finding(
            "shadowing-file",
            path,
            "not in the manifest, and loaders prefer it over the listed weights",
            expected="no such file",
            found=size,
            part=Part.WEIGHTS,
        )
    in_untracked = "/" in path and top in manifest.untracked_dirs
    if harmless and (in_untracked or not manifest.complete_listing):
        return finding(
            "not-covered",
            path,
            "the release has such files, and the manifest has no digest of them",
            severity=Severity.NOTE if role is Role.DOCUMENT else Severity.WARNING,
            part=Part.OTHER,
        )
    return finding(
        "file-unlisted",
        path,
        "not in the manifest",
        expected="no such file",
        found=size,
        # Only small files that nothing runs are what a later revision may bring.
        part=Part.OTHER if harmless else Part.WEIGHTS if role in _WEIGHT_ROLES else Part.MODEL,
    )


def coverage_of_listing(findings: list[Finding]) -> Iterator[Coverage]:
    """Files without a digest that a loader reads leave the other files incomplete."""
    unknown = [
        one.subject
        for one in findings
        if one.rule.name == "not-covered" and one.severity is not Severity.NOTE
    ]
    if unknown:
        yield Coverage(
            OTHER_FILES, CoverageState.SKIPPED, f"no digest is known of {', '.join(unknown[:8])}"
        )


def _leftovers(paths: list[str]) -> Iterator[Finding]:
    """One note a tool folder, however many files it holds."""
    for top, count in sorted(Counter(_top(path) for path in paths).items()):
        yield finding(
            "leftover",
            top,
            "left by a download tool; loaders never read it"
            + (f" ({count:,} files)" if count > 1 else ""),
            part=Part.OTHER,
        )


def _top(path: str) -> str:
    head, separator, _ = path.partition("/")
    return head + separator
