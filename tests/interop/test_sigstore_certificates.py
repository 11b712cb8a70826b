"""Bundles with certificates and timestamps, checked by the clients of Sigstore."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tsa_server import Tsa, at, stamping

from r1prov.trust.bundle import MessageBundle, parse_bundle, sign_message

from .test_sigstore_js import client  # noqa: F401 - a fixture

HERE = Path(__file__).parent
ARTIFACT = b"a manifest"

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def pki(authority: Any) -> dict[str, Any]:
    root = authority.root("root", days=(-100, 100))
    middle = authority.issue("middle", root, ca=True, days=(-100, 100))
    leaf = authority.leaf(middle, days=(-30, -10))
    return {"root": root, "middle": middle, "leaf": leaf}


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root", days=(-100, 100))
    signer = authority.issue("clock", root, days=(-100, 100), **stamping())
    return Tsa(tmp_path_factory.mktemp("tsa"), root, signer)


def signed(pki: dict[str, Any], tsa: Tsa, days: int, *issuers: str) -> MessageBundle:
    """Signed with a certificate that expired ten days ago, timestamped that many days ago."""
    chain = [pki[name].certificate for name in ("leaf", *issuers)]
    bundle = sign_message(pki["leaf"].key, ARTIFACT, chain)
    when = (datetime.now(UTC) - timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")
    stamp = tsa.forge(at(tsa.statement(bundle.signature), when))
    return replace(bundle, timestamps=(stamp,))


@pytest.fixture
def ask(client: list[str], pki: dict[str, Any], tsa: Tsa, tmp_path: Path) -> Ask:  # noqa: F811
    node, installed = client[0], Path(client[1]).parent
    # Beside the packages that it imports.
    script = installed / "verify_certificate.mjs"
    script.write_bytes((HERE / "verify_certificate.mjs").read_bytes())

    def encoded(*certificates: Any) -> list[str]:
        return [base64.b64encode(one.der).decode() for one in certificates]

    def run(raw: bytes, *, artifact: bytes = ARTIFACT, **changes: Any) -> str:
        trust = {
            "authority": encoded(pki["middle"], pki["root"]),
            "timestamps": encoded(tsa.signer, tsa.root),
            "identity": "signer@example.org",
            **changes,
        }
        paths = [tmp_path / name for name in ("bundle.json", "artifact", "trust.json")]
        for path, content in zip(paths, (raw, artifact, json.dumps(trust).encode()), strict=True):
            path.write_bytes(content)
        done = subprocess.run(
            [node, script, *paths], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr == ""
        return done.stdout.strip()

    return run


@pytest.mark.parametrize("issuers", [(), ("middle",)], ids=["leaf", "chain"])
def test_the_javascript_client(
    ask: Ask, pki: dict[str, Any], tsa: Tsa, authority: Any, issuers: tuple[str, ...]
) -> None:
    bundle = signed(pki, tsa, 20, *issuers)
    raw = bundle.to_json()
    assert ask(raw).startswith("accepted ")
    assert ask(raw, artifact=b"other").startswith("refused: ")
    assert ask(raw, identity="other@example.org").startswith("refused: ")
    # Timestamped when the certificate had expired: as we say, no proof.
    assert ask(signed(pki, tsa, 5, *issuers).to_json()).startswith("refused: ")
    assert ask(replace(bundle, timestamps=()).to_json()).startswith("refused: ")
    other = sign_message(pki["leaf"].key, ARTIFACT, [pki["leaf"].certificate])
    moved = replace(other, timestamps=bundle.timestamps).to_json()
    assert ask(moved) == "refused: timestamp could not be verified"
    stranger = [base64.b64encode(authority.root("root").der).decode()]
    assert ask(raw, authority=stranger).startswith("refused: ")


@pytest.mark.parametrize("issuers", [(), ("middle",)], ids=["leaf", "chain"])
def test_the_python_client_reads_them(
    pki: dict[str, Any], tsa: Tsa, issuers: tuple[str, ...]
) -> None:
    """Its models, that is: its verifier wants a log entry of the public instance."""
    from sigstore_models.bundle.v1 import Bundle

    bundle = signed(pki, tsa, 20, *issuers)
    read = Bundle.from_json(bundle.to_json())
    material = read.verification_material
    if issuers:
        assert material.x509_certificate_chain is not None
        sent = [one.raw_bytes for one in material.x509_certificate_chain.certificates]
    else:
        assert material.certificate is not None
        sent = [material.certificate.raw_bytes]
    assert tuple(map(bytes, sent)) == bundle.certificates
    data = material.timestamp_verification_data
    assert data is not None
    assert data.rfc3161_timestamps is not None
    stamps = [one.signed_timestamp for one in data.rfc3161_timestamps]
    assert tuple(map(bytes, stamps)) == bundle.timestamps
    # And we read what it writes.
    assert parse_bundle(read.to_json().encode(), subject="b") == bundle
