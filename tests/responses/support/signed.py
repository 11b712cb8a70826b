"""Signed exchanges to break, and the published keys of the RFC.

The RFC's private keys are read from `tests/vectors/responses`, the one place that has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from r1prov.responses.content_digest import body_digests, content_digest
from r1prov.responses.exchange import CapturedDocument, Exchange, Headers, Request, Response
from r1prov.responses.http_signature import create_signature
from r1prov.responses.jwks import parse_jwks
from r1prov.responses.keys import ResponseKey, SigningKey, parse_signing_key, secret_key
from r1prov.responses.message import ResponseMessage, exchange_message
from r1prov.responses.policy import COVER, ResponsePolicy
from r1prov.trust.keys import encode_private_key, generate_private_key

VECTORS = Path(__file__).parents[2] / "vectors" / "responses"
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
CREATED = int(NOW.timestamp())
URL = "https://api.example.com/v1/chat/completions"
ORIGIN = "https://api.example.com"
REQUEST_BODY = b'{"model":"deepseek-r1","messages":[{"role":"user","content":"hi"}]}'
RESPONSE_BODY = b'{"id":"chatcmpl-1","model":"deepseek-r1","choices":[]}'
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi"})
KEYID = "server-2026"
ADDRESS_KEY = 0x5EC12E7  # of secp256k1: any number will do


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}_vectors.json").read_bytes())


RFC = vectors("rfc9421")
RFC_ALGORITHMS = {
    "rsa-pss-sha512": ("test-key-rsa-pss", "PS512"),
    "rsa-v1_5-sha256": ("test-key-rsa", "RS256"),
    "ecdsa-p256-sha256": ("test-key-ecc-p256", "ES256"),
    "ed25519": ("test-key-ed25519", "EdDSA"),
}


def rfc_key(name: str, algorithm: str) -> ResponseKey:
    """A key of RFC 9421 appendix B.1."""
    jwk = {k: v for k, v in RFC["keys"][name]["jwk"].items() if k not in PRIVATE}
    if jwk["kty"] != "oct":
        jwk["alg"] = RFC_ALGORITHMS[algorithm][1]
    return parse_jwks(json.dumps(jwk).encode(), subject=name, secrets=True)[0]


@cache
def rfc_signing_key(algorithm: str) -> SigningKey:
    """The private half, published in the RFC."""
    name = RFC_ALGORITHMS[algorithm][0]
    pem = RFC["keys"][name]["pem"]
    block = "-----BEGIN" + pem.rpartition("-----BEGIN")[2] + "\n"
    key = serialization.load_pem_private_key(block.encode(), None)
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return parse_signing_key(pkcs8, None, subject=name, algorithm=algorithm)


@cache
def signing_key(kind: str = "ed25519", number: int = 0) -> SigningKey:
    """A key that was made for this run."""
    pem = encode_private_key(generate_private_key(kind), None)
    return parse_signing_key(pem, None, subject=f"{kind} {number}")


def hmac_signing_key() -> SigningKey:
    secret = b"0123456789abcdef0123456789abcdef"
    return SigningKey(secret_key(secret, name=KEYID, source="secret"), secret)


def digest_of(body: bytes) -> str:
    return content_digest({"sha-256": body_digests(body)["sha-256"]})


def unsigned(
    *,
    url: str = URL,
    request_body: bytes = REQUEST_BODY,
    response_body: bytes = RESPONSE_BODY,
    request_headers: Headers = (),
    response_headers: Headers = (),
    nonce: str | None = None,
) -> Exchange:
    """A request with its digest, and a response with its own."""
    asks = () if nonce is None else (("Accept-Signature", f'sig1=();nonce="{nonce}"'),)
    return Exchange(
        request=Request(
            method="POST",
            url=url,
            headers=(
                ("Host", "api.example.com"),
                ("Content-Type", "application/json"),
                ("Content-Digest", digest_of(request_body)),
                *asks,
                *request_headers,
            ),
            body=request_body,
        ),
        response=Response(
            status=200,
            headers=(
                ("Content-Type", "application/json"),
                ("Content-Digest", digest_of(response_body)),
                *response_headers,
            ),
            body=response_body,
        ),
        started_at=NOW - timedelta(seconds=2),
        finished_at=NOW,
    )


def signed(
    exchange: Exchange | None = None,
    *,
    key: SigningKey | None = None,
    components: Sequence[str] = COVER,
    created: int = CREATED,
    keyid: str = KEYID,
    label: str = "sig1",
    **parameters: Any,
) -> Exchange:
    """An exchange with a signature by the default profile."""
    exchange = exchange or unsigned()
    fields = create_signature(
        exchange_message(exchange),
        components,
        key or signing_key(),
        created=created,
        keyid=keyid,
        label=label,
        **parameters,
    )
    return with_response(exchange, headers=exchange.response.headers + fields)


def with_response(exchange: Exchange, **changes: Any) -> Exchange:
    return replace(exchange, response=replace(exchange.response, **changes))


def with_request(exchange: Exchange, **changes: Any) -> Exchange:
    return replace(exchange, request=replace(exchange.request, **changes))


def with_header(exchange: Exchange, name: str, value: str) -> Exchange:
    """The response with one field changed."""
    headers = tuple(
        (k, value if k.lower() == name.lower() else v) for k, v in exchange.response.headers
    )
    return with_response(exchange, headers=headers)


def without_header(exchange: Exchange, *names: str) -> Exchange:
    headers = tuple(pair for pair in exchange.response.headers if pair[0].lower() not in names)
    return with_response(exchange, headers=headers)


def with_document(
    exchange: Exchange, body: bytes, *, url: str = f"{ORIGIN}/keys", status: int = 200
) -> Exchange:
    document = CapturedDocument(url=url, status=status, body=body, fetched_at=NOW)
    return replace(exchange, documents=(*exchange.documents, document))


def policy(key: SigningKey | None = None, **changes: Any) -> ResponsePolicy:
    """A policy that trusts the server's key."""
    trusted = (key or signing_key()).public.called(KEYID)
    changes.setdefault("keys", (trusted,))
    return ResponsePolicy(**changes)


def message_of_vector(case: dict[str, Any]) -> Any:
    """A message of the RFC's vectors."""
    from r1prov.responses.message import request_message

    def read(message: dict[str, Any]) -> Any:
        headers = tuple((k, v) for k, v in message["headers"])
        if message["kind"] == "response":
            return ResponseMessage(status=message["status"], headers=headers)
        host = next(v for k, v in headers if k == "Host")
        url = f"https://{host}{message['target']}"
        return request_message(
            Request(method=message["method"], url=url, headers=headers, body=None)
        )

    message = read(case["message"])
    return replace(message, request=read(case["request"])) if case["request"] else message


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
