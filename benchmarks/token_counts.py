"""What the active tokenizer test makes of counts that hosts alter.

    python benchmarks/token_counts.py [--runs N] [--claim MODEL] [--out results.json]

Every family of the table stands behind the claim in turn, and its counts are altered as gateways
do: constants, billing factors that are rounded, tokens of a cache that are left out, noise,
rounding, counts that nobody made. No network: the test asks, and the answer is a number.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections import Counter as Tally
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from r1prov.endpoints.result import Outcome, TestResult
from r1prov.endpoints.tokens.explain import Observation
from r1prov.endpoints.tokens.prompts import needed, prompt_token_test
from r1prov.endpoints.tokens.reference import Counter, token_reference

# Tokens that stand before every prompt.
OVERHEADS = (0, 2000)
FACTORS = (0.5, 3.0)


@dataclass
class Host:
    """Counts one prompt after the other.

    Attributes:
        counter: Whose tokens they are.
        overhead: Tokens before and after every prompt.
        rng: Where chance comes from.
        seen: Probes that were sent before, for hosts with a cache.
    """

    counter: Counter
    overhead: int
    rng: random.Random
    seen: set[str] = field(default_factory=set)

    def honest(self, probe: str) -> int:
        """Tokens of the prompt that holds the probe."""
        return self.counter.counts[probe] + self.overhead


Alter = Callable[[Host, str], int | None]


def factor(rounding: Callable[[float], int]) -> Callable[[random.Random], Alter]:
    """Billing by a factor that is the same for every prompt of a host."""

    def make(rng: random.Random) -> Alter:
        by = rng.uniform(*FACTORS)
        return lambda host, probe: rounding(by * host.honest(probe))

    return make


def cache(block: int, least: int = 0) -> Callable[[random.Random], Alter]:
    """Whole blocks of what was sent before are left out; so is the host's own prompt."""

    def make(_: random.Random) -> Alter:
        def alter(host: Host, probe: str) -> int:
            whole = host.honest(probe)
            # Questions went before the first probe, so the host's own prompt is known.
            known = whole - 1 if probe in host.seen else host.overhead
            host.seen.add(probe)
            cached = known // block * block
            return whole - (cached if cached >= least else 0)

        return alter

    return make


def factor_in_tens(rng: random.Random) -> Alter:
    by = rng.uniform(*FACTORS)
    return lambda host, probe: 10 * math.ceil(by * host.honest(probe) / 10)


def factor_and_noise(rng: random.Random) -> Alter:
    by = rng.uniform(*FACTORS)
    return lambda host, probe: math.ceil(by * (host.honest(probe) + host.rng.randint(-2, 2)))


def small_factor(rng: random.Random) -> Alter:
    by = rng.uniform(0.05, 0.5)
    return lambda host, probe: math.ceil(by * host.honest(probe))


def large_factor(rng: random.Random) -> Alter:
    by = rng.uniform(3, 20)
    return lambda host, probe: math.ceil(by * host.honest(probe))


def prompt_once_a_half(_: random.Random) -> Alter:
    """The host's own prompt becomes another on the way."""

    def alter(host: Host, probe: str) -> int:
        again = probe in host.seen
        host.seen.add(probe)
        return host.honest(probe) + (37 if again else 0)

    return alter


def noise(most: int) -> Callable[[random.Random], Alter]:
    return lambda _: lambda host, probe: host.honest(probe) + host.rng.randint(-most, most)


def steps(of: int, rounding: Callable[[float], int]) -> Callable[[random.Random], Alter]:
    return lambda _: lambda host, probe: of * rounding(host.honest(probe) / of)


def drifting(_: random.Random) -> Alter:
    """A prompt of the host that is another every time: the date, a number."""
    return lambda host, probe: host.honest(probe) + host.rng.randint(0, 12)


def constant(_: random.Random) -> Alter:
    return lambda host, _probe: host.overhead


def invented(_: random.Random) -> Alter:
    return lambda host, _probe: host.rng.randint(1, 1200)


def missing(rng: random.Random) -> Alter:
    """Counts that come for some prompts alone."""
    without = set(rng.sample([one.id for one in token_reference().probes], rng.randint(1, 4)))
    return lambda host, probe: None if probe in without else host.honest(probe)


ALTERATIONS: Mapping[str, Callable[[random.Random], Alter]] = {
    "nothing but a constant": lambda _: Host.honest,
    "times 0.5 to 3, rounded up": factor(math.ceil),
    "times 0.5 to 3, rounded down": factor(math.floor),
    "times 0.5 to 3, rounded": factor(round),
    "times 0.05 to 0.5, rounded up": small_factor,
    "times 3 to 20, rounded up": large_factor,
    "times 0.5 to 3, and up to tens": factor_in_tens,
    "times 0.5 to 3, and noise of 2": factor_and_noise,
    "another constant when asked again": prompt_once_a_half,
    "cached blocks of 16 left out": cache(16),
    "cached blocks of 64 left out": cache(64),
    "cached blocks of 128 from 1,024 on left out": cache(128, 1024),
    "noise of 2": noise(2),
    "noise of 3": noise(3),
    "noise of 5": noise(5),
    "noise of 20": noise(20),
    "a prompt of 0 to 12 more tokens": drifting,
    "up to tens": steps(10, math.ceil),
    "down to tens": steps(10, math.floor),
    "up to fifties": steps(50, math.ceil),
    "up to hundreds": steps(100, math.ceil),
    "one number": constant,
    "any number": invented,
    "none for 1 to 4 of the probes": missing,
}


def audit(host: Host, alter: Alter, claim: str) -> TestResult:
    """Two halves of an audit, each with its own rounds, as `TokenAudit` makes them."""
    observations: list[Observation] = []
    for half in range(2):
        own: list[Observation] = []
        while asks := needed(own, claim=claim):
            own += [Observation(a.probe.id, alter(host, a.probe.id), a.round) for a in asks]
        observations += [
            Observation(one.probe, one.tokens, one.round + 2 * half, one.spent) for one in own
        ]
    return prompt_token_test(observations, claim=claim)


def told(result: TestResult, host: Host, claimed: Counter) -> str:
    """What the test came to, in the terms of the table."""
    if result.outcome is not Outcome.INCONSISTENT:
        return result.outcome.value
    named = {one.found for one in result.findings}
    others = {one.name for one in token_reference().counters if one is not claimed} & named
    if others:
        confirmed = "confirmed" if result.statistics["another_confirmed"] else "once"
        return f"named {'right' if host.counter.name in others else 'wrong'}, {confirmed}"
    return "unexplained"


COLUMNS = (
    "consistent",
    "not-testable",
    "unexplained",
    "named right, confirmed",
    "named right, once",
    "named wrong, confirmed",
    "named wrong, once",
)


def table(claim: str, runs: int) -> dict[str, dict[str, dict[str, int]]]:
    """One row an alteration, for hosts that serve the claim and for those that do not."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    claimed = token_reference().family_of(claim)
    families = [one for one in token_reference().counters if one.tokenizer]
    for title, behind in (
        ("serves it", [claimed]),
        ("serves another", [one for one in families if one is not claimed]),
    ):
        print(f"\n| {claim}: the host {title} | {' | '.join(COLUMNS)} |")
        print(f"| --- |{' ---: |' * len(COLUMNS)}")
        for name, make in ALTERATIONS.items():
            rng = random.Random(f"{claim} {title} {name}")
            row: Tally[str] = Tally()
            for number in range(runs):
                host = Host(behind[number % len(behind)], rng.randint(*OVERHEADS), rng)
                row[told(audit(host, make(rng), claim), host, claimed)] += 1
            shares = " | ".join(f"{row[one] / runs:.2%}" if row[one] else "0" for one in COLUMNS)
            print(f"| {name} | {shares} |", flush=True)
            found.setdefault(title, {})[name] = {one: row[one] for one in COLUMNS if row[one]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--claim", action="append")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print(f"{arguments.runs:,} hosts a row")
    found: dict[str, object] = {"hosts a row": arguments.runs}
    for claim in arguments.claim or ("DeepSeek-R1",):
        found[claim] = table(claim, arguments.runs)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
