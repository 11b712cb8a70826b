"""The documentation says what the code does: links, commands, options, rule ids and figures."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from r1prov.cli.app import app
from r1prov.verify.rules import RULES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("contract/*.md"), *ROOT.glob("*.md")])
R1_MANIFEST = ROOT / "manifests" / "DeepSeek-R1.toml"

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_RULE_WITH_NAME = re.compile(r"(R1P\d{3}) `([a-z-]+)`")
_SHELL_OPERATORS = re.compile(r"&&|\|\||[|;<>&()]")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(kept.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_resolve(page: Path) -> None:
    text = _FENCE.sub("", page.read_text())
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page_id(page)} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page_id(page)} links to {target}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=page_id)
def test_the_index_names_every_page_and_pages_are_short(page: Path) -> None:
    # The table of rules is written by a script, and looked up rather than read.
    assert page.name == "rules.md" or len(page.read_text().splitlines()) <= 150
    if page.name != "README.md":
        assert f"({page.name})" in (DOCS / "README.md").read_text()


def test_the_rule_page_is_current() -> None:
    assert (DOCS / "rules.md").read_text() == load_generator().render(), (
        "run `python docs/generate_rules.py > docs/rules.md`"
    )


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_rules", DOCS / "generate_rules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_rule_ids_exist_and_go_with_their_names(page: Path) -> None:
    names = {rule.id: rule.name for rule in RULES}
    text = page.read_text()
    for rule_id in re.findall(r"R1P\d{3}", text):
        assert rule_id in names, f"{page_id(page)}: {rule_id}"
    for rule_id, name in _RULE_WITH_NAME.findall(text):
        assert names[rule_id] == name, f"{page_id(page)}: {rule_id} is {names[rule_id]}"


# --- commands ------------------------------------------------------------------------------------


def commands_in_blocks(text: str) -> Iterator[list[str]]:
    """Every `r1prov …` of the code blocks, as a list of arguments."""
    for language, block in _FENCE.findall(text):
        if language not in {"", "sh", "yaml", "console"}:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            yield from _commands_in_line(line)


def _commands_in_line(line: str) -> Iterator[list[str]]:
    plain = line.strip().removeprefix("$ ").removeprefix("- ").removeprefix("run:")
    if plain.strip().startswith("command:"):  # a YAML list of arguments
        plain = plain.partition(":")[2].strip().strip("[]").replace(",", " ")
    if "r1prov" not in plain or "image:" in plain:
        return
    words = shlex.shlex(plain, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    current: list[str] | None = None
    for word in words:
        if _SHELL_OPERATORS.fullmatch(word) or set(word) <= set("&|;<>()"):
            if current is not None:
                yield current
            current = None
        elif current is not None:
            current.append(word)
        elif word == "r1prov":
            current = []
        elif "=" not in word and word not in {"exec", "if", "then", "!"}:
            return  # a line of another command that mentions the name
    if current is not None:
        yield current


def test_both_readmes_say_the_same() -> None:
    """Section by section: the same code blocks but for comments, and the same pages."""
    sections = []
    for name in ("README.md", "README.zh.md"):
        text = (ROOT / name).read_text()
        parts = re.split(r"^##+ .*$", _FENCE.sub("", text), flags=re.MULTILINE)
        links = [sorted(one for one in _LINK.findall(part) if "README.zh" not in one and
                        one != "README.md") for part in parts]  # fmt: skip
        blocks = [re.sub(r" +#.*", "", block) for _, block in _FENCE.findall(text)]
        rows = [part.count("\n|") for part in parts]
        sections.append((blocks, links, rows))
    english, chinese = sections
    assert english[0] == chinese[0]
    assert english[1] == chinese[1]
    assert english[2] == chinese[2]


def inline_commands(text: str) -> Iterator[list[str]]:
    """Every `r1prov …` in backquotes outside code blocks."""
    for code in re.findall(r"`(r1prov [^`]+)`", _FENCE.sub("", text)):
        yield shlex.split(code)[1:]


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words after it."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"no command `r1prov {' '.join(words)}`"
        command = command.commands[rest.pop(0)]
    return command, rest


def options_of(command: Any) -> set[str]:
    known = {"--help", "-h", "--version"}
    for parameter in command.params:
        known.update(parameter.opts)
        known.update(parameter.secondary_opts)
    return known


def check_options(words: list[str]) -> None:
    command, rest = find_command(words)
    for word in rest:
        if word == "--":  # what follows belongs to another command
            break
        if word.startswith("-") and word != "-":
            option = word.split("=", 1)[0]
            assert option in options_of(command), f"no {option} in `r1prov {' '.join(words)}`"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_exist_with_their_options(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text()
    for words in inline_commands(text):
        check_options(words)
    for words in commands_in_blocks(text):
        check_options(words)
        command, rest = find_command(words)
        if not hasattr(command, "commands") and "--help" not in rest:
            # Parses without running: required options, closed lists, types, number of arguments.
            command.make_context("r1prov", rest)


def test_the_command_finder_finds_commands() -> None:
    text = (
        "```sh\nr1prov verify X --expect full || exit 1\nR1PROV_KEY=a r1prov key show\n```\n"
        "```yaml\n- run: r1prov hash X\n  command: [r1prov, verify, /m, --expect, full]\n```\n"
    )
    assert list(commands_in_blocks(text)) == [
        ["verify", "X", "--expect", "full"],
        ["key", "show"],
        ["hash", "X"],
        ["verify", "/m", "--expect", "full"],
    ]
    assert any(list(commands_in_blocks(page.read_text())) for page in PAGES)
    with pytest.raises(AssertionError, match="no --exepct"):
        check_options(["verify", "X", "--exepct", "full"])
    with pytest.raises(AssertionError, match="no command"):
        check_options(["verfiy", "X"])


# --- figures -------------------------------------------------------------------------------------


def test_the_corrections_agree_with_the_manifest() -> None:
    from r1prov.manifest.schema import Role, parse_manifest

    manifest = parse_manifest(R1_MANIFEST.read_bytes(), subject=R1_MANIFEST.name)
    architecture = manifest.architecture
    assert architecture is not None
    text = (DOCS / "corrections.md").read_text()
    assert architecture.layers == 61
    assert architecture.attention_heads == 128
    assert architecture.parameters == 671_026_419_200
    assert architecture.config["num_hidden_layers"] == architecture.layers
    assert architecture.config["num_attention_heads"] == architecture.attention_heads
    weights = [entry.size or 0 for entry in manifest.files if entry.role is Role.WEIGHTS]
    for figure in (
        f"**{architecture.layers} layers**",
        f"**{architecture.attention_heads} attention heads**",
        f"{architecture.parameters:,}",
        f"{architecture.tensors:,}",
        f"{sum(weights):,} | bytes of the {len(weights)} weight files",
        *(f"{count:,} {dtype}" for dtype, count in architecture.dtypes.items()),
    ):
        assert figure in text, figure


def test_the_model_table_agrees_with_the_manifests() -> None:
    from r1prov.manifest.schema import parse_manifest

    rows = re.findall(
        r"^\| (DeepSeek-\S+) \| (full|distill)\b[^|]*\|(.+)\|$",
        (DOCS / "identify.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 8
    for name, kind, cells in rows:
        path = ROOT / "manifests" / f"{name}.toml"
        if not path.exists():
            continue
        manifest = parse_manifest(path.read_bytes(), subject=path.name)
        architecture = manifest.architecture
        assert architecture is not None
        assert manifest.variant == kind
        assert [int(cell.replace(",", "")) for cell in cells.split("|")] == [
            architecture.tensors,
            architecture.layers,
            architecture.hidden_size,
            architecture.vocabulary,
            architecture.experts,
        ], name


def test_the_proof_page_names_the_key_and_the_commits() -> None:
    import json

    text = (DOCS / "hub-commit-proof.md").read_text()
    key = ROOT / "keys" / "huggingface-system-key.json"
    if key.exists():
        assert json.loads(key.read_bytes())["fingerprint"] in text
    for path in (ROOT / "manifests").glob("*.toml"):
        found = re.search(
            r'^\[provenance\.hub_commit\].*?^commit = "(\w+)"',
            path.read_text(),
            re.DOTALL | re.MULTILINE,
        )
        if found:
            assert found[1] in text, path.name


def test_the_schema_page_names_every_key() -> None:
    """Every key that the parser asks for stands in the table of docs/manifests.md."""
    source = (ROOT / "src" / "r1prov" / "manifest" / "schema.py").read_text()
    asked = set(
        re.findall(
            r"\.\w*(?:text|texts|size|flag|choice|table|tables|date|facts)"
            r"\(\s*\"(\w+)\"",
            source,
        )
    )
    assert {"name", "sha256", "hub_commit"} <= asked
    text = (DOCS / "manifests.md").read_text()
    missing = {key for key in asked if f"`{key}`" not in text}
    missing -= {"model", "architecture", "files", "provenance", "sources", "hub_commit"}
    assert not missing
