"""Verify a model on disk with the manifests and keys at hand: the call behind `r1prov verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1prov.manifest.shelf import load_shelf
from r1prov.stores.local import LocalStore
from r1prov.trust.directories import load_hub_key, load_trust_store
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import Level, Policy, Scope

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from r1prov.verify.findings import Report


def load_authorities(keys: Path | None = None) -> Authorities:
    """Manifests on the shelf, the trust store (`keys` alone, if given) and the Hub's key.

    Raises:
        InputError: A manifest, trust file or key file is malformed.
        NotFound: `keys` has no trust file.
    """
    return Authorities(shelf=load_shelf(), trust=load_trust_store(keys), hub_key=load_hub_key())


def verify_path(
    path: str | os.PathLike[str],
    *,
    manifest: str | None = None,
    expect: str | None = None,
    level: Level | str = Level.FULL,
    scope: Scope | str = Scope.ALL,
    keys: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Report:
    """Verify a model directory or weight file.

    Args:
        path: Directory or weight file.
        manifest: Manifest file or model name; None identifies the model.
        expect: Model name, or `full`, that the model must be.
        level: `structure` (headers only) or `full`.
        scope: `all` files or `weights`.
        keys: Trust only the keys of this directory.
        workers: Hashing threads; None takes one a processor.
        progress: Called with the bytes to hash; returns a callback for bytes done.

    Raises:
        R1ProvError: It could not be decided; a model that is wrong is a report, not an error.
    """
    policy = Policy(level=Level(level), scope=Scope(scope), expect=expect, workers=workers)
    return verify(
        LocalStore(path), load_authorities(keys), policy, manifest=manifest, progress=progress
    )
