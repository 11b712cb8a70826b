"""A captured exchange from a path, whichever of the known forms it has.

The form is told by content, never by a file's name: `r1prov/exchange/1`, a HAR, a line of an
exchange log, or raw HTTP/1.1 in one file or in a directory with `request.http` and `response.http`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from r1prov.errors import ExchangeError, UsageError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EXCHANGE_FILE_BYTES
from r1prov.responses.exchange import Exchange
from r1prov.responses.exchange_file import SCHEMA, exchange_of_value
from r1prov.responses.har import exchange_of_har
from r1prov.responses.log_check import read_entry
from r1prov.responses.log_record import is_log
from r1prov.responses.raw_http import REQUEST_LINE, parse_raw
from r1prov.trust.directories import read_file

REQUEST_FILE: Final = "request.http"
RESPONSE_FILE: Final = "response.http"
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Capture:
    """An exchange as it was read.

    Attributes:
        exchange: Request and response.
        form: `exchange`, `har`, `log` or `raw`.
        notes: What this form has lost or does not say; to be shown beside a verdict.
    """

    exchange: Exchange
    form: str
    notes: tuple[str, ...] = ()


def read_exchange(path: Path, entry: int | None = None, *, scheme: str = "https") -> Capture:
    """Read one exchange.

    Args:
        path: A file, or a directory with `request.http` and `response.http`.
        entry: Which entry of a HAR, or which record of a log, from 0.
        scheme: Over which scheme raw HTTP went, as its bytes do not say it.

    Raises:
        NotFound: There is no such file.
        Unreadable: It cannot be read.
        ExchangeError: It is of no known form, or malformed.
        JsonError: It is no strict JSON.
        UsageError: It holds several exchanges and none was named, or it holds one only.
    """
    if path.is_dir():
        if entry is not None:
            raise UsageError("--entry goes with a HAR or a log", subject=str(path))
        raw = parse_raw(
            read_file(path / REQUEST_FILE, MAX_EXCHANGE_FILE_BYTES),
            read_file(path / RESPONSE_FILE, MAX_EXCHANGE_FILE_BYTES),
            scheme=scheme,
            subject=str(path),
        )
        return Capture(raw.exchange, "raw", raw.notes)
    if is_log(path):
        return Capture(read_entry(path, entry), "log")
    return parse_capture(
        read_file(path, MAX_EXCHANGE_FILE_BYTES), entry=entry, scheme=scheme, subject=str(path)
    )


def parse_capture(
    data: bytes, *, entry: int | None = None, scheme: str = "https", subject: str
) -> Capture:
    """Read one exchange from bytes: JSON of ours, a HAR, or raw HTTP.

    Raises:
        ExchangeError: It is of no known form, or malformed.
        JsonError: It is no strict JSON.
        UsageError: It holds several exchanges and none was named, or it holds one only.
    """
    start = data.removeprefix(_BOM)[:1024].lstrip(b" \t\r\n")
    if start.startswith(b"{"):
        # HAR 1.2 has its readers ignore a byte order mark; our own form has none.
        value = parse_json(
            data.removeprefix(_BOM), subject=subject, max_bytes=MAX_EXCHANGE_FILE_BYTES
        )
        if isinstance(value, dict) and isinstance(value.get("log"), dict):
            har = exchange_of_har(value, entry=entry, subject=subject)
            return Capture(har.exchange, "har", har.notes)
        if data.startswith(_BOM):
            raise ExchangeError("begins with a byte order mark", subject=subject)
        _refuse_entry(entry, subject)
        return Capture(exchange_of_value(value, subject=subject), "exchange")
    if REQUEST_LINE.match(data):
        _refuse_entry(entry, subject)
        raw = parse_raw(data, scheme=scheme, subject=subject)
        return Capture(raw.exchange, "raw", raw.notes)
    raise ExchangeError(
        "is no exchange of a known form",
        subject=subject,
        hint=f"known are {SCHEMA} (JSON), HAR, an exchange log, and HTTP/1.1 as on the wire: the "
        f"response behind the request, or both in a directory as {REQUEST_FILE} and "
        f"{RESPONSE_FILE}",
    )


def _refuse_entry(entry: int | None, subject: str) -> None:
    if entry is not None:
        raise UsageError("--entry goes with a HAR or a log", subject=subject)
