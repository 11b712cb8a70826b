"""How often the intervals of text statistics hold the true difference: simulation, no server.

    python benchmarks/text_intervals.py [--runs N] [--seed N] [--out results.json]

Answers are drawn as numbers: prompts have levels of their own, answers scatter around them, evenly
or with a long tail as lengths do, and the other side is shifted by nothing, by the same for every
prompt, or by prompts differently. An interval is for one of five statistics at 99 %, so that all
five hold together with 95 %. Counted is how often it holds the difference that was put in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from intervals import share

from r1prov.endpoints.text_statistics import difference_of

RESAMPLES = 999
# Prompts, and answers of each a side.
SIZES = ((24, 10), (24, 2), (8, 4), (3, 4), (2, 10), (1, 10))
SHIFT, VARIES = 0.5, 0.5

Scatter = Callable[[np.random.Generator, int], np.ndarray]
SCATTERS: dict[str, Scatter] = {
    "even": lambda rng, count: rng.normal(0, 1, count),
    "long tail": lambda rng, count: rng.lognormal(0, 1, count) - np.exp(0.5),
}
SHIFTS = ("none", "one", "by prompt")


def holds(
    rng: np.random.Generator, size: tuple[int, int], scatter: Scatter, shift: str
) -> tuple[bool, bool]:
    """Whether the interval of one run holds the difference, and whether the test finds one."""
    prompts, answers = size
    true = 0.0 if shift == "none" else SHIFT
    pairs = []
    for _ in range(prompts):
        level = rng.normal(0, 2)
        by = true + (rng.normal(0, VARIES) if shift == "by prompt" else 0.0)
        pairs.append(
            [level + scatter(rng, answers), level + by + scatter(rng, answers)],
        )
    found = difference_of("x", pairs, RESAMPLES, rng)
    return found.low <= true <= found.high, found.p_value <= 1 - found.confidence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    found: dict[str, object] = {"runs": arguments.runs, "seed": arguments.seed}
    for size in SIZES:
        for name, scatter in SCATTERS.items():
            for shift in SHIFTS:
                runs = [holds(rng, size, scatter, shift) for _ in range(arguments.runs)]
                key = f"{size[0]} prompts, {size[1]} answers, {name}, shift {shift}"
                row = {"holds": share(sum(a for a, _ in runs), arguments.runs)}
                if shift == "none":
                    row["p below 0.01"] = share(sum(b for _, b in runs), arguments.runs)
                found[key] = row
                print(key, row, flush=True, file=sys.stderr)
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
