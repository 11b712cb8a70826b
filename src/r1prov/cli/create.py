"""`r1prov manifest create`: state what a model is, wherever it lives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.options import Jobs, Model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from r1prov.hashing.digest import BlobDigest
    from r1prov.manifest.build import Prove
    from r1prov.manifest.hub_commit import HubCommit
    from r1prov.stores.base import Store


def command(
    model: Model,
    name: Annotated[str, typer.Option(help="Name of the model, as others will expect it.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Manifest file; default NAME.toml.")
    ] = None,
    publisher: Annotated[str, typer.Option(help="Who releases the model.")] = "unknown",
    variant: Annotated[str, typer.Option(help="full, distill, base or other.")] = "other",
    source: Annotated[
        str, typer.Option(help="Where it comes from; of a Hub repository, the repository.")
    ] = "",
    revision: Annotated[
        str, typer.Option(help="Revision at the source; of a Hub repository, its commit.")
    ] = "",
    license: Annotated[str, typer.Option(help="Licence of the model.")] = "unknown",  # noqa: A002
    tensors: Annotated[
        bool,
        typer.Option(
            "--tensors", help="Also record a SHA-256 for each tensor, in NAME.tensors beside it."
        ),
    ] = False,
    jobs: Jobs = None,
) -> None:
    """State every file of a model in a manifest, not signed yet.

    A local model is hashed. Of hf://… nothing but headers and small files is fetched: the Hub
    states the digests, and its Git commit, which goes into the manifest, binds them.

    \b
    Examples:
      r1prov manifest create ./model --name acme-r1-tuned --publisher acme
      r1prov manifest create ./model --name acme-r1-tuned --tensors
      r1prov manifest create hf://acme/r1-tuned@main --name acme-r1-tuned
      r1prov manifest sign acme-r1-tuned.toml --key release.key
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, say, write_new
    from r1prov.cli.progress import hashing_progress
    from r1prov.errors import R1ProvError, UsageError
    from r1prov.manifest.build import (
        Identity,
        build_manifest,
        build_manifest_with_tensors,
        check_identity,
    )
    from r1prov.manifest.emit import emit_manifest
    from r1prov.stores.locate import open_store, traffic_of
    from r1prov.text import human_bytes, plural, printable

    target = output or Path(f"{name}.toml")
    beside = target.with_suffix(".tensors")
    if tensors and beside == target:
        raise UsageError(f"{target} is what the file of the tensors is called", subject=str(target))
    for path in (target, beside) if tensors else (target,):
        if path.exists():
            raise UsageError(f"{path} exists and is not overwritten", subject=str(path))
    store = open_store(model)
    commit = getattr(store, "commit", "")
    repo = getattr(store, "hub_name", "")
    identity = Identity(
        name=name,
        publisher=publisher,
        variant=variant,
        source=source or (f"hf://{repo}" if repo else ""),
        revision=revision or commit,
        license=license,
        base_model=None,
        released=None,
    )
    check_identity(identity)
    raw = None
    with hashing_progress() as progress:
        if tensors:
            made, raw = build_manifest_with_tensors(
                store,
                beside.name,
                prove=_prover(store),
                workers=jobs,
                progress=progress,
                **identity,
            )
        else:
            made = build_manifest(
                store, prove=_prover(store), workers=jobs, progress=progress, **identity
            )
    if raw is not None:
        write_new(beside, raw)
    try:
        write_new(target, emit_manifest(made))
    except R1ProvError:
        if raw is not None:
            beside.unlink()  # of no use without the manifest, and in the way of the next try
        raise
    total = sum(entry.size or 0 for entry in made.files)
    emit(
        f"{target}: {plural(len(made.files), 'file')}, {human_bytes(total)}, not signed yet\n", None
    )
    if (traffic := traffic_of(store)) is not None:
        say(printable(traffic))


def _prover(store: Store) -> Prove | None:
    """Fetches the commit of a Hub repository; says so where Git is not reachable."""
    from r1prov.stores.hub import HubStore

    if not isinstance(store, HubStore):
        return None
    hub = store

    def prove(digests: Mapping[str, BlobDigest]) -> HubCommit | None:
        from r1prov.cli.output import say
        from r1prov.errors import CommitUnavailable
        from r1prov.manifest.hub_fetch import fetch_commit_proof
        from r1prov.text import plural, printable
        from r1prov.trust.directories import load_hub_key

        try:
            proof = fetch_commit_proof(hub, load_hub_key(), digests=digests)
        except CommitUnavailable as error:
            say(f"no commit proof: {printable(error.message)}")
            if error.hint:
                say(f"hint: {printable(error.hint)}")
            return None
        signed = "signed by the Hub" if proof.result.signed else "not signed by the Hub"
        say(f"commit {hub.commit} binds {plural(proof.agreed, 'file')}, {signed}")
        return proof.commit

    return prove
