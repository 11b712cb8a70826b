"""Commits of the Hub: what their fields bind, and that every changed field fails."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import CommitProofError, InputError
from r1prov.hashing.digest import git_blob_id
from r1prov.manifest.commit_proof import (
    check_commit_proof,
    conflicts_with,
    known_commits,
    lfs_pointer,
)
from r1prov.manifest.hub_commit import HubCommit, TreeEntry, parse_hub_commit_json
from r1prov.trust.directories import load_hub_key

ROOT = Path(__file__).parents[2]
VECTORS = sorted((ROOT / "tests" / "vectors" / "hub-commits").glob("*.json"))
CLIENT = ROOT / "tests" / "conformance" / "hub-commit-client"
KEY = load_hub_key()
EMPTY = hashlib.sha256(b"").hexdigest()

Value = dict[str, Any]
Place = tuple[str | int, ...]


def load(name: str) -> Value:
    (path,) = (path for path in VECTORS if path.name.startswith(name))
    value: Value = json.loads(path.read_bytes())
    return value


def read(value: Value) -> HubCommit:
    return parse_hub_commit_json(json.dumps(value).encode(), subject="c")


def refuse(value: Value) -> str:
    with pytest.raises(CommitProofError) as caught:
        check_commit_proof(read(value), KEY)
    return caught.value.message


def seal(value: Value) -> Value:
    """The value with tree and commit id as its other fields give them, as a forger would."""

    def name(kind: str, body: bytes) -> str:
        return hashlib.sha1(f"{kind} {len(body)}\0".encode() + body).hexdigest()

    tree = b"".join(
        f"{int(entry['mode'], 8):o} {entry['name']}\0".encode() + bytes.fromhex(entry["git_sha1"])
        for entry in value["entries"]
    )
    made = {**value, "tree": name("tree", tree)}
    lines = [f"tree {made['tree']}", *(f"parent {one}" for one in made["parents"])]
    lines += [f"author {made['author']}", f"committer {made['committer']}"]
    if made["signature"] is not None:
        lines += ["gpgsig " + "\n ".join(made["signature"].split("\n"))]
    body = "\n".join([*lines, "", made["message"]])
    return {**made, "commit": name("commit", body.encode())}


def entry(name: str = "a", content: bytes = b"x", **more: object) -> Value:
    return {"mode": "100644", "name": name, "git_sha1": git_blob_id(content), **more}


def lfs(name: str, size: int, sha256: str) -> Value:
    pointer = lfs_pointer(size, sha256)
    return entry(name, pointer, lfs_size=size, lfs_sha256=sha256)


def commit(*entries: Value, **more: object) -> Value:
    return seal(
        {
            "hub_repo": "org/model",
            "commit": "",
            "tree": "",
            "parents": [],
            "author": "A <a@b> 1 +0000",
            "committer": "C <c@d> 2 -0130",
            "message": "m\n",
            "signature": None,
            "entries": list(entries) or [entry()],
            **more,
        }
    )


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_real_commits(path: Path) -> None:
    given_commit = parse_hub_commit_json(path.read_bytes(), subject=path.name)
    proof = check_commit_proof(given_commit, KEY)
    assert proof.signed is ("5a56bdb" not in path.name)
    for one in given_commit.entries:
        if one.lfs:
            assert proof.bound_sha256[one.name] == (one.size, one.sha256)
        elif one.mode == "040000":
            assert one.name not in proof.bound_git
        else:
            assert proof.bound_git[one.name] == one.git_sha1
            assert (one.sha256 is not None) is any(one.name in text for text in proof.unbound)
    assert proof.bound_sha256
    assert given_commit.repo in proof.unbound[0]
    value = json.loads(path.read_bytes())
    assert seal(value) == value


def test_the_four_vectors_are_here() -> None:
    assert len(VECTORS) == 4


# ---- every field counts


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from places(inner, (*at, i))
    else:
        yield at


def changed(value: Value, place: Place, change: Callable[[Any], Any]) -> Value:
    made = copy.deepcopy(value)
    inner: Any = made
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = change(inner[place[-1]])
    return made


def is_bound(place: Place) -> bool:
    """What Git binds. The rest is held against known commits, see the client below."""
    return place[0] != "hub_repo" and place[-1] not in ("size", "sha256")


def spoil(old: Any) -> Any:
    if old is None:
        return "x"
    if isinstance(old, int):
        return old + 1
    return ("1" if old[:1] == "0" else "0") + old[1:]


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_field_changed(path: Path) -> None:
    value = json.loads(path.read_bytes())
    for place in filter(is_bound, places(value)):
        refuse(changed(value, place, spoil))


SMALL = load("DeepSeek-R1-Distill")
BOUND = [place for place in places(SMALL) if is_bound(place)]


@settings(max_examples=500)
@given(st.sampled_from(BOUND), st.data())
def test_every_character_counts(place: Place, data: st.DataObject) -> None:
    def change(old: Any) -> Any:
        if isinstance(old, int):
            return data.draw(st.integers(0, 2**63).filter(lambda new: new != old))
        at = data.draw(st.integers(0, len(old)))
        cut = data.draw(st.integers(0, 2))
        piece = data.draw(st.one_of(st.text(max_size=2), st.sampled_from("0aA \n\r\t/.=-<>")))
        new = old[:at] + piece + old[at + cut :]
        return new if new != old else old + "0"

    value = changed(SMALL, place, change)
    with pytest.raises(InputError):
        check_commit_proof(read(value), KEY)


@settings(max_examples=200)
@given(st.sampled_from([place for place in BOUND if place[0] not in ("tree", "commit")]), st.data())
def test_a_forger_who_recomputes_the_ids_needs_the_key(place: Place, data: st.DataObject) -> None:
    def change(old: Any) -> Any:
        if isinstance(old, int):
            return old + 1
        at = data.draw(st.integers(0, len(old) - 1))
        new = data.draw(st.sampled_from("0123456789abcdefXYZ+/ ").filter(lambda c: c != old[at]))
        return old[:at] + new + old[at + 1 :]

    value = changed(SMALL, place, change)
    for one in value["entries"]:
        if "lfs_size" in one:
            with contextlib.suppress(ValueError):
                pointer = lfs_pointer(one["lfs_size"], one["lfs_sha256"])
                one["git_sha1"] = git_blob_id(pointer)
    # An id of a pointer is what the forger recomputed just now.
    if value != SMALL:
        with contextlib.suppress(ValueError):
            refuse(seal(value))


def test_a_removed_signature_is_another_commit() -> None:
    refuse({**SMALL, "signature": None})
    stripped = seal({**SMALL, "signature": None})
    assert stripped["commit"] != SMALL["commit"]
    assert not check_commit_proof(read(stripped), KEY).signed


def test_a_signature_of_another_commit() -> None:
    other = load("gpt-oss")["signature"]
    assert refuse(seal({**SMALL, "signature": other})).startswith("signature: ")
    refuse(seal({**SMALL, "signature": SMALL["signature"] + "\n"}))
    refuse(seal({**SMALL, "signature": ""}))


@pytest.mark.parametrize("name", ["DeepSeek-R1@3302", "DeepSeek-R1@5a56"])
def test_entries_moved_lost_doubled_or_swapped(name: str) -> None:
    value = load(name)
    entries = value["entries"]
    swapped = copy.deepcopy(entries)
    for field in ("lfs_sha256", "lfs_size", "git_sha1"):
        swapped[10][field], swapped[11][field] = swapped[11][field], swapped[10][field]
    for made in (
        entries[1:],
        entries[:-1],
        [entries[1], entries[0], *entries[2:]],
        [entries[0], *entries],
        [*entries, entry("zzz")],
        [],
        swapped,
    ):
        refuse({**value, "entries": made})
    refuse({**value, "parents": []})
    refuse({**value, "parents": value["parents"] * 2})
    refuse({**value, "author": value["committer"] + " "})


# ---- commits of our own, all ids recomputed: what is refused although they fit


def test_own_commits() -> None:
    for value in (
        commit(),
        commit(entry("a.b"), {**entry("a"), "mode": "040000"}, entry("a0")),
        commit(parents=["1" * 40, "2" * 40]),
        commit(message=""),
        commit(message="\n\ngpgsig x\r\n\0\u202e"),
        commit(author="深度 <> 0 +0800"),
        commit({**entry(), "mode": "100755"}, {**entry("b"), "mode": "120000"}),
        commit({**entry("s"), "mode": "160000"}),
        commit(entry("a", size=1), entry("b", sha256=hashlib.sha256(b"x").hexdigest())),
        commit(entry("a", b"", size=0, sha256=EMPTY), entry("b", b"")),
        commit(lfs("a", 5, "ab" * 32), lfs("b", 5, "ab" * 32), entry("c", sha256="ab" * 32)),
        commit(lfs("a", 0, EMPTY), lfs("b", 2**63 - 1, "0" * 64)),
    ):
        assert not check_commit_proof(read(value), KEY).signed


@pytest.mark.parametrize(
    "entries",
    [
        [entry("b"), entry("a")],
        [entry("a"), entry("a")],
        [entry("a"), entry("a.b"), {**entry("a"), "mode": "040000"}],
        [{**entry("a"), "mode": "040000"}, entry("a.b")],
        [entry("a/b")],
        [entry("..")],
        [entry(".")],
        [entry("")],
        [entry("a\nb")],
        [entry("a\0b")],
        [entry("/a")],
        [{**entry(), "mode": "100600"}],
        [{**entry(), "mode": "0100644"}],
        [{**entry(), "mode": "0"}],
        [{**lfs("a", 1, "0" * 64), "mode": "120000"}],
        [{**lfs("a", 1, "0" * 64), "mode": "160000"}],
        [{**entry("a", size=1), "mode": "040000"}],
        [{**entry("a", sha256="0" * 64), "mode": "160000"}],
        # One content with two sizes or digests, or one digest of two contents.
        [entry("a", size=1), entry("b", size=2)],
        [entry("a", sha256="0" * 64), entry("b", sha256="1" * 64)],
        [entry("a", b"x", sha256="0" * 64), entry("b", b"y", sha256="0" * 64)],
        [entry("a", b"x", size=1, sha256="0" * 64), lfs("b", 2, "0" * 64)],
        [lfs("a", 1, "0" * 64), lfs("b", 2, "0" * 64)],
        [lfs("a", 1, "0" * 64), entry("b", lfs_pointer(1, "0" * 64), size=7)],
        [lfs("a", 1, "0" * 64), entry("b", lfs_pointer(1, "0" * 64), sha256="1" * 64)],
        [entry("a", b"", size=1)],
        [entry("a", b"", sha256="0" * 64)],
        [entry("a", b"x", size=0)],
        [entry("a", b"x", sha256=EMPTY)],
        [lfs("a", 1, EMPTY)],
    ],
)
def test_entries_that_are_refused(entries: list[Value]) -> None:
    refuse(commit(*entries))


@pytest.mark.parametrize(
    "fields",
    [
        {"author": "A <a@b> 1 +0000\ncommitter X <x@y> 1 +0000"},
        {"author": "A <a@b> 1 +0000\nparent " + "0" * 40},
        {"author": ""},
        {"author": "A <a@b> 1"},
        {"author": "A <a@b> -1 +0000"},
        {"author": "A <a@b> 1 0000"},
        {"author": "A <a@b> 1 +0000 "},
        {"author": "A <a> <b> 1 +0000"},
        {"committer": "A a@b 1 +0000"},
        {"committer": "A <a@b> 1 +0000\ngpgsig x"},
        {"committer": "A <a@b> 1 +0000\n\nmessage"},
        {"committer": "A\r <a@b> 1 +0000"},
        {"committer": "A <a@b> \u0661 +0000"},
        {"parents": ["0" * 40] * 1000},
        {"signature": "x"},
        {"signature": "x\n\ny"},
    ],
)
def test_fields_that_are_refused(fields: Value) -> None:
    refuse(commit(**fields))


def test_hand_made_commits_fail_in_order_too() -> None:
    good = read(commit())
    blob = TreeEntry("100644", "a", git_blob_id(b"x"))
    for wrong in (
        replace(good, commit="x"),
        replace(good, tree="A" * 40),
        replace(good, parents=("",)),
        replace(good, author="\ud800 <a@b> 1 +0000"),
        replace(good, message="\ud800"),
        replace(good, entries=(replace(blob, git_sha1="zz" * 20),)),
        replace(good, entries=(replace(blob, git_sha1=" " + "0" * 39),)),
        replace(good, entries=(replace(blob, name="\ud800"),)),
        replace(good, entries=(replace(blob, lfs=True),)),
        replace(good, entries=()),
    ):
        with pytest.raises(CommitProofError):
            check_commit_proof(wrong, KEY)


# ---- the JSON form


@pytest.mark.parametrize(
    "change",
    [
        {"more": 1},
        {"commit": "A" * 40},
        {"commit": "0" * 39},
        {"commit": None},
        {"tree": 0},
        {"parents": None},
        {"parents": [None]},
        {"parents": "0" * 40},
        {"author": None},
        {"message": 1},
        {"signature": 1},
        {"signature": False},
        {"entries": {}},
        {"entries": [None]},
        {"hub_repo": ""},
        {"hub_repo": None},
        {"hub_repo": "../x"},
        {"hub_repo": "a/b\n"},
        {"hub_repo": "a//b"},
        {"hub_repo": "a/b/c/d"},
        *(
            {"entries": [one]}
            for one in (
                {},
                {**entry(), "more": 1},
                {**entry(), "mode": 100644},
                {**entry(), "git_sha1": "A" * 40},
                entry(size=-1),
                entry(size=1.0),
                entry(size=True),
                entry(size="1"),
                entry(size=None),
                entry(size=2**63),
                entry(sha256="A" * 64),
                entry(sha256="0" * 63),
                entry(sha256=None),
                entry(lfs_size=1),
                entry(lfs_sha256="0" * 64),
                entry(lfs_size=1, lfs_sha256="0" * 64, size=1),
                entry(lfs_size=1, lfs_sha256="0" * 64, sha256="0" * 64),
            )
        ),
    ],
)
def test_malformed_values(change: Value) -> None:
    with pytest.raises(CommitProofError):
        read({**commit(), **change})


def test_every_field_must_be_there() -> None:
    for name in commit():
        value = commit()
        del value[name]
        with pytest.raises(CommitProofError):
            read(value)


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"<html>", b"\xff", b"[" * 100_000])
def test_files_that_are_no_commit(raw: bytes) -> None:
    with pytest.raises(CommitProofError):
        parse_hub_commit_json(raw, subject="c")


def test_duplicate_keys() -> None:
    raw = json.dumps(commit())
    for name in ('"tree"', '"name"'):
        twice = raw.replace(f"{name}: ", f'{name}: "x", {name}: ', 1)
        with pytest.raises(CommitProofError, match="twice"):
            parse_hub_commit_json(twice.encode(), subject="c")


@given(st.binary(max_size=100), st.integers(0, 10_000), st.integers(0, 255))
def test_nothing_else_escapes(raw: bytes, position: int, byte: int) -> None:
    spoilt = bytearray(json.dumps(SMALL).encode())
    spoilt[position % len(spoilt)] = byte
    for text in (raw, bytes(spoilt)):
        with contextlib.suppress(CommitProofError):
            check_commit_proof(parse_hub_commit_json(text, subject="c"), KEY)


# ---- what Git does not bind


def test_conflicts() -> None:
    known = read(commit(entry("a", size=1, sha256="0" * 64), lfs("b", 2, "1" * 64)))
    same = known.entries[0]
    assert conflicts_with(known, known) == []
    (line,) = conflicts_with(known, replace(known, repo="org/other"))
    assert line.startswith("hub_repo: ")
    for change in (
        {"size": 2},
        {"size": None},
        {"sha256": "2" * 64},
        {"sha256": None},
        {"lfs": True},
        # A collision of SHA-1 could make these hold too.
        {"git_sha1": "0" * 40},
        {"mode": "100755"},
    ):
        other = (replace(same, **change), *known.entries[1:])
        (line,) = conflicts_with(known, replace(known, entries=other))
        assert line.startswith(f"{next(iter(change))} of a: ")
    added = read(commit(entry("a", size=1), lfs("b", 2, "1" * 64)))
    (line,) = conflicts_with(added, replace(known, commit=added.commit))
    assert line == f"sha256 of a: {'0' * 64}, where the known commit says nothing"
    for field in ("tree", "parents", "author", "committer", "message", "signature"):
        fields: dict[str, Any] = {field: "x"}
        (line,) = conflicts_with(known, replace(known, **fields))
        assert line.startswith(f"{field}: ")
    (line,) = conflicts_with(known, replace(known, entries=known.entries[:1]))
    assert line.startswith("entries: ")


def test_conflicts_of_other_commits() -> None:
    known = read(commit(entry("a", size=1, sha256="0" * 64), lfs("b", 2, "1" * 64)))
    same = known.entries[0]

    def conflicts(**change: Any) -> list[str]:
        other = replace(same, name="renamed", **change)
        return conflicts_with(known, replace(known, commit="0" * 40, repo="x/y", entries=(other,)))

    # Other commits have other names, but a blob is a blob.
    for change in ({"size": 2}, {"sha256": "2" * 64}):
        (line,) = conflicts(**change)
        assert line.startswith(f"{next(iter(change))} of renamed: ")
    assert conflicts() == conflicts(size=None) == conflicts(git_sha1="0" * 40, size=2) == []


def test_known_commits() -> None:
    known = known_commits()
    assert [one.commit for one in known] == list(dict.fromkeys(one.commit for one in known))
    for one in known:
        check_commit_proof(one, KEY)
    # The vectors are the source of every figure.
    given = {one.commit: one for one in (read(json.loads(path.read_bytes())) for path in VECTORS)}
    assert {one.commit: one for one in known} == given
