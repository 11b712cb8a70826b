"""Prompts that are put to endpoints: those that ship, or the user's own.

What ships is plain questions, English and Chinese by turns, to which a model writes text with
numbers and names: where tokenizers differ and where models show how they write.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from r1prov.errors import InputError, R1ProvError
from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_PROMPT_FILE_BYTES, MAX_REFERENCE_PROMPTS
from r1prov.text import quoted

DATA = "builtin_prompts.json"
SCHEMA = "r1prov/prompts/1"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt.

    Attributes:
        id: Its name, unique in its set.
        text: What is sent as the only user message.
    """

    id: str
    text: str


@cache
def builtin_prompts() -> tuple[Prompt, ...]:
    """The prompts that ship."""
    raw = files(__package__).joinpath(DATA).read_bytes()
    return parse_prompts(raw, subject=DATA)


def parse_prompts(raw: bytes, *, subject: str) -> tuple[Prompt, ...]:
    """Read prompts: JSON as what ships, or text with one prompt a line.

    Raises:
        InputError: Malformed, too large, empty, or a name stands twice.
    """
    if len(raw) > MAX_PROMPT_FILE_BYTES:
        raise InputError(f"more than {MAX_PROMPT_FILE_BYTES:,} bytes", subject=subject)
    prompts = _json(raw, subject) if raw.lstrip()[:1] == b"{" else _lines(raw, subject)
    if not 0 < len(prompts) <= MAX_REFERENCE_PROMPTS:
        raise InputError(
            f"{len(prompts):,} prompts in it; 1 to {MAX_REFERENCE_PROMPTS:,} are taken",
            subject=subject,
        )
    for what, counted in (
        ("name", Counter(one.id for one in prompts)),
        ("prompt", Counter(one.text for one in prompts)),
    ):
        twice = [value for value, count in counted.items() if count > 1]
        if twice:
            raise InputError(f"the {what} {quoted(twice[0])} stands twice", subject=subject)
    return tuple(prompts)


def _lines(raw: bytes, subject: str) -> list[Prompt]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("not UTF-8", subject=subject, hint="save it as UTF-8") from None
    lines = [line.strip() for line in text.split("\n")]
    return [Prompt(f"p{number}", line) for number, line in enumerate(filter(None, lines), 1)]


def _json(raw: bytes, subject: str) -> list[Prompt]:
    try:
        value = parse_json(raw, subject=subject, max_bytes=MAX_PROMPT_FILE_BYTES)
    except R1ProvError as error:
        raise InputError(error.message, subject=subject, hint=error.hint) from None
    rows = value.get("prompts") if isinstance(value, dict) else None
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or not isinstance(rows, list):
        raise InputError(f"is no JSON of {SCHEMA}", subject=subject)
    found = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or set(row) != {"id", "prompt"}:
            raise InputError(
                f"prompt {number} has other members than id and prompt", subject=subject
            )
        if not all(isinstance(one, str) and one.strip() for one in row.values()):
            raise InputError(f"prompt {number} is empty or no text", subject=subject)
        found.append(Prompt(row["id"], row["prompt"]))
    return found
