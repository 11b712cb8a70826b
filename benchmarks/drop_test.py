"""What the drop test does, by enumeration: no chance is involved, and nothing is needed.

    python benchmarks/drop_test.py

For each number of questions, the largest share of runs that say "dropped by more than 5 %" where
the drop is 5 % and no more, over how often the sides differ; and how often larger drops are found.
"""

from __future__ import annotations

import sys

from scipy import stats

from r1prov.endpoints.accuracy import Paired, drop_test

TOLERATED = 0.05
DIFFERING = (0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
RATES = (0.05, 0.01)
DROPS = (0.10, 0.15)
# How often the sides differ where there is a drop to be found.
USUAL = 0.2


def rejected(asked: int, differing: float, drop: float, rate: float) -> float:
    """Probability that the test rejects: outcomes weighted by the multinomial distribution."""
    worse, better = (differing + drop) / 2, (differing - drop) / 2
    total = 0.0
    for b, by_b in enumerate(stats.binom.pmf(range(asked + 1), asked, worse)):
        if by_b < 1e-12:
            continue
        left = asked - b
        for c, by_c in enumerate(stats.binom.pmf(range(left + 1), left, better / (1 - worse))):
            if drop_test(Paired(left - c, b, c, 0), tolerated=TOLERATED).p_value > rate:
                break
            total += by_b * by_c
    return total


def main() -> None:
    for asked in (30, 100, 300, 1000):
        for rate in RATES:
            level = max(rejected(asked, one, TOLERATED, rate) for one in DIFFERING)
            powers = [f"{rejected(asked, USUAL, drop, rate):.3f}" for drop in DROPS]
            sys.stdout.write(f"{asked} questions at {rate}: {level:.4f}; {', '.join(powers)}\n")


if __name__ == "__main__":
    main()
