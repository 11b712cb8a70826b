"""The example of docs/exchanges.md runs, and its figures are those of the code."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from scripted_server import TEXT, serve

from r1prov.errors import ResponseNotVerified
from r1prov.limits import MAX_EXCHANGE_BODY_BYTES
from r1prov.responses.exchange_file import parse_exchange
from r1prov.responses.redaction import commitment

PAGE = (Path(__file__).parents[2] / "docs" / "exchanges.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("model", ["deepseek-r1", "deepseek-r1+tampered", "deepseek-r1+unsigned"])
def test_the_example_with_the_openai_client(tmp_path, monkeypatch, capsys, model):
    (example,) = blocks("python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with serve() as server:
        (tmp_path / "key.pem").write_bytes(
            server.key.public.material.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (tmp_path / "r1prov.toml").write_text(
            'schema = "r1prov/policy/1"\n[responses]\n[[responses.keys]]\nfile = "key.pem"\n'
        )
        code = example.replace("https://api.example/v1", server.base_url)
        code = code.replace('"deepseek-r1"', f'"{model}"')
        if model == "deepseek-r1":
            exec(compile(code, "exchanges.md", "exec"), {})
            text = "".join(TEXT)
            assert capsys.readouterr().out == f"{text} verified\n{text}"
        else:
            with pytest.raises(ResponseNotVerified):
                exec(compile(code, "exchanges.md", "exec"), {})
            assert capsys.readouterr().out == ""


def test_the_file_of_the_page_is_read():
    (example,) = (one for one in blocks("json") if '"request"' in one)
    raw = example.replace('"url": "…"', '"url": "https://api.example/r"').replace(
        '"fetched_at": "…"', '"fetched_at": "2026-11-24T10:00:02Z"'
    )
    exchange = parse_exchange(raw.encode(), subject="page")
    assert exchange.request.body == b"{}"
    assert exchange.is_redacted("request.header:authorization")


def test_the_line_of_the_log_is_that_of_the_page():
    (line,) = (one for one in blocks("json") if '"previous"' in one)
    assert list(json.loads(line)) == ["digest", "previous", "n", "at", "exchange"]


def test_the_formula_of_the_salted_digest_and_the_cap():
    assert '`SHA-256("r1prov/redaction/1" ‖ 0x00 ‖ part ‖ 0x00 ‖ salt ‖ content)`' in PAGE
    salt = bytes(32)
    expected = hashlib.sha256(b"r1prov/redaction/1\0request.body\0" + salt + b"x").digest()
    assert commitment("request.body", salt, b"x") == expected
    assert f"beyond {MAX_EXCHANGE_BODY_BYTES // 2**20} MiB" in PAGE
