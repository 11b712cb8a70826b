"""Where the receipt of an answer is fetched, for services that sign after the end."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from r1prov.errors import R1ProvError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
from r1prov.responses.exchange import field_values
from r1prov.responses.keys import origin_of
from r1prov.responses.policy import ACI, HTTP, NEAR

if TYPE_CHECKING:
    from collections.abc import Collection

    from r1prov.responses.exchange import Exchange
    from r1prov.responses.policy import ResponsePolicy

# Where a server publishes the keys of its signatures, as a JWK set
# (draft-meunier-webbotauth-httpsig-directory).
DIRECTORY: Final = "/.well-known/http-message-signatures-directory"
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
# What follows the base of an API in the URL of a request.
_ENDPOINT: Final = re.compile(
    r"/(?:chat/completions|completions|responses|messages|embeddings|rerank)/?$"
)
_ID: Final = re.compile(r"[A-Za-z0-9._~:+@-]{1,256}")
# Only as much of a stream is read for the id as its first events have.
_FIRST_EVENTS: Final = 64 * 1024


def receipt_urls(exchange: Exchange, schemes: Collection[str]) -> tuple[str, ...]:
    """Where receipts of this answer can be had.

    Args:
        exchange: It.
        schemes: Of which receipts are wanted. One of ACI is asked for if the answer names it.
    """
    base = _base(exchange.request.url)
    urls = []
    named = field_values(exchange.response.headers, "x-receipt-id")
    if ACI in schemes and len(named) == 1 and _ID.fullmatch(named[0]):
        urls.append(f"{base}/aci/receipts/{quote(named[0], safe='')}")
    if NEAR in schemes and (found := answer_id(exchange)) is not None:
        model = asked_model(exchange)
        query = f"?model={quote(model, safe='')}" if model is not None else ""
        urls.append(f"{base}/signature/{quote(found, safe='')}{query}")
    return tuple(urls)


def key_set_urls(exchange: Exchange, policy: ResponsePolicy) -> tuple[str, ...]:
    """Where key sets are served that a pin of the policy could make count.

    What is served is trusted for being pinned and for nothing else, so without pins none is asked
    for.
    """
    urls = []
    if any(_THUMBPRINT.fullmatch(one) for one in policy.pins) and HTTP in policy.schemes:
        urls.append(f"{origin_of(exchange.request.url)}{DIRECTORY}")
    named = field_values(exchange.response.headers, "x-receipt-id")
    if any(one.startswith("sha256:") for one in policy.pins) and ACI in policy.schemes and named:
        urls.append(f"{_base(exchange.request.url)}/aci/attestation?nonce={secrets.token_hex(32)}")
    return tuple(urls)


def _base(url: str) -> str:
    """The URL of the API, which in general ends with `/v1`."""
    path = urlsplit(url).path
    base = _ENDPOINT.sub("", path)
    return f"{origin_of(url)}{base if base != path else '/v1'}"


def answer_id(exchange: Exchange) -> str | None:
    """The `id` of a completion, streamed or not; None if it has none that can stand in a URL."""
    body = exchange.response.body
    if body is None:
        return None
    kind = next(iter(field_values(exchange.response.headers, "content-type")), "")
    texts = [body]
    if kind.partition(";")[0].strip().lower() == "text/event-stream":
        lines = re.split(rb"\r\n|\r|\n", body[:_FIRST_EVENTS])
        texts = [line[5:] for line in lines if line.startswith(b"data:")]
    for text in texts:
        found = _member(text, "id")
        if found is not None and _ID.fullmatch(found):
            return found
    return None


def asked_model(exchange: Exchange) -> str | None:
    """The model that the request names."""
    return None if exchange.request.body is None else _member(exchange.request.body, "model")


def _member(text: bytes, name: str) -> str | None:
    try:
        value = parse_json(text.strip(), subject="a body", max_bytes=MAX_EXCHANGE_BODY_BYTES)
    except R1ProvError:
        return None
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else None
