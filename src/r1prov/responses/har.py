"""HTTP Archives (HAR 1.2), which browsers and proxies write.

An archive is made for people who tune pages, not for proofs. It holds content after its coding was
taken off and, unless in base64, after it went through a character set; so what it says of bytes is
believed only where nothing can have been lost, and every loss becomes a note. Where the exact bytes
are not known, the body is not captured: a digest over it then cannot be checked, which is not the
same as wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from r1prov.errors import ExchangeError, UsageError
from r1prov.limits import MAX_EXCHANGE_BODY_BYTES, MAX_HTTP_FIELDS
from r1prov.responses.exchange import Exchange, Headers, Request, Response, field_values
from r1prov.responses.exchange_file import TOKEN, check_field, check_url
from r1prov.text import plural, quoted
from r1prov.trust.keys import decode_base64

# Years of waiting are no measurement.
_MAX_MILLISECONDS: Final = 1e10


@dataclass(frozen=True, slots=True)
class HarExchange:
    """One entry of an archive.

    Attributes:
        exchange: Request and response, as far as the archive has them.
        entry: Which entry it is, from 0.
        notes: What the archive has lost or does not say, one sentence each.
    """

    exchange: Exchange
    entry: int
    notes: tuple[str, ...]


def exchange_of_har(value: object, *, entry: int | None = None, subject: str) -> HarExchange:
    """The exchange of one entry.

    Args:
        value: The archive, as parsed JSON.
        entry: Which entry, from 0; may be left out if there is only one.
        subject: What it is, for messages.

    Raises:
        UsageError: The archive has several entries and none was named, or not that one.
        ExchangeError: The archive is malformed, or the entry holds no response.
    """
    try:
        entries = _list(
            _table(_object(value, "the archive"), "log", "the archive"), "entries", "`log`"
        )
        if entry is None and len(entries) != 1:
            raise UsageError(
                f"the archive has {len(entries)} entries, and one exchange is read",
                subject=subject,
                hint=f"name one, --entry 0 to --entry {len(entries) - 1}" if entries else None,
            )
        at = entry or 0
        if not 0 <= at < len(entries):
            raise UsageError(
                f"the archive has no entry {at}; it has {len(entries)}, counted from 0",
                subject=subject,
            )
        notes: list[str] = []
        exchange = _entry(_object(entries[at], f"`entries[{at}]`"), f"`entries[{at}]`", notes)
        return HarExchange(exchange, at, tuple(notes))
    except ExchangeError as error:
        error.subject = subject
        raise


def _entry(entry: dict[str, Any], where: str, notes: list[str]) -> Exchange:
    asked = _table(entry, "request", where)
    answered = _table(entry, "response", where)
    started = _started(entry.get("startedDateTime"), where)
    took = entry.get("time")
    if isinstance(took, int | float) and 0 <= took <= _MAX_MILLISECONDS and math.isfinite(took):
        finished = started + timedelta(milliseconds=took)
    else:
        finished = None
        notes.append("the archive does not say when the response ended")
    status = answered.get("status")
    if type(status) is not int or not 100 <= status <= 599:
        # Browsers write 0 for a request that was blocked or broke off.
        raise ExchangeError(f"{where} holds no response: its status is {quoted(repr(status))}")
    method, url = asked.get("method"), asked.get("url")
    if not isinstance(method, str) or not TOKEN.fullmatch(method) or len(method) > 64:
        raise ExchangeError(f"{where} `request.method` is no method")
    if not isinstance(url, str):
        raise ExchangeError(f"{where} `request.url` is missing")
    # Browsers leave the fragment, which is never sent.
    url = url.partition("#")[0]
    check_url(url, f"{where} `request.url`")
    headers = _headers(asked, f"{where} `request`", notes)
    request = Request(
        method=method, url=url, headers=headers, body=_request_body(asked, headers, where, notes)
    )
    headers = _headers(answered, f"{where} `response`", notes)
    response = Response(
        status=status,
        headers=headers,
        body=_response_body(answered, headers, method, where, notes),
    )
    notes.append("the archive does not say whether the response was complete")
    return Exchange(request=request, response=response, started_at=started, finished_at=finished)


def _started(value: object, where: str) -> datetime:
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
        if when is not None and when.tzinfo is not None:
            return when.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ExchangeError(f"{where} `startedDateTime` must be a time with its zone (ISO 8601)")


def _headers(message: dict[str, Any], where: str, notes: list[str]) -> Headers:
    fields: list[tuple[str, str]] = []
    for one in _list(message, "headers", where):
        if not isinstance(one, dict):
            raise ExchangeError(f"{where} `headers` holds something that is no object")
        name, value = one.get("name"), one.get("value")
        if not isinstance(name, str) or not isinstance(value, str):
            raise ExchangeError(f"{where} `headers` holds an entry without name and value")
        if name.startswith(":"):  # HTTP/2 and 3: method, scheme, authority, path and status
            continue
        # Chromium joins the values of fields of one name with line feeds.
        for single in value.split("\n"):
            check_field(name, single, f"{where} `headers`")
            fields.append((name, single.strip(" \t")))
    if len(fields) > MAX_HTTP_FIELDS:
        raise ExchangeError(f"{where} has more than {MAX_HTTP_FIELDS} fields")
    if not fields:
        notes.append(f"{where} has no header fields; the archive may have been stripped of them")
    return tuple(fields)


def _request_body(
    request: dict[str, Any], headers: Headers, where: str, notes: list[str]
) -> bytes | None:
    sent = request.get("postData")
    if sent is None:
        if request.get("bodySize") in (None, 0, -1) and field_values(headers, "content-length") in (
            (),
            ("0",),
        ):
            return b""
        notes.append("the archive lacks the request's content")
        return None
    if not isinstance(sent, dict):
        raise ExchangeError(f"{where} `request.postData` is no object")
    text = sent.get("text")
    if not isinstance(text, str) or sent.get("params"):
        notes.append("the archive holds the request's content as parameters, not as it was sent")
        return None
    coded = _coding(headers)
    if coded:
        notes.append(f"the request's content was coded ({coded}) and the archive holds it decoded")
        return None
    body = _content(text, sent.get("encoding"), "the request", where, notes)
    return _if_length_fits(body, headers, "the request", notes)


def _response_body(
    response: dict[str, Any], headers: Headers, method: str, where: str, notes: list[str]
) -> bytes | None:
    if method == "HEAD" or response["status"] in (204, 304):
        return b""
    content = _table(response, "content", f"{where} `response`")
    text, size = content.get("text"), content.get("size")
    if text is None:
        if size == 0 and field_values(headers, "content-length") in ((), ("0",)):
            return b""
        notes.append("the archive lacks the response's content")
        return None
    if not isinstance(text, str):
        raise ExchangeError(f"{where} `response.content.text` is no string")
    coded = _coding(headers)
    if coded:
        notes.append(
            f"the response's content was coded ({coded}) and the archive holds it decoded: a "
            "Content-Digest is over the coded bytes (RFC 9530 section 2) and cannot be checked"
        )
        return None
    body = _content(text, content.get("encoding"), "the response", where, notes)
    if body is not None and type(size) is int and size >= 0 and size != len(body):
        notes.append(
            f"the response had {size:,} bytes and the archive holds {len(body):,}: they are not "
            "the bytes that were received"
        )
        return None
    return _if_length_fits(body, headers, "the response", notes)


def _coding(headers: Headers) -> str | None:
    codings = [one for one in field_values(headers, "content-encoding") if one != "identity"]
    return quoted(", ".join(codings), limit=40) if codings else None


def _content(text: str, encoding: object, what: str, where: str, notes: list[str]) -> bytes | None:
    if encoding == "base64":
        body = decode_base64(text)
        if body is None:
            raise ExchangeError(f"{where}: the content of {what} is not strict base64")
    elif encoding in (None, ""):
        if "\ufffd" in text:
            notes.append(
                f"the content of {what} holds U+FFFD, which stands where bytes were no UTF-8: the "
                "bytes that were received are lost"
            )
            return None
        try:
            body = text.encode()
        except UnicodeEncodeError:
            raise ExchangeError(f"{where}: the content of {what} is no Unicode text") from None
        notes.append(f"the content of {what} is text, taken to have been UTF-8 without loss")
    else:
        raise ExchangeError(f"{where}: the content of {what} has an unknown encoding")
    if len(body) > MAX_EXCHANGE_BODY_BYTES:
        raise ExchangeError(f"{where}: {what} is longer than {MAX_EXCHANGE_BODY_BYTES:,} bytes")
    return body


def _if_length_fits(
    body: bytes | None, headers: Headers, what: str, notes: list[str]
) -> bytes | None:
    """The body, unless the length that was sent with it shows that bytes were lost."""
    lengths = field_values(headers, "content-length")
    if body is None or not lengths or lengths == (str(len(body)),):
        return body
    notes.append(
        f"{what} has the Content-Length {quoted(lengths[0], limit=40)} and the archive holds "
        f"{plural(len(body), 'byte')}: they are not the bytes that were sent"
    )
    return None


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ExchangeError(f"{where} is no object", hint="HAR 1.2 is what is read")
    return value


def _table(value: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    return _object(value.get(key), f"{where} `{key}`")


def _list(value: dict[str, Any], key: str, where: str) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        raise ExchangeError(f"{where} `{key}` is no array", hint="HAR 1.2 is what is read")
    return found
