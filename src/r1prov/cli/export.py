"""`r1prov manifest export`: a manifest in the formats of others."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import Jobs, Keys, Output, PolicyPath
from r1prov.cli.signing import OptionalSigningKey


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
            help="CycloneDX 1.6 ML-BOM as JSON or XML; oms: statement of OpenSSF Model Signing.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Verify this model and state the verdict."),
    ] = None,
    keys: Keys = None,
    policy: PolicyPath = None,
    jobs: Jobs = None,
    key: OptionalSigningKey = None,
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

    With --format oms the list of its files is written as OpenSSF Model Signing states it: the very
    bytes to sign, or with --key the signed bundle that model_signing verifies.

    \b
    Examples:
      r1prov manifest export DeepSeek-R1 --format cyclonedx -o r1.cdx.json
      r1prov manifest export my-model.toml --format cyclonedx --model ./my-model
      r1prov manifest export my-model.toml --format oms --key release.key -o model.sig
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.errors import UsageError

    if format is ExportFormat.OMS:
        if model is not None or keys is not None or policy is not None or jobs is not None:
            raise UsageError(
                "--model, --keys, --policy and --jobs go with the formats that state a verdict",
                hint="`r1prov manifest verify model.sig --model MODEL` holds a model against it",
            )
        return _statement(manifest, key, certificate_chain, output)
    if key is not None or certificate_chain:
        raise UsageError("--key and --certificate-chain go with --format oms")
    from r1prov.attest.bom import cyclonedx_json, cyclonedx_xml, with_library
    from r1prov.attest.create import manifest_of
    from r1prov.cli.output import emit, say
    from r1prov.cli.progress import hashing_progress
    from r1prov.manifest.shelf import load_shelf, resolve_manifest
    from r1prov.text import printable
    from r1prov.verify.local import verify_path

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


def _statement(
    manifest: str, key: str | None, certificate_chain: list[Path] | None, output: Path | None
) -> int:
    """The files of a manifest as a statement of OpenSSF Model Signing, signed if there is a key."""
    from r1prov.cli.output import emit_bytes
    from r1prov.cli.signing import load_certificates, load_private_key
    from r1prov.errors import UsageError
    from r1prov.manifest.oms import describe_manifest, make_oms_bundle
    from r1prov.manifest.oms_statement import statement_json
    from r1prov.manifest.shelf import load_shelf, resolve_manifest

    if certificate_chain and key is None:
        raise UsageError("--certificate-chain goes with --key")
    statement = describe_manifest(resolve_manifest(load_shelf(), manifest).manifest)
    chain = load_certificates(certificate_chain or ())
    raw = (
        statement_json(statement)
        if key is None
        else make_oms_bundle(statement, load_private_key(key), chain)
    )
    return 0 if emit_bytes(raw, output) else 4


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
