"""Let the adapters here run from any directory and under any Python: `tests/conformance/X FILE`.

A harness that drives them knows nothing of this project's environment. Where r1prov is not
importable, the adapter starts again under the environment that `make` sets up in the checkout.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHON = CHECKOUT / ".venv" / "bin" / "python"
CANNOT_RUN = 4


def use_checkout() -> None:
    """Make `r1prov` importable, or end with exit status 4 and a message."""
    if importlib.util.find_spec("r1prov") is not None:
        return
    if PYTHON.exists() and Path(sys.prefix) != PYTHON.parents[1]:
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
    if all(importlib.util.find_spec(name) for name in ("cryptography", "tomli")):
        sys.path.append(str(CHECKOUT / "src"))
        return
    sys.stderr.write("r1prov is not installed: run `make test` first, or install the package\n")
    sys.exit(CANNOT_RUN)
