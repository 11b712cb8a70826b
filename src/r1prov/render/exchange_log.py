"""An exchange log, its check and its records, as text and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from r1prov.responses.exchange_file import exchange_of_value
from r1prov.responses.redaction import redact_url
from r1prov.text import human_bytes, plural, printable

if TYPE_CHECKING:
    from r1prov.responses.exchange import Request, Response
    from r1prov.responses.log_check import LogCheck
    from r1prov.responses.log_record import Record


def check_as_text(check: LogCheck) -> str:
    """A few lines: whether it holds, what it has, and the head to note."""
    lines = [
        "holds" if check.problem is None else f"DOES NOT HOLD: {printable(check.problem)}",
        f"{plural(check.exchanges, 'exchange')} in {plural(check.records, 'record')}, "
        f"{plural(check.files, 'file')}",
    ]
    if check.recovered:
        lines.append(f"{plural(check.recovered, 'torn line')} of writers that died were taken away")
    if check.torn:
        lines.append(
            f"{plural(check.torn, 'byte')} of an unfinished line at the end: a writer died, or is "
            "writing now; the next one recovers"
        )
    if check.head is not None:
        lines.append(f"head {check.head}")
    return "".join(f"{line}\n" for line in lines)


def check_as_json(check: LogCheck) -> str:
    """The same, for programs."""
    value = {
        "holds": check.problem is None,
        "problem": check.problem,
        "files": check.files,
        "records": check.records,
        "exchanges": check.exchanges,
        "recovered": check.recovered,
        "torn_bytes": check.torn,
        "head": None if check.head is None else str(check.head),
    }
    return json.dumps(value, indent=2) + "\n"


def record_as_text(record: Record) -> str:
    """One line: number, time, and what it is about."""
    start = f"{record.head.number:>6}  {record.at[:19]}Z  "
    if record.kind != "exchange":
        what = (
            "log begins" if record.kind == "log" else f"a torn line was taken away: {record.value}"
        )
        return f"{start}{printable(what)}\n"
    exchange = exchange_of_value(record.value, subject=f"record {record.head.number}")
    request, response = exchange.request, exchange.response
    notes = [f"{_size(request)} → {_size(response)}"]
    if not response.complete:
        notes.append("broke off")
    if exchange.redactions:
        notes.append(f"{plural(len(exchange.redactions), 'part')} redacted")
    if exchange.documents:
        notes.append(plural(len(exchange.documents), "document"))
    url = printable(redact_url(request.url)[0], limit=120)
    return f"{start}{printable(request.method)} {url} {response.status}  ({', '.join(notes)})\n"


def record_as_json(record: Record) -> str:
    """One line of JSON; bodies are left out."""
    value: dict[str, object] = {
        "number": record.head.number,
        "digest": record.head.digest,
        "at": record.at,
        "kind": record.kind,
    }
    if record.kind == "exchange":
        exchange = exchange_of_value(record.value, subject=f"record {record.head.number}")
        value |= {
            "method": exchange.request.method,
            "url": exchange.request.url,
            "status": exchange.response.status,
            "complete": exchange.response.complete,
            "redactions": [one.part for one in exchange.redactions],
            "documents": [one.url for one in exchange.documents],
        }
    return json.dumps(value) + "\n"


def _size(message: Request | Response) -> str:
    if message.body is not None:
        return human_bytes(len(message.body))
    if message.body_digests is not None:
        return f"{human_bytes(message.body_digests.length)}, digests only"
    return "no body"
