"""A file of openings: what proves redacted content of a log later, kept apart from the log.

JSON lines with mode 0600. Whoever has this file has the content.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from r1prov.errors import ExchangeError, Unreadable
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EXCHANGE_FILE_BYTES
from r1prov.responses.log_record import Head, reading
from r1prov.responses.redaction import SALT_BYTES, Opening
from r1prov.trust.keys import decode_base64

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA: Final = "r1prov/opening/1"
_KEYS: Final = {"schema", "head", "part", "salt", "value"}


def append_openings(path: Path, head: Head, openings: Iterable[Opening]) -> None:
    """Write openings of one record behind those that are there.

    Raises:
        Unreadable: The file cannot be written.
    """
    lines = b"".join(
        json.dumps(
            {
                "schema": SCHEMA,
                "head": str(head),
                "part": one.part,
                "salt": base64.b64encode(one.salt).decode(),
                "value": base64.b64encode(one.value).decode(),
            }
        ).encode()
        + b"\n"
        for one in openings
    )
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise Unreadable(f"cannot write {path}: {error.strerror}", subject=str(path)) from None


def read_openings(path: Path, head: Head) -> tuple[Opening, ...]:
    """The openings of one record.

    Raises:
        NotFound: There is no such file.
        Unreadable: It cannot be read.
        ExchangeError: It is malformed.
        JsonError: A line is no strict JSON.
    """
    return read_openings_of(path, [head])[head]


def read_openings_of(path: Path, heads: Iterable[Head]) -> dict[Head, tuple[Opening, ...]]:
    """The openings of several records, of each the ones that stand there; the file is read once.

    A line that stands twice counts once: files that are handed over are put together by hand.

    Raises:
        NotFound: There is no such file.
        Unreadable: It cannot be read.
        ExchangeError: It is malformed.
        JsonError: A line is no strict JSON.
    """
    found: dict[str, dict[Opening, None]] = {str(head): {} for head in heads}
    with reading(path) as stream:
        number = 0
        while line := stream.readline(MAX_EXCHANGE_FILE_BYTES + 1):
            number += 1
            head, opening = _opening(line, f"{path}, line {number}")
            if head in found:
                found[head][opening] = None
    return {Head.parse(head): tuple(openings) for head, openings in found.items()}


def _opening(line: bytes, subject: str) -> tuple[str, Opening]:
    value = parse_json(line, subject=subject, max_bytes=MAX_EXCHANGE_FILE_BYTES)
    if (
        not isinstance(value, dict)
        or set(value) != _KEYS
        or value["schema"] != SCHEMA
        or not all(isinstance(one, str) for one in value.values())
    ):
        raise ExchangeError(f"is no opening of {SCHEMA}", subject=subject)
    salt, content = decode_base64(value["salt"]), decode_base64(value["value"])
    if salt is None or content is None or len(salt) != SALT_BYTES:
        raise ExchangeError(
            "`salt` and `value` must be strict base64, of 32 bytes the salt", subject=subject
        )
    return value["head"], Opening(part=value["part"], salt=salt, value=content)
