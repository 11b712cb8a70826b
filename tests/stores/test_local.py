from __future__ import annotations

import gc
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from r1prov.errors import ChangedWhileReading, LimitExceeded, NotFound, StoreError, Unreadable
from r1prov.hashing.digest import git_blob_id
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_STORE_DEPTH
from r1prov.stores import local
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.local import LocalStore


@pytest.fixture
def make_cache(tmp_path: Path):
    """A Hugging Face cache as `huggingface_hub` lays it out; returns the snapshot directory."""

    def make(files: dict[str, bytes]) -> Path:
        repo = tmp_path / "hub" / "models--deepseek-ai--DeepSeek-R1"
        snapshot = repo / "snapshots" / "56d4cbbb4d29f4355bab4b9a39ccb717a14ad5ad"
        snapshot.mkdir(parents=True)
        (repo / "blobs").mkdir()
        for path, data in files.items():
            blob = hashlib.sha256(data).hexdigest()
            (repo / "blobs" / blob).write_bytes(data)
            link = snapshot / path
            link.parent.mkdir(parents=True, exist_ok=True)
            os.symlink("../" * (path.count("/") + 2) + f"blobs/{blob}", link)
        return snapshot

    return make


@pytest.fixture
def run_unprivileged(tmp_path: Path):
    """Run Python code as a user whom file modes bind, for root reads everything."""

    def run(code: str, *arguments: object) -> str:
        if os.geteuid() == 0:
            # The interpreter itself may lie where only root gets: drop after the imports.
            drop = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            code = code.replace("# drop\n", drop)
            for directory in (tmp_path, *tmp_path.parents):
                if directory.stat().st_mode & 0o005 != 0o005:  # those that pytest made
                    directory.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def listing(path: Path) -> dict[str, Entry]:
    return {entry.path: entry for entry in LocalStore(path).entries()}


# Directories and files


def test_lists_files_below_directories_sorted_by_bytes(tmp_path):
    for path in ("b", "a/z", "a/b/c", "a-b", ".hidden", "\uff5e", "\U0001f600"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode())
    (tmp_path / "empty-directory").mkdir()
    store = LocalStore(tmp_path)
    entries = store.entries()
    names = [".hidden", "a-b", "a/b/c", "a/z", "b", "\uff5e", "\U0001f600"]
    assert [entry.path for entry in entries] == names
    assert entries[2] == Entry("a/b/c", EntryKind.FILE, 5)
    assert store.entries() == entries, "a second listing starts at the beginning"
    assert store.name == tmp_path.name
    assert store.location == os.path.realpath(tmp_path)


def test_reads_ranges_and_streams(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x").write_bytes(b"0123456789")
    with LocalStore(tmp_path).open("sub/x") as blob:
        assert blob.size == 10
        assert blob.read_at(2, 3) == b"234"
        assert blob.read_at(8, 1 << 62) == b"89"
        assert blob.read_at(10, 1) == b""
        buffer = memoryview(bytearray(4))
        assert [blob.readinto(buffer) for _ in range(4)] == [4, 4, 2, 0]
        status = os.stat(tmp_path / "sub/x")
        assert blob.fence() == (
            status.st_dev,
            status.st_ino,
            10,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
        for offset in (-1, 1 << 70):
            with pytest.raises(Unreadable):
                blob.read_at(offset, 1)
        blob.close()
    with pytest.raises(Unreadable):
        blob.read_at(0, 1)
    with pytest.raises(Unreadable):
        blob.readinto(buffer)
    with pytest.raises(Unreadable):
        blob.fence()


def test_works_without_posix_fadvise(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    (tmp_path / "x").write_bytes(b"x")
    store = LocalStore(tmp_path)
    assert hash_blobs(store.open, [HashJob("x", 1)]).digests["x"].size == 1


def test_a_refused_advice_is_no_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
    (tmp_path / "x").write_bytes(b"x")
    assert hash_blobs(LocalStore(tmp_path).open, [HashJob("x", 1)]).errors == {}


def test_digests_of_a_directory(tmp_path):
    files = {"a": os.urandom(3_000_000), "d/b": b"", "d/c": b"c"}
    (tmp_path / "d").mkdir()
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    store = LocalStore(tmp_path)
    jobs = [HashJob(entry.path, entry.size, git_blob=True) for entry in store.entries()]
    result = hash_blobs(store.open, jobs)
    assert {path: digest.sha256 for path, digest in result.digests.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in files.items()
    }
    assert result.digests["d/c"].git_blob == git_blob_id(b"c")


def test_a_single_file_is_a_store_with_one_entry(tmp_path):
    (tmp_path / "blob").write_bytes(b"12345")
    (tmp_path / "model.gguf").symlink_to("blob")
    store = LocalStore(tmp_path / "model.gguf")
    assert store.name == "model.gguf"
    assert store.location == os.path.realpath(tmp_path / "blob")
    assert store.entries() == [Entry("model.gguf", EntryKind.FILE, 5)]
    with store.open("model.gguf") as blob:
        assert blob.read_at(0, 9) == b"12345"
    with pytest.raises(NotFound):
        store.open("blob")


def test_the_root_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/x").touch()
    (tmp_path / "alias").symlink_to("real")
    store = LocalStore(tmp_path / "alias")
    assert store.name == "alias"
    assert store.location == os.path.realpath(tmp_path / "real")
    assert [entry.path for entry in store.entries()] == ["x"]


def test_the_current_directory_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert LocalStore(".").name == tmp_path.name


def test_roots_that_are_none(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotFound):
        LocalStore(tmp_path / "absent")
    for path in (tmp_path / "loop", tmp_path / "fifo", "/dev/null", "a\0b"):
        with pytest.raises(Unreadable):
            LocalStore(path)


def test_a_store_gives_its_descriptor_back(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").touch()
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        store = LocalStore(tmp_path)
        store.entries()
        store.open("d/x").close()
        for path in ("d", "d/absent", "absent/x"):
            with pytest.raises(StoreError):
                store.open(path)
    del store
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


# Links


def test_links_are_listed_and_never_followed(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "outside-directory").mkdir()
    (tmp_path / "outside-directory/x").touch()
    (model / "real").write_bytes(b"real")
    targets = {
        "absolute": "/etc/shadow",
        "dangling": "nowhere",
        "directory": "../outside-directory",
        "loop": "loop",
        "outside": "../outside",
        "self": ".",
        "sibling": "real",
    }
    for name, target in targets.items():
        (model / name).symlink_to(target)
    store = LocalStore(model)
    entries = {entry.path: entry for entry in store.entries()}
    assert set(entries) == {*targets, "real"}
    for name, target in targets.items():
        assert entries[name] == Entry(name, EntryKind.LINK, 0, target)
        with pytest.raises(Unreadable, match="link"):
            store.open(name)
    for path in ("directory/x", "self/real"):
        with pytest.raises(StoreError):
            store.open(path)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../outside", "d/../x", "/etc/passwd", "d//x", "x/", "./x", "a\0b", "\ud800"],
)
def test_paths_that_are_no_path_of_a_store(tmp_path, path):
    model = tmp_path / "model"
    (model / "d").mkdir(parents=True)
    (model / "x").touch()
    (tmp_path / "outside").touch()
    with pytest.raises(StoreError):
        LocalStore(model).open(path)


def test_a_directory_swapped_for_a_link_after_the_listing(tmp_path):
    model = tmp_path / "model"
    (model / "d").mkdir(parents=True)
    (model / "d/x").write_bytes(b"good")
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/x").write_bytes(b"evil")
    store = LocalStore(model)
    jobs = [HashJob(entry.path, entry.size) for entry in store.entries()]
    (model / "d").rename(model / "moved")
    (model / "d").symlink_to("../evil")
    result = hash_blobs(store.open, jobs)
    assert result.digests == {}
    assert isinstance(result.errors["d/x"], StoreError)


def test_a_directory_swapped_for_a_link_during_the_listing(tmp_path, monkeypatch):
    model = tmp_path / "model"
    (model / "d").mkdir(parents=True)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/x").touch()
    lstat = local._lstat

    def swap_after(name, directory):
        status = lstat(name, directory)
        if name == "d":
            (model / "d").rmdir()
            (model / "d").symlink_to("../evil")
        return status

    monkeypatch.setattr(local, "_lstat", swap_after)
    (entry,) = LocalStore(model).entries()
    assert (entry.path, entry.kind) == ("d", EntryKind.UNREADABLE)


@pytest.mark.parametrize("swap", ["link", "fifo", "gone"])
def test_a_file_swapped_during_the_listing(tmp_path, monkeypatch, swap):
    model = tmp_path / "model"
    model.mkdir()
    (model / "x").touch()
    (tmp_path / "evil").touch()
    lstat = local._lstat

    def swap_after(name, directory):
        status = lstat(name, directory)
        (model / "x").unlink()
        if swap == "link":
            (model / "x").symlink_to("../evil")
        elif swap == "fifo":
            os.mkfifo(model / "x")
        return status

    monkeypatch.setattr(local, "_lstat", swap_after)
    (entry,) = LocalStore(model).entries()
    assert entry.kind is EntryKind.UNREADABLE
    expected = {"link": "a link", "fifo": "fifo", "gone": "No such file"}[swap]
    assert expected in entry.detail


def test_a_root_swapped_after_it_was_opened_is_not_looked_at(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "x").write_bytes(b"good")
    store = LocalStore(model)
    model.rename(tmp_path / "moved")
    model.mkdir()
    (model / "evil").touch()
    assert [entry.path for entry in store.entries()] == ["x"]
    with store.open("x") as blob:
        assert blob.read_at(0, 4) == b"good"


# The Hugging Face cache


def test_a_hugging_face_snapshot_reads_as_files(make_cache):
    files = {"config.json": b"{}", "figures/niah.png": b"png", "a/b/c": b"deep"}
    store = LocalStore(make_cache(files))
    entries = {entry.path: entry for entry in store.entries()}
    assert set(entries) == set(files)
    for path, data in files.items():
        blob = hashlib.sha256(data).hexdigest()
        assert entries[path] == Entry(path, EntryKind.FILE, len(data), f"blobs/{blob}")
    result = hash_blobs(store.open, [HashJob(p, e.size) for p, e in entries.items()])
    assert result.errors == {}
    assert {p: d.sha256 for p, d in result.digests.items()} == {
        p: hashlib.sha256(data).hexdigest() for p, data in files.items()
    }


def test_a_git_named_blob_counts_too(make_cache):
    snapshot = make_cache({})
    (snapshot / "../../blobs" / ("a" * 40)).write_bytes(b"x")
    (snapshot / "x").symlink_to(f"../../blobs/{'a' * 40}")
    assert listing(snapshot)["x"].kind is EntryKind.FILE


BLOB = hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    "target",
    [
        "../../../secret",
        f"../blobs/{BLOB}",
        f"../../../models--deepseek-ai--DeepSeek-R1/blobs/{BLOB}",
        f"../../blobs/../blobs/{BLOB}",
        f"./../../blobs/{BLOB}",
        f"../../blobs//{BLOB}",
        f"../../blobs/{BLOB}/",
        f"../../blobs/{BLOB}\n",
        f"../../blobs/{BLOB.upper()}",
        f"../../blobs/{BLOB[:41]}",
        f"../../blobs/{'0' * 64}",
        "../../blobs/" + "d" * 64,
        "../../blobs/" + "e" * 64,
        "../../blobs/" + "f" * 64,
        "x",
    ],
)
def test_other_links_in_a_snapshot_stay_links(make_cache, tmp_path, target):
    snapshot = make_cache({"x": b"x"})
    blobs = snapshot.parent.parent / "blobs"
    (blobs / ("d" * 64)).mkdir()
    (blobs / ("e" * 64)).symlink_to(BLOB)
    os.mkfifo(blobs / ("f" * 64))
    (tmp_path / "hub/secret").touch()
    (snapshot / "y").symlink_to(target)
    store = LocalStore(snapshot)
    entries = {entry.path: entry for entry in store.entries()}
    assert entries["x"].kind is EntryKind.FILE
    assert entries["y"] == Entry("y", EntryKind.LINK, 0, target)
    with pytest.raises(StoreError):
        store.open("y")


def test_a_blobs_folder_that_is_a_link_makes_no_cache(make_cache):
    snapshot = make_cache({"x": b"x"})
    repo = snapshot.parent.parent
    (repo / "blobs").rename(repo / "elsewhere")
    (repo / "blobs").symlink_to("elsewhere")
    assert listing(snapshot)["x"].kind is EntryKind.LINK
    with pytest.raises(StoreError):
        LocalStore(snapshot).open("x")


def test_the_same_links_outside_a_cache_stay_links(make_cache):
    snapshot = make_cache({"x": b"x"})
    repo = snapshot.parent.parent
    repo.rename(repo.parent / "model")
    assert listing(repo.parent / "model/snapshots" / snapshot.name)["x"].kind is EntryKind.LINK


def test_a_cache_link_that_moved_after_the_listing(make_cache):
    snapshot = make_cache({"x": b"x", "y": b"evil"})
    store = LocalStore(snapshot)
    (snapshot / "x").unlink()
    (snapshot / "x").symlink_to("y")
    with pytest.raises(Unreadable):
        store.open("x")


# Things that are not files


def test_special_files_do_not_hang(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        store = LocalStore(tmp_path)
        start = time.monotonic()
        assert store.entries() == [
            Entry("fifo", EntryKind.SPECIAL, 0, "fifo"),
            Entry("socket", EntryKind.SPECIAL, 0, "socket"),
        ]
        for name in ("fifo", "socket"):
            with pytest.raises(Unreadable):
                store.open(name)
        result = hash_blobs(store.open, [HashJob("fifo", 1)])
        assert isinstance(result.errors["fifo"], Unreadable)
        assert time.monotonic() - start < 5


def test_device_nodes(tmp_path):
    for name, mode in (("null", 0o020600), ("disk", 0o060600)):
        try:
            os.mknod(tmp_path / name, mode, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes device nodes")
    found = {path: (e.kind, e.detail) for path, e in listing(tmp_path).items()}
    assert found == {
        "null": (EntryKind.SPECIAL, "character device"),
        "disk": (EntryKind.SPECIAL, "block device"),
    }


def test_a_directory_is_no_blob(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(Unreadable, match="directory"):
        LocalStore(tmp_path).open("d")


def test_what_lies_on_another_device_is_marked(tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    store = LocalStore(tmp_path)
    monkeypatch.setattr(store, "_device", store._device + 1)
    (entry,) = store.entries()
    assert entry == Entry("x", EntryKind.FILE, 0, "", other_device=True)


def test_undecodable_names_come_back_escaped(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"bad-\xff")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    store = LocalStore(tmp_path)
    (entry,) = store.entries()
    assert entry.path == "bad-\udcff"
    with store.open(entry.path) as blob:
        assert blob.size == 1


# Limits


def test_a_deep_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "MAX_STORE_DEPTH", 3)
    (tmp_path / "1/2/3").mkdir(parents=True)
    (tmp_path / "1/2/3/x").touch()
    assert list(listing(tmp_path)) == ["1/2/3/x"]
    (tmp_path / "1/2/3/4").mkdir()
    with pytest.raises(LimitExceeded, match="nested more than 3"):
        listing(tmp_path)


def test_the_shipped_depth_limit_leaves_descriptors(tmp_path):
    path = "/".join("d" * MAX_STORE_DEPTH)
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / "x").touch()
    store = LocalStore(tmp_path)
    assert [entry.path for entry in store.entries()] == [f"{path}/x"]
    store.open(f"{path}/x").close()


def test_a_full_tree(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "MAX_STORE_ENTRIES", 3)
    for name in "abc":
        (tmp_path / name).mkdir()
    assert listing(tmp_path) == {}
    (tmp_path / "c/x").touch()
    with pytest.raises(LimitExceeded, match="more than 3 entries"):
        listing(tmp_path)


# Permissions and failures

LIST_AND_HASH = """
import json, sys
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.stores.local import LocalStore
# drop
store = LocalStore(sys.argv[1])
entries = store.entries()
result = hash_blobs(store.open, [HashJob(e.path, 4) for e in entries])
print(json.dumps([
    {e.path: [e.kind.name, e.detail] for e in entries},
    sorted(result.digests),
    {path: [type(error).__name__, error.message] for path, error in result.errors.items()},
]))
"""

OPEN_ROOT = """
import sys
from r1prov.errors import Unreadable
from r1prov.stores.local import LocalStore
# drop
try:
    LocalStore(sys.argv[1])
except Unreadable as error:
    print(error.message)
"""


def test_unreadable_files_and_directories(tmp_path, run_unprivileged):
    model = tmp_path / "model"
    (model / "closed").mkdir(parents=True)
    (model / "closed/x").touch()
    (model / "good").write_bytes(b"good")
    (model / "secret").write_bytes(b"1234")
    for path, mode in (("closed", 0), ("secret", 0), ("good", 0o644), (".", 0o755)):
        (model / path).chmod(mode)
    try:
        entries, digests, errors = json.loads(run_unprivileged(LIST_AND_HASH, model))
    finally:
        (model / "closed").chmod(0o700)
    assert entries == {
        "closed": ["UNREADABLE", "Permission denied"],
        "good": ["FILE", ""],
        "secret": ["UNREADABLE", "Permission denied"],
    }
    assert digests == ["good"]
    assert errors["secret"] == ["Unreadable", "cannot be read: Permission denied"]


def test_an_unreadable_root(tmp_path, run_unprivileged):
    model = tmp_path / "model"
    model.mkdir(mode=0)
    try:
        assert run_unprivileged(OPEN_ROOT, model) == "cannot be read: Permission denied\n"
    finally:
        model.chmod(0o700)


def test_a_directory_whose_listing_fails_half_way(tmp_path, monkeypatch):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x").touch()
    (tmp_path / "y").touch()
    scandir = os.scandir

    class Failing:
        def __init__(self, descriptor):
            self.names = scandir(descriptor)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.names.close()

        def __iter__(self):
            for entry in self.names:
                yield entry
                if entry.name == "x":
                    raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "scandir", Failing)
    assert listing(tmp_path) == {
        "d": Entry("d", EntryKind.UNREADABLE, 0, "Input/output error"),
        "d/x": Entry("d/x", EntryKind.FILE, 0),
        "y": Entry("y", EntryKind.FILE, 0),
    }
    with pytest.raises(Unreadable):
        LocalStore(tmp_path / "d").entries()


# Races


def race(path: Path, write: Callable[[], object]) -> str:
    """Hash `path` while `write` runs in another thread after the first buffer was read."""
    store = LocalStore(path.parent)
    started, written = threading.Event(), threading.Event()

    def writer():
        started.wait(10)
        write()
        written.set()

    thread = threading.Thread(target=writer)
    thread.start()

    def open_blob(name):
        blob = store.open(name)
        readinto = blob.readinto

        def slow(buffer):
            count = readinto(buffer)
            started.set()
            written.wait(10)
            return count

        blob.readinto = slow  # type: ignore[method-assign]
        return blob

    result = hash_blobs(open_blob, [HashJob(path.name, path.stat().st_size)])
    thread.join()
    assert result.digests == {}
    error = result.errors[path.name]
    assert type(error) is ChangedWhileReading
    return error.message


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"\0" * 3_000_000)
    os.utime(path, ns=(0, 0))
    # Two changes within one tick of the kernel's clock have the same change time.
    time.sleep(0.05)
    return path


def test_a_file_appended_while_reading(shard):
    def append():
        with shard.open("ab") as file:
            file.write(b"more")

    assert "holds more than the 3,000,000 bytes" in race(shard, append)


def test_a_file_truncated_while_reading(shard):
    assert "ended after" in race(shard, lambda: os.truncate(shard, 10))


def test_a_file_rewritten_in_place_with_its_time_put_back(shard):
    def rewrite():
        with shard.open("r+b") as file:
            file.write(b"evil")
        os.utime(shard, ns=(0, 0))

    assert "its change time changed" in race(shard, rewrite)


def test_a_file_replaced_while_reading(shard):
    def replace():
        (shard.parent / "new").write_bytes(b"\1" * 3_000_000)
        os.replace(shard.parent / "new", shard)

    assert "change time changed" in race(shard, replace)


def test_a_file_that_is_written_all_the_time(shard):
    stop = threading.Event()

    def writer():
        with shard.open("r+b", buffering=0) as file:
            while not stop.is_set():
                file.seek(0)
                file.write(os.urandom(16))

    thread = threading.Thread(target=writer)
    thread.start()
    try:
        time.sleep(0.05)
        store = LocalStore(shard.parent)

        def open_blob(name):
            blob = store.open(name)
            time.sleep(0.05)
            fence = blob.fence

            def later():
                # The clock of a file system ticks in milliseconds, a small file is faster.
                time.sleep(0.05)
                return fence()

            blob.fence = later  # type: ignore[method-assign]
            return blob

        result = hash_blobs(open_blob, [HashJob("shard", 3_000_000)])
    finally:
        stop.set()
        thread.join()
    assert isinstance(result.errors["shard"], ChangedWhileReading)
