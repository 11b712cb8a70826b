"""What the test on delta boundaries makes of streams that a relay has cut anew.

    python benchmarks/relays.py DIR [--hosts N] [--out results.json]

DIR holds the packages with real tokenizers, as for `token_boundaries.py`. A host has a tokenizer,
and answers eight times with some 550 tokens; a relay passes its tokens on one by one, some of them
together, or makes pieces of its own. Counted is what the test says of each host.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter as Tally
from collections.abc import Callable
from pathlib import Path

from token_boundaries import ANSWER_SENTENCES, ROOT, read_tokenizer, stream

sys.path.insert(0, str(ROOT / "tests" / "endpoints" / "personas"))

from persona_corpus import write

from r1prov.endpoints.answer import Answer, Delta, Part
from r1prov.endpoints.tokens.boundaries import boundary_test
from r1prov.endpoints.tokens.tokenizer import TextTokenizer

CLAIM = "deepseek-r1"
HOSTS = (CLAIM, "deepseek-r1-distill-qwen-7b", "deepseek-r1-distill-llama-8b")
ANSWERS = 8
# Tokens in a second, and seconds between two looks at the buffer of a relay that sends by time.
SPEED, SLICE = 35.0, 0.1

# Tokens of an answer, as text, to what a relay sends.
Relay = Callable[[random.Random, list[str]], list[str]]


def passed_on(_: random.Random, tokens: list[str]) -> list[str]:
    """As they come."""
    return tokens


def merged(low: int, high: int) -> Relay:
    """Several tokens at once."""

    def relay(rng: random.Random, tokens: list[str]) -> list[str]:
        found, at = [], 0
        while at < len(tokens):
            count = rng.randint(low, high)
            found.append("".join(tokens[at : at + count]))
            at += count
        return found

    return relay


def by_time(rng: random.Random, tokens: list[str]) -> list[str]:
    """What came within a slice of time."""
    found, buffer, now, look = [], "", 0.0, SLICE
    for token in tokens:
        now += rng.expovariate(SPEED)
        while now > look:
            look += SLICE
            if buffer:
                found.append(buffer)
            buffer = ""
        buffer += token
    return [*found, buffer] if buffer else found


def by_bytes_and_time(rng: random.Random, tokens: list[str]) -> list[str]:
    """What of the text came within a slice of time, where bytes arrive evenly."""
    text = "".join(tokens)
    found, at = [], 0
    while at < len(text):
        count = max(1, round(rng.gauss(12, 4)))
        found.append(text[at : at + count])
        at += count
    return found


def characters(count: int) -> Relay:
    """So many characters at once."""
    return lambda _, tokens: [
        "".join(tokens)[at : at + count] for at in range(0, len("".join(tokens)), count)
    ]


def some_characters(low: int, high: int) -> Relay:
    """Any number of characters at once, for a look of typing."""

    def relay(rng: random.Random, tokens: list[str]) -> list[str]:
        text, found, at = "".join(tokens), [], 0
        while at < len(text):
            count = rng.randint(low, high)
            found.append(text[at : at + count])
            at += count
        return found

    return relay


def words(_: random.Random, tokens: list[str]) -> list[str]:
    """Words with the blank before or behind; Chinese character by character."""
    return re.findall(r"[\u4e00-\u9fff]|\s*[^\s\u4e00-\u9fff]+|\s+", "".join(tokens))


def jieba_words(_: random.Random, tokens: list[str]) -> list[str]:
    """Words as a program for Chinese finds them."""
    import jieba

    jieba.setLogLevel("ERROR")
    return list(jieba.cut("".join(tokens)))


def sentences(_: random.Random, tokens: list[str]) -> list[str]:
    """A sentence at a time."""
    return re.findall(r"[^.!?。！？\n]*[.!?。！？\n]+\s*|.+$", "".join(tokens))


def half_characters(_: random.Random, tokens: list[str]) -> list[str]:
    """Four bytes at a time, of which parts of characters become replacement characters."""
    raw = "".join(tokens).encode()
    return [raw[at : at + 4].decode(errors="replace") for at in range(0, len(raw), 4)]


def cut_tokens(rng: random.Random, tokens: list[str]) -> list[str]:
    """Tokens as they come, and long ones in two."""
    found = []
    for token in tokens:
        if len(token) > 6:
            at = rng.randint(1, len(token) - 1)
            found += [token[:at], token[at:]]
        else:
            found.append(token)
    return found


RELAYS: dict[str, Relay] = {
    "one token": passed_on,
    "2 to 4 tokens": merged(2, 4),
    "1 to 10 tokens": merged(1, 10),
    "tokens of a tenth of a second": by_time,
    "characters of a tenth of a second": by_bytes_and_time,
    "4 characters": characters(4),
    "16 characters": characters(16),
    "1 to 3 characters": some_characters(1, 3),
    "1 to 12 characters": some_characters(1, 12),
    "10 to 40 characters": some_characters(10, 40),
    "words": words,
    "words found by jieba": jieba_words,
    "sentences": sentences,
    "4 bytes, broken characters replaced": half_characters,
    "tokens, long ones in two": cut_tokens,
}


def host(
    rng: random.Random, tokenizer: TextTokenizer, relay: Relay, *, chinese: bool | None
) -> list[Answer]:
    """The answers of one host behind a relay."""
    found = []
    for _ in range(ANSWERS):
        text = write(f"{rng.random()}", sentences=ANSWER_SENTENCES, chinese=chinese)[0]
        answer = stream(text, tokenizer)
        assert answer is not None
        pieces = relay(rng, [one.text for one in answer.deltas])
        deltas = tuple(Delta(Part.CONTENT, one) for one in pieces if one)
        found.append(Answer(status=200, streamed=True, deltas=deltas))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tokenizers = {name: read_tokenizer(arguments.directory, name) for name in HOSTS}
    found: dict[str, object] = {
        "claim": CLAIM, "hosts": arguments.hosts, "answers of each": ANSWERS,
    }  # fmt: skip
    for language, chinese in (("English", False), ("Chinese", True), ("both", None)):
        for name, relay in RELAYS.items():
            for behind in HOSTS:
                rng = random.Random(f"{language} {name} {behind}")
                row: Tally[str] = Tally()
                for _ in range(arguments.hosts):
                    answers = host(rng, tokenizers[behind], relay, chinese=chinese)
                    row[boundary_test(answers, tokenizers[CLAIM]).outcome.value] += 1
                found[f"{language}, {name}, {behind}"] = dict(sorted(row.items()))
                print(language, name, behind, dict(row), file=sys.stderr, flush=True)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
