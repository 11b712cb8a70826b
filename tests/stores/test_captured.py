"""The copy that a captured store makes: whole, sealed, and never of more than was listed."""

import mmap
import os
import threading

import pytest

from r1prov.errors import ChangedWhileReading, LimitExceeded, NotFound
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.stores import captured
from r1prov.stores.captured import CapturedStore, available_memory
from r1prov.stores.local import LocalStore


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    (directory / "sub").mkdir(parents=True)
    (directory / "a").write_bytes(bytes(range(256)) * 5000)
    (directory / "sub" / "b").write_bytes(b"b")
    (directory / "empty").write_bytes(b"")
    return directory


@pytest.fixture(params=["sealed", "mapped"])
def kind(request, monkeypatch):
    """Both ways of keeping a copy: with `memfd_create`, and where there is none."""
    if request.param == "mapped":
        monkeypatch.delattr(os, "memfd_create")
    return request.param


def keep_all(_path, _size):
    return True


def test_it_lists_and_reads_as_a_local_store(model, kind):
    store, local = CapturedStore(model, keep_all), LocalStore(model)
    assert store.entries() == local.entries()
    for entry in local.entries():
        with store.open(entry.path) as ours, local.open(entry.path) as theirs:
            assert ours.size == theirs.size
            for offset, length in ((0, 10), (5, 0), (entry.size - 1, 9), (entry.size, 1)):
                if offset >= 0:
                    assert ours.read_at(offset, length) == theirs.read_at(offset, length)
            assert ours.fence() == theirs.fence()
    jobs = [HashJob(e.path, e.size, git_blob=True) for e in local.entries()]
    assert hash_blobs(store.open, jobs) == hash_blobs(local.open, jobs)
    assert store.captured_paths() == ["a", "empty", "sub/b"]


def test_it_serves_what_it_read_first(model, kind):
    store = CapturedStore(model, keep_all)
    store.entries()
    first = store.open("a").read_at(0, 2_000_000)
    (model / "a").write_bytes(b"other")
    assert store.open("a").read_at(0, 2_000_000) == first
    (model / "a").unlink()
    assert store.open("a").read_at(0, 2_000_000) == first
    assert bytes(store.captured("a") or b"") == first


def test_what_is_not_kept_is_read_from_disk(model):
    store = CapturedStore(model, lambda path, _: path == "a")
    store.entries()
    assert store.open("sub/b").read_at(0, 9) == b"b"
    (model / "sub" / "b").write_bytes(b"c")
    assert store.open("sub/b").read_at(0, 9) == b"c"
    assert store.captured("sub/b") is None
    with pytest.raises(NotFound):
        store.open("nonesuch")


def test_the_copy_cannot_be_written(model, kind):
    store = CapturedStore(model, keep_all)
    store.entries()
    store.open("a").close()
    copy = store.captured("a")
    assert copy is not None
    assert copy.readonly
    with pytest.raises(TypeError):
        copy[0] = 1


def test_the_copy_is_sealed(model, monkeypatch):
    """What the kernel says of the descriptor just before it is closed."""
    tried = []
    close = os.close

    def try_to_write(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:r1prov"):
            for attempt in (
                lambda: os.pwrite(descriptor, b"x", 0),
                lambda: os.ftruncate(descriptor, 1),
                lambda: os.ftruncate(descriptor, 10_000_000),
                lambda: mmap.mmap(descriptor, 10),  # shared and writable
            ):
                with pytest.raises(PermissionError):
                    attempt()
                tried.append(1)
        close(descriptor)

    monkeypatch.setattr(os, "close", try_to_write)
    store = CapturedStore(model, keep_all)
    store.entries()
    store.open("a")
    assert len(tried) == 4


@pytest.mark.parametrize("content", [b"", b"x", bytes(1_279_999), bytes(1_280_001)], ids=len)
def test_a_file_of_another_size_than_listed_is_refused(model, kind, content):
    store = CapturedStore(model, keep_all)
    store.entries()
    (model / "a").write_bytes(content)
    with pytest.raises(ChangedWhileReading, match="no longer has 1,280,000 bytes"):
        store.open("a")
    assert store.captured("a") is None


def test_no_more_is_read_than_was_listed(model, kind):
    store = CapturedStore(model, keep_all)
    store.entries()
    os.truncate(model / "a", 2**40)  # a sparse file of a terabyte
    with pytest.raises(ChangedWhileReading):
        store.open("a")


def test_a_file_that_changes_while_it_is_copied_is_refused(model, monkeypatch):
    original = captured._each_part

    def changed(blob, size, take):
        covered = original(blob, size, take)
        (model / "a").write_bytes(bytes(1_280_000))
        return covered

    monkeypatch.setattr(captured, "_each_part", changed)
    store = CapturedStore(model, keep_all)
    store.entries()
    with pytest.raises(ChangedWhileReading, match="change time"):
        store.open("a")


def test_many_threads_share_one_copy(model, monkeypatch):
    made = []
    original = CapturedStore._copy

    def counted(self, path, size):
        made.append(path)
        return original(self, path, size)

    monkeypatch.setattr(CapturedStore, "_copy", counted)
    store = CapturedStore(model, keep_all)
    store.entries()
    barrier = threading.Barrier(8)

    def read():
        barrier.wait()
        store.open("a").close()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["a"]


def test_room_is_that_of_what_is_kept(model):
    store = CapturedStore(model, keep_all)
    assert store.check_room(None) == 1_280_001
    assert store.check_room(1_280_001) == 1_280_001
    with pytest.raises(LimitExceeded, match="1,280,000 are allowed"):
        store.check_room(1_280_000)
    assert CapturedStore(model, lambda path, _: path != "a").check_room(1) == 1
    os.truncate(model / "empty", 2**43)
    with pytest.raises(LimitExceeded, match="are free"):
        CapturedStore(model, keep_all).check_room(None)


def test_free_memory_is_no_more_than_there_is():
    free = available_memory()
    assert free is not None
    assert 0 < free < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
