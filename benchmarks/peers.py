"""The tools that r1prov is held against, in an environment of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# pyOpenSSL: model_signing 1.1.1 imports it and does not ask for it. numpy: safe_open needs it.
PACKAGES = ("model-signing==1.1.1", "pyOpenSSL", "safetensors", "numpy")


def environment(directory: Path) -> Path:
    """Make the environment if it is not there; return its interpreter."""
    python = directory / "bin" / "python"
    done = directory / "r1prov-bench-ready"
    wanted = "\n".join(PACKAGES)
    if not done.exists() or done.read_text() != wanted:
        print(f"making {directory} with {', '.join(PACKAGES)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        done.write_text(wanted)
    return python


def sign(python: Path, model: Path, beside: Path) -> tuple[Path, Path]:
    """Sign a model with model_signing and a fresh P-256 key; return public key and signature."""
    private, public, signature = (
        beside / name for name in ("private.pem", "public.pem", "model.sig")
    )
    make_key = Path(__file__).with_name("child_make_key.py")
    subprocess.run([python, make_key, private, public], check=True)
    files = ("--private_key", private, "--signature", signature)
    subprocess.run(
        (python, "-m", "model_signing", "sign", "key", model, *files),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return public, signature
