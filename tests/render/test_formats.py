"""The command line offers every format, each loaded only when it is asked for."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from r1prov.cli.app import run
from r1prov.cli.options import ReportFormat, ResultFormat
from r1prov.render.formats import MODULES, renderer
from r1prov.verify.findings import Coverage, CoverageState, finding

PACKAGE = Path(__file__).parents[2] / "src" / "r1prov" / "render"


def test_the_option_and_the_table_agree():
    assert [one.value for one in ReportFormat] == list(MODULES)


def test_every_format_names_file_rule_expected_found_and_hint(real):
    (one,) = real["fail"].findings
    for name in MODULES:
        text = renderer(name)(real["fail"])
        for part in (one.subject, one.rule.id, one.rule.name, one.expected, one.found):
            assert part.split(":")[-1] in text, name
        assert one.rule.help in text, name


@pytest.mark.parametrize("name", [one for one in MODULES if one not in ("json", "gitlab")])
def test_many_unreadable_files_are_counted(name, real):
    """Each has a finding and a row; a step summary or a screen has no room for all of them."""
    names = [f"d/{i}" for i in range(5_000)]
    report = replace(
        real["incomplete"],
        findings=tuple(finding("file-unread", one, "permission denied") for one in names),
        coverage=(
            *(Coverage(one, CoverageState.UNREAD, "permission denied") for one in names),
            *real["incomplete"].coverage,
        ),
    )
    text = renderer(name)(report)
    if name == "sarif":  # 5,000 results; the rows beside them are counted
        assert len(json.loads(text)["runs"][0]["properties"]["coverage"]) < 40
        return
    assert len(text) < 1_500_000 if name == "html" else len(text) < 300_000
    assert real["incomplete"].coverage[-1].item in text or name == "github"
    assert "4,980 more could not be read" in text or name == "github"
    assert "more; " in text


@pytest.mark.parametrize("name", [one for one in MODULES if one not in ("text", "json")])
def test_one_format_loads_no_other(name):
    others = {one for one in MODULES.values() if one != MODULES[name]}
    if name == "github":
        others.remove(MODULES["markdown"])  # its step summary
    code = (
        "import sys, json; from r1prov.render.formats import renderer\n"
        f"renderer({name!r}); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert others & set(json.loads(done.stdout)) == set()


@pytest.mark.parametrize("name", MODULES)
def test_the_command_writes_each(name, tmp_path, monkeypatch, capsys):
    """A name of a stranger, and a terminal that knows only ASCII: the status is the verdict's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    model = tmp_path / "model"
    model.mkdir()
    (model / "\udcff\x1b[2J\u202e.bin").write_bytes(b"\x80\x04N.")
    out = tmp_path / "out"
    assert run(["verify", str(model), "--format", name, "-o", str(out)]) == 1
    text = out.read_bytes().decode()  # strict UTF-8
    assert "\x1b" not in text
    assert "\u202e" not in text
    environment = {
        "LANG": "C",
        "PATH": "/usr/bin:/bin",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-m", "r1prov", "verify", str(model), "--format", name],
        capture_output=True, env={**environment, "LC_ALL": "C"}, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert b"\x1b" not in done.stdout
    assert done.stderr == b""


def test_the_tree_digest_is_that_of_a_pass(real):
    """Of a model that is not as signed it would be the digest of another model."""
    digest = real["pass"].manifest.tree_digest
    assert real["fail"].manifest.tree_digest == digest
    for name in ("text", "markdown", "html"):
        assert digest in renderer(name)(real["pass"])
        assert digest not in renderer(name)(real["fail"])


def test_other_commands_have_text_and_json_only(capsys):
    assert [one.value for one in ResultFormat] == ["text", "json"]
    assert run(["identify", ".", "--format", "sarif"]) == 2
    assert run(["diff", ".", ".", "--format", "junit"]) == 2


def test_every_renderer_is_in_the_table():
    pages = {"__init__", "attestation", "difference", "facts", "formats", "gguf"}
    # What is no report of a verified model.
    pages |= {"exchange", "exchange_log", "endpoint", "endpoint_html", "endpoint_plots", "evidence"}
    pages |= {"identification", "manifest", "policy", "reasons", "trust"}
    # The document about a bundle, and its Chinese.
    parts = ("api", "architecture", "document", "dossier", "page", "parts", "pdf", "plots")
    parts += ("policy", "reasons", "signers", "style", "words")
    pages |= {"rules_zh", "sentences_zh", *(f"evidence_{one}" for one in parts)}
    modules = {f"r1prov.render.{path.stem}" for path in PACKAGE.glob("*.py")}
    assert modules - {f"r1prov.render.{one}" for one in pages} == set(MODULES.values())
