"""Each criterion P of Annex A is breached by an audit that has nothing else wrong; B.3.5 is run."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from contract_kit import KIT, criteria, filled, page
from evidence_case import NAMES, Case, call
from parties import Parties, steps
from persona_server import KEY, serve
from personas import PERSONAS
from relay import KnowingSpeaker
from tsa_server import Tsa, serving, stamping

from r1prov.cli.app import run
from r1prov.endpoints.acceptance import read_endpoint_criteria
from r1prov.endpoints.audit_files import load_audit
from r1prov.evidence.verify import Demands, verify_evidence
from r1prov.trust.keys import PrivateKey, parse_private_key
from r1prov.verify.local import load_authorities

R1 = "DeepSeek-R1"
# As small as an audit can be that comes to a result.
FEW = ("--streams", "2", "--stream-tokens", "200", "--no-parameters")
POLICY = "acceptance-endpoint.toml"
PROMPTS = ("Name a colour.", "What do cats like?", "Is the earth round?", "Count to three.")
FILES = ("--reference", "reference.json", "--questions", "questions.jsonl")


class Forgetful(KnowingSpeaker):
    """Computes as it should, but for products of these numbers."""

    forgets: tuple[str, ...] = ("What is 1",)

    def say(self, prompt: str, tokens: int | None) -> tuple[str, str, bool]:
        thought, answer, cut = super().say(prompt, tokens)
        return thought, "I forgot." if prompt.startswith(self.forgets) else answer, cut


class VeryForgetful(Forgetful):
    """Has forgotten more than when the reference was recorded."""

    forgets = ("What is 1", "What is 2")


@dataclass
class Audited:
    """A model of R1's name, the service that runs it, audited, and the keys of the contract.

    Attributes:
        case: The model and keys.
        url: Of the service.
        signer: Id of the key that signed the reference.
        fill: What the parties filled in otherwise than the audit meets.
        values: What the placeholders of Annex B stand for.
        maker: The key of whoever makes bundles.
    """

    case: Case
    url: str
    signer: str
    values: dict[str, str]
    maker: PrivateKey
    fill: dict[str, str | None] = field(default_factory=dict)

    def write_policy(self) -> None:
        digest = hashlib.sha256(Path("m.toml").read_bytes()).hexdigest()
        values: dict[str, str | None] = {
            "manifest_sha256": f'"{digest}"',
            "signers": f'["{key_id("k")}"]',
            "variant": '"other"',
            "commit_proof": None,
            "urls": f'["{self.url}"]',
            "reference_signers": f'["{self.signer}"]',
            "min_samples": "{ completions = 40, questions = 30 }",
        }
        Path(POLICY).write_text(filled(POLICY, values | self.fill))

    def judge(self, bundle: str) -> tuple[int, set[str]]:
        """Exit status and errors of whoever verifies a bundle by the policy of the contract."""
        self.write_policy()
        verify = ["evidence", "verify", bundle, "--keys", "pinned", "--policy", POLICY]
        status = run([*verify, "--format", "json", "-o", "result.json", "-q"])
        found = json.loads(Path("result.json").read_text())["findings"]
        return status, {one["rule"] for one in found if one["severity"] == "error"}


def key_id(owner: str) -> str:
    entries = Path("pinned/trust.toml").read_text().split("[[keys]]")
    entry = next(one for one in entries if f'owner = "{owner}"' in one)
    return entry.partition('id = "')[2].partition('"')[0]


@pytest.fixture(scope="module")
def honest(
    tokenizers: Any, authority: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Audited]:
    """A service that was audited once, and once more when it had forgotten something."""
    folder = tmp_path_factory.mktemp("audited")
    root = authority.root("time root")
    tsa = Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("API_KEY", KEY)
        for name in NAMES:
            patch.delenv(f"R1PROV_{name}", raising=False)
        patch.chdir(folder)
        # Its model is of R1's name and no other.
        patch.setenv("R1PROV_MANIFEST", str(folder / "m.toml"))
        case = Case(folder, R1)
        Path("keys").rename("pinned")
        Path("maker.key").rename("buyer.key")
        Path("tsa.pem").write_bytes(root.pem)
        stamps = ("--timestamp-authority", "--owner", "time", "--keys", "pinned")
        call("key", "add", "tsa.pem", *stamps)
        Path("prompts.txt").write_text("\n".join(PROMPTS))
        Path("questions.jsonl").write_text(questions())
        served = stack.enter_context(serve(PERSONAS["honest-r1"], tokenizers=tokenizers))
        address, _ = stack.enter_context(serving(tsa))
        values = {"MODEL": str(case.model), "TSA": f"{address}/tsr", "API": served.url}
        asked = ("--questions", "questions.jsonl", "--key-env", "API_KEY", "--quiet")
        record = ("--out", "reference.json", "--prompts", "prompts.txt", "--samples", "10")
        create = ("evidence", "create", "model", "--keys", "pinned", "--key", "buyer.key", "-q")

        def speak(persona: str, speaker: type[KnowingSpeaker]) -> None:
            served.speakers = [speaker(PERSONAS[persona], tokenizers)]

        def audit(name: str, *more: str, status: int = 0) -> None:
            options = (*asked, "--keys", "pinned", "-o", "audit.txt", *FEW, *more)
            log = f"{name}.jsonl"
            command = ("endpoint", "audit", served.url, "--reference", "reference.json")
            call(*command, *options, "--log", log, status=status)
            bundle = (*FILES, "--endpoint-log", log, "-o", f"{name}.zip")
            call(*create, *bundle, status=status)

        speak("honest-r1", Forgetful)
        call("endpoint", "record", served.url, *record, "--key", "buyer.key", *asked)
        call(*create, "-o", "none.zip")
        audit("honest")
        audit("lax", "--alpha", "0.2")
        speak("honest-r1", VeryForgetful)
        audit("forgetful", "--drop", "0.5")
        speak("v3.1", Forgetful)
        audit("undecided", status=3)
        speak("honest-r1", Forgetful)
        yield Audited(
            case,
            served.url,
            key_id("maker"),
            values,
            parse_private_key(Path("buyer.key").read_bytes(), None, subject="buyer"),
        )
    shutil.rmtree(folder, ignore_errors=True)


def questions() -> str:
    asked = [(17 + n, 23 + 2 * n) for n in range(30)]
    rows = [
        {"prompt": f"What is {a} times {b}?", "expected": str(a * b), "scorer": "numeric"}
        for a, b in asked
    ]
    return "\n".join(map(json.dumps, rows))


@pytest.fixture
def audited(honest: Audited) -> Audited:
    return replace(honest, fill={})


# Criterion and rule, to a bundle, and what the parties filled in otherwise.
BREACHES: dict[tuple[str, str], tuple[str, dict[str, str | None]]] = {
    ("P-1", "R1P950"): ("none.zip", {}),
    ("P-2", "R1P951"): ("honest.zip", {"urls": '["https://api.example.com/v1"]'}),
    ("P-3", "R1P952"): ("honest.zip", {"claim": '"DeepSeek-V3"'}),
    ("P-4", "R1P953"): ("undecided.zip", {}),
    ("P-5", "R1P954"): ("lax.zip", {}),
    ("P-6", "R1P955"): ("honest.zip", {"tests": '["tokenizer", "context"]'}),
    ("P-7", "R1P956"): ("honest.zip", {"min_samples": "{ completions = 480, questions = 30 }"}),
    ("P-8", "R1P957"): ("honest.zip", {"min_accuracy": "0.95"}),
    ("P-9", "R1P958"): ("forgetful.zip", {"min_accuracy": "0.1"}),
    ("P-11", "R1P961"): ("honest.zip", {"reference_signers": f'["{"0" * 64}"]'}),
}


def test_every_criterion_of_audits_can_be_breached() -> None:
    named = {(one.number, rule) for one in criteria() if one.number[0] == "P" for rule in one.rules}
    assert {*BREACHES, ("P-10", "R1P960")} == named


def test_a_service_as_agreed_is_accepted(audited: Audited) -> None:
    assert audited.judge("honest.zip") == (0, set())


@pytest.mark.parametrize(("number", "rule"), BREACHES, ids=list(map("-".join, BREACHES)))
def test_a_breach_is_named(audited: Audited, number: str, rule: str) -> None:
    bundle, audited.fill = BREACHES[number, rule]
    (row,) = (one for one in criteria() if one.number == number)
    assert audited.judge(bundle) == (row.status, {rule})


def below(questions: int, share: float, drop: float) -> float:
    """Probability that the second of two services alike has more than `drop` fewer right."""
    right = [
        math.comb(questions, n) * share**n * (1 - share) ** (questions - n)
        for n in range(questions + 1)
    ]
    at_most = [0.0, *itertools.accumulate(right)]
    # As exact numbers: 0.1 of 200 questions are 20, and 20 are not more.
    least = math.floor(Fraction(str(drop)) * questions) + 1
    return sum(one * at_most[n - least + 1] for n, one in enumerate(right) if n >= least)


def test_the_rates_of_honest_services_that_fall_short() -> None:
    """C-16, and that the policy's own thresholds are those of its first figure."""
    (row,) = (one for one in page("limits").splitlines() if one.startswith("| C-16"))
    kit = tomllib.loads((KIT / POLICY).read_text())["endpoint"]
    assert (kit["min_samples"]["questions"], kit["max_drop"]) == (200, 0.1)
    shares = [n / 100 for n in range(5, 100, 5)]
    for questions, drop, stated in ((200, 0.1, "2.1 %"), (30, 0.05, "35 %")):
        assert stated in row
        worst = 100 * max(below(questions, one, drop) for one in shares)
        said = float(stated.split()[0])
        assert 0.93 * said < worst <= said, worst


def test_an_audit_that_is_too_old(audited: Audited) -> None:
    """P-10: the bundle was made more than seven days after its last answer."""
    audited.write_policy()
    files = load_audit(
        Path("honest.jsonl"), reference=Path("reference.json"), questions=Path("questions.jsonl")
    )
    for days, wanted in ((6, set()), (8, {"R1P960"})):
        later = datetime.now(UTC) + timedelta(days=days)
        draft = audited.case.draft(now=later, endpoints=lambda: [files], keys=Path("pinned"))
        raw = draft.archive(draft.signature(audited.maker))
        demands = Demands(endpoint=read_endpoint_criteria(Path(POLICY)))
        result = verify_evidence(raw, load_authorities(Path("pinned")), now=later, demands=demands)
        assert {one.rule.id for one in result.findings if one.severity.value == "error"} == wanted


def test_one_command_accepts_weights_and_service(audited: Audited, tmp_path: Path) -> None:
    """B.3.5 as it stands."""
    audited.write_policy()
    lines = [one for one in steps() if one.section == "B.3.5"]
    assert len(lines) == 2
    with ExitStack() as stack:
        parties = Parties(tmp_path, audited.values, stack)
        assert [parties.execute(one.line) for one in lines] == [one.status for one in lines]
