"""Records of an exchange log: their lines, and the file that they stand in (see `log`)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final

from r1prov.errors import ExchangeError, NotFound, R1ProvError, Unreadable, UsageError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EXCHANGE_FILE_BYTES

SCHEMA: Final = "r1prov/exchange-log/1"
FIRST: Final = "0" * 64
_RECORD: Final = re.compile(
    rb'\{"digest":"([0-9a-f]{64})",("previous":"([0-9a-f]{64})","n":(0|[1-9]\d{0,17}),'
    rb'"at":"[0-9T:.\-]{19,26}Z","(log|exchange|recovered)":\{.*\}\})\n',
    re.DOTALL,
)
MAX_LINE: Final = MAX_EXCHANGE_FILE_BYTES + 1024
READ_BACK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """The last record: to be noted elsewhere, so that the log can be held against it.

    Attributes:
        number: Of the record, from 0.
        digest: 64 hexadecimal digits.
    """

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The head that `str` printed.

        Raises:
            UsageError: It is none.
        """
        found = re.fullmatch(r"(0|[1-9]\d{0,17}):([0-9a-f]{64})", text, re.ASCII)
        if found is None:
            raise UsageError("a head is NUMBER:DIGEST, as `response log verify` prints it")
        return cls(int(found[1]), found[2])


@dataclass(frozen=True, slots=True)
class Record:
    """One record, whose digest is right.

    Attributes:
        head: Its number and digest.
        previous: Digest of the record before.
        kind: `log`, `exchange` or `recovered`.
        at: When it was written (RFC 3339).
        value: What stands under `kind`.
    """

    head: Head
    previous: str
    kind: str
    at: str
    value: dict[str, object]


def record_line(
    number: int, previous: str, kind: str, value: dict[str, object]
) -> tuple[bytes, Head]:
    """The line of a record, with its line feed, and what it makes the head of the log."""
    rest = (
        f'"previous":"{previous}","n":{number},"at":"{_now()}","{kind}":'
        + json.dumps(value, ensure_ascii=True, separators=(",", ":"))
        + "}"
    ).encode("ascii")
    digest = hashlib.sha256(b"{" + rest).hexdigest()
    return b'{"digest":"' + digest.encode() + b'",' + rest + b"\n", Head(number, digest)


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_record(line: bytes, subject: str) -> Record:
    """The record of a line, whose own digest is checked; what came before it is not.

    Raises:
        ExchangeError: It is no record, or was changed.
        JsonError: It is no strict JSON.
    """
    found = _RECORD.fullmatch(line)
    if found is None:
        raise ExchangeError("is no record of an exchange log", subject=subject)
    digest = hashlib.sha256(b"{" + found[2]).hexdigest()
    if digest != found[1].decode():
        raise ExchangeError(
            f"record {int(found[4])} was changed: its digest is another", subject=subject
        )
    value = parse_json(line, subject=subject, max_bytes=MAX_LINE)
    kind = found[5].decode()
    if not isinstance(value, dict) or list(value) != ["digest", "previous", "n", "at", kind]:
        raise ExchangeError(f"record {int(found[4])} has other members", subject=subject)
    inner = value[kind]
    if not isinstance(inner, dict):
        raise ExchangeError(f"record {int(found[4])} holds no object", subject=subject)
    return Record(Head(int(found[4]), digest), found[3].decode(), kind, value["at"], inner)


def last_record(stream: IO[bytes], end: int, subject: str) -> Record:
    """The record whose line ends at `end`."""
    start = last_line_end(stream, end - 1)
    if end - start > MAX_LINE:
        raise ExchangeError("the last record is too long", subject=subject)
    stream.seek(start)
    line = b""
    while len(line) < end - start and (piece := stream.read(end - start - len(line))):
        line += piece
    try:
        return parse_record(line, f"{subject}, byte {start:,}")
    except R1ProvError as error:
        error.hint = (
            "nothing is appended to a log whose end is damaged, or to a file of something else: "
            "keep it, and begin another"
        )
        raise


def last_line_end(stream: IO[bytes], size: int) -> int:
    """Where the last line before `size` ends that has an end; 0 if there is none."""
    at = size
    while at > 0:
        start = max(0, at - READ_BACK)
        stream.seek(start)
        piece = stream.read(at - start)
        found = piece.rfind(b"\n")
        if found >= 0:
            return start + found + 1
        at = start
    return 0


def is_log(path: Path) -> bool:
    """Whether a file begins as a log does. A file that cannot be read is none."""
    try:
        with reading(path) as stream:
            return stream.read(11) == b'{"digest":"'
    except R1ProvError:
        return False


def rotated_files(path: Path) -> list[Path]:
    """The files that were rotated away, oldest first."""
    name = re.compile(re.escape(path.name) + r"\.([1-9]\d{0,5})", re.ASCII)
    try:
        found = [
            (int(one[1]), one[0]) for one in map(name.fullmatch, os.listdir(path.parent)) if one
        ]
    except OSError:
        return []
    return [path.parent / name for _, name in sorted(found)]


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """A regular file, open for reading.

    Raises:
        NotFound: There is none.
        Unreadable: It cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path} is no regular file", subject=str(path))
            yield stream
    except FileNotFoundError:
        raise NotFound(f"no such file: {path}", subject=str(path)) from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Unreadable(f"cannot read {path}: {reason}", subject=str(path)) from None
