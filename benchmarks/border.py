"""How often border inputs tell a copy of a model from it, and how often the model from itself.

    python benchmarks/border.py FOLDER [--candidates N] [--out results.json]

A real llama.cpp server has SmolLM2-135M with 16-bit weights. Border inputs are found among words of
Python's reference manual, as `r1prov endpoint record` finds them among those of the prompts, and
put into groups of 16, which share none: each group is one test, as an audit makes it. FOLDER keeps
the copies of the model.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

from intervals import share

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "servers"), str(ROOT / "tests" / "endpoints" / "personas")]

from llama_server import GGUF, serve_model  # noqa: E402
from requantize import requantize  # noqa: E402

from r1prov.endpoints.border import (  # noqa: E402
    PROMPTS,
    ask_border,
    border_result,
    gap_of,
    in_gap,
)
from r1prov.endpoints.client import Client  # noqa: E402
from r1prov.endpoints.comparison import Names  # noqa: E402
from r1prov.endpoints.prompt_set import Prompt  # noqa: E402
from r1prov.endpoints.reference import Sampling  # noqa: E402
from r1prov.endpoints.result import Outcome  # noqa: E402
from r1prov.endpoints.sampling import Samples, collect_first_tokens  # noqa: E402
from r1prov.endpoints.wire import Manners  # noqa: E402
from r1prov.responses.log import ExchangeLog, Fsync  # noqa: E402

TRUSTED = "F16"
# Copies, and with how many slots the server has them: the load of a batch moves the numbers too.
OTHERS = (("F16", 2), ("F16", 8), ("Q8_0", 8), ("Q5_0", 8), ("Q4_0", 8))
RATE = 0.005
SLOTS = 8


@contextmanager
def served(folder: Path, kind: str, slots: int) -> Iterator[Client]:
    """A client of a server of those weights."""
    weights = folder / f"{kind}.gguf"
    if not weights.exists():
        requantize(GGUF, weights, kind)
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve_model(weights, slots=slots) as url,
        Client(
            url,
            model="smollm2",
            key=None,
            log=ExchangeLog(Path(scratch) / "log.jsonl", fsync=Fsync.NEVER),
            manners=Manners(concurrency=slots),
        ) as client,
    ):
        yield client


def words(count: int) -> list[Prompt]:
    """Different words of the manual, in random order."""
    text = " ".join(pydoc_data.topics.topics.values())
    found = sorted(set(re.findall(r"[^\W\d_]{3,}", text)))
    random.Random(1).shuffle(found)
    return [Prompt(one, one) for one in found[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--candidates", type=int, default=3_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    asked = words(arguments.candidates)
    with ExitStack() as stack:
        trusted = stack.enter_context(served(arguments.folder, TRUSTED, SLOTS))
        listed = Samples()
        collect_first_tokens([trusted], [listed], asked, 1, Sampling(top_logprobs=20), seed=1)
        gaps = {
            name: gap
            for name, answers in listed.first_tokens.items()
            if (gap := gap_of(answers)) is not None and in_gap(gap)
        }
        chosen = [one for one in asked if one.id in gaps]
        groups = [chosen[i : i + PROMPTS] for i in range(0, len(chosen) - PROMPTS + 1, PROMPTS)]
        found: dict[str, object] = {
            "xllamacpp": version("xllamacpp"),
            "candidates": len(asked),
            "border inputs": len(chosen),
            "prompts a test": PROMPTS,
            "rate": RATE,
        }
        ours = [ask_border([trusted], group, seed=2)[0] for group in groups]
        for kind, slots in OTHERS:
            with served(arguments.folder, kind, slots) as other:
                results = [
                    border_result(
                        reference.completions,
                        ask_border([other], group, seed=3)[0],
                        gaps,
                        alpha=RATE,
                        seed=number,
                        names=Names(),
                    )
                    for number, (group, reference) in enumerate(zip(groups, ours, strict=True))
                ]
            tipped = sum(one.statistics["other_first_token"] for one in results)
            found[f"{kind}, {slots} slots"] = {
                "tests that differ": share(
                    sum(one.outcome is Outcome.INCONSISTENT for one in results), len(results)
                ),
                "prompts with another first token": share(
                    int(tipped), int(sum(one.statistics["prompts"] for one in results))
                ),
            }
            print(kind, slots, found[f"{kind}, {slots} slots"], file=sys.stderr, flush=True)
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
