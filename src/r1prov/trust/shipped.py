"""The `keys/` and `manifests/` folders that travel with r1prov."""

from __future__ import annotations

from pathlib import Path

from r1prov.errors import NotFound


def shipped_dir(name: str) -> Path:
    """The shipped folder `name`: inside an installed wheel, else beside `src/` in a checkout.

    Raises:
        NotFound: The installation is damaged.
    """
    package = Path(__file__).parents[1]
    for candidate in (package / "_data" / name, package.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise NotFound(
        f"the folder `{name}` is missing from this installation", hint="reinstall r1prov"
    )
