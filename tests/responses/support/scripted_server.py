"""An OpenAI-compatible server on loopback that signs its answers, and can misbehave in every way.

What it does is chosen by the model asked for: `MODEL` or `MODEL+fault+fault`, each fault a function
below or a word that `Handler` knows. Answers are signed by what the package itself signs with;
receipts are built by hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from r1prov.responses.content_digest import content_digest
from r1prov.responses.exchange import Exchange, Request, Response
from r1prov.responses.http_signature import create_signature, requested_nonces
from r1prov.responses.jcs import canonical
from r1prov.responses.keys import SigningKey, parse_signing_key
from r1prov.responses.message import exchange_message
from r1prov.responses.policy import COVER

TEXT = ("Hello", ", ", "漢字", "!")
KEYSET = hashlib.sha256(b"a key set").hexdigest()


def new_key() -> SigningKey:
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return parse_signing_key(pem, None, subject="test key")


def address_of(key: SigningKey) -> str:
    """The 32 bytes of an Ed25519 key in hex, as NEAR's receipts name it."""
    raw: bytes = key.public.material.public_bytes_raw()
    return raw.hex()


@dataclass
class Scripted:
    """What tests see of the server.

    Attributes:
        key: Signs answers.
        other_key: Signs them for the fault `wrong-key`.
        requests: Method, path, header fields (names in lower case) and body of each, in order.
        receipts: By path, the answers that are given one after another (the last one again).
    """

    key: SigningKey
    other_key: SigningKey
    origin: str = ""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    receipts: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    first: dict[str, tuple[list[tuple[str, str]], bytes]] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"


def completion(model: str, number: int) -> bytes:
    message = {"role": "assistant", "content": "".join(TEXT), "reasoning_content": "hm"}
    return json.dumps(
        {
            "id": f"chat-{number}",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def events(model: str, number: int) -> list[bytes]:
    made = [b": keep-alive\n\n"]
    for at, text in enumerate((*TEXT, None)):
        chunk = {
            "id": f"chat-{number}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "delta": {} if text is None else {"content": text},
                    "finish_reason": "stop" if at == len(TEXT) else None,
                }
            ],
        }
        made.append(f"data: {json.dumps(chunk)}\n\n".encode())
    return [*made, b"data: [DONE]\n\n"]


def lowered(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = 0
    scripted: Scripted

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.scripted.requests.append(("GET", self.path, lowered(self.headers.items()), b""))
        answers = self.scripted.receipts.get(self.path.partition("?")[0], [(404, b"{}")])
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.whole(status, [("Content-Type", "application/json")], body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        scripted = self.scripted
        scripted.requests.append(("POST", self.path, lowered(self.headers.items()), body))
        asked = json.loads(body)
        model = asked["model"]
        faults = model.split("+")[1:]
        number = len(scripted.requests)
        streamed = asked.get("stream", False)
        pieces = events(model, number) if streamed else [completion(model, number)]
        kind = "text/event-stream; charset=utf-8" if streamed else "application/json"
        headers = [("Content-Type", kind), ("X-Request-Id", f"req-{number}")]
        content = b"".join(pieces)
        if "gzip" in faults:
            import gzip

            pieces = [gzip.compress(content)]
            content = pieces[0]
            headers.append(("Content-Encoding", "gzip"))
        if "receipt" in faults or "aci" in faults or "near" in faults:
            headers += self.offer_receipt(faults, number, model, body, content)
        elif "unsigned" not in faults:
            headers += self.signature(faults, body, headers, content)
        if "replay" in faults:
            headers, content = scripted.first.setdefault(
                "stream" if streamed else "whole", (headers, content)
            )
            pieces = [content]
        pieces = tamper(faults, pieces)
        status = 201 if "status" in faults else 200
        if "type" in faults:
            headers = [("Content-Type", "text/plain"), *headers[1:]]
        if streamed:
            self.stream(faults, headers, pieces)
        else:
            self.whole(status, headers, b"".join(pieces), cut="cut" in faults)

    def signature(
        self, faults: list[str], body: bytes, headers: list[tuple[str, str]], content: bytes
    ) -> list[tuple[str, str]]:
        scripted = self.scripted
        asked = tuple(self.headers.items())
        if "other-request" in faults:
            # The answer to the request before this one, whoever sent it.
            *_, fields, body = [one for one in scripted.requests[:-1] if one[0] == "POST"][-1]
            asked = tuple(fields.items())
        digest = (
            "Content-Digest",
            content_digest({"sha-256": hashlib.sha256(content).digest()}),
        )
        exchange = Exchange(
            request=Request(
                method="POST", url=scripted.origin + self.path, headers=asked, body=body
            ),
            response=Response(status=200, headers=(*headers, digest), body=content),
        )
        nonces = requested_nonces(asked)
        now = int(time.time())
        key = scripted.other_key if "wrong-key" in faults else scripted.key
        cover = ["@status", "content-type"] if "uncovered" in faults else list(COVER)
        if not self.headers.get("Content-Digest"):
            cover = [one for one in cover if one != "content-digest;req"]
        signed = create_signature(
            exchange_message(exchange),
            cover,
            key,
            created=now - 4000 if "old" in faults else now,
            keyid=key.public.thumbprint,
            nonce=nonces[0] if nonces and "no-nonce" not in faults else None,
            expires=now - 3000 if "expired" in faults else None,
            alg="hmac-sha256" if "algorithm" in faults else None,
        )
        if "strip" in faults:
            return [digest]
        return [digest, *signed]

    def offer_receipt(
        self, faults: list[str], number: int, model: str, body: bytes, content: bytes
    ) -> list[tuple[str, str]]:
        """Store the receipt, to be fetched after the answer."""
        scripted = self.scripted
        key = scripted.other_key if "wrong-key" in faults else scripted.key
        if "other-request" in faults:
            body += b" "
        hashes = [hashlib.sha256(one).hexdigest() for one in (body, content)]
        if "near" in faults:
            path = f"/v1/signature/chat-{number}"
            text = ":".join(["impostor" if "model" in faults else model, *hashes])
            receipt = {
                "text": text,
                "signature": key.sign(text.encode()).hex(),
                "signing_address": address_of(key),
                "signing_algo": "ed25519",
            }
            raw, named = json.dumps(receipt).encode(), []
        else:
            path = f"/v1/aci/receipts/r-{number}"
            raw = self.aci_receipt(number, key, hashes, model)
            named = [("X-Receipt-Id", f"r-{number}"), ("X-ACI-Version", "aci/1")]
        late = [(404, b"{}"), (503, b"")] if "late" in faults else []
        if "missing" in faults:
            return named
        scripted.receipts[path] = [*late, (200, b"<html>" if "garbage" in faults else raw)]
        return named

    def aci_receipt(self, number: int, key: SigningKey, hashes: list[str], model: str) -> bytes:
        receipt: dict[str, Any] = {
            "api_version": "aci/1",
            "receipt_id": f"r-{number}",
            "chat_id": f"chat-{number}",
            "model": model,
            "workload_keyset_digest": f"sha256:{KEYSET}",
            "endpoint": self.path,
            "method": "POST",
            "served_at": int(time.time()),
            "key_id": key.public.thumbprint,
            "event_log": [
                {"type": "request.received", "body_hash": f"sha256:{hashes[0]}"},
                {"type": "response.returned", "body_hash": f"sha256:{hashes[1]}"},
            ],
        }
        receipt["signature"] = key.sign(canonical(receipt)).hex()
        return json.dumps(receipt).encode()

    def whole(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:-3] if cut else body)
        if cut:
            self.close_connection = True

    def stream(
        self, faults: list[str], headers: list[tuple[str, str]], pieces: list[bytes]
    ) -> None:
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at, piece in enumerate(pieces):
            if "wait" in faults and at == 2:
                # Not before the client has seen the first event.
                self.scripted.release.wait(20)
            if "bytewise" in faults:
                for byte in piece:
                    self.wfile.write(b"1\r\n%c\r\n" % byte)
            else:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if "cut" in faults and at == len(pieces) - 2:
                self.close_connection = True
                return
        if "drip" in faults:
            with contextlib.suppress(OSError):
                for _ in range(2000):
                    self.wfile.write(b"ff\r\n%b\r\n" % (b":" * 255))
        with contextlib.suppress(OSError):
            self.wfile.write(b"0\r\n\r\n")


def tamper(faults: list[str], pieces: list[bytes]) -> list[bytes]:
    """What somebody on the way does to a signed answer."""
    if "tampered" in faults:
        return [one.replace(b"Hello", b"Hallo") for one in pieces]
    if "inserted" in faults:
        return [*pieces[:-1], b": another comment\n\n", pieces[-1]]
    if "truncated" in faults:
        # Whole events are missing, the end is there.
        return [*pieces[:2], pieces[-1]] if len(pieces) > 2 else [pieces[0][:-1]]
    if "after" in faults:
        return [*pieces, b"data: more\n\n"]
    return pieces


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or stop reading are what tests are about."""
        if not isinstance(sys.exc_info()[1], OSError | json.JSONDecodeError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serve() -> Iterator[Scripted]:
    """Run the server until the block ends."""
    scripted = Scripted(new_key(), new_key())
    handler = type("OneHandler", (Handler,), {"scripted": scripted})
    server = Server(("127.0.0.1", 0), handler)
    scripted.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield scripted
    finally:
        scripted.release.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
