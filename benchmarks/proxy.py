"""What the signing proxy costs: `python benchmarks/proxy.py [--runs N] [--connections N]`.

Holds requests through the proxy against the same requests to the bare server behind it, by turns,
over loopback. Needs r1prov[proxy]. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from child_openai_upstream import EVENTS, HELD_SECONDS

HERE = Path(__file__).resolve().parent
BODY = b'{"model":"deepseek-r1","messages":[{"role":"user","content":"' + b"a" * 1000 + b'"}]}'
SEQUENTIAL = 400
CONCURRENT = 32
TOGETHER = 1600
STATEMENT = b": r1prov-signature "


@dataclass
class Costs:
    """What one kind of request costs, run by run."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


class Client:
    """One connection that asks again and again, and reads to the end of each answer."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.request = (
            b"POST %b HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % (path.encode(), port, len(BODY))
        ) + BODY

    async def open(self) -> None:
        """Connect."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self) -> bytes:
        """The content of one answer."""
        self.writer.write(self.request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(f"unexpected answer: {head!r}")
        if b"transfer-encoding: chunked" not in head:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
            return await self.reader.readexactly(length)
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append((await self.reader.readexactly(size + 2))[:-2])
        await self.reader.readexactly(2)
        return b"".join(parts)

    def close(self) -> None:
        """Disconnect."""
        self.writer.close()


async def latency(port: int, path: str, count: int) -> list[float]:
    client = Client(port, path)
    await client.open()
    for _ in range(20):
        await client.ask()
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await client.ask()
        times.append(time.perf_counter() - begun)
    client.close()
    return sorted(times)


async def rate(port: int, path: str) -> float:
    clients = [Client(port, path) for _ in range(CONCURRENT)]
    for client in clients:
        await client.open()

    async def work(client: Client) -> None:
        for _ in range(TOGETHER // CONCURRENT):
            await client.ask()

    begun = time.perf_counter()
    await asyncio.gather(*map(work, clients))
    spent = time.perf_counter() - begun
    for client in clients:
        client.close()
    return TOGETHER / spent


async def compare(ports: dict[str, int], runs: int) -> None:
    for path in ("/v1/chat/completions", "/v1/stream"):
        costs = {name: Costs() for name in ports}
        for run in range(-1, runs):  # the first is thrown away
            order = list(ports) if run % 2 else list(ports)[::-1]
            for name in order:
                times = await latency(ports[name], path, SEQUENTIAL)
                speed = await rate(ports[name], path)
                if run >= 0:
                    costs[name].p50.append(times[len(times) // 2])
                    costs[name].p99.append(times[int(len(times) * 0.99)])
                    costs[name].rate.append(speed)
        show(path, costs)


def show(path: str, costs: dict[str, Costs]) -> None:
    bare, proxy = costs["bare"], costs["proxy"]
    print(f"\n{path}")
    for name, one in costs.items():
        print(
            f"  {name:6} p50 {statistics.median(one.p50) * 1e3:7.2f} ms   "
            f"p99 {statistics.median(one.p99) * 1e3:7.2f} ms   "
            f"{statistics.median(one.rate):8.0f} requests/s"
        )
    added = [
        statistics.median(b - a for a, b in zip(x, y, strict=True)) * 1e3
        for x, y in ((bare.p50, proxy.p50), (bare.p99, proxy.p99))
    ]
    ratio = statistics.median(b / a for a, b in zip(bare.rate, proxy.rate, strict=True))
    print(f"  added  p50 {added[0]:7.2f} ms   p99 {added[1]:7.2f} ms   rate ratio {ratio:.3f}")


def resident(pid: int) -> float:
    """Resident memory of a process in MiB (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def hold(port: int, pid: int, connections: int) -> None:
    print(f"\n{connections} streams at once, {HELD_SECONDS} s each, an event a second")
    print(f"  before      {resident(pid):6.1f} MiB")
    for turn in range(3):
        clients = [Client(port, "/v1/hold") for _ in range(connections)]
        for client in clients:
            await client.open()
        begun = time.perf_counter()
        asking = [asyncio.ensure_future(client.ask()) for client in clients]
        sizes = []
        for _ in range(4):
            await asyncio.sleep(HELD_SECONDS / 5)
            sizes.append(resident(pid))
        bodies = await asyncio.gather(*asking)
        spent = time.perf_counter() - begun
        whole = sum(body.endswith(b"data: [DONE]\n\n") and STATEMENT in body for body in bodies)
        for client in clients:
            client.close()
        shown = " ".join(f"{size:.1f}" for size in sizes)
        print(f"  turn {turn + 1}: whole and signed {whole}, {spent:.1f} s, MiB meanwhile: {shown}")


@contextlib.contextmanager
def started(*command: str) -> Iterator[tuple[int, int]]:
    """A server that prints its port; yields the port and the process id."""
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().strip().rpartition(":")[2]), process.pid
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def make_key(directory: str) -> str:
    key = str(Path(directory) / "answers.key")
    command = ["-m", "r1prov", "key", "generate", key, "--no-passphrase", "--algorithm", "ed25519"]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return key


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="measured runs")
    parser.add_argument("--connections", type=int, default=1000, metavar="N", help="held at once")
    options = parser.parse_args()
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}; request {len(BODY)} bytes, stream of {EVENTS} events, "
        f"{options.runs} runs by turns, medians"
    )
    upstream = str(HERE / "child_openai_upstream.py")
    with tempfile.TemporaryDirectory() as scratch, started(upstream) as (bare, _):
        proxy = ["-m", "r1prov", "response", "proxy", "--upstream", f"http://127.0.0.1:{bare}"]
        proxy += ["--key", make_key(scratch), "--manifest", "DeepSeek-R1"]
        with started(*proxy, "--listen", "127.0.0.1:0") as (port, pid):
            uvloop.run(compare({"bare": bare, "proxy": port}, options.runs))
            if options.connections:
                uvloop.run(hold(port, pid, options.connections))


if __name__ == "__main__":
    main()
