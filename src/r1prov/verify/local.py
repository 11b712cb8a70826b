"""Verify a model with the manifests and keys at hand: the call behind `r1prov verify`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from r1prov.manifest.shelf import Shelf, load_manifest, load_shelf
from r1prov.stores.local import LocalStore
from r1prov.stores.locate import open_store, traffic_of
from r1prov.trust.directories import load_hub_key, load_trust_store
from r1prov.verify.oms import verify_with_bundle
from r1prov.verify.oms_bundle import read_bundle
from r1prov.verify.pipeline import Authorities, verify
from r1prov.verify.policy import By, Level, Policy, PolicyFile, Scope
from r1prov.verify.policy_file import find_policy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from r1prov.verify.findings import Report


def load_authorities(keys: Path | None = None, policy: PolicyFile | None = None) -> Authorities:
    """Manifests on the shelf, the trust store (`keys` alone, if given) and the Hub's key.

    The manifest files that a policy names come first: it says which one a model must have.

    Raises:
        InputError: A manifest, trust file or key file is malformed.
        NotFound: `keys` has no trust file, or the policy names a manifest file that is not there.
    """
    shelf = load_shelf()
    if policy is not None:
        files = (one.manifest_file for one in policy.models if one.manifest_file is not None)
        shelf = Shelf((*map(load_manifest, files), *shelf.items))
    return Authorities(shelf=shelf, trust=load_trust_store(keys), hub_key=load_hub_key())


def verify_path(
    path: str | os.PathLike[str],
    *,
    manifest: str | None = None,
    expect: str | None = None,
    level: Level | str = Level.FULL,
    scope: Scope | str | None = None,
    by: By | str = By.FILE,
    read_all: bool = False,
    cache: str | os.PathLike[str] | None = None,
    keys: Path | None = None,
    policy: Path | None = None,
    workers: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int], Callable[[int], None]] | None = None,
) -> Report:
    """Verify a model: a directory, a weight file, or a location such as `hf://org/name@revision`.

    Args:
        path: Where the model is, as `open_store` takes it.
        manifest: Manifest file, model name, or bundle of OpenSSF Model Signing; None identifies
            the model.
        expect: Model name, or `full`, that the model must be.
        level: `structure` (headers only) or `full`.
        scope: `all` files or `weights`; None takes what the policy says, else `all`.
        by: `file` or `tensor`.
        read_all: Read a remote model whole, instead of believing the digests its store states.
        cache: File of a digest cache; None reads every file.
        keys: Trust only the keys of this directory.
        policy: Policy file; None looks for one (`find_policy`).
        workers: Hashing threads; None takes one a processor.
        say: Called with a line about what the cache or a remote store did.
        progress: Called with the bytes to hash; returns a callback for bytes done.

    Raises:
        R1ProvError: It could not be decided; a model that is wrong is a report, not an error.
    """
    store = open_store(path)
    bundle = read_bundle(manifest) if manifest is not None else None
    found = find_policy(policy, model=Path(path) if isinstance(store, LocalStore) else None)
    asked = Policy(
        level=Level(level),
        scope=Scope(scope or Scope.ALL),
        scope_given=scope is not None,
        expect=expect,
        workers=workers,
        by=By(by),
        read_all=read_all,
        file=found.file,
        ignored=found.ignored,
    )
    authorities = load_authorities(keys, found.file)
    with ExitStack() as stack:
        kept = None
        if cache is not None and bundle is None:
            from r1prov.hashing.cache import DigestCache

            kept = stack.enter_context(DigestCache(cache))
        if bundle is not None:
            report = verify_with_bundle(store, authorities, asked, bundle, progress=progress)
        else:
            report = verify(
                store, authorities, asked, manifest=manifest, cache=kept, progress=progress
            )
    if say is not None:
        if cache is not None and bundle is not None:
            say("the digest cache is not used with a model signature: every byte is read")
        for note in kept.notes if kept else ():
            say(note)
        if (traffic := traffic_of(store)) is not None:
            say(traffic)
    return report
