"""Annex B as it stands: every command is run, by parties that have only what they were given."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from contract_kit import criteria, filled
from evidence_case import MINILM, NAMES, ROOT
from parties import Parties, placeholders, steps
from persona_server import KEY, serve
from personas import PERSONAS
from relay import KnowingSpeaker
from tsa_server import Tsa, serving, stamping

from r1prov.cli.app import run

NAME = "all-MiniLM-L6-v2"
MANIFEST = ROOT / "manifests" / f"{NAME}.toml"
PROMPTS = ("Name a colour.", "What do cats like?", "Is the earth round?", "Count to three.")
ANNEXES = ("acceptance-weights.toml", "acceptance-service.toml", "acceptance-endpoint.toml")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def subject(api: str) -> dict[str, str | None]:
    """What the parties fill in: the real weights at hand instead of DeepSeek-R1's 688 GB."""
    digest = hashlib.sha256(MANIFEST.read_bytes()).hexdigest()
    return {
        "name": f'"{NAME}"',
        "manifest": f'"{NAME}"',
        "manifest_sha256": f'"{digest}"',
        "variant": '"other"',
        "commit_proof": None,
        "manifest@2": f'"sha256:{digest}"',
        "origins": f'["{api}"]',
        "origin": f'"{api}"',
        "valid_from": "2026-11-01T00:00:00Z",
        "valid_until": "2030-11-01T00:00:00Z",
    }


@pytest.fixture(scope="module")
def parties(
    tmp_path_factory: pytest.TempPathFactory, authority: Any, tokenizers: Any
) -> Iterator[Parties]:
    """Parties that have signed: keys are pinned, policies filled in, the weights delivered."""
    assert MINILM.exists(), "run `make test`, which fetches the model"
    home = tmp_path_factory.mktemp("contract")
    root = authority.root("time root")
    tsa = Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        served = stack.enter_context(serve(PERSONAS["honest-r1"], tokenizers=tokenizers))
        served.speakers = [KnowingSpeaker(one.persona, one.tokenizers) for one in served.speakers]
        address, _ = stack.enter_context(serving(tsa))
        port = free_port()
        shutil.copytree(MINILM, home / "weights")
        values = {
            "NAME": NAME,
            "SCOPE": "*",
            "MODEL": str(home / "weights"),
            "TSA": f"{address}/tsr",
            "API": f"http://127.0.0.1:{port}/v1",
            "UPSTREAM": served.url.removesuffix("/v1"),
            "LISTEN": f"127.0.0.1:{port}",
            "REFERENCE": served.url,
        }
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("R1PROV_KEY_PASSPHRASE", "known to its owner")
        patch.setenv("API_KEY", KEY)
        for name in NAMES:
            patch.delenv(f"R1PROV_{name}", raising=False)
        patch.chdir(home)
        found = Parties(home, values, stack)
        assert placeholders() == set(values)
        for who in ("Supplier", "Buyer"):
            for name in ANNEXES:
                fill = subject(f"http://127.0.0.1:{port}")
                if name != ANNEXES[1]:
                    fill = {k: v for k, v in fill.items() if k in FOR_WEIGHTS}
                (found.folder(who) / name).write_text(filled(name, fill))
        buyer = found.folder("Buyer")
        shutil.copy(ROOT / "keys/r1prov-release-2026.pub", buyer)
        (buyer / "tsa.pem").write_bytes(root.pem)
        question = {"role": "user", "content": "What is 17 times 23?"}
        (buyer / "ask.json").write_text(
            json.dumps({"model": "deepseek-r1", "messages": [question]})
        )
        (buyer / "prompts.txt").write_text("\n".join(PROMPTS))
        (buyer / "questions.jsonl").write_text(questions())
        found.walk("B.1")
        yield found


FOR_WEIGHTS = {"name", "manifest", "manifest_sha256", "variant", "commit_proof"}


def questions() -> str:
    asked = [(17 + n, 23 + 2 * n) for n in range(30)]
    rows = [
        {"prompt": f"What is {a} times {b}?", "expected": str(a * b), "scorer": "numeric"}
        for a, b in asked
    ]
    return "\n".join(map(json.dumps, rows))


@pytest.fixture(scope="module")
def walked(parties: Parties) -> Parties:
    """Everything was done once, and nothing was wrong."""
    parties.walk("B.2", "B.3.1", "B.3.2", "B.3.3", "B.3.4", "B.4")
    return parties


@pytest.fixture
def again(parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parties:
    """The same parties when they have signed, with weights that may be changed."""
    home = tmp_path / "again"
    home.mkdir()
    for who in ("Supplier", "Buyer"):
        (home / who).mkdir()
        for one in (parties.home / who).iterdir():
            if one.name == "pinned":
                shutil.copytree(one, home / who / one.name)
            elif one.name.endswith((".key", ".pub", ".toml", ".pem", ".sha256")):
                shutil.copy(one, home / who)
    shutil.copytree(MINILM, home / "weights")
    values = parties.values | {"MODEL": str(home / "weights")}
    monkeypatch.chdir(home)
    return Parties(home, values, parties.stack)


def flip_one_bit(model: Path) -> None:
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))


def test_all_is_well(walked: Parties) -> None:
    assert len(walked.ran) > 30
    for step in steps():
        if step.line and step.section != "B.3.5":  # test_criteria_of_audits.py
            found = {status for _, line, status in walked.ran if line == step.line}
            assert found == {step.status or 0}, step.line


def test_the_expert_has_nothing_but_what_was_handed_over(walked: Parties) -> None:
    handed = {Path(name).name for one in steps() if one.to == "Expert" for name in one.files}
    made = {"accepted.html"}  # by the Expert: the document for the arbitrators
    assert {one.name for one in walked.folder("Expert").iterdir()} - made == handed
    text = (walked.folder("Expert") / "accepted.html").read_text()
    assert html.unescape(text).index("通过") < text.index("h-facts")
    assert not any(name.endswith(".key") for name in handed)


def test_one_bit_is_refused_at_delivery(again: Parties, capsys: pytest.CaptureFixture[str]) -> None:
    """The Supplier's own bundle is good, and the weights that arrive are others."""
    again.walk("B.2.1")
    flip_one_bit(again.home / "weights")
    capsys.readouterr()
    again.walk("B.2.2")
    out, err = capsys.readouterr()
    assert again.statuses("B.2.2") == [1, 1]
    assert "error R1P985 evidence-model: model.safetensors" in out
    assert "error R1P004 file-digest: model.safetensors" in out
    assert "R1P004 model.safetensors: the content is not what the manifest says" in err
    assert "fail: against all-MiniLM-L6-v2" in err
    assert "whoever trusts as you do" not in err  # the authority of time is pinned
    # The rejection is evidence: the Supplier verifies it, and sees the same criterion.
    bundle = again.folder("Supplier") / "accepted.zip"
    assert run(["evidence", "verify", str(bundle), "--keys", "../Buyer/pinned"]) == 1
    assert "R1P004" in capsys.readouterr().out


def test_one_bit_is_found_after_acceptance(
    again: Parties, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was accepted is served otherwise later: monitoring sees it, the Expert proves it."""
    again.walk("B.2")
    assert set(again.statuses("B.2.2")) == {0}
    flip_one_bit(again.home / "weights")
    again.walk("B.3.1")
    assert again.statuses("B.3.1") == [1, 1]
    again.walk("B.4.3")
    assert again.statuses("B.4.3") == [0, 0, 0, 1]
    capsys.readouterr()
    again.walk("B.4.4")
    assert again.statuses("B.4.4") == [1]
    errors = re.findall(r"^error (R1P\d{3}) \S+ (\S+):", capsys.readouterr().out, re.MULTILINE)
    assert errors == [("R1P004", "model.safetensors"), ("R1P985", "model.safetensors")]


def test_annexes_that_were_exchanged_and_openings_that_do_not_fit(
    walked: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expert = tmp_path / "Expert"
    shutil.copytree(walked.folder("Expert"), expert)
    monkeypatch.chdir(expert)
    check = next(one.line for one in steps() if one.line.startswith("sha256sum --check"))
    assert walked.execute(check) == 0
    policy = expert / "acceptance-weights.toml"
    policy.write_text(policy.read_text().replace('"refuse"', '"allow"', 1))
    assert walked.execute(check) == 1
    opened = [one.line for one in steps() if "--openings openings.jsonl" in one.line]
    row, *others = (expert / "openings.jsonl").read_text().splitlines()
    changed = json.loads(row) | {"value": "Zm9yZ2Vk"}
    (expert / "openings.jsonl").write_text("\n".join([json.dumps(changed), *others]) + "\n")
    assert [walked.execute(line) for line in opened] == [4]


class OtherWords(KnowingSpeaker):
    """Computes as it should, and says something else otherwise."""

    def say(self, prompt: str, tokens: int | None) -> tuple[str, str, bool]:
        thought, answer, cut = super().say(prompt, tokens)
        return (thought, answer, cut) if "times" in prompt else super().say(f"Not {prompt}", tokens)


class WrongProducts(KnowingSpeaker):
    """Speaks as it should, and cannot compute."""

    def say(self, prompt: str, tokens: int | None) -> tuple[str, str, bool]:
        thought, answer, cut = super().say(prompt, tokens)
        return thought, re.sub(r"is (\d+)\.$", r"is 1\1.", answer), cut


# Criterion and rule, to the persona that answers, how it speaks, and the requests that are agreed.
BREACHES: dict[tuple[str, str], tuple[str, type[KnowingSpeaker], str]] = {
    ("B-1", "R1P914"): ("distill-qwen", KnowingSpeaker, "5000"),
    ("B-2", "R1P940"): ("honest-r1", OtherWords, "5000"),
    ("B-3", "R1P942"): ("honest-r1", WrongProducts, "5000"),
    ("B-4", "R1P944"): ("honest-r1", KnowingSpeaker, "12"),
}


def test_every_criterion_of_behaviour_can_be_breached() -> None:
    named = {(one.number, rule) for one in criteria() if one.number[0] == "B" for rule in one.rules}
    assert set(BREACHES) == named


@pytest.mark.parametrize(("number", "rule"), BREACHES, ids=list(map("-".join, BREACHES)))
def test_a_breach_is_named(
    walked: Parties,
    tokenizers: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
    rule: str,
) -> None:
    """The audit of B.3.4 on an endpoint that breaches one criterion, and on no proxy."""
    name, speaker, requests = BREACHES[number, rule]
    (row,) = (one for one in criteria() if one.number == number)
    (audit,) = (one for one in steps() if "endpoint audit" in one.line)
    for file in walked.folder("Buyer").glob("*"):
        if file.name.startswith(("reference.json", "questions", "pinned")):
            (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    with serve(PERSONAS[name], tokenizers=tokenizers) as served:
        served.speakers = [speaker(one.persona, one.tokenizers) for one in served.speakers]
        values = walked.values | {"API": served.url}
        line = audit.line.replace("--format html -o audit.html", "--format json -o audit.json -q")
        line = line.replace("--max-requests 5000", f"--max-requests {requests}")
        assert Parties(tmp_path, values, walked.stack).execute(line) == row.status
    report = json.loads(Path("audit.json").read_text())
    found = [*report["findings"], *(f for one in report["results"] for f in one["findings"])]
    errors = {one["rule"] for one in found if one["severity"] == "error"}
    assert rule in {one["rule"] for one in found}
    assert errors <= {rule}
