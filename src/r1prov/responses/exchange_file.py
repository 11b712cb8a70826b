"""An exchange as JSON, `r1prov/exchange/1`: one text has one meaning, and one exchange one text.

`docs/exchanges.md` describes the form. Bodies are base64, because they count byte for byte; header
values are strings with one character a byte (ISO-8859-1), as Python's HTTP clients show them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from r1prov.errors import ExchangeError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import (
    MAX_EXCHANGE_BODY_BYTES,
    MAX_EXCHANGE_DOCUMENTS,
    MAX_EXCHANGE_FILE_BYTES,
    MAX_EXCHANGE_REDACTIONS,
    MAX_HTTP_FIELDS,
    MAX_HTTP_HEADER_BYTES,
    MAX_INT63,
    MAX_URL_BYTES,
)
from r1prov.responses.exchange import (
    BodyDigests,
    CapturedDocument,
    Exchange,
    Headers,
    Redaction,
    Request,
    Response,
)
from r1prov.text import plural, quoted
from r1prov.trust.keys import decode_base64

SCHEMA: Final = "r1prov/exchange/1"

# RFC 9110 section 5.6.2: `token`, of which methods and field names are made.
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z", re.ASCII)
_PART: Final = re.compile(
    r"(?:request|response)\.(?:body|(?:header|trailer):[!#$%&'*+\-.^_`|~0-9a-z]+)"
    r"|request\.url:(?:path|query|userinfo)|document:(?:0|[1-9]\d{0,3})\.(?:url|body)",
    re.ASCII,
)
_MAX_METHOD: Final = 64
_FORM_HINT: Final = "`r1prov response record` and `response log export` write the form"
_EXTRA: Final = ("trailers",)


def parse_exchange(raw: bytes, *, subject: str) -> Exchange:
    """Read one exchange.

    Args:
        raw: The JSON text.
        subject: What it is, for messages.

    Raises:
        JsonError: It is not strict JSON.
        ExchangeError: It is not of this form.
    """
    value = parse_json(raw, subject=subject, max_bytes=MAX_EXCHANGE_FILE_BYTES)
    return exchange_of_value(value, subject=subject)


def exchange_of_value(value: object, *, subject: str) -> Exchange:
    """The exchange that a parsed JSON text states.

    Raises:
        ExchangeError: It is not of this form.
    """
    try:
        return _exchange(value)
    except ExchangeError as error:
        error.subject = subject
        raise


def exchange_to_json(exchange: Exchange) -> bytes:
    """The exchange as one line of JSON with its line feed.

    Raises:
        ExchangeError: A value cannot stand in the form, such as a header value with a line break.
    """
    value = exchange_to_value(exchange)
    # What is written must be readable: every rule of the reader is one of the writer.
    _exchange(value)
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def exchange_to_value(exchange: Exchange) -> dict[str, object]:
    """The exchange as JSON values, in the order of the form."""
    request, response = exchange.request, exchange.response
    asked: dict[str, object] = {
        "method": request.method,
        "url": request.url,
        "headers": [list(pair) for pair in request.headers],
        "body": _body_value(request.body, request.body_digests),
    }
    answered: dict[str, object] = {
        "status": response.status,
        "headers": [list(pair) for pair in response.headers],
        "body": _body_value(response.body, response.body_digests),
        "complete": response.complete,
    }
    for message, table in ((request, asked), (response, answered)):
        if message.trailers:
            table["trailers"] = [list(pair) for pair in message.trailers]
    value: dict[str, object] = {
        "schema": SCHEMA,
        "started_at": _time_text(exchange.started_at),
        "finished_at": _time_text(exchange.finished_at),
        "request": asked,
        "response": answered,
    }
    if exchange.documents:
        value["documents"] = [
            {
                "url": one.url,
                "status": one.status,
                "body": _body_value(one.body, None),
                "fetched_at": _time_text(one.fetched_at),
            }
            for one in exchange.documents
        ]
    if exchange.redactions:
        value["redactions"] = [_redaction_value(one) for one in exchange.redactions]
    return value


def _body_value(body: bytes | None, digests: BodyDigests | None) -> dict[str, object] | None:
    if body is not None:
        return {"base64": _base64(body)}
    if digests is None:
        return None
    return {
        "length": digests.length,
        "sha-256": _base64(digests.sha256),
        "sha-512": _base64(digests.sha512),
    }


def _redaction_value(redaction: Redaction) -> dict[str, str]:
    value = {"part": redaction.part}
    if redaction.commitment is not None:
        value["commitment"] = redaction.commitment.hex()
    if redaction.remainder is not None:
        value["remainder"] = _base64(redaction.remainder)
    return value


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _time_text(when: datetime | None) -> str | None:
    if when is None:
        return None
    if when.tzinfo is None:
        raise ExchangeError("a time has no time zone")
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _exchange(value: object) -> Exchange:
    top = _object(
        value,
        "the text",
        ("schema", "started_at", "finished_at", "request", "response"),
        optional=("documents", "redactions"),
    )
    if top["schema"] != SCHEMA:
        raise _wrong("`schema`", quoted(SCHEMA), top["schema"])
    documents = _list(top.get("documents", []), "`documents`", MAX_EXCHANGE_DOCUMENTS)
    redactions = _list(top.get("redactions", []), "`redactions`", MAX_EXCHANGE_REDACTIONS)
    exchange = Exchange(
        request=_request(top["request"]),
        response=_response(top["response"]),
        started_at=_time(top["started_at"], "`started_at`"),
        finished_at=_time(top["finished_at"], "`finished_at`"),
        documents=tuple(_document(one, at) for at, one in enumerate(documents)),
        redactions=tuple(_redaction(one, at) for at, one in enumerate(redactions)),
    )
    _check_redactions(exchange)
    return exchange


def _request(value: object) -> Request:
    table = _object(value, "`request`", ("method", "url", "headers", "body"), optional=_EXTRA)
    method = table["method"]
    if not isinstance(method, str) or len(method) > _MAX_METHOD or not TOKEN.fullmatch(method):
        raise _wrong("`request.method`", "a method, such as `POST`", method)
    body, digests = _body(table["body"], "`request.body`")
    return Request(
        method=method,
        url=_url(table["url"], "`request.url`"),
        headers=_headers(table["headers"], "`request.headers`"),
        body=body,
        body_digests=digests,
        trailers=_headers(table.get("trailers", []), "`request.trailers`"),
    )


def _response(value: object) -> Response:
    table = _object(value, "`response`", ("status", "headers", "body", "complete"), optional=_EXTRA)
    complete = table["complete"]
    if not isinstance(complete, bool):
        raise _wrong("`response.complete`", "true or false", complete)
    body, digests = _body(table["body"], "`response.body`")
    return Response(
        status=_status(table["status"], "`response.status`"),
        headers=_headers(table["headers"], "`response.headers`"),
        body=body,
        complete=complete,
        body_digests=digests,
        trailers=_headers(table.get("trailers", []), "`response.trailers`"),
    )


def _document(value: object, at: int) -> CapturedDocument:
    where = f"`documents[{at}]`"
    table = _object(value, where, ("url", "status", "body", "fetched_at"))
    body, _ = _body(table["body"], f"{where} `body`")
    fetched_at = _time(table["fetched_at"], f"{where} `fetched_at`")
    if body is None or fetched_at is None:
        raise ExchangeError(f"{where} must hold its body as base64, and when it was fetched")
    return CapturedDocument(
        url=_url(table["url"], f"{where} `url`"),
        status=_status(table["status"], f"{where} `status`"),
        body=body,
        fetched_at=fetched_at,
    )


def _redaction(value: object, at: int) -> Redaction:
    where = f"`redactions[{at}]`"
    table = _object(value, where, ("part",), optional=("commitment", "remainder"))
    part = table["part"]
    if not isinstance(part, str) or not _PART.fullmatch(part):
        raise _wrong(f"{where} `part`", "a part of an exchange, such as `request.body`", part)
    commitment = None
    if "commitment" in table:
        text = table["commitment"]
        if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{64}", text):
            raise _wrong(f"{where} `commitment`", "64 lower-case hexadecimal digits", text)
        commitment = bytes.fromhex(text)
    remainder = None
    if "remainder" in table:
        if not part.endswith(".body"):
            raise ExchangeError(f"{where}: only of a body a remainder can be shown")
        remainder = _bytes(table["remainder"], f"{where} `remainder`")
    return Redaction(part=part, commitment=commitment, remainder=remainder)


def _check_redactions(exchange: Exchange) -> None:
    """What is said to be gone must not be there: two readers would see two exchanges."""
    parts = [one.part for one in exchange.redactions]
    if len(set(parts)) != len(parts):
        raise ExchangeError("a part is redacted twice", hint="name each part once")
    for name, message in (("request", exchange.request), ("response", exchange.response)):
        if f"{name}.body" in parts and (message.body, message.body_digests) != (None, None):
            raise ExchangeError(f"`{name}.body` is there and said to be redacted")
        for kind, fields in (("header", message.headers), ("trailer", message.trailers)):
            for key, _ in fields:
                if f"{name}.{kind}:{key.lower()}" in parts:
                    raise ExchangeError(
                        f"{kind} {quoted(key)} of the {name} is there and said to be redacted"
                    )
    for part in parts:
        if part.startswith("document:") and int(part[9:].split(".")[0]) >= len(exchange.documents):
            raise ExchangeError(f"redaction of {quoted(part)}, which is not there")


def _object(
    value: object, where: str, keys: Sequence[str], *, optional: Sequence[str] = ()
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "a JSON object", value)
    for key in keys:
        if key not in value:
            raise ExchangeError(f"{where} lacks the key `{key}`", hint=_FORM_HINT)
    for key in value:
        if key not in keys and key not in optional:
            raise ExchangeError(f"{where} has the unknown key {quoted(key)}")
    return value


def _list(value: object, where: str, cap: int) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(where, "a JSON array", value)
    if len(value) > cap:
        raise ExchangeError(f"{where} has {len(value):,} entries; the cap is {cap:,}")
    return value


def _headers(value: object, where: str) -> Headers:
    pairs = []
    length = 0
    for at, pair in enumerate(_list(value, where, MAX_HTTP_FIELDS)):
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(x) is str for x in pair):
            raise _wrong(f"{where}[{at}]", "a name and a value, both strings", pair)
        check_field(pair[0], pair[1], f"{where}[{at}]")
        length += len(pair[0]) + len(pair[1])
        pairs.append((pair[0], pair[1]))
    if length > MAX_HTTP_HEADER_BYTES:
        raise ExchangeError(f"{where} has {length:,} bytes; the cap is {MAX_HTTP_HEADER_BYTES:,}")
    return tuple(pairs)


def check_field(name: str, value: str, where: str) -> None:
    """Refuse what is no field of HTTP (RFC 9110 section 5).

    Raises:
        ExchangeError: The name is no token, or the value holds a control character or a character
            beyond ISO-8859-1.
    """
    if not TOKEN.fullmatch(name):
        raise ExchangeError(f"{where}: {quoted(name)} is no field name")
    for character in value:
        if character > "\xff" or (character < " " and character != "\t") or character == "\x7f":
            raise ExchangeError(
                f"{where}: the value of {quoted(name)} holds {quoted(character)}, which no field "
                "value may",
                hint="values have one character a byte (ISO-8859-1), without control characters",
            )


def _url(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "a URL with scheme and authority", value, secret=True)
    if len(value) > MAX_URL_BYTES:
        raise ExchangeError(f"{where} has {len(value):,} characters; the cap is {MAX_URL_BYTES:,}")
    check_url(value, where)
    return value


def check_url(value: str, where: str) -> None:
    """Refuse what is no absolute URL in printable ASCII.

    Clients send some characters as they are that RFC 3986 wants encoded (`|` and braces).

    Raises:
        ExchangeError: It is none.
    """
    if not re.match(r"https?://[^/?#]", value, re.IGNORECASE):
        wanted = "a URL that begins with http:// or https:// and names a host"
        raise _wrong(where, wanted, value, secret=True)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ExchangeError(
            f"{where} holds a character that no URI may",
            hint="what was sent is percent-encoded (RFC 3986), and that is what must stand here",
        )


def _status(value: object, where: str) -> int:
    if type(value) is not int or not 100 <= value <= 599:
        raise _wrong(where, "a status of three digits", value)
    return value


def _time(value: object, where: str) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass  # the 31st of June
    raise _wrong(where, "a time in UTC, such as `2026-11-24T10:00:00Z`", value)


def _body(value: object, where: str) -> tuple[bytes | None, BodyDigests | None]:
    if value is None:
        return None, None
    if isinstance(value, dict) and "base64" in value:
        return _bytes(_object(value, where, ("base64",))["base64"], f"{where} `base64`"), None
    table = _object(value, where, ("length", "sha-256", "sha-512"))
    length = table["length"]
    if type(length) is not int or not 0 <= length <= MAX_INT63:
        raise _wrong(f"{where} `length`", "a number of bytes", length)
    digests = BodyDigests(
        length=length,
        sha256=_bytes(table["sha-256"], f"{where} `sha-256`"),
        sha512=_bytes(table["sha-512"], f"{where} `sha-512`"),
    )
    if (len(digests.sha256), len(digests.sha512)) != (32, 64):
        raise ExchangeError(f"{where} has a digest of another length than its algorithm's")
    return None, digests


def _bytes(value: object, where: str) -> bytes:
    data = decode_base64(value) if isinstance(value, str) else None
    if data is None:
        raise _wrong(where, "strict base64 (RFC 4648 section 4, padded)", value, secret=True)
    if len(data) > MAX_EXCHANGE_BODY_BYTES:
        raise ExchangeError(
            f"{where} has {len(data):,} bytes; the cap is {MAX_EXCHANGE_BODY_BYTES:,}"
        )
    return data


def _wrong(where: str, wanted: str, value: object, *, secret: bool = False) -> ExchangeError:
    """An error about a value, which is shown unless it could hold a secret, as a URL can."""
    kind = {dict: "an object", list: "an array", type(None): "null"}.get(type(value))
    if kind is None and secret and isinstance(value, str):
        kind = f"that string of {plural(len(value), 'character')}"
    return ExchangeError(f"{where} must be {wanted}, not {kind or quoted(repr(value), limit=40)}")
