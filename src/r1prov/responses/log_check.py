"""Reading an exchange log, and what it is found to be (see `log` for its form)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from r1prov.errors import ExchangeError, NotFound, R1ProvError, Unreadable, UsageError
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import exchange_of_value
from r1prov.responses.log_record import (
    FIRST,
    MAX_LINE,
    SCHEMA,
    Head,
    Record,
    parse_record,
    reading,
    rotated_files,
)


@dataclass(frozen=True, slots=True)
class LogCheck:
    """What a log was found to be.

    Attributes:
        files: How many files were read.
        records: How many records hold, in order.
        exchanges: How many of them are exchanges.
        recovered: How many torn lines writers have taken away.
        head: The last record that holds; None if there is none.
        torn: Bytes of an unfinished line at the end: what a killed writer was writing.
        problem: Why the log does not hold from there on; None if all of it holds.
    """

    files: int
    records: int
    exchanges: int
    recovered: int
    head: Head | None
    torn: int
    problem: str | None


def read_records(path: Path) -> Iterator[Record]:
    """Every record of a log with its rotated files, checked one by one against the one before.

    A torn line at the end is left out.

    Raises:
        NotFound: There is no such file.
        Unreadable: It cannot be read.
        ExchangeError: A record is malformed, or was changed, moved or taken away.
    """
    walk = _Walk(path)
    yield from walk.records()


def check_log(path: Path, *, noted: tuple[Head, ...] = ()) -> LogCheck:
    """Check every record of a log with its rotated files.

    Args:
        path: The log.
        noted: Heads that were noted before: the log must hold each of them.

    Raises:
        NotFound: There is no such file.
        Unreadable: It cannot be read.
    """
    walk = _Walk(path)
    wanted = {one.number: one.digest for one in noted}
    records = exchanges = recovered = 0
    head = problem = None
    try:
        for record in walk.records():
            expected = wanted.pop(record.head.number, record.head.digest)
            if expected != record.head.digest:
                raise ExchangeError(
                    f"record {record.head.number} is not the one that was noted as "
                    f"{record.head.number}:{expected}",
                    subject=str(path),
                )
            records += 1
            exchanges += record.kind == "exchange"
            recovered += record.kind == "recovered"
            head = record.head
            if record.kind == "exchange":
                exchange_of_value(record.value, subject=f"record {record.head.number}")
    except (NotFound, Unreadable):
        raise
    except R1ProvError as error:
        where = f"{error.subject}: " if error.subject else ""
        problem = f"{where}{error.message}"
    if problem is None and wanted:
        number = min(wanted)
        problem = f"record {number}, which was noted, is not there any more"
    return LogCheck(walk.files, records, exchanges, recovered, head, walk.torn, problem)


def read_entry(path: Path, number: int | None) -> Exchange:
    """The exchange of one record; as `find_entry`.

    Raises:
        UsageError: None was named and the log has several, or that record is none.
        NotFound: There is no such file.
        Unreadable: It cannot be read.
        ExchangeError: A record up to it is malformed or was changed.
    """
    found = find_entry(path, number)
    return exchange_of_value(found.value, subject=f"{path}, record {found.head.number}")


def find_entry(path: Path, number: int | None) -> Record:
    """The record of one exchange, by its number. Every record up to it is checked.

    Raises:
        UsageError: None was named and the log has several, or that record is none.
        NotFound: There is no such file.
        Unreadable: It cannot be read.
        ExchangeError: A record up to it is malformed or was changed.
    """
    found: Record | None = None
    for record in read_records(path):
        if record.kind != "exchange":
            continue
        if number is None and found is not None:
            raise UsageError(
                "the log has several exchanges",
                subject=str(path),
                hint="name a record with --entry; `r1prov response log show` lists them",
            )
        if number in (None, record.head.number):
            found = record
            if number is not None:
                break
    if found is None:
        what = "no exchange" if number is None else f"no exchange as record {number}"
        raise UsageError(f"the log has {what}", subject=str(path))
    return found


def records_of(raw: bytes, *, subject: str) -> Iterator[Record]:
    """Every record of a log that is one file and at hand as bytes; as `read_records`.

    Raises:
        ExchangeError: A record is malformed, or was changed, moved or taken away, or the last line
            has no end.
    """
    chain = _Chain()
    at = 0
    while at < len(raw):
        end = raw.find(b"\n", at, at + MAX_LINE + 1) + 1
        if not end:
            raise ExchangeError(f"the line at byte {at:,} has no end", subject=subject)
        record = parse_record(raw[at:end], f"{subject}, byte {at:,}")
        chain.follow(record, first=at == 0, subject=subject)
        at = end
        yield record


class _Chain:
    """Holds each record against the one before."""

    def __init__(self) -> None:
        self._before: Head | None = None

    def follow(self, record: Record, *, first: bool, subject: str) -> None:
        """Take the next record; `first` is the first one of its file.

        Raises:
            ExchangeError: It does not follow, or a file begins otherwise than a log does.
        """
        before = self._before
        number = 0 if before is None else before.number + 1
        previous = FIRST if before is None else before.digest
        if (record.head.number, record.previous) != (number, previous):
            raise ExchangeError(
                f"record {record.head.number} does not follow on record {number - 1}: a "
                "record before it was changed, moved or taken away",
                subject=subject,
            )
        if first != (record.kind == "log") or (first and record.value != {"schema": SCHEMA}):
            raise ExchangeError(
                f"record {record.head.number} must {'' if first else 'not '}be the "
                f"beginning of a log of {SCHEMA}",
                subject=subject,
            )
        self._before = record.head


class _Walk:
    """Goes through the files of a log in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files = 0
        self.torn = 0

    def records(self) -> Iterator[Record]:
        chain = _Chain()
        files = rotated_files(self._path)
        # A writer that dies while it rotates leaves no new file, and the next one makes it.
        if not files or self._path.exists():
            files.append(self._path)
        for path in files:
            self.files += 1
            first = True
            for record in self._lines(path):
                chain.follow(record, first=first, subject=str(path))
                first = False
                yield record

    def _lines(self, path: Path) -> Iterator[Record]:
        at = 0
        with reading(path) as stream:
            while line := stream.readline(MAX_LINE + 1):
                if not line.endswith(b"\n"):
                    if len(line) > MAX_LINE or path != self._path:
                        raise ExchangeError(
                            f"the line at byte {at:,} has no end", subject=str(path)
                        )
                    self.torn = len(line)
                    return
                yield parse_record(line, f"{path}, byte {at:,}")
                at += len(line)
