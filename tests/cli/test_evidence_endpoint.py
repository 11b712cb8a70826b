"""`r1prov evidence create --endpoint` as it is typed: a purchase acceptance in one command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from audit_case import API_KEY, FEW, R1, endpoint
from evidence_case import NAMES, Case, call
from persona_fixtures import tokenizers
from persona_server import MODEL, PersonaServer
from personas import Tokenizers

from r1prov.cli.app import run
from r1prov.endpoints.sandbox import sandbox
from r1prov.evidence.archive import read_archive

__all__ = ["tokenizers"]

Do = Callable[..., tuple[int, str, str]]
CREATE = ("create", "./model", "-m", "m.toml", "--keys", "keys", "--key", "maker.key")
POLICY = f"""schema = "r1prov/policy/1"
[[models]]
name = "{R1}"
min_level = "full"
[endpoint]
urls = ["URL"]
verdict = "consistent"
tests = ["tokenizer", "delta-boundaries"]
max_failed = 0
max_age_days = 1
"""


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("bought")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        for name in NAMES:
            patch.delenv(f"R1PROV_{name}", raising=False)
        patch.chdir(folder)
        yield Case(folder, R1)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def honest(tokenizers: Tokenizers) -> Iterator[PersonaServer]:
    with endpoint(tokenizers, "honest-r1") as server:
        yield server


@pytest.fixture
def do(
    bought: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Do:
    for one in (*bought.folder.glob("m.toml*"), bought.model, bought.keys):
        (tmp_path / one.name).symlink_to(one)
    (tmp_path / "maker.key").symlink_to(bought.folder / "maker.key")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R1PROV_API_KEY", API_KEY)
    capsys.readouterr()

    def typed(*arguments: str) -> tuple[int, str, str]:
        status = run(list(arguments))
        out, err = capsys.readouterr()
        return status, out, err

    return typed


def test_acceptance_of_model_and_endpoint_in_one_command(do: Do, honest: PersonaServer) -> None:
    Path("policy.toml").write_text(POLICY.replace("URL", honest.url))
    asked = ("--acceptance", "policy.toml", "--endpoint", honest.url, "--streams", "4", "--yes")
    prices = f'["{MODEL}"]\nprompt = 0.55\ncompletion = 2.19\n'
    Path("prices.toml").write_text(prices)
    more = ("--log", "a.jsonl", "--prices", "prices.toml", "-o", "ok.zip")
    status, out, err = do("evidence", *CREATE, *asked, *more)
    assert (status, out) == (0, ""), err
    assert "USD" in err
    assert "consistent: nothing speaks against" in err
    assert err.rstrip().splitlines()[-1].startswith("pass: as DeepSeek-R1")
    assert API_KEY not in err + Path("a.jsonl").read_text() + Path("a.jsonl.plan").read_text()
    before = len(honest.requests)
    status, out, _ = do("evidence", "verify", "ok.zip", "--keys", "keys", "--policy", "policy.toml")
    assert status == 0, out
    assert "endpoint/00 tested:" in out
    assert "tokenizer" in out
    assert "every criterion of [endpoint] is met" in out
    status, out, _ = do("evidence", "verify", "ok.zip", "--keys", "keys", "--format", "json")
    (audit,) = json.loads(out)["audits"]
    assert (audit["member"], audit["claim"], audit["verdict"]) == (
        "endpoint/00",
        R1,
        "consistent",
    )
    assert {"name": "parameters", "outcome": "description", "samples": 5} in audit["tests"]
    assert len(honest.requests) == before  # verifying asks nobody
    status, out, _ = do("evidence", "show", "ok.zip")
    assert "endpoint/00 consistent, as its maker says" in out
    assert "endpoint/00/exchanges.jsonl" in out
    # The buyer who asks for another address is not served with this one.
    Path("other.toml").write_text(POLICY.replace("URL", "https://api.example/v1"))
    status, out, _ = do("evidence", "verify", "ok.zip", "--keys", "keys", "--policy", "other.toml")
    assert status == 1
    assert "endpoint-address" in out


def test_an_endpoint_that_lies_and_one_that_leaves_it_open(do: Do, tokenizers: Tokenizers) -> None:
    with endpoint(tokenizers, "distill-qwen") as server:
        asked = ("--endpoint", server.url, "--endpoint-model", MODEL, "-o", "no.zip")
        status, _, err = do("evidence", *CREATE, *asked)
    assert status == 1
    assert "R1P974" in err
    assert "the model by itself: pass" in err
    assert err.rstrip().splitlines()[-1].startswith("fail: ")
    with endpoint(tokenizers, "no-reasoning") as server:
        status, _, err = do("evidence", *CREATE, "--endpoint", server.url, "-o", "open.zip")
    assert status == 3
    assert "not checked: endpoint/00: not-testable" in err


def test_a_budget_that_is_spent_is_why_nothing_was_decided(do: Do, honest: PersonaServer) -> None:
    few = ("--streams", "2", "--max-requests", "3", "-o", "few.zip")
    status, _, err = do("evidence", *CREATE, "--endpoint", honest.url, *few)
    assert status == 3
    assert "the audit ended: not decided: the budget of 3 requests is spent" in err
    assert err.rstrip().splitlines()[-1].startswith("incomplete: ")


def test_an_audit_that_was_made_before(do: Do, honest: PersonaServer) -> None:
    report = ("--format", "json", "-o", "report.json")
    audit = ("endpoint", "audit", honest.url, *FEW)
    assert do(*audit, *report, "--log", "a.jsonl")[0] == 0
    taken = ("--endpoint-log", "a.jsonl", "--endpoint-report", "report.json")
    before = len(honest.requests)
    status, _, err = do("evidence", *CREATE, *taken, "-o", "a.zip")
    assert status == 0, err
    assert len(honest.requests) == before
    # A report whose log went on since, or was cut.
    lines = Path("a.jsonl").read_bytes().splitlines(keepends=True)
    Path("a.jsonl").write_bytes(b"".join(lines[:-1]))
    status, _, err = do("evidence", *CREATE, *taken, "-o", "cut.zip")
    assert status == 2
    assert "none of these logs" in err
    # The rest is asked again, and only the rest.
    resumed = ("--endpoint", honest.url, "--log", "a.jsonl", "--resume", "--streams", "4")
    status, _, err = do("evidence", *CREATE, *resumed, "-o", "b.zip")
    assert status == 0, err
    assert len(honest.requests) <= before + 1
    Path("a.jsonl.plan").unlink()
    status, _, err = do("evidence", *CREATE, *taken[:2], "-o", "c.zip")
    assert status == 4
    assert "no plan" in err


def test_what_cannot_be_had_is_said_before_anything_is_sent(do: Do, honest: PersonaServer) -> None:
    before = len(honest.requests)
    asked = ("--endpoint", honest.url)
    for more, why in (
        (("--exclude", "endpoint"), "leaves out"),
        (("--redact", "openings.jsonl"), "from digests"),
        (("--endpoint-report", "r.json"), "goes with --endpoint-log"),
        (("--log", "model/a.jsonl"), "inside"),
        (("--endpoint-model", MODEL, "--key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY"),
        (("--reference", "absent.json"), "absent.json"),
    ):
        status, _, err = do("evidence", *CREATE, *asked, *more, "-o", "x.zip")
        assert status in (2, 4), more
        assert why in err
        assert not Path("x.zip").exists()
    Path("bad.toml").write_text(
        POLICY.replace("max_failed", "max_faild").replace("URL", honest.url)
    )
    status, _, err = do("evidence", *CREATE, *asked, "--acceptance", "bad.toml", "-o", "x.zip")
    assert status == 4
    assert "did you mean `max_failed`" in err
    status, _, err = do("policy", "check", "bad.toml")
    assert status == 4
    status, _, err = do("evidence", *CREATE, *asked, "--dry-run", "-o", "x.zip")
    assert status == 0
    assert "nothing is sent in a dry run" in err
    assert len(honest.requests) == before


def test_a_chain_shows_how_the_verdict_on_an_endpoint_changed(
    do: Do, tokenizers: Tokenizers
) -> None:
    Path("log").mkdir()
    # One address, whose operator puts another model behind it after the first audit.
    with endpoint(tokenizers, "honest-r1", "distill-qwen", swap_after=14) as server:
        few = ("--endpoint", server.url, "--streams", "4", "--no-parameters")
        status, _, err = do("evidence", *CREATE, *few, "--log", "1.jsonl", "-o", "log/1.zip")
        assert status == 0, err
        assert len(server.requests) == 14
        more = ("--log", "2.jsonl", "--previous", "log/1.zip", "-o", "log/2.zip")
        assert do("evidence", *CREATE, *few, *more)[0] == 1
    status, out, _ = do("evidence", "log", "log", "--keys", "keys")
    assert status == 1
    assert f"audit of {server.url}/chat/completions: consistent with {R1} -> inconsistent" in out
    assert "verdict: pass -> fail" in out


def test_the_tokenizer_goes_in_with_files(do: Do, honest: PersonaServer) -> None:
    asked = ("--endpoint", honest.url, "--streams", "2", "--no-parameters", "--quiet")
    status, _, err = do("evidence", *CREATE, *asked, "--include", "files", "-o", "files.zip")
    assert status == 0, err
    members = read_archive(Path("files.zip").read_bytes(), subject="b")
    assert "evidence/data/endpoint/00/tokenizer.json" in members


def test_a_policy_is_applied_to_an_audit_by_itself(do: Do, honest: PersonaServer) -> None:
    Path("policy.toml").write_text(POLICY.replace("URL", honest.url))
    audit = ("endpoint", "audit", honest.url, *FEW, "--policy", "policy.toml")
    status, _, _ = do(*audit, "-o", "a.txt")
    assert status == 0, Path("a.txt").read_text()
    strict = POLICY.replace("URL", honest.url).replace('"tokenizer", ', '"context", ')
    Path("policy.toml").write_text(strict)
    status, _, _ = do(*audit, "--log", "b.jsonl", "-o", "b.txt")
    assert status == 1
    text = Path("b.txt").read_text()
    assert "R1P955 error endpoint-tests" in text
    assert text.startswith("CONSISTENT")
    Path("none.toml").write_text(POLICY.split("[endpoint]")[0])
    status, _, err = do("endpoint", "audit", honest.url, "--policy", "none.toml")
    assert status == 4
    assert "no table [endpoint]" in err


def test_keys_that_are_not_there(do: Do) -> None:
    call("key", "generate", "spare.key", "--no-passphrase")
    status, _, err = do("evidence", *CREATE, "--endpoint", "http://127.0.0.1:9/v1", "-o", "x.zip")
    assert status != 0
    assert "127.0.0.1:9" in err


def test_code_of_a_data_set_runs_again_only_where_that_is_allowed(
    do: Do, honest: PersonaServer, bubblewrap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its questions are kept beside the log and in the bundle: a data set may change."""
    from datasets import Dataset

    monkeypatch.setenv("PATH", str(bubblewrap.parent), prepend=os.pathsep)
    sandbox.cache_clear()
    Path("sets").mkdir()
    columns = {"text": ["Double a number."], "test": [["assert double(2) == 4"]]}
    Dataset.from_dict(columns).to_parquet("sets/test.parquet")
    name = "dataset:sets?split=test&prompt=text&expected=test&scorer=code"
    asked = ("--endpoint", honest.url, "--streams", "4", "--questions", name)
    more = ("--question-tokens", "200", "--log", "a.jsonl", "-o", "code.zip")
    status, _, err = do("evidence", *CREATE, *asked, *more)
    assert status == 0, err
    shutil.rmtree("sets")
    kept = Path("a.jsonl.questions.jsonl").read_bytes()
    assert json.loads(kept)["scorer"] == "code"
    members = read_archive(Path("code.zip").read_bytes(), subject="b")
    assert members["evidence/data/endpoint/00/questions.jsonl"] == kept
    assert json.loads(members["evidence/data/endpoint/00/plan.json"])["source"].startswith(
        "dataset:"
    )
    verify = ("evidence", "verify", "code.zip", "--keys", "keys")
    status, out, _ = do(*verify)
    assert status == 3
    assert "--run-code" in out
    status, out, _ = do(*verify, "--run-code")
    assert status == 0, out
    again = ("--endpoint-log", "a.jsonl", "-o", "again.zip")
    assert do("evidence", *CREATE, *again)[0] == 0
    # Without a sandbox nothing is run, allowed or not, and nothing is held against the bundle.
    monkeypatch.setenv("PATH", "/nowhere")
    sandbox.cache_clear()
    status, out, _ = do(*verify, "--run-code")
    assert status == 3
    assert "bubblewrap" in out
    sandbox.cache_clear()
