"""A small model under a signed manifest, its report, and signed statements about it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from r1prov.attest.create import create_attestation, sign_statement
from r1prov.attest.names import Kind
from r1prov.attest.verify import AttestationResult, verify_attestation
from r1prov.cli.app import run
from r1prov.family.skeleton import write_skeleton
from r1prov.manifest.emit import emit_manifest
from r1prov.manifest.schema import Manifest, parse_manifest
from r1prov.manifest.shelf import load_manifest
from r1prov.stores.local import LocalStore
from r1prov.trust.keys import PrivateKey, generate_private_key
from r1prov.trust.store import TrustedKey, TrustStore
from r1prov.verify.findings import Report
from r1prov.verify.local import verify_path

CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 256,
}


@cache
def _key(number: int) -> PrivateKey:
    return generate_private_key("ecdsa-p256")


def key(number: int = 0) -> PrivateKey:
    """Keys by number, each made once. None of them signs manifests."""
    return _key(number)


def payload_of(bundle: bytes) -> dict[str, Any]:
    value = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    assert isinstance(value, dict)
    return value


@dataclass
class Case:
    """A signed model that passes, and who may attest it."""

    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        self.model = self.folder / "model"
        self.manifest = self.folder / "m.toml"
        self.keys = self.folder / "keys"
        write_skeleton(json.dumps(CONFIG).encode(), self.model, stages=(1,))
        (self.model / "tokenizer_config.json").write_text("{}")
        assert run(["key", "generate", "k.pem", "--no-passphrase"]) == 0
        assert run(["manifest", "create", str(self.model), "--name", "m", "-o", "m.toml"]) == 0
        self.sign()
        add = ["key", "add", "k.pem.pub", "--owner", "me", "--model", "m*", "--keys", "keys"]
        assert run(add) == 0

    def sign(self) -> None:
        assert run(["manifest", "sign", "m.toml", "--key", "k.pem"]) == 0

    def restate(self, change: Callable[[Manifest], Manifest]) -> None:
        """Sign what `change` makes of the manifest."""
        made = change(parse_manifest(self.manifest.read_bytes(), subject="m"))
        self.manifest.write_bytes(emit_manifest(made))
        self.sign()

    def report(self, **options: Any) -> Report:
        return verify_path(self.model, manifest=str(self.manifest), keys=self.keys, **options)

    def parsed(self) -> Manifest:
        return load_manifest(self.manifest).manifest

    def attest(self, kind: Kind = Kind.VSA, *, signer: int = 0, **options: Any) -> bytes:
        return create_attestation(self.report(**options), kind, key(signer))

    def altered(self, change: Callable[[dict[str, Any]], object], kind: Kind = Kind.VSA) -> bytes:
        """A statement that `change` altered, signed by the same key."""
        value = payload_of(self.attest(kind))
        change(value)
        return sign_statement(key(), json.dumps(value).encode())

    def trusted(self, **changes: Any) -> TrustStore:
        one = TrustedKey(
            key=key().public,
            file="k.pub",
            owner="CI",
            valid_from=self.now - timedelta(days=1),
            valid_until=self.now + timedelta(days=365),
            models=("m",),
        )
        return TrustStore((replace(one, **changes),), (), ("here",))

    def check(self, bundle: bytes, **options: Any) -> AttestationResult:
        given: dict[str, Any] = {"now": self.now, "model": LocalStore(self.model)} | options
        trust = given.pop("trust", None) or self.trusted()
        return verify_attestation(bundle, trust, **given)


@pytest.fixture(autouse=True)
def _no_user_configuration(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    for name in ("KEYS", "MANIFESTS", "EXPECT", "SCOPE", "POLICY"):
        monkeypatch.delenv(f"R1PROV_{name}", raising=False)


@pytest.fixture
def case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Case:
    monkeypatch.chdir(tmp_path)
    made = Case(tmp_path)
    capsys.readouterr()
    return made
