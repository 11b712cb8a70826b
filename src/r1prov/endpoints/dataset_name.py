"""How a data set is named as a test set, and what its columns become.

`hf://datasets/OWNER/NAME@REVISION?split=…&prompt=…&expected=…` is one of the Hub, and
`dataset:DIRECTORY?…` one on disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

from r1prov.errors import UsageError
from r1prov.text import quoted

HUB, LOCAL = "hf://datasets/", "dataset:"
_EXAMPLE = (
    "hf://datasets/openai/gsm8k@main?config=main&split=test&prompt=question&expected=answer"
    "&scorer=numeric&rows=200"
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[\w./-]{1,200}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PARAMETERS = ("config", "split", "prompt", "expected", "scorer", "choices", "rows", "seed")
_MOST_PARAMETERS = 20
# A column in a template; doubled braces are braces.
_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
# The one slot that is no column.
CHOICES = "choices"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetName:
    """A test set that a data set is made into.

    Attributes:
        name: `OWNER/NAME`, or a directory.
        local: Whether it is a directory.
        revision: Branch, tag or commit; None for the default branch.
        config: Of the data set; None for the only one.
        split: Which part of it.
        prompt: A column, or a template with `{column}` in it.
        expected: The same for the right answer.
        scorer: As in a file; None for `choice` where labels have names, else `exact`.
        choices: Column with a list of options; None where a label has names of its own.
        rows: How many, drawn at random; None for all.
        seed: Of that.
    """

    name: str
    local: bool
    revision: str | None
    config: str | None
    split: str
    prompt: str
    expected: str
    scorer: str | None
    choices: str | None
    rows: int | None
    seed: int

    @property
    def commit(self) -> str | None:
        """The revision, if it is a commit."""
        pinned = self.revision is not None and _COMMIT.fullmatch(self.revision)
        return self.revision if pinned else None

    def text(self, commit: str | None) -> str:
        """The name, with the commit that was taken."""
        start = f"{LOCAL}{quote(self.name)}" if self.local else f"{HUB}{self.name}@{commit}"
        values = {name: getattr(self, name) for name in _PARAMETERS}
        # A seed matters only where rows are drawn.
        drop = {"seed"} if self.rows is None else set()
        given = {n: str(v) for n, v in values.items() if v is not None and n not in drop}
        return f"{start}?{urlencode(given)}"


def is_dataset_name(text: str) -> bool:
    """Whether a test set is named so, and is no file."""
    return text.startswith((HUB, LOCAL))


def parse_dataset_name(text: str) -> DatasetName:
    """Read the name of a data set.

    Raises:
        UsageError: It is none.
    """
    place, _, query = text.partition("?")
    local = place.startswith(LOCAL)
    name, revision = place.removeprefix(LOCAL if local else HUB), None
    if not local:
        name, at, revision_text = name.partition("@")
        if not _NAME.fullmatch(name) or (at and not _REVISION.fullmatch(revision_text)):
            raise UsageError(
                f"{quoted(place)} names no data set of the Hub", hint=f"such as {_EXAMPLE}"
            )
        revision = revision_text or None
    elif not name:
        raise UsageError(f"{quoted(text)} names no directory", hint="dataset:DIRECTORY?split=…")
    given = _parameters(query)
    missing = [one for one in ("split", "prompt", "expected") if not given.get(one)]
    if missing:
        raise UsageError(
            f"{missing[0]} is missing in the name of the data set", hint=f"such as {_EXAMPLE}"
        )
    return DatasetName(
        name=name,
        local=local,
        revision=revision,
        config=given.get("config"),
        split=given["split"],
        prompt=given["prompt"],
        expected=given["expected"],
        scorer=given.get("scorer"),
        choices=given.get("choices"),
        rows=None if "rows" not in given else _number(given, "rows", least=1),
        seed=_number(given, "seed", least=0) if "seed" in given else 0,
    )


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_PARAMETERS
        )
    except ValueError as error:
        raise UsageError(
            f"the parameters of the data set cannot be read: {error}", hint=f"such as {_EXAMPLE}"
        ) from error
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in _PARAMETERS:
            raise UsageError(
                f"a data set has no parameter {quoted(name)}",
                hint=f"there are {', '.join(_PARAMETERS)}",
            )
        if name in given:
            raise UsageError(f"the parameter {name} of the data set stands twice")
        given[name] = value
    return given


def _number(given: Mapping[str, str], name: str, *, least: int) -> int:
    text = given[name]
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise UsageError(f"{name}={quoted(text)} is no number from {least} on")
    return int(text)


def slots(template: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that a template, or the name of one, needs.

    Raises:
        UsageError: It names none, or one that is not there.
    """
    if template in columns:
        return (template,)
    found = tuple(one for one in _SLOT.findall(template) if one)
    unknown = [one for one in found if one not in columns and one != CHOICES]
    if unknown or not found:
        raise UsageError(
            f"there is no column {quoted(unknown[0] if unknown else template)}",
            hint="a column, or a template with {column} in it; there are "
            + ", ".join(quoted(one) for one in columns[:20]),
        )
    return found


def filled(template: str, row: Mapping[str, str]) -> str:
    """A template, or the name of a column, with the values of a row."""
    if template in row:
        return row[template]

    def value(match: re.Match[str]) -> str:
        braces = {"{{": "{", "}}": "}"}
        return braces.get(match[0]) or row[match[1]]

    return _SLOT.sub(value, template)
