"""The files of a model against a statement: ignored paths, shards, links, races."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from r1prov.errors import Unreadable
from r1prov.manifest.oms_files import FileCheck, FileOptions, check_files, is_below
from r1prov.manifest.oms_links import follow_links
from r1prov.manifest.oms_statement import OmsFile, OmsStatement
from r1prov.stores.base import Entry, EntryKind
from r1prov.stores.local import LocalBlob, LocalStore

FILES = {"config.json": b"{}", "w.bin": bytes(range(100)), "sub/a": b"a", "sub/empty": b""}
MAKE: dict[str, Any] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b, "blake3": blake3}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    write(root, FILES)
    return root


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def signed(
    files: dict[str, bytes] = FILES,
    *,
    hash_type: str = "sha256",
    shard_size: int | None = None,
    allow_symlinks: bool = False,
    ignore_paths: tuple[str, ...] = (),
) -> OmsStatement:
    make = MAKE[hash_type]
    listed = []
    for path, data in files.items():
        if shard_size is None:
            listed.append(OmsFile(path, (make(data).digest(),)))
        elif data:
            cuts = range(0, len(data), shard_size)
            digests = tuple(make(data[i : i + shard_size]).digest() for i in cuts)
            listed.append(OmsFile(path, digests, len(data)))
    return OmsStatement(
        "m",
        "0" * 64,
        hash_type,
        shard_size,
        allow_symlinks=allow_symlinks,
        ignore_paths=ignore_paths,
        files=tuple(listed),
    )


def check(statement: OmsStatement, root: Path, **options: Any) -> FileCheck:
    return check_files(statement, LocalStore(root), FileOptions(**options))


def found(checked: FileCheck) -> list[tuple[str, str]]:
    return sorted((one.rule, one.subject) for one in checked.findings)


@pytest.mark.parametrize("hash_type", MAKE)
def test_every_hash(model: Path, hash_type: str) -> None:
    checked = check(signed(hash_type=hash_type), model)
    assert checked.findings == ()
    # Ours is the same whatever the signer hashed with, and however he called the model.
    assert checked.tree_digest == check(signed(), model).tree_digest
    (model / "w.bin").write_bytes(bytes(99) + b"x")
    assert found(check(signed(hash_type=hash_type), model)) == [("file-digest", "w.bin")]


@pytest.mark.parametrize("hash_type", MAKE)
@pytest.mark.parametrize("size", [1, 10, 30, 99, 100, 101, 10**9])
def test_shards(model: Path, hash_type: str, size: int) -> None:
    statement = signed(hash_type=hash_type, shard_size=size)
    (model / "sub/empty").unlink()
    assert check(statement, model).findings == ()
    (model / "w.bin").write_bytes(FILES["w.bin"][:45] + b"\xff" + FILES["w.bin"][46:])
    (finding,) = check(statement, model).findings
    assert (finding.rule, finding.subject) == ("file-digest", "w.bin")
    assert f"byte {45 // size * size:,} on" in finding.message
    assert finding.expected != finding.found
    for content in (FILES["w.bin"] + b"x", FILES["w.bin"][:-1], b""):
        (model / "w.bin").write_bytes(content)
        assert found(check(statement, model)) == [("file-size", "w.bin")]


def test_a_file_of_another_size_is_not_read(model: Path) -> None:
    """A hole of a terabyte costs nothing to send, and a digest every ten bytes all the memory."""
    (model / "sub/empty").unlink()
    os.truncate(model / "w.bin", 2**40)
    checked = check(signed(shard_size=10), model)
    assert found(checked) == [("file-size", "w.bin")]
    assert checked.bytes_hashed < 1000
    assert checked.tree_digest is None


def test_empty_files_cannot_hide_under_shards(model: Path) -> None:
    """Shards list no empty file, so one that is there was either never signed or emptied."""
    checked = check(signed(shard_size=10), model)
    assert found(checked) == [("file-unlisted", "sub/empty")]
    assert "empty" in (checked.findings[0].hint or "")
    assert check(signed(shard_size=10), model, ignore_paths=("sub/empty",)).findings == ()


def test_below_is_by_components() -> None:
    assert is_below("cache", {"cache"})
    assert is_below("cache/x/y", {"cache"})
    assert is_below("a/b/c", {"a/b"})
    assert not is_below("cache2", {"cache"})
    assert not is_below("x/cache", {"cache"})
    assert not is_below("a", {"a/b"})


@pytest.mark.parametrize("who", ["signer", "caller"])
def test_ignored_paths(model: Path, who: str) -> None:
    write(model, {"cache/x/y.bin": b"", "cache2": b"", "sub/cache": b"", ".git/HEAD": b""})
    (model / "cache/link").symlink_to("/etc/passwd")
    os.mkfifo(model / "cache/pipe")
    statement = signed(ignore_paths=("cache",) if who == "signer" else ())
    checked = check(statement, model, ignore_paths=("cache",) if who == "caller" else ())
    assert found(checked) == [("file-unlisted", "cache2"), ("file-unlisted", "sub/cache")]
    assert checked.ignored == (".git/HEAD", "cache/link", "cache/pipe", "cache/x/y.bin")


@pytest.mark.parametrize("name", [".git", ".gitignore", ".gitattributes", ".github"])
def test_default_ignored_only_at_the_top(model: Path, name: str) -> None:
    write(model, {name: b"", f"sub/{name}": b""})
    assert found(check(signed(), model)) == [("file-unlisted", f"sub/{name}")]


def test_a_signed_file_is_checked_even_where_it_is_ignored(model: Path) -> None:
    statement = signed(ignore_paths=("sub", "w.bin"))
    (model / "sub/a").write_bytes(b"b")
    (model / "w.bin").unlink()
    assert found(check(statement, model)) == [("file-digest", "sub/a"), ("file-missing", "w.bin")]


@pytest.mark.parametrize(
    "name",
    [
        *("model.safetensors", "MODEL.SAFETENSORS", "deep/x.gguf", "modeling_x.py", "config.json"),
        *("tokenizer.json", "tokenizer.model", "chat_template.jinja", "processor_config.json"),
    ],
)
def test_a_signature_does_not_leave_out_what_is_loaded(tmp_path: Path, name: str) -> None:
    files = {"README.md": b"", "notes/x.bin": b""}
    write(tmp_path / "m", {**files, name: b"evil"})
    statement = signed({"README.md": b""}, ignore_paths=(name, "notes"))
    assert found(check(statement, tmp_path / "m")) == [("signed-path-ignored", name)]
    # The caller may; then it is his word and not the signer's.
    assert check(statement, tmp_path / "m", ignore_paths=(name,)).findings == ()
    (tmp_path / "m" / name).unlink()
    assert check(statement, tmp_path / "m").findings == ()


def test_unsigned_files_may_be_ignored_but_never_signed_ones(model: Path) -> None:
    write(model, {"extra": b"", "sub/more": b""})
    (model / "link").symlink_to("/etc/passwd")
    os.mkfifo(model / "pipe")
    statement = signed()
    assert check(statement, model, ignore_unsigned_files=True).findings == ()
    (model / "w.bin").unlink()
    (model / "config.json").write_bytes(b"[]")
    (model / "sub/a").unlink()
    os.mkfifo(model / "sub/a")
    (model / "sub/empty").unlink()
    (model / "sub/empty").symlink_to("more")
    assert found(check(statement, model, ignore_unsigned_files=True)) == [
        ("file-digest", "config.json"),
        ("file-missing", "w.bin"),
        ("not-regular", "sub/a"),
        ("symlink", "sub/empty"),
    ]


def test_a_file_that_cannot_be_read(model: Path) -> None:
    class Store(LocalStore):
        def open(self, path: str) -> LocalBlob:
            if path == "w.bin":
                raise Unreadable("cannot be read: Input/output error", subject=path)
            return super().open(path)

    checked = check_files(signed(), Store(model), FileOptions())
    assert found(checked) == [("file-unread", "w.bin")]
    assert checked.tree_digest is None


def during(model: Path, action: Callable[[], object]) -> LocalStore:
    """A store in which something happens while a file is opened."""

    class Store(LocalStore):
        def open(self, path: str) -> LocalBlob:
            blob = super().open(path)
            if path == "w.bin":
                action()
            return blob

    return Store(model)


def test_what_changes_meanwhile(model: Path) -> None:
    def run(action: Callable[[], object], **options: Any) -> list[tuple[str, str]]:
        store = during(model, action)
        return found(check_files(signed(), store, FileOptions(workers=1, **options)))

    assert run(lambda: (model / "new").write_bytes(b"")) == [("listing-changed", "new")]
    (model / "new").unlink()
    assert run(lambda: write(model, {".git/x": b""})) == []
    assert run(lambda: (model / "new").write_bytes(b""), ignore_unsigned_files=True) == []
    (model / "new").unlink()
    # Swapped behind the open file: what was hashed is not what is there.
    other = model.parent / "other"
    other.write_bytes(bytes(100))
    assert run(lambda: other.replace(model / "w.bin")) == [("file-changed", "w.bin")]
    write(model, FILES)
    assert ("file-changed", "w.bin") in run(lambda: (model / "w.bin").write_bytes(bytes(100)))


# ---------------------------------------------------------------- links


def linked(model: Path, **how: Any) -> Any:
    files = {**FILES, "link": FILES["w.bin"]}
    return lambda **options: found(check(signed(files, **how), model, **options))


def test_links_are_followed_where_signer_and_caller_agree(model: Path) -> None:
    (model / "link").symlink_to("w.bin")
    refused = [("symlink", "link")]
    assert linked(model, allow_symlinks=True)(allow_symlinks=True) == []
    assert linked(model, allow_symlinks=True)() == refused
    assert linked(model)(allow_symlinks=True) == refused
    assert linked(model)() == refused
    # The content counts, whatever it is reached through.
    (model / "link").unlink()
    (model / "link").symlink_to("sub/a")
    assert linked(model, allow_symlinks=True)(allow_symlinks=True) == [("file-digest", "link")]


def test_an_added_link_is_an_added_file(model: Path) -> None:
    (model / "model.safetensors").symlink_to("w.bin")
    checked = check(signed(allow_symlinks=True), model, allow_symlinks=True)
    assert found(checked) == [("file-unlisted", "model.safetensors")]


@pytest.mark.parametrize(
    "target",
    [
        "../secret",
        "/etc/passwd",
        "/w.bin",
        "sub/../../secret",
        "nowhere",
        "link",
        "w.bin/x",
        "sub/../../model/w.bin",
        "../model/w.bin",
        "sub/nowhere/../../w.bin",
    ],
)
def test_links_that_leave_the_model_or_lead_nowhere(model: Path, target: str) -> None:
    (model.parent / "secret").write_bytes(FILES["w.bin"])
    (model / "link").symlink_to(target)
    follow = linked(model, allow_symlinks=True)
    assert follow(allow_symlinks=True) == [("symlink", "link")]
    assert follow(allow_symlinks=True, ignore_unsigned_files=True) == [("symlink", "link")]


@pytest.mark.parametrize(
    "target", ["./w.bin", "sub/../w.bin", "sub//..//w.bin", "hop", "d/../w.bin"]
)
def test_links_that_stay_inside(model: Path, target: str) -> None:
    (model / "hop").symlink_to("sub/hop2")
    (model / "sub/hop2").symlink_to("../w.bin")
    (model / "d").symlink_to("sub")
    (model / "link").symlink_to(target)
    # Through a linked directory `..` is its parent, not the link's.
    wanted = os.path.realpath(model / "link") == os.path.realpath(model / "w.bin")
    assert wanted
    result = linked(model, allow_symlinks=True)(allow_symlinks=True, ignore_unsigned_files=True)
    assert result == []


def test_linked_directories(model: Path) -> None:
    (model / "alias").symlink_to("sub")
    files = signed(allow_symlinks=True)
    # What is reached through it is signed under its own name.
    assert check(files, model, allow_symlinks=True).findings == ()
    both = signed({**FILES, "alias/a": b"a"}, allow_symlinks=True)
    assert check(both, model, allow_symlinks=True).findings == ()
    wrong = signed({**FILES, "alias/a": b"b"}, allow_symlinks=True)
    assert found(check(wrong, model, allow_symlinks=True)) == [("file-digest", "alias/a")]
    # But not what is ignored: a second name would bring it in.
    write(model, {"cache/x": b""})
    (model / "alias").unlink()
    (model / "alias").symlink_to("cache")
    ignoring = signed(allow_symlinks=True, ignore_paths=("cache",))
    assert found(check(ignoring, model, allow_symlinks=True)) == [("file-unlisted", "alias/x")]
    unsigned = {"allow_symlinks": True, "ignore_unsigned_files": True}
    assert check(ignoring, model, **unsigned).findings == ()
    for target in (".", "..", "sub/.."):
        (model / "alias").unlink()
        (model / "alias").symlink_to(target)
        assert found(check(files, model, allow_symlinks=True, ignore_paths=("cache",))) == [
            ("symlink", "alias")
        ]


def test_a_linked_directory_with_links(model: Path) -> None:
    (model / "sub/back").symlink_to("..")
    (model / "alias").symlink_to("sub")
    checked = check(signed(allow_symlinks=True), model, allow_symlinks=True)
    assert found(checked) == [("symlink", "alias"), ("symlink", "sub/back")]


def tree(seed: int, root: Path) -> None:
    chance = random.Random(seed)
    names = ["a", "b", "d/a", "d/e/a"]
    write(root, {name: name.encode() for name in names})
    for name in ("l1", "l2", "d/l1", "d/e/l2"):
        parts = [chance.choice(["..", ".", "a", "b", "d", "e", "l1", "l2", ""]) for _ in range(4)]
        target = "/".join(parts[: chance.randint(1, 4)]) or "."
        (root / name).symlink_to(target.lstrip("/") or ".")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_links_lead_where_the_system_says(seed: int, tmp_path_factory: Any) -> None:
    root = tmp_path_factory.mktemp("links") / "m"
    tree(seed, root)
    entries = LocalStore(root).entries()
    followed = follow_links(entries)
    for entry in entries:
        if entry.kind is not EntryKind.LINK:
            continue
        real = Path(os.path.realpath(root / entry.path))
        if entry.path in followed.files:
            assert real == root / followed.files[entry.path]
        elif entry.path not in followed.faults:
            assert real.is_dir()
            assert real.is_relative_to(root)
    for path, own in followed.below.items():
        assert Path(os.path.realpath(root / path)) == root / own


def test_many_links_end() -> None:
    ring = [Entry(f"l{i}", EntryKind.LINK, detail=f"l{(i + 1) % 50}") for i in range(50)]
    assert len(follow_links(ring).faults) == 50
    line = [Entry(f"l{i}", EntryKind.LINK, detail=f"l{i + 1}") for i in range(30)]
    assert follow_links([*line, Entry("l30", EntryKind.FILE)]).files["l0"] == "l30"
