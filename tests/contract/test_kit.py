"""The kit says one thing in two languages, and its policy files are what its tables describe."""

from __future__ import annotations

import hashlib
import re
import shutil
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from contract_kit import (
    KIT,
    PAIRS,
    PARTIES,
    ROOT,
    blocks,
    criteria,
    page,
    policy_keys,
    subject_lines,
)

from r1prov.manifest.shelf import load_shelf
from r1prov.responses.policy import COVER, DEFAULT_MAX_AGE, DEFAULT_SKEW, load_response_policy
from r1prov.trust.directories import load_trust_directory
from r1prov.verify.policy_file import load_policy

POLICIES = ("acceptance-weights.toml", "acceptance-service.toml", "acceptance-endpoint.toml")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_ITEM = re.compile(
    r"^(?:\| )?(#+ [\dA-Z.]+|B\.\d\.\d|\d+\.\d+|[WESBPC]-\d+)(?= |\.? )", re.MULTILINE
)
# Not in a link, and not the mark of a line that is to be filled in.
_OPEN = {"en": re.compile(r"(?<![\w`])\[(?!#)[^\]]+\](?!\()"), "zh": re.compile(r"【[^】]+】")}
_NUMBER = re.compile(r"(?<![\w.-])\d[\d,]*(?:\.\d+)*")


def items(name: str, language: str) -> dict[str, str]:
    """The text of each numbered item, code blocks excepted, in order."""
    text = _FENCE.sub("", page(name, language))
    starts = list(_ITEM.finditer(text))
    ends = [one.start() for one in starts[1:]] + [len(text)]
    found = {
        one[1].rstrip("."): text[one.end() : end] for one, end in zip(starts, ends, strict=True)
    }
    assert len(found) == len(starts), f"{name}.{language} has a number twice"
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_both_languages_say_the_same(name: str) -> None:
    english, chinese = items(name, "en"), items(name, "zh")
    assert list(english) == list(chinese)
    assert len(english) > 10
    for number, text in english.items():
        other, where = chinese[number], f"{name} {number}"
        for what in (r"`[^`]+`", r"R1P\d{3}", r"[WESBPC]-\d+|B\.\d(?:\.\d)?"):
            assert Counter(re.findall(what, text)) == Counter(re.findall(what, other)), where
        found = [
            sorted(_NUMBER.findall(re.sub(r"`[^`]+`|\]\([^)]*\)", "", one)))
            for one in (text, other)
        ]
        assert found[0] == found[1], where
        assert len(_OPEN["en"].findall(text)) == len(_OPEN["zh"].findall(other)), where
        links = [sorted(re.findall(r"\]\(([^)]+)\)", one.replace(".zh.md", ".md")))
                 for one in (text, other)]  # fmt: skip
        assert links[0] == links[1], where


@pytest.mark.parametrize("name", PAIRS)
def test_both_languages_have_the_same_commands(name: str) -> None:
    theirs = {zh: en for en, zh in PARTIES.items()}

    def in_english(block: list[str]) -> list[str]:
        first = block[0].removeprefix("# ")
        lines = [f"# {theirs.get(first, first)}", *block[1:]]
        lines = [line.replace("# 退出状态", "# exit status") for line in lines]
        return [re.sub(r"^([A-Z]+=\S+)\s+#.*", r"\1", line) for line in lines]

    pairs = [[in_english(one) for one in blocks(page(name, lang))] for lang in ("en", "zh")]
    assert pairs[0] == pairs[1]
    assert "exit status" not in page(name, "zh")


def test_the_chinese_text_is_chinese() -> None:
    for name in PAIRS:
        text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", _FENCE.sub("", page(name, "zh")))
        assert not re.search(r"[\u4e00-\u9fff][,;:?!]", text), name
        assert not re.search(r"[\u4e00-\u9fff] [\u4e00-\u9fff]", text), name


def test_every_command_of_the_kit_is_one_that_the_walk_runs() -> None:
    """`test_dispute.py` runs the blocks of Annex B."""
    walked = {line.split("  ")[0] for block in blocks(page("dispute")) for line in block}
    for name in PAIRS:
        for block in blocks(page(name)):
            assert {line.split("  ")[0] for line in block} <= walked, name


@pytest.mark.parametrize("name", POLICIES)
def test_every_key_of_a_policy_stands_in_the_table_of_both_languages(name: str) -> None:
    keys = set(policy_keys(tomllib.loads((KIT / name).read_text())))
    assert len(keys) > 10
    for language in ("en", "zh"):
        named = {key for one in criteria(language) for key in one.keys}
        assert keys <= named, language
    # And the other way round: no criterion names a key that neither file has.
    everywhere = {
        key for one in POLICIES for key in policy_keys(tomllib.loads((KIT / one).read_text()))
    }
    stated = {k for one in criteria() if one.number[0] in "WSP" for k in one.keys}
    assert stated - {"incomplete", "consistent"} == everywhere


@pytest.mark.parametrize("name", POLICIES)
def test_every_line_of_a_policy_names_the_criterion_that_it_serves(name: str) -> None:
    rows = {one.number: one.keys for one in criteria()}
    lines = [
        line
        for line in (KIT / name).read_text().splitlines()
        if re.match(r"\w+ = ", line) and not line.startswith(("schema", "reason", "severity"))
    ]
    assert len(lines) > 10
    for line in lines:
        marks = re.findall(r"# ([WSP]-\d+)", line)
        assert len(marks) == 1, line
        assert line.split(" = ")[0] in rows[marks[0]], line


def test_the_policies_load_strictly_and_name_what_is_shipped(tmp_path: Path) -> None:
    manifest = load_shelf().find("DeepSeek-R1")
    assert manifest is not None
    (release,) = load_trust_directory(ROOT / "keys").keys
    for name in POLICIES:
        shutil.copy(KIT / name, tmp_path)
        (entry,) = load_policy(tmp_path / name).models
        assert entry.manifest_sha256 == manifest.sha256
        assert entry.signers == (release.key.key_id,)
        assert {"name", "manifest_sha256", "signers", "variant"} <= set(subject_lines(name))
    shutil.copy(ROOT / "keys" / release.file, tmp_path / "answers.key.pub")
    answers = load_response_policy(tmp_path / POLICIES[1])
    assert answers.manifest_sha256 == manifest.sha256
    assert tuple(map(str, answers.cover)) == COVER
    seconds = [int(one.total_seconds()) for one in (answers.max_age, answers.skew)]
    assert seconds == [DEFAULT_MAX_AGE, DEFAULT_SKEW]
    for figure, language in ((f"{n} {w}", lang) for n in seconds for w, lang in
                             (("seconds", "en"), ("秒", "zh"))):  # fmt: skip
        (row,) = re.findall(r"^\| S-5 \|.*$", page("criteria", language), re.MULTILINE)
        assert figure in row


def test_the_figures_of_annex_c_stand_on_the_pages_that_it_links() -> None:
    rows = items("limits", "en")
    for number, source, figures in (
        ("C-10", "endpoint-error-rates.md", ("10⁻⁴", "0.000062")),
        ("C-11", "endpoint-error-rates.md", ("2 of 200", "98 of 100", "17 of 100", "0.01", "135M")),
        ("C-12", "endpoint.md", ("5 %",)),
    ):
        assert source in rows[number]
        text = (ROOT / "docs" / source).read_text()
        for figure in figures:
            assert figure in rows[number], figure
            assert figure in text, figure
    manifest = load_shelf().find("DeepSeek-R1")
    assert manifest is not None
    assert manifest.manifest.architecture is not None
    parameters = f"{manifest.manifest.architecture.parameters:,}"
    for name in ("criteria", "clauses"):
        assert all(parameters in page(name, language) for language in ("en", "zh"))
    assert hashlib.sha256(manifest.raw).hexdigest() == manifest.sha256
