"""Where and with what a bundle was made."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import r1prov
from r1prov.attest.statements import timestamp
from r1prov.errors import Unreadable

if TYPE_CHECKING:
    from datetime import datetime

_LIBRARIES: Final = ("cryptography", "huggingface-hub", "rfc3161-client", "safetensors", "tomli")


def tool_digest() -> str:
    """SHA-256 over what `sha256sum` prints of the Python files of r1prov, in the order of bytes.

    Raises:
        Unreadable: One of them cannot be read.
    """
    root = Path(r1prov.__file__).parent
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    try:
        lines = [
            f"{hashlib.sha256(files[name].read_bytes()).hexdigest()}  {name}\n"
            for name in sorted(files)
        ]
    except OSError as error:
        raise Unreadable(f"cannot read r1prov itself: {error.strerror}") from None
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def environment(now: datetime) -> bytes:
    """Tool, platform, libraries and clock, as JSON. No host name and no path is in it."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    value = {
        "schema": "r1prov/environment/1",
        "r1prov": r1prov.__version__,
        "tool_sha256": tool_digest(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        "libraries": versions,
        "clock": timestamp(now),
    }
    return (json.dumps(value, indent=1) + "\n").encode()
