"""What is taken out of an exchange before it is written, and how it is proved later.

Secrets (credentials, cookies, keys in URLs) are taken out for good. Content can be taken out too:
a salted digest stays, by which whoever holds salt and content can show later that this is what
stood there, while nobody else can guess it. What is gone is named in the exchange, so that a
verification which needs it says that it cannot be done, and not that it failed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final
from urllib.parse import unquote_to_bytes

from r1prov.errors import ExchangeError, R1ProvError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
from r1prov.responses.exchange import (
    Exchange,
    Headers,
    Redaction,
    Request,
    Response,
    field_values,
)
from r1prov.text import quoted

SALT_BYTES: Final = 32
REDACTED: Final = "REDACTED"

SECRET_FIELDS: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key"),
        *("x-goog-api-key", "x-auth-token", "x-access-token", "x-amz-security-token"),
        *("ocp-apim-subscription-key", "private-token", "x-functions-key", "x-csrf-token"),
        *("authentication-info", "proxy-authentication-info"),
    }
)
SECRET_PARAMETERS: Final = frozenset(
    {
        *("key", "api_key", "api-key", "apikey", "token", "access_token", "id_token", "auth"),
        *("refresh_token", "client_secret", "secret", "password", "code", "sig", "signature"),
        *("x-amz-signature", "x-amz-credential", "x-amz-security-token", "x-goog-signature"),
        *("subscription-key", "session", "jwt"),
    }
)
# Names that nobody can list in full: `X-Acme-Api-Key`, `X-Vault-Token`, `X-Real-Authorization`.
# A token of a page is where a list goes on.
_SECRET_NAME: Final = re.compile(
    r"(?:^|[-_ ])(?:(?:api|access|auth|secret|session|security|subscription|private|signature|amzn"
    r"|csrf|xsrf|bearer|refresh)[-_ ]?(?:key|token)|(?<!page[-_ ])token|auth|authorization|bearer"
    r"|secret|password|passwd|passphrase|pwd|jwt|jwt-assertion|credentials?|hmac|cookie2"
    r"|awsaccesskeyid)$"
)
_SECRET_VALUE: Final = re.compile(r"(?:Bearer|Basic|Digest)[ \t]+\S", re.IGNORECASE)
# Fields that hold URLs, in which a key may stand.
_URL_FIELDS: Final = frozenset(
    {
        *("location", "content-location", "referer", "link", "refresh", "x-original-url"),
        *("x-rewrite-url", "x-original-uri", "x-forwarded-uri"),
    }
)
# A byte order mark, which may stand before a stream of events.
_MARK: Final = b"\xef\xbb\xbf"
# A shorter literal turns up in content by chance, and is no key of any service.
_MIN_LITERAL: Final = 12


class Content(StrEnum):
    """What becomes of bodies."""

    KEEP = "keep"
    DIGEST = "digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRules:
    """What is taken out.

    Attributes:
        fields: Header fields beyond `SECRET_FIELDS`, in any letter case.
        parameters: Parameters of the query beyond `SECRET_PARAMETERS`.
        members: Members of JSON bodies, by name and at any depth, also in the events of a stream.
            A body that holds one is withheld, and shown without them.
        content: Whether bodies are kept or replaced by salted digests.
    """

    fields: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()
    content: Content = Content.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What proves a redacted part: to be kept apart from the exchange, and as secret as the part.

    Attributes:
        part: Which part (`Redaction.part`).
        salt: 32 random bytes.
        value: The bytes that stood there.
    """

    part: str
    salt: bytes = field(repr=False)
    value: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Redacted:
    """An exchange without what was to be taken out, and what proves that later.

    Attributes:
        exchange: To be written.
        openings: One for every salted digest; none for a secret.
    """

    exchange: Exchange
    openings: tuple[Opening, ...]


def commitment(part: str, salt: bytes, value: bytes) -> bytes:
    """The salted digest of a part: SHA-256 over a prefix, the part's name, the salt and the bytes.

    The name is in it, so that one part cannot be passed off as another; the salt has one length,
    so that no byte can move between it and the value.
    """
    return hashlib.sha256(b"r1prov/redaction/1\0" + part.encode() + b"\0" + salt + value).digest()


def redact(exchange: Exchange, rules: RedactionRules | None = None) -> Redacted:
    """Take out every secret, and content where the rules say so.

    What was taken out before stays so. The same literal is taken out wherever it stands: a key that
    came in `Authorization` is not left in the body that quotes it.
    """
    return _Redactor(exchange, rules or RedactionRules()).run()


def reveal(exchange: Exchange, opening: Opening) -> Exchange:
    """Put a redacted body back, if it is the one that stood there.

    Raises:
        ExchangeError: The part is not redacted, has no digest, or is another.
    """
    found = next((one for one in exchange.redactions if one.part == opening.part), None)
    if found is None or found.commitment is None:
        raise ExchangeError(f"{quoted(opening.part)} is not redacted to a digest")
    if (
        len(opening.salt) != SALT_BYTES
        or commitment(opening.part, opening.salt, opening.value) != found.commitment
    ):
        raise ExchangeError(
            f"the opening of {quoted(opening.part)} is of something else",
            hint="salt, content and part must all be those of the redaction",
        )
    request, response = exchange.request, exchange.response
    if opening.part == "request.body":
        request = replace(request, body=opening.value)
    elif opening.part == "response.body":
        response = replace(response, body=opening.value)
    else:
        raise ExchangeError(f"{quoted(opening.part)} is no body")
    kept = tuple(one for one in exchange.redactions if one is not found)
    return replace(exchange, request=request, response=response, redactions=kept)


def redact_url(url: str, rules: RedactionRules | None = None) -> tuple[str, frozenset[str]]:
    """The URL without user information and without the values of secret parameters.

    Returns:
        The URL, and which of `userinfo` and `query` changed.
    """
    shown, gone, _ = _redacted_url(url, rules or RedactionRules())
    return shown, gone


def _redacted_url(url: str, rules: RedactionRules) -> tuple[str, frozenset[str], set[bytes]]:
    """As `redact_url`, with the secrets that were in it."""
    names = SECRET_PARAMETERS | {one.lower() for one in rules.parameters}
    gone = set()
    secrets = set()
    head, mark, fragment = url.partition("#")
    head, question, query = head.partition("?")
    scheme, slashes, rest = head.partition("//")  # a reference may have no scheme
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        userinfo, _, authority = authority.rpartition("@")
        gone.add("userinfo")
        user, _, password = userinfo.partition(":")
        secrets.add(password or user)  # some services take a key as the user's name
    query, found = _without_parameters(query, names)
    # An answer of OAuth has its token in the fragment.
    fragment, behind = _without_parameters(fragment, names)
    if found or behind:
        gone.add("query")
        fragment = fragment and REDACTED
    secrets |= found | behind
    shown = f"{scheme}{slashes}{authority}{slash}{path}{question}{query}{mark}{fragment}"
    return (
        shown,
        frozenset(gone),
        {one.encode() for one in secrets} | set(map(unquote_to_bytes, secrets)),
    )


def _without_parameters(query: str, names: Iterable[str]) -> tuple[str, set[str]]:
    """A query without the values of its secret parameters, and these."""
    pieces = re.split("([&;])", query)
    secrets = set()
    for at in range(0, len(pieces), 2):
        name, equals, value = pieces[at].partition("=")
        plain = unquote_to_bytes(name.replace("+", " ")).decode("latin-1").lower()
        if equals and value not in ("", REDACTED) and _names_secret(plain, names):
            pieces[at] = f"{name}={REDACTED}"
            secrets.add(value)
    return "".join(pieces), secrets


class _Redactor:
    """One run over one exchange."""

    def __init__(self, exchange: Exchange, rules: RedactionRules) -> None:
        self._exchange = exchange
        self._rules = rules
        self._names = SECRET_FIELDS | {one.lower() for one in rules.fields}
        self._members = frozenset(rules.members)
        self._literals = _literals(exchange, self._names, rules)
        self._redactions = {one.part: one for one in exchange.redactions}
        self._openings: list[Opening] = []

    def run(self) -> Redacted:
        """Redact."""
        exchange = self._exchange
        asked, answered = exchange.request, exchange.response
        url, gone = self._url(asked.url)
        for part in sorted(gone):
            self._take(f"request.url:{part}")
        request = replace(
            asked,
            url=url,
            headers=self._fields("request.header", asked.headers),
            trailers=self._fields("request.trailer", asked.trailers),
        )
        if self._withholds("request.body", asked):
            request = replace(request, body=None, body_digests=None)
        response = replace(
            answered,
            headers=self._fields("response.header", answered.headers),
            trailers=self._fields("response.trailer", answered.trailers),
        )
        if self._withholds("response.body", answered):
            response = replace(response, body=None, body_digests=None)
        documents = []
        for at, one in enumerate(exchange.documents):
            shown, gone = self._url(one.url)
            if gone:
                self._take(f"document:{at}.url")
            body = one.body
            if self._holds_literal(body):
                self._commit(f"document:{at}.body", body, None)
                body = b""
            documents.append(replace(one, url=shown, body=body))
        return Redacted(
            replace(
                exchange,
                request=request,
                response=response,
                documents=tuple(documents),
                redactions=tuple(self._redactions.values()),
            ),
            tuple(self._openings),
        )

    def _url(self, url: str) -> tuple[str, frozenset[str]]:
        shown, gone = redact_url(url, self._rules)
        head, question, query = shown.partition("?")
        pieces = [_without(one.encode(), self._literals).decode() for one in (head, query)]
        gone |= {
            part
            for part, was, now in zip(("path", "query"), (head, query), pieces, strict=True)
            if was != now
        }
        return f"{pieces[0]}{question}{pieces[1]}", gone

    def _take(self, part: str) -> None:
        self._redactions.setdefault(part, Redaction(part=part))

    def _commit(self, part: str, value: bytes, remainder: bytes | None) -> None:
        salt = os.urandom(SALT_BYTES)
        self._redactions[part] = Redaction(
            part=part, commitment=commitment(part, salt, value), remainder=remainder
        )
        self._openings.append(Opening(part=part, salt=salt, value=value))

    def _fields(self, kind: str, headers: Headers) -> Headers:
        secret = {name.lower() for name, value in headers if self._is_secret(name, value)}
        for name in sorted(secret):
            self._take(f"{kind}:{name}")
        # All fields of the name: a signature covers them together (RFC 9421 section 2.1).
        return tuple(pair for pair in headers if pair[0].lower() not in secret)

    def _is_secret(self, name: str, value: str) -> bool:
        if _names_secret(name, self._names) or _SECRET_VALUE.match(value.strip()):
            return True
        if name.lower() in _URL_FIELDS and redact_url(value, self._rules)[1]:
            return True
        return self._holds_literal(value.encode("latin-1", "replace"))

    def _holds_literal(self, data: bytes) -> bool:
        return any(one in data for one in self._literals)

    def _withholds(self, part: str, message: Request | Response) -> bool:
        """Whether the body may not be written; if so, the redaction says what stays of it."""
        body = message.body
        if self._rules.content is Content.DIGEST and message.body_digests is not None:
            # Without a salt they would let a short body be guessed.
            self._take(part)
            return True
        if body is None:
            return False
        if self._rules.content is Content.DIGEST:
            self._commit(part, body, None)
            return True
        shown: bytes | None = body
        plain = _decoded(body, message.headers)
        if plain is not body:
            hidden = self._members or (self._literals and plain is None)
            shown = None if hidden or (plain and self._holds_literal(plain)) else body
        else:
            shown = _without(body, self._literals)
            if self._members:
                shown = _blanked(shown, message.headers, self._members)
        if shown == body:
            return False
        self._commit(part, body, shown)
        return True


def _literals(exchange: Exchange, names: Iterable[str], rules: RedactionRules) -> tuple[bytes, ...]:
    """Secrets of header and URL that must not stand anywhere else either, longest first."""
    found = _redacted_url(exchange.request.url, rules)[2]
    for message in (exchange.request, exchange.response):
        for name, value in (*message.headers, *message.trailers):
            if _names_secret(name, names) or _SECRET_VALUE.match(value.strip()):
                found |= _secrets_of(value.strip())
    written = {one.replace(b"\\", b"\\\\").replace(b'"', b'\\"') for one in found}  # JSON
    found |= written | {one.replace(b"/", b"\\/") for one in written}  # as some write it
    return tuple(sorted((one for one in found if len(one) >= _MIN_LITERAL), key=len, reverse=True))


def _names_secret(name: str, names: Iterable[str]) -> bool:
    return name.lower() in names or _SECRET_NAME.search(name.lower()) is not None


def _secrets_of(value: str) -> set[bytes]:
    """The value, values of cookies in it, what is behind its scheme, the password of `Basic`."""
    found = {value.encode("latin-1", "replace")}
    found |= {one.partition("=")[2].encode("latin-1", "replace") for one in value.split(";")}
    # Parameters of a scheme (RFC 9110 section 11.4): `Digest username="u", response="…"`.
    found |= {one.encode("latin-1", "replace") for one in re.findall(r'="([^"]*)"', value)}
    scheme, space, credentials = value.replace("\t", " ").partition(" ")
    if space and "=" not in scheme:
        found.add(credentials.strip().encode("latin-1", "replace"))
        if scheme.lower() == "basic":
            with suppress(binascii.Error, ValueError):
                found.add(base64.b64decode(credentials.strip()).partition(b":")[2])
    return found


def _without(data: bytes, literals: Iterable[bytes]) -> bytes:
    for one in literals:
        data = data.replace(one, REDACTED.encode())
    return data


def _decoded(body: bytes, headers: Headers) -> bytes | None:
    """The body without its content coding, or None if it cannot be taken off."""
    codings = [one.lower() for one in field_values(headers, "content-encoding")]
    if all(one in ("identity", "") for one in codings):
        return body
    if codings not in (["gzip"], ["x-gzip"], ["deflate"]):
        return None
    # 47: a header of gzip or of zlib, whichever is there.
    machine = zlib.decompressobj(47)
    try:
        plain = machine.decompress(body, MAX_EXCHANGE_BODY_BYTES)
    except zlib.error:
        return None
    return plain if machine.eof and not machine.unused_data else None


def _blanked(body: bytes, headers: Headers, members: frozenset[str]) -> bytes | None:
    """The body without the members of these names, or None if it is not known to have none."""
    kind = next(iter(field_values(headers, "content-type")), "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        return _blanked_json(body, members)
    shown = []
    lines = re.split(rb"(\r\n|\r|\n)", body)
    if lines[0].startswith(_MARK):  # one is no part of the stream, as readers have it
        shown.append(_MARK)
        lines[0] = lines[0][len(_MARK) :]
    for at, line in enumerate(lines):
        name, colon, data = line.partition(b":")
        if at % 2 or name != b"data" or not colon or data.strip() == b"[DONE]":
            shown.append(line)
        else:
            blanked = _blanked_json(data, members)
            shown.append(b"data:" + (REDACTED.encode() if blanked is None else blanked))
    return b"".join(shown)


def _blanked_json(text: bytes, members: frozenset[str]) -> bytes | None:
    if not text.strip():
        return text
    try:
        value = parse_json(text.strip(), subject="a body", max_bytes=MAX_EXCHANGE_BODY_BYTES)
    except R1ProvError:
        return None
    changed, blank = _blank(value, members)
    return json.dumps(blank, ensure_ascii=False).encode() if changed else text


def _blank(value: object, members: frozenset[str]) -> tuple[bool, object]:
    if isinstance(value, list):
        pairs = [_blank(one, members) for one in value]
        return any(changed for changed, _ in pairs), [one for _, one in pairs]
    if isinstance(value, dict):
        changed, made = False, {}
        for key, one in value.items():
            gone, made[key] = (True, REDACTED) if key in members else _blank(one, members)
            changed = changed or gone
        return changed, made
    return False, value
