"""The files of a model against the statement of an OpenSSF Model Signing bundle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r1prov.errors import ChangedWhileReading
from r1prov.hashing.digest import tree_digest
from r1prov.hashing.engine import HashJob, HashResult, hash_blobs
from r1prov.hashing.pieces import PieceHashing
from r1prov.manifest.oms_links import Linked, follow_links
from r1prov.manifest.oms_signature import OmsFinding
from r1prov.manifest.oms_statement import DEFAULT_IGNORED, SINGLE_FILE
from r1prov.manifest.roles import TOKENIZER_NAMES
from r1prov.stores.base import Entry, EntryKind

if TYPE_CHECKING:
    from r1prov.manifest.oms_statement import OmsFile, OmsStatement
    from r1prov.stores.base import Store

# What loaders pick by its name: a signature that leaves one of these out says nothing of what
# would be loaded.
_LOADED_NAMES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "adapter_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "modules.json",
        "params.json",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "adapter_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        # A prompt template is a program that every request goes through.
        *TOKENIZER_NAMES,
    }
)
_LOADED_SUFFIXES = (".safetensors", ".gguf", ".py")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """How files are compared.

    Attributes:
        ignore_unsigned_files: Whether files that the signature does not list may be there.
        allow_symlinks: Whether links inside the model are followed, if the signer did too.
        ignore_paths: Paths that may be there unsigned, with all beneath them.
        workers: Hashing threads; by default one a core.
        on_bytes: Told of progress, see `hash_blobs`.
    """

    ignore_unsigned_files: bool = False
    allow_symlinks: bool = False
    ignore_paths: tuple[str, ...] = ()
    workers: int | None = None
    on_bytes: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What came of the comparison.

    Attributes:
        findings: Every difference.
        ignored: Files that were not looked at because a path is ignored.
        bytes_hashed: Bytes that were read.
        tree_digest: r1prov's own digest over path, size and SHA-256 of the signed files; None
            where one of them could not be hashed.
    """

    findings: tuple[OmsFinding, ...]
    ignored: tuple[str, ...]
    bytes_hashed: int
    tree_digest: str | None


def is_below(path: str, roots: Collection[str]) -> bool:
    """Whether a path is one of `roots` or beneath one: by components, never by prefix (§6.2.1)."""
    if path in roots:
        return True
    end = path.find("/")
    while end >= 0:
        if path[:end] in roots:
            return True
        end = path.find("/", end + 1)
    return False


def check_files(statement: OmsStatement, store: Store, options: FileOptions) -> FileCheck:
    """Compare a model with what was signed: every file, every byte, and nothing else.

    Raises:
        LimitExceeded: More entries, or deeper directories, than a model has.
        StoreError: The store cannot be listed.
        UsageError: The hash is BLAKE3 and the extra `blake3` is not installed.
    """
    return _Comparison(statement, store, options).run()


class _Comparison:
    """One comparison. `_real` leads from the path of a file, or of a link to it, to its own."""

    def __init__(self, statement: OmsStatement, store: Store, options: FileOptions) -> None:
        self._statement = statement
        self._store = store
        self._options = options
        self._entries = store.entries()
        self._sizes = {e.path: e.size for e in self._entries if e.kind is EntryKind.FILE}
        self._signed = {self._path(file): file for file in statement.files}
        self._asked = frozenset({*options.ignore_paths, *DEFAULT_IGNORED})
        self._recorded = frozenset(statement.ignore_paths)
        self._real: dict[str, str] = {}
        self._explained: set[str] = set()
        self._ignored: list[str] = []

    def _path(self, file: OmsFile) -> str:
        """The path of a signed file; `.` is the one file of a store that is that file."""
        if file.path == SINGLE_FILE and [e.path for e in self._entries] == [self._store.name]:
            return self._store.name
        return file.path

    def run(self) -> FileCheck:
        links = Linked()
        if self._statement.allow_symlinks and self._options.allow_symlinks:
            links = follow_links(self._entries)
        findings = [*self._entry_findings(links), *self._listing(links)]
        hashed, jobs = self._hash()
        findings += self._contents(hashed)
        findings += self._changes()
        entries = [
            (path, hashed.digests[real].size, hashed.digests[real].sha256)
            for path in self._signed
            if (real := self._real.get(path)) in hashed.digests
        ]
        whole = len(entries) == len(self._signed)
        return FileCheck(
            tuple(findings),
            tuple(sorted(self._ignored)),
            sum(job.size for job in jobs),
            tree_digest(entries) if whole else None,
        )

    def _entry_findings(self, links: Linked) -> Iterator[OmsFinding]:
        """Everything in the store, by kind."""
        for entry in self._entries:
            if entry.path not in self._signed:
                if is_below(entry.path, self._asked | self._recorded):
                    yield from self._left_out(entry)
                    continue
                if self._options.ignore_unsigned_files:
                    continue
            if entry.kind is EntryKind.FILE:
                self._real[entry.path] = entry.path
            elif entry.path in links.files:
                self._real[entry.path] = links.files[entry.path]
            elif entry.kind is not EntryKind.LINK or not self._linked_directory(entry, links):
                self._explained.add(entry.path)
                yield self._no_file(entry, links.faults.get(entry.path))
        for path, real in links.below.items():
            if path in self._signed or not self._options.ignore_unsigned_files:
                self._real[path] = real

    def _linked_directory(self, entry: Entry, links: Linked) -> bool:
        return (
            self._statement.allow_symlinks
            and self._options.allow_symlinks
            and entry.path not in links.faults
        )

    def _left_out(self, entry: Entry) -> Iterator[OmsFinding]:
        """An ignored entry; an error if the signature alone leaves out what loaders look for."""
        self._ignored.append(entry.path)
        name = entry.path.casefold()
        if is_below(entry.path, self._asked):
            return
        if name in _LOADED_NAMES or name.endswith(_LOADED_SUFFIXES):
            yield OmsFinding(
                "signed-path-ignored",
                entry.path,
                "the signature leaves out a file that loaders look for",
                expected="signed, or ignored by your own word too",
                found="in `ignore_paths` of the signed statement",
                hint="if this is meant, ignore the path yourself as well",
            )

    def _no_file(self, entry: Entry, fault: str | None) -> OmsFinding:
        if entry.kind is EntryKind.UNREADABLE:
            return OmsFinding("file-unread", entry.path, "cannot be read", found=entry.detail)
        if entry.kind is EntryKind.SPECIAL:
            return OmsFinding(
                "not-regular", entry.path, "not a regular file", "a regular file", entry.detail
            )
        hint = None
        if fault is None:
            fault = "is not followed"
            if not self._statement.allow_symlinks:
                hint = "the signer followed no links, so a link is not what was signed"
            else:
                hint = "the signer followed links; allow them to follow those inside the model"
        return OmsFinding(
            "symlink",
            entry.path,
            f"a symbolic link that {fault}",
            expected="a regular file",
            found=f"link to {entry.detail}",
            hint=hint,
        )

    def _listing(self, links: Linked) -> Iterator[OmsFinding]:
        """Missing and unlisted files, and sizes where shards tell them."""
        for path, file in self._signed.items():
            if path in self._explained:
                continue
            if path not in self._real:
                yield OmsFinding(
                    "file-missing", path, "signed, and not in the model", "present", "no such file"
                )
                continue
            if not self._fits(path):
                yield OmsFinding(
                    "file-size",
                    path,
                    "another size than the signed shards cover",
                    expected=f"{file.size:,} bytes",
                    found=f"{self._sizes[self._real[path]]:,} bytes",
                )
        for path, real in self._real.items():
            covered = path in links.below and real in self._signed
            if path not in self._signed and not covered:
                yield self._unlisted(path, self._sizes[real])

    def _fits(self, path: str) -> bool:
        """Whether a signed file that is there has the size that its shards cover, if any do."""
        size = self._signed[path].size
        return size is None or size == self._sizes[self._real[path]]

    def _unlisted(self, path: str, size: int) -> OmsFinding:
        hint = None
        if size == 0 and self._statement.shard_size:
            hint = "signatures over shards cannot list empty files: remove it, or ignore its path"
        return OmsFinding(
            "file-unlisted", path, "not signed", "no such file", f"{size:,} bytes", hint
        )

    def _hash(self) -> tuple[HashResult, list[HashJob]]:
        how = None
        if self._statement.hash_type != "sha256" or self._statement.shard_size:
            how = PieceHashing(self._statement.hash_type, self._statement.shard_size)
        # A file of another size is not what was signed, and reading it says no more. Nor may it
        # cost what was not signed: of terabytes, all hole, there is a digest every few bytes.
        real = {
            self._real[path] for path in self._signed if path in self._real and self._fits(path)
        }
        jobs = [HashJob(path, self._sizes[path], pieces=how) for path in sorted(real)]
        hashed = hash_blobs(
            self._store.open,
            jobs,
            workers=self._options.workers,
            on_bytes=self._options.on_bytes,
        )
        return hashed, jobs

    def _contents(self, hashed: HashResult) -> Iterator[OmsFinding]:
        for path, file in self._signed.items():
            real = self._real.get(path)
            if real is None or not self._fits(path):
                continue
            error = hashed.errors.get(real)
            if error is not None:
                changed = isinstance(error, ChangedWhileReading)
                rule = "file-changed" if changed else "file-unread"
                yield OmsFinding(rule, path, error.message, hint=error.hint)
                continue
            digest = hashed.digests[real]
            found = digest.pieces or (bytes.fromhex(digest.sha256),)
            if self._statement.shard_size and not digest.pieces:
                found = ()
            if found != file.digests:
                yield self._another(path, file.digests, found)

    def _another(self, path: str, signed: Sequence[bytes], found: Sequence[bytes]) -> OmsFinding:
        """A digest that differs, and of a file in shards the first of them."""
        number, message = 0, "the content is not what was signed"
        pairs = list(zip(signed, found, strict=False))
        if self._statement.shard_size:
            number = next((i for i, (a, b) in enumerate(pairs) if a != b), len(pairs))
            start = number * self._statement.shard_size
            message += f", from the shard at byte {start:,} on"
        kind = self._statement.hash_type

        def shown(digests: Sequence[bytes]) -> str:
            return f"{kind}:{digests[number].hex()}" if number < len(digests) else "no such shard"

        return OmsFinding("file-digest", path, message, shown(signed), shown(found))

    def _changes(self) -> Iterator[OmsFinding]:
        """List again: what came, went or changed meanwhile was not compared as it is now."""
        before = {entry.path: entry for entry in self._entries}
        after = {entry.path: entry for entry in self._store.entries()}
        skipped = self._asked | self._recorded
        for path in sorted(before.keys() | after.keys()):
            was, now = before.get(path), after.get(path)
            same = was is not None and now is not None and was.fence == now.fence
            if was == now and same:
                continue
            if path not in self._signed and (
                self._options.ignore_unsigned_files or is_below(path, skipped)
            ):
                continue
            if was is None or now is None or was.fence is None or now.fence is None:
                message = "came, went or changed its kind while the check ran"
                yield OmsFinding("listing-changed", path, message)
            else:
                message = f"changed while the check ran: {was.fence.changes(now.fence)}"
                yield OmsFinding("file-changed", path, message)
