"""Which tokenizers the deltas of a stream tell from the claimed one: measured, and data.

`boundary_rates.json` is written by `benchmarks/token_boundaries.py --rates`: for each claimed
family and each other one the least share of boundaries that are inside a token of the claim, over
several kinds of text. Tokenizers that cut more finely end their tokens inside those of others, and
not the other way round, so the table is not symmetric.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from r1prov.endpoints.tokens.reference import token_reference
from r1prov.errors import UsageError

DATA = "boundary_rates.json"
# Boundaries off for the claimed tokenizer. Streams of five honest hosts had 1 of 2,110: models
# now and then write a word in other tokens than their tokenizer would.
HONEST = 0.003
# Less than streams of Qwen's and Llama's tokenizers were measured to have for R1's in the text that
# hides them best (0.97 %, English prose); with numbers or Chinese they have 1.4 to 25 %.
OTHER = 0.009
# Families of what is sold under R1's name: R1 itself, and its distills.
USUAL = frozenset({"deepseek-v3", "qwen2", "llama-3"})


@dataclass(frozen=True, slots=True)
class Apart:
    """What a claim is told from.

    Attributes:
        same: Models of the claimed family, for a reader.
        found: Families whose streams are found out at the stated rate.
        missed: Families whose streams may not be, those that were not measured among them.
    """

    same: str
    found: frozenset[str]
    missed: frozenset[str]


@cache
def boundary_rates() -> Mapping[str, Mapping[str, float]]:
    """Claimed family to other family to the least share of boundaries inside a token."""
    rates: dict[str, dict[str, float]] = json.loads(files(__package__).joinpath(DATA).read_bytes())[
        "rates"
    ]
    return rates


@cache
def told_apart(model: str) -> Apart:
    """What streams of `model` are told from; nothing for a model that the table does not know."""
    reference = token_reference()
    families = frozenset(one.name for one in reference.counters if one.tokenizer)
    try:
        claimed = reference.family_of(model)
    except UsageError:
        return Apart(model, frozenset(), families)
    rates = boundary_rates().get(claimed.name, {})
    found = frozenset(name for name, rate in rates.items() if rate >= OTHER)
    return Apart(claimed.title, found, families - found - {claimed.name})
