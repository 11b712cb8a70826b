"""The SQLite file of the digest cache: who may write to it, who uses it now, and what is damage.

Three files lie side by side: the database, what SQLite keeps beside it (`-wal`, `-shm`), and a
`.lock` of our own. Every process holds the lock shared while it has the database open. Only whoever
holds it alone makes the database or moves a damaged one away, because SQLite would take the `-wal`
of one database for that of another that was put in its place
(https://www.sqlite.org/howtocorrupt.html, section 1.4).
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from r1prov.errors import CacheError
from r1prov.limits import CACHE_LOCK_SECONDS

if TYPE_CHECKING:
    import sqlite3

# "r1pc" in the header of the database, so that no other program's file is taken for a cache.
APPLICATION_ID: Final = 0x72317063
SCHEMA_VERSION: Final = 1
_TABLE: Final = (
    "CREATE TABLE digests (key BLOB PRIMARY KEY, state BLOB NOT NULL, sha256 BLOB NOT NULL, "
    "git_blob BLOB, read_at_ns INTEGER NOT NULL, checksum BLOB NOT NULL) WITHOUT ROWID"
)
# What SQLite keeps beside a database.
_BESIDE: Final = ("-wal", "-shm", "-journal")
# Result codes that say nothing about the database itself (https://www.sqlite.org/rescode.html):
# PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, NOLFS, AUTH.
_PASSING: Final = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23})
# No value of a row is longer, whatever a damaged page says.
_MAX_VALUE_BYTES: Final = 64 * 1024

Value = bytes | str | int | float | None


class Unusable(Exception):
    """The cache cannot be used now; the message says why."""


class Damaged(Unusable):
    """The database is one of ours and is damaged."""


class CacheFile:
    """An open database of the cache.

    Attributes:
        notes: What happened when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self._database: sqlite3.Connection | None = None
        self._lock = -1

    def open(self) -> None:
        """Open the database, and make it if there is none.

        Raises:
            CacheError: Somebody else could write to it.
            Unusable: It cannot be used.
        """
        try:
            self._open_directory()
            self._open_lock()
            try:
                self._open_database()
            except Damaged as error:
                self.notes.append(self.set_aside(error))
                self._open_database()
        except (OSError, ValueError) as error:
            self.close()
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise Unusable(f"{self.path}: {reason}") from None
        except BaseException:
            self.close()
            raise

    def _open_directory(self) -> None:
        directory = self.path.parent
        os.makedirs(directory, mode=0o700, exist_ok=True)
        # Whoever can write to the directory can put another database there.
        _refuse_foreign(os.stat(directory), directory, owners={os.geteuid(), 0})

    def _open_lock(self) -> None:
        path = self._beside(".lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._lock = os.open(path, flags, 0o600)
        _refuse_foreign(os.fstat(self._lock), path, owners={os.geteuid()})
        self._acquire(alone=False)

    def _acquire(self, *, alone: bool, seconds: float = CACHE_LOCK_SECONDS) -> None:
        import fcntl

        kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        if alone:
            # Two that hold it shared and wait for each other would wait for ever.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self._lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Unusable(f"{self.path} is held by another process") from None
                time.sleep(0.01)
            else:
                return

    def _open_database(self) -> None:
        if not self._present():
            self._acquire(alone=True)
            # Another process may have been first.
            if not self._present():
                self._make()
            self._acquire(alone=False)
        database = self._connect(self.path)
        self._database = database
        try:
            identity = self.run("PRAGMA application_id")
        except Damaged as error:
            raise self._not_ours(str(error)) from None
        if identity != (APPLICATION_ID,):
            raise self._not_ours("a database of another program")
        version = self.run("PRAGMA user_version")
        if version != (SCHEMA_VERSION,):
            raise Unusable(f"{self.path} is of another version of r1prov; delete it to start anew")
        tables = self.run("SELECT count(*), max(CAST(sql AS BLOB)) FROM sqlite_master")
        if tables != (1, _TABLE.encode()):
            raise Damaged("it has another table than it was made with")
        self.run("PRAGMA synchronous = NORMAL")  # the last digests may be lost, never the rest

    def _present(self) -> bool:
        """Whether there is a database; it is not opened, because that would drop SQLite's locks."""
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        _refuse_foreign(status, self.path, owners={os.geteuid()})
        return status.st_size > 0

    def _make(self) -> None:
        """Make the database under another name, so that no half of one is ever at its place.

        What lies beside the place is of a database that is gone, and is taken away first.
        """
        new = self._beside(".new")
        for path in (new, *(Path(f"{base}{end}") for base in (new, self.path) for end in _BESIDE)):
            with suppress(FileNotFoundError):
                os.unlink(path)
        # SQLite gives the files that it keeps beside a database the mode of the database.
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._database = self._connect(new)
        self.run(f"PRAGMA application_id = {APPLICATION_ID}")
        self.run(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.run(_TABLE)
        # Readers and one writer at once. Where the file system cannot, SQLite says so and stays
        # with its rollback journal.
        self.run("PRAGMA journal_mode = WAL")
        self._disconnect()
        os.rename(new, self.path)

    def _connect(self, path: Path) -> sqlite3.Connection:
        try:
            import sqlite3
        except ImportError:
            raise Unusable("this Python has no sqlite3 module") from None
        try:
            database = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=CACHE_LOCK_SECONDS,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise self._failed(error) from None
        database.text_factory = bytes  # damaged text is no reason to fail while decoding it
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE_BYTES)
        return database

    def run(self, statement: str, values: tuple[Value, ...] = ()) -> tuple[Value, ...] | None:
        """Run one statement by itself and return its first row.

        Raises:
            Damaged: The database is damaged.
            Unusable: It could not be done for another reason, such as a full disk.
        """
        import sqlite3

        assert self._database is not None  # noqa: S101 - closed by `close` only
        try:
            cursor = self._database.execute(statement, values)
            row: tuple[Value, ...] | None = cursor.fetchone()
            cursor.close()
        except sqlite3.Error as error:
            raise self._failed(error) from None
        return row

    def _failed(self, error: sqlite3.Error) -> Unusable:
        # The low byte is the primary code; an error of Python's own module has none.
        code = getattr(error, "sqlite_errorcode", 11) & 0xFF
        if code in _PASSING:
            return Unusable(f"{self.path}: {error}")
        return Damaged(str(error))

    def _not_ours(self, reason: str) -> Unusable:
        # Perhaps a file that was named by mistake, so it is not moved.
        return Unusable(
            f"{self.path} is no digest cache ({reason}) or damaged at its start, so it is left "
            "alone; if it is yours, delete it to start anew"
        )

    def set_aside(self, error: Damaged) -> str:
        """Move a damaged database away.

        Returns:
            What was done, for people.

        Raises:
            Unusable: Another process has it open, or it cannot be moved.
        """
        self._disconnect()
        damaged = self._beside(".damaged")
        try:
            self._acquire(alone=True, seconds=0)
            os.replace(self.path, damaged)
            self._acquire(alone=False)
        except (OSError, Unusable):
            raise Unusable(f"{self.path} is damaged ({error}); delete it") from None
        return f"the digest cache was damaged ({error}); it is now {damaged} and a new one is made"

    def close(self) -> None:
        """Close the database and let go of the lock. May be called twice."""
        self._disconnect()
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def _disconnect(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            import sqlite3

            # Closing writes what is in the `-wal` into a database that may be damaged.
            with suppress(sqlite3.Error):
                database.close()

    def _beside(self, end: str) -> Path:
        return Path(f"{self.path}{end}")


def _refuse_foreign(status: os.stat_result, path: Path, *, owners: set[int]) -> None:
    """Refuse what somebody else may write: whoever can, decides what digests are."""
    if stat.S_ISLNK(status.st_mode):
        reason = "is a link"
    elif not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        reason = "is no regular file"
    elif status.st_uid not in owners:
        reason = f"belongs to user {status.st_uid}"
    elif status.st_mode & 0o022:
        reason = f"may be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    else:
        return
    raise CacheError(
        f"{path} {reason}, and whoever can write to the digest cache decides what digests are",
        subject=str(path),
        hint="use a directory of your own, with mode 0700 and files of mode 0600",
    )
