"""`r1prov verify`: the gate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.options import (
    ByChoice,
    Expect,
    Jobs,
    Keys,
    LevelChoice,
    ManifestChoice,
    Model,
    NoColor,
    Output,
    PolicyPath,
    Quiet,
    ReportAs,
    ReportFormat,
    ScopeChoice,
)
from r1prov.verify.policy import By, Level

if TYPE_CHECKING:
    from r1prov.verify.findings import Report


def command(
    model: Model,
    manifest: ManifestChoice = None,
    expect: Expect = None,
    level: LevelChoice = Level.FULL,
    scope: ScopeChoice = None,
    by: ByChoice = By.FILE,
    read_all: Annotated[
        bool,
        typer.Option(
            "--read-all",
            envvar="R1PROV_READ_ALL",
            help="Read every byte of a remote model, not only the digests its store states.",
        ),
    ] = False,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache",
            envvar="R1PROV_CACHE",
            help="Take digests of unchanged local files from earlier runs.",
        ),
    ] = False,
    cache_file: Annotated[
        Path | None,
        typer.Option("--cache-file", envvar="R1PROV_CACHE_FILE", help="Where the cache is."),
    ] = None,
    keys: Keys = None,
    policy: PolicyPath = None,
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
      r1prov verify ./my-model --manifest model.sig --keys ./keys --expect my-model
      r1prov verify /models/r1 --expect DeepSeek-R1 --scope weights --format json -o report.json
      r1prov verify hf://deepseek-ai/DeepSeek-R1 --expect full --scope weights
      r1prov verify ollama://deepseek-r1:7b
      r1prov verify /models/r1 --expect full --format sarif -o r1prov.sarif
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, refuse_inside, say, wants_color
    from r1prov.cli.progress import hashing_progress
    from r1prov.render import text as text_report
    from r1prov.render.formats import renderer
    from r1prov.text import printable
    from r1prov.verify.local import verify_path

    refuse_inside(output, model)
    with hashing_progress(quiet=quiet) as progress:
        report = verify_path(
            model,
            manifest=manifest,
            expect=expect,
            level=level,
            scope=scope,
            by=by,
            read_all=read_all,
            cache=_cache(cache_file, wanted=cache),
            keys=keys,
            policy=policy,
            workers=jobs,
            say=None if quiet else lambda line: say(printable(line)),
            progress=progress,
        )
    if format is ReportFormat.TEXT:
        text = text_report.render(report, color=output is None and wants_color(no_color))
    else:
        text = renderer(format.value)(report)
    emit(text, output, quiet=quiet)
    if format is ReportFormat.GITHUB:
        append_step_summary(report)
    return report.exit_status


def _cache(file: Path | None, *, wanted: bool) -> Path | None:
    """The file of the digest cache, if one is wanted."""
    if file is not None or not wanted:
        return file
    from r1prov.hashing.cache import default_cache_path

    return default_cache_path()


def append_step_summary(report: Report) -> None:
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
