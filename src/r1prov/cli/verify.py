"""`r1prov verify`: the gate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.options import (
    Jobs,
    Keys,
    Model,
    NoColor,
    Output,
    Quiet,
    ReportAs,
    ReportFormat,
)
from r1prov.verify.policy import Level, Scope

if TYPE_CHECKING:
    from r1prov.verify.findings import Report


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
        Scope,
        typer.Option(
            "--scope",
            envvar="R1PROV_SCOPE",
            help="all: every file; weights: weight files, inventory and config against headers.",
        ),
    ] = Scope.ALL,
    keys: Keys = None,
    jobs: Jobs = None,
    format: ReportAs = ReportFormat.TEXT,  # noqa: A002 - the option is called --format
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
      r1prov verify /models/r1 --expect full --format sarif -o r1prov.sarif
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, wants_color
    from r1prov.cli.progress import hashing_progress
    from r1prov.render import text as text_report
    from r1prov.render.formats import renderer
    from r1prov.verify.local import verify_path

    with hashing_progress(quiet=quiet) as progress:
        report = verify_path(
            model,
            manifest=manifest,
            expect=expect,
            level=level,
            scope=scope,
            keys=keys,
            workers=jobs,
            progress=progress,
        )
    if format is ReportFormat.TEXT:
        text = text_report.render(report, color=output is None and wants_color(no_color))
    else:
        text = renderer(format.value)(report)
    emit(text, output, quiet=quiet)
    if format is ReportFormat.GITHUB:
        _append_step_summary(report)
    return report.exit_status


def _append_step_summary(report: Report) -> None:
    """What GitHub shows on the page of the run; the verdict stands whether or not it is written."""
    from r1prov.cli.output import complain
    from r1prov.render.github import summary

    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(summary(report))
    except OSError as error:
        complain(f"cannot write the step summary {path}: {error.strerror}")
