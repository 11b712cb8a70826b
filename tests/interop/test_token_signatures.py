"""What a token signed, checked by code that is not ours: the JavaScript client of Sigstore."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1prov.attest.create import sign_statement
from r1prov.trust.bundle import sign_message
from r1prov.trust.token_key import open_token_key
from r1prov.trust.token_uri import parse_token_uri

HERE = Path(__file__).parent
ARTIFACT = b'schema = "r1prov/manifest/1"\n'
VERIFIER, READER = "@sigstore/verify", "@sigstore/bundle"
# Which part of the client can check a kind of key (see verify.mjs), and a kind of key in DSSE.
ACCEPTS = {
    "ecdsa-p256": (VERIFIER, VERIFIER),
    "rsa-pss-3072": (VERIFIER, VERIFIER),
    "ecdsa-p384": (READER, READER),
    "ecdsa-p521": (READER, READER),
    "ed25519": (READER, VERIFIER),
}


@pytest.mark.parametrize("algorithm", ACCEPTS)
def test_takes_what_a_token_signed(
    algorithm: str, hsm: Any, npm_install: Callable[..., tuple[str, Path]], tmp_path: Path
) -> None:
    node, target = npm_install(HERE, "verify.mjs")
    key = open_token_key(parse_token_uri(hsm.uri(algorithm)), lambda: hsm.pin)
    digest = {"sha256": hashlib.sha256(ARTIFACT).hexdigest()}
    statement = json.dumps({"subject": [{"name": "a", "digest": digest}]}).encode()
    bundles = sign_message(key, ARTIFACT).to_json(), sign_statement(key, statement)
    key.close()
    paths = [tmp_path / name for name in ("bundle.json", "artifact", "key.pub")]

    def answer(bundle: bytes, artifact: bytes) -> str:
        for path, content in zip(paths, (bundle, artifact, key.public.pem()), strict=True):
            path.write_bytes(content)
        command = [node, str(target / "verify.mjs"), *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        return done.stdout.strip()

    for bundle, accepted in zip(bundles, ACCEPTS[algorithm], strict=True):
        assert answer(bundle, ARTIFACT) == f"accepted by {accepted}"
        assert answer(bundle, ARTIFACT + b"\n").startswith("refused: ")
