"""Receipts to break: ACI and NEAR, signed by keys of this run."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from signed import CREATED, ORIGIN, REQUEST_BODY, RESPONSE_BODY, sha256, signing_key, with_document

from r1prov.responses.exchange import Exchange
from r1prov.responses.jcs import canonical
from r1prov.responses.keys import SigningKey
from r1prov.responses.secp256k1 import keccak256, message_digest

N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SESSION = "ab" * 32


def raw_public(key: SigningKey) -> str:
    raw: bytes = key._material.public_key().public_bytes_raw()
    return raw.hex()


@cache
def wallet() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x5EC12E7, ec.SECP256K1())


@cache
def address() -> str:
    point = wallet().public_key().public_numbers()
    return "0x" + keccak256(point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big"))[-20:].hex()


def wallet_signature(text: str) -> str:
    """As a wallet signs: low s, v by trial."""
    from r1prov.responses.secp256k1 import recover_address

    digest = message_digest(text.encode())
    raw = wallet().sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    r, s = utils.decode_dss_signature(raw)
    s = min(s, N - s)
    for v in (27, 28):
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])
        if recover_address(signature, text.encode()) == address():
            return "0x" + signature.hex()
    raise AssertionError


def keyset(key: SigningKey | None = None, **changes: Any) -> dict[str, Any]:
    entry = {
        "key_id": "receipt-1",
        "algo": "ed25519",
        "public_key": raw_public(key or signing_key()),
    }
    return {
        "subject": None,
        "not_after": CREATED + 3600,
        "receipt_signing_keys": [entry],
        "e2ee_public_keys": [],
        "tls_public_keys": [],
    } | changes


def aci_receipt(
    key: SigningKey | None = None,
    *,
    request: bytes = REQUEST_BODY,
    response: bytes = RESPONSE_BODY,
    events: list[dict[str, Any]] | None = None,
    of: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A receipt by the specification; `changes` are signed too."""
    body = f"sha256:{sha256(request)}"
    value: dict[str, Any] = {
        "api_version": "aci/1",
        "receipt_id": "rcpt-1",
        "chat_id": "chatcmpl-1",
        "model": "deepseek-r1",
        "workload_keyset_digest": f"sha256:{sha256(canonical(of or keyset(key)))}",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "served_at": CREATED,
        "event_log": events
        or [
            {"type": "request.received", "body_hash": body},
            {"type": "request.forwarded", "body_hash": body},
            {
                "type": "upstream.verified",
                "result": "verified",
                "required": True,
                "model_id": "deepseek-r1",
                "session_id": SESSION,
            },
            {"type": "response.returned", "body_hash": f"sha256:{sha256(response)}"},
        ],
        "key_id": "receipt-1",
    } | changes
    return value | {"signature": (key or signing_key()).sign(canonical(value)).hex()}


def near_receipt(
    key: SigningKey | None = None,
    *,
    model: str | None = "deepseek-r1",
    request: bytes = REQUEST_BODY,
    response: bytes = RESPONSE_BODY,
) -> dict[str, Any]:
    """A receipt of `/v1/signature/{id}`: by a wallet unless a key is given."""
    text = f"{sha256(request)}:{sha256(response)}"
    if model is not None:
        text = f"{model}:{text}"
    if key is None:
        return {
            "text": text,
            "signature": wallet_signature(text),
            "signing_address": address(),
            "signing_algo": "ecdsa",
        }
    return {
        "text": text,
        "signature": key.sign(text.encode()).hex(),
        "signing_address": raw_public(key),
        "signing_algo": "ed25519",
        "signature_kind": "provider_tee",
    }


def with_aci(exchange: Exchange, value: Any) -> Exchange:
    return with_document(
        exchange, json.dumps(value).encode(), url=f"{ORIGIN}/v1/aci/receipts/rcpt-1"
    )


def with_near(exchange: Exchange, value: Any) -> Exchange:
    url = f"{ORIGIN}/v1/signature/chatcmpl-1?model=deepseek-r1"
    return with_document(exchange, json.dumps(value).encode(), url=url)
