"""Run commands by turns and say what each cost."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of one command cost, interpreter start-up included."""

    wall: float
    cpu: float
    peak: int  # bytes


@dataclass(frozen=True, slots=True)
class Command:
    """A command to measure, and the exit statuses that are no failure of it."""

    label: str
    argv: Sequence[str]
    accept: frozenset[int] = frozenset({0})


def once(command: Command) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen(
        command.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.stderr.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in command.accept:
        text = complaint.decode(errors="replace")[-2000:]
        raise SystemExit(f"{command.label}: exit status {process.returncode}\n{text}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, see getrusage(2)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def by_turns(commands: Sequence[Command], runs: int) -> dict[str, list[Cost]]:
    """Run A B C A B C ..., after one round that is thrown away and fills the page cache."""
    for command in commands:
        once(command)
    costs: dict[str, list[Cost]] = {command.label: [] for command in commands}
    for turn in range(runs):
        # Every other round backwards, so that nothing gains by always following the same command.
        for command in commands if turn % 2 == 0 else reversed(commands):
            costs[command.label].append(once(command))
    return costs


def report(title: str, costs: Mapping[str, Sequence[Cost]], base: str) -> None:
    """Print medians, and each command's median of ratios to `base`, round by round."""
    print(f"\n{title}\n")
    print(f"| {'command':<44} | wall s | CPU s | peak MiB | wall ratio | CPU ratio |")
    print(f"| {'-' * 44} | -----: | ----: | -------: | ---------: | --------: |")
    for label, runs in costs.items():
        wall = statistics.median(cost.wall for cost in runs)
        cpu = statistics.median(cost.cpu for cost in runs)
        peak = statistics.median(cost.peak for cost in runs) / 2**20
        pairs = list(zip(runs, costs[base], strict=True))
        wall_ratio = statistics.median(a.wall / b.wall for a, b in pairs)
        cpu_ratio = statistics.median(a.cpu / b.cpu for a, b in pairs)
        print(
            f"| {label:<44} | {wall:6.3f} | {cpu:5.2f} | {peak:8.1f} "
            f"| {wall_ratio:10.3f} | {cpu_ratio:9.3f} |"
        )
