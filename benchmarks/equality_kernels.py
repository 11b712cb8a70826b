"""How the kernels of the comparison of completions do on the same answers.

    python benchmarks/equality_kernels.py FOLDER DIR [--out results.json]

FOLDER has what `equality_pool.py` collected, DIR the packages with real tokenizers, as for
`token_boundaries.py`: texts are cut with that of DeepSeek-R1, as an audit does, whichever wrote
them. One look at 0.01 at ten completions a prompt; runs of a row share no answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import cast

from equality_pool import read_pool
from intervals import share
from token_boundaries import read_tokenizer

from r1prov.endpoints.equality import TOKENS, Samples, compare_completions

RATE, PERMUTATIONS = 0.01, 999
KERNELS = ("hamming", "ngram", TOKENS)
TRUSTED, OTHERS = "Q8_0", ("Q5_0", "Q4_0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tokenizer = read_tokenizer(arguments.directory, "deepseek-r1")
    # A block of the pool holds texts where an audit has completions.
    pools = {
        kind: [cast("Samples", block.completions) for block in read_pool(arguments.folder, kind)]
        for kind in (TRUSTED, *OTHERS)
    }
    trusted = pools[TRUSTED]
    pairs = {"same weights": list(pairwise(trusted))[::2]}
    pairs |= {kind: list(zip(trusted, pools[kind], strict=False)) for kind in OTHERS}
    found: dict[str, object] = {"rate": RATE, "permutations": PERMUTATIONS}
    for title, runs in pairs.items():
        for kernel in KERNELS:
            hits = sum(
                compare_completions(
                    one,
                    other,
                    kernel=kernel,
                    tokenizer=tokenizer,
                    permutations=PERMUTATIONS,
                    seed=number,
                ).p_value
                <= RATE
                for number, (one, other) in enumerate(runs)
            )
            found[f"{title}, {kernel}"] = share(hits, len(runs))
            print(title, kernel, hits, len(runs), file=sys.stderr, flush=True)
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
