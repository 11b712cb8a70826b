"""The probes and how real tokenizers count them: data, so that asking needs no tokenizer.

`reference_counts.json` is written by `docs/generate_token_reference.py` from the tokenizer files
whose SHA-256 it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from r1prov.errors import UsageError
from r1prov.text import quoted

DATA = "reference_counts.json"
BASE = "base"
# Models whose tokenizer is that of one in the table, by how their names begin. R1-0528 has R1's
# vocabulary; the distill of its release has not.
_SAME = (
    ("deepseek-r1-distill-qwen", "deepseek-r1-distill-qwen-7b"),
    ("deepseek-r1-distill-llama", "deepseek-r1-distill-llama-8b"),
    ("deepseek-r1-0528-qwen3", "deepseek-r1-0528-qwen3-8b"),
    ("deepseek-r1-0528", "deepseek-r1"),
)
# A gateway that knows no tokenizer may count one of these, or a multiple.
_MEASURES: dict[str, Callable[[str], int]] = {
    "characters": len,
    "UTF-8 bytes": lambda text: len(text.encode()),
    "words": lambda text: len(text.split()),
    # The rule of thumb of api-docs.deepseek.com/quick_start/token_usage.
    "0.6 a Chinese and 0.3 any other character": lambda text: round(
        sum(0.6 if "\u4e00" <= character <= "\u9fff" else 0.3 for character in text)
    ),
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One string that is sent as the only user message.

    Attributes:
        id: Its name, such as `digits`.
        text: What to send.
        purpose: What it tells apart.
    """

    id: str
    text: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Counter:
    """Something that makes a number of a text.

    Attributes:
        name: Such as `qwen2` or `characters`.
        title: For a reader.
        counts: Probe id to tokens, of the text alone.
        tokenizer: Whether it is the tokenizer of a model; else a gateway's estimate.
        members: Models whose tokenizers count like this.
    """

    name: str
    title: str
    counts: Mapping[str, int]
    tokenizer: bool
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenReference:
    """The whole table.

    Attributes:
        probes: Those for families, the base first.
        added: Those for added tokens, which tell models of one family apart.
        counters: Families of tokenizers, then estimates.
        added_counts: Model to probe id to tokens.
        overheads: Model to tokens that its chat template adds to one user message.
        tokenizer_sha256: Model to SHA-256 of the `tokenizer.json` that was counted with.
    """

    probes: tuple[Probe, ...]
    added: tuple[Probe, ...]
    counters: tuple[Counter, ...]
    added_counts: Mapping[str, Mapping[str, int]]
    overheads: Mapping[str, int]
    tokenizer_sha256: Mapping[str, str]

    def probe(self, name: str) -> Probe:
        """The probe of that id; an unknown one is a bug and raises `KeyError`."""
        return {one.id: one for one in self.probes + self.added}[name]

    def model(self, name: str) -> str:
        """The model of the table with the tokenizer of `name`, written as manifests do or not."""
        lower = name.lower()
        return next((same for start, same in _SAME if lower.startswith(start)), lower)

    def family_of(self, model: str) -> Counter:
        """The family whose tokenizer a model has.

        Raises:
            UsageError: The table does not know the model.
        """
        for counter in self.counters:
            if self.model(model) in counter.members:
                return counter
        raise UsageError(
            f"no reference counts for the model {quoted(model)}",
            hint=f"known are, among others, {', '.join(sorted(self.overheads))}",
        )


@cache
def token_reference() -> TokenReference:
    """The table that ships with r1prov."""
    raw: dict[str, Any] = json.loads(files(__package__).joinpath(DATA).read_bytes())
    probes, added = (
        tuple(Probe(one["id"], _text(one), one["for"]) for one in raw[key])
        for key in ("probes", "added_probes")
    )
    families = [
        Counter(
            one["name"], one["title"], one["counts"], tokenizer=True, members=tuple(one["members"])
        )
        for one in raw["families"]
    ]
    estimates = [
        Counter(name, f"OpenAI's {name}", one["counts"], tokenizer=False)
        for name, one in raw["estimators"].items()
    ]
    estimates += [
        Counter(name, name, {one.id: measure(one.text) for one in probes}, tokenizer=False)
        for name, measure in _MEASURES.items()
    ]
    return TokenReference(
        probes=probes,
        added=added,
        counters=(*families, *estimates),
        added_counts={name: one["added"] for name, one in raw["tokenizers"].items()},
        overheads={
            name: one["template"]["overhead"]
            for name, one in raw["tokenizers"].items()
            if "template" in one
        },
        tokenizer_sha256={
            name: one["tokenizer_json_sha256"] for name, one in raw["tokenizers"].items()
        },
    )


def _text(probe: Mapping[str, Any]) -> str:
    if "text" in probe:
        return str(probe["text"])
    return str(probe["separator"].join([probe["unit"]] * probe["times"]))
