"""The contract kit as its reader takes it apart: criteria, policy lines, commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
KIT = ROOT / "docs" / "contract"
PAIRS = ("criteria", "clauses", "dispute", "limits")
# Who acts, by the comment that every block of commands begins with.
PARTIES = {
    "Supplier": "供方",
    "Buyer": "需方",
    "Expert": "鉴定人",
    "both parties": "双方",
}
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_RULE = re.compile(r"(R1P\d{3}) `([a-z-]+)`")
_ROW = re.compile(r"^\| ([WESBP]-\d+) \|(.*)\|$", re.MULTILINE)
_FILLED = re.compile(r"^(\w+) = (.*?)(\s*)# (.*)$")


@dataclass(frozen=True)
class Criterion:
    """A row of Annex A.

    Attributes:
        number: Such as `W-1`.
        keys: What its cells have in backquotes, rule names excepted.
        rules: Rule ids.
        status: Exit status of a breach.
    """

    number: str
    keys: tuple[str, ...]
    rules: tuple[str, ...]
    status: int


def page(name: str, language: str = "en") -> str:
    suffix = "" if language == "en" else f".{language}"
    return (KIT / f"{name}{suffix}.md").read_text()


def criteria(language: str = "en") -> list[Criterion]:
    """Every row, in order."""
    found = []
    for number, cells in _ROW.findall(page("criteria", language)):
        rules = _RULE.findall(cells)
        quoted = re.findall(r"`([^`]+)`", cells)
        names = {name for _, name in rules}
        keys = tuple(one for one in quoted if one not in names or _is_policy_key(one, cells))
        status = int(cells.rpartition("|")[2])
        found.append(Criterion(number, keys, tuple(one for one, _ in rules), status))
    return found


def _is_policy_key(word: str, cells: str) -> bool:
    """A rule can be a key of the policy too: `executable-file` stands in both cells."""
    return cells.count(f"`{word}`") > 1


def blocks(text: str) -> list[list[str]]:
    """The commands of each `sh` block, lines put together, the comment first."""
    return [
        [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
        for language, block in _FENCE.findall(text)
        if language == "sh"
    ]


def subject_lines(name: str) -> list[str]:
    """The keys of a policy file that the parties fill in."""
    text = (KIT / name).read_text()
    return [m[1] for line in text.splitlines() if (m := _FILLED.match(line)) and "[#]" in m[4]]


def filled(name: str, values: dict[str, str | None]) -> str:
    """A policy file with lines marked `[#]` filled in as TOML; None leaves a line out.

    A key that stands twice may be named `key@2`. Nothing but such lines can be changed.
    """
    lines, seen, used = [], dict[str, int](), set()
    for line in (KIT / name).read_text().splitlines():
        match = _FILLED.match(line)
        if match and "[#]" in match[4]:
            key = match[1]
            seen[key] = seen.get(key, 0) + 1
            word = key if seen[key] == 1 else f"{key}@{seen[key]}"
            if word in values:
                used.add(word)
                if values[word] is None:
                    continue
                line = f"{key} = {values[word]}"
        lines.append(line)
    assert used == set(values), f"{name} has no line to fill in for {set(values) - used}"
    return "\n".join(lines) + "\n"


def policy_keys(value: object) -> Iterator[str]:
    """Every key of a policy, at any depth, but those of tables that only group others."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "schema" and (not _groups(inner) or key not in _GROUPS):
                yield key
            yield from policy_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from policy_keys(inner)


_GROUPS = {"models", "rules", "responses", "keys", "promised", "endpoint"}


def _groups(value: object) -> bool:
    """Whether it is a table, or an array of tables."""
    return isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))
