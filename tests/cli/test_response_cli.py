"""`r1prov response verify`, as a user runs it."""

import json
import subprocess
import sys

import pytest
from receipts import near_receipt, with_near
from signed import (
    CREATED,
    KEYID,
    signed,
    signing_key,
    unsigned,
    with_response,
)

from r1prov.cli.app import run
from r1prov.responses.exchange_file import exchange_to_json
from r1prov.responses.jwks import write_jwks
from r1prov.trust.keys import parse_public_key


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = signing_key()
    pem = key._material.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public = parse_public_key(pem, subject="k")
    (tmp_path / "api.jwks.json").write_bytes(write_jwks([(public, KEYID, key.public.algorithm)]))
    (tmp_path / "trusted").mkdir()
    (tmp_path / "trusted" / f"{KEYID}.pem").write_bytes(pem)
    return tmp_path


def put(folder, exchange):
    path = folder / "exchange.json"
    path.write_bytes(exchange_to_json(exchange))
    return str(path)


def test_a_good_answer_passes_by_a_key_set_a_directory_or_a_policy(folder, capsys):
    path = put(folder, signed())
    verify = ["response", "verify", path]
    assert run([*verify, "--jwks", "api.jwks.json"]) == 0
    assert capsys.readouterr().out.startswith("pass: signed by a trusted key")
    assert run([*verify, "--keys", "trusted"]) == 0
    (folder / "mine.toml").write_text(
        'schema = "r1prov/policy/1"\n'
        '[[responses.keys]]\nfile = "api.jwks.json"\nowner = "Example"\n'
    )
    assert run([*verify, "--policy", "mine.toml"]) == 0
    assert "Example" in capsys.readouterr().out


def test_exit_status_and_json_of_each_verdict(folder, capsys):
    verify = ["response", "verify", put(folder, signed()), "--format", "json"]
    assert run(verify) == 1
    value = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in value["findings"]] == ["response-key-unknown"]
    put(folder, unsigned())
    assert run([*verify, "--jwks", "api.jwks.json"]) == 3
    assert json.loads(capsys.readouterr().out)["state"] == "unsigned"
    put(folder, with_response(signed(), body=b"{}"))
    assert run([*verify, "--jwks", "api.jwks.json", "--quiet"]) == 1
    assert capsys.readouterr().out == ""


def test_age_and_output(folder):
    path = put(folder, signed(created=CREATED - 120))
    verify = ["response", "verify", path, "--jwks", "api.jwks.json", "-o", "report.json"]
    assert run([*verify, "--format", "json"]) == 0
    assert run([*verify, "--max-age", "60", "--format", "json"]) == 1
    assert json.loads((folder / "report.json").read_text())["findings"][0]["name"] == (
        "response-too-old"
    )


def test_what_is_malformed_is_4_and_what_is_asked_wrong_2(folder, capsys):
    (folder / "x.json").write_text("{")
    assert run(["response", "verify", "x.json"]) == 4
    assert run(["response", "verify", "absent.json"]) == 4
    path = put(folder, signed())
    assert run(["response", "verify", path, "--jwks", "absent"]) == 4
    (folder / "private.json").write_text('{"keys":[{"kty":"OKP","crv":"Ed25519","d":"AA"}]}')
    assert run(["response", "verify", path, "--jwks", "private.json"]) == 4
    assert "private key" in capsys.readouterr().err
    assert run(["response", "verify", path, "--scheme", "ftp"]) == 2
    assert run(["response", "verify", path, "--entry", "0"]) == 2


def test_a_receipt_and_raw_http(folder, capsys):
    path = put(folder, with_near(unsigned(), near_receipt(signing_key())))
    assert run(["response", "verify", path, "--jwks", "api.jwks.json"]) == 0
    assert "near" in capsys.readouterr().out
    exchange = signed()
    raw = folder / "raw"
    raw.mkdir()
    for name, first, part in (
        ("request", "POST /v1/chat/completions HTTP/1.1", exchange.request),
        ("response", "HTTP/1.1 200 OK", exchange.response),
    ):
        body = part.body or b""
        fields = "".join(f"{k}: {v}\r\n" for k, v in part.headers)
        length = f"Content-Length: {len(body)}\r\n\r\n"
        (raw / f"{name}.http").write_bytes(f"{first}\r\n{fields}{length}".encode() + body)
    # Raw HTTP does not say when it was, so it is judged by now: it is long ago, or to come.
    assert run(["response", "verify", str(raw), "--jwks", "api.jwks.json", "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [one["name"] for one in found] in (["response-too-old"], ["response-from-future"])


def test_help_loads_no_cryptography():
    code = (
        "import sys; from r1prov.cli.app import run; run(['response', 'verify', '--help']);"
        "sys.exit('cryptography' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0


def test_policy_check_reads_the_table_too(folder, capsys):
    (folder / "r1prov.toml").write_text('schema = "r1prov/policy/1"\n[responses]\nskew = 5\n')
    assert run(["policy", "check"]) in (0, 1)
    (folder / "r1prov.toml").write_text('schema = "r1prov/policy/1"\n[responses]\nskwe = 5\n')
    assert run(["policy", "check"]) == 4
    assert "skwe" in capsys.readouterr().err
    (folder / "r1prov.toml").unlink()
    (folder / "pyproject.toml").write_text(
        '[tool.r1prov]\nschema = "r1prov/policy/1"\n[tool.r1prov.responses]\nskwe = 5\n'
    )
    assert run(["policy", "check"]) == 4
    assert "skwe" in capsys.readouterr().err
