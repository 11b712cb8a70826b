"""The vectors of docs/signed-responses.md, read by a second implementation written from that page.

It shares nothing with the package: PyJWT verifies, and the rest is a page of plain Python.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from r1prov.responses.exchange import Request
from r1prov.responses.expected import Expected, request_facts
from r1prov.responses.jwks import parse_jwks
from r1prov.responses.stream import StreamVerifier

FOLDER = Path(__file__).parents[1] / "vectors" / "responses"
VECTORS = json.loads((FOLDER / "stream-ed25519.json").read_bytes())
CASES = VECTORS["cases"]
LINE = re.compile(rb"(?:\A|(?<=[\r\n])): r1prov-signature ([A-Za-z0-9._-]+)\n\n")


def refused(why):
    raise ValueError(why)


def opened(token, key):
    """The payload of a statement that is signed by the key and by nothing else."""
    head = jwt.get_unverified_header(token)
    if set(head) != {"alg", "kid", "typ"} or head["typ"] != "r1prov-stream+jws":
        refused("header")
    if head["kid"] != VECTORS["key"]["kid"] or head["alg"] != VECTORS["key"]["alg"]:
        refused("key")
    return json.loads(jwt.api_jws.decode(token, key, algorithms=[head["alg"]]))


def second_opinion(content, receipt=None):
    """`verified` or `incomplete-stream`; raises where the content is not what was signed."""
    key = jwt.PyJWK(VECTORS["key"]).key
    said, at = None, 0
    for number, match in enumerate(LINE.finditer(content)):
        if said is not None and said["state"] != "open":
            refused("a statement after the last one")
        said, at = opened(match[1].decode(), key), match.end()
        if said["seq"] != number or said["offset"] != match.start():
            refused("order or length")
        check(said, content[: match.start()])
    if said is None and receipt is not None:
        said, at = opened(receipt, key), len(content)
        if said["offset"] != len(content):
            refused("length")
        check(said, content)
    if said is None or said["state"] != "complete":
        return "incomplete-stream"
    rest = content[at:].decode()
    if not said["end"].startswith(rest):
        refused("something follows the end")
    return "verified" if rest == said["end"] else "incomplete-stream"


def check(said, before):
    request, response = VECTORS["request"], VECTORS["response"]
    wanted = {
        "method": request["method"],
        "authority": "api.example.com",
        "path": "/v1/chat/completions",
        "query": "?",
        "content_sha256": hashlib.sha256(request["content"].encode()).hexdigest(),
        "nonce": request["nonce"],
    }
    if said["sha256"] != hashlib.sha256(before).hexdigest():
        refused("content")
    if said["request"] != wanted or said["version"] != 1:
        refused("request")
    if (said["status"], said["content_type"]) != (response["status"], response["content_type"]):
        refused("response")
    if said["manifest_sha256"] != VECTORS["manifest_sha256"]:
        refused("manifest")
    if not said["iat"] <= VECTORS["now"] <= said["exp"]:
        refused("time")


def first_opinion(content, receipt=None):
    request = VECTORS["request"]
    keys = parse_jwks(json.dumps(VECTORS["key"]).encode(), subject="vectors")
    facts = request_facts(
        Request(
            method=request["method"],
            url=request["url"],
            headers=(),
            body=request["content"].encode(),
        ),
        nonce=request["nonce"],
    )
    expected = Expected(
        request=facts,
        status=200,
        content_type=VECTORS["response"]["content_type"],
        key=lambda name: next((key for key in keys if name in key.names), None),
        now=lambda: VECTORS["now"],
        manifest_sha256=VECTORS["manifest_sha256"],
        verified_weights=True,
    )
    name = CASES["whole"]["receipt"]
    how = "receipt" if receipt is not None else "inline"
    stream = opened(name, jwt.PyJWK(VECTORS["key"]).key)["id"]
    verifier = StreamVerifier((("R1prov-Stream", f'{how};id="{stream}"'),), expected)
    verifier.feed(content)
    return verifier.finish(
        complete=True, receipt=receipt.encode() if receipt is not None else None
    ).state.value


def of(name):
    case = CASES[name]
    return case["content"].encode(), case["receipt"] if name == "receipt" else None


@pytest.mark.parametrize("name", CASES)
def test_both_implementations_agree_on_a_vector(name):
    content, receipt = of(name)
    assert first_opinion(content, receipt) == CASES[name]["state"]
    assert second_opinion(content, receipt) == CASES[name]["state"]
    without = LINE.sub(b"", content)
    assert without in (CASES[name]["upstream"].encode(), CASES[name]["upstream"].encode() + b"\n")


@pytest.mark.parametrize("name", CASES)
def test_both_implementations_refuse_every_changed_byte(name):
    content, receipt = of(name)
    for at in range(0, len(content), 3):
        spoilt = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        assert first_opinion(spoilt, receipt) != "verified"
        try:
            assert second_opinion(spoilt, receipt) != "verified"
        except (ValueError, jwt.PyJWTError):
            continue


def test_the_vectors_are_what_the_code_writes(tmp_path):
    script = tmp_path / "make_stream_vectors.py"
    script.write_bytes((FOLDER / "make_stream_vectors.py").read_bytes())
    subprocess.run([sys.executable, str(script)], check=True)
    assert (tmp_path / "stream-ed25519.json").read_bytes() == (
        FOLDER / "stream-ed25519.json"
    ).read_bytes()
