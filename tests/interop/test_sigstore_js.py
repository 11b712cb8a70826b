"""Bundles of r1prov, checked by code that is not ours: the JavaScript client of Sigstore."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from r1prov.attest.create import sign_statement
from r1prov.trust.bundle import sign_message
from r1prov.trust.keys import PublicKey, generate_private_key

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MANIFESTS = ROOT / "manifests"
ARTIFACT = b'schema = "r1prov/manifest/1"\n# \xe6\xbb\xa1\xe8\xa1\x80\xe7\x89\x88\n'
VERIFIER, READER = "@sigstore/verify", "@sigstore/bundle"
# Which part of the client can check a kind of key: see verify.mjs.
ACCEPTS = {
    "ecdsa-p256": VERIFIER,
    "rsa-pss-3072": VERIFIER,
    "ecdsa-p384": READER,
    "ecdsa-p521": READER,
    "ed25519": READER,
}
# In DSSE it can also check Ed25519.
ACCEPTS_DSSE = ACCEPTS | {"ed25519": VERIFIER}
SHIPPED = sorted(MANIFESTS.glob("*.toml.*.sigstore.json"))

Verify = Callable[[bytes, bytes, bytes], str]


@pytest.fixture(scope="session")
def client(npm_install: Callable[..., tuple[str, Path]]) -> list[str]:
    """The command that runs the client, installed from the lock file once for its content."""
    node, target = npm_install(HERE, "verify.mjs")
    return [node, str(target / "verify.mjs")]


@pytest.fixture
def verify(client: list[str], tmp_path: Path) -> Verify:
    def run(bundle: bytes, artifact: bytes, pem: bytes) -> str:
        paths = [tmp_path / name for name in ("bundle.json", "artifact", "key.pub")]
        for path, content in zip(paths, (bundle, artifact, pem), strict=True):
            path.write_bytes(content)
        done = subprocess.run(
            [*client, *map(str, paths)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr == ""
        answer = done.stdout.removesuffix("\n")
        assert done.returncode == (0 if answer.startswith("accepted by ") else 1)
        return answer

    return run


@pytest.mark.parametrize("algorithm", ACCEPTS)
def test_takes_what_we_sign_and_nothing_else(algorithm: str, verify: Verify) -> None:
    key = generate_private_key(algorithm)
    pem = key.public.pem()
    raw = sign_message(key, ARTIFACT).to_json()
    assert verify(raw, ARTIFACT, pem) == f"accepted by {ACCEPTS[algorithm]}"

    bad_signature = "refused: signature verification failed"
    bad_digest = "refused: the message digest is of another artifact"
    other_artifact = ARTIFACT.replace(b"1", b"2")
    assert verify(raw, other_artifact, pem) == bad_digest

    changed = json.loads(raw)
    changed["messageSignature"]["messageDigest"]["digest"] = base64.b64encode(bytes(32)).decode()
    assert verify(json.dumps(changed).encode(), ARTIFACT, pem) == bad_digest

    # The digest of the other artifact too: only the signature is left to tell.
    digest = hashlib.sha256(other_artifact).digest()
    changed["messageSignature"]["messageDigest"]["digest"] = base64.b64encode(digest).decode()
    assert verify(json.dumps(changed).encode(), other_artifact, pem) == bad_signature

    changed = json.loads(raw)
    signature = bytearray(base64.b64decode(changed["messageSignature"]["signature"]))
    signature[-1] ^= 1
    changed["messageSignature"]["signature"] = base64.b64encode(signature).decode()
    assert verify(json.dumps(changed).encode(), ARTIFACT, pem) == bad_signature

    other = generate_private_key(algorithm).public
    assert verify(raw, ARTIFACT, other.pem()) == "refused: the bundle names another key"
    changed = json.loads(raw)
    changed["verificationMaterial"]["publicKey"]["hint"] = other.key_id
    assert verify(json.dumps(changed).encode(), ARTIFACT, other.pem()) == bad_signature


@pytest.mark.parametrize("algorithm", ACCEPTS_DSSE)
def test_takes_our_envelopes_and_nothing_else(algorithm: str, verify: Verify) -> None:
    key = generate_private_key(algorithm)
    pem = key.public.pem()
    digest = {"sha256": hashlib.sha256(ARTIFACT).hexdigest()}
    statement = json.dumps({"subject": [{"name": "a", "digest": digest}], "满": 1}).encode()
    raw = sign_statement(key, statement)
    assert verify(raw, ARTIFACT, pem) == f"accepted by {ACCEPTS_DSSE[algorithm]}"

    def altered(change: Callable[[dict[str, Any]], object]) -> str:
        value = json.loads(raw)
        change(value["dsseEnvelope"])
        return verify(json.dumps(value).encode(), ARTIFACT, pem)

    def flip(text: str) -> str:
        data = bytearray(base64.b64decode(text))
        data[-1] ^= 1
        return base64.b64encode(data).decode()

    bad_signature = "refused: signature verification failed"
    assert altered(lambda env: env.update(payload=flip(env["payload"]))) == bad_signature
    assert altered(lambda env: env.update(payloadType="application/json")) == bad_signature
    sig = json.loads(raw)["dsseEnvelope"]["signatures"][0]
    changed = {"signatures": [sig | {"sig": flip(sig["sig"])}]}
    assert altered(lambda env: env.update(changed)) == bad_signature
    assert verify(raw, b"other", pem) == "refused: the statement is of other artifacts"
    other = generate_private_key(algorithm).public
    assert verify(raw, ARTIFACT, other.pem()) == "refused: the bundle names another key"


def test_refuses_what_is_no_bundle(verify: Verify) -> None:
    pem = generate_private_key("ed25519").public.pem()
    assert verify(b"{}", ARTIFACT, pem).startswith("refused: ")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_takes_the_shipped_signatures(
    path: Path, verify: Verify, shipped_keys: dict[str, PublicKey]
) -> None:
    name, key_id8 = path.name.removesuffix(".sigstore.json").rsplit(".", 1)
    key = shipped_keys[key_id8]
    artifact = (MANIFESTS / name).read_bytes()
    wanted = {"ecdsa-p256-sha256": VERIFIER, "rsa-pss-sha256": VERIFIER}
    route = wanted.get(key.algorithm, READER)
    assert verify(path.read_bytes(), artifact, key.pem()) == f"accepted by {route}"
    assert verify(path.read_bytes(), artifact + b"\n", key.pem()).startswith("refused: ")


def test_every_manifest_is_signed(shipped_keys: dict[str, PublicKey]) -> None:
    """So that the test above is about all of them."""
    signed = {path.name.rsplit(".", 3)[0] for path in SHIPPED}
    assert signed == {path.name for path in MANIFESTS.glob("*.toml")}


@pytest.fixture(scope="session")
def shipped_keys() -> dict[str, PublicKey]:
    from r1prov.trust.directories import load_trust_directory

    store = load_trust_directory(ROOT / "keys")
    return {one.key.key_id8: one.key for one in store.keys}
