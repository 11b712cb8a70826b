"""The signed statement about a streamed answer: what it says, and its form as a JWS.

docs/signed-responses.md has the wire format. A statement is a compact JWS (RFC 7515) whose payload
travels as the bytes that were signed, so nothing is ever canonicalized. The algorithm follows from
the key; the header can only agree with it.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from r1prov.errors import JsonError, StatementError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_INT63, MAX_STREAM_STATEMENT_BYTES
from r1prov.text import quoted
from r1prov.trust.keys import decode_base64

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TYPE = "r1prov-stream+jws"
VERSION = 1
# What may follow the last statement: the event that ends a stream of chat completions.
END_EVENT = re.compile(rb"data: ?\[DONE\](?:\n\n|\r\n\r\n|\r\r)")
STATES = ("open", "complete", "cut")
WEIGHTS = ("verified", "stated")

_URL_SAFE = str.maketrans("-_", "+/")
_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[A-Za-z0-9_-]{22,64}")
_HEADER = {"alg", "kid", "typ"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What a signature says of the request, in the words of RFC 9421 section 2.2.

    Attributes:
        method: `@method`, as sent.
        authority: `@authority`: lower case, without the scheme's default port.
        path: `@path`, at least `/`.
        query: `@query`, with its question mark; `?` where there is none.
        content_sha256: SHA-256 of the request's content in hex; of no bytes where there is none.
        nonce: What the client asked to have repeated; None if it did not.
    """

    method: str
    authority: str
    path: str
    query: str
    content_sha256: str
    nonce: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatement:
    """What a proxy says about the answer up to a place in it.

    Attributes:
        id: The stream's name, chosen by the proxy at random; the same in all its statements.
        seq: 0 for the first statement of a stream, one more for each that follows.
        state: `open`: more follows; `complete`: the answer ended as it should; `cut`: it broke off.
        offset: Bytes of the content before the statement.
        sha256: SHA-256 of these bytes in hex, earlier statements among them.
        end: What follows the last statement, to the byte; empty unless `complete`.
        iat: When it was signed, seconds since 1970.
        exp: From when on it is too old to be accepted as an answer.
        status: Status code of the answer.
        content_type: Its `Content-Type`; None if it has none.
        request: The request that was answered.
        manifest_sha256: SHA-256 of the manifest of the model that the proxy stands for.
        weights: `verified` if the weights were, when the proxy started; `stated` if they were not.
        weights_at: When they were verified; None where they were not.
    """

    id: str
    seq: int
    state: str
    offset: int
    sha256: str
    end: str
    iat: int
    exp: int
    status: int
    content_type: str | None
    request: RequestFacts
    manifest_sha256: str
    weights: str
    weights_at: int | None


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement with its signature, which is still to be checked.

    Attributes:
        key_id: The key it names.
        algorithm: The algorithm it names; to be the key's own.
        statement: What it says.
        signing_input: The bytes that are signed.
        signature: As in RFC 7518: for ECDSA, r and s side by side.
    """

    key_id: str
    algorithm: str
    statement: StreamStatement
    signing_input: bytes
    signature: bytes


def encode_statement(
    statement: StreamStatement, *, key_id: str, algorithm: str, sign: Callable[[bytes], bytes]
) -> str:
    """The statement as a compact JWS, signed with `sign`."""
    header = {"alg": algorithm, "kid": key_id, "typ": TYPE}
    payload = {"version": VERSION, **asdict(statement)}
    signing_input = f"{_encode(_json(header))}.{_encode(_json(payload))}"
    return f"{signing_input}.{_encode(sign(signing_input.encode()))}"


def decode_statement(text: str) -> SignedStatement:
    """Read a compact JWS, strictly: one spelling a value, no member more or less.

    Raises:
        StatementError: It is no statement of this format.
    """
    if len(text) > MAX_STREAM_STATEMENT_BYTES:
        raise StatementError(f"has {len(text)} bytes; the cap is {MAX_STREAM_STATEMENT_BYTES}")
    match = _COMPACT.fullmatch(text)
    if match is None:
        raise StatementError("is no compact JWS: three parts of base64url with points between")
    header, payload, signature = (_decode(part) for part in match.groups())
    head = _object(header, "its header")
    if set(head) != _HEADER:
        raise StatementError(f"its header has other members than {', '.join(sorted(_HEADER))}")
    if head["typ"] != TYPE:
        raise StatementError(f"its type is {quoted(str(head['typ']))}, not {TYPE}")
    for name in ("alg", "kid"):
        _text(head[name], name)
    return SignedStatement(
        key_id=head["kid"],
        algorithm=head["alg"],
        statement=_statement(_object(payload, "its payload")),
        signing_input=text.rpartition(".")[0].encode(),
        signature=signature,
    )


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Base64url without padding (RFC 7515 section 2), in its one canonical spelling."""
    data = decode_base64(text.translate(_URL_SAFE) + "=" * (-len(text) % 4))
    if data is None:
        raise StatementError("is not in strict base64url")
    return data


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = parse_json(raw, subject=what, max_bytes=MAX_STREAM_STATEMENT_BYTES)
    except JsonError as error:
        raise StatementError(f"{what} is not strict JSON: {error.message}") from None
    if not isinstance(value, dict):
        raise StatementError(f"{what} is no JSON object")
    return value


def _statement(value: dict[str, Any]) -> StreamStatement:
    _members(value, {"version", *StreamStatement.__slots__}, "its payload")
    if value["version"] is True or value["version"] != VERSION:
        raise StatementError(
            f"is of version {quoted(str(value['version']))}; version {VERSION} is read"
        )
    del value["version"]
    if not isinstance(value["id"], str) or not _ID.fullmatch(value["id"]):
        raise StatementError("its `id` is not 22 to 64 characters of base64url")
    for name in ("seq", "offset", "iat", "exp", "status"):
        _whole(value[name], name)
    if value["weights_at"] is not None:
        _whole(value["weights_at"], "weights_at")
    for name, allowed in (("state", STATES), ("weights", WEIGHTS)):
        if value[name] not in allowed:
            raise StatementError(f"its `{name}` is none of {', '.join(allowed)}")
    if (value["weights"] == "verified") != (value["weights_at"] is not None):
        raise StatementError("its `weights_at` goes with weights that were verified, and only then")
    for name in ("sha256", "manifest_sha256"):
        _digest(value[name], name)
    _text(value["end"], "end")
    if value["end"] and not (
        value["state"] == "complete" and END_EVENT.fullmatch(value["end"].encode())
    ):
        raise StatementError("its `end` is not the event that ends a complete stream")
    if value["content_type"] is not None:
        _text(value["content_type"], "content_type")
    if not isinstance(value["request"], dict):
        raise StatementError("its `request` is no JSON object")
    return StreamStatement(**{**value, "request": _request(value["request"])})


def _request(value: dict[str, Any]) -> RequestFacts:
    _members(value, set(RequestFacts.__slots__), "its `request`")
    for name in ("method", "authority", "path", "query"):
        _text(value[name], name)
    _digest(value["content_sha256"], "content_sha256")
    if value["nonce"] is not None:
        _text(value["nonce"], "nonce")
    return RequestFacts(**value)


def _members(value: dict[str, Any], wanted: set[str], what: str) -> None:
    if set(value) == wanted:
        return
    missing, extra = sorted(wanted - set(value)), sorted(set(value) - wanted)
    said = [f"lacks `{missing[0]}`"] if missing else []
    said += [f"has the unknown member {quoted(extra[0])}"] if extra else []
    raise StatementError(f"{what} {' and '.join(said)}")


def _text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise StatementError(f"its `{name}` is no string")


def _whole(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INT63:
        raise StatementError(f"its `{name}` is no whole number from 0 on")


def _digest(value: object, name: str) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise StatementError(f"its `{name}` is not SHA-256 in 64 lower-case hex digits")
