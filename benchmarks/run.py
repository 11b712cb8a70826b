"""Hold r1prov against its peers on this machine: `python benchmarks/run.py`.

Needs r1prov installed in the running interpreter's environment. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peers
from measure import Command, by_turns, report

HERE = Path(__file__).resolve().parent
PYTHON = sys.executable
R1PROV = str(Path(PYTHON).parent / "r1prov")
CACHE = HERE.parent / ".cache"
# Made by children: a large parent would show in the peak memory of what it starts.
WRITE_MODEL = (
    f"import sys; from pathlib import Path; sys.path.insert(0, {str(HERE)!r}); "
    "from model import write_model; write_model(Path(sys.argv[1]), int(sys.argv[2]))"
)
WRITE_SKELETON = (
    "import sys; from pathlib import Path; "
    "from r1prov.family.skeleton import write_skeleton; "
    "write_skeleton(Path(sys.argv[1]).read_bytes(), sys.argv[2])"
)
R1_CONFIG = str(HERE.parent / "manifests" / "facts" / "configs" / "DeepSeek-R1.json")
START = "python -c pass"


@dataclass(frozen=True, slots=True)
class Setting:
    """What every section needs."""

    model: str
    peer: str
    runs: int
    scratch: Path


def child(name: str, directory: str, *, python: str = PYTHON) -> tuple[str, ...]:
    return (python, str(HERE / f"child_{name}.py"), directory)


def start(python: str = PYTHON) -> Command:
    return Command(START, (python, "-c", "pass"))


def hashing(setting: Setting) -> None:
    commands = [
        start(),
        Command("bare two-thread hashlib loop", child("bare_loop", setting.model)),
        Command("r1prov hash_blobs, 2 workers", child("engine", setting.model)),
        Command("the same, tensor digests too", child("extents", setting.model)),
    ]
    costs = by_turns(commands, setting.runs)
    report("1. Hashing: the engine against a bare loop", costs, commands[1].label)


def verifying(setting: Setting) -> None:
    public, signature = peers.sign(Path(setting.peer), Path(setting.model), setting.scratch)
    files = ("--public_key", str(public), "--signature", str(signature))
    peer = (setting.peer, "-m", "model_signing", "verify", "key", setting.model, *files)
    manifest, keys = sign_with_r1prov(setting)
    own = ("--manifest", manifest, "--keys", keys, "--expect", "benchmark")
    commands = [
        Command("model_signing 1.1.1 verify key", peer),
        Command("r1prov hash", (R1PROV, "hash", setting.model)),
        Command("r1prov verify, signed manifest", (R1PROV, "verify", setting.model, *own)),
    ]
    costs = by_turns(commands, setting.runs)
    report("2. Every byte of a model", costs, commands[0].label)


def sign_with_r1prov(setting: Setting) -> tuple[str, str]:
    """Make a manifest of the model, sign it, trust the key; return manifest and key directory."""
    key, keys = str(setting.scratch / "r1prov.key"), str(setting.scratch / "keys")
    manifest = str(setting.scratch / "benchmark.toml")
    for command in (
        ("key", "generate", key, "--no-passphrase"),
        ("key", "add", f"{key}.pub", "--owner", "bench", "--model", "benchmark", "--keys", keys),
        ("manifest", "create", setting.model, "--name", "benchmark", "--output", manifest),
        ("manifest", "sign", manifest, "--key", key),
    ):
        done = subprocess.run((R1PROV, *command), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"r1prov {' '.join(command)}: {done.stderr}")
    return manifest, keys


def structure(setting: Setting) -> None:
    skeleton = str(setting.scratch / "DeepSeek-R1")
    subprocess.run([PYTHON, "-c", WRITE_SKELETON, R1_CONFIG, skeleton], check=True)
    importing = (setting.peer, "-c", "import numpy; from safetensors import safe_open")
    commands = [
        Command("import safetensors, numpy", importing),
        Command("safe_open, 163 files", child("safe_open", skeleton, python=setting.peer)),
        Command("r1prov headers and inventory", child("structure", skeleton)),
        # A skeleton lacks bytes and files, so it cannot pass: 1 or 3 is the right answer.
        Command(
            "r1prov verify --level structure",
            (R1PROV, "verify", skeleton, "--expect", "full", "--level", "structure"),
            frozenset({1, 3}),
        ),
    ]
    costs = by_turns(commands, setting.runs)
    report("3. Structure of the full DeepSeek-R1, 163 files", costs, commands[1].label)


def starting(setting: Setting) -> None:
    commands = [
        start(),
        Command("r1prov --version", (R1PROV, "--version")),
        Command("model_signing --help", (setting.peer, "-m", "model_signing", "--help")),
    ]
    costs = by_turns(commands, max(setting.runs, 11))
    report("4. Start-up", costs, START)


SECTIONS: dict[str, Callable[[Setting], None]] = {
    "hashing": hashing,
    "verifying": verifying,
    "structure": structure,
    "starting": starting,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, metavar="MiB", help="of the model")
    parser.add_argument("--runs", type=int, default=9, metavar="N", help="measured runs")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="one section")
    options = parser.parse_args()
    model = str(CACHE / f"bench-model-{options.size}")
    subprocess.run([PYTHON, "-c", WRITE_MODEL, model, str(options.size)], check=True)
    peer = str(peers.environment(CACHE / "bench-venv"))
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; model of {options.size} MiB, "
        f"{options.runs} runs by turns, medians. A ratio below 1 is less than the row of 1.000."
    )
    with tempfile.TemporaryDirectory() as scratch:
        setting = Setting(model, peer, options.runs, Path(scratch))
        for name, section in SECTIONS.items():
            if not options.only or name in options.only:
                section(setting)


if __name__ == "__main__":
    main()
