"""`r1prov verify`: the gate."""

from __future__ import annotations

from typing import Annotated

import typer

from r1prov.cli.options import (
    Format,
    Jobs,
    Keys,
    Model,
    NoColor,
    Output,
    PolicyPath,
    Quiet,
    ReportFormat,
)
from r1prov.verify.policy import Level, Scope


def command(
    model: Model,
    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            "-m",
            envvar="R1PROV_MANIFEST",
            metavar="NAME|FILE",
            help="Manifest to hold the model against; by default the model is identified.",
        ),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            "--expect",
            envvar="R1PROV_EXPECT",
            metavar="NAME|full",
            help="Fail if the model is any other than this; `full` is the 671B DeepSeek-R1.",
        ),
    ] = None,
    level: Annotated[
        Level,
        typer.Option(
            "--level",
            envvar="R1PROV_LEVEL",
            help="structure: headers only, never a pass; full: every byte.",
        ),
    ] = Level.FULL,
    scope: Annotated[
        Scope | None,
        typer.Option(
            "--scope",
            envvar="R1PROV_SCOPE",
            help="all: every file (the default, unless a policy says otherwise); weights: weight "
            "files, inventory and config against headers.",
        ),
    ] = None,
    keys: Keys = None,
    policy: PolicyPath = None,
    jobs: Jobs = None,
    format: Format = ReportFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> int:
    """Verify a model against its signed manifest, before it is deployed.

    Checks the manifest's signature, then completeness, sizes, SHA-256 of every file, safetensors
    structure, index, inventory, config and hygiene. A pass is a pass AS the model named in the
    first line: pass --expect in a gate.

    \b
    Examples:
      r1prov verify /models/DeepSeek-R1 --expect full
      r1prov verify /models/DeepSeek-R1 --expect full --level structure
      r1prov verify ./my-model --manifest my-model.toml --keys ./keys --expect my-model
      r1prov verify /models/r1 --expect DeepSeek-R1 --scope weights --format json -o report.json
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, wants_color
    from r1prov.cli.progress import hashing_progress
    from r1prov.render import json as json_report
    from r1prov.render import text as text_report
    from r1prov.verify.local import verify_path

    with hashing_progress(quiet=quiet) as progress:
        report = verify_path(
            model,
            manifest=manifest,
            expect=expect,
            level=level,
            scope=scope,
            keys=keys,
            policy=policy,
            workers=jobs,
            progress=progress,
        )
    if format is ReportFormat.JSON:
        text = json_report.render(report)
    else:
        text = text_report.render(report, color=output is None and wants_color(no_color))
    emit(text, output, quiet=quiet)
    return report.exit_status
