"""Fuzz every target for a while: `python tests/fuzz/fuzz.py [--seconds N] [TARGET ...]`.

Coverage-guided (Atheris, which is libFuzzer). A target fails on an exception that is not an
`R1ProvError`, on an input that takes longer than `SLOW_SECONDS`, and above `MEMORY_MIB`. What broke
it is left in `.cache/fuzz/NAME/`; move it to `tests/fuzz/found/NAME/` and it stays tested.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parents[1] / ".cache" / "fuzz"
SLOW_SECONDS = 10
MEMORY_MIB = 1024
MAX_INPUT_BYTES = 64 * 1024


def fuzz_one(name: str, options: list[str]) -> None:
    """Run one target in this process; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["r1prov"]):
        from targets import run

    def consume(data: bytes) -> None:
        run(name, data)

    atheris.Setup([name, *options], consume)
    atheris.Fuzz()


def start(name: str, seconds: int) -> tuple[str, int, str]:
    """Fuzz one target in a process of its own; its name, exit status and what it said."""
    from targets import seeds

    corpus = WORK / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(data)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SLOW_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={WORK / name}/",
        "-print_final_stats=1",
        str(corpus),
    ]
    done = subprocess.run(
        [sys.executable, __file__, "--run", name, *options],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 120,
        check=False,
    )
    return name, done.returncode, done.stderr


def executions(said: str) -> str:
    """How many inputs were tried, as libFuzzer says it."""
    for line in said.splitlines():
        if line.startswith("stat::number_of_executed_units:"):
            return line.split()[-1]
    return "?"


def main() -> int:
    sys.path.insert(0, str(HERE))
    if sys.argv[1:2] == ["--run"]:
        fuzz_one(sys.argv[2], sys.argv[3:])
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all, unless named")
    parser.add_argument("--seconds", type=int, default=60, help="a target (default 60)")
    known = parser.parse_args()
    if unknown := set(known.targets) - set(TARGETS):
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}"
        )
    failed = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wanted = known.targets or list(TARGETS)
        for name, status, said in pool.map(lambda one: start(one, known.seconds), wanted):
            print(f"{'ok' if status == 0 else 'FAILED':7}{name:16}{executions(said):>10} inputs")
            if status:
                failed += 1
                print(said[-4000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
