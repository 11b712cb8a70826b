"""A timestamp authority for tests: OpenSSL `ts` makes every answer, a small HTTP server carries it.

`stamp` and `forge` give answers without the server; the paths of the server that misbehave are
those in `Handler.do_POST`.
"""

from __future__ import annotations

import contextlib
import http.server
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

STAMPING = (ExtendedKeyUsageOID.TIME_STAMPING,)
CONFIG = """\
[tsa]
default_tsa = config
[config]
serial = {folder}/serial
signer_digest = sha256
default_policy = 1.3.6.1.4.1.99999.1
digests = sha1, sha256, sha384, sha512
accuracy = secs:1, millisecs:500, microsecs:100
ess_cert_id_alg = sha256
"""


def stamping(critical: bool = True, purposes: Sequence[Any] = STAMPING) -> dict[str, Any]:
    """What `authority.issue` is told for a certificate of timestamps."""
    return {
        "purposes": None,
        "email": None,
        "extensions": [(x509.ExtendedKeyUsage(purposes), critical)],
    }


class Tsa:
    """An authority: its certificates and OpenSSL. Issued certificates are those of `conftest`."""

    def __init__(self, folder: Path, root: Any, signer: Any, issuers: Sequence[Any] = ()) -> None:
        if shutil.which("openssl") is None:
            pytest.fail("openssl is missing: install it")
        self.folder, self.root, self.signer, self.issuers = folder, root, signer, issuers
        self._lock = threading.Lock()
        (folder / "serial").write_text("01\n")
        (folder / "config").write_text(CONFIG.format(folder=folder))
        (folder / "chain.pem").write_bytes(b"".join(one.pem for one in issuers))
        self._write("signer", signer)

    def _write(self, name: str, issued: Any) -> list[str]:
        pem, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        pem.write_bytes(issued.pem)
        key.write_bytes(
            issued.key._key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return ["-signer", str(pem), "-inkey", str(key)]

    def _openssl(self, *arguments: str | Path, given: bytes = b"") -> bytes:
        with self._lock:
            done = subprocess.run(
                ["openssl", *map(str, arguments)],
                input=given,
                capture_output=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def reply(self, query: bytes, *, chain: bool = False) -> bytes:
        """The answer to a query (DER of both)."""
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            file.write(query)
            file.flush()
            return self._openssl(
                *("ts", "-reply", "-config", self.folder / "config", "-queryfile", file.name),
                *("-signer", self.folder / "signer.pem", "-inkey", self.folder / "signer.key"),
                *(("-chain", self.folder / "chain.pem") if chain else ()),
            )

    def query(self, data: bytes, digest: str = "sha256", *, certificate: bool = True) -> bytes:
        """A query of OpenSSL's own making."""
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            file.write(data)
            file.flush()
            cert = ["-cert"] if certificate else []
            return self._openssl("ts", "-query", "-data", file.name, f"-{digest}", *cert)

    def stamp(self, data: bytes, digest: str = "sha256", **how: bool) -> bytes:
        """A timestamp over some bytes."""
        query = self.query(data, digest, certificate=how.pop("certificate", True))
        return self.reply(query, **how)

    def statement(self, data: bytes) -> bytes:
        """What a timestamp states (DER of a TSTInfo), to be changed and signed again."""
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            file.write(self.stamp(data))
            file.flush()
            token = self._openssl("ts", "-reply", "-in", file.name, "-token_out")
        return self._openssl("cms", "-verify", "-noverify", "-inform", "DER", given=token)

    def forge(
        self,
        statement: bytes,
        signer: Any = None,
        *,
        second: Any = None,
        more: Sequence[Any] = (),
        md: str = "sha256",
    ) -> bytes:
        """An answer that states this, signed (CMS) with any certificate."""
        signed = self._write("forger", signer or self.signer)
        extra = [] if second is None else self._write("second", second)
        if more:
            (self.folder / "more.pem").write_bytes(b"".join(one.pem for one in more))
            extra += ["-certfile", str(self.folder / "more.pem")]
        token = self._openssl(
            *("cms", "-sign", "-binary", "-nodetach", "-cades", "-md", md, "-outform", "DER"),
            *("-econtent_type", "1.2.840.113549.1.9.16.1.4", *signed, *extra),
            given=statement,
        )
        return _sequence(_sequence(b"\x02\x01\x00") + token)


def at(statement: bytes, when: str) -> bytes:
    """A statement of another time (`YYYYMMDDHHMMSSZ`)."""
    changed, count = re.subn(rb"\x18\x0f\d{14}Z", b"\x18\x0f" + when.encode(), statement)
    assert count == 1
    return changed


def _sequence(content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return b"\x30" + bytes([size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return b"\x30" + bytes([0x80 | len(length)]) + length + content


class Handler(http.server.BaseHTTPRequestHandler):
    tsa: Tsa
    seen: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        query = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/timestamp-query"
        self.seen.append((self.path, query))
        reply, status, kind = b"", 200, "application/timestamp-reply"
        path = self.path.partition("?")[0]
        if path == "/tsr":
            reply = self.tsa.reply(query)
        elif path == "/chain":
            reply = self.tsa.reply(query, chain=True)
        elif path == "/stale":
            # An answer to another query for the same bytes: its nonce differs.
            other = bytearray(query)
            other[-4] ^= 1  # the last byte of the nonce, before `certReq`
            reply = self.tsa.reply(bytes(other))
        elif path == "/other":
            reply = self.tsa.stamp(b"other bytes", "sha512")
        elif path == "/refused":
            reply = bytes.fromhex("30053003020102")  # PKIStatusInfo: rejection
        elif path == "/status":
            status = 503
        elif path == "/moved":
            status = 302
        elif path == "/html":
            reply, kind = b"<html>\x1b[31m", "text/html"
        elif path == "/rubbish":
            reply = b"\x30\x03rub"
        elif path == "/large":
            reply = bytes(200_000)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status == 302:
            self.send_header("Location", "/tsr")
        if path == "/slow":
            # Never silent for long, and never done.
            self.send_header("Content-Length", "60000")
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(400):
                    self.wfile.write(b"0")
                    self.wfile.flush()
                    time.sleep(0.05)
            return
        if path == "/cut":
            self.send_header("Content-Length", "60000")
        else:
            self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(
    tsa: Tsa, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """The authority on loopback: its address, and what it was asked."""
    seen: list[tuple[str, bytes]] = []
    handler = type("Handler", (Handler,), {"tsa": tsa, "seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
