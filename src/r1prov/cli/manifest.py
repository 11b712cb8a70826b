"""`r1prov manifest`: make, sign, verify, show and list manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli import create
from r1prov.cli.options import Keys

app = typer.Typer(
    help="Make, sign, verify, show and list manifests.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_FILE = typer.Argument(metavar="MANIFEST", help="Manifest file, or the name of a known model.")


app.command("create", short_help="State every file of a model in a manifest")(create.command)


@app.command("sign", short_help="Sign a manifest file")
def sign(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="Manifest file to sign.")],
    key: Annotated[Path, typer.Option("--key", help="Private key file.", envvar="R1PROV_KEY")],
) -> None:
    """Sign the exact bytes of a manifest file: a Sigstore bundle is written beside it.

    \b
    Examples:
      r1prov manifest sign acme-r1-tuned.toml --key release.key
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, write_new
    from r1prov.cli.signing import load_private_key
    from r1prov.manifest.shelf import BUNDLE_SUFFIX, load_manifest
    from r1prov.trust.bundle import sign_message

    shelved = load_manifest(manifest)
    private = load_private_key(key)
    target = manifest.with_name(f"{manifest.name}.{private.public.key_id8}{BUNDLE_SUFFIX}")
    write_new(target, sign_message(private, shelved.raw).to_json(), replace=True)
    emit(f"{target}: signed as {private.public.key_id}\n", None)


@app.command("verify", short_help="Check a manifest by itself")
def verify(manifest: Annotated[str, _FILE], keys: Keys = None) -> int:
    """Check a manifest by itself: form, signatures, Hub commit. Exit status 0 or 1.

    \b
    Examples:
      r1prov manifest verify DeepSeek-R1
      r1prov manifest verify acme-r1-tuned.toml --keys ./keys
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.manifest.shelf import resolve_manifest
    from r1prov.render.manifest import render_check
    from r1prov.verify.local import load_authorities
    from r1prov.verify.manifests import check_manifest

    authorities = load_authorities(keys)
    result = check_manifest(resolve_manifest(authorities.shelf, manifest), authorities)
    emit(render_check(result), None)
    return result.verdict.exit_status


@app.command("show", short_help="What a manifest states, and how strongly")
def show(
    manifest: Annotated[str, _FILE],
    raw: Annotated[bool, typer.Option("--raw", help="Print the TOML as it is.")] = False,
) -> None:
    """Show what a manifest states, and how strongly each figure is supported.

    \b
    Examples:
      r1prov manifest show DeepSeek-R1
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.manifest.shelf import load_shelf, resolve_manifest
    from r1prov.render.manifest import render_manifest

    shelved = resolve_manifest(load_shelf(), manifest)
    emit(shelved.raw.decode() if raw else render_manifest(shelved.manifest), None)


@app.command("list", short_help="The manifests at hand")
def list_manifests() -> None:
    """List the manifests at hand: shipped ones, your own, those of R1PROV_MANIFESTS.

    \b
    Examples:
      r1prov manifest list
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.manifest.shelf import load_shelf
    from r1prov.render.manifest import render_list

    emit(render_list(load_shelf()), None)
