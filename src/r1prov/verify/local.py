"""Verify a model with the manifests and keys at hand: the call behind `r1prov verify`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from r1prov.manifest.shelf import load_shelf
from r1prov.stores.locate import open_store, traffic_of
from r1prov.trust.directories import load_hub_key, load_trust_store
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import By, Level, Policy, Scope

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
    by: By | str = By.FILE,
    read_all: bool = False,
    cache: str | os.PathLike[str] | None = None,
    keys: Path | None = None,
    workers: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Report:
    """Verify a model: a directory, a weight file, or a location such as `hf://org/name@revision`.

    Args:
        path: Where the model is, as `open_store` takes it.
        manifest: Manifest file or model name; None identifies the model.
        expect: Model name, or `full`, that the model must be.
        level: `structure` (headers only) or `full`.
        scope: `all` files or `weights`.
        by: `file` or `tensor`.
        read_all: Read a remote model whole, instead of believing the digests its store states.
        cache: File of a digest cache; None reads every file.
        keys: Trust only the keys of this directory.
        workers: Hashing threads; None takes one a processor.
        say: Called with a line about what the cache or a remote store did.
        progress: Called with the bytes to hash; returns a callback for bytes done.

    Raises:
        R1ProvError: It could not be decided; a model that is wrong is a report, not an error.
    """
    policy = Policy(
        level=Level(level),
        scope=Scope(scope),
        expect=expect,
        workers=workers,
        by=By(by),
        read_all=read_all,
    )
    authorities = load_authorities(keys)
    store = open_store(path)
    with ExitStack() as stack:
        kept = None
        if cache is not None:
            from r1prov.hashing.cache import DigestCache

            kept = stack.enter_context(DigestCache(cache))
        report = verify(
            store, authorities, policy, manifest=manifest, cache=kept, progress=progress
        )
    if say is not None:
        for note in kept.notes if kept else ():
            say(note)
        if (traffic := traffic_of(store)) is not None:
            say(traffic)
    return report
