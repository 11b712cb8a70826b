from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[1] / "conformance" / "header-client"
A = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}

SMALLEST_GGUF = (
    b"GGUF\x03\0\0\0"
    + bytes(8)
    + b"\x01"
    + bytes(7)
    + b"\x14"
    + bytes(7)
    + b"general.architecture\x08\0\0\0\x05"
    + bytes(7)
    + b"llama"
)


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, CLIENT, *arguments], capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_is_executable() -> None:
    assert os.access(CLIENT, os.X_OK)


@pytest.mark.parametrize(
    ("name", "raw", "status", "answer"),
    [
        ("m.safetensors", None, 0, "ok: 1 tensor\n"),
        ("m.vec", None, 0, "ok: 1 tensor\n"),
        (
            "m.safetensors",
            b"GGUF\x03\0\0\0" + bytes(16),
            1,
            "reject: header-too-large the header is longer than any reader takes "
            "(this looks like a GGUF file)\n",
        ),
        ("m.safetensors", b"", 1, "reject: header-truncated "),
        ("m.gguf", b"", 1, "reject: header-truncated "),
        ("m", b"GGUF", 1, "reject: header-truncated "),
        ("m.gguf", b"{}" + bytes(30), 1, "reject: gguf-magic "),
        ("m", b"GGUF\x01\0\0\0" + bytes(16), 1, "reject: gguf-version "),
        ("m.gguf", SMALLEST_GGUF, 0, "ok: 0 tensors\n"),
        ("m", b"\x1b]0;pwned\x07", 1, "reject: header-"),
        ("m.index.json", b'{"weight_map":{"a":"m.safetensors"}}', 0, "ok: 1 tensor\n"),
        ("m", b'{"weight_map":{"a":"../x"}}', 1, "reject: index-path "),
    ],
)
def test_answers(
    tmp_path: Path,
    pack: Callable[..., bytes],
    name: str,
    raw: bytes | None,
    status: int,
    answer: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(pack({"a": A}, bytes(16)) if raw is None else raw)
    code, out, err = run(path)
    assert (code, err) == (status, "")
    assert out.startswith(answer)
    assert out.count("\n") == 1
    assert out[:-1].isprintable()


def test_what_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "m.safetensors"
    os.mkfifo(fifo)
    for path in (tmp_path / "none\x1b", tmp_path, fifo):
        code, out, err = run(path)
        assert (code, out) == (4, "")
        assert err.startswith("error: ")
        assert "\x1b" not in err
    assert run()[0] == run("a", "b")[0] == 2
