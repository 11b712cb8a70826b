"""Each criterion W of Annex A is breached by a delivery that has nothing else wrong."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from contract_kit import criteria, filled
from evidence_case import MINILM, ROOT, Case, call, case
from hub_server import running_hub

from r1prov.cli.app import run

__all__ = ["case"]

RELEASE = str(ROOT / "keys/r1prov-release-2026.pub")
POLICY = "acceptance-weights.toml"
CREATE = ("--acceptance", POLICY, "--keys", "keys", "--key", "maker.key", "-o", "accepted.zip")


@dataclass
class Delivery:
    """A model, its manifest and the keys of a contract about `m`, to be spoilt.

    Attributes:
        folder: Where all of it lies.
        fill: What the parties filled in otherwise than the model needs.
        level: Arguments of `r1prov verify`; None runs `r1prov evidence create --acceptance`.
    """

    folder: Path
    manifest: str = "m.toml"
    model: str = "model"
    fill: dict[str, str | None] = field(default_factory=dict)
    verify: tuple[str, ...] | None = None

    def path(self, name: str) -> Path:
        return self.folder / "model" / name

    def sign(self, *changes: tuple[str, str], key: str = "k.key", create: bool = False) -> None:
        """Change the manifest, or make it anew from the model, and have a key sign it."""
        path = self.folder / "m.toml"
        for bundle in self.folder.glob("m.toml.*"):
            bundle.unlink()
        if create:
            path.unlink()
            call("manifest", "create", "model", "--name", "m", "-o", "m.toml")
        text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        call("manifest", "sign", "m.toml", "--key", key)

    def accept(self, pinned: str | None = None) -> tuple[int, dict[str, Any]]:
        """Run the acceptance; exit status and the report."""
        digest = pinned or hashlib.sha256((self.folder / self.manifest).read_bytes()).hexdigest()
        values: dict[str, str | None] = {
            "name": '"m"',
            "manifest": f'"{self.manifest}"',
            "manifest_sha256": f'"{digest}"',
            "signers": f'["{key_id("k")}"]',
            "variant": '"other"',
            "commit_proof": None,
        }
        values = {k: v for k, v in {**values, **self.fill}.items() if v != "as shipped"}
        Path(POLICY).write_text(filled(POLICY, values))
        if self.verify is None:
            Path("accepted.zip").unlink(missing_ok=True)
            status = run(["evidence", "create", self.model, "-m", self.manifest, *CREATE, "-q"])
            with zipfile.ZipFile("accepted.zip") as bundle:
                report = json.loads(bundle.read("evidence/data/report/report.json"))
            # The other side, with the same policy of its own and nothing but the bundle.
            again = [
                "evidence",
                "verify",
                "accepted.zip",
                "--keys",
                "keys",
                "--policy",
                POLICY,
                "-q",
            ]
            assert run(again) == status
            return status, report
        arguments = ["--policy", POLICY, "--keys", "keys", "--format", "json", "-o", "report.json"]
        status = run(["verify", self.model, "-m", self.manifest, *self.verify, *arguments, "-q"])
        return status, json.loads(Path("report.json").read_text())


def key_id(name: str) -> str:
    entries = Path("keys/trust.toml").read_text().split("[[keys]]")
    entry = next(one for one in entries if f'owner = "{name}"' in one)
    return entry.partition('id = "')[2].partition('"')[0]


@pytest.fixture
def delivery(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Delivery:
    for name in ("model", "keys"):
        shutil.copytree(case.folder / name, tmp_path / name)
    for file in case.folder.glob("*"):
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return Delivery(tmp_path)


BREACHES: dict[tuple[str, str], Callable[[Delivery], None]] = {}


def breach(number: str, rule: str) -> Callable[[Callable[[Delivery], None]], None]:
    def add(function: Callable[[Delivery], None]) -> None:
        BREACHES[number, rule] = function

    return add


@breach("W-1", "R1P701")
def _(one: Delivery) -> None:
    """Another model than the one in the contract, properly signed."""
    shutil.copy("m.toml", "m-distill.toml")
    text = Path("m-distill.toml").read_text()
    Path("m-distill.toml").write_text(text.replace('name = "m"', 'name = "m-distill"'))
    call("manifest", "sign", "m-distill.toml", "--key", "k.key")
    one.manifest = "m-distill.toml"


@breach("W-2", "R1P702")
def _(one: Delivery) -> None:
    """A later manifest of the same model by the same signer."""
    pinned = hashlib.sha256(Path("m.toml").read_bytes()).hexdigest()
    one.sign(('license = "unknown"', 'license = "mit"'))
    one.fill["manifest_sha256"] = f'"{pinned}"'


@breach("W-3", "R1P703")
def _(one: Delivery) -> None:
    """Signed by somebody who is trusted and not named."""
    one.sign(key="maker.key")


@breach("W-3", "R1P302")
def _(one: Delivery) -> None:
    """The signature of another manifest."""
    (bundle,) = one.folder.glob("m.toml.*")
    kept = bundle.read_bytes()
    one.sign(('license = "unknown"', 'license = "mit"'))
    bundle.write_bytes(kept)


@breach("W-3", "R1P306")
def _(one: Delivery) -> None:
    """The key of the signer was revoked."""
    call("key", "revoke", key_id("k"), "--reason", "lost", "--keys", "keys")


@breach("W-4", "R1P705")
def _(one: Delivery) -> None:
    """Not the full model, under a policy that asks for it as shipped."""
    one.fill["variant"] = "as shipped"


@breach("W-5", "R1P706")
def _(one: Delivery) -> None:
    """No commit of the Hub, under a policy that asks for it as shipped."""
    one.fill["commit_proof"] = "as shipped"


@breach("W-6", "R1P704")
def _(one: Delivery) -> None:
    one.verify = ("--level", "structure")


@breach("W-7", "R1P704")
def _(one: Delivery) -> None:
    one.verify = ("--scope", "weights")


@breach("W-9", "incomplete")
def _(one: Delivery) -> None:
    """A manifest without the digest of one small file."""
    digest = hashlib.sha256(b"{}").hexdigest()
    one.sign((f'sha256 = "{digest}"\n', ""))


@breach("W-10", "R1P501")
def _(one: Delivery) -> None:
    """A pickle, which the supplier signed with the rest."""
    import pickle

    one.path("scheduler.pkl").write_bytes(pickle.dumps({"a": 1}))
    one.sign(create=True)


@breach("W-11", "R1P001")
def _(one: Delivery) -> None:
    one.path("tokenizer_config.json").unlink()


@breach("W-11", "R1P002")
def _(one: Delivery) -> None:
    one.path("NOTES.md").write_text("ours")


@breach("W-12", "R1P003")
def _(one: Delivery) -> None:
    one.path("tokenizer_config.json").write_text("{} ")


@breach("W-12", "R1P004")
def _(one: Delivery) -> None:
    """One bit of the weights."""
    with one.path("model.safetensors").open("r+b") as file:
        file.seek(-100, 2)
        byte = file.read(1)[0]
        file.seek(-100, 2)
        file.write(bytes([byte ^ 1]))


@breach("W-13", "R1P404")
def _(one: Delivery) -> None:
    """A manifest that states other tensors than its own files have, signed by the supplier."""
    text = Path("m.toml").read_text()
    stated = text.partition('inventory_sha256 = "')[2].partition('"')[0]
    one.sign((stated, hashlib.sha256(b"of another model").hexdigest()))


@breach("W-13", "R1P405")
def _(one: Delivery) -> None:
    """The config of a deeper model over these weights, signed by the supplier."""
    config = json.loads(one.path("config.json").read_text()) | {"num_hidden_layers": 2}
    raw = json.dumps(config).encode()
    old = one.path("config.json").read_bytes()
    one.path("config.json").write_bytes(raw)
    digests = [hashlib.sha256(each).hexdigest() for each in (old, raw)]
    one.sign((digests[0], digests[1]), (f"size = {len(old)}\n", f"size = {len(raw)}\n"))


@breach("W-11", "R1P502")
def _(one: Delivery) -> None:
    one.path("modeling_m.py").write_text("import os")


@breach("W-11", "R1P504")
def _(one: Delivery) -> None:
    """A file of the model that lies elsewhere."""
    shutil.move(one.path("tokenizer_config.json"), one.folder / "elsewhere.json")
    one.path("tokenizer_config.json").symlink_to(one.folder / "elsewhere.json")


def test_every_criterion_of_weights_can_be_breached() -> None:
    named = {
        (one.number, rule)
        for one in criteria()
        if one.number.startswith("W-")
        for rule in one.rules or ("incomplete",)
    }
    assert {*BREACHES, ("W-8", "incomplete")} == named


def test_a_delivery_as_agreed_is_accepted(delivery: Delivery) -> None:
    status, report = delivery.accept()
    assert (status, report["verdict"]) == (0, "pass")
    delivery.verify = ()
    assert delivery.accept()[0] == 0


@pytest.mark.parametrize(("number", "rule"), BREACHES, ids=list(map("-".join, BREACHES)))
def test_a_breach_is_named(delivery: Delivery, number: str, rule: str) -> None:
    BREACHES[number, rule](delivery)
    status, report = delivery.accept()
    (row,) = (one for one in criteria() if one.number == number)
    assert status == row.status
    errors = {one["rule"] for one in report["findings"] if one["severity"] == "error"}
    if rule == "incomplete":
        assert (report["verdict"], errors) == ("incomplete", set())
    else:
        # What else is wrong is a breach of the same criterion.
        assert rule in errors
        assert errors <= set(row.rules), errors


def test_as_many_signers_as_agreed(delivery: Delivery) -> None:
    """W-3: two are named, both have to have signed, and one did."""
    delivery.fill |= {"signers": f'["{key_id("k")}", "{key_id("maker")}"]', "threshold": "2"}
    status, report = delivery.accept()
    assert (status, {one["rule"] for one in report["findings"]}) == (1, {"R1P703"})
    call("manifest", "sign", "m.toml", "--key", "maker.key")
    assert delivery.accept()[0] == 0


def test_digests_of_others_or_of_before_are_not_enough(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W-8: those that a Hub states, and those that were computed in an earlier run."""
    (row,) = (one for one in criteria() if one.number == "W-8")
    with running_hub(delivery.folder / "hub") as hub:
        hub.add("org/m", delivery.folder / "model")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(delivery.folder / "hf"))
        delivery.model = "hf://org/m"
        status, report = delivery.accept()
        assert (status, report["verdict"]) == (row.status, "incomplete")
        delivery.verify = ("--read-all",)
        assert delivery.accept()[0] == 0
    # A file that was just written is not taken from a cache, so this is one that was not.
    delivery.model, delivery.manifest = str(MINILM), str(ROOT / "manifests/all-MiniLM-L6-v2.toml")
    delivery.fill |= {"name": '"all-MiniLM-L6-v2"', "manifest": '"all-MiniLM-L6-v2"'}
    delivery.fill |= {"signers": "as shipped"}
    call("key", "add", RELEASE, "--owner", "r1prov project", "--model", "all-*", "--keys", "keys")
    delivery.verify = ("--cache-file", "digests.cache")
    assert delivery.accept()[0] == 0
    status, report = delivery.accept()
    assert (status, report["verdict"]) == (row.status, "incomplete")
