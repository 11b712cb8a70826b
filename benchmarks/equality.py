"""How often the audit's comparison with a reference errs, and how often it finds coarser weights.

    python benchmarks/equality_pool.py Q8_0 FOLDER --blocks 200      (and so on for each kind)
    python benchmarks/equality.py FOLDER [--out results.json]

`equality_pool.py` asked a real model with weights of several kinds. Here one block of answers is
what a reference recorded, and another what an audit with the options by default was answered; no
two runs of a row share any answer. Two blocks of one model give the false positives; they are some
minutes apart, as a reference and an audit are. Halves of blocks give more runs, at half the size. A
block of Q8_0 against one of a coarser copy gives the power. Prints counts with exact intervals.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from equality_pool import pool_file, read_pool
from intervals import share

from r1prov.endpoints.comparison import Names, logprobs_result
from r1prov.endpoints.equality import compare_completions
from r1prov.endpoints.plan import Plan
from r1prov.endpoints.sampling import Samples
from r1prov.endpoints.sequential import plan_looks

REFERENCE = "Q8_0"
COPIES = ("Q5_0", "Q4_0")
ALPHA = Plan().alpha
LOOKS = Plan().looks
# Completions a prompt and side, where there is one look.
SIZES = (2, 5, 10)
RATES = (0.05, 0.01)
_APART = 10
Pair = tuple[Samples, Samples]
Texts = Mapping[str, Sequence[Any]]


def apart(blocks: Sequence[Samples]) -> list[Pair]:
    """Blocks of one model against each other, each once; ten others were asked for in between."""
    found: list[Pair] = []
    for start in range(0, len(blocks), 2 * _APART):
        group = blocks[start : start + 2 * _APART]
        middle = len(group) // 2
        found += zip(group[:middle], group[middle : 2 * middle], strict=True)
    return found


def split(block: Samples) -> Pair:
    """The completions of one block as two sides, by turns."""
    left, right = (
        Samples(completions={name: all_[side::2] for name, all_ in block.completions.items()})
        for side in (0, 1)
    )
    return left, right


def first(samples: Samples, count: int) -> dict[str, list[Any]]:
    """The first completions of each prompt."""
    return {name: list(texts[:count]) for name, texts in samples.completions.items()}


class Run:
    """One reference against one audit."""

    def __init__(self, pair: Pair, seed: int) -> None:
        self.reference, self.other = pair
        self.seed = seed
        total = max(len(one) for one in self.reference.completions.values())
        self.looks = [
            self.p_value(total, round(total * look.samples)) for look in plan_looks(ALPHA, LOOKS)
        ]
        self.at_size = {
            size: self.looks[-1] if size == total else self.p_value(size, size)
            for size in SIZES
            if size <= total
        }

    def p_value(self, recorded: int, asked: int) -> float:
        """Of the test with so many completions a prompt, as the audit makes it."""
        reference: Texts = first(self.reference, recorded)
        other: Texts = first(self.other, asked)
        return compare_completions(reference, other, seed=self.seed).p_value

    def look(self, alpha: float) -> int:
        """The look at which the audit calls them different; 0 if it never does."""
        looks = zip(self.looks, plan_looks(alpha, LOOKS), strict=True)
        return next((n for n, (p, look) in enumerate(looks, 1) if p <= look.alpha), 0)

    def logprobs(self, alpha: float) -> bool:
        """Whether the test of log-probabilities calls them different."""
        return logprobs_result(
            self.reference.first_tokens,
            self.other.first_tokens,
            alpha=alpha,
            seed=self.seed,
            names=Names(),
            requests=0,
        ).decisive


def counted(
    pairs: Sequence[Pair], say: Callable[[str], None], *, logprobs: bool = True
) -> dict[str, Any]:
    """How often each test rejects."""
    runs = []
    for number, pair in enumerate(pairs):
        runs.append(Run(pair, number))
        if number % 20 == 19:
            say(f"{number + 1} of {len(pairs)}")

    def of(hits: Sequence[bool]) -> dict[str, Any]:
        return share(sum(hits), len(hits))

    result: dict[str, Any] = {
        f"one look at {rate}, {size} a prompt": of([one.at_size[size] <= rate for one in runs])
        for rate in RATES
        for size in runs[0].at_size
    }
    # Without log-probabilities the completions have the rate for themselves; else half of it.
    looks = [one.look(ALPHA) for one in runs]
    result[f"completions, three looks at {ALPHA} together"] = of([one > 0 for one in looks])
    result["of these at the first look"] = looks.count(1)
    result["of these at the second look"] = looks.count(2)
    if not logprobs:
        return result
    half = ALPHA / 2
    shared = [one.look(half) > 0 for one in runs]
    numbers = [one.logprobs(half) for one in runs]
    result[f"log-probabilities at {half}"] = of(numbers)
    result[f"completions, three looks at {half} together"] = of(shared)
    either = [a or b for a, b in zip(shared, numbers, strict=True)]
    result[f"either, the audit at {ALPHA}"] = of(either)
    return result


def measure(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Read the pools, test, count."""
    blocks = {kind: list(read_pool(folder, kind)) for kind in (REFERENCE, *COPIES)}
    blocks = {kind: found for kind, found in blocks.items() if found}
    some = blocks[REFERENCE][0]
    result: dict[str, Any] = {
        "blocks": {kind: len(found) for kind, found in blocks.items()},
        "failed requests": sum(one.failed for found in blocks.values() for one in found),
        "SHA-256 of the answers": {
            kind: hashlib.sha256(pool_file(folder, kind).read_bytes()).hexdigest()
            for kind in blocks
        },
        "prompts": len(some.completions),
        "completions a prompt": max(len(one) for one in some.completions.values()),
        "answers with log-probabilities a prompt": max(
            len(one) for one in some.first_tokens.values()
        ),
        "xllamacpp": version("xllamacpp"),
    }
    nulls = [pair for found in blocks.values() for pair in apart(found)]
    say(f"the same model: {len(nulls)} runs")
    result["same model"] = counted(nulls, say)
    small = [split(block) for found in blocks.values() for block in found]
    say(f"the same model, half the size: {len(small)} runs")
    result["same model, half the size"] = counted(small, say, logprobs=False)
    for copy in COPIES:
        pairs = list(zip(blocks[REFERENCE], blocks.get(copy, ()), strict=False))
        say(f"{copy}: {len(pairs)} runs")
        result[f"{REFERENCE} against {copy}"] = counted(pairs, say)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of equality_pool.py")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.folder, lambda line: print(line, file=sys.stderr, flush=True))
    text = json.dumps(result, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
