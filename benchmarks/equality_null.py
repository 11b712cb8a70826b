"""How often two sides that are one and the same are called different: simulation, no server.

    python benchmarks/equality_null.py [--runs N] [--seed N] [--out results.json]

Both sides draw their answers from one distribution a prompt; the test is the one of
`r1prov endpoint audit`, with its looks. A p-value by permutation is exact: at 0.05 no more than 5 %
of the runs may be at or below it, whatever the answers are. Prints counts, which the seed fixes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from intervals import share

from r1prov.endpoints.equality import compare_completions
from r1prov.endpoints.sequential import plan_looks

PROMPTS, SAMPLES, PERMUTATIONS, LOOKS = 8, 6, 999, 3
RATES = (0.2, 0.05, 0.01)
WORDS = (
    *("the", "a", "sea", "sky", "cat", "king", "map", "light", "of", "in", "on", "under", "cold"),
    *("old", "small", "says", "finds", "keeps", "why", "when", "because", "first", "1", "20"),
    *("我们", "时间", "故事", "海", "灯塔", "是", "的", "在", "了", "375"),
)


def answer(draw: random.Random, prompt: int) -> str:
    """An answer: each prompt has words that it prefers, and answers that end early."""
    weights = [1 + ((prompt * 7 + place * 13) % 11) ** 2 for place in range(len(WORDS))]
    length = 2 + min(int(draw.expovariate(0.15)), 30)
    return " ".join(draw.choices(WORDS, weights, k=length))


def run(seed: int) -> list[float]:
    """One run: the p-value at each look; at the last all answers are there."""
    draw = random.Random(seed)
    reference, other = (
        {f"p{n}": [answer(draw, n) for _ in range(SAMPLES)] for n in range(PROMPTS)}
        for _ in range(2)
    )
    found = []
    for look in plan_looks(0.01, LOOKS):
        upto = round(SAMPLES * look.samples)
        seen = {name: texts[:upto] for name, texts in other.items()}
        # One seed for all looks, as the audit has it.
        result = compare_completions(reference, seen, permutations=PERMUTATIONS, seed=seed)
        found.append(result.p_value)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    first = arguments.seed * 1_000_000
    runs = [run(first + number) for number in range(arguments.runs)]
    result: dict[str, object] = {
        "runs": arguments.runs,
        "seeds": f"{first} to {first + arguments.runs - 1}",
        "prompts": PROMPTS,
        "completions a prompt and side": SAMPLES,
        "permutations": PERMUTATIONS,
    }
    for rate in RATES:
        looks = plan_looks(rate, LOOKS)
        once = sum(seen[-1] <= rate for seen in runs)
        several = sum(
            any(p <= look.alpha for p, look in zip(seen, looks, strict=True)) for seen in runs
        )
        result[f"one look at {rate}"] = share(once, arguments.runs)
        result[f"three looks at {rate} together"] = share(several, arguments.runs)
    text = json.dumps(result, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
