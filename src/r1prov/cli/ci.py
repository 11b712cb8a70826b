"""`r1prov ci`: files that put the gate into a pipeline, and the commands that these call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from r1prov.cli.ci_templates import Kind
from r1prov.cli.options import (
    Expect,
    Keys,
    LevelChoice,
    ManifestChoice,
    Model,
    PolicyPath,
    ScopeChoice,
)
from r1prov.verify.policy import Level

app = typer.Typer(help="Put the gate into a pipeline.", no_args_is_help=True, rich_markup_mode=None)


@app.command("init", short_help="Write a gate for a pipeline, cluster or server")
def init(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"One of {', '.join(Kind)}.")],
    model: Annotated[
        str, typer.Option("--model", metavar="MODEL", help="The model, as verify takes it.")
    ] = "/models/DeepSeek-R1",
    expect: Annotated[
        str,
        typer.Option(
            "--expect", metavar="NAME|full", help="The only model that passes; `full` is the 671B."
        ),
    ] = "full",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write, never overwritten; by default where its reader looks for it.",
        ),
    ] = None,
) -> None:
    """Write a workflow, job, hook, pod or unit that verifies a model before it is used.

    \b
    Examples:
      r1prov ci init github
      r1prov ci init gitlab --model hf://deepseek-ai/DeepSeek-R1 --expect full
      r1prov ci init k8s --model /models/DeepSeek-R1 --expect full -o deploy/r1.yaml
      r1prov ci init systemd
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.ci_templates import default_path, fill_template
    from r1prov.cli.output import emit, write_new
    from r1prov.errors import Unreadable

    text = fill_template(kind, model=model, expect=expect)
    path = output or Path(default_path(kind))
    if output is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unreadable(
                f"cannot make {path.parent}: {error.strerror}", subject=str(path.parent)
            ) from None
    write_new(path, text.encode())
    emit(f"{path}: written\n", None)


@app.command("step", short_help="Verify once, for a step of GitHub Actions")
def step(
    model: Model,
    sarif: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write the report as SARIF too.")
    ] = None,
    manifest: ManifestChoice = None,
    expect: Expect = None,
    level: LevelChoice = Level.FULL,
    scope: ScopeChoice = None,
    keys: Keys = None,
    policy: PolicyPath = None,
) -> int:
    """Do what `verify --format github` does, and write SARIF of the same verification.

    Two runs of verify would read the model twice, and be two verdicts about two moments.

    \b
    Examples:
      r1prov ci step /models/DeepSeek-R1 --expect full --sarif r1prov.sarif
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit, refuse_inside, say
    from r1prov.cli.verify import append_step_summary
    from r1prov.render.formats import renderer
    from r1prov.text import printable
    from r1prov.verify.local import verify_path

    refuse_inside(sarif, model)
    report = verify_path(
        model,
        manifest=manifest,
        expect=expect,
        level=level,
        scope=scope,
        keys=keys,
        policy=policy,
        say=lambda line: say(printable(line)),
    )
    emit(renderer("github")(report), None)
    append_step_summary(report)
    if sarif is not None:
        emit(renderer("sarif")(report), sarif)
    return report.exit_status


class LintCommand(TyperCommand):
    """Takes no file for an option: pre-commit hands over names of files as they are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own click
        """Refuse arguments that could be both."""
        from r1prov.errors import UsageError
        from r1prov.text import quoted

        own = args[: args.index("--")] if "--" in args else args
        for one in own:
            if one.startswith("-") and os.path.lexists(one):
                raise UsageError(
                    f"{quoted(one)} is a file and reads as an option",
                    subject=one,
                    hint="rename it, or put `--` before the files",
                )
        rest: list[str] = super().parse_args(ctx, args)
        return rest


@app.command(
    "lint-manifests", cls=LintCommand, short_help="Check manifest files, for a pre-commit hook"
)
def lint_manifests(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Manifest files.")],
    keys: Keys = None,
) -> int:
    """Do what `manifest verify` does, for any number of files. The highest exit status counts.

    \b
    Examples:
      r1prov ci lint-manifests manifests/acme-r1.toml manifests/acme-r2.toml --keys ./keys
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import complain, emit
    from r1prov.errors import R1ProvError
    from r1prov.manifest.shelf import load_manifest
    from r1prov.render.manifest import render_check
    from r1prov.verify.local import load_authorities
    from r1prov.verify.manifests import check_manifest

    authorities = load_authorities(keys)
    status = 0
    for file in files:
        try:
            result = check_manifest(load_manifest(file), authorities)
        except R1ProvError as error:  # one malformed file must not hide what the next one has
            complain(f"{file}: {error.message}", error.hint)
            status = max(status, error.exit_code)
            continue
        emit(render_check(result), None)
        status = max(status, result.verdict.exit_status)
    return status
