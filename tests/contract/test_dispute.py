"""Annex B as it stands: every command is run, by parties that have nothing but what they were given."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from contract_kit import filled
from evidence_case import MINILM, NAMES, ROOT
from parties import Parties, placeholders, steps
from persona_server import KEY
from relay import KnowingSpeaker
from tsa_server import Tsa, serving, stamping

NAME = "all-MiniLM-L6-v2"
MANIFEST = ROOT / "manifests" / f"{NAME}.toml"
PROMPTS = ("Name a colour.", "What do cats like?", "Is the earth round?", "Count to three.")
ANNEXES = ("acceptance-weights.toml", "acceptance-service.toml")


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
    from persona_server import serve
    from personas import PERSONAS

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
                if name == ANNEXES[0]:
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


@pytest.fixture
def again(parties: Parties, tmp_path: Path) -> Callable[[str], Parties]:
    """The same parties at this point, with weights that may be changed."""

    def copy(name: str) -> Parties:
        home = tmp_path / name
        shutil.copytree(parties.home, home, ignore=shutil.ignore_patterns("config"))
        values = parties.values | {"MODEL": str(home / "weights")}
        return Parties(home, values, parties.stack)

    return copy


def flip_one_bit(model: Path) -> None:
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))


def test_all_is_well(parties: Parties, capsys: pytest.CaptureFixture[str]) -> None:
    parties.walk("B.2", "B.3", "B.4")
    assert len(parties.ran) > 30
    for step in steps():
        if step.line and step.status is not None:
            found = [status for _, line, status in parties.ran if line == step.line]
            assert set(found) == {step.status}, step.line
    for section, line, status in parties.ran:
        assert status in (0, 3), (section, line, capsys.readouterr().err)
