"""Who stands behind a test endpoint: a model with its real tokenizer, and what gateways make of it.

Counts are those of real tokenizers, template included. The text is from a fixed corpus: no model
runs here, so nothing but tokens, fields and text statistics can be told apart.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from persona_corpus import write

from r1prov.endpoints.tokens.tokenizer import TextTokenizer

Tokenizers = Mapping[str, TextTokenizer]

# `deepseek-r1` and its distills have one chat template (their `tokenizer_config.json`).
_R1_TEMPLATE = ("<｜begin▁of▁sentence｜><｜User｜>", "<｜Assistant｜><think>\n")
_V3_TEMPLATE = ("<｜begin▁of▁sentence｜><｜User｜>", "<｜Assistant｜>")


@dataclass(frozen=True)
class Persona:
    """One endpoint.

    Attributes:
        name: Of the persona.
        model: Whose tokenizer counts and cuts: a key of the tokenizers.
        usage: What becomes of the counts, see `counted`.
        chunks: What becomes of the deltas, see `pieces`.
        shape: Where the reasoning goes: `reasoning_content`, `reasoning`, `think`, `think-end`,
            `deep_thoughts` or `none`.
        fingerprint: `system_fingerprint`.
        system: Hidden system prompt.
        loops: Share of sentences that are said again, as a model does that was quantized too far.
        template: What stands before and after the user's text.
    """

    name: str
    model: str = "deepseek-r1"
    usage: str = "honest"
    chunks: str = "tokens"
    shape: str = "reasoning_content"
    fingerprint: str | None = "fp_7e73fd9a08"
    system: str = ""
    loops: float = 0.0
    template: tuple[str, str] = _R1_TEMPLATE


R1 = Persona("honest-r1")
DISTILL_QWEN = Persona("distill-qwen", "deepseek-r1-distill-qwen-7b")
DISTILL_LLAMA = Persona("distill-llama", "deepseek-r1-distill-llama-8b")
# One with which gateway or model a finding must say what it is, and nothing worse.
PERSONAS: dict[str, Persona] = {
    one.name: one
    for one in (
        R1,
        DISTILL_QWEN,
        DISTILL_LLAMA,
        Persona("v3", "deepseek-v3", template=_V3_TEMPLATE, shape="none"),
        Persona("v3.1", "deepseek-v3.1", template=_V3_TEMPLATE),
        Persona("quantized", loops=0.5),
        Persona("hidden-system-prompt", system="You are a careful assistant. Answer briefly."),
        Persona("affine-billing", usage="affine"),
        Persona("chars-over-4", usage="chars/4"),
        Persona("rounded", usage="rounded"),
        Persona("constant", usage="constant"),
        Persona("no-usage", usage="missing"),
        Persona("usage-without-reasoning", usage="without-reasoning"),
        Persona("batched", chunks="batched"),
        Persona("word-chunks", chunks="words"),
        Persona("fixed-chunks", chunks="characters"),
        Persona("one-chunk", chunks="whole"),
        Persona("think-tags", shape="think"),
        Persona("think-end-tag", shape="think-end"),
        Persona("reasoning-field", shape="reasoning"),
        Persona("deep-thoughts", shape="deep_thoughts"),
        Persona("no-reasoning", shape="none"),
        Persona("ollama-distill", DISTILL_QWEN.model, shape="reasoning", fingerprint="fp_ollama"),
        replace(DISTILL_QWEN, name="distill-estimated-usage", usage="chars/4"),
        # `usage` by the R1 tokenizer over the distill's own stream.
        replace(DISTILL_QWEN, name="distill-spoofed-usage", usage="r1"),
        # The blind spot: counts and deltas both made anew with the R1 tokenizer.
        replace(DISTILL_QWEN, name="distill-recount-rechunk", usage="r1", chunks="r1"),
    )
}


@dataclass
class Speaker:
    """A persona with its tokenizers, ready to answer.

    Attributes:
        persona: Who speaks.
        tokenizers: Model name to tokenizer; that of `deepseek-r1` is what gateways recount with.
        rng: Where pieces are cut, the same in every run.
    """

    persona: Persona
    tokenizers: Tokenizers
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    def prompt_tokens(self, prompt: str) -> int | None:
        """Tokens of the rendered template, as the persona's gateway states them."""
        before, after = self.persona.template
        text = before + self.persona.system + prompt + after
        return self._stated(prompt, lambda tokenizer: tokenizer.count(text))

    def completion_tokens(self, reasoning: str, content: str) -> int | None:
        """Tokens of the completion, with the end of the reasoning and the end token."""
        if self.persona.usage == "without-reasoning":
            return self.tokenizers[self.persona.model].count(content) + 1
        return self._stated(
            reasoning + content,
            # `</think>`, the blank line after it, and the end token.
            lambda tokenizer: tokenizer.count(reasoning) + tokenizer.count(content) + 3,
        )

    def _stated(self, text: str, count: Callable[[TextTokenizer], int]) -> int | None:
        honest = count(self.tokenizers[self.persona.model])
        match self.persona.usage:
            case "affine":
                return math.ceil(1.3 * honest + 7)
            case "chars/4":
                return math.ceil(len(text) / 4)
            case "rounded":
                return math.ceil(honest / 10) * 10
            case "constant":
                return 128
            case "missing":
                return None
            case "r1":
                return count(self.tokenizers["deepseek-r1"])
            case _:
                return honest

    def logprobs(self, prompt: str, body: Mapping[str, object]) -> object:
        """Log-probabilities, as a choice has them; a persona that computes nothing has none."""
        return None

    def answer(self, prompt: str, body: Mapping[str, Any]) -> tuple[str, str, str]:
        """Reasoning, content and `finish_reason` of the answer to a request."""
        reasoning, content, cut = self.say(prompt, body.get("max_tokens"))
        return reasoning, content, "length" if cut else "stop"

    def say(self, prompt: str, tokens: int | None) -> tuple[str, str, bool]:
        """Reasoning, content, and whether `max_tokens` cut the answer off."""
        reasoning, content = write(prompt)
        if self.persona.loops:
            reasoning, content = self._looped(reasoning), self._looped(content)
        if tokens is None:
            return reasoning, content, False
        first = self._tokens(self.persona.model, reasoning)
        if tokens <= len(first):
            return b"".join(first[:tokens]).decode(errors="ignore"), "", True
        second = self._tokens(self.persona.model, content)
        left = max(0, tokens - len(first) - 2)
        return (
            reasoning,
            b"".join(second[:left]).decode(errors="ignore"),
            left < len(second),
        )

    def pieces(self, text: str) -> Iterator[str]:
        """Deltas of a text, as the persona's gateway sends them. Characters are never cut."""
        match self.persona.chunks:
            case "words":
                yield from _join([word.encode() for word in _words(text)])
            case "characters":
                yield from (text[i : i + 7] for i in range(0, len(text), 7))
            case "whole":
                yield text
            case "batched":
                tokens = self._tokens(self.persona.model, text)
                at = 0
                while at < len(tokens):
                    size = self.rng.randint(2, 6)
                    yield from _join([b"".join(tokens[at : at + size])])
                    at += size
            case "r1":
                yield from _join(self._tokens("deepseek-r1", text))
            case _:
                yield from _join(self._tokens(self.persona.model, text))

    def _tokens(self, model: str, text: str) -> list[bytes]:
        ends = self.tokenizers[model].ends(text)
        assert ends is not None, "the corpus is in NFC"
        raw, starts = text.encode(), (0, *ends)
        return [raw[a:b] for a, b in zip(starts, ends, strict=False)]

    def _looped(self, text: str) -> str:
        """Says some sentences again, as models do whose weights were rounded too far."""
        rng = random.Random(text)
        sentences = re.split(r"(?<=[.。])", text)
        return "".join(one * (1 + (rng.random() < self.persona.loops)) for one in sentences)


def _join(pieces: Sequence[bytes]) -> Iterator[str]:
    """Pieces as text; one that ends within a character waits for the next, as servers do it."""
    waiting = b""
    for piece in pieces:
        waiting += piece
        try:
            text = waiting.decode()
        except UnicodeDecodeError:
            continue
        waiting = b""
        if text:
            yield text
    assert not waiting


def _words(text: str) -> list[str]:
    """Words with the space after them."""
    words, start = [], 0
    for place, character in enumerate(text):
        if character.isspace():
            words.append(text[start : place + 1])
            start = place + 1
    return [*words, text[start:]]
