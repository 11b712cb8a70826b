"""How often the dip test finds a second peak in times, where there is one and where there is none.

    python benchmarks/modality.py [--runs N] [--seed N] [--out results.json]

Times with one peak are drawn from distributions that waiting times are given, on a clock without
end and on one that ticks in milliseconds, and some come together with the piece before them, as
where a network hands over two at once. Times with two peaks are halves or a tenth of another
speed. The level is that of the report, 0.01.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from intervals import share

from r1prov.endpoints.timing import MODALITY_LEVEL, describe_times

SIZES = (20, 50, 200, 1000, 4000)
Draw = Callable[[np.random.Generator, int], np.ndarray]


def two(factor: float, part: float) -> Draw:
    """Some of the times are `factor` as long; both kinds scatter by a fifth."""

    def draw(rng: np.random.Generator, count: int) -> np.ndarray:
        slow = rng.random(count) < part
        return rng.lognormal(np.log(0.03), 0.2, count) * np.where(slow, factor, 1.0)

    return draw


def ticking(draw: Draw) -> Draw:
    """The same on a clock of milliseconds."""
    return lambda rng, count: np.round(draw(rng, count), 3)


def together(draw: Draw, part: float) -> Draw:
    """The same where some pieces come with the one before."""
    return lambda rng, count: np.where(rng.random(count) < part, 0.0, draw(rng, count))


def lognormal(rng: np.random.Generator, count: int) -> np.ndarray:
    """Scatter of times whose logarithms are even."""
    return rng.lognormal(np.log(0.03), 0.5, count)


KINDS: dict[str, dict[str, Draw]] = {
    "one peak": {
        "log-normal": lognormal,
        "gamma": lambda rng, count: rng.gamma(4, 0.01, count),
        "exponential": lambda rng, count: rng.exponential(0.03, count),
        "uniform logarithms": lambda rng, count: np.exp(rng.uniform(-5, 0, count)),
        "log-normal, in milliseconds": ticking(lognormal),
        "exponential, in milliseconds": ticking(lambda rng, count: rng.exponential(0.03, count)),
        "log-normal, a fifth together with the one before": together(lognormal, 0.2),
    },
    "two peaks": {
        "half of them 2 times": two(2, 0.5),
        "half of them 3 times": two(3, 0.5),
        "a tenth of them 3 times": two(3, 0.1),
        "a tenth of them 10 times": two(10, 0.1),
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    found: dict[str, object] = {
        "runs": arguments.runs, "seed": arguments.seed, "level": MODALITY_LEVEL,
    }  # fmt: skip
    for kind, draws in KINDS.items():
        for name, draw in draws.items():
            for size in SIZES:
                hits = 0
                for _ in range(arguments.runs):
                    modality = describe_times(list(draw(rng, size))).modality
                    hits += modality is not None and modality.p_value <= MODALITY_LEVEL
                found[f"{kind}: {name}, {size} times"] = share(hits, arguments.runs)
                print(f"{kind}: {name}, {size}: {hits}", file=sys.stderr, flush=True)
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
