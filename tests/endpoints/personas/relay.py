"""The adversary that token tests miss: a small real model behind a relay that counts as R1 would.

Also a persona that can compute, as the honest counterpart of what a small model cannot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import httpx
from personas import Speaker

_PRODUCT = re.compile(r"What is (\d+) times (\d+)\?")
# Room for the reasoning, in tokens of the small model.
_MOST = 400


class RelaySpeaker(Speaker):
    """Has a real endpoint say everything, and passes it off as reasoning and answer.

    What it says is counted and cut anew with the tokenizer of the persona's gateway. Behind an
    honest persona that is a stand-in for R1: real weights, whose answers count as R1's do.
    """

    upstream: str = ""

    def say(self, prompt: str, tokens: int | None) -> tuple[str, str, bool]:
        """The first half of the real model's text as reasoning, the rest as answer."""
        limit = min(tokens or _MOST, _MOST)
        body: dict[str, Any] = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": limit,
        }
        if limit == 1:  # a probe of the counts: no need to trouble the model
            return "Okay", "", True
        answer = httpx.post(f"{self.upstream}/chat/completions", json=body, timeout=120).json()
        choice = answer["choices"][0]
        text = choice["message"]["content"].replace("\ufffd", "")
        # Between words, or the cut would leave half a character.
        middle = text.find(" ", len(text) // 2)
        middle = len(text) if middle < 0 else middle
        reasoning = "Okay, let me think about what is being asked here. " + text[:middle]
        return reasoning, text[middle:] or text, choice["finish_reason"] == "length"

    def logprobs(self, prompt: str, body: Mapping[str, Any]) -> object:
        """Those of the real endpoint."""
        asked = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
            "temperature": body.get("temperature"),
            "logprobs": True,
            "top_logprobs": body["top_logprobs"],
        }
        answer = httpx.post(f"{self.upstream}/chat/completions", json=asked, timeout=120).json()
        return answer["choices"][0]["logprobs"]


class KnowingSpeaker(Speaker):
    """Answers products right, and all else as the persona does."""

    def say(self, prompt: str, tokens: int | None) -> tuple[str, str, bool]:
        """Reasoning, and the product."""
        found = _PRODUCT.match(prompt)
        if found is None:
            return super().say(prompt, tokens)
        left, right = int(found[1]), int(found[2])
        thought = f"I multiply {left} by {right}, digit by digit, and add up what I get."
        return thought, f"{left} times {right} is {left * right}.", False
