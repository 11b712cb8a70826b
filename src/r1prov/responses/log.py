"""An append-only log of exchanges: JSON lines in a hash chain, one line a record.

Lines and not a database: what was once written is never written again, so that a crash can only
hurt the last line, a copy of the file is a copy of the log, and any tool can read it. A record is

    {"digest":"<64 hex>","previous":"<64 hex>","n":5,"at":"2026-11-24T10:00:00Z","exchange":{…}}

on one line. `digest` is SHA-256 over the bytes of the line behind its comma, with a brace before
them: `{"previous":…}`. So each record binds all before it, and whoever noted the digest of the last
one (the head) can tell later that none of them was changed or taken away. The chain by itself is no
proof against whoever can write the whole file anew: only a head noted elsewhere is.

Every file begins with a record that has `"log"` instead of `"exchange"`; that of a rotated log goes
on from the head of the file before. A record with `"recovered"` says that a torn line was found at
the end, which is what a writer leaves that was killed, and was taken away.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO

from r1prov.errors import ExchangeError, R1ProvError, Unreadable, UsageError
from r1prov.limits import LOG_LOCK_SECONDS, MAX_LOG_FILES
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import exchange_of_value, exchange_to_value
from r1prov.responses.log_record import (
    FIRST,
    MAX_LINE,
    READ_BACK,
    SCHEMA,
    Head,
    last_line_end,
    last_record,
    reading,
    record_line,
    rotated_files,
)
from r1prov.responses.redaction import Opening, RedactionRules, redact


class Fsync(StrEnum):
    """When a record is made to survive a loss of power; a killed process loses none anyway."""

    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of an exchange.

    Attributes:
        head: Its record.
        openings: What proves the content that was replaced by digests; kept nowhere in the log.
    """

    head: Head
    openings: tuple[Opening, ...]


class ExchangeLog:
    """A log to append to. Several processes and threads may append to one file.

    Args:
        path: The file. It is made with mode 0600; `PATH.lock` beside it is what writers hold.
        rules: What is taken out of every exchange before it is written.
        fsync: Whether each record is flushed to the disk.
        max_bytes: A file that has reached this size is renamed to `PATH.1`, `PATH.2`, … and a new
            one goes on with the chain.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rules: RedactionRules | None = None,
        fsync: Fsync = Fsync.ALWAYS,
        max_bytes: int | None = None,
    ) -> None:
        self.path = Path(path)
        self._rules = rules or RedactionRules()
        self._fsync = fsync is Fsync.ALWAYS
        self._max_bytes = max_bytes

    def append(self, exchange: Exchange) -> Appended:
        """Redact an exchange and write it as one record, whole or not at all.

        Raises:
            ExchangeError: The exchange cannot be written, or the file is no log of ours, or its
                last record is damaged.
            Unreadable: It cannot be written to, is held by another process, or the disk is full.
        """
        redacted = redact(exchange, self._rules)
        value = exchange_to_value(redacted.exchange)
        exchange_of_value(value, subject=str(self.path))  # what could not be read is not written
        with self._locked():
            return Appended(self._append("exchange", value), redacted.openings)

    def head(self) -> Head:
        """The last record, for which the file is made if there is none.

        Raises:
            ExchangeError: The file is no log of ours, or its last record is damaged.
            Unreadable: It cannot be read.
        """
        with self._locked(), self._opened() as stream:
            return self._ready(stream)

    def _append(self, kind: str, value: dict[str, object]) -> Head:
        with self._opened() as stream:
            head = self._ready(stream)
            if self._max_bytes is None or _size(stream) < self._max_bytes:
                return self._write(stream, head, kind, value)
        self._rotate()
        with self._opened() as stream:
            head = self._write(stream, head, "log", {"schema": SCHEMA})
            self._sync_directory()
            return self._write(stream, head, kind, value)

    def _ready(self, stream: IO[bytes]) -> Head:
        """The head of the file, once it has one and nothing stands behind it."""
        size = _size(stream)
        end = last_line_end(stream, size)
        if end < size:
            digest = hashlib.sha256()
            stream.seek(end)
            for piece in iter(lambda: stream.read(READ_BACK), b""):
                digest.update(piece)
        if end == 0:
            # The first record itself may be torn: nothing is lost with it.
            stream.truncate(0)
            previous = self._head_before()
            head = self._write(stream, previous, "log", {"schema": SCHEMA})
            self._sync_directory()
            return head
        record = last_record(stream, end, str(self.path))
        if end == size:
            return record.head
        stream.truncate(end)
        lost = {"bytes": size - end, "sha256": digest.hexdigest()}
        return self._write(stream, record.head, "recovered", lost)

    def _head_before(self) -> Head | None:
        """The head of the newest rotated file, after which a new file goes on."""
        rotated = rotated_files(self.path)
        if not rotated:
            return None
        with reading(rotated[-1]) as stream:
            size = _size(stream)
            if last_line_end(stream, size) != size:
                raise ExchangeError("a rotated file has a torn end", subject=str(rotated[-1]))
            return last_record(stream, size, str(rotated[-1])).head

    def _write(
        self, stream: IO[bytes], after: Head | None, kind: str, value: dict[str, object]
    ) -> Head:
        number = 0 if after is None else after.number + 1
        previous = FIRST if after is None else after.digest
        line, head = record_line(number, previous, kind, value)
        if len(line) > MAX_LINE:
            raise ExchangeError(f"an exchange of {len(line):,} bytes is too long for the log")
        size = _size(stream)
        try:
            _write_all(stream.fileno(), line)
            if self._fsync:
                os.fsync(stream.fileno())
        except OSError:
            # A full disk: what was written of the line goes, so that the next writer finds a log.
            with suppress(OSError):
                os.ftruncate(stream.fileno(), size)
            raise
        return head

    def _rotate(self) -> None:
        rotated = rotated_files(self.path)
        number = int(rotated[-1].name.rpartition(".")[2]) + 1 if rotated else 1
        if number > MAX_LOG_FILES:
            raise ExchangeError(f"the log has {MAX_LOG_FILES:,} files", subject=str(self.path))
        # Nothing is there: only whoever holds the lock makes such a name.
        os.rename(self.path, f"{self.path}.{number}")

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ExchangeError("is no regular file", subject=str(self.path))
            yield stream

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that every writer takes; what fails within is an error of ours."""
        try:
            lock = _lock(Path(f"{self.path}.lock"))
        except OSError as error:
            raise self._failed(error) from None
        try:
            yield
        except OSError as error:
            raise self._failed(error) from None
        except R1ProvError as error:
            error.subject = error.subject or str(self.path)
            raise
        finally:
            os.close(lock)

    def _failed(self, error: OSError) -> Unreadable:
        reason = error.strerror or str(error)
        return Unreadable(f"cannot write the log {self.path}: {reason}", subject=str(self.path))

    def _sync_directory(self) -> None:
        if not self._fsync:
            return
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _size(stream: IO[bytes]) -> int:
    return os.fstat(stream.fileno()).st_size


def _lock(path: Path) -> int:
    """Take the lock of the writers; closing the descriptor, or dying, gives it back."""
    try:
        import fcntl
    except ImportError:
        raise UsageError("an exchange log needs the file locks of POSIX") from None
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    lock = os.open(path, flags, 0o600)
    try:
        deadline = time.monotonic() + LOG_LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise OSError(errno.EAGAIN, "another process holds it") from None
                time.sleep(0.001)
            else:
                return lock
    except BaseException:
        os.close(lock)
        raise
