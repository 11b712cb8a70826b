"""Honest hosts of one model: the same weights, and something around them that is not the model.

What they say varies from request to request as sampling makes it, so that completions can be held
against recorded ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from personas import PERSONAS, Speaker, Tokenizers

# Different answers that the model has to a prompt.
_ANSWERS = 40


@dataclass
class Host(Speaker):
    """A host of the weights of `deepseek-r1`.

    Attributes:
        temperature: What it samples with, whatever is asked for; None heeds the request.
        caches: Whether it answers a repeated prompt from a cache.
        filters: Share of the answers that a filter cuts.
        winded: Whether it writes more than it is given room for.
        other: Whether the weights are others.
    """

    temperature: float | None = None
    caches: bool = False
    filters: float = 0.0
    winded: bool = False
    other: bool = False

    def answer(self, prompt: str, body: Mapping[str, Any]) -> tuple[str, str, str]:
        """One of the answers that the model has: which, is chance, but at temperature 0."""
        asked = float(body.get("temperature", 1.0))
        temperature = asked if self.temperature is None else self.temperature
        # The colder, the fewer.
        most = 1 if self.caches else max(1, round(_ANSWERS * temperature**3))
        chosen = self.rng.randrange(most)
        reasoning, content, cut = self.say(f"{prompt}/{chosen}", body.get("max_tokens"))
        if self.persona.system:  # the same weights say something else behind it
            reasoning = f"I was told to be brief. {reasoning}"
        if self.other:
            reasoning = f"Let us see what is asked. {reasoning}"
        if self.rng.random() < self.filters:
            return reasoning[:40], "", "content_filter"
        if self.winded:
            return reasoning, "", "length"
        return reasoning, content, "length" if cut else "stop"


def host(tokenizers: Tokenizers, persona: str = "honest-r1", **how: Any) -> Host:
    """A host around a persona."""
    return Host(PERSONAS[persona], tokenizers, random.Random(11), **how)
