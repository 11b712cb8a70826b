"""`r1prov response log`: check, list and export an exchange log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from r1prov.cli.options import Format, Output, Quiet, ResultFormat

if TYPE_CHECKING:
    from r1prov.responses.log_record import Record

app = typer.Typer(
    help="Check, list and export an exchange log.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Log = Annotated[Path, typer.Argument(metavar="LOG", help="Log file; rotated ones go with it.")]


@app.command("verify", short_help="Check every record and the chain")
def verify(
    log: _Log,
    head: Annotated[
        list[str] | None,
        typer.Option(
            "--head",
            metavar="NUMBER:DIGEST",
            help="A head that was noted before: the log must still hold it. Repeatable.",
        ),
    ] = None,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
    quiet: Quiet = False,
) -> int:
    """Check every record of a log: its digest, its place in the chain, and its exchange.

    The chain shows what was changed by somebody who did not write all of it anew; a head that was
    noted elsewhere shows that as well, and whether records at the end are gone. What the exchanges
    prove is for `response verify`. Exit status 0 if all holds, else 1.

    \b
    Examples:
      r1prov response log verify api.jsonl
      r1prov response log verify api.jsonl --head 41:9f86d0…
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.render import exchange_log as render
    from r1prov.responses.log_check import check_log
    from r1prov.responses.log_record import Head

    check = check_log(log, noted=tuple(map(Head.parse, head or ())))
    show = render.check_as_json if format is ResultFormat.JSON else render.check_as_text
    emit(show(check), output, quiet=quiet)
    return 0 if check.problem is None else 1


@app.command("show", short_help="List the exchanges")
def show(
    log: _Log,
    format: Format = ResultFormat.TEXT,  # noqa: A002 - the option is called --format
    output: Output = None,
) -> int:
    """List the records of a log, each checked against the one before.

    \b
    Examples:
      r1prov response log show api.jsonl
      r1prov response log show api.jsonl --format json
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.render import exchange_log as render
    from r1prov.responses.log_check import read_records

    line = render.record_as_json if format is ResultFormat.JSON else render.record_as_text
    return 0 if emit("".join(map(line, read_records(log))), output) else 4


@app.command("export", short_help="One exchange as a file")
def export(
    log: _Log,
    entry: Annotated[
        int | None,
        typer.Option("--entry", min=0, metavar="N", help="Number of the record."),
    ] = None,
    openings: Annotated[
        Path | None,
        typer.Option(
            "--openings",
            metavar="FILE",
            help="Put redacted content back that this file has the openings of.",
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="Put only this part back, such as request.body. Repeatable.",
        ),
    ] = None,
    output: Output = None,
) -> int:
    """Write one exchange as a file of `r1prov/exchange/1`, which `response verify` reads.

    \b
    Examples:
      r1prov response log export api.jsonl --entry 3 -o exchange.json
      r1prov response log export api.jsonl --entry 3 --openings api.openings --part request.body
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import emit
    from r1prov.errors import UsageError
    from r1prov.responses.exchange_file import exchange_of_value, exchange_to_json
    from r1prov.responses.log_check import find_entry
    from r1prov.responses.openings import read_openings
    from r1prov.responses.redaction import reveal

    if part and openings is None:
        raise UsageError("--part goes with --openings")
    record: Record = find_entry(log, entry)
    exchange = exchange_of_value(record.value, subject=f"record {record.head.number}")
    if openings is not None:
        found = [
            one for one in read_openings(openings, record.head) if not part or one.part in part
        ]
        missing = sorted(set(part or ()) - {one.part for one in found})
        if missing or not found:
            raise UsageError(
                f"{openings} has no opening of {', '.join(missing) or 'this record'}",
                subject=str(openings),
            )
        for one in found:
            exchange = reveal(exchange, one)
    return 0 if emit(exchange_to_json(exchange).decode("ascii"), output) else 4
