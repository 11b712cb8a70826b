"""Choose the library that reads object stores: `python benchmarks/object_store_libraries.py`.

Installs each candidate into a directory of its own, serves one file as a bucket on loopback, and
lets the candidates and r1prov read it by turns. Needs r1prov[s3] in the running environment.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

from measure import Command, by_turns, report

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "bench-objects"
SOURCES = HERE.parent / "src"
CANDIDATES = {
    "obstore (all three)": ("obstore==0.12.1",),
    "s3fs": ("s3fs==2026.9.0",),
    "s3fs, gcsfs, adlfs": ("s3fs==2026.9.0", "gcsfs==2026.10.1", "adlfs==2026.8.0"),
}
TASKS = {
    "import": "Start-up: import and make a store",
    "headers": "The first 256 KiB of 163 objects, one after the other",
    "stream": "SHA-256 of one object",
    "two": "SHA-256 of two objects at once",
}
LABELS = {"obstore": "obstore", "s3fs": "s3fs", "r1prov": "r1prov ObjectStore (obstore)"}


def install(name: str, packages: tuple[str, ...]) -> Path:
    """Install packages into a directory of their own, once."""
    target = CACHE / name.split(" ")[0].strip(",") / str(len(packages))
    if not target.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*command, "--target", str(target), *packages], check=True)
    return target


def size(directory: Path) -> tuple[int, int]:
    """Bytes of all files that are not byte code, and number of distributions."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return sum(path.stat().st_size for path in files), len(list(directory.glob("*.dist-info")))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=512, metavar="MiB", help="of an object")
    parser.add_argument("--runs", type=int, default=7, metavar="N", help="measured runs")
    options = parser.parse_args()
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; object of {options.size} MiB, "
        f"{options.runs} runs by turns, medians"
    )
    print("\nInstalled size\n\n| packages | MiB | distributions |\n| --- | ---: | ---: |")
    paths = {name: install(name, packages) for name, packages in CANDIDATES.items()}
    for name, path in paths.items():
        used, distributions = size(path)
        print(f"| {name} | {used / 2**20:.1f} | {distributions} |")
    os.environ["AWS_REGION"] = "us-east-1"
    os.environ["AWS_ACCESS_KEY_ID"] = os.environ["AWS_SECRET_ACCESS_KEY"] = "benchmark"
    compare(paths, options.runs, TASKS, serve(options.size))
    slow = "SHA-256 of one object of 128 MiB, 20 ms away, 50 MiB/s a connection"
    compare(paths, options.runs, {"stream": slow}, serve(128, "0.02", str(50 * 2**20)))


def serve(mebibytes: int, *options: str) -> subprocess.Popen[bytes]:
    """Start a server of an object of this size; its endpoint goes into the environment."""
    data = CACHE / f"object-{mebibytes}"
    if not data.exists():
        with data.open("wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(2**20))
    server = subprocess.Popen(
        [sys.executable, str(HERE / "object_server.py"), str(data), *options],
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{int(server.stdout.readline())}"
    return server


def compare(
    paths: dict[str, Path], runs: int, tasks: dict[str, str], server: subprocess.Popen[bytes]
) -> None:
    """Let every library carry out every task by turns, then stop the server."""
    try:
        for task, title in tasks.items():
            commands = [Command("python -c pass", (sys.executable, "-c", "pass"))]
            for library, label in LABELS.items():
                own = (paths["s3fs" if library == "s3fs" else "obstore (all three)"], SOURCES)
                # -S: only what was installed for the candidate, and nothing of the environment.
                variable = f"PYTHONPATH={os.pathsep.join(map(str, own))}"
                child = (sys.executable, "-S", str(HERE / "child_objects.py"), library, task)
                commands.append(Command(label, ("env", variable, *child)))
            report(title, by_turns(commands, runs), LABELS["obstore"])
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
