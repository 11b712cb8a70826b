"""`r1prov evidence` where something is wrong: what is said, with which status, and what is left."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from evidence_case import Case, call, case
from tsa_server import Tsa, serving, stamping

from r1prov.cli.app import run
from r1prov.trust.keys import encode_private_key

__all__ = ["case"]

Do = Callable[..., tuple[int, str, str]]
REDACT = ("-o", "x.zip", "--exchange", "x.json", "--redact")
CREATE = ("create", "./model", "-m", "m.toml", "--keys", "keys", "--key", "maker.key")


@pytest.fixture(scope="module")
def bundle(case: Case) -> Path:
    path = case.folder / "a.zip"
    path.write_bytes(case.bundle())
    return path


@pytest.fixture
def do(
    case: Case,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Do:
    for name in ("model", "keys", "m.toml", "maker.key", "k.key", "a.zip"):
        os.symlink(case.folder / name, tmp_path / name)
    for one in case.folder.glob("m.toml.*"):
        os.symlink(one, tmp_path / one.name)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def calling(*arguments: str) -> tuple[int, str, str]:
        before = sorted(os.listdir())
        status = run(["evidence", *arguments])
        out, err = capsys.readouterr()
        assert "internal error" not in err
        if status in (2, 4):
            assert sorted(os.listdir()) == before, "something was written"
        return status, out, err

    return calling


@pytest.mark.parametrize("command", ["verify", "show"])
def test_what_is_no_bundle(do: Do, command: str) -> None:
    os.mkdir("d")
    os.mkfifo("f")
    Path("empty").touch()
    os.symlink("nowhere", "link")
    with Path("sparse").open("wb") as file:
        file.truncate(1 << 42)
    for name, says in (
        ("d", "Is a directory"),
        ("f", "does not begin with a member"),
        ("empty", "does not begin with a member"),
        ("link", "no such file"),
        ("absent", "no such file"),
        ("sparse", "is larger than"),
        ("m.toml", "does not begin with a member"),
    ):
        started = time.monotonic()
        status, out, err = do(command, name)
        assert (status, out) == (4, ""), name
        assert says in err
        assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--keys", "absent"), 4, "no such file: absent/trust.toml"),
        (("--keys", "model"), 4, "no such file: model/trust.toml"),
        (("--keys", "keys", "--model", "absent"), 4, "does not exist"),
        (("--keys", "keys", "--policy", "absent"), 4, "no such file"),
        (("--keys", "keys", "--policy", "m.toml"), 4, "schema"),
        (("--keys", "keys", "--openings", "absent"), 4, "no such file"),
        (("--keys", "keys", "--response-keys", "absent"), 4, "no such file"),
        (("--keys", "keys", "--signers", "0"), 2, "--signers"),
        (("--keys", "keys", "-o", "absent/x"), 4, "cannot write"),
        (("--keys", "keys", "--signers", "2"), 1, ""),
        ((), 1, ""),
    ],
)
def test_what_verify_is_given(do: Do, arguments: tuple[str, ...], status: int, says: str) -> None:
    found, out, err = do("verify", "a.zip", *arguments)
    assert found == status
    assert says in err
    assert status != 1 or out.startswith("FAIL evidence about m\n")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("-o", "a.zip"), 2, "is not overwritten"),
        (("-o", "model/x.zip"), 2, "inside the model"),
        (("-o", "absent/x.zip"), 4, "no directory that can be written to"),
        (("-o", "x.zip", "--exchange", "m.toml"), 4, "no exchange of a known form"),
        (("-o", "x.zip", "--exchange", "absent"), 4, "no such file"),
        (("-o", "x.zip", "--redact", "x.openings"), 2, "none goes in"),
        ((*REDACT, "x.openings", "--exclude", "exchanges"), 2, "none goes in"),
        ((*REDACT, "x.zip"), 2, "cannot be two files"),
        ((*REDACT, "absent/x.openings"), 4, "no directory that can be written to"),
        # Openings are put behind those that are there, and spoil no other file.
        ((*REDACT, "k.key"), 4, "not JSON"),
        ((*REDACT, "model"), 4, "Is a directory"),
        (("-o", "x.zip", "--audit", "absent"), 4, "no such file"),
        (("-o", "x.zip", "--audit", "model"), 4, "Is a directory"),
        (("-o", "x.zip", "--response-keys", "absent"), 4, "no such file"),
        (("-o", "x.zip", "--previous", "absent"), 4, "no such file"),
        (("-o", "x.zip", "--previous", "m.toml"), 4, "does not begin with a member"),
        (("-o", "x.zip", "--include", "absent"), 2, "is not one of"),
        (("-o", "x.zip", "--chain", "m.toml"), 2, "--chain goes with --certificate"),
        (("-o", "x.zip", "--certificate", "m.toml"), 4, "no PEM certificate"),
        (("-o", "x.zip", "--timestamp-url", "ftp://x"), 2, "not one of http or https"),
        (("-o", "x.zip", "--key", "absent"), 4, "no such file"),
        (("-o", "x.zip", "--key", "m.toml"), 4, "PEM"),
        (("-o", "x.zip", "--policy", "absent"), 4, "no such file"),
    ],
)
def test_what_create_is_given(
    do: Do, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, says: str
) -> None:
    """All of it shows before a byte is hashed: of R1 that takes a quarter of an hour and more."""
    monkeypatch.setattr("r1prov.evidence.create.verify", None)
    found, _, err = do(*CREATE, *arguments)
    assert found == status, err
    assert says in err


def test_a_policy_in_a_pyproject_is_refused_before_hashing(
    do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r1prov.evidence.create.verify", None)
    Path("pyproject.toml").write_text(
        '[tool.r1prov]\nschema = "r1prov/policy/1"\nmodels = [{ name = "m" }]\n'
    )
    status, _, err = do(*CREATE, "-o", "x.zip")
    assert status == 2
    assert "pyproject.toml cannot be put into evidence" in err


def test_log_is_given_something_else(do: Do) -> None:
    os.mkdir("d")
    for name, says in (("absent", "cannot list"), ("a.zip", "cannot list"), ("d", "no bundle")):
        status, _, err = do("log", name)
        assert status == 4
        assert says in err


# ------------------------------------------------------------------ signatures and timestamps


@pytest.fixture(scope="module")
def tsa(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    root = authority.root("time root")
    return Tsa(tmp_path_factory.mktemp("tsa"), root, authority.issue("clock", root, **stamping()))


@pytest.fixture(scope="module")
def url(tsa: Tsa) -> Iterator[str]:
    with serving(tsa) as (address, _):
        yield address + "/tsr"


def test_sign_and_timestamp(do: Do, tsa: Tsa, url: str, tmp_path: Path) -> None:
    status, _, err = do("sign", "a.zip", "--key", "k.key", "-o", "both.zip")
    assert status == 0, err
    assert "both.zip: signed as " in err
    status, out, _ = do("verify", "both.zip", "--keys", "keys", "--signers", "2")
    assert status == 0, out
    assert out.count("good signature of key") >= 2
    assert do("sign", "both.zip", "--key", "k.key", "-o", "x.zip")[0] == 2
    assert do("sign", "a.zip", "--key", "maker.key", "-o", "x.zip")[0] == 2
    assert do("sign", "a.zip", "--key", "k.key", "-o", "both.zip")[0] == 2
    assert do("sign", "m.toml", "--key", "k.key", "-o", "x.zip")[0] == 4
    assert do("timestamp", "both.zip", "-o", "x.zip")[0] == 2
    stamp = ("timestamp", "both.zip", "--timestamp-url", url, "-o", "stamped.zip")
    assert do(*stamp)[0] == 0
    Path("tsa.pem").write_bytes(tsa.root.pem)
    shutil.copytree("keys", "pinned")
    call("key", "add", "tsa.pem", "--timestamp-authority", "--owner", "t", "--keys", "pinned")
    status, out, _ = do("verify", "stamped.zip", "--keys", "pinned", "--signers", "2")
    assert status == 0, out
    assert "signed before" in out


def test_an_authority_of_time_that_does_not_answer(do: Do) -> None:
    """What was hashed for hours is not lost: the bundle is written, and says what it lacks."""
    status, _, err = do(*CREATE, "-o", "x.zip", "--timestamp-url", "http://127.0.0.1:9/tsr")
    assert status == 3
    assert "evidence timestamp x.zip" in err
    assert err.splitlines()[-1].startswith("incomplete: ")
    status, out, _ = do("verify", "x.zip", "--keys", "keys")
    assert status == 0, out
    assert "proven     no time" in out


def test_created_with_a_certificate(
    do: Do, authority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = authority.root()
    leaf = authority.leaf(root)
    for name, data in (("root.pem", root.pem), ("leaf.pem", leaf.pem)):
        Path(name).write_bytes(data)
    Path("leaf.key").write_bytes(encode_private_key(leaf.key, None))
    create = ("create", "./model", "-m", "m.toml", "--keys", "keys", "--key", "leaf.key")
    status, _, err = do(*create, "--certificate", "leaf.pem", "-o", "c.zip")
    assert status == 0, err
    shutil.copytree("keys", "pinned")
    trust = ("key", "add", "root.pem", "--certificate", "--owner", "ACME", "--model", "m")
    call(*trust, "--identity", "signer@example.org", "--keys", "pinned")
    status, out, _ = do("verify", "c.zip", "--keys", "pinned")
    assert status == 0, out
    assert "signer@example.org" in out
    # A certificate of another key is refused before anything is hashed.
    monkeypatch.setattr("r1prov.evidence.create.verify", None)
    wrong = (*CREATE, "--certificate", "leaf.pem", "-o", "x.zip")
    assert do(*wrong)[0] == 4


# ------------------------------------------------------------------ what is left behind

SLOW = """
import signal, sys, time
import r1prov.verify.run as run
from r1prov.cli.app import run as main
hashing = run.hash_model
# As from a terminal: a shell has what it starts with `&` ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
def slow(*arguments, **more):
    print("hashing", flush=True)
    time.sleep(60)
    return hashing(*arguments, **more)
run.hash_model = slow
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_leaves_nothing(do: Do, tmp_path: Path) -> None:
    before = sorted(os.listdir())
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, "evidence", *CREATE, "-o", "x.zip", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hashing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert sorted(os.listdir()) == before


def limited() -> None:
    """As on a disk without room for the bundle."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))


def test_a_full_disk_leaves_nothing(do: Do) -> None:
    before = sorted(os.listdir())
    done = subprocess.run(
        [sys.executable, "-B", "-m", "r1prov", "evidence", *CREATE, "-o", "x.zip", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited,
    )
    assert done.returncode == 4, done.stderr
    assert "cannot write x.zip: File too large" in done.stderr
    assert sorted(os.listdir()) == before
