"""Workflow commands: read as the runner reads them, every line is the one command it should be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1prov.cli.app import run
from r1prov.render import github, markdown
from r1prov.text import printable

MODEL = "model"
KNOWN = {"error", "warning", "notice", "debug", "group", "endgroup", "add-mask", "stop-commands",
         "set-output", "set-env", "save-state", "echo", "add-matcher"}  # fmt: skip
# actions/runner, src/Runner.Common/ActionCommand.cs: in this order, the percent sign last.
DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))


def unescaped(text, mapping):
    for escape, character in mapping:
        text = text.replace(escape, character)
    return text


def command(line):
    """What `TryParseV2` makes of a line of output; None if it is no command."""
    line = line.lstrip()
    end = line.find("::", 2)
    if not line.startswith("::") or end < 0:
        return None
    name, _, rest = line[2:end].partition(" ")
    if name not in KNOWN:
        return None
    properties = {}
    for pair in rest.strip().split(","):
        key, separator, value = pair.partition("=")
        if separator and key and value:
            properties[key] = unescaped(value, PROPERTY)
    return name, properties, unescaped(line[end + 2 :], DATA)


def commands(text):
    assert text.endswith("\n")
    lines = text.removesuffix("\n").split("\n")
    assert text.splitlines() == lines  # no other character ends a line
    found = [command(line) for line in lines]
    assert None not in found
    return found


def test_the_parser_of_this_test_is_the_runner_s():
    assert command("  ::error file=a%2Cb,title=x%3A%25::y%0Az%25") == (
        "error",
        {"file": "a,b", "title": "x:%"},
        "y\nz%",
    )
    assert command("x ::error::y") is None
    assert command("::nonsense::y") is None


def test_the_flipped_bit(real):
    verdict, found = commands(github.render(real["fail"]))
    assert verdict == ("error", {"title": "r1prov: FAIL"}, real["fail"].headline)
    (one,) = real["fail"].findings
    name, properties, data = found
    assert name == "error"
    assert properties == {"file": "model.safetensors", "title": "R1P004 file-digest"}
    assert data.split("\n") == [
        one.message,
        f"expected: {one.expected}",
        f"found: {one.found}",
        f"do: {one.rule.help}",
    ]


def test_a_pass_is_a_notice_and_incomplete_an_error(real):
    assert [name for name, _, _ in commands(github.render(real["pass"]))] == ["notice"]
    for name in ("incomplete", "unknown"):
        found = commands(github.render(real[name]))
        assert found[0][:2] == ("error", {"title": "r1prov: INCOMPLETE"})
        titles = [properties["title"] for _, properties, _ in found]
        assert "not-checked" in titles


def test_what_is_about_no_file_is_named_in_the_text(real):
    found = commands(github.render(real["unknown"]))
    about = [one for one in found[1:] if "file" not in one[1]]
    assert about
    subjects = {one.subject for one in real["unknown"].findings}
    subjects |= {one.item for one in real["unknown"].coverage}
    assert {data.split("\n")[0] for _, _, data in about} <= subjects


def test_no_more_than_ten_of_a_kind(every_rule):
    found = [name for name, _, _ in commands(github.render(every_rule))]
    assert found.count("error") == 10
    assert found.count("warning") <= 10
    assert "more; the step summary" in github.render(every_rule)


def test_the_hostile_report(hostile, report_of):
    check_is_text(hostile, report_of)


@given(data=st.data())
def test_any_text_stays_text(data, untrusted, report_of):
    check_is_text(report_of(data.draw(untrusted)), report_of)


def check_is_text(report, report_of):
    found, plain = commands(github.render(report)), commands(github.render(report_of("x")))
    assert [name for name, _, _ in found] == [name for name, _, _ in plain]
    assert [one["title"] for _, one, _ in found] == [one["title"] for _, one, _ in plain]
    assert [one.get("file") and "x" for _, one, _ in found if report.headline] == [
        one.get("file") and "x" for _, one, _ in plain if report.headline
    ]
    assert found[0][2] == printable(report.headline, limit=2000)
    file = printable(report.findings[0].subject, limit=1000)
    assert {one["file"] for _, one, _ in found if "file" in one} <= {file, "config.json"}
    assert [data.count("\n") for _, _, data in found] == [data.count("\n") for _, _, data in plain]


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / MODEL
    directory.mkdir()
    (directory / "a\n::error::x.bin").write_bytes(b"\x80\x04N.")
    return directory


def test_the_step_summary_is_appended(model, tmp_path, monkeypatch, capsys):
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run(["verify", str(model), "--format", "json"]) == 1
    assert path.read_text() == "before\n"  # only with --format github
    capsys.readouterr()
    assert run(["verify", str(model), "--format", "github"]) == 1
    assert len(commands(capsys.readouterr().out)) >= 2
    text = path.read_text()
    assert text.startswith("before\n## ❌ r1prov verify: FAIL\n")
    assert "`a\\x0a::error::x.bin`" in text.replace("\\\\", "\\") or "&#92;x0a" in text


def test_a_summary_that_cannot_be_written_changes_nothing(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "such"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run(["verify", str(model), "--format", "github"]) == 1
    out, err = capsys.readouterr()
    assert commands(out)
    assert err.count("cannot write the step summary") == 1


def test_the_summary_is_the_markdown_report(real):
    assert github.summary(real["fail"]) == markdown.render(real["fail"])
