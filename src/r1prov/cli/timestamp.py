"""`r1prov manifest timestamp`: timestamps for signatures that were made without."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import TimestampUrl


def command(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST|BUNDLE",
            help="Manifest whose signatures lie beside it, or one bundle of any kind.",
        ),
    ],
    timestamp_url: TimestampUrl = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="Also where there is one, such as of another authority."),
    ] = False,
) -> None:
    """Have signatures timestamped that were made without: they then outlive their keys.

    A timestamp proves that the signature existed when it was made. It comes too late once the key
    or its certificate has expired. Nothing else of a bundle changes, and who signed is not looked
    at: `r1prov manifest verify` does that.

    \b
    Examples:
      r1prov manifest timestamp acme-r1-tuned.toml --timestamp-url http://timestamp.example.org/tsr
      r1prov manifest timestamp model.sig --timestamp-url http://timestamp.example.org/tsr
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, write_new
    from r1prov.cli.signing import timestamped
    from r1prov.errors import BundleError, NotFound, UsageError
    from r1prov.limits import MAX_OMS_BUNDLE_BYTES
    from r1prov.manifest.shelf import bundle_paths, load_manifest
    from r1prov.trust.bundle import count_timestamps
    from r1prov.trust.directories import read_file

    if timestamp_url is None:
        raise UsageError("--timestamp-url is missing", hint="name an authority of RFC 3161")
    raw = read_file(manifest, MAX_OMS_BUNDLE_BYTES)
    bundles = [manifest]
    if not raw.lstrip().startswith(b"{"):
        shelved = load_manifest(manifest)
        bundles = sorted(bundle_paths(manifest))
        if not bundles:
            raise NotFound(
                f"no signature beside {manifest}",
                subject=str(manifest),
                hint="sign it first: `r1prov manifest sign`",
            )
        digest = hashlib.sha256(shelved.raw).digest()
        for name, bundle in shelved.bundles():
            if bundle.digest != digest:
                raise BundleError(
                    f"{name} is a signature of another file than {manifest}",
                    subject=name,
                    hint="sign the manifest again",
                )
    lines = []
    for path in bundles:
        raw = read_file(path, MAX_OMS_BUNDLE_BYTES)
        if count_timestamps(raw, subject=path.name) and not again:
            lines.append(f"{path}: has a timestamp already\n")
            continue
        write_new(path, timestamped(raw, timestamp_url, subject=path.name), replace=True)
        lines.append(f"{path}: timestamped\n")
    emit("".join(lines), None)
