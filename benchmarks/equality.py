"""How often the comparison of two endpoints errs, and how often it finds a quantized copy.

    python benchmarks/equality.py [--runs 200] [--out results.json] [--keep FOLDER]

A real llama.cpp server with a real model (SmolLM2-135M) is asked as `r1prov endpoint compare` asks.
The model against itself gives the false positives: every run has samples of its own, for runs that
share samples are no runs. Against it stands the same model with 4-bit weights. Prints counts, which
do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "servers"), str(ROOT / "tests" / "endpoints" / "personas")]

from llama_server import GGUF, serve_model  # noqa: E402
from requantize import requantize  # noqa: E402

from r1prov.endpoints.client import Client  # noqa: E402
from r1prov.endpoints.comparison import Names, completions_result, logprobs_result  # noqa: E402
from r1prov.endpoints.equality import compare_completions  # noqa: E402
from r1prov.endpoints.journal import Journal  # noqa: E402
from r1prov.endpoints.prompt_set import Prompt  # noqa: E402
from r1prov.endpoints.reference import Sampling  # noqa: E402
from r1prov.endpoints.sampling import Samples, collect, collect_first_tokens  # noqa: E402
from r1prov.endpoints.sequential import plan_looks  # noqa: E402
from r1prov.endpoints.wire import Manners  # noqa: E402
from r1prov.responses.log import ExchangeLog, Fsync  # noqa: E402

SLOTS = 16
PROMPTS = tuple(
    Prompt(f"p{number}", text)
    for number, text in enumerate(
        (
            "Name a colour, and say why.",
            "What do cats like?",
            "Tell me a fact about the sea.",
            "Write the first line of a story.",
            "What is a good breakfast?",
        )
    )
)
# More prompts, for log-probabilities: k of them have 3^k labellings.
FIRST = (
    *PROMPTS,
    Prompt("p5", "Count to three."),
    Prompt("p6", "Who was Marie Curie?"),
    Prompt("p7", "Is the earth round?"),
)
SAMPLING = Sampling(max_tokens=10, temperature=1.0, top_logprobs=20)
PER_PROMPT = 4  # completions of each side in a run of the smallest size
SIZES = (4, 8, 16)
ALPHAS = (0.05, 0.01)
PERMUTATIONS = 999
Texts = Mapping[str, Sequence[Any]]


@contextmanager
def client_of(model: Path, log: Path, port: int) -> Iterator[Client]:
    """A client of a server of that model."""
    with (
        serve_model(model, slots=SLOTS, port=port) as url,
        Client(
            url,
            model="smollm2",
            key=None,
            log=ExchangeLog(log, fsync=Fsync.NEVER),
            manners=Manners(concurrency=SLOTS),
            journal=Journal(log) if log.exists() else None,
        ) as client,
    ):
        yield client


def pool(model: Path, log: Path, port: int, completions: int, first_tokens: int) -> Samples:
    """Samples of one model."""
    found = Samples()
    began = time.monotonic()
    with client_of(model, log, port) as client:
        collect_first_tokens([client], [found], FIRST, first_tokens, SAMPLING, seed=1)
        collect([client], [found], PROMPTS, range(completions), SAMPLING, seed=1)
    sys.stderr.write(
        f"{model.name}: {found.requests:,} answers, {found.failed} failed, "
        f"{time.monotonic() - began:,.0f} s\n"
    )
    return found


def block(samples: Texts, number: int, size: int) -> dict[str, list[Any]]:
    """The samples of one side of one run; no two blocks share any."""
    return {name: list(all_)[number * size : (number + 1) * size] for name, all_ in samples.items()}


def p_values(pairs: Sequence[tuple[Texts, Texts]]) -> list[float]:
    """One look with each pair."""
    return [
        compare_completions(left, right, permutations=PERMUTATIONS, seed=run).p_value
        for run, (left, right) in enumerate(pairs)
    ]


def looked(pairs: Sequence[tuple[Texts, Texts]], size: int) -> list[int]:
    """Look of each pair at which the audit of three looks rejects; 0 where it never does."""
    found = []
    for run, (left, right) in enumerate(pairs):
        looks, rejected = plan_looks(0.01, 3), 0
        for number, look in enumerate(looks, 1):
            upto = max(2, round(size * look.samples))
            some = {name: list(all_[:upto]) for name, all_ in right.items()}
            side = Samples(completions=some)
            texts = {name: [one.text for one in all_] for name, all_ in left.items()}
            _, rejects = completions_result(
                texts, side, looks[:number], kernel="hamming", seed=run, names=Names()
            )
            if rejects:
                rejected = number
                break
        found.append(rejected)
    return found


def logprob_outcomes(pairs: Sequence[tuple[Texts, Texts]], alpha: float) -> list[bool]:
    """Whether the test on log-probabilities rejects each pair."""
    return [
        logprobs_result(left, right, alpha=alpha, seed=run, names=Names(), requests=0).decisive
        for run, (left, right) in enumerate(pairs)
    ]


def share(hits: int, runs: int) -> str:
    return f"{hits} of {runs}"


def measure(
    runs: int, powers: int, folder: Path, port: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Ask, test, count."""
    same = requantize(GGUF, folder / "Q8_0.gguf", "Q8_0")
    coarse = requantize(GGUF, folder / "Q4_0.gguf", "Q4_0")
    a = pool(same, folder / "a.jsonl", port, 2 * PER_PROMPT * runs, 4 * runs)
    b = pool(coarse, folder / "b.jsonl", port + 1, powers * max(SIZES), 2 * powers)
    texts_a, texts_b = a.texts(), b.texts()
    result: dict[str, Any] = {"runs": runs, "prompts": len(PROMPTS), "tokens": SAMPLING.max_tokens}
    for size in SIZES:
        nulls = min(runs, min(map(len, texts_a.values())) // (2 * size))
        null = p_values(
            [
                (block(texts_a, 2 * run, size), block(texts_a, 2 * run + 1, size))
                for run in range(nulls)
            ]
        )
        found = min(map(len, texts_b.values())) // size
        power = p_values(
            [(block(texts_a, run, size), block(texts_b, run, size)) for run in range(found)]
        )
        row = {
            "completions a side": size * len(PROMPTS),
            **{
                f"false at {alpha}": share(sum(p <= alpha for p in null), nulls) for alpha in ALPHAS
            },
            **{
                f"found at {alpha}": share(sum(p <= alpha for p in power), found)
                for alpha in ALPHAS
            },
        }
        say(json.dumps(row))
        result[f"size {size}"] = row
    size = max(SIZES)
    nulls = min(map(len, a.completions.values())) // (2 * size)
    found = min(map(len, b.completions.values())) // size
    null_looks = looked(
        [
            (block(a.completions, 2 * run, size), block(a.completions, 2 * run + 1, size))
            for run in range(nulls)
        ],
        size,
    )
    power_looks = looked(
        [
            (block(a.completions, run, size), block(b.completions, run, size))
            for run in range(found)
        ],
        size,
    )
    result["three looks at 0.01"] = {
        "false": share(sum(map(bool, null_looks)), nulls),
        "found": share(sum(map(bool, power_looks)), found),
        "found at the first look": share(power_looks.count(1), found),
    }
    say(json.dumps(result["three looks at 0.01"]))
    nulls = min(runs, min(map(len, a.first_tokens.values())) // 4)
    found = min(map(len, b.first_tokens.values())) // 2
    null_logprobs = logprob_outcomes(
        [
            (block(a.first_tokens, 2 * run, 2), block(a.first_tokens, 2 * run + 1, 2))
            for run in range(nulls)
        ],
        0.01,
    )
    power_logprobs = logprob_outcomes(
        [(block(a.first_tokens, run, 2), block(b.first_tokens, run, 2)) for run in range(found)],
        0.01,
    )
    result["log-probabilities at 0.01"] = {
        "answers a side": 2 * len(FIRST),
        "false": share(sum(null_logprobs), nulls),
        "found": share(sum(power_logprobs), found),
    }
    say(json.dumps(result["log-probabilities at 0.01"]))
    result["failed requests"] = a.failed + b.failed
    return result


def say(line: str) -> None:
    """A result as soon as it is there."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200, help="of the model against itself")
    parser.add_argument("--powers", type=int, default=25, help="of the largest size, against Q4_0")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="where exchanges are kept, to go on later")
    parser.add_argument("--port", type=int, default=18_931, help="of the servers, and the next")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        arguments.keep.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(
            arguments.runs,
            arguments.powers,
            arguments.keep or Path(folder),
            arguments.port,
            say,
        )
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
