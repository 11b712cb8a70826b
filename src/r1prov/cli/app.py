"""Wiring of the commands, and the one place that turns an error into an exit status."""

from __future__ import annotations

import os
import traceback
from functools import cache
from typing import Any

import typer
from typer.main import get_command

import r1prov
from r1prov.cli import (
    attest,
    ci,
    diff,
    endpoint,
    evidence,
    export,
    identify,
    key,
    manifest,
    policy,
    response,
    verify,
)
from r1prov.cli import exec as exec_verified
from r1prov.cli import hash as hash_files
from r1prov.cli import inspect as inspect_model
from r1prov.cli.output import complain, emit
from r1prov.errors import R1ProvError

_INTERRUPTED = 130

app = typer.Typer(
    name="r1prov",
    help="Integrity and provenance of DeepSeek-R1 deployments.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 pass, 1 fail, 2 usage, 3 incomplete, 4 malformed or unreadable input, "
    "70 a bug, 130 interrupted.",
)


def _version(wanted: bool) -> None:
    if wanted:
        emit(f"r1prov {r1prov.__version__}\n", None)
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    """Check that a model is the one it is said to be, byte by byte, against signed manifests."""


app.command("verify", short_help="The gate: signature, completeness, digests, structure")(
    verify.command
)
app.command("exec", cls=exec_verified.Command, short_help="Verify, then start a server on a pass")(
    exec_verified.command
)
app.command("identify", short_help="Which member of the family this is, and why")(identify.command)
app.command("inspect", short_help="Headers as tables: tensors, dtypes, parameters")(
    inspect_model.command
)
app.command("hash", short_help="SHA-256 of every file, as sha256sum prints it")(hash_files.command)
app.command("diff", short_help="Two models or manifests, by file and by tensor")(diff.command)
app.add_typer(manifest.app, name="manifest")
app.add_typer(key.app, name="key")
app.add_typer(policy.app, name="policy")
app.add_typer(ci.app, name="ci")
app.add_typer(attest.app, name="attest")
app.add_typer(response.app, name="response")
app.add_typer(endpoint.app, name="endpoint")
app.add_typer(evidence.app, name="evidence")
manifest.app.command("export", short_help="A manifest as a CycloneDX ML-BOM")(export.command)


@cache
def root_command() -> Any:  # noqa: ANN401 - typer's own click
    """The tree of commands, which takes longer to make than most of them to run."""
    return get_command(app)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status; never a traceback, whatever happens."""
    try:
        status = root_command()(arguments, standalone_mode=False)
    except R1ProvError as error:
        named = not error.subject or error.subject in error.message
        complain(error.message if named else f"{error.subject}: {error.message}", error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted; nothing was decided")
        return _INTERRUPTED
    except typer.Abort:
        complain("stopped")
        return _INTERRUPTED
    except typer.TyperException as error:
        complain(error.format_message(), "see `r1prov --help`, or --help of the command")
        return 2
    except Exception as error:  # noqa: BLE001 - a bug must exit 70: 1 would read as `fail`
        if os.environ.get("R1PROV_DEBUG"):
            traceback.print_exc()
        complain(
            f"internal error: {type(error).__name__}: {error}",
            "this is a bug; R1PROV_DEBUG=1 shows where",
        )
        return 70
    if status == _INTERRUPTED:  # typer turns Ctrl-C into this status before we see it
        complain("interrupted; nothing was decided")
    return status if isinstance(status, int) else 0
