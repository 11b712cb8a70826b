"""The digest cache: never a wrong digest, whatever happens to files, cache and processes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from r1prov.errors import CacheError, NotFound
from r1prov.family.skeleton import write_skeleton
from r1prov.hashing import cache as cache_module
from r1prov.hashing.cache import (
    RACY_NS,
    DigestCache,
    default_cache_path,
    hash_with_cache,
)
from r1prov.hashing.cache_file import SCHEMA_VERSION
from r1prov.hashing.digest import BlobDigest, Fence, git_blob_id
from r1prov.hashing.engine import HashJob
from r1prov.hashing.extents import Extent
from r1prov.stores.local import LocalStore

# Long ago, so that no entry is racy.
OLD = 1_700_000_000 * 10**9
READ = OLD + 10 * RACY_NS


def fence(number: int) -> Fence:
    return Fence(1, 1000 + number, 5, OLD, OLD + number)


def digest(number: int) -> BlobDigest:
    data = b"%d" % number
    sha256 = hashlib.sha256(data).hexdigest()
    return BlobDigest("x", 5, sha256, git_blob_id(data), fence(number))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "digests.sqlite3"


def fill(path: Path, count: int = 50) -> None:
    with DigestCache(path) as cache:
        assert all(cache.put(digest(number), read_at_ns=READ) for number in range(count))
        assert cache.notes == []


def test_what_was_put_can_be_had_again_by_another_run(path):
    fill(path)
    with DigestCache(path) as cache:
        for number in range(50):
            found = cache.get(fence(number))
            assert found == (digest(number).sha256, digest(number).git_blob, READ)
        assert cache.get(fence(50)) is None
        assert cache.notes == []


def test_every_part_of_the_fence_counts(path):
    fill(path, 1)
    with DigestCache(path) as cache:
        for position in range(5):
            parts = list(fence(0))
            parts[position] += 1
            assert cache.get(Fence(*parts)) is None
        assert cache.get(fence(0)) is not None


def test_a_file_has_one_row_the_latest(path):
    with DigestCache(path) as cache:
        changed = digest(1)
        later = BlobDigest("x", 5, "ab" * 32, None, fence(1)._replace(mtime_ns=OLD + 1))
        assert cache.put(changed, read_at_ns=READ)
        assert cache.put(later, read_at_ns=READ)
        assert cache.get(fence(1)) is None
        assert cache.get(later.fence) == ("ab" * 32, None, READ)
    assert rows(path) == 1


def rows(path: Path) -> int:
    with sqlite3.connect(path) as database:
        (count,) = database.execute("SELECT count(*) FROM digests").fetchone()
    database.close()
    assert isinstance(count, int)
    return count


@pytest.mark.parametrize("name", ["mtime_ns", "ctime_ns"])
def test_a_file_that_changed_just_before_it_was_read_is_not_kept(path, name):
    with DigestCache(path) as cache:
        for age, kept in ((RACY_NS, True), (RACY_NS - 1, False), (0, False), (-(10**12), False)):
            state = fence(1)._replace(**{name: READ - age})
            racy = BlobDigest("x", 5, digest(1).sha256, None, state)
            assert cache.put(racy, read_at_ns=READ) is kept
            assert (cache.get(state) is not None) is kept


@pytest.mark.parametrize(
    "state",
    [
        Fence(0, 0, 5, OLD, OLD),
        Fence(1, 0, 5, OLD, OLD),
        Fence(1, 2, 5, OLD, 0),
        Fence(1, 2**64, 5, OLD, OLD),
        Fence(1, -2, 5, OLD, OLD),
    ],
)
def test_a_fence_that_no_file_system_gave_is_no_key(path, state):
    with DigestCache(path) as cache:
        assert not cache.put(BlobDigest("x", 5, "ab" * 32, None, state), read_at_ns=READ)
        assert cache.get(state) is None
        assert cache.notes == []


def test_the_oldest_rows_go_when_there_are_too_many(path, monkeypatch):
    monkeypatch.setattr(cache_module, "MAX_CACHED_DIGESTS", 10)
    with DigestCache(path) as cache:
        for number in range(15):
            cache.put(digest(number), read_at_ns=READ + number)
    with DigestCache(path) as cache:
        assert [cache.get(fence(n)) is not None for n in range(15)] == [False] * 5 + [True] * 10


def test_default_path(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_path() == tmp_path / "r1prov" / "digests.sqlite3"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/x")
    assert default_cache_path() == Path("/home/x/.cache/r1prov/digests.sqlite3")


# Who may write


def test_files_are_for_the_owner_alone(path):
    old = os.umask(0)
    try:
        with DigestCache(path) as cache:
            cache.put(digest(1), read_at_ns=READ)
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(old)
    name = path.name
    assert modes == dict.fromkeys((name, f"{name}-wal", f"{name}-shm", f"{name}.lock"), 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
@pytest.mark.parametrize("name", ["digests.sqlite3", "digests.sqlite3.lock", "."])
def test_a_cache_that_others_may_write_is_refused(path, mode, name):
    fill(path, 1)
    victim = path.parent / name
    if name == ".":
        mode |= 0o100
    victim.chmod(mode)
    with pytest.raises(CacheError, match=f"may be written by others .mode 0{mode:o}"):
        DigestCache(path)
    victim.chmod(0o700)
    with DigestCache(path) as cache:
        assert cache.get(fence(0)) is not None


@pytest.mark.parametrize("name", ["digests.sqlite3", "digests.sqlite3.lock", "."])
def test_a_cache_of_somebody_else_is_refused(path, name, monkeypatch):
    fill(path, 1)
    if os.geteuid() == 0:
        owner = 12345
        os.chown(path.parent / name, owner, -1)
    else:  # only root can give a file away, so somebody else looks at it
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(CacheError, match=f"belongs to user {owner}"):
        DigestCache(path)


def test_a_link_is_refused(path, tmp_path):
    fill(path, 1)
    link = tmp_path / "link.sqlite3"
    link.symlink_to(path)
    tmp_path.chmod(0o700)
    with pytest.raises(CacheError, match="is a link"):
        DigestCache(link)


# What is no cache, or cannot be used


def open_unusable(path: Path, match: str) -> None:
    with DigestCache(path) as cache:
        assert cache.get(fence(1)) is None
        assert not cache.put(digest(1), read_at_ns=READ)
        (note,) = cache.notes
    assert match in note
    assert str(path) in note


@pytest.mark.parametrize("content", [b"my diary\n" * 1000, b"SQLite format 3\0" + b"x" * 5000])
def test_another_file_named_by_mistake_is_left_alone(path, content):
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    open_unusable(path, "is no digest cache")
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(path):
    path.parent.mkdir(mode=0o700)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE digests (key)")
    database.close()
    before = path.read_bytes()
    open_unusable(path, "another program")
    assert path.read_bytes() == before


def test_a_cache_of_another_version_is_left_alone(path):
    fill(path, 1)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    open_unusable(path, "another version")
    assert rows(path) == 1


def test_a_directory_that_is_a_file_is_no_traceback(tmp_path):
    tmp_path.chmod(0o700)
    (tmp_path / "file").write_text("")
    open_unusable(tmp_path / "file" / "x.sqlite3", "File exists")
    (tmp_path / "directory").mkdir()
    open_unusable(tmp_path / "directory", "unable to open")
    with DigestCache(tmp_path / "a\0b") as cache:
        assert "null" in cache.notes[0]


def test_an_empty_file_is_made_a_cache(path):
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    fill(path)


def test_a_database_that_stays_locked_is_given_up_once(path, monkeypatch):
    fill(path, 3)
    monkeypatch.setattr("r1prov.hashing.cache_file.CACHE_LOCK_SECONDS", 0.2)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with DigestCache(path) as cache:
        assert cache.get(fence(0)) is not None  # readers do not wait for a writer
        started = time.monotonic()
        assert not cache.put(digest(9), read_at_ns=READ)
        assert not cache.put(digest(10), read_at_ns=READ)
        assert time.monotonic() - started < 2
        assert cache.notes == [f"the digest cache is not used: {path}: database is locked"]
    other.execute("ROLLBACK")
    other.close()


# Damage


def test_a_flipped_bit_of_a_row_is_noticed_and_the_row_goes(path):
    fill(path, 3)
    raw = path.read_bytes()
    at = raw.index(bytes.fromhex(digest(1).sha256))
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    with DigestCache(path) as cache:
        assert cache.get(fence(0)) is not None
        assert cache.get(fence(1)) is None
        assert cache.notes == ["a damaged row of the digest cache: its file is read instead"]
        assert cache.get(fence(2)) is not None
    assert rows(path) == 2


def test_a_row_under_the_key_of_another_file_is_noticed(path):
    # Two files of one size that were written in one moment: their states are the same.
    other = fence(0)._replace(inode=1)
    with DigestCache(path) as cache:
        cache.put(digest(0), read_at_ns=READ)
        cache.put(BlobDigest("y", 5, "ab" * 32, None, other), read_at_ns=READ)
    with sqlite3.connect(path) as database:
        keys = [key for (key,) in database.execute("SELECT key FROM digests ORDER BY key")]
        database.execute("DELETE FROM digests WHERE key = ?", (keys[1],))
        database.execute("UPDATE digests SET key = ?", (keys[1],))
    database.close()
    with DigestCache(path) as cache:
        assert cache.get(fence(0)) is None
        assert len(cache.notes) == 1


def test_damage_that_shows_in_the_middle_of_a_run_ends_the_use_of_the_cache(path):
    fill(path, 3000)
    raw = bytearray(path.read_bytes())
    raw[8192:] = bytes(len(raw) - 8192)  # behind the pages that opening looks at
    path.write_bytes(raw)
    with DigestCache(path) as cache:
        assert cache.notes == []
        assert [cache.get(fence(number)) for number in range(3000)] == [None] * 3000
        assert not cache.put(digest(1), read_at_ns=READ)
        (note,) = cache.notes
        assert f"it is now {path}.damaged" in note
    fill(path, 10)


@pytest.mark.parametrize("seed", range(150))
def test_random_damage_never_gives_a_wrong_digest(path, seed):
    fill(path)
    draw = random.Random(seed)
    raw = bytearray(path.read_bytes())
    kind = seed % 3
    if kind == 0:
        for _ in range(draw.choice([1, 3, 20])):
            raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        begin = draw.randrange(len(raw))
        raw[begin : begin + draw.randrange(1, 3000)] = draw.randbytes(draw.randrange(1, 3000))
    else:
        del raw[draw.randrange(1, len(raw)) :]
    path.write_bytes(raw)
    for _ in range(2):
        with DigestCache(path) as cache:
            for number in range(50):
                found = cache.get(fence(number))
                want = (digest(number).sha256, digest(number).git_blob, READ)
                assert found is None or found == want
            cache.put(digest(99), read_at_ns=READ)
            assert all(note.count("\n") == 0 for note in cache.notes)


def test_a_damaged_database_is_moved_away_and_a_new_one_made(path):
    fill(path)
    raw = bytearray(path.read_bytes())
    raw[100:200] = bytes(100)  # the page of the schema, behind the header of the file
    path.write_bytes(raw)
    with DigestCache(path) as cache:
        (note,) = cache.notes
        assert "was damaged" in note
        assert f"it is now {path}.damaged and a new one is made" in note
        assert cache.get(fence(1)) is None
        assert cache.put(digest(1), read_at_ns=READ)
    assert Path(f"{path}.damaged").read_bytes() == raw
    with DigestCache(path) as cache:
        assert cache.notes == []
        assert cache.get(fence(1)) is not None


def test_a_damaged_database_that_another_process_has_open_stays(path):
    fill(path)
    with DigestCache(path) as first:
        raw = bytearray(path.read_bytes())
        raw[100:200] = bytes(100)
        path.write_bytes(raw)
        with DigestCache(path) as second:
            assert second.get(fence(1)) is None
            (note,) = second.notes
            assert note.endswith("delete it")
        assert first.get(fence(1)) in (None, (digest(1).sha256, digest(1).git_blob, READ))
    assert not Path(f"{path}.damaged").exists()


# Processes

WRITER = """
import sys
from r1prov.hashing.cache import DigestCache
sys.path.insert(0, sys.argv[4])
from test_cache import READ, digest
begin, end = int(sys.argv[2]), int(sys.argv[3])
with DigestCache(sys.argv[1]) as cache:
    print("open", flush=True)
    for number in range(begin, end):
        assert cache.put(digest(number), read_at_ns=READ), cache.notes
        if number % 10 == 0:
            print(number, flush=True)
    assert cache.notes == []
"""


def writer(path: Path, begin: int, end: int) -> subprocess.Popen[str]:
    arguments = [str(path), str(begin), str(end), str(Path(__file__).parent)]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_that_start_at_once_share_one_cache(path):
    processes = [writer(path, 100 * n, 100 * (n + 1)) for n in range(6)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    with DigestCache(path) as cache:
        for number in range(600):
            found = cache.get(fence(number))
            assert found is not None
            assert found.sha256 == digest(number).sha256
        assert cache.notes == []
    assert sorted(one.name for one in path.parent.iterdir()) == [
        "digests.sqlite3",
        "digests.sqlite3.lock",
    ]


@pytest.mark.parametrize("delay", [0, 0.001, 0.003, 0.01, 0.03])
def test_a_process_killed_while_it_writes_loses_nothing_that_it_said(path, delay):
    with writer(path, 0, 1_000_000) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "100\n":
            assert process.poll() is None
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        said = max([100, *(int(line) for line in process.stdout if line.endswith("\n"))])
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    with DigestCache(path) as cache:
        assert cache.notes == []
        for number in range(said + 1):
            found = cache.get(fence(number))
            assert found is not None
            assert found.sha256 == digest(number).sha256
        assert cache.put(digest(2_000_000), read_at_ns=READ)


def test_what_a_deleted_database_left_beside_it_is_no_part_of_the_next(path):
    with writer(path, 0, 1_000_000) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "100\n":
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert Path(f"{path}-wal").stat().st_size > 0
    path.unlink()
    with DigestCache(path) as cache:
        assert [cache.get(fence(number)) for number in range(100)] == [None] * 100
        assert cache.put(digest(1), read_at_ns=READ)
        assert cache.notes == []


@pytest.mark.parametrize("seed", range(12))
def test_a_process_killed_while_it_makes_the_cache_leaves_none_or_a_whole_one(path, seed):
    with writer(path, 0, 1_000_000) as process:
        # Start-up takes most of this; some land before, some in, some after the making.
        deadline = time.monotonic() + 20
        while not path.parent.exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(seed * 0.0007)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    fill(path, 20)
    with DigestCache(path) as cache:
        assert cache.get(fence(19)) is not None


# Hashing


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Three files that have been at rest for longer than two seconds."""
    directory = tmp_path / "model"
    directory.mkdir()
    for name in "abc":
        (directory / name).write_bytes(name.encode() * 1000)
    return directory


def rest() -> None:
    """Let the change times, which nothing can set back, grow old."""
    time.sleep(RACY_NS / 10**9 + 0.1)


def run(directory, cache, *, git_blob=False, extents=(), progress=None):
    store = LocalStore(directory)
    entries = store.entries()
    jobs = [HashJob(one.path, one.size, git_blob, extents) for one in entries]
    fences = {one.path: one.fence for one in entries if one.fence is not None}
    return hash_with_cache(store.open, jobs, cache, fences, progress=progress)


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(path, model):
    totals = []

    def progress(total):
        totals.append(total)
        return lambda count: None

    with DigestCache(path) as cache:
        assert run(model, cache).cached == frozenset()
        assert run(model, cache).cached == frozenset()  # racy: written just now
        rest()
        before = time.time_ns()
        assert run(model, cache, progress=progress).cached == frozenset()
        after = time.time_ns()
    with DigestCache(path) as cache:
        second = run(model, cache, progress=progress)
        assert second.cached == {"a", "b", "c"}
        assert second.oldest_ns is not None
        assert before <= second.oldest_ns <= after
        assert second.result.errors == {}
        for name in "abc":
            data = (model / name).read_bytes()
            found = second.result.digests[name]
            assert (found.path, found.size) == (name, len(data))
            assert found.sha256 == hashlib.sha256(data).hexdigest()
            assert found.git_blob is None
        assert totals == [3000]

        # The same size and modification time; only the change time tells.
        times = (model / "b").stat()
        (model / "b").write_bytes(b"B" * 1000)
        os.utime(model / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (model / "b").stat().st_mtime_ns == times.st_mtime_ns
        third = run(model, cache, progress=progress)
        assert third.cached == {"a", "c"}
        assert third.result.digests["b"].sha256 == hashlib.sha256(b"B" * 1000).hexdigest()
        assert totals == [3000, 1000]

        # A digest of another kind than was kept is computed.
        assert run(model, cache, git_blob=True).cached == frozenset()
        assert run(model, cache, git_blob=True).cached == {"a", "c"}
        assert run(model, cache).cached == {"a", "c"}
        parts = run(model, cache, extents=(Extent("t", 0, 10),))
        assert parts.cached == frozenset()
        assert parts.result.digests["a"].extents == {"t": hashlib.sha256(b"a" * 10).hexdigest()}


def test_the_163_files_of_r1_are_looked_up_in_a_moment(path, tmp_path):
    config = Path(__file__).parents[2] / "manifests" / "facts" / "configs" / "DeepSeek-R1.json"
    write_skeleton(config.read_bytes(), tmp_path / "r1")
    with DigestCache(path) as cache:
        for one in LocalStore(tmp_path / "r1").entries():
            assert one.fence is not None
            # 689 GB of zeros are not hashed here: what was put is what must come back.
            name = hashlib.sha256(one.path.encode()).hexdigest()
            later = one.fence.ctime_ns + RACY_NS
            assert cache.put(BlobDigest("x", one.size, name, None, one.fence), read_at_ns=later)
    started = time.monotonic()
    with DigestCache(path) as cache:
        again = run(tmp_path / "r1", cache)
    assert time.monotonic() - started < 1  # 10 ms, listing and opening included
    assert len(again.cached) == 165
    for name, found in again.result.digests.items():
        assert found.sha256 == hashlib.sha256(name.encode()).hexdigest()


def test_a_file_swapped_after_the_listing_is_read(path, model):
    rest()
    store = LocalStore(model)
    fences = {one.path: one.fence for one in store.entries() if one.fence is not None}
    jobs = [HashJob(name, 1000) for name in "abc"]
    with DigestCache(path) as cache:
        assert hash_with_cache(store.open, jobs, cache, fences).cached == frozenset()
        (model / "other").write_bytes(b"X" * 1000)
        (model / "other").rename(model / "a")
        (model / "b").unlink()
        found = hash_with_cache(store.open, jobs, cache, fences)
        assert found.cached == {"c"}
        assert found.result.digests["a"].sha256 == hashlib.sha256(b"X" * 1000).hexdigest()
        assert isinstance(found.result.errors["b"], NotFound)
        assert set(found.result.digests) == {"a", "c"}


def test_a_path_without_a_fence_is_always_read(path, model):
    rest()
    store = LocalStore(model)
    jobs = [HashJob(name, 1000) for name in "abc"]
    with DigestCache(path) as cache:
        for _ in range(2):
            assert hash_with_cache(store.open, jobs, cache, {}).cached == frozenset()
    assert rows(path) == 0


def test_what_was_hashed_before_an_interruption_is_kept(path, model):
    (model / "d").write_bytes(b"d" * 5000)
    rest()
    store = LocalStore(model)
    entries = store.entries()
    fences = {one.path: one.fence for one in entries if one.fence is not None}
    jobs = [HashJob(one.path, one.size) for one in entries]

    def open_blob(name):
        if name != "d":  # the largest goes first
            raise KeyboardInterrupt
        return store.open(name)

    with DigestCache(path) as cache:
        with pytest.raises(KeyboardInterrupt):
            hash_with_cache(open_blob, jobs, cache, fences, workers=1)
        assert hash_with_cache(store.open, jobs, cache, fences).cached == {"d"}
