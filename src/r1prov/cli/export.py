"""`r1prov manifest export`: a manifest in the formats of others."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from r1prov.cli.options import Jobs, Keys, Output, PolicyPath


class ExportFormat(StrEnum):
    """What a manifest can be written as."""

    CYCLONEDX = "cyclonedx"
    CYCLONEDX_XML = "cyclonedx-xml"


def command(
    manifest: Annotated[
        str,
        typer.Argument(metavar="MANIFEST", help="Manifest file, or the name of a known model."),
    ],
    format: Annotated[  # noqa: A002 - the option is called --format
        ExportFormat, typer.Option("--format", help="CycloneDX 1.6 ML-BOM as JSON or XML.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Verify this model and state the verdict."),
    ] = None,
    keys: Keys = None,
    policy: PolicyPath = None,
    jobs: Jobs = None,
    output: Output = None,
) -> int:
    """Write a manifest as a bill of materials: files with digests, licence, origin, architecture.

    With --model the model is verified first and its verdict stated; the exit status is then that
    of the verdict. SOURCE_DATE_EPOCH sets the document's time, so that it can be reproduced.

    \b
    Examples:
      r1prov manifest export DeepSeek-R1 --format cyclonedx -o r1.cdx.json
      r1prov manifest export my-model.toml --format cyclonedx --model ./my-model
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.attest.bom import cyclonedx_json, cyclonedx_xml, with_library
    from r1prov.attest.create import manifest_of
    from r1prov.cli.output import emit, refuse_inside, say
    from r1prov.cli.progress import hashing_progress
    from r1prov.manifest.shelf import load_shelf, resolve_manifest
    from r1prov.text import printable
    from r1prov.verify.local import verify_path

    with_library()  # before hashing
    refuse_inside(output, model)
    timestamp = _timestamp()
    report = None
    if model is not None:
        with hashing_progress() as progress:
            report = verify_path(
                model,
                manifest=manifest,
                keys=keys,
                policy=policy,
                workers=jobs,
                say=lambda line: say(printable(line)),
                progress=progress,
            )
    shelved = manifest_of(report) if report else resolve_manifest(load_shelf(), manifest)
    write = cyclonedx_json if format is ExportFormat.CYCLONEDX else cyclonedx_xml
    taken = emit(write(shelved, timestamp=timestamp, report=report), output)
    if not taken:
        return 4
    return report.exit_status if report else 0


def _timestamp() -> datetime:
    """Now, or SOURCE_DATE_EPOCH (reproducible-builds.org) in seconds."""
    from r1prov.errors import UsageError

    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.now(UTC).replace(microsecond=0)
    try:
        return datetime.fromtimestamp(int(epoch), UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH is {epoch!r}, not a time in seconds") from None
