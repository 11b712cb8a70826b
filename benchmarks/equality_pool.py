"""Answers of one real model, asked as `r1prov endpoint record` asks: the data of `equality.py`.

    python benchmarks/equality_pool.py KIND FOLDER [--blocks N] [--tokens N]

KIND is how the weights are stored: Q8_0, Q5_0, Q4_0. A block is what one side of an audit asks for
by default: the prompts that ship, ten completions of each, and two answers with log-probabilities.
A line of `KIND.jsonl` is a block; a run that was stopped goes on behind the last one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "servers"), str(ROOT / "tests" / "endpoints" / "personas")]

from llama_server import GGUF, serve_model  # noqa: E402
from requantize import requantize  # noqa: E402

from r1prov.endpoints.client import Client  # noqa: E402
from r1prov.endpoints.compare import SAMPLES  # noqa: E402
from r1prov.endpoints.plan import Plan  # noqa: E402
from r1prov.endpoints.prompt_set import builtin_prompts  # noqa: E402
from r1prov.endpoints.reference import Sampling  # noqa: E402
from r1prov.endpoints.sampling import Samples, collect, collect_first_tokens  # noqa: E402
from r1prov.endpoints.wire import Manners  # noqa: E402
from r1prov.responses.log import ExchangeLog, Fsync  # noqa: E402

SLOTS = 24


def pool_file(folder: Path, kind: str) -> Path:
    """Where the blocks of one kind are."""
    return folder / f"{kind}.jsonl"


def read_pool(folder: Path, kind: str) -> Iterator[Samples]:
    """The blocks that are there, in the order in which they were asked for.

    A last line without its end is of a run that was killed, and is no block.
    """
    path = pool_file(folder, kind)
    for line in path.read_text().split("\n")[:-1] if path.exists() else ():
        block = json.loads(line)
        yield Samples(
            completions=block["completions"],
            first_tokens=block["first_tokens"],
            failed=block["failed"],
        )


def fill(kind: str, folder: Path, blocks: int, tokens: int) -> None:
    """Ask until there are so many blocks."""
    path = pool_file(folder, kind)
    there = sum(1 for _ in read_pool(folder, kind))
    if path.exists():
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])
    weights = folder / f"{kind}.gguf"
    if not weights.exists():
        requantize(GGUF, weights, kind)
    sampling = Sampling(max_tokens=tokens, temperature=1.0, top_logprobs=20)
    with serve_model(weights, slots=SLOTS) as url:
        for number in range(there, blocks):
            began = time.monotonic()
            found = ask(url, sampling, number)
            line = {
                "completions": {
                    name: [one.text for one in all_] for name, all_ in found.completions.items()
                },
                "first_tokens": found.first_tokens,
                "failed": found.failed,
            }
            with path.open("a") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stderr.write(f"{kind} block {number}: {time.monotonic() - began:.1f} s\n")


def ask(url: str, sampling: Sampling, number: int) -> Samples:
    """One block."""
    found = Samples()
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(
            url,
            model="smollm2",
            key=None,
            log=ExchangeLog(Path(folder) / "log.jsonl", fsync=Fsync.NEVER),
            manners=Manners(concurrency=SLOTS),
        ) as client,
    ):
        prompts = builtin_prompts()
        collect_first_tokens(
            [client], [found], prompts, Plan().logprob_samples, sampling, seed=number
        )
        collect([client], [found], prompts, range(SAMPLES), sampling, seed=number)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--blocks", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=8, help="of a completion")
    arguments = parser.parse_args()
    arguments.folder.mkdir(exist_ok=True)
    fill(arguments.kind, arguments.folder, arguments.blocks, arguments.tokens)


if __name__ == "__main__":
    main()
