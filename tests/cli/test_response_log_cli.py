import json
import os
import re

import pytest
from scripted_server import TEXT, serve

from r1prov.cli.app import run
from r1prov.responses.log_check import check_log, read_entry
from r1prov.responses.read import read_exchange
from r1prov.responses.redaction import Content
from r1prov.trust.keys import parse_public_key

KEY = "sk-0123456789abcdef0123"


@pytest.fixture(scope="module")
def server():
    with serve() as scripted:
        yield scripted


@pytest.fixture
def place(tmp_path, monkeypatch, server):
    """A directory with requests, a policy that trusts the server's key, and the API key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("API_KEY", KEY)
    for name, model, stream in (
        ("ask.json", "r1", False),
        ("stream.json", "r1", True),
        ("unsigned.json", "r1+unsigned", False),
        ("cut.json", "r1+cut", False),
        ("aci.json", "r1+aci", True),
    ):
        value = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
        (tmp_path / name).write_text(json.dumps(value))
    (tmp_path / "server.pem").write_bytes(pem_of(server.key))
    (tmp_path / "r1prov.toml").write_text(
        'schema = "r1prov/policy/1"\n[responses]\n[[responses.keys]]\nfile = "server.pem"\n'
    )
    return tmp_path


def pem_of(key):
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = key.public.material.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert parse_public_key(pem, subject="x")
    return pem


def record(server, *arguments, request="ask.json"):
    url = f"{server.base_url}/chat/completions"
    return run(
        [
            *("response", "record", "--log", "api.jsonl", "--request", request),
            *("--api-key-env", "API_KEY", "--fsync", "never", *arguments, url),
        ]
    )


def test_an_exchange_is_recorded_listed_exported_and_verified(place, server, capsys):
    assert record(server, "--output", "answer.json") == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"1:[0-9a-f]{64}\n", out)
    assert "200: verified" in err
    assert json.loads((place / "answer.json").read_bytes())["choices"][0]["message"][
        "content"
    ] == "".join(TEXT)

    assert run(["response", "log", "verify", "api.jsonl", "--head", out.strip()]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == "holds"
    assert f"head {out.strip()}" in shown

    assert run(["response", "log", "show", "api.jsonl"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert f"POST {server.base_url}/chat/completions 200" in line
    assert "1 part redacted" in line

    assert run(["response", "log", "export", "api.jsonl", "-o", "exchange.json"]) == 0
    assert run(["response", "verify", "exchange.json"]) == 0
    assert run(["response", "verify", "api.jsonl", "--entry", "1"]) == 0
    assert KEY.encode() not in b"".join(one.read_bytes() for one in place.glob("*.json*"))


@pytest.mark.parametrize("request_file", ["stream.json", "aci.json"])
def test_streams_and_receipts_are_recorded_whole(place, server, capsys, request_file):
    assert record(server, request=request_file) == 0
    assert "verified" in capsys.readouterr().err
    exchange = read_exchange(place / "api.jsonl").exchange
    assert exchange.response.complete
    assert exchange.response.body.endswith(b"data: [DONE]\n\n")
    assert len(exchange.documents) == (request_file == "aci.json")
    assert run(["response", "verify", "api.jsonl"]) == 0


def test_an_unsigned_answer_is_kept_and_called_so(place, server, capsys):
    assert record(server, request="unsigned.json") == 0
    assert "unsigned" in capsys.readouterr().err
    assert run(["response", "verify", "api.jsonl"]) == 3


def test_an_answer_that_breaks_off_is_kept_as_such(place, server, capsys):
    assert record(server, request="cut.json") == 3
    exchange = read_entry(place / "api.jsonl", None)
    assert not exchange.response.complete
    assert run(["response", "log", "show", "api.jsonl"]) == 0
    assert "broke off" in capsys.readouterr().out


def test_content_is_redacted_and_one_part_of_it_proved_later(place, server, capsys):
    options = ("--content", Content.DIGEST, "--openings", "api.openings")
    assert record(server, *options) == 0
    assert record(server, *options) == 0
    capsys.readouterr()
    assert b"messages" not in (place / "api.jsonl").read_bytes()
    assert os.stat(place / "api.openings").st_mode & 0o777 == 0o600
    # Redacted, the signature cannot be judged: neither good nor bad.
    assert run(["response", "verify", "api.jsonl", "--entry", "1"]) == 3
    assert "redacted" in capsys.readouterr().out

    export = ["response", "log", "export", "api.jsonl", "--entry", "1", "-o", "one.json"]
    assert run([*export, "--openings", "api.openings", "--part", "request.body"]) == 0
    exchange = read_exchange(place / "one.json").exchange
    assert exchange.request.body == (place / "ask.json").read_bytes()
    assert exchange.response.body is None
    assert run(["response", "verify", "one.json"]) == 3
    assert run([*export, "--openings", "api.openings"]) == 0
    assert run(["response", "verify", "one.json"]) == 0
    capsys.readouterr()

    assert run([*export, "--part", "request.body"]) == 2
    assert run([*export, "--openings", "api.openings", "--part", "request.url"]) == 2
    (place / "empty.openings").touch()
    assert run([*export, "--openings", "empty.openings"]) == 2
    assert "no opening of this record" in capsys.readouterr().err


def test_openings_of_something_else_are_refused(place, server, capsys):
    assert record(server, "--content", "digest", "--openings", "api.openings") == 0
    text = (place / "api.openings").read_text()
    export = ["response", "log", "export", "api.jsonl", "--openings", "x.openings"]
    for changed, status in (
        (text.replace('"value": "ey', '"value": "ez', 1), 4),
        (text.replace("r1prov/opening/1", "r1prov/opening/2"), 4),
        (text.replace('"salt": "', '"salt": "AAAA'), 4),
        (text[:-20], 4),
        ("[]\n", 4),
    ):
        assert changed != text
        (place / "x.openings").write_text(changed)
        assert run(export) == status
    capsys.readouterr()


def test_members_are_left_out_of_the_log(place, server):
    assert record(server, "--redact-member", "messages") == 0
    exchange = read_entry(place / "api.jsonl", None)
    assert exchange.request.body is None
    assert exchange.response.body is not None
    (remainder,) = (one.remainder for one in exchange.redactions if one.part == "request.body")
    assert json.loads(remainder)["messages"] == "REDACTED"


def test_a_changed_log_does_not_hold(place, server, capsys):
    assert record(server) == 0
    head = capsys.readouterr().out.strip()
    path = place / "api.jsonl"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"status":200', b'"status":500'))
    assert run(["response", "log", "verify", "api.jsonl"]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out
    assert run(["response", "log", "show", "api.jsonl"]) == 4
    path.write_bytes(raw[: raw.index(b"\n") + 1])
    assert run(["response", "log", "verify", "api.jsonl"]) == 0
    assert run(["response", "log", "verify", "api.jsonl", "--head", head, "--format", "json"]) == 1
    value = json.loads(capsys.readouterr().out.partition("head ")[2].partition("\n")[2])
    assert value["holds"] is False
    assert "not there any more" in value["problem"]


def test_files_are_rotated(place, server):
    for _ in range(3):
        assert record(server, "--max-bytes", "10", "--quiet") == 0
    assert (place / "api.jsonl.2").exists()
    assert check_log(place / "api.jsonl").exchanges == 3


def test_a_request_from_stdin_and_a_get(place, server, capsys, monkeypatch):
    import io
    import sys

    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO((place / "ask.json").read_bytes()))
    )
    assert record(server, request="-") == 0
    url = f"{server.base_url}/models?api_key={KEY}"
    assert run(["response", "record", "--log", "get.jsonl", "--header", "X-A: b", url]) == 0
    exchange = read_entry(place / "get.jsonl", None)
    assert exchange.request.method == "GET"
    assert ("X-A", "b") in exchange.request.headers
    assert exchange.request.url.endswith("api_key=REDACTED")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--header", "no colon"], 2, "NAME:VALUE"),
        (["--header", "a b: c"], 2, "no field name"),
        (["--api-key-env", "NOT_SET"], 2, "not set"),
        (["--method", "P T"], 2, "no token"),
        (["--request", "none.json"], 4, "no such file"),
        (["--content", "half"], 2, "half"),
    ],
)
def test_what_cannot_be_sent(place, server, capsys, arguments, status, message):
    url = f"{server.base_url}/chat/completions"
    assert run(["response", "record", "--log", "api.jsonl", *arguments, url]) == status
    assert message in capsys.readouterr().err
    assert not (place / "api.jsonl").exists()


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://127.0.0.1:1/v1?key=sk-0123456789abcdef0123", 4),
        ("ftp://h/?key=sk-0123456789abcdef0123", 2),
        ("http://h h/?key=sk-0123456789abcdef0123", 2),
        ("http://127.0.0.1:99999/?key=sk-0123456789abcdef0123", 4),
    ],
)
def test_a_server_that_cannot_be_reached_and_no_secret_in_the_message(place, capsys, url, status):
    assert run(["response", "record", "--log", "api.jsonl", url]) == status
    assert "sk-0123" not in capsys.readouterr().err


def test_a_log_that_is_none(place, capsys):
    (place / "x").write_text("hello\n")
    assert run(["response", "log", "verify", "x"]) == 1
    assert run(["response", "log", "show", "x"]) == 4
    assert run(["response", "log", "verify", "none"]) == 4
    assert run(["response", "log", "verify", "x", "--head", "1"]) == 2
    capsys.readouterr()
