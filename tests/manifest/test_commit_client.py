"""The client for Hub commits: no altered field of a known commit passes, unknown ones still do."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
VECTORS = sorted((ROOT / "tests" / "vectors" / "hub-commits").glob("*.json"))
CLIENT = ROOT / "tests" / "conformance" / "hub-commit-client"

Value = dict[str, Any]
Main = Callable[[list[str]], int]


def load(name: str) -> Value:
    (path,) = (path for path in VECTORS if path.name.startswith(name))
    value: Value = json.loads(path.read_bytes())
    return value


def run(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, CLIENT, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@cache
def client_main() -> Main:
    """`main` of the client, for thousands of calls in this process."""
    loader = SourceFileLoader("hub_commit_client", str(CLIENT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(CLIENT.parent))
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.path.remove(str(CLIENT.parent))
        sys.dont_write_bytecode = writes_bytecode
    main: Main = module.main
    return main


# ---- every leaf altered


def other_values(old: Any) -> list[Any]:
    """What may stand in place of a scalar, of the same type and of others."""
    if old is None:
        return ["", "x", 0, False, [], {}]
    if type(old) is int:
        return [old + 1, old - 1, 0, -old, str(old), float(old), None]
    digit = ("1" if old[:1] == "0" else "0") + old[1:]
    last = old[:-1] + ("1" if old[-1:] == "0" else "0")
    return [digit, last, old[:-1], old + "0", old.swapcase(), old + "\n", "", None, 0, [old]]


def alterations(value: Any, *, most: int) -> Iterator[tuple[str, Any]]:
    """A name, and the value with one leaf, key or item of it altered, anywhere inside.

    `most` is how many other values a leaf gets.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"without {key}", {k: v for k, v in value.items() if k != key}
            for what, new in alterations(inner, most=most):
                yield f"{key} {what}", {**value, key: new}
        yield "with another key", {**value, "x": 1}
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            before, after = value[:i], value[i + 1 :]
            yield f"[{i}] dropped", before + after
            yield f"[{i}] twice", [*before, inner, inner, *after]
            if after:
                yield f"[{i}] swapped", [*before, after[0], inner, *after[1:]]
            for what, new in alterations(inner, most=most):
                yield f"[{i}] {what}", [*before, new, *after]
        yield "reversed", value[::-1]
        yield "emptied", []
    else:
        yield from ((f"= {new!r}", new) for new in other_values(value)[:most])


def added_facts(value: Value) -> Iterator[tuple[str, Value]]:
    """Facts where the file states none, and files under Git LFS stated as what they are in Git."""
    for i, entry in enumerate(value["entries"]):
        plain = {key: entry[key] for key in ("mode", "name", "git_sha1")}
        others: list[Value] = [{**entry, "size": 1}, {**entry, "sha256": "1" * 64}]
        if "lfs_size" in entry:
            pointer = (
                "version https://git-lfs.github.com/spec/v1\n"
                f"oid sha256:{entry['lfs_sha256']}\nsize {entry['lfs_size']}\n"
            ).encode()
            sha256 = hashlib.sha256(pointer).hexdigest()
            others += [plain, {**plain, "size": len(pointer), "sha256": sha256}]
        for j, other in enumerate(others):
            if other != entry:
                entries = [*value["entries"][:i], other, *value["entries"][i + 1 :]]
                yield f"[{i}] facts {j}", {**value, "entries": entries}


def altered(value: Value) -> Iterator[tuple[str, str]]:
    # R1's commits have 173 entries each; what else may stand in a field is tried on the small ones.
    most = 2 if len(value["entries"]) > 100 else 10
    unchanged = json.dumps(value)
    for what, changed in (*alterations(value, most=most), *added_facts(value)):
        # A list of one item reversed is the same list, and `-0` the same number.
        if (text := json.dumps(changed)) != unchanged:
            yield what, text


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_every_leaf_counts(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main, value = client_main(), json.loads(path.read_bytes())
    assert main([str(path)]) == 0
    capsys.readouterr()
    file = tmp_path / "commit.json"
    count = 0
    for what, changed in altered(value):
        # A new file each time: what truncates an old one waits for the disk with some file systems.
        file.unlink(missing_ok=True)
        file.write_text(changed)
        assert main([str(file)]) == 1, what
        out, err = capsys.readouterr()
        assert out.startswith("invalid: "), what
        assert (out.count("\n"), err) == (1, ""), what
        count += 1
    assert count > 20 * len(value["entries"])


UNBOUND_UNTIL_KNOWN: list[tuple[str, tuple[str | int, ...], object]] = [
    ("DeepSeek-R1@3302", ("entries", 1, "size"), None),
    ("DeepSeek-R1@3302", ("entries", 1, "sha256"), None),
    ("DeepSeek-R1@5a56", ("hub_repo",), "deepseek-ai/DeepSeek-R1-Zero"),
    ("DeepSeek-R1@5a56", ("entries", 2, "size"), 14555),
    ("DeepSeek-R1@5a56", ("entries", 2, "sha256"), "0" * 64),
    ("DeepSeek-R1@5a56", ("entries", 2, "sha256"), None),
    ("DeepSeek-R1-Distill", ("entries", 3, "size"), None),
    ("gpt-oss", ("hub_repo",), "openai/gpt-oss-120b"),
    ("gpt-oss", ("entries", 1, "size"), 11358),
    ("gpt-oss", ("entries", 1, "sha256"), None),
]


@pytest.mark.parametrize(("name", "place", "new"), UNBOUND_UNTIL_KNOWN)
def test_what_no_id_binds_counts_too(
    tmp_path: Path, name: str, place: tuple[str | int, ...], new: object
) -> None:
    value = load(name)
    inner: Any = value
    for step in place[:-1]:
        inner = inner[step]
    if new is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    path = tmp_path / "commit.json"
    path.write_text(json.dumps(value))
    status, out, err = run(path)
    assert (status, err) == (1, "")
    assert out.startswith(f"invalid: {place[-1]}")


# ---- unknown commits, and the protocol


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sources of an installation that knows the commits of the manifests and no others."""
    root = tmp_path_factory.mktemp("installation")
    shutil.copytree(ROOT / "src" / "r1prov", root / "src" / "r1prov")
    shutil.copytree(ROOT / "keys", root / "keys")
    shutil.copytree(
        ROOT / "manifests", root / "manifests", ignore=shutil.ignore_patterns("*@*.json", "facts")
    )
    return str(root / "src")


def test_client_is_executable() -> None:
    assert os.access(CLIENT, os.X_OK)


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_client_takes_real_commits(path: Path) -> None:
    unsigned = "5a56bdb" in path.name
    status, out, err = run(path)
    assert (status, out) == (0, "valid unsigned\n" if unsigned else "valid signed\n")
    assert err == ""


@pytest.mark.parametrize(
    ("name", "answer"), [("DeepSeek-R1@5a56", "valid unsigned"), ("gpt-oss", "valid signed")]
)
def test_client_takes_unknown_commits(
    tmp_path: Path, elsewhere: str, name: str, answer: str
) -> None:
    value = load(name)
    path = tmp_path / "commit.json"
    path.write_text(json.dumps(value))
    status, out, err = run(path, PYTHONPATH=elsewhere)
    assert (status, out) == (0, answer + "\n")
    files = [one["name"] for one in value["entries"] if "sha256" in one]
    assert err.splitlines() == [
        f"note: r1prov does not know commit {value['commit']}, and Git does not bind:",
        f"note: repository {value['hub_repo']}",
        *(f"note: size and SHA-256 of {one} (Git binds its SHA-1 only)" for one in files),
    ]


def test_client_knows_blobs_of_other_commits(tmp_path: Path, elsewhere: str) -> None:
    """The licence of R1's release commit is that of the commit in the manifest."""
    value = load("DeepSeek-R1@5a56")
    value["entries"][1]["size"] += 1
    path = tmp_path / "commit.json"
    path.write_text(json.dumps(value))
    assert run(path, PYTHONPATH=elsewhere)[:2] == (
        1,
        "invalid: size of LICENSE: 1065, where a known commit says 1064\n",
    )


def test_client_on_a_damaged_installation(tmp_path: Path, elsewhere: str) -> None:
    root = shutil.copytree(Path(elsewhere).parent, tmp_path / "damaged")
    (root / "manifests" / "hub-commits").rmdir()
    status, out, err = run(VECTORS[0], PYTHONPATH=str(root / "src"))
    assert (status, out) == (4, "")
    assert "`manifests/hub-commits` is missing" in err


@pytest.mark.parametrize(
    "fields",
    [{"message": "x"}, {"author": "\x1b]0;pwned\x07"}, {"hub_repo": "\u202ex"}, {"\x1b[1m": 1}],
)
def test_client_answers_in_one_printable_line(tmp_path: Path, fields: Value) -> None:
    path = tmp_path / "commit.json"
    path.write_text(json.dumps(load("gpt-oss") | fields))
    status, out, err = run(path)
    assert (status, err) == (1, "")
    assert out.startswith("invalid: ")
    assert out.count("\n") == 1
    assert out[:-1].isprintable()


@pytest.mark.parametrize("raw", [b"", b"\xff", b"{}", b"[" * 1000])
def test_client_on_malformed_files(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "commit.json"
    path.write_bytes(raw)
    status, out, err = run(path)
    assert (status, err) == (1, "")
    assert out.startswith("invalid: ")


def test_client_on_files_that_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (tmp_path / "none\x1b", tmp_path, fifo):
        status, out, err = run(path)
        assert (status, out) == (4, "")
        assert err.startswith("error: ")
        assert "\x1b" not in err
    assert run()[0] == run("a", "b")[0] == 2
