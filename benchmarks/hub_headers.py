"""Requests and bytes for all headers of DeepSeek-R1 on a Hub: `python benchmarks/hub_headers.py`.

The test Hub serves the R1 skeleton (163 files, true headers) on loopback, weights from a "CDN" on
another port, as the Hub does. r1prov and `huggingface_hub.get_safetensors_metadata` read it by
turns, each in a process of its own, and the server counts. `--delay` adds a wait before each body:
loopback has no distance, and a network has nothing but.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "servers"))

from hub_server import Hub, running_hub  # noqa: E402 - it is not installed

from r1prov.family.skeleton import write_skeleton  # noqa: E402

REPO = "deepseek-ai/DeepSeek-R1"
CONFIG = ROOT / "manifests" / "facts" / "configs" / "DeepSeek-R1.json"
MANIFEST = ROOT / "manifests" / "DeepSeek-R1.toml"
OURS, PEER = "r1prov read_headers", "get_safetensors_metadata"


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run cost: requests at the Hub, at the CDN, bytes of bodies, seconds."""

    hub: int
    cdn: int
    sent: int
    wall: float


def once(hub: Hub, label: str, scratch: Path) -> Cost:
    name = "child_hub_ours.py" if label == OURS else "child_hub_peer.py"
    command = [sys.executable, str(Path(__file__).parent / name), hub.url, REPO]
    if label == PEER:
        command.append(tempfile.mkdtemp(dir=scratch))
    hub.log.clear()
    hub.sent = 0
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - begin
    if done.returncode or done.stdout.strip() != "91991":
        raise SystemExit(f"{label}: {done.stdout}{done.stderr[-2000:]}")
    at_cdn = sum(seen.server == "cdn" for seen in hub.log)
    return Cost(len(hub.log) - at_cdn, at_cdn, hub.sent, wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="measured runs")
    parser.add_argument("--delay", type=float, default=0.0, metavar="S", help="before each body")
    options = parser.parse_args()
    digests = {one["path"]: one["sha256"] for one in tomllib.loads(MANIFEST.read_text())["files"]}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "DeepSeek-R1"
        write_skeleton(CONFIG.read_bytes(), folder)
        with running_hub(Path(scratch) / "hub") as hub:
            hub.add(REPO, folder, digests=digests)
            if options.delay:
                hub.fault("", times=10**9, stall=options.delay)
            costs: dict[str, list[Cost]] = {OURS: [], PEER: []}
            for label in costs:
                once(hub, label, Path(scratch))
            for turn in range(options.runs):
                for label in (OURS, PEER) if turn % 2 == 0 else (PEER, OURS):
                    costs[label].append(once(hub, label, Path(scratch)))
    report(costs, options.delay)


def report(costs: dict[str, list[Cost]], delay: float) -> None:
    print(f"\nAll 163 headers of DeepSeek-R1, {len(costs[OURS])} runs by turns, delay {delay} s\n")
    print("| reader                   | requests | at the Hub | at the CDN |      bytes | wall s |")
    print("| ------------------------ | -------: | ---------: | ---------: | ---------: | -----: |")
    for label, runs in costs.items():
        hub, cdn = (statistics.median(getattr(c, n) for c in runs) for n in ("hub", "cdn"))
        sent = statistics.median(cost.sent for cost in runs)
        wall = statistics.median(cost.wall for cost in runs)
        print(
            f"| {label:<24} | {hub + cdn:8.0f} | {hub:10.0f} | {cdn:10.0f} | {sent:10,.0f} "
            f"| {wall:6.2f} |"
        )
    pairs = list(zip(costs[OURS], costs[PEER], strict=True))
    ratios = [
        statistics.median((a.hub + a.cdn) / (b.hub + b.cdn) for a, b in pairs),
        statistics.median(a.sent / b.sent for a, b in pairs),
        statistics.median(a.wall / b.wall for a, b in pairs),
    ]
    print("\nRatios: requests {:.3f}, bytes {:.3f}, wall {:.3f}".format(*ratios))


if __name__ == "__main__":
    main()
