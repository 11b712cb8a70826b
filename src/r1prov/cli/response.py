"""`r1prov response`: signatures on API responses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli import response_log, response_record
from r1prov.cli.options import Format, Output, PolicyPath, Quiet, ResultFormat

app = typer.Typer(
    help="Verify who signed an API response, and what of it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("record", short_help="Send one request, and keep the exchange")(response_record.command)
app.add_typer(response_log.app, name="log")


@app.command("verify", short_help="Verify the signature of a captured exchange")
def verify(
    exchange: Annotated[
        Path,
        typer.Argument(metavar="EXCHANGE", help="Exchange file, HAR file or raw HTTP."),
    ],
    entry: Annotated[
        int | None,
        typer.Option(
            "--entry", min=0, metavar="N", help="Which exchange of a HAR file or log, from 0."
        ),
    ] = None,
    scheme: Annotated[
        str,
        typer.Option("--scheme", metavar="http|https", help="What raw HTTP went over."),
    ] = "https",
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            envvar="R1PROV_RESPONSE_KEYS",
            metavar="DIR",
            help="Trust the keys of this directory: its trust.toml, else every key file in it.",
        ),
    ] = None,
    jwks: Annotated[
        Path | None,
        typer.Option(
            "--jwks",
            envvar="R1PROV_JWKS",
            metavar="FILE",
            help="Trust the keys of this file: a JWK set or a PEM block that you had beforehand.",
        ),
    ] = None,
    policy: PolicyPath = None,
    max_age: Annotated[
        int | None,
        typer.Option(
            "--max-age",
            min=0,
            max=315_360_000,
            envvar="R1PROV_RESPONSE_MAX_AGE",
            metavar="SECONDS",
            help="How old a signature may have been when the answer came.",
        ),
    ] = None,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Verify the signature of one answer to one request, as they were captured.

    Age and validity are judged by the moment at which the exchange says it ended. Without a policy
    the default profile holds: the signature covers status, content and request.

    \b
    Examples:
      r1prov response verify exchange.json --jwks provider.jwks.json
      r1prov response verify exchange.json --policy r1prov.toml --format json
      r1prov response verify session.har --entry 3 --keys ./keys
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from dataclasses import replace
    from datetime import timedelta

    from r1prov.cli.output import emit, say
    from r1prov.errors import UsageError
    from r1prov.render import exchange as render
    from r1prov.responses.key_files import load_keys
    from r1prov.responses.policy import find_response_policy
    from r1prov.responses.read import read_exchange
    from r1prov.responses.verify import verify_exchange
    from r1prov.text import printable

    chosen = find_response_policy(policy)
    more = tuple(key for path in (keys, jwks) if path is not None for key in load_keys(path))
    chosen = replace(chosen, keys=chosen.keys + more)
    if max_age is not None:
        chosen = replace(chosen, max_age=timedelta(seconds=max_age))
    if scheme not in ("http", "https"):
        raise UsageError(f"--scheme is http or https, not {printable(scheme, limit=40)}")
    capture = read_exchange(exchange, entry=entry, scheme=scheme)
    if not quiet:
        for note in capture.notes:
            say(f"note: {printable(note)}")
    report = verify_exchange(capture.exchange, chosen, now=datetime.now(UTC))
    show = render.as_json if format is ResultFormat.JSON else render.as_text
    emit(show(report), output, quiet=quiet)
    return report.exit_status
