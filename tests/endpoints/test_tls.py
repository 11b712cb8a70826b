"""Over TLS an endpoint is believed for the roots that the environment names at that moment."""

from __future__ import annotations

import ipaddress
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from r1prov.endpoints.connection import PatientTransport
from r1prov.endpoints.wire import Deadline
from r1prov.trust.keys import encode_private_key


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def url(authority, tmp_path):
    """An HTTPS server whose root is in `right.pem`; `wrong.pem` is another."""
    right, wrong = authority.root("right"), authority.root("wrong")
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = (ExtendedKeyUsageOID.SERVER_AUTH,)
    web = authority.issue("web", right, email=None, purposes=server, extensions=[(address, False)])
    (tmp_path / "web.key").write_bytes(encode_private_key(web.key, None))
    for name, issued in (("web", web), ("right", right), ("wrong", wrong)):
        (tmp_path / f"{name}.pem").write_bytes(issued.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "web.pem", tmp_path / "web.key")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{http.server_port}/"
    http.shutdown()
    http.server_close()
    thread.join(10)


def asked(url):
    transport = PatientTransport(1, Deadline(), lambda: False)
    with httpx.Client(transport=transport, timeout=30) as client:
        return client.get(url).status_code


def test_the_roots_are_those_of_the_environment(url, tmp_path, monkeypatch):
    for _ in range(2):  # what was loaded before does not stay when the variable changes
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "right.pem"))
        assert asked(url) == 204
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "wrong.pem"))
        with pytest.raises(httpcore.ConnectError, match="certificate verify failed"):
            asked(url)
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(httpcore.ConnectError, match="certificate verify failed"):
        asked(url)
