"""Writes the vectors of streamed answers: `python make_stream_vectors.py`, beside itself.

The key is derived from a published text, so everyone can sign with it: it is for these vectors and
for nothing else.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from r1prov.responses.keys import SigningKey, key_of, public_members
from r1prov.responses.sign import AnswerSigner, Binding
from r1prov.responses.stream_signer import StreamSigner
from r1prov.responses.stream_statement import RequestFacts
from r1prov.trust.keys import PublicKey, parse_public_key_der

HERE = Path(__file__).parent
SEED = hashlib.sha256(b"r1prov stream vectors: not a secret").digest()
START = 1_764_000_000
EVENTS = [
    b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\n',
    b": keep-alive\n\n",
    b'data: {"choices":[{"delta":{"content":"lo"}}]}\n\n',
]
REQUEST = b'{"model":"deepseek-r1","stream":true}'


def signing_key() -> tuple[PublicKey, SigningKey]:
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = parse_public_key_der(spki, subject="vector")
    return public, SigningKey(key_of(public), private)


def build(pieces: list[bytes], *, complete: bool, inline: bool) -> tuple[bytes, str]:
    """The content as a client gets it, and the receipt."""
    _, key = signing_key()
    weights_at = START - 3600
    answers = AnswerSigner(key, Binding(hashlib.sha256(b"manifest").hexdigest(), weights_at))
    stream = StreamSigner(
        answers._statement,
        stream_id="c3RyZWFtIHZlY3RvciAxIQ",
        status=200,
        content_type="text/event-stream; charset=utf-8",
        request=RequestFacts(
            method="POST",
            authority="api.example.com",
            path="/v1/chat/completions",
            query="?",
            content_sha256=hashlib.sha256(REQUEST).hexdigest(),
            nonce="n-0",
        ),
        manifest_sha256=hashlib.sha256(b"manifest").hexdigest(),
        weights_at=weights_at,
        lifetime=300,
        inline=inline,
    )
    sent = [stream.start(START)]
    for number, piece in enumerate(pieces):
        sent.append(stream.feed(piece, START + number, checkpoint=number == 1))
    sent.append(stream.finish(START + len(pieces), complete=complete))
    assert stream.receipt is not None
    return b"".join(sent), stream.receipt


def main() -> None:
    done = b"data: [DONE]\n\n"
    cases = {}
    for name, pieces, complete, inline, about in (
        ("whole", [*EVENTS, done], True, True, "ends with the end event"),
        ("no-end-event", EVENTS, True, True, "ends with its last statement"),
        ("within-a-line", [*EVENTS, b"data: x"], True, True, "a line feed is put in and hashed"),
        ("cut", EVENTS, False, True, "the signer says that the answer broke off"),
        ("receipt", [*EVENTS, done], True, False, "the statement is only in the receipt"),
    ):
        content, receipt = build(pieces, complete=complete, inline=inline)
        cases[name] = {
            "about": about,
            "upstream": b"".join(pieces).decode(),
            "content": content.decode(),
            "receipt": receipt,
            "state": "verified" if complete else "incomplete-stream",
        }
    public, key = signing_key()
    vectors = {
        "about": "Streamed answers with signed statements: docs/signed-responses.md. The key is "
        "derived from a published text and must be trusted nowhere.",
        "key": {**public_members(public), "kid": key.public.thumbprint, "alg": "EdDSA"},
        "now": START + 10,
        "request": {
            "method": "POST",
            "url": "https://api.example.com/v1/chat/completions",
            "content": REQUEST.decode(),
            "nonce": "n-0",
        },
        "response": {"status": 200, "content_type": "text/event-stream; charset=utf-8"},
        "manifest_sha256": hashlib.sha256(b"manifest").hexdigest(),
        "cases": cases,
    }
    (HERE / "stream-ed25519.json").write_text(json.dumps(vectors, indent=2) + "\n")


if __name__ == "__main__":
    main()
