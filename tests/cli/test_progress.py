"""Progress: on a terminal a bar with bytes, rate and time left; nothing of it elsewhere."""

import os
import pty
import subprocess
import sys

import pytest

SIZE = 400_000_000


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    with (directory / "x.bin").open("wb") as stream:
        stream.truncate(SIZE)
    return directory


def on_a_terminal(*arguments):
    """What a command writes to a terminal on stderr; its stdout goes to a pipe."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "r1prov", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # Linux reports the closed other end as EIO
            break
        if not chunk:
            break
        shown += chunk
    out, _ = process.communicate(timeout=60)
    os.close(leader)
    return process.returncode, out.decode(), shown.decode(errors="replace")


def test_a_terminal_sees_bytes_rate_and_time(model):
    status, out, shown = on_a_terminal("hash", model)
    assert status == 0
    assert out.count("\n") == 1
    assert "/400.0 MB" in shown
    assert "B/s" in shown
    assert "0:00:0" in shown


def test_nothing_is_shown_elsewhere(model):
    done = subprocess.run(
        [sys.executable, "-m", "r1prov", "hash", str(model)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_is_quiet_on_a_terminal_too(model):
    status, out, shown = on_a_terminal("hash", model, "--quiet")
    assert (status, out, shown) == (0, "", "")
