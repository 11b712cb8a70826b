"""`r1prov exec`: verify a model, then become the server that loads it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from r1prov.cli.options import (
    ByChoice,
    Expect,
    Jobs,
    Keys,
    ManifestChoice,
    Model,
    NoColor,
    PolicyPath,
    Quiet,
    ReportFormat,
    ScopeChoice,
)
from r1prov.errors import UsageError
from r1prov.verify.policy import By

if TYPE_CHECKING:
    from typing import NoReturn

    from r1prov.verify.findings import Report

_COMMAND: Final = "r1prov.exec.command"
_EXAMPLE: Final = "r1prov exec MODEL --expect full -- COMMAND [ARGUMENT]…"
# What the server is told; whatever a caller put there is taken away first.
_VERDICT: Final = "R1PROV_VERDICT"
_MANIFEST: Final = "R1PROV_MANIFEST_SHA256"
_TREE: Final = "R1PROV_TREE_DIGEST"
# Nor are the secrets of a signing key a server's business.
_SECRETS: Final = ("R1PROV_KEY_PASSPHRASE", "R1PROV_PKCS11_PIN")
_OURS: Final = frozenset({_VERDICT, _MANIFEST, _TREE, *_SECRETS})


class Command(TyperCommand):
    """Splits the arguments at the first `--`, so that no option of the server is taken for ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own click
        """Parse what is before `--` and keep what is after it."""
        own, command = args, []
        if "--" in args:
            at = args.index("--")
            own, command = args[:at], args[at + 1 :]
        if command and not {"--help", "-h"}.isdisjoint(own):
            # "$MODEL" may say so. The help ends with 0, and a supervisor would think that it ran.
            raise UsageError("--help starts no command", hint="a model of that name is ./--help")
        ctx.meta[_COMMAND] = command
        rest: list[str] = super().parse_args(ctx, own)
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's own click
        """The usage line, with the command after `--`."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARGUMENT]..."]


def command(
    context: typer.Context,
    model: Model,
    verify: Annotated[
        bool, typer.Option("--verify", help="What exec does in any case; for scripts that say so.")
    ] = True,
    manifest: ManifestChoice = None,
    expect: Expect = None,
    scope: ScopeChoice = None,
    by: ByChoice = By.FILE,
    keys: Keys = None,
    policy: PolicyPath = None,
    jobs: Jobs = None,
    report_file: Annotated[
        Path | None,
        typer.Option(
            "--report",
            envvar="R1PROV_REPORT",
            metavar="FILE",
            help="Write the report to this file, whatever the verdict.",
        ),
    ] = None,
    report_format: Annotated[
        ReportFormat, typer.Option("--format", help="How the file of --report is written.")
    ] = ReportFormat.JSON,
    quiet: Quiet = False,
    no_color: NoColor = False,
) -> int:
    """Verify a model on this machine and, only on a pass, become the command after `--`.

    On any other verdict nothing is started and the exit status is that of `r1prov verify`. The
    report goes to stderr; stdout is the command's. The command has the environment of r1prov with
    R1PROV_VERDICT, R1PROV_MANIFEST_SHA256 and, if every file is as signed, R1PROV_TREE_DIGEST.
    Between the verdict and the command's own reading the model can be changed: mount it read-only.

    \b
    Examples:
      r1prov exec /models/DeepSeek-R1 --expect full -- vllm serve /models/DeepSeek-R1
      r1prov exec ./my-model -m my-model.toml --keys ./keys --report r.json -- ./server ./my-model
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import refuse_inside, say, wants_color
    from r1prov.cli.progress import hashing_progress
    from r1prov.render import text as text_report
    from r1prov.verify.local import verify_path

    words: list[str] = context.meta[_COMMAND]
    _check_command(words)
    _refuse_remote(model)
    refuse_inside(report_file, model)
    with hashing_progress(quiet=quiet) as progress:
        report = verify_path(
            model,
            manifest=manifest,
            expect=expect,
            scope=scope,
            by=by,
            keys=keys,
            policy=policy,
            workers=jobs,
            progress=progress,
        )
    if report_file is not None:
        _write(report, report_file, report_format)
    if not quiet:
        color = sys.stderr is not None and sys.stderr.isatty() and wants_color(no_color)
        say(text_report.render(report, color=color).rstrip("\n"))
    if report.exit_status == 0:
        _become(words, report)
    return report.exit_status


def _check_command(words: list[str]) -> None:
    """Refuse a command that cannot start before anything is read for it."""
    if not words:
        raise UsageError("there is no command to start", hint=_EXAMPLE)
    if shutil.which(words[0]) is None:
        raise UsageError(
            f"{words[0]} is not a command that can be started",
            hint="name a program of PATH or the path of an executable file",
        )


def _refuse_remote(model: str) -> None:
    from r1prov.verify.load import is_remote

    if is_remote(model):
        raise UsageError(
            "exec starts a server on a model of this machine, and this one is remote",
            subject=model,
            hint="download it, then name the directory",
        )


def _write(report: Report, file: Path, form: ReportFormat) -> None:
    from r1prov.cli.output import emit
    from r1prov.render import text as text_report
    from r1prov.render.formats import renderer

    plain = form is ReportFormat.TEXT
    text = text_report.render(report, color=False) if plain else renderer(form.value)(report)
    emit(text, file)


def _become(words: list[str], report: Report) -> NoReturn:
    environment = {name: value for name, value in os.environ.items() if name not in _OURS}
    environment[_VERDICT] = report.verdict.value
    if report.manifest is not None:
        environment[_MANIFEST] = report.manifest.sha256
        if report.manifest.tree_digest is not None:
            environment[_TREE] = report.manifest.tree_digest
    # Python ignores these from its start, and what is ignored stays so in the new program.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvpe(words[0], words, environment)  # noqa: S606 - no shell is what is meant
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"the model passed, and {words[0]} cannot be started: {reason}") from None
