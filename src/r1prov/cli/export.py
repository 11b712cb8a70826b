"""`r1prov manifest export`: a manifest in the formats of others."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import Jobs, Keys, Output, PolicyPath


class ExportFormat(StrEnum):
    """What a manifest can be written as."""

    CYCLONEDX = "cyclonedx"
    CYCLONEDX_XML = "cyclonedx-xml"
    OMS = "oms"


def command(
    manifest: Annotated[
        str,
        typer.Argument(metavar="MANIFEST", help="Manifest file, or the name of a known model."),
    ],
    format: Annotated[  # noqa: A002 - the option is called --format
        ExportFormat,
        typer.Option(
            "--format",
            help="CycloneDX 1.6 ML-BOM as JSON or XML; or the bundle of OpenSSF Model Signing, "
            "signed with --key.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Verify this model and state the verdict."),
    ] = None,
    keys: Keys = None,
    policy: PolicyPath = None,
    jobs: Jobs = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Private key file, with --format oms.", envvar="R1PROV_KEY"),
    ] = None,
    certificate_chain: Annotated[
        list[Path] | None,
        typer.Option(
            "--certificate-chain",
            help="Certificate of the key, then its issuers' (PEM), with --format oms. Repeatable.",
        ),
    ] = None,
    output: Output = None,
) -> int:
    """Write a manifest as a bill of materials: files with digests, licence, origin, architecture.

    With --model the model is verified first and its verdict stated; the exit status is then that
    of the verdict. SOURCE_DATE_EPOCH sets the document's time, so that it can be reproduced.

    With --format oms it is what `r1prov manifest sign --format oms` writes.

    \b
    Examples:
      r1prov manifest export DeepSeek-R1 --format cyclonedx -o r1.cdx.json
      r1prov manifest export my-model.toml --format cyclonedx --model ./my-model
      r1prov manifest export my-model.toml --format oms --key release.key -o model.sig
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.attest.bom import cyclonedx_json, cyclonedx_xml, with_library
    from r1prov.attest.create import manifest_of
    from r1prov.cli.output import emit, say
    from r1prov.cli.progress import hashing_progress
    from r1prov.errors import UsageError
    from r1prov.manifest.shelf import load_shelf, resolve_manifest
    from r1prov.text import printable
    from r1prov.verify.local import verify_path

    if format is ExportFormat.OMS:
        if model is not None:
            raise UsageError(
                "--model does not go with --format oms: nothing is verified",
                hint="`r1prov verify MODEL --manifest MANIFEST`, then export",
            )
        return _oms(manifest, key, certificate_chain, output)
    if certificate_chain:
        raise UsageError("--certificate-chain goes with --format oms")
    with_library()  # before hashing
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


def _oms(manifest: str, key: Path | None, chain: list[Path] | None, output: Path | None) -> int:
    """The signed list of a manifest's files."""
    from r1prov.cli.output import emit, say
    from r1prov.cli.signing import load_certificates, load_private_key
    from r1prov.errors import UsageError
    from r1prov.manifest.oms import describe_manifest, make_oms_bundle
    from r1prov.manifest.shelf import load_shelf, resolve_manifest

    if key is None:
        raise UsageError("--format oms signs: name the private key with --key")
    statement = describe_manifest(resolve_manifest(load_shelf(), manifest).manifest)
    certificates, private = load_certificates(chain or ()), load_private_key(key)
    if not emit(make_oms_bundle(statement, private, certificates).decode(), output):
        return 4
    say(f"signed as {private.public.key_id}")
    return 0


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
