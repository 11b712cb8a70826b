"""`r1prov evidence show` as it is typed: the document, its languages, and when it says no."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from evidence_case import ROOT, Case, case, raw

from r1prov.cli.app import run
from r1prov.trust.keys import parse_public_key

__all__ = ["case", "raw"]
Do = Callable[..., tuple[int, str, str]]


@pytest.fixture
def do(
    case: Case,
    raw: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Do:
    (tmp_path / "b.zip").write_bytes(raw)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(["evidence", "show", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def test_a_page_in_each_language(do: Do, case: Case) -> None:
    keys = ("--keys", str(case.keys))
    status, out, err = do("b.zip", "--format", "html", "--lang", "zh", *keys)
    assert status == 0, err
    assert out.startswith('<!DOCTYPE html>\n<html lang="zh-Hans">')
    assert out.isascii()
    assert "PASS</" not in out
    status, _, _ = do("b.zip", "--format", "html", "--lang", "en", *keys, "-o", "en.html")
    assert status == 0
    text = Path("en.html").read_text()
    assert '<html lang="en">' in text
    assert "&#36890;" not in text
    both = do("b.zip", "--format", "html", *keys)[1]
    assert 'lang="zh-Hans"' in both
    assert 'lang="en"' in both


def test_the_exit_status_is_that_of_the_verdict(do: Do, case: Case) -> None:
    keys = ("--keys", str(case.keys))
    page = ("b.zip", "--format", "html", "-o", "x.html")
    assert do(*page, *keys)[0] == 0
    assert do(*page, *keys, "--expect", "full")[0] == 1
    assert "&#19981;&#36890;&#36807;" in Path("x.html").read_text()
    # Keys of others: not verified, and not passed.
    assert do(*page, "--keys", str(ROOT / "keys"))[0] == 1
    body = Path("x.html").read_text().partition("<body")[2]
    assert body.index('class="unverified"') < body.index("<h1>")
    assert do("b.zip", "--format", "html", *keys, "--model", str(case.model))[0] == 0
    assert do("b.zip", "--format", "html", "-q", *keys)[1] == ""
    Path("junk.zip").write_bytes(b"junk")
    assert do("junk.zip", "--format", "html", *keys)[0] == 4


def test_text_and_json_take_no_demands(do: Do, case: Case) -> None:
    assert do("b.zip")[0] == 0
    for asked in (("--expect", "full"), ("--model", "."), ("--openings", "o"), ("--signers", "2")):
        status, _, err = do("b.zip", *asked)
        assert status == 2
        assert "verifies nothing" in err


def test_several_signers_and_scope_are_asked_for(do: Do, case: Case) -> None:
    page = ("b.zip", "--format", "html", "--lang", "zh", "-o", "x.html", "--keys", str(case.keys))
    assert do(*page, "--scope", "all")[0] == 0
    assert do(*page, "--signers", "2")[0] == 1
    assert "签名有效的不同签名人太少" in html.unescape(Path("x.html").read_text())


def test_a_policy_of_the_verifier_is_shown(do: Do, case: Case) -> None:
    Path("p.toml").write_text('schema = "r1prov/policy/1"\n[[models]]\nname = "other"\n')
    page = ("b.zip", "--format", "html", "--lang", "en", "-o", "x.html", "--keys", str(case.keys))
    assert do(*page, "--policy", "p.toml")[0] == 1
    assert "Demanded by the verifier" in Path("x.html").read_text()


def test_criteria_for_endpoints_count_in_a_document(do: Do, case: Case) -> None:
    table = '[[models]]\nname = "m"\n[endpoint]\nverdict = "consistent"\n'
    Path("p.toml").write_text(f'schema = "r1prov/policy/1"\n{table}')
    page = ("b.zip", "--format", "html", "--lang", "zh", "-o", "x.html", "--keys", str(case.keys))
    assert do(*page, "--policy", "p.toml")[0] == 1
    assert "没有端点审计" in html.unescape(Path("x.html").read_text())


def test_a_document_takes_the_place_of_an_old_one(do: Do, case: Case) -> None:
    keys = ("--format", "html", "--keys", str(case.keys))
    Path("x.html").write_text("old")
    assert do("b.zip", *keys, "-o", "x.html")[0] == 0
    assert Path("x.html").read_text().startswith("<!DOCTYPE html>")
    assert do("b.zip", *keys, "-o", "no/such/folder.html")[0] == 4


def test_a_pdf_is_not_written_to_a_terminal(
    do: Do, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    status, _, err = do("b.zip", "--format", "pdf", "--keys", str(case.keys))
    assert status == 2
    assert "--output" in err


def test_openings_and_response_keys_are_taken(do: Do, case: Case) -> None:
    keys = ("--keys", str(case.keys), "--format", "html", "-o", "x.html")
    assert do("b.zip", *keys, "--openings", "absent")[0] == 4
    assert do("b.zip", *keys, "--response-keys", "absent")[0] == 4
    assert do("b.zip", *keys, "--policy", "absent")[0] == 4


def test_the_commands_of_the_document_do_what_it_says(do: Do, case: Case, raw: bytes) -> None:
    """Typed as they stand in the page, but for the name of the key's file and of its owner."""
    import hashlib
    import shlex

    page = do("b.zip", "--format", "html", "--lang", "en", "--keys", str(case.keys))[1]
    commands = [html.unescape(one) for one in re.findall(r"<pre><code>(.*?)</code></pre>", page)]
    assert len(commands) == 3
    done = subprocess.run(shlex.split(commands[0]), capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == hashlib.sha256(raw).hexdigest()
    for name in ("maker", "k"):
        public = (case.folder / f"{name}.key.pub").read_bytes()
        if name == "maker":
            assert parse_public_key(public, subject="k").key_id in page
        Path("signer.key.pub").write_bytes(public)
        assert run(shlex.split(commands[1])[1:]) == 0
    assert run(shlex.split(commands[2])[1:]) == 0


def test_the_last_command_asks_for_what_the_document_was_asked_for(
    do: Do, case: Case, tmp_path: Path
) -> None:
    """Else whoever types it gets another verdict than the document has."""
    (tmp_path / "made").mkdir()
    Path("made/p.toml").write_text('schema = "r1prov/policy/1"\n[[models]]\nname = "m"\n')
    asked = ("--policy", "made/p.toml", "--scope", "all", "--signers", "2", "--timestamped")
    page = ("b.zip", "--format", "html", "--lang", "en", "--keys", str(case.keys))
    status, out, _ = do(*page, *asked)
    assert status == 1
    command = html.unescape(re.findall(r"<pre><code>(.*?)</code></pre>", out)[2])
    assert command == (
        "r1prov evidence verify b.zip --keys ./pinned "
        "--policy p.toml --scope all --signers 2 --timestamped"
    )
    assert "files that the third command names" in html.unescape(out)
    Path("x; y.toml").write_bytes(Path("made/p.toml").read_bytes())
    out = do(*page, "--policy", "x; y.toml")[1]
    assert "--policy FILE" in out
    assert "x; y" not in out.partition("Verify it yourself")[2].partition("</section>")[0]


def test_without_weasyprint_it_says_what_to_install(
    do: Do, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    status, _, err = do("b.zip", "--format", "pdf", "--keys", str(case.keys), "-o", "x.pdf")
    assert status == 2
    assert "r1prov[pdf]" in err
    assert not Path("x.pdf").exists()


@pytest.mark.documents
def test_a_pdf(do: Do, case: Case) -> None:
    pdf = ("b.zip", "--format", "pdf", "--lang", "en", "--keys", str(case.keys), "-o", "x.pdf")
    status, out, err = do(*pdf)
    assert status == 0, err
    assert out == ""
    assert Path("x.pdf").read_bytes().startswith(b"%PDF-")
