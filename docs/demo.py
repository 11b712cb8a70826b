"""The main job on real input: `make demo` runs this.

1. Real weights, all-MiniLM-L6-v2 as its package ships them: verified in full, then with one bit
   flipped in a copy, then identified.
2. DeepSeek-R1 at full scale: the true headers of all 163 shards (91,991 tensors) over sparse data,
   identified; the same for a distill; and that distill under R1's config and name.
3. What most copies are: that distill as a GGUF file under R1's name.
4. Evidence for others: a signed bundle, verified offline by whoever pinned the maker's key, and
   held against the altered copy.

Every line below a `$` is what the command printed. The script exits 1 if any command ends with
another status than the one it must end with.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from r1prov.family.gguf_skeleton import plan_gguf, write_gguf_skeleton
from r1prov.family.skeleton import write_skeleton

CONFIGS = Path(__file__).parent.parent / "manifests" / "facts" / "configs"
R1 = CONFIGS / "DeepSeek-R1@5a56bdb.json"
DISTILL = CONFIGS / "DeepSeek-R1-Distill-Qwen-7B.json"


def show(title: str) -> None:
    """Print a heading."""
    sys.stdout.write(f"\n== {title}\n")
    sys.stdout.flush()


def r1prov(*arguments: str | Path, status: int) -> None:
    """Run a command as a user would, and insist on its exit status."""
    words = [str(argument) for argument in arguments]
    sys.stdout.write(f"\n$ r1prov {' '.join(words)}\n")
    sys.stdout.flush()
    done = subprocess.run([sys.executable, "-m", "r1prov", *words], check=False)
    sys.stdout.write(f"[exit status {done.returncode}]\n")
    sys.stdout.flush()
    if done.returncode != status:
        sys.exit(f"the demo is broken: exit status {done.returncode}, and it must be {status}")


def flip_one_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte ^ 1]))


def main(model: Path, work: Path) -> None:
    """Run the demo.

    Args:
        model: Directory of all-MiniLM-L6-v2.
        work: A directory to write copies and skeletons into.
    """
    show("Real weights: verify every byte")
    r1prov("verify", model, status=0)

    show("The same with one bit flipped")
    altered = work / "altered"
    shutil.copytree(model, altered)
    flip_one_bit(altered / "model.safetensors")
    r1prov("verify", altered, status=1)

    show("Which model is it?")
    r1prov("identify", model, status=0)

    show("DeepSeek-R1 at full scale: 163 shards, 688.6 GB apparent, sparse")
    full = work / "r1"
    write_skeleton(R1.read_bytes(), full)
    r1prov("identify", full, status=0)
    r1prov(
        *("verify", full, "--expect", "full", "--level", "structure", "--scope", "weights"),
        status=3,
    )

    show("A distill: Qwen-7B")
    distill = work / "qwen-7b"
    write_skeleton(DISTILL.read_bytes(), distill)
    r1prov("identify", distill, status=0)

    show("The distill sold as R1: R1's config over the distill's weights")
    (distill / "config.json").write_bytes(R1.read_bytes())
    fake = distill.rename(work / "DeepSeek-R1")
    r1prov("verify", fake, "--expect", "full", "--level", "structure", status=1)

    show("The distill as a GGUF file, Q4_K_M, under R1's name")
    gguf = work / "DeepSeek-R1-671B-GGUF"
    write_gguf_skeleton(plan_gguf(json.loads(DISTILL.read_bytes()), name="DeepSeek-R1-671B"), gguf)
    r1prov("identify", gguf, status=0)
    r1prov("verify", gguf, "--expect", "full", "--level", "structure", status=1)

    show("Evidence: one file that others verify offline, and the altered copy held against it")
    key, bundle = work / "maker.key", work / "model.evidence.zip"
    r1prov("key", "generate", key, "--no-passphrase", status=0)
    r1prov(
        *("key", "add", f"{key}.pub", "--owner", "maker", "--model", "all-MiniLM-L6-v2"), status=0
    )
    r1prov("evidence", "create", model, "--key", key, "-o", bundle, status=0)
    r1prov("evidence", "verify", bundle, "--expect", "all-MiniLM-L6-v2", status=0)
    r1prov("evidence", "verify", bundle, "--model", altered, status=1)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="r1prov-demo-") as directory:
        # Keys are trusted for this run alone.
        os.environ["XDG_CONFIG_HOME"] = directory
        main(Path(sys.argv[1]), Path(directory))
