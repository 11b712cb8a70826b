"""The pack reader against packs that Git made, and against packs that nobody should."""

from __future__ import annotations

import hashlib
import random
import subprocess
import zlib
from pathlib import Path

import pytest
from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo

from r1prov.errors import CommitUnavailable
from r1prov.stores import git_pack
from r1prov.stores.git_pack import apply_delta, git_object_id, read_pack


def item(kind: int, body: bytes, *, size: int | None = None, base: bytes = b"") -> bytes:
    left = len(body) if size is None else size
    head = bytearray([kind << 4 | left & 15])
    left >>= 4
    while left:
        head[-1] |= 0x80
        head.append(left & 0x7F)
        left >>= 7
    return bytes(head) + base + zlib.compress(body)


def pack(*items: bytes, count: int | None = None) -> bytes:
    number = len(items) if count is None else count
    body = b"PACK" + (2).to_bytes(4, "big") + number.to_bytes(4, "big") + b"".join(items)
    return body + hashlib.sha1(body).digest()


COMMIT, TREE, BLOB, OFS, REF = 1, 2, 3, 6, 7
BODY = b"100644 a\0" + b"1" * 20
TREE_ID = git_object_id("tree", BODY)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty commits whose trees differ in an entry each, so that Git writes deltas."""
    path = tmp_path_factory.mktemp("git")
    repo = Repo.init_bare(str(path))
    blobs = [Blob.from_string(b"%d" % number) for number in range(300)]
    parent = None
    for round_number in range(20):
        blobs[round_number] = Blob.from_string(b"round %d" % round_number * 9)
        tree = Tree()
        for number, blob in enumerate(blobs):
            repo.object_store.add_object(blob)
            tree.add(b"file-%03d" % number, 0o100644, blob.id)
        commit = Commit()
        commit.tree = tree.id
        commit.parents = [parent] if parent else []
        commit.author = commit.committer = b"A <a@b>"
        commit.author_time = commit.commit_time = round_number
        commit.author_timezone = commit.commit_timezone = 0
        commit.message = b"m"
        repo.object_store.add_object(tree)
        repo.object_store.add_object(commit)
        parent = commit.id
    repo.refs[b"refs/heads/main"] = parent  # type: ignore[index, assignment]
    repo.close()
    return path


@pytest.mark.parametrize("options", [["--delta-base-offset"], []], ids=["ofs", "ref"])
def test_packs_of_git(history: Path, options: list[str]) -> None:
    command = ["git", "-C", str(history), "pack-objects", "--stdout", "--all", "--depth=50"]
    raw = subprocess.run([*command, *options], input=b"", capture_output=True, check=True).stdout
    objects = read_pack(raw)
    with Repo(str(history)) as repo:
        for git_id in repo.object_store:
            stored = repo[git_id]
            if stored.type_name == b"blob":
                assert git_id.decode() not in objects
            else:
                expected = (stored.type_name.decode(), stored.as_raw_string())
                assert objects[git_id.decode()] == expected
    assert len(objects) == 40
    assert len(raw) < 100_000, "deltas, not forty whole trees"


def test_a_delta_of_a_blob_is_passed_over() -> None:
    blob = item(BLOB, b"x" * 100)
    delta = item(OFS, b"\x64\x01\x90\x01", base=bytes([len(blob)]))
    assert read_pack(pack(blob, delta, item(TREE, BODY))) == {TREE_ID: ("tree", BODY)}


def test_a_delta_may_stand_before_its_base() -> None:
    made = BODY + BODY.replace(b" a", b" b")
    delta = bytes([len(BODY), len(made), 0x90, len(BODY), len(BODY)]) + made[len(BODY) :]
    raw = pack(item(REF, delta, base=bytes.fromhex(TREE_ID)), item(TREE, BODY))
    assert read_pack(raw)[git_object_id("tree", made)] == ("tree", made)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "does not begin"),
        (b"JUNK" + bytes(100), "does not begin"),
        (pack()[:-1] + b"\0", "checksum"),
        (pack(item(TREE, BODY), b"more"), "does not inflate"),
        (pack(item(TREE, BODY), count=2), "ends inside"),
        (pack(item(TREE, BODY), item(TREE, BODY), count=1), "bytes follow"),
        (pack(item(TREE, BODY), count=2**31), "too large"),
        (pack(item(TREE, BODY, size=28)), "longer than it says"),
        (pack(item(TREE, BODY, size=30)), "shorter than it says"),
        (pack(item(5, BODY)), "kind 5"),
        (pack(item(0, BODY)), "kind 0"),
        (pack(b"\xaf" + b"\xff" * 12), "size beyond all measure|ends inside"),
        (pack(b"\x2d" + b"junk" * 9), "does not inflate"),
        (pack(item(TREE, BODY)[:-3]), "shorter than it says|ends inside"),
        (pack(item(TREE, BODY, size=2**40)), "too large"),
        (pack(item(OFS, b"\1\1\1a", base=b"\xff\xff\xff\xff\x7f")), "base outside"),
    ],
)
def test_packs_that_are_none(raw: bytes, message: str) -> None:
    with pytest.raises(CommitUnavailable, match=message):
        read_pack(raw)


def test_what_inflates_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_pack, "MAX_GIT_INFLATED_BYTES", 1_000_000)
    with pytest.raises(CommitUnavailable, match="too large: more than 1,000,000 bytes inflated"):
        read_pack(pack(item(BLOB, bytes(2_000_000))))
    base = item(TREE, bytes(60_000))
    # Each delta of a few bytes makes 60,000.
    deltas = [
        item(REF, b"\xe0\xd4\x03" + bytes([0xE1, 0xD4, 0x03, 0xB1, n, 0x60, 0xEA]) + b"\1x",
             base=bytes.fromhex(git_object_id("tree", bytes(60_000))))
        for n in range(30)
    ]  # fmt: skip
    with pytest.raises(CommitUnavailable):
        read_pack(pack(base, *deltas))


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        (b"", "no sizes"),
        (b"\xff" * 30, "no sizes"),
        (b"\x05\x01", "another base"),
        (b"\x03\x03\x90\x04", "outside its base"),
        (b"\x03\x03\x91\x01\x03", "outside its base"),
        (b"\x03\x03\x91", "inside a copy"),
        (b"\x03\x03\x03ab", "inside an insertion"),
        (b"\x03\x03\x00", "reserved"),
        (b"\x03\x02\x90\x03", "more than it says"),
        (b"\x03\x04\x90\x03", "less than it says"),
        (b"\x03\xff\xff\xff\xff\x7f", "too large"),
        (b"\x03\x03\x80", "outside its base"),
    ],
)
def test_deltas_that_are_none(delta: bytes, message: str) -> None:
    with pytest.raises(CommitUnavailable, match=message):
        apply_delta(b"abc", delta)


def test_a_delta_that_is_one() -> None:
    assert apply_delta(b"abc", b"\x03\x06\x90\x03\x01x\x91\x01\x02") == b"abcxbc"


def test_no_bytes_raise_anything_else(history: Path) -> None:
    command = ["git", "-C", str(history), "pack-objects", "--stdout", "--all"]
    good = subprocess.run(command, input=b"", capture_output=True, check=True).stdout
    chance = random.Random(7)
    refused = 0
    for _ in range(300):
        raw = bytearray(good[:-20])
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(12, len(raw))] = chance.randrange(256)
        try:
            read_pack(bytes(raw) + hashlib.sha1(raw).digest())
        except CommitUnavailable:
            refused += 1
    assert refused > 200
