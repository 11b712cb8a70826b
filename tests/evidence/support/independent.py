"""A verifier of bundles by docs/evidence-format.md alone: standard library, one for signatures.

Run as `python independent.py BUNDLE KEY.pub`; nothing of r1prov is imported. It shows that whoever
has the description of the format needs no r1prov to check digests and signature.
"""

import base64
import hashlib
import json
import sys
import zipfile
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

ROOT = "evidence/"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check(path: str, public: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        assert len(names) == len(set(names)), "a member is there twice"
        members = {name.removeprefix(ROOT): file.read(name) for name in names}
    raw = members["index.json"]
    index: dict[str, Any] = json.loads(raw)
    assert index["schema"] == "r1prov/evidence/1"
    # Every member of data/ is in the index, with its size and digest, and no other.
    listed = {"data/" + one["path"]: one for one in index["parts"]}
    found = {name for name in members if name.startswith("data/")}
    assert found == listed.keys(), found ^ listed.keys()
    for name, one in listed.items():
        assert (len(members[name]), sha256(members[name])) == (one["size"], one["sha256"]), name
    # BagIt (RFC 8493): payload manifest and tag manifest.
    for manifest, held in (
        ("manifest-sha256.txt", found),
        ("tagmanifest-sha256.txt", members.keys() - found - {"tagmanifest-sha256.txt"}),
    ):
        lines = [one.split("  ", 1) for one in members[manifest].decode().splitlines()]
        assert {name for _, name in lines} == held, manifest
        assert all(sha256(members[name]) == digest for digest, name in lines), manifest
    # DSSE in a Sigstore bundle: the signature is over type and payload with their lengths.
    envelope = json.loads(members["index.json.sigstore.json"])["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"], validate=True)
    kind = envelope["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    key = load_pem_public_key(public)
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, signed, ec.ECDSA(SHA256()))
    else:
        assert isinstance(key, ed25519.Ed25519PublicKey), "a kind of key that is not read here"
        key.verify(signature, signed)
    # The in-toto statement is about this index and the manifest in it.
    statement = json.loads(payload)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:r1prov:evidence:1"
    subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
    assert subjects["index.json"] == sha256(raw), "signed is another index"
    if index["manifest"] is not None:
        assert sha256(members["data/" + index["manifest"]]) in subjects.values()
    assert statement["predicate"]["model"] == index["model"]
    assert statement["predicate"]["verdict"] == index["verdict"]
    return index


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as key_file:
        checked = check(sys.argv[1], key_file.read())
    print(f"{checked['verdict']} about {checked['model']}, {len(checked['parts'])} members")
