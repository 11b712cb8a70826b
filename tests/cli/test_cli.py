"""Manners of the command line: exit status, streams, help, hostile names."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from r1prov.cli.app import run

COMMANDS = [
    ["verify"],
    ["identify"],
    ["inspect"],
    ["hash"],
    ["diff"],
    ["exec"],
    ["manifest"],
    ["manifest", "create"],
    ["manifest", "sign"],
    ["manifest", "verify"],
    ["manifest", "show"],
    ["manifest", "list"],
    ["ci"],
    ["ci", "init"],
    ["key"],
    ["key", "generate"],
    ["key", "show"],
    ["key", "add"],
    ["key", "revoke"],
    ["policy"],
    ["policy", "init"],
    ["policy", "check"],
    ["attest"],
    ["attest", "create"],
    ["attest", "verify"],
    ["manifest", "export"],
]


@pytest.fixture
def model(tmp_path):
    """A directory with two weight files that the safetensors library wrote."""
    from ctypes import addressof, create_string_buffer

    from safetensors import TensorSpec, serialize_file

    directory = tmp_path / "model"
    directory.mkdir()
    data = create_string_buffer(24)
    for name in ("a", "b"):
        spec = TensorSpec(dtype="float32", shape=[2, 3], data_ptr=addressof(data), data_len=24)
        serialize_file({f"{name}.w": spec}, str(directory / f"{name}.safetensors"))
    return directory


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_examples(command, capsys):
    assert run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    if command not in (["manifest"], ["key"], ["policy"], ["attest"], ["ci"]):
        assert "Examples:" in out


def test_usage_errors_are_2(capsys):
    for arguments in (["nonsense"], ["verify"], ["verify", ".", "--level", "x"], ["hash", "--zz"]):
        assert run(arguments) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_a_missing_model_is_4(capsys):
    for command in ("verify", "identify", "inspect", "hash"):
        assert run([command, "/no/such/model"]) == 4
        err = capsys.readouterr().err
        assert "/no/such/model" in err
        assert "Traceback" not in err


def test_a_bug_is_70_not_1(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("oh\x1b[31m")

    monkeypatch.setattr("r1prov.stores.local.LocalStore.__init__", broken)
    assert run(["verify", "."]) == 70
    assert "\x1b" not in capsys.readouterr().err


def test_hash_lines_are_read_by_sha256sum(model, capsys):
    (model / "back\\slash").write_bytes(b"1")
    (model / "new\nline").write_bytes(b"2")
    assert run(["hash", str(model)]) == 0
    lines = capsys.readouterr().out
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "-"], input=lines, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines.count("\n") == 4


def test_hash_check_reads_what_sha256sum_writes(model, tmp_path, capsys):
    done = subprocess.run(
        "sha256sum *", shell=True, cwd=model, capture_output=True, text=True, check=True
    )
    sums = tmp_path / "SUMS"
    sums.write_text(done.stdout)
    assert run(["hash", str(model), "--check", str(sums)]) == 0
    (model / "a.safetensors").write_bytes(b"x")
    (model / "b.safetensors").unlink()
    assert run(["hash", str(model), "--check", str(sums)]) == 1
    out = capsys.readouterr().out
    assert "a.safetensors: FAILED (expected" in out
    assert "b.safetensors: FAILED (no such file)" in out


def test_two_digests_for_one_file_cannot_both_hold(model, tmp_path, capsys):
    assert run(["hash", str(model), "--relative", "-o", str(tmp_path / "S")]) == 0
    sums = tmp_path / "S"
    first = sums.read_text().splitlines()[0]
    sums.write_text(f"{first}\n{'0' * 64}{first[64:]}\n")
    assert run(["hash", str(model), "--check", str(sums)]) == 1


def test_malformed_sums_are_4(model, tmp_path):
    sums = tmp_path / "SUMS"
    for content in (b"", b"zz  a\n", b"\xff" * 100):
        sums.write_bytes(content)
        assert run(["hash", str(model), "--check", str(sums)]) == 4


def test_inspect_counts_what_is_there(model, capsys):
    assert run(["inspect", str(model), "--json", "--tensors"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["tensors"], value["elements"], value["data_bytes"]) == (2, 12, 48)
    assert value["inventory"][0]["shape"] == [2, 3]
    assert run(["inspect", str(model), "--match", "a.*"]) == 0
    out = capsys.readouterr().out
    assert "a.w" in out
    assert "b.w" not in out


def test_inspect_reports_a_malformed_header(model, capsys):
    (model / "c.safetensors").write_bytes(b"\xff" * 64)
    assert run(["inspect", str(model)]) == 1
    assert "c.safetensors" in capsys.readouterr().err


def test_diff_names_files_and_tensors(model, tmp_path, capsys):
    other = Path(shutil.copytree(model, tmp_path / "other"))
    assert run(["diff", str(model), str(other)]) == 0
    with (other / "a.safetensors").open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\x01")
    (other / "extra.txt").write_text("x")
    assert run(["diff", str(model), str(other), "--format", "json"]) == 1
    text = capsys.readouterr().out
    value = json.loads(text[text.index('{\n  "schema"') :])
    assert {one["name"] for one in value["files"]} == {"a.safetensors", "extra.txt"}
    assert [one["name"] for one in value["tensors"]] == ["a.w"]


def test_diff_of_manifests(capsys):
    assert run(["diff", "DeepSeek-R1", "DeepSeek-R1"]) == 0
    assert run(["diff", "DeepSeek-R1", "DeepSeek-R1-Distill-Qwen-7B"]) == 1


def test_private_keys_are_0600_encrypted_and_never_overwritten(tmp_path, monkeypatch, capsys):
    path = tmp_path / "k.pem"
    monkeypatch.setenv("R1PROV_KEY_PASSPHRASE", "correct horse")
    assert run(["key", "generate", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert before.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert run(["key", "generate", str(path)]) == 2
    assert path.read_bytes() == before
    err = capsys.readouterr().err
    assert "correct horse" not in err
    monkeypatch.setenv("R1PROV_KEY_PASSPHRASE", "wrong")
    manifest = tmp_path / "DeepSeek-R1.toml"
    shutil.copy(Path(__file__).parents[2] / "manifests" / "DeepSeek-R1.toml", manifest)
    assert run(["manifest", "sign", str(manifest), "--key", str(path)]) == 4
    assert "passphrase" in capsys.readouterr().err


def test_no_passphrase_is_said_out_loud(tmp_path, capsys):
    assert run(["key", "generate", str(tmp_path / "k"), "--no-passphrase"]) == 0
    assert "without a passphrase" in capsys.readouterr().err


def test_shipped_manifests_verify(capsys):
    assert run(["manifest", "list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(names) >= 9
    for name in names:
        assert run(["manifest", "verify", name]) == 0, capsys.readouterr().out
        assert run(["manifest", "show", name]) == 0


def test_hostile_names_reach_no_terminal_raw(model, capsys):
    for name in ("\x1b]0;pwned\x07", "a\u202eb", "x\nPASS  as DeepSeek-R1"):
        (model / name).write_bytes(b"x")
    for arguments in (["verify"], ["inspect"], ["identify"]):
        run([*arguments, str(model)])
        out, err = capsys.readouterr()
        for text in (out, err):
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert "\nPASS" not in text


def test_undecodable_names_are_findings(model, capsys):
    Path(os.fsdecode(bytes(model / "x") + b"\xff\xfe")).write_bytes(b"1")
    assert run(["verify", str(model), "--format", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert any(one["name"] == "file-name" for one in report["findings"])


def test_a_closed_pipe_is_silent(model):
    script = f"{sys.executable} -m r1prov hash {model} | true"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""


def test_an_ascii_terminal_loses_nothing(model):
    shutil.copy(model / "a.safetensors", model / "模型.safetensors")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "r1prov", "inspect", str(model)],
        capture_output=True,
        env=environment,
    )
    assert b"Traceback" not in done.stderr
    assert b"\\u6a21" in done.stdout


def test_interrupt_ends_with_130(tmp_path):
    """20 GB of sparse zeros take longer than the test waits before it interrupts."""
    big = tmp_path / "big"
    big.mkdir()
    with (big / "x.bin").open("wb") as stream:
        stream.truncate(20_000_000_000)
    waits = []
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "r1prov", "hash", str(big)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        out, err = process.communicate(timeout=30)
        waits.append(time.monotonic() - sent)
        assert process.returncode == 130
        assert out == ""
        assert "interrupted" in err
        assert "Traceback" not in err
    # Within a second; the best of three, because a busy machine can delay any one of them.
    assert min(waits) < 1


def test_half_a_report_never_exists(model, tmp_path):
    """A write that fails half-way leaves the report of before, and nothing beside it."""
    target = tmp_path / "out" / "report.json"
    target.parent.mkdir()
    target.write_text("before")
    command = (
        f"ulimit -f 0; exec {sys.executable} -m r1prov verify {model} --format json -o {target}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert target.read_text() == "before"
    assert list(target.parent.iterdir()) == [target]


def test_a_stdout_that_takes_nothing_changes_no_exit_status():
    base = f"{sys.executable} -m r1prov manifest list"
    for redirect in (">&-", ">/dev/full"):
        done = subprocess.run(["bash", "-c", base + redirect], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_hash_of_a_single_file_names_it_as_given(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(model)
    for path in (str(model / "a.safetensors"), "a.safetensors"):
        assert run(["hash", path]) == 0
        line = capsys.readouterr().out
        assert line[66:-1] == path
        (tmp_path / "S").write_text(line)
        assert run(["hash", path, "--check", str(tmp_path / "S")]) == 0
        capsys.readouterr()


def test_names_of_any_bytes_reach_sha256sum(model):
    Path(os.fsdecode(bytes(model / "x") + b"\xff\xfe")).write_bytes(b"1")
    done = subprocess.run(
        [sys.executable, "-m", "r1prov", "hash", str(model)], capture_output=True, check=True
    )
    check = subprocess.run(["sha256sum", "-c", "-"], input=done.stdout, capture_output=True)
    assert check.returncode == 0
    assert done.stdout.count(b"\n") == 3


def test_lost_sums_are_no_success(model):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m r1prov hash {model} >/dev/full"], capture_output=True
    )
    assert done.returncode == 4


def test_output_follows_links_and_leaves_devices_alone(model, tmp_path):
    link, target = tmp_path / "link", tmp_path / "target"
    target.write_text("old")
    link.symlink_to(target)
    assert run(["hash", str(model), "-o", str(link)]) == 0
    assert link.is_symlink()
    assert "a.safetensors" in target.read_text()
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    assert run(["hash", str(model), "-o", str(tmp_path / "pipe")]) == 0
    out, _ = reader.communicate(timeout=10)
    assert b"a.safetensors" in out
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_user_can_narrow_a_shipped_key(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keys = tmp_path / "r1prov" / "keys"
    shutil.copytree(Path(__file__).parents[2] / "keys", keys)
    assert run(["manifest", "verify", "all-MiniLM-L6-v2"]) == 0
    text = (keys / "trust.toml").read_text()
    (keys / "trust.toml").write_text(text.replace('"all-MiniLM-L6-v2"', '"other"'))
    assert run(["manifest", "verify", "all-MiniLM-L6-v2"]) == 1
    assert "signer-out-of-scope" in capsys.readouterr().out


def test_output_into_a_pipe_by_name(model):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m r1prov hash {model} -o /dev/stdout | cat"],
        capture_output=True,
    )
    assert (done.stderr, done.stdout.count(b"\n")) == (b"", 2)
